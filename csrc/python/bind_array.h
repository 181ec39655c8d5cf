// What a module says of an array, of a stream and of its errors.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <exception>

#include "nmfuse/error.h"
#include "python/arguments.h"

namespace nmfuse {

inline void translate_cuda_error(std::exception_ptr pointer) {
  try {
    if (pointer) std::rethrow_exception(pointer);
  } catch (const cuda_error& error) {
    py::set_error(py::module_::import("nmfuse.kernels.errors").attr("CudaError"), error.what());
  }
}

inline py::dict describe(const py::object& x, const py::object& stream) {
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
}

template <class Backend>
void bind_array(py::module_& module) {
  py::register_local_exception_translator(&translate_cuda_error);
  module.def("describe", &describe, py::arg("x"), py::arg("stream") = py::none());
  module.def(
      "is_capturing",
      [](const py::object& stream) { return Backend::is_capturing(op_arguments<Backend>(stream).stream()); },
      py::arg("stream"));
}

}  // namespace nmfuse
