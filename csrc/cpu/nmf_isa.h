// The tile kernels of nmf, one set for each instruction set. They know one problem, single-threaded pieces of it, and
// nothing of batches, threads or workspaces.
#pragma once

#include <cstdint>

#include "cpu/isa.h"
#include "nmfuse/nmf.h"

namespace nmfuse {

inline constexpr std::int64_t kRankBlock = 8;     // components are padded with zeros to a multiple of it
inline constexpr std::int64_t kColumnBlock = 32;  // so are the columns of a tile

enum class nmf_kind { frobenius, kullback_leibler, other };  // other: also these two where entries have weights

// The rows of V, of any type that is taken: they are read in one place, where they are packed.
enum class nmf_dtype { float32, float64, uint8, uint16 };
struct nmf_values {
  nmf_dtype dtype = nmf_dtype::float32;
  const char* data = nullptr;
  std::int64_t stride = 0;  // bytes
};

// Multiplicative: x <- max(x (numerator / (denominator + l1 + l2 x))^exponent, kFactorFloor)
struct nmf_rule {
  double l1 = 0.0;
  double l2 = 0.0;
  double exponent = 1.0;
  bool hals = false;  // instead, component by component: x_k <- max(x_k - gradient_k / curvature_k, 0)
};

// Scratch of one thread. Rows are `stride` apart but for H_columns.
template <class C>
struct nmf_tile {
  std::int64_t width = 0;   // columns of a full tile
  std::int64_t height = 0;  // rows of V held at once
  std::int64_t stride = 0;
  C* V = nullptr;            // (height, width) part of V
  C* V_next = nullptr;       // (height, width) scratch for the tile after it
  C* product = nullptr;      // (height, width) V / W H, or V (W H)^(beta - 2); not for frobenius
  C* power = nullptr;        // (height, width) (W H)^(beta - 1); other only
  C* weights = nullptr;      // (width) of one row; other only
  C* H = nullptr;            // (rank, width)
  C* numerator = nullptr;    // (rank, width)
  C* denominator = nullptr;  // (rank, width)
  C* H_columns = nullptr;    // (width, padded_rank) the transpose of H
};

// Columns [first, last) of a problem, and where their contributions to the update of W go.
template <class T, class C>
struct nmf_chunk {
  double beta = 2.0;
  std::int64_t m = 0, rank = 0, padded_rank = 0;
  std::int64_t first = 0, last = 0;
  nmf_values V, weights;  // weights without data: all are 1
  T* H = nullptr;
  std::int64_t H_stride = 0;
  const C* W = nullptr;       // (m, padded_rank)
  const C* gram = nullptr;    // (rank, padded_rank) W'W; frobenius only
  const C* sums_W = nullptr;  // (padded_rank) column sums of W; kullback_leibler only
  int inner_iter = 1;
  nmf_rule rule;
  // Overwritten; null where W is fixed. The denominator is H H' (rank, padded_rank) for frobenius, the row sums of H
  // (padded_rank) for kullback_leibler, else (m, padded_rank).
  double* numerator = nullptr;  // (m, padded_rank)
  double* denominator = nullptr;
};

// Rows of W: a multiple of nothing, padded_rank apart everywhere but in `out`.
template <class T, class C>
struct nmf_rows {
  std::int64_t rows = 0, rank = 0, padded_rank = 0;
  C* W = nullptr;
  C* updated = nullptr;               // scratch like W
  const double* numerator = nullptr;  // as in nmf_chunk, these rows
  const double* denominator = nullptr;
  int inner_iter = 1;
  nmf_rule rule;
  T* out = nullptr;  // the caller's W
  std::int64_t out_stride = 0;
  const C* gram_H = nullptr;  // (rank, padded_rank) H H'; frobenius only
};

template <class T, class C>
struct nmf_kernels {
  // H of all tiles of a chunk, and the sums for W.
  void (*update_H)(const nmf_chunk<T, C>& chunk, const nmf_tile<C>& tile);
  void (*update_W)(const nmf_rows<T, C>& rows, const nmf_tile<C>& scratch);
  // What the next update of H needs of W: W'W of some rows (frobenius) or their column sums.
  void (*measure_W)(const C* W, std::int64_t rows, std::int64_t rank, std::int64_t padded_rank, double* sums);
};

// d_beta of columns [first, last), with W (m, rank) as the caller gave it. Only V, product, weights and H of the tile
// are used.
template <class T>
struct nmf_residual {
  double beta = 2.0;
  std::int64_t m = 0, rank = 0;
  std::int64_t first = 0, last = 0;
  nmf_values V, weights;
  image_view<const T> W, H;  // of one problem
};

// T is float or double, C is T, or double where W H is raised to a power.
template <isa kIsa, class T, class C>
nmf_kernels<T, C> get_nmf_kernels(nmf_kind kind);
template <isa kIsa, class T>
double nmf_divergence(const nmf_residual<T>& residual, const nmf_tile<T>& tile);

}  // namespace nmfuse
