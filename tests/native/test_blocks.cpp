// aggregate_blocks and its adjoint without an interpreter: what the sanitizers run.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <random>
#include <vector>

#include "nmfuse/blocks.h"
#include "nmfuse/parallel.h"

namespace {

using namespace nmfuse;
using std::int64_t;

int failures = 0;

struct layout {
  int64_t batch, hs, ws, rows, cols;
};

void check(bool ok, const char* what, const layout& at, const block_grid& grid) {
  if (ok) return;
  ++failures;
  std::printf("FAILED: %s (%lld x %lld blocks of %lld every %lld on %lld x %lld)\n", what,
              static_cast<long long>(at.hs), static_cast<long long>(at.ws), static_cast<long long>(grid.block),
              static_cast<long long>(grid.stride), static_cast<long long>(at.rows), static_cast<long long>(at.cols));
}

// A batch of planes whose rows and planes lie apart, so that a sanitizer sees a step outside the last row.
template <class T>
struct planes {
  std::vector<T> storage;
  image_view<T> view;

  planes(int64_t batch, int64_t rows, int64_t cols, int64_t gap) {
    const int64_t row_stride = cols + gap, batch_stride = rows * row_stride + gap;
    storage.assign(static_cast<std::size_t>(batch * batch_stride - 2 * gap), T(77));
    view = {storage.data(), batch, rows, cols, batch_stride, row_stride};
  }

  void randomise(unsigned seed) {
    std::mt19937 random(seed);
    std::uniform_real_distribution<double> value(-1.0, 1.0);
    for (int64_t b = 0; b < view.batch; ++b) {
      for (int64_t y = 0; y < view.rows; ++y) {
        for (int64_t x = 0; x < view.cols; ++x) view.row(b, y)[x] = static_cast<T>(value(random));
      }
    }
  }
};

bool covers(int64_t j, int64_t pixel, const block_grid& grid) {
  return j * grid.stride <= pixel && pixel < j * grid.stride + grid.block;
}

bool covered(int64_t pixel, int64_t blocks, const block_grid& grid) {
  for (int64_t j = 0; j < blocks; ++j) {
    if (covers(j, pixel, grid)) return true;
  }
  return false;
}

int64_t nearest(int64_t pixel, int64_t pixels, int64_t blocks, const block_grid& grid) {
  for (int64_t distance = 0;; ++distance) {
    if (pixel - distance >= 0 && covered(pixel - distance, blocks, grid)) return pixel - distance;
    if (pixel + distance < pixels && covered(pixel + distance, blocks, grid)) return pixel + distance;
  }
}

// The definition at one pixel, in double.
template <class T>
double mean_at(image_view<const T> scores, const block_grid& grid, const layout& at, int64_t b, int64_t y, int64_t x) {
  const int64_t yy = nearest(y, at.rows, at.hs, grid), xx = nearest(x, at.cols, at.ws, grid);
  if (!grid.fill_nearest && (yy != y || xx != x)) return grid.fill_value;
  double sum = 0, count = 0;
  for (int64_t j = 0; j < at.hs; ++j) {
    if (!covers(j, yy, grid)) continue;
    for (int64_t i = 0; i < at.ws; ++i) {
      if (!covers(i, xx, grid)) continue;
      sum += static_cast<double>(scores.row(b, j)[i]);
      ++count;
    }
  }
  return sum / count;
}

template <class T>
void test_aggregate(const layout& at, const block_grid& grid) {
  planes<T> scores(at.batch, at.hs, at.ws, 1), out(at.batch, at.rows, at.cols, 3);
  scores.randomise(1);
  std::vector<T> first;
  for (const int threads : {1, 2, 7}) {
    set_num_threads(threads);
    aggregate_blocks<T>(scores.view, grid, out.view, nullptr);
    if (threads == 1) first = out.storage;
    check(out.storage == first, "same bits for any number of threads", at, grid);
  }
  double worst = 0;
  for (int64_t b = 0; b < at.batch; ++b) {
    for (int64_t y = 0; y < at.rows; ++y) {
      for (int64_t x = 0; x < at.cols; ++x) {
        worst = std::max(
            worst, std::abs(static_cast<double>(out.view.row(b, y)[x]) - mean_at<T>(scores.view, grid, at, b, y, x)));
      }
    }
  }
  check(worst <= 8 * std::numeric_limits<T>::epsilon(), "mean of the covering blocks", at, grid);
}

template <class T>
void test_adjoint(const layout& at, block_grid grid) {
  grid.fill_value = 0;
  planes<T> s(at.batch, at.hs, at.ws, 2), as(at.batch, at.rows, at.cols, 1);
  planes<T> y(at.batch, at.rows, at.cols, 0), aty(at.batch, at.hs, at.ws, 3);
  s.randomise(2);
  y.randomise(3);
  const int64_t bytes = aggregate_blocks_adjoint_workspace<T>(at.batch, at.hs, at.ws, at.rows, at.cols);
  std::vector<T> workspace(static_cast<std::size_t>(bytes) / sizeof(T)), first;
  aggregate_blocks<T>(s.view, grid, as.view, nullptr);
  for (const int threads : {1, 2, 7}) {
    set_num_threads(threads);
    aggregate_blocks_adjoint<T>(y.view, grid, aty.view, {workspace.data(), bytes}, nullptr);
    if (threads == 1) first = aty.storage;
    check(aty.storage == first, "same bits of the adjoint for any number of threads", at, grid);
  }
  double left = 0, right = 0;
  for (int64_t b = 0; b < at.batch; ++b) {
    for (int64_t r = 0; r < at.rows; ++r) {
      for (int64_t c = 0; c < at.cols; ++c) {
        left += static_cast<double>(as.view.row(b, r)[c]) * static_cast<double>(y.view.row(b, r)[c]);
      }
    }
    for (int64_t r = 0; r < at.hs; ++r) {
      for (int64_t c = 0; c < at.ws; ++c) {
        right += static_cast<double>(s.view.row(b, r)[c]) * static_cast<double>(aty.view.row(b, r)[c]);
      }
    }
  }
  const double pixels = static_cast<double>(at.batch * at.rows * at.cols);
  check(std::abs(left - right) <= 20 * std::numeric_limits<T>::epsilon() * pixels, "<As, y> = <s, A'y>", at, grid);
}

void test_nan_stays_local() {
  const block_grid grid{16, 2, true, 0.0};
  const layout at{1, 60, 70, 134, 154};
  planes<float> scores(1, at.hs, at.ws, 0), out(1, at.rows, at.cols, 0);
  scores.randomise(4);
  scores.view.row(0, 31)[33] = std::numeric_limits<float>::quiet_NaN();
  aggregate_blocks<float>(scores.view, grid, out.view, nullptr);
  int64_t wrong = 0;
  for (int64_t y = 0; y < at.rows; ++y) {
    for (int64_t x = 0; x < at.cols; ++x) {
      wrong += std::isnan(out.view.row(0, y)[x]) != (covers(31, y, grid) && covers(33, x, grid));
    }
  }
  check(wrong == 0, "a NaN reaches its block only", at, grid);
}

void test_empty() {
  float sentinel = 5;
  const layout at{0, 2, 2, 4, 4};
  const block_grid grid{2, 2, true, 0.0};
  const image_view<float> scores{&sentinel, 0, 2, 2, 4, 2}, out{&sentinel, 0, 4, 4, 16, 4};
  aggregate_blocks<float>(scores, grid, out, nullptr);
  aggregate_blocks_adjoint<float>(out, grid, scores, {}, nullptr);
  check(sentinel == 5, "empty views are left alone", at, grid);
}

}  // namespace

int main() {
  for (const int64_t block : {1, 2, 3, 5, 8, 16, 1000}) {
    for (const int64_t stride : {1, 2, 3, 4, 7}) {
      for (const bool fill_nearest : {true, false}) {
        const block_grid grid{block, stride, fill_nearest, -2.5};
        const int64_t tail = std::min<int64_t>(block, 20);
        const layout layouts[] = {{1, 1, 1, 1, 1},
                                  {1, 1, 6, 3, 5 * stride + 1},
                                  {2, 5, 3, 4 * stride + tail, 2 * stride + tail},
                                  {2, 4, 7, 3 * stride + tail + 5, 6 * stride + 1}};
        for (const layout& at : layouts) {
          test_aggregate<float>(at, grid);
          test_aggregate<double>(at, grid);
          test_adjoint<float>(at, grid);
          test_adjoint<double>(at, grid);
        }
      }
    }
  }
  test_aggregate<float>({1, 50, 40, 114, 94}, {16, 2, true, 0.0});  // more than one band
  test_adjoint<float>({1, 50, 40, 114, 94}, {16, 2, true, 0.0});
  test_nan_stays_local();
  test_empty();
  if (failures == 0) std::puts("blocks: all passed");
  return failures;
}
