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

static enum status read_pairs(struct dataset *d, struct range rows, struct comparisons *out) {
    struct pair pairs[PAIRS_AT_A_TIME];
    TRY(dataset_pairs(d, rows, pairs));
    for (int64_t i = 0; i < rows.last - rows.first; i++) {
        struct response chosen;
        TRY(dataset_response(d, pairs[i].chosen, &chosen));
        if (pairs[i].label != 0) {
            out->list[out->n++] = (struct comparison){chosen.prompt, pairs[i].row};
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
    struct range all = {0, dataset_size(d).pairs};
    enum status st;
    *out = (struct comparisons){0};
    TRY_TO(failed, NEW_ARRAY(out->list, all.last));
    for (int64_t first = 0; first < all.last; first += PAIRS_AT_A_TIME) {
        TRY_TO(failed, read_pairs(d, range_block(all, first, PAIRS_AT_A_TIME), out));
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
