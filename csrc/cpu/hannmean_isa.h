// The row kernels of hannmean, one set for each instruction set.
#pragma once

#include <cstdint>
#include <type_traits>

#include "cpu/isa.h"
#include "nmfuse/hannmean.h"
#include "nmfuse/image_view.h"

namespace nmfuse {

// What sums are kept in: float for integer images too.
template <class T>
using hann_sum = std::conditional_t<std::is_same_v<T, double>, double, float>;

// The window by distance from its centre: taps[0], taps[1] = taps[-1], ... taps[half]. A sum times `scale` is the mean.
template <class A>
struct hann_taps {
  int half = 0;
  A taps[kMaxHannSize / 2 + 1] = {};
  A scale = 1;
};

// Rows [first, last) of plane b, which lies in a volume of `depth` planes; 1 for an image.
struct row_band {
  std::int64_t b = 0;
  std::int64_t first = 0;
  std::int64_t last = 0;
  std::int64_t depth = 1;
};

template <class T>
struct hann_kernels {
  using taps = hann_taps<hann_sum<T>>;
  using codes = image_view<const std::uint8_t>;

  // out = hannmean(x); every pixel is reliable where reliability.data is null.
  void (*mean)(const image_view<const T>& x, const codes& reliability, const taps& window, const image_view<T>& out,
               const row_band& band);

  // First half of the adjoint: share = grad / norm where grad goes to neighbours, out = grad where it stays.
  void (*share)(const image_view<const T>& grad, const codes& reliability, const taps& window,
                const image_view<T>& share, const image_view<T>& out, const row_band& band);

  // Second half: out = K * share at reliable pixels; the others keep what they have.
  void (*collect)(const image_view<const T>& share, const codes& reliability, const taps& window,
                  const image_view<T>& out, const row_band& band);
};

// share and collect are null for integers. T is float, double, std::uint8_t or std::uint16_t.
template <isa kIsa, class T>
hann_kernels<T> get_hann_kernels(int half);

}  // namespace nmfuse
