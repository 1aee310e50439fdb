#include "model/arena.h"

#include <string.h>

#include "util/mem.h"

enum { ALIGNMENT = 16 }; /* elements */
/* Bytes that a part of the store may lose to alignment, and parts: parameters, compute copy, gradients, two
 * states. */
enum { STORE_ALIGNMENT = 64, STORE_PARTS = 5 };

enum status arena_open(struct backend *b, enum arena_kind kind, struct arena **out) {
    TRY(NEW_ARRAY(*out, 1));
    (*out)->backend = b;
    (*out)->kind = kind;
    return OK;
}

static int64_t aligned(int64_t elements) {
    return (elements + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

/* Behind the last parameter. */
static int64_t end_of(const struct arena *a) {
    if (a->n == 0) {
        return 0;
    }
    const struct parameter *last = &a->parameters[a->n - 1];
    return last->offset + last->rows * last->columns;
}

enum status arena_add(struct arena *a, const struct parameter *p, bool joined, struct place *out) {
    int64_t count, end, offset = joined ? end_of(a) : aligned(end_of(a));
    if (a->store.base) {
        return fail(ERR_INTERNAL, "arena: %s comes after the memory was taken", p->name);
    }
    TRY(size_mul(p->rows, p->columns, p->name, &count));
    TRY(size_add(offset, count, p->name, &end));
    TRY(size_add(end, ALIGNMENT, p->name, &end));
    TRY(GROW_ARRAY(a->parameters, a->capacity, (int64_t)a->n + 1));
    a->parameters[a->n] = *p;
    a->parameters[a->n].is_joined = joined && a->n > 0;
    a->parameters[a->n++].offset = offset;
    a->elements = aligned(end_of(a));
    if (out) {
        *out = (struct place){a, offset};
    }
    return OK;
}

static bool is_in_store(const struct arena *a, const void *data) {
    const char *at = data;
    return a->store.base && at >= a->store.base && at < a->store.base + a->store.capacity;
}

enum status arena_take(struct arena *a, const char *what, int64_t elements, enum dtype type,
                       struct tensor *out) {
    int64_t bytes;
    void *data;
    TRY(size_mul(elements, dtype_size(type), what, &bytes));
    if (bytes + STORE_ALIGNMENT <= a->store.capacity - a->store.used) {
        TRY(workspace_take(&a->store, 1, elements, type, what, out));
    } else {
        if (backend_alloc(a->backend, bytes, &data) != OK) {
            return note("taking memory for %s, %lld %s values", what, (long long)elements, dtype_name(type));
        }
        *out = tensor_at(data, 1, elements, type);
    }
    return backend_zero_tensor(a->backend, *out);
}

void arena_give_back(struct arena *a, struct tensor *t) {
    if (is_in_store(a, t->data)) {
        workspace_release(&a->store, (char *)t->data - a->store.base);
    } else if (t->data) {
        backend_free(a->backend, t->data);
    }
    *t = (struct tensor){0};
}

static bool has_copy(const struct arena *a) {
    return a->kind == ARENA_FROZEN || a->backend->caps.compute != a->backend->caps.master;
}

/* Room for the values and what stands beside them. */
static enum status open_store(struct arena *a, int64_t beside) {
    const struct backend_caps *caps = &a->backend->caps;
    int64_t bytes = a->kind == ARENA_TRAINED ? dtype_size(caps->master) : 0;
    void *data;
    bytes += has_copy(a) ? dtype_size(caps->compute) : 0;
    TRY(size_mul(a->elements, bytes, "parameters", &bytes));
    TRY(size_add(bytes, beside + (int64_t)STORE_PARTS * STORE_ALIGNMENT, "parameters", &bytes));
    if (backend_alloc(a->backend, bytes, &data) != OK) {
        return note("taking memory for the parameters, %lld values%s", (long long)a->elements,
                    beside > 0 ? ", their gradients and the optimizer's state" : "");
    }
    a->store = (struct workspace){.backend = a->backend, .base = data, .capacity = bytes};
    return OK;
}

/* Rows of the matrix that parameter i begins, with those joined to it, which one product reads; 0: it begins
 * none. *next: the first parameter behind it. */
static int64_t matrix_at(const struct arena *a, int i, int *next) {
    const struct parameter *p = &a->parameters[i];
    int64_t rows = p->n_dims == 2 ? p->rows : 0;
    for (*next = i + 1; *next < a->n; ++*next) {
        const struct parameter *more = &a->parameters[*next];
        if (rows == 0 || !more->is_joined || more->n_dims != 2 || more->columns != p->columns) {
            break;
        }
        rows += more->rows;
    }
    return rows;
}

static enum status keep_matrices(struct arena *a) {
    for (int i = 0, next; i < a->n; i = next) {
        int64_t rows = matrix_at(a, i, &next);
        struct place p = {.arena = a, .offset = a->parameters[i].offset};
        TRY(rows > 0 ? backend_keep_weights(a->backend, place_view(p, rows, a->parameters[i].columns)) : OK);
    }
    return OK;
}

int64_t arena_kept_bytes(const struct arena *a, bool both, int except) {
    int64_t bytes = 0;
    for (int i = 0, next; i < a->n; i = next) {
        int64_t rows = matrix_at(a, i, &next);
        bytes += i == except ? 0 : backend_kept_bytes(a->backend, rows, a->parameters[i].columns);
    }
    return both ? 2 * bytes : bytes;
}

enum status arena_allocate(struct arena *a, int64_t beside) {
    const struct backend_caps *caps = &a->backend->caps;
    TRY(open_store(a, beside));
    if (a->kind == ARENA_TRAINED) {
        TRY(arena_take(a, "the parameters", a->elements, caps->master, &a->master));
    }
    a->compute = a->master;
    TRY(has_copy(a) ? arena_take(a, "the parameters' compute copy", a->elements, caps->compute, &a->compute)
                    : OK);
    return keep_matrices(a);
}

void arena_close(struct arena *a) {
    if (!a) {
        return;
    }
    backend_drop_weights(a->backend, a->compute);
    if (!is_in_store(a, a->gradients.data)) {
        arena_give_back(a, &a->gradients);
    }
    workspace_close(&a->store);
    mem_free(a->parameters);
    mem_free(a);
}

enum status arena_need_gradients(struct arena *a) {
    if (a->kind == ARENA_FROZEN) {
        return fail(ERR_INTERNAL, "arena: frozen parameters have no gradients");
    }
    if (!a->gradients.data) {
        TRY(arena_take(a, "the gradients", a->elements, a->backend->caps.master, &a->gradients));
        a->sink = a->gradients;
    }
    return OK;
}

void arena_collect_into(struct arena *a, struct tensor t) {
    a->sink = t.data ? t : a->gradients;
}

enum status arena_zero_gradients(struct arena *a) {
    return a->sink.data ? backend_zero_tensor(a->backend, a->sink) : OK;
}

static struct tensor part_of(struct tensor whole, int64_t offset, int64_t rows, int64_t columns) {
    return whole.data
               ? tensor_at((char *)whole.data + offset * dtype_size(whole.type), rows, columns, whole.type)
               : (struct tensor){0};
}

struct tensor place_view(struct place p, int64_t rows, int64_t columns) {
    return p.arena ? part_of(p.arena->compute, p.offset, rows, columns) : (struct tensor){0};
}

struct tensor place_gradient(struct place p, int64_t rows, int64_t columns) {
    return p.arena ? part_of(p.arena->sink, p.offset, rows, columns) : (struct tensor){0};
}

struct place place_after(struct place p, int64_t elements) {
    return p.arena ? (struct place){p.arena, p.offset + elements} : p;
}

void arena_changed(struct arena *a) {
    a->revision++;
    backend_weights_changed(a->backend, a->compute);
}

enum status arena_refresh(struct arena *a) {
    arena_changed(a);
    return a->compute.data == arena_values(a).data ? OK : backend_convert(a->backend, a->compute, a->master);
}

struct tensor arena_values(const struct arena *a) {
    return a->kind == ARENA_FROZEN ? a->compute : a->master;
}

int64_t arena_parameter_count(const struct arena *a) {
    int64_t n = 0;
    for (int i = 0; i < a->n; i++) {
        n += a->parameters[i].rows * a->parameters[i].columns;
    }
    return n;
}

const struct parameter *arena_find(const struct arena *a, const char *name) {
    for (int i = 0; i < a->n; i++) {
        if (strcmp(a->parameters[i].name, name) == 0) {
            return &a->parameters[i];
        }
    }
    return NULL;
}
