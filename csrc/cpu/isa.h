// Which instruction set the CPU kernels use: chosen once per process, forced down by NMFUSE_FORCE_ISA. The one place
// that knows which there are; CMakeLists.txt compiles each *_isa.cpp once for each.
//
//   template <isa kIsa, class T> row_kernel<T> get_row_kernel();                      // in *_isa.h
//   template row_kernel<float> get_row_kernel<kThisIsa, float>();                     // in *_isa.cpp
//   dispatch_isa([](auto which) { return get_row_kernel<which(), float>(); });        // in the operation
#pragma once

#include <type_traits>

namespace nmfuse {

enum class isa { baseline, avx2, avx512 };

isa active_isa();
const char* isa_name(isa which);

#if defined(NMFUSE_ISA)
// What this file is compiled for.
inline constexpr isa kThisIsa = isa::NMFUSE_ISA;
#else
// Returns body(which) for the active instruction set, `which` a constant that a template takes.
template <class Body>
auto dispatch_isa(const Body& body) {
  using baseline = std::integral_constant<isa, isa::baseline>;
#if defined(NMFUSE_HAS_avx512)
  if (active_isa() == isa::avx512) return body(std::integral_constant<isa, isa::avx512>{});
#endif
#if defined(NMFUSE_HAS_avx2)
  if (active_isa() == isa::avx2) return body(std::integral_constant<isa, isa::avx2>{});
#endif
  return body(baseline{});
}
#endif

}  // namespace nmfuse
