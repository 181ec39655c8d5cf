#include "simt/runner.h"

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "simt/fiber.h"

namespace simt {

thread_local thread_state* current_thread = nullptr;

namespace {

constexpr std::size_t kStackBytes = 256 * 1024;  // address space; pages that are not touched cost nothing

// One access to an element of shared memory. Epochs count the barriers: of the block, then of the warp.
struct access {
  std::uint64_t epoch = 0;
  std::uint32_t warp_epoch = 0;
  int thread = -1;
};

// The last accesses of one kind by two threads. Two are enough: if two warps had access in one epoch, the slots differ
// in their warp, and every other thread of that epoch races with at least one of them.
struct access_pair {
  access last;
  access other;

  void record(const access& now) {
    const bool other_warp = other.epoch == now.epoch && other.thread / kWarpSize != now.thread / kWarpSize;
    if (last.epoch == now.epoch && last.thread != now.thread && !other_warp) other = last;
    last = now;
  }
};

// What happened to an element of shared memory.
struct element_log {
  access write;
  access_pair reads;
  access_pair atomics;
};

enum class waiting { no, at_block_barrier, at_grid_barrier, at_warp_operation, returned };

struct block_run;

struct warp_run {
  std::uint32_t epoch = 0;
};

struct thread_run : thread_state {
  block_run* block = nullptr;
  fiber* stack = nullptr;
  waiting state = waiting::no;
  site where{nullptr, 0};
  bool predicate = false;
  barrier_result barrier{0, 0};
  warp_operation operation = warp_operation::sync;
  unsigned mask = 0;
  std::uint64_t value = 0;
  int source_lane = 0;
  warp_result exchanged{0, 0};

  int lane() const { return linear % kWarpSize; }
  int warp() const { return linear / kWarpSize; }
};

struct block_run {
  uint3 index;
  std::uint64_t first_epoch = 0;
  std::uint64_t epoch = 0;
  int arrived = 0;
  std::vector<thread_run> threads;
  std::vector<warp_run> warps;
  std::vector<int> order;
  std::vector<std::max_align_t> shared;
  std::vector<element_log> log;  // by the byte offset of the element
};

struct runner {
  std::vector<std::unique_ptr<fiber>> fibers;
  std::vector<block_run> blocks;  // the resident ones
  const launch_config* config = nullptr;
  const std::function<void()>* kernel = nullptr;
  std::exception_ptr failure;
  std::uint64_t epoch = 0;  // of all blocks ever run here, so that logs need no clearing
  std::uint64_t seed = [] {
    const char* text = std::getenv("NMFUSE_SIMT_SEED");
    return text ? std::strtoull(text, nullptr, 10) : 0ULL;
  }();
};

thread_local runner the_runner;

std::string triple(unsigned x, unsigned y, unsigned z) {
  return "(" + std::to_string(x) + "," + std::to_string(y) + "," + std::to_string(z) + ")";
}

std::string name_of(const thread_run& thread) {
  return "thread " + triple(thread.thread_index.x, thread.thread_index.y, thread.thread_index.z);
}

std::string name_of(site where) {
  const std::string path = where.file;
  return path.substr(path.find_last_of('/') + 1) + ":" + std::to_string(where.line);
}

std::string name_of(const block_run& block) {
  return "simt: kernel " + std::string(the_runner.config->name) + ", block " +
         triple(block.index.x, block.index.y, block.index.z);
}

thread_run& me() {
  if (!current_thread) throw fault("simt: a device function was called outside a kernel");
  return static_cast<thread_run&>(*current_thread);
}

std::string describe(const thread_run& thread) {
  switch (thread.state) {
    case waiting::returned: return name_of(thread) + " has returned";
    case waiting::at_block_barrier: return name_of(thread) + " waits at the block barrier " + name_of(thread.where);
    case waiting::at_grid_barrier: return name_of(thread) + " waits at the grid barrier " + name_of(thread.where);
    case waiting::at_warp_operation: return name_of(thread) + " waits at the warp operation " + name_of(thread.where);
    case waiting::no: break;
  }
  return name_of(thread) + " runs";
}

// Nobody can go on: some thread waits for one that will not come.
[[noreturn]] void report_deadlock() {
  for (const block_run& block : the_runner.blocks) {
    const auto waits = [](const thread_run& t) { return t.state != waiting::returned; };
    const auto one = std::find_if(block.threads.begin(), block.threads.end(), waits);
    if (one == block.threads.end()) continue;
    const auto differs = [&](const thread_run& t) { return t.state != one->state || t.where.line != one->where.line; };
    const auto other = std::find_if(block.threads.begin(), block.threads.end(), differs);
    const auto count = std::count_if(block.threads.begin(), block.threads.end(), std::not_fn(differs));
    throw fault(
        name_of(block) + ": divergent barrier: " + describe(*one) + " with " + std::to_string(count) + " of " +
        std::to_string(block.threads.size()) + " threads" +
        (other == block.threads.end() ? std::string("; other blocks are not there") : ", but " + describe(*other)));
  }
  throw fault("simt: deadlock");
}

void thread_entry(void* argument) {
  auto& thread = *static_cast<thread_run*>(argument);
  try {
    (*the_runner.kernel)();
  } catch (...) {
    the_runner.failure = std::current_exception();
  }
  thread.state = waiting::returned;
}

void wait(thread_run& thread, waiting state, site where) {
  thread.state = state;
  thread.where = where;
  thread.stack->suspend();
}

void start_block(block_run& block, unsigned linear_block, std::size_t first_fiber) {
  const launch_config& config = *the_runner.config;
  const unsigned x = linear_block % config.grid.x, rest = linear_block / config.grid.x;
  block.index = {x, rest % config.grid.y, rest / config.grid.y};
  block.first_epoch = block.epoch = ++the_runner.epoch;
  block.arrived = 0;
  const int count = static_cast<int>(config.block.x * config.block.y * config.block.z);
  block.threads.assign(count, thread_run());
  block.warps.assign((count + kWarpSize - 1) / kWarpSize, warp_run());
  block.shared.resize((config.shared_bytes + sizeof(std::max_align_t) - 1) / sizeof(std::max_align_t));
  block.log.resize(config.shared_bytes);
  block.order.resize(count);
  std::iota(block.order.begin(), block.order.end(), 0);
  if (the_runner.seed) {
    std::shuffle(block.order.begin(), block.order.end(), std::mt19937_64(the_runner.seed + linear_block));
  }
  while (the_runner.fibers.size() < first_fiber + count) {
    the_runner.fibers.push_back(std::make_unique<fiber>(kStackBytes));
  }
  for (int i = 0; i < count; ++i) {
    thread_run& thread = block.threads[i];
    const unsigned u = static_cast<unsigned>(i);
    thread.thread_index = {u % config.block.x, u / config.block.x % config.block.y,
                           u / (config.block.x * config.block.y)};
    thread.block_index = block.index;
    thread.block_size = config.block;
    thread.grid_size = config.grid;
    thread.linear = i;
    thread.block = &block;
    thread.stack = the_runner.fibers[first_fiber + i].get();
    thread.stack->start(thread_entry, &thread);
  }
}

// Runs the resident blocks to their end.
void finish_blocks() {
  for (;;) {
    bool progress = false, alive = false;
    for (block_run& block : the_runner.blocks) {
      for (const int i : block.order) {
        thread_run& thread = block.threads[i];
        alive |= thread.state != waiting::returned;
        if (thread.state != waiting::no) continue;
        progress = true;
        current_thread = &thread;
        thread.stack->resume();
        current_thread = nullptr;
        if (the_runner.failure) std::rethrow_exception(std::exchange(the_runner.failure, nullptr));
      }
    }
    if (!alive) return;
    if (!progress) report_deadlock();
  }
}

// True if `before` comes before everything that `thread` does now.
bool ordered(const access& before, const thread_run& thread) {
  if (before.thread == thread.linear || before.epoch < thread.block->epoch) return true;
  return before.thread / kWarpSize == thread.warp() && before.warp_epoch < thread.block->warps[thread.warp()].epoch;
}

}  // namespace

void set_order_seed(std::uint64_t seed) { the_runner.seed = seed; }

void run(const launch_config& config, const std::function<void()>& kernel) {
  the_runner.config = &config;
  the_runner.kernel = &kernel;
  std::vector<unsigned> order(config.grid.x * config.grid.y * config.grid.z);
  std::iota(order.begin(), order.end(), 0U);
  if (the_runner.seed) std::shuffle(order.begin(), order.end(), std::mt19937_64(the_runner.seed));

  const std::size_t resident = config.cooperative ? order.size() : 1;
  the_runner.blocks.resize(resident);
  const std::size_t threads = config.block.x * config.block.y * config.block.z;
  for (std::size_t next = 0; next < order.size(); next += resident) {
    for (std::size_t i = 0; i < resident; ++i) start_block(the_runner.blocks[i], order[next + i], i * threads);
    finish_blocks();
  }
}

thread_state& self() { return me(); }

void fail(const std::string& what) {
  const thread_run& thread = me();
  throw fault(name_of(*thread.block) + ", " + name_of(thread) + ": " + what);
}

barrier_result block_barrier(bool predicate, site where) {
  thread_run& thread = me();
  block_run& block = *thread.block;
  thread.predicate = predicate;
  const int count = static_cast<int>(block.threads.size());
  if (++block.arrived < count) {
    wait(thread, waiting::at_block_barrier, where);
    return thread.barrier;
  }
  int votes = 0;
  for (const thread_run& other : block.threads) {
    votes += other.predicate;
    if (&other != &thread && other.where.line != where.line) {
      fail("divergent barrier: arrives at " + name_of(where) + ", but " + describe(other));
    }
  }
  block.arrived = 0;
  block.epoch = ++the_runner.epoch;
  for (thread_run& other : block.threads) {
    other.state = waiting::no;
    other.barrier = {votes, count};
  }
  return thread.barrier;
}

void grid_barrier(site where) {
  thread_run& thread = me();
  if (!the_runner.config->cooperative) fail("grid barrier in a launch that is not cooperative");
  thread.state = waiting::at_grid_barrier;
  bool complete = true;
  for (const block_run& block : the_runner.blocks) {
    for (const thread_run& other : block.threads) complete &= other.state == waiting::at_grid_barrier;
  }
  if (!complete) {
    wait(thread, waiting::at_grid_barrier, where);
    return;
  }
  for (block_run& block : the_runner.blocks) {
    block.epoch = ++the_runner.epoch;
    for (thread_run& other : block.threads) other.state = waiting::no;
  }
}

warp_result warp_exchange(warp_operation operation, unsigned mask, std::uint64_t value, int source_lane, bool predicate,
                          site where) {
  thread_run& thread = me();
  if (!(mask >> thread.lane() & 1)) fail("warp operation " + name_of(where) + ": the mask leaves out the caller");
  thread.operation = operation;
  thread.mask = mask;
  thread.value = value;
  thread.source_lane = source_lane;
  thread.predicate = predicate;

  std::vector<thread_run>& threads = thread.block->threads;
  const int first = thread.warp() * kWarpSize;
  const int lanes = std::min(kWarpSize, static_cast<int>(threads.size()) - first);
  unsigned ballot = 0;
  bool full = true;  // the mask holds every lane that exists
  for (int lane = 0; lane < lanes; ++lane) {
    const thread_run& other = threads[first + lane];
    if (!(mask >> lane & 1)) {
      full = false;
      continue;
    }
    ballot |= static_cast<unsigned>(other.predicate) << lane;
    if (&other == &thread) continue;
    if (other.state != waiting::at_warp_operation) {
      wait(thread, waiting::at_warp_operation, where);
      return thread.exchanged;
    }
    if (other.mask != mask || other.operation != operation || other.where.line != where.line) {
      fail("divergent warp: is at " + name_of(where) + ", but " + describe(other));
    }
  }
  if (operation == warp_operation::sync) {
    if (!full) fail("__syncwarp over a part of the warp is not supported by the runner");
    ++thread.block->warps[thread.warp()].epoch;
  }
  for (int lane = 0; lane < lanes; ++lane) {
    if (!(mask >> lane & 1)) continue;
    thread_run& other = threads[first + lane];
    const int source = other.source_lane;
    if (operation == warp_operation::shuffle && (source >= lanes || !(mask >> source & 1))) {
      fail("shuffle " + name_of(where) + ": lane " + std::to_string(lane) + " reads lane " + std::to_string(source) +
           ", which does not take part");
    }
    other.exchanged = {operation == warp_operation::shuffle ? threads[first + source].value : 0, ballot};
    other.state = waiting::no;
  }
  return thread.exchanged;
}

std::byte* shared_bytes(std::size_t offset, std::size_t bytes, const char* name) {
  const std::size_t available = the_runner.config->shared_bytes;
  if (offset > available || bytes > available - offset) {
    fail("shared array '" + std::string(name) + "' ends at byte " + std::to_string(offset + bytes) +
         ", but the launch gave " + std::to_string(available));
  }
  return reinterpret_cast<std::byte*>(me().block->shared.data()) + offset;
}

void log_shared_access(access_kind kind, std::size_t offset, std::size_t element_bytes, std::int64_t index,
                       const char* name) {
  thread_run& thread = me();
  block_run& block = *thread.block;
  element_log& log = block.log[offset + static_cast<std::size_t>(index) * element_bytes];
  const access now{block.epoch, block.warps[thread.warp()].epoch, thread.linear};
  if (kind != access_kind::write && log.write.epoch < block.first_epoch) {
    fail("reads element " + std::to_string(index) + " of shared array '" + name + "' before it was written");
  }
  const char* mine = kind == access_kind::read ? "reads" : kind == access_kind::write ? "writes" : "updates";
  const auto check = [&](const access& before, const char* theirs) {
    if (before.epoch < block.first_epoch || ordered(before, thread)) return;
    fail("race: " + std::string(mine) + " element " + std::to_string(index) + " of shared array '" + name +
         "' without a barrier after the " + theirs + " by " + name_of(block.threads[before.thread]));
  };
  check(log.write, "write");
  if (kind != access_kind::atomic) {
    check(log.atomics.last, "update");
    check(log.atomics.other, "update");
  }
  if (kind != access_kind::read) {
    check(log.reads.last, "read");
    check(log.reads.other, "read");
  }
  switch (kind) {
    case access_kind::read: log.reads.record(now); break;
    case access_kind::write: log.write = now; break;
    case access_kind::atomic: log.atomics.record(now); break;
  }
}

}  // namespace simt
