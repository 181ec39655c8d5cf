// Non-negative matrix factorization of a sparse matrix X ~ A B', of which only the stored entries are read. On the CPU.
#pragma once

#include <cstdint>

#include "nmfuse/image_view.h"
#include "nmfuse/nmf.h"

namespace nmfuse {

// Compressed lines: the rows of a CSR matrix, or the columns of a CSC one. Entries that are not stored are zero.
template <class T>
struct sparse_lines {
  std::int64_t lines = 0, width = 0;        // width: how many entries a line has, stored or not
  const std::int64_t* starts = nullptr;     // (lines + 1) where the entries of a line begin
  const std::int32_t* positions = nullptr;  // of the entries in their line
  const T* values = nullptr;
};

// Components are padded with zeros to a multiple of this.
inline constexpr std::int64_t kSparseRankBlock = 8;

// Bytes of scratch for the functions below.
template <class T>
std::int64_t sparse_nmf_workspace(const sparse_lines<T>& X, std::int64_t rank);

// `iterations` iterations in place, each A (lines, padded rank) first and then B (width, padded rank) with the new A, X
// being read once. The options of H are those of A, the options of W those of B; beta is 2 or 1, without weights.
template <class T>
void sparse_nmf_update(const sparse_lines<T>& X, T* A, T* B, std::int64_t rank, const nmf_options& options,
                       int iterations, workspace_view workspace);

// d_beta(X | A B') + penalties.
template <class T>
double sparse_nmf_objective(const sparse_lines<T>& X, const T* A, const T* B, std::int64_t rank,
                            const nmf_options& options, workspace_view workspace);

}  // namespace nmfuse
