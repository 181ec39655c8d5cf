// nmf_update, nmf_objective and nmf_normalize without an interpreter: what the sanitizers run, on the CPU backend and
// (as test_nmf_simt) on the CUDA kernels.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <random>
#include <vector>

#include "nmfuse/nmf.h"
#if !defined(NMFUSE_SIMT)
#include "nmfuse/parallel.h"
#endif

namespace {

using namespace nmfuse;
using std::int64_t;

int failures = 0;

void check(bool ok, const char* what, int64_t m, int64_t n, int64_t rank, double beta) {
  if (ok) return;
  ++failures;
  std::printf("FAILED: %s (%lld x %lld, rank %lld, beta %g)\n", what, static_cast<long long>(m),
              static_cast<long long>(n), static_cast<long long>(rank), beta);
}

// A batch of matrices whose rows lie apart, the last one ending with the memory, so that a sanitizer sees a step
// outside.
template <class T>
struct matrices {
  std::vector<T> storage;
  image_view<T> view;

  matrices(int64_t batch, int64_t rows, int64_t cols) {
    const int64_t row_stride = cols + 3, batch_stride = rows * row_stride + 5;
    storage.assign(static_cast<std::size_t>((batch - 1) * batch_stride + (rows - 1) * row_stride + cols), T(0));
    view = {storage.data(), batch, rows, cols, batch_stride, row_stride};
  }
  matrices(const matrices& other) : storage(other.storage), view(other.view) { view.data = storage.data(); }

  void fill(std::mt19937& generator, double low) {
    std::uniform_real_distribution<double> uniform(low, 1);
    for (T& x : storage) x = static_cast<T>(std::max(uniform(generator), low < 0 ? 0.0 : low));
  }
};

using dense = std::vector<double>;  // (rows, cols), compact

template <class T>
dense plane_of(image_view<T> x, int64_t b) {
  dense result;
  for (int64_t i = 0; i < x.rows; ++i) result.insert(result.end(), x.row(b, i), x.row(b, i) + x.cols);
  return result;
}

// One update of H (transposed = false) or of W, from the formula.
void update_factor(const dense& V, dense& W, dense& H, int64_t m, int64_t n, int64_t rank, const nmf_options& o,
                   bool of_W) {
  dense WH(V.size(), 0.0);
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t k = 0; k < rank; ++k) {
      for (int64_t j = 0; j < n; ++j) WH[i * n + j] += W[i * rank + k] * H[k * n + j];
    }
  }
  dense minus(of_W ? W.size() : H.size(), 0.0), plus(minus.size(), 0.0);
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      const double x = o.beta == 2 ? WH[i * n + j] : std::max(WH[i * n + j], kProductFloor);
      const double down = std::pow(x, o.beta - 2) * V[i * n + j], up = std::pow(x, o.beta - 1);
      for (int64_t k = 0; k < rank; ++k) {
        const double other = of_W ? H[k * n + j] : W[i * rank + k];
        const int64_t at = of_W ? i * rank + k : k * n + j;
        minus[at] += other * down;
        plus[at] += other * up;
      }
    }
  }
  dense& X = of_W ? W : H;
  const double l1 = of_W ? o.l1_W : o.l1_H, l2 = of_W ? o.l2_W : o.l2_H;
  for (std::size_t e = 0; e < X.size(); ++e) {
    const double ratio = minus[e] / std::max(plus[e] + l1 + l2 * X[e], 1e-300);
    X[e] = std::max(X[e] * std::pow(ratio, nmf_exponent(o.beta, l2)), kFactorFloor);
  }
}

double distance(const dense& a, const dense& b) {
  double worst = 0, largest = 1e-30;
  for (std::size_t i = 0; i < a.size(); ++i) {
    worst = std::max(worst, std::abs(a[i] - b[i]));
    largest = std::max(largest, std::abs(b[i]));
  }
  return worst / largest;
}

template <class T, class S>
std::vector<T> factors_of(const matrices<S>& V, matrices<T> W, matrices<T> H, const std::uint8_t* active,
                          const nmf_options& options, int iterations, const nmf_weights& weights = {}) {
  std::vector<char> memory(
      static_cast<std::size_t>(nmf_workspace<T>(V.view.batch, V.view.rows, V.view.cols, W.view.cols, options)) + 64);
  void* const aligned = memory.data() + (64 - reinterpret_cast<std::uintptr_t>(memory.data()) % 64) % 64;
  const workspace_view workspace{aligned, static_cast<int64_t>(memory.size()) - 64};
  nmf_update(image_view<const S>(V.view), weights, W.view, H.view, active, options, iterations, workspace, nullptr);
  std::vector<T> result = W.storage;
  result.insert(result.end(), H.storage.begin(), H.storage.end());
  return result;
}

template <class T>
void test_update(int64_t batch, int64_t m, int64_t n, int64_t rank, const nmf_options& options) {
  std::mt19937 generator(static_cast<unsigned>(m * 1000 + n));
  matrices<T> V(batch, m, n), W(batch, m, rank), H(batch, rank, n);
  V.fill(generator, options.beta <= 0 ? 0.01 : -0.3);
  W.fill(generator, 0.05);
  H.fill(generator, 0.05);
  const std::vector<T> got = factors_of(V, W, H, nullptr, options, 3);
#if !defined(NMFUSE_SIMT)
  for (const int threads : {1, 4}) {
    set_num_threads(threads);
    check(factors_of(V, W, H, nullptr, options, 3) == got, "same bits for any number of threads", m, n, rank,
          options.beta);
  }
  set_num_threads(0);
#endif
  matrices<T> got_W(W), got_H(H);
  std::copy_n(got.begin(), W.storage.size(), got_W.storage.begin());
  std::copy_n(got.begin() + static_cast<std::ptrdiff_t>(W.storage.size()), H.storage.size(), got_H.storage.begin());
  for (int64_t b = 0; b < batch; ++b) {
    const dense v = plane_of(V.view, b);
    dense w = plane_of(W.view, b), h = plane_of(H.view, b);
    for (int i = 0; i < 3; ++i) {
      for (int inner = 0; inner < options.inner_iter; ++inner) update_factor(v, w, h, m, n, rank, options, false);
      for (int inner = 0; inner < (options.update_W ? options.inner_iter : 0); ++inner) {
        update_factor(v, w, h, m, n, rank, options, true);
      }
    }
    const double tolerance = sizeof(T) == 4 ? 1e-5 : 1e-12;
    check(distance(plane_of(got_W.view, b), w) < tolerance, "W", m, n, rank, options.beta);
    check(distance(plane_of(got_H.view, b), h) < tolerance, "H", m, n, rank, options.beta);
  }
}

#if !defined(NMFUSE_SIMT)
template <class S>
void test_integers(int64_t m, int64_t n, int64_t rank) {
  std::mt19937 generator(2);
  matrices<S> V(2, m, n);
  matrices<float> same(2, m, n), W(2, m, rank), H(2, rank, n);
  for (std::size_t e = 0; e < V.storage.size(); ++e) same.storage[e] = V.storage[e] = static_cast<S>(generator());
  W.fill(generator, 0.05);
  H.fill(generator, 0.05);
  check(factors_of(V, W, H, nullptr, {}, 2) == factors_of(same, W, H, nullptr, {}, 2), "integers", m, n, rank, 2);
}
#endif

// What stands in V where the weight is 0 changes nothing.
void test_weights(double beta) {
  std::mt19937 generator(3);
  matrices<float> V(2, 40, 130), W(2, 40, 5), H(2, 5, 130);
  matrices<std::uint8_t> known(2, 40, 130);
  V.fill(generator, 0.1);
  W.fill(generator, 0.05);
  H.fill(generator, 0.05);
  for (std::size_t e = 0; e < V.storage.size(); ++e) known.storage[e] = generator() % 4 != 0;
  matrices<float> other(V);
  for (std::size_t e = 0; e < V.storage.size(); ++e) {
    if (known.storage[e] == 0) other.storage[e] = NAN;
  }
  nmf_options options;
  options.beta = beta;
  options.weighted = true;
  const nmf_weights weights{known.view.data, true, known.view.batch_stride, known.view.row_stride};
  const std::vector<float> got = factors_of(V, W, H, nullptr, options, 2, weights);
  check(factors_of(other, W, H, nullptr, options, 2, weights) == got, "weights", 40, 130, 5, beta);
  check(std::all_of(got.begin(), got.end(), [](float x) { return std::isfinite(x); }), "finite", 40, 130, 5, beta);
}

// A sweep of HALS finds the minimum in each component, from the formula.
void test_hals(int64_t m, int64_t n, int64_t rank) {
  std::mt19937 generator(4);
  matrices<double> V(1, m, n), W(1, m, rank), H(1, rank, n);
  V.fill(generator, -0.3);
  W.fill(generator, 0.05);
  H.fill(generator, 0.05);
  nmf_options options;
  options.hals = true;
  options.update_W = false;
  options.l1_H = 0.01;
  const std::vector<double> got = factors_of(V, W, H, nullptr, options, 1);
  const dense v = plane_of(V.view, 0), w = plane_of(W.view, 0);
  dense h = plane_of(H.view, 0);
  for (int64_t k = 0; k < rank; ++k) {
    for (int64_t j = 0; j < n; ++j) {
      double slope = -options.l1_H, curvature = 0;
      for (int64_t i = 0; i < m; ++i) {
        double x = 0;
        for (int64_t l = 0; l < rank; ++l) x += w[i * rank + l] * h[l * n + j];
        slope += w[i * rank + k] * (v[i * n + j] - x);
        curvature += w[i * rank + k] * w[i * rank + k];
      }
      h[k * n + j] = std::max(h[k * n + j] + slope / curvature, 0.0);
    }
  }
  matrices<double> got_H(H);
  std::copy_n(got.begin() + static_cast<std::ptrdiff_t>(W.storage.size()), H.storage.size(), got_H.storage.begin());
  check(distance(plane_of(got_H.view, 0), h) < 1e-11, "hals", m, n, rank, 2);
  options.update_W = true;
  options.inner_iter = 2;
  const std::vector<double> both = factors_of(V, W, H, nullptr, options, 2);
  check(std::all_of(both.begin(), both.end(), [](double x) { return x >= 0 && std::isfinite(x); }), "hals of both", m,
        n, rank, 2);
#if !defined(NMFUSE_SIMT)
  for (const int threads : {1, 4}) {
    set_num_threads(threads);
    check(factors_of(V, W, H, nullptr, options, 2) == both, "hals for any number of threads", m, n, rank, 2);
  }
  set_num_threads(0);
#endif
}

void test_inactive_problems_are_left_alone() {
  std::mt19937 generator(1);
  matrices<float> V(3, 20, 400), W(3, 20, 5), H(3, 5, 400);
  V.fill(generator, -0.3);
  W.fill(generator, 0.05);
  H.fill(generator, 0.05);
  const std::uint8_t active[] = {1, 0, 1};
  const std::vector<float> some = factors_of(V, W, H, active, {}, 2), all = factors_of(V, W, H, nullptr, {}, 2);
  const auto row = [&](const std::vector<float>& x, int64_t b) {
    return x[static_cast<std::size_t>(b * W.view.batch_stride)];
  };
  check(row(some, 0) == row(all, 0) && row(some, 2) == row(all, 2), "active problems", 20, 400, 5, 2);
  check(row(some, 1) == W.view.row(1, 0)[0], "inactive problem", 20, 400, 5, 2);
}

void test_objective_and_normalize() {
  std::mt19937 generator(2);
  matrices<double> V(2, 9, 700), W(2, 9, 4), H(2, 4, 700);
  V.fill(generator, -0.3);
  W.fill(generator, 0.05);
  H.fill(generator, 0.05);
  nmf_options options;
  options.l1_W = 0.5;
  std::vector<double> memory(static_cast<std::size_t>(nmf_workspace<double>(2, 9, 700, 4, options)) / 8 + 8);
  const workspace_view workspace{memory.data(), static_cast<int64_t>(memory.size() * 8)};
  double before[2], after[2];
  nmf_objective<double>(image_view<const double>(V.view), {}, W.view, H.view, options, before, workspace, nullptr);
  for (int64_t b = 0; b < 2; ++b) {
    const dense v = plane_of(V.view, b), w = plane_of(W.view, b), h = plane_of(H.view, b);
    double expected = 0;
    for (int64_t i = 0; i < 9; ++i) {
      for (int64_t j = 0; j < 700; ++j) {
        double x = 0;
        for (int64_t k = 0; k < 4; ++k) x += w[i * 4 + k] * h[k * 700 + j];
        expected += 0.5 * (v[i * 700 + j] - x) * (v[i * 700 + j] - x);
      }
    }
    for (const double x : w) expected += 0.5 * x;
    check(std::abs(before[b] - expected) < 1e-10 * expected, "objective", 9, 700, 4, 2);
  }
  nmf_normalize<double>(W.view, H.view, workspace, nullptr);
  options.l1_W = 0;
  nmf_objective<double>(image_view<const double>(V.view), {}, W.view, H.view, options, after, workspace, nullptr);
  double last = 1e300;
  for (int64_t k = 0; k < 4; ++k) {
    double w = 0, h = 0;
    for (int64_t i = 0; i < 9; ++i) w += W.view.row(1, i)[k] * W.view.row(1, i)[k];
    for (int64_t j = 0; j < 700; ++j) h += H.view.row(1, k)[j] * H.view.row(1, k)[j];
    check(std::abs(w - 1) < 1e-12 && h <= last, "unit columns, sorted rows", 9, 700, 4, 2);
    last = h;
  }
  check(after[0] < before[0], "normalising keeps the product", 9, 700, 4, 2);
}

}  // namespace

int main(int count, char**) {
  const bool quick = count > 1;  // any argument: enough to tell a broken kernel
  const int64_t shapes[][4] = {{2, 5, 33, 3},  {1, 70, 600, 8},   {1, 1, 1, 1},
                               {9, 12, 40, 4}, {1, 130, 700, 11}, {1, 40, 50, 35}};
  for (const auto& s : shapes) {
    for (const double beta : {2.0, 1.0, 0.5}) {
      nmf_options options;
      options.beta = beta;
      options.l1_H = 0.01;
      options.l2_W = 0.1;
      test_update<float>(s[0], s[1], s[2], s[3], options);
      if (quick) continue;
      test_update<double>(s[0], s[1], s[2], s[3], options);
      options.inner_iter = beta == 2 ? 3 : 1;
      test_update<double>(s[0], s[1], s[2], s[3], options);
      options.update_W = false;
      test_update<float>(s[0], s[1], s[2], s[3], options);
    }
    if (quick && s[0] == 1) break;
  }
#if !defined(NMFUSE_SIMT)
  test_integers<std::uint8_t>(70, 600, 8);
  test_integers<std::uint16_t>(130, 700, 11);
#endif
  test_weights(2.0);
  test_hals(20, 70, 3);
  if (!quick) {
    test_weights(1.0);
    test_weights(0.5);
    test_hals(70, 600, 8);
    test_hals(130, 70, 11);
  }
  test_inactive_problems_are_left_alone();
  test_objective_and_normalize();
  if (failures == 0) std::puts("nmf: all passed");
  return failures;
}
