// The one table of operations, registered alike into every native module (_cpu, _cuda, _simt).
// A module is this table linked with exactly one backend's definitions of the functions in csrc/nmfuse.
#pragma once

#include <pybind11/pybind11.h>

#include "python/bind_array.h"
#include "python/bind_blocks.h"
#include "python/bind_hannmean.h"
#include "python/bind_information.h"
#include "python/bind_nmf.h"

namespace nmfuse {

template <class Backend>
void bind_ops(py::module_& module) {
  bind_array<Backend>(module);
  bind_hannmean<Backend>(module);
  bind_blocks<Backend>(module);
  bind_information<Backend>(module);
  bind_nmf<Backend>(module);
  bind_readback<Backend>(module);
}

}  // namespace nmfuse
