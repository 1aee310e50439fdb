#include "data/comparisons.h"

#include <stdlib.h>

#include "util/mem.h"

enum { PAIRS_AT_A_TIME = 256, LABELS_AT_A_TIME = 4096 };

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

enum status labeled_count(struct dataset *d, int64_t *out) {
    struct range all = {0, dataset_size(d).pairs};
    int8_t labels[LABELS_AT_A_TIME];
    *out = 0;
    for (int64_t first = 0; first < all.last; first += LABELS_AT_A_TIME) {
        struct range rows = range_block(all, first, LABELS_AT_A_TIME);
        TRY(dataset_labels(d, rows, labels));
        for (int64_t i = 0; i < rows.last - rows.first; i++) {
            *out += labels[i] != 0;
        }
    }
    return OK;
}

static enum status list_labeled(struct dataset *d, int64_t *out) {
    struct range all = {0, dataset_size(d).pairs};
    int8_t labels[LABELS_AT_A_TIME];
    for (int64_t first = 0; first < all.last; first += LABELS_AT_A_TIME) {
        struct range rows = range_block(all, first, LABELS_AT_A_TIME);
        TRY(dataset_labels(d, rows, labels));
        for (int64_t row = rows.first; row < rows.last; row++) {
            if (labels[row - rows.first] != 0) {
                *out++ = row;
            }
        }
    }
    return OK;
}

enum status labeled_need(struct dataset *d, int64_t *out) {
    int64_t all = dataset_size(d).pairs;
    TRY(labeled_count(d, out));
    if (*out == 0 && all > 0) {
        return fail(ERR_DATA,
                    "%s: none of its %lld pairs has a label, and labels are needed here; `collimate select "
                    "--help` says how answers become labels (select.answers)",
                    dataset_path(d), (long long)all);
    }
    return OK;
}

enum status labeled_rows(struct dataset *d, int64_t **rows, int64_t *n) {
    *rows = NULL;
    TRY(labeled_need(d, n));
    if (*n == dataset_size(d).pairs) {
        return OK;
    }
    TRY(NEW_ARRAY(*rows, *n));
    return list_labeled(d, *rows);
}

void comparisons_close(struct comparisons *c) {
    mem_free(c->list);
    mem_free(c->group_first);
    *c = (struct comparisons){0};
}
