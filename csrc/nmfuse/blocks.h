// Overlapping-block aggregation: block scores on a strided grid to a per-pixel mean.
#pragma once

#include <cstdint>

#include "nmfuse/image_view.h"

namespace nmfuse {

// Block (j, i) covers pixels [j*stride, j*stride + block) x [i*stride, i*stride + block), clipped at the border.
struct block_grid {
  std::int64_t block = 16;
  std::int64_t stride = 2;
  bool fill_nearest = true;  // an uncovered pixel takes the nearest covered one (per axis; ties to the lower index)...
  double fill_value = 0.0;   // ...or this constant
};

// out(p) = mean of the scores of all blocks that cover p. scores (batch, hs, ws), out (batch, H, W).
// T is float or double. Every block starts inside the image: (hs-1)*stride < H, (ws-1)*stride < W.
template <class T>
void aggregate_blocks(image_view<const T> scores, const block_grid& grid, image_view<T> out, stream_handle stream);

// The adjoint (fill_value contributes nothing): grad (batch, H, W) -> out (batch, hs, ws).
template <class T>
std::int64_t aggregate_blocks_adjoint_workspace(std::int64_t batch, std::int64_t hs, std::int64_t ws, std::int64_t rows,
                                                std::int64_t cols);
template <class T>
void aggregate_blocks_adjoint(image_view<const T> grad, const block_grid& grid, image_view<T> out,
                              workspace_view workspace, stream_handle stream);

}  // namespace nmfuse
