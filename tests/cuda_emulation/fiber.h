/* Stacks that take turns on one thread. */
#ifndef CUDA_EMULATION_FIBER_H
#define CUDA_EMULATION_FIBER_H

namespace emulation {

struct fiber;
/* The stack that calls: where fibers come back to. */
fiber *fiber_of_caller();
/* A new one; at the first switch to it, life(itself) begins, which never returns. Kept to the end. */
fiber *fiber_new(void (*life)(fiber *self));
void fiber_switch(fiber *from, fiber *to);

} // namespace emulation

#endif
