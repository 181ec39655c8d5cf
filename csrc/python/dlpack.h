// The array boundary: views any object with __dlpack__ as a DLTensor, without copying, and gives it back once.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>
#include <utility>

#include "nmfuse/image_view.h"

namespace nmfuse {

namespace py = pybind11;

// The part of the DLPack ABI (dmlc/dlpack, version 1.0) that this boundary reads.
namespace dlpack {

enum device_type : std::int32_t { kCPU = 1, kCUDA = 2, kCUDAHost = 3, kCUDAManaged = 13 };
enum type_code : std::uint8_t { kInt = 0, kUInt = 1, kFloat = 2, kBfloat = 4, kComplex = 5, kBool = 6 };
inline constexpr std::uint64_t kFlagReadOnly = 1;

struct tensor {
  void* data;
  struct {
    device_type type;
    std::int32_t id;
  } device;
  std::int32_t ndim;
  struct {
    std::uint8_t code;
    std::uint8_t bits;
    std::uint16_t lanes;
  } dtype;
  std::int64_t* shape;
  std::int64_t* strides;
  std::uint64_t byte_offset;
};

struct managed_tensor {  // capsule "dltensor"
  tensor dl_tensor;
  void* manager_ctx;
  void (*deleter)(managed_tensor*);
};

struct managed_tensor_versioned {  // capsule "dltensor_versioned"
  struct {
    std::uint32_t major;
    std::uint32_t minor;
  } version;
  void* manager_ctx;
  void (*deleter)(managed_tensor_versioned*);
  std::uint64_t flags;
  tensor dl_tensor;
};

}  // namespace dlpack

template <class T>
inline constexpr const char* dtype_name = nullptr;
template <>
inline constexpr const char* dtype_name<float> = "float32";
template <>
inline constexpr const char* dtype_name<double> = "float64";
template <>
inline constexpr const char* dtype_name<std::uint8_t> = "uint8";
template <>
inline constexpr const char* dtype_name<std::uint16_t> = "uint16";

// Holds one producer's tensor for as long as it lives; calls the producer's deleter once.
class array {
 public:
  // stream: what __dlpack__ is asked with; None for the CPU, the stream's handle (1 for the default one) for CUDA.
  array(const py::object& producer, const char* name, const py::object& stream) : name_(name) {
    if (!py::hasattr(producer, "__dlpack__")) {
      throw py::type_error(name_ + ": expected an array with __dlpack__ (NumPy, torch, CuPy, ...), got " +
                           std::string(py::str(py::type::of(producer).attr("__name__"))));
    }
    take(ask(producer, stream));
  }
  array(const array&) = delete;
  array& operator=(const array&) = delete;
  array(array&& other) noexcept
      : name_(std::move(other.name_)),
        tensor_(std::exchange(other.tensor_, nullptr)),
        read_only_(other.read_only_),
        legacy_(std::exchange(other.legacy_, nullptr)),
        versioned_(std::exchange(other.versioned_, nullptr)) {}
  array& operator=(array&&) = delete;
  ~array() {
    if (legacy_ != nullptr && legacy_->deleter != nullptr) legacy_->deleter(legacy_);
    if (versioned_ != nullptr && versioned_->deleter != nullptr) versioned_->deleter(versioned_);
  }

  const dlpack::tensor& tensor() const { return *tensor_; }
  bool read_only() const { return read_only_; }
  const std::string& name() const { return name_; }

  std::string dtype() const {
    const auto& type = tensor_->dtype;
    if (type.lanes != 1) return "vector lanes";
    const std::string bits = std::to_string(type.bits);
    switch (type.code) {
      case dlpack::kInt: return "int" + bits;
      case dlpack::kUInt: return "uint" + bits;
      case dlpack::kFloat: return "float" + bits;
      case dlpack::kBfloat: return "bfloat" + bits;
      case dlpack::kComplex: return "complex" + bits;
      case dlpack::kBool: return "bool";
      default: return "dtype code " + std::to_string(type.code);
    }
  }

  void* data() const {
    return tensor_->data == nullptr ? nullptr : static_cast<char*>(tensor_->data) + tensor_->byte_offset;
  }

  std::int64_t size(int axis) const { return tensor_->shape[axis]; }

  // Elements between neighbours along an axis. NULL strides mean compact.
  std::int64_t stride(int axis) const {
    if (tensor_->strides != nullptr) return tensor_->strides[axis];
    std::int64_t compact = 1;
    for (int i = tensor_->ndim - 1; i > axis; --i) compact *= tensor_->shape[i];
    return compact;
  }

  // The array as a batch of planes: leading axes folded into one. Strides of axes of size 1 are ignored.
  template <class T>
  image_view<T> view() const {
    using value = std::remove_const_t<T>;
    const bool flag = std::is_same_v<value, std::uint8_t> && dtype() == "bool";
    if (!flag && dtype() != dtype_name<value>) {
      throw py::type_error(name_ + ": expected dtype " + dtype_name<value> + ", got " + dtype());
    }
    if (!std::is_const_v<T> && read_only_) {
      throw py::value_error(name_ + ": the array is read-only; pass a writable one");
    }
    const int ndim = tensor_->ndim;
    if (ndim < 2) throw py::value_error(name_ + ": expected at least 2 axes, got " + std::to_string(ndim));
    image_view<T> result;
    result.data = static_cast<T*>(data());
    if (reinterpret_cast<std::uintptr_t>(result.data) % sizeof(T) != 0) {
      throw py::value_error(name_ + ": the elements are not aligned in memory; pass a copy");
    }
    result.rows = size(ndim - 2);
    result.cols = size(ndim - 1);
    result.batch = 1;
    for (int i = 0; i < ndim - 2; ++i) result.batch *= size(i);
    result.row_stride = result.rows == 1 ? result.cols : stride(ndim - 2);
    result.batch_stride = result.rows * result.row_stride;
    if (result.empty()) return result;
    bool plain = result.cols == 1 || stride(ndim - 1) == 1;
    std::int64_t folded = 0;  // the stride of the axes folded so far, from the last one
    std::int64_t count = 1;
    for (int i = ndim - 3; i >= 0; --i) {
      if (size(i) == 1) continue;
      if (count == 1) {
        folded = stride(i);
      } else {
        plain = plain && stride(i) == folded * count;
      }
      count *= size(i);
    }
    if (count > 1) result.batch_stride = folded;
    if (!plain || result.row_stride < 0 || result.batch_stride < 0) {
      throw py::value_error(name_ +
                            ": the last axis must be contiguous and the leading axes evenly spaced; "
                            "pass a contiguous copy");
    }
    return result;
  }

 private:
  static py::object ask(const py::object& producer, const py::object& stream) {
    // Made once and never freed: each array of each call comes by here.
    static PyObject* const method = PyUnicode_InternFromString("__dlpack__");
    static PyObject* const names =
        PyTuple_Pack(2, PyUnicode_InternFromString("stream"), PyUnicode_InternFromString("max_version"));
    static PyObject* const version = py::make_tuple(1, 0).release().ptr();
    PyObject* const arguments[] = {producer.ptr(), stream.ptr(), version};
    PyObject* const capsule = PyObject_VectorcallMethod(method, arguments, 1, names);
    if (capsule != nullptr) return py::reinterpret_steal<py::object>(capsule);
    if (!PyErr_ExceptionMatches(PyExc_TypeError)) throw py::error_already_set();
    PyErr_Clear();
    return producer.attr("__dlpack__")(py::arg("stream") = stream);  // a producer older than DLPack 1.0
  }

  void take(const py::object& capsule) {
    PyObject* const pointer = capsule.ptr();
    if (PyCapsule_IsValid(pointer, "dltensor_versioned")) {
      auto* managed =
          static_cast<dlpack::managed_tensor_versioned*>(PyCapsule_GetPointer(pointer, "dltensor_versioned"));
      if (managed->version.major != 1) {
        throw py::type_error(name_ + ": DLPack version " + std::to_string(managed->version.major) +
                             " is not supported; expected 1");
      }
      PyCapsule_SetName(pointer, "used_dltensor_versioned");
      versioned_ = managed;
      tensor_ = &managed->dl_tensor;
      read_only_ = (managed->flags & dlpack::kFlagReadOnly) != 0;
    } else if (PyCapsule_IsValid(pointer, "dltensor")) {
      auto* managed = static_cast<dlpack::managed_tensor*>(PyCapsule_GetPointer(pointer, "dltensor"));
      PyCapsule_SetName(pointer, "used_dltensor");
      legacy_ = managed;
      tensor_ = &managed->dl_tensor;
    } else {
      throw py::type_error(name_ + ": __dlpack__ did not return a fresh DLPack capsule");
    }
  }

  std::string name_;
  const dlpack::tensor* tensor_ = nullptr;
  bool read_only_ = false;
  dlpack::managed_tensor* legacy_ = nullptr;
  dlpack::managed_tensor_versioned* versioned_ = nullptr;
};

}  // namespace nmfuse
