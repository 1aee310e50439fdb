#include <math.h>
#include <stdio.h>

#include "train/loop_internal.h"
#include "util/clock.h"
#include "util/hash.h"

/* Clocks, mean over ranks; wait_rank: waited for the slowest rank (wait_most: by the first to come);
 * communication: waited beyond that; straggler: who came last, imbalance: by how much of the mean. */
static enum status put_speed(const struct loop *l, const struct verdict *v, struct text *line) {
    const double *spans = v->spans;
    const struct {
        const char *name;
        double value;
    } times[] = {
        {"time/step", v->step_s},
        {"time/forward", spans[SPAN_FORWARD]},
        {"time/backward", spans[SPAN_BACKWARD]},
        {"time/wait_rank", v->straggler.mean_wait_s},
        {"time/wait_most", v->straggler.most_wait_s},
        {"time/communication", fmax(0, spans[SPAN_WAIT] - v->straggler.mean_wait_s) + v->closing_s},
        {"time/data", spans[SPAN_MEANWHILE]},
        {"time/optimizer", l->step.optimizer_s},
        {"time/gather", l->step.gather_s},
        {"time/straggler", v->straggler.rank},
        {"time/imbalance", v->straggler.imbalance},
    };
    double seconds = v->step_s > 0 ? v->step_s : 1e-9;
    TRY(metrics_put(line, "", "tokens_per_s", v->sums.v[SUM_FOREST_TOKENS] / seconds));
    char rate[32];
    snprintf(rate, sizeof rate, "%s_per_s", terms_rows(l->t->terms));
    TRY(metrics_put(line, "", rate, v->sums.v[SUM_ROWS] / seconds));
    TRY(metrics_put(line, "", "tflops", v->sums.v[SUM_FLOPS] / seconds / 1e12));
    if (l->t->peak_flops > 0) {
        TRY(metrics_put(line, "", "mfu", v->sums.v[SUM_FLOPS] / seconds / l->t->peak_flops));
    }
    TRY(metrics_put(line, "", "padding", 0));
    for (int i = 0; i < COUNT_OF(times); i++) {
        TRY(metrics_put(line, "", times[i].name, times[i].value));
    }
    return OK;
}

static enum status step_line(struct loop *l, const struct verdict *v, struct text *line) {
    const struct source *source = &l->t->source;
    const struct batch_plan *plan = &source->plan;
    TRY(text_printf(line, "{\"step\": %lld", (long long)l->state.step));
    TRY(metrics_put_sums(line, "", l->t->terms, &v->sums));
    TRY(source->report ? source->report(source->context, v, line) : OK);
    TRY(metrics_put(line, "", "grad_norm", v->grad_norm));
    TRY(metrics_put(line, "", "learning_rate", l->learning_rate));
    TRY(metrics_put(line, "", "num_tokens", l->state.sequence_tokens));
    TRY(metrics_put(line, "", "epoch", loop_epoch(l)));
    TRY(put_speed(l, v, line));
    if (plan->deterministic) {
        char digits[17];
        hash_text(l->step.parameters_hash, digits);
        TRY(text_printf(line, ", \"parameters_hash\": \"%s\"", digits));
    }
    return OK;
}

static enum status closing_line(const struct loop *l, struct text *line) {
    double seconds = fmax(clock_seconds() - l->began_s, 1e-9);
    double loss;
    double tera;
    int64_t steps;
    int64_t timed;
    TRY(metrics_sum(l->metrics.path, "loss", NULL, &loss, &steps));
    TRY(metrics_sum(l->metrics.path, "tflops", "time/step", &tera, &timed));
    TRY(text_printf(line, "{\"step\": %lld", (long long)l->state.step));
    TRY(metrics_put(line, "", "train_runtime", seconds));
    TRY(metrics_put(line, "", "train_samples_per_second", l->rows / seconds));
    TRY(metrics_put(line, "", "train_steps_per_second", (double)(l->state.step - l->start_step) / seconds));
    TRY(text_printf(line, ", \"total_flos\": %.6g", tera * 1e12)); /* the clock cancels out to rounding */
    TRY(metrics_put(line, "", "train_loss", loss / (double)(steps > 0 ? steps : 1)));
    return metrics_put(line, "", "epoch", loop_epoch(l));
}

enum status loop_close(struct loop *l) {
    struct text line = {0};
    enum status st = l->comm->rank == 0 ? closing_line(l, &line) : OK;
    st = st == OK && l->comm->rank == 0 ? metrics_write(&l->metrics, &line) : st;
    text_free(&line);
    return st;
}

double loop_epoch(const struct loop *l) {
    const struct batch_plan *plan = &l->t->source.plan;
    if (l->state.step == 0) {
        return 0;
    }
    int64_t span = l->t->source.span > 1 ? l->t->source.span : 1;
    struct step_place place = batch_place(plan, (l->state.step - 1) / span);
    return (double)place.epoch + (double)(place.first + place.count) / (double)plan->rows;
}

void loop_report(struct loop *l, const struct verdict *v) {
    l->rows += v->sums.v[SUM_ROWS];
    if (l->comm->rank != 0) {
        return;
    }
    struct text line = {0};
    enum status st = step_line(l, v, &line);
    st = st == OK ? metrics_write(&l->metrics, &line) : st;
    l->late_status = st == OK ? l->late_status : st;
    text_free(&line);
    if (l->state.step == 1 && (l->t->terms->reads & READS_VALUE)) {
        const double *sum = v->sums.v;
        log_root(LOG_INFO,
                 "before the first update: loss %.4f, rewards %.3f to %.3f, mean %.3f, margin %.4f, accuracy "
                 "%.3f on %.0f pairs",
                 objective_value(l->t->terms, &v->sums), v->sums.lowest, v->sums.highest,
                 sum[SUM_VALUES] / sum[SUM_RESPONSES],
                 (sum[SUM_REWARD_CHOSEN] - sum[SUM_REWARD_REJECTED]) / sum[SUM_PAIRS],
                 sum[SUM_ACCURATE] / sum[SUM_PAIRS], sum[SUM_PAIRS]);
    }
    char extra[64];
    snprintf(extra, sizeof extra, "loss %.4f, grad norm %.3g", objective_value(l->t->terms, &v->sums),
             v->grad_norm);
    progress_update(&l->progress, (double)(l->state.step - l->start_step), extra);
}
