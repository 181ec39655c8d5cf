// Non-negative matrix factorization V ~ W H by multiplicative updates (Lee & Seung 2001; Fevotte & Idier 2011) or by
// hierarchical alternating least squares, HALS (Cichocki & Phan 2009), which is coordinate descent, component by
// component.
#pragma once

#include <cstdint>

#include "nmfuse/image_view.h"

namespace nmfuse {

struct nmf_options {
  double beta = 2.0;  // divergence: 2 Frobenius, 1 Kullback-Leibler, 0 Itakura-Saito, any other real
  double l1_W = 0.0, l1_H = 0.0, l2_W = 0.0, l2_H = 0.0;  // added to the objective: l1 sum|.| + l2/2 sum(.)^2
  int inner_iter = 1;     // updates of each factor per pass over V (Gillis & Glineur 2012); beta = 2 only
  bool update_W = true;   // false: W is fixed and only H is solved for
  bool hals = false;      // instead of multiplicative updates; beta = 2 without weights only; factors may become zero
  bool weighted = false;  // whether weights of the entries are given
};

// A weight in [0, 1] for each entry of V, or none where data is null: of the type of the factors, or of 8 bits (0 or
// 1). An entry of weight 0 may be anything, NaN too. The strides count bytes.
struct nmf_weights {
  const void* data = nullptr;
  bool bytes = false;
  std::int64_t batch_stride = 0;
  std::int64_t row_stride = 0;
};

inline constexpr double kFactorFloor = 1e-12;  // W and H never fall below it: a zero could not leave zero

// W H counts as this where it is divided by or raised to a power: the least product of two factors.
inline constexpr double kProductFloor = kFactorFloor * kFactorFloor;

// The exponent of an update that never lets the objective rise (Fevotte & Idier 2011). A squared penalty grows faster
// than a divergence of beta < 2; bounding every term by a square gives 1 / (3 - beta) there.
constexpr double nmf_exponent(double beta, double l2) {
  if (l2 > 0 && beta < 2) return 1 / (3 - beta);
  if (beta < 1) return 1 / (2 - beta);
  return beta > 2 ? 1 / (beta - 1) : 1;
}

// Bytes of scratch for nmf_update, nmf_objective and nmf_normalize on (batch, m, n) problems of the given rank.
template <class T>
std::int64_t nmf_workspace(std::int64_t batch, std::int64_t m, std::int64_t n, std::int64_t rank,
                           const nmf_options& options);

// `iterations` iterations in place, each H first, then W with the new H (Lee & Seung order). T is float or double; S is
// T, or on the CPU uint8_t or uint16_t, of which T is float. V (batch, m, n), W (batch, m, r), H (batch, r, n). active
// (batch bytes, or nullptr for all): problems with 0 are left as they are. With beta = 2 and no weights, V is read from
// memory once an iteration and no m x n or r x n temporary exists.
template <class T, class S>
void nmf_update(image_view<const S> V, const nmf_weights& weights, image_view<T> W, image_view<T> H,
                const std::uint8_t* active, const nmf_options& options, int iterations, workspace_view workspace,
                stream_handle stream);

// objective[b] = the weighted sum of d_beta(V | W H) + penalties, accumulated in double, tile by tile. beta = 2 is half
// the squared error.
template <class T, class S>
void nmf_objective(image_view<const S> V, const nmf_weights& weights, image_view<const T> W, image_view<const T> H,
                   const nmf_options& options, double* objective, workspace_view workspace, stream_handle stream);

// still_active[b] = active[b] and before[b] - now[b] >= tol * start[b]: the problems whose objective still falls.
void nmf_settle(const double* start, const double* before, const double* now, double tol, const std::uint8_t* active,
                std::uint8_t* still_active, std::int64_t batch, stream_handle stream);

// ||w_k||_2 = 1 with the scale moved into H, components sorted by falling ||h_k||_2 (ties keep their order), in place.
template <class T>
void nmf_normalize(image_view<T> W, image_view<T> H, workspace_view workspace, stream_handle stream);

}  // namespace nmfuse
