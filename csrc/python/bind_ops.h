// The one table of operations: those of all native modules (_cpu, _cuda, _simt), and those of _cpu alone.
// A module is this table linked with exactly one backend's definitions of the functions in csrc/nmfuse.
#pragma once

#include <pybind11/pybind11.h>

#include "operations.h"  // made by CMakeLists.txt from the names of bind_NAME.h and csrc/cuda/NAME.cu
#include "python/bind_array.h"

namespace nmfuse {

#define NMFUSE_OPERATION(name) bind_##name<Backend>(module);

template <class Backend>
void bind_ops(py::module_& module) {
  bind_array<Backend>(module);
  NMFUSE_OPERATIONS
}

template <class Backend>
void bind_cpu_ops(py::module_& module) {
  NMFUSE_CPU_OPERATIONS
}

#undef NMFUSE_OPERATION

}  // namespace nmfuse
