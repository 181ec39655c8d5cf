// The fusion network's loops: features against plain convolutions in double, and laws that hold for any weights.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <random>
#include <utility>
#include <vector>

#include "nmfuse/fusion_level.h"
#include "nmfuse/parallel.h"
#include "nmfuse/rounding.h"

using nmfuse::fusion_level;
using nmfuse::fusion_sizes;
using nmfuse::image_view;
using std::int64_t;

namespace {

int failures = 0;

void expect(bool holds, const char* what, int64_t rows, int64_t cols) {
  if (holds) return;
  ++failures;
  std::printf("FAILED: %s at %d x %d\n", what, static_cast<int>(rows), static_cast<int>(cols));
}

std::mt19937& random_source() {
  static std::mt19937 source(7);
  return source;
}

std::vector<float> random_floats(int64_t count, float low, float high) {
  std::uniform_real_distribution<float> draw(low, high);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& x : values) x = draw(random_source());
  return values;
}

// Planes in memory of their own: the last row ends with it, so that AddressSanitizer guards it.
struct planes {
  std::vector<float> memory;
  image_view<float> view;

  planes(int64_t batch, int64_t rows, int64_t cols) : memory(random_floats(batch * rows * cols, 0, 1)) {
    view = {memory.data(), batch, rows, cols, rows * cols, cols};
  }
};

// A rectified convolution of 3 x 3 of (inputs, rows, cols), its border repeated.
std::vector<double> convolved(const std::vector<double>& from, int64_t inputs, int64_t outputs, int64_t rows,
                              int64_t cols, const float* weights) {
  std::vector<double> to(static_cast<std::size_t>(outputs * rows * cols));
  const float* bias = weights + outputs * inputs * 9;
  for (int64_t o = 0; o < outputs; ++o) {
    for (int64_t y = 0; y < rows; ++y) {
      for (int64_t x = 0; x < cols; ++x) {
        double sum = bias[o];
        for (int64_t k = 0; k < inputs * 9; ++k) {
          const int64_t row = std::clamp<int64_t>(y + k % 9 / 3 - 1, 0, rows - 1);
          const int64_t col = std::clamp<int64_t>(x + k % 3 - 1, 0, cols - 1);
          sum += weights[o * inputs * 9 + k] * from[static_cast<std::size_t>((k / 9 * rows + row) * cols + col)];
        }
        to[static_cast<std::size_t>((o * rows + y) * cols + x)] = std::max(sum, 0.0);
      }
    }
  }
  return to;
}

void test_features(int64_t channels, int64_t rows, int64_t cols) {
  fusion_sizes sizes;
  sizes.channels = channels;
  const std::vector<float> weights = random_floats(sizes.branch(), -0.3F, 0.3F);
  planes images(2, rows, cols), out(2 * channels, rows, cols);
  std::vector<double> sums(static_cast<std::size_t>(2 * (2 * channels + 2)));
  nmfuse::fusion_survey survey;
  survey.images = images.view, survey.weights = weights.data(), survey.channels = channels;
  survey.last_row = rows, survey.sums = sums.data(), survey.features = out.view;
  nmfuse::survey_fusion(survey);
  for (int64_t image = 0; image < 2; ++image) {
    std::vector<double> maps(images.memory.begin() + image * rows * cols,
                             images.memory.begin() + (image + 1) * rows * cols);
    const float* layer = weights.data();
    for (int64_t k = 0; k < 3; ++k) {
      const int64_t inputs = k == 0 ? 1 : channels;
      maps = convolved(maps, inputs, channels, rows, cols, layer);
      layer += channels * inputs * 9 + channels;
    }
    double worst = 0, total = 0;
    for (int64_t i = 0; i < channels * rows * cols; ++i) {
      worst = std::max(worst, std::abs(maps[static_cast<std::size_t>(i)] -
                                       out.memory[static_cast<std::size_t>(image * channels * rows * cols + i)]));
    }
    for (int64_t i = 0; i < rows * cols; ++i) total += maps[static_cast<std::size_t>(i)];
    expect(worst < 1e-5, "features", rows, cols);
    expect(std::abs(sums[static_cast<std::size_t>(image * (2 * channels + 2))] - total) < 1e-4 * (1 + total),
           "sums of features", rows, cols);
  }
}

// A level of `count` sources with all that it needs; the finest, or one between.
struct whole_level {
  fusion_level level;
  std::vector<planes> images;
  planes coarse, contexts, notes, below, fused, handed;
  std::vector<float> weights, scene;

  whole_level(int64_t count, int64_t rows, int64_t cols, int64_t written, bool copies)
      : coarse(count, (rows + 1) / 2, (cols + 1) / 2),
        contexts(count, written > 0 ? rows : (rows + 1) / 2, written > 0 ? cols : (cols + 1) / 2),
        notes(count * 4, (rows + 1) / 2, (cols + 1) / 2),
        below(1, (rows + 1) / 2, (cols + 1) / 2),
        fused(1, rows, cols),
        handed(count * written, rows, cols) {
    level.sizes = {16, 24, 4, written};
    level.rows = rows, level.cols = cols;
    weights = random_floats(level.sizes.branch() + level.sizes.head(), -0.2F, 0.2F);
    scene = random_floats(count * 2 * 24, -0.5F, 1);
    for (int64_t s = 0; s < count; ++s) images.emplace_back(1, rows, cols);
    const auto repeat = [](planes& x, int64_t each) {
      for (std::size_t i = static_cast<std::size_t>(each); i < x.memory.size(); ++i) {
        x.memory[i] = x.memory[i - static_cast<std::size_t>(each)];
      }
    };
    if (copies) {
      for (planes& one : images) one.memory = images[0].memory;
      repeat(coarse, coarse.view.batch_stride);
      repeat(contexts, contexts.view.batch_stride);
      repeat(notes, 4 * notes.view.batch_stride);
      below.memory.assign(coarse.memory.begin(), coarse.memory.begin() + coarse.view.batch_stride);
      below.view.data = below.memory.data();
      for (std::size_t i = 48; i < scene.size(); ++i) scene[i] = scene[i - 48];
    }
    for (planes& one : images) {
      level.images.push_back(one.memory.data());
      level.image_strides.push_back(cols);
    }
    level.coarse = coarse.view, level.contexts = contexts.view, level.notes = notes.view, level.below = below.view;
    level.weights = weights.data(), level.scene = scene.data();
    level.fused = fused.view;
    if (written > 0) level.handed = handed.view;
  }
};

void test_copies(int64_t count, int64_t rows,
                 int64_t cols) {  // of one image they give that image, whatever the weights
  whole_level all(count, rows, cols, 4, true);
  nmfuse::fuse_level(all.level, 0, rows, 0, cols);
  float worst = 0;
  for (std::size_t i = 0; i < all.fused.memory.size(); ++i) {
    worst = std::max(worst, std::abs(all.fused.memory[i] - all.images[0].memory[i]));
  }
  expect(worst < 2e-6F, "copies of one image", rows, cols);
}

void test_parts(int64_t count, int64_t rows, int64_t cols, int64_t written) {  // any part, any threads: the same bits
  whole_level all(count, rows, cols, written, false);
  nmfuse::set_num_threads(1);
  nmfuse::fuse_level(all.level, 0, rows, 0, cols);
  const std::vector<float> fused = all.fused.memory, handed = all.handed.memory;
  std::fill(all.fused.memory.begin(), all.fused.memory.end(), -1.0F);
  std::fill(all.handed.memory.begin(), all.handed.memory.end(), -1.0F);
  nmfuse::set_num_threads(3);
  const int64_t row = rows / 3 / 2 * 2, col = cols / 2 / 2 * 2;
  for (const auto& [top, bottom] : {std::pair{int64_t{0}, row}, {row, rows}}) {
    for (const auto& [left, right] : {std::pair{int64_t{0}, col}, {col, cols}}) {
      if (top < bottom && left < right) nmfuse::fuse_level(all.level, top, bottom, left, right);
    }
  }
  nmfuse::set_num_threads(0);
  expect(fused == all.fused.memory && handed == all.handed.memory, "parts of a level", rows, cols);
}

void test_halves(int64_t rows, int64_t cols) {
  planes images(2, rows, cols), out(2, (rows + 1) / 2, (cols + 1) / 2);
  nmfuse::halve_images(images.view, out.view);
  const double taps[5] = {1, 4, 6, 4, 1};
  const auto mirrored = [](int64_t i, int64_t n) {
    i = ((i % (2 * n)) + 2 * n) % (2 * n);
    return std::min(i, 2 * n - 1 - i);
  };
  double worst = 0;
  for (int64_t b = 0; b < 2; ++b) {
    for (int64_t y = 0; y < out.view.rows; ++y) {
      for (int64_t x = 0; x < out.view.cols; ++x) {
        double sum = 0;
        for (int64_t k = 0; k < 25; ++k) {
          sum += taps[k / 5] * taps[k % 5] / 256 *
                 images.view.row(b, mirrored(2 * y + k / 5 - 2, rows))[mirrored(2 * x + k % 5 - 2, cols)];
        }
        worst = std::max(worst, std::abs(sum - out.view.row(b, y)[x]));
      }
    }
  }
  expect(worst < 1e-6, "halves", rows, cols);
}

void test_levels(int64_t rows, int64_t cols) {
  planes y(1, rows, cols), source(1, rows, cols), out(1, rows, cols);
  y.memory[0] = NAN;  // counts as black
  std::vector<float> counts(nmfuse::kLevels * nmfuse::kLevels), gains = random_floats(2 * 256 * 256, -1, 1);
  nmfuse::count_levels(y.view, source.view, {0, 255}, counts.data());
  double total = 0;
  for (const float count : counts) total += count;
  expect(total == static_cast<double>(rows * cols), "counts of levels", rows, cols);
  nmfuse::round_levels(y.view, {source.view, source.view}, gains.data(), {0, 255}, out.view);
  bool whole = true;
  for (std::size_t i = 1; i < out.memory.size(); ++i) {
    const float level = out.memory[i] * 255;
    whole =
        whole && (std::abs(level - std::round(level)) < 1e-4F || std::abs(out.memory[i] - source.memory[i]) < 1e-6F);
    whole = whole && std::abs(level - y.memory[i] * 255) < 1.001F;
  }
  expect(whole, "whole levels", rows, cols);
}

}  // namespace

int main() {
  for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{1, 1}, {2, 3}, {16, 16}, {19, 101}, {70, 33}}) {
    test_features(16, rows, cols);
    test_features(5, rows, cols);
    test_halves(rows, cols);
    test_levels(rows, cols);
    for (const int64_t count : {2, 3}) {
      test_copies(count, rows, cols);
      test_parts(count, rows, cols, 4);
      test_parts(count, rows, cols, 0);
    }
  }
  test_parts(2, 20, 1100, 0);  // several tiles side by side
  test_parts(20, 8, 200, 4);
  if (failures == 0) std::printf("fusion_level: passed\n");
  return failures == 0 ? 0 : 1;
}
