#include "evaluate/batch_order.h"

#include <stdlib.h>

#include "util/mem.h"

enum { PAIR = 2 };

enum status order_add(struct order *o, const double pair[2]) {
    TRY(GROW_ARRAY(o->pairs, o->cap_pairs, PAIR * (o->n + 1)));
    o->pairs[PAIR * o->n] = pair[0];
    o->pairs[PAIR * o->n + 1] = pair[1];
    o->n++;
    return OK;
}

static int ascending(const void *a, const void *b) {
    const double *x = a;
    const double *y = b;
    return (*x > *y) - (*x < *y);
}

/* Local. */
static void sort_columns(struct order *o, int64_t rows) {
    o->sorted[0] = (double)rows;
    for (int k = 0; k < PAIR; k++) {
        double *column = o->sorted + 1 + k * rows;
        for (int64_t i = 0; i < rows; i++) {
            column[i] = o->all[PAIR * i + k];
        }
        qsort(column, (size_t)rows, sizeof *column, ascending);
    }
}

/* Collective. bytes: a place for each rank. */
static enum status gather_pairs(struct comm *c, struct order *o, int64_t *bytes) {
    int64_t total = 0, row = PAIR * (int64_t)sizeof *o->pairs;
    TRY(comm_gather_i64(c, o->n * row, bytes));
    for (int r = 0; r < c->size; r++) {
        total += bytes[r];
    }
    int64_t rows = total / row;
    enum status st = GROW_ARRAY(o->all, o->cap_all, PAIR * rows + 1);
    st = st == OK ? GROW_ARRAY(o->sorted, o->cap_sorted, PAIR * rows + 1) : st;
    TRY(comm_agree(c, st));
    TRY(comm_gather_bytes(c, o->pairs, bytes[c->rank], o->all, bytes));
    sort_columns(o, rows);
    return OK;
}

enum status order_gather(struct comm *c, struct order *o, enum status st, const double **out) {
    int64_t *bytes = NULL;
    st = st == OK ? NEW_ARRAY(bytes, c->size) : st;
    st = comm_agree(c, st);
    st = st == OK ? gather_pairs(c, o, bytes) : st;
    *out = st == OK ? o->sorted : NULL;
    o->n = 0;
    mem_free(bytes);
    return st;
}

void order_free(struct order *o) {
    mem_free(o->pairs);
    mem_free(o->all);
    mem_free(o->sorted);
    *o = (struct order){0};
}
