#include "score/scorer.h"

#include <string.h>

#include "util/mem.h"

enum status scorer_open(struct model *m, struct workspace *w, enum pass_keep keep, struct scorer *out) {
    *out = (struct scorer){.model = m, .workspace = w};
    return pass_open(m, w, keep, &out->pass);
}

void scorer_close(struct scorer *s) {
    if (s->pass) {
        pass_close(s->pass);
    }
    forest_free(&s->forest);
    mem_free(s->tokens.logp);
    mem_free(s->tokens.entropy);
    mem_free(s->tokens.mean_logit);
    mem_free(s->tokens.is_top);
    mem_free(s->weights);
    mem_free(s->scores);
    mem_free(s->first);
    *s = (struct scorer){0};
}

static enum status grow_readouts(struct scorer *s, int64_t need) {
    return GROW_ARRAYS(s->cap_readouts, need, GROWN(s->tokens.logp), GROWN(s->tokens.entropy),
                       GROWN(s->tokens.mean_logit), GROWN(s->tokens.is_top), GROWN(s->weights));
}

static bool reads_values(const struct scorer *s) {
    return s->model->config.head == HEAD_SCORE;
}

/* Where each sample's scores begin. */
static enum status place_scores(struct scorer *s, const struct sample *samples, int64_t n) {
    TRY(GROW_ARRAY(s->first, s->cap_first, n + 1));
    s->first[0] = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t count = samples[i].n_responses;
        s->first[i + 1] = s->first[i] + (count > SCORER_RESPONSES ? count : SCORER_RESPONSES);
    }
    return GROW_ARRAY(s->scores, s->cap_scores, s->first[n]);
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
    return reads_values(s) ? forest_value(f, child) : forest_score(f, child, &unscored);
}

static enum status build_forest(struct scorer *s, const struct sample *samples, int64_t n) {
    struct forest *f = &s->forest;
    forest_clear(f);
    TRY(place_scores(s, samples, n));
    memset(s->scores, 0, (size_t)s->first[n] * sizeof *s->scores);
    for (int64_t i = 0; i < n; i++) {
        const struct sample *sample = &samples[i];
        int32_t root;
        TRY(forest_add(f, -1, sample->prompt, sample->prompt_count, sample->row, &root));
        for (int32_t j = 0; j < sample->n_responses; j++) {
            struct response_score *score = &s->scores[s->first[i] + j];
            score->first = f->n_readouts;
            TRY(add_response(s, root, sample->row, &sample->responses[j]));
            score->tokens = f->n_readouts - score->first;
        }
    }
    return forest_finish(f, s->model->config.vocabulary, s->model->config.max_positions);
}

static void sum_tokens(struct scorer *s, struct response_score *score) {
    for (int64_t t = score->first; t < score->first + score->tokens; t++) {
        score->logp += s->tokens.logp[t];
        score->entropy += s->tokens.entropy[t];
        score->mean_logit += s->tokens.mean_logit[t];
        score->top += s->tokens.is_top[t];
    }
}

enum status scorer_run(struct scorer *s, const struct sample *samples, int64_t n) {
    s->samples = samples;
    s->n_samples = n;
    TRY(build_forest(s, samples, n));
    TRY(grow_readouts(s, s->forest.n_readouts));
    TRY(pass_forward(s->pass, &s->forest));
    if (reads_values(s)) { /* one readout a response, in the place of log-probabilities */
        TRY(pass_values(s->pass, s->forest.readout_at, s->forest.n_readouts, s->tokens.logp));
    } else {
        TRY(pass_logps(s->pass, &s->tokens));
    }
    for (int64_t i = 0; i < s->first[n]; i++) {
        struct response_score *score = &s->scores[i];
        if (!reads_values(s)) {
            sum_tokens(s, score);
        } else if (score->tokens > 0) {
            *score = (struct response_score){.value = s->tokens.logp[score->first], .first = score->first};
        }
    }
    return OK;
}

/* Which response a readout is of: readouts are in the order of responses. */
static void spread(const struct scorer *s, const double *gradient) {
    int64_t next = 0;
    for (int64_t i = 0; i < s->n_samples; i++) {
        for (int32_t j = 0; j < s->samples[i].n_responses; j++) {
            int64_t at = s->first[i] + j;
            int64_t count = reads_values(s) ? 1 : s->scores[at].tokens;
            for (int64_t end = next + count; next < end; next++) {
                s->weights[next] = gradient[at];
            }
        }
    }
}

enum status scorer_backward(struct scorer *s, const double *gradient, pass_on_final *on_final,
                            void *context) {
    struct readout_gradients g = {0};
    spread(s, gradient);
    *(reads_values(s) ? &g.values : &g.logp) = s->weights;
    return pass_backward(s->pass, &g, on_final, context);
}

double scorer_flops(const struct scorer *s) {
    const struct model_config *c = &s->model->config;
    return s->forest.n_tokens * model_flops_layers(c) + s->forest.n_readouts * model_flops_head(c) +
           (double)s->forest.attention_pairs * model_flops_attention(c);
}
