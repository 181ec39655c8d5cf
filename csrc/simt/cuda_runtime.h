// Stand-in for CUDA's <cuda_runtime.h>, as far as csrc/cuda uses it. Put csrc/simt first on the include path.
#pragma once

#if !defined(NMFUSE_SIMT)
#error "this header is for the SIMT runner: compile with -DNMFUSE_SIMT, or take csrc/simt off the include path"
#endif

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <type_traits>

#include "simt/runner.h"

// ---- Language

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__

#define threadIdx (::simt::self().thread_index)
#define blockIdx (::simt::self().block_index)
#define blockDim (::simt::self().block_size)
#define gridDim (::simt::self().grid_size)

// ---- Barriers

inline void __syncthreads(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  simt::block_barrier(false, {file, line});
}
inline int __syncthreads_count(int predicate, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  return simt::block_barrier(predicate != 0, {file, line}).count;
}
inline int __syncthreads_or(int predicate, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  return __syncthreads_count(predicate, file, line) != 0;
}
inline int __syncthreads_and(int predicate, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  const simt::barrier_result result = simt::block_barrier(predicate != 0, {file, line});
  return result.count == result.threads;
}
inline void __syncwarp(unsigned mask = 0xffffffffU, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  simt::warp_exchange(simt::warp_operation::sync, mask, 0, 0, false, {file, line});
}

// ---- Warp shuffles and votes

namespace simt {

inline int my_lane() { return self().linear % kWarpSize; }

template <class T>
T shuffle(unsigned mask, T value, int source_lane, site where) {
  static_assert(sizeof(T) <= sizeof(std::uint64_t) && std::is_trivially_copyable_v<T>);
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = warp_exchange(warp_operation::shuffle, mask, bits, source_lane, false, where).value;
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

}  // namespace simt

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = simt::kWarpSize, const char* file = __builtin_FILE(),
              int line = __builtin_LINE()) {
  const int lane = simt::my_lane(), base = lane / width * width;
  return simt::shuffle(mask, value, base + (source & (width - 1)), {file, line});
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = simt::kWarpSize, const char* file = __builtin_FILE(),
                  int line = __builtin_LINE()) {
  const int lane = simt::my_lane(), source = lane ^ lanes;
  return simt::shuffle(mask, value, source / width <= lane / width ? source : lane, {file, line});
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = simt::kWarpSize,
                   const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  const int lane = simt::my_lane(), source = lane + static_cast<int>(delta);
  return simt::shuffle(mask, value, source / width == lane / width ? source : lane, {file, line});
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = simt::kWarpSize,
                 const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  const int lane = simt::my_lane(), source = lane - static_cast<int>(delta);
  return simt::shuffle(mask, value, source >= lane / width * width ? source : lane, {file, line});
}
inline unsigned __ballot_sync(unsigned mask, int predicate, const char* file = __builtin_FILE(),
                              int line = __builtin_LINE()) {
  return simt::warp_exchange(simt::warp_operation::vote, mask, 0, 0, predicate != 0, {file, line}).ballot;
}
inline int __any_sync(unsigned mask, int predicate, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  return __ballot_sync(mask, predicate, file, line) != 0;
}

// ---- Atomics on global memory (of shared arrays: shared.h). One OS thread runs them all.

template <class T>
T atomicAdd(T* address, std::common_type_t<T> value) {
  const T before = *address;
  *address = before + value;
  return before;
}
template <class T>
T atomicMax(T* address, std::common_type_t<T> value) {
  const T before = *address;
  *address = std::max(before, value);
  return before;
}
template <class T>
T atomicMin(T* address, std::common_type_t<T> value) {
  const T before = *address;
  *address = std::min(before, value);
  return before;
}
template <class T>
T atomicExch(T* address, std::common_type_t<T> value) {
  const T before = *address;
  *address = value;
  return before;
}
inline void __threadfence() {}

// ---- Arithmetic

using std::max;
using std::min;
using std::pow;  // with its overload for float, as in CUDA

template <class T>
T __ldg(const T* address) {
  return *address;
}
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline int __clz(int bits) { return bits ? __builtin_clz(static_cast<unsigned>(bits)) : 32; }
inline float rsqrtf(float x) { return 1.0F / std::sqrt(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __powf(float x, float y) { return std::pow(x, y); }

// ---- Runtime. Everything has happened when a call returns, so streams have nothing to do.

using cudaStream_t = void*;
enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorInvalidDevice = 101,
  cudaErrorNotReady = 600,
  cudaErrorCooperativeLaunchTooLarge = 720
};
enum cudaMemcpyKind {
  cudaMemcpyHostToHost,
  cudaMemcpyHostToDevice,
  cudaMemcpyDeviceToHost,
  cudaMemcpyDeviceToDevice,
  cudaMemcpyDefault
};
enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount,
  cudaDevAttrMaxSharedMemoryPerBlockOptin,
  cudaDevAttrMaxSharedMemoryPerMultiprocessor,
  cudaDevAttrCooperativeLaunch,
  cudaDevAttrL2CacheSize
};

inline const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess: return "cudaSuccess";
    case cudaErrorInvalidValue: return "cudaErrorInvalidValue";
    case cudaErrorInvalidConfiguration: return "cudaErrorInvalidConfiguration";
    case cudaErrorInvalidDevice: return "cudaErrorInvalidDevice";
    case cudaErrorNotReady: return "cudaErrorNotReady";
    case cudaErrorCooperativeLaunchTooLarge: return "cudaErrorCooperativeLaunchTooLarge";
  }
  return "cudaErrorUnknown";
}
inline const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess: return "no error";
    case cudaErrorInvalidValue: return "invalid argument";
    case cudaErrorInvalidConfiguration: return "invalid configuration argument";
    case cudaErrorInvalidDevice: return "invalid device ordinal";
    case cudaErrorNotReady: return "device not ready";
    case cudaErrorCooperativeLaunchTooLarge: return "too many blocks in cooperative launch";
  }
  return "unknown error";
}
inline cudaError_t cudaGetLastError() { return cudaSuccess; }

inline cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
inline cudaError_t cudaSetDevice(int device) { return device == 0 ? cudaSuccess : cudaErrorInvalidDevice; }
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount: *value = simt::kMultiprocessors; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *value = static_cast<int>(simt::kMaxSharedBytes); break;
    case cudaDevAttrCooperativeLaunch: *value = 1; break;
    case cudaDevAttrL2CacheSize: *value = 1 << 20; break;
    default: return cudaErrorInvalidValue;
  }
  return cudaSuccess;
}
template <class Kernel>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, Kernel, int threads, std::size_t shared_bytes) {
  *blocks = threads <= simt::kMaxThreads && shared_bytes <= simt::kMaxSharedBytes ? 1 : 0;
  return cudaSuccess;
}

inline cudaError_t cudaMalloc(void** memory, std::size_t bytes) {
  *memory = std::malloc(bytes);
  if (*memory) std::memset(*memory, 0xCD, bytes);  // what nobody wrote is not zero
  return cudaSuccess;
}
inline cudaError_t cudaFree(void* memory) {
  std::free(memory);
  return cudaSuccess;
}
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind, cudaStream_t) {
  if (bytes) std::memcpy(to, from, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t) {
  if (bytes) std::memset(to, value, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaMallocHost(void** memory, std::size_t bytes) { return cudaMalloc(memory, bytes); }
inline cudaError_t cudaFreeHost(void* memory) { return cudaFree(memory); }

// An event is not ready when it is asked for the first time, so that callers meet both answers.
struct simt_event {
  bool asked = true;
};
using cudaEvent_t = simt_event*;
inline constexpr unsigned cudaEventDisableTiming = 2;
inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new simt_event;
  return cudaSuccess;
}
inline cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t) {
  event->asked = false;
  return cudaSuccess;
}
inline cudaError_t cudaEventQuery(cudaEvent_t event) {
  const cudaError_t status = event->asked ? cudaSuccess : cudaErrorNotReady;
  event->asked = true;
  return status;
}
inline cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }
inline cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }

namespace simt {

// Refuses what the driver would refuse, else runs the kernel.
inline cudaError_t launch(const launch_config& config, const std::function<void()>& kernel) {
  const dim3 &g = config.grid, &b = config.block;
  const std::uint64_t threads = std::uint64_t{b.x} * b.y * b.z;
  if (threads == 0 || threads > kMaxThreads || g.x == 0 || g.y == 0 || g.z == 0 || g.x > kMaxGridX ||
      g.y > kMaxGridYZ || g.z > kMaxGridYZ) {
    return cudaErrorInvalidConfiguration;
  }
  if (config.shared_bytes > kMaxSharedBytes) return cudaErrorInvalidValue;
  if (config.cooperative && g.x * g.y * g.z > kMultiprocessors) return cudaErrorCooperativeLaunchTooLarge;
  run(config, kernel);
  return cudaSuccess;
}

}  // namespace simt
