#include "backend/cpu/kept_weights.h"

#include <string.h>

#include "backend/cpu/dot_kernel.h"
#include "util/mem.h"

/* Panels are DOT_COLUMNS wide and DOT_ROUND deep, which are the same: either way takes as much. */
int64_t kept_elements(int64_t rows, int64_t columns) {
    _Static_assert((int)DOT_ROUND == (int)DOT_COLUMNS, "panels of both ways have the same size");
    return dot_filled(rows) * dot_filled(columns);
}

static const char *end_of(const struct kept_weight *w) {
    return w->data + w->rows * w->columns * (int64_t)sizeof(uint16_t);
}

/* How many begin at or before the address. */
static int64_t count_until(const struct kept_weights *k, const char *data) {
    int64_t low = 0, high = k->n;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (k->list[middle].data <= data) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

struct kept_weight *kept_find(struct kept_weights *k, const void *data) {
    int64_t n = count_until(k, data);
    return n > 0 && (const char *)data < end_of(&k->list[n - 1]) ? &k->list[n - 1] : NULL;
}

enum status kept_declare(struct kept_weights *k, const void *data, int64_t rows, int64_t columns) {
    const struct kept_weight w = {.data = data, .rows = rows, .columns = columns};
    int64_t n = count_until(k, data);
    if (rows * columns == 0) {
        return OK;
    }
    if (kept_find(k, data) || (n < k->n && k->list[n].data < end_of(&w))) {
        return fail(ERR_INTERNAL, "cpu: weights were declared twice");
    }
    TRY(GROW_ARRAY(k->list, k->capacity, k->n + 1));
    memmove(k->list + n + 1, k->list + n, (size_t)(k->n - n) * sizeof *k->list);
    k->list[n] = w;
    k->n++;
    return OK;
}

static bool meets(const struct kept_weight *w, const char *data, int64_t bytes) {
    return w->data < data + bytes && data < end_of(w);
}

void kept_change(struct kept_weights *k, const void *data, int64_t bytes) {
    for (int64_t i = 0; i < k->n; i++) {
        for (int way = 0; way < KEPT_WAYS && meets(&k->list[i], data, bytes); way++) {
            k->list[i].is_current[way] = false;
        }
    }
}

void kept_drop(struct kept_weights *k, const void *data, int64_t bytes) {
    int64_t n = 0;
    for (int64_t i = 0; i < k->n; i++) {
        if (!meets(&k->list[i], data, bytes)) {
            k->list[n++] = k->list[i];
            continue;
        }
        for (int way = 0; way < KEPT_WAYS; way++) {
            mem_free(k->list[i].panels[way]);
        }
    }
    k->n = n;
}

void kept_close(struct kept_weights *k) {
    for (int64_t i = 0; i < k->n; i++) {
        for (int way = 0; way < KEPT_WAYS; way++) {
            mem_free(k->list[i].panels[way]);
        }
    }
    mem_free(k->list);
    *k = (struct kept_weights){0};
}
