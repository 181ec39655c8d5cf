#include "simt/fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <new>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

// AddressSanitizer must be told of every change of stack.
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(__x86_64__)
// swapcontext asks the kernel for the signal mask at every switch; this saves the callee-saved registers and no more.
extern "C" void nmfuse_simt_switch(void** save, void* load);
asm(R"(
.text
.hidden nmfuse_simt_switch
.globl nmfuse_simt_switch
.type nmfuse_simt_switch, @function
nmfuse_simt_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size nmfuse_simt_switch, .-nmfuse_simt_switch
)");
#endif

namespace simt {
namespace {

// A new stack starts in a function without arguments, so the fiber is handed over here.
thread_local fiber* starting = nullptr;

}  // namespace

struct fiber::context {
#if defined(__x86_64__)
  void* inside = nullptr;
  void* outside = nullptr;
  void enter() { nmfuse_simt_switch(&outside, inside); }
  void leave() { nmfuse_simt_switch(&inside, outside); }
  void prepare(void* stack, std::size_t bytes, void (*first)()) {
    auto** top = reinterpret_cast<void**>(static_cast<char*>(stack) + bytes);
    *--top = nullptr;  // where `first` would return to; also leaves the stack aligned as after a call
    *--top = reinterpret_cast<void*>(first);
    for (int saved = 0; saved < 6; ++saved) *--top = nullptr;
    inside = top;
  }
#else
  ucontext_t inside;
  ucontext_t outside;
  void enter() { swapcontext(&outside, &inside); }
  void leave() { swapcontext(&inside, &outside); }
  void prepare(void* stack, std::size_t bytes, void (*first)()) {
    getcontext(&inside);
    inside.uc_stack.ss_sp = stack;
    inside.uc_stack.ss_size = bytes;
    inside.uc_link = nullptr;
    makecontext(&inside, first, 0);
  }
#endif
  void* stack = nullptr;
  std::size_t stack_bytes = 0;
#if defined(__SANITIZE_ADDRESS__)
  void* inside_fake = nullptr;
  void* outside_fake = nullptr;
  const void* outside_stack = nullptr;
  std::size_t outside_bytes = 0;
#endif
};

fiber::fiber(std::size_t stack_bytes) : context_(new context) {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  memory_bytes_ = (stack_bytes + page - 1) / page * page + page;
  memory_ = mmap(nullptr, memory_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory_ == MAP_FAILED || mprotect(memory_, page, PROT_NONE) != 0) {  // an overflow hits the guard page
    if (memory_ != MAP_FAILED) munmap(memory_, memory_bytes_);
    delete context_;
    throw std::bad_alloc();
  }
  context_->stack = static_cast<char*>(memory_) + page;
  context_->stack_bytes = memory_bytes_ - page;
}

fiber::~fiber() {
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(context_->stack, context_->stack_bytes);
#endif
  munmap(memory_, memory_bytes_);
  delete context_;
}

void fiber::start(void (*entry)(void*), void* argument) {
  entry_ = entry;
  argument_ = argument;
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(context_->stack, context_->stack_bytes);
  context_->inside_fake = nullptr;
#endif
  context_->prepare(context_->stack, context_->stack_bytes, [] { run(starting); });
}

void fiber::run(fiber* self) {
#if defined(__SANITIZE_ADDRESS__)
  context& c = *self->context_;
  __sanitizer_finish_switch_fiber(nullptr, &c.outside_stack, &c.outside_bytes);
#endif
  self->entry_(self->argument_);
  self->leave(true);
}

void fiber::resume() {
  starting = this;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&context_->outside_fake, context_->stack, context_->stack_bytes);
#endif
  context_->enter();
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(context_->outside_fake, nullptr, nullptr);
#endif
}

void fiber::suspend() { leave(false); }

void fiber::leave([[maybe_unused]] bool for_good) {
#if defined(__SANITIZE_ADDRESS__)
  context& c = *context_;
  __sanitizer_start_switch_fiber(for_good ? nullptr : &c.inside_fake, c.outside_stack, c.outside_bytes);
#endif
  context_->leave();
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(c.inside_fake, &c.outside_stack, &c.outside_bytes);
#endif
}

}  // namespace simt
