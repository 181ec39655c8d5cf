#include <cuda_runtime.h>

#include <algorithm>

#include "cuda/launch.h"
#include "nmfuse/readback.h"

namespace nmfuse {

struct flag_readback::state {
  std::uint8_t* host = nullptr;  // pinned: a copy to other memory would wait
  std::int64_t count = 0;
  cudaEvent_t copied = nullptr;
  bool on_its_way = false;

  ~state() {
    if (on_its_way) cudaEventSynchronize(copied);
    if (copied != nullptr) cudaEventDestroy(copied);
    if (host != nullptr) cudaFreeHost(host);
  }
};

flag_readback::flag_readback() : state_(new state) {}
flag_readback::~flag_readback() = default;

void flag_readback::start(const std::uint8_t* flags, std::int64_t count, stream_handle stream) {
  state& s = *state_;
  if (s.host == nullptr) {
    check(cudaMallocHost(reinterpret_cast<void**>(&s.host), static_cast<std::size_t>(count)), "cudaMallocHost");
    check(cudaEventCreateWithFlags(&s.copied, cudaEventDisableTiming), "cudaEventCreate");
    s.count = count;
  }
  require(count == s.count, "flags: their number has changed");
  check(cudaMemcpyAsync(s.host, flags, static_cast<std::size_t>(count), cudaMemcpyDeviceToHost, stream_of(stream)),
        "cudaMemcpyAsync");
  check(cudaEventRecord(s.copied, stream_of(stream)), "cudaEventRecord");
  s.on_its_way = true;
}

bool flag_readback::idle() {
  if (!state_->on_its_way) return true;
  const cudaError_t status = cudaEventQuery(state_->copied);
  if (status == cudaErrorNotReady) {
    cudaGetLastError();  // not an error
    return false;
  }
  check(status, "cudaEventQuery");
  state_->on_its_way = false;
  return true;
}

bool flag_readback::any() const {
  const std::uint8_t* const host = state_->host;
  return host == nullptr || std::any_of(host, host + state_->count, [](std::uint8_t flag) { return flag != 0; });
}

}  // namespace nmfuse
