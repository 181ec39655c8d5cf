// Overlapping-block aggregation: block scores on a strided grid to a per-pixel mean.
#pragma once

#include <cstdint>

#include "nmfuse/error.h"
#include "nmfuse/image_view.h"

namespace nmfuse {

// Block (j, i) covers pixels [j*stride, j*stride + block) x [i*stride, i*stride + block), clipped at the border.
struct block_grid {
  std::int64_t block = 16;
  std::int64_t stride = 2;
  bool fill_nearest = true;  // an uncovered pixel takes the nearest covered one (per axis; ties to the lower index)...
  double fill_value = 0.0;   // ...or this constant
};

// Planes that follow each other and make a volume: of blocks, and of pixels. Blocks are then cubes, at the same stride
// along all three axes. One and one: the planes are images.
struct block_depths {
  std::int64_t blocks = 1;
  std::int64_t pixels = 1;
  constexpr bool images() const { return blocks == 1 && pixels == 1; }
};

// out(p) = mean of the scores of all blocks that cover p. scores (batch * depths.blocks, hs, ws),
// out (batch * depths.pixels, H, W). T is float or double. Every block starts inside the image: (hs-1)*stride < H,
// (ws-1)*stride < W, (depths.blocks-1)*stride < depths.pixels. In a volume the mean along the depth is taken first.
template <class T>
std::int64_t aggregate_blocks_workspace(std::int64_t batch, std::int64_t hs, std::int64_t ws,
                                        const block_depths& depths);  // none for images
template <class T>
void aggregate_blocks(image_view<const T> scores, const block_grid& grid, const block_depths& depths, image_view<T> out,
                      workspace_view workspace, stream_handle stream);

// The adjoint (fill_value contributes nothing): grad (batch * depths.pixels, H, W) -> out (batch * depths.blocks, hs,
// ws). In a volume the depth is gathered first.
template <class T>
std::int64_t aggregate_blocks_adjoint_workspace(std::int64_t batch, std::int64_t hs, std::int64_t ws, std::int64_t rows,
                                                std::int64_t cols, const block_depths& depths);
template <class T>
void aggregate_blocks_adjoint(image_view<const T> grad, const block_grid& grid, const block_depths& depths,
                              image_view<T> out, workspace_view workspace, stream_handle stream);

// What both backends ask of the arguments of either; `blocks` and `pixels` are the numbers of planes.
inline void require_depths(const block_depths& depths, std::int64_t blocks, std::int64_t pixels) {
  require(depths.blocks >= 1 && depths.pixels >= 1 && blocks % depths.blocks == 0 && pixels % depths.pixels == 0 &&
              blocks / depths.blocks == pixels / depths.pixels,
          "depths: do not divide the numbers of planes into as many volumes");
}

}  // namespace nmfuse
