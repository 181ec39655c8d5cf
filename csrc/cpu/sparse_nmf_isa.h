// The loops of sparse_nmf over lines and rows, one set for each instruction set; single-threaded.
#pragma once

#include <cstdint>

#include "cpu/isa.h"
#include "cpu/nmf_isa.h"
#include "nmfuse/sparse_nmf.h"

namespace nmfuse {

inline constexpr std::int64_t kSparseRows = 64;  // of a factor that are updated together

template <class T>
struct sparse_chunk {
  sparse_lines<T> X;
  std::int64_t first = 0, last = 0;  // lines
  T* A = nullptr;                    // (lines, padded_rank)
  const T* B = nullptr;              // (width, padded_rank)
  std::int64_t rank = 0, padded_rank = 0;
  bool kullback_leibler = false;
  int inner_iter = 1;
  nmf_rule rule;
  const T* measures = nullptr;  // B'B (rank, padded_rank), or for kullback_leibler its column sums (padded_rank)
  T* numerators = nullptr;      // (width, padded_rank) for B, added to; null where B is fixed
  T* scratch = nullptr;         // 3 kSparseRows padded_rank and the longest line
};

// Rows of B, with what all chunks together found.
template <class T>
struct sparse_rows {
  T* B = nullptr;  // (rows, padded_rank)
  const T* numerators = nullptr;
  std::int64_t rows = 0, rank = 0, padded_rank = 0;
  bool kullback_leibler = false;
  int inner_iter = 1;
  nmf_rule rule;
  const T* measures = nullptr;  // of A, as above
  T* scratch = nullptr;         // 2 kSparseRows padded_rank
};

template <class T>
struct sparse_kernels {
  void (*update_lines)(const sparse_chunk<T>& chunk);
  void (*update_rows)(const sparse_rows<T>& rows);
  // What the stored entries add to the divergence: for beta = 2 (x - y)^2 / 2 - y^2 / 2, for beta = 1 x log(x / y) - x.
  double (*divergence)(const sparse_chunk<T>& chunk);
};

template <isa kIsa, class T>
sparse_kernels<T> get_sparse_kernels();

}  // namespace nmfuse
