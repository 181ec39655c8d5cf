// The fusion network where no gradient is asked for: the features of images, and a level of the pyramid at a time.
#pragma once

#include <cstdint>
#include <vector>

#include "nmfuse/image_view.h"

namespace nmfuse {

inline constexpr std::int64_t kMostMaps = 64;  // channels, hidden maps, and 2 + notes, each

// How many maps there are of each source, and where their weights begin.
struct fusion_sizes {
  std::int64_t channels = 0;  // C, features
  std::int64_t hidden = 0;    // K, of the head
  std::int64_t read = 0;      // notes of the coarser level, 0 at the top
  std::int64_t written = 0;   // notes for the finer level, 0 at the finest

  // Floats of the branch: three convolutions of 3 x 3, each a weight (outputs, inputs, 3, 3) and a bias.
  std::int64_t branch() const { return (9 * channels + channels) + 2 * (9 * channels * channels + channels); }
  // Floats of the head: of the source's own maps and of the others' (K, C + 1 + read), and the last convolution.
  std::int64_t head() const { return 2 * hidden * (channels + 1 + read) + (2 + written) * 9 * hidden + (2 + written); }
};

// A level (rows, cols) of the pyramid of S sources, and the next coarser one. Views of coarse planes are empty at the
// top.
struct fusion_level {
  fusion_sizes sizes;
  std::int64_t rows = 0, cols = 0;
  std::vector<const float*> images;  // S first pixels
  std::vector<std::int64_t> image_strides;
  image_view<const float> coarse;    // S planes of the Gaussian pyramids
  image_view<const float> contexts;  // S planes of this level, or of the coarser one
  image_view<const float> notes;     // S read planes of the coarser level
  image_view<const float> below;     // the fused coarser level
  image_view<const float> features;  // S C planes of this level; empty: they are computed
  const float* weights = nullptr;    // of the branch, then of the head
  const float* scene = nullptr;      // (S, 2, K): biases and gains of the hidden maps
  image_view<float> fused;           // one plane
  image_view<float> handed;          // S written planes
  image_view<float> gates;           // S planes, or empty
};

// Fuses rows and columns of a level, from even ones on: see nmfuse.nets.FusionNet.
void fuse_level(const fusion_level& level, std::int64_t first_row, std::int64_t last_row, std::int64_t first_col,
                std::int64_t last_col);

// What is summed over all pixels of S images, by their features.
struct fusion_survey {
  image_view<const float> images;  // S planes
  const float* weights = nullptr;  // of the branch
  std::int64_t channels = 0;
  const float* parts = nullptr;  // (C, R), or none
  std::int64_t ranks = 0;
  std::int64_t first_row = 0, last_row = 0;
  double* sums = nullptr;       // (S, 2 C + 2): features, their squares; their mean where all are bright; brightness
  image_view<float> features;   // S C planes, or empty
  image_view<float> energy;     // S planes: sum of the squares of the parts' strengths; or empty
  image_view<float> strengths;  // S R planes, or empty
};

// Adds to the sums, and writes the planes, for some rows.
void survey_fusion(const fusion_survey& survey);

// out: each image blurred by [1 4 6 4 1] / 16 along both axes, every second pixel; the border mirrored.
void halve_images(image_view<const float> images, image_view<float> out);

}  // namespace nmfuse
