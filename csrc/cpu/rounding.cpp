// Compiled once, without fused multiply-adds, so that all instruction sets round alike.
#include "nmfuse/rounding.h"

#include <algorithm>
#include <cmath>
#include <mutex>

#include "nmfuse/parallel.h"

namespace nmfuse {
namespace {

constexpr float kNear = 0.1F;  // grey levels: what is nearer than this to a level or a source is taken for it
constexpr float kTie = 1e-5F;  // of logarithms of counts
constexpr std::int64_t kPixels = 1 << 15;  // that a thread takes at a time

float level_of(float value, level_range range) {
  return std::min(255.0F, std::max(0.0F, value * (range.high - range.low) + range.low));  // of a NaN 0
}

float nearest(float level) {
  constexpr float kRound = 0x1.8p23F;  // added and taken away again, it leaves an integer, of ties the even one
  return level + kRound - kRound;
}

// Calls body(first row, last row) for some rows at a time.
template <class Body>
void by_rows(const image_view<const float>& y, const Body& body) {
  const std::int64_t step = std::max<std::int64_t>(1, kPixels / std::max<std::int64_t>(1, y.cols));
  parallel_for((y.rows + step - 1) / step, [&](std::int64_t i) { body(i * step, std::min((i + 1) * step, y.rows)); });
}

}  // namespace

void count_levels(image_view<const float> y, image_view<const float> source, level_range range, float* counts) {
  std::vector<std::int64_t> total(kLevels * kLevels);
  std::mutex adding;
  const std::int64_t threads = std::clamp<std::int64_t>(y.rows * y.cols / (kLevels * kLevels), 1, num_threads());
  parallel_for(threads, [&](std::int64_t t) {
    std::vector<std::int64_t> own(kLevels * kLevels);
    for (std::int64_t row = y.rows * t / threads; row < y.rows * (t + 1) / threads; ++row) {
      const float* of_y = y.row(0, row);
      const float* of_source = source.row(0, row);
      for (std::int64_t x = 0; x < y.cols; ++x) {
        const auto level = static_cast<std::int32_t>(nearest(level_of(of_source[x], range)));
        ++own[static_cast<std::size_t>(level * 256 + static_cast<std::int32_t>(nearest(level_of(of_y[x], range))))];
      }
    }
    const std::lock_guard<std::mutex> lock(adding);
    for (std::size_t k = 0; k < own.size(); ++k) total[k] += own[k];
  });
  for (std::size_t k = 0; k < total.size(); ++k) counts[k] += static_cast<float>(total[k]);
}

void round_levels(image_view<const float> y, const std::vector<image_view<const float>>& sources, const float* gains,
                  level_range range, image_view<float> out) {
  by_rows(y, [&](std::int64_t first, std::int64_t last) {
    std::vector<float> value(static_cast<std::size_t>(y.cols)), up(value.size());
    for (std::int64_t row = first; row < last; ++row) {
      const float* from = y.row(0, row);
      for (std::size_t x = 0; x < value.size(); ++x) value[x] = level_of(from[x], range), up[x] = 0;
      for (std::size_t s = 0; s < sources.size(); ++s) {
        const float* gain = gains + static_cast<std::int64_t>(s) * kLevels * kLevels;
        const float* source = sources[s].row(0, row);
        for (std::size_t x = 0; x < value.size(); ++x) {
          const auto level = static_cast<std::int32_t>(nearest(level_of(source[x], range)));
          up[x] += gain[level * 256 + static_cast<std::int32_t>(value[x])];
        }
      }
      float* to = out.row(0, row);
      for (std::size_t x = 0; x < value.size(); ++x) {
        const float lower = static_cast<float>(static_cast<std::int32_t>(value[x])), near = nearest(value[x]);
        const bool decided = std::abs(up[x]) > kTie && std::abs(value[x] - near) > kNear;
        to[x] = decided ? lower + (up[x] > 0 ? 1.0F : 0.0F) : near;
      }
      for (const auto& one : sources) {
        const float* source = one.row(0, row);
        for (std::size_t x = 0; x < value.size(); ++x) {
          const float there = level_of(source[x], range);
          to[x] = std::abs(value[x] - there) < kNear ? there : to[x];
        }
      }
      for (std::size_t x = 0; x < value.size(); ++x) to[x] = (to[x] - range.low) / (range.high - range.low);
    }
  });
}

}  // namespace nmfuse
