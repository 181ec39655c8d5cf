// Coordinate descent, vectorised over independent problems: what HALS does of dense and of sparse matrices. Include in
// *_isa.cpp only.
#pragma once

#include <cstdint>
#include <type_traits>

#include "cpu/nmf_isa.h"
#include "cpu/simd.h"

namespace nmfuse::NMFUSE_ISA {
namespace {

template <class T>
constexpr T kLeastNormal = 0;
template <>
constexpr float kLeastNormal<float> = 0x1p-126F;
template <>
constexpr double kLeastNormal<double> = 0x1p-1022;

// Coordinate descent on 1/2 x' gram x - products' x + l1 sum(x) + l2 / 2 sum(x^2) in x >= 0 for each column of x
// (rank, width), component by component: a sweep of HALS.
template <class C>
inline void descend(const nmf_rule& rule, const C* gram, std::int64_t rank, std::int64_t padded_rank, const C* products,
                    std::int64_t width, std::int64_t stride, C* x) {
  constexpr int kVectors = 2, N = kLanes<C>;
  static_assert(kColumnBlock % N == 0);
  const C l1 = static_cast<C>(rule.l1), l2 = static_cast<C>(rule.l2);
  const auto descend_columns = [&](std::int64_t j, auto vectors) {
    for (std::int64_t k = 0; k < rank; ++k) {
      const C* const row = gram + k * padded_rank;
      const C curvature = row[k] + l2;
      if (!(curvature > kLeastNormal<C>)) continue;  // nothing depends on this component
      vec<C> descent[vectors()];                     // minus the gradient
      for (int v = 0; v < vectors(); ++v) {
        const vec<C> old = load<vec<C>>(x + k * stride + j + v * N);
        descent[v] = load<vec<C>>(products + k * stride + j + v * N) - l1 - l2 * old;
      }
      for (std::int64_t l = 0; l < rank; ++l) {
        for (int v = 0; v < vectors(); ++v) descent[v] -= row[l] * load<vec<C>>(x + l * stride + j + v * N);
      }
      for (int v = 0; v < vectors(); ++v) {
        C* const at = x + k * stride + j + v * N;
        store(at, larger(load<vec<C>>(at) + descent[v] * (1 / curvature), vec<C>{}));
      }
    }
  };
  std::int64_t j = 0;
  for (; j + kVectors * N <= width; j += kVectors * N) descend_columns(j, std::integral_constant<int, kVectors>{});
  for (; j < width; j += N) descend_columns(j, std::integral_constant<int, 1>{});
}

// `sweeps` of it for each row of x and of products (count, padded_rank), by way of their transposes, for which there is
// scratch (rank, width) each, rows `stride` apart; the width is count rounded up to kColumnBlock.
template <class C, class P>
inline void descend_rows(const nmf_rule& rule, const C* gram, std::int64_t rank, std::int64_t padded_rank,
                         const P* products, int sweeps, std::int64_t count, std::int64_t width, std::int64_t stride,
                         C* columns, C* column_products, C* x) {
  for (std::int64_t k = 0; k < rank; ++k) {
    C *const to = columns + k * stride, *const product = column_products + k * stride;
    for (std::int64_t i = 0; i < width; ++i) {
      const std::int64_t at = i * padded_rank + k;
      to[i] = i < count ? x[at] : C(0);
      product[i] = i < count ? static_cast<C>(products[at]) : C(0);
    }
  }
  for (int sweep = 0; sweep < sweeps; ++sweep) {
    descend(rule, gram, rank, padded_rank, column_products, width, stride, columns);
  }
  for (std::int64_t k = 0; k < rank; ++k) {
    for (std::int64_t i = 0; i < count; ++i) x[i * padded_rank + k] = columns[k * stride + i];
  }
}

}  // namespace
}  // namespace nmfuse::NMFUSE_ISA
