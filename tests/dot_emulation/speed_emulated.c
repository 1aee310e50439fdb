/* In the place of train/speed.c: emulated instructions would take minutes for what is measured in
 * milliseconds. The rates are such that a kind of bf16 products is found faster than fp32. */
#include "train/speed.h"

#include <string.h>

enum status speed_gemm(struct backend *b, double seconds, double *flops_per_s) {
    const char *products = b->caps.products;
    (void)seconds;
    *flops_per_s = products && strcmp(products, "fp32") != 0 ? 2e9 : 1e9;
    return OK;
}
