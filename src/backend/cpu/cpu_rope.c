/* Rotary position embedding (Su et al. 2021): the pair (a, b) of a head turns by the row's angle,
 * (a cos - b sin, b cos + a sin); the inverse, which is the gradient, by the opposite angle. */
#include "backend/cpu/cpu_bf16.h"

#include <omp.h>

static void turn_halves(float *restrict x, const float *restrict cosine, const float *restrict sine,
                        float sign, int64_t half) {
    for (int64_t j = 0; j < half; j++) {
        float a = x[j];
        float c = x[half + j];
        x[j] = a * cosine[j] - sign * sine[j] * c;
        x[half + j] = c * cosine[j] + sign * sine[j] * a;
    }
}

static void turn_neighbours(float *restrict x, const float *restrict cosine, const float *restrict sine,
                            float sign, int64_t half) {
    for (int64_t j = 0; j < half; j++) {
        float a = x[2 * j];
        float c = x[2 * j + 1];
        x[2 * j] = a * cosine[j] - sign * sine[j] * c;
        x[2 * j + 1] = c * cosine[j] + sign * sine[j] * a;
    }
}

enum status CPU_OPERATION(rope)(struct backend *b, const struct rope *r) {
    int64_t half = r->rotary_dim / 2;
    float sign = r->inverse ? -1.0f : 1.0f;
    void *scratch = NULL;
    TRY(cpu_scratch(cpu_of(b), SCRATCH_ROWS,
                    (int64_t)cpu_of(b)->threads * r->rotary_dim * (int64_t)sizeof(float), &scratch));
#pragma omp parallel for num_threads(cpu_of(b)->threads) if (r->x.rows * r->x.columns > CPU_PARALLEL_ELEMENTS)
    for (int64_t i = 0; i < r->x.rows; i++) {
        const float *table = cpu_row(r->table, i);
        float *room = (float *)scratch + (int64_t)omp_get_thread_num() * r->rotary_dim;
        for (int h = 0; h < r->heads; h++) {
            int64_t first = (int64_t)h * r->head_dim;
            float *x = cpu_load(r->x, i, first, r->rotary_dim, room);
            if (r->interleaved) {
                turn_neighbours(x, table, table + half, sign, half);
            } else {
                turn_halves(x, table, table + half, sign, half);
            }
            cpu_store(r->x, i, first, r->rotary_dim, x);
        }
    }
    return OK;
}
