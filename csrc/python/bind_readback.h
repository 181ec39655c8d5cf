#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>

#include "nmfuse/readback.h"
#include "python/arguments.h"

namespace nmfuse {

// How flags that nmf_settle wrote come back to the host.
template <class Backend>
void bind_readback(py::module_& module) {
  py::class_<flag_readback>(module, "FlagReadback", py::module_local(),
                            py::release_gil_before_calling_cpp_dtor())  // it may wait for a copy
      .def(py::init<>())
      .def(
          "start",
          [](flag_readback& self, const py::object& flags, const py::object& stream) {
            const op_arguments<Backend> a(stream);
            const array from = a.take(flags, "flags");
            a.run(from, [&] { self.start(static_cast<const std::uint8_t*>(from.data()), from.size(0), a.stream()); });
          },
          py::arg("flags"), py::arg("stream") = py::none())
      .def("idle", &flag_readback::idle)
      .def("any", &flag_readback::any);
}

}  // namespace nmfuse
