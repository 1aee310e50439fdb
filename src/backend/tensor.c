/* Tensors as descriptions: types, views, overlap. Nothing here touches their data. */
#include "backend/tensor.h"

#include "backend/backend_internal.h"

int64_t dtype_size(enum dtype type) {
    switch (type) {
    case DTYPE_F32:
    case DTYPE_I32:
        return 4;
    case DTYPE_BF16:
        return 2;
    case DTYPE_F64:
        return 8;
    }
    return 0;
}

const char *dtype_name(enum dtype type) {
    switch (type) {
    case DTYPE_F32:
        return "fp32";
    case DTYPE_BF16:
        return "bf16";
    case DTYPE_F64:
        return "fp64";
    case DTYPE_I32:
        return "int32";
    }
    return "unknown type";
}

struct tensor tensor_at(void *data, int64_t rows, int64_t columns, enum dtype type) {
    return (struct tensor){.data = data, .rows = rows, .columns = columns, .stride = columns, .type = type};
}

struct tensor tensor_rows(struct tensor t, int64_t first, int64_t count) {
    if (t.data) {
        t.data = (char *)t.data + first * t.stride * dtype_size(t.type);
    }
    t.rows = count;
    return t;
}

struct tensor tensor_columns(struct tensor t, int64_t first, int64_t count) {
    if (t.data) {
        t.data = (char *)t.data + first * dtype_size(t.type);
    }
    t.columns = count;
    return t;
}

bool tensor_is_contiguous(struct tensor t) {
    return t.rows <= 1 || t.stride == t.columns;
}

bool tensor_overlaps(struct tensor a, struct tensor b) {
    if (!a.data || !b.data || a.rows == 0 || b.rows == 0 || a.columns == 0 || b.columns == 0) {
        return false;
    }
    uintptr_t a0 = (uintptr_t)a.data;
    uintptr_t b0 = (uintptr_t)b.data;
    uintptr_t a1 = a0 + (uintptr_t)(((a.rows - 1) * a.stride + a.columns) * dtype_size(a.type));
    uintptr_t b1 = b0 + (uintptr_t)(((b.rows - 1) * b.stride + b.columns) * dtype_size(b.type));
    if (a1 <= b0 || b1 <= a0) {
        return false;
    }
    uintptr_t pitch = (uintptr_t)(a.stride * dtype_size(a.type));
    if (pitch != (uintptr_t)(b.stride * dtype_size(b.type)) || pitch == 0) {
        return true;
    }
    /* Equal pitch: column windows [0, wa) and [shift, shift + wb) on a circle of one row's bytes. */
    uintptr_t wa = (uintptr_t)(a.columns * dtype_size(a.type));
    uintptr_t wb = (uintptr_t)(b.columns * dtype_size(b.type));
    uintptr_t shift = b0 >= a0 ? (b0 - a0) % pitch : (pitch - (a0 - b0) % pitch) % pitch;
    return shift < wa || shift + wb > pitch;
}
