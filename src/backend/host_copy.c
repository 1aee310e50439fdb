/* Tensors in and out as host doubles: for tests, statistics and small arrays. */
#include <string.h>

#include "backend/backend.h"
#include "backend/backend_internal.h"
#include "util/mem.h"

/* bf16 is the upper half of an fp32; rounding to nearest even, a NaN stays one. */
static float from_bf16(uint16_t bits) {
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

static uint16_t to_bf16(float value) {
    uint32_t wide;
    memcpy(&wide, &value, sizeof wide);
    if (value != value) {
        return (uint16_t)((wide >> 16) | 0x40);
    }
    return (uint16_t)((wide + 0x7fff + ((wide >> 16) & 1)) >> 16);
}

static enum status open_staging(const char *operation, struct tensor t, int64_t *n, void **staging) {
    if (t.type == DTYPE_I32 || !tensor_is_contiguous(t)) {
        return fail(ERR_INTERNAL,
                    "backend_%s: the tensor (%lld x %lld, stride %lld, %s) must be contiguous "
                    "and of a floating type",
                    operation, (long long)t.rows, (long long)t.columns, (long long)t.stride,
                    dtype_name(t.type));
    }
    TRY(size_mul(t.rows, t.columns, operation, n));
    *staging = mem_aligned(*n, (size_t)dtype_size(t.type));
    return mem_ok(*staging);
}

enum status backend_read_doubles(struct backend *b, double *host, struct tensor from) {
    int64_t n = 0;
    void *staging = NULL;
    TRY(open_staging("read_doubles", from, &n, &staging));
    enum status st = n > 0 ? backend_read(b, staging, from.data, n * dtype_size(from.type)) : OK;
    for (int64_t i = 0; st == OK && i < n; i++) {
        if (from.type == DTYPE_F64) {
            host[i] = ((const double *)staging)[i];
        } else if (from.type == DTYPE_F32) {
            host[i] = (double)((const float *)staging)[i];
        } else {
            host[i] = (double)from_bf16(((const uint16_t *)staging)[i]);
        }
    }
    mem_free(staging);
    return st;
}

enum status backend_write_doubles(struct backend *b, struct tensor to, const double *host) {
    int64_t n = 0;
    void *staging = NULL;
    TRY(open_staging("write_doubles", to, &n, &staging));
    for (int64_t i = 0; i < n; i++) {
        if (to.type == DTYPE_F64) {
            ((double *)staging)[i] = host[i];
        } else if (to.type == DTYPE_F32) {
            ((float *)staging)[i] = (float)host[i];
        } else {
            ((uint16_t *)staging)[i] = to_bf16((float)host[i]);
        }
    }
    enum status st = n > 0 ? backend_write(b, to.data, staging, n * dtype_size(to.type)) : OK;
    mem_free(staging);
    return st;
}
