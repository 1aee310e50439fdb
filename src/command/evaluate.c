/* evaluate: loss, margins, accuracies over exact rows, with bootstrap confidence intervals, as one object. */
#include <math.h>
#include <stdio.h>

#include "command/evaluate_reward.h"
#include "command/labels.h"
#include "command/session.h"
#include "io/file.h"
#include "mpi/watchdog.h"
#include "train/bootstrap.h"
#include "train/evaluate.h"
#include "train/metrics.h"
#include "util/hash.h"
#include "util/log.h"

/* Ratios with an interval. margin_raw is the log-ratio difference without beta. */
enum value {
    VALUE_LOSS,
    VALUE_REWARD_CHOSEN,
    VALUE_REWARD_REJECTED,
    VALUE_ACCURACY,
    VALUE_MARGIN,
    VALUE_MARGIN_RAW,
    VALUE_LOGP_CHOSEN,
    VALUE_LOGP_REJECTED,
    VALUE_LOGP_ACCURACY,
    VALUE_NLL,
    VALUE_NLL_REJECTED,
    VALUE_TOKEN_ACCURACY,
    VALUE_LABELS, /* LABELS_MEASURES of them */
    VALUE_COUNT = VALUE_LABELS + LABELS_MEASURES
};
enum need { NEED_NOTHING, NEED_PAIRS, NEED_REFERENCE };
static const struct {
    const char *name;
    enum need need;
} values[VALUE_LABELS] = {
    [VALUE_LOSS] = {"loss", NEED_REFERENCE},
    [VALUE_REWARD_CHOSEN] = {"rewards/chosen", NEED_REFERENCE},
    [VALUE_REWARD_REJECTED] = {"rewards/rejected", NEED_REFERENCE},
    [VALUE_ACCURACY] = {"rewards/accuracies", NEED_REFERENCE},
    [VALUE_MARGIN] = {"rewards/margins", NEED_REFERENCE},
    [VALUE_MARGIN_RAW] = {"margin_raw", NEED_REFERENCE},
    [VALUE_LOGP_CHOSEN] = {"logps/chosen", NEED_PAIRS},
    [VALUE_LOGP_REJECTED] = {"logps/rejected", NEED_PAIRS},
    [VALUE_LOGP_ACCURACY] = {"logps/accuracies", NEED_PAIRS},
    [VALUE_NLL] = {"nll", NEED_NOTHING},
    [VALUE_NLL_REJECTED] = {"nll/rejected", NEED_PAIRS},
    [VALUE_TOKEN_ACCURACY] = {"mean_token_accuracy", NEED_NOTHING},
};

struct evaluation {
    struct session session;
    struct recipe recipe;
    struct bootstrap bootstrap;
    struct text out;
    struct exact_sums exact;        /* numerator and denominator of every value */
    double totals[2 * VALUE_COUNT]; /* the same over all rows of all ranks */
};

static const char *name_of(int v) {
    return v < VALUE_LABELS ? values[v].name : label_names[v - VALUE_LABELS];
}

static bool applies(const struct evaluation *e, int v) {
    if (v >= VALUE_LABELS) {
        return e->recipe.kind == RECIPE_PREFERENCE && e->totals[2 * v + 1] > 0;
    }
    return values[v].need == NEED_NOTHING ||
           (values[v].need == NEED_PAIRS && e->recipe.kind == RECIPE_PREFERENCE) ||
           (values[v].need == NEED_REFERENCE && e->recipe.has_reference);
}

/* Whether the label of a pair is what scores and truth say. */
static void visit_label(const struct sample *sample, double *n, double *d) {
    const struct sample_response *r = sample->responses;
    bool has_label = sample->n_pairs == 1 && sample->pair.label;
    const float chosen[LABELS_MEASURES] = {r[0].score, r[0].worth};
    const float rejected[LABELS_MEASURES] = {r[1].score, r[1].worth};
    for (int m = 0; m < LABELS_MEASURES; m++) {
        n[m] = has_label && label_agrees(chosen[m], rejected[m]);
        d[m] = has_label && label_is_ordered(chosen[m], rejected[m]);
    }
}

/* A row's share of every ratio. */
static void visit(void *context, const struct scored_row *scored) {
    struct evaluation *e = context;
    const struct response_score *scores = scored->scores;
    const struct denominators unused = {1, 1};
    double n[VALUE_COUNT] = {0};
    double d[VALUE_COUNT];
    for (int v = 0; v < VALUE_COUNT; v++) {
        d[v] = 1;
    }
    d[VALUE_NLL] = d[VALUE_TOKEN_ACCURACY] = (double)scores[0].tokens;
    d[VALUE_NLL_REJECTED] = (double)scores[1].tokens;
    n[VALUE_NLL] = -scores[0].logp;
    n[VALUE_NLL_REJECTED] = -scores[1].logp;
    n[VALUE_TOKEN_ACCURACY] = (double)scores[0].top;
    n[VALUE_LOGP_CHOSEN] = scores[0].logp;
    n[VALUE_LOGP_REJECTED] = scores[1].logp;
    n[VALUE_LOGP_ACCURACY] = scores[0].logp > scores[1].logp;
    if (e->recipe.kind == RECIPE_PREFERENCE) {
        visit_label(scored->sample, n + VALUE_LABELS, d + VALUE_LABELS);
    }
    if (scored->reference) {
        struct sums row = {0};
        recipe_row(&e->recipe, scored, &unused, NULL, &row);
        n[VALUE_LOSS] = row.v[SUM_LOSS];
        n[VALUE_REWARD_CHOSEN] = row.v[SUM_REWARD_CHOSEN];
        n[VALUE_REWARD_REJECTED] = row.v[SUM_REWARD_REJECTED];
        n[VALUE_ACCURACY] = row.v[SUM_ACCURATE];
        n[VALUE_MARGIN] = row.v[SUM_REWARD_CHOSEN] - row.v[SUM_REWARD_REJECTED];
        n[VALUE_MARGIN_RAW] = n[VALUE_MARGIN] / e->recipe.options.beta;
    }
    for (int v = 0; v < VALUE_COUNT; v++) {
        exact_add(&e->exact, 2 * v, exact_of(&e->exact, n[v]), 1);
        exact_add(&e->exact, 2 * v + 1, exact_of(&e->exact, d[v]), 1);
    }
    bootstrap_add(&e->bootstrap, scored->sample->row, n, d);
}

static double ratio(const struct evaluation *e, int v) {
    return e->totals[2 * v + 1] > 0 ? e->totals[2 * v] / e->totals[2 * v + 1] : NAN;
}

static enum status print_hashes(const struct session *s, struct text *out) {
    char digits[17];
    hash_text(s->model_hash, digits);
    TRY(text_printf(out, ", \"model_hash\": \"%s\"", digits));
    hash_text(dataset_hash(s->train.data), digits);
    return text_printf(out, ", \"data_hash\": \"%s\"", digits);
}

static enum status print_intervals(struct evaluation *e, const double *low, const double *high) {
    struct text *out = &e->out;
    TRY(metrics_put(out, "", "confidence", e->session.settings->evaluate.confidence));
    TRY(text_puts(out, ", \"intervals\": {"));
    const char *separator = "";
    for (int v = 0; v < VALUE_COUNT; v++) {
        if (applies(e, v)) {
            TRY(text_printf(out, "%s\"%s\": [", separator, name_of(v)));
            TRY(text_json_number(out, low[v]));
            TRY(text_puts(out, ", "));
            TRY(text_json_number(out, high[v]));
            TRY(text_puts(out, "]"));
            separator = ", ";
        }
    }
    return text_puts(out, "}");
}

static enum status print_result(struct evaluation *e, const struct sums *sums, const double *low,
                                const double *high) {
    struct text *out = &e->out;
    double tokens = sums->v[SUM_TARGET_TOKENS] + sums->v[SUM_REJECTED_TOKENS];
    TRY(metrics_put(out, "", "rows", sums->v[SUM_ROWS]));
    TRY(print_hashes(&e->session, out));
    if (e->recipe.target_weight != 0) {
        TRY(metrics_put(out, "", "loss_with_sft", recipe_value(&e->recipe, sums)));
    }
    for (int v = 0; v < VALUE_COUNT; v++) {
        if (applies(e, v)) {
            TRY(metrics_put(out, "", name_of(v), ratio(e, v)));
        }
    }
    TRY(metrics_put(out, "", "perplexity", exp(ratio(e, VALUE_NLL))));
    TRY(metrics_put(out, "", "entropy", sums->v[SUM_ENTROPY] / tokens));
    if (e->session.settings->evaluate.bootstrap > 0) {
        TRY(print_intervals(e, low, high));
    }
    return text_puts(out, "}\n");
}

static enum status deliver(const struct evaluation *e) {
    const struct session *s = &e->session;
    if (s->comm->rank != 0) {
        return OK;
    }
    if (*s->settings->output) {
        return file_write(s->settings->output, e->out.data, e->out.len);
    }
    fputs(e->out.data, stdout);
    return fflush(stdout) == 0 ? OK : fail(ERR_WRITE, "standard output: cannot write");
}

static enum status run_rows(struct evaluation *e) {
    struct session *s = &e->session;
    struct scorer scorer = {0};
    struct sums sums;
    double low[VALUE_COUNT];
    double high[VALUE_COUNT];
    struct batch_source source = session_evaluation(s, &s->train);
    TRY(session_workspace(s, s->model, KEEP_NOTHING, &s->workspace));
    enum status st = bootstrap_open((uint64_t)s->settings->seed, s->settings->evaluate.bootstrap, VALUE_COUNT,
                                    &e->bootstrap);
    st = st == OK ? exact_open(2 * VALUE_COUNT, &e->exact) : st;
    st = st == OK ? scorer_open(s->model, &s->workspace, KEEP_NOTHING, &scorer) : st;
    TRY_TO(done, comm_agree(s->comm, st));
    watchdog_phase(s->comm->watchdog, "evaluating");
    TRY_TO(done, evaluate_rows(s->comm, &scorer, &source, &e->recipe, visit, e, &sums));
    TRY_TO(done, exact_reduce(s->comm, &e->exact, e->totals));
    TRY_TO(done, bootstrap_intervals(s->comm, &e->bootstrap, s->settings->evaluate.confidence, low, high));
    st = print_result(e, &sums, low, high);
    st = st == OK ? deliver(e) : st;
    st = comm_agree(s->comm, st);
done:
    scorer_close(&scorer);
    return st;
}

static enum status evaluate_work(struct evaluation *e) {
    struct session *s = &e->session;
    const struct settings *settings = s->settings;
    struct rows_request request = {.path = settings->data, .key = "data", .limit = settings->evaluate.rows};
    TRY(session_need(settings->data, "data"));
    if (!*settings->model) {
        TRY(labels_evaluate(s, &e->out));
        return s->run->dry_run ? OK : comm_agree(s->comm, deliver(e));
    }
    TRY(session_open_backend(s, NULL, true));
    TRY(session_open_model(s));
    if (s->model->config.head == HEAD_SCORE) {
        TRY(evaluate_reward(s, &e->out));
        return s->run->dry_run ? OK : comm_agree(s->comm, deliver(e));
    }
    TRY(session_row_kind(s, request.path, ROWS_RESPONSES, &request.kind));
    TRY(session_open_rows(s, &request, &s->train));
    bool pairs = request.kind == ROWS_PAIRS;
    e->recipe.kind = pairs ? RECIPE_PREFERENCE : RECIPE_SFT;
    e->recipe.has_reference = pairs && *settings->reference;
    if (s->run->dry_run) {
        return OK;
    }
    if (e->recipe.has_reference) {
        struct batch_source source = session_evaluation(s, &s->train);
        const struct reference_request reference = {
            .rows = &s->train, .source = &source, .steps = INT64_MAX, .is_main = true};
        TRY(session_reference(s, &reference));
    }
    return run_rows(e);
}

enum status command_evaluate(struct run *run) {
    const struct settings *s = run->settings;
    struct evaluation e = {
        .recipe.options = {.beta = s->dpo.beta, .label_smoothing = s->dpo.label_smoothing}};
    TRY(recipe_parse(s->dpo.loss, &e.recipe));
    TRY(recipe_check(&e.recipe, options_is_set(run->options, "dpo.label_smoothing")));
    session_open(run, &e.session);
    enum status st = evaluate_work(&e);
    bootstrap_close(&e.bootstrap);
    exact_close(&e.exact);
    text_free(&e.out);
    session_close(&e.session);
    return st;
}
