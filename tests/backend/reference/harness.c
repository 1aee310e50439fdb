#include "harness.h"

#include "tests/unit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "reference_backend.h"
#include "util/mem.h"

void must(enum status st) {
    if (st != OK) {
        FAIL("%s: %s", status_name(st), status_message()->text);
    }
}

static void open_device(struct harness *h, const char *device, const char *compute) {
    char why[256];
    const char *attention = getenv("COLLIMATE_TEST_ATTENTION"), *products = getenv("COLLIMATE_TEST_PRODUCTS");
    const struct backend_request request = {.device = device,
                                            .compute = compute,
                                            .threads = 2,
                                            .device_index = -1,
                                            .products = products && *products ? products : NULL,
                                            .attention = attention && *attention ? attention : NULL};
    must(backend_open(&request, &h->devices[h->device_count++], why));
}

int harness_setup(void **state) {
    struct harness *h = mem_calloc(1, sizeof *h);
    const char *device = getenv("COLLIMATE_TEST_DEVICE");
    const char *compute = getenv("COLLIMATE_TEST_COMPUTE");
    if (!h) {
        return -1;
    }
    must(reference_open(&h->reference));
    if (device && *device) {
        open_device(h, device, compute && *compute ? compute : "fp32");
    } else {
        open_device(h, "cpu", "fp32");
        open_device(h, "check:cpu", "fp32");
    }
    *state = h;
    return 0;
}

int harness_teardown(void **state) {
    struct harness *h = *state;
    for (int i = 0; i < h->device_count; i++) {
        backend_close(h->devices[i]);
    }
    backend_close(h->reference);
    mem_free(h);
    return 0;
}

void harness_begin(struct harness *h, int device, uint64_t seed) {
    h->device = h->devices[device];
    h->rng = rng_stream(seed, RNG_CHECK, 0, 0);
    h->pair_count = 0;
}

void harness_end(struct harness *h) {
    must(backend_sync(h->device));
    for (int i = 0; i < h->pair_count; i++) {
        backend_free(h->device, h->pairs[i].device_base);
        backend_free(h->reference, h->pairs[i].reference_base);
        mem_free(h->pairs[i].before);
    }
    h->pair_count = 0;
}

static enum dtype type_of(const struct backend *b, enum role role) {
    switch (role) {
    case ROLE_MASTER:
        return b->caps.master;
    case ROLE_COMPUTE:
        return b->caps.compute;
    case ROLE_READOUT:
        return b->caps.readout;
    case ROLE_INDEX:
        return DTYPE_I32;
    }
    return DTYPE_F64;
}

static struct tensor make(struct backend *b, enum role role, int64_t rows, int64_t columns, int64_t pad,
                          void **base) {
    enum dtype type = type_of(b, role);
    must(backend_alloc(b, rows * (columns + pad) * dtype_size(type), base));
    struct tensor t = tensor_at(*base, rows, columns, type);
    t.stride = columns + pad;
    return t;
}

static struct pair pair_new(struct harness *h, enum role role, int64_t rows, int64_t columns, int64_t pad) {
    struct pair p = {.pad = pad};
    assert_true(h->pair_count < HARNESS_PAIRS);
    p.device = make(h->device, role, rows, columns, pad, &p.device_base);
    p.reference = make(h->reference, role, rows, columns, pad, &p.reference_base);
    p.before = mem_calloc(rows * (columns + pad), sizeof *p.before);
    assert_non_null(p.before);
    h->pairs[h->pair_count++] = p;
    return p;
}

/* Rows with their gaps, as one contiguous tensor. */
static struct tensor whole(struct tensor t) {
    return tensor_at(t.data, t.rows, t.stride, t.type);
}

/* Writes p->before to the device and what the device made of it (its rounding) to the reference. */
static void spread_values(struct harness *h, struct pair *p) {
    must(backend_write_doubles(h->device, whole(p->device), p->before));
    must(backend_read_doubles(h->device, p->before, whole(p->device)));
    must(backend_write_doubles(h->reference, whole(p->reference), p->before));
}

struct pair pair_normal(struct harness *h, enum role role, int64_t rows, int64_t columns, int64_t pad,
                        double spread) {
    struct pair p = pair_new(h, role, rows, columns, pad);
    for (int64_t i = 0; i < rows * (columns + pad); i++) {
        p.before[i] = spread * rng_normal(&h->rng);
    }
    spread_values(h, &p);
    return p;
}

struct pair pair_indices(struct harness *h, int64_t rows, int64_t columns, int64_t low, int64_t high) {
    struct pair p = pair_new(h, ROLE_INDEX, rows, columns, 0);
    int32_t *values = mem_calloc(rows * columns, sizeof *values);
    assert_non_null(values);
    for (int64_t i = 0; i < rows * columns; i++) {
        values[i] = (int32_t)(low + rng_below(&h->rng, high - low));
    }
    pair_set_indices(h, &p, values);
    mem_free(values);
    return p;
}

void pair_set(struct harness *h, struct pair *p, const double *values) {
    for (int64_t i = 0; i < p->device.rows; i++) {
        for (int64_t j = 0; j < p->device.columns; j++) {
            p->before[i * p->device.stride + j] = values[i * p->device.columns + j];
        }
    }
    spread_values(h, p);
}

void pair_set_indices(struct harness *h, struct pair *p, const int32_t *values) {
    int64_t n = p->device.rows * p->device.columns;
    for (int64_t i = 0; i < n; i++) {
        p->before[i] = values[i];
    }
    must(backend_write(h->device, p->device.data, values, n * 4));
    must(backend_write(h->reference, p->reference.data, values, n * 4));
}

struct pair pair_columns(struct pair p, int64_t first, int64_t count) {
    p.device = tensor_columns(p.device, first, count);
    p.reference = tensor_columns(p.reference, first, count);
    return p;
}

/* The device's values with the gaps, rows x stride, from the first row of the pair's whole allocation. */
static double *device_whole(struct harness *h, struct pair p) {
    double *values = mem_calloc(p.device.rows * p.device.stride, sizeof *values);
    assert_non_null(values);
    must(backend_read_doubles(h->device, values,
                              tensor_at(p.device_base, p.device.rows, p.device.stride, p.device.type)));
    return values;
}

double *device_values(struct harness *h, struct pair p) {
    double *all = device_whole(h, p);
    double *values = mem_calloc(p.device.rows * p.device.columns, sizeof *values);
    assert_non_null(values);
    int64_t first = ((char *)p.device.data - (char *)p.device_base) / dtype_size(p.device.type);
    for (int64_t i = 0; i < p.device.rows; i++) {
        memcpy(values + i * p.device.columns, all + first + i * p.device.stride,
               (size_t)p.device.columns * sizeof *values);
    }
    mem_free(all);
    return values;
}

double *reference_values(struct pair p) {
    double *values = mem_calloc(p.reference.rows * p.reference.columns, sizeof *values);
    assert_non_null(values);
    for (int64_t i = 0; i < p.reference.rows; i++) {
        memcpy(values + i * p.reference.columns, (double *)p.reference.data + i * p.reference.stride,
               (size_t)p.reference.columns * sizeof *values);
    }
    return values;
}

double roundoff(enum dtype type) {
    switch (type) {
    case DTYPE_F32:
        return 0x1p-24;
    case DTYPE_BF16:
        return 0x1p-8;
    case DTYPE_F64:
        return 0x1p-53;
    case DTYPE_I32:
        return 0;
    }
    return 0;
}

double sum_error(int64_t n) {
    return (sqrt((double)n) + 4) * 0x1p-24;
}

void expect_gaps_kept(struct harness *h, struct pair p, const char *what) {
    double *all = device_whole(h, p);
    for (int64_t i = 0; i < p.device.rows; i++) {
        for (int64_t j = p.device.stride - p.pad; j < p.device.stride; j++) {
            if (all[i * p.device.stride + j] != p.before[i * p.device.stride + j]) {
                FAIL("%s on %s: the gap after row %lld was written", what, h->device->caps.name,
                     (long long)i);
            }
        }
    }
    mem_free(all);
}

void expect_close(struct harness *h, struct pair p, const double *bound, const char *what) {
    double *got = device_values(h, p);
    double *wanted = reference_values(p);
    double rounding = roundoff(p.device.type);
    for (int64_t i = 0; i < p.device.rows * p.device.columns; i++) {
        double allowed = bound[i] + rounding * fabs(wanted[i]) + 1e-37;
        if (!(fabs(got[i] - wanted[i]) <= allowed) && got[i] != wanted[i]) {
            FAIL("%s on %s (%lld x %lld): element (%lld, %lld) is %.9g, should be %.9g, allowed %.3g", what,
                 h->device->caps.name, (long long)p.device.rows, (long long)p.device.columns,
                 (long long)(i / p.device.columns), (long long)(i % p.device.columns), got[i], wanted[i],
                 allowed);
        }
    }
    mem_free(got);
    mem_free(wanted);
    expect_gaps_kept(h, p, what);
}

void expect_within(struct harness *h, struct pair p, double bound, const char *what) {
    int64_t n = p.device.rows * p.device.columns;
    double *bounds = mem_calloc(n, sizeof *bounds);
    assert_non_null(bounds);
    for (int64_t i = 0; i < n; i++) {
        bounds[i] = bound;
    }
    expect_close(h, p, bounds, what);
    mem_free(bounds);
}
