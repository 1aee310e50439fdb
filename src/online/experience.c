#include "online/experience.h"

#include <math.h>
#include <string.h>

#include "mpi/watchdog.h"
#include "util/clock.h"
#include "util/mem.h"

/* What a rank may take in silence to draw or to judge, seconds, while nothing has been measured; later many
 * times what the last rollout took. */
enum { ALLOWED_ROLLOUTS = 20 };

enum status experience_open(const struct experience_options *o, const struct kl_controller *control,
                            struct experience *out) {
    *out = (struct experience){.options = *o, .step = -1, .control = *control};
    return NEW_ARRAY(out->untrained, o->rollout.decoder.max_new_tokens);
}

/* What the method made. */
static void forget(struct experience *e) {
    mem_free(e->scores);
    mem_free(e->advantages);
    mem_free(e->token_advantages);
    mem_free(e->token_returns);
    e->scores = e->advantages = e->token_advantages = e->token_returns = NULL;
}

void experience_close(struct experience *e) {
    rollout_free(&e->rollout);
    appraisal_free(&e->appraisal);
    update_rows_free(&e->rows);
    forget(e);
    mem_free(e->untrained);
    *e = (struct experience){0};
}

/* A batch of this rank's slots. */

static int32_t tokens_of(const struct rollout *r, int64_t k) {
    return (int32_t)(r->first[k + 1] - r->first[k]);
}

static enum status costs_of(const struct rollout *r, const struct update_rows *rows, int32_t *cost,
                            int64_t *names) {
    for (int64_t i = 0; i < rows->n; i++) {
        int64_t prompt = rows->prompt[i], tokens = r->prompt_first[prompt + 1] - r->prompt_first[prompt];
        for (int64_t j = rows->first[i]; j < rows->first[i + 1]; j++) {
            tokens += tokens_of(r, rows->response[j]);
        }
        TRY(to_int(tokens, "tokens of a row", &cost[i]));
        names[i] = r->rows[prompt];
    }
    return OK;
}

static enum status share_rows(const struct experience *e, const struct update_rows *rows, struct batch *b,
                              int64_t **index) {
    const struct comm *c = e->options.rollout.comm;
    const struct batch_plan *plan = &e->options.plan;
    int32_t *cost = NULL;
    int64_t *names = NULL;
    enum status st;
    TRY_TO(done, NEW_ARRAY(cost, rows->n));
    TRY_TO(done, NEW_ARRAY(names, rows->n));
    TRY_TO(done, costs_of(&e->rollout, rows, cost, names));
    st = batch_share(plan, range_part(plan->slots, c->rank, c->size), cost, names, rows->n, b, index);
done:
    mem_free(cost);
    mem_free(names);
    return st;
}

/* The sample of a row; its lists have their place. Tokens stay the rollout's. */
static void fill_sample(const struct experience *e, const struct update_rows *rows, int64_t row,
                        bool is_update, struct sample *s) {
    const struct rollout *r = &e->rollout;
    int64_t prompt = rows->prompt[row];
    bool is_group = e->options.terms->rows == OVER_GROUPS;
    s->row = r->rows[prompt];
    s->subset = -1;
    s->target = is_group ? -1 : 0;
    s->is_desirable = true;
    s->prompt = r->prompt_tokens + r->prompt_first[prompt];
    s->prompt_count = (int32_t)(r->prompt_first[prompt + 1] - r->prompt_first[prompt]);
    for (int32_t j = 0; j < s->n_responses; j++) {
        int64_t k = rows->response[rows->first[row] + j];
        bool is_left_out = is_update && e->options.mask_truncated && !r->stopped[k];
        s->responses[j] = (struct sample_response){.id = k,
                                                   .tokens = r->tokens + r->first[k],
                                                   .trained = is_left_out ? e->untrained : NULL,
                                                   .count = tokens_of(r, k),
                                                   .score = e->scores ? (float)e->scores[k] : NAN,
                                                   .worth = NAN};
    }
    if (rows->is_paired) {
        s->pairs[0] = (struct sample_pair){
            .row = s->row, .source = -1, .chosen = 0, .rejected = 1, .margin = NAN, .label = 1};
    }
}

/* One buffer, as a view's. */
static enum status make_samples(const struct experience *e, const struct update_rows *rows,
                                const int64_t *index, bool is_update, struct batch *b) {
    int64_t responses = 0, pairs = rows->is_paired ? b->n : 0;
    for (int64_t i = 0; i < b->n; i++) {
        responses += rows->first[index[i] + 1] - rows->first[index[i]];
    }
    char *buffer = mem_calloc(b->n * (int64_t)sizeof(struct sample) +
                                  responses * (int64_t)sizeof(struct sample_response) +
                                  pairs * (int64_t)sizeof(struct sample_pair),
                              1);
    TRY(mem_ok(buffer));
    b->samples = (struct sample *)buffer;
    struct sample_response *at = (struct sample_response *)(b->samples + b->n);
    struct sample_pair *pair = (struct sample_pair *)(at + responses);
    for (int64_t i = 0; i < b->n; i++) {
        struct sample *s = &b->samples[i];
        s->n_responses = (int32_t)(rows->first[index[i] + 1] - rows->first[index[i]]);
        s->n_pairs = rows->is_paired;
        s->responses = at;
        s->pairs = pair;
        fill_sample(e, rows, index[i], is_update, s);
        at += s->n_responses;
        pair += rows->is_paired;
    }
    return OK;
}

/* Numbers of the rollout's tokens at the places of the batch's. from NULL: there are none. */
static enum status take_tokens(const struct experience *e, const struct batch *b, const double *from,
                               double **out) {
    if (!from) {
        return OK;
    }
    TRY(*out ? OK : batch_token_array(b, out));
    double *numbers = *out;
    for (int64_t i = 0; i < b->n && numbers; i++) {
        for (int32_t j = 0; j < b->samples[i].n_responses; j++) {
            int64_t to = b->first[i] + j, at = e->rollout.first[b->samples[i].responses[j].id];
            for (int64_t t = b->token_first[to]; t < b->token_first[to + 1]; t++) {
                numbers[t] = from[at + t - b->token_first[to]];
            }
        }
    }
    return OK;
}

/* Sums over a response's tokens, in their order as a scorer's. */
static void sum_reference(struct batch *b) {
    for (int64_t k = 0; k < b->first[b->n]; k++) {
        for (int64_t t = b->token_first[k]; t < b->token_first[k + 1]; t++) {
            b->reference[k] += b->token_reference[t];
        }
    }
}

/* What is known of the batch's responses and tokens. */
static enum status fill_numbers(const struct experience *e, struct batch *b) {
    const double *reference = e->appraisal.reference;
    int64_t responses = b->first[b->n];
    TRY(batch_place_tokens(b));
    TRY(take_tokens(e, b, e->rollout.logps, &b->token_old));
    TRY(take_tokens(e, b, reference, &b->token_reference));
    TRY(take_tokens(e, b, e->token_advantages, &b->token_advantage));
    TRY(take_tokens(e, b, e->token_returns, &b->token_return));
    TRY(take_tokens(e, b, e->appraisal.before, &b->token_old_value));
    if (reference) {
        TRY(NEW_ARRAY(b->reference, responses));
        sum_reference(b);
    }
    TRY(e->advantages ? NEW_ARRAY(b->advantage, responses) : OK);
    for (int64_t i = 0; i < b->n && e->advantages; i++) {
        for (int32_t j = 0; j < b->samples[i].n_responses; j++) {
            b->advantage[b->first[i] + j] = e->advantages[b->samples[i].responses[j].id];
        }
    }
    return OK;
}

enum status experience_batch(const struct experience *e, const struct update_rows *rows, bool is_update,
                             struct batch *b) {
    int64_t *index = NULL;
    enum status st;
    bool is_group = e->options.terms->rows == OVER_GROUPS;
    batch_free(b);
    TRY_TO(done, share_rows(e, rows, b, &index));
    TRY_TO(done, make_samples(e, rows, index, is_update, b));
    TRY_TO(done, batch_count(b));
    b->place = e->place;
    b->place.count = rows->n;
    b->global_responses = (double)rows->first[rows->n];
    TRY_TO(done, is_update ? fill_numbers(e, b) : OK);
    if (is_update && is_group) {
        b->target_tokens = b->token_first[b->first[b->n]];
    }
done:
    mem_free(index);
    return st;
}

/* What the method makes of rewards. */

static double summed_kl(const struct experience *e, int64_t k) {
    const struct rollout *r = &e->rollout;
    double sum = 0;
    for (int64_t t = r->first[k]; t < r->first[k + 1] && e->appraisal.reference; t++) {
        sum += r->logps[t] - e->appraisal.reference[t];
    }
    return sum;
}

/* Scores: rewards with what a missing stop does, and less the KL where the method has it in the reward of a
 * whole response. */
static enum status make_scores(struct experience *e) {
    int64_t n = rollout_responses(&e->rollout);
    double own = (double)(e->rollout.n * e->rollout.own);
    bool has_kl = e->options.kl_in_reward && e->options.method != ONLINE_PPO;
    TRY(NEW_ARRAY(e->scores, n));
    e->facts.kl = 0;
    for (int64_t k = 0; k < n; k++) {
        double kl = summed_kl(e, k), *reward = &e->appraisal.rewards[k];
        *reward = advantage_stopped(&e->options.missing_stop, *reward, e->rollout.stopped[k]);
        e->scores[k] = *reward - (has_kl ? e->control.coefficient * kl : 0);
        e->facts.kl += rollout_is_own(&e->rollout, k) ? kl / own : 0;
    }
    return OK;
}

static enum status make_advantages(struct experience *e) {
    const struct experience_options *o = &e->options;
    const struct rollout *r = &e->rollout;
    TRY(NEW_ARRAY(e->advantages, rollout_responses(r)));
    if (o->method == ONLINE_RLOO) {
        advantage_leave_one_out(e->scores, r->n, r->samples, o->normalize, e->advantages);
    } else {
        advantage_group(e->scores, r->n, r->samples, o->scale, e->advantages);
    }
    return OK;
}

/* By token: the KL in the rewards of tokens, the score in that of the last, advantages by the values before
 * them (Ziegler et al. 2019; Schulman et al. 2016), whitened over all. */
static enum status make_token_advantages(struct experience *e) {
    const struct experience_options *o = &e->options;
    const struct rollout *r = &e->rollout;
    const struct appraisal *a = &e->appraisal;
    int64_t n = r->first[rollout_responses(r)];
    double coefficient = o->kl_in_reward ? e->control.coefficient : 0, *rewards = NULL;
    struct moments of_rewards = {0}, of_advantages = {0};
    enum status st;
    TRY_TO(done, NEW_ARRAY(rewards, n));
    TRY_TO(done, NEW_ARRAY(e->token_advantages, n));
    TRY_TO(done, NEW_ARRAY(e->token_returns, n));
    for (int64_t k = 0; k < rollout_responses(r); k++) {
        int64_t at = r->first[k];
        const double *reference = a->reference ? a->reference + at : r->logps + at;
        advantage_shape(r->logps + at, reference, r->first[k + 1] - at, coefficient, e->scores[k],
                        rewards + at);
    }
    if (o->whiten_rewards) {
        moments_add(&of_rewards, rewards, n);
        advantage_whiten(&of_rewards, true, rewards, n);
    }
    for (int64_t k = 0; k < rollout_responses(r); k++) {
        int64_t at = r->first[k];
        advantage_gae(rewards + at, a->before + at, r->first[k + 1] - at, o->gamma, o->lambda,
                      e->token_advantages + at, e->token_returns + at);
    }
    moments_add(&of_advantages, e->token_advantages, n);
    advantage_whiten(&of_advantages, false, e->token_advantages, n);
done:
    mem_free(rewards);
    return st;
}

/* xpo: 1 for what the reference wrote, whose log-probability counts by itself (Xie et al. 2024). nash_md: how
 * likely the own response is preferred to the mixture's, less a half (Munos et al. 2023). */
static enum status compare_with_other(struct experience *e) {
    const struct rollout *r = &e->rollout;
    TRY(NEW_ARRAY(e->advantages, rollout_responses(r)));
    for (int64_t k = 0; k < rollout_responses(r); k++) {
        int64_t other = k - k % r->samples + r->own;
        double wins = 1 / (1 + exp(e->scores[other] - e->scores[k])) - .5;
        e->advantages[k] = e->options.method == ONLINE_XPO ? !rollout_is_own(r, k) : wins;
    }
    return OK;
}

static enum status make_rows(struct experience *e) {
    const struct experience_options *o = &e->options;
    switch (o->method) {
    case ONLINE_RAFT:
        return o->top_share > 0 ? update_rows_top(&e->rollout, e->scores, o->top_share, &e->rows)
                                : update_rows_best(&e->rollout, e->scores, &e->rows);
    case ONLINE_DPO:
        return update_rows_pairs(&e->rollout, e->scores, &e->rows);
    case ONLINE_XPO:
        TRY(compare_with_other(e));
        return update_rows_pairs(&e->rollout, e->scores, &e->rows);
    case ONLINE_NASH_MD:
        TRY(compare_with_other(e));
        return update_rows_own(&e->rollout, &e->rows);
    default:
        TRY(e->appraisal.before ? make_token_advantages(e) : make_advantages(e));
        return update_rows_groups(&e->rollout, &e->rows);
    }
}

/* A new rollout. */

static double allowed(double last_s) {
    return fmax(FIRST_ALLOWANCE_S, ALLOWED_ROLLOUTS * last_s);
}

/* Collective. How much longer the slowest rank drew than the mean of them. */
static enum status compare_ranks(struct experience *e) {
    struct comm *c = e->options.rollout.comm;
    double most = e->rollout.own_s, mean = e->rollout.own_s / c->size;
    TRY(comm_max_f64(c, &most, 1));
    TRY(comm_sum_f64(c, &mean, 1));
    e->facts.draw_imbalance = mean > 0 ? most / mean - 1 : 0;
    return OK;
}

/* Collective. The prompts of the update, and responses to them. */
static enum status draw(struct experience *e, int64_t update) {
    const struct experience_options *o = &e->options;
    struct comm *c = o->rollout.comm;
    int64_t *rows;
    e->place = batch_place(&o->plan, update);
    watchdog_allow(c->watchdog, "drawing responses", allowed(e->facts.draw_s));
    TRY(comm_agree(c, NEW_ARRAY(rows, e->place.count)));
    for (int64_t i = 0; i < e->place.count; i++) {
        rows[i] = batch_row(&o->plan, e->place.epoch, e->place.first + i);
    }
    double began = clock_seconds();
    enum status st = rollout_draw(&o->rollout, rows, e->place.count, update, &e->rollout);
    e->facts.draw_s = clock_seconds() - began;
    mem_free(rows);
    return st == OK ? compare_ranks(e) : st;
}

/* Collective. The rollout judged, and what follows from that. */
static enum status judge(struct experience *e) {
    struct comm *c = e->options.rollout.comm;
    struct update_rows groups = {0};
    struct batch b = {0};
    double began = clock_seconds();
    watchdog_phase(c->watchdog, "judging responses"); /* as long as it takes: a program has its own timeout */
    enum status st = update_rows_groups(&e->rollout, &groups);
    appraisal_free(&e->appraisal);
    st = st == OK ? experience_batch(e, &groups, false, &b) : st;
    TRY_TO(done, comm_agree(c, st));
    TRY_TO(done, appraise(&e->options.appraiser, &e->rollout, &b, &e->appraisal));
    st = make_scores(e);
    st = st == OK ? make_rows(e) : st;
    st = st == OK && e->options.folder && c->rank == 0 ? experience_keep(e) : st;
    st = comm_agree(c, st);
done:
    e->facts.judge_s = clock_seconds() - began;
    batch_free(&b);
    update_rows_free(&groups);
    return st;
}

/* Collective. */
static enum status make_rollout(struct experience *e, int64_t step) {
    e->step = -1;
    forget(e);
    TRY(draw(e, step / e->options.span));
    e->step = step;
    TRY(judge(e));
    e->facts.coefficient = e->control.coefficient; /* what comes next goes by another */
    if (e->appraisal.reference) {
        kl_control(&e->control, e->facts.kl, (double)rollout_responses(&e->rollout));
    }
    return OK;
}

enum status experience_read(void *context, int64_t step, struct batch *b) {
    struct experience *e = context;
    struct comm *c = e->options.rollout.comm;
    int64_t first = step - step % e->options.span;
    e->facts.is_new = e->step != first;
    if (e->facts.is_new && first != step) {
        return fail(ERR_INTERNAL, "update %lld: its rollout was drawn by other weights", (long long)step + 1);
    }
    TRY(e->facts.is_new ? make_rollout(e, step) : OK);
    TRY(comm_agree(c, experience_batch(e, &e->rows, true, b)));
    b->step = step;
    return OK;
}
