#include "evaluate/sums.h"

#include <math.h>

#include "mpi/sum.h"

void sums_tree_begin(struct sums_tree *t, bool deterministic) {
    *t = (struct sums_tree){.deterministic = deterministic};
}

void sums_add(struct sums *to, const struct sums *from) {
    if (from->v[SUM_RESPONSES] > 0) {
        bool is_first = to->v[SUM_RESPONSES] == 0;
        to->lowest = is_first ? from->lowest : fmin(to->lowest, from->lowest);
        to->highest = is_first ? from->highest : fmax(to->highest, from->highest);
    }
    to->drift = fmax(to->drift, from->drift);
    for (int i = 0; i < SUM_COUNT; i++) {
        to->v[i] += from->v[i];
    }
}

void sums_tree_push(struct sums_tree *t, const struct sums *slot) {
    if (!t->deterministic) {
        sums_add(&t->total, slot);
        return;
    }
    struct sums carry = *slot;
    int level = 0;
    for (; t->pushed >> level & 1; level++) {
        struct sums left = t->level[level];
        sums_add(&left, &carry);
        carry = left;
    }
    t->level[level] = carry;
    t->pushed++;
    t->total = carry; /* the whole sum where the number of slots is a power of two */
}

enum status sums_extremes(struct comm *c, struct sums *s) {
    bool has = s->v[SUM_RESPONSES] > 0;
    double extremes[] = {has ? -s->lowest : -INFINITY, has ? s->highest : -INFINITY, s->drift};
    TRY(comm_max_f64(c, extremes, 3));
    s->lowest = -extremes[0];
    s->highest = extremes[1];
    s->drift = extremes[2];
    return OK;
}

enum status sums_reduce(struct comm *c, bool deterministic, double *values, int64_t n) {
    return deterministic ? sum_tree_f64(c, values, n) : comm_sum_f64(c, values, n);
}
