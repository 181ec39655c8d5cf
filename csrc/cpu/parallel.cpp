#include "nmfuse/parallel.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <thread>

namespace nmfuse {
namespace {

int limit_from_environment(const char* name) {
  const char* text = std::getenv(name);
  const int value = text == nullptr ? 0 : std::atoi(text);  // OMP_NUM_THREADS may be a list "4,2": the first counts
  return value >= 1 ? value : 1 << 16;
}

int default_threads() {
  int available = static_cast<int>(std::thread::hardware_concurrency());
#ifdef __linux__
  cpu_set_t affinity;
  if (sched_getaffinity(0, sizeof(affinity), &affinity) == 0) available = CPU_COUNT(&affinity);
#endif
  return std::max(1, std::min({available, limit_from_environment("NMFUSE_NUM_THREADS"),
                               limit_from_environment("OMP_NUM_THREADS")}));
}

std::atomic<int> requested_threads{0};  // 0: the default
thread_local bool inside_parallel_for = false;

struct job {
  std::int64_t count;
  const std::function<void(std::int64_t)>* body;
  std::atomic<std::int64_t> next{0};
  std::mutex error_mutex;
  std::exception_ptr error;

  void work() {
    inside_parallel_for = true;
    for (std::int64_t i = next++; i < count; i = next++) {
      try {
        (*body)(i);
      } catch (...) {
        next = count;  // nobody starts anything new
        const std::lock_guard<std::mutex> lock(error_mutex);
        if (!error) error = std::current_exception();
      }
    }
    inside_parallel_for = false;
  }
};

class thread_pool {
 public:
  void run(job& task, int helpers) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      for (; workers_ < helpers; ++workers_) std::thread([this] { loop(); }).detach();
      task_ = &task;
      wanted_ = helpers;
    }
    wake_.notify_all();
    task.work();
    std::unique_lock<std::mutex> lock(mutex_);
    wanted_ = 0;  // helpers that have not woken yet are not needed any more
    done_.wait(lock, [this] { return busy_ == 0; });
    task_ = nullptr;
  }

  std::mutex caller;  // one caller at a time holds the pool

 private:
  void loop() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      wake_.wait(lock, [this] { return wanted_ > 0; });
      --wanted_;
      ++busy_;
      job* task = task_;
      lock.unlock();
      task->work();
      lock.lock();
      if (--busy_ == 0) done_.notify_one();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_, done_;
  job* task_ = nullptr;
  int workers_ = 0;
  int wanted_ = 0;
  int busy_ = 0;
};

// Threads do not survive fork(): a child makes its own pool and leaves the parent's memory alone.
thread_pool& pool() {
  static std::mutex mutex;
  static pid_t owner = 0;
  static thread_pool* current = nullptr;
  static const bool registered = [] {
    pthread_atfork([] { mutex.lock(); }, [] { mutex.unlock(); },
                   [] {
                     mutex.unlock();
                     inside_parallel_for = false;
                   });
    return true;
  }();
  static_cast<void>(registered);
  const std::lock_guard<std::mutex> lock(mutex);
  if (owner != getpid()) {
    owner = getpid();
    current = new thread_pool;  // never destroyed: a worker may still run while statics go away at exit
  }
  return *current;
}

}  // namespace

int num_threads() {
  static const int by_default = default_threads();
  const int requested = requested_threads;
  return requested >= 1 ? requested : by_default;
}

void set_num_threads(int n) { requested_threads = n; }

void parallel_for(std::int64_t count, const std::function<void(std::int64_t)>& body) {
  const int threads = static_cast<int>(std::min<std::int64_t>(num_threads(), count));
  if (threads > 1 && !inside_parallel_for) {
    thread_pool& shared = pool();
    if (const std::unique_lock<std::mutex> mine(shared.caller, std::try_to_lock); mine.owns_lock()) {
      job task{count, &body, {}, {}, {}};
      shared.run(task, threads - 1);
      if (task.error) std::rethrow_exception(task.error);
      return;
    }
  }
  for (std::int64_t i = 0; i < count; ++i) body(i);
}

}  // namespace nmfuse
