// nmfuse._simt: the CUDA kernels' own sources, executed on the CPU thread by thread. Built for the tests only.
#include <pybind11/pybind11.h>

#include "python/bind_ops.h"

namespace {

struct simt_backend {
  static constexpr nmfuse::dlpack::device_type device = nmfuse::dlpack::kCPU;
  using nmf_dtypes = nmfuse::floats;
  struct guard {
    explicit guard(int) {}
  };
  static bool is_capturing(nmfuse::stream_handle) { return false; }
};

}  // namespace

PYBIND11_MODULE(_simt, module, pybind11::mod_gil_not_used()) { nmfuse::bind_ops<simt_backend>(module); }
