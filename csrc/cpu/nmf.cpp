// How a problem is cut and who computes what; the arithmetic is in nmf_isa.cpp. Columns are cut into chunks of tiles,
// rows into blocks, both by the shape alone. A chunk owns its share of the sums for W, and shares are added in the
// order of the chunks: the bits depend neither on the number of threads nor on the order in which they finish.
#include "nmfuse/nmf.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <new>
#include <numeric>
#include <type_traits>
#include <vector>

#include "cpu/isa.h"
#include "cpu/nmf_isa.h"
#include "nmfuse/error.h"
#include "nmfuse/parallel.h"

namespace nmfuse {
namespace {

using std::int64_t;
using std::uint16_t;
using std::uint8_t;

constexpr int64_t kTileBytes = 512 << 10;       // a tile of V stays in L2...
constexpr int64_t kTallTileBytes = 2048 << 10;  // ...or a narrower one in L3; taller ones are read twice
constexpr int64_t kTileColumns = 256, kNarrowTileColumns = 128;
constexpr int64_t kMaxChunks = 32;
constexpr int64_t kLeastChunkWork = 1 << 20;  // multiply-adds: below, a thread costs more than it brings
constexpr int64_t kLeastSumsBytes = 4 << 20;  // all chunks' sums together may take so much, or a tenth of V
constexpr int64_t kLeastRows = 64, kMaxRowBlocks = 64;
constexpr int64_t kBandColumns = 1024;  // of H, in nmf_normalize
constexpr int64_t kAlignment = 64;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

nmf_kind kind_of(const nmf_options& options) {
  if (options.weighted) return nmf_kind::other;
  if (options.beta == 2.0) return nmf_kind::frobenius;
  return options.beta == 1.0 ? nmf_kind::kullback_leibler : nmf_kind::other;
}

// Powers of small products leave the range of float.
template <class T, class Body>
auto with_computing_type(double beta, const Body& body) {
  return beta == 1.0 || beta == 2.0 ? body(T{}) : body(double{});
}

// Hands out parts of one block of memory; of no memory, it measures what is needed.
class carver {
 public:
  explicit carver(void* data) : data_(static_cast<char*>(data)) {}
  template <class T>
  T* take(int64_t count) {
    char* const at = data_ == nullptr ? nullptr : data_ + used_;
    used_ += round_up(count * static_cast<int64_t>(sizeof(T)), kAlignment);
    return reinterpret_cast<T*>(at);
  }
  int64_t used() const { return used_; }

 private:
  char* data_;
  int64_t used_ = 0;
};

// How a problem of one shape is cut.
struct nmf_cut {
  int64_t padded_rank;
  int64_t tile_width, tile_height;
  int64_t chunks, chunk_columns;
  int64_t row_blocks, block_rows;
  int64_t measures;      // what the next update of H needs of W: W'W, or its column sums
  int64_t denominators;  // a chunk's share of the denominator of W (see nmf_chunk)

  nmf_cut(nmf_kind kind, int64_t m, int64_t n, int64_t rank, int64_t value_bytes, int64_t V_bytes) {
    padded_rank = round_up(rank, kRankBlock);
    const int64_t held = kind == nmf_kind::frobenius ? 1 : kind == nmf_kind::kullback_leibler ? 2 : 3;
    const int64_t row_bytes = held * value_bytes * kTileColumns;
    tile_width = m * row_bytes <= kTileBytes ? kTileColumns : kNarrowTileColumns;
    tile_width = std::min(tile_width, round_up(n, kColumnBlock));
    tile_height = std::min(m, std::max<int64_t>(1, kTallTileBytes / (held * value_bytes * tile_width)));

    measures = kind == nmf_kind::frobenius ? rank * padded_rank : padded_rank;
    denominators = kind == nmf_kind::other ? m * padded_rank : measures;
    const int64_t tiles = ceil_div(n, tile_width);
    const int64_t sums_bytes = static_cast<int64_t>(sizeof(double)) * (m * padded_rank + denominators);
    const int64_t by_memory = std::max<int64_t>(2, std::max(kLeastSumsBytes, m * n * V_bytes / 10) / sums_bytes);
    const int64_t by_work = std::max<int64_t>(1, m * n * rank / kLeastChunkWork);
    const int64_t tiles_per_chunk = ceil_div(tiles, std::min({tiles, kMaxChunks, by_memory, by_work}));
    chunk_columns = tiles_per_chunk * tile_width;
    chunks = ceil_div(n, chunk_columns);

    block_rows = std::max(kLeastRows, ceil_div(m, kMaxRowBlocks));
    row_blocks = ceil_div(m, block_rows);
  }
};

// The tile of one thread.
template <class C>
nmf_tile<C> take_tile(carver& memory, const nmf_cut& cut, int64_t rank, nmf_kind kind) {
  nmf_tile<C> tile;
  tile.width = cut.tile_width;
  tile.height = cut.tile_height;
  tile.stride = cut.tile_width + kAlignment / static_cast<int64_t>(sizeof(C));  // rows fall into different cache sets
  tile.V = memory.take<C>(tile.height * tile.stride);
  tile.V_next = memory.take<C>(tile.height * tile.stride);
  if (kind != nmf_kind::frobenius) tile.product = memory.take<C>(tile.height * tile.stride);
  if (kind == nmf_kind::other) tile.power = memory.take<C>(tile.height * tile.stride);
  if (kind == nmf_kind::other) tile.weights = memory.take<C>(tile.stride);
  tile.H = memory.take<C>(rank * tile.stride);
  tile.numerator = memory.take<C>(rank * tile.stride);
  tile.denominator = memory.take<C>(rank * tile.stride);
  tile.H_columns = memory.take<C>(tile.width * cut.padded_rank);
  return tile;
}

// Deals items out to threads, each with a tile of its own that lives as long as this.
template <class C>
class tile_workers {
 public:
  tile_workers(const nmf_cut& cut, int64_t rank, nmf_kind kind, int64_t most) {
    carver measure(nullptr);
    take_tile<C>(measure, cut, rank, kind);
    const int64_t count = std::min<int64_t>(num_threads(), most);
    for (int64_t i = 0; i < count; ++i) {
      void* const data = std::aligned_alloc(kAlignment, static_cast<std::size_t>(measure.used()));
      if (data == nullptr) throw std::bad_alloc();
      memory_.emplace_back(data);
      carver memory(data);
      tiles_.push_back(take_tile<C>(memory, cut, rank, kind));
    }
  }

  // body(item, tile) for all items, the last one first if `backward`.
  template <class Body>
  void run(int64_t items, bool backward, const Body& body) const {
    std::atomic<int64_t> next{0};
    parallel_for(static_cast<int64_t>(tiles_.size()), [&](int64_t worker) {
      for (int64_t i = next++; i < items; i = next++) {
        body(backward ? items - 1 - i : i, tiles_[static_cast<std::size_t>(worker)]);
      }
    });
  }

 private:
  struct release {
    void operator()(void* data) const { std::free(data); }
  };
  std::vector<std::unique_ptr<void, release>> memory_;
  std::vector<nmf_tile<C>> tiles_;
};

// Everything that a problem keeps between the halves of an iteration.
template <class C>
struct nmf_state {
  C* W;                  // (m, padded_rank)
  C* updated;            // scratch like W
  C* measures;           // see nmf_cut
  C* gram_H;             // (rank, padded_rank); frobenius only
  double* measured;      // (row_blocks, measures)
  double* numerators;    // (chunks, m, padded_rank)
  double* denominators;  // (chunks, denominators)

  nmf_state(carver& memory, const nmf_cut& cut, int64_t m, const nmf_options& options)
      : W(memory.take<C>(m * cut.padded_rank)),
        updated(memory.take<C>(m * cut.padded_rank)),
        measures(memory.take<C>(cut.measures)),
        gram_H(memory.take<C>(cut.measures)),
        measured(memory.take<double>(cut.row_blocks * cut.measures)),
        numerators(memory.take<double>(options.update_W ? cut.chunks * m * cut.padded_rank : 0)),
        denominators(memory.take<double>(options.update_W ? cut.chunks * cut.denominators : 0)) {}
};

// V as bytes, whatever its type: row(b, i) is where a row begins.
struct any_matrices : image_view<const char> {
  template <class S>
  explicit any_matrices(image_view<const S> V)
      : image_view<const char>{reinterpret_cast<const char*>(V.data),
                               V.batch,
                               V.rows,
                               V.cols,
                               V.batch_stride * static_cast<int64_t>(sizeof(S)),
                               V.row_stride * static_cast<int64_t>(sizeof(S))},
        dtype(std::is_same_v<S, float>     ? nmf_dtype::float32
              : std::is_same_v<S, double>  ? nmf_dtype::float64
              : std::is_same_v<S, uint8_t> ? nmf_dtype::uint8
                                           : nmf_dtype::uint16) {}
  nmf_values values(int64_t b) const { return {dtype, row(b, 0), row_stride}; }
  nmf_dtype dtype;
};

// The weights of one problem, next to factors of T.
template <class T>
nmf_values weights_of(const nmf_weights& weights, int64_t b) {
  if (weights.data == nullptr) return {};
  const auto dtype = weights.bytes              ? nmf_dtype::uint8
                     : std::is_same_v<T, float> ? nmf_dtype::float32
                                                : nmf_dtype::float64;
  return {dtype, static_cast<const char*>(weights.data) + b * weights.batch_stride, weights.row_stride};
}

template <class T, class C>
class nmf_run {
 public:
  nmf_run(const any_matrices& V, const nmf_weights& weights, image_view<T> W, image_view<T> H, const uint8_t* active,
          const nmf_options& options, workspace_view workspace)
      : V_(V),
        weights_(weights),
        W_(W),
        H_(H),
        active_(active),
        options_(options),
        kind_(kind_of(options)),
        cut_(kind_, V.rows, V.cols, W.cols, sizeof(C), sizeof(T)),
        kernels_(dispatch_isa([this](auto which) { return get_nmf_kernels<which(), T, C>(kind_); })),
        rule_H_{options.l1_H, options.l2_H, nmf_exponent(options.beta, options.l2_H), options.hals},
        rule_W_{options.l1_W, options.l2_W, nmf_exponent(options.beta, options.l2_W), options.hals} {
    require(!options.hals || kind_ == nmf_kind::frobenius, "hals: only with beta = 2 and without weights");
    require(options.weighted == (weights.data != nullptr), "weights: the options say otherwise");
    carver memory(workspace.data);
    for (int64_t b = 0; b < V.batch; ++b) states_.emplace_back(memory, cut_, V.rows, options);
    require(memory.used() <= workspace.bytes, "workspace: too small; ask nmf_workspace");
  }

  void iterate(int iterations) {
    const int64_t batch = V_.batch;
    const tile_workers<C> workers(cut_, W_.cols, kind_, batch * std::max(cut_.chunks, cut_.row_blocks));
    if (cut_.chunks == 1 || batch >= 2 * num_threads()) {  // a problem for each thread: nobody waits
      workers.run(batch, false, [&](int64_t b, const nmf_tile<C>& tile) {
        if (!is_active(b)) return;
        for (int64_t i = 0; i < cut_.row_blocks; ++i) pack_W(b, i, tile);
        finish_measures(b);
        for (int n = 0; n < iterations; ++n) {
          for (int64_t c = 0; c < cut_.chunks; ++c) update_chunk(b, c, tile);
          if (!options_.update_W) continue;
          sum_denominators(b);
          for (int64_t i = 0; i < cut_.row_blocks; ++i) update_rows(b, i, tile);
          finish_measures(b);
        }
      });
      return;
    }
    const auto over_rows = [&](auto piece) {
      workers.run(batch * cut_.row_blocks, false, [&](int64_t item, const nmf_tile<C>& tile) {
        const int64_t b = item / cut_.row_blocks;
        if (is_active(b)) (this->*piece)(b, item % cut_.row_blocks, tile);
      });
      for (int64_t b = 0; b < batch; ++b) finish_measures(b);
    };
    over_rows(&nmf_run::pack_W);
    for (int n = 0; n < iterations; ++n) {
      // To and fro: what the last sweep left in cache comes first.
      workers.run(batch * cut_.chunks, n % 2 == 1, [&](int64_t item, const nmf_tile<C>& tile) {
        const int64_t b = item / cut_.chunks;
        if (is_active(b)) update_chunk(b, item % cut_.chunks, tile);
      });
      if (!options_.update_W) continue;
      for (int64_t b = 0; b < batch; ++b) sum_denominators(b);
      over_rows(&nmf_run::update_rows);
    }
  }

 private:
  bool is_active(int64_t b) const { return active_ == nullptr || active_[b] != 0; }
  nmf_state<C>& state(int64_t b) { return states_[static_cast<std::size_t>(b)]; }
  int64_t rows_of(int64_t block) const { return std::min(cut_.block_rows, V_.rows - block * cut_.block_rows); }

  void pack_W(int64_t b, int64_t block, const nmf_tile<C>&) {
    const int64_t first = block * cut_.block_rows;
    C* to = state(b).W + first * cut_.padded_rank;
    for (int64_t i = first; i < first + rows_of(block); ++i, to += cut_.padded_rank) {
      for (int64_t k = 0; k < cut_.padded_rank; ++k) to[k] = k < W_.cols ? static_cast<C>(W_.row(b, i)[k]) : C(0);
    }
    measure_W(b, block);
  }

  void measure_W(int64_t b, int64_t block) {
    kernels_.measure_W(state(b).W + block * cut_.block_rows * cut_.padded_rank, rows_of(block), W_.cols,
                       cut_.padded_rank, state(b).measured + block * cut_.measures);
  }

  void finish_measures(int64_t b) {
    for (int64_t e = 0; e < cut_.measures; ++e) {
      double sum = 0;
      for (int64_t i = 0; i < cut_.row_blocks; ++i) sum += state(b).measured[i * cut_.measures + e];
      state(b).measures[e] = static_cast<C>(sum);
    }
  }

  void update_chunk(int64_t b, int64_t index, const nmf_tile<C>& tile) {
    const nmf_state<C>& s = state(b);
    nmf_chunk<T, C> chunk;
    chunk.beta = options_.beta;
    chunk.m = V_.rows;
    chunk.rank = W_.cols;
    chunk.padded_rank = cut_.padded_rank;
    chunk.first = index * cut_.chunk_columns;
    chunk.last = std::min(chunk.first + cut_.chunk_columns, V_.cols);
    chunk.V = V_.values(b);
    chunk.weights = weights_of<T>(weights_, b);
    chunk.H = H_.row(b, 0);
    chunk.H_stride = H_.row_stride;
    chunk.W = s.W;
    chunk.gram = chunk.sums_W = s.measures;
    chunk.inner_iter = options_.inner_iter;
    chunk.rule = rule_H_;
    if (options_.update_W) {
      chunk.numerator = s.numerators + index * V_.rows * cut_.padded_rank;
      chunk.denominator = s.denominators + index * cut_.denominators;
    }
    kernels_.update_H(chunk, tile);
  }

  // Where it is the same for all rows, the denominator is summed up once; else update_rows does it.
  void sum_denominators(int64_t b) {
    if (kind_ == nmf_kind::other) return;
    nmf_state<C>& s = state(b);
    add_shares(s.denominators, cut_.denominators, 0, cut_.denominators);
    if (kind_ == nmf_kind::frobenius) std::copy_n(s.denominators, cut_.denominators, s.gram_H);
  }

  // Entries [first, first + count) of the first chunk's share become the sum of all chunks' shares.
  void add_shares(double* shares, int64_t share, int64_t first, int64_t count) const {
    for (int64_t c = 1; c < cut_.chunks; ++c) {
      const double* const from = shares + c * share;
      for (int64_t e = first; e < first + count; ++e) shares[e] += from[e];
    }
  }

  void update_rows(int64_t b, int64_t block, const nmf_tile<C>& tile) {
    const nmf_state<C>& s = state(b);
    const int64_t first = block * cut_.block_rows, at = first * cut_.padded_rank,
                  count = rows_of(block) * cut_.padded_rank;
    add_shares(s.numerators, V_.rows * cut_.padded_rank, at, count);
    if (kind_ == nmf_kind::other) add_shares(s.denominators, cut_.denominators, at, count);
    nmf_rows<T, C> rows;
    rows.rows = rows_of(block);
    rows.rank = W_.cols;
    rows.padded_rank = cut_.padded_rank;
    rows.W = s.W + at;
    rows.updated = s.updated + at;
    rows.numerator = s.numerators + at;
    rows.denominator = s.denominators + (kind_ == nmf_kind::other ? at : 0);
    rows.inner_iter = options_.inner_iter;
    rows.rule = rule_W_;
    rows.out = W_.row(b, first);
    rows.out_stride = W_.row_stride;
    rows.gram_H = s.gram_H;
    kernels_.update_W(rows, tile);
    measure_W(b, block);
  }

  const any_matrices V_;
  const nmf_weights weights_;
  const image_view<T> W_, H_;
  const uint8_t* const active_;
  const nmf_options options_;
  const nmf_kind kind_;
  const nmf_cut cut_;
  const nmf_kernels<T, C> kernels_;
  const nmf_rule rule_H_, rule_W_;
  std::vector<nmf_state<C>> states_;
};

template <class T>
double penalty(image_view<const T> x, int64_t b, double l1, double l2) {
  if (l1 == 0 && l2 == 0) return 0;
  double sum = 0, squares = 0;
  for (int64_t i = 0; i < x.rows; ++i) {
    const T* row = x.row(b, i);
    for (int64_t j = 0; j < x.cols; ++j) {
      const double value = static_cast<double>(row[j]);
      sum += value;
      squares += value * value;
    }
  }
  return l1 * sum + l2 / 2 * squares;
}

}  // namespace

template <class T>
int64_t nmf_workspace(int64_t batch, int64_t m, int64_t n, int64_t rank, const nmf_options& options) {
  const nmf_kind kind = kind_of(options);
  const int64_t update = with_computing_type<T>(options.beta, [&](auto c) {
    using C = decltype(c);
    carver memory(nullptr);
    nmf_state<C>(memory, nmf_cut(kind, m, n, rank, sizeof(C), sizeof(T)), m, options);
    return batch * memory.used();
  });
  const int64_t objective = batch * kMaxChunks * static_cast<int64_t>(sizeof(double));
  const int64_t normalize = batch * rank * static_cast<int64_t>(2 * sizeof(double) + sizeof(int64_t));
  return std::max({update, objective, normalize});
}

template <class T, class S>
void nmf_update(image_view<const S> V, const nmf_weights& weights, image_view<T> W, image_view<T> H,
                const uint8_t* active, const nmf_options& options, int iterations, workspace_view workspace,
                stream_handle) {
  if (V.empty() || iterations < 1) return;
  with_computing_type<T>(options.beta, [&](auto c) {
    nmf_run<T, decltype(c)>(any_matrices(V), weights, W, H, active, options, workspace).iterate(iterations);
  });
}

template <class T, class S>
void nmf_objective(image_view<const S> V, const nmf_weights& weights, image_view<const T> W, image_view<const T> H,
                   const nmf_options& options, double* objective, workspace_view workspace, stream_handle) {
  if (V.empty()) return;
  const nmf_kind with_product =  // what the tile must hold
      weights.data == nullptr ? nmf_kind::kullback_leibler : nmf_kind::other;
  const nmf_cut cut(with_product, V.rows, V.cols, W.cols, sizeof(T), sizeof(T));
  double* const shares = static_cast<double*>(workspace.data);  // (batch, chunks)
  require(workspace.bytes >= V.batch * cut.chunks * static_cast<int64_t>(sizeof(double)),
          "workspace: too small; ask nmf_workspace");
  const tile_workers<T> workers(cut, W.cols, with_product, V.batch * cut.chunks);
  workers.run(V.batch * cut.chunks, false, [&](int64_t item, const nmf_tile<T>& tile) {
    const int64_t b = item / cut.chunks, first = item % cut.chunks * cut.chunk_columns;
    const auto plane = [b](image_view<const T> x) {
      x.data = x.row(b, 0);
      x.batch = 1;
      return x;
    };
    const nmf_residual<T> residual{options.beta,
                                   V.rows,
                                   W.cols,
                                   first,
                                   std::min(first + cut.chunk_columns, V.cols),
                                   any_matrices(V).values(b),
                                   weights_of<T>(weights, b),
                                   plane(W),
                                   plane(H)};
    shares[item] = dispatch_isa([&](auto which) { return nmf_divergence<which(), T>(residual, tile); });
  });
  for (int64_t b = 0; b < V.batch; ++b) {
    objective[b] = std::accumulate(shares + b * cut.chunks, shares + (b + 1) * cut.chunks, 0.0) +
                   penalty(W, b, options.l1_W, options.l2_W) + penalty(H, b, options.l1_H, options.l2_H);
  }
}

void nmf_settle(const double* start, const double* before, const double* now, double tol, const uint8_t* active,
                uint8_t* still_active, int64_t batch, stream_handle) {
  for (int64_t b = 0; b < batch; ++b) still_active[b] = active[b] != 0 && before[b] - now[b] >= tol * start[b];
}

template <class T>
void nmf_normalize(image_view<T> W, image_view<T> H, workspace_view workspace, stream_handle) {
  if (W.empty() || H.empty()) return;
  const int64_t batch = W.batch, rank = W.cols;
  double* const length = static_cast<double*>(workspace.data);                 // (batch, rank) of the columns of W
  double* const strength = length + batch * rank;                              // of the rows of H, once scaled
  int64_t* const order = reinterpret_cast<int64_t*>(strength + batch * rank);  // which component comes q-th
  require(workspace.bytes >= batch * rank * static_cast<int64_t>(2 * sizeof(double) + sizeof(int64_t)),
          "workspace: too small; ask nmf_workspace");
  const auto square = [](T x) { return static_cast<double>(x) * static_cast<double>(x); };
  parallel_for(batch * rank, [&](int64_t item) {
    const int64_t b = item / rank, k = item % rank;
    double w = 0, h = 0;
    for (int64_t i = 0; i < W.rows; ++i) w += square(W.row(b, i)[k]);
    for (int64_t j = 0; j < H.cols; ++j) h += square(H.row(b, k)[j]);
    length[item] = w > 0 ? std::sqrt(w) : 1.0;
    strength[item] = length[item] * std::sqrt(h);
  });
  for (int64_t b = 0; b < batch; ++b) {
    int64_t* const mine = order + b * rank;
    std::iota(mine, mine + rank, int64_t{0});
    std::stable_sort(mine, mine + rank,
                     [&](int64_t k, int64_t l) { return strength[b * rank + k] > strength[b * rank + l]; });
  }
  const auto floored = [](double x) { return static_cast<T>(std::max(x, kFactorFloor)); };
  const int64_t bands = ceil_div(H.cols, kBandColumns), pieces = bands + 1;
  parallel_for(batch * pieces, [&](int64_t item) {
    const int64_t b = item / pieces, band = item % pieces;
    const int64_t* const mine = order + b * rank;
    const double* const by = length + b * rank;
    if (band == bands) {
      std::vector<T> row(static_cast<std::size_t>(rank));
      for (int64_t i = 0; i < W.rows; ++i) {
        std::copy_n(W.row(b, i), rank, row.data());
        for (int64_t q = 0; q < rank; ++q) {
          W.row(b, i)[q] = floored(static_cast<double>(row[static_cast<std::size_t>(mine[q])]) / by[mine[q]]);
        }
      }
      return;
    }
    const int64_t first = band * kBandColumns, width = std::min(kBandColumns, H.cols - first);
    std::vector<T> held(static_cast<std::size_t>(rank * width));
    for (int64_t k = 0; k < rank; ++k) std::copy_n(H.row(b, k) + first, width, held.data() + k * width);
    for (int64_t q = 0; q < rank; ++q) {
      const T* const from = held.data() + mine[q] * width;
      T* const to = H.row(b, q) + first;
      for (int64_t j = 0; j < width; ++j) to[j] = floored(static_cast<double>(from[j]) * by[mine[q]]);
    }
  });
}

template int64_t nmf_workspace<float>(int64_t, int64_t, int64_t, int64_t, const nmf_options&);
template int64_t nmf_workspace<double>(int64_t, int64_t, int64_t, int64_t, const nmf_options&);
template void nmf_update(image_view<const float>, const nmf_weights&, image_view<float>, image_view<float>,
                         const uint8_t*, const nmf_options&, int, workspace_view, stream_handle);
template void nmf_update(image_view<const uint8_t>, const nmf_weights&, image_view<float>, image_view<float>,
                         const uint8_t*, const nmf_options&, int, workspace_view, stream_handle);
template void nmf_update(image_view<const uint16_t>, const nmf_weights&, image_view<float>, image_view<float>,
                         const uint8_t*, const nmf_options&, int, workspace_view, stream_handle);
template void nmf_update(image_view<const double>, const nmf_weights&, image_view<double>, image_view<double>,
                         const uint8_t*, const nmf_options&, int, workspace_view, stream_handle);
template void nmf_objective(image_view<const float>, const nmf_weights&, image_view<const float>,
                            image_view<const float>, const nmf_options&, double*, workspace_view, stream_handle);
template void nmf_objective(image_view<const uint8_t>, const nmf_weights&, image_view<const float>,
                            image_view<const float>, const nmf_options&, double*, workspace_view, stream_handle);
template void nmf_objective(image_view<const uint16_t>, const nmf_weights&, image_view<const float>,
                            image_view<const float>, const nmf_options&, double*, workspace_view, stream_handle);
template void nmf_objective(image_view<const double>, const nmf_weights&, image_view<const double>,
                            image_view<const double>, const nmf_options&, double*, workspace_view, stream_handle);
template void nmf_normalize(image_view<float>, image_view<float>, workspace_view, stream_handle);
template void nmf_normalize(image_view<double>, image_view<double>, workspace_view, stream_handle);

}  // namespace nmfuse
