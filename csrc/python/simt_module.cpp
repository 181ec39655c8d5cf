// nmfuse._simt: the CUDA kernels' own sources, executed on the CPU thread by thread. Built for the tests only.
#include <pybind11/pybind11.h>

#include "python/bind_ops.h"

namespace {

struct simt_backend {
  static constexpr nmfuse::dlpack::device_type device = nmfuse::dlpack::kCPU;
  using nmf_dtypes = nmfuse::floats;
  using nmf_weights_dtypes = nmfuse::dtype_list<>;
  static constexpr bool nmf_hals = false;
  struct guard {
    explicit guard(int) {}
  };
  static bool is_capturing(nmfuse::stream_handle) { return false; }
};

}  // namespace

PYBIND11_MODULE(_simt, module) { nmfuse::bind_ops<simt_backend>(module); }
