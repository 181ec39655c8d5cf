// Hannmean: Hann-window-weighted local mean that ignores unreliable and background pixels.
#pragma once

#include <cstdint>

#include "nmfuse/image_view.h"

namespace nmfuse {

// What a pixel is worth, one byte each.
inline constexpr std::uint8_t kUnreliable = 0;  // not used by its neighbours; replaced by their mean
inline constexpr std::uint8_t kReliable = 1;    // used and smoothed
inline constexpr std::uint8_t kBackground = 2;  // not used by its neighbours; keeps its value

inline constexpr int kMaxHannSize = 63;

// The window of size 5 in whole numbers, by distance from the centre. Sums of integer pixels are then whole too, and
// exact: in a float up to 2^24, which only volumes of uint16 exceed. Times float(1 / kWholeSum), to the power of the
// axes, they round to the right integer, ties to even (tried for every sum that there is). At size 3, whose weights are
// 1/2 and 1/4, this is so without more ado.
inline constexpr int kWholeSize = 5, kWholeTaps[] = {4, 3, 1}, kWholeSum = 12;

// out(p) = sum_q K(q) m(p+q) x(p+q) / sum_q K(q) m(p+q), m = [reliability == kReliable], K = h h^T,
// h_k = 0.5 (1 - cos(2 pi k / (size + 1))), k = 1..size. Border: the edge pixel repeated (scipy's 'reflect').
// A background pixel, or one without a reliable neighbour, keeps its value. An ignored NaN does no harm.
// Each `depth` planes that follow each other are a volume, and K = h (x) h (x) h; depth 1 is a batch of images. Sums
// are taken along the depth first, then down the rows, then across, numerator and norm alike, and divided last. T is
// float, double, std::uint8_t or std::uint16_t; integers are rounded to nearest even, from exact sums at size 3 and 5
// (see kWholeTaps) and from float at others.
// reliability.data == nullptr: every pixel is reliable. size is odd, 3..kMaxHannSize. out is not x.
template <class T>
void hannmean(image_view<const T> x, image_view<const std::uint8_t> reliability, int size, std::int64_t depth,
              image_view<T> out, stream_handle stream);

// The adjoint of hannmean for a fixed reliability: <hannmean(x), y> = <x, hannmean_adjoint(y)>. T is float or double.
template <class T>
std::int64_t hannmean_adjoint_workspace(std::int64_t batch, std::int64_t rows, std::int64_t cols);
template <class T>
void hannmean_adjoint(image_view<const T> grad, image_view<const std::uint8_t> reliability, int size,
                      std::int64_t depth, image_view<T> out, workspace_view workspace, stream_handle stream);

// Marks as kUnreliable each reliable pixel with |x - median| > k * 1.4826 * MAD over its size x size window, in a
// volume size x size x size (all pixels of the window, border repeated; NaN and inf are outliers and are left out of
// the median).
template <class T>
void reject_outliers(image_view<const T> x, int size, std::int64_t depth, double k,
                     image_view<std::uint8_t> reliability, stream_handle stream);

}  // namespace nmfuse
