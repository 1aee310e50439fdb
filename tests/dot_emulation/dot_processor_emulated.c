/* A processor that has both kinds, in the place of dot_processor.c. */
#include "backend/cpu/dot_kernel.h"

#include "tests/dot_emulation/dot_intrinsics.h"

_Thread_local struct emulated_tiles emulated_tiles;

bool dot_processor_has_avx512_bf16(void) {
    return true;
}

bool dot_processor_has_amx_bf16(void) {
    return true;
}

enum status dot_processor_take_amx(void) {
    return OK;
}
