/* What answers say, how far annotators agree, and how much has been labeled of what could be. */
#include <math.h>
#include <string.h>

#include "select/answers_internal.h"
#include "select/selection_internal.h"
#include "util/log.h"

static const char *const fault_names[ANSWER_FAULTS] = {
    [ANSWER_NO_JSON] = "no JSON",
    [ANSWER_NO_ID] = "no \"id\" as exports have it",
    [ANSWER_OTHER_DATA] = "an \"id\" of other data",
    [ANSWER_UNKNOWN] = "an unknown \"id\"",
    [ANSWER_NO_PREFERENCE] = "no \"preference\" a, b or tie",
    [ANSWER_AGAIN] = "answered again by the same annotator (the last answer counts)",
};
static const char *const fault_keys[ANSWER_FAULTS] = {
    "no_json", "no_id", "other_data", "unknown_id", "no_preference", "answered_again",
};

struct totals {
    int64_t labeled, ties, torn; /* pairs */
    int64_t prompts, labeled_prompts, possible;
    int64_t several; /* pairs with two answers or more */
    double share, alpha;
};

static int64_t votes_of(const struct verdict *v) {
    return v->votes[PREFER_LOW] + v->votes[PREFER_HIGH] + v->votes[PREFER_NEITHER];
}

/* Krippendorff 2011, from the coincidences: a pair with n answers, n_c of them c, has n_c (n_c - 1) / (n - 1)
 * of c with c. The expected share is that of two answers drawn without replacement from all of them. */
static void agree(const struct answers *a, struct totals *t) {
    double same = 0;
    double answers = 0;
    double of[PREFERENCES] = {0}; /* a, b, tie */
    double expected = 0;
    for (int64_t i = 0; i < a->n_verdicts; i++) {
        const struct verdict *v = &a->verdicts[i];
        double n = (double)votes_of(v);
        if (n < 2) {
            continue;
        }
        t->several++;
        answers += n;
        for (int p = 0; p < PREFERENCES; p++) {
            same += (double)v->votes[p] * (double)(v->votes[p] - 1) / (n - 1);
        }
        of[0] += (double)v->votes[v->low_is_a ? PREFER_LOW : PREFER_HIGH];
        of[1] += (double)v->votes[v->low_is_a ? PREFER_HIGH : PREFER_LOW];
        of[2] += (double)v->votes[PREFER_NEITHER];
    }
    for (int p = 0; p < PREFERENCES; p++) {
        expected += of[p] * (of[p] - 1) / (answers * (answers - 1));
    }
    t->share = same / answers;
    t->alpha = expected < 1 ? 1 - (1 - t->share) / (1 - expected) : NAN;
}

/* Local. */
static enum status count_verdicts(const struct answers *a, struct totals *t) {
    int64_t last = -1;
    for (int64_t i = 0; i < a->n_verdicts; i++) {
        const struct verdict *v = &a->verdicts[i];
        struct response r;
        if (verdict_of(v) == PREFER_NEITHER) {
            bool tie = v->votes[PREFER_NEITHER] > v->votes[PREFER_LOW] &&
                       v->votes[PREFER_NEITHER] > v->votes[PREFER_HIGH];
            t->ties += tie;
            t->torn += !tie;
            continue;
        }
        TRY(dataset_response(a->data, v->key.low, &r));
        t->labeled++;
        t->labeled_prompts += r.prompt != last; /* keys are in the order of prompts */
        last = r.prompt;
    }
    return OK;
}

/* Local. This rank's prompts with a pair, and all pairs of their responses. */
static enum status count_possible(const struct answers *a, struct totals *t) {
    struct range part = range_part(dataset_size(a->data).prompts, a->comm->rank, a->comm->size);
    for (int64_t p = part.first; p < part.last; p++) {
        int64_t first;
        int64_t count;
        TRY(dataset_prompt_responses(a->data, p, &first, &count));
        t->prompts += count > 1;
        t->possible += count * (count - 1) / 2;
    }
    return OK;
}

static enum status print_faults(const struct answers *a, struct text *out) {
    for (int i = 0; i < ANSWER_FAULTS; i++) {
        const struct fault_count *f = &a->faults[i];
        if (f->n > 0) {
            log_root(LOG_WARN, "%lld answers: %s; the first: %s, line %lld", (long long)f->n, fault_names[i],
                     a->files.list[f->file], (long long)f->line);
        }
        TRY(text_printf(out, ", \"%s\": %lld", fault_keys[i], (long long)f->n));
    }
    return OK;
}

static enum status print_agreement(const struct totals *t, struct text *out) {
    if (t->several == 0) {
        return OK;
    }
    log_root(LOG_INFO,
             "%lld pairs have several answers: %.1f %% of the others are like an answer, Krippendorff's "
             "alpha %.3f",
             (long long)t->several, 100 * t->share, t->alpha);
    TRY(text_printf(out, ", \"agreement\": {\"pairs\": %lld, \"share\": ", (long long)t->several));
    TRY(text_json_number(out, t->share));
    TRY(text_puts(out, ", \"krippendorff_alpha\": "));
    TRY(text_json_number(out, t->alpha));
    return text_puts(out, "}");
}

/* How often the side that was shown as a is preferred: far from a half, annotators go by the place. */
static enum status print_places(const struct answers *a, struct text *out) {
    int64_t decided = 0;
    int64_t of_a = 0;
    for (int64_t i = 0; i < a->n; i++) {
        decided += a->votes[i].preference != PREFER_NEITHER;
        of_a += a->votes[i].preference == (a->votes[i].low_is_a ? PREFER_LOW : PREFER_HIGH);
    }
    if (decided == 0) {
        return OK;
    }
    double share = (double)of_a / (double)decided;
    log_root(LOG_INFO, "%.1f %% of %lld answers prefer the response that was shown as a", 100 * share,
             (long long)decided);
    TRY(text_puts(out, ", \"prefer_a\": "));
    return text_json_number(out, share);
}

static enum status print_totals(const struct answers *a, const struct totals *t, struct text *out) {
    double share = t->possible > 0 ? (double)t->labeled / (double)t->possible : 0;
    log_root(LOG_INFO,
             "%lld answers in %lld lines for %lld pairs: %lld get a label, %lld are ties, in %lld no "
             "answer has more than another",
             (long long)a->n, (long long)a->lines, (long long)a->n_verdicts, (long long)t->labeled,
             (long long)t->ties, (long long)t->torn);
    log_root(LOG_INFO,
             "labeled: %lld of the %lld pairs that prompts' responses make (%.2f %%), %lld of %lld prompts",
             (long long)t->labeled, (long long)t->possible, 100 * share, (long long)t->labeled_prompts,
             (long long)t->prompts);
    TRY(text_printf(
        out,
        ", \"lines\": %lld, \"answers\": %lld, \"pairs\": %lld, \"labeled\": %lld, \"ties\": %lld, "
        "\"undecided\": %lld, \"labeled_prompts\": %lld, \"prompts\": %lld, \"possible_pairs\": "
        "%lld, \"labeled_share\": ",
        (long long)a->lines, (long long)a->n, (long long)a->n_verdicts, (long long)t->labeled,
        (long long)t->ties, (long long)t->torn, (long long)t->labeled_prompts, (long long)t->prompts,
        (long long)t->possible));
    return text_json_number(out, share);
}

static enum status print(const struct answers *a, const struct totals *t, struct text *out) {
    const struct answers_options *o = a->options;
    TRY(text_puts(out, "{\"strategy\": \"answers\", \"data\": "));
    TRY(text_json(out, o->data, strlen(o->data)));
    TRY(text_puts(out, ", \"answers_from\": "));
    TRY(text_json(out, o->answers, strlen(o->answers)));
    TRY(print_totals(a, t, out));
    TRY(print_faults(a, out));
    TRY(print_places(a, out));
    TRY(print_agreement(t, out));
    return text_puts(out, "}\n");
}

enum status answers_report(const struct answers *a) {
    struct totals t = {0};
    struct text out = {0};
    enum status st = count_verdicts(a, &t);
    st = st == OK ? count_possible(a, &t) : st;
    TRY(comm_agree(a->comm, st));
    int64_t sums[] = {t.prompts, t.possible};
    TRY(comm_sum_i64(a->comm, sums, 2));
    t.prompts = sums[0];
    t.possible = sums[1];
    agree(a, &t);
    st = print(a, &t, &out);
    if (st == OK && t.labeled == 0) {
        st = fail(ERR_DATA, "%s: no answer gives a label", a->options->answers);
    }
    st = st == OK ? selection_put_report(a->comm, a->options->report, a->options->output, &out) : st;
    text_free(&out);
    return comm_agree(a->comm, st);
}
