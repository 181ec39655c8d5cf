// Vectors of the width of the instruction set that a file is compiled for, on the vector extensions of GCC and Clang.
// Include in *_isa.cpp only; everything is in an anonymous namespace, so no two instruction sets share a function.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace nmfuse::NMFUSE_ISA {
namespace {

#if defined(__AVX512F__)
inline constexpr int kVectorBytes = 64, kVectorRegisters = 32;
#elif defined(__AVX2__)
inline constexpr int kVectorBytes = 32, kVectorRegisters = 16;
#elif defined(__aarch64__)
inline constexpr int kVectorBytes = 16, kVectorRegisters = 32;
#else
inline constexpr int kVectorBytes = 16, kVectorRegisters = 16;
#endif

template <class T>
inline constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));

template <class T, int N>
struct vector_type {
  typedef T type __attribute__((vector_size(N * sizeof(T))));
};
template <class T, int N = kLanes<T>>
using vec = typename vector_type<T, N>::type;

using double_vec = vec<double>;
using integer_vec = vec<std::int64_t>;

template <class Vec, class T>
inline Vec load(const T* from) {
  Vec x;
  std::memcpy(&x, from, sizeof(Vec));
  return x;
}

template <class Vec, class T>
inline void store(T* to, Vec x) {
  std::memcpy(to, &x, sizeof(Vec));
}

template <class To, class From>
inline To bits_of(From x) {
  static_assert(sizeof(To) == sizeof(From));
  To y;
  std::memcpy(&y, &x, sizeof(To));
  return y;
}

// Whether an image, or a batch, had better be written past the caches, so as not to push everything else out of them.
template <class View>
inline bool exceeds_caches(const View& out) {
  constexpr std::int64_t kCaches = 16 << 20;
  return out.batch * out.rows * out.cols * static_cast<std::int64_t>(sizeof(*out.data)) >= kCaches;
}

// Copies `count` elements to memory past the caches. Call finish_streaming after the last, before others may read them.
template <class T>
inline void stream(const T* from, std::int64_t count, T* to) {
  std::int64_t i = 0;
#if defined(__SSE2__)
  constexpr std::int64_t n = kLanes<T>;
  const std::int64_t head = -static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(to) / sizeof(T)) & (n - 1);
  for (; i < head && i < count; ++i) to[i] = from[i];
  for (; i + n <= count; i += n) {
#if defined(__AVX512F__)
    _mm512_stream_si512(reinterpret_cast<__m512i*>(to + i), load<__m512i>(from + i));
#elif defined(__AVX2__)
    _mm256_stream_si256(reinterpret_cast<__m256i*>(to + i), load<__m256i>(from + i));
#else
    _mm_stream_si128(reinterpret_cast<__m128i*>(to + i), load<__m128i>(from + i));
#endif
  }
#endif
  for (; i < count; ++i) to[i] = from[i];
}

inline void finish_streaming() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

template <class Vec>
inline Vec larger(Vec a, Vec b) {
  return a > b ? a : b;
}

template <class Vec>
inline Vec smaller(Vec a, Vec b) {
  return a < b ? a : b;
}

template <class Vec, class T>
inline Vec broadcast(T x) {
  return x - Vec{};  // not Vec{} + x, which must turn -0 into 0
}

// As many elements as a double_vec has, whatever their type in memory.
inline double_vec load_doubles(const double* from) { return load<double_vec>(from); }
inline double_vec load_doubles(const float* from) {
  return __builtin_convertvector(load<vec<float, kLanes<double>>>(from), double_vec);
}
inline void store_doubles(double* to, double_vec x) { store(to, x); }
inline void store_doubles(float* to, double_vec x) {
  store(to, __builtin_convertvector(x, vec<float, kLanes<double>>));
}

inline double sum(double_vec x) {
  double total = 0;
  for (int i = 0; i < kLanes<double>; ++i) total += x[i];
  return total;
}

// Natural logarithm of positive normal numbers, to about 2 ulp: x = 2^e y with y in [sqrt(1/2), sqrt(2)), and
// log y = 2 artanh((y - 1) / (y + 1)) by its series.
inline double_vec log(double_vec x) {
  const integer_vec bits = bits_of<integer_vec>(x);
  const integer_vec e = (bits - 0x3fe6a09e667f3bcdLL) >> 52;
  const double_vec y = bits_of<double_vec>(bits - (e << 52));
  const double_vec f = (y - 1.0) / (y + 1.0), s = f * f;
  double_vec series = broadcast<double_vec>(1.0 / 21);
  for (int k = 19; k >= 1; k -= 2) series = series * s + 1.0 / k;
  const double_vec exponent = __builtin_convertvector(e, double_vec);
  constexpr double kLn2High = 0x1.62e42fefa38p-1, kLn2Low = 0x1.ef35793c7673p-45;
  return exponent * kLn2High + (exponent * kLn2Low + 2.0 * f * series);
}

// Exponential, to about 2 ulp; what would leave the normal range stays at its end.
inline double_vec exp(double_vec x) {
  constexpr double kLn2High = 0x1.62e42fefa38p-1, kLn2Low = 0x1.ef35793c7673p-45;
  constexpr double kRound = 0x1.8p52;  // added and taken away again, it leaves an integer
  x = larger(x, broadcast<double_vec>(-708.0));
  x = smaller(x, broadcast<double_vec>(709.0));
  const double_vec shifted = x * 0x1.71547652b82fep0 + kRound;
  const double_vec k = shifted - kRound;
  const double_vec r = (x - k * kLn2High) - k * kLn2Low;
  double_vec series = broadcast<double_vec>(1.0);
  for (int i = 12; i >= 1; --i) series = series * (r / static_cast<double>(i)) + 1.0;
  const integer_vec power = bits_of<integer_vec>(shifted) - bits_of<integer_vec>(broadcast<double_vec>(kRound));
  return series * bits_of<double_vec>((power + 1023) << 52);
}

// x^p for x >= 0; zeros (and subnormals) give 0, so p must be positive there.
inline double_vec pow(double_vec x, double p) {
  constexpr double kLeastNormal = 0x1p-1022;
  const double_vec result = exp(p * log(larger(x, broadcast<double_vec>(kLeastNormal))));
  return x < kLeastNormal ? double_vec{} : result;
}

}  // namespace
}  // namespace nmfuse::NMFUSE_ISA
