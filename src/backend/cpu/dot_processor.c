/* What processor and operating system have of the instructions on pairs. */
#include "backend/cpu/dot_kernel.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <cpuid.h>

/* Which registers the operating system keeps for a process (XCR0). */
enum { STATE_AVX512 = 0xe6 /* SSE, AVX, masks, both halves of ZMM */, STATE_TILES = 0x60000 };

static bool keeps_state(uint32_t wanted) {
    uint32_t a = 0, b = 0, c = 0, d = 0, low = 0, high = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) {
        return false;
    }
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & wanted) == wanted;
}

bool dot_processor_has_avx512_bf16(void) {
    enum { AVX512_BF16 = 1 << 5 }; /* leaf 7, subleaf 1, EAX */
    uint32_t a = 0, b = 0, c = 0, d = 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || a < 1 || !(b & bit_AVX512F)) {
        return false;
    }
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & AVX512_BF16) && keeps_state(STATE_AVX512);
}

bool dot_processor_has_amx_bf16(void) {
    enum { AMX_BF16 = 1 << 22, AMX_TILE = 1 << 24 }; /* leaf 7, EDX */
    uint32_t a = 0, b = 0, c = 0, d = 0;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & AMX_BF16) && (d & AMX_TILE) &&
           keeps_state(STATE_TILES);
}

/* For the whole process, threads that are there and those to come. Asking again is harmless. */
enum status dot_processor_take_amx(void) {
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 }; /* ARCH_REQ_XCOMP_PERM; Linux 5.16 */
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0
               ? OK
               : fail(ERR_SYSTEM,
                      "cpu.products: amx is not there: the kernel does not give its registers (arch_prctl: "
                      "%s); auto or fp32 work everywhere",
                      strerror(errno));
}
#else
bool dot_processor_has_avx512_bf16(void) {
    return false;
}

bool dot_processor_has_amx_bf16(void) {
    return false;
}

enum status dot_processor_take_amx(void) {
    return fail(ERR_SYSTEM, "cpu.products: amx is not there");
}
#endif
