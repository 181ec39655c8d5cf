// The SIMT runner itself: what kernels may do works, what they may not do is reported.

#include <cooperative_groups.h>
#include <cuda_runtime.h>

#include <cstdio>
#include <functional>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "cuda/launch.h"
#include "cuda/shared.h"

using nmfuse::launch;
using nmfuse::launch_cooperative;
using nmfuse::shared_bytes;
using nmfuse::shared_memory;

namespace {

int failures = 0;

void expect(bool holds, const std::string& what) {
  if (holds) return;
  ++failures;
  std::printf("FAILED: %s\n", what.c_str());
}

// The body fails with a message that holds all the parts.
void expect_fault(const std::string& what, const std::vector<std::string>& parts, const std::function<void()>& body) {
  std::string message;
  try {
    body();
  } catch (const nmfuse::cuda_error& error) {
    message = error.what();
  }
  for (const std::string& part : parts) {
    expect(message.find(part) != std::string::npos, what + ": '" + part + "' is not in '" + message + "'");
  }
}

// ---- What works

__global__ void fill_indices(int* out) {
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  const unsigned i = block * (blockDim.x * blockDim.y * blockDim.z) + thread;
  out[i] = static_cast<int>(i);
}

void indices_cover_the_grid() {
  std::vector<int> out(5 * 3 * 2 * 24, -1), expected(out.size());
  std::iota(expected.begin(), expected.end(), 0);
  launch("fill_indices", fill_indices, dim3(5, 3, 2), dim3(4, 3, 2), 0, nullptr, out.data());
  expect(out == expected, "every thread of every block runs once");
}

__global__ void reverse(const int* in, int* out, int n) {
  shared_memory memory;
  const auto tile = memory.take<int>(n, "tile");
  const int i = static_cast<int>(threadIdx.x);
  tile[i] = in[i];
  __syncthreads();
  out[i] = tile[n - 1 - i];
}

void a_barrier_orders_shared_memory() {
  for (const int n : {1, 33, 256, 1024}) {
    std::vector<int> in(n), out(n, -1);
    std::iota(in.begin(), in.end(), 0);
    launch("reverse", reverse, 1, n, shared_bytes<int>(n), nullptr, in.data(), out.data(), n);
    expect(std::vector<int>(out.rbegin(), out.rend()) == in, "reverse of " + std::to_string(n));
  }
}

__global__ void votes(int* out) {
  const int t = static_cast<int>(threadIdx.x);
  out[3 * t] = __syncthreads_count(t % 3 == 0);
  out[3 * t + 1] = __syncthreads_and(t < 99);
  out[3 * t + 2] = __syncthreads_or(t == 41);
}

void barriers_vote() {
  std::vector<int> out(3 * 100, -1);
  launch("votes", votes, 1, 100, 0, nullptr, out.data());
  for (int t = 0; t < 100; ++t) {
    expect(out[3 * t] == 34 && out[3 * t + 1] == 0 && out[3 * t + 2] == 1, "votes of thread " + std::to_string(t));
  }
}

__global__ void warp_sums(double* out) {
  const int t = static_cast<int>(threadIdx.x);
  double sum = t;
  for (int lanes = 16; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(0xffffffffU, sum, lanes);
  out[4 * t] = sum;
  out[4 * t + 1] = __shfl_sync(0xffffffffU, t, 5);
  out[4 * t + 2] = __shfl_down_sync(0xffffffffU, t, 3, 8) + 1000 * __shfl_up_sync(0xffffffffU, t, 3U, 8);
  out[4 * t + 3] = __ballot_sync(0xffffffffU, t % 2);
}

void shuffles_exchange_within_a_warp() {
  std::vector<double> out(4 * 64, -1);
  launch("warp_sums", warp_sums, 1, 64, 0, nullptr, out.data());
  for (int t = 0; t < 64; ++t) {
    const int base = t / 32 * 32, part = t / 8 * 8;
    const int down = t + 3 < part + 8 ? t + 3 : t, up = t - 3 >= part ? t - 3 : t;
    expect(out[4 * t] == base * 32 + 496, "sum by butterfly, thread " + std::to_string(t));
    expect(out[4 * t + 1] == base + 5, "broadcast, thread " + std::to_string(t));
    expect(out[4 * t + 2] == down + 1000 * up, "shuffle down and up by parts of 8, thread " + std::to_string(t));
    expect(out[4 * t + 3] == 0xaaaaaaaaU, "ballot, thread " + std::to_string(t));
  }
}

__global__ void half_warp(int* out) {
  const int t = static_cast<int>(threadIdx.x);
  if (t < 16) out[t] = __shfl_xor_sync(0xffffU, t, 1);
}

void shuffles_take_a_mask() {
  std::vector<int> out(16, -1);
  launch("half_warp", half_warp, 1, 32, 0, nullptr, out.data());
  for (int t = 0; t < 16; ++t) expect(out[t] == (t ^ 1), "shuffle in half a warp, thread " + std::to_string(t));
}

__global__ void warp_reverse(int* out) {
  shared_memory memory;
  const auto tile = memory.take<int>(64, "tile");
  const int t = static_cast<int>(threadIdx.x), base = t / 32 * 32;
  tile[t] = t;
  __syncwarp();
  const int mirrored = tile[base + 31 - t % 32];
  __syncwarp();
  tile[t] = mirrored;
  out[t] = tile[t];
}

void syncwarp_orders_a_warp() {
  std::vector<int> out(64, -1);
  launch("warp_reverse", warp_reverse, 1, 64, shared_bytes<int>(64), nullptr, out.data());
  for (int t = 0; t < 64; ++t) expect(out[t] == t / 32 * 32 + 31 - t % 32, "warp_reverse " + std::to_string(t));
}

__global__ void histogram(const int* values, int n, int* out) {
  shared_memory memory;
  const auto counts = memory.take<int>(4, "counts");
  const int t = static_cast<int>(threadIdx.x);
  if (t < 4) counts[t] = 0;
  __syncthreads();
  for (int i = t; i < n; i += static_cast<int>(blockDim.x)) atomicAdd(&counts[values[i]], 1);
  __syncthreads();
  if (t < 4) atomicAdd(&out[t], counts[t]);
}

void atomics_count() {
  std::vector<int> values(1000), out(4, 0);
  for (int i = 0; i < 1000; ++i) values[i] = i % 4;
  launch("histogram", histogram, 3, 64, shared_bytes<int>(4), nullptr, values.data(), 1000, out.data());
  expect(out == std::vector<int>(4, 750), "histogram");
}

__global__ void packs(const float4* in, float4* out) {
  shared_memory memory;
  const auto tile = memory.take<float>(4 * 32, "tile");
  const int t = static_cast<int>(threadIdx.x);
  tile.store(4 * t, in[t]);
  __syncthreads();
  out[t] = tile.slice(64, 64).load<float4>(4 * (t % 16));
}

void packs_move_at_once() {
  std::vector<float4> in(32), out(32);
  for (int t = 0; t < 32; ++t) in[t] = make_float4(t, 1, 2, 3);
  launch("packs", packs, 1, 32, shared_bytes<float>(128), nullptr, in.data(), out.data());
  for (int t = 0; t < 32; ++t) expect(out[t].x == 16 + t % 16 && out[t].w == 3, "pack " + std::to_string(t));
}

__global__ void grid_steps(int* totals) {
  const auto grid = cooperative_groups::this_grid();
  if (threadIdx.x == 0) totals[blockIdx.x] = static_cast<int>(blockIdx.x) + 1;
  grid.sync();
  int total = 0;
  for (unsigned i = 0; i < gridDim.x; ++i) total += totals[i];
  grid.sync();
  if (threadIdx.x == 0) totals[blockIdx.x] = total;
}

void a_grid_barrier_orders_blocks() {
  std::vector<int> totals(3, -1);
  launch_cooperative("grid_steps", grid_steps, 3, 40, 0, nullptr, totals.data());
  expect(totals == std::vector<int>(3, 6), "grid barrier");
}

__global__ void record_order(std::vector<int>* order) {
  order->push_back(static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x));
}

void seeds_permute_blocks_and_threads() {
  std::set<std::vector<int>> orders;
  for (const int seed : {0, 1, 2, 1}) {
    std::vector<int> order;
    simt::set_order_seed(seed);
    launch("record_order", record_order, 5, 8, 0, nullptr, &order);
    orders.insert(order);
    expect(std::set<int>(order.begin(), order.end()).size() == 40, "a permutation");
  }
  simt::set_order_seed(0);
  expect(orders.size() == 3, "seeds 0, 1, 2 give three orders, the same seed the same");
}

// ---- What is reported

__global__ void reverse_without_barrier(const int* in, int* out, int n) {
  shared_memory memory;
  const auto tile = memory.take<int>(n, "tile");
  const int i = static_cast<int>(threadIdx.x);
  tile[i] = in[i];
  out[i] = tile[n - 1 - i];
}

__global__ void write_after_read(int* out) {
  shared_memory memory;
  const auto tile = memory.take<int>(64, "tile");
  const int i = static_cast<int>(threadIdx.x);
  tile[i] = i;
  __syncthreads();
  const int next = tile[(i + 1) % 64];
  tile[i] = next;
  out[i] = next;
}

__global__ void two_writers() {
  shared_memory memory;
  const auto tile = memory.take<int>(1, "tile");
  tile[0] = 7;
}

__global__ void warp_race() {
  shared_memory memory;
  const auto tile = memory.take<int>(64, "tile");
  const int i = static_cast<int>(threadIdx.x);
  tile[i] = i;
  __syncwarp();
  tile[(i + 32) % 64] = i;  // another warp's
}

__global__ void atomic_and_plain() {
  shared_memory memory;
  const auto tile = memory.take<int>(1, "count");
  if (threadIdx.x == 0) tile[0] = 0;
  atomicAdd(&tile[0], 1);
}

__global__ void barrier_in_branch() {
  if (threadIdx.x < 7) __syncthreads();
}

__global__ void two_barriers() {
  if (threadIdx.x < 7) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}

__global__ void early_return(int n) {
  if (static_cast<int>(threadIdx.x) >= n) return;
  __syncthreads();
}

__global__ void shuffle_in_branch() {
  if (threadIdx.x < 7) __shfl_xor_sync(0xffffffffU, 1, 1);
}

__global__ void shuffle_from_outside() {
  if (threadIdx.x < 16) __shfl_sync(0xffffU, 1, 20);
}

__global__ void out_of_shared(int i) {
  shared_memory memory;
  memory.take<int>(8, "tile")[i] = 1;
}

__global__ void unaligned_pack() {
  shared_memory memory;
  memory.take<float>(8, "tile").store(2, make_float4(0, 0, 0, 0));
}

__global__ void one_block_leaves() {
  if (blockIdx.x != 1) cooperative_groups::this_grid().sync();
}

__global__ void nothing() {}

void faults_are_reported() {
  std::vector<int> in(64, 1), out(64);
  expect_fault(
      "missing barrier", {"kernel reverse_without_barrier, block (0,0,0)", "element 63", "before it was written"}, [&] {
        launch("reverse_without_barrier", reverse_without_barrier, 1, 64, 256, nullptr, in.data(), out.data(), 64);
      });
  simt::set_order_seed(5);
  expect_fault("missing barrier in any order", {"'tile'"}, [&] {
    launch("reverse_without_barrier", reverse_without_barrier, 1, 64, 256, nullptr, in.data(), out.data(), 64);
  });
  simt::set_order_seed(0);
  expect_fault("write after read",
               {"race: writes element 0", "thread (0,0,0): race", "after the read by thread (63,0,0)"},
               [&] { launch("write_after_read", write_after_read, 1, 64, 256, nullptr, out.data()); });
  expect_fault("two writers", {"race: writes element 0", "after the write by thread (0,0,0)"},
               [] { launch("two_writers", two_writers, 1, 2, 16, nullptr); });
  expect_fault("warps race", {"race: writes"}, [] { launch("warp_race", warp_race, 1, 64, 256, nullptr); });
  expect_fault("atomic and plain", {"race: updates"},
               [] { launch("atomic_and_plain", atomic_and_plain, 1, 2, 16, nullptr); });
  expect_fault("leftovers of the last block are not there", {"block (0,0,0)", "before it was written"}, [&] {
    launch("reverse", reverse, 1, 64, 256, nullptr, in.data(), out.data(), 64);
    launch("reverse_without_barrier", reverse_without_barrier, 1, 64, 256, nullptr, in.data(), out.data(), 64);
  });
  expect_fault("barrier in a branch",
               {"divergent barrier", "thread (0,0,0) waits", "7 of 64", "thread (7,0,0) has returned"},
               [] { launch("barrier_in_branch", barrier_in_branch, 2, 64, 0, nullptr); });
  expect_fault("two barriers", {"divergent barrier", "test_simt.cpp"},
               [] { launch("two_barriers", two_barriers, 1, 64, 0, nullptr); });
  expect_fault("early return", {"divergent barrier", "thread (50,0,0) has returned"},
               [] { launch("early_return", early_return, 1, 64, 0, nullptr, 50); });
  expect_fault("shuffle in a branch", {"divergent barrier", "warp operation"},
               [] { launch("shuffle_in_branch", shuffle_in_branch, 1, 32, 0, nullptr); });
  expect_fault("shuffle from a lane outside the mask", {"lane 0 reads lane 20, which does not"},
               [] { launch("shuffle_from_outside", shuffle_from_outside, 1, 32, 0, nullptr); });
  for (const int i : {-1, 8}) {
    expect_fault("index outside", {"index " + std::to_string(i), "'tile' of 8"},
                 [&] { launch("out_of_shared", out_of_shared, 1, 1, 32, nullptr, i); });
  }
  expect_fault("more than was asked for", {"ends at byte 32", "gave 16"},
               [] { launch("out_of_shared", out_of_shared, 1, 1, 16, nullptr, 0); });
  expect_fault("unaligned", {"not aligned"}, [] { launch("unaligned_pack", unaligned_pack, 1, 1, 32, nullptr); });
  expect_fault("a block leaves before the grid barrier", {"kernel one_block_leaves, block (0,0,0)", "grid barrier"},
               [] { launch_cooperative("one_block_leaves", one_block_leaves, 3, 4, 0, nullptr); });
  expect_fault("grid barrier without a cooperative launch", {"not cooperative"},
               [] { launch("one_block_leaves", one_block_leaves, 1, 4, 0, nullptr); });
  expect_fault("too many threads", {"launch of nothing", "invalid configuration", "block 1025 x 1 x 1"},
               [] { launch("nothing", nothing, 1, 1025, 0, nullptr); });
  expect_fault("no blocks", {"invalid configuration"}, [] { launch("nothing", nothing, dim3(0), 32, 0, nullptr); });
  expect_fault("too many blocks to be resident", {"cooperative"},
               [] { launch_cooperative("nothing", nothing, 4, 32, 0, nullptr); });
  expect_fault("too much shared memory", {"invalid argument"},
               [] { launch("nothing", nothing, 1, 32, 1 << 20, nullptr); });
  indices_cover_the_grid();  // the runner is sound after a fault
}

}  // namespace

int main() {
  indices_cover_the_grid();
  for (const int seed : {0, 1, 2}) {
    simt::set_order_seed(seed);
    a_barrier_orders_shared_memory();
    barriers_vote();
    shuffles_exchange_within_a_warp();
    shuffles_take_a_mask();
    syncwarp_orders_a_warp();
    atomics_count();
    packs_move_at_once();
    a_grid_barrier_orders_blocks();
  }
  seeds_permute_blocks_and_threads();
  faults_are_reported();
  std::printf("%d failures\n", failures);
  return failures;
}
