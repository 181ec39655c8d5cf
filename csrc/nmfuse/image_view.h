// The one shape that kernels see: a batch of row-major planes, last axis contiguous.
#pragma once

#include <cstdint>
#include <type_traits>

namespace nmfuse {

// A (batch, rows, cols) view that owns nothing. Strides count elements, not bytes; the column stride is 1.
// Matrices are views too: V is (batch, m, n), W is (batch, m, r), H is (batch, r, n).
template <class T>
struct image_view {
  T* data = nullptr;
  std::int64_t batch = 0;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t batch_stride = 0;
  std::int64_t row_stride = 0;

  constexpr T* row(std::int64_t b, std::int64_t y) const { return data + b * batch_stride + y * row_stride; }
  constexpr bool empty() const { return batch == 0 || rows == 0 || cols == 0; }
  template <class U, class = std::enable_if_t<std::is_same_v<U, const T>>>
  constexpr operator image_view<U>() const {
    return {data, batch, rows, cols, batch_stride, row_stride};
  }
};

// Planes without gaps.
template <class T>
constexpr image_view<T> compact_view(void* data, std::int64_t batch, std::int64_t rows, std::int64_t cols) {
  return {static_cast<T*>(data), batch, rows, cols, rows * cols, cols};
}

// Scratch memory that the caller allocated with its own allocator; at least 64-byte aligned.
struct workspace_view {
  void* data = nullptr;
  std::int64_t bytes = 0;
};

// The caller's stream: a cudaStream_t for the CUDA backend, ignored by the CPU backend.
using stream_handle = void*;

}  // namespace nmfuse
