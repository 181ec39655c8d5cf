#pragma once

#include <pybind11/pybind11.h>

#include <vector>

#include "nmfuse/rounding.h"
#include "python/arguments.h"

namespace nmfuse {

template <class Backend>
void bind_rounding(py::module_& module) {
  const auto plane = [](const array& values, std::int64_t rows, std::int64_t cols) {
    const auto view = values.view<const float>();
    if (view.batch != 1 || view.rows != rows || view.cols != cols) {
      throw py::value_error(values.name() + ": expected shape (" + std::to_string(rows) + ", " + std::to_string(cols) +
                            ")");
    }
    return view;
  };
  module.def(
      "count_levels",
      [plane](const py::object& y, const py::object& source, float low, float high, const py::object& counts) {
        const op_arguments<Backend> a{py::none()};
        const array fused = a.take(y, "y"), other = a.take(source, "source"), target = a.take(counts, "counts");
        const auto from = fused.view<const float>();
        const auto seen = plane(other, from.rows, from.cols);
        require(from.batch == 1, "y: expected one plane");
        plane(target, 1, kLevels * kLevels);
        const auto to = target.view<float>();
        a.run(fused, [&] { count_levels(from, seen, {low, high}, to.data); });
      },
      py::arg("y"), py::arg("source"), py::arg("low"), py::arg("high"), py::arg("counts"));
  module.def(
      "round_levels",
      [plane](const py::object& y, const py::sequence& sources, const py::object& gains, float low, float high,
              const py::object& out) {
        const op_arguments<Backend> a{py::none()};
        const array fused = a.take(y, "y"), table = a.take(gains, "gains"), target = a.take(out, "out");
        const auto from = fused.view<const float>();
        require(from.batch == 1, "y: expected one plane");
        std::vector<array> held;
        std::vector<image_view<const float>> seen;
        for (const py::handle one : sources) {
          held.push_back(a.take(py::reinterpret_borrow<py::object>(one), "sources"));
          seen.push_back(plane(held.back(), from.rows, from.cols));
        }
        const auto steps = plane(table, static_cast<std::int64_t>(seen.size()), kLevels * kLevels);
        require(steps.row_stride == steps.cols, "gains: expected a contiguous array");
        plane(target, from.rows, from.cols);
        const auto to = target.view<float>();
        a.run(fused, [&] { round_levels(from, seen, steps.data, {low, high}, to); });
      },
      py::arg("y"), py::arg("sources"), py::arg("gains"), py::arg("low"), py::arg("high"), py::arg("out"));
}

}  // namespace nmfuse
