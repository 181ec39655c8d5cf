// nmfuse._cuda: the operations on CUDA devices. Linked with the static CUDA runtime only, so that it imports (and says
// why it cannot work) where there is no driver.
#include <cuda_runtime.h>
#include <pybind11/pybind11.h>

#include <string>

#include "cuda/launch.h"
#include "nmfuse/error.h"
#include "python/bind_ops.h"

namespace {

struct cuda_backend {
  static constexpr nmfuse::dlpack::device_type device = nmfuse::dlpack::kCUDA;
  using nmf_dtypes = nmfuse::floats;
  using guard = nmfuse::device_guard;
  static bool is_capturing(nmfuse::stream_handle stream) {
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    nmfuse::check(cudaStreamIsCapturing(nmfuse::stream_of(stream), &status), "cudaStreamIsCapturing");
    return status != cudaStreamCaptureStatusNone;
  }
};

// Empty where a CUDA device can be used.
std::string why_not() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  static_cast<void>(cudaGetLastError());  // the question leaves no error behind
  if (status != cudaSuccess) return cudaGetErrorString(status);
  return count > 0 ? "" : "no CUDA device";
}

pybind11::list devices() {
  pybind11::list names;
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) return names;
  for (int id = 0; id < count; ++id) {
    cudaDeviceProp properties;
    nmfuse::check(cudaGetDeviceProperties(&properties, id), "cudaGetDeviceProperties");
    names.append(std::string(properties.name) + " (sm_" + std::to_string(10 * properties.major + properties.minor) +
                 ")");
  }
  return names;
}

}  // namespace

PYBIND11_MODULE(_cuda, module, pybind11::mod_gil_not_used()) {
  namespace py = pybind11;
  nmfuse::bind_ops<cuda_backend>(module);
  module.attr("version") = NMFUSE_VERSION;
  module.attr("toolkit") = NMFUSE_CUDA_TOOLKIT;
  module.attr("architectures") = NMFUSE_CUDA_ARCHITECTURES;
  module.def("why_not", &why_not);
  module.def("devices", &devices);
}
