// A fiber: a computation with a stack of its own that runs until it suspends itself. One OS thread, no kernel calls.
#pragma once

#include <cstddef>

namespace simt {

class fiber {
 public:
  explicit fiber(std::size_t stack_bytes);
  ~fiber();
  fiber(const fiber&) = delete;
  fiber& operator=(const fiber&) = delete;

  // Prepares entry(argument); whatever the stack held before is dropped. entry must not throw.
  void start(void (*entry)(void*), void* argument);

  // Runs the fiber until it suspends or ends. Call it from outside any fiber.
  void resume();

  // Hands control back to resume(). Call it from inside this fiber.
  void suspend();

 private:
  struct context;
  static void run(fiber* self);
  void leave(bool for_good);

  void* memory_;
  std::size_t memory_bytes_;
  void (*entry_)(void*) = nullptr;
  void* argument_ = nullptr;
  context* context_;
};

}  // namespace simt
