#include "backend/workspace.h"

#include "backend/backend_internal.h"
#include "util/mem.h"

enum { ALIGNMENT = 64 };

enum status workspace_open(struct backend *b, int64_t bytes, struct workspace *out) {
    void *base = NULL;
    if (backend_alloc(b, bytes, &base) != OK) {
        return note("taking memory for the activations");
    }
    *out = (struct workspace){.backend = b, .base = base, .capacity = bytes};
    return OK;
}

void workspace_close(struct workspace *w) {
    if (w->backend) {
        backend_free(w->backend, w->base);
    }
    *w = (struct workspace){0};
}

enum status workspace_take(struct workspace *w, int64_t rows, int64_t columns, enum dtype type,
                           const char *what, struct tensor *out) {
    int64_t bytes = 0;
    TRY(size_mul(rows, columns, what, &bytes));
    TRY(size_mul(bytes, dtype_size(type), what, &bytes));
    TRY(size_add(bytes, ALIGNMENT - 1, what, &bytes));
    bytes -= bytes % ALIGNMENT;
    if (bytes > w->capacity - w->used) {
        return fail(ERR_SYSTEM,
                    "workspace: %s (%lld x %lld %s, %lld bytes) does not fit: %lld of %lld bytes are taken; "
                    "lower train.micro_tokens",
                    what, (long long)rows, (long long)columns, dtype_name(type), (long long)bytes,
                    (long long)w->used, (long long)w->capacity);
    }
    *out = tensor_at(w->base + w->used, rows, columns, type);
    w->used += bytes;
    if (w->used > w->peak) {
        w->peak = w->used;
    }
    return OK;
}

int64_t workspace_mark(const struct workspace *w) {
    return w->used;
}

void workspace_release(struct workspace *w, int64_t mark) {
    if (mark >= 0 && mark <= w->used) {
        check_poison(w->backend, w->base + mark, w->used - mark);
        w->used = mark;
    }
}
