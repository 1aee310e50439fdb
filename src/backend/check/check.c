/* check:cpu, the suspicious back end: runs every operation on the CPU back end and watches it (check_memory.h
 * says how). Indices that live on the device, which the front functions cannot see, are checked here as well.
 */
#include <stdio.h>
#include <string.h>

#include "backend/backend_internal.h"
#include "backend/check/check_memory.h"
#include "util/mem.h"

static struct check_memory *memory_of(struct backend *b) {
    return b->context;
}

static struct backend *inner_of(struct backend *b) {
    return memory_of(b)->inner;
}

static struct call call_of(struct backend *b, const char *op) {
    return (struct call){.memory = memory_of(b), .op = op};
}

static enum status check_alloc(struct backend *b, int64_t bytes, void **out) {
    return check_memory_alloc(memory_of(b), bytes, out);
}

static void check_free(struct backend *b, void *data) {
    check_memory_free(memory_of(b), data);
}

static enum status check_write(struct backend *b, void *to, const void *host, int64_t bytes) {
    char *real;
    TRY(check_memory_find(memory_of(b), "write", "to", to, bytes, &real));
    return inner_of(b)->ops->write(inner_of(b), real, host, bytes);
}

static enum status check_read(struct backend *b, void *host, const void *from, int64_t bytes) {
    char *real;
    TRY(check_memory_find(memory_of(b), "read", "from", from, bytes, &real));
    return inner_of(b)->ops->read(inner_of(b), host, real, bytes);
}

static enum status check_copy(struct backend *b, void *to, const void *from, int64_t bytes) {
    char *real_to;
    char *real_from;
    TRY(check_memory_find(memory_of(b), "copy", "to", to, bytes, &real_to));
    TRY(check_memory_find(memory_of(b), "copy", "from", from, bytes, &real_from));
    return inner_of(b)->ops->copy(inner_of(b), real_to, real_from, bytes);
}

static enum status check_zero(struct backend *b, void *to, int64_t bytes) {
    char *real;
    TRY(check_memory_find(memory_of(b), "zero", "to", to, bytes, &real));
    return inner_of(b)->ops->zero(inner_of(b), real, bytes);
}

static enum status check_sync(struct backend *b) {
    return inner_of(b)->ops->sync(inner_of(b));
}

/* The span of each output row lies in the rows that are summed. */
static enum status check_spans(const char *operation, const struct described_tensor *d) {
    const struct tensor *spans = d->tensor;
    for (int64_t i = 0; i < spans->rows; i++) {
        const int32_t *span = (const int32_t *)spans->data + i * spans->stride;
        if (span[1] > d->high - 1 - span[0]) {
            return fail(ERR_INTERNAL, "check: %s: span %lld reaches past the last row", operation,
                        (long long)i);
        }
    }
    return OK;
}

/* Numbers of rows that live on the device, which the front functions cannot see. */
static enum status check_indices(const struct call *c, const struct described *d) {
    for (int i = 0; i < d->n; i++) {
        const struct described_tensor *t = &d->tensors[i];
        if (t->index != INDEX_NONE) {
            TRY(call_indices(c, t->name, *t->tensor, t->low, t->high));
        }
        if (t->index == INDEX_SPANS) {
            TRY(check_spans(c->op, t));
        }
    }
    return OK;
}

static enum status begin(struct call *c, const struct described *d) {
    for (int i = 0; i < d->n; i++) {
        call_use(c, d->tensors[i].name, d->tensors[i].tensor, d->tensors[i].use);
    }
    return call_begin(c);
}

/* What an operation that writes only some rows of a tensor has written is named by its index tensor. */
static enum status end(struct call *c, const struct described *d, enum status st) {
    const struct tensor *some = NULL, *rows = NULL;
    for (int i = 0; i < d->n; i++) {
        some = d->tensors[i].use == USE_SOME ? d->tensors[i].tensor : some;
        rows = d->tensors[i].index == INDEX_ROWS ? d->tensors[i].tensor : rows;
    }
    return some && rows ? call_rows_end(c, st, *some, *rows) : call_end(c, st);
}

/* The operation on the CPU back end, with real addresses in a copy of the call. */
#define WATCHED(name, type)                                                 \
    static enum status check_##name(struct backend *b, const type *given) { \
        type call = *given;                                                 \
        struct described d;                                                 \
        struct call c = call_of(b, #name);                                  \
        describe_##name(&call, &d);                                         \
        TRY(begin(&c, &d));                                                 \
        enum status st = check_indices(&c, &d);                             \
        st = st == OK ? inner_of(b)->ops->name(inner_of(b), &call) : st;    \
        return end(&c, &d, st);                                             \
    }
OPERATIONS(WATCHED)
CPU_OPERATIONS(WATCHED)

static int64_t check_scratch_bytes(const struct backend *b, int64_t width, int64_t vocabulary, int head_dim) {
    const struct check_memory *memory = b->context;
    return backend_scratch_bytes(memory->inner, width, vocabulary, head_dim);
}

static void check_destroy(struct backend *b) {
    struct backend *inner = inner_of(b);
    check_memory_close(memory_of(b));
    mem_free(b->context);
    backend_close(inner);
    mem_free(b);
}

/* No host_address: callers take the copying way, as they do with a device of its own memory. */
#define ENTRY(name, type) , .name = check_##name
static const struct backend_ops operations = {
    .api_version = BACKEND_API_VERSION,
    .alloc = check_alloc,
    .free = check_free,
    .write = check_write,
    .read = check_read,
    .copy = check_copy,
    .zero = check_zero,
    .sync = check_sync,
    .scratch_bytes = check_scratch_bytes,
    .destroy = check_destroy OPERATIONS(ENTRY) CPU_OPERATIONS(ENTRY),
};

void check_poison(struct backend *b, void *data, int64_t bytes) {
    if (b && b->ops == &operations) {
        check_memory_poison(memory_of(b), data, bytes);
    }
}

enum status check_open(const struct backend_request *request, struct backend **out, char why[256]) {
    struct backend *inner = NULL;
    struct backend *b = NULL;
    struct check_memory *memory = NULL;
    enum status st = cpu_open(request, &inner, why);
    TRY_TO(failed, st);
    TRY_TO(failed, NEW_ARRAY(b, 1));
    TRY_TO(failed, NEW_ARRAY(memory, 1));
    TRY_TO(failed, check_memory_open(inner, memory));
    b->ops = &operations;
    b->caps = inner->caps;
    b->caps.keeps_weights = false; /* its copies lie elsewhere at each operation */
    b->caps.name = "check:cpu";
    b->context = memory;
    snprintf(why, 256, "asked for: the CPU back end under suspicion, slow");
    *out = b;
    return OK;
failed:
    mem_free(memory);
    mem_free(b);
    backend_close(inner);
    return st;
}
