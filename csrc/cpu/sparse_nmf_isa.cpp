// A line of X is read from memory once for both factors: what A needs is gathered from the rows of B where the line has
// entries, and what B needs is added there.
#include "cpu/sparse_nmf_isa.h"

#include <cstring>

#include "cpu/descend.h"
#include "cpu/simd.h"

namespace nmfuse::NMFUSE_ISA {
namespace {

using std::int32_t;
using std::int64_t;

constexpr int kPanel = 4;  // vectors of components that are summed up in registers at once

// A vector of components, of which a padded row has a whole number.
template <class T>
constexpr int kStep = kLanes<T> < kSparseRankBlock ? kLanes<T> : static_cast<int>(kSparseRankBlock);
template <class T>
using block = vec<T, kStep<T>>;

// The stored entries of a line.
template <class T>
struct entries {
  int64_t count;
  const int32_t* at;
  const T* values;
};

template <class T>
entries<T> entries_of(const sparse_lines<T>& X, int64_t line) {
  const int64_t begin = X.starts[line];
  return {X.starts[line + 1] - begin, X.positions + begin, X.values + begin};
}

// to = the sum of weights[s] B[at[s]] over the entries, `Blocks` vectors of components from B.
template <int Blocks, class T>
inline void gather_blocks(const entries<T>& e, const T* weights, const T* B, int64_t stride, T* to) {
  block<T> sums[Blocks] = {};
  for (int64_t s = 0; s < e.count; ++s) {
    const T* const row = B + e.at[s] * stride;
    for (int b = 0; b < Blocks; ++b) sums[b] += weights[s] * load<block<T>>(row + b * kStep<T>);
  }
  for (int b = 0; b < Blocks; ++b) store(to + b * kStep<T>, sums[b]);
}

template <class T>
inline void gather(const entries<T>& e, const T* weights, const T* B, int64_t stride, T* to) {
  int64_t k = 0;
  for (; k + kPanel * kStep<T> <= stride; k += kPanel * kStep<T>) {
    gather_blocks<kPanel>(e, weights, B + k, stride, to + k);
  }
  switch ((stride - k) / kStep<T>) {
    case 1: return gather_blocks<1>(e, weights, B + k, stride, to + k);
    case 2: return gather_blocks<2>(e, weights, B + k, stride, to + k);
    case 3: return gather_blocks<3>(e, weights, B + k, stride, to + k);
  }
}

// to[at[s]] += weights[s] a.
template <class T>
inline void scatter(const entries<T>& e, const T* weights, const T* a, int64_t stride, T* to) {
  for (int64_t s = 0; s < e.count; ++s) {
    T* const row = to + e.at[s] * stride;
    for (int64_t k = 0; k < stride; k += kStep<T>) {
      store(row + k, load<block<T>>(row + k) + weights[s] * load<block<T>>(a + k));
    }
  }
}

template <class T>
inline T dot(const T* a, const T* b, int64_t stride) {
  block<T> sums{};
  for (int64_t k = 0; k < stride; k += kStep<T>) sums += load<block<T>>(a + k) * load<block<T>>(b + k);
  T total = 0;
  for (int i = 0; i < kStep<T>; ++i) total += sums[i];
  return total;
}

// The quotients x / y of the stored entries.
template <class T>
inline void divide(const entries<T>& e, const T* a, const T* B, int64_t stride, T* quotients) {
  constexpr T least = static_cast<T>(kProductFloor);
  for (int64_t s = 0; s < e.count; ++s) {
    const T y = dot(a, B + e.at[s] * stride, stride);
    quotients[s] = e.values[s] / (y > least ? y : least);
  }
}

// to = x gram for one row x.
template <class T>
inline void multiply(const T* x, const T* gram, int64_t rank, int64_t stride, T* to) {
  for (int64_t q = 0; q < stride; q += kStep<T>) {
    block<T> sums{};
    for (int64_t k = 0; k < rank; ++k) sums += x[k] * load<block<T>>(gram + k * stride + q);
    store(to + q, sums);
  }
}

// One row x of a factor by multiplicative updates; `products` is scratch for as many components.
template <class T>
inline void multiply_row(bool kullback_leibler, int inner_iter, const nmf_rule& rule, const T* numerators,
                         const T* measures, int64_t rank, int64_t stride, T* products, T* x) {
  const T l1 = static_cast<T>(rule.l1), l2 = static_cast<T>(rule.l2), floor = static_cast<T>(kFactorFloor);
  for (int inner = 0; inner < inner_iter; ++inner) {
    if (!kullback_leibler) multiply(x, measures, rank, stride, products);
    const T* const plus = kullback_leibler ? measures : products;
    for (int64_t k = 0; k < rank; ++k) {
      const T down = plus[k] + l1 + l2 * x[k];
      T ratio = numerators[k] / (down > kLeastNormal<T> ? down : kLeastNormal<T>);
      if (rule.exponent != 1.0) ratio = __builtin_sqrt(ratio);  // the one that there is: 1 / (3 - beta), beta = 1
      const T updated = x[k] * ratio;
      x[k] = updated > floor ? updated : floor;
    }
  }
}

// Up to kSparseRows rows x of a factor, one after the other or all at once.
template <class T>
inline void update_block(bool kullback_leibler, int inner_iter, const nmf_rule& rule, const T* numerators,
                         const T* measures, int64_t rank, int64_t stride, int64_t count, T* scratch, T* x) {
  if (rule.hals) {
    T* const columns = scratch;
    descend_rows(rule, measures, rank, stride, numerators, inner_iter, count, kSparseRows, kSparseRows, columns,
                 columns + rank * kSparseRows, x);
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    multiply_row(kullback_leibler, inner_iter, rule, numerators + i * stride, measures, rank, stride, scratch,
                 x + i * stride);
  }
}

template <class T>
void update_lines(const sparse_chunk<T>& chunk) {
  static_assert(kSparseRows % kColumnBlock == 0);
  const int64_t stride = chunk.padded_rank;
  T *const numerators = chunk.scratch, *const scratch = numerators + kSparseRows * stride,
           *const quotients = scratch + 2 * kSparseRows * stride;
  for (int64_t first = chunk.first; first < chunk.last; first += kSparseRows) {
    const int64_t count = chunk.last - first < kSparseRows ? chunk.last - first : kSparseRows;
    T* const A = chunk.A + first * stride;
    const auto weights_of = [&](const entries<T>& e, const T* a) {
      if (!chunk.kullback_leibler) return e.values;
      divide(e, a, chunk.B, stride, quotients);
      return static_cast<const T*>(quotients);
    };
    for (int64_t i = 0; i < count; ++i) {
      const entries<T> e = entries_of(chunk.X, first + i);
      gather(e, weights_of(e, A + i * stride), chunk.B, stride, numerators + i * stride);
    }
    update_block(chunk.kullback_leibler, chunk.inner_iter, chunk.rule, numerators, chunk.measures, chunk.rank, stride,
                 count, scratch, A);
    if (chunk.numerators == nullptr) continue;
    for (int64_t i = 0; i < count; ++i) {
      const entries<T> e = entries_of(chunk.X, first + i);
      scatter(e, weights_of(e, A + i * stride), A + i * stride, stride, chunk.numerators);
    }
  }
}

template <class T>
void update_rows(const sparse_rows<T>& rows) {
  for (int64_t first = 0; first < rows.rows; first += kSparseRows) {
    const int64_t count = rows.rows - first < kSparseRows ? rows.rows - first : kSparseRows;
    const int64_t at = first * rows.padded_rank;
    update_block(rows.kullback_leibler, rows.inner_iter, rows.rule, rows.numerators + at, rows.measures, rows.rank,
                 rows.padded_rank, count, rows.scratch, rows.B + at);
  }
}

template <class T>
double divergence(const sparse_chunk<T>& chunk) {
  double total = 0;
  for (int64_t line = chunk.first; line < chunk.last; ++line) {
    const entries<T> e = entries_of(chunk.X, line);
    const T* const a = chunk.A + line * chunk.padded_rank;
    double_vec sums{};
    for (int64_t s = 0; s < e.count; s += kLanes<double>) {
      double_vec x{}, y = broadcast<double_vec>(1.0);
      for (int i = 0; i < kLanes<double> && s + i < e.count; ++i) {
        x[i] = static_cast<double>(e.values[s + i]);
        y[i] = static_cast<double>(dot(a, chunk.B + e.at[s + i] * chunk.padded_rank, chunk.padded_rank));
      }
      if (chunk.kullback_leibler) {
        const double_vec some = x * log(x / larger(y, broadcast<double_vec>(kProductFloor))) - x;
        sums += x < kLeastNormal<double> ? double_vec{} : some;
      } else {
        sums += 0.5 * x * x - x * y;
      }
    }
    total += sum(sums);
  }
  return total;
}

}  // namespace
}  // namespace nmfuse::NMFUSE_ISA

namespace nmfuse {

template <isa kIsa, class T>
sparse_kernels<T> get_sparse_kernels() {
  using namespace NMFUSE_ISA;
  return {update_lines<T>, update_rows<T>, divergence<T>};
}

template sparse_kernels<float> get_sparse_kernels<kThisIsa, float>();
template sparse_kernels<double> get_sparse_kernels<kThisIsa, double>();

}  // namespace nmfuse
