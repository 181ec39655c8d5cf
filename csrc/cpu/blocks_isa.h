// The band kernels of aggregate_blocks, one set for each instruction set.
#pragma once

#include <cstdint>

#include "cpu/isa.h"
#include "nmfuse/blocks.h"
#include "nmfuse/image_view.h"

namespace nmfuse {

// Along one axis: pixel y lies in cell c = y / stride at offset o = y % stride and is covered by the blocks j =
// c-n+1..c of the grid, n = narrow + (o < remainder), with narrow = block / stride and remainder = block % stride. So
// each cell has two slots, for its pixels under narrow + 1 blocks (slot c) and those under narrow blocks (slot cells +
// c).
template <class T>
struct block_axis {
  std::int64_t grid = 0;   // blocks
  std::int64_t cells = 0;  // up to the last covered one
  std::int64_t pixels = 0;
  std::int64_t covered = 0;  // pixels before the end of the last block
  std::int64_t stride = 1;
  std::int64_t narrow = 0;
  std::int64_t remainder = 0;
  const std::int32_t* slot = nullptr;        // whose mean each pixel takes; 2 * cells for the fill value
  const T* count = nullptr;                  // how many blocks cover a slot; 1 where none does
  const std::int64_t* slot_first = nullptr;  // the pixels of a slot are [slot_first, slot_last)
  const std::int64_t* slot_last = nullptr;
};

template <class T>
struct block_task {
  block_axis<T> y, x;
  T fill = 0;
};

// Sizes of the kernels' scratch memory, in elements.
template <class T>
std::int64_t aggregate_scratch(const block_task<T>& task, std::int64_t cell_rows) {
  const std::int64_t line = task.x.narrow + 1 + task.x.cells;
  return (cell_rows + task.y.narrow) * task.x.grid + task.x.grid + 3 * line + 2 * task.x.cells + 1 + task.x.pixels;
}

template <class T>
struct block_kernels {
  // Writes the mean of row `row` of the planes [first, last) of scores.
  void (*average)(const image_view<const T>& scores, std::int64_t first, std::int64_t last, std::int64_t row, T* to);

  // Writes the covered pixel rows of cells [first, last) of plane b.
  void (*aggregate)(const block_task<T>& task, const image_view<const T>& scores, const image_view<T>& out,
                    std::int64_t b, std::int64_t first, std::int64_t last, T* scratch);
};

// T is float or double.
template <isa kIsa, class T>
block_kernels<T> get_block_kernels();

}  // namespace nmfuse
