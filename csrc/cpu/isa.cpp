#include "cpu/isa.h"

#include <cstdlib>
#include <stdexcept>
#include <string>

namespace nmfuse {
namespace {

isa best_isa() {
#if defined(NMFUSE_HAS_avx2) || defined(NMFUSE_HAS_avx512)
  __builtin_cpu_init();
#endif
#if defined(NMFUSE_HAS_avx512)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma")) {
    return isa::avx512;
  }
#endif
#if defined(NMFUSE_HAS_avx2)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return isa::avx2;
#endif
  return isa::baseline;
}

isa choose_isa() {
  const isa best = best_isa();
  const char* forced = std::getenv("NMFUSE_FORCE_ISA");
  if (forced == nullptr || *forced == '\0') return best;
  for (const isa which : {isa::baseline, isa::avx2, isa::avx512}) {
    if (std::string(forced) != isa_name(which)) continue;
    if (which <= best) return which;
    throw std::invalid_argument(std::string("NMFUSE_FORCE_ISA=") + forced + ": this processor reaches only " +
                                isa_name(best) + "; unset it or force that");
  }
  throw std::invalid_argument(std::string("NMFUSE_FORCE_ISA=") + forced + ": expected baseline, avx2 or avx512");
}

}  // namespace

isa active_isa() {
  static const isa chosen = choose_isa();
  return chosen;
}

const char* isa_name(isa which) {
  switch (which) {
    case isa::avx512: return "avx512";
    case isa::avx2: return "avx2";
    default: return "baseline";
  }
}

}  // namespace nmfuse
