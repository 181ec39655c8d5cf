#include "nmfuse/blocks.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "cpu/blocks_isa.h"
#include "cpu/isa.h"
#include "nmfuse/parallel.h"

namespace nmfuse {
namespace {

using std::int64_t;

constexpr int64_t kBandCells = 32;  // at least; at least twice the window too, so that rows above a band cost little
constexpr int64_t kBandRows = 32;

template <class T>
block_kernels<T> choose_kernels() {
#ifdef NMFUSE_X86
  switch (active_isa()) {
    case isa::avx512: return avx512::get_block_kernels<T>();
    case isa::avx2: return avx2::get_block_kernels<T>();
    case isa::baseline: break;
  }
#endif
  return baseline::get_block_kernels<T>();
}

// The nearest pixel that a block covers, along one axis; of two as near, the lower.
int64_t nearest_covered(int64_t pixel, int64_t grid, int64_t pixels, const block_grid& blocks) {
  const int64_t j = std::min(pixel / blocks.stride, grid - 1);  // the last block that starts at or before pixel
  const int64_t last = std::min(j * blocks.stride + blocks.block, pixels) - 1;
  if (pixel <= last) return pixel;
  const int64_t next = (j + 1) * blocks.stride;
  return j + 1 == grid || pixel - last <= next - pixel ? last : next;
}

// Owns what a block_axis points to.
template <class T>
class axis_tables {
 public:
  axis_tables(int64_t grid, int64_t pixels, const block_grid& blocks) {
    axis_.grid = grid;
    axis_.pixels = pixels;
    axis_.covered = std::min((grid - 1) * blocks.stride + blocks.block, pixels);
    axis_.cells = (axis_.covered + blocks.stride - 1) / blocks.stride;
    axis_.stride = blocks.stride;
    axis_.narrow = blocks.block / blocks.stride;
    axis_.remainder = blocks.block % blocks.stride;

    const int64_t slots = 2 * axis_.cells;
    count_.resize(static_cast<std::size_t>(slots));
    for (int64_t slot = 0; slot < slots; ++slot) {
      const int64_t cell = slot % axis_.cells, width = axis_.narrow + (slot < axis_.cells);
      const int64_t blocks_here = std::min(cell, grid - 1) - std::max(cell - width + 1, int64_t{0}) + 1;
      count_[static_cast<std::size_t>(slot)] = static_cast<T>(std::max(blocks_here, int64_t{1}));
    }

    slot_.resize(static_cast<std::size_t>(pixels));
    slot_first_.resize(static_cast<std::size_t>(slots));
    slot_last_.resize(static_cast<std::size_t>(slots));
    for (int64_t pixel = 0; pixel < pixels; ++pixel) {
      const int64_t from = nearest_covered(pixel, grid, pixels, blocks);
      const bool wide = from % blocks.stride < axis_.remainder;
      const auto slot = static_cast<std::size_t>(from / blocks.stride + (wide ? 0 : axis_.cells));
      const bool filled = from != pixel && !blocks.fill_nearest;
      slot_[static_cast<std::size_t>(pixel)] = static_cast<std::int32_t>(filled ? slots : slot);
      if (filled) continue;
      if (slot_last_[slot] == 0) slot_first_[slot] = pixel;
      slot_last_[slot] = pixel + 1;
    }
    axis_.count = count_.data();
    axis_.slot = slot_.data();
    axis_.slot_first = slot_first_.data();
    axis_.slot_last = slot_last_.data();
  }

  const block_axis<T>& get() const { return axis_; }

 private:
  block_axis<T> axis_;
  std::vector<T> count_;
  std::vector<std::int32_t> slot_;
  std::vector<int64_t> slot_first_, slot_last_;
};

// out[j] = sum over the slots that block j covers of slot sum / count: what each of its pixels gives to it. add(slot,
// out) adds the pixels of a slot, divided by its count; windows of cells are summed by doubling, `lines` of n elements.
// ...
}  // namespace

template <class T>
void aggregate_blocks(image_view<const T> scores, const block_grid& grid, image_view<T> out, stream_handle) {
  if (scores.empty() || out.empty()) return;
  const axis_tables<T> rows(scores.rows, out.rows, grid), cols(scores.cols, out.cols, grid);
  const block_task<T> task{rows.get(), cols.get(), static_cast<T>(grid.fill_value)};
  const block_kernels<T> kernels = choose_kernels<T>();

  const int64_t band = std::max(kBandCells, 2 * task.y.narrow);
  const int64_t bands = (task.y.cells + band - 1) / band;
  parallel_for(out.batch * bands, [&](int64_t i) {
    const int64_t first = i % bands * band, last = std::min(first + band, task.y.cells);
    const std::unique_ptr<T[]> scratch(new T[static_cast<std::size_t>(aggregate_scratch(task, last - first))]);
    kernels.aggregate(task, scores, out, i / bands, first, last, scratch.get());
  });

  // Rows that no block covers: copies of the nearest covered row, or the constant.
  const bool gaps = grid.block < grid.stride;
  const int64_t first_uncovered = gaps ? 0 : task.y.covered;
  if (first_uncovered == out.rows) return;
  const int64_t fill_bands = (out.rows - first_uncovered + kBandRows - 1) / kBandRows;
  parallel_for(out.batch * fill_bands, [&](int64_t i) {
    const int64_t first = first_uncovered + i % fill_bands * kBandRows, last = std::min(first + kBandRows, out.rows);
    for (int64_t y = first; y < last; ++y) {
      const int64_t from = nearest_covered(y, scores.rows, out.rows, grid);
      if (from == y) continue;
      T* row = out.row(i / fill_bands, y);
      if (grid.fill_nearest) {
        std::copy_n(out.row(i / fill_bands, from), out.cols, row);
      } else {
        std::fill_n(row, out.cols, task.fill);
      }
    }
  });
}

}  // namespace nmfuse
