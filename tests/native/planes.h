// What the native tests of the image kernels share. Each runs on the CPU backend and, as test_<name>_simt, on the CUDA
// kernels that the SIMT runner executes.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include "nmfuse/image_view.h"
#if defined(NMFUSE_SIMT)
#include "simt/runner.h"
#else
#include "nmfuse/parallel.h"
#endif

namespace nmfuse {
namespace {

using std::int64_t;
using std::uint8_t;

int failures = 0;

[[maybe_unused]] void expect(bool holds, const std::string& what) {
  if (holds) return;
  ++failures;
  std::printf("FAILED: %s\n", what.c_str());
}

// A batch of planes in memory of its own, filled with a poison pattern; `pad` columns and rows are left unused.
template <class T>
struct planes {
  std::vector<T> memory;
  image_view<T> view;

  planes(int64_t batch, int64_t rows, int64_t cols, int64_t pad = 0) {
    const int64_t row_stride = cols + pad, batch_stride = rows * row_stride + pad;
    // The last row of the last plane ends with the memory, so that AddressSanitizer guards it.
    const int64_t size = (batch - 1) * batch_stride + (rows - 1) * row_stride + cols;
    memory.resize(static_cast<std::size_t>(std::max<int64_t>(0, size)));
    std::memset(static_cast<void*>(memory.data()), 0xCD, memory.size() * sizeof(T));
    view = {memory.data(), batch, rows, cols, batch_stride, row_stride};
  }

  T& at(int64_t b, int64_t y, int64_t x) { return view.row(b, y)[x]; }
  T at(int64_t b, int64_t y, int64_t x) const { return view.row(b, y)[x]; }

  template <class Make>
  void fill(const Make& make) {
    for (int64_t b = 0; b < view.batch; ++b) {
      for (int64_t y = 0; y < view.rows; ++y) {
        for (int64_t x = 0; x < view.cols; ++x) at(b, y, x) = static_cast<T>(make(b, y, x));
      }
    }
  }

  // What lies between the rows is as it was.
  bool padding_is_poison() const {
    std::vector<bool> used(memory.size(), false);
    for (int64_t b = 0; b < view.batch; ++b) {
      for (int64_t y = 0; y < view.rows; ++y)
        std::fill_n(used.begin() + (view.row(b, y) - memory.data()), view.cols, true);
    }
    T poison;
    std::memset(static_cast<void*>(&poison), 0xCD, sizeof(T));
    for (std::size_t i = 0; i < memory.size(); ++i) {
      if (!used[i] && std::memcmp(&memory[i], &poison, sizeof(T)) != 0) return false;
    }
    return true;
  }

  bool same_bits(const std::vector<T>& other) const {
    return memory.size() == other.size() &&
           (memory.empty() || std::memcmp(memory.data(), other.data(), memory.size() * sizeof(T)) == 0);
  }
};

std::mt19937 generator(7);

[[maybe_unused]] double uniform() { return std::uniform_real_distribution<double>(0, 1)(generator); }

// Runs `kernel` on 1, 2 and 7 threads (the runner has no threads) and compares the bits that it leaves in out.
template <class T, class Kernel>
void run_alike(const planes<T>& out, const std::string& what, const Kernel& kernel) {
#if defined(NMFUSE_SIMT)
  kernel();
  static_cast<void>(out), static_cast<void>(what);
#else
  std::vector<T> first;
  for (const int threads : {1, 2, 7}) {
    set_num_threads(threads);
    kernel();
    if (threads == 1) first = out.memory;
    expect(out.same_bits(first), what + ": other bits on " + std::to_string(threads) + " threads");
  }
#endif
}

// The larger of both, infinite where the difference is no number.
[[maybe_unused]] double worse(double worst, double difference) {
  return std::isnan(difference) ? INFINITY : std::max(worst, difference);
}

template <class T>
double dot(const planes<T>& a, const planes<T>& b) {
  double sum = 0;
  for (int64_t i = 0; i < a.view.batch; ++i) {
    for (int64_t y = 0; y < a.view.rows; ++y) {
      for (int64_t c = 0; c < a.view.cols; ++c) {
        sum += static_cast<double>(a.at(i, y, c)) * static_cast<double>(b.at(i, y, c));
      }
    }
  }
  return sum;
}

// Scratch memory full of NaN, so that what is read before it was written shows.
template <class T>
struct scratch {
  std::vector<T> memory;
  explicit scratch(int64_t bytes) : memory(static_cast<std::size_t>(bytes) / sizeof(T), T(NAN)) {}
  workspace_view view() { return {memory.data(), static_cast<int64_t>(memory.size() * sizeof(T))}; }
};

}  // namespace
}  // namespace nmfuse
