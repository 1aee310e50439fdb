#include "evaluate/labels.h"

#include "data/comparisons.h"
#include "evaluate/metrics.h"
#include "util/hash.h"

enum { BLOCK = 256 };

const char *const label_names[LABELS_MEASURES] = {"labels/agree_with_scores", "labels/agree_with_truth"};

bool label_is_ordered(float chosen, float rejected) {
    return chosen > rejected || chosen < rejected; /* not so where one is NaN */
}

void labels_count(struct ratios *r, int first, const struct label_pair *p) {
    for (int m = 0; m < LABELS_MEASURES; m++) {
        if (label_is_ordered(p->chosen[m], p->rejected[m])) {
            ratios_count(r, first + m, p->chosen[m] > p->rejected[m], 1);
        }
    }
}

struct agreement {
    struct dataset *data;
    struct ratios ratios;
    int64_t labeled;
};

static enum status open_ratios(struct agreement *a, const struct interval_options *intervals) {
    TRY(ratios_open(intervals, LABELS_MEASURES, &a->ratios));
    ratios_are_shares(&a->ratios, 0, LABELS_MEASURES);
    return OK;
}

/* The labeled pairs of a block. *prompt: of the last one, -1 before the first; what a prompt's pairs sum to
 * is resampled together. */
static enum status count_block(struct agreement *a, struct range block, int64_t *prompt) {
    struct pair pairs[BLOCK];
    TRY(dataset_pairs(a->data, block, pairs));
    for (int64_t i = 0; i < block.last - block.first; i++) {
        struct response c, r;
        if (!pairs[i].label) {
            continue;
        }
        TRY(dataset_response(a->data, pairs[i].chosen, &c));
        TRY(dataset_response(a->data, pairs[i].rejected, &r));
        if (*prompt >= 0 && *prompt != c.prompt) {
            ratios_end_row(&a->ratios, *prompt);
        }
        *prompt = c.prompt;
        labels_count(&a->ratios, 0, &(struct label_pair){{c.score, c.worth}, {r.score, r.worth}});
        a->labeled++;
    }
    return OK;
}

/* Local. */
static enum status count_pairs(struct agreement *a, struct range part) {
    int64_t prompt = -1;
    for (int64_t first = part.first; first < part.last; first += BLOCK) {
        TRY(count_block(a, range_block(part, first, BLOCK), &prompt));
    }
    if (prompt >= 0) {
        ratios_end_row(&a->ratios, prompt);
    }
    return OK;
}

static enum status print(const struct agreement *a, struct text *out) {
    char digits[17];
    const char *names[LABELS_MEASURES] = {NULL};
    const struct ratios *r = &a->ratios;
    hash_text(dataset_hash(a->data), digits);
    TRY(metrics_put(out, "", "pairs", (double)dataset_size(a->data).pairs));
    TRY(metrics_put(out, "", "labeled", (double)a->labeled));
    TRY(text_printf(out, ", \"data_hash\": \"%s\"", digits));
    for (int m = 0; m < LABELS_MEASURES; m++) {
        if (ratios_rows(r, m) > 0) {
            names[m] = label_names[m];
            TRY(metrics_put(out, "", names[m], ratios_value(r, m)));
            TRY(text_printf(out, ", \"%s/pairs\": %.0f", names[m], ratios_rows(r, m)));
        }
    }
    TRY(ratios_print(r, names, LABELS_MEASURES, out));
    return text_puts(out, "}\n");
}

/* Collective. */
static enum status measure(struct comm *c, struct agreement *a, int64_t rows, struct text *out) {
    int64_t labeled;
    TRY(comm_agree(c, labeled_need(a->data, &labeled)));
    TRY(comm_agree(c, count_pairs(a, range_part(rows, c->rank, c->size))));
    TRY(ratios_reduce(c, &a->ratios));
    TRY(comm_sum_i64(c, &a->labeled, 1));
    if (!(ratios_rows(&a->ratios, LABELS_SCORES) > 0 || ratios_rows(&a->ratios, LABELS_TRUTH) > 0)) {
        return fail(ERR_USAGE,
                    "model is not set; without one evaluate compares labels with scores or truth, and %s has "
                    "neither",
                    dataset_path(a->data));
    }
    return comm_agree(c, print(a, out));
}

enum status labels_evaluate(struct comm *c, struct dataset *data, int64_t rows,
                            const struct interval_options *intervals, struct text *out) {
    struct agreement a = {.data = data};
    int64_t pairs = dataset_size(data).pairs;
    enum status st = comm_agree(c, open_ratios(&a, intervals));
    st = st == OK ? measure(c, &a, rows > 0 && rows < pairs ? rows : pairs, out) : st;
    ratios_close(&a.ratios);
    return st;
}
