/* Numbers of a reward model over prompts: every one is a ratio of sums over prompts, resampled by prompt
 * because the pairs of a prompt share responses. */
#include "command/evaluate_reward.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "command/labels.h"
#include "command/subsets.h"
#include "mpi/watchdog.h"
#include "train/bootstrap.h"
#include "train/evaluate.h"
#include "train/metrics.h"
#include "util/hash.h"
#include "util/mem.h"

/* Values: some alone, then groups of accuracies. best_of: expected score of the response that the model
 * prefers among k random ones of a prompt. */
enum value {
    VALUE_LOSS,
    VALUE_ACCURACY,
    VALUE_MARGIN,
    VALUE_CHOSEN,
    VALUE_REJECTED,
    VALUE_MEAN,
    VALUE_TRUTH,  /* the model prefers the response that is really better */
    VALUE_LABELS, /* LABELS_MEASURES of them */
    VALUE_LAST_LABELS = VALUE_LABELS + LABELS_MEASURES - 1,
    VALUE_ALONE, /* number of values that stand alone */
    VALUE_BEST = VALUE_ALONE,
    BEST_COUNT = 7, /* k = 1, 2, 4, … 64 */
    VALUE_ORACLE = VALUE_BEST + BEST_COUNT,
    VALUE_HIT,
    VALUE_LENGTH,
    LENGTH_COUNT = 12,
    VALUE_DIFFERENCE = VALUE_LENGTH + LENGTH_COUNT,
    DIFFERENCE_COUNT = 3,
    VALUE_GAP = VALUE_DIFFERENCE + DIFFERENCE_COUNT,
    GAP_COUNT = 8,
    VALUE_SUBSET = VALUE_GAP + GAP_COUNT
};
static const char *const alone[VALUE_LABELS] = {
    "loss", "accuracy", "margin", "rewards/chosen", "rewards/rejected", "mean_reward", "truth_accuracy"};
static const char *alone_name(int v) {
    return v < VALUE_LABELS ? alone[v] : label_names[v - VALUE_LABELS];
}
/* Mean tokens of a pair's two responses: below 16, then doubling. */
static const char *const lengths[LENGTH_COUNT] = {
    "below 16",    "16 to 31",     "32 to 63",     "64 to 127",    "128 to 255",    "256 to 511",
    "512 to 1023", "1024 to 2047", "2048 to 4095", "4096 to 8191", "8192 to 16383", "16384 and more"};
static const char *const differences[DIFFERENCE_COUNT] = {"chosen shorter", "within a tenth",
                                                          "chosen longer"};
static const char *const gaps[GAP_COUNT] = {"up to 0.25", "0.25 to 0.5", "0.5 to 1", "1 to 2",
                                            "2 to 4",     "4 to 8",      "8 to 16",  "above 16"};

struct totals {
    double *numerators, *denominators;
};
struct reward_evaluation {
    struct session *session;
    struct recipe recipe;
    struct bootstrap bootstrap;
    const struct dataset_facts *facts; /* the data's */
    int n_values;
    struct totals row;       /* n_values each */
    struct exact_sums exact; /* numerator and denominator of each value */
    double *totals;          /* the same over all rows of all ranks */
    double *low, *high;
    int32_t *order; /* scratch: a prompt's responses by reward */
    int64_t order_capacity;
    enum status status; /* of visits */
    struct sums sums;
    struct text *out;
};

static void count(struct reward_evaluation *e, int value, double numerator, double denominator) {
    e->row.numerators[value] += numerator;
    e->row.denominators[value] += denominator;
}

static int doubling(double x, double first, int last) {
    int i = 0;
    double edge = first;
    while (i < last && x >= edge) {
        edge *= 2;
        i++;
    }
    return i;
}

/* Scores and truth beside the label, and the truth beside the model; where they order the pair. */
static void visit_label(struct reward_evaluation *e, const struct sample_response *chosen,
                        const struct sample_response *rejected, double difference) {
    const float c[LABELS_MEASURES] = {chosen->score, chosen->worth};
    const float r[LABELS_MEASURES] = {rejected->score, rejected->worth};
    for (int m = 0; m < LABELS_MEASURES; m++) {
        if (label_is_ordered(c[m], r[m])) {
            count(e, VALUE_LABELS + m, label_agrees(c[m], r[m]), 1);
        }
    }
    if (label_is_ordered(chosen->worth, rejected->worth)) {
        count(e, VALUE_TRUTH, chosen->worth > rejected->worth ? difference > 0 : difference < 0, 1);
    }
}

static void visit_pair(struct reward_evaluation *e, const struct scored_row *row,
                       const struct sample_pair *p) {
    const struct sample_response *chosen = &row->sample->responses[p->chosen];
    const struct sample_response *rejected = &row->sample->responses[p->rejected];
    double r_c = row->scores[p->chosen].value;
    double r_r = row->scores[p->rejected].value;
    double accurate = r_c > r_r;
    double mean = ((double)chosen->count + rejected->count) / 2;
    double difference = (double)chosen->count - rejected->count;
    double gap = (double)chosen->score - (double)rejected->score;
    count(e, VALUE_ACCURACY, accurate, 1);
    count(e, VALUE_MARGIN, r_c - r_r, 1);
    count(e, VALUE_CHOSEN, r_c, 1);
    count(e, VALUE_REJECTED, r_r, 1);
    visit_label(e, chosen, rejected, r_c - r_r);
    count(e, VALUE_LENGTH + doubling(mean, 16, LENGTH_COUNT - 1), accurate, 1);
    count(e, VALUE_DIFFERENCE + (fabs(difference) <= 0.1 * mean ? 1 : difference < 0 ? 0 : 2), accurate, 1);
    if (!isnan(gap)) {
        gap = fabs(gap);
        int bucket = 0;
        double edge = 0.25;
        while (bucket < GAP_COUNT - 1 && gap > edge) {
            edge *= 2;
            bucket++;
        }
        count(e, VALUE_GAP + bucket, accurate, 1);
    }
    if (row->sample->subset >= 0) {
        count(e, VALUE_SUBSET + row->sample->subset, accurate, 1);
    }
}

/* Scored responses by reward, the highest first; equal rewards keep their order. Prompts are short lists. */
static enum status sort_responses(struct reward_evaluation *e, const struct scored_row *row, int32_t *n) {
    const struct sample *s = row->sample;
    *n = 0;
    TRY(GROW_ARRAY(e->order, e->order_capacity, (int64_t)s->n_responses + 1));
    for (int32_t i = 0; i < s->n_responses; i++) {
        if (isnan(s->responses[i].score)) {
            continue;
        }
        int32_t at = (*n)++;
        for (; at > 0 && row->scores[e->order[at - 1]].value < row->scores[i].value; at--) {
            e->order[at] = e->order[at - 1];
        }
        e->order[at] = i;
    }
    return OK;
}

/* The response of rank i (from 0) is the best of k random ones among n with probability C(n-1-i, k-1) /
 * C(n, k), which is k/n for i = 0 and goes on by the ratio (n-k-i) / (n-1-i). */
static enum status visit_best(struct reward_evaluation *e, const struct scored_row *row) {
    const struct sample_response *responses = row->sample->responses;
    int32_t n;
    double best = -INFINITY;
    TRY(sort_responses(e, row, &n));
    if (n < 2) {
        return OK;
    }
    for (int32_t i = 0; i < n; i++) {
        best = fmax(best, (double)responses[e->order[i]].score);
    }
    for (int b = 0; b < BEST_COUNT && 1 << b <= n; b++) {
        double k = 1 << b;
        double probability = k / n;
        double expected = 0;
        for (int32_t i = 0; i < n && probability > 0; i++) {
            expected += probability * (double)responses[e->order[i]].score;
            probability *= i < n - 1 ? (n - k - i) / (n - 1 - i) : 0;
        }
        count(e, VALUE_BEST + b, expected, 1);
    }
    count(e, VALUE_ORACLE, best, 1);
    count(e, VALUE_HIT, (double)responses[e->order[0]].score >= best, 1);
    return OK;
}

static void visit(void *context, const struct scored_row *row) {
    struct reward_evaluation *e = context;
    const struct denominators unused = {1, 1};
    struct sums sums = {0};
    for (int v = 0; v < e->n_values; v++) {
        e->row.numerators[v] = e->row.denominators[v] = 0;
    }
    recipe_row(&e->recipe, row, &unused, NULL, &sums); /* checked by evaluate_rows */
    count(e, VALUE_LOSS, sums.v[SUM_LOSS], row->sample->n_pairs > 0);
    count(e, VALUE_MEAN, sums.v[SUM_VALUES], sums.v[SUM_RESPONSES]);
    for (int32_t i = 0; i < row->sample->n_pairs; i++) {
        visit_pair(e, row, &row->sample->pairs[i]);
    }
    enum status st = visit_best(e, row);
    e->status = e->status == OK ? st : e->status;
    for (int v = 0; v < e->n_values; v++) {
        exact_add(&e->exact, 2 * v, exact_of(&e->exact, e->row.numerators[v]), 1);
        exact_add(&e->exact, 2 * v + 1, exact_of(&e->exact, e->row.denominators[v]), 1);
    }
    bootstrap_add(&e->bootstrap, row->sample->row, e->row.numerators, e->row.denominators);
}

static double rows_of(const struct reward_evaluation *e, int v) {
    return e->totals[2 * v + 1];
}

static double value_of(const struct reward_evaluation *e, int v) {
    return rows_of(e, v) > 0 ? e->totals[2 * v] / rows_of(e, v) : NAN;
}

/* "name": {"value_name": x, "count_name": n, "interval": [low, high]} */
static enum status put_member(struct reward_evaluation *e, const char *name, int v, const char *keys[2]) {
    struct text *out = e->out;
    TRY(text_json(out, name, strlen(name)));
    TRY(text_printf(out, ": {\"%s\": ", keys[0]));
    TRY(text_json_number(out, value_of(e, v)));
    TRY(text_printf(out, ", \"%s\": %.0f", keys[1], rows_of(e, v)));
    if (e->bootstrap.samples > 0) {
        TRY(text_puts(out, ", \"interval\": ["));
        TRY(text_json_number(out, e->low[v]));
        TRY(text_puts(out, ", "));
        TRY(text_json_number(out, e->high[v]));
        TRY(text_puts(out, "]"));
    }
    return text_puts(out, "}");
}

/* Members without a row are left out. */
static enum status put_group(struct reward_evaluation *e, const char *name, int first, int n,
                             const char *const *names, const char *keys[2]) {
    const char *separator = "";
    TRY(text_printf(e->out, ", \"%s\": {", name));
    for (int i = 0; i < n; i++) {
        if (rows_of(e, first + i) > 0) {
            TRY(text_puts(e->out, separator));
            TRY(put_member(e, names[i], first + i, keys));
            separator = ", ";
        }
    }
    return text_puts(e->out, "}");
}

static enum status put_sections(struct reward_evaluation *e) {
    double *accuracies;
    struct section_score sections[SECTION_COUNT];
    double sum = 0;
    int n = 0;
    TRY(NEW_ARRAY(accuracies, e->facts->n_subsets));
    for (int i = 0; i < e->facts->n_subsets; i++) {
        accuracies[i] = value_of(e, VALUE_SUBSET + i);
    }
    int used = subsets_sections(e->facts->n_subsets, e->facts->subsets, accuracies, sections);
    mem_free(accuracies);
    if (used == 0) {
        return OK; /* subsets of another benchmark */
    }
    TRY(text_puts(e->out, ", \"sections\": {"));
    for (int i = 0; i < SECTION_COUNT; i++) {
        if (sections[i].weight > 0) {
            TRY(text_printf(e->out, "%s\"%s\": ", n ? ", " : "", sections[i].name));
            TRY(text_json_number(e->out, sections[i].accuracy));
            sum += sections[i].accuracy;
            n++;
        }
    }
    TRY(text_puts(e->out, "}"));
    return metrics_put(e->out, "", "sections_mean", sum / n);
}

static enum status put_best(struct reward_evaluation *e) {
    static const char *keys[2] = {"score", "prompts"};
    static const char *hit_keys[2] = {"share", "prompts"};
    char names[BEST_COUNT][16];
    const char *list[BEST_COUNT + 1];
    if (!(rows_of(e, VALUE_ORACLE) > 0)) {
        return OK;
    }
    for (int b = 0; b < BEST_COUNT; b++) {
        snprintf(names[b], sizeof names[b], "%d", 1 << b);
        list[b] = names[b];
    }
    list[BEST_COUNT] = "oracle";
    TRY(put_group(e, "best_of", VALUE_BEST, BEST_COUNT + 1, list, keys));
    TRY(text_puts(e->out, ", "));
    return put_member(e, "picks_the_best", VALUE_HIT, hit_keys);
}

static enum status print_result(struct reward_evaluation *e) {
    static const char *keys[2] = {"accuracy", "pairs"};
    const struct session *s = e->session;
    struct text *out = e->out;
    char digits[17];
    hash_text(s->model_hash, digits);
    TRY(metrics_put(out, "", "rows", e->sums.v[SUM_ROWS]));
    TRY(metrics_put(out, "", "pairs", e->sums.v[SUM_PAIRS]));
    TRY(metrics_put(out, "", "responses", e->sums.v[SUM_RESPONSES]));
    TRY(text_printf(out, ", \"model_hash\": \"%s\"", digits));
    hash_text(dataset_hash(s->train.data), digits);
    TRY(text_printf(out, ", \"data_hash\": \"%s\"", digits));
    for (int v = 0; v < VALUE_ALONE; v++) {
        if (rows_of(e, v) > 0) {
            TRY(metrics_put(out, "", alone_name(v), value_of(e, v)));
        }
    }
    TRY(metrics_put(out, "", "min_reward", e->sums.lowest));
    TRY(metrics_put(out, "", "max_reward", e->sums.highest));
    TRY(put_group(e, "by_length", VALUE_LENGTH, LENGTH_COUNT, lengths, keys));
    TRY(put_group(e, "by_length_difference", VALUE_DIFFERENCE, DIFFERENCE_COUNT, differences, keys));
    TRY(put_group(e, "by_score_gap", VALUE_GAP, GAP_COUNT, gaps, keys));
    if (e->facts->n_subsets > 0) {
        TRY(put_group(e, "subsets", VALUE_SUBSET, e->facts->n_subsets, (const char *const *)e->facts->subsets,
                      keys));
        TRY(put_sections(e));
    }
    TRY(put_best(e));
    if (e->bootstrap.samples > 0) {
        TRY(metrics_put(out, "", "confidence", s->settings->evaluate.confidence));
        TRY(text_puts(out, ", \"intervals\": {"));
        for (int v = 0, n = 0; v < VALUE_ALONE; v++) {
            if (rows_of(e, v) > 0) {
                TRY(text_printf(out, "%s\"%s\": [", n++ ? ", " : "", alone_name(v)));
                TRY(text_json_number(out, e->low[v]));
                TRY(text_puts(out, ", "));
                TRY(text_json_number(out, e->high[v]));
                TRY(text_puts(out, "]"));
            }
        }
        TRY(text_puts(out, "}"));
    }
    return text_puts(out, "}\n");
}

static enum status allocate(struct reward_evaluation *e) {
    const struct settings *settings = e->session->settings;
    double **arrays[] = {&e->row.numerators, &e->row.denominators, &e->low, &e->high};
    e->n_values = VALUE_SUBSET + e->facts->n_subsets;
    for (int i = 0; i < COUNT_OF(arrays); i++) {
        TRY(NEW_ARRAY(*arrays[i], e->n_values));
    }
    TRY(NEW_ARRAY(e->totals, 2 * (int64_t)e->n_values));
    TRY(exact_open(2 * (int64_t)e->n_values, &e->exact));
    return bootstrap_open((uint64_t)settings->seed, settings->evaluate.bootstrap, e->n_values, &e->bootstrap);
}

static enum status run_rows(struct reward_evaluation *e) {
    struct session *s = e->session;
    struct scorer scorer = {0};
    struct batch_source source = session_evaluation(s, &s->train);
    TRY(session_workspace(s, s->model, KEEP_NOTHING, &s->workspace));
    enum status st = allocate(e);
    st = st == OK ? scorer_open(s->model, &s->workspace, KEEP_NOTHING, &scorer) : st;
    TRY_TO(done, comm_agree(s->comm, st));
    watchdog_phase(s->comm->watchdog, "evaluating");
    TRY_TO(done, evaluate_rows(s->comm, &scorer, &source, &e->recipe, visit, e, &e->sums));
    TRY_TO(done, comm_agree(s->comm, e->status));
    TRY_TO(done, exact_reduce(s->comm, &e->exact, e->totals));
    TRY_TO(done,
           bootstrap_intervals(s->comm, &e->bootstrap, s->settings->evaluate.confidence, e->low, e->high));
    st = comm_agree(s->comm, print_result(e));
done:
    scorer_close(&scorer);
    return st;
}

static enum status open_rows(struct reward_evaluation *e) {
    struct session *s = e->session;
    const struct settings *settings = s->settings;
    const struct rows_request request = {
        .path = settings->data, .key = "data", .kind = ROWS_PROMPTS, .limit = settings->evaluate.rows};
    if (*settings->reference) {
        return fail(ERR_USAGE, "reference is set, but %s is a reward model, which needs none",
                    settings->model);
    }
    TRY(session_open_rows(s, &request, &s->train));
    e->facts = dataset_facts(s->train.data);
    return OK;
}

enum status evaluate_reward(struct session *s, struct text *out) {
    const struct settings *settings = s->settings;
    struct reward_evaluation e = {
        .session = s,
        .out = out,
        .recipe = {.kind = RECIPE_REWARD,
                   .reward = {.use_margin = settings->reward.margin,
                              .centering = settings->reward.centering}},
    };
    enum status st = open_rows(&e);
    st = st == OK && !s->run->dry_run ? run_rows(&e) : st;
    double *arrays[] = {e.row.numerators, e.row.denominators, e.totals, e.low, e.high};
    for (int i = 0; i < COUNT_OF(arrays); i++) {
        mem_free(arrays[i]);
    }
    mem_free(e.order);
    bootstrap_close(&e.bootstrap);
    exact_close(&e.exact);
    return st;
}
