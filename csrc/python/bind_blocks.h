#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>

#include "nmfuse/blocks.h"
#include "python/arguments.h"

namespace nmfuse {

template <class Backend>
void bind_blocks(py::module_& module) {
  using args = op_arguments<Backend>;

  module.def(
      "aggregate_blocks_workspace",
      [](const std::string& dtype, std::int64_t batch, std::int64_t hs, std::int64_t ws, std::int64_t ds,
         std::int64_t depth) {
        return for_float_dtype(dtype, [&](auto tag) {
          return aggregate_blocks_workspace<typename decltype(tag)::type>(batch, hs, ws, {ds, depth});
        });
      },
      py::arg("dtype"), py::arg("batch"), py::arg("hs"), py::arg("ws"), py::arg("ds"), py::arg("depth"));

  floats::declare(module, "aggregate_blocks");
  module.def(
      "aggregate_blocks",
      [=](const py::object& scores, std::int64_t block, std::int64_t stride, bool fill_nearest, double fill_value,
          std::int64_t ds, std::int64_t depth, const py::object& out, const py::object& workspace,
          const py::object& stream) {
        const args a(stream);
        const array source = a.take(scores, "scores"), target = a.take(out, "out");
        const auto scratch = a.take_optional(workspace, "workspace");
        const block_grid grid{block, stride, fill_nearest, fill_value};
        floats::visit(source, [&](auto tag) {
          using T = typename decltype(tag)::type;
          const auto from = source.view<const T>();
          const auto to = target.view<T>();
          a.run(source, [&] { aggregate_blocks<T>(from, grid, {ds, depth}, to, workspace_of(scratch), a.stream()); });
        });
      },
      py::arg("scores"), py::arg("block"), py::arg("stride"), py::arg("fill_nearest"), py::arg("fill_value"),
      py::arg("ds"), py::arg("depth"), py::arg("out"), py::arg("workspace"), py::arg("stream") = py::none());

  module.def(
      "aggregate_blocks_adjoint_workspace",
      [](const std::string& dtype, std::int64_t batch, std::int64_t hs, std::int64_t ws, std::int64_t rows,
         std::int64_t cols, std::int64_t ds, std::int64_t depth) {
        return for_float_dtype(dtype, [&](auto tag) {
          return aggregate_blocks_adjoint_workspace<typename decltype(tag)::type>(batch, hs, ws, rows, cols,
                                                                                  {ds, depth});
        });
      },
      py::arg("dtype"), py::arg("batch"), py::arg("hs"), py::arg("ws"), py::arg("rows"), py::arg("cols"), py::arg("ds"),
      py::arg("depth"));

  floats::declare(module, "aggregate_blocks_adjoint");
  module.def(
      "aggregate_blocks_adjoint",
      [=](const py::object& grad, std::int64_t block, std::int64_t stride, bool fill_nearest, std::int64_t ds,
          std::int64_t depth, const py::object& out, const py::object& workspace, const py::object& stream) {
        const args a(stream);
        const array source = a.take(grad, "grad"), target = a.take(out, "out"),
                    scratch = a.take(workspace, "workspace");
        const block_grid grid{block, stride, fill_nearest, 0.0};
        floats::visit(source, [&](auto tag) {
          using T = typename decltype(tag)::type;
          const auto from = source.view<const T>();
          const auto to = target.view<T>();
          a.run(source,
                [&] { aggregate_blocks_adjoint<T>(from, grid, {ds, depth}, to, workspace_of(scratch), a.stream()); });
        });
      },
      py::arg("grad"), py::arg("block"), py::arg("stride"), py::arg("fill_nearest"), py::arg("ds"), py::arg("depth"),
      py::arg("out"), py::arg("workspace"), py::arg("stream") = py::none());
}

}  // namespace nmfuse
