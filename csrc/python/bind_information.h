#pragma once

#include <pybind11/pybind11.h>

#include "nmfuse/information.h"
#include "python/arguments.h"

namespace nmfuse {

template <class Backend>
void bind_information(py::module_& module) {
  floats::declare(module, "window_information");
  module.def(
      "window_information",
      [](const py::object& x, const py::object& y, const py::object& out, const py::object& stream) {
        const op_arguments<Backend> a(stream);
        const array first = a.take(x, "x"), second = a.take(y, "y"), target = a.take(out, "out");
        floats::visit(first, [&](auto tag) {
          using T = typename decltype(tag)::type;
          const auto of_x = first.view<const T>(), of_y = second.view<const T>();
          const auto to = target.view<float>();
          a.run(first, [&] { window_information<T>(of_x, of_y, to, a.stream()); });
        });
      },
      py::arg("x"), py::arg("y"), py::arg("out"), py::arg("stream") = py::none());
}

}  // namespace nmfuse
