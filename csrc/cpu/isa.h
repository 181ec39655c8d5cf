// Which instruction set a CPU kernel uses: chosen once per process, forced down by NMFUSE_FORCE_ISA.
#pragma once

namespace nmfuse {

enum class isa { baseline, avx2, avx512 };

isa active_isa();
const char* isa_name(isa which);

}  // namespace nmfuse
