// What the bindings of all operations share: arrays in, dtypes told apart, the GIL released around a kernel.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>

#include "nmfuse/error.h"
#include "nmfuse/image_view.h"
#include "python/dlpack.h"

namespace nmfuse {

template <class T>
struct type_tag {
  using type = T;
};

// The dtypes that an operation takes: the one place that says so. Python asks the module's dict `dtypes`.
template <class... Ts>
struct dtype_list {
  // Calls body(type_tag<T>{}) with the T that is the array's dtype.
  template <class Body>
  static void visit(const array& values, const Body& body) {
    const std::string dtype = values.dtype();
    if (!((dtype == dtype_name<Ts> ? (body(type_tag<Ts>{}), true) : false) || ...)) {
      throw py::type_error(values.name() + ": dtype " + dtype + " is not supported here");
    }
  }

  // Adds the names under `operation` to module.dtypes.
  static void declare(py::module_& module, const char* operation) {
    if (!py::hasattr(module, "dtypes")) module.attr("dtypes") = py::dict();
    module.attr("dtypes")[operation] = py::make_tuple(dtype_name<Ts>...);
  }
};

using floats = dtype_list<float, double>;
using floats_and_integers = dtype_list<float, double, std::uint8_t, std::uint16_t>;

// Sizes in scalar form: which type a workspace is asked for.
template <class Body>
std::int64_t for_float_dtype(const std::string& dtype, const Body& body) {
  if (dtype == "float64") return body(type_tag<double>{});
  require(dtype == "float32", "dtype: expected float32 or float64");
  return body(type_tag<float>{});
}

// Backend: device (the DLPack device type it takes), nmf_dtypes (the dtypes of a matrix that its nmf takes), guard
// (makes a device current while it lives) and is_capturing (whether a stream records a graph).
template <class Backend>
class op_arguments {
 public:
  explicit op_arguments(const py::object& stream)
      : stream_(stream),
        handle_(stream.is_none() ? nullptr : reinterpret_cast<stream_handle>(stream.cast<std::uintptr_t>())) {}

  array take(const py::object& producer, const char* name) const {
    // A producer on a CUDA device exports its array while that device is current.
    const int device = Backend::device != dlpack::kCPU && py::hasattr(producer, "__dlpack_device__")
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

  std::optional<array> take_optional(const py::object& producer, const char* name) const {
    return producer.is_none() ? std::optional<array>() : std::optional<array>(take(producer, name));
  }

  stream_handle stream() const { return handle_; }  // also without the GIL

  // Runs a kernel with the arrays' device current and without the GIL.
  template <class Body>
  void run(const array& on, const Body& body) const {
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

inline workspace_view workspace_of(const std::optional<array>& bytes) {
  return bytes ? workspace_of(*bytes) : workspace_view{};
}

}  // namespace nmfuse
