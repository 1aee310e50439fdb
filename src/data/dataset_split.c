/* Objectives and splits: whose scores a view's responses have, and which of its pairs are read. */
#include <string.h>

#include "data/dataset_internal.h"
#include "util/mem.h"

enum { AT_A_TIME = 4096 };

const char *data_split_name(enum data_split split) {
    static const char *const names[SPLITS] = {"all", "train", "validation", "test"};
    return names[split];
}

enum status dataset_find_objective(struct dataset *d) {
    char *name = NULL;
    d->objective = -1;
    if (!h5_has_attribute(d->selection, "objective")) {
        return OK;
    }
    TRY(h5_get_text(d->selection, "objective", &name));
    for (int i = 0; i < d->facts.n_objectives; i++) {
        d->objective = strcmp(d->facts.objectives[i], name) == 0 ? i : d->objective;
    }
    enum status st = d->objective >= 0
                         ? OK
                         : fail(ERR_DATA, "%s: its pairs are of objective \"%s\", of which %s has no scores",
                                d->path, name, d->base_path);
    mem_free(name);
    return st;
}

int dataset_objective(const struct dataset *d) {
    return d->objective;
}

enum status dataset_response_scores(struct dataset *d, int64_t id, float *out) {
    return d->facts.n_objectives > 0 ? h5_read(d->columns[RESPONSE_SCORES], id, 1, out) : OK;
}

enum status dataset_read_score(struct dataset *d, int64_t id, float *out) {
    float scores[DATASET_OBJECTIVES_MAX];
    if (d->objective < 0) {
        return h5_read(d->columns[RESPONSE_SCORE], id, 1, out);
    }
    TRY(dataset_response_scores(d, id, scores));
    *out = scores[d->objective];
    return OK;
}

enum data_split dataset_split(const struct dataset *d) {
    return d->split;
}

/* The file's pairs of a split, into rows where that is not NULL. */
static enum status find_rows(struct dataset *d, enum data_split split, int64_t *rows, int64_t *n) {
    struct range all = {0, h5_rows(d->columns[PAIR_SPLIT])};
    int8_t splits[AT_A_TIME];
    *n = 0;
    for (int64_t first = 0; first < all.last; first += AT_A_TIME) {
        struct range block = range_block(all, first, AT_A_TIME);
        TRY(h5_read(d->columns[PAIR_SPLIT], block.first, block.last - block.first, splits));
        for (int64_t row = block.first; row < block.last; row++) {
            if (splits[row - block.first] != (int8_t)split) {
                continue;
            }
            if (rows) {
                rows[*n] = row;
            }
            ++*n;
        }
    }
    return OK;
}

enum status dataset_keep_split(struct dataset *d, enum data_split split) {
    int64_t n;
    if (split == SPLIT_ALL || split == d->split) {
        return OK;
    }
    if (!d->size.has_splits) {
        return fail(ERR_DATA,
                    "%s: its pairs are in no splits, so that split=%s names none; prepare.objectives makes "
                    "views that have them",
                    d->path, data_split_name(split));
    }
    TRY(find_rows(d, split, NULL, &n));
    if (n == 0) {
        return fail(ERR_DATA, "%s: none of its %lld pairs is in split %s", d->path,
                    (long long)h5_rows(d->columns[PAIR_SPLIT]), data_split_name(split));
    }
    mem_free(d->kept);
    d->kept = NULL;
    TRY(NEW_ARRAY(d->kept, n));
    d->size.pairs = n;
    d->split = split;
    return find_rows(d, split, d->kept, &n);
}

enum status dataset_open_split(struct comm *c, const char *path, enum data_split split,
                               struct dataset **out) {
    TRY(dataset_open(c, path, out));
    enum status st = comm_agree(c, dataset_keep_split(*out, split));
    if (st != OK) {
        dataset_close(*out);
        *out = NULL;
    }
    return st;
}

static enum status mark_pairs(struct dataset *d, bool prompts, uint8_t *marks) {
    for (int64_t row = 0; row < d->size.pairs; row++) {
        struct pair pair;
        struct response chosen;
        TRY(dataset_pair(d, row, &pair));
        if (!prompts) {
            marks[pair.chosen] = marks[pair.rejected] = 1;
            continue;
        }
        TRY(dataset_response(d, pair.chosen, &chosen));
        marks[chosen.prompt] = 1;
    }
    return OK;
}

static enum status list_marked(const uint8_t *marks, int64_t all, int64_t **ids, int64_t *n) {
    *n = 0;
    for (int64_t i = 0; i < all; i++) {
        *n += marks[i];
    }
    TRY(NEW_ARRAY(*ids, *n));
    for (int64_t i = 0, at = 0; i < all; i++) {
        if (marks[i]) {
            (*ids)[at++] = i;
        }
    }
    return OK;
}

static enum status split_ids(struct dataset *d, bool prompts, int64_t **ids, int64_t *n) {
    uint8_t *marks;
    *ids = NULL;
    *n = prompts ? d->size.prompts : d->size.responses;
    if (d->split == SPLIT_ALL) {
        return OK;
    }
    int64_t all = *n;
    TRY(NEW_ARRAY(marks, all));
    enum status st = mark_pairs(d, prompts, marks);
    st = st == OK ? list_marked(marks, all, ids, n) : st;
    mem_free(marks);
    return st;
}

enum status dataset_split_responses(struct dataset *d, int64_t **ids, int64_t *n) {
    return split_ids(d, false, ids, n);
}

enum status dataset_split_prompts(struct dataset *d, int64_t **ids, int64_t *n) {
    return split_ids(d, true, ids, n);
}
