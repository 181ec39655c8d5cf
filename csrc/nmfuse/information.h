// What the windows of two images tell of each other, as feature mutual information asks.
#pragma once

#include "nmfuse/image_view.h"

namespace nmfuse {

// out(p) = 2 I / (H_x + H_y) of the 3 x 3 windows of x and y at p (out has two rows and columns less), each read column
// by column as a distribution: its pixels less their minimum, divided by their sum. The joint distribution is the
// mixture of the independent one and the Frechet bound that has the windows' correlation. Equal windows: 1; a flat
// window and another: 0, as where H_x + H_y is less than 1e-4 nats. In single precision once the minimum is taken away.
// T is float or double.
template <class T>
void window_information(image_view<const T> x, image_view<const T> y, image_view<float> out, stream_handle stream);

}  // namespace nmfuse
