#include <stdlib.h>
#include <string.h>

#include "select/answers_internal.h"
#include "util/mem.h"

/* By pair, then annotator, then place in the files. */
static int by_pair(const void *a, const void *b) {
    const struct vote *x = a;
    const struct vote *y = b;
    int order = pair_key_order(&x->key, &y->key);
    if (order != 0) {
        return order;
    }
    if (x->annotator != y->annotator) {
        return x->annotator < y->annotator ? -1 : 1;
    }
    if (x->file != y->file) {
        return x->file < y->file ? -1 : 1;
    }
    return x->line < y->line ? -1 : x->line > y->line;
}

/* The same annotator answers the same question again behind this vote. */
static bool is_replaced(const struct answers *a, int64_t i) {
    return i + 1 < a->n && a->votes[i].annotator != 0 && a->votes[i].annotator == a->votes[i + 1].annotator &&
           pair_key_order(&a->votes[i].key, &a->votes[i + 1].key) == 0;
}

static void count_again(struct fault_count *f, const struct vote *v) {
    bool first = f->n == 0 || v->file < f->file || (v->file == f->file && v->line < f->line);
    f->n++;
    f->line = first ? v->line : f->line;
    f->file = first ? v->file : f->file;
}

enum status answers_merge(struct answers *a) {
    int64_t kept = 0;
    TRY(NEW_ARRAY(a->verdicts, a->n));
    if (a->n > 0) {
        qsort(a->votes, (size_t)a->n, sizeof *a->votes, by_pair);
    }
    for (int64_t i = 0; i < a->n; i++) {
        if (is_replaced(a, i)) {
            count_again(&a->faults[ANSWER_AGAIN], &a->votes[i + 1]);
            continue;
        }
        a->votes[kept++] = a->votes[i];
        const struct vote *v = &a->votes[kept - 1];
        struct verdict *last = a->n_verdicts > 0 ? &a->verdicts[a->n_verdicts - 1] : NULL;
        if (!last || pair_key_order(&last->key, &v->key) != 0) {
            last = &a->verdicts[a->n_verdicts++];
            *last = (struct verdict){.key = v->key, .low_is_a = v->low_is_a};
        }
        last->votes[v->preference]++;
    }
    a->n = kept;
    return OK;
}

enum preference verdict_of(const struct verdict *v) {
    int best = PREFER_LOW;
    for (int p = PREFER_HIGH; p < PREFERENCES; p++) {
        best = v->votes[p] > v->votes[best] ? p : best;
    }
    for (int p = 0; p < PREFERENCES; p++) {
        if (p != best && v->votes[p] == v->votes[best]) {
            return PREFER_NEITHER;
        }
    }
    return (enum preference)best;
}
