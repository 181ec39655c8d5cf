// The row kernel of window_information, one for each instruction set.
#pragma once

#include <cstdint>

#include "cpu/isa.h"
#include "nmfuse/image_view.h"

namespace nmfuse {

// Writes row y of plane b of out.
template <class T>
using information_row = void (*)(const image_view<const T>& x, const image_view<const T>& y,
                                 const image_view<float>& out, std::int64_t b, std::int64_t row);

// T is float or double.
template <isa kIsa, class T>
information_row<T> get_information_row();

}  // namespace nmfuse
