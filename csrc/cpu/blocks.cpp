#include "nmfuse/blocks.h"

#include <algorithm>
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
constexpr int64_t kBandColumns = 16, kDepthColumns = 128;

template <class T>
block_kernels<T> choose_kernels() {
  return dispatch_isa([](auto which) { return get_block_kernels<which(), T>(); });
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
  axis_tables(int64_t grid, int64_t pixels, block_grid blocks) {
    blocks.block = std::min(blocks.block, pixels);  // it is clipped there anyway
    if (grid == 1) blocks.stride = std::max(blocks.block, std::min(blocks.stride, pixels));  // no second block uses it
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
      const bool wide = slot < axis_.cells;
      const int64_t last = wide ? slot : slot - axis_.cells, first = last - axis_.narrow + (wide ? 0 : 1);
      const int64_t blocks_here = std::min(last, grid - 1) - std::max(first, int64_t{0}) + 1;
      count_[static_cast<std::size_t>(slot)] = static_cast<T>(std::max(blocks_here, int64_t{1}));
    }

    slot_.resize(static_cast<std::size_t>(pixels));
    slot_first_.resize(static_cast<std::size_t>(slots));
    slot_last_.resize(static_cast<std::size_t>(slots));
    int64_t cell = 0, offset = 0;  // of pixel; counted, for divisions would take longer than the sums of a small image
    for (int64_t pixel = 0; pixel < pixels; ++pixel) {
      int64_t slot = cell + (offset < axis_.remainder ? 0 : axis_.cells);
      if (pixel - std::min(cell, grid - 1) * blocks.stride >= blocks.block) {
        const int64_t from = nearest_covered(pixel, grid, pixels, blocks);
        slot = from / blocks.stride + (from % blocks.stride < axis_.remainder ? 0 : axis_.cells);
        if (!blocks.fill_nearest) slot = slots;
      }
      slot_[static_cast<std::size_t>(pixel)] = static_cast<std::int32_t>(slot);
      if (slot < slots) {
        if (slot_last_[static_cast<std::size_t>(slot)] == 0) slot_first_[static_cast<std::size_t>(slot)] = pixel;
        slot_last_[static_cast<std::size_t>(slot)] = pixel + 1;
      }
      if (++offset == blocks.stride) {
        offset = 0;
        ++cell;
      }
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

// The adjoint along one axis, for `width` neighbouring values at once: out[j] = sum of in[pixel] / count over the
// pixels that take part of their value from block j. With each slot's pixels added up and divided by its count, these
// are windows of cells c = j, j+1, ..., summed by doubling as in blocks_isa.cpp.
template <class T>
void gather_axis(const block_axis<T>& axis, const T* in, int64_t in_stride, int64_t width, T* out, int64_t out_stride) {
  const int64_t cells = axis.cells + axis.narrow + 1;  // windows end in cells of zeros
  const auto size = static_cast<std::size_t>(cells * width);
  std::vector<T> wide(size), both(size), windows;
  const auto add_slot = [&](int64_t slot, T* to) {
    for (int64_t pixel = axis.slot_first[slot]; pixel < axis.slot_last[slot]; ++pixel) {
      for (int64_t i = 0; i < width; ++i) to[i] += in[pixel * in_stride + i];
    }
    for (int64_t i = 0; i < width; ++i) to[i] /= axis.count[slot];
  };
  for (int64_t c = 0; c < axis.cells; ++c) {
    T *wide_here = wide.data() + c * width, *both_here = both.data() + c * width;
    add_slot(c, wide_here);
    add_slot(axis.cells + c, both_here);
    for (int64_t i = 0; i < width; ++i) both_here[i] += wide_here[i];
  }

  windows = both;
  int64_t w = 1, bit = 1;
  while (bit * 4 <= axis.narrow) bit *= 2;
  for (; bit > 0 && axis.narrow > 1; bit /= 2) {
    const bool odd = (axis.narrow & bit) != 0;
    const int64_t next = 2 * w + odd;
    for (int64_t i = 0; i < (cells - next + 1) * width; ++i) {  // upwards: windows[i + w * width] still has w cells
      windows[i] += windows[i + w * width] + (odd ? both[i + 2 * w * width] : T(0));
    }
    w = next;
  }
  for (int64_t j = 0; j < axis.grid; ++j) {
    for (int64_t i = 0; i < width; ++i) {
      const T narrow = axis.narrow > 0 ? windows[j * width + i] : T(0);
      out[j * out_stride + i] = narrow + wide[(j + axis.narrow) * width + i];
    }
  }
}

// Each plane by itself.
template <class T>
void aggregate_planes(const image_view<const T>& scores, const block_grid& grid, const image_view<T>& out) {
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

// body(plane, row) for all rows of some planes, several at once.
template <class Body>
void for_each_row(int64_t planes, int64_t rows, const Body& body) {
  const int64_t bands = (rows + kBandRows - 1) / kBandRows;
  parallel_for(planes * bands, [&](int64_t i) {
    const int64_t first = i % bands * kBandRows, last = std::min(first + kBandRows, rows);
    for (int64_t y = first; y < last; ++y) body(i / bands, y);
  });
}

// The mean of the planes of scores whose blocks reach each plane of pixels; zeros where none does.
template <class T>
void average_along_depth(const image_view<const T>& scores, const block_axis<T>& z, const image_view<T>& means) {
  const block_kernels<T> kernels = choose_kernels<T>();
  for_each_row(means.batch, means.rows, [&](int64_t plane, int64_t y) {
    const int64_t slot = z.slot[plane % z.pixels], volume = plane / z.pixels * z.grid;
    if (slot == 2 * z.cells) return static_cast<void>(std::fill_n(means.row(plane, y), means.cols, T(0)));
    const bool wide = slot < z.cells;
    const int64_t cell = wide ? slot : slot - z.cells;
    const int64_t first = std::max(cell - z.narrow + (wide ? 0 : 1), int64_t{0}), last = std::min(cell, z.grid - 1);
    kernels.average(scores, volume + first, volume + last + 1, y, means.row(plane, y));
  });
}

// The adjoint along the depth.
template <class T>
void gather_depth(const image_view<const T>& grad, const block_axis<T>& z, const image_view<T>& out) {
  const int64_t bands = (grad.cols + kDepthColumns - 1) / kDepthColumns;
  for_each_row(grad.batch / z.pixels * bands, grad.rows, [&](int64_t i, int64_t y) {
    const int64_t volume = i / bands, first = i % bands * kDepthColumns;
    gather_axis(z, grad.row(volume * z.pixels, y) + first, grad.batch_stride,
                std::min(kDepthColumns, grad.cols - first), out.row(volume * z.grid, y) + first, out.batch_stride);
  });
}

// Each plane by itself; `across` has room for (batch, rows of grad, columns of out).
template <class T>
void gather_planes(const image_view<const T>& grad, const block_grid& grid, const image_view<T>& out, T* across) {
  const axis_tables<T> rows(out.rows, grad.rows, grid), cols(out.cols, grad.cols, grid);
  const int64_t row_bands = (grad.rows + kBandRows - 1) / kBandRows;
  parallel_for(grad.batch * row_bands, [&](int64_t i) {
    const int64_t b = i / row_bands, first = i % row_bands * kBandRows;
    for (int64_t y = first; y < std::min(first + kBandRows, grad.rows); ++y) {
      gather_axis(cols.get(), grad.row(b, y), 1, 1, across + (b * grad.rows + y) * out.cols, 1);
    }
  });
  const int64_t column_bands = (out.cols + kBandColumns - 1) / kBandColumns;
  parallel_for(out.batch * column_bands, [&](int64_t i) {
    const int64_t b = i / column_bands, first = i % column_bands * kBandColumns;
    gather_axis(rows.get(), across + b * grad.rows * out.cols + first, out.cols,
                std::min(kBandColumns, out.cols - first), out.row(b, 0) + first, out.row_stride);
  });
}

}  // namespace

template <class T>
int64_t aggregate_blocks_workspace(int64_t batch, int64_t hs, int64_t ws, const block_depths& depths) {
  return depths.images() ? 0 : batch * depths.pixels * hs * ws * static_cast<int64_t>(sizeof(T));
}

template <class T>
void aggregate_blocks(image_view<const T> scores, const block_grid& grid, const block_depths& depths, image_view<T> out,
                      workspace_view workspace, stream_handle) {
  if (scores.empty() || out.empty()) return;
  require_depths(depths, scores.batch, out.batch);
  if (depths.images()) return aggregate_planes(scores, grid, out);
  const int64_t batch = out.batch / depths.pixels;
  require(workspace.bytes >= aggregate_blocks_workspace<T>(batch, scores.rows, scores.cols, depths),
          "workspace: smaller than aggregate_blocks_workspace tells");
  const axis_tables<T> z(depths.blocks, depths.pixels, grid);
  const auto means = compact_view<T>(workspace.data, out.batch, scores.rows, scores.cols);
  average_along_depth(scores, z.get(), means);
  aggregate_planes<T>(means, grid, out);
  if (grid.fill_nearest) return;
  for_each_row(out.batch, out.rows, [&](int64_t plane, int64_t y) {
    const bool covered = z.get().slot[plane % depths.pixels] < 2 * z.get().cells;
    if (!covered) std::fill_n(out.row(plane, y), out.cols, static_cast<T>(grid.fill_value));
  });
}

template <class T>
int64_t aggregate_blocks_adjoint_workspace(int64_t batch, int64_t, int64_t ws, int64_t rows, int64_t cols,
                                           const block_depths& depths) {
  const int64_t gathered = depths.images() ? 0 : cols;
  return batch * depths.blocks * rows * (gathered + ws) * static_cast<int64_t>(sizeof(T));
}

template <class T>
void aggregate_blocks_adjoint(image_view<const T> grad, const block_grid& grid, const block_depths& depths,
                              image_view<T> out, workspace_view workspace, stream_handle) {
  if (grad.empty() || out.empty()) return;
  require_depths(depths, out.batch, grad.batch);
  const int64_t batch = out.batch / depths.blocks;
  require(
      workspace.bytes >= aggregate_blocks_adjoint_workspace<T>(batch, out.rows, out.cols, grad.rows, grad.cols, depths),
      "workspace: smaller than aggregate_blocks_adjoint_workspace tells");
  T* const scratch = static_cast<T*>(workspace.data);
  if (depths.images()) return gather_planes(grad, grid, out, scratch);
  const axis_tables<T> z(depths.blocks, depths.pixels, grid);
  const auto gathered = compact_view<T>(scratch, out.batch, grad.rows, grad.cols);
  gather_depth(grad, z.get(), gathered);
  gather_planes<T>(gathered, grid, out, scratch + gathered.batch * gathered.batch_stride);
}

template int64_t aggregate_blocks_workspace<float>(int64_t, int64_t, int64_t, const block_depths&);
template int64_t aggregate_blocks_workspace<double>(int64_t, int64_t, int64_t, const block_depths&);
template void aggregate_blocks(image_view<const float>, const block_grid&, const block_depths&, image_view<float>,
                               workspace_view, stream_handle);
template void aggregate_blocks(image_view<const double>, const block_grid&, const block_depths&, image_view<double>,
                               workspace_view, stream_handle);
template int64_t aggregate_blocks_adjoint_workspace<float>(int64_t, int64_t, int64_t, int64_t, int64_t,
                                                           const block_depths&);
template int64_t aggregate_blocks_adjoint_workspace<double>(int64_t, int64_t, int64_t, int64_t, int64_t,
                                                            const block_depths&);
template void aggregate_blocks_adjoint(image_view<const float>, const block_grid&, const block_depths&,
                                       image_view<float>, workspace_view, stream_handle);
template void aggregate_blocks_adjoint(image_view<const double>, const block_grid&, const block_depths&,
                                       image_view<double>, workspace_view, stream_handle);

}  // namespace nmfuse
