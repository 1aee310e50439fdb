#include "train/step.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "mpi/watchdog.h"
#include "util/clock.h"
#include "util/mem.h"

/* What the closing reduction carries, in this order; the counts of the last three are not constant. */
enum closing {
    CLOSE_FAILED = SUM_COUNT, /* ranks that failed in this step */
    CLOSE_SPANS,
    CLOSE_SQUARES = CLOSE_SPANS + SPAN_COUNT /* of the gradient: one sum, or a sum a grain; each rank adds to
                                                its own places */
};

/* Seconds at which each rank arrived at the gradient sum, each in its own place. */
static double *arrivals(const struct step *s) {
    return s->closing + CLOSE_SQUARES + s->n_squares;
}

static double *asked(const struct step *s) {
    return arrivals(s) + s->parts.comm->size;
}

static int64_t closing_values(const struct step *s) {
    return CLOSE_SQUARES + s->n_squares + s->parts.comm->size + s->options.n_asked;
}

void step_beat(const struct step *s, const char *phase, int64_t number) {
    char what[80];
    snprintf(what, sizeof what, "%s in step %lld", phase, (long long)number);
    watchdog_allow(s->parts.comm->watchdog, what, s->allowance_s);
}

void step_clock(struct step *s) {
    s->began_s = clock_seconds();
}

void step_pause(struct step *s) {
    scorer_close(&s->scorer);
}

enum status step_continue(struct step *s) {
    TRY(scorer_open(s->parts.model, s->parts.workspace, s->options.keep, &s->scorer));
    s->scorer.reference = s->options.reference;
    s->scorer.per_token = s->parts.terms->reads & READS_TOKENS;
    scorer_condition(&s->scorer, s->options.steers ? s->options.steers->condition : NULL);
    return OK;
}

/* Values and gradients of a forest's rows. Local. */
static enum status forest_values(struct step *s, const struct batch *b, const struct forest_cut *cut,
                                 struct sums *sums) {
    const struct terms *terms = s->parts.terms;
    bool groups = terms->rows == OVER_GROUPS;
    const struct denominators d = {groups ? b->global_responses : (double)b->place.count,
                                   b->global_target_tokens, s->gathered};
    for (int64_t i = 0; i < cut->last - cut->first; i++) {
        const struct scored_row row = scorer_row(&s->scorer, b, cut, cut->first + i);
        const struct slope slope = scorer_slope(&s->scorer, i);
        if (!objective_row(terms, &row, &d, &slope, sums)) {
            bool values = terms->reads & READS_VALUE;
            const struct response_score *first = &row.responses[0], *last = &row.responses[row.n - 1];
            return fail(ERR_DATA,
                        "step %lld: the loss of row %lld is not finite (%s %g and %g); lower "
                        "train.learning_rate or look at the row",
                        (long long)b->step + 1, (long long)row.row, values ? "values" : "log-probabilities",
                        values ? first->value : first->logp, values ? last->value : last->logp);
        }
    }
    return OK;
}

/* Of the model alone: the encoder's gradients are not there yet. */
static void final_but_encoder(void *context, int64_t first_final) {
    struct step *s = context;
    int64_t encoder = s->options.steers->elements;
    gradient_final(&s->gradient, first_final > encoder ? first_final : encoder);
}

/* The last backward makes gradients final. Local. */
static enum status forest_backward(struct step *s, bool is_last) {
    const struct steers *steers = s->options.steers;
    if (!steers) {
        return scorer_backward(&s->scorer, is_last ? gradient_final : NULL, &s->gradient);
    }
    TRY(scorer_backward(&s->scorer, is_last ? final_but_encoder : NULL, s));
    TRY(steers->backward(steers->context));
    if (is_last) {
        gradient_final(&s->gradient, 0);
    }
    return OK;
}

/* Forward, scores, objective, backward of one forest. Local. */
static enum status forest_step(struct step *s, const struct batch *b, int64_t cut_index, struct sums *sums) {
    const struct forest_cut *cut = &b->cuts[cut_index];
    /* Only the last backward makes gradients final, and only if no partial sums are merged after it. */
    bool is_last = cut_index == b->n_cuts - 1 && (!s->options.deterministic || s->n_slots == 1);
    double began = clock_seconds();
    step_beat(s, "running a forest", b->step + 1);
    TRY(scorer_run(&s->scorer, b->samples + cut->first, cut->last - cut->first));
    evaluate_count_work(&s->scorer, model_flops_training(&s->parts.model->config), sums);
    TRY(forest_values(s, b, cut, sums));
    double middle = clock_seconds();
    TRY(forest_backward(s, is_last));
    s->spans[SPAN_FORWARD] += middle - began;
    s->spans[SPAN_BACKWARD] += clock_seconds() - middle;
    return OK;
}

/* What a row brings to the numbers of the batch. Local. */
static enum status row_gather(struct step *s, const struct scored_row *row, struct sums *sums) {
    double pair[2];
    if (s->parts.terms->scope == SCOPE_BATCH) {
        objective_gather(s->parts.terms, row, sums);
        return OK;
    }
    objective_order(s->parts.terms, row, pair);
    return order_add(&s->order, pair);
}

/* First pass of terms that see the batch, one forest: forward, and what its rows bring. Local. */
static enum status forest_gather(struct step *s, const struct batch *b, const struct forest_cut *cut,
                                 struct sums *sums) {
    double began = clock_seconds();
    step_beat(s, "looking at the batch", b->step + 1);
    TRY(scorer_run(&s->scorer, b->samples + cut->first, cut->last - cut->first));
    for (int64_t i = cut->first; i < cut->last; i++) {
        const struct scored_row row = scorer_row(&s->scorer, b, cut, i);
        TRY(row_gather(s, &row, sums));
    }
    s->spans[SPAN_FORWARD] += clock_seconds() - began;
    return OK;
}

static enum status slots_gather(struct step *s, const struct batch *b) {
    int64_t next = 0;
    for (int64_t slot = 0; slot < s->n_slots; slot++) {
        struct sums sums = {0};
        for (; next < b->n_cuts && b->cuts[next].slot == slot; next++) {
            TRY(forest_gather(s, b, &b->cuts[next], &sums));
        }
        sums_tree_push(&s->sums, &sums);
    }
    return OK;
}

/* Collective, whatever happened on this rank (st). A failure rides along, so that all ranks know of it. */
static enum status gather_sums(struct step *s, enum status st) {
    double values[GATHERED + 1] = {0};
    memcpy(values, &s->sums.total.v[SUM_GATHERED], sizeof s->sums_gathered);
    values[GATHERED] = st != OK;
    TRY(sums_reduce(s->parts.comm, s->options.deterministic, values, GATHERED + 1));
    memcpy(s->sums_gathered, values, sizeof s->sums_gathered);
    s->gathered = s->sums_gathered;
    return values[GATHERED] > 0 ? comm_agree(s->parts.comm, st) : OK;
}

/* Collective, whatever happens on this rank: the numbers that a term of scope batch or order needs before it
 * can weigh a row. */
static enum status gather(struct step *s, const struct batch *b) {
    enum objective_scope scope = s->parts.terms->scope;
    if (scope == SCOPE_ROW) {
        return OK;
    }
    sums_tree_begin(&s->sums, s->options.deterministic);
    enum status st = slots_gather(s, b);
    return scope == SCOPE_BATCH ? gather_sums(s, st)
                                : order_gather(s->parts.comm, &s->order, st, &s->gathered);
}

/* All slots of this rank; buckets leave in the last forest. Local. */
static enum status slots_step(struct step *s, const struct batch *b) {
    const struct steers *steers = s->options.steers;
    int64_t next = 0;
    TRY(steers ? steers->begin(steers->context, b) : OK);
    for (int64_t slot = 0; slot < s->n_slots; slot++) {
        struct sums sums = {0};
        for (; next < b->n_cuts && b->cuts[next].slot == slot; next++) {
            TRY(forest_step(s, b, next, &sums));
        }
        sums_tree_push(&s->sums, &sums);
        if (s->options.deterministic) {
            TRY(gradient_push(&s->gradient));
        }
    }
    return OK;
}

static enum status meanwhile(struct step *s, const struct wish *w) {
    double began = clock_seconds();
    enum status st = w->meanwhile ? w->meanwhile(w->context) : OK;
    s->spans[SPAN_MEANWHILE] += clock_seconds() - began;
    return st;
}

static enum status squares_of(const struct step *s, int64_t first, int64_t last, double *out) {
    struct tensor g = s->arena->gradients;
    return last > first ? backend_sum_squares(s->arena->backend, tensor_columns(g, first, last - first), out)
                        : OK;
}

/* This rank's part of the squared norm of the summed gradient: one sum in values[0], or, in deterministic
 * mode, grain by grain, so that the grains can be added in one order whoever summed them. Local. */
static enum status squared_norm(const struct step *s, double *values) {
    const struct shard_map *m = &s->shares;
    int64_t step = s->options.deterministic ? shard_grain(m->elements) : m->width;
    for (int64_t unit = 0, units = shard_units(m); unit < units; unit++) {
        struct range r = shard_range(m, unit, m->rank);
        for (int64_t first = r.first; first < r.last; first += step) {
            double squares = 0;
            TRY(squares_of(s, first, first + step < r.last ? first + step : r.last, &squares));
            values[s->options.deterministic ? first / step : 0] += squares;
        }
    }
    return OK;
}

/* From the reduced numbers to the verdict. Local. */
static void judge(struct step *s, const struct batch *b, struct verdict *out) {
    const double *v = s->closing;
    memcpy(out->sums.v, v, sizeof out->sums.v);
    for (int i = 0; i < SPAN_COUNT; i++) {
        out->spans[i] = v[CLOSE_SPANS + i] / s->parts.comm->size;
    }
    double squares = 0;
    for (int64_t i = 0; i < s->n_squares; i++) {
        squares += v[CLOSE_SQUARES + i];
    }
    out->grad_norm = sqrt(squares);
    out->straggler = stragglers_add(&s->stragglers, arrivals(s), b->step + 1);
    out->asked = asked(s);
}

static enum status check_norm(const struct batch *b, double norm) {
    return isfinite(norm)
               ? OK
               : fail(ERR_DATA,
                      "step %lld: the gradient norm is not finite (places %lld to %lld of epoch %lld); lower "
                      "train.learning_rate or set train.clip",
                      (long long)b->step + 1, (long long)b->place.first,
                      (long long)(b->place.first + b->place.count - 1), (long long)b->place.epoch);
}

static void measure(struct step *s, struct verdict *out) {
    double now = clock_seconds();
    out->step_s = now - s->began_s;
    s->began_s = now;
    s->stragglers.elapsed_s += out->step_s;
    s->allowance_s = ALLOWED_STEPS * out->step_s;
}

/* Collective: one allreduce. st: how this rank's part of the step went. */
static enum status close_step(struct step *s, const struct batch *b, const struct wish *w, enum status st,
                              struct verdict *out) {
    struct comm *comm = s->parts.comm;
    double *v = s->closing;
    int64_t n = closing_values(s);
    memset(v, 0, (size_t)n * sizeof *v);
    if (st == OK) {
        st = squared_norm(s, &v[CLOSE_SQUARES]);
    }
    if (st == OK) {
        st = w->late_status;
    }
    memcpy(v, s->sums.total.v, sizeof s->sums.total.v);
    memcpy(v + CLOSE_SPANS, s->spans, sizeof s->spans);
    v[CLOSE_FAILED] = st != OK;
    arrivals(s)[comm->rank] = s->arrival_s;
    if (w->ask) {
        w->ask(w->context, asked(s));
    }
    double began = clock_seconds();
    TRY(sums_reduce(comm, s->options.deterministic, v, n));
    out->closing_s = clock_seconds() - began;
    if (v[CLOSE_FAILED] > 0) {
        return comm_agree(comm, st);
    }
    judge(s, b, out);
    if (s->parts.terms->reads & READS_VALUE || s->parts.terms->rows == OVER_GROUPS) {
        TRY(sums_extremes(comm, &s->sums.total));
        out->sums.lowest = s->sums.total.lowest;
        out->sums.highest = s->sums.total.highest;
        out->sums.drift = s->sums.total.drift;
    }
    TRY(check_norm(b, out->grad_norm));
    measure(s, out);
    return OK;
}

enum status step_run(struct step *s, const struct batch *b, const struct wish *w, struct verdict *out) {
    *out = (struct verdict){0};
    memset(s->spans, 0, sizeof s->spans);
    if (s->parts.model->config.lora) {
        scorer_drop(&s->scorer, s->options.seed, b->step);
    }
    TRY(gather(s, b));
    sums_tree_begin(&s->sums, s->options.deterministic);
    enum status st = gradient_begin(&s->gradient);
    st = st == OK ? slots_step(s, b) : st;
    st = st == OK ? meanwhile(s, w) : st;
    step_beat(s, "waiting for the other ranks' gradients", b->step + 1);
    enum status summed = gradient_finish(&s->gradient, &s->spans[SPAN_WAIT]); /* collective, always */
    s->arrival_s = clock_seconds() - s->began_s - s->spans[SPAN_WAIT];
    return close_step(s, b, w, st == OK ? summed : st, out);
}

/* Collective: the hash of all parameters, a part on every rank. */
static enum status hash_parameters(struct step *s) {
    struct comm *comm = s->parts.comm;
    struct range mine = range_part(arena_hash_blocks(s->arena), comm->rank, comm->size);
    enum status st = arena_hash_part(s->arena, mine.first, mine.last, &s->parameters_hash);
    TRY(comm_sum_u64(comm, &s->parameters_hash, 1));
    return st;
}

enum status step_update(struct step *s, const struct verdict *v, double rate_multiplier) {
    struct optimizer *optimizer = s->parts.optimizer;
    double clip = s->options.clip, began = clock_seconds();
    double scale = clip > 0 ? fmin(1, clip / (v->grad_norm + 1e-6)) : 1; /* PyTorch's epsilon */
    enum status st = optimizer_update(optimizer, rate_multiplier, scale);
    s->optimizer_s = clock_seconds() - began;
    if (optimizer_is_sharded(optimizer)) {
        watchdog_allow(s->parts.comm->watchdog, "gathering the parameters", s->allowance_s);
        st = parameters_gather(s->parts.comm, optimizer, st);
        s->gather_s = clock_seconds() - began - s->optimizer_s;
    }
    enum status hashed = s->options.deterministic ? hash_parameters(s) : OK;
    return st == OK ? hashed : st;
}

/* Collective. */
static enum status open_parts(struct step *s) {
    struct comm *comm = s->parts.comm;
    bool deterministic = s->options.deterministic;
    struct range mine = range_part(s->options.slots, comm->rank, comm->size);
    s->n_slots = deterministic ? mine.last - mine.first : 1;
    s->shares = shard_map_over(comm, s->arena->elements);
    s->n_squares = deterministic ? (s->shares.elements - 1) / shard_grain(s->shares.elements) + 1 : 1;
    TRY(stragglers_open(comm, &s->stragglers));
    TRY(comm_agree(comm, NEW_ARRAY(s->closing, closing_values(s))));
    const struct gradient_options options = {.slots = s->n_slots,
                                             .deterministic = deterministic,
                                             .bucket_bytes = s->options.bucket_bytes,
                                             .shards = s->parts.optimizer->shards,
                                             .communication = s->options.communication};
    TRY(gradient_open(comm, s->arena, &options, &s->gradient));
    return comm_agree(comm, step_continue(s));
}

enum status step_open(const struct step_parts *parts, const struct step_options *o, struct step *out) {
    *out = (struct step){.parts = *parts,
                         .options = *o,
                         .arena = parts->optimizer->arena,
                         .allowance_s = FIRST_ALLOWANCE_S,
                         .began_s = clock_seconds()};
    enum status st = open_parts(out);
    if (st != OK) {
        step_close(out);
    }
    return st;
}

void step_close(struct step *s) {
    stragglers_close(&s->stragglers);
    order_free(&s->order);
    scorer_close(&s->scorer);
    gradient_close(&s->gradient);
    mem_free(s->closing);
    *s = (struct step){0};
}
