// All products of nmf are one register-blocked kernel: a broadcast element of the left matrix times a vector of a row
// of the right one. Per tile of columns: V is packed into cache, W'V updates H, and V H' is summed up while V is there.
// Nothing here may be shared with other files (std containers, inline functions): they would get these instructions
// too.
#include "cpu/nmf_isa.h"

#include <cstring>
#include <type_traits>
#include <utility>

#include "cpu/descend.h"
#include "cpu/simd.h"

namespace nmfuse::NMFUSE_ISA {
namespace {

using std::int64_t;

int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
int64_t padded_columns(int64_t n) { return (n + kColumnBlock - 1) / kColumnBlock * kColumnBlock; }

constexpr int64_t kFetchRows = 16;

// The left matrix of a product, p rows by `depth`, as it lies in memory or transposed.
template <class T>
struct by_rows {
  const T* data;
  int64_t stride;
  T operator()(int64_t p, int64_t s) const { return data[p * stride + s]; }
  void begin(int64_t) const {}
};
template <class T>
struct by_columns {
  const T* data;
  int64_t stride;
  T operator()(int64_t p, int64_t s) const { return data[s * stride + p]; }
  void begin(int64_t) const {}
};

// By rows, while the rows of another matrix are fetched, a cache line at each step.
template <class T>
struct by_rows_and_fetch {
  static constexpr int64_t kLine = 64, kLines = 8;  // of a row, before the next row's turn
  const T* data;
  int64_t stride;
  const char* next;
  int64_t next_stride, next_bytes;  // of a row
  T operator()(int64_t p, int64_t s) const { return data[p * stride + s]; }
  void begin(int64_t s) const {
    const int64_t at = (s / kLines / kFetchRows * kLines + s % kLines) * kLine;
    if (at < next_bytes) __builtin_prefetch(next + (s / kLines) % kFetchRows * next_stride + at);
  }
};

// The right matrix, `depth` rows.
template <class T>
struct right_matrix {
  const T* data;
  int64_t stride;
};

// take(p + i, q + v N, sum over s of left(p + i, s) right(s, q + v N ...)) for P rows and `Vectors` vectors of N lanes.
template <int P, int Vectors, class Vec, class C, class Left, class Take>
inline void multiply_block(const Left& left, int64_t p, const right_matrix<C>& right, int64_t q, int64_t depth,
                           const Take& take) {
  constexpr int N = sizeof(Vec) / sizeof(C);
  Vec sums[P][Vectors] = {};
  const C* row = right.data + q;
  for (int64_t s = 0; s < depth; ++s, row += right.stride) {
    Vec x[Vectors];
    for (int v = 0; v < Vectors; ++v) x[v] = load<Vec>(row + v * N);
    left.begin(s);
#pragma GCC unroll 16
    for (int i = 0; i < P; ++i) {
      const C a = left(p + i, s);
      for (int v = 0; v < Vectors; ++v) sums[i][v] += a * x[v];
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < P; ++i) {
    for (int v = 0; v < Vectors; ++v) take(p + i, q + v * N, sums[i][v]);
  }
}

// Rows [p, rows), P at a time and the rest by halves.
template <int P, int Vectors, class Vec, class C, class Left, class Take>
inline void multiply_rows(const Left& left, int64_t p, int64_t rows, const right_matrix<C>& right, int64_t q,
                          int64_t depth, const Take& take) {
  for (; p + P <= rows; p += P) multiply_block<P, Vectors, Vec>(left, p, right, q, depth, take);
  if constexpr (P > 1) multiply_rows<P / 2, Vectors, Vec>(left, p, rows, right, q, depth, take);
}

// Columns [q, columns), fewer than 2 N of them, by ever narrower vectors.
template <int N, class C, class Left, class Take>
inline void multiply_columns(const Left& left, int64_t rows, const right_matrix<C>& right, int64_t q, int64_t columns,
                             int64_t depth, const Take& take) {
  if (q + N <= columns) {
    multiply_rows<kVectorRegisters / 2, 1, vec<C, N>>(left, 0, rows, right, q, depth, take);
    q += N;
  }
  if constexpr (N > kRankBlock) multiply_columns<N / 2>(left, rows, right, q, columns, depth, take);
}

// Rows of a block two vectors wide: four in 16 registers, of few rows (as many as the rank) they leave no rest. Where
// there are many rows, six are faster with AVX2, whose multiply-adds need no register in between.
constexpr int kFewRows = kVectorRegisters / 4, kManyRows = kVectorBytes == 32 ? 6 : kFewRows;

// left (rows, depth) times right (depth, columns), columns a multiple of kRankBlock.
template <int kBlock = kFewRows, class C, class Left, class Take>
inline void multiply(const Left& left, int64_t rows, const right_matrix<C>& right, int64_t columns, int64_t depth,
                     const Take& take) {
  constexpr int N = kLanes<C>;
  int64_t q = 0;
  for (; q + 2 * N <= columns; q += 2 * N) {
    multiply_rows<kBlock, 2, vec<C>>(left, 0, rows, right, q, depth, take);
  }
  if constexpr (N >= kRankBlock) multiply_columns<N>(left, rows, right, q, columns, depth, take);
}

// Whether a vector holds two columns of a transposed tile of kRankBlock components.
template <class C>
constexpr bool kHoldsPairs = kLanes<C> == 2 * kRankBlock;

// to += left times the transpose of H, for kRankBlock components of which two columns each lie interleaved in `pairs`:
// the sums of even and of odd columns stand side by side until the end.
template <int P, class C, class Left>
inline void multiply_pairs(const Left& left, int64_t p, int64_t rows, const C* pairs, int64_t depth, double* to) {
  for (; p + P <= rows; p += P) {
    vec<C> sums[P] = {};
    for (int64_t s = 0; s < depth; s += 2) {
      const vec<C> h = load<vec<C>>(pairs + s * kRankBlock);
      left.begin(s);
      left.begin(s + 1);
#pragma GCC unroll 16
      for (int i = 0; i < P; ++i) {
        int64_t two;
        static_assert(sizeof(two) == 2 * sizeof(C) || !kHoldsPairs<C>);
        std::memcpy(&two, left.data + (p + i) * left.stride + s, sizeof(two));
        sums[i] += bits_of<vec<C>>(broadcast<integer_vec>(two)) * h;
      }
    }
#pragma GCC unroll 16
    for (int i = 0; i < P; ++i) {
      const auto even = __builtin_shufflevector(sums[i], sums[i], 0, 2, 4, 6, 8, 10, 12, 14);
      const auto odd = __builtin_shufflevector(sums[i], sums[i], 1, 3, 5, 7, 9, 11, 13, 15);
      double* const at = to + (p + i) * kRankBlock;
      store(at, load<double_vec>(at) + __builtin_convertvector(even + odd, double_vec));
    }
  }
  if constexpr (P > 1) multiply_pairs<P / 2>(left, p, rows, pairs, depth, to);
}

// What to do with the elements of a product.
template <class C>
struct keep {
  C* to;
  int64_t stride;
  template <class Vec>
  void operator()(int64_t p, int64_t q, Vec x) const {
    store(to + p * stride + q, x);
  }
};

template <class C>
struct add {
  C* to;
  int64_t stride;
  template <class Vec>
  void operator()(int64_t p, int64_t q, Vec x) const {
    C* at = to + p * stride + q;
    store(at, load<Vec>(at) + x);
  }
};

template <class C>
struct add_in_double {
  double* to;
  int64_t stride;
  template <class Vec>
  void operator()(int64_t p, int64_t q, Vec x) const {
    double* at = to + p * stride + q;
    add_part<0>(at, x);
  }
  // By shuffles: read in parts from memory, x would live there, and so would the sums that it is.
  template <int First, class Vec>
  static void add_part(double* at, Vec x) {
    store(at + First, load<double_vec>(at + First) + convert_part<First>(x, lane_numbers{}));
    if constexpr (First + kLanes<double> < sizeof(Vec) / sizeof(C)) add_part<First + kLanes<double>>(at, x);
  }
  using lane_numbers = std::make_integer_sequence<int, kLanes<double>>;
  template <int First, class Vec, int... Lane>
  static double_vec convert_part(Vec x, std::integer_sequence<int, Lane...>) {
    return __builtin_convertvector(__builtin_shufflevector(x, x, First + Lane...), double_vec);
  }
};

// The quotient of kullback_leibler: V / W H where W H is the product.
template <class C>
struct divide {
  const C* V;
  C* to;
  int64_t stride;
  template <class Vec>
  void operator()(int64_t p, int64_t q, Vec WH) const {
    const int64_t at = p * stride + q;
    store(to + at, load<Vec>(V + at) / larger(WH, broadcast<Vec>(static_cast<C>(kProductFloor))));
  }
};

// As many elements as a double_vec has: for powers, and where numerators are double and factors are not.
template <class C>
using factor_vec = vec<C, kLanes<double>>;

template <class Vec, class From>
inline Vec load_as(const From* from) {
  return __builtin_convertvector(load<vec<From, sizeof(Vec) / sizeof(Vec{}[0])>>(from), Vec);
}

// to = the rule for `count` elements of x, a multiple of the vector; denominator(i, v) gives a vector like v, and
// raise(v) its power.
template <class Vec, class C, class Numerator, class Denominator, class Raise>
inline void apply_rule_by(const nmf_rule& rule, int64_t count, const C* x, const Numerator* numerator,
                          const Denominator& denominator, C* to, const Raise& raise) {
  const C l1 = static_cast<C>(rule.l1), l2 = static_cast<C>(rule.l2);
  const Vec least = broadcast<Vec>(kLeastNormal<C>), floor = broadcast<Vec>(static_cast<C>(kFactorFloor));
  for (int64_t i = 0; i < count; i += sizeof(Vec) / sizeof(C)) {
    const Vec old = load<Vec>(x + i);
    const Vec ratio = load_as<Vec>(numerator + i) / larger(denominator(i, Vec{}) + l1 + l2 * old, least);
    store(to + i, larger(old * raise(ratio), floor));
  }
}

template <class Vec, class C, class Numerator, class Denominator>
inline void apply_rule(const nmf_rule& rule, int64_t count, const C* x, const Numerator* numerator,
                       const Denominator& denominator, C* to) {
  if (rule.exponent == 1.0) {
    apply_rule_by<Vec>(rule, count, x, numerator, denominator, to, [](Vec ratio) { return ratio; });
    return;
  }
  using vector = factor_vec<C>;
  apply_rule_by<vector>(rule, count, x, numerator, denominator, to, [&](vector ratio) {
    return __builtin_convertvector(pow(__builtin_convertvector(ratio, double_vec), rule.exponent), vector);
  });
}

// Rows [0, rows) of a matrix, converted, with zeros from `columns` to the padded width.
template <class From, class To>
inline void pack(const From* from, int64_t from_stride, int64_t rows, int64_t columns, To* to, int64_t to_stride) {
  const int64_t width = padded_columns(columns);
  for (int64_t i = 0; i < rows; ++i, from += from_stride, to += to_stride) {
    for (int64_t j = 0; j < columns; ++j) to[j] = static_cast<To>(from[j]);
    for (int64_t j = columns; j < width; ++j) to[j] = 0;
  }
}

int64_t bytes_of(nmf_dtype dtype) {
  return dtype == nmf_dtype::float64 ? 8 : dtype == nmf_dtype::float32 ? 4 : dtype == nmf_dtype::uint16 ? 2 : 1;
}

// Where an element of V lies.
const char* address_of(const nmf_values& V, int64_t row, int64_t column) {
  return V.data + row * V.stride + column * bytes_of(V.dtype);
}

// Rows and columns of V from (row, column), as `pack`.
template <class C>
inline void pack_values(const nmf_values& V, int64_t row, int64_t column, int64_t rows, int64_t columns, C* to,
                        int64_t to_stride) {
  const char* const from = address_of(V, row, column);
  const int64_t stride = V.stride / bytes_of(V.dtype);
  const auto pack_as = [&](auto type) {
    pack(reinterpret_cast<const decltype(type)*>(from), stride, rows, columns, to, to_stride);
  };
  switch (V.dtype) {
    case nmf_dtype::float32: return pack_as(float{});
    case nmf_dtype::float64: return pack_as(double{});
    case nmf_dtype::uint8: return pack_as(std::uint8_t{});
    case nmf_dtype::uint16: return pack_as(std::uint16_t{});
  }
}

// One tile of columns of one chunk at work.
template <nmf_kind kKind, class T, class C>
class tile_update {
 public:
  tile_update(const nmf_chunk<T, C>& chunk, const nmf_tile<C>& tile, int64_t first, bool packed)
      : chunk_(chunk),
        tile_(tile),
        first_(first),
        columns_(smaller(tile.width, chunk.last - first)),
        width_(padded_columns(columns_)),
        next_(first + tile.width),
        packed_(packed) {}

  // Whether the next tile of V is packed while this one is worked on, into V_next.
  bool packs_next() const { return held_whole() && chunk_.numerator != nullptr && next_ < chunk_.last; }

  void run() {
    pack(chunk_.H + first_, chunk_.H_stride, chunk_.rank, columns_, tile_.H, tile_.stride);
    for (int64_t i = 0; i < chunk_.m; i += tile_.height) add_rows_to_H_sums(i, smaller(tile_.height, chunk_.m - i));
    for (int inner = 0; inner < chunk_.inner_iter; ++inner) update_H();
    for (int64_t k = 0; k < chunk_.rank; ++k) {
      T* to = chunk_.H + k * chunk_.H_stride + first_;
      const C* from = tile_.H + k * tile_.stride;
      for (int64_t j = 0; j < columns_; ++j) to[j] = static_cast<T>(from[j]);
    }
    if (chunk_.numerator == nullptr) return;

    if (in_pairs()) {
      for (int64_t j = 0; j < columns_; j += 2) {
        for (int64_t k = 0; k < chunk_.rank; ++k) {
          std::memcpy(tile_.H_columns + j * kRankBlock + 2 * k, tile_.H + k * tile_.stride + j, 2 * sizeof(C));
        }
      }
    } else {
      for (int64_t k = 0; k < chunk_.rank; ++k) {
        const C* from = tile_.H + k * tile_.stride;
        for (int64_t j = 0; j < columns_; ++j) tile_.H_columns[j * chunk_.padded_rank + k] = from[j];
      }
    }
    for (int64_t i = 0; i < chunk_.m; i += tile_.height) add_rows_to_W_sums(i, smaller(tile_.height, chunk_.m - i));
    add_H_to_W_sums();
  }

 private:
  bool held_whole() const { return chunk_.m <= tile_.height; }

  bool in_pairs() const { return kHoldsPairs<C> && chunk_.padded_rank == kRankBlock; }

  void pack_V(int64_t i, int64_t rows) { pack_values(chunk_.V, i, first_, rows, columns_, tile_.V, tile_.stride); }

  // From V to what is multiplied by the factors in the numerator, and in the denominator for `other`.
  void weigh_V(int64_t i, int64_t rows) {
    const by_rows<C> W{chunk_.W + i * chunk_.padded_rank, chunk_.padded_rank};
    const right_matrix<C> H{tile_.H, tile_.stride};
    if constexpr (kKind == nmf_kind::kullback_leibler) {
      multiply(W, rows, H, width_, chunk_.rank, divide<C>{tile_.V, tile_.product, tile_.stride});
    } else if constexpr (kKind == nmf_kind::other) {
      multiply(W, rows, H, width_, chunk_.rank, keep<C>{tile_.power, tile_.stride});
      for (int64_t p = 0; p < rows; ++p) weigh_row(i + p, p * tile_.stride);
    }
  }

  // One row of V, where W H stands in `power`: at is where it begins in the tile.
  void weigh_row(int64_t i, int64_t at) {
    C *const V = tile_.V + at, *const power = tile_.power + at, *const product = tile_.product + at;
    if (chunk_.beta == 2.0) {
      std::memcpy(product, V, static_cast<std::size_t>(width_) * sizeof(C));
    } else if (chunk_.beta == 1.0) {
      for (int64_t j = 0; j < width_; j += kLanes<C>) {
        store(product + j, load<vec<C>>(V + j) / larger(load<vec<C>>(power + j), broadcast<vec<C>>(kLeastProduct)));
        store(power + j, broadcast<vec<C>>(C(1)));
      }
    } else {
      for (int64_t j = 0; j < width_; j += kLanes<double>) {
        const double_vec WH = larger(load_doubles(power + j), broadcast<double_vec>(kProductFloor));
        const double_vec to_power = chunk_.beta == 0.0 ? 1.0 / WH : pow(WH, chunk_.beta - 1.0);
        store_doubles(power + j, to_power);
        store_doubles(product + j, load_doubles(V + j) * (to_power / WH));
      }
    }
    if (chunk_.weights.data == nullptr) return;
    pack_values(chunk_.weights, i, first_, 1, columns_, tile_.weights, tile_.stride);
    for (int64_t j = 0; j < width_; j += kLanes<C>) {
      const vec<C> weight = load<vec<C>>(tile_.weights + j), none{};
      store(power + j, load<vec<C>>(power + j) * weight);
      store(product + j, weight > none ? load<vec<C>>(product + j) * weight : none);  // V may be NaN there
    }
  }
  static constexpr C kLeastProduct = static_cast<C>(kProductFloor);

  const C* weighed() const { return kKind == nmf_kind::frobenius ? tile_.V : tile_.product; }

  void add_rows_to_H_sums(int64_t i, int64_t rows) {
    if (!packed_) pack_V(i, rows);
    weigh_V(i, rows);
    multiply_W(i, rows, weighed(), tile_.numerator);
    if constexpr (kKind == nmf_kind::other) multiply_W(i, rows, tile_.power, tile_.denominator);
  }

  // to (+)= W' x for rows from i; the first rows overwrite.
  void multiply_W(int64_t i, int64_t rows, const C* x, C* to) {
    const by_columns<C> W{chunk_.W + i * chunk_.padded_rank, chunk_.padded_rank};
    const right_matrix<C> right{x, tile_.stride};
    if (i == 0) {
      multiply(W, chunk_.rank, right, width_, rows, keep<C>{to, tile_.stride});
    } else {
      multiply(W, chunk_.rank, right, width_, rows, add<C>{to, tile_.stride});
    }
  }

  void update_H() {
    if constexpr (kKind == nmf_kind::frobenius) {
      if (chunk_.rule.hals) {
        descend(chunk_.rule, chunk_.gram, chunk_.rank, chunk_.padded_rank, tile_.numerator, width_, tile_.stride,
                tile_.H);
        return;
      }
      const by_columns<C> gram{chunk_.gram, chunk_.padded_rank};
      multiply(gram, chunk_.rank, right_matrix<C>{tile_.H, tile_.stride}, width_, chunk_.rank,
               keep<C>{tile_.denominator, tile_.stride});
    }
    for (int64_t k = 0; k < chunk_.rank; ++k) {
      C* h = tile_.H + k * tile_.stride;
      const C* denominators = tile_.denominator + k * tile_.stride;
      apply_rule<vec<C>>(
          chunk_.rule, width_, h, tile_.numerator + k * tile_.stride,
          [&](int64_t j, auto like) {
            if constexpr (kKind == nmf_kind::kullback_leibler) {
              return broadcast<decltype(like)>(chunk_.sums_W[k]);
            } else {
              return load<decltype(like)>(denominators + j);
            }
          },
          h);
    }
  }

  void add_rows_to_W_sums(int64_t i, int64_t rows) {
    if (!held_whole()) pack_V(i, rows);
    weigh_V(i, rows);
    multiply_H(i, rows, weighed(), chunk_.numerator);
    if constexpr (kKind == nmf_kind::other) multiply_H(i, rows, tile_.power, chunk_.denominator);
  }

  // to += x H' for rows from i; between them, rows of the next tile are packed, which were fetched just before.
  void multiply_H(int64_t i, int64_t rows, const C* x, double* to) {
    to += i * chunk_.padded_rank;
    if (!packs_next() || x == tile_.power) {
      add_products(by_rows<C>{x, tile_.stride}, rows, to);
      return;
    }
    const int64_t columns = smaller(tile_.width, chunk_.last - next_);
    for (int64_t p = 0; p < rows; p += kFetchRows) {
      const int64_t some = smaller(kFetchRows, rows - p);
      const by_rows_and_fetch<C> left{x + p * tile_.stride, tile_.stride, address_of(chunk_.V, p + kFetchRows, next_),
                                      chunk_.V.stride, columns * bytes_of(chunk_.V.dtype)};
      add_products(left, some, to + p * chunk_.padded_rank);
      pack_values(chunk_.V, p, next_, some, columns, tile_.V_next + p * tile_.stride, tile_.stride);
    }
  }

  // to (rows, padded_rank) += left times the transpose of H.
  template <class Left>
  void add_products(const Left& left, int64_t rows, double* to) {
    if constexpr (kHoldsPairs<C>) {
      if (in_pairs()) {
        multiply_pairs<kVectorRegisters / 2>(left, 0, rows, tile_.H_columns, columns_, to);
        return;
      }
    }
    multiply<kManyRows>(left, rows, right_matrix<C>{tile_.H_columns, chunk_.padded_rank}, chunk_.padded_rank, columns_,
                        add_in_double<C>{to, chunk_.padded_rank});
  }

  void add_H_to_W_sums() {
    if constexpr (kKind == nmf_kind::frobenius) {
      add_products(by_rows<C>{tile_.H, tile_.stride}, chunk_.rank, chunk_.denominator);
    } else if constexpr (kKind == nmf_kind::kullback_leibler) {
      for (int64_t k = 0; k < chunk_.rank; ++k) {
        const C* h = tile_.H + k * tile_.stride;
        for (int64_t j = 0; j < columns_; ++j) chunk_.denominator[k] += static_cast<double>(h[j]);
      }
    }
  }

  const nmf_chunk<T, C>& chunk_;
  const nmf_tile<C>& tile_;
  const int64_t first_, columns_, width_, next_;
  const bool packed_;
};

void clear(double* x, int64_t count) { std::memset(x, 0, static_cast<std::size_t>(count) * sizeof(double)); }

template <nmf_kind kKind, class T, class C>
void update_H(const nmf_chunk<T, C>& chunk, const nmf_tile<C>& scratch) {
  nmf_tile<C> tile = scratch;
  if (chunk.numerator != nullptr) {
    const int64_t of_W = chunk.m * chunk.padded_rank;
    clear(chunk.numerator, of_W);
    clear(chunk.denominator, kKind == nmf_kind::other       ? of_W
                             : kKind == nmf_kind::frobenius ? chunk.rank * chunk.padded_rank
                                                            : chunk.padded_rank);
    // The padding of the transposed tile stays zero: it is never written again.
    std::memset(tile.H_columns, 0, static_cast<std::size_t>(tile.width * chunk.padded_rank) * sizeof(C));
  }
  bool packed = false;
  for (int64_t first = chunk.first; first < chunk.last; first += tile.width) {
    tile_update<kKind, T, C> update(chunk, tile, first, packed);
    update.run();
    packed = update.packs_next();
    if (packed) {
      C* const next = tile.V_next;
      tile.V_next = tile.V;
      tile.V = next;
    }
  }
}

template <nmf_kind kKind, class T, class C>
void update_W_once(const nmf_rows<T, C>& rows) {
  const int64_t width = rows.padded_rank;
  if constexpr (kKind == nmf_kind::frobenius) {
    multiply(by_rows<C>{rows.W, width}, rows.rows, right_matrix<C>{rows.gram_H, width}, width, rows.rank,
             keep<C>{rows.updated, width});
  }
  for (int64_t i = 0; i < rows.rows; ++i) {
    const int64_t row = i * width;
    C* updated = rows.updated + row;
    apply_rule<factor_vec<C>>(
        rows.rule, width, rows.W + row, rows.numerator + row,
        [&](int64_t k, auto like) {
          if constexpr (kKind == nmf_kind::frobenius) {
            return load<decltype(like)>(updated + k);
          } else if constexpr (kKind == nmf_kind::kullback_leibler) {
            return load_as<decltype(like)>(rows.denominator + k);
          } else {
            return load_as<decltype(like)>(rows.denominator + row + k);
          }
        },
        updated);
    for (int64_t k = 0; k < rows.rank; ++k) rows.W[row + k] = updated[k];  // the padding of W stays zero
  }
}

// Rows of W by sweeps of HALS, a part at a time.
template <class T, class C>
void descend_in_parts(const nmf_rows<T, C>& rows, const nmf_tile<C>& tile) {
  for (int64_t first = 0; first < rows.rows; first += tile.width) {
    const int64_t count = smaller(tile.width, rows.rows - first), at = first * rows.padded_rank;
    descend_rows(rows.rule, rows.gram_H, rows.rank, rows.padded_rank, rows.numerator + at, rows.inner_iter, count,
                 padded_columns(count), tile.stride, tile.H, tile.numerator, rows.W + at);
  }
}

template <nmf_kind kKind, class T, class C>
void update_W(const nmf_rows<T, C>& rows, const nmf_tile<C>& scratch) {
  if (rows.rule.hals) {
    descend_in_parts(rows, scratch);
  } else {
    for (int inner = 0; inner < rows.inner_iter; ++inner) update_W_once<kKind>(rows);
  }
  for (int64_t i = 0; i < rows.rows; ++i) {
    const C* const row = rows.W + i * rows.padded_rank;
    for (int64_t k = 0; k < rows.rank; ++k) rows.out[i * rows.out_stride + k] = static_cast<T>(row[k]);
  }
}

template <class C>
void measure_gram(const C* W, int64_t rows, int64_t rank, int64_t padded_rank, double* sums) {
  constexpr int64_t kDepth = 256;  // rows that may be summed up in float
  clear(sums, rank * padded_rank);
  for (int64_t i = 0; i < rows; i += kDepth) {
    const C* at = W + i * padded_rank;
    multiply(by_columns<C>{at, padded_rank}, rank, right_matrix<C>{at, padded_rank}, padded_rank,
             smaller(kDepth, rows - i), add_in_double<C>{sums, padded_rank});
  }
}

template <class C>
void measure_columns(const C* W, int64_t rows, int64_t rank, int64_t padded_rank, double* sums) {
  clear(sums, padded_rank);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t k = 0; k < rank; ++k) sums[k] += static_cast<double>(W[i * padded_rank + k]);
  }
}

// The divergence of one element each, in double: d_beta(v | x).
template <class Body>
void visit_divergence(double beta, const Body& body) {
  const auto positive = [](double_vec x) { return larger(x, broadcast<double_vec>(kProductFloor)); };
  if (beta == 2.0) {
    body([](double_vec v, double_vec x) { return 0.5 * (v - x) * (v - x); });
  } else if (beta == 1.0) {
    body([=](double_vec v, double_vec x) {
      x = positive(x);
      const double_vec some = v * log(v / x) - (v - x);
      return v < kLeastNormal<double> ? x : some;
    });
  } else if (beta == 0.0) {
    body([=](double_vec v, double_vec x) {
      const double_vec ratio = v / positive(x);
      return (ratio - 1.0) - log(ratio);
    });
  } else {
    body([=](double_vec v, double_vec x) {
      x = positive(x);
      const double_vec power = pow(x, beta - 1.0);
      return (pow(v, beta) + power * ((beta - 1.0) * x - beta * v)) / (beta * (beta - 1.0));
    });
  }
}

}  // namespace
}  // namespace nmfuse::NMFUSE_ISA

namespace nmfuse {

template <isa kIsa, class T, class C>
nmf_kernels<T, C> get_nmf_kernels(nmf_kind kind) {
  using namespace NMFUSE_ISA;
  if constexpr (std::is_same_v<T, C>) {  // else there are powers, so the kind is `other`
    if (kind == nmf_kind::frobenius) {
      return {update_H<nmf_kind::frobenius, T, C>, update_W<nmf_kind::frobenius, T, C>, measure_gram<C>};
    }
    if (kind == nmf_kind::kullback_leibler) {
      return {update_H<nmf_kind::kullback_leibler, T, C>, update_W<nmf_kind::kullback_leibler, T, C>,
              measure_columns<C>};
    }
  }
  return {update_H<nmf_kind::other, T, C>, update_W<nmf_kind::other, T, C>, measure_columns<C>};
}

template <isa kIsa, class T>
double nmf_divergence(const nmf_residual<T>& residual, const nmf_tile<T>& tile) {
  using namespace NMFUSE_ISA;
  using std::int64_t;
  double total = 0;
  for (int64_t first = residual.first; first < residual.last; first += tile.width) {
    const int64_t columns = smaller(tile.width, residual.last - first), width = padded_columns(columns);
    pack(residual.H.data + first, residual.H.row_stride, residual.rank, columns, tile.H, tile.stride);
    for (int64_t i = 0; i < residual.m; i += tile.height) {
      const int64_t rows = smaller(tile.height, residual.m - i);
      pack_values(residual.V, i, first, rows, columns, tile.V, tile.stride);
      multiply(by_rows<T>{residual.W.row(0, i), residual.W.row_stride}, rows, right_matrix<T>{tile.H, tile.stride},
               width, residual.rank, keep<T>{tile.product, tile.stride});
      for (int64_t p = 0; p < rows; ++p) {  // padding where V = W H costs nothing
        for (int64_t j = columns; j < width; ++j) tile.V[p * tile.stride + j] = tile.product[p * tile.stride + j] = 1;
      }
      visit_divergence(residual.beta, [&](const auto& divergence) {
        for (int64_t p = 0; p < rows; ++p) {
          const T *v = tile.V + p * tile.stride, *x = tile.product + p * tile.stride;
          double_vec row{};
          if (residual.weights.data == nullptr) {
            for (int64_t j = 0; j < width; j += kLanes<double>) {
              row += divergence(load_doubles(v + j), load_doubles(x + j));
            }
          } else {
            pack_values(residual.weights, i + p, first, 1, columns, tile.weights, tile.stride);
            for (int64_t j = 0; j < width; j += kLanes<double>) {
              const double_vec weight = load_doubles(tile.weights + j), none{};
              const double_vec some = weight * divergence(load_doubles(v + j), load_doubles(x + j));
              row += weight > none ? some : none;  // V may be NaN there
            }
          }
          total += sum(row);
        }
      });
    }
  }
  return total;
}

template nmf_kernels<float, float> get_nmf_kernels<kThisIsa, float, float>(nmf_kind);
template nmf_kernels<float, double> get_nmf_kernels<kThisIsa, float, double>(nmf_kind);
template nmf_kernels<double, double> get_nmf_kernels<kThisIsa, double, double>(nmf_kind);
template double nmf_divergence<kThisIsa, float>(const nmf_residual<float>&, const nmf_tile<float>&);
template double nmf_divergence<kThisIsa, double>(const nmf_residual<double>&, const nmf_tile<double>&);

}  // namespace nmfuse
