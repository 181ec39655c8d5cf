// Shared memory of a block. All of it is dynamic, and all of it is reached through these arrays: pointers under nvcc,
// logged accesses under the SIMT runner.
//
//   shared_memory memory;                                   // once in a kernel, in every thread alike
//   const auto sums = memory.take<float>(n, "sums");        // 16-byte aligned; uninitialised
//   sums[i] = 1.0f;  const float x = sums[j];               // name the type of a value: no auto x = sums[j]
//   const auto four = sums.load<float4>(i);                 // i a multiple of 4
//   launch(..., shared_bytes<float>(n), ...)                // on the host: the same takes, summed
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#if defined(NMFUSE_SIMT)
#include "simt/shared.h"
#endif

namespace nmfuse {

inline constexpr std::size_t kSharedAlignment = 16;

template <class T>
__host__ __device__ constexpr std::size_t shared_bytes(std::int64_t count) {
  return (static_cast<std::size_t>(count) * sizeof(T) + kSharedAlignment - 1) / kSharedAlignment * kSharedAlignment;
}

#if defined(NMFUSE_SIMT)

using simt::shared_array;

#else

template <class T>
class shared_array {
 public:
  using value_type = T;
  __device__ explicit shared_array(T* data) : data_(data) {}
  __device__ T& operator[](int i) const { return data_[i]; }
  template <class Pack>
  __device__ Pack load(int i) const {
    return *reinterpret_cast<const Pack*>(data_ + i);
  }
  template <class Pack>
  __device__ void store(int i, const Pack& pack) const {
    *reinterpret_cast<Pack*>(data_ + i) = pack;
  }
  __device__ shared_array slice(int first, int) const { return shared_array(data_ + first); }

 private:
  T* data_;
};

#endif

class shared_memory {
 public:
  template <class T>
  __device__ shared_array<T> take(std::int64_t count, [[maybe_unused]] const char* name) {
    const std::size_t offset = used_;
    used_ += shared_bytes<T>(count);
#if defined(NMFUSE_SIMT)
    return shared_array<T>(offset, count, name);
#else
    extern __shared__ __align__(16) unsigned char nmfuse_shared_memory[];
    return shared_array<T>(reinterpret_cast<T*>(nmfuse_shared_memory + offset));
#endif
  }

 private:
  std::size_t used_ = 0;
};

}  // namespace nmfuse
