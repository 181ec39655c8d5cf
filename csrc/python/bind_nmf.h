#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>

#include "nmfuse/nmf.h"
#include "python/arguments.h"

namespace nmfuse {

inline nmf_options make_nmf_options(double beta, double l1_W, double l1_H, double l2_W, double l2_H, int inner_iter,
                                    bool update_W, bool hals, bool weighted) {
  nmf_options options;
  options.beta = beta;
  options.l1_W = l1_W;
  options.l1_H = l1_H;
  options.l2_W = l2_W;
  options.l2_H = l2_H;
  options.inner_iter = inner_iter;
  options.update_W = update_W;
  options.hals = hals;
  options.weighted = weighted;
  return options;
}

// The type of the factors of a matrix of S.
template <class S>
using factor_type = std::conditional_t<std::is_integral_v<S>, float, S>;

// Weights of the entries of a matrix whose factors are of T.
template <class T>
nmf_weights weights_of(const std::optional<array>& weights) {
  if (!weights) return {};
  const bool bytes = weights->dtype() == dtype_name<std::uint8_t>;
  const auto strided = [&](auto view) {
    const auto size = static_cast<std::int64_t>(sizeof(*view.data));
    return nmf_weights{view.data, bytes, size * view.batch_stride, size * view.row_stride};
  };
  return bytes ? strided(weights->view<const std::uint8_t>()) : strided(weights->view<const T>());
}

template <class Backend>
void bind_nmf(py::module_& module) {
  using args = op_arguments<Backend>;
  using matrix_dtypes = typename Backend::nmf_dtypes;

  py::class_<nmf_options>(module, "NmfOptions", py::module_local())  // each module has its own
      .def(py::init(&make_nmf_options), py::kw_only(), py::arg("beta") = 2.0, py::arg("l1_W") = 0.0,
           py::arg("l1_H") = 0.0, py::arg("l2_W") = 0.0, py::arg("l2_H") = 0.0, py::arg("inner_iter") = 1,
           py::arg("update_W") = true, py::arg("hals") = false, py::arg("weighted") = false);

  module.def(
      "nmf_workspace",
      [](const std::string& dtype, std::int64_t batch, std::int64_t m, std::int64_t n, std::int64_t rank,
         const nmf_options& options) {
        return for_float_dtype(
            dtype, [&](auto tag) { return nmf_workspace<typename decltype(tag)::type>(batch, m, n, rank, options); });
      },
      py::arg("dtype"), py::arg("batch"), py::arg("m"), py::arg("n"), py::arg("rank"), py::arg("options"));

  matrix_dtypes::declare(module, "nmf");
  module.def(
      "nmf_update",
      [=](const py::object& V, const py::object& W, const py::object& H, const py::object& active,
          const nmf_options& options, int iterations, const py::object& workspace, const py::object& weights,
          const py::object& stream) {
        const args a(stream);
        const array v = a.take(V, "V"), w = a.take(W, "W"), h = a.take(H, "H"),
                    scratch = a.take(workspace, "workspace");
        const auto flags = a.take_optional(active, "active"), shares = a.take_optional(weights, "weights");
        matrix_dtypes::visit(v, [&](auto tag) {
          using S = typename decltype(tag)::type;
          using T = factor_type<S>;
          const auto v_view = v.view<const S>();
          const auto w_view = w.view<T>(), h_view = h.view<T>();
          const nmf_weights weights_view = weights_of<T>(shares);
          const auto* on = flags ? static_cast<const std::uint8_t*>(flags->data()) : nullptr;
          a.run(v, [&] {
            nmf_update<T>(v_view, weights_view, w_view, h_view, on, options, iterations, workspace_of(scratch),
                          a.stream());
          });
        });
      },
      py::arg("V"), py::arg("W"), py::arg("H"), py::arg("active"), py::arg("options"), py::arg("iterations"),
      py::arg("workspace"), py::arg("weights") = py::none(), py::arg("stream") = py::none());

  module.def(
      "nmf_objective",
      [=](const py::object& V, const py::object& W, const py::object& H, const nmf_options& options,
          const py::object& objective, const py::object& workspace, const py::object& weights,
          const py::object& stream) {
        const args a(stream);
        const array v = a.take(V, "V"), w = a.take(W, "W"), h = a.take(H, "H"),
                    scratch = a.take(workspace, "workspace");
        const array result = a.take(objective, "objective");
        const auto shares = a.take_optional(weights, "weights");
        matrix_dtypes::visit(v, [&](auto tag) {
          using S = typename decltype(tag)::type;
          using T = factor_type<S>;
          const auto v_view = v.view<const S>();
          const auto w_view = w.view<const T>(), h_view = h.view<const T>();
          const nmf_weights weights_view = weights_of<T>(shares);
          a.run(v, [&] {
            nmf_objective<T>(v_view, weights_view, w_view, h_view, options, static_cast<double*>(result.data()),
                             workspace_of(scratch), a.stream());
          });
        });
      },
      py::arg("V"), py::arg("W"), py::arg("H"), py::arg("options"), py::arg("objective"), py::arg("workspace"),
      py::arg("weights") = py::none(), py::arg("stream") = py::none());

  module.def(
      "nmf_settle",
      [](const py::object& start, const py::object& before, const py::object& now, double tol, const py::object& active,
         const py::object& still_active, const py::object& stream) {
        const args a(stream);
        const array first = a.take(start, "start"), old = a.take(before, "before"), current = a.take(now, "now"),
                    on = a.take(active, "active"), result = a.take(still_active, "still_active");
        const auto values = [](const array& x) { return static_cast<const double*>(x.data()); };
        a.run(first, [&] {
          nmf_settle(values(first), values(old), values(current), tol, static_cast<const std::uint8_t*>(on.data()),
                     static_cast<std::uint8_t*>(result.data()), first.size(0), a.stream());
        });
      },
      py::arg("start"), py::arg("before"), py::arg("now"), py::arg("tol"), py::arg("active"), py::arg("still_active"),
      py::arg("stream") = py::none());

  module.def(
      "nmf_normalize",
      [=](const py::object& W, const py::object& H, const py::object& workspace, const py::object& stream) {
        const args a(stream);
        const array w = a.take(W, "W"), h = a.take(H, "H"), scratch = a.take(workspace, "workspace");
        floats::visit(w, [&](auto tag) {
          using T = typename decltype(tag)::type;
          const auto w_view = w.view<T>(), h_view = h.view<T>();
          a.run(w, [&] { nmf_normalize<T>(w_view, h_view, workspace_of(scratch), a.stream()); });
        });
      },
      py::arg("W"), py::arg("H"), py::arg("workspace"), py::arg("stream") = py::none());
}

}  // namespace nmfuse
