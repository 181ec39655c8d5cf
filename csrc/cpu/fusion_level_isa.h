// The loops of the fusion network, one for each instruction set.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/isa.h"
#include "nmfuse/fusion_level.h"

namespace nmfuse {

// Weights of a layer in the order in which `multiply` reads them: for each group of outputs, input after input.
struct packed_layer {
  std::int64_t inputs = 0, outputs = 0;
  std::vector<float> weights;
  std::vector<float> bias;
};

struct packed_network {
  packed_layer branch[3];
  packed_layer hidden;  // of the source's own maps, then of the others'
  packed_layer out;
};

// Rows and columns of a level: a tile.
struct fusion_tile {
  std::int64_t first_row = 0, last_row = 0, first_col = 0, last_col = 0;
};

struct fusion_loops {
  void (*level)(const fusion_level& level, const packed_network& net, const fusion_tile& tile);
  void (*survey)(const fusion_survey& survey, const packed_network& net, const packed_layer& parts, std::int64_t image,
                 const fusion_tile& tile, double* sums);
  void (*halve)(const image_view<const float>& images, const image_view<float>& out, std::int64_t image,
                std::int64_t first_row, std::int64_t last_row);
};

template <isa kIsa>
fusion_loops get_fusion_loops();

}  // namespace nmfuse
