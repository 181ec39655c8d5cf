// Flags of the device on their way to the host, without waiting for the stream.
#pragma once

#include <cstdint>
#include <memory>

#include "nmfuse/image_view.h"

namespace nmfuse {

class flag_readback {
 public:
  flag_readback();
  ~flag_readback();
  // Queues a copy of `count` flags; only while idle().
  void start(const std::uint8_t* flags, std::int64_t count, stream_handle stream);
  // No copy is on its way.
  bool idle();
  // Whether a flag of the last copy is set; true before the first. Only while idle().
  bool any() const;

 private:
  struct state;
  std::unique_ptr<state> state_;
};

}  // namespace nmfuse
