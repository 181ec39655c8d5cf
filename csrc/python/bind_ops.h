// The one table of operations, registered alike into every native module (_cpu, _cuda, _simt).
// A module is this table linked with exactly one backend's definitions of the functions in csrc/nmfuse.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <exception>
#include <optional>
#include <string>
#include <type_traits>

#include "nmfuse/blocks.h"
#include "nmfuse/error.h"
#include "nmfuse/hannmean.h"
#include "nmfuse/image_view.h"
#include "nmfuse/information.h"
#include "nmfuse/nmf.h"
#include "nmfuse/readback.h"
#include "python/dlpack.h"

namespace nmfuse {

template <class T>
struct type_tag {
  using type = T;
};

// Calls body(type_tag<T>{}) with the first T among Ts that is the array's dtype.
template <class... Ts, class Body>
auto visit_dtype(const array& values, Body&& body) {
  using result = std::common_type_t<decltype(body(type_tag<Ts>{}))...>;
  const std::string dtype = values.dtype();
  if constexpr (std::is_void_v<result>) {
    if (!((dtype == dtype_name<Ts> ? (body(type_tag<Ts>{}), true) : false) || ...)) {
      throw py::type_error(values.name() + ": dtype " + dtype + " is not supported here");
    }
  } else {
    result value{};
    if (!((dtype == dtype_name<Ts> ? (value = body(type_tag<Ts>{}), true) : false) || ...)) {
      throw py::type_error(values.name() + ": dtype " + dtype + " is not supported here");
    }
    return value;
  }
}

// Calls body(type_tag<S>{}, type_tag<T>{}): S of a matrix V to factorize, T of its factors.
template <class Backend, class Body>
void visit_nmf_dtypes(const array& V, const Body& body) {
  const auto with_factors = [&](auto tag) {
    using S = typename decltype(tag)::type;
    body(tag, type_tag<std::conditional_t<std::is_integral_v<S>, float, S>>{});
  };
  if constexpr (Backend::nmf_takes_integers) {
    visit_dtype<float, double, std::uint8_t, std::uint16_t>(V, with_factors);
  } else {
    visit_dtype<float, double>(V, with_factors);
  }
}

// Backend: device (the DLPack device type it takes), nmf_takes_integers, guard (makes a device current while it lives)
// and is_capturing (whether a stream records a graph).
template <class Backend>
class op_arguments {
 public:
  explicit op_arguments(const py::object& stream)
      : stream_(stream),
        handle_(stream.is_none() ? nullptr : reinterpret_cast<stream_handle>(stream.cast<std::uintptr_t>())) {}

  array take(const py::object& producer, const char* name) const {
    // A producer on a CUDA device exports its array while that device is current.
    const int device = py::hasattr(producer, "__dlpack_device__") && Backend::device != dlpack::kCPU
                           ? producer.attr("__dlpack_device__")().template cast<py::tuple>()[1].template cast<int>()
                           : 0;
    const typename Backend::guard guard(device);
    array values(producer, name, stream_);
    if (values.tensor().device.type != Backend::device) {
      throw py::value_error(std::string(name) + ": is on DLPack device type " +
                            std::to_string(values.tensor().device.type) + ", this backend takes type " +
                            std::to_string(Backend::device));
    }
    return values;
  }

  stream_handle stream() const { return handle_; }  // also without the GIL

  // Runs a kernel with the arrays' device current and without the GIL.
  template <class Body>
  void run(const array& on, Body&& body) const {
    const py::gil_scoped_release release;
    const typename Backend::guard guard(on.tensor().device.id);
    body();
  }

 private:
  py::object stream_;
  stream_handle handle_;
};

inline workspace_view workspace_of(const array& bytes) {
  return {bytes.data(), bytes.tensor().ndim == 1 ? bytes.size(0) : 0};
}

inline image_view<const std::uint8_t> reliability_of(const std::optional<array>& codes) {
  return codes ? codes->view<const std::uint8_t>() : image_view<const std::uint8_t>{};
}

// Sizes in scalar form: which type a workspace is asked for.
template <class Body>
std::int64_t for_float_dtype(const std::string& dtype, Body&& body) {
  if (dtype == "float64") return body(type_tag<double>{});
  require(dtype == "float32", "dtype: expected float32 or float64");
  return body(type_tag<float>{});
}

inline nmf_options make_nmf_options(double beta, double l1_W, double l1_H, double l2_W, double l2_H, int inner_iter,
                                    bool update_W) {
  nmf_options options;
  options.beta = beta;
  options.l1_W = l1_W;
  options.l1_H = l1_H;
  options.l2_W = l2_W;
  options.l2_H = l2_H;
  options.inner_iter = inner_iter;
  options.update_W = update_W;
  return options;
}

inline void translate_cuda_error(std::exception_ptr pointer) {
  try {
    if (pointer) std::rethrow_exception(pointer);
  } catch (const cuda_error& error) {
    py::set_error(py::module_::import("nmfuse.kernels.errors").attr("CudaError"), error.what());
  }
}

template <class Backend>
void bind_ops(py::module_& module) {
  py::register_local_exception_translator(&translate_cuda_error);
  using args = op_arguments<Backend>;
  const auto optional_array = [](const args& a, const py::object& producer, const char* name) {
    return producer.is_none() ? std::optional<array>() : std::optional<array>(a.take(producer, name));
  };

  module.def(
      "describe",
      [](const py::object& x, const py::object& stream) {
        const array values(x, "x", stream);
        const dlpack::tensor& tensor = values.tensor();
        py::list shape, strides;
        for (int i = 0; i < tensor.ndim; ++i) {
          shape.append(values.size(i));
          strides.append(values.stride(i));
        }
        py::dict result;
        result["dtype"] = values.dtype();
        result["shape"] = py::tuple(shape);
        result["strides"] = py::tuple(strides);
        result["device"] = py::make_tuple(static_cast<int>(tensor.device.type), tensor.device.id);
        result["pointer"] = reinterpret_cast<std::uintptr_t>(values.data());
        result["read_only"] = values.read_only();
        return result;
      },
      py::arg("x"), py::arg("stream") = py::none());

  module.def(
      "hannmean",
      [=](const py::object& x, const py::object& reliability, int size, const py::object& out,
          const py::object& stream) {
        const args a(stream);
        const array source = a.take(x, "x"), target = a.take(out, "out");
        const auto codes = optional_array(a, reliability, "reliability");
        visit_dtype<float, double, std::uint8_t, std::uint16_t>(source, [&](auto tag) {
          using T = typename decltype(tag)::type;
          const auto from = source.view<const T>();
          const auto to = target.view<T>();
          const auto mask = reliability_of(codes);
          a.run(source, [&] { hannmean<T>(from, mask, size, to, a.stream()); });
        });
      },
      py::arg("x"), py::arg("reliability"), py::arg("size"), py::arg("out"), py::arg("stream") = py::none());

  module.def(
      "hannmean_adjoint_workspace",
      [](const std::string& dtype, std::int64_t batch, std::int64_t rows, std::int64_t cols) {
        return for_float_dtype(dtype, [&](auto tag) {
          return hannmean_adjoint_workspace<typename decltype(tag)::type>(batch, rows, cols);
        });
      },
      py::arg("dtype"), py::arg("batch"), py::arg("rows"), py::arg("cols"));

  module.def(
      "hannmean_adjoint",
      [=](const py::object& grad, const py::object& reliability, int size, const py::object& out,
          const py::object& workspace, const py::object& stream) {
        const args a(stream);
        const array source = a.take(grad, "grad"), target = a.take(out, "out"),
                    scratch = a.take(workspace, "workspace");
        const auto codes = optional_array(a, reliability, "reliability");
        visit_dtype<float, double>(source, [&](auto tag) {
          using T = typename decltype(tag)::type;
          const auto from = source.view<const T>();
          const auto to = target.view<T>();
          const auto mask = reliability_of(codes);
          a.run(source, [&] { hannmean_adjoint<T>(from, mask, size, to, workspace_of(scratch), a.stream()); });
        });
      },
      py::arg("grad"), py::arg("reliability"), py::arg("size"), py::arg("out"), py::arg("workspace"),
      py::arg("stream") = py::none());

  module.def(
      "reject_outliers",
      [=](const py::object& x, int size, double k, const py::object& reliability, const py::object& stream) {
        const args a(stream);
        const array source = a.take(x, "x"), codes = a.take(reliability, "reliability");
        visit_dtype<float, double, std::uint8_t, std::uint16_t>(source, [&](auto tag) {
          using T = typename decltype(tag)::type;
          const auto from = source.view<const T>();
          const auto mask = codes.view<std::uint8_t>();
          a.run(source, [&] { reject_outliers<T>(from, size, k, mask, a.stream()); });
        });
      },
      py::arg("x"), py::arg("size"), py::arg("k"), py::arg("reliability"), py::arg("stream") = py::none());

  module.def(
      "aggregate_blocks",
      [=](const py::object& scores, std::int64_t block, std::int64_t stride, bool fill_nearest, double fill_value,
          const py::object& out, const py::object& stream) {
        const args a(stream);
        const array source = a.take(scores, "scores"), target = a.take(out, "out");
        const block_grid grid{block, stride, fill_nearest, fill_value};
        visit_dtype<float, double>(source, [&](auto tag) {
          using T = typename decltype(tag)::type;
          const auto from = source.view<const T>();
          const auto to = target.view<T>();
          a.run(source, [&] { aggregate_blocks<T>(from, grid, to, a.stream()); });
        });
      },
      py::arg("scores"), py::arg("block"), py::arg("stride"), py::arg("fill_nearest"), py::arg("fill_value"),
      py::arg("out"), py::arg("stream") = py::none());

  module.def(
      "aggregate_blocks_adjoint_workspace",
      [](const std::string& dtype, std::int64_t batch, std::int64_t hs, std::int64_t ws, std::int64_t rows,
         std::int64_t cols) {
        return for_float_dtype(dtype, [&](auto tag) {
          return aggregate_blocks_adjoint_workspace<typename decltype(tag)::type>(batch, hs, ws, rows, cols);
        });
      },
      py::arg("dtype"), py::arg("batch"), py::arg("hs"), py::arg("ws"), py::arg("rows"), py::arg("cols"));

  module.def(
      "aggregate_blocks_adjoint",
      [=](const py::object& grad, std::int64_t block, std::int64_t stride, bool fill_nearest, const py::object& out,
          const py::object& workspace, const py::object& stream) {
        const args a(stream);
        const array source = a.take(grad, "grad"), target = a.take(out, "out"),
                    scratch = a.take(workspace, "workspace");
        const block_grid grid{block, stride, fill_nearest, 0.0};
        visit_dtype<float, double>(source, [&](auto tag) {
          using T = typename decltype(tag)::type;
          const auto from = source.view<const T>();
          const auto to = target.view<T>();
          a.run(source, [&] { aggregate_blocks_adjoint<T>(from, grid, to, workspace_of(scratch), a.stream()); });
        });
      },
      py::arg("grad"), py::arg("block"), py::arg("stride"), py::arg("fill_nearest"), py::arg("out"),
      py::arg("workspace"), py::arg("stream") = py::none());

  module.def(
      "window_information",
      [=](const py::object& x, const py::object& y, const py::object& out, const py::object& stream) {
        const args a(stream);
        const array first = a.take(x, "x"), second = a.take(y, "y"), target = a.take(out, "out");
        visit_dtype<float, double>(first, [&](auto tag) {
          using T = typename decltype(tag)::type;
          const auto of_x = first.view<const T>(), of_y = second.view<const T>();
          const auto to = target.view<float>();
          a.run(first, [&] { window_information<T>(of_x, of_y, to, a.stream()); });
        });
      },
      py::arg("x"), py::arg("y"), py::arg("out"), py::arg("stream") = py::none());

  py::class_<nmf_options>(module, "NmfOptions", py::module_local())  // each module has its own
      .def(py::init(&make_nmf_options), py::kw_only(), py::arg("beta") = 2.0, py::arg("l1_W") = 0.0,
           py::arg("l1_H") = 0.0, py::arg("l2_W") = 0.0, py::arg("l2_H") = 0.0, py::arg("inner_iter") = 1,
           py::arg("update_W") = true);

  module.def(
      "nmf_workspace",
      [](const std::string& dtype, std::int64_t batch, std::int64_t m, std::int64_t n, std::int64_t rank,
         const nmf_options& options) {
        return for_float_dtype(
            dtype, [&](auto tag) { return nmf_workspace<typename decltype(tag)::type>(batch, m, n, rank, options); });
      },
      py::arg("dtype"), py::arg("batch"), py::arg("m"), py::arg("n"), py::arg("rank"), py::arg("options"));

  module.def(
      "nmf_update",
      [=](const py::object& V, const py::object& W, const py::object& H, const py::object& active,
          const nmf_options& options, int iterations, const py::object& workspace, const py::object& stream) {
        const args a(stream);
        const array v = a.take(V, "V"), w = a.take(W, "W"), h = a.take(H, "H"),
                    scratch = a.take(workspace, "workspace");
        const auto flags = optional_array(a, active, "active");
        visit_nmf_dtypes<Backend>(v, [&](auto of_V, auto of_factors) {
          using T = typename decltype(of_factors)::type;
          const auto v_view = v.view<const typename decltype(of_V)::type>();
          const auto w_view = w.view<T>(), h_view = h.view<T>();
          const auto* on = flags ? static_cast<const std::uint8_t*>(flags->data()) : nullptr;
          a.run(v, [&] {
            nmf_update<T>(v_view, w_view, h_view, on, options, iterations, workspace_of(scratch), a.stream());
          });
        });
      },
      py::arg("V"), py::arg("W"), py::arg("H"), py::arg("active"), py::arg("options"), py::arg("iterations"),
      py::arg("workspace"), py::arg("stream") = py::none());

  module.def(
      "nmf_objective",
      [=](const py::object& V, const py::object& W, const py::object& H, const nmf_options& options,
          const py::object& objective, const py::object& workspace, const py::object& stream) {
        const args a(stream);
        const array v = a.take(V, "V"), w = a.take(W, "W"), h = a.take(H, "H"),
                    scratch = a.take(workspace, "workspace");
        const array result = a.take(objective, "objective");
        visit_nmf_dtypes<Backend>(v, [&](auto of_V, auto of_factors) {
          using T = typename decltype(of_factors)::type;
          const auto v_view = v.view<const typename decltype(of_V)::type>();
          const auto w_view = w.view<const T>(), h_view = h.view<const T>();
          a.run(v, [&] {
            nmf_objective<T>(v_view, w_view, h_view, options, static_cast<double*>(result.data()),
                             workspace_of(scratch), a.stream());
          });
        });
      },
      py::arg("V"), py::arg("W"), py::arg("H"), py::arg("options"), py::arg("objective"), py::arg("workspace"),
      py::arg("stream") = py::none());

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

  py::class_<flag_readback>(module, "FlagReadback", py::module_local(),
                            py::release_gil_before_calling_cpp_dtor())  // it may wait for a copy
      .def(py::init<>())
      .def(
          "start",
          [](flag_readback& self, const py::object& flags, const py::object& stream) {
            const args a(stream);
            const array from = a.take(flags, "flags");
            a.run(from, [&] { self.start(static_cast<const std::uint8_t*>(from.data()), from.size(0), a.stream()); });
          },
          py::arg("flags"), py::arg("stream") = py::none())
      .def("idle", &flag_readback::idle)
      .def("any", &flag_readback::any);

  module.def(
      "is_capturing", [](const py::object& stream) { return Backend::is_capturing(args(stream).stream()); },
      py::arg("stream"));

  module.def(
      "nmf_normalize",
      [=](const py::object& W, const py::object& H, const py::object& workspace, const py::object& stream) {
        const args a(stream);
        const array w = a.take(W, "W"), h = a.take(H, "H"), scratch = a.take(workspace, "workspace");
        visit_dtype<float, double>(w, [&](auto tag) {
          using T = typename decltype(tag)::type;
          const auto w_view = w.view<T>(), h_view = h.view<T>();
          a.run(w, [&] { nmf_normalize<T>(w_view, h_view, workspace_of(scratch), a.stream()); });
        });
      },
      py::arg("W"), py::arg("H"), py::arg("workspace"), py::arg("stream") = py::none());
}

}  // namespace nmfuse
