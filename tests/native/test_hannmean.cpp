// hannmean, its adjoint and reject_outliers without an interpreter: what the sanitizers run.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <random>
#include <vector>

#include "nmfuse/hannmean.h"
#include "nmfuse/parallel.h"

namespace {

using namespace nmfuse;
using std::int64_t;
using std::uint8_t;

int failures = 0;

void check(bool ok, const char* what, int64_t rows, int64_t cols, int size) {
  if (ok) return;
  ++failures;
  std::printf("FAILED: %s (%lld x %lld, size %d)\n", what, static_cast<long long>(rows), static_cast<long long>(cols),
              size);
}

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// A batch of images whose rows and planes lie apart, so that a sanitizer sees a step outside the last row.
template <class T>
struct images {
  std::vector<T> storage;
  image_view<T> view;

  images(int64_t batch, int64_t rows, int64_t cols, int64_t gap) {
    const int64_t row_stride = cols + gap, batch_stride = rows * row_stride + gap;
    storage.assign(static_cast<std::size_t>(std::max<int64_t>(batch * batch_stride - 2 * gap, 0)), T(77));
    view = {storage.data(), batch, rows, cols, batch_stride, row_stride};
  }

  template <class Make>
  void fill(Make make) {
    for (int64_t b = 0; b < view.batch; ++b) {
      for (int64_t y = 0; y < view.rows; ++y) {
        for (int64_t x = 0; x < view.cols; ++x) view.row(b, y)[x] = static_cast<T>(make());
      }
    }
  }
};

int64_t reflect(int64_t i, int64_t n) {
  while (i < 0 || i >= n) i = i < 0 ? -1 - i : 2 * n - 1 - i;
  return i;
}

// The formula at one pixel, in double.
template <class T>
double mean_at(image_view<const T> x, image_view<const uint8_t> codes, int size, int64_t b, int64_t y, int64_t c) {
  const int half = size / 2;
  const auto tap = [size](int j) { return 1 + std::cos(2 * std::acos(-1.0) * j / (size + 1)); };
  double sum = 0, weights = 0;
  for (int i = -half; i <= half; ++i) {
    for (int j = -half; j <= half; ++j) {
      const int64_t yy = reflect(y + i, x.rows), xx = reflect(c + j, x.cols);
      if (codes.data != nullptr && codes.row(b, yy)[xx] != kReliable) continue;
      sum += tap(i) * tap(j) * static_cast<double>(x.row(b, yy)[xx]);
      weights += tap(i) * tap(j);
    }
  }
  const bool background = codes.data != nullptr && codes.row(b, y)[c] == kBackground;
  return background || weights == 0 ? static_cast<double>(x.row(b, y)[c]) : sum / weights;
}

template <class T>
void test_mean(int64_t batch, int64_t rows, int64_t cols, int size, bool masked) {
  constexpr bool integer = std::numeric_limits<T>::is_integer;
  std::mt19937 random(7);
  const double scale = integer ? static_cast<double>(std::numeric_limits<T>::max()) : 1.0;
  std::uniform_real_distribution<double> value(0.0, scale);
  images<T> x(batch, rows, cols, 3), out(batch, rows, cols, 5);
  images<uint8_t> codes(batch, rows, cols, 1);
  x.fill([&] { return value(random); });
  codes.fill([&] { return random() % 3; });
  const image_view<const uint8_t> reliability =
      masked ? image_view<const uint8_t>(codes.view) : image_view<const uint8_t>{};
  std::vector<T> first;
  for (const int threads : {1, 2, 7}) {
    set_num_threads(threads);
    hannmean<T>(x.view, reliability, size, out.view, nullptr);
    if (threads == 1) first = out.storage;
    check(out.storage == first, "same bits for any number of threads", rows, cols, size);
  }
  // Floats: rounding of as many operations as the window is long, or few. Integers: half a unit, and float's share of
  // 65535.
  const double tolerance = integer ? 0.52 : std::numeric_limits<T>::epsilon() * (8.0 + size);
  double worst = 0;
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t y = 0; y < rows; ++y) {
      for (int64_t c = 0; c < cols; ++c) {
        const double expected = mean_at<T>(x.view, reliability, size, b, y, c);
        worst = std::max(worst, std::abs(static_cast<double>(out.view.row(b, y)[c]) - expected));
      }
    }
  }
  check(worst <= tolerance, masked ? "masked mean" : "mean", rows, cols, size);
}

template <class T>
void test_adjoint(int64_t batch, int64_t rows, int64_t cols, int size, bool masked) {
  std::mt19937 random(3);
  std::uniform_real_distribution<double> value(-1.0, 1.0);
  images<T> x(batch, rows, cols, 2), y(batch, rows, cols, 3), ax(batch, rows, cols, 0), aty(batch, rows, cols, 4);
  images<uint8_t> codes(batch, rows, cols, 1);
  x.fill([&] { return value(random); });
  y.fill([&] { return value(random); });
  codes.fill([&] { return random() % 3; });
  const image_view<const uint8_t> reliability =
      masked ? image_view<const uint8_t>(codes.view) : image_view<const uint8_t>{};
  const int64_t bytes = hannmean_adjoint_workspace<T>(batch, rows, cols);
  std::vector<T> workspace(static_cast<std::size_t>(bytes) / sizeof(T));
  std::vector<T> first;
  hannmean<T>(x.view, reliability, size, ax.view, nullptr);
  for (const int threads : {1, 2, 7}) {
    set_num_threads(threads);
    hannmean_adjoint<T>(y.view, reliability, size, aty.view, {workspace.data(), bytes}, nullptr);
    if (threads == 1) first = aty.storage;
    check(aty.storage == first, "same bits of the adjoint for any number of threads", rows, cols, size);
  }
  double left = 0, right = 0;
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < cols; ++c) {
        left += static_cast<double>(ax.view.row(b, r)[c]) * static_cast<double>(y.view.row(b, r)[c]);
        right += static_cast<double>(x.view.row(b, r)[c]) * static_cast<double>(aty.view.row(b, r)[c]);
      }
    }
  }
  const double pixels = static_cast<double>(batch * rows * cols);
  check(std::abs(left - right) <= 20 * std::numeric_limits<T>::epsilon() * pixels, "<Ax, y> = <x, A'y>", rows, cols,
        size);
}

void test_nan_stays_local() {
  images<float> x(1, 40, 600, 0), out(1, 40, 600, 0);
  images<uint8_t> codes(1, 40, 600, 0);
  x.fill([] { return 1.0; });
  codes.fill([] { return kReliable; });
  x.view.row(0, 20)[510] = static_cast<float>(kNaN);
  hannmean<float>(x.view, {}, 5, out.view, nullptr);
  int64_t nans = 0;
  for (const float v : out.storage) nans += std::isnan(v);
  check(nans == 25, "a NaN reaches its window only", 40, 600, 5);

  codes.view.row(0, 20)[510] = kUnreliable;
  hannmean<float>(x.view, codes.view, 5, out.view, nullptr);
  const bool all_one = std::all_of(out.storage.begin(), out.storage.end(), [](float v) { return v == 1.0f; });
  check(all_one, "an ignored NaN does no harm and is filled", 40, 600, 5);
}

void test_reject_outliers() {
  images<double> x(1, 9, 9, 1);
  images<uint8_t> codes(1, 9, 9, 2);
  int i = 0;
  x.fill([&] {
    ++i;
    return i / 9 + i % 9;  // a ramp
  });
  codes.fill([] { return kReliable; });
  x.view.row(0, 4)[4] = 50;
  x.view.row(0, 0)[8] = kNaN;
  x.view.row(0, 8)[0] = std::numeric_limits<double>::infinity();
  codes.view.row(0, 8)[0] = kBackground;
  reject_outliers<double>(x.view, 3, 3.0, codes.view, nullptr);
  int64_t rejected = 0;
  for (int64_t y = 0; y < 9; ++y) rejected += std::count(codes.view.row(0, y), codes.view.row(0, y) + 9, kUnreliable);
  check(rejected == 2, "the spike and the NaN are outliers, nothing else", 9, 9, 3);
  check(codes.view.row(0, 4)[4] == kUnreliable, "spike", 9, 9, 3);
  check(codes.view.row(0, 8)[0] == kBackground, "background stays background", 9, 9, 3);
}

void test_empty() {
  float sentinel = 5;
  for (const image_view<float>& out :
       {image_view<float>{&sentinel, 0, 4, 4, 16, 4}, image_view<float>{&sentinel, 1, 0, 4, 0, 4},
        image_view<float>{&sentinel, 1, 4, 0, 0, 0}}) {
    hannmean<float>(out, {}, 3, out, nullptr);
    hannmean_adjoint<float>(out, {}, 3, out, {}, nullptr);
  }
  check(sentinel == 5, "empty views are left alone", 0, 0, 3);
}

}  // namespace

int main() {
  const int64_t shapes[][3] = {{1, 1, 1}, {1, 1, 5}, {2, 7, 1}, {3, 2, 3}, {2, 13, 17}, {1, 70, 33}, {1, 5, 1037}};
  for (const auto& shape : shapes) {
    for (const int size : {3, 5, 7, 9, 11, 15}) {
      for (const bool masked : {false, true}) {
        test_mean<float>(shape[0], shape[1], shape[2], size, masked);
        test_mean<double>(shape[0], shape[1], shape[2], size, masked);
        test_mean<std::uint8_t>(shape[0], shape[1], shape[2], size, masked);
        test_mean<std::uint16_t>(shape[0], shape[1], shape[2], size, masked);
        test_adjoint<float>(shape[0], shape[1], shape[2], size, masked);
        test_adjoint<double>(shape[0], shape[1], shape[2], size, masked);
      }
    }
  }
  test_mean<double>(1, 9, 20, 63, true);
  test_mean<float>(2, 129, 67, 3, true);
  test_adjoint<double>(1, 140, 70, 63, true);
  test_nan_stays_local();
  test_reject_outliers();
  test_empty();
  if (failures == 0) std::puts("hannmean: all passed");
  return failures;
}
