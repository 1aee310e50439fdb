#include "backend/cpu/dot_kernel.h"

#include <string.h>

static enum status missing(const char *kind, const char *why) {
    return fail(ERR_SYSTEM, "cpu.products: %s is not there: %s; auto or fp32 work everywhere", kind, why);
}

static enum status find_avx512(const struct dot_kernel **out) {
    if (!dot_avx512()) {
        return missing("avx512_bf16", "the compiler of this build did not know AVX512-BF16");
    }
    if (!dot_processor_has_avx512_bf16()) {
        return missing("avx512_bf16", "this processor has no AVX512-BF16");
    }
    *out = dot_avx512();
    return OK;
}

static enum status find_amx(const struct dot_kernel **out) {
    if (!dot_amx()) {
        return missing("amx", "the compiler of this build did not know AMX");
    }
    if (!dot_processor_has_amx_bf16()) {
        return missing("amx", "this processor has no AMX-BF16");
    }
    TRY(dot_processor_take_amx());
    *out = dot_amx();
    return OK;
}

enum status dot_kernel_find(const char *kind, const struct dot_kernel **out) {
    *out = NULL;
    if (!kind || strcmp(kind, "fp32") == 0) {
        return OK;
    }
    if (strcmp(kind, "avx512_bf16") == 0) {
        return find_avx512(out);
    }
    return strcmp(kind, "amx") == 0
               ? find_amx(out)
               : fail(ERR_USAGE,
                      "cpu.products: \"%s\" is not a kind of products; give fp32, avx512_bf16 or amx", kind);
}
