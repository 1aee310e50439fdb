/* Scales and shifts by condition (FiLM), and their sums over a condition's rows; in strips of columns. */
#include <string.h>

#include "backend/cpu/cpu_bf16.h"

static int64_t strip(int64_t columns, int64_t first) {
    return columns - first < CPU_STRIP ? columns - first : CPU_STRIP;
}

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

/* y = scale[c] * x + shift[c] in one strip of row i. */
static void film_strip(const struct film *f, int64_t i, int64_t c, int64_t first) {
    float rooms[4][CPU_STRIP];
    int64_t n = strip(f->x.columns, first);
    const float *x = cpu_load(f->x, i, first, n, rooms[0]);
    float *y = cpu_place(f->y, i, first, rooms[1]);
    if (c < 0) {
        memcpy(y, x, (size_t)n * sizeof *y);
    } else {
        const float *scale = cpu_load(f->scale, c, first, n, rooms[2]);
        const float *shift = cpu_load(f->shift, c, first, n, rooms[3]);
        for (int64_t j = 0; j < n; j++) {
            y[j] = scale[j] * x[j] + shift[j];
        }
    }
    cpu_store(f->y, i, first, n, y);
}

enum status CPU_OPERATION(film)(struct backend *b, const struct film *call) {
    struct tensor x = call->x;
    const int32_t *condition = call->conditions.data;
    TRY(check_conditions("film", call));
#pragma omp parallel for num_threads(cpu_of(b)->threads) if (x.rows * x.columns > CPU_PARALLEL_ELEMENTS)
    for (int64_t i = 0; i < x.rows; i++) {
        for (int64_t first = 0; first < x.columns; first += CPU_STRIP) {
            film_strip(call, i, condition[i], first);
        }
    }
    return OK;
}

/* Of condition c. */
static void sum_strip(const struct film_backward *call, int64_t c, int64_t first) {
    const struct film *f = &call->film;
    const struct film_gradient *g = &call->gradient;
    const int32_t *condition = f->conditions.data;
    int64_t n = strip(f->x.columns, first);
    double scale[CPU_STRIP] = {0}, shift[CPU_STRIP] = {0};
    float rooms[2][CPU_STRIP];
    for (int64_t i = 0; i < f->x.rows; i++) {
        if (condition[i] != c) {
            continue;
        }
        const float *x = cpu_load(f->x, i, first, n, rooms[0]);
        const float *d = cpu_load(g->d, i, first, n, rooms[1]);
        for (int64_t j = 0; j < n; j++) {
            scale[j] += (double)x[j] * (double)d[j];
            shift[j] += (double)d[j];
        }
    }
    float *dscale = cpu_place(g->dscale, c, first, rooms[0]);
    float *dshift = cpu_place(g->dshift, c, first, rooms[1]);
    for (int64_t j = 0; j < n; j++) {
        dscale[j] = (float)scale[j];
        dshift[j] = (float)shift[j];
    }
    cpu_store(g->dscale, c, first, n, dscale);
    cpu_store(g->dshift, c, first, n, dshift);
}

/* d *= scale[c] in one strip of row i. */
static void scale_strip(const struct film_backward *call, int64_t i, int64_t c, int64_t first) {
    float rooms[2][CPU_STRIP];
    int64_t n = strip(call->film.x.columns, first);
    float *d = cpu_load(call->gradient.d, i, first, n, rooms[0]);
    const float *scale = cpu_load(call->film.scale, c, first, n, rooms[1]);
    for (int64_t j = 0; j < n; j++) {
        d[j] *= scale[j];
    }
    cpu_store(call->gradient.d, i, first, n, d);
}

enum status CPU_OPERATION(film_gradient)(struct backend *b, const struct film_backward *call) {
    const struct film *f = &call->film;
    struct tensor d = call->gradient.d;
    const int32_t *condition = f->conditions.data;
    TRY(check_conditions("film_gradient", f));
#pragma omp parallel for num_threads(cpu_of(b)->threads) if (d.rows * d.columns > CPU_PARALLEL_ELEMENTS)
    for (int64_t first = 0; first < d.columns; first += CPU_STRIP) {
        for (int64_t c = 0; c < f->scale.rows; c++) {
            sum_strip(call, c, first);
        }
        for (int64_t i = 0; i < d.rows; i++) {
            if (condition[i] >= 0) {
                scale_strip(call, i, condition[i], first);
            }
        }
    }
    return OK;
}
