#include "select/selection_internal.h"

#include <math.h>
#include <stdlib.h>

#include "util/mem.h"

enum status candidates_vectors(struct selection *s, const int64_t *ids, int64_t n, float *out) {
    int64_t width = sidecar_width(s->embeddings);
    for (int64_t i = 0, run; i < n; i += run) {
        for (run = 1; i + run < n && ids[i + run] == ids[i] + run; run++) {
        }
        TRY(sidecar_read_values(s->embeddings, ids[i], run, out + i * width));
    }
    return OK;
}

void candidate_drop(struct candidate *c, enum selection_drop why) {
    c->is_dropped = true;
    c->drop = why;
}

enum status candidates_add(struct selection *s, const struct candidate *c) {
    TRY(GROW_ARRAY(s->candidates, s->capacity, s->n + 1));
    struct candidate *new = &s->candidates[s->n++];
    *new = *c;
    if (!new->is_dropped && !new->label && s->options->needs_labels) {
        candidate_drop(new, DROP_UNLABELED);
    }
    s->dropped[new->drop] += new->is_dropped;
    return OK;
}

enum status candidate_label_by_score(struct selection *s, struct candidate *c) {
    const int64_t ids[2] = {c->chosen, c->rejected};
    struct response r[2];
    TRY(dataset_response(s->data, ids[0], &r[0]));
    TRY(dataset_response(s->data, ids[1], &r[1]));
    if (isnan(r[0].score) || isnan(r[1].score)) {
        return OK;
    }
    bool swapped = r[1].score > r[0].score;
    if (r[1].score == r[0].score) {
        candidate_drop(c, DROP_EQUAL_SCORES);
    }
    c->label = 1;
    c->margin = fabsf(r[0].score - r[1].score);
    c->chosen = ids[swapped];
    c->rejected = ids[!swapped];
    return OK;
}

enum status candidates_wanted(const struct selection *s, double fraction, int64_t *out) {
    int64_t left = 0;
    for (int64_t i = 0; i < s->n; i++) {
        left += !s->candidates[i].is_dropped;
    }
    TRY(comm_sum_i64(s->comm, &left, 1));
    int64_t count = s->options->count;
    *out = count > 0 ? count : (int64_t)floor(fraction * (double)left);
    if (*out > left) {
        return fail(ERR_USAGE, "select.count: %lld pairs of %lld%s", (long long)count, (long long)left,
                    s->asked.n > 0 ? " that are left" : "");
    }
    return OK;
}

enum status known_pairs_read(struct selection *s, struct range responses, struct known_pairs *out) {
    struct range all = {0, dataset_size(s->data).pairs};
    struct pair pairs[SELECTION_BLOCK];
    for (int64_t first = 0; first < all.last; first += SELECTION_BLOCK) {
        struct range rows = range_block(all, first, SELECTION_BLOCK);
        TRY(dataset_pairs(s->data, rows, pairs));
        for (int64_t i = 0; i < rows.last - rows.first; i++) {
            bool here = pairs[i].chosen >= responses.first && pairs[i].chosen < responses.last;
            if (!here || !pairs[i].label) {
                continue;
            }
            TRY(GROW_ARRAY(out->data, out->capacity, out->n + 1));
            out->data[out->n++] = (struct known_pair){pair_key(pairs[i].chosen, pairs[i].rejected), pairs[i]};
        }
    }
    if (out->n > 0) {
        qsort(out->data, (size_t)out->n, sizeof *out->data, pair_key_order);
    }
    return OK;
}

static const struct known_pair *find_known(const struct known_pairs *known, int64_t a, int64_t b) {
    struct pair_key key = pair_key(a, b);
    return known->n > 0 ? bsearch(&key, known->data, (size_t)known->n, sizeof *known->data, pair_key_order)
                        : NULL;
}

bool known_pairs_has(const struct known_pairs *known, int64_t a, int64_t b) {
    return find_known(known, a, b) != NULL;
}

enum status candidate_label(struct selection *s, const struct known_pairs *known, struct candidate *c) {
    const struct known_pair *found = find_known(known, c->chosen, c->rejected);
    if (!found) {
        return candidate_label_by_score(s, c);
    }
    c->chosen = found->pair.chosen;
    c->rejected = found->pair.rejected;
    c->margin = found->pair.margin;
    c->source = found->pair.source;
    c->label = 1;
    return OK;
}
