#include "evaluate/labels.h"

#include <math.h>
#include <string.h>

#include "evaluate/bootstrap.h"
#include "evaluate/metrics.h"
#include "util/hash.h"

enum { BLOCK = 256 };

const char *const label_names[LABELS_MEASURES] = {"labels/agree_with_scores", "labels/agree_with_truth"};

bool label_is_ordered(float chosen, float rejected) {
    return chosen > rejected || chosen < rejected; /* not so where one is NaN */
}

bool label_agrees(float chosen, float rejected) {
    return chosen > rejected;
}

struct agreement {
    struct session *session;
    struct dataset *data;
    struct bootstrap bootstrap;
    double agree[LABELS_MEASURES], ordered[LABELS_MEASURES];
    int64_t labeled;
};

/* Of consecutive pairs with the same prompt. */
struct prompt_sums {
    int64_t prompt, pairs;
    double agree[LABELS_MEASURES], ordered[LABELS_MEASURES];
};

/* Ends a prompt: what its pairs sum to is resampled together. */
static void close_prompt(struct agreement *a, struct prompt_sums *p) {
    if (p->pairs > 0) {
        bootstrap_add(&a->bootstrap, p->prompt, p->agree, p->ordered);
    }
    for (int m = 0; m < LABELS_MEASURES; m++) {
        a->agree[m] += p->agree[m];
        a->ordered[m] += p->ordered[m];
    }
    a->labeled += p->pairs;
    *p = (struct prompt_sums){0};
}

static void add_pair(struct agreement *a, const struct response *r, struct prompt_sums *p) {
    const float chosen[LABELS_MEASURES] = {r[0].score, r[0].worth};
    const float rejected[LABELS_MEASURES] = {r[1].score, r[1].worth};
    if (r[0].prompt != p->prompt) {
        close_prompt(a, p);
    }
    for (int m = 0; m < LABELS_MEASURES; m++) {
        p->ordered[m] += label_is_ordered(chosen[m], rejected[m]);
        p->agree[m] += label_agrees(chosen[m], rejected[m]);
    }
    p->prompt = r[0].prompt;
    p->pairs++;
}

/* Local. */
static enum status add_pairs(struct agreement *a, struct range part) {
    struct pair pairs[BLOCK];
    struct prompt_sums prompt = {0};
    for (int64_t first = part.first; first < part.last; first += BLOCK) {
        struct range block = range_block(part, first, BLOCK);
        TRY(dataset_pairs(a->data, block, pairs));
        for (int64_t i = 0; i < block.last - block.first; i++) {
            struct response r[2];
            if (pairs[i].label) {
                TRY(dataset_response(a->data, pairs[i].chosen, &r[0]));
                TRY(dataset_response(a->data, pairs[i].rejected, &r[1]));
                add_pair(a, r, &prompt);
            }
        }
    }
    close_prompt(a, &prompt);
    return OK;
}

static enum status print(const struct agreement *a, const double *low, const double *high, struct text *out) {
    char digits[17];
    const char *separator = "";
    hash_text(dataset_hash(a->data), digits);
    TRY(metrics_put(out, "", "pairs", (double)dataset_size(a->data).pairs));
    TRY(metrics_put(out, "", "labeled", (double)a->labeled));
    TRY(text_printf(out, ", \"data_hash\": \"%s\"", digits));
    for (int m = 0; m < LABELS_MEASURES; m++) {
        if (a->ordered[m] > 0) {
            TRY(metrics_put(out, "", label_names[m], a->agree[m] / a->ordered[m]));
            TRY(text_printf(out, ", \"%s/pairs\": %.0f", label_names[m], a->ordered[m]));
        }
    }
    if (a->bootstrap.samples > 0) {
        TRY(metrics_put(out, "", "confidence", a->session->settings->evaluate.confidence));
        TRY(text_puts(out, ", \"intervals\": {"));
        for (int m = 0; m < LABELS_MEASURES; m++) {
            if (a->ordered[m] > 0) {
                TRY(text_printf(out, "%s\"%s\": [", separator, label_names[m]));
                TRY(text_json_number(out, low[m]));
                TRY(text_puts(out, ", "));
                TRY(text_json_number(out, high[m]));
                TRY(text_puts(out, "]"));
                separator = ", ";
            }
        }
        TRY(text_puts(out, "}"));
    }
    return text_puts(out, "}\n");
}

/* Collective. */
static enum status measure(struct agreement *a, struct text *out) {
    const struct settings *settings = a->session->settings;
    struct comm *c = a->session->comm;
    double low[LABELS_MEASURES];
    double high[LABELS_MEASURES];
    int64_t rows = dataset_size(a->data).pairs;
    if (settings->evaluate.rows > 0 && settings->evaluate.rows < rows) {
        rows = settings->evaluate.rows;
    }
    enum status st = bootstrap_open((uint64_t)settings->seed, settings->evaluate.bootstrap, LABELS_MEASURES,
                                    &a->bootstrap);
    st = st == OK ? add_pairs(a, range_part(rows, c->rank, c->size)) : st;
    TRY(comm_agree(c, st));
    TRY(comm_sum_f64(c, a->agree, LABELS_MEASURES));
    TRY(comm_sum_f64(c, a->ordered, LABELS_MEASURES));
    TRY(comm_sum_i64(c, &a->labeled, 1));
    if (!(a->ordered[LABELS_SCORES] > 0 || a->ordered[LABELS_TRUTH] > 0)) {
        return fail(ERR_USAGE,
                    "model is not set; without one evaluate compares labels with scores or truth, and %s has "
                    "neither",
                    dataset_path(a->data));
    }
    TRY(bootstrap_intervals(c, &a->bootstrap, settings->evaluate.confidence, low, high));
    return comm_agree(c, print(a, low, high, out));
}

/* Keys that mean something to a model have no effect here. */
static enum status check_keys(const struct options *o) {
    static const char *const used[] = {
        "data",    "output",        "overwrite",          "seed",
        "threads", "evaluate.rows", "evaluate.bootstrap", "evaluate.confidence"};
    for (int i = 0; i < o->count; i++) {
        const char *key = o->table[i].key;
        bool has_effect = !options_is_set(o, key);
        for (int k = 0; k < COUNT_OF(used) && !has_effect; k++) {
            has_effect = strcmp(key, used[k]) == 0;
        }
        if (!has_effect) {
            return fail(ERR_USAGE, "%s: key \"%s\" has no effect here; it needs model to be set",
                        options_source(o, key), key);
        }
    }
    return OK;
}

enum status labels_evaluate(struct session *s, struct text *out) {
    struct agreement a = {.session = s};
    TRY(check_keys(s->run->options));
    TRY(dataset_open(s->comm, s->settings->data, &a.data));
    enum status st = s->run->dry_run ? OK : measure(&a, out);
    bootstrap_close(&a.bootstrap);
    dataset_close(a.data);
    return st;
}
