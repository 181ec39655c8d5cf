// The CUDA kernels of hannmean and aggregate_blocks, run by the SIMT runner, against plain loops in double.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include "nmfuse/blocks.h"
#include "nmfuse/hannmean.h"
#include "simt/runner.h"

using nmfuse::image_view;
using std::int64_t;
using std::uint8_t;

namespace {

int failures = 0;

void expect(bool holds, const std::string& what) {
  if (holds) return;
  ++failures;
  std::printf("FAILED: %s\n", what.c_str());
}

// A batch of planes in memory of its own, filled with a poison pattern; `pad` columns and rows are left unused.
template <class T>
struct image {
  std::vector<T> memory;
  image_view<T> view;

  image(int64_t batch, int64_t rows, int64_t cols, int64_t pad = 0) {
    const int64_t row_stride = cols + pad, batch_stride = rows * row_stride + pad;
    // The last row of the last plane ends with the memory, so that AddressSanitizer guards it.
    memory.resize(std::max<int64_t>(0, (batch - 1) * batch_stride + (rows - 1) * row_stride + cols));
    std::memset(memory.data(), 0xCD, memory.size() * sizeof(T));
    view = {memory.data(), batch, rows, cols, batch_stride, row_stride};
  }

  T& at(int64_t b, int64_t y, int64_t x) { return view.row(b, y)[x]; }
  T at(int64_t b, int64_t y, int64_t x) const { return view.row(b, y)[x]; }

  // What lies between the rows is as it was.
  bool padding_is_poison() const {
    std::vector<bool> used(memory.size(), false);
    for (int64_t b = 0; b < view.batch; ++b) {
      for (int64_t y = 0; y < view.rows; ++y) {
        const int64_t first = view.row(b, y) - memory.data();
        std::fill_n(used.begin() + first, view.cols, true);
      }
    }
    T poison;
    std::memset(&poison, 0xCD, sizeof(T));
    for (std::size_t i = 0; i < memory.size(); ++i) {
      if (!used[i] && std::memcmp(&memory[i], &poison, sizeof(T)) != 0) return false;
    }
    return true;
  }
};

std::mt19937 generator(7);

double uniform() { return std::uniform_real_distribution<double>(0, 1)(generator); }

template <class T>
T random_value() {
  if constexpr (std::is_floating_point_v<T>) return static_cast<T>(2 * uniform() - 0.5);
  return static_cast<T>(uniform() * std::numeric_limits<T>::max());
}

template <class T>
void fill(image<T>& x) {
  for (int64_t b = 0; b < x.view.batch; ++b) {
    for (int64_t y = 0; y < x.view.rows; ++y) {
      for (int64_t c = 0; c < x.view.cols; ++c) x.at(b, y, c) = random_value<T>();
    }
  }
}

// Half of the pixels are reliable, and a corner without any.
void fill_codes(image<uint8_t>& codes) {
  for (int64_t b = 0; b < codes.view.batch; ++b) {
    for (int64_t y = 0; y < codes.view.rows; ++y) {
      for (int64_t c = 0; c < codes.view.cols; ++c) {
        const double u = uniform();
        codes.at(b, y, c) = u < 0.5 ? nmfuse::kReliable : u < 0.8 ? nmfuse::kUnreliable : nmfuse::kBackground;
        if (y < 6 && c < 6 && codes.at(b, y, c) == nmfuse::kReliable) codes.at(b, y, c) = nmfuse::kUnreliable;
      }
    }
  }
}

int64_t reflect(int64_t i, int64_t n) {
  i %= 2 * n;
  if (i < 0) i += 2 * n;
  return std::min(i, 2 * n - 1 - i);
}

template <class T>
double tolerance() {
  if (std::is_same_v<T, double>) return 1e-13;
  if (std::is_same_v<T, float>) return 3e-6;
  return 0.5 + 1e-2;  // rounded to an integer
}

struct shape {
  int64_t batch, rows, cols;
};
std::string text(const shape& s) {
  return std::to_string(s.batch) + "x" + std::to_string(s.rows) + "x" + std::to_string(s.cols);
}

double hann(int size, int i) { return (1 - std::cos(2 * 3.14159265358979323846 * (i + 1) / (size + 1))) / (size + 1); }

// ---- hannmean

template <class T>
void check_hannmean(const shape& s, int size, bool masked, int64_t pad) {
  const std::string what = "hannmean<" + std::to_string(sizeof(T)) + "> " + text(s) + " size " + std::to_string(size) +
                           (masked ? " masked" : "") + " pad " + std::to_string(pad);
  image<T> x(s.batch, s.rows, s.cols, pad), out(s.batch, s.rows, s.cols, pad);
  image<uint8_t> codes(s.batch, s.rows, s.cols, pad);
  fill(x);
  fill_codes(codes);
  if constexpr (std::is_floating_point_v<T>) {  // an ignored NaN does no harm
    for (int64_t c = 0; masked && c < s.cols; ++c) {
      if (codes.at(0, s.rows / 2, c) == nmfuse::kUnreliable) x.at(0, s.rows / 2, c) = NAN;
    }
  }
  nmfuse::hannmean<T>(x.view, masked ? image_view<const uint8_t>(codes.view) : image_view<const uint8_t>{}, size,
                      out.view, nullptr);

  const int half = size / 2;
  double worst = 0;
  for (int64_t b = 0; b < s.batch; ++b) {
    for (int64_t y = 0; y < s.rows; ++y) {
      for (int64_t c = 0; c < s.cols; ++c) {
        double sum = 0, weight = 0;
        for (int i = 0; i < size; ++i) {
          for (int j = 0; j < size; ++j) {
            const int64_t row = reflect(y + i - half, s.rows), col = reflect(c + j - half, s.cols);
            if (masked && codes.at(b, row, col) != nmfuse::kReliable) continue;
            sum += hann(size, i) * hann(size, j) * static_cast<double>(x.at(b, row, col));
            weight += hann(size, i) * hann(size, j);
          }
        }
        const bool keeps = weight == 0 || (masked && codes.at(b, y, c) == nmfuse::kBackground);
        const double expected = keeps ? static_cast<double>(x.at(b, y, c)) : sum / weight;
        const double difference = std::abs(static_cast<double>(out.at(b, y, c)) - expected);
        if (std::isnan(expected) && std::isnan(static_cast<double>(out.at(b, y, c)))) continue;
        worst = difference > worst || std::isnan(difference) ? (std::isnan(difference) ? INFINITY : difference) : worst;
      }
    }
  }
  expect(worst <= tolerance<T>(), what + ": differs by " + std::to_string(worst));
  expect(out.padding_is_poison(), what + ": wrote between the rows");
}

template <class T>
double dot(const image<T>& a, const image<T>& b) {
  double sum = 0;
  for (int64_t i = 0; i < a.view.batch; ++i) {
    for (int64_t y = 0; y < a.view.rows; ++y) {
      for (int64_t c = 0; c < a.view.cols; ++c) sum += static_cast<double>(a.at(i, y, c)) * b.at(i, y, c);
    }
  }
  return sum;
}

template <class T>
void check_hannmean_adjoint(const shape& s, int size, bool masked) {
  image<T> x(s.batch, s.rows, s.cols), grad(s.batch, s.rows, s.cols), y(s.batch, s.rows, s.cols),
      z(s.batch, s.rows, s.cols);
  image<uint8_t> codes(s.batch, s.rows, s.cols);
  fill(x);
  fill(grad);
  fill_codes(codes);
  const auto mask = masked ? image_view<const uint8_t>(codes.view) : image_view<const uint8_t>{};
  std::vector<T> workspace(nmfuse::hannmean_adjoint_workspace<T>(s.batch, s.rows, s.cols) / sizeof(T), T(NAN));
  nmfuse::hannmean<T>(x.view, mask, size, y.view, nullptr);
  nmfuse::hannmean_adjoint<T>(grad.view, mask, size, z.view,
                              {workspace.data(), static_cast<int64_t>(workspace.size() * sizeof(T))}, nullptr);
  const double difference = std::abs(dot(y, grad) - dot(x, z));
  expect(difference <= 20 * tolerance<T>() * std::sqrt(s.batch * s.rows * s.cols),
         "hannmean_adjoint " + text(s) + " size " + std::to_string(size) + (masked ? " masked" : "") +
             ": <Ax, y> - <x, A'y> = " + std::to_string(difference));
}

template <class T>
void check_reject_outliers(const shape& s, int size, double k) {
  const std::string what =
      "reject_outliers<" + std::to_string(sizeof(T)) + "> " + text(s) + " size " + std::to_string(size);
  image<T> x(s.batch, s.rows, s.cols);
  image<uint8_t> codes(s.batch, s.rows, s.cols);
  fill(x);
  fill_codes(codes);
  if constexpr (std::is_floating_point_v<T>) {
    for (T& value : x.memory) {
      const double u = uniform();
      if (u < 0.03) value = u < 0.01 ? NAN : u < 0.02 ? INFINITY : -INFINITY;
      if (u > 0.8) value = std::round(value);  // many equal values
    }
  }
  const image<uint8_t> before = codes;
  nmfuse::reject_outliers<T>(x.view, size, k, codes.view, nullptr);
  const auto median = [](std::vector<double> values) {
    std::sort(values.begin(), values.end());
    const std::size_t n = values.size();
    return n % 2 ? values[n / 2] : 0.5 * (values[n / 2 - 1] + values[n / 2]);
  };
  int wrong = 0, marked = 0;
  for (int64_t b = 0; b < s.batch; ++b) {
    for (int64_t y = 0; y < s.rows; ++y) {
      for (int64_t c = 0; c < s.cols; ++c) {
        const int64_t here = b * s.rows * s.cols + y * s.cols + c;
        std::vector<double> window;
        for (int i = -size / 2; i <= size / 2; ++i) {
          for (int j = -size / 2; j <= size / 2; ++j) {
            const double value = x.at(b, reflect(y + i, s.rows), reflect(c + j, s.cols));
            if (std::isfinite(value)) window.push_back(value);
          }
        }
        const double value = x.at(b, y, c);
        bool outlier = !std::isfinite(value);
        if (!outlier) {
          const double centre = median(window);
          for (double& w : window) w = std::abs(w - centre);
          outlier = std::abs(value - centre) > k * 1.4826 * median(window);
        }
        const uint8_t was = before.memory[here];
        const uint8_t expected = outlier && was == nmfuse::kReliable ? nmfuse::kUnreliable : was;
        wrong += codes.memory[here] != expected;
        marked += expected != was;
      }
    }
  }
  expect(wrong == 0, what + ": " + std::to_string(wrong) + " wrong codes");
  expect(marked > 0 || s.rows * s.cols < 100, what + ": the test marks nothing");
}

// ---- blocks

// For each pixel, the blocks that make its value along one axis; empty if it takes the fill value.
std::vector<std::vector<int64_t>> sources(int64_t blocks, int64_t pixels, const nmfuse::block_grid& grid) {
  std::vector<std::vector<int64_t>> covering(pixels), result(pixels);
  for (int64_t j = 0; j < blocks; ++j) {
    for (int64_t p = j * grid.stride; p < std::min(pixels, j * grid.stride + grid.block); ++p) covering[p].push_back(j);
  }
  for (int64_t p = 0; p < pixels; ++p) {
    int64_t best = -1;
    for (int64_t q = 0; q < pixels; ++q) {
      if (!covering[q].empty() && (best < 0 || std::abs(q - p) < std::abs(best - p))) best = q;
    }
    result[p] = covering[p].empty() && grid.fill_nearest ? covering[best] : covering[p];
  }
  return result;
}

template <class T>
void check_blocks(int64_t batch, int64_t hs, int64_t ws, int64_t rows, int64_t cols, const nmfuse::block_grid& grid,
                  int64_t pad) {
  const std::string what = "aggregate_blocks<" + std::to_string(sizeof(T)) + "> " + text({batch, hs, ws}) + " -> " +
                           text({batch, rows, cols}) + " block " + std::to_string(grid.block) + " stride " +
                           std::to_string(grid.stride) + (grid.fill_nearest ? "" : " filled") + " pad " +
                           std::to_string(pad);
  image<T> scores(batch, hs, ws, pad), out(batch, rows, cols, pad), grad(batch, rows, cols, pad),
      back(batch, hs, ws, pad);
  fill(scores);
  fill(grad);
  nmfuse::aggregate_blocks<T>(scores.view, grid, out.view, nullptr);
  const auto down = sources(hs, rows, grid), across = sources(ws, cols, grid);
  image<double> expected_back(batch, hs, ws);
  std::fill(expected_back.memory.begin(), expected_back.memory.end(), 0.0);
  double worst = 0, worst_back = 0;
  const auto note = [](double& most, double difference) {
    most = std::isnan(difference) ? INFINITY : std::max(most, difference);
  };
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t y = 0; y < rows; ++y) {
      for (int64_t x = 0; x < cols; ++x) {
        double sum = 0;
        const double count = static_cast<double>(down[y].size() * across[x].size());
        for (const int64_t j : down[y]) {
          for (const int64_t i : across[x]) {
            sum += scores.at(b, j, i);
            expected_back.at(b, j, i) += grad.at(b, y, x) / count;
          }
        }
        note(worst, std::abs(out.at(b, y, x) - (count > 0 ? sum / count : grid.fill_value)));
      }
    }
  }
  expect(worst <= 3 * tolerance<T>(), what + ": differs by " + std::to_string(worst));
  expect(out.padding_is_poison(), what + ": wrote between the rows");

  std::vector<T> workspace(nmfuse::aggregate_blocks_adjoint_workspace<T>(batch, hs, ws, rows, cols) / sizeof(T),
                           T(NAN));
  nmfuse::aggregate_blocks_adjoint<T>(grad.view, grid, back.view,
                                      {workspace.data(), static_cast<int64_t>(workspace.size() * sizeof(T))}, nullptr);
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t j = 0; j < hs; ++j) {
      for (int64_t i = 0; i < ws; ++i) {
        const double expected = expected_back.at(b, j, i);
        note(worst_back, std::abs(back.at(b, j, i) - expected) / std::max(1.0, std::abs(expected)));
      }
    }
  }
  expect(worst_back <= 30 * tolerance<T>(), what + ": adjoint differs by " + std::to_string(worst_back));
  expect(back.padding_is_poison(), what + ": adjoint wrote between the rows");
}

template <class T>
void check_nan_stays_local() {
  image<T> scores(1, 40, 300), out(1, 94, 614);
  fill(scores);
  scores.at(0, 20, 150) = NAN;
  nmfuse::aggregate_blocks<T>(scores.view, {16, 2, true, 0}, out.view, nullptr);
  int wrong = 0;
  for (int64_t y = 0; y < 94; ++y) {
    for (int64_t x = 0; x < 614; ++x) {
      const bool inside = y >= 40 && y < 56 && x >= 300 && x < 316;
      wrong += std::isnan(out.at(0, y, x)) != inside;
    }
  }
  expect(wrong == 0, "a NaN score reaches the pixels of its block and no others");
}

template <class T>
void test_hannmean() {
  for (const int size : {3, 5, 7, 9, 15, 11, 63}) {
    for (const bool masked : {false, true}) {
      for (const shape& s : {shape{1, 1, 1}, shape{2, 37, 21}, shape{1, 3, 64}}) check_hannmean<T>(s, size, masked, 0);
      check_hannmean<T>({2, 17, 20}, size, masked, 4);
    }
  }
  for (const bool masked : {false, true}) {
    check_hannmean<T>({1, 70, 520}, 5, masked, 0);   // several tiles
    check_hannmean<T>({65, 2, 3}, 3, masked, 1);     // more tiles than blocks
    check_hannmean<T>({1, 40, 256}, 13, masked, 3);  // not aligned
  }
}

template <class T>
void test_blocks() {
  for (const bool nearest : {true, false}) {
    for (const int64_t pad : {0, 4}) {
      check_blocks<T>(2, 13, 17, 40, 48, {16, 2, nearest, -3}, pad);  // the usual case
    }
    check_blocks<T>(1, 1, 1, 1, 1, {16, 2, nearest, -3}, 0);
    check_blocks<T>(1, 5, 9, 9, 17, {16, 2, nearest, -3}, 0);       // blocks clipped by the border
    check_blocks<T>(1, 3, 4, 40, 61, {16, 2, nearest, -3}, 1);      // pixels beyond the last block
    check_blocks<T>(1, 20, 300, 70, 640, {16, 2, nearest, -3}, 0);  // several tiles
    check_blocks<T>(70, 2, 3, 6, 7, {4, 2, nearest, -3}, 0);        // more tiles than blocks
    check_blocks<T>(1, 7, 8, 30, 33, {7, 4, nearest, -3}, 0);       // the stride does not divide the block
    check_blocks<T>(1, 7, 80, 40, 400, {12, 5, nearest, -3}, 0);
    check_blocks<T>(1, 9, 11, 45, 60, {3, 5, nearest, -3}, 0);  // gaps between blocks
    check_blocks<T>(1, 4, 3, 45, 60, {4, 9, nearest, -3}, 0);
    check_blocks<T>(1, 2, 2, 130, 140, {40, 100, nearest, -3}, 0);  // a stride wider than a tile
    check_blocks<T>(1, 2, 3, 80, 1300, {600, 500, nearest, -3}, 0);
    check_blocks<T>(1, 9, 600, 20, 640, {300, 1, nearest, -3}, 0);  // a window wider than a buffer
    check_blocks<T>(1, 30, 31, 30, 31, {1, 1, nearest, -3}, 0);
    check_blocks<T>(1, 1, 1, 30, 31, {5, 70, nearest, -3}, 0);
  }
  check_nan_stays_local<T>();
}

}  // namespace

int main(int count, char** names) {
  if (count > 1) {  // one kernel, enough to tell a broken one
    const std::string name = names[1];
    if (name == "hannmean") {
      check_hannmean<float>({2, 37, 21}, 5, true, 4);
      check_hannmean<float>({1, 70, 520}, 5, false, 0);
      check_hannmean<float>({65, 2, 3}, 3, true, 1);
    } else {
      check_blocks<float>(2, 13, 17, 40, 48, {16, 2, true, -3}, 4);
      check_blocks<float>(1, 20, 300, 70, 640, {16, 2, true, -3}, 0);
      check_blocks<float>(1, 7, 8, 30, 33, {7, 4, true, -3}, 0);
    }
    return failures;
  }
  test_hannmean<float>();
  test_hannmean<double>();
  test_hannmean<uint8_t>();
  test_hannmean<std::uint16_t>();
  for (const bool masked : {false, true}) {
    for (const int size : {3, 9, 63}) {
      check_hannmean_adjoint<float>({2, 35, 33}, size, masked);
      check_hannmean_adjoint<double>({1, 5, 270}, size, masked);
      check_hannmean_adjoint<double>({1, 1, 2}, size, masked);
    }
  }
  for (const int size : {3, 5, 11}) {
    check_reject_outliers<float>({2, 11, 35}, size, 1.5);
    check_reject_outliers<double>({1, 9, 21}, size, 1.5);
    check_reject_outliers<uint8_t>({1, 17, 21}, size, 1.5);
    check_reject_outliers<std::uint16_t>({1, 9, 33}, size, 1.5);
  }
  check_reject_outliers<double>({1, 3, 4}, 63, 1.5);
  check_reject_outliers<float>({63, 2, 3}, 3, 1.5);
  test_blocks<float>();
  test_blocks<double>();
  simt::set_order_seed(11);
  check_hannmean<float>({2, 37, 21}, 5, true, 0);
  check_blocks<float>(1, 20, 300, 70, 640, {16, 2, true, -3}, 0);
  std::printf("%d failures\n", failures);
  return std::min(failures, 100);
}
