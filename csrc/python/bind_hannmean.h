#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <optional>
#include <string>

#include "nmfuse/hannmean.h"
#include "python/arguments.h"

namespace nmfuse {

template <class Backend>
void bind_hannmean(py::module_& module) {
  using args = op_arguments<Backend>;
  const auto reliability_of = [](const std::optional<array>& codes) {
    return codes ? codes->view<const std::uint8_t>() : image_view<const std::uint8_t>{};
  };

  module.attr("max_hann_size") = kMaxHannSize;
  floats_and_integers::declare(module, "hannmean");
  module.def(
      "hannmean",
      [=](const py::object& x, const py::object& reliability, int size, std::int64_t depth, const py::object& out,
          const py::object& stream) {
        const args a(stream);
        const array source = a.take(x, "x"), target = a.take(out, "out");
        const auto codes = a.take_optional(reliability, "reliability");
        floats_and_integers::visit(source, [&](auto tag) {
          using T = typename decltype(tag)::type;
          const auto from = source.view<const T>();
          const auto to = target.view<T>();
          const auto mask = reliability_of(codes);
          a.run(source, [&] { hannmean<T>(from, mask, size, depth, to, a.stream()); });
        });
      },
      py::arg("x"), py::arg("reliability"), py::arg("size"), py::arg("depth"), py::arg("out"),
      py::arg("stream") = py::none());

  module.def(
      "hannmean_adjoint_workspace",
      [](const std::string& dtype, std::int64_t batch, std::int64_t rows, std::int64_t cols) {
        return for_float_dtype(dtype, [&](auto tag) {
          return hannmean_adjoint_workspace<typename decltype(tag)::type>(batch, rows, cols);
        });
      },
      py::arg("dtype"), py::arg("batch"), py::arg("rows"), py::arg("cols"));

  floats::declare(module, "hannmean_adjoint");
  module.def(
      "hannmean_adjoint",
      [=](const py::object& grad, const py::object& reliability, int size, std::int64_t depth, const py::object& out,
          const py::object& workspace, const py::object& stream) {
        const args a(stream);
        const array source = a.take(grad, "grad"), target = a.take(out, "out"),
                    scratch = a.take(workspace, "workspace");
        const auto codes = a.take_optional(reliability, "reliability");
        floats::visit(source, [&](auto tag) {
          using T = typename decltype(tag)::type;
          const auto from = source.view<const T>();
          const auto to = target.view<T>();
          const auto mask = reliability_of(codes);
          a.run(source, [&] { hannmean_adjoint<T>(from, mask, size, depth, to, workspace_of(scratch), a.stream()); });
        });
      },
      py::arg("grad"), py::arg("reliability"), py::arg("size"), py::arg("depth"), py::arg("out"), py::arg("workspace"),
      py::arg("stream") = py::none());

  floats_and_integers::declare(module, "reject_outliers");
  module.def(
      "reject_outliers",
      [=](const py::object& x, int size, std::int64_t depth, double k, const py::object& reliability,
          const py::object& stream) {
        const args a(stream);
        const array source = a.take(x, "x"), codes = a.take(reliability, "reliability");
        floats_and_integers::visit(source, [&](auto tag) {
          using T = typename decltype(tag)::type;
          const auto from = source.view<const T>();
          const auto mask = codes.view<std::uint8_t>();
          a.run(source, [&] { reject_outliers<T>(from, size, depth, k, mask, a.stream()); });
        });
      },
      py::arg("x"), py::arg("size"), py::arg("depth"), py::arg("k"), py::arg("reliability"),
      py::arg("stream") = py::none());
}

}  // namespace nmfuse
