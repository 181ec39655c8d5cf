#include "nmfuse/readback.h"

#include <algorithm>

namespace nmfuse {

struct flag_readback::state {
  bool any = true;
};

flag_readback::flag_readback() : state_(new state) {}
flag_readback::~flag_readback() = default;

void flag_readback::start(const std::uint8_t* flags, std::int64_t count, stream_handle) {
  state_->any = std::any_of(flags, flags + count, [](std::uint8_t flag) { return flag != 0; });
}

bool flag_readback::idle() { return true; }
bool flag_readback::any() const { return state_->any; }

}  // namespace nmfuse
