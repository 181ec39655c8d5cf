// NMF on CUDA: one launch for many iterations, no float atomics, the same bits on every run.
//
// Ranks up to 32 are fused (up to 16 in double, and with weights or for divergences other than Frobenius and
// Kullback-Leibler). HALS is Frobenius with another update of the factors from the same sums. V is
// walked in column tiles; a tile's W'V, its new H, V H' and H H' are made while it is in shared memory, in panels of
// rows (a tile of at most one panel is read once, a taller one a second time, from L2).
// A chunk of tiles owns its partial sums; all blocks together add them, in a fixed order and in double. Between the
// three parts of an iteration (chunks, sums, rows of W) stand grid barriers, or block barriers where one block has the
// whole problem (batches of small ones). Loads are issued several at a time before their values are used.
// Larger ranks are composed of plain tiled products; they need r x n (and for beta != 2, m x n) scratch.
#include <cooperative_groups.h>

#include <cmath>

#include "cuda/launch.h"
#include "cuda/shared.h"
#include "cuda/tiles.h"
#include "nmfuse/nmf.h"

namespace nmfuse {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kGroup = 8;        // ranks per thread
constexpr int kPanelRows = 32;   // a panel holds a multiple of this
constexpr int kMaxChunks = 256;  // over all problems: enough for any card, and never read off one
constexpr int kRowItems = 16;    // pieces of the W update: so many, more where m is large
constexpr int kMaxRowItems = 256;
constexpr int kAhead = 8;         // loads in flight per thread
constexpr int kSplitSums = 2048;  // most sums of V H' that several warps share: at most 4 units of 64 rows x 8 ranks
constexpr std::int64_t kSharedBudget = 110 * 1024;  // two blocks a multiprocessor on sm_80 and sm_90

template <class T>
inline constexpr int kPack = 16 / static_cast<int>(sizeof(T));  // columns per lane: 16 bytes
template <class T>
inline constexpr int kTile = 32 * kPack<T>;  // columns per tile
template <class T>
inline constexpr int kStride = kTile<T> + kPack<T>;  // of a tile's rows: neighbours fall into other banks

template <class T>
using lane_pack = pack<T, kPack<T>>;

// Multiplicative updates for a divergence, or HALS; general takes any divergence, and weights.
enum class update_rule { frobenius, hals, kullback_leibler, general };

__host__ __device__ constexpr bool is_least_squares(update_rule kind) {
  return kind == update_rule::frobenius || kind == update_rule::hals;
}

// Everything a kernel needs to know, by value.
template <class T>
struct problem {
  image_view<const T> V;
  nmf_weights weights;
  image_view<T> W, H;
  const std::uint8_t* active;
  T beta, exponent_W, exponent_H, l1_W, l1_H, l2_W, l2_H;
  int inner_iter, iterations, rank;
  bool update_W;
  int panel_rows;  // rows of V in shared memory at once
  int chunks;      // per problem
  std::int64_t tiles_per_chunk;
  int row_items, rows_per_item;  // pieces of the W update
  int splits;                    // of a tile's columns for V H', so that few rows still feed all warps
  bool held;                     // all tiles of a chunk stay in shared memory from one iteration to the next
  bool packs_V, packs_H;         // whole tiles' rows may be moved as packs
  // Of a chunk: V H' or (V S^(beta-2)) H' (m, r), and of the general rule S^(beta-1) H' (m, r), both weighted; H H'
  // (r, r), or the row sums of H in its first row.
  std::int64_t sums_each;
  T* partials;  // (batch, chunks, sums_each)
  T* sums;      // (batch, sums_each), over the chunks
  T* gram_W;    // (batch, row_items, r, r): W'W, or column sums of W in the first row

  __device__ std::int64_t denominator_at() const { return V.rows * rank; }
  __device__ std::int64_t gram_at() const { return sums_each - rank * rank; }
};

template <class T>
__device__ T at_least_floor(T x) {
  return max(x, static_cast<T>(kFactorFloor));
}

template <class T>
inline constexpr T kLargest = sizeof(T) == 4 ? static_cast<T>(1e30) : static_cast<T>(1e250);
template <class T>
inline constexpr T kLeastNormal = sizeof(T) == 4 ? static_cast<T>(0x1p-126) : static_cast<T>(0x1p-1022);

// W H where it is divided by.
template <class T>
__device__ T guarded(T x) {
  return max(x, static_cast<T>(kProductFloor));
}

// x^exponent for a guarded x; sums of these, times entries of V and W, stay finite.
template <class T>
__device__ T bounded_power(T x, T exponent) {
  return min(pow(x, exponent), kLargest<T>);
}

template <class T>
__device__ T ratio_power(T numerator, T denominator, T exponent) {
  const T ratio = numerator / max(denominator, kLeastNormal<T>);
  return exponent == T(1) ? ratio : pow(ratio, exponent);
}

// A component after a step of coordinate descent along it; `descent` is minus the gradient of the squared error.
template <class T>
__device__ T descended(T x, T descent, T curvature, T l1, T l2) {
  curvature += l2;  // where that is zero nothing depends on the component
  return curvature > kLeastNormal<T> ? max(x + (descent - l1 - l2 * x) / curvature, T(0)) : x;
}

// The weight of an entry of V, which is read where there are weights.
template <class T>
__device__ T weight_at(const nmf_weights& weights, std::int64_t b, std::int64_t i, std::int64_t j) {
  const char* const row = static_cast<const char*>(weights.data) + b * weights.batch_stride + i * weights.row_stride;
  return weights.bytes ? static_cast<T>(reinterpret_cast<const std::uint8_t*>(row)[j])
                       : reinterpret_cast<const T*>(row)[j];
}

// Warps that share a group of ranks of W'X have their rows' sums added in so many places at once.
constexpr int row_splits(int padded_rank) { return kWarps / (padded_rank / kGroup); }
constexpr int sum_sets(int padded_rank, update_rule kind) {
  return kind == update_rule::general || row_splits(padded_rank) == 1 ? 1 : row_splits(padded_rank) / 2;
}
template <int RP>
inline constexpr int kRowSplits = row_splits(RP);
template <int RP, update_rule Kind>
inline constexpr int kSets = sum_sets(RP, Kind);

// Shared memory of the fused kernels.
template <class T>
struct shared_tiles {
  shared_array<T> panel;   // (panel_rows, stride), or as many for every tile of a held chunk: V, or V S^(beta-2)
  shared_array<T> powers;  // (panel_rows, stride): S^(beta-1); general rule only
  shared_array<T> W;       // (panel_rows, RP)
  shared_array<T> H;       // (RP, stride)
  shared_array<T> G;       // (sets, RP, stride): numerator of H
  shared_array<T> D;       // (sets, RP, stride): denominator of H; general rule only
  shared_array<T> gram;    // (RP, RP)
  shared_array<T> sums;    // (m, RP): V H' so far; where warps share them only
};

template <class T>
std::size_t tiles_bytes(int panel_rows, std::int64_t panels, int padded_rank, int splits, update_rule kind) {
  const std::int64_t stride = kStride<T>;
  const int twice = kind == update_rule::general ? 2 : 1;
  const int sets = sum_sets(padded_rank, kind);
  return shared_bytes<T>(panels * panel_rows * stride) + (twice - 1) * shared_bytes<T>(panel_rows * stride) +
         shared_bytes<T>(panel_rows * padded_rank) + shared_bytes<T>(padded_rank * stride) +
         twice * shared_bytes<T>(sets * padded_rank * stride) + shared_bytes<T>(padded_rank * padded_rank) +
         (splits > 1 ? shared_bytes<T>(kSplitSums) : 0);
}

template <class T, int RP, update_rule Kind>
__device__ shared_tiles<T> take_tiles(shared_memory& memory, const problem<T>& p) {
  constexpr bool general = Kind == update_rule::general;
  const std::int64_t panels = p.held ? p.tiles_per_chunk : 1;
  const auto panel = memory.take<T>(panels * p.panel_rows * kStride<T>, "panel");
  const auto powers = general ? memory.take<T>(p.panel_rows * kStride<T>, "powers") : panel;
  const auto W = memory.take<T>(p.panel_rows * RP, "W");
  const auto H = memory.take<T>(RP * kStride<T>, "H");
  const auto G = memory.take<T>(kSets<RP, Kind> * RP * kStride<T>, "G");
  const auto D = general ? memory.take<T>(kSets<RP, Kind> * RP * kStride<T>, "D") : G;
  const auto gram = memory.take<T>(RP * RP, "gram");
  const auto sums = p.splits > 1 ? memory.take<T>(kSplitSums, "sums") : gram;
  return {panel, powers, W, H, G, D, gram, sums};
}

// Rows [first, first + count) of X's columns [column, column + tile), zero beyond the edges. A warp moves whole rows.
template <class T, class Value>
__device__ void load_rows(const image_view<Value>& X, bool packs, std::int64_t b, std::int64_t first,
                          std::int64_t column, const shared_array<T>& to, int count) {
  constexpr int C = kPack<T>;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const std::int64_t mine = column + C * lane;
  packs = packs && column + kTile<T> <= X.cols;
  for (int start = warp; start < count; start += kAhead * kWarps) {
    lane_pack<T> x[kAhead];
#pragma unroll
    for (int q = 0; q < kAhead; ++q) {
      const int i = start + q * kWarps;
      if (i < count && first + i < X.rows && packs) {
        x[q] = *reinterpret_cast<const lane_pack<T>*>(X.row(b, first + i) + mine);
      } else {
        for (int c = 0; c < C; ++c) {
          const bool inside = i < count && first + i < X.rows && mine + c < X.cols;
          x[q].v[c] = inside ? X.row(b, first + i)[mine + c] : T(0);
        }
      }
    }
#pragma unroll
    for (int q = 0; q < kAhead; ++q) {
      const int i = start + q * kWarps;
      if (i < count) to.store(i * kStride<T> + C * lane, x[q]);
    }
  }
}

// The tile of H, back to its columns [column, column + tile).
template <class T>
__device__ void store_H(const problem<T>& p, const shared_tiles<T>& tiles, std::int64_t b, std::int64_t column) {
  constexpr int C = kPack<T>;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const std::int64_t mine = column + C * lane;
  const bool packs = p.packs_H && column + kTile<T> <= p.H.cols;
  for (int k = warp; k < p.rank; k += kWarps) {
    const lane_pack<T> h = tiles.H.template load<lane_pack<T>>(k * kStride<T> + C * lane);
    T* const row = p.H.row(b, k) + mine;
    if (packs) {
      *reinterpret_cast<lane_pack<T>*>(row) = h;
    } else {
      for (int c = 0; c < C; ++c) {
        if (mine + c < p.H.cols) row[c] = h.v[c];
      }
    }
  }
}

template <class T, int RP>
__device__ void load_W(const problem<T>& p, const shared_tiles<T>& tiles, std::int64_t b, std::int64_t first) {
  for (int start = threadIdx.x; start < p.panel_rows * RP; start += kAhead * kThreads) {
    T w[kAhead];
#pragma unroll
    for (int q = 0; q < kAhead; ++q) {
      const int e = start + q * kThreads, i = e / RP, k = e % RP;
      const bool inside = i < p.panel_rows && first + i < p.W.rows && k < p.rank;
      w[q] = inside ? p.W.row(b, first + i)[k] : T(0);
    }
#pragma unroll
    for (int q = 0; q < kAhead; ++q) {
      const int e = start + q * kThreads;
      if (e < p.panel_rows * RP) tiles.W[e] = w[q];
    }
  }
}

// The panel of V becomes V S^(beta-2), and powers S^(beta-1), with S = W H over the tile, both times the weights. Each
// thread changes its own.
template <class T, int RP, update_rule Kind>
__device__ void divide_by_product(const problem<T>& p, const shared_tiles<T>& tiles, std::int64_t b, std::int64_t first,
                                  std::int64_t column) {
  constexpr int C = kPack<T>, kRows = 4;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (int i = kRows * warp; i < p.panel_rows; i += kRows * kWarps) {
    T sum[kRows][C] = {};
    for (int k = 0; k < RP; ++k) {
      const lane_pack<T> h = tiles.H.template load<lane_pack<T>>(k * kStride<T> + C * lane);
      for (int q = 0; q < kRows; ++q) {
        const T w = tiles.W[(i + q) * RP + k];
        for (int c = 0; c < C; ++c) sum[q][c] += w * h.v[c];
      }
    }
    for (int q = 0; q < kRows; ++q) {
      const int at = (i + q) * kStride<T> + C * lane;
      lane_pack<T> v = tiles.panel.template load<lane_pack<T>>(at), power;
      for (int c = 0; c < C; ++c) {
        const T s = guarded(sum[q][c]);
        if constexpr (Kind == update_rule::kullback_leibler) {
          v.v[c] /= s;
        } else {
          // Beyond the edges W or H is zero: S stays out of the sums there, whatever its power.
          T weight = sum[q][c] > T(0) ? T(1) : T(0);
          if (p.weights.data != nullptr && weight > T(0)) {
            weight = weight_at<T>(p.weights, b, first + i + q, column + C * lane + c);
          }
          power.v[c] = weight > T(0) ? weight * bounded_power(s, p.beta - 1) : T(0);
          v.v[c] = weight > T(0) ? weight * min(v.v[c] * bounded_power(s, p.beta - 2), kLargest<T>) : T(0);
        }
      }
      tiles.panel.store(at, v);
      if constexpr (Kind == update_rule::general) tiles.powers.store(at, power);
    }
  }
}

// sum += W' X over the panel's rows, for X = V or powers; each warp has 8 ranks and every
// (8 / groups)-th row.
template <class T, int RP>
__device__ void accumulate_WtX(const problem<T>& p, const shared_tiles<T>& tiles, const shared_array<T>& X,
                               T (&sum)[kGroup][kPack<T>]) {
  constexpr int C = kPack<T>, kGroups = RP / kGroup;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int group = warp % kGroups;
#pragma unroll 2
  for (int i = warp / kGroups; i < p.panel_rows; i += kRowSplits<RP>) {
    const lane_pack<T> x = X.template load<lane_pack<T>>(i * kStride<T> + C * lane);
    for (int q = 0; q < kGroup / C; ++q) {
      const lane_pack<T> w = tiles.W.template load<lane_pack<T>>(i * RP + kGroup * group + C * q);
      for (int a = 0; a < C; ++a) {
        for (int c = 0; c < C; ++c) sum[C * q + a][c] += w.v[a] * x.v[c];
      }
    }
  }
}

// The warps' sums over their rows, added in a fixed order into the sets of G.
template <class T, int RP, int kSets>
__device__ void reduce_WtX(const shared_array<T>& G, const T (&sum)[kGroup][kPack<T>]) {
  constexpr int C = kPack<T>, kGroups = RP / kGroup;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int set = warp / kGroups % kSets, turn = warp / kGroups / kSets;
  for (int t = 0; t < kRowSplits<RP> / kSets; ++t) {
    if (turn == t) {
      for (int k = 0; k < kGroup; ++k) {
        const int at = (set * RP + kGroup * (warp % kGroups) + k) * kStride<T> + C * lane;
        lane_pack<T> g;
        if (t > 0) g = G.template load<lane_pack<T>>(at);
        for (int c = 0; c < C; ++c) g.v[c] = (t > 0 ? g.v[c] : T(0)) + sum[k][c];
        G.store(at, g);
      }
    }
    __syncthreads();
  }
}

// H of the tile from its numerator G and the denominator (gram H, column sums of W, or D).
template <class T, int RP, update_rule Kind>
__device__ void update_H(const problem<T>& p, const shared_tiles<T>& tiles, int columns) {
  constexpr int kHalves = kThreads / kTile<T>, kMine = RP / kHalves;  // ranks per thread, in one column
  const int j = threadIdx.x % kTile<T>, first = threadIdx.x / kTile<T> * kMine;
  T numerator[kMine];
  for (int a = 0; a < kMine; ++a) {
    numerator[a] = T(0);
    for (int set = 0; set < kSets<RP, Kind>; ++set) numerator[a] += tiles.G[(set * RP + first + a) * kStride<T> + j];
  }
  for (int inner = 0; inner < p.inner_iter; ++inner) {
    T updated[kMine];
    for (int a = 0; a < kMine; ++a) updated[a] = T(0);
    if constexpr (Kind == update_rule::frobenius) {
      for (int l = 0; l < RP; ++l) {
        const T h = tiles.H[l * kStride<T> + j];
        for (int a = 0; a < kMine; ++a) {
          const T g = tiles.gram[l * RP + first + a];
          updated[a] += g * h;
        }
      }
    }
    for (int a = 0; a < kMine; ++a) {
      const int k = first + a, at = k * kStride<T> + j;
      const T h = tiles.H[at];
      T denominator = updated[a];
      if constexpr (Kind == update_rule::kullback_leibler) denominator = tiles.gram[k];
      if constexpr (Kind == update_rule::general) denominator = tiles.D[at];
      denominator += p.l1_H + p.l2_H * h;
      const bool inside = k < p.rank && j < columns;
      updated[a] = inside ? at_least_floor(h * ratio_power(numerator[a], denominator, p.exponent_H)) : T(0);
    }
    __syncthreads();  // all have read H
    for (int a = 0; a < kMine; ++a) tiles.H[(first + a) * kStride<T> + j] = updated[a];
    __syncthreads();
  }
}

// H of the tile by sweeps of HALS from the same sums: each thread has a column.
template <class T, int RP>
__device__ void descend_H(const problem<T>& p, const shared_tiles<T>& tiles, int columns) {
  const int j = threadIdx.x;
  for (int inner = 0; inner < (j < columns ? p.inner_iter : 0); ++inner) {
    for (int k = 0; k < p.rank; ++k) {
      T descent = 0;
      for (int set = 0; set < kSets<RP, update_rule::hals>; ++set) {
        descent += tiles.G[(set * RP + k) * kStride<T> + j];
      }
      for (int l = 0; l < p.rank; ++l) {
        const T g = tiles.gram[k * RP + l], h = tiles.H[l * kStride<T> + j];
        descent -= g * h;
      }
      const T h = tiles.H[k * kStride<T> + j], curvature = tiles.gram[k * RP + k];
      tiles.H[k * kStride<T> + j] = descended(h, descent, curvature, p.l1_H, p.l2_H);
    }
  }
  __syncthreads();
}

// A component of a row of W after a sweep of HALS; the RP lanes around this thread have the others. `sum` is of V H'.
template <class T, int RP>
__device__ T descend_row(const problem<T>& p, const shared_array<T>& gram, T sum, T w) {
  const int k = threadIdx.x % RP;
  T descent = sum;
  for (int l = 0; l < p.rank; ++l) {
    const T g = gram[l * RP + k];
    descent -= __shfl_sync(0xffffffffU, w, l, RP) * g;
  }
  for (int turn = 0; turn < p.rank; ++turn) {
    const T curvature = gram[k * RP + k], g = gram[turn * RP + k];
    const T best = descended(w, descent, curvature, p.l1_W, p.l2_W);
    descent -= __shfl_sync(0xffffffffU, best - w, turn, RP) * g;
    if (k == turn) w = best;
  }
  return w;
}

// sums += X H' over the tile, into the chunk's own memory (m, rank), or, where several warps share a sum, into shared
// memory by way of G. A warp has 32 or 64 rows (one or two a lane), 8 ranks and one split of the columns.
template <class T, int RP, int kRowsPerLane>
__device__ void accumulate_XHt(const problem<T>& p, const shared_tiles<T>& tiles, const shared_array<T>& X,
                               std::int64_t first_row, T* sums, bool start) {
  constexpr int C = kPack<T>, kGroups = RP / kGroup;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int units = p.panel_rows / (32 * kRowsPerLane) * kGroups * p.splits;
  const std::int64_t m = p.V.rows;
  for (int unit = warp; unit < units; unit += kWarps) {
    const int group = unit % kGroups, split = unit / kGroups % p.splits;
    const int row = unit / kGroups / p.splits * (32 * kRowsPerLane) + lane;
    T before[kRowsPerLane][kGroup], sum[kRowsPerLane][kGroup] = {};
    for (int y = 0; y < kRowsPerLane; ++y) {
      const std::int64_t i = first_row + row + 32 * y;
      for (int k = 0; k < kGroup; ++k) {
        const int rank = kGroup * group + k;
        const bool there = p.splits == 1 && !start && i < m && rank < p.rank;
        before[y][k] = there ? sums[i * p.rank + rank] : T(0);
      }
    }
#pragma unroll 2
    for (int j = split * 32 / p.splits; j < (split + 1) * 32 / p.splits; ++j) {
      lane_pack<T> x[kRowsPerLane];
      for (int y = 0; y < kRowsPerLane; ++y) {
        x[y] = X.template load<lane_pack<T>>((row + 32 * y) * kStride<T> + C * j);
      }
      for (int k = 0; k < kGroup; ++k) {
        const lane_pack<T> h = tiles.H.template load<lane_pack<T>>((kGroup * group + k) * kStride<T> + C * j);
        for (int y = 0; y < kRowsPerLane; ++y) {
          for (int c = 0; c < C; ++c) sum[y][k] += x[y].v[c] * h.v[c];
        }
      }
    }
    for (int y = 0; y < kRowsPerLane; ++y) {
      const std::int64_t i = first_row + row + 32 * y;
      for (int k = 0; k < kGroup; ++k) {
        const int rank = kGroup * group + k;
        if (p.splits > 1) {
          tiles.G[(split * p.panel_rows + row + 32 * y) * RP + rank] = sum[y][k];
        } else if (i < m && rank < p.rank) {
          sums[i * p.rank + rank] = before[y][k] + sum[y][k];
        }
      }
    }
  }
  if (p.splits == 1) return;
  __syncthreads();
  for (int e = threadIdx.x; e < p.panel_rows * RP; e += kThreads) {
    const int at = static_cast<int>(first_row) * RP + e;
    T sum = start ? T(0) : tiles.sums[at];
    for (int split = 0; split < p.splits; ++split) sum += tiles.G[split * p.panel_rows * RP + e];
    tiles.sums[at] = sum;
  }
}

template <class T, int RP>
__device__ void accumulate_XHt(const problem<T>& p, const shared_tiles<T>& tiles, const shared_array<T>& X,
                               std::int64_t first_row, T* sums, bool start) {
  if (p.panel_rows % 64 == 0) {
    accumulate_XHt<T, RP, 2>(p, tiles, X, first_row, sums, start);
  } else {
    accumulate_XHt<T, RP, 1>(p, tiles, X, first_row, sums, start);
  }
}

// sum[q] += entries q, summed in double beyond one tile, of H H' (of H's row sums for Kullback-Leibler) over the tile.
template <class T, int RP, update_rule Kind>
__device__ void accumulate_gram_H(const shared_tiles<T>& tiles, double (&sum)[(RP * RP + kThreads - 1) / kThreads]) {
  constexpr int C = kPack<T>, kCount = (RP * RP + kThreads - 1) / kThreads;
  for (int q = 0; q < kCount; ++q) {
    const int e = threadIdx.x + kThreads * q, k = e / RP, l = e % RP;
    if (k >= (Kind == update_rule::kullback_leibler ? 1 : RP)) continue;
    T part = 0;
    for (int j = 0; j < 32; ++j) {
      const lane_pack<T> b = tiles.H.template load<lane_pack<T>>(l * kStride<T> + C * j);
      if constexpr (Kind == update_rule::kullback_leibler) {
        for (int c = 0; c < C; ++c) part += b.v[c];
      } else {
        const lane_pack<T> a = tiles.H.template load<lane_pack<T>>(k * kStride<T> + C * j);
        for (int c = 0; c < C; ++c) part += a.v[c] * b.v[c];
      }
    }
    sum[q] += part;
  }
}

// gram = the sum, in order and in double, of `count` partial (r, r) sums; zero beyond the rank.
template <class T, int RP>
__device__ void sum_partials(const shared_array<T>& gram, const T* partials, int count, int rank) {
  for (int e = threadIdx.x; e < RP * RP; e += kThreads) {
    const int k = e / RP, l = e % RP;
    double sum = 0;
    if (k < rank && l < rank) {
#pragma unroll 8
      for (int c = 0; c < count; ++c) sum += partials[(static_cast<std::int64_t>(c) * rank + k) * rank + l];
    }
    gram[e] = static_cast<T>(sum);
  }
}

// First part of an iteration for one chunk: new H, and the chunk's share of the sums that W needs. `loaded`: the tiles
// are still in shared memory from the iteration before.
template <class T, int RP, update_rule Kind>
__device__ void process_chunk(const problem<T>& p, const shared_tiles<T>& tiles, std::int64_t b, int chunk,
                              bool& loaded) {
  constexpr int kCount = (RP * RP + kThreads - 1) / kThreads;
  constexpr bool general = Kind == update_rule::general, least_squares = is_least_squares(Kind);
  const std::int64_t m = p.V.rows, n = p.V.cols, rank = p.rank;
  const bool one_panel = m <= p.panel_rows;
  T* const partials = p.partials + (b * p.chunks + chunk) * p.sums_each;
  double gram[kCount] = {};
  __syncthreads();  // nobody uses the shared memory of the last chunk any more
  sum_partials<T, RP>(tiles.gram, p.gram_W + b * p.row_items * rank * rank, p.row_items, p.rank);
  if (one_panel) load_W<T, RP>(p, tiles, b, 0);
  for (std::int64_t t = 0; t < p.tiles_per_chunk; ++t) {
    const std::int64_t column = (chunk * p.tiles_per_chunk + t) * kTile<T>;
    if (column >= n) break;
    const int columns = static_cast<int>(min(n - column, static_cast<std::int64_t>(kTile<T>)));
    const int panel = p.panel_rows * kStride<T>;
    const auto place = p.held ? tiles.panel.slice(static_cast<int>(t) * panel, panel) : tiles.panel;
    load_rows(p.H, p.packs_H, b, 0, column, tiles.H, RP);
    T numerator[kGroup][kPack<T>] = {}, denominator[kGroup][kPack<T>] = {};
    for (std::int64_t first = 0; first < m; first += p.panel_rows) {
      if (!one_panel) load_W<T, RP>(p, tiles, b, first);
      if (!loaded) load_rows(p.V, p.packs_V, b, first, column, place, p.panel_rows);
      __syncthreads();
      if constexpr (!least_squares) {
        divide_by_product<T, RP, Kind>(p, tiles, b, first, column);
        __syncthreads();
      }
      accumulate_WtX<T, RP>(p, tiles, place, numerator);
      if constexpr (general) accumulate_WtX<T, RP>(p, tiles, tiles.powers, denominator);
      if (first + p.panel_rows < m) __syncthreads();  // before the next panel
    }
    reduce_WtX<T, RP, kSets<RP, Kind>>(tiles.G, numerator);
    if constexpr (general) reduce_WtX<T, RP, kSets<RP, Kind>>(tiles.D, denominator);
    if constexpr (Kind == update_rule::hals) {
      descend_H<T, RP>(p, tiles, columns);
    } else {
      update_H<T, RP, Kind>(p, tiles, columns);
    }
    store_H(p, tiles, b, column);
    if (p.update_W) {
      for (std::int64_t first = 0; first < m; first += p.panel_rows) {
        if (!one_panel || !least_squares) {
          __syncthreads();
          if constexpr (!least_squares) load_W<T, RP>(p, tiles, b, first);
          load_rows(p.V, p.packs_V, b, first, column, place, p.panel_rows);
          __syncthreads();
          if constexpr (!least_squares) {
            divide_by_product<T, RP, Kind>(p, tiles, b, first, column);
            __syncthreads();
          }
        }
        accumulate_XHt<T, RP>(p, tiles, place, first, partials, t == 0);
        if constexpr (general) {
          accumulate_XHt<T, RP>(p, tiles, tiles.powers, first, partials + p.denominator_at(), t == 0);
        }
      }
      if constexpr (!general) accumulate_gram_H<T, RP, Kind>(tiles, gram);
    }
    __syncthreads();  // before the next tile
  }
  loaded = p.held;
  if (!p.update_W) return;
  if (p.splits > 1) {
    for (std::int64_t e = threadIdx.x; e < m * rank; e += kThreads) {
      partials[e] = tiles.sums[static_cast<int>(e / rank * RP + e % rank)];
    }
  }
  for (int q = 0; q < kCount; ++q) {
    const int e = threadIdx.x + kThreads * q, k = e / RP, l = e % RP;
    if (k < p.rank && l < p.rank) partials[p.gram_at() + k * rank + l] = static_cast<T>(gram[q]);
  }
}

// Second part: 32 sums over the chunks of problem b. Each warp adds a contiguous share of the chunks, in order; the
// shares are added in order.
template <class T>
__device__ void sum_chunks(const problem<T>& p, const shared_array<T>& scratch, std::int64_t b, std::int64_t item) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const std::int64_t at = 32 * item + lane;
  const T* const partials = p.partials + b * p.chunks * p.sums_each + at;
  double sum = 0;
  if (at < p.sums_each) {
#pragma unroll 8
    for (int c = p.chunks * warp / kWarps; c < p.chunks * (warp + 1) / kWarps; ++c) sum += partials[c * p.sums_each];
  }
  __syncthreads();  // the scratch is free
  scratch[threadIdx.x] = static_cast<T>(sum);
  __syncthreads();
  if (warp > 0 || at >= p.sums_each) return;
  double total = 0;
  for (int w = 0; w < kWarps; ++w) total += scratch[32 * w + lane];
  p.sums[b * p.sums_each + at] = static_cast<T>(total);
}

// Third part of an iteration for a few rows: new W, and their share of W'W. gram holds H H' (or H's row sums).
template <class T, int RP, update_rule Kind>
__device__ void process_rows(const problem<T>& p, const shared_tiles<T>& tiles, std::int64_t b, int item,
                             bool only_gram) {
  constexpr int kRows = kThreads / RP;
  constexpr int kCount = (RP * RP + kThreads - 1) / kThreads;
  const std::int64_t m = p.W.rows, rank = p.rank;
  const int i = threadIdx.x / RP, k = threadIdx.x % RP;
  const shared_array<T>& rows = tiles.H;  // free now: (kRows, RP) of W
  T gram[kCount] = {};
  for (int done = 0; done < p.rows_per_item; done += kRows) {
    const std::int64_t row = static_cast<std::int64_t>(item) * p.rows_per_item + done + i;
    const bool inside = done + i < p.rows_per_item && row < m && k < p.rank;
    T w = inside ? p.W.row(b, row)[k] : T(0);
    for (int inner = 0; inner < (only_gram ? 0 : p.inner_iter); ++inner) {
      __syncthreads();  // gram is there
      if constexpr (Kind == update_rule::hals) {
        const T sum = inside ? p.sums[b * p.sums_each + row * rank + k] : T(0);
        w = descend_row<T, RP>(p, tiles.gram, sum, w);
        continue;
      }
      rows[i * RP + k] = w;
      __syncthreads();
      const T* const sums = p.sums + b * p.sums_each + row * rank + k;
      const T numerator = inside ? sums[0] : T(0);
      T denominator = 0;
      if constexpr (Kind == update_rule::general) denominator = inside ? sums[p.denominator_at()] : T(0);
      if constexpr (Kind == update_rule::kullback_leibler) denominator = tiles.gram[k];
      if constexpr (Kind == update_rule::frobenius) {
        for (int l = 0; l < RP; ++l) {
          const T left = rows[i * RP + l], right = tiles.gram[l * RP + k];
          denominator += left * right;
        }
      }
      denominator += p.l1_W + p.l2_W * w;
      if (inside) w = at_least_floor(w * ratio_power(numerator, denominator, p.exponent_W));
    }
    if (inside && !only_gram) p.W.row(b, row)[k] = w;
    __syncthreads();
    rows[i * RP + k] = w;
    __syncthreads();
    for (int q = 0; q < kCount; ++q) {
      const int e = threadIdx.x + kThreads * q, a = e / RP, c = e % RP;
      if (a >= (is_least_squares(Kind) ? RP : 1)) continue;
      for (int y = 0; y < kRows; ++y) {
        const T right = rows[y * RP + c];
        if constexpr (is_least_squares(Kind)) {
          const T left = rows[y * RP + a];
          gram[q] += left * right;
        } else {
          gram[q] += right;
        }
      }
    }
  }
  for (int q = 0; q < kCount; ++q) {
    const int e = threadIdx.x + kThreads * q, a = e / RP, c = e % RP;
    if (a < p.rank && c < p.rank) p.gram_W[((b * p.row_items + item) * rank + a) * rank + c] = gram[q];
  }
}

// All row items of this block's share. `total` items over all problems, dealt out from `start` with `step`.
template <class T, int RP, update_rule Kind>
__device__ void process_row_items(const problem<T>& p, const shared_tiles<T>& tiles, std::int64_t start,
                                  std::int64_t end, std::int64_t step, bool only_gram) {
  std::int64_t summed = -1;
  for (std::int64_t item = start; item < end; item += step) {
    const std::int64_t b = item / p.row_items;
    if (p.active != nullptr && p.active[b] == 0) continue;
    if (!only_gram && summed != b) {
      __syncthreads();
      sum_partials<T, RP>(tiles.gram, p.sums + b * p.sums_each + p.gram_at(), 1, p.rank);
      summed = b;
    }
    process_rows<T, RP, Kind>(p, tiles, b, static_cast<int>(item % p.row_items), only_gram);
  }
}

// Problems of one chunk: a block has a problem to itself for all iterations, and no block waits for another.
template <class T, int RP, update_rule Kind>
__global__ void __launch_bounds__(kThreads, 2) nmf_block_kernel(problem<T> p) {
  shared_memory memory;
  const auto tiles = take_tiles<T, RP, Kind>(memory, p);
  for (std::int64_t b = blockIdx.x; b < p.V.batch; b += gridDim.x) {
    const std::int64_t first = b * p.row_items, last = first + p.row_items;
    bool loaded = false;
    process_row_items<T, RP, Kind>(p, tiles, first, last, 1, true);
    if (p.active != nullptr && p.active[b] == 0) continue;
    for (int iteration = 0; iteration < p.iterations; ++iteration) {
      __syncthreads();
      process_chunk<T, RP, Kind>(p, tiles, b, 0, loaded);
      __syncthreads();
      if (p.update_W) process_row_items<T, RP, Kind>(p, tiles, first, last, 1, false);
    }
    __syncthreads();
  }
}

// Large problems: all blocks share them, with three grid barriers an iteration.
template <class T, int RP, update_rule Kind>
__global__ void __launch_bounds__(kThreads, 2) nmf_grid_kernel(problem<T> p) {
  shared_memory memory;
  const auto tiles = take_tiles<T, RP, Kind>(memory, p);
  const auto grid = cooperative_groups::this_grid();
  const std::int64_t row_items = p.V.batch * p.row_items, chunks = p.V.batch * p.chunks;
  bool loaded = false;
  process_row_items<T, RP, Kind>(p, tiles, blockIdx.x, row_items, gridDim.x, true);
  grid.sync();
  for (int iteration = 0; iteration < p.iterations; ++iteration) {
    for (std::int64_t item = blockIdx.x; item < chunks; item += gridDim.x) {
      const std::int64_t b = item / p.chunks;
      if (p.active != nullptr && p.active[b] == 0) continue;
      if (chunks > gridDim.x) loaded = false;
      process_chunk<T, RP, Kind>(p, tiles, b, static_cast<int>(item % p.chunks), loaded);
    }
    if (!p.update_W) continue;
    grid.sync();
    const std::int64_t sum_items = (p.sums_each + 31) / 32;
    for (std::int64_t item = blockIdx.x; item < p.V.batch * sum_items; item += gridDim.x) {
      const std::int64_t b = item / sum_items;
      if (p.active == nullptr || p.active[b] != 0) sum_chunks(p, tiles.G, b, item % sum_items);
    }
    grid.sync();
    process_row_items<T, RP, Kind>(p, tiles, blockIdx.x, row_items, gridDim.x, false);
    grid.sync();
  }
}

// ---- How the work is cut: by the shape alone, so that every card gives the same bits.

struct cut {
  int chunks, row_items, rows_per_item, splits;
  std::int64_t tiles_per_chunk;
};

// The least panel of a fused rank fits into 64 KiB of shared memory, what sm_75 has.
template <class T>
constexpr int max_fused_rank(update_rule kind) {
  return sizeof(T) == 4 && kind != update_rule::general ? 32 : 16;
}

int padded_rank(std::int64_t rank) { return rank <= 8 ? 8 : rank <= 16 ? 16 : 32; }

template <class T>
cut cut_of(std::int64_t batch, std::int64_t m, std::int64_t n, std::int64_t rank, update_rule kind) {
  const auto ceil_div = [](std::int64_t a, std::int64_t b) { return (a + b - 1) / b; };
  const std::int64_t tiles = ceil_div(n, kTile<T>);
  const std::int64_t wanted = std::min(tiles, std::max<std::int64_t>(1, kMaxChunks / std::max<std::int64_t>(batch, 1)));
  cut c;
  c.tiles_per_chunk = ceil_div(tiles, wanted);
  c.chunks = static_cast<int>(ceil_div(tiles, c.tiles_per_chunk));
  const int rows = kThreads / padded_rank(rank);
  const std::int64_t items = std::min<std::int64_t>(kMaxRowItems, std::max<std::int64_t>(kRowItems, m / 64));
  c.rows_per_item = static_cast<int>(ceil_div(ceil_div(m, items), rows) * rows);
  c.row_items = static_cast<int>(ceil_div(m, c.rows_per_item));
  const std::int64_t units = ceil_div(m, 64) * padded_rank(rank) / kGroup;
  // Shared sums need memory: there is none to spare for the general rule and for the largest rank.
  const bool may_split = units < kWarps && kind != update_rule::general && padded_rank(rank) < 32;
  c.splits = may_split ? std::max(1, static_cast<int>(kWarps * sizeof(float) / sizeof(T) / units)) : 1;
  return c;
}

update_rule kind_of(const nmf_options& options) {
  if (options.weighted) return update_rule::general;
  if (options.beta == 2) return options.hals ? update_rule::hals : update_rule::frobenius;
  return options.beta == 1 ? update_rule::kullback_leibler : update_rule::general;
}

std::int64_t sums_per_chunk(std::int64_t m, std::int64_t rank, update_rule kind) {
  return (kind == update_rule::general ? 2 : 1) * m * rank + rank * rank;
}

// ---- Larger ranks: plain products.

constexpr int kProductTile = 32;

// C = op(A) op(B), 32 x 32 outputs a block, each element summed over `inner` in order.
template <class T, bool kTransposeA, bool kTransposeB>
__global__ void __launch_bounds__(kThreads)
    product_kernel(image_view<const T> A, image_view<const T> B, image_view<T> C, std::int64_t inner) {
  constexpr int kPadded = kProductTile + 1;
  shared_memory memory;
  const auto a = memory.take<T>(kProductTile * kPadded, "A");
  const auto b = memory.take<T>(kProductTile * kPadded, "B");
  const std::int64_t tiles_x = (C.cols + kProductTile - 1) / kProductTile;
  const std::int64_t tiles_y = (C.rows + kProductTile - 1) / kProductTile;
  const int x = threadIdx.x % kProductTile, y0 = threadIdx.x / kProductTile;
  constexpr int kStep = kThreads / kProductTile, kMine = kProductTile / kStep;
  for (std::int64_t tile = blockIdx.x; tile < tiles_x * tiles_y * C.batch; tile += gridDim.x) {
    const std::int64_t plane = tile / (tiles_x * tiles_y), rest = tile % (tiles_x * tiles_y);
    const std::int64_t row = rest / tiles_x * kProductTile, col = rest % tiles_x * kProductTile;
    T sum[kMine] = {};
    for (std::int64_t k = 0; k < inner; k += kProductTile) {
      __syncthreads();
      for (int q = 0; q < kMine; ++q) {
        const int y = y0 + kStep * q;
        // a(row, k) and b(k, col), read along the rows that lie contiguous in memory.
        if constexpr (kTransposeA) {
          a[x * kPadded + y] = k + y < inner && row + x < C.rows ? A.row(plane, k + y)[row + x] : T(0);
        } else {
          a[y * kPadded + x] = row + y < C.rows && k + x < inner ? A.row(plane, row + y)[k + x] : T(0);
        }
        if constexpr (kTransposeB) {
          b[x * kPadded + y] = col + y < C.cols && k + x < inner ? B.row(plane, col + y)[k + x] : T(0);
        } else {
          b[y * kPadded + x] = k + y < inner && col + x < C.cols ? B.row(plane, k + y)[col + x] : T(0);
        }
      }
      __syncthreads();
      for (int z = 0; z < kProductTile; ++z) {
        const T right = b[z * kPadded + x];
        for (int q = 0; q < kMine; ++q) {
          const T left = a[(y0 + kStep * q) * kPadded + z];
          sum[q] += left * right;
        }
      }
    }
    for (int q = 0; q < kMine; ++q) {
      const std::int64_t y = row + y0 + kStep * q;
      if (y < C.rows && col + x < C.cols) C.row(plane, y)[col + x] = sum[q];
    }
  }
}

// S becomes V S^(beta-2), and powers (where given) S^(beta-1), both times the weights.
template <class T>
__global__ void __launch_bounds__(kThreads)
    quotient_kernel(image_view<const T> V, nmf_weights weights, image_view<T> S, T* powers, T beta) {
  const std::int64_t count = V.batch * V.rows * V.cols;
  for (std::int64_t e = blockIdx.x * static_cast<std::int64_t>(kThreads) + threadIdx.x; e < count;
       e += static_cast<std::int64_t>(gridDim.x) * kThreads) {
    const std::int64_t b = e / (V.rows * V.cols), i = e / V.cols % V.rows, j = e % V.cols;
    const T s = guarded(S.data[e]);
    const T weight = weights.data == nullptr ? T(1) : weight_at<T>(weights, b, i, j);
    const T v = weight > T(0) ? V.row(b, i)[j] : T(0);
    if (powers != nullptr) powers[e] = weight * bounded_power(s, beta - 1);
    S.data[e] = weight * (beta == T(1) ? v / s : min(v * bounded_power(s, beta - 2), kLargest<T>));
  }
}

// out[b, k] = sum over the rows (kOverRows) or the columns of X, one thread an output, in order.
template <class T, bool kOverRows>
__global__ void __launch_bounds__(kThreads) sums_kernel(image_view<const T> X, T* out) {
  const std::int64_t each = kOverRows ? X.cols : X.rows, along = kOverRows ? X.rows : X.cols;
  const std::int64_t e = blockIdx.x * static_cast<std::int64_t>(kThreads) + threadIdx.x;
  if (e >= X.batch * each) return;
  double sum = 0;
  for (std::int64_t q = 0; q < along; ++q) {
    sum += kOverRows ? X.row(e / each, q)[e % each] : X.row(e / each, e % each)[q];
  }
  out[e] = static_cast<T>(sum);
}

// X = X o (numerator / (denominator + l1 + l2 X))^exponent; denominator per element, or per rank (`per_rank`: the
// elements of one rank lie `rank_stride` apart, and there are `ranks` of them).
template <class T>
__global__ void __launch_bounds__(kThreads)
    scale_kernel(image_view<T> X, const T* numerator, const T* denominator, bool per_rank, bool rank_is_row, T l1, T l2,
                 T exponent, const std::uint8_t* active) {
  const std::int64_t plane = X.rows * X.cols, count = X.batch * plane;
  for (std::int64_t e = blockIdx.x * static_cast<std::int64_t>(kThreads) + threadIdx.x; e < count;
       e += static_cast<std::int64_t>(gridDim.x) * kThreads) {
    const std::int64_t b = e / plane, i = e / X.cols % X.rows, j = e % X.cols;
    if (active != nullptr && active[b] == 0) continue;
    T& x = X.row(b, i)[j];
    const std::int64_t ranks = rank_is_row ? X.rows : X.cols;
    const T below = (per_rank ? denominator[b * ranks + (rank_is_row ? i : j)] : denominator[e]) + l1 + l2 * x;
    x = at_least_floor(x * ratio_power(numerator[e], below, exponent));
  }
}

// Sweeps of HALS over the columns of H or the rows of W, one a thread; products are W'V, or V H'.
template <class T, bool kIsW>
__global__ void __launch_bounds__(kThreads)
    descend_kernel(image_view<T> X, image_view<const T> products, image_view<const T> gram, T l1, T l2, int sweeps,
                   const std::uint8_t* active) {
  const std::int64_t rank = gram.rows, lines = kIsW ? X.rows : X.cols;
  const auto at = [](auto view, std::int64_t b, std::int64_t k, std::int64_t line) -> auto& {
    return kIsW ? view.row(b, line)[k] : view.row(b, k)[line];
  };
  for (std::int64_t e = blockIdx.x * static_cast<std::int64_t>(kThreads) + threadIdx.x; e < X.batch * lines;
       e += static_cast<std::int64_t>(gridDim.x) * kThreads) {
    const std::int64_t b = e / lines, line = e % lines;
    if (active != nullptr && active[b] == 0) continue;
    for (std::int64_t step = 0; step < sweeps * rank; ++step) {
      const std::int64_t k = step % rank;
      T descent = at(products, b, k, line);
      for (std::int64_t l = 0; l < rank; ++l) descent -= gram.row(b, k)[l] * at(X, b, l, line);
      T& x = at(X, b, k, line);
      x = descended(x, descent, gram.row(b, k)[k], l1, l2);
    }
  }
}

template <class T>
image_view<T> compact(T* data, std::int64_t batch, std::int64_t rows, std::int64_t cols) {
  return {data, batch, rows, cols, rows * cols, cols};
}

unsigned blocks_for(std::int64_t count) {
  return grid_for(std::min<std::int64_t>((count + kThreads - 1) / kThreads, 1 << 16));
}

template <bool kTransposeA, bool kTransposeB, class T>
void multiply(image_view<const T> A, image_view<const T> B, image_view<T> C, std::int64_t inner, stream_handle stream) {
  const std::int64_t tiles =
      ((C.cols + kProductTile - 1) / kProductTile) * ((C.rows + kProductTile - 1) / kProductTile) * C.batch;
  launch("product_kernel", product_kernel<T, kTransposeA, kTransposeB>, dim3(grid_for(tiles)), dim3(kThreads),
         2 * shared_bytes<T>(kProductTile * (kProductTile + 1)), stream, A, B, C, inner);
}

template <class T>
struct large_rank_scratch {
  image_view<T> numerator_H, denominator_H, numerator_W, denominator_W, gram, S;
  T* powers;
  std::int64_t bytes;
};

template <class T>
large_rank_scratch<T> large_rank_layout(T* start, std::int64_t batch, std::int64_t m, std::int64_t n, std::int64_t rank,
                                        update_rule kind) {
  std::int64_t used = 0;
  const auto take = [&](std::int64_t rows, std::int64_t cols) {
    T* const data = start == nullptr ? nullptr : start + used;
    used += batch * rows * cols;
    return compact(data, batch, rows, cols);
  };
  large_rank_scratch<T> s{};
  s.numerator_H = take(rank, n);
  s.denominator_H = take(rank, n);
  s.numerator_W = take(m, rank);
  s.denominator_W = take(m, rank);
  s.gram = take(rank, rank);
  if (!is_least_squares(kind)) s.S = take(m, n);
  if (kind == update_rule::general) s.powers = take(m, n).data;
  s.bytes = used * static_cast<std::int64_t>(sizeof(T));
  return s;
}

template <class T>
void update_large_rank(image_view<const T> V, const nmf_weights& weights, image_view<T> W, image_view<T> H,
                       const std::uint8_t* active, const nmf_options& options, int iterations, T* scratch,
                       stream_handle stream) {
  const std::int64_t m = V.rows, n = V.cols, rank = W.cols;
  const update_rule kind = kind_of(options);
  const auto s = large_rank_layout(scratch, V.batch, m, n, rank, kind);
  const T beta = static_cast<T>(options.beta);
  const image_view<const T> Wc = W, Hc = H;
  const auto powers = compact<const T>(s.powers, V.batch, m, n);
  const auto divide = [&] {
    multiply<false, false>(Wc, Hc, s.S, rank, stream);
    launch("quotient_kernel", quotient_kernel<T>, dim3(blocks_for(V.batch * m * n)), dim3(kThreads), 0, stream, V,
           weights, s.S, s.powers, beta);
  };
  const auto scale = [&](image_view<T> X, image_view<T> numerator, image_view<T> denominator, bool per_rank,
                         bool rank_is_row, double l1, double l2) {
    launch("scale_kernel", scale_kernel<T>, dim3(blocks_for(X.batch * X.rows * X.cols)), dim3(kThreads), 0, stream, X,
           static_cast<const T*>(numerator.data), static_cast<const T*>(denominator.data), per_rank, rank_is_row,
           static_cast<T>(l1), static_cast<T>(l2), static_cast<T>(nmf_exponent(options.beta, l2)), active);
  };
  const auto descend = [&](auto kernel, image_view<T> X, image_view<T> products, std::int64_t lines, double l1,
                           double l2) {
    launch("descend_kernel", kernel, dim3(blocks_for(V.batch * lines)), dim3(kThreads), 0, stream, X,
           image_view<const T>(products), image_view<const T>(s.gram), static_cast<T>(l1), static_cast<T>(l2),
           options.inner_iter, active);
  };
  const auto sums_grid = [&] { return dim3(static_cast<unsigned>((V.batch * rank + kThreads - 1) / kThreads)); };
  const bool kl = kind == update_rule::kullback_leibler;
  const int updates = options.hals ? 0 : options.inner_iter;
  for (int iteration = 0; iteration < iterations; ++iteration) {
    if (is_least_squares(kind)) {
      multiply<true, false>(Wc, V, s.numerator_H, m, stream);
      multiply<true, false>(Wc, Wc, s.gram, m, stream);
    } else {
      divide();
      multiply<true, false>(Wc, image_view<const T>(s.S), s.numerator_H, m, stream);
      if (kl) {
        launch("sums_kernel", sums_kernel<T, true>, sums_grid(), dim3(kThreads), 0, stream, Wc, s.denominator_H.data);
      } else {
        multiply<true, false>(Wc, powers, s.denominator_H, m, stream);
      }
    }
    if (options.hals) descend(descend_kernel<T, false>, H, s.numerator_H, n, options.l1_H, options.l2_H);
    for (int inner = 0; inner < updates; ++inner) {
      if (kind == update_rule::frobenius) {
        multiply<true, false>(image_view<const T>(s.gram), Hc, s.denominator_H, rank, stream);
      }
      scale(H, s.numerator_H, s.denominator_H, kl, true, options.l1_H, options.l2_H);
    }
    if (!options.update_W) continue;
    if (is_least_squares(kind)) {
      multiply<false, true>(V, Hc, s.numerator_W, n, stream);
      multiply<false, true>(Hc, Hc, s.gram, n, stream);
    } else {
      divide();
      multiply<false, true>(image_view<const T>(s.S), Hc, s.numerator_W, n, stream);
      if (kl) {
        launch("sums_kernel", sums_kernel<T, false>, sums_grid(), dim3(kThreads), 0, stream, Hc, s.denominator_W.data);
      } else {
        multiply<false, true>(powers, Hc, s.denominator_W, n, stream);
      }
    }
    if (options.hals) descend(descend_kernel<T, true>, W, s.numerator_W, m, options.l1_W, options.l2_W);
    for (int inner = 0; inner < updates; ++inner) {
      if (kind == update_rule::frobenius) {
        multiply<false, false>(Wc, image_view<const T>(s.gram), s.denominator_W, rank, stream);
      }
      scale(W, s.numerator_W, s.denominator_W, kl, false, options.l1_W, options.l2_W);
    }
  }
}

// ---- The objective.

// Partial sums per problem, added in order.
int objective_parts(std::int64_t m, std::int64_t n) {
  return static_cast<int>(std::min<std::int64_t>((m * n + 16 * kThreads - 1) / (16 * kThreads), 256));
}

template <class T>
__device__ double divergence_of(T v, T s, double beta) {
  if (beta == 2) {
    const double d = static_cast<double>(v) - static_cast<double>(s);
    return 0.5 * d * d;
  }
  const double x = v, y = guarded(s);
  if (beta == 1) return (x > 0 ? x * log(x / y) : 0.0) - x + y;
  if (beta == 0) return x / y - log(x / y) - 1;
  return (pow(x, beta) + (beta - 1) * pow(y, beta) - beta * x * pow(y, beta - 1)) / (beta * (beta - 1));
}

// A block's sum over its threads, in order; every thread must call it.
__device__ double block_sum(double mine, const shared_array<double>& scratch) {
  scratch[threadIdx.x] = mine;
  __syncthreads();
  for (int half = kThreads / 2; half > 0; half /= 2) {
    if (static_cast<int>(threadIdx.x) < half) {
      const double other = scratch[threadIdx.x + half];
      scratch[threadIdx.x] += other;
    }
    __syncthreads();
  }
  const double sum = scratch[0];
  __syncthreads();
  return sum;
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    objective_kernel(image_view<const T> V, nmf_weights weights, image_view<const T> W, image_view<const T> H,
                     double beta, int parts, double* partial) {
  shared_memory memory;
  const auto scratch = memory.take<double>(kThreads, "sums");
  const std::int64_t rank = W.cols;
  for (std::int64_t item = blockIdx.x; item < V.batch * parts; item += gridDim.x) {
    const std::int64_t b = item / parts, part = item % parts, count = V.rows * V.cols;
    double mine = 0;
    for (std::int64_t e = part * kThreads + threadIdx.x; e < count; e += static_cast<std::int64_t>(parts) * kThreads) {
      const std::int64_t i = e / V.cols, j = e % V.cols;
      const T weight = weights.data == nullptr ? T(1) : weight_at<T>(weights, b, i, j);
      if (!(weight > T(0))) continue;
      const T* w = W.row(b, i);
      T s = 0;
      for (std::int64_t k = 0; k < rank; ++k) s += w[k] * H.row(b, k)[j];
      mine += weight * divergence_of(V.row(b, i)[j], s, beta);
    }
    const double sum = block_sum(mine, scratch);
    if (threadIdx.x == 0) partial[item] = sum;
  }
}

template <class T>
__device__ double penalty(image_view<const T> X, std::int64_t b, double l1, double l2) {
  double sum = 0;
  for (std::int64_t e = threadIdx.x; e < X.rows * X.cols; e += kThreads) {
    const double x = X.row(b, e / X.cols)[e % X.cols];
    sum += l1 * x + 0.5 * l2 * x * x;
  }
  return sum;
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    objective_sum_kernel(image_view<const T> W, image_view<const T> H, double l1_W, double l2_W, double l1_H,
                         double l2_H, const double* partial, int parts, double* objective) {
  shared_memory memory;
  const auto scratch = memory.take<double>(kThreads, "sums");
  for (std::int64_t b = blockIdx.x; b < W.batch; b += gridDim.x) {
    double mine = 0;
    for (int c = threadIdx.x; c < parts; c += kThreads) mine += partial[b * parts + c];
    if (l1_W > 0 || l2_W > 0) mine += penalty(W, b, l1_W, l2_W);
    if (l1_H > 0 || l2_H > 0) mine += penalty(H, b, l1_H, l2_H);
    const double sum = block_sum(mine, scratch);
    if (threadIdx.x == 0) objective[b] = sum;
  }
}

__global__ void __launch_bounds__(kThreads)
    settle_kernel(const double* start, const double* before, const double* now, double tol, const std::uint8_t* active,
                  std::uint8_t* still_active, std::int64_t batch) {
  for (std::int64_t b = blockIdx.x * static_cast<std::int64_t>(kThreads) + threadIdx.x; b < batch;
       b += static_cast<std::int64_t>(gridDim.x) * kThreads) {
    still_active[b] = active[b] != 0 && before[b] - now[b] >= tol * start[b];
  }
}

// ---- Normalisation.

// Norms of the components: scale[b, k] = ||w_k||, and place[b, k], where component k goes.
template <class T>
__global__ void __launch_bounds__(kThreads)
    norms_kernel(image_view<const T> W, image_view<const T> H, double* scale, double* strength) {
  shared_memory memory;
  const auto scratch = memory.take<double>(kThreads, "sums");
  const std::int64_t rank = W.cols;
  for (std::int64_t item = blockIdx.x; item < W.batch * rank; item += gridDim.x) {
    const std::int64_t b = item / rank, k = item % rank;
    double w = 0, h = 0;
    for (std::int64_t i = threadIdx.x; i < W.rows; i += kThreads) {
      const double x = W.row(b, i)[k];
      w += x * x;
    }
    for (std::int64_t j = threadIdx.x; j < H.cols; j += kThreads) {
      const double x = H.row(b, k)[j];
      h += x * x;
    }
    const double norm_w = sqrt(block_sum(w, scratch)), norm_h = sqrt(block_sum(h, scratch));
    if (threadIdx.x == 0) {
      scale[item] = norm_w;
      strength[item] = norm_w > 0 ? norm_w * norm_h : norm_h;
    }
  }
}

// order[b, q]: which component comes q-th.
__global__ void __launch_bounds__(kThreads)
    order_kernel(std::int64_t batch, std::int64_t rank, const double* strength, std::int64_t* order) {
  for (std::int64_t e = blockIdx.x * static_cast<std::int64_t>(kThreads) + threadIdx.x; e < batch * rank;
       e += static_cast<std::int64_t>(gridDim.x) * kThreads) {
    const std::int64_t b = e / rank, k = e % rank;
    std::int64_t before = 0;
    for (std::int64_t l = 0; l < rank; ++l) {
      const double other = strength[b * rank + l];
      before += other > strength[e] || (other == strength[e] && l < k);
    }
    order[b * rank + before] = k;
  }
}

// Permutes and scales: for each line (a row of W, a column of H) its `rank` values, by way of shared memory.
template <class T, bool kIsW>
__global__ void __launch_bounds__(kThreads)
    permute_kernel(image_view<T> X, const double* scale, const std::int64_t* order, int lines) {
  shared_memory memory;
  const std::int64_t rank = kIsW ? X.cols : X.rows, count = kIsW ? X.rows : X.cols;
  const auto held = memory.take<T>(rank * lines, "lines");
  const std::int64_t pieces = (count + lines - 1) / lines;
  for (std::int64_t item = blockIdx.x; item < X.batch * pieces; item += gridDim.x) {
    const std::int64_t b = item / pieces, first = item % pieces * lines;
    const int mine = static_cast<int>(min(count - first, static_cast<std::int64_t>(lines)));
    const int all = static_cast<int>(rank) * mine;
    __syncthreads();
    for (int e = threadIdx.x; e < all; e += kThreads) {
      held[e] = kIsW ? X.row(b, first + e / rank)[e % rank] : X.row(b, e / mine)[first + e % mine];
    }
    __syncthreads();
    for (int e = threadIdx.x; e < all; e += kThreads) {
      const int q = static_cast<int>(kIsW ? e % rank : e / mine), line = static_cast<int>(kIsW ? e / rank : e % mine);
      const int k = static_cast<int>(order[b * rank + q]);
      const T norm = static_cast<T>(scale[b * rank + k]);
      const T x = held[kIsW ? line * static_cast<int>(rank) + k : k * mine + line];
      if constexpr (kIsW) {
        X.row(b, first + line)[q] = at_least_floor(norm > T(0) ? x / norm : x);
      } else {
        X.row(b, q)[first + line] = at_least_floor(norm > T(0) ? x * norm : x);
      }
    }
  }
}

// ---- From the public functions to the kernels.

template <class T>
void launch_fused(problem<T>& p, update_rule kind, stream_handle stream) {
  int device = 0, processors = 0, most = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device), "cudaDeviceGetAttribute");
  check(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device), "cudaDeviceGetAttribute");
  const int padded = padded_rank(p.rank);
  const std::size_t budget = static_cast<std::size_t>(std::min<std::int64_t>(most, kSharedBudget));
  const auto bytes_with = [&](int rows, std::int64_t panels) {
    return tiles_bytes<T>(rows, panels, padded, p.splits, kind);
  };
  p.panel_rows = kPanelRows;
  while (p.panel_rows < p.V.rows && bytes_with(p.panel_rows + kPanelRows, 1) <= budget) p.panel_rows += kPanelRows;
  p.held = is_least_squares(kind) && p.V.rows <= p.panel_rows && bytes_with(p.panel_rows, p.tiles_per_chunk) <= budget;
  const std::size_t bytes = bytes_with(p.panel_rows, p.held ? p.tiles_per_chunk : 1);

  const auto run = [&](auto block_kernel, auto grid_kernel) {
    if (p.chunks == 1) {
      launch("nmf_block_kernel", block_kernel, dim3(grid_for(p.V.batch)), dim3(kThreads), bytes, stream, p);
      return;
    }
    allow_shared_bytes(grid_kernel, "nmf_grid_kernel", bytes);
    int resident = 0;
    check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&resident, grid_kernel, kThreads, bytes),
          "cudaOccupancyMaxActiveBlocksPerMultiprocessor");
    const std::int64_t most_blocks = static_cast<std::int64_t>(resident) * processors;
    const unsigned blocks = static_cast<unsigned>(std::min(most_blocks, p.V.batch * std::max(p.chunks, p.row_items)));
    launch_cooperative("nmf_grid_kernel", grid_kernel, dim3(blocks), dim3(kThreads), bytes, stream, p);
  };
  const auto by_rank = [&](auto k) {
    constexpr update_rule kKind = decltype(k)::value;
    if (padded == 8) return run(nmf_block_kernel<T, 8, kKind>, nmf_grid_kernel<T, 8, kKind>);
    if (padded == 16) return run(nmf_block_kernel<T, 16, kKind>, nmf_grid_kernel<T, 16, kKind>);
    if constexpr (max_fused_rank<T>(kKind) > 16) {
      return run(nmf_block_kernel<T, 32, kKind>, nmf_grid_kernel<T, 32, kKind>);
    }
  };
  if (kind == update_rule::frobenius) return by_rank(std::integral_constant<update_rule, update_rule::frobenius>{});
  if (kind == update_rule::hals) return by_rank(std::integral_constant<update_rule, update_rule::hals>{});
  if (kind == update_rule::kullback_leibler) {
    return by_rank(std::integral_constant<update_rule, update_rule::kullback_leibler>{});
  }
  return by_rank(std::integral_constant<update_rule, update_rule::general>{});
}

}  // namespace

template <class T>
std::int64_t nmf_workspace(std::int64_t batch, std::int64_t m, std::int64_t n, std::int64_t rank,
                           const nmf_options& options) {
  const update_rule kind = kind_of(options);
  const std::int64_t objective = batch * objective_parts(m, n) * static_cast<std::int64_t>(sizeof(double));
  const std::int64_t normalize = batch * rank * static_cast<std::int64_t>(2 * sizeof(double) + sizeof(std::int64_t));
  std::int64_t update;
  if (rank > max_fused_rank<T>(kind)) {
    update = large_rank_layout<T>(nullptr, batch, m, n, rank, kind).bytes;
  } else {
    const cut c = cut_of<T>(batch, m, n, rank, kind);
    const std::int64_t sums = (c.chunks + 1) * sums_per_chunk(m, rank, kind);
    update = batch * (sums + c.row_items * rank * rank) * static_cast<std::int64_t>(sizeof(T));
  }
  return std::max({objective, normalize, update});
}

template <class T, class S>
void nmf_update(image_view<const S> V, const nmf_weights& weights, image_view<T> W, image_view<T> H,
                const std::uint8_t* active, const nmf_options& options, int iterations, workspace_view workspace,
                stream_handle stream) {
  require(!options.hals || (options.beta == 2 && !options.weighted), "hals: needs beta = 2 and no weights");
  if (V.empty() || iterations < 1) return;
  require(workspace.bytes >= nmf_workspace<T>(V.batch, V.rows, V.cols, W.cols, options),
          "workspace: too small; ask nmf_workspace");
  T* const scratch = static_cast<T*>(workspace.data);
  const update_rule kind = kind_of(options);
  if (W.cols > max_fused_rank<T>(kind)) {
    update_large_rank(V, weights, W, H, active, options, iterations, scratch, stream);
    return;
  }
  const cut c = cut_of<T>(V.batch, V.rows, V.cols, W.cols, kind);
  problem<T> p{};
  p.V = V;
  p.weights = weights;
  p.W = W;
  p.H = H;
  p.active = active;
  p.beta = static_cast<T>(options.beta);
  p.exponent_W = static_cast<T>(nmf_exponent(options.beta, options.l2_W));
  p.exponent_H = static_cast<T>(nmf_exponent(options.beta, options.l2_H));
  p.l1_W = static_cast<T>(options.l1_W);
  p.l1_H = static_cast<T>(options.l1_H);
  p.l2_W = static_cast<T>(options.l2_W);
  p.l2_H = static_cast<T>(options.l2_H);
  p.inner_iter = options.inner_iter;
  p.iterations = iterations;
  p.rank = static_cast<int>(W.cols);
  p.update_W = options.update_W;
  p.chunks = c.chunks;
  p.tiles_per_chunk = c.tiles_per_chunk;
  p.row_items = c.row_items;
  p.rows_per_item = c.rows_per_item;
  p.splits = c.splits;
  p.packs_V = takes_packs<kPack<T>>(V);
  p.packs_H = takes_packs<kPack<T>>(H);
  p.sums_each = sums_per_chunk(V.rows, W.cols, kind);
  p.partials = scratch;
  p.sums = c.chunks == 1 ? scratch : scratch + V.batch * c.chunks * p.sums_each;
  p.gram_W = scratch + V.batch * (c.chunks + 1) * p.sums_each;
  launch_fused(p, kind, stream);
}

template <class T, class S>
void nmf_objective(image_view<const S> V, const nmf_weights& weights, image_view<const T> W, image_view<const T> H,
                   const nmf_options& options, double* objective, workspace_view workspace, stream_handle stream) {
  if (V.batch == 0) return;
  double* const partial = static_cast<double*>(workspace.data);
  const int parts = objective_parts(V.rows, V.cols);
  launch("objective_kernel", objective_kernel<T>, dim3(grid_for(V.batch * parts)), dim3(kThreads),
         shared_bytes<double>(kThreads), stream, V, weights, W, H, options.beta, parts, partial);
  launch("objective_sum_kernel", objective_sum_kernel<T>, dim3(grid_for(V.batch)), dim3(kThreads),
         shared_bytes<double>(kThreads), stream, W, H, options.l1_W, options.l2_W, options.l1_H, options.l2_H,
         static_cast<const double*>(partial), parts, objective);
}

void nmf_settle(const double* start, const double* before, const double* now, double tol, const std::uint8_t* active,
                std::uint8_t* still_active, std::int64_t batch, stream_handle stream) {
  if (batch == 0) return;
  launch("settle_kernel", settle_kernel, dim3(blocks_for(batch)), dim3(kThreads), 0, stream, start, before, now, tol,
         active, still_active, batch);
}

template <class T>
void nmf_normalize(image_view<T> W, image_view<T> H, workspace_view workspace, stream_handle stream) {
  if (W.empty() || H.empty()) return;
  const std::int64_t batch = W.batch, rank = W.cols;
  double* const scale = static_cast<double*>(workspace.data);
  double* const strength = scale + batch * rank;
  std::int64_t* const order = reinterpret_cast<std::int64_t*>(strength + batch * rank);
  launch("norms_kernel", norms_kernel<T>, dim3(grid_for(batch * rank)), dim3(kThreads), shared_bytes<double>(kThreads),
         stream, image_view<const T>(W), image_view<const T>(H), scale, strength);
  launch("order_kernel", order_kernel, dim3(blocks_for(batch * rank)), dim3(kThreads), 0, stream, batch, rank,
         static_cast<const double*>(strength), order);
  const int lines =
      static_cast<int>(std::max<std::int64_t>(1, std::min<std::int64_t>(64, 32 * 1024 / sizeof(T) / rank)));
  const std::size_t bytes = shared_bytes<T>(rank * lines);
  launch("permute_kernel", permute_kernel<T, true>, dim3(grid_for(batch * ((W.rows + lines - 1) / lines))),
         dim3(kThreads), bytes, stream, W, static_cast<const double*>(scale), static_cast<const std::int64_t*>(order),
         lines);
  launch("permute_kernel", permute_kernel<T, false>, dim3(grid_for(batch * ((H.cols + lines - 1) / lines))),
         dim3(kThreads), bytes, stream, H, static_cast<const double*>(scale), static_cast<const std::int64_t*>(order),
         lines);
}

template std::int64_t nmf_workspace<float>(std::int64_t, std::int64_t, std::int64_t, std::int64_t, const nmf_options&);
template std::int64_t nmf_workspace<double>(std::int64_t, std::int64_t, std::int64_t, std::int64_t, const nmf_options&);
template void nmf_update(image_view<const float>, const nmf_weights&, image_view<float>, image_view<float>,
                         const std::uint8_t*, const nmf_options&, int, workspace_view, stream_handle);
template void nmf_update(image_view<const double>, const nmf_weights&, image_view<double>, image_view<double>,
                         const std::uint8_t*, const nmf_options&, int, workspace_view, stream_handle);
template void nmf_objective(image_view<const float>, const nmf_weights&, image_view<const float>,
                            image_view<const float>, const nmf_options&, double*, workspace_view, stream_handle);
template void nmf_objective(image_view<const double>, const nmf_weights&, image_view<const double>,
                            image_view<const double>, const nmf_options&, double*, workspace_view, stream_handle);
template void nmf_normalize(image_view<float>, image_view<float>, workspace_view, stream_handle);
template void nmf_normalize(image_view<double>, image_view<double>, workspace_view, stream_handle);

}  // namespace nmfuse
