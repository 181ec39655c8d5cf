// aggregate_blocks and its adjoint without an interpreter, against plain loops in double: what the sanitizers run.
#include <array>
#include <limits>
#include <stdexcept>

#include "nmfuse/blocks.h"
#include "planes.h"

namespace nmfuse {
namespace {

struct layout {
  int64_t batch;
  std::array<int64_t, 3> grid, pixels;  // planes, rows, columns; one plane and one for images

  block_depths depths() const { return {grid[0], pixels[0]}; }
};

layout images(int64_t batch, int64_t hs, int64_t ws, int64_t rows, int64_t cols) {
  return {batch, {1, hs, ws}, {1, rows, cols}};
}

std::string text(const layout& at, const block_grid& grid) {
  const auto sizes = [](const std::array<int64_t, 3>& n) {
    return std::to_string(n[0]) + "x" + std::to_string(n[1]) + "x" + std::to_string(n[2]);
  };
  return std::to_string(at.batch) + " of " + sizes(at.grid) + " -> " + sizes(at.pixels) + " block " +
         std::to_string(grid.block) + " stride " + std::to_string(grid.stride) + (grid.fill_nearest ? "" : " filled");
}

template <class T>
planes<T> random_planes(int64_t batch, const std::array<int64_t, 3>& size, int64_t pad) {
  planes<T> x(batch * size[0], size[1], size[2], pad);
  x.fill([](int64_t, int64_t, int64_t) { return 2 * uniform() - 0.5; });
  return x;
}

// For each pixel, the blocks that make its value along one axis; empty if it takes the fill value.
std::vector<std::vector<int64_t>> sources(int64_t blocks, int64_t pixels, const block_grid& grid) {
  std::vector<std::vector<int64_t>> covering(static_cast<std::size_t>(pixels)), result(covering.size());
  for (int64_t j = 0; j < blocks; ++j) {
    for (int64_t p = j * grid.stride; p < std::min(pixels, j * grid.stride + grid.block); ++p) {
      covering[static_cast<std::size_t>(p)].push_back(j);
    }
  }
  for (std::size_t p = 0; p < covering.size(); ++p) {
    std::size_t best = covering.size();
    for (std::size_t q = 0; q < covering.size(); ++q) {
      const auto distance = [p](std::size_t from) { return from > p ? from - p : p - from; };
      if (!covering[q].empty() && (best == covering.size() || distance(q) < distance(best))) best = q;
    }
    result[p] = covering[p].empty() && grid.fill_nearest ? covering[best] : covering[p];
  }
  return result;
}

template <class T>
void check_blocks(const layout& at, const block_grid& grid, int64_t pad = 0) {
  const std::string what = "aggregate_blocks<" + std::to_string(sizeof(T)) + "> " + text(at, grid);
  const planes<T> scores = random_planes<T>(at.batch, at.grid, pad), grad = random_planes<T>(at.batch, at.pixels, pad);
  planes<T> out(grad.view.batch, grad.view.rows, grad.view.cols, pad);
  planes<T> back(scores.view.batch, scores.view.rows, scores.view.cols, pad);
  run_alike(out, what, [&] {
    scratch<T> workspace(aggregate_blocks_workspace<T>(at.batch, at.grid[1], at.grid[2], at.depths()));
    aggregate_blocks<T>(scores.view, grid, at.depths(), out.view, workspace.view(), nullptr);
  });
  run_alike(back, what + " adjoint", [&] {
    scratch<T> workspace(aggregate_blocks_adjoint_workspace<T>(at.batch, at.grid[1], at.grid[2], at.pixels[1],
                                                               at.pixels[2], at.depths()));
    aggregate_blocks_adjoint<T>(grad.view, grid, at.depths(), back.view, workspace.view(), nullptr);
  });

  std::vector<std::vector<int64_t>> along[3];
  for (std::size_t axis = 0; axis < 3; ++axis) along[axis] = sources(at.grid[axis], at.pixels[axis], grid);
  planes<double> expected_back(scores.view.batch, scores.view.rows, scores.view.cols);
  expected_back.fill([](int64_t, int64_t, int64_t) { return 0.0; });
  double worst = 0, worst_back = 0;
  for (int64_t p = 0; p < out.view.batch; ++p) {
    const int64_t volume = p / at.pixels[0];
    const auto& planes_of = along[0][static_cast<std::size_t>(p % at.pixels[0])];
    for (int64_t y = 0; y < out.view.rows; ++y) {
      const auto& rows_of = along[1][static_cast<std::size_t>(y)];
      for (int64_t x = 0; x < out.view.cols; ++x) {
        const auto& cols_of = along[2][static_cast<std::size_t>(x)];
        const double count = static_cast<double>(planes_of.size() * rows_of.size() * cols_of.size());
        double sum = 0;
        for (const int64_t k : planes_of) {
          for (const int64_t j : rows_of) {
            for (const int64_t i : cols_of) {
              sum += static_cast<double>(scores.at(volume * at.grid[0] + k, j, i));
              expected_back.at(volume * at.grid[0] + k, j, i) += static_cast<double>(grad.at(p, y, x)) / count;
            }
          }
        }
        const double expected = count > 0 ? sum / count : grid.fill_value;
        worst = worse(worst, std::abs(static_cast<double>(out.at(p, y, x)) - expected));
      }
    }
  }
  for (int64_t b = 0; b < back.view.batch; ++b) {
    for (int64_t j = 0; j < back.view.rows; ++j) {
      for (int64_t i = 0; i < back.view.cols; ++i) {
        const double expected = expected_back.at(b, j, i);
        const double difference = std::abs(static_cast<double>(back.at(b, j, i)) - expected);
        worst_back = worse(worst_back, difference / std::max(1.0, std::abs(expected)));
      }
    }
  }
  constexpr double epsilon = std::numeric_limits<T>::epsilon();
  expect(worst <= 24 * epsilon, what + ": differs by " + std::to_string(worst));
  expect(worst_back <= 500 * epsilon, what + ": adjoint differs by " + std::to_string(worst_back));
  expect(out.padding_is_poison(), what + ": wrote between the rows");
  expect(back.padding_is_poison(), what + ": adjoint wrote between the rows");
}

template <class T>
void check_nan_stays_local() {
  const block_grid grid{16, 2, true, 0};
  const layout at = images(1, 40, 300, 94, 614);
  planes<T> scores = random_planes<T>(1, at.grid, 0), out = random_planes<T>(1, at.pixels, 0);
  scores.at(0, 20, 150) = T(NAN);
  aggregate_blocks<T>(scores.view, grid, at.depths(), out.view, {}, nullptr);
  int wrong = 0;
  for (int64_t y = 0; y < 94; ++y) {
    for (int64_t x = 0; x < 614; ++x) {
      const bool inside = y >= 40 && y < 56 && x >= 300 && x < 316;
      wrong += std::isnan(out.at(0, y, x)) != inside;
    }
  }
  expect(wrong == 0, "a NaN score reaches the pixels of its block and no others");
}

void check_empty() {
  float sentinel = 5;
  const block_grid grid{2, 2, true, 0.0};
  const image_view<float> scores{&sentinel, 0, 2, 2, 4, 2}, out{&sentinel, 0, 4, 4, 16, 4};
  aggregate_blocks<float>(scores, grid, {}, out, {}, nullptr);
  aggregate_blocks_adjoint<float>(out, grid, {}, scores, {}, nullptr);
  expect(sentinel == 5, "empty views are left alone");
}

void check_refused() {
  const planes<float> scores = random_planes<float>(1, {2, 2, 2}, 0);
  planes<float> out(4, 4, 4);
  const auto refuses = [&](const block_depths& depths, workspace_view workspace) {
    try {
      aggregate_blocks<float>(scores.view, {2, 2, true, 0}, depths, out.view, workspace, nullptr);
    } catch (const std::invalid_argument&) {
      return true;
    }
    return false;
  };
  expect(refuses({2, 4}, {}), "no workspace");
  expect(refuses({2, 3}, {}) && refuses({1, 1}, {}) && refuses({0, 4}, {}), "depths that do not divide");
}

template <class T>
void test_images() {
  for (const bool nearest : {true, false}) {
    for (const int64_t pad : {0, 4}) {
      check_blocks<T>(images(2, 13, 17, 40, 48), {16, 2, nearest, -3}, pad);  // the usual case
    }
    check_blocks<T>(images(1, 1, 1, 1, 1), {16, 2, nearest, -3});
    check_blocks<T>(images(1, 5, 9, 9, 17), {16, 2, nearest, -3});       // blocks clipped by the border
    check_blocks<T>(images(1, 3, 4, 40, 61), {16, 2, nearest, -3}, 1);   // pixels beyond the last block
    check_blocks<T>(images(1, 20, 300, 70, 640), {16, 2, nearest, -3});  // several tiles
    check_blocks<T>(images(70, 2, 3, 6, 7), {4, 2, nearest, -3});        // more tiles than blocks
    check_blocks<T>(images(1, 7, 8, 30, 33), {7, 4, nearest, -3});       // the stride does not divide the block
    check_blocks<T>(images(1, 7, 80, 40, 400), {12, 5, nearest, -3});
    check_blocks<T>(images(1, 9, 11, 45, 60), {3, 5, nearest, -3});  // gaps between blocks
    check_blocks<T>(images(1, 4, 3, 45, 60), {4, 9, nearest, -3});
    check_blocks<T>(images(1, 2, 2, 130, 140), {40, 100, nearest, -3});  // a stride wider than a tile
    check_blocks<T>(images(1, 2, 3, 80, 1300), {600, 500, nearest, -3});
    check_blocks<T>(images(1, 9, 600, 20, 640), {300, 1, nearest, -3});  // a window wider than a buffer
    check_blocks<T>(images(1, 30, 31, 30, 31), {1, 1, nearest, -3});
    check_blocks<T>(images(1, 1, 1, 30, 31), {5, 70, nearest, -3});
    check_blocks<T>(images(1, 50, 40, 114, 94), {16, 2, nearest, -3});  // several bands
  }
  check_nan_stays_local<T>();
}

template <class T>
void test_volumes() {
  for (const bool nearest : {true, false}) {
    check_blocks<T>({2, {5, 4, 7}, {24, 22, 28}}, {16, 2, nearest, -3}, 4);
    check_blocks<T>({1, {1, 1, 1}, {1, 1, 1}}, {16, 2, nearest, -3});
    check_blocks<T>({1, {1, 2, 3}, {9, 5, 7}}, {3, 2, nearest, -3}, 1);      // planes beyond the last block
    check_blocks<T>({1, {5, 3, 3}, {9, 5, 5}}, {16, 2, nearest, -3});        // clipped by the border
    check_blocks<T>({3, {3, 2, 4}, {12, 8, 17}}, {2, 4, nearest, -3}, 3);    // gaps
    check_blocks<T>({1, {3, 2, 2}, {13, 11, 12}}, {7, 3, nearest, -3});      // the stride does not divide the block
    check_blocks<T>({1, {2, 2, 150}, {4, 4, 300}}, {4, 2, nearest, -3}, 2);  // several column bands and tiles
    check_blocks<T>({1, {2, 40, 3}, {4, 80, 6}}, {4, 2, nearest, -3});
    check_blocks<T>({1, {4, 5, 6}, {4, 5, 6}}, {1, 1, nearest, -3});
  }
}

// Every combination of what block, stride and size may be to each other.
template <class T>
void test_many_sizes() {
  for (const int64_t block : {1, 2, 3, 5, 8, 16, 1000}) {
    for (const int64_t stride : {1, 2, 3, 4, 7}) {
      for (const bool nearest : {true, false}) {
        const int64_t tail = std::min<int64_t>(block, 20);
        for (const layout& at :
             {images(1, 1, 6, 3, 5 * stride + 1), images(2, 5, 3, 4 * stride + tail, 2 * stride + tail),
              images(2, 4, 7, 3 * stride + tail + 5, 6 * stride + 1),
              layout{2, {3, 2, 1}, {2 * stride + tail + 2, stride + 1, 5}}}) {
          check_blocks<T>(at, {block, stride, nearest, -2.5}, 1);
        }
      }
    }
  }
}

}  // namespace
}  // namespace nmfuse

int main(int count, char**) {
  using namespace nmfuse;
  if (count > 1) {  // any argument: enough to tell a broken kernel
    check_blocks<float>(images(2, 13, 17, 40, 48), {16, 2, true, -3}, 4);
    check_blocks<float>(images(1, 20, 300, 70, 640), {16, 2, true, -3});
    check_blocks<float>(images(1, 7, 8, 30, 33), {7, 4, true, -3});
    check_blocks<float>({2, {5, 4, 7}, {24, 22, 28}}, {16, 2, true, -3}, 4);
    check_blocks<float>({3, {3, 2, 4}, {12, 8, 17}}, {2, 4, false, -3}, 3);
    return failures;
  }
  test_images<float>();
  test_images<double>();
  test_volumes<float>();
  test_volumes<double>();
  check_empty();
  check_refused();
#if defined(NMFUSE_SIMT)
  simt::set_order_seed(11);
  check_blocks<float>(images(1, 20, 300, 70, 640), {16, 2, true, -3});
  check_blocks<float>({2, {5, 4, 7}, {24, 22, 28}}, {16, 2, true, -3});
#else
  test_many_sizes<float>();
  test_many_sizes<double>();
#endif
  if (failures == 0) std::puts("blocks: all passed");
  return std::min(failures, 100);
}
