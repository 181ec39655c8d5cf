// A thread reads the two windows of a pixel and computes alone.
#include <cuda_runtime.h>

#include "cuda/launch.h"
#include "nmfuse/coupling.h"
#include "nmfuse/information.h"

namespace nmfuse {
namespace {

using std::int64_t;

constexpr int kThreads = 128;

// Reads a window's pixels less their minimum, divided by their sum; false if they are all equal (a NaN is not).
template <class T>
__device__ bool read_distribution(const T (&pixels)[kWindowPixels], float (&values)[kWindowPixels]) {
  T least = pixels[0];
  for (int k = 1; k < kWindowPixels; ++k) least = pixels[k] < least ? pixels[k] : least;
  float sum = 0;
  for (int k = 0; k < kWindowPixels; ++k) {
    values[k] = static_cast<float>(pixels[k] - least);
    sum += values[k];
  }
  for (int k = 0; k < kWindowPixels; ++k) values[k] /= sum > 0 ? sum : 1;
  return sum != 0;
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    inform(const image_view<const T> x, const image_view<const T> y, const image_view<float> out, int64_t count) {
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  for (int64_t i = first; i < count; i += static_cast<int64_t>(gridDim.x) * kThreads) {
    const int64_t line = i / out.cols, column = i % out.cols, batch = line / out.rows, row = line % out.rows;
    T of_x[kWindowPixels], of_y[kWindowPixels];
    bool equal = true;
    for (int k = 0; k < kWindowPixels; ++k) {
      of_x[k] = x.row(batch, row + k % 3)[column + k / 3];
      of_y[k] = y.row(batch, row + k % 3)[column + k / 3];
      equal = equal && of_x[k] == of_y[k];
    }
    float p[kWindowPixels], r[kWindowPixels];
    const bool uneven_x = read_distribution(of_x, p), uneven_y = read_distribution(of_y, r);
    float told = equal ? 1 : 0;
    if (!equal && uneven_x && uneven_y) told = coupling<float, std::int32_t>::information(p, r);
    out.row(batch, row)[column] = told;
  }
}

}  // namespace

template <class T>
void window_information(image_view<const T> x, image_view<const T> y, image_view<float> out, stream_handle stream) {
  if (out.empty()) return;
  const int64_t count = out.batch * out.rows * out.cols;
  launch("window_information", inform<T>, dim3(grid_for((count + kThreads - 1) / kThreads)), dim3(kThreads), 0, stream,
         x, y, out, count);
}

template void window_information(image_view<const float>, image_view<const float>, image_view<float>, stream_handle);
template void window_information(image_view<const double>, image_view<const double>, image_view<float>, stream_handle);

}  // namespace nmfuse
