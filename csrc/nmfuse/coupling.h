// The mathematics of window_information, for one window (float) or a vector of them, on any backend.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define NMFUSE_ANYWHERE __host__ __device__
#else
#define NMFUSE_ANYWHERE
#endif

namespace nmfuse {
namespace {

constexpr int kWindowPixels = 9;
constexpr float kLeastEntropy = 1e-4F;  // nats: less is one bright pixel, and rounding in the others

// F is float or a vector of floats, I the integers of the same number and width.
template <class F, class I>
struct coupling {
  static constexpr int lanes = sizeof(F) / sizeof(float);

  // Returns 2 I / (H_p + H_r) of two distributions that are coupled as strongly as they correlate; 0 for a flat one.
  NMFUSE_ANYWHERE static F information(const F (&p)[kWindowPixels], const F (&given)[kWindowPixels]) {
    F dot{}, square_p{}, square_r{}, mean_p{}, mean_r{};
    for (int k = 0; k < kWindowPixels; ++k) {
      const F dp = p[k] - 1.0F / kWindowPixels, dr = given[k] - 1.0F / kWindowPixels;
      dot += dp * dr;
      square_p += dp * dp;
      square_r += dr * dr;
      mean_p += p[k] * static_cast<float>(k);
      mean_r += given[k] * static_cast<float>(k);
    }
    const F c = ratio(dot, root(square_p * square_r));
    F deviation_p{}, deviation_r{};  // of the index, under each distribution
    for (int k = 0; k < kWindowPixels; ++k) {
      const F from_p = static_cast<float>(k) - mean_p, from_r = static_cast<float>(k) - mean_r;
      deviation_p += p[k] * from_p * from_p;
      deviation_r += given[k] * from_r * from_r;
    }
    const F spread = root(deviation_p) * root(deviation_r);

    // The lower Frechet bound is the upper bound of p and r reversed, and the covariance changes its sign.
    F r[kWindowPixels], h{};
    for (int k = 0; k < kWindowPixels; ++k) {
      r[k] = c < 0 ? given[kWindowPixels - 1 - k] : given[k];
      h -= times_log(p[k]) + times_log(r[k]);
    }
    mean_r = c < 0 ? kWindowPixels - 1 - mean_r : mean_r;

    // The upper bound is a staircase: 17 steps between the values of both distribution functions, in cells (i, j).
    constexpr int edges = 2 * (kWindowPixels - 1);
    I bits[edges];  // the last bit says which distribution a value comes from
    F sum_p{}, sum_r{};
    for (int k = 0; k < kWindowPixels - 1; ++k) {
      sum_p += p[k];
      sum_r += r[k];
      bits[k] = bits_of<I>(sum_p) | 1;
      bits[edges - 1 - k] = bits_of<I>(sum_r) & ~1;
    }
    merge(bits);
    const auto step = [&](int k) {
      return (k < edges ? bits_of<F>(bits[k]) : F{} + 1) - (k > 0 ? bits_of<F>(bits[k - 1]) : F{});
    };
    I i{};
    F covariance{};
    for (int k = 0; k <= edges; ++k) {
      if (k > 0) i += bits[k - 1] & 1;
      covariance += (to_float(i) - mean_p) * (to_float(k - i) - mean_r) * step(k);
    }
    const F size = c < 0 ? -c : c;
    const F phi = ratio(size * spread, spread > 0 ? covariance : F{}), rest = 1 - phi;

    // The entropy of the independent part in all 81 cells, and what the steps change in theirs.
    F h_joint = rest * h - times_log(rest);
    i = I{};
    for (int k = 0; k <= edges; ++k) {
      if (k > 0) i += bits[k - 1] & 1;
      const F independent = chosen(p, i) * chosen(r, k - i) * rest;
      h_joint -= times_log(step(k) * phi + independent) - times_log(independent);
    }
    return h < kLeastEntropy ? F{} : 2 * ratio(h - h_joint, h);
  }

 private:
  template <class To, class From>
  NMFUSE_ANYWHERE static To bits_of(const From& x) {
    To y;
    std::memcpy(&y, &x, sizeof(To));
    return y;
  }

  NMFUSE_ANYWHERE static F ratio(F a, F b) { return b != 0 ? a / (b != 0 ? b : F{} + 1) : F{}; }

  NMFUSE_ANYWHERE static F root(F x) {
    if constexpr (lanes == 1) {
      return std::sqrt(x);
    } else {
      for (int l = 0; l < lanes; ++l) x[l] = std::sqrt(x[l]);
      return x;
    }
  }

  NMFUSE_ANYWHERE static F to_float(I i) {
    if constexpr (lanes == 1) {
      return static_cast<float>(i);
    } else {
      return __builtin_convertvector(i, F);
    }
  }

  // Returns the element of `values` that each lane of i names.
  NMFUSE_ANYWHERE static F chosen(const F (&values)[kWindowPixels], I i) {
    if constexpr (lanes == 1) {
      return values[i];
    } else {
      const float* all = reinterpret_cast<const float*>(values);
      F x;
      for (int l = 0; l < lanes; ++l) x[l] = all[i[l] * lanes + l];
      return x;
    }
  }

  // Sorts a rising and a falling half; the order of positive floats is that of their bits.
  template <int N>
  NMFUSE_ANYWHERE static void merge(I (&bits)[N]) {
    for (int half = N / 2; half > 0; half /= 2) {
      for (int k = 0; k < N; ++k) {
        if (k & half) continue;
        const I a = bits[k], b = bits[k + half];
        bits[k] = a < b ? a : b;
        bits[k + half] = a < b ? b : a;
      }
    }
  }

  // x log |x|, 0 at 0: phi may exceed 1, and then the published program takes the real part of the logarithm.
  // |x|, raised to the least normal number, is 2^e y with y in [sqrt(1/2), sqrt(2)), and log y is
  // 2 artanh((y - 1) / (y + 1)) by its series.
  NMFUSE_ANYWHERE static F times_log(F x) {
    const I least_normal = I{} + 0x00800000, of_size = bits_of<I>(x) & 0x7fffffff;
    const I bits = of_size > least_normal ? of_size : least_normal;
    const I e = (bits - 0x3f3504f3) >> 23;
    const F y = bits_of<F>(bits - e * 0x00800000);
    const F f = (y - 1) / (y + 1), s = f * f;
    const F series = 1 + s * (1.0F / 3 + s * (1.0F / 5 + s * (1.0F / 7 + s * (1.0F / 9))));
    return x * (to_float(e) * 0.69314718F + 2 * f * series);
  }
};

}  // namespace
}  // namespace nmfuse
