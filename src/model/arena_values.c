/* Values of an arena's parameters from and to the host, in the order in which files store them; random
 * values.
 */
#include <string.h>

#include "model/arena.h"
#include "util/hash.h"
#include "util/mem.h"
#include "util/rng.h"

/* Elements that cross between host and device at a time. */
enum { CHUNK = 1 << 20 };

/* Values [first, first + count) as one row. */
static struct tensor values_at(const struct arena *a, int64_t first, int64_t count) {
    return tensor_columns(arena_values(a), first, count);
}

static enum status put(struct arena *a, int64_t offset, int64_t n, const float *values) {
    struct tensor to = values_at(a, offset, n);
    if (to.type == DTYPE_F32) {
        return backend_write(a->backend, to.data, values, n * (int64_t)sizeof *values);
    }
    enum status st = OK;
    double *wide;
    int64_t chunk = n < CHUNK ? n : CHUNK;
    TRY(NEW_ARRAY(wide, chunk));
    for (int64_t i = 0; i < n && st == OK; i += chunk) {
        int64_t count = n - i < chunk ? n - i : chunk;
        for (int64_t j = 0; j < count; j++) {
            wide[j] = (double)values[i + j];
        }
        st = backend_write_doubles(a->backend, values_at(a, offset + i, count), wide);
    }
    mem_free(wide);
    return st;
}

static enum status get(const struct arena *a, int64_t offset, int64_t n, float *values) {
    struct tensor from = values_at(a, offset, n);
    if (from.type == DTYPE_F32) {
        return backend_read(a->backend, values, from.data, n * (int64_t)sizeof *values);
    }
    enum status st = OK;
    double *wide;
    int64_t chunk = n < CHUNK ? n : CHUNK;
    TRY(NEW_ARRAY(wide, chunk));
    for (int64_t i = 0; i < n && st == OK; i += chunk) {
        int64_t count = n - i < chunk ? n - i : chunk;
        st = backend_read_doubles(a->backend, wide, values_at(a, offset + i, count));
        for (int64_t j = 0; j < count; j++) {
            values[i + j] = (float)wide[j];
        }
    }
    mem_free(wide);
    return st;
}

static bool is_plain(const struct parameter *p) {
    return !p->stored_transposed && p->stored_heads == 0;
}

/* Our place of the file's element e. */
static int64_t place_of(const struct parameter *p, int64_t e) {
    if (p->stored_transposed) {
        return e % p->rows * p->columns + e / p->rows;
    }
    int64_t unit = p->n_dims == 2 ? p->columns : 1;
    int64_t outputs = p->n_dims == 2 ? p->rows : p->columns;
    int64_t head_dim = outputs / (3 * p->stored_heads);
    int64_t r = e / unit, head = r / (3 * head_dim), part = r / head_dim % 3;
    return ((part * p->stored_heads + head) * head_dim + r % head_dim) * unit + e % unit;
}

static enum status check_piece(const struct arena *a, int i, int64_t first, int64_t count) {
    if (i < 0 || i >= a->n || first < 0 || count < 0 ||
        first > a->parameters[i].rows * a->parameters[i].columns - count) {
        return fail(ERR_INTERNAL, "arena: parameter %d has no elements [%lld, %lld)", i, (long long)first,
                    (long long)(first + count));
    }
    return OK;
}

enum status arena_write(struct arena *a, int i, int64_t first, int64_t count, const float *values) {
    TRY(check_piece(a, i, first, count));
    const struct parameter *p = &a->parameters[i];
    arena_changed(a);
    if (is_plain(p)) {
        return put(a, p->offset + first, count, values);
    }
    int64_t elements = p->rows * p->columns;
    float *whole;
    enum status st = OK;
    TRY(NEW_ARRAY(whole, elements));
    if (count < elements) {
        TRY_TO(done, get(a, p->offset, elements, whole));
    }
    for (int64_t e = 0; e < count; e++) {
        whole[place_of(p, first + e)] = values[e];
    }
    st = put(a, p->offset, elements, whole);
done:
    mem_free(whole);
    return st;
}

enum status arena_read(const struct arena *a, int i, int64_t first, int64_t count, float *values) {
    TRY(check_piece(a, i, first, count));
    const struct parameter *p = &a->parameters[i];
    if (is_plain(p)) {
        return get(a, p->offset + first, count, values);
    }
    int64_t elements = p->rows * p->columns;
    float *whole;
    TRY(NEW_ARRAY(whole, elements));
    enum status st = get(a, p->offset, elements, whole);
    for (int64_t e = 0; e < count && st == OK; e++) {
        values[e] = whole[place_of(p, first + e)];
    }
    mem_free(whole);
    return st;
}

/* Draws of the file's rows [first, first + rows) of parameter p: a stream per row. */
static void draw_rows(const struct parameter *p, double deviation, uint64_t seed, int64_t first, int64_t rows,
                      float *out) {
    int64_t columns = p->stored_transposed ? p->rows : p->columns;
    int64_t name = (int64_t)(hash_bytes(p->name, strlen(p->name), 0) >> 1);
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        struct rng g = rng_stream(seed, RNG_INIT, name, first + r);
        for (int64_t j = 0; j < columns; j++) {
            double draw = p->init == INIT_UNIFORM ? 2 * rng_uniform(&g) - 1 : rng_normal(&g);
            out[r * columns + j] = (float)(deviation * draw);
        }
    }
}

enum status arena_initialize_one(struct arena *a, int i, uint64_t seed) {
    const struct parameter *p = &a->parameters[i];
    int64_t rows = p->stored_transposed ? p->columns : p->rows;
    int64_t columns = p->stored_transposed ? p->rows : p->columns;
    int64_t step = is_plain(p) ? (CHUNK + columns - 1) / columns : rows;
    step = step < rows ? step : rows;
    float *values;
    enum status st = OK;
    TRY(NEW_ARRAY(values, step * columns));
    for (int64_t r = 0; r < rows && st == OK; r += step) {
        int64_t count = rows - r < step ? rows - r : step;
        if (p->init == INIT_NORMAL || p->init == INIT_UNIFORM) {
            draw_rows(p, p->deviation, seed, r, count, values);
        }
        for (int64_t e = 0; p->init == INIT_ONE && e < count * columns; e++) {
            values[e] = 1;
        }
        st = arena_write(a, i, r * columns, count * columns, values);
    }
    mem_free(values);
    return st;
}

enum status arena_initialize(struct arena *a, uint64_t seed) {
    for (int i = 0; i < a->n; i++) {
        TRY(arena_initialize_one(a, i, seed));
    }
    return arena_refresh(a);
}
