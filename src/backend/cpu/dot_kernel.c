#include "backend/cpu/dot_kernel.h"

#include <string.h>

static const struct kind {
    const char *name, *instructions;
    const struct dot_kernel *(*kernel)(void);
    bool (*processor_has)(void);
    enum status (*take)(void); /* NULL: nothing to be asked for */
} kinds[] = {
    {PRODUCTS_AVX512, "AVX512-BF16", dot_avx512, dot_processor_has_avx512_bf16, NULL},
    {PRODUCTS_AMX, "AMX-BF16", dot_amx, dot_processor_has_amx_bf16, dot_processor_take_amx},
};

enum status dot_kernel_find(const char *name, const struct dot_kernel **out) {
    const struct kind *k = NULL;
    *out = NULL;
    if (!name || strcmp(name, PRODUCTS_FP32) == 0) {
        return OK;
    }
    for (int i = 0; i < COUNT_OF(kinds); i++) {
        k = strcmp(kinds[i].name, name) == 0 ? &kinds[i] : k;
    }
    if (!k) {
        return fail(ERR_USAGE,
                    "cpu.products: \"%s\" is not a kind of products; give " PRODUCTS_FP32 ", " PRODUCTS_AVX512
                    " or " PRODUCTS_AMX,
                    name);
    }
    if (!k->kernel() || !k->processor_has()) {
        return fail(ERR_SYSTEM, "cpu.products: %s is not there: %s %s; auto or fp32 work everywhere", name,
                    k->kernel() ? "this processor has no" : "the compiler of this build did not know",
                    k->instructions);
    }
    TRY(k->take ? k->take() : OK);
    *out = k->kernel();
    return OK;
}
