#include <string.h>

#include "select/selection_internal.h"
#include "util/mem.h"

enum status selection_count(struct selection *s) {
    int64_t sums[3 + SELECTION_DROPS] = {0, s->n, 0};
    for (int64_t i = 0; i < s->n; i++) {
        sums[0] += s->candidates[i].is_taken;
        sums[2] += s->candidates[i].is_taken && !s->candidates[i].label;
    }
    memcpy(sums + 3, s->dropped, sizeof s->dropped);
    TRY(comm_sum_i64(s->comm, sums, COUNT_OF(sums)));
    s->taken = sums[0];
    s->total = sums[1];
    s->unlabeled = sums[2];
    memcpy(s->dropped, sums + 3, sizeof s->dropped);
    int64_t none = s->dropped[DROP_UNLABELED];
    if (s->taken == 0) {
        return none > 0
                   ? fail(ERR_DATA, "%s: %lld pairs have no label and no scores to order them; none is left",
                          s->options->data, (long long)none)
                   : fail(ERR_DATA, "%s: no pair is left to select", s->options->data);
    }
    return OK;
}

enum status selection_write(const struct selection *s) {
    struct view_pairs pairs = {0};
    int64_t *chosen = NULL;
    int64_t *rejected = NULL;
    int64_t *source = NULL;
    float *margin = NULL;
    int8_t *label = NULL;
    enum status st;
    TRY_TO(agreed, NEW_ARRAY(chosen, s->n));
    TRY_TO(agreed, NEW_ARRAY(rejected, s->n));
    TRY_TO(agreed, NEW_ARRAY(source, s->n));
    TRY_TO(agreed, NEW_ARRAY(margin, s->n));
    TRY_TO(agreed, NEW_ARRAY(label, s->n));
    for (int64_t i = 0; i < s->n; i++) {
        const struct candidate *c = &s->candidates[i];
        if (c->is_taken) {
            chosen[pairs.n] = c->chosen;
            rejected[pairs.n] = c->rejected;
            source[pairs.n] = c->source;
            margin[pairs.n] = c->margin;
            label[pairs.n++] = c->label;
        }
    }
    pairs.chosen = chosen;
    pairs.rejected = rejected;
    pairs.source = source;
    pairs.margin = margin;
    pairs.label = label;
agreed:
    st = comm_agree(s->comm, st);
    if (st == OK) {
        st = dataset_write_view(s->comm, s->options->output, s->options->data, &pairs, s->options->command);
    }
    mem_free(chosen);
    mem_free(rejected);
    mem_free(source);
    mem_free(margin);
    mem_free(label);
    return st;
}
