// nmfuse._cpu: the operations on the CPU.
#include <pybind11/pybind11.h>

#include "cpu/isa.h"
#include "nmfuse/parallel.h"
#include "python/bind_ops.h"

namespace {

struct cpu_backend {
  static constexpr nmfuse::dlpack::device_type device = nmfuse::dlpack::kCPU;
  using nmf_dtypes = nmfuse::floats_and_integers;
  struct guard {
    explicit guard(int) {}
  };
  static bool is_capturing(nmfuse::stream_handle) { return false; }
};

}  // namespace

PYBIND11_MODULE(_cpu, module, pybind11::mod_gil_not_used()) {
  namespace py = pybind11;
  nmfuse::bind_ops<cpu_backend>(module);
  nmfuse::bind_cpu_ops<cpu_backend>(module);
  module.attr("version") = NMFUSE_VERSION;
  module.attr("compiler") = NMFUSE_COMPILER;
  module.attr("flags") = NMFUSE_FLAGS;
  module.def("isa", [] { return nmfuse::isa_name(nmfuse::active_isa()); });
  module.def("num_threads", &nmfuse::num_threads);
  module.def("set_num_threads", &nmfuse::set_num_threads, py::arg("n"));
}
