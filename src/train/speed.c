#include "train/speed.h"

#include "util/clock.h"
#include "util/mem.h"

enum { EDGE = 768 };
static const double measured_s = 0.1;

static enum status repeat(struct backend *b, const struct gemm *g, double *flops_per_s) {
    TRY(backend_gemm(b, g)); /* warm-up: threads start, pages are touched */
    TRY(backend_sync(b));
    double began = clock_seconds();
    double seconds = 0;
    int64_t n = 0;
    for (; seconds < measured_s; n++) {
        TRY(backend_gemm(b, g));
        TRY(backend_sync(b));
        seconds = clock_seconds() - began;
    }
    *flops_per_s = 2.0 * EDGE * EDGE * EDGE * (double)n / seconds;
    return OK;
}

enum status speed_gemm(struct backend *b, double *flops_per_s) {
    enum dtype type = b->caps.compute;
    int64_t bytes = (int64_t)EDGE * EDGE * dtype_size(type);
    void *data[3] = {0};
    enum status st = OK;
    for (int i = 0; i < 3 && st == OK; i++) {
        st = backend_alloc(b, bytes, &data[i]);
        st = st == OK ? backend_zero(b, data[i], bytes) : st;
    }
    if (st == OK) {
        const struct gemm g = {
            .a = tensor_at(data[0], EDGE, EDGE, type),
            .b = tensor_at(data[1], EDGE, EDGE, type),
            .c = tensor_at(data[2], EDGE, EDGE, type),
            .alpha = 1,
        };
        st = repeat(b, &g, flops_per_s);
    }
    for (int i = 0; i < 3; i++) {
        backend_free(b, data[i]);
    }
    mem_trim();
    return st;
}
