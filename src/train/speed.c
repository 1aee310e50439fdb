#include "train/speed.h"

#include "util/clock.h"
#include "util/mem.h"

enum { EDGE = 768, LARGEST_EDGE = 8192 };
static const double shortest_s = 1e-3;

/* Seconds of n products one after another, and of the wait for them. */
static enum status time_products(struct backend *b, const struct gemm *g, int64_t n, double *seconds) {
    double began = clock_seconds();
    for (int64_t i = 0; i < n; i++) {
        TRY(backend_gemm(b, g));
    }
    TRY(backend_sync(b));
    *seconds = clock_seconds() - began;
    return OK;
}

static enum status repeat(struct backend *b, const struct gemm *g, double measured_s, double *flops_per_s) {
    double edge = (double)g->c.rows, one, seconds = 0;
    TRY(time_products(b, g, 1, &one)); /* warm-up: threads start, pages are touched, an algorithm is chosen */
    TRY(time_products(b, g, 1, &one));
    int64_t n = one > 0 && measured_s / one < 1e4 ? (int64_t)(measured_s / one) + 1 : 1000;
    TRY(time_products(b, g, n, &seconds));
    *flops_per_s = 2.0 * edge * edge * edge * (double)n / seconds;
    return OK;
}

/* Not zeros, which some devices multiply faster than other numbers: rows of 0.5, -0.5, 1, -1, … */
static enum status fill(struct backend *b, struct tensor t) {
    static const double pattern[] = {0.5, -0.5, 1, -1, 0.25, -0.75, 2, -0.125};
    TRY(backend_write_doubles(b, tensor_at(t.data, 1, COUNT_OF(pattern), t.type), pattern));
    int64_t size = dtype_size(t.type), total = t.rows * t.columns;
    for (int64_t done = COUNT_OF(pattern); done < total; done *= 2) {
        int64_t n = done < total - done ? done : total - done;
        TRY(backend_copy(b, (char *)t.data + done * size, t.data, n * size));
    }
    return OK;
}

static enum status speed_at(struct backend *b, int64_t edge, double seconds, double *flops_per_s) {
    enum dtype type = b->caps.compute;
    struct tensor t[3];
    void *data[3] = {0};
    enum status st = OK;
    for (int i = 0; i < 3 && st == OK; i++) {
        st = backend_alloc(b, edge * edge * dtype_size(type), &data[i]);
        t[i] = tensor_at(data[i], edge, edge, type);
        st = st == OK ? fill(b, t[i]) : st;
    }
    if (st == OK) {
        const struct gemm g = {.a = t[0], .b = t[1], .c = t[2], .alpha = 1};
        st = repeat(b, &g, seconds, flops_per_s);
    }
    for (int i = 0; i < 3; i++) {
        backend_free(b, data[i]);
    }
    mem_trim();
    return st;
}

/* A device that is done with a product in less than a millisecond gets a larger one, that fills it. */
enum status speed_gemm(struct backend *b, double seconds, double *flops_per_s) {
    double best = 0, rate = 0;
    for (int64_t edge = EDGE; edge <= LARGEST_EDGE; edge = edge == EDGE ? 2048 : 2 * edge) {
        TRY(speed_at(b, edge, seconds, &rate));
        best = rate > best ? rate : best;
        if (2.0 * (double)edge * (double)edge * (double)edge / rate > shortest_s) {
            break;
        }
    }
    *flops_per_s = best;
    return OK;
}
