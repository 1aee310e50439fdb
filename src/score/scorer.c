#include "score/scorer.h"

#include <string.h>

#include "model/pass_divergence.h"
#include "util/mem.h"

enum status scorer_open(struct model *m, struct workspace *w, enum pass_keep keep, struct scorer *out) {
    *out = (struct scorer){.model = m, .workspace = w};
    return pass_open(m, w, keep, &out->pass);
}

void scorer_close(struct scorer *s) {
    void *arrays[] = {s->tokens.logp,
                      s->tokens.entropy,
                      s->tokens.mean_logit,
                      s->tokens.is_top,
                      s->tokens.collision,
                      s->values,
                      s->scores,
                      s->first,
                      s->pairs,
                      s->first_pair,
                      s->logp_slopes,
                      s->value_slopes,
                      s->token_slopes,
                      s->token_value_slopes,
                      s->tokens.value,
                      s->weights};
    mem_free(s->divergence);
    mem_free(s->divergence_slopes);
    if (s->pass) {
        pass_close(s->pass);
    }
    forest_free(&s->forest);
    for (int i = 0; i < COUNT_OF(arrays); i++) {
        mem_free(arrays[i]);
    }
    *s = (struct scorer){0};
}

void scorer_drop(struct scorer *s, uint64_t seed, int64_t step) {
    pass_drop(s->pass, seed, step);
}

void scorer_condition(struct scorer *s, const struct condition *c) {
    s->condition = c;
    pass_condition(s->pass, c);
}

static enum status grow_readouts(struct scorer *s, int64_t need) {
    if (s->model->config.value_head) {
        TRY(GROW_ARRAYS(s->cap_token_values, need, GROWN(s->tokens.value), GROWN(s->token_value_slopes)));
    }
    return GROW_ARRAYS(s->cap_readouts, need, GROWN(s->tokens.logp), GROWN(s->tokens.entropy),
                       GROWN(s->tokens.mean_logit), GROWN(s->tokens.is_top), GROWN(s->tokens.collision),
                       GROWN(s->values), GROWN(s->token_slopes), GROWN(s->divergence),
                       GROWN(s->divergence_slopes), GROWN(s->weights));
}

static enum status grow_scores(struct scorer *s, int64_t need) {
    return GROW_ARRAYS(s->cap_scores, need, GROWN(s->logp_slopes), GROWN(s->value_slopes), GROWN(s->scores));
}

static enum status grow_samples(struct scorer *s, int64_t need) {
    return GROW_ARRAYS(s->cap_samples, need, GROWN(s->first), GROWN(s->first_pair));
}

static bool reads_values(const struct scorer *s) {
    return model_gives_values(&s->model->config);
}

/* Where each sample's scores and pairs begin; its pairs as places. */
static enum status place_samples(struct scorer *s, const struct sample *samples, int64_t n) {
    TRY(grow_samples(s, n + 1));
    s->first[0] = s->first_pair[0] = 0;
    for (int64_t i = 0; i < n; i++) {
        s->first[i + 1] = s->first[i] + samples[i].n_responses;
        s->first_pair[i + 1] = s->first_pair[i] + samples[i].n_pairs;
    }
    TRY(grow_scores(s, s->first[n]));
    TRY(GROW_ARRAY(s->pairs, s->cap_pairs, s->first_pair[n]));
    for (int64_t i = 0; i < n; i++) {
        for (int32_t k = 0; k < samples[i].n_pairs; k++) {
            const struct sample_pair *p = &samples[i].pairs[k];
            s->pairs[s->first_pair[i] + k] = (struct compared){p->chosen, p->rejected, p->margin};
        }
    }
    return OK;
}

/* An empty response has the value of its prompt. */
static enum status add_response(struct scorer *s, int32_t root, int64_t row,
                                const struct sample_response *r) {
    struct forest *f = &s->forest;
    int32_t child = root;
    int32_t unscored = 0;
    if (r->count > 0 || !reads_values(s)) {
        TRY(forest_add(f, root, r->tokens, r->count, row, &child));
    }
    return reads_values(s) ? forest_value(f, child, s->model->config.pad_id)
                           : forest_score_trained(f, child, r->trained, &unscored);
}

static enum status build_forest(struct scorer *s, const struct sample *samples, int64_t n) {
    struct forest *f = &s->forest;
    forest_clear(f);
    TRY(place_samples(s, samples, n));
    if (s->first[n] > 0) {
        memset(s->scores, 0, (size_t)s->first[n] * sizeof *s->scores);
    }
    for (int64_t i = 0; i < n; i++) {
        const struct sample *sample = &samples[i];
        int32_t root;
        TRY(forest_add(f, -1, sample->prompt, sample->prompt_count, sample->row, &root));
        f->segments[root].condition = s->condition ? sample->user : -1;
        for (int32_t j = 0; j < sample->n_responses; j++) {
            struct response_score *score = &s->scores[s->first[i] + j];
            score->first = f->n_readouts;
            score->label = sample->responses[j].score;
            TRY(add_response(s, root, sample->row, &sample->responses[j]));
            score->tokens = reads_values(s) ? 0 : f->n_readouts - score->first;
        }
    }
    return forest_finish(f, s->model->config.vocabulary, model_positions(&s->model->config));
}

static void sum_tokens(struct scorer *s, struct response_score *score) {
    score->token_logp = s->tokens.logp + score->first;
    score->token_value = s->tokens.value ? s->tokens.value + score->first : NULL;
    score->token_divergence = s->reference ? s->divergence + score->first : NULL;
    for (int64_t t = score->first; t < score->first + score->tokens; t++) {
        score->logp += s->tokens.logp[t];
        score->entropy += s->tokens.entropy[t];
        score->mean_logit += s->tokens.mean_logit[t];
        score->collision += s->tokens.collision[t];
        score->top += s->tokens.is_top[t];
    }
}

/* The reference over the same samples, and how far its distributions are from the policy's. */
static enum status run_reference(struct scorer *s) {
    TRY(scorer_run(s->reference, s->samples, s->n_samples));
    return pass_divergence(s->pass, s->reference->pass, s->divergence);
}

enum status scorer_run(struct scorer *s, const struct sample *samples, int64_t n) {
    s->samples = samples;
    s->n_samples = n;
    TRY(build_forest(s, samples, n));
    TRY(grow_readouts(s, s->forest.n_readouts));
    TRY(pass_forward(s->pass, &s->forest));
    if (reads_values(s)) {
        TRY(pass_values(s->pass, s->forest.readout_at, s->forest.n_readouts, s->values));
    } else {
        TRY(pass_logps(s->pass, &s->tokens));
        TRY(s->reference ? run_reference(s) : OK);
    }
    for (int64_t i = 0; i < s->first[n]; i++) {
        struct response_score *score = &s->scores[i];
        if (reads_values(s)) {
            score->value = s->values[score->first];
        } else {
            sum_tokens(s, score);
        }
    }
    return OK;
}

static const double *at_tokens(const struct batch *b, const double *array, int64_t k) {
    return array ? array + b->token_first[k] : NULL;
}

/* What is known of a policy's own sample. */
static void take_drawn(const struct batch *b, int64_t k, struct response_score *score) {
    score->advantage = b->advantage ? b->advantage[k] : 0;
    score->token_old = at_tokens(b, b->token_old, k);
    score->token_advantage = at_tokens(b, b->token_advantage, k);
    score->token_return = at_tokens(b, b->token_return, k);
    score->token_old_value = at_tokens(b, b->token_old_value, k);
}

struct scored_row scorer_row(struct scorer *s, const struct batch *b, const struct forest_cut *cut,
                             int64_t i) {
    const struct sample *sample = &b->samples[i];
    int64_t place = i - cut->first;
    struct response_score *scores = &s->scores[s->first[place]];
    for (int32_t j = 0; j < sample->n_responses && b->reference; j++) {
        int64_t k = b->first[i] + j;
        scores[j].reference = b->reference[k];
        scores[j].token_reference = b->token_reference ? b->token_reference + b->token_first[k] : NULL;
    }
    for (int32_t j = 0; j < sample->n_responses && b->first; j++) {
        take_drawn(b, b->first[i] + j, &scores[j]);
    }
    for (int32_t j = 0; j < sample->n_responses && s->reference; j++) {
        const struct response_score *other = &s->reference->scores[s->first[place] + j];
        scores[j].reference = other->logp;
        scores[j].token_reference = other->token_logp;
    }
    return (struct scored_row){.row = sample->row,
                               .n = sample->n_responses,
                               .n_pairs = sample->n_pairs,
                               .target = sample->target,
                               .has_reference = b->reference || s->reference,
                               .is_desirable = sample->is_desirable,
                               .responses = scores,
                               .pairs = s->pairs ? &s->pairs[s->first_pair[place]] : NULL};
}

struct slope scorer_slope(const struct scorer *s, int64_t i) {
    return (struct slope){.logp = reads_values(s) ? NULL : s->logp_slopes + s->first[i],
                          .value = reads_values(s) ? s->value_slopes + s->first[i] : NULL,
                          .token_divergence = s->reference ? s->divergence_slopes : NULL,
                          .token_value = s->model->config.value_head ? s->token_value_slopes : NULL,
                          .token_logp = s->per_token && !reads_values(s) ? s->token_slopes : NULL};
}

/* Slopes by response and by token become slopes by readout, which are in the order of responses. */
static void spread(const struct scorer *s) {
    for (int64_t i = 0; i < s->first[s->n_samples]; i++) {
        const struct response_score *score = &s->scores[i];
        if (reads_values(s)) {
            s->weights[score->first] = s->value_slopes[i];
        }
        for (int64_t t = score->first; t < score->first + score->tokens; t++) {
            s->weights[t] = s->per_token ? s->logp_slopes[i] + s->token_slopes[t] : s->logp_slopes[i];
        }
    }
}

enum status scorer_backward(struct scorer *s, pass_on_final *on_final, void *context) {
    struct readout_gradients g = {0};
    spread(s);
    g.divergence = s->reference ? s->divergence_slopes : NULL;
    g.token_values = s->model->config.value_head ? s->token_value_slopes : NULL;
    *(reads_values(s) ? &g.values : &g.logp) = s->weights;
    return pass_backward(s->pass, &g, on_final, context);
}

double scorer_flops(const struct scorer *s) {
    const struct model_config *c = &s->model->config;
    return s->forest.n_tokens * model_flops_layers(c) + s->forest.n_readouts * model_flops_head(c) +
           (double)s->forest.attention_pairs * model_flops_attention(c);
}
