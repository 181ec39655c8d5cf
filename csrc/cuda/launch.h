// Launching kernels and calling the CUDA runtime: every failure becomes a nmfuse::cuda_error.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <tuple>
#include <utility>

#include "nmfuse/error.h"
#include "nmfuse/image_view.h"

namespace nmfuse {

inline void check(cudaError_t status, const std::string& what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // ours is told below; the next caller shall not find it
  throw cuda_error(what + ": " + cudaGetErrorString(status) + " (" + cudaGetErrorName(status) + ")");
}

inline cudaStream_t stream_of(stream_handle stream) { return static_cast<cudaStream_t>(stream); }

// Makes a device current while it lives.
class device_guard {
 public:
  explicit device_guard(int device) {
    check(cudaGetDevice(&previous_), "cudaGetDevice");
    if (device != previous_) check(cudaSetDevice(device), "cudaSetDevice(" + std::to_string(device) + ")");
  }
  ~device_guard() { cudaSetDevice(previous_); }
  device_guard(const device_guard&) = delete;
  device_guard& operator=(const device_guard&) = delete;

 private:
  int previous_ = 0;
};

// Blocks for `count` pieces of work, one each where the grid may be that large; kernels loop over what is left:
//   for (std::int64_t i = blockIdx.x; i < count; i += gridDim.x)
inline unsigned grid_for(std::int64_t count) {
#if defined(NMFUSE_SIMT)
  constexpr std::int64_t most = simt::kMaxGridX;
#else
  constexpr std::int64_t most = 0x7fffffff;
#endif
  return static_cast<unsigned>(std::min(count, most));
}

// Lets a kernel have more shared memory than it gets without asking; before its launch, and before its occupancy is
// asked for.
template <class... Params>
void allow_shared_bytes([[maybe_unused]] void (*kernel)(Params...), [[maybe_unused]] const char* name,
                        [[maybe_unused]] std::size_t bytes) {
#if !defined(NMFUSE_SIMT)
  constexpr std::size_t without_asking = 48 * 1024;
  if (bytes <= without_asking) return;
  check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(bytes)),
        std::string("cudaFuncSetAttribute of ") + name);
#endif
}

namespace detail {

template <class... Params, class... Args>
void launch(const char* name, void (*kernel)(Params...), dim3 grid, dim3 block, std::size_t shared_bytes,
            [[maybe_unused]] stream_handle stream, bool cooperative, Args&&... args) {
#if defined(NMFUSE_SIMT)
  const std::tuple<Params...> values(std::forward<Args>(args)...);
  const cudaError_t status =
      simt::launch({name, grid, block, shared_bytes, cooperative}, [&] { std::apply(kernel, values); });
#else
  allow_shared_bytes(kernel, name, shared_bytes);
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeCooperative;
  attribute.val.cooperative = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream_of(stream);
  config.attrs = &attribute;
  config.numAttrs = cooperative ? 1 : 0;
  const cudaError_t status = cudaLaunchKernelEx(&config, kernel, std::forward<Args>(args)...);
#endif
  if (status == cudaSuccess) return;
  const auto text = [](dim3 d) {
    return std::to_string(d.x) + " x " + std::to_string(d.y) + " x " + std::to_string(d.z);
  };
  check(status, std::string("launch of ") + name + ", grid " + text(grid) + ", block " + text(block) + ", " +
                    std::to_string(shared_bytes) + " bytes shared");
}

}  // namespace detail

// Queues kernel(args...) on the stream. `name` is what error messages say.
template <class... Params, class... Args>
void launch(const char* name, void (*kernel)(Params...), dim3 grid, dim3 block, std::size_t shared_bytes,
            stream_handle stream, Args&&... args) {
  detail::launch(name, kernel, grid, block, shared_bytes, stream, false, std::forward<Args>(args)...);
}

// The same with all blocks resident at once, so that the kernel may use cooperative_groups::this_grid().sync().
template <class... Params, class... Args>
void launch_cooperative(const char* name, void (*kernel)(Params...), dim3 grid, dim3 block, std::size_t shared_bytes,
                        stream_handle stream, Args&&... args) {
  detail::launch(name, kernel, grid, block, shared_bytes, stream, true, std::forward<Args>(args)...);
}

}  // namespace nmfuse
