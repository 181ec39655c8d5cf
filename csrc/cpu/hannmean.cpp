#include "nmfuse/hannmean.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "cpu/hannmean_isa.h"
#include "cpu/isa.h"
#include "nmfuse/error.h"
#include "nmfuse/parallel.h"

namespace nmfuse {
namespace {

constexpr std::int64_t kBandRows = 64;  // fixed, so that the bits of a pixel do not depend on the number of threads
constexpr std::int64_t kSerialPixels = 1 << 13;  // below this, waking a thread costs more than it brings

template <class T>
hann_kernels<T> choose_kernels(int half) {
  return dispatch_isa([half](auto which) { return get_hann_kernels<which(), T>(half); });
}

template <class T>
hann_taps<hann_sum<T>> make_taps(int size, std::int64_t depth) {
  using A = hann_sum<T>;
  hann_taps<A> window;
  window.half = size / 2;
  if (std::is_integral_v<T> && size == kWholeSize) {
    for (int j = 0; j <= window.half; ++j) window.taps[j] = static_cast<A>(kWholeTaps[j]);
    window.scale = A(1) / static_cast<A>(kWholeSum * kWholeSum * (depth > 1 ? kWholeSum : 1));
    return window;
  }
  // The raw window sums to (size + 1) / 2.
  const double pi = 3.14159265358979323846;
  for (int j = 0; j <= window.half; ++j) {
    window.taps[j] = static_cast<A>((1 + std::cos(2 * pi * j / (size + 1))) / (size + 1));
  }
  return window;
}

// Calls body(band) for bands of rows that cover all planes.
template <class T, class Body>
void for_each_band(const image_view<T>& x, std::int64_t depth, const Body& body) {
  require(depth >= 1 && x.batch % depth == 0, "depth: does not divide the number of planes");
  const std::int64_t bands = (x.rows + kBandRows - 1) / kBandRows;
  const auto run = [&](std::int64_t i) {
    const std::int64_t first = i % bands * kBandRows;
    body(row_band{i / bands, first, std::min(first + kBandRows, x.rows), depth});
  };
  if (x.batch * x.rows * x.cols < kSerialPixels) {
    for (std::int64_t i = 0; i < x.batch * bands; ++i) run(i);
  } else {
    parallel_for(x.batch * bands, run);
  }
}

// The median of [first, last), which it reorders; of an even count the mean of the middle two.
double median(double* first, double* last) {
  double* middle = first + (last - first) / 2;
  std::nth_element(first, middle, last);
  if ((last - first) % 2 == 1) return *middle;
  return 0.5 * (*std::max_element(first, middle) + *middle);
}

std::int64_t reflect(std::int64_t i, std::int64_t n) {
  i %= 2 * n;
  if (i < 0) i += 2 * n;
  return i < n ? i : 2 * n - 1 - i;
}

}  // namespace

template <class T>
void hannmean(image_view<const T> x, image_view<const std::uint8_t> reliability, int size, std::int64_t depth,
              image_view<T> out, stream_handle) {
  if (x.empty()) return;
  const hann_kernels<T> kernels = choose_kernels<T>(size / 2);
  const auto window = make_taps<T>(size, depth);
  for_each_band(x, depth, [&](const row_band& band) { kernels.mean(x, reliability, window, out, band); });
}

template <class T>
std::int64_t hannmean_adjoint_workspace(std::int64_t batch, std::int64_t rows, std::int64_t cols) {
  return batch * rows * cols * static_cast<std::int64_t>(sizeof(T));
}

// With the edge pixel repeated, K is symmetric as a matrix: the images i + 2Nj and -1 - i + 2Nj of a pixel i lie as far
// from a pixel k as the images of k from i. So K' = K, borders included, and the adjoint of (1/norm) K m is m K
// (1/norm).
template <class T>
void hannmean_adjoint(image_view<const T> grad, image_view<const std::uint8_t> reliability, int size,
                      std::int64_t depth, image_view<T> out, workspace_view workspace, stream_handle stream) {
  if (reliability.data == nullptr) return hannmean<T>(grad, reliability, size, depth, out, stream);
  if (grad.empty()) return;
  require(workspace.bytes >= hannmean_adjoint_workspace<T>(grad.batch, grad.rows, grad.cols),
          "workspace: smaller than hannmean_adjoint_workspace tells");
  const hann_kernels<T> kernels = choose_kernels<T>(size / 2);
  const auto window = make_taps<T>(size, depth);
  const auto share = compact_view<T>(workspace.data, grad.batch, grad.rows, grad.cols);
  for_each_band(grad, depth, [&](const row_band& band) { kernels.share(grad, reliability, window, share, out, band); });
  for_each_band(grad, depth, [&](const row_band& band) { kernels.collect(share, reliability, window, out, band); });
}

template <class T>
void reject_outliers(image_view<const T> x, int size, std::int64_t depth, double k,
                     image_view<std::uint8_t> reliability, stream_handle) {
  if (x.empty()) return;
  const int half = size / 2, half_depth = depth > 1 ? half : 0;
  for_each_band(x, depth, [&](const row_band& band) {
    const std::int64_t z = band.b % depth, volume = band.b - z;
    std::vector<double> window(static_cast<std::size_t>(size) * size * (2 * half_depth + 1));
    for (std::int64_t y = band.first; y < band.last; ++y) {
      for (std::int64_t c = 0; c < x.cols; ++c) {
        std::uint8_t& code = reliability.row(band.b, y)[c];
        if (code != kReliable) continue;
        const double value = static_cast<double>(x.row(band.b, y)[c]);
        if (!std::isfinite(value)) {
          code = kUnreliable;
          continue;
        }
        double *first = window.data(), *last = first;
        for (std::int64_t k = z - half_depth; k <= z + half_depth; ++k) {
          for (std::int64_t i = y - half; i <= y + half; ++i) {
            const T* row = x.row(volume + reflect(k, depth), reflect(i, x.rows));
            for (std::int64_t j = c - half; j <= c + half; ++j) {
              const double neighbour = static_cast<double>(row[reflect(j, x.cols)]);
              if (std::isfinite(neighbour)) *last++ = neighbour;
            }
          }
        }
        const double centre = median(first, last);
        for (double* p = first; p != last; ++p) *p = std::abs(*p - centre);
        if (std::abs(value - centre) > k * 1.4826 * median(first, last)) code = kUnreliable;
      }
    }
  });
}

using codes_view = image_view<const std::uint8_t>;
template void hannmean(image_view<const float>, codes_view, int, std::int64_t, image_view<float>, stream_handle);
template void hannmean(image_view<const double>, codes_view, int, std::int64_t, image_view<double>, stream_handle);
template void hannmean(image_view<const std::uint8_t>, codes_view, int, std::int64_t, image_view<std::uint8_t>,
                       stream_handle);
template void hannmean(image_view<const std::uint16_t>, codes_view, int, std::int64_t, image_view<std::uint16_t>,
                       stream_handle);
template std::int64_t hannmean_adjoint_workspace<float>(std::int64_t, std::int64_t, std::int64_t);
template std::int64_t hannmean_adjoint_workspace<double>(std::int64_t, std::int64_t, std::int64_t);
template void hannmean_adjoint(image_view<const float>, codes_view, int, std::int64_t, image_view<float>,
                               workspace_view, stream_handle);
template void hannmean_adjoint(image_view<const double>, codes_view, int, std::int64_t, image_view<double>,
                               workspace_view, stream_handle);
template void reject_outliers(image_view<const float>, int, std::int64_t, double, image_view<std::uint8_t>,
                              stream_handle);
template void reject_outliers(image_view<const double>, int, std::int64_t, double, image_view<std::uint8_t>,
                              stream_handle);
template void reject_outliers(image_view<const std::uint8_t>, int, std::int64_t, double, image_view<std::uint8_t>,
                              stream_handle);
template void reject_outliers(image_view<const std::uint16_t>, int, std::int64_t, double, image_view<std::uint8_t>,
                              stream_handle);

}  // namespace nmfuse
