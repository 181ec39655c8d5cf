// Shared memory under the runner: the twin of the arrays in cuda/shared.h, every access of which is logged.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>

#include "simt/cuda_runtime.h"

namespace simt {

template <class T>
struct element {
  std::byte* base;  // of the array
  std::size_t offset;
  std::int64_t index;
  const char* name;

  void log(access_kind kind) const { log_shared_access(kind, offset, sizeof(T), index, name); }
  T& memory() const { return reinterpret_cast<T*>(base)[index]; }
};

// What array[i] gives: reads and writes of it are logged. Do not keep it with auto; name the type of a value.
template <class T>
class element_reference {
 public:
  explicit element_reference(const element<T>& which) : element_(which) {}
  element_reference(const element_reference&) = default;

  operator T() const {
    element_.log(access_kind::read);
    return element_.memory();
  }
  const element_reference& operator=(const element_reference& other) const { return *this = static_cast<T>(other); }
  const element_reference& operator=(std::common_type_t<T> value) const {
    element_.log(access_kind::write);
    element_.memory() = value;
    return *this;
  }
  const element_reference& operator+=(std::common_type_t<T> value) const { return *this = T(*this) + value; }
  const element_reference& operator-=(std::common_type_t<T> value) const { return *this = T(*this) - value; }
  const element_reference& operator*=(std::common_type_t<T> value) const { return *this = T(*this) * value; }

  // For the atomics alone.
  struct address {
    element<T> which;
  };
  address operator&() const { return {element_}; }

 private:
  element<T> element_;
};

template <class T>
class shared_array {
 public:
  using value_type = T;
  shared_array(std::size_t offset, std::int64_t count, const char* name)
      : base_(shared_bytes(offset, static_cast<std::size_t>(count) * sizeof(T), name)),
        offset_(offset),
        count_(count),
        name_(name) {}

  element_reference<T> operator[](int i) const { return element_reference<T>(at(i, 1)); }

  // N elements at once, aligned to their size.
  template <class Pack>
  Pack load(int i) const {
    Pack pack;
    constexpr int n = sizeof(Pack) / sizeof(T);
    const element<T> first = at(i, n);
    require_aligned(i, n);
    for (int k = 0; k < n; ++k) log_shared_access(access_kind::read, offset_, sizeof(T), i + k, name_);
    std::memcpy(&pack, &first.memory(), sizeof(Pack));
    return pack;
  }
  template <class Pack>
  void store(int i, const Pack& pack) const {
    constexpr int n = sizeof(Pack) / sizeof(T);
    const element<T> first = at(i, n);
    require_aligned(i, n);
    for (int k = 0; k < n; ++k) log_shared_access(access_kind::write, offset_, sizeof(T), i + k, name_);
    std::memcpy(static_cast<void*>(&first.memory()), &pack, sizeof(Pack));
  }

  shared_array slice(int first, int count) const {
    at(first, count);
    return shared_array(offset_ + static_cast<std::size_t>(first) * sizeof(T), count, name_);
  }

 private:
  element<T> at(int i, std::int64_t count) const {
    if (i < 0 || count > count_ - i) {
      fail("index " + std::to_string(i) + (count > 1 ? " (" + std::to_string(count) + " elements)" : "") +
           " is outside shared array '" + name_ + "' of " + std::to_string(count_));
    }
    return {base_, offset_, i, name_};
  }
  void require_aligned(int i, int n) const {
    if ((offset_ + static_cast<std::size_t>(i) * sizeof(T)) % (n * sizeof(T)) != 0) {
      fail("index " + std::to_string(i) + " of shared array '" + name_ + "' is not aligned for " + std::to_string(n) +
           " elements");
    }
  }

  std::byte* base_;
  std::size_t offset_;
  std::int64_t count_;
  const char* name_;
};

template <class T, class Operation>
T shared_atomic(const element<T>& which, Operation operation) {
  which.log(access_kind::atomic);
  return operation(&which.memory());
}

}  // namespace simt

#define NMFUSE_SIMT_ATOMIC(name)                                                                                       \
  template <class Address, class V>                                                                                    \
  auto name(const Address& address, V value) -> decltype(address.which.memory() + value, address.which.memory() + 0) { \
    return simt::shared_atomic(address.which, [&](auto* memory) { return name(memory, value); });                      \
  }
NMFUSE_SIMT_ATOMIC(atomicAdd)
NMFUSE_SIMT_ATOMIC(atomicMax)
NMFUSE_SIMT_ATOMIC(atomicMin)
NMFUSE_SIMT_ATOMIC(atomicExch)
#undef NMFUSE_SIMT_ATOMIC
