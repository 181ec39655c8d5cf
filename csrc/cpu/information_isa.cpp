// For a strip of windows, the distributions go to buffers in L1, and vectors of windows follow from there. Vectors
// whose windows are all flat or equal are passed over.
#include "cpu/information_isa.h"

#include "cpu/simd.h"
#include "nmfuse/coupling.h"

namespace nmfuse::NMFUSE_ISA {
namespace {

using std::int64_t;
using float_vec = vec<float>;
using int_vec = vec<std::int32_t>;

constexpr int kStrip = 128;  // windows

struct strip {
  alignas(64) float of_x[kWindowPixels][kStrip];
  alignas(64) float of_y[kWindowPixels][kStrip];
  float sum_x[kStrip], sum_y[kStrip];  // of a window's pixels less their minimum: 0 where it is flat
  alignas(64) float told[kStrip];      // what is known without looking: 1 of equal windows, 0 of a flat one, else -1
};

// Functions of one row: pointers and counts are arguments, so that the compiler vectorises them.

template <class T>
void keep_least(const T* __restrict from, int64_t count, T* __restrict least) {
  for (int64_t c = 0; c < count; ++c) least[c] = from[c] < least[c] ? from[c] : least[c];
}

template <class T>
void subtract(const T* __restrict from, const T* __restrict least, int64_t count, float* __restrict to,
              float* __restrict sums) {
  for (int64_t c = 0; c < count; ++c) {
    to[c] = static_cast<float>(from[c] - least[c]);
    sums[c] += to[c];
  }
}

void divide(const float* __restrict sums, int64_t count, float* __restrict values) {
  for (int64_t c = 0; c < count; ++c) values[c] /= sums[c] > 0 ? sums[c] : 1;
}

// Pixel k, column by column, of the windows from `first` on.
template <class T>
const T* pixels(const image_view<const T>& x, int64_t b, int64_t row, int64_t first, int k) {
  return x.row(b, row + k % 3) + first + k / 3;
}

// The pixels of `count` windows less their minimum, divided by their sum; zeros where that is 0. The sums are kept.
template <class T>
void read_distributions(const image_view<const T>& x, int64_t b, int64_t row, int64_t first, int64_t count,
                        float (&values)[kWindowPixels][kStrip], float (&sums)[kStrip]) {
  T least[kStrip];
  for (int64_t c = 0; c < count; ++c) sums[c] = 0;
  std::memcpy(least, pixels(x, b, row, first, 0), static_cast<std::size_t>(count) * sizeof(T));
  for (int k = 1; k < kWindowPixels; ++k) keep_least(pixels(x, b, row, first, k), count, least);
  for (int k = 0; k < kWindowPixels; ++k) subtract(pixels(x, b, row, first, k), least, count, values[k], sums);
  for (int k = 0; k < kWindowPixels; ++k) divide(sums, count, values[k]);
}

template <class T>
void find_told(const image_view<const T>& x, const image_view<const T>& y, int64_t b, int64_t row, int64_t first,
               int64_t count, strip& windows) {
  for (int64_t c = 0; c < count; ++c) {
    int different = 0;
    for (int k = 0; k < kWindowPixels; ++k) {
      different |= pixels(x, b, row, first, k)[c] != pixels(y, b, row, first, k)[c];
    }
    const float of_different = windows.sum_x[c] == 0 || windows.sum_y[c] == 0 ? 0 : -1;  // a NaN is no flat window
    windows.told[c] = different ? of_different : 1;
  }
}

template <class T>
void inform(const image_view<const T>& x, const image_view<const T>& y, const image_view<float>& out, int64_t b,
            int64_t row) {
  constexpr int lanes = kLanes<float>;
  strip windows{};
  for (int64_t first = 0; first < out.cols; first += kStrip) {
    const int64_t count = out.cols - first < kStrip ? out.cols - first : kStrip;
    read_distributions(x, b, row, first, count, windows.of_x, windows.sum_x);
    read_distributions(y, b, row, first, count, windows.of_y, windows.sum_y);
    find_told(x, y, b, row, first, count, windows);
    for (int64_t c = 0; c < count; c += lanes) {
      bool all_told = true;
      for (int l = 0; l < lanes; ++l) all_told = all_told && windows.told[c + l] >= 0;
      if (all_told) continue;
      float_vec p[kWindowPixels], r[kWindowPixels];
      for (int k = 0; k < kWindowPixels; ++k) {
        p[k] = load<float_vec>(windows.of_x[k] + c);
        r[k] = load<float_vec>(windows.of_y[k] + c);
      }
      const auto told = load<float_vec>(windows.told + c);
      store(windows.told + c, told < 0 ? coupling<float_vec, int_vec>::information(p, r) : told);
    }
    std::memcpy(out.row(b, row) + first, windows.told, static_cast<std::size_t>(count) * sizeof(float));
  }
}

}  // namespace
}  // namespace nmfuse::NMFUSE_ISA

namespace nmfuse {

template <isa kIsa, class T>
information_row<T> get_information_row() {
  return &NMFUSE_ISA::inform<T>;
}

template information_row<float> get_information_row<kThisIsa, float>();
template information_row<double> get_information_row<kThisIsa, double>();

}  // namespace nmfuse
