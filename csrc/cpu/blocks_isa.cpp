// Window sums over the block grid by doubling: a sum of width 2w is two of width w, so the cost does not grow with the
// block, and unlike running sums they neither drift nor carry a NaN on. Outside the grid scores count as 0.
// Loops are plain so that the compiler vectorises them; see hannmean_isa.cpp for what must not be used here.
#include "cpu/blocks_isa.h"

#include <cstring>

#include "cpu/simd.h"

namespace nmfuse::NMFUSE_ISA {
namespace {

using std::int64_t;

template <class T>
void copy_row(const T* from, int64_t count, T* to) {
  std::memcpy(to, from, static_cast<std::size_t>(count) * sizeof(T));
}

template <class T>
void clear_row(int64_t count, T* to) {
  for (int64_t x = 0; x < count; ++x) to[x] = 0;
}

template <class T>
void add_row(const T* __restrict from, int64_t count, T* __restrict to) {
  for (int64_t x = 0; x < count; ++x) to[x] += from[x];
}

// The bit of `width` below its highest one that is highest; 0 for widths 0 and 1.
int64_t second_bit(int64_t width) {
  int64_t bit = 1;
  while (bit * 4 <= width) bit *= 2;
  return width < 2 ? 0 : bit;
}

// rows[c - first], of `count` scores each, becomes the sum over grid rows c-width+1..c for c in [first + width - 1,
// last). `first` may be negative.
template <class T>
void sum_down(const image_view<const T>& scores, int64_t b, int64_t width, int64_t first, int64_t last, T* rows) {
  const int64_t count = scores.cols;
  const auto inside = [&](int64_t c) { return 0 <= c && c < scores.rows; };
  for (int64_t c = first; c < last; ++c) {
    T* row = rows + (c - first) * count;
    if (inside(c)) {
      copy_row(scores.row(b, c), count, row);
    } else {
      clear_row(count, row);
    }
  }
  int64_t w = 1;
  for (int64_t bit = second_bit(width); bit > 0; bit /= 2) {
    const int64_t odd = (width & bit) != 0;
    for (int64_t c = last - 1; c >= first + 2 * w + odd - 1; --c) {  // downwards: row c - w still has width w
      T* row = rows + (c - first) * count;
      add_row(row - w * count, count, row);
      if (odd && inside(c - 2 * w)) add_row(scores.row(b, c - 2 * w), count, row);
    }
    w = 2 * w + odd;
  }
}

// Returns the sums of `width` values that end at each cell, in one of the two lines. All lines have `width` or more
// zeros before their first value, and `values` reaches to `cells` with zeros.
template <class T>
T* sum_across(const T* values, int64_t width, int64_t cells, T* line, T* other) {
  if (width == 0) {
    clear_row(cells, line);
    return line;
  }
  copy_row(values, cells, line);
  int64_t w = 1;
  for (int64_t bit = second_bit(width); bit > 0; bit /= 2) {
    const bool odd = (width & bit) != 0;
    const T* __restrict from = line;
    T* __restrict to = other;
    if (odd) {
      for (int64_t c = 0; c < cells; ++c) to[c] = from[c] + from[c - w] + values[c - 2 * w];
    } else {
      for (int64_t c = 0; c < cells; ++c) to[c] = from[c] + from[c - w];
    }
    other = line;
    line = to;
    w = 2 * w + odd;
  }
  return line;
}

template <class T>
void divide_row(const T* __restrict sums, const T* __restrict count_x, T count_y, int64_t cells, T* __restrict means) {
  for (int64_t c = 0; c < cells; ++c) means[c] = sums[c] / (count_x[c] * count_y);
}

template <int kStride, class T>
void repeat_cells(const T* __restrict means, int64_t cells, T* __restrict out) {
  for (int64_t c = 0; c < cells; ++c) {
#pragma GCC unroll 4
    for (int o = 0; o < kStride; ++o) out[kStride * c + o] = means[c];
  }
}

// out[x] = means[slot[x]]; the cells that stride divides, in whole, without looking up.
template <class T>
void expand_row(const block_axis<T>& axis, const T* __restrict means, T* __restrict out) {
  int64_t done = 0;
  if (axis.remainder == 0 && axis.narrow > 0) {
    const int64_t whole = axis.covered / axis.stride;
    const T* narrow = means + axis.cells;
    done = whole * axis.stride;
    switch (axis.stride) {
      case 1: copy_row(narrow, whole, out); break;
      case 2: repeat_cells<2>(narrow, whole, out); break;
      case 4: repeat_cells<4>(narrow, whole, out); break;
      default: done = 0;
    }
  }
  for (int64_t x = done; x < axis.pixels; ++x) out[x] = means[axis.slot[x]];
}

template <class T>
void scale_row(T count, int64_t cells, T* __restrict to) {
  for (int64_t x = 0; x < cells; ++x) to[x] /= count;
}

template <class T>
void average(const image_view<const T>& scores, int64_t first, int64_t last, int64_t row, T* to) {
  copy_row(scores.row(first, row), scores.cols, to);
  for (int64_t plane = first + 1; plane < last; ++plane) add_row(scores.row(plane, row), scores.cols, to);
  scale_row(static_cast<T>(last - first), scores.cols, to);
}

template <class T>
void aggregate(const block_task<T>& task, const image_view<const T>& scores, const image_view<T>& out, int64_t b,
               int64_t first, int64_t last, T* scratch) {
  const block_axis<T>&y = task.y, &x = task.x;
  const int64_t pad = x.narrow + 1;
  const int64_t above = y.narrow > 0 ? y.narrow - 1 : 0;
  T* rows = scratch;
  T* sums = rows + (last - first + y.narrow) * x.grid;
  T* values = sums + x.grid + pad;
  T* line = values + x.cells + pad;
  T* other = line + x.cells + pad;
  T* means = other + x.cells;
  T* pixels = means + 2 * x.cells + 1;
  const bool streams = exceeds_caches(out);
  clear_row(pad, values - pad);
  clear_row(pad, line - pad);
  clear_row(pad, other - pad);
  clear_row(x.cells, values);
  means[2 * x.cells] = task.fill;

  const bool kinds[] = {true, false};
  sum_down(scores, b, y.narrow, first - above, last, rows);
  for (int64_t c = first; c < last; ++c) {
    const T* narrow = rows + (c - first + above) * x.grid;
    // The pixel rows of a cell: those under one block more, then the others.
    const int64_t top = c * y.stride, middle = top + y.remainder, bottom = top + y.stride;
    for (const bool wide : kinds) {
      const int64_t begin = wide ? top : middle;
      int64_t end = wide || y.narrow == 0 ? middle : bottom;
      if (end > y.covered) end = y.covered;
      if (begin >= end) continue;
      const T* source = narrow;
      if (wide) {
        if (y.narrow > 0) {
          copy_row(narrow, x.grid, sums);
        } else {
          clear_row(x.grid, sums);
        }
        const int64_t j = c - y.narrow;
        if (0 <= j && j < y.grid) add_row(scores.row(b, j), x.grid, sums);
        source = sums;
      }
      const T count_y = y.count[wide ? c : y.cells + c];
      copy_row(source, x.grid, values);
      T* windows = sum_across(values, x.narrow, x.cells, line, other);
      divide_row(windows, x.count + x.cells, count_y, x.cells, means + x.cells);
      if (x.remainder > 0) {
        add_row(values - x.narrow, x.cells, windows);
        divide_row(windows, x.count, count_y, x.cells, means);
      }
      if (streams) {
        expand_row(x, means, pixels);
        for (int64_t row = begin; row < end; ++row) stream(pixels, x.pixels, out.row(b, row));
      } else {
        T* first_row = out.row(b, begin);
        expand_row(x, means, first_row);
        for (int64_t row = begin + 1; row < end; ++row) copy_row(first_row, x.pixels, out.row(b, row));
      }
    }
  }
  finish_streaming();
}

}  // namespace
}  // namespace nmfuse::NMFUSE_ISA

namespace nmfuse {

template <isa kIsa, class T>
block_kernels<T> get_block_kernels() {
  return {&NMFUSE_ISA::average<T>, &NMFUSE_ISA::aggregate<T>};
}

template block_kernels<float> get_block_kernels<kThisIsa, float>();
template block_kernels<double> get_block_kernels<kThisIsa, double>();

}  // namespace nmfuse
