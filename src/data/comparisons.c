#include "data/comparisons.h"

#include <stdlib.h>

#include "util/mem.h"

enum { PAIRS_AT_A_TIME = 256 };

static int by_prompt(const void *a, const void *b) {
    const struct comparison *x = a;
    const struct comparison *y = b;
    if (x->prompt != y->prompt) {
        return x->prompt < y->prompt ? -1 : 1;
    }
    return x->row < y->row ? -1 : x->row > y->row;
}

static enum status read_pairs(struct dataset *d, int64_t first, int64_t n, struct comparisons *out) {
    int64_t rows[PAIRS_AT_A_TIME], chosen[PAIRS_AT_A_TIME];
    struct pair pairs[PAIRS_AT_A_TIME];
    struct response responses[PAIRS_AT_A_TIME];
    for (int64_t i = 0; i < n; i++) {
        rows[i] = first + i;
    }
    TRY(dataset_pairs(d, rows, n, pairs));
    for (int64_t i = 0; i < n; i++) {
        chosen[i] = pairs[i].chosen;
    }
    TRY(dataset_responses(d, chosen, n, responses));
    for (int64_t i = 0; i < n; i++) {
        if (pairs[i].label != 0) {
            out->list[out->n++] = (struct comparison){responses[i].prompt, rows[i]};
        }
    }
    return OK;
}

/* Files are in the order of their prompts; selections need not be. */
static void sort_list(struct comparisons *c) {
    for (int64_t i = 1; i < c->n; i++) {
        if (by_prompt(&c->list[i - 1], &c->list[i]) > 0) {
            qsort(c->list, (size_t)c->n, sizeof *c->list, by_prompt);
            return;
        }
    }
}

static enum status find_groups(struct comparisons *c) {
    TRY(NEW_ARRAY(c->group_first, c->n + 1));
    for (int64_t i = 0; i < c->n; i++) {
        if (i == 0 || c->list[i].prompt != c->list[i - 1].prompt) {
            c->group_first[c->n_groups++] = i;
        }
    }
    c->group_first[c->n_groups] = c->n;
    return OK;
}

enum status comparisons_open(struct dataset *d, struct comparisons *out) {
    int64_t total = dataset_size(d).pairs;
    enum status st;
    *out = (struct comparisons){0};
    TRY_TO(failed, NEW_ARRAY(out->list, total));
    for (int64_t first = 0; first < total; first += PAIRS_AT_A_TIME) {
        int64_t left = total - first;
        TRY_TO(failed, read_pairs(d, first, left < PAIRS_AT_A_TIME ? left : PAIRS_AT_A_TIME, out));
    }
    sort_list(out);
    TRY_TO(failed, find_groups(out));
    return OK;
failed:
    comparisons_close(out);
    return st;
}

void comparisons_close(struct comparisons *c) {
    mem_free(c->list);
    mem_free(c->group_first);
    *c = (struct comparisons){0};
}
