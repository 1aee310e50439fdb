#include <stdio.h>
#include <string.h>

#include "train/loop_internal.h"
#include "train/profile.h"
#include "train/start.h"
#include "util/clock.h"
#include "util/mem.h"

/* What the loop's wish asks of the others. */
enum asked {
    ASK_MEASURE,                              /* ranks that want a checkpoint to know what one takes */
    ASK_STOPS,                                /* votes for each reason to stop */
    ASK_NEXT_TOKENS = ASK_STOPS + STOP_COUNT, /* scored target tokens of the next batch */
    ASK_COUNT
};

/* Reads the batch after this one, while this one's buckets are under way. Local. */
static enum status read_next(void *context) {
    struct loop *l = context;
    const struct source *source = &l->t->source;
    if (!source->ahead) {
        return OK;
    }
    if (l->batch.step + 1 < l->t->steps) {
        return source->read(source->context, l->batch.step + 1, &l->next);
    }
    batch_free(&l->next);
    return OK;
}

/* Whether one of the last `span` steps is a multiple. */
static bool due(int64_t every, int64_t step, int64_t span) {
    return every > 0 && step / every > (step - span) / every;
}

static int64_t span_of(const struct loop *l) {
    return l->t->source.span > 1 ? l->t->source.span : 1;
}

/* Whether the step that has begun is the last one of its rows: only then does a checkpoint tell all. */
static bool ends_span(const struct loop *l) {
    return (l->batch.step + 1) % span_of(l) == 0;
}

/* The vote of a step within a span: SIGTERM, after which little time is left, ends the run without a
 * checkpoint, all others wait. */
static enum stop vote_within(enum stop vote) {
    return vote == STOP_TERM || vote == STOP_TERM_TIGHT ? STOP_TERM_TIGHT : STOP_NO;
}

/* What this rank says about ending the run after this step, and its part of the next denominators. Local. */
static void ask(void *context, double *values) {
    const struct loop *l = context;
    const struct training *t = l->t;
    int64_t next = l->batch.step + 2;
    double began = t->source.computes ? l->span_began_s : l->step.began_s;
    const struct stop_facts facts = {.signal = comm_signal(),
                                     .signal_age_s = comm_signal_age(),
                                     .now = clock_wall(),
                                     .stop_at = l->batch.step + 1 < t->steps ? t->stop_at : 0,
                                     .step_s = clock_seconds() - began,
                                     .save_s = l->saved_s,
                                     .evaluate_s = due(t->evaluate_every, next, 1) ? l->evaluated_s : 0};
    values[ASK_STOPS + (ends_span(l) ? stop_vote(&facts) : vote_within(stop_vote(&facts)))] = 1;
    values[ASK_MEASURE] = stop_wants_measure(&facts, t->began);
    values[ASK_NEXT_TOKENS] = (double)l->next.target_tokens;
}

/* What follows from a step's verdict. */
struct decision {
    enum stop stop;
    bool want_evaluate, want_checkpoint;
};

static struct decision decide(const struct loop *l, const double *asked) {
    const struct training *t = l->t;
    int64_t done = l->batch.step + 1;
    struct decision out = {0};
    for (int why = STOP_NO + 1; why < STOP_COUNT; why++) {
        out.stop = asked[ASK_STOPS + why] > 0 ? (enum stop)why : out.stop;
    }
    bool is_last = done == t->steps, wants = out.stop != STOP_NO || asked[ASK_MEASURE] > 0;
    bool is_due = due(t->checkpoint_every, done, span_of(l));
    bool evaluates = t->eval_data || t->evaluate;
    out.want_evaluate = evaluates && out.stop == STOP_NO && (due(t->evaluate_every, done, 1) || is_last);
    out.want_checkpoint = out.stop != STOP_TERM_TIGHT && ends_span(l) && (wants || is_due || is_last);
    return out;
}

static enum status save_now(struct loop *l) {
    l->state.total = l->t->steps;
    double began = clock_seconds();
    watchdog_allow(l->comm->watchdog, "writing a checkpoint",
                   l->saved_s > 0 ? ALLOWED_STEPS * l->saved_s : FIRST_ALLOWANCE_S);
    enum status st = l->late_status; /* nothing is saved of an update that failed */
    st = st == OK && l->comm->rank == 0 ? metrics_sync(&l->metrics) : st;
    TRY(comm_agree(l->comm, st));
    TRY(training_state_save(l->comm, &l->t->checkpoint, l->t->optimizer, &l->state));
    l->saved_s = clock_seconds() - began;
    l->saved_step = l->state.step;
    step_clock(&l->step);
    return OK;
}

/* The next batch becomes the current one, with its denominators. */
static void take_next(struct loop *l, double target_tokens) {
    struct batch old = l->batch;
    l->batch = l->next;
    l->next = old;
    batch_free(&l->next);
    l->batch.global_target_tokens = target_tokens;
}

/* Collective: a batch whose denominators no closing has brought. */
static enum status read_batch(struct loop *l) {
    const struct source *source = &l->t->source;
    if (l->state.step % span_of(l) == 0) {
        l->span_began_s = clock_seconds();
    }
    if (source->computes) {
        step_pause(&l->step);
    }
    enum status st = source->read(source->context, l->state.step, &l->next);
    st = st == OK && source->computes ? step_continue(&l->step) : st;
    TRY(comm_agree(l->comm, st));
    double tokens = (double)l->next.target_tokens;
    TRY(comm_sum_f64(l->comm, &tokens, 1));
    take_next(l, tokens);
    return OK;
}

static enum status stopped(const struct loop *l, enum stop why) {
    char text[256];
    stop_describe(why, l->state.step, l->saved_step, text, sizeof text);
    log_root(LOG_WARN, "%s", text);
    return fail(REQUEUE, "%s", text);
}

/* A step that failed is discarded. Says what is left. */
static enum status step_failed(const struct loop *l, enum status st) {
    struct message m = *status_message();
    size_t used = strlen(m.text);
    if (st != ERR_DATA) {
        return st;
    }
    if (l->saved_step >= 0) {
        snprintf(m.text + used, sizeof m.text - used, "; the checkpoint of step %lld stays",
                 (long long)l->saved_step);
    } else {
        snprintf(m.text + used, sizeof m.text - used, "; there is no checkpoint yet");
    }
    status_set(&m);
    return st;
}

/* Collective. */
static enum status one_step(struct loop *l) {
    const struct training *t = l->t;
    const struct wish wish = {
        .context = l, .meanwhile = read_next, .ask = ask, .late_status = l->late_status};
    struct verdict verdict;
    enum status st = step_run(&l->step, &l->batch, &wish, &verdict); /* collective, agrees inside */
    if (st == OK && t->begins_at_reference && l->batch.step == 0) {
        st =
            start_check(&verdict.sums, t->terms->options.beta, t->model->backend->caps.compute == DTYPE_BF16);
    }
    TRY(st == OK ? OK : step_failed(l, st));
    const struct decision decision = decide(l, verdict.asked);
    double next_tokens = verdict.asked[ASK_NEXT_TOKENS];
    double multiplier = schedule_multiplier(t->schedule, l->batch.step, t->warmup_steps, t->steps);
    l->learning_rate = t->optimizer->options.learning_rate * multiplier;
    l->late_status = step_update(&l->step, &verdict, multiplier); /* collective, agrees in the next closing */
    if (t->updated && l->late_status == OK) {
        l->late_status = t->updated(t->updated_context, l->batch.step + 1);
    }
    l->state.step = l->batch.step + 1;
    l->state.sequence_tokens += verdict.sums.v[SUM_SEQUENCE_TOKENS];
    loop_report(l, &verdict);
    if (decision.want_evaluate) {
        TRY(loop_evaluate(l)); /* collective, agrees inside */
    }
    if (decision.want_checkpoint) {
        TRY(save_now(l)); /* collective, agrees inside */
    }
    if (decision.stop != STOP_NO) {
        return stopped(l, decision.stop);
    }
    if (t->source.ahead) {
        take_next(l, next_tokens);
    }
    return OK;
}

static enum status run_steps(struct loop *l) {
    while (l->state.step < l->t->steps) {
        if (!l->t->source.ahead || l->state.step == l->start_step) {
            TRY(read_batch(l));
        }
        TRY(one_step(l));
    }
    return comm_agree(l->comm, l->late_status);
}

/* Fewer steps than are done would leave records of a run that never was. */
static enum status check_steps(const struct loop *l) {
    long long done = (long long)l->state.step, wanted = (long long)l->t->steps;
    return done <= wanted
               ? OK
               : fail(
                     ERR_USAGE,
                     "%s: %lld updates are done, and train.steps or train.epochs asks for %lld; set "
                     "train.steps=%lld or more, choose another output, or start anew with train.resume=never",
                     l->t->checkpoint.run, done, wanted, done);
}

/* Collective. */
static enum status resume(struct loop *l) {
    const struct training *t = l->t;
    bool found = false;
    TRY(training_state_load(l->comm, &t->checkpoint, t->optimizer, &l->state, &found));
    if (found) {
        bool by_total = t->schedule == SCHEDULE_LINEAR || t->schedule == SCHEDULE_COSINE;
        if (by_total && l->state.total != t->steps) {
            return fail(
                ERR_USAGE,
                "train.schedule: the run was started for %lld steps and its rates depend on that; now "
                "it is %lld; set train.steps=%lld or start anew with train.resume=never",
                (long long)l->state.total, (long long)t->steps, (long long)l->state.total);
        }
        TRY(check_steps(l));
        log_root(LOG_INFO, "going on after step %lld of %lld", (long long)l->state.step, (long long)t->steps);
    }
    TRY(t->accepted ? t->accepted(t->accepted_context, !found) : OK);
    l->start_step = l->state.step;
    l->saved_step = found ? l->state.step : -1;
    enum status st = OK;
    if (l->comm->rank == 0) {
        st = metrics_open(t->checkpoint.run, found ? l->state.step : -1, t->tensorboard, &l->metrics);
    }
    return comm_agree(l->comm, st);
}

/* Collective. */
static enum status open_step(struct loop *l) {
    const struct training *t = l->t;
    const struct step_parts parts = {.comm = l->comm,
                                     .workspace = t->workspace,
                                     .model = t->model,
                                     .optimizer = t->optimizer,
                                     .terms = t->terms};
    const struct step_options options = {.slots = t->source.plan.slots,
                                         .deterministic = t->source.plan.deterministic,
                                         .keep = t->keep,
                                         .bucket_bytes = t->bucket_bytes,
                                         .communication = t->communication,
                                         .clip = t->clip,
                                         .seed = t->seed,
                                         .n_asked = ASK_COUNT,
                                         .reference = t->reference_scorer,
                                         .steers = t->steers};
    return step_open(&parts, &options, &l->step);
}

static enum status loop_run(struct loop *l) {
    const struct training *t = l->t;
    watchdog_allow(l->comm->watchdog, "opening the run", FIRST_ALLOWANCE_S);
    TRY(resume(l));
    double profile_began = 0;
    if (t->profile) {
        TRY(profile_start(l->comm, t->model->base->backend, &profile_began));
    }
    TRY(open_step(l));
    if ((t->eval_data || t->evaluate) && l->state.step == 0) {
        TRY(loop_evaluate(l));
    }
    progress_start(&l->progress, t->label, "steps", (double)(t->steps - l->start_step));
    step_clock(&l->step);
    TRY(run_steps(l));
    progress_end(&l->progress, (double)(l->state.step - l->start_step));
    TRY(comm_agree(l->comm, loop_close(l)));
    if (t->profile) {
        TRY(profile_report(l->comm, t->model->base->backend, profile_began, l->state.step, &l->metrics));
    }
    return l->saved_step == l->state.step ? OK : save_now(l);
}

enum status training_run(const struct training *t) {
    struct loop loop = {
        .t = t,
        .comm = t->comm,
        .began_s = clock_seconds(),
        .state = {.reference = t->reference, .memory = t->source.memory, .n_memory = t->source.n_memory}};
    enum status st = loop_run(&loop);
    watchdog_phase(t->comm->watchdog, "ending the run");
    stragglers_report(&loop.step.stragglers);
    step_close(&loop.step);
    batch_free(&loop.batch);
    batch_free(&loop.next);
    metrics_close(&loop.metrics);
    return st;
}
