// K = h h' is separable. A block owns a tile: each thread sums a few columns vertically, straight from memory into
// registers, for several rows at once; the sums meet in shared memory, and the same thread sums them horizontally.
// So a pixel is read once, but for the margins that neighbouring tiles share in cache, and written once. In a volume,
// what a thread reads is already the sum along the depth: each pixel is read by as many planes as the window is long.
#include <cuda_runtime.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <type_traits>

#include "cuda/launch.h"
#include "cuda/shared.h"
#include "cuda/tiles.h"
#include "nmfuse/hannmean.h"

namespace nmfuse {
namespace {

using std::int64_t;
using std::uint8_t;

template <class T>
using sum_type = std::conditional_t<std::is_same_v<T, double>, double, float>;

template <class A>
struct hann_window {
  int size;
  A taps[kMaxHannSize];
  A scale;  // a sum times it is the mean
};

template <class T>
hann_window<sum_type<T>> make_window(int size, int64_t depth) {
  using A = sum_type<T>;
  hann_window<A> window{size, {}, 1};
  if (std::is_integral_v<T> && size == kWholeSize) {
    for (int i = 0; i < size; ++i) window.taps[i] = static_cast<A>(kWholeTaps[std::abs(i - size / 2)]);
    window.scale = A(1) / static_cast<A>(kWholeSum * kWholeSum * (depth > 1 ? kWholeSum : 1));
    return window;
  }
  const double pi = 3.14159265358979323846;
  // The raw window sums to (size + 1) / 2.
  for (int i = 0; i < size; ++i) {
    window.taps[i] = static_cast<A>((1 - std::cos(2 * pi * (i + 1) / (size + 1))) / (size + 1));
  }
  return window;
}

enum class job {
  mean,           // out = K x
  weighted_mean,  // out = K m x / K m
  share,          // share = grad / K m, or 0 where the pixel keeps its value; out = grad there, else 0
  collect,        // out = K share on reliable pixels; the others are as `share` left them
};

template <class T>
struct smooth_arguments {
  image_view<const T> x;  // share: the gradient; collect: the shares
  image_view<const uint8_t> reliability;
  image_view<T> out;
  image_view<T> share;
  hann_window<sum_type<T>> window;
  int64_t depth;  // planes of a volume; 1 for images
  tile_grid tiles;
  bool packs;  // all images take packs
};

constexpr int kAnySize = 0;  // a window size without a kernel of its own
constexpr int kAnySizeOfVolume = -1;
constexpr int kColumnGroups = 64;
constexpr int kRowGroups = 4;
constexpr int kSmoothThreads = kColumnGroups * kRowGroups;

// The shape of a tile: a thread sums kWide columns of kRows rows; `margin` columns at each side feed the window.
template <job kJob, int kSize, class T>
struct smooth_tile {
  using sum = sum_type<T>;
  static constexpr bool two_sums = kJob == job::weighted_mean;
  static constexpr int wide = 16 / sizeof(sum);
  static constexpr int rows_each = two_sums ? 4 : 8;
  static constexpr int rows = rows_each * kRowGroups;
  static constexpr int buffer_cols = wide * kColumnGroups;

  __host__ __device__ static constexpr int size(int any) { return kSize > 0 ? kSize : any; }
  __host__ __device__ static constexpr int margin(int any) { return (size(any) / 2 + wide - 1) / wide * wide; }
  __host__ __device__ static constexpr int cols(int any) { return buffer_cols - 2 * margin(any); }
  static std::size_t bytes() { return (two_sums ? 2 : 1) * shared_bytes<sum>(rows * buffer_cols); }
};

template <class T>
__device__ T to_pixel(sum_type<T> value) {
  if constexpr (std::is_floating_point_v<T>) {
    return value;
  } else {
    const float most = std::numeric_limits<T>::max();
    return static_cast<T>(min(max(rintf(value), 0.0F), most));
  }
}

// Reads what the vertical sums add up, in columns c.. of a row of a plane. kInside: they lie in the image and take
// packs.
template <bool kInside, job kJob, class T, class A, int kWide>
__device__ void read_row(const smooth_arguments<T>& args, int64_t plane, int64_t row, int64_t c, A (&value)[kWide],
                         A (&weight)[kWide]) {
  if constexpr (kJob != job::share) {
    const T* pixels = args.x.row(plane, row);
    if constexpr (kInside) {
      const auto pixel = *reinterpret_cast<const pack<T, kWide>*>(pixels + c);
#pragma unroll
      for (int e = 0; e < kWide; ++e) value[e] = static_cast<A>(pixel.v[e]);
    } else {
#pragma unroll
      for (int e = 0; e < kWide; ++e) value[e] = static_cast<A>(pixels[reflect(c + e, args.out.cols)]);
    }
  }
  if constexpr (kJob == job::weighted_mean || kJob == job::share) {
    const uint8_t* codes = args.reliability.row(plane, row);
    pack<uint8_t, kWide> code;
    if constexpr (kInside) {
      code = *reinterpret_cast<const pack<uint8_t, kWide>*>(codes + c);
    } else {
#pragma unroll
      for (int e = 0; e < kWide; ++e) code.v[e] = codes[reflect(c + e, args.out.cols)];
    }
#pragma unroll
    for (int e = 0; e < kWide; ++e) {
      const bool used = code.v[e] == kReliable;
      weight[e] = used ? A(1) : A(0);
      if (kJob == job::share || !used) value[e] = weight[e];  // selected, not multiplied: an ignored NaN is no more
    }
  }
}

// The same, summed along the depth of the volume that the plane lies in.
template <bool kInside, job kJob, class T, class A, int kWide>
__device__ void read_depth(const smooth_arguments<T>& args, int64_t plane, int64_t row, int64_t c, A (&value)[kWide],
                           A (&weight)[kWide]) {
  const int64_t z = plane % args.depth, volume = plane - z;
#pragma unroll
  for (int e = 0; e < kWide; ++e) value[e] = weight[e] = 0;
  for (int k = 0; k < args.window.size; ++k) {
    A one_value[kWide], one_weight[kWide];
    read_row<kInside, kJob>(args, volume + reflect(z + k - args.window.size / 2, args.depth), row, c, one_value,
                            one_weight);
#pragma unroll
    for (int e = 0; e < kWide; ++e) {
      value[e] += args.window.taps[k] * one_value[e];
      if constexpr (kJob == job::weighted_mean) weight[e] += args.window.taps[k] * one_weight[e];
    }
  }
}

// Adds to sums (and weights) of rows y.. the rows above and below them, in columns c.. . kInside: all of it lies in the
// image and takes packs.
template <bool kInside, job kJob, int kSize, class T, class A, int kRows, int kWide>
__device__ void sum_vertically(const smooth_arguments<T>& args, int64_t batch, int64_t y, int64_t c,
                               pack<A, kWide> (&sums)[kRows], pack<A, kWide> (&weights)[kRows]) {
  const int size = smooth_tile<kJob, kSize, T>::size(args.window.size);
#pragma unroll(kInside && (kSize > 0) ? kRows + kSize - 1 : 1)
  for (int j = 0; j < kRows + size - 1; ++j) {
    const int64_t wanted = y - size / 2 + j;
    const int64_t row = kInside ? wanted : reflect(wanted, args.out.rows);
    A value[kWide], weight[kWide];
    if constexpr (kSize == kAnySizeOfVolume) {
      read_depth<kInside, kJob>(args, batch, row, c, value, weight);
    } else {
      read_row<kInside, kJob>(args, batch, row, c, value, weight);
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int tap = j - r;
      if (tap < 0 || tap >= size) continue;
#pragma unroll
      for (int e = 0; e < kWide; ++e) {
        sums[r].v[e] += args.window.taps[tap] * value[e];
        if constexpr (kJob == job::weighted_mean) weights[r].v[e] += args.window.taps[tap] * weight[e];
      }
    }
  }
}

// The window sums of kWide pixels from a row of vertical sums; buffer[first] is margin columns left of the first pixel.
template <class Tile, class A>
__device__ pack<A, Tile::wide> sum_horizontally(const shared_array<A>& buffer, int first,
                                                const hann_window<A>& window) {
  constexpr int kWide = Tile::wide;
  const int size = Tile::size(window.size), margin = Tile::margin(window.size);
  pack<A, kWide> result{};
#pragma unroll
  for (int q = 0; q <= 2 * margin; q += kWide) {
    const auto sums = buffer.template load<pack<A, kWide>>(first + q);
#pragma unroll
    for (int e = 0; e < kWide; ++e) {
#pragma unroll
      for (int o = 0; o < kWide; ++o) {
        const int tap = q + e - margin + size / 2 - o;
        if (tap >= 0 && tap < size) result.v[o] += window.taps[tap] * sums.v[e];
      }
    }
  }
  return result;
}

// Writes the pixels c.. of row y from their window sums.
template <job kJob, class T, class A, int kWide>
__device__ void write_pixels(const smooth_arguments<T>& args, int64_t batch, int64_t y, int64_t c,
                             const pack<A, kWide>& sum, const pack<A, kWide>& weight) {
  T* out = args.out.row(batch, y) + c;
  const int count = static_cast<int>(min(int64_t{kWide}, args.out.cols - c));
  pack<T, kWide> pixels{};
  if constexpr (kJob == job::mean) {
#pragma unroll
    for (int e = 0; e < kWide; ++e) {
      pixels.v[e] = to_pixel<T>(std::is_integral_v<T> ? sum.v[e] * args.window.scale : sum.v[e]);
    }
  } else {
    const uint8_t* codes = args.reliability.row(batch, y) + c;
    if constexpr (kJob == job::collect) {
#pragma unroll
      for (int e = 0; e < kWide; ++e) {
        if (e < count && codes[e] == kReliable) out[e] = sum.v[e];
      }
      return;
    }
    const T* x = args.x.row(batch, y) + c;
#pragma unroll
    for (int e = 0; e < kWide; ++e) {
      if (e >= count) continue;
      const bool keeps = codes[e] == kBackground || weight.v[e] == 0;
      if constexpr (kJob == job::weighted_mean) {
        pixels.v[e] = keeps ? x[e] : to_pixel<T>(sum.v[e] / weight.v[e]);
      } else {
        args.share.row(batch, y)[c + e] = keeps ? T(0) : x[e] / static_cast<T>(weight.v[e]);
        pixels.v[e] = keeps ? x[e] : T(0);
      }
    }
  }
  if (args.packs && count == kWide) {
    *reinterpret_cast<pack<T, kWide>*>(out) = pixels;
  } else {
#pragma unroll
    for (int e = 0; e < kWide; ++e) {
      if (e < count) out[e] = pixels.v[e];
    }
  }
}

template <job kJob, int kSize, class T>
__global__ void __launch_bounds__(kSmoothThreads) smooth(const smooth_arguments<T> args) {
  using tile_type = smooth_tile<kJob, kSize, T>;
  using A = sum_type<T>;
  constexpr int kWide = tile_type::wide, kRows = tile_type::rows_each, kBuffer = tile_type::buffer_cols;
  const int half = tile_type::size(args.window.size) / 2, margin = tile_type::margin(args.window.size);
  const int64_t rows = args.out.rows, cols = args.out.cols;
  const int group = static_cast<int>(threadIdx.x) * kWide;  // first column of the buffer
  const int line = static_cast<int>(threadIdx.y) * kRows;   // first row of the tile

  shared_memory memory;
  const auto all_sums = memory.take<A>(tile_type::rows * kBuffer, "sums");
  const auto all_weights = tile_type::two_sums ? memory.take<A>(tile_type::rows * kBuffer, "weights") : all_sums;

  for (int64_t tile = blockIdx.x; tile < args.tiles.count; tile += gridDim.x) {
    const auto at = args.tiles.at(tile);
    const int64_t y = at.row * tile_type::rows + line;
    const int64_t c = at.col * tile_type::cols(args.window.size) - margin + group;

    pack<A, kWide> sums[kRows] = {}, weights[kRows] = {};
    if (y < rows && c + kWide > -half && c < cols + half) {
      if (args.packs && y >= half && y + kRows + half <= rows && c >= 0 && c + kWide <= cols) {
        sum_vertically<true, kJob, kSize>(args, at.batch, y, c, sums, weights);
      } else {
        sum_vertically<false, kJob, kSize>(args, at.batch, y, c, sums, weights);
      }
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int here = (line + r) * kBuffer + group;
      all_sums.store(here, sums[r]);
      if constexpr (tile_type::two_sums) all_weights.store(here, weights[r]);
    }
    __syncthreads();

    const bool owns = group >= margin && group < kBuffer - margin && c < cols;
    for (int r = 0; r < kRows && owns && y + r < rows; ++r) {
      const int first = (line + r) * kBuffer + group - margin;
      const auto sum = sum_horizontally<tile_type>(all_sums, first, args.window);
      if constexpr (tile_type::two_sums) {
        write_pixels<kJob>(args, at.batch, y + r, c, sum, sum_horizontally<tile_type>(all_weights, first, args.window));
      } else {
        write_pixels<kJob>(args, at.batch, y + r, c, sum, sum);
      }
    }
    __syncthreads();
  }
}

template <job kJob, int kSize, class T>
void launch_smooth(const char* name, smooth_arguments<T> args, stream_handle stream) {
  using tile_type = smooth_tile<kJob, kSize, T>;
  args.tiles =
      tile_grid(args.out.batch, args.out.rows, args.out.cols, tile_type::rows, tile_type::cols(args.window.size));
  args.packs = takes_packs<tile_type::wide>(args.out);
  if (args.x.data) args.packs = args.packs && takes_packs<tile_type::wide>(args.x);
  if (args.reliability.data) args.packs = args.packs && takes_packs<tile_type::wide>(args.reliability);
  launch(name, smooth<kJob, kSize, T>, grid_for(args.tiles.count), dim3(kColumnGroups, kRowGroups), tile_type::bytes(),
         stream, args);
}

template <job kJob, class T>
void smooth_any_size(const char* name, const smooth_arguments<T>& args, stream_handle stream) {
  if (args.depth > 1) return launch_smooth<kJob, kAnySizeOfVolume>(name, args, stream);
  switch (args.window.size) {
    case 3: return launch_smooth<kJob, 3>(name, args, stream);
    case 5: return launch_smooth<kJob, 5>(name, args, stream);
    case 7: return launch_smooth<kJob, 7>(name, args, stream);
    case 9: return launch_smooth<kJob, 9>(name, args, stream);
    case 15: return launch_smooth<kJob, 15>(name, args, stream);
    default: return launch_smooth<kJob, kAnySize>(name, args, stream);
  }
}

// Both halves of the adjoint.
template <int kSize, class T>
void share_and_collect(smooth_arguments<T> args, stream_handle stream) {
  launch_smooth<job::share, kSize>("hannmean_adjoint (share)", args, stream);
  args.x = args.share;
  launch_smooth<job::collect, kSize>("hannmean_adjoint (collect)", args, stream);
}

// ---- Outliers. The median is found exactly by bisection on the bits of the value: floating-point numbers are ordered
// as their bits are, so the rank-th smallest is built bit by bit from the top, each time by counting how many values of
// the window, in shared memory, are below. No sorting, no memory for a window of up to 63 x 63.

template <class A>
struct ordered_bits;
template <>
struct ordered_bits<float> {
  using bits = std::uint32_t;
};
template <>
struct ordered_bits<double> {
  using bits = std::uint64_t;
};

// The value with the given place in the order of all values, NaN apart.
template <class A>
__device__ A value_at(typename ordered_bits<A>::bits key) {
  using bits = typename ordered_bits<A>::bits;
  constexpr bits sign = bits{1} << (8 * sizeof(bits) - 1);
  const bits pattern = key & sign ? key ^ sign : ~key;
  A value;
  memcpy(&value, &pattern, sizeof(value));
  return value;
}

// The rank-th smallest value, from 0; count_below(v) tells how many are less than v.
template <class A, class CountBelow>
__device__ A select_rank(int rank, const CountBelow& count_below) {
  using bits = typename ordered_bits<A>::bits;
  bits key = 0;
  for (bits bit = bits{1} << (8 * sizeof(bits) - 1); bit != 0; bit >>= 1) {
    const A candidate = value_at<A>(key | bit);
    const bool above_all = (key | bit) > (bits{1} << (8 * sizeof(bits) - 1)) && candidate != candidate;
    if (!above_all && count_below(candidate) <= rank) key |= bit;
  }
  return value_at<A>(key);
}

// Of an even count the mean of the middle two.
template <class A, class CountBelow>
__device__ double median(int count, const CountBelow& count_below) {
  const double upper = select_rank<A>(count / 2, count_below);
  if (count % 2 == 1) return upper;
  return 0.5 * (select_rank<A>(count / 2 - 1, count_below) + upper);
}

// `size` values, of which count_if(counts) tells how many a function holds of; NaN are none of them.
template <class A, class CountIf>
__device__ bool is_outlier(A value, double k, const CountIf& count_if) {
  if (value != value) return true;
  const int count = count_if([](A other) { return other == other; });
  const double centre = median<A>(count, [&](A bound) { return count_if([=](A other) { return other < bound; }); });
  // In double, as the CPU: a deviation that is exactly the limit is no outlier.
  const double mad = median<double>(count, [&](double bound) {
    return count_if([=](A other) { return fabs(static_cast<double>(other) - centre) < bound; });
  });
  return fabs(static_cast<double>(value) - centre) > k * 1.4826 * mad;
}

template <class A>
__device__ A finite_or_nan(A value) {
  return value - value == 0 ? value : A(NAN);  // NaN is below nothing: not counted
}

constexpr int kOutlierCols = 32, kOutlierRows = 8;

template <class T>
struct outlier_arguments {
  image_view<const T> x;
  image_view<uint8_t> reliability;
  int size;
  int64_t depth;  // planes of a volume; 1 for images
  double k;
  tile_grid tiles;
};

template <class T>
__global__ void __launch_bounds__(kOutlierCols* kOutlierRows) mark_outliers(const outlier_arguments<T> args) {
  using A = sum_type<T>;
  const int half = args.size / 2, buffer_cols = kOutlierCols + 2 * half, buffer_rows = kOutlierRows + 2 * half;
  const int tx = static_cast<int>(threadIdx.x), ty = static_cast<int>(threadIdx.y);
  shared_memory memory;
  const auto buffer = memory.take<A>(buffer_rows * buffer_cols, "pixels");

  for (int64_t tile = blockIdx.x; tile < args.tiles.count; tile += gridDim.x) {
    const auto at = args.tiles.at(tile);
    const int64_t y = at.row * kOutlierRows + ty, c = at.col * kOutlierCols + tx;
    for (int r = ty; r < buffer_rows; r += kOutlierRows) {
      const T* row = args.x.row(at.batch, reflect(y - ty + r - half, args.x.rows));
      for (int i = tx; i < buffer_cols; i += kOutlierCols) {
        buffer[r * buffer_cols + i] = finite_or_nan(static_cast<A>(row[reflect(c - tx + i - half, args.x.cols)]));
      }
    }
    __syncthreads();

    if (y < args.x.rows && c < args.x.cols && args.reliability.row(at.batch, y)[c] == kReliable) {
      const auto count_if = [&](const auto& counts) {
        int count = 0;
        for (int r = ty; r < ty + args.size; ++r) {
          for (int i = tx; i < tx + args.size; ++i) {
            const A value = buffer[r * buffer_cols + i];
            count += counts(value) ? 1 : 0;
          }
        }
        return count;
      };
      const A value = buffer[(ty + half) * buffer_cols + tx + half];
      if (is_outlier(value, args.k, count_if)) args.reliability.row(at.batch, y)[c] = kUnreliable;
    }
    __syncthreads();
  }
}

// In a volume the window would not fit in shared memory: each count reads it anew, from the caches.
template <class T>
__global__ void __launch_bounds__(kOutlierCols* kOutlierRows) mark_outliers_of_volume(const outlier_arguments<T> args) {
  using A = sum_type<T>;
  const int half = args.size / 2;
  for (int64_t tile = blockIdx.x; tile < args.tiles.count; tile += gridDim.x) {
    const auto at = args.tiles.at(tile);
    const int64_t y = at.row * kOutlierRows + threadIdx.y, c = at.col * kOutlierCols + threadIdx.x;
    if (y >= args.x.rows || c >= args.x.cols || args.reliability.row(at.batch, y)[c] != kReliable) continue;
    const int64_t z = at.batch % args.depth, volume = at.batch - z;
    const auto count_if = [&](const auto& counts) {
      int count = 0;
      for (int64_t k = z - half; k <= z + half; ++k) {
        for (int64_t i = y - half; i <= y + half; ++i) {
          const T* row = args.x.row(volume + reflect(k, args.depth), reflect(i, args.x.rows));
          for (int64_t j = c - half; j <= c + half; ++j) {
            count += counts(finite_or_nan(static_cast<A>(row[reflect(j, args.x.cols)]))) ? 1 : 0;
          }
        }
      }
      return count;
    };
    const A value = finite_or_nan(static_cast<A>(args.x.row(at.batch, y)[c]));
    if (is_outlier(value, args.k, count_if)) args.reliability.row(at.batch, y)[c] = kUnreliable;
  }
}

void require_depth(int64_t planes, int64_t depth) {
  require(depth >= 1 && planes % depth == 0, "depth: does not divide the number of planes");
}

}  // namespace

template <class T>
void hannmean(image_view<const T> x, image_view<const uint8_t> reliability, int size, int64_t depth, image_view<T> out,
              stream_handle stream) {
  if (x.empty()) return;
  require_depth(x.batch, depth);
  smooth_arguments<T> args{x, reliability, out, {}, make_window<T>(size, depth), depth, {}, false};
  if (reliability.data == nullptr) return smooth_any_size<job::mean>("hannmean", args, stream);
  smooth_any_size<job::weighted_mean>("hannmean", args, stream);
}

template <class T>
int64_t hannmean_adjoint_workspace(int64_t batch, int64_t rows, int64_t cols) {
  return batch * rows * cols * static_cast<int64_t>(sizeof(T));
}

// With the edge pixel repeated, K is symmetric as a matrix: the images of pixel i lie as far from pixel k as the images
// of k from i. So K' = K, borders included, and the adjoint of (1/norm) K m is m K (1/norm).
template <class T>
void hannmean_adjoint(image_view<const T> grad, image_view<const uint8_t> reliability, int size, int64_t depth,
                      image_view<T> out, workspace_view workspace, stream_handle stream) {
  if (reliability.data == nullptr) return hannmean<T>(grad, reliability, size, depth, out, stream);
  if (grad.empty()) return;
  require_depth(grad.batch, depth);
  require(workspace.bytes >= hannmean_adjoint_workspace<T>(grad.batch, grad.rows, grad.cols),
          "workspace: smaller than hannmean_adjoint_workspace tells");
  const auto share = compact_view<T>(workspace.data, grad.batch, grad.rows, grad.cols);
  smooth_arguments<T> args{grad, reliability, out, share, make_window<T>(size, depth), depth, {}, false};
  if (depth > 1) return share_and_collect<kAnySizeOfVolume>(args, stream);
  share_and_collect<kAnySize>(args, stream);
}

template <class T>
void reject_outliers(image_view<const T> x, int size, int64_t depth, double k, image_view<uint8_t> reliability,
                     stream_handle stream) {
  if (x.empty()) return;
  require_depth(x.batch, depth);
  const outlier_arguments<T> args{x,     reliability, size,
                                  depth, k,           tile_grid(x.batch, x.rows, x.cols, kOutlierRows, kOutlierCols)};
  if (depth > 1) {
    return launch("reject_outliers", mark_outliers_of_volume<T>, grid_for(args.tiles.count),
                  dim3(kOutlierCols, kOutlierRows), 0, stream, args);
  }
  const int64_t buffer = int64_t{kOutlierRows + size - 1} * (kOutlierCols + size - 1);
  launch("reject_outliers", mark_outliers<T>, grid_for(args.tiles.count), dim3(kOutlierCols, kOutlierRows),
         shared_bytes<sum_type<T>>(buffer), stream, args);
}

using codes_view = image_view<const uint8_t>;
template void hannmean(image_view<const float>, codes_view, int, int64_t, image_view<float>, stream_handle);
template void hannmean(image_view<const double>, codes_view, int, int64_t, image_view<double>, stream_handle);
template void hannmean(image_view<const uint8_t>, codes_view, int, int64_t, image_view<uint8_t>, stream_handle);
template void hannmean(image_view<const std::uint16_t>, codes_view, int, int64_t, image_view<std::uint16_t>,
                       stream_handle);
template int64_t hannmean_adjoint_workspace<float>(int64_t, int64_t, int64_t);
template int64_t hannmean_adjoint_workspace<double>(int64_t, int64_t, int64_t);
template void hannmean_adjoint(image_view<const float>, codes_view, int, int64_t, image_view<float>, workspace_view,
                               stream_handle);
template void hannmean_adjoint(image_view<const double>, codes_view, int, int64_t, image_view<double>, workspace_view,
                               stream_handle);
template void reject_outliers(image_view<const float>, int, int64_t, double, image_view<uint8_t>, stream_handle);
template void reject_outliers(image_view<const double>, int, int64_t, double, image_view<uint8_t>, stream_handle);
template void reject_outliers(image_view<const uint8_t>, int, int64_t, double, image_view<uint8_t>, stream_handle);
template void reject_outliers(image_view<const std::uint16_t>, int, int64_t, double, image_view<uint8_t>,
                              stream_handle);

}  // namespace nmfuse
