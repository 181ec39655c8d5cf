// Whole grey levels of 8-bit images, chosen to tell more of the sources: see nmfuse.images.rounding.
#pragma once

#include <cstdint>
#include <vector>

#include "nmfuse/image_view.h"

namespace nmfuse {

inline constexpr std::int64_t kLevels = 256;

// The levels of 0 and 1.
struct level_range {
  float low = 0, high = 255;
};

// Adds to counts (kLevels, kLevels) how often each level of the source is the nearest level of y.
void count_levels(image_view<const float> y, image_view<const float> source, level_range range, float* counts);

// Rounds y (one plane) to whole levels, by the gains (S, kLevels, kLevels) of each next level at a source's level.
void round_levels(image_view<const float> y, const std::vector<image_view<const float>>& sources, const float* gains,
                  level_range range, image_view<float> out);

}  // namespace nmfuse
