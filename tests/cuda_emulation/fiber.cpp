/* Switching stacks: a few instructions on x86-64, ucontext elsewhere. AddressSanitizer is told. */
#include <cstddef>
#include <cstdint>

#include <sys/mman.h>
#include <unistd.h>

#include "emulation.h"
#include "fiber.h"

#if defined(__x86_64__) && !defined(CUDA_EMULATION_UCONTEXT)
#define FIBER_BY_HAND 1
#else
#define FIBER_BY_HAND 0
#include <ucontext.h>
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

namespace emulation {

struct fiber {
#if FIBER_BY_HAND
    void *stack_pointer;
#else
    ucontext_t context;
#endif
    void (*life)(fiber *self);
    const void *bottom; /* of the stack */
    size_t bytes;
};

enum { STACK_BYTES = 256 * 1024 };

static fiber *coming_from, *going_to;

/* On the new stack, after a switch. */
static void arrived(void *fake) {
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(fake, &coming_from->bottom, &coming_from->bytes);
#else
    (void)fake;
#endif
}

static void first_life() {
    arrived(nullptr);
    fiber *self = going_to;
    self->life(self);
}

#if FIBER_BY_HAND
/* Saves what a called function must keep on the old stack, and takes it from the new one. */
extern "C" void cuda_emulation_switch(void **from, void *to);
asm(R"(
.text
.hidden cuda_emulation_switch
.globl cuda_emulation_switch
.type cuda_emulation_switch, @function
cuda_emulation_switch:
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
.size cuda_emulation_switch, . - cuda_emulation_switch
)");
#endif

fiber *fiber_of_caller() {
    return new fiber();
}

fiber *fiber_new(void (*life)(fiber *self)) {
    fiber *f = new fiber();
    size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    char *stack = static_cast<char *>(mmap(nullptr, STACK_BYTES + page, PROT_READ | PROT_WRITE,
                                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (stack == MAP_FAILED || mprotect(stack, page, PROT_NONE) != 0) {
        misuse("no memory for a fiber's stack");
    }
    f->life = life;
    f->bottom = stack + page;
    f->bytes = STACK_BYTES;
#if FIBER_BY_HAND
    /* As if switched away from: six saved registers, the return address, and a place where the caller's
     * would be (so that the stack is aligned as after a call). */
    uintptr_t *top = reinterpret_cast<uintptr_t *>(stack + page + STACK_BYTES) - 2;
    *top = reinterpret_cast<uintptr_t>(first_life);
    f->stack_pointer = top - 6;
#else
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = stack + page;
    f->context.uc_stack.ss_size = STACK_BYTES;
    f->context.uc_link = nullptr;
    makecontext(&f->context, first_life, 0);
#endif
    return f;
}

void fiber_switch(fiber *from, fiber *to) {
    coming_from = from;
    going_to = to;
    void *fake = nullptr;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(&fake, to->bottom, to->bytes);
#endif
#if FIBER_BY_HAND
    cuda_emulation_switch(&from->stack_pointer, to->stack_pointer);
#else
    swapcontext(&from->context, &to->context);
#endif
    arrived(fake);
}

} // namespace emulation
