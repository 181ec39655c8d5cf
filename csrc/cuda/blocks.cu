// Pixels that the same blocks cover form a cell, and a cell's value is the mean of the scores in a window of the block
// grid. A CUDA block owns a tile of cells: each thread sums a few columns of scores vertically, straight from memory
// into registers; the sums meet in shared memory, where the same thread sums them horizontally; the number of scores
// follows from the indices. Then all threads write the tile's pixels, row by row. No running sums: they drift and
// spread NaN.
#include <cuda_runtime.h>

#include <algorithm>

#include "cuda/launch.h"
#include "cuda/shared.h"
#include "cuda/tiles.h"
#include "nmfuse/blocks.h"

namespace nmfuse {
namespace {

using std::int64_t;

// Blocks that cover a pixel, or scores that make a cell: [first, last].
struct index_range {
  int64_t first, last;
  __device__ int64_t count() const { return last - first + 1; }
};

// Blocks and pixels along one axis. Within a stride, the first block % stride pixels lie in one block more than the
// others, so there are two cells a stride unless the stride divides the block.
struct block_axis {
  int64_t block, stride, blocks, pixels;
  bool nearest;
  int64_t per_block, rest;  // block / stride, block % stride

  __host__ __device__ int64_t cells_each() const { return rest == 0 ? 1 : 2; }

  // The covered pixel nearest to p; of two, the lower.
  __device__ int64_t nearest_covered(int64_t p) const {
    const int64_t last = (blocks - 1) * stride + block - 1;
    if (p >= last) return last;
    if (block >= stride) return p;
    const int64_t offset = p % stride;
    if (offset < block) return p;
    const int64_t below = p - offset + block - 1, above = p - offset + stride;
    return p - below <= above - p ? below : above;
  }

  __device__ int64_t cell_of(int64_t covered) const {
    const int64_t c = covered / stride;
    return rest == 0 ? c : 2 * c + (covered - c * stride < rest ? 0 : 1);
  }

  // The scores of a cell, before the grid's border is respected.
  __device__ index_range window_of(int64_t cell) const {
    if (rest == 0) return {cell - per_block + 1, cell};
    return {cell / 2 - per_block + cell % 2, cell / 2};
  }

  __device__ index_range inside(index_range range) const {
    return {max(range.first, int64_t{0}), min(range.last, blocks - 1)};
  }

  __device__ int64_t scores_of(int64_t cell) const { return inside(window_of(cell)).count(); }

  // The cell that pixel p takes its value from, counted from first_cell; -1 if p is not covered and shall be filled.
  __device__ int locate(int64_t p, int64_t first_cell) const {
    const int64_t covered = nearest_covered(p);
    return p == covered || nearest ? static_cast<int>(cell_of(covered) - first_cell) : -1;
  }

  // Pixels [first, last] that block j gives a share to: those it covers and those that take their value from there.
  __device__ index_range pixels_of(int64_t j) const {
    const int64_t first = j * stride, last = j * stride + block - 1;
    if (!nearest) return {first, min(last, pixels - 1)};
    const int64_t lower_half = block < stride ? (stride + block - 1) / 2 : block - 1;  // offsets up to here
    const int64_t begin = block < stride ? first - stride + lower_half + 1 : first;
    return {j == 0 ? 0 : begin, j == blocks - 1 ? pixels - 1 : min(first + lower_half, pixels - 1)};
  }
};

constexpr int kColumnGroups = 64;
constexpr int kRowGroups = 4;
constexpr int kThreads = kColumnGroups * kRowGroups;
constexpr int kRows = 4;  // rows of cells for each thread
constexpr int kTileRows = kRows * kRowGroups;
constexpr int kAnyWindow = 0;  // a window of scores without a kernel of its own
constexpr int kMostPixelRows = 32, kMostPixelCols = 512;

template <class T>
constexpr int kWide = 16 / sizeof(T);  // columns for each thread
template <class T>
constexpr int kBufferCols = kWide<T> * kColumnGroups;

template <class T>
struct aggregate_arguments {
  image_view<const T> scores;
  image_view<T> out;
  block_axis down, across;
  T fill_value;
  int cell_cols;               // of a tile; kTileRows rows
  int pixel_rows, pixel_cols;  // of a tile
  tile_grid tiles;
  bool score_packs, pixel_packs;
};

// A window of `scores` scores a side, as far as it reaches left of its cell, in whole packs.
template <class T>
__host__ __device__ constexpr int margin_of(int scores) {
  return (scores + kWide<T> - 2) / kWide<T> * kWide<T>;
}

// Adds to sums the scores in the windows of the rows of cells from `cell` on, in columns column.. .
template <int kWindow, class T>
__device__ void sum_vertically(const aggregate_arguments<T>& args, int64_t batch, int64_t cell, int64_t column,
                               pack<T, kWide<T>> (&sums)[kRows]) {
  constexpr int wide = kWide<T>;
  const bool whole = args.score_packs && column >= 0 && column + wide <= args.scores.cols;
  const auto load = [&](int64_t row) {
    const T* scores = args.scores.row(batch, row) + column;
    if (whole) return *reinterpret_cast<const pack<T, wide>*>(scores);
    pack<T, wide> score;
#pragma unroll
    for (int e = 0; e < wide; ++e) {
      score.v[e] = column + e >= 0 && column + e < args.scores.cols ? scores[e] : T(0);
    }
    return score;
  };
  const auto add = [&](int r, const pack<T, wide>& score) {
#pragma unroll
    for (int e = 0; e < wide; ++e) sums[r].v[e] += score.v[e];
  };
  if constexpr (kWindow == kAnyWindow) {
    index_range windows[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) windows[r] = args.down.window_of(cell + r);
    const index_range rows = args.down.inside({windows[0].first, windows[kRows - 1].last});
    for (int64_t row = rows.first; row <= rows.last; ++row) {
      const auto score = load(row);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        if (windows[r].first <= row && row <= windows[r].last) add(r, score);
      }
    }
  } else {
    const int64_t top = cell - kWindow + 1;
#pragma unroll
    for (int j = 0; j < kRows + kWindow - 1; ++j) {
      if (top + j < 0 || top + j >= args.scores.rows) continue;
      const auto score = load(top + j);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        if (j >= r && j < r + kWindow) add(r, score);
      }
    }
  }
}

// Adds to total the columns of `buffer`, vertical sums from column `chunk` on, in the windows of the cells from `cell`.
template <int kWindow, class T>
__device__ void sum_horizontally(const block_axis& across, const shared_array<T>& buffer, int64_t chunk, int64_t cell,
                                 pack<T, kWide<T>>& total) {
  constexpr int wide = kWide<T>;
  if constexpr (kWindow == kAnyWindow) {
    index_range windows[wide];
#pragma unroll
    for (int o = 0; o < wide; ++o) windows[o] = across.window_of(cell + o);
    const int64_t first = max(windows[0].first - chunk, int64_t{0}) / wide * wide;
    const int64_t end = min(windows[wide - 1].last + 1 - chunk, int64_t{kBufferCols<T>});
    for (int64_t i = first; i < end; i += wide) {
      const auto part = buffer.template load<pack<T, wide>>(static_cast<int>(i));
#pragma unroll
      for (int e = 0; e < wide; ++e) {
        const int64_t column = chunk + i + e;
#pragma unroll
        for (int o = 0; o < wide; ++o) {
          if (windows[o].first <= column && column <= windows[o].last) total.v[o] += part.v[e];
        }
      }
    }
  } else {
    constexpr int margin = margin_of<T>(kWindow);
    const int first = static_cast<int>(cell - chunk) - margin;
#pragma unroll
    for (int q = 0; q <= margin; q += wide) {
      const auto part = buffer.template load<pack<T, wide>>(first + q);
#pragma unroll
      for (int e = 0; e < wide; ++e) {
#pragma unroll
        for (int o = 0; o < wide; ++o) {
          const int back = margin + o - q - e;  // from the cell
          if (back >= 0 && back < kWindow) total.v[o] += part.v[e];
        }
      }
    }
  }
}

// kWindow: the stride divides the block, kWindow times, and the windows of a tile fit the buffer.
template <int kWindow, class T>
__global__ void __launch_bounds__(kThreads) aggregate(const aggregate_arguments<T> args) {
  constexpr int wide = kWide<T>, buffer_cols = kBufferCols<T>;
  const int group = static_cast<int>(threadIdx.x) * wide, line = static_cast<int>(threadIdx.y) * kRows;
  shared_memory memory;
  const auto sums = memory.take<T>(kTileRows * buffer_cols, "sums");
  const auto means = memory.take<T>(kTileRows * buffer_cols, "means");
  const auto cell_row = memory.take<int>(kMostPixelRows, "cell_row");  // of each row of pixels; -1: not covered
  const auto cell_col = memory.take<int>(kMostPixelCols, "cell_col");

  for (int64_t tile = blockIdx.x; tile < args.tiles.count; tile += gridDim.x) {
    const auto at = args.tiles.at(tile);
    const int64_t y0 = at.row * args.pixel_rows, x0 = at.col * args.pixel_cols;
    const int64_t top = args.down.cell_of(args.down.nearest_covered(y0));
    int64_t left = args.across.cell_of(args.across.nearest_covered(x0));
    int64_t first_chunk, last_column;
    if constexpr (kWindow == kAnyWindow) {
      const index_range columns = args.across.inside(
          {args.across.window_of(left).first, args.across.window_of(left + args.cell_cols - 1).last});
      first_chunk = columns.first / wide * wide;
      last_column = columns.last;
    } else {
      left -= left % wide;  // only where all pixels lie beyond the last block
      first_chunk = left - margin_of<T>(kWindow);
      last_column = min(left + args.cell_cols, args.scores.cols) - 1;
    }

    pack<T, wide> totals[kRows] = {};
    for (int64_t chunk = first_chunk; chunk <= last_column; chunk += buffer_cols) {
      pack<T, wide> partial[kRows] = {};
      const int64_t column = chunk + group;
      if (column + wide > 0 && column <= last_column) {
        sum_vertically<kWindow>(args, at.batch, top + line, column, partial);
      }
#pragma unroll
      for (int r = 0; r < kRows; ++r) sums.store((line + r) * buffer_cols + group, partial[r]);
      __syncthreads();
      if (group < args.cell_cols) {
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
          const auto buffer = sums.slice((line + r) * buffer_cols, buffer_cols);
          sum_horizontally<kWindow>(args.across, buffer, chunk, left + group, totals[r]);
        }
      }
      __syncthreads();
    }

    T cols[wide];
#pragma unroll
    for (int o = 0; o < wide; ++o) cols[o] = static_cast<T>(args.across.scores_of(left + group + o));
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const T rows = static_cast<T>(args.down.scores_of(top + line + r));
      pack<T, wide> mean;
#pragma unroll
      for (int o = 0; o < wide; ++o) mean.v[o] = totals[r].v[o] / (rows * cols[o]);  // no pixel reads a 0 / 0
      means.store((line + r) * buffer_cols + group, mean);
    }
    const int thread = static_cast<int>(threadIdx.y) * kColumnGroups + static_cast<int>(threadIdx.x);
    for (int i = thread; i < args.pixel_rows; i += kThreads) cell_row[i] = args.down.locate(y0 + i, top);
    for (int i = thread; i < args.pixel_cols; i += kThreads) cell_col[i] = args.across.locate(x0 + i, left);
    __syncthreads();

    for (int r = static_cast<int>(threadIdx.y); r < args.pixel_rows && y0 + r < args.out.rows; r += kRowGroups) {
      T* out = args.out.row(at.batch, y0 + r) + x0;
      const int row = cell_row[r];
      const int end = static_cast<int>(min(int64_t{args.pixel_cols}, args.out.cols - x0));
      const auto value = [&](int col) -> T {
        if (row < 0 || col < 0) return args.fill_value;
        return means[row * buffer_cols + col];
      };
      for (int i = group; i < end; i += buffer_cols) {
        if (args.pixel_packs && i + wide <= end) {
          const auto col = cell_col.template load<pack<int, wide>>(i);
          pack<T, wide> pixels;
#pragma unroll
          for (int e = 0; e < wide; ++e) pixels.v[e] = value(col.v[e]);
          *reinterpret_cast<pack<T, wide>*>(out + i) = pixels;
        } else {
          for (int e = i; e < i + wide && e < end; ++e) out[e] = value(cell_col[e]);
        }
      }
    }
    __syncthreads();
  }
}

block_axis make_axis(const block_grid& grid, int64_t blocks, int64_t pixels) {
  // No larger than matters: a stride that no second block uses, a block that ends far outside.
  const int64_t block = std::min(grid.block, pixels);
  const int64_t stride = blocks == 1 ? std::max(block, std::min(grid.stride, pixels)) : grid.stride;
  return {block, stride, blocks, pixels, grid.fill_nearest, block / stride, block % stride};
}

// Pixels along a tile that has room for `cells`; a gap between blocks may take its value from the next cells.
int64_t tile_pixels(const block_axis& axis, int64_t cells, int64_t most) {
  const bool gaps = axis.block < axis.stride;
  const int64_t strides = cells / axis.cells_each() - (gaps ? 1 : 0);
  return axis.stride > most ? most : std::min(strides, most / axis.stride) * axis.stride;
}

template <int kWindow, class T>
void launch_aggregate(aggregate_arguments<T> args, stream_handle stream) {
  args.cell_cols = kBufferCols<T>;
  int64_t unit = 1;  // the width of a tile is a multiple of it
  if (kWindow != kAnyWindow) {
    args.cell_cols -= margin_of<T>(kWindow);
    unit = kWide<T> * args.across.stride;
  }
  args.pixel_rows = static_cast<int>(tile_pixels(args.down, kTileRows, kMostPixelRows));
  args.pixel_cols = static_cast<int>(tile_pixels(args.across, args.cell_cols, kMostPixelCols) / unit * unit);
  args.tiles = tile_grid(args.out.batch, args.out.rows, args.out.cols, args.pixel_rows, args.pixel_cols);
  args.score_packs = takes_packs<kWide<T>>(args.scores);
  args.pixel_packs = takes_packs<kWide<T>>(args.out) && args.pixel_cols % kWide<T> == 0;
  const std::size_t bytes = 2 * shared_bytes<T>(kTileRows * kBufferCols<T>) + shared_bytes<int>(kMostPixelRows) +
                            shared_bytes<int>(kMostPixelCols);
  launch("aggregate_blocks", aggregate<kWindow, T>, grid_for(args.tiles.count), dim3(kColumnGroups, kRowGroups), bytes,
         stream, args);
}

// ---- What works along one axis, a thread for each element of `to`.

template <class T>
struct axis_arguments {
  image_view<const T> from;
  image_view<T> to;
  block_axis axis;
  T fill_value;
  tile_grid tiles;
};

template <class T>
void launch_along_axis(const char* name, void (*kernel)(axis_arguments<T>), axis_arguments<T> args,
                       stream_handle stream) {
  args.tiles = tile_grid(args.to.batch, args.to.rows, args.to.cols, 1, kThreads);
  launch(name, kernel, grid_for(args.tiles.count), kThreads, 0, stream, args);
}

// The mean of the planes of scores whose blocks reach each plane of pixels; zeros where none does.
template <class T>
__global__ void __launch_bounds__(kThreads) average_along_depth(const axis_arguments<T> args) {
  for (int64_t tile = blockIdx.x; tile < args.tiles.count; tile += gridDim.x) {
    const auto at = args.tiles.at(tile);
    const int64_t col = at.col * kThreads + threadIdx.x;
    if (col >= args.to.cols) continue;
    const int64_t volume = at.batch / args.axis.pixels * args.axis.blocks;
    const int cell = args.axis.locate(at.batch % args.axis.pixels, 0);
    const index_range planes = args.axis.inside(args.axis.window_of(cell));
    T sum = 0;
    for (int64_t j = planes.first; j <= planes.last && cell >= 0; ++j) {
      sum += args.from.row(volume + j, at.row)[col];
    }
    args.to.row(at.batch, at.row)[col] = cell < 0 ? T(0) : sum / static_cast<T>(planes.count());
  }
}

// Writes the constant to planes that no block reaches.
template <class T>
__global__ void __launch_bounds__(kThreads) fill_planes(const axis_arguments<T> args) {
  for (int64_t tile = blockIdx.x; tile < args.tiles.count; tile += gridDim.x) {
    const auto at = args.tiles.at(tile);
    const int64_t col = at.col * kThreads + threadIdx.x;
    if (col >= args.to.cols || args.axis.locate(at.batch % args.axis.pixels, 0) >= 0) continue;
    args.to.row(at.batch, at.row)[col] = args.fill_value;
  }
}

// Adjoint: the operator is a product of one for each axis, so the gradient is gathered along the depth, down, across.
enum class direction { depth, down, across };

template <direction kDirection, class T>
__global__ void __launch_bounds__(kThreads) gather(const axis_arguments<T> args) {
  for (int64_t tile = blockIdx.x; tile < args.tiles.count; tile += gridDim.x) {
    const auto at = args.tiles.at(tile);
    const int64_t col = at.col * kThreads + threadIdx.x;
    if (col >= args.to.cols) continue;
    const int64_t volume = at.batch / args.axis.blocks * args.axis.pixels;  // for the depth alone
    const int64_t block = kDirection == direction::depth  ? at.batch % args.axis.blocks
                          : kDirection == direction::down ? at.row
                                                          : col;
    const index_range pixels = args.axis.pixels_of(block);
    T sum = 0;
    for (int64_t p = pixels.first; p <= pixels.last; ++p) {
      const T value = kDirection == direction::depth  ? args.from.row(volume + p, at.row)[col]
                      : kDirection == direction::down ? args.from.row(at.batch, p)[col]
                                                      : args.from.row(at.batch, at.row)[p];
      sum += value / static_cast<T>(args.axis.scores_of(args.axis.cell_of(args.axis.nearest_covered(p))));
    }
    args.to.row(at.batch, at.row)[col] = sum;
  }
}

// Each plane by itself.
template <class T>
void aggregate_planes(image_view<const T> scores, const block_grid& grid, image_view<T> out, stream_handle stream) {
  aggregate_arguments<T> args{};
  args.scores = scores;
  args.out = out;
  args.down = make_axis(grid, scores.rows, out.rows);
  args.across = make_axis(grid, scores.cols, out.cols);
  args.fill_value = static_cast<T>(grid.fill_value);
  constexpr int usual = 8;  // blocks of 16 at stride 2
  const auto is_usual = [](const block_axis& axis) { return axis.block == usual * axis.stride && axis.stride <= 64; };
  if (is_usual(args.down) && is_usual(args.across)) return launch_aggregate<usual>(args, stream);
  launch_aggregate<kAnyWindow>(args, stream);
}

}  // namespace

template <class T>
int64_t aggregate_blocks_workspace(int64_t batch, int64_t hs, int64_t ws, const block_depths& depths) {
  return depths.images() ? 0 : batch * depths.pixels * hs * ws * static_cast<int64_t>(sizeof(T));
}

template <class T>
void aggregate_blocks(image_view<const T> scores, const block_grid& grid, const block_depths& depths, image_view<T> out,
                      workspace_view workspace, stream_handle stream) {
  if (scores.empty() || out.empty()) return;
  require_depths(depths, scores.batch, out.batch);
  if (depths.images()) return aggregate_planes(scores, grid, out, stream);
  const int64_t batch = out.batch / depths.pixels;
  require(workspace.bytes >= aggregate_blocks_workspace<T>(batch, scores.rows, scores.cols, depths),
          "workspace: smaller than aggregate_blocks_workspace tells");
  const block_axis depth = make_axis(grid, depths.blocks, depths.pixels);
  const auto means = compact_view<T>(workspace.data, out.batch, scores.rows, scores.cols);
  launch_along_axis("aggregate_blocks (depth)", average_along_depth<T>,
                    axis_arguments<T>{scores, means, depth, T(0), {}}, stream);
  aggregate_planes<T>(means, grid, out, stream);
  if (grid.fill_nearest) return;
  launch_along_axis("aggregate_blocks (fill)", fill_planes<T>,
                    axis_arguments<T>{{}, out, depth, static_cast<T>(grid.fill_value), {}}, stream);
}

template <class T>
int64_t aggregate_blocks_adjoint_workspace(int64_t batch, int64_t hs, int64_t, int64_t rows, int64_t cols,
                                           const block_depths& depths) {
  const int64_t gathered = depths.images() ? 0 : rows;
  return batch * depths.blocks * (gathered + hs) * cols * static_cast<int64_t>(sizeof(T));
}

template <class T>
void aggregate_blocks_adjoint(image_view<const T> grad, const block_grid& grid, const block_depths& depths,
                              image_view<T> out, workspace_view workspace, stream_handle stream) {
  if (grad.empty() || out.empty()) return;
  require_depths(depths, out.batch, grad.batch);
  const int64_t batch = out.batch / depths.blocks;
  require(
      workspace.bytes >= aggregate_blocks_adjoint_workspace<T>(batch, out.rows, out.cols, grad.rows, grad.cols, depths),
      "workspace: smaller than aggregate_blocks_adjoint_workspace tells");
  T* scratch = static_cast<T*>(workspace.data);
  if (!depths.images()) {
    const auto gathered = compact_view<T>(scratch, out.batch, grad.rows, grad.cols);
    launch_along_axis("aggregate_blocks_adjoint (depth)", gather<direction::depth, T>,
                      axis_arguments<T>{grad, gathered, make_axis(grid, depths.blocks, depths.pixels), T(0), {}},
                      stream);
    scratch += gathered.batch * gathered.batch_stride;
    grad = gathered;
  }
  const auto columns = compact_view<T>(scratch, grad.batch, out.rows, grad.cols);
  launch_along_axis("aggregate_blocks_adjoint (down)", gather<direction::down, T>,
                    axis_arguments<T>{grad, columns, make_axis(grid, out.rows, grad.rows), T(0), {}}, stream);
  launch_along_axis("aggregate_blocks_adjoint (across)", gather<direction::across, T>,
                    axis_arguments<T>{columns, out, make_axis(grid, out.cols, grad.cols), T(0), {}}, stream);
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
