/* Scales and shifts by condition (FiLM), and their sums over a condition's rows. */
#include <string.h>

#include "backend/cpu/cpu_internal.h"

enum { STRIP = 64 }; /* columns */

static enum status check_conditions(const char *operation, const struct film *f) {
    const int32_t *condition = f->conditions.data;
    for (int64_t i = 0; i < f->x.rows; i++) {
        if (condition[i] < -1 || condition[i] >= f->scale.rows) {
            return fail(ERR_INTERNAL, "backend_%s: condition %lld is %d, outside [-1, %lld)", operation,
                        (long long)i, condition[i], (long long)f->scale.rows);
        }
    }
    return OK;
}

enum status CPU_OPERATION(film)(struct backend *b, const struct film *call) {
    struct tensor x = call->x;
    const int32_t *condition = call->conditions.data;
    TRY(check_conditions("film", call));
#pragma omp parallel for num_threads(cpu_of(b)->threads) if (x.rows * x.columns > CPU_PARALLEL_ELEMENTS)
    for (int64_t i = 0; i < x.rows; i++) {
        const float *restrict from = cpu_row(x, i);
        float *restrict to = cpu_row(call->y, i);
        if (condition[i] < 0) {
            memcpy(to, from, (size_t)x.columns * sizeof *to);
            continue;
        }
        const float *restrict scale = cpu_row(call->scale, condition[i]);
        const float *restrict shift = cpu_row(call->shift, condition[i]);
        for (int64_t j = 0; j < x.columns; j++) {
            to[j] = scale[j] * from[j] + shift[j];
        }
    }
    return OK;
}

/* Of condition c, columns [first, first + width). */
static void sum_strip(const struct film_backward *call, int64_t c, int64_t first, int64_t width) {
    const struct film *f = &call->film;
    const int32_t *condition = f->conditions.data;
    double scale[STRIP] = {0}, shift[STRIP] = {0};
    for (int64_t i = 0; i < f->x.rows; i++) {
        const float *x = cpu_row(f->x, i) + first;
        const float *d = cpu_row(call->gradient.d, i) + first;
        for (int64_t j = 0; j < width && condition[i] == c; j++) {
            scale[j] += (double)x[j] * (double)d[j];
            shift[j] += (double)d[j];
        }
    }
    for (int64_t j = 0; j < width; j++) {
        cpu_row(call->gradient.dscale, c)[first + j] = (float)scale[j];
        cpu_row(call->gradient.dshift, c)[first + j] = (float)shift[j];
    }
}

enum status CPU_OPERATION(film_gradient)(struct backend *b, const struct film_backward *call) {
    const struct film *f = &call->film;
    struct tensor d = call->gradient.d;
    const int32_t *condition = f->conditions.data;
    TRY(check_conditions("film_gradient", f));
#pragma omp parallel for num_threads(cpu_of(b)->threads) if (d.rows * d.columns > CPU_PARALLEL_ELEMENTS)
    for (int64_t first = 0; first < d.columns; first += STRIP) {
        int64_t width = d.columns - first < STRIP ? d.columns - first : STRIP;
        for (int64_t c = 0; c < f->scale.rows; c++) {
            sum_strip(call, c, first, width);
        }
        for (int64_t i = 0; i < d.rows; i++) {
            for (int64_t j = first; j < first + width && condition[i] >= 0; j++) {
                cpu_row(d, i)[j] *= cpu_row(f->scale, condition[i])[j];
            }
        }
    }
    return OK;
}
