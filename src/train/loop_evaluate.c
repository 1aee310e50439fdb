#include "evaluate/bootstrap.h"
#include "train/loop_internal.h"
#include "util/clock.h"

/* Bootstrap resamples for the accuracy of an evaluation during training. */
enum { EVAL_RESAMPLES = 500 };

/* Accuracy of a reward model over evaluated rows, with its interval. */
struct eval_accuracy {
    struct bootstrap bootstrap;
    double low, high;
};

static void add_accuracy(void *context, const struct sample *sample, const struct scored_row *row,
                         const struct sums *sums) {
    struct eval_accuracy *a = context;
    double accurate = 0;
    double pairs = row->n_pairs;
    (void)sample, (void)sums;
    for (int32_t i = 0; i < row->n_pairs; i++) {
        const struct compared *p = &row->pairs[i];
        accurate += row->responses[p->chosen].value > row->responses[p->rejected].value;
    }
    bootstrap_add(&a->bootstrap, row->row, &accurate, &pairs);
}

static enum status eval_line(struct loop *l, const struct sums *sums, const struct eval_accuracy *accuracy,
                             double seconds) {
    if (l->comm->rank != 0) {
        return OK;
    }
    struct text line = {0};
    enum status st;
    TRY_TO(done, text_printf(&line, "{\"step\": %lld", (long long)l->state.step));
    TRY_TO(done, metrics_put_sums(&line, "eval_", l->t->terms, sums));
    if (l->t->terms->reads & READS_VALUE) {
        TRY_TO(done, metrics_put(&line, "eval_", "accuracy_low", accuracy->low));
        TRY_TO(done, metrics_put(&line, "eval_", "accuracy_high", accuracy->high));
    }
    TRY_TO(done, metrics_put(&line, "eval_", "rows", sums->v[SUM_ROWS]));
    TRY_TO(done, metrics_put(&line, "eval_", "runtime", seconds));
    TRY_TO(done, metrics_write(&l->metrics, &line));
done:
    text_free(&line);
    return st;
}

static void log_evaluation(const struct loop *l, const struct sums *sums, const struct eval_accuracy *a) {
    const struct training *t = l->t;
    const double *v = sums->v;
    bool values = t->terms->reads & READS_VALUE;
    double pairs = values ? v[SUM_PAIRS] : v[SUM_ROWS];
    struct text line = {0};
    enum status st = text_printf(&line, "step %lld: eval loss %.4f", (long long)l->state.step,
                                 objective_value(t->terms, sums));
    if (st == OK && (values || t->terms->has_reference) && pairs > 0) {
        st = text_printf(&line, ", margin %.4f, accuracy %.3f",
                         (v[SUM_REWARD_CHOSEN] - v[SUM_REWARD_REJECTED]) / pairs, v[SUM_ACCURATE] / pairs);
    }
    if (st == OK && values) {
        st = text_printf(&line, " (%.3f to %.3f), rewards %.3f to %.3f, mean %.3f", a->low, a->high,
                         sums->lowest, sums->highest, v[SUM_VALUES] / v[SUM_RESPONSES]);
    }
    if (st == OK) {
        log_root(LOG_INFO, "%s on %.0f rows", line.data, v[SUM_ROWS]);
    }
    text_free(&line);
}

/* Collective. Sums over the evaluation's rows, and a reward model's accuracy. */
static enum status evaluate_sums(struct loop *l, struct sums *sums, struct eval_accuracy *a) {
    const struct training *t = l->t;
    bool values = t->terms->reads & READS_VALUE;
    struct scorer scorer = {0};
    enum status st = bootstrap_open(t->eval_data->plan.seed, values ? EVAL_RESAMPLES : 0, 1, &a->bootstrap);
    st = st == OK ? scorer_open(t->model, t->workspace, KEEP_NOTHING, &scorer) : st;
    TRY_TO(done, comm_agree(l->comm, st));
    TRY_TO(done,
           evaluate_rows(l->comm, &scorer, t->eval_data, t->terms, values ? add_accuracy : NULL, a, sums));
    TRY_TO(done, bootstrap_intervals(l->comm, &a->bootstrap, 0.95, &a->low, &a->high));
done:
    scorer_close(&scorer);
    bootstrap_close(&a->bootstrap);
    return st;
}

/* The scorer is opened anew because a training pass holds the workspace. */
enum status loop_evaluate(struct loop *l) {
    double began = clock_seconds();
    struct eval_accuracy accuracy = {0};
    struct sums sums;
    watchdog_allow(l->comm->watchdog, "evaluating", FIRST_ALLOWANCE_S);
    step_pause(&l->step);
    TRY(evaluate_sums(l, &sums, &accuracy));
    enum status st = eval_line(l, &sums, &accuracy, clock_seconds() - began);
    if (st == OK) {
        st = step_continue(&l->step);
    }
    TRY(comm_agree(l->comm, st));
    log_evaluation(l, &sums, &accuracy);
    step_clock(&l->step);
    l->evaluated_s = clock_seconds() - began;
    return OK;
}
