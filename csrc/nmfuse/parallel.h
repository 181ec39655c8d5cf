// CPU threads: one parallel_for over a small persistent pool of std::thread (no OpenMP: it hangs in forked children).
#pragma once

#include <cstdint>
#include <functional>

namespace nmfuse {

// Threads in use: affinity mask, NMFUSE_NUM_THREADS, OMP_NUM_THREADS or set_num_threads, whichever is least.
int num_threads();

// n >= 1 sets the count; 0 returns to the default.
void set_num_threads(int n);

// Calls body(i) once for each i in [0, count), on up to num_threads() threads, in any order; returns when all are done.
// Nested calls, and calls while another caller holds the pool, run serially. The first exception is rethrown.
// Results must not depend on who runs what: give each i its own output or its own partial sum.
void parallel_for(std::int64_t count, const std::function<void(std::int64_t)>& body);

}  // namespace nmfuse
