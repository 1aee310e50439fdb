/* Numbers of a reward model over prompts: every one is a ratio of sums over prompts, resampled by prompt
 * because the pairs of a prompt share responses. */
#include "evaluate/values.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "evaluate/breakdown.h"
#include "evaluate/evaluation.h"
#include "evaluate/labels.h"
#include "evaluate/metrics.h"
#include "evaluate/reward_bench.h"
#include "mpi/watchdog.h"
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
    VALUE_TRUTH,   /* the model prefers the response that is really better */
    VALUE_LEFT,    /* pairs whose rewards differ by less than label_margin: left to annotators */
    VALUE_TRUSTED, /* the others: the label is what the model says */
    VALUE_LABELS,  /* LABELS_MEASURES of them */
    VALUE_LAST_LABELS = VALUE_LABELS + LABELS_MEASURES - 1,
    VALUE_ALONE, /* number of values that stand alone */
    VALUE_BEST = VALUE_ALONE,
    BEST_COUNT = 7, /* k = 1, 2, 4, … 64 */
    VALUE_ORACLE = VALUE_BEST + BEST_COUNT,
    VALUE_HIT,
    VALUE_BREAKDOWN /* breakdown_size of them, then one for each subset of RewardBench 2 */
};
static const char *const alone[VALUE_LABELS] = {"loss",
                                                "accuracy",
                                                "margin",
                                                "rewards/chosen",
                                                "rewards/rejected",
                                                "mean_reward",
                                                "truth_accuracy",
                                                "labels/below_margin",
                                                "labels/agree_above_margin"};
static const char *alone_name(int v) {
    return v < VALUE_LABELS ? alone[v] : label_names[v - VALUE_LABELS];
}
struct reward_evaluation {
    const struct values_options *options;
    const struct terms *terms;
    const struct dataset_facts *facts; /* the data's */
    struct ratios ratios;
    int32_t *order; /* scratch: a prompt's responses by reward */
    int64_t order_capacity;
    bool is_bench; /* the data are RewardBench 2's */
    struct reward_bench bench;
    double *rewards; /* scratch: of a prompt's responses */
    int64_t rewards_capacity;
    enum status status; /* of visits */
    struct sums sums;
    struct text benched; /* what is said of it */
    struct text *out;
};

/* Scores and truth beside the label, and the truth beside the model; where they order the pair. */
static void visit_label(struct reward_evaluation *e, const struct sample_response *chosen,
                        const struct sample_response *rejected, double difference) {
    const struct label_pair pair = {{chosen->score, chosen->worth}, {rejected->score, rejected->worth}};
    labels_count(&e->ratios, VALUE_LABELS, &pair);
    if (label_is_ordered(chosen->worth, rejected->worth)) {
        ratios_count(&e->ratios, VALUE_TRUTH,
                     chosen->worth > rejected->worth ? difference > 0 : difference < 0, 1);
    }
}

/* Who would have to label the pair, if the model is believed from a difference of rewards on. */
static void visit_margin(struct reward_evaluation *e, double difference) {
    double margin = e->options->label_margin;
    bool is_left = fabs(difference) < margin;
    if (margin > 0) {
        ratios_count(&e->ratios, VALUE_LEFT, is_left, 1);
    }
    if (margin > 0 && !is_left) {
        ratios_count(&e->ratios, VALUE_TRUSTED, difference > 0, 1);
    }
}

static void visit_pair(struct reward_evaluation *e, const struct sample *sample, const struct scored_row *row,
                       const struct compared *p) {
    const struct sample_response *chosen = &sample->responses[p->chosen];
    const struct sample_response *rejected = &sample->responses[p->rejected];
    double r_c = row->responses[p->chosen].value;
    double r_r = row->responses[p->rejected].value;
    const struct breakdown_pair pair = {chosen, rejected, r_c > r_r};
    ratios_count(&e->ratios, VALUE_ACCURACY, pair.is_accurate, 1);
    ratios_count(&e->ratios, VALUE_MARGIN, r_c - r_r, 1);
    ratios_count(&e->ratios, VALUE_CHOSEN, r_c, 1);
    ratios_count(&e->ratios, VALUE_REJECTED, r_r, 1);
    visit_label(e, chosen, rejected, r_c - r_r);
    visit_margin(e, r_c - r_r);
    breakdown_count(&e->ratios, VALUE_BREAKDOWN, sample, &pair);
}

/* Scored responses by reward, the highest first; equal rewards keep their order. Prompts are short lists. */
static enum status sort_responses(struct reward_evaluation *e, const struct scored_row *row, int32_t *n) {
    const struct response_score *r = row->responses;
    *n = 0;
    TRY(GROW_ARRAY(e->order, e->order_capacity, (int64_t)row->n + 1));
    for (int32_t i = 0; i < row->n; i++) {
        if (isnan(r[i].label)) {
            continue;
        }
        int32_t at = (*n)++;
        for (; at > 0 && r[e->order[at - 1]].value < r[i].value; at--) {
            e->order[at] = e->order[at - 1];
        }
        e->order[at] = i;
    }
    return OK;
}

/* The response of rank i (from 0) is the best of k random ones among n with probability C(n-1-i, k-1) /
 * C(n, k), which is k/n for i = 0 and goes on by the ratio (n-k-i) / (n-1-i). */
static enum status visit_best(struct reward_evaluation *e, const struct scored_row *row) {
    const struct response_score *responses = row->responses;
    int32_t n;
    double best = -INFINITY;
    TRY(sort_responses(e, row, &n));
    if (n < 2) {
        return OK;
    }
    for (int32_t i = 0; i < n; i++) {
        best = fmax(best, responses[e->order[i]].label);
    }
    for (int b = 0; b < BEST_COUNT && 1 << b <= n; b++) {
        double k = 1 << b;
        double probability = k / n;
        double expected = 0;
        for (int32_t i = 0; i < n && probability > 0; i++) {
            expected += probability * responses[e->order[i]].label;
            probability *= i < n - 1 ? (n - k - i) / (n - 1 - i) : 0;
        }
        ratios_count(&e->ratios, VALUE_BEST + b, expected, 1);
    }
    ratios_count(&e->ratios, VALUE_ORACLE, best, 1);
    ratios_count(&e->ratios, VALUE_HIT, responses[e->order[0]].label >= best, 1);
    return OK;
}

static enum status visit_bench(struct reward_evaluation *e, const struct sample *sample,
                               const struct scored_row *row) {
    TRY(GROW_ARRAY(e->rewards, e->rewards_capacity, row->n));
    for (int32_t i = 0; i < row->n; i++) {
        e->rewards[i] = row->responses[i].value;
    }
    return reward_bench_count(&e->bench, &e->ratios, sample, e->rewards);
}

static void visit(void *context, const struct sample *sample, const struct scored_row *row,
                  const struct sums *sums) {
    struct reward_evaluation *e = context;
    ratios_count(&e->ratios, VALUE_LOSS, sums->v[SUM_LOSS], row->n_pairs > 0);
    ratios_count(&e->ratios, VALUE_MEAN, sums->v[SUM_VALUES], sums->v[SUM_RESPONSES]);
    for (int32_t i = 0; i < row->n_pairs; i++) {
        visit_pair(e, sample, row, &row->pairs[i]);
    }
    enum status st = visit_best(e, row);
    st = st == OK && e->is_bench ? visit_bench(e, sample, row) : st;
    e->status = e->status == OK ? st : e->status;
    ratios_end_row(&e->ratios, evaluation_unit(sample));
}

static enum status put_best(struct reward_evaluation *e) {
    static const char *const keys[2] = {"score", "prompts"};
    static const char *const hit_keys[2] = {"share", "prompts"};
    char names[BEST_COUNT][16];
    const char *list[BEST_COUNT + 1];
    const struct ratios_group group = {"best_of", VALUE_BEST, BEST_COUNT + 1, list, keys};
    if (!(ratios_rows(&e->ratios, VALUE_ORACLE) > 0)) {
        return OK;
    }
    for (int b = 0; b < BEST_COUNT; b++) {
        snprintf(names[b], sizeof names[b], "%d", 1 << b);
        list[b] = names[b];
    }
    list[BEST_COUNT] = "oracle";
    TRY(ratios_put_group(&e->ratios, &group, e->out));
    TRY(text_puts(e->out, ", "));
    return ratios_put_member(&e->ratios, "picks_the_best", VALUE_HIT, hit_keys, e->out);
}

static enum status print_result(struct reward_evaluation *e) {
    const struct values_options *o = e->options;
    const struct ratios *r = &e->ratios;
    const char *names[VALUE_ALONE] = {NULL};
    struct text *out = e->out;
    char digits[17];
    hash_text(o->model_hash, digits);
    TRY(metrics_put(out, "", "rows", e->sums.v[SUM_ROWS]));
    TRY(metrics_put(out, "", "pairs", e->sums.v[SUM_PAIRS]));
    TRY(metrics_put(out, "", "responses", e->sums.v[SUM_RESPONSES]));
    TRY(text_printf(out, ", \"model_hash\": \"%s\"", digits));
    hash_text(dataset_hash(o->rows->data), digits);
    TRY(text_printf(out, ", \"data_hash\": \"%s\"", digits));
    for (int v = 0; v < VALUE_ALONE; v++) {
        if (ratios_rows(r, v) > 0) {
            names[v] = alone_name(v);
            TRY(metrics_put(out, "", names[v], ratios_value(r, v)));
        }
    }
    TRY(metrics_put(out, "", "min_reward", e->sums.lowest));
    TRY(metrics_put(out, "", "max_reward", e->sums.highest));
    TRY(breakdown_print(r, VALUE_BREAKDOWN, e->facts, out));
    TRY(put_best(e));
    TRY(e->is_bench ? text_append(out, e->benched.data, e->benched.len) : OK);
    TRY(ratios_print(r, names, VALUE_ALONE, out));
    return text_puts(out, "}\n");
}

static enum status open_ratios(struct reward_evaluation *e) {
    int n = breakdown_size(e->facts);
    e->is_bench = reward_bench_applies(e->facts);
    e->bench = (struct reward_bench){.facts = e->facts, .first = VALUE_BREAKDOWN + n};
    n += e->is_bench ? e->facts->n_subsets : 0;
    TRY(ratios_open(&e->options->intervals, VALUE_BREAKDOWN + n, &e->ratios));
    ratios_are_shares(&e->ratios, VALUE_ACCURACY, 1);
    ratios_are_shares(&e->ratios, VALUE_TRUTH, 1 + LABELS_MEASURES);
    ratios_are_shares(&e->ratios, VALUE_HIT, 1 + n);
    return OK;
}

static enum status run_rows(struct reward_evaluation *e) {
    const struct values_options *o = e->options;
    struct scorer scorer = {0};
    enum status st = open_ratios(e);
    st = st == OK ? scorer_open(o->model, o->workspace, KEEP_NOTHING, &scorer) : st;
    TRY_TO(done, comm_agree(o->comm, st));
    watchdog_phase(o->comm->watchdog, "evaluating");
    TRY_TO(done, evaluate_rows(o->comm, &scorer, o->source, e->terms, visit, e, &e->sums));
    TRY_TO(done, comm_agree(o->comm, e->status));
    TRY_TO(done, ratios_reduce(o->comm, &e->ratios));
    TRY_TO(done, e->is_bench ? reward_bench_print(o->comm, &e->bench, &e->ratios, &e->benched) : OK);
    st = comm_agree(o->comm, print_result(e));
done:
    scorer_close(&scorer);
    return st;
}

enum status values_evaluate(const struct values_options *o, struct text *out) {
    struct terms terms = {.reward = o->reward};
    struct reward_evaluation e = {
        .options = o, .terms = &terms, .facts = dataset_facts(o->rows->data), .out = out};
    terms_one("reward", &terms);
    enum status st = run_rows(&e);
    mem_free(e.order);
    mem_free(e.rewards);
    reward_bench_free(&e.bench);
    text_free(&e.benched);
    ratios_close(&e.ratios);
    return st;
}
