// What the image kernels share: packs of pixels, reflection at the border, a grid of tiles.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "nmfuse/image_view.h"

namespace nmfuse {

// N values that move by one load or store.
template <class T, int N>
struct alignas(sizeof(T) * N) pack {
  T v[N];
};

// True if a pack may be moved at every multiple of N columns in every row.
template <int N, class T>
bool takes_packs(const image_view<T>& image) {
  return reinterpret_cast<std::uintptr_t>(image.data) % (sizeof(T) * N) == 0 && image.row_stride % N == 0 &&
         (image.batch == 1 || image.batch_stride % N == 0);
}

// Index in [0, n) of the pixel that stands for i beyond the border, the edge pixel repeated.
__device__ inline std::int64_t reflect(std::int64_t i, std::int64_t n) {
  while (i < 0 || i >= n) i = i < 0 ? -1 - i : 2 * n - 1 - i;
  return i;
}

// A batch of planes cut into tiles, numbered along the columns, then the rows, then the batch.
struct tile_grid {
  std::int64_t across = 0;  // tiles in a row of tiles
  std::int64_t down = 0;
  std::int64_t count = 0;

  tile_grid() = default;
  tile_grid(std::int64_t batch, std::int64_t rows, std::int64_t cols, std::int64_t tile_rows, std::int64_t tile_cols)
      : across((cols + tile_cols - 1) / tile_cols),
        down((rows + tile_rows - 1) / tile_rows),
        count(batch * across * down) {}

  struct position {
    std::int64_t batch, row, col;  // row and col count tiles
  };
  __device__ position at(std::int64_t tile) const {
    const std::int64_t line = tile / across;
    return {line / down, line % down, tile % across};
  }
};

}  // namespace nmfuse
