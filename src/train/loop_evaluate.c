#include "evaluate/ratios.h"
#include "train/loop_internal.h"
#include "util/clock.h"

/* Bootstrap resamples for the accuracy of an evaluation during training. */
enum { EVAL_RESAMPLES = 500 };

static void add_accuracy(void *context, const struct sample *sample, const struct scored_row *row,
                         const struct sums *sums) {
    struct ratios *accuracy = context;
    (void)sums;
    for (int32_t i = 0; i < row->n_pairs; i++) {
        const struct compared *p = &row->pairs[i];
        ratios_count(accuracy, 0, row->responses[p->chosen].value > row->responses[p->rejected].value, 1);
    }
    ratios_end_row(accuracy, evaluation_unit(sample));
}

static enum status begin_line(const struct loop *l, struct text *line) {
    return text_printf(line, "{\"step\": %lld", (long long)l->state.step);
}

static enum status eval_line(struct loop *l, const struct sums *sums, const struct ratios *accuracy,
                             double seconds) {
    if (l->comm->rank != 0) {
        return OK;
    }
    struct text line = {0};
    enum status st;
    TRY_TO(done, begin_line(l, &line));
    TRY_TO(done, metrics_put_sums(&line, "eval_", l->t->terms, sums));
    if (l->t->terms->reads & READS_VALUE) {
        TRY_TO(done, metrics_put(&line, "eval_", "accuracy_low", accuracy->low[0]));
        TRY_TO(done, metrics_put(&line, "eval_", "accuracy_high", accuracy->high[0]));
    }
    TRY_TO(done, metrics_put(&line, "eval_", "rows", sums->v[SUM_ROWS]));
    TRY_TO(done, metrics_put(&line, "eval_", "num_tokens", l->state.sequence_tokens));
    TRY_TO(done, metrics_put(&line, "eval_", "runtime", seconds));
    TRY_TO(done, metrics_put(&line, "eval_", "samples_per_second", sums->v[SUM_ROWS] / seconds));
    TRY_TO(done, metrics_put(&line, "eval_", "steps_per_second",
                             (double)batch_steps(&l->t->eval_data->plan) / seconds));
    TRY_TO(done, metrics_put(&line, "", "epoch", loop_epoch(l)));
    TRY_TO(done, metrics_write(&l->metrics, &line));
done:
    text_free(&line);
    return st;
}

static void log_evaluation(const struct loop *l, const struct sums *sums, const struct ratios *accuracy) {
    const struct training *t = l->t;
    const double *v = sums->v;
    bool values = t->terms->reads & READS_VALUE;
    double pairs = values ? v[SUM_PAIRS] : v[SUM_ROWS];
    struct text line = {0};
    enum status st = text_printf(&line, "step %lld: eval loss %.4f", (long long)l->state.step,
                                 objective_value(t->terms, sums));
    bool has_pairs = values || (t->terms->has_reference && t->terms->rows != OVER_LABELED);
    if (st == OK && has_pairs && pairs > 0) {
        st = text_printf(&line, ", margin %.4f, accuracy %.3f",
                         (v[SUM_REWARD_CHOSEN] - v[SUM_REWARD_REJECTED]) / pairs, v[SUM_ACCURATE] / pairs);
    }
    if (st == OK && values) {
        st = text_printf(&line, " (%.3f to %.3f), rewards %.3f to %.3f, mean %.3f", accuracy->low[0],
                         accuracy->high[0], sums->lowest, sums->highest, v[SUM_VALUES] / v[SUM_RESPONSES]);
    }
    if (st == OK) {
        log_root(LOG_INFO, "%s on %.0f rows", line.data, v[SUM_ROWS]);
    }
    text_free(&line);
}

/* Collective. Sums over the evaluation's rows, and the accuracy of a reward model with its interval. */
static enum status evaluate_sums(struct loop *l, struct sums *sums, struct ratios *accuracy) {
    const struct training *t = l->t;
    bool values = t->terms->reads & READS_VALUE;
    struct scorer scorer = {0};
    const struct interval_options o = {values ? EVAL_RESAMPLES : 0, 0.95, t->eval_data->plan.seed};
    enum status st = ratios_open(&o, 1, accuracy);
    st = st == OK ? scorer_open(t->model, t->workspace, t->reference_scorer ? t->keep : KEEP_NOTHING, &scorer)
                  : st;
    scorer.reference = t->reference_scorer;
    TRY_TO(done, comm_agree(l->comm, st));
    ratios_are_shares(accuracy, 0, 1);
    TRY_TO(done, evaluate_rows(l->comm, &scorer, t->eval_data, t->terms, values ? add_accuracy : NULL,
                               accuracy, sums));
    TRY_TO(done, ratios_reduce(l->comm, accuracy));
done:
    scorer_close(&scorer);
    return st;
}

/* Local. Closes the line of another evaluation. */
static enum status end_line(struct loop *l, struct text *line, double seconds) {
    if (l->comm->rank != 0) {
        return OK;
    }
    TRY(metrics_put(line, "eval_", "num_tokens", l->state.sequence_tokens));
    TRY(metrics_put(line, "eval_", "runtime", seconds));
    TRY(metrics_put(line, "", "epoch", loop_epoch(l)));
    return metrics_write(&l->metrics, line);
}

/* Collective. */
static enum status evaluate_otherwise(struct loop *l) {
    const struct training *t = l->t;
    double began = clock_seconds();
    struct text line = {0};
    watchdog_allow(l->comm->watchdog, "evaluating", FIRST_ALLOWANCE_S);
    step_pause(&l->step);
    enum status st;
    TRY_TO(done, comm_agree(l->comm, begin_line(l, &line)));
    TRY_TO(done, t->evaluate(t->evaluate_context, l->state.step, &line));
    st = end_line(l, &line, clock_seconds() - began);
    st = st == OK ? step_continue(&l->step) : st;
    TRY_TO(done, comm_agree(l->comm, st));
    step_clock(&l->step);
    l->evaluated_s = clock_seconds() - began;
done:
    text_free(&line);
    return st;
}

/* The scorer is opened anew because a training pass holds the workspace. */
enum status loop_evaluate(struct loop *l) {
    if (l->t->evaluate) {
        return evaluate_otherwise(l);
    }
    double began = clock_seconds();
    struct ratios accuracy = {0};
    struct sums sums;
    watchdog_allow(l->comm->watchdog, "evaluating", FIRST_ALLOWANCE_S);
    step_pause(&l->step);
    enum status st;
    TRY_TO(done, evaluate_sums(l, &sums, &accuracy));
    st = eval_line(l, &sums, &accuracy, clock_seconds() - began);
    st = st == OK ? step_continue(&l->step) : st;
    TRY_TO(done, comm_agree(l->comm, st));
    log_evaluation(l, &sums, &accuracy);
    step_clock(&l->step);
    l->evaluated_s = clock_seconds() - began;
done:
    ratios_close(&accuracy);
    return st;
}
