// Errors that cross the Python boundary. Arguments are checked in Python; these are for what only C++ can see.
#pragma once

#include <stdexcept>
#include <string>

namespace nmfuse {

// A CUDA call or launch failed; becomes nmfuse.CudaError.
struct cuda_error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A precondition of a kernel does not hold; becomes ValueError.
inline void require(bool condition, const char* message) {
  if (!condition) throw std::invalid_argument(message);
}

}  // namespace nmfuse
