// window_information against all 81 cells of the joint distribution in double; built with each backend.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <random>
#include <vector>

#include "nmfuse/information.h"

using nmfuse::image_view;
using std::int64_t;

namespace {

int failures = 0;

void expect(bool holds, const char* what, int64_t rows, int64_t cols) {
  if (holds) return;
  ++failures;
  std::printf("FAILED: %s at %d x %d\n", what, static_cast<int>(rows), static_cast<int>(cols));
}

// Planes in memory of their own: the last row ends with it, so that AddressSanitizer guards it.
template <class T>
struct planes {
  std::vector<T> memory;
  image_view<T> view;

  planes(int64_t batch, int64_t rows, int64_t cols, int64_t pad) {
    const int64_t row_stride = cols + pad, batch_stride = rows * row_stride;
    memory.assign(static_cast<std::size_t>((batch - 1) * batch_stride + (rows - 1) * row_stride + cols), T(-7));
    view = {memory.data(), batch, rows, cols, batch_stride, row_stride};
  }
};

double times_log(double x) { return x == 0 ? 0 : x * std::log(std::abs(x)); }

double expected_information(const double (&a)[9], const double (&b)[9]) {
  if (std::equal(a, a + 9, b)) return 1;
  double p[9], r[9], sum_p = 0, sum_r = 0, mean_p = 0, mean_r = 0, dot = 0, h = 0, var_p = 0, var_r = 0;
  for (int k = 0; k < 9; ++k) {
    sum_p += p[k] = a[k] - *std::min_element(a, a + 9);
    sum_r += r[k] = b[k] - *std::min_element(b, b + 9);
  }
  if (sum_p == 0 || sum_r == 0) return 0;
  double square_p = 0, square_r = 0;
  for (int k = 0; k < 9; ++k) {
    p[k] /= sum_p, r[k] /= sum_r;
    mean_p += k * p[k], mean_r += k * r[k];
    dot += (p[k] - 1.0 / 9) * (r[k] - 1.0 / 9);
    square_p += (p[k] - 1.0 / 9) * (p[k] - 1.0 / 9), square_r += (r[k] - 1.0 / 9) * (r[k] - 1.0 / 9);
    h -= times_log(p[k]) + times_log(r[k]);
  }
  for (int k = 0; k < 9; ++k) {
    var_p += (k - mean_p) * (k - mean_p) * p[k], var_r += (k - mean_r) * (k - mean_r) * r[k];
  }
  const double c = dot / std::sqrt(square_p * square_r);
  const auto bound = [&](int i, int j) {  // of the joint distribution function
    double below_p = 0, below_r = 0;
    for (int k = 0; k <= i; ++k) below_p += p[k];
    for (int k = 0; k <= j; ++k) below_r += r[k];
    return c < 0 ? std::max(below_p + below_r - 1, 0.0) : std::min(below_p, below_r);
  };
  double mass[9][9], covariance = 0, h_joint = 0;
  for (int i = 0; i < 9; ++i) {
    for (int j = 0; j < 9; ++j) {
      mass[i][j] = bound(i, j) - bound(i - 1, j) - bound(i, j - 1) + bound(i - 1, j - 1);
      covariance += (i - mean_p) * (j - mean_r) * mass[i][j];
    }
  }
  const double phi = covariance == 0 ? 0 : c * std::sqrt(var_p * var_r) / covariance;
  for (int i = 0; i < 9; ++i) {
    for (int j = 0; j < 9; ++j) h_joint -= times_log(phi * mass[i][j] + (1 - phi) * p[i] * r[j]);
  }
  return 2 * (h - h_joint) / h;
}

template <class T>
void test_information(int64_t batch, int64_t rows, int64_t cols, int64_t pad) {
  std::mt19937 generator(static_cast<unsigned>(rows * 1000 + cols));
  planes<T> x(batch, rows, cols, pad), y(batch, rows, cols, pad);
  planes<float> out(batch, rows - 2, cols - 2, pad);
  for (T& value : x.memory) value = static_cast<T>(generator() % 6);
  for (T& value : y.memory) value = static_cast<T>(generator() % 200);
  for (int64_t c = 0; c < cols / 3; ++c) {  // flat and equal windows
    for (int64_t r = 0; r < rows / 2 + 2; ++r) x.view.row(0, r)[c] = y.view.row(0, r)[c] = T(c % 9 == 8);
    for (int64_t r = 0; r < rows / 4; ++r) y.view.row(0, r)[c] = T(5);
  }
  nmfuse::window_information<T>(x.view, y.view, out.view, nullptr);
  double worst = 0;
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t r = 0; r < rows - 2; ++r) {
      for (int64_t c = 0; c < cols - 2; ++c) {
        double of_x[9], of_y[9];
        for (int k = 0; k < 9; ++k) {
          of_x[k] = static_cast<double>(x.view.row(b, r + k % 3)[c + k / 3]);
          of_y[k] = static_cast<double>(y.view.row(b, r + k % 3)[c + k / 3]);
        }
        const double difference = out.view.row(b, r)[c] - expected_information(of_x, of_y);
        worst = std::max(worst, std::isfinite(difference) ? std::abs(difference) : 1e9);
      }
    }
  }
  expect(worst < 1e-5, "matches the oracle", rows, cols);
  int64_t poisoned = 0;
  for (const float value : out.memory) poisoned += value == -7;
  expect(poisoned == static_cast<int64_t>(out.memory.size()) - batch * (rows - 2) * (cols - 2),
         "what lies between the rows is left alone", rows, cols);
}

}  // namespace

int main() {
  for (const int64_t pad : {0, 5}) {
    for (const int64_t cols : {3, 4, 17, 130, 150, 300}) {
      test_information<float>(1, 9, cols, pad);
      test_information<double>(2, 5, cols, pad);
    }
  }
  test_information<float>(1, 60, 150, 0);  // more windows than the SIMT runner's grid has threads
  const image_view<const float> none{nullptr, 0, 5, 5, 25, 5};
  nmfuse::window_information<float>(none, none, {nullptr, 0, 3, 3, 9, 3}, nullptr);
  if (failures == 0) std::puts("information: all passed");
  return failures;
}
