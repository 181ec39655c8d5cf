// Executes CUDA kernels on a CPU, one fiber per CUDA thread, and reports what a GPU would let pass: races in shared
// memory, shared memory read before it was written, barriers that not all threads reach. See
// docs/design/0005-simt-runner.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "nmfuse/error.h"
#include "simt/vector_types.h"

namespace simt {

// A kernel did what it must not; the message names kernel, block and threads.
struct fault : nmfuse::cuda_error {
  using nmfuse::cuda_error::cuda_error;
};

struct launch_config {
  const char* name;
  dim3 grid;
  dim3 block;
  std::size_t shared_bytes = 0;
  bool cooperative = false;  // all blocks are resident, so that they may wait for each other
};

// The device that kernels see. Small, so that tests reach the loops that fold a large grid into a legal one.
inline constexpr int kMaxThreads = 1024;
inline constexpr unsigned kMaxGridX = 61, kMaxGridYZ = 7;
inline constexpr std::size_t kMaxSharedBytes = 99 * 1024;  // as sm_86, sm_89 and sm_120
inline constexpr int kMultiprocessors = 3;
inline constexpr int kWarpSize = 32;

// Runs kernel() in every thread of every block and returns when all are done; throws fault.
void run(const launch_config& config, const std::function<void()>& kernel);

// Order of blocks, and of threads between two barriers: 0 is natural, any other seed is a permutation of its own.
// Starts as the environment variable NMFUSE_SIMT_SEED. Per OS thread.
void set_order_seed(std::uint64_t seed);

// Where in the source a thread waits.
struct site {
  const char* file;
  int line;
};

// One thread's view of the built-in variables; the rest belongs to the runner.
struct thread_state {
  uint3 thread_index;
  uint3 block_index;
  dim3 block_size;
  dim3 grid_size;
  int linear = 0;  // x fastest
};

extern thread_local thread_state* current_thread;

// The calling CUDA thread.
thread_state& self();

struct barrier_result {
  int count;  // threads with a true predicate
  int threads;
};
barrier_result block_barrier(bool predicate, site where);
void grid_barrier(site where);

enum class warp_operation { sync, shuffle, vote };
struct warp_result {
  std::uint64_t value;  // of the source lane
  unsigned ballot;      // lanes of the mask with a true predicate
};
// source_lane outside the mask gives a fault: the value would be undefined.
warp_result warp_exchange(warp_operation operation, unsigned mask, std::uint64_t value, int source_lane, bool predicate,
                          site where);

// Shared memory of the calling thread's block.
std::byte* shared_bytes(std::size_t offset, std::size_t bytes, const char* name);
enum class access_kind { read, write, atomic };
void log_shared_access(access_kind kind, std::size_t offset, std::size_t element_bytes, std::int64_t index,
                       const char* name);
[[noreturn]] void fail(const std::string& what);  // adds kernel, block and thread

}  // namespace simt
