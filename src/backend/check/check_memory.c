#include "backend/check/check_memory.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "backend/backend_internal.h"
#include "util/hash.h"
#include "util/log.h"
#include "util/mem.h"

enum { POISON = 0xff, PAGE = 4096 };

enum status check_memory_open(struct backend *inner, struct check_memory *out) {
    void *reservation = MAP_FAILED;
    int64_t bytes = (int64_t)1 << 42; /* address space only; less where the system limits that */
    while (reservation == MAP_FAILED && bytes >= (int64_t)1 << 30) {
        reservation =
            mmap(NULL, (size_t)bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (reservation == MAP_FAILED) {
            bytes /= 2;
        }
    }
    if (reservation == MAP_FAILED) {
        return fail(ERR_SYSTEM, "check: cannot reserve address space: %s", strerror(errno));
    }
    *out = (struct check_memory){.inner = inner, .reservation = reservation, .reserved = bytes};
    return OK;
}

void check_memory_close(struct check_memory *m) {
    int64_t left = 0;
    for (int64_t i = 0; i < m->count; i++) {
        if (m->allocations[i].live) {
            m->inner->ops->free(m->inner, m->allocations[i].block);
            left++;
        }
    }
    if (left > 0) {
        log_any(LOG_WARN, "check: %lld allocations were never freed", (long long)left);
    }
    mem_free(m->allocations);
    munmap(m->reservation, (size_t)m->reserved);
}

enum status check_memory_alloc(struct check_memory *m, int64_t bytes, void **out) {
    int64_t room;
    int64_t block_bytes;
    TRY(size_add(bytes, 3 * PAGE, "check: allocation", &room)); /* at least a page apart */
    TRY(size_add(bytes, 2 * CHECK_GUARD, "check: allocation", &block_bytes));
    room = room / PAGE * PAGE;
    if (room > m->reserved - m->used) {
        return fail(ERR_SYSTEM, "check: no address space left for %lld bytes", (long long)bytes);
    }
    TRY(GROW_ARRAY(m->allocations, m->capacity, m->count + 1));
    void *block;
    TRY(m->inner->ops->alloc(m->inner, block_bytes, &block));
    memset(block, POISON, (size_t)block_bytes);
    char *device = m->reservation + m->used + PAGE;
    m->used += room;
    m->allocations[m->count++] = (struct check_allocation){(uintptr_t)device, bytes, block, true};
    *out = device;
    return OK;
}

/* The allocation that begins at or before the address, or NULL. */
static struct check_allocation *before_or_at(const struct check_memory *m, uintptr_t address) {
    int64_t low = 0;
    int64_t high = m->count;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (m->allocations[middle].device <= address) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low > 0 ? &m->allocations[low - 1] : NULL;
}

void check_memory_free(struct check_memory *m, void *device) {
    struct check_allocation *a = before_or_at(m, (uintptr_t)device);
    if (!device) {
        return;
    }
    if (!a || a->device != (uintptr_t)device || !a->live) {
        m->bad_free = true;
        return;
    }
    m->inner->ops->free(m->inner, a->block);
    a->live = false;
    a->block = NULL;
}

enum status check_memory_find(const struct check_memory *m, const char *op, const char *name,
                              const void *device, int64_t bytes, char **out) {
    if (m->bad_free) {
        return fail(ERR_INTERNAL, "check: %s: before it, something was freed that is not a live allocation",
                    op);
    }
    struct check_allocation *a = before_or_at(m, (uintptr_t)device);
    int64_t offset = a ? (int64_t)((uintptr_t)device - a->device) : 0;
    if (!a || offset > a->bytes + PAGE) {
        return fail(ERR_INTERNAL, "check: %s: %s is not device memory (%p)", op, name, device);
    }
    if (!a->live) {
        return fail(ERR_INTERNAL, "check: %s: %s lies in memory that was freed", op, name);
    }
    if (bytes < 0 || offset > a->bytes || bytes > a->bytes - offset) {
        return fail(ERR_INTERNAL, "check: %s: %s reaches %lld bytes past its allocation of %lld bytes", op,
                    name, (long long)(offset + bytes - a->bytes), (long long)a->bytes);
    }
    *out = a->block + CHECK_GUARD + offset;
    return OK;
}

void check_memory_poison(struct check_memory *m, void *device, int64_t bytes) {
    struct check_allocation *a = before_or_at(m, (uintptr_t)device);
    int64_t offset = a ? (int64_t)((uintptr_t)device - a->device) : 0;
    if (a && a->live && bytes > 0 && offset <= a->bytes && bytes <= a->bytes - offset) {
        memset(a->block + CHECK_GUARD + offset, POISON, (size_t)bytes);
    }
}

void call_use(struct call *c, const char *name, struct tensor *t, enum use_kind kind) {
    if (t->data && c->count < CALL_USES) {
        c->uses[c->count++] = (struct use){.name = name, .tensor = t, .kind = kind};
    }
}

static int64_t row_bytes(const struct tensor *t) {
    return t->columns * dtype_size(t->type);
}

static int64_t stride_bytes(const struct tensor *t) {
    return t->stride * dtype_size(t->type);
}

/* From the first element's first byte to the last one's end. */
static int64_t span_bytes(const struct tensor *t) {
    return t->rows > 0 && t->columns > 0 ? (t->rows - 1) * stride_bytes(t) + row_bytes(t) : 0;
}

static bool spans_meet(const struct tensor *x, const struct tensor *y) {
    const char *a = x->data;
    const char *b = y->data;
    return a < b + span_bytes(y) && b < a + span_bytes(x);
}

static bool is_output(const struct use *u) {
    return u->kind != USE_READ;
}

static void poison_output(const struct call *c, const struct use *u) {
    for (int i = 0; i < c->count; i++) {
        if (c->uses[i].kind != USE_WRITE && tensor_overlaps(*c->uses[i].tensor, *u->tensor)) {
            return;
        }
    }
    for (int64_t r = 0; r < u->tensor->rows; r++) {
        memset((char *)u->tensor->data + r * stride_bytes(u->tensor), POISON, (size_t)row_bytes(u->tensor));
    }
}

/* Chooses the bytes to watch: the tensor, and for an output also what lies around it in its block. */
static enum status watch(const struct call *c, struct use *u, const struct check_allocation *a) {
    char *first = u->tensor->data;
    char *end = first + span_bytes(u->tensor);
    bool mixed = is_output(u);
    for (int i = 0; i < c->count; i++) {
        mixed = mixed || (is_output(&c->uses[i]) && spans_meet(c->uses[i].tensor, u->tensor));
    }
    if (is_output(u)) {
        char *block_end = a->block + a->bytes + 2 * CHECK_GUARD;
        first = first - a->block > CHECK_AROUND ? first - CHECK_AROUND : a->block;
        end = block_end - end > CHECK_AROUND ? end + CHECK_AROUND : block_end;
    }
    u->region = first;
    u->bytes = end - first;
    if (!mixed) {
        u->hash = hash_bytes(first, (size_t)u->bytes, 0);
        return OK;
    }
    TRY(NEW_ARRAY(u->before, u->bytes));
    memcpy(u->before, first, (size_t)u->bytes);
    return OK;
}

static void release(struct call *c) {
    for (int i = 0; i < c->count; i++) {
        mem_free(c->uses[i].before);
        c->uses[i].before = NULL;
    }
}

enum status call_begin(struct call *c) {
    enum status st = OK;
    struct check_allocation *places[CALL_USES];
    for (int i = 0; i < c->count; i++) {
        struct tensor *t = c->uses[i].tensor;
        char *real;
        places[i] = before_or_at(c->memory, (uintptr_t)t->data);
        TRY(check_memory_find(c->memory, c->op, c->uses[i].name, t->data, span_bytes(t), &real));
        t->data = real;
    }
    for (int i = 0; i < c->count; i++) {
        if (c->uses[i].kind == USE_WRITE) {
            poison_output(c, &c->uses[i]);
        }
    }
    for (int i = 0; i < c->count && st == OK; i++) {
        st = watch(c, &c->uses[i], places[i]);
    }
    if (st != OK) {
        release(c);
    }
    return st;
}

/* Puts the old bytes of every output into `after`, a copy of u's region, so that only the rest can differ. */
static void mask_outputs(const struct call *c, const struct use *u, char *after) {
    for (int i = 0; i < c->count; i++) {
        const struct tensor *t = c->uses[i].tensor;
        for (int64_t r = 0; is_output(&c->uses[i]) && r < t->rows; r++) {
            int64_t from = (char *)t->data + r * stride_bytes(t) - u->region;
            int64_t to = from + row_bytes(t);
            from = from < 0 ? 0 : from;
            to = to > u->bytes ? u->bytes : to;
            if (from < to) {
                memcpy(after + from, u->before + from, (size_t)(to - from));
            }
        }
    }
}

static enum status compare(const struct call *c, const struct use *u) {
    bool same;
    if (!u->before) {
        same = hash_bytes(u->region, (size_t)u->bytes, 0) == u->hash;
    } else {
        char *after;
        TRY(NEW_ARRAY(after, u->bytes));
        memcpy(after, u->region, (size_t)u->bytes);
        mask_outputs(c, u, after);
        same = memcmp(after, u->before, (size_t)u->bytes) == 0;
        mem_free(after);
    }
    if (same) {
        return OK;
    }
    return fail(ERR_INTERNAL,
                is_output(u) ? "check: %s wrote outside its output %s" : "check: %s changed its input %s",
                c->op, u->name);
}

/* In rows [first, first + count) of a tensor. */
static enum status find_poison(const struct call *c, const char *name, const struct tensor *t, int64_t first,
                               int64_t count) {
    int64_t size = dtype_size(t->type);
    static const unsigned char poison[8] = {POISON, POISON, POISON, POISON, POISON, POISON, POISON, POISON};
    for (int64_t i = first; t->type != DTYPE_I32 && i < first + count; i++) {
        const char *row = (const char *)t->data + i * stride_bytes(t);
        for (int64_t j = 0; j < t->columns; j++) {
            if (memcmp(row + j * size, poison, (size_t)size) == 0) {
                return fail(ERR_INTERNAL,
                            "check: %s: %s (%lld, %lld) was not written, or comes from memory that never was",
                            c->op, name, (long long)i, (long long)j);
            }
        }
    }
    return OK;
}

enum status call_end(struct call *c, enum status result) {
    enum status st = result;
    for (int i = 0; i < c->count && st == OK; i++) {
        st = compare(c, &c->uses[i]);
    }
    for (int i = 0; i < c->count && st == OK; i++) {
        const struct use *u = &c->uses[i];
        bool is_whole = is_output(u) && u->kind != USE_SOME;
        st = is_whole ? find_poison(c, u->name, u->tensor, 0, u->tensor->rows) : OK;
    }
    release(c);
    return st;
}

enum status call_rows_end(struct call *c, enum status result, struct tensor t, struct tensor rows) {
    TRY(call_end(c, result));
    for (int64_t i = 0; i < rows.rows * rows.columns; i++) {
        TRY(find_poison(c, "to", &t, ((const int32_t *)rows.data)[i], 1));
    }
    return OK;
}

enum status call_indices(const struct call *c, const char *name, struct tensor t, int64_t low, int64_t high) {
    for (int64_t i = 0; i < t.rows * t.columns; i++) {
        int32_t index = ((const int32_t *)t.data)[i / t.columns * t.stride + i % t.columns];
        if (index < low || index >= high) {
            return fail(ERR_INTERNAL, "check: %s: %s[%lld] is %d, outside [%lld, %lld)", c->op, name,
                        (long long)i, index, (long long)low, (long long)high);
        }
    }
    return OK;
}
