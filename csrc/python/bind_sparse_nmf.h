// Of the CPU module only: what no other backend has.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>

#include "nmfuse/sparse_nmf.h"
#include "python/arguments.h"

namespace nmfuse {

template <class T>
sparse_lines<T> sparse_lines_of(const array& starts, const array& positions, const array& values, std::int64_t width) {
  if (starts.dtype() != "int64" || positions.dtype() != "int32") {
    throw py::type_error("starts, positions: expected dtypes int64 and int32");
  }
  return {starts.size(0) - 1, width, static_cast<const std::int64_t*>(starts.data()),
          static_cast<const std::int32_t*>(positions.data()), static_cast<const T*>(values.data())};
}

template <class Backend>
void bind_sparse_nmf(py::module_& module) {
  using args = op_arguments<Backend>;
  floats::declare(module, "sparse_nmf");

  module.def(
      "sparse_nmf_workspace",
      [](const py::object& starts, const py::object& positions, const py::object& values, std::int64_t width,
         std::int64_t rank) {
        const args a{py::none()};
        const array s = a.take(starts, "starts"), p = a.take(positions, "positions"), x = a.take(values, "values");
        std::int64_t bytes = 0;
        floats::visit(x, [&](auto tag) {
          bytes = sparse_nmf_workspace(sparse_lines_of<typename decltype(tag)::type>(s, p, x, width), rank);
        });
        return bytes;
      },
      py::arg("starts"), py::arg("positions"), py::arg("values"), py::arg("width"), py::arg("rank"));

  module.def(
      "sparse_nmf_update",
      [](const py::object& starts, const py::object& positions, const py::object& values, const py::object& A,
         const py::object& B, std::int64_t rank, const nmf_options& options, int iterations,
         const py::object& workspace) {
        const args a{py::none()};
        const array s = a.take(starts, "starts"), p = a.take(positions, "positions"), x = a.take(values, "values"),
                    of_lines = a.take(A, "A"), of_width = a.take(B, "B"), scratch = a.take(workspace, "workspace");
        floats::visit(x, [&](auto tag) {
          using T = typename decltype(tag)::type;
          const auto lines = sparse_lines_of<T>(s, p, x, of_width.size(0));
          T *const first = of_lines.view<T>().data, *const second = of_width.view<T>().data;
          a.run(x, [&] { sparse_nmf_update(lines, first, second, rank, options, iterations, workspace_of(scratch)); });
        });
      },
      py::arg("starts"), py::arg("positions"), py::arg("values"), py::arg("A"), py::arg("B"), py::arg("rank"),
      py::arg("options"), py::arg("iterations"), py::arg("workspace"));

  module.def(
      "sparse_nmf_objective",
      [](const py::object& starts, const py::object& positions, const py::object& values, const py::object& A,
         const py::object& B, std::int64_t rank, const nmf_options& options, const py::object& workspace) {
        const args a{py::none()};
        const array s = a.take(starts, "starts"), p = a.take(positions, "positions"), x = a.take(values, "values"),
                    of_lines = a.take(A, "A"), of_width = a.take(B, "B"), scratch = a.take(workspace, "workspace");
        double objective = 0;
        floats::visit(x, [&](auto tag) {
          using T = typename decltype(tag)::type;
          const auto lines = sparse_lines_of<T>(s, p, x, of_width.size(0));
          const T *const first = of_lines.view<const T>().data, *const second = of_width.view<const T>().data;
          a.run(x,
                [&] { objective = sparse_nmf_objective(lines, first, second, rank, options, workspace_of(scratch)); });
        });
        return objective;
      },
      py::arg("starts"), py::arg("positions"), py::arg("values"), py::arg("A"), py::arg("B"), py::arg("rank"),
      py::arg("options"), py::arg("workspace"));
}

}  // namespace nmfuse
