#include "train/scorer.h"

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
    *s = (struct scorer){0};
}

static enum status grow_readouts(struct scorer *s, int64_t need) {
    if (need <= s->cap_readouts) {
        return OK;
    }
    int64_t capacity = 0;
    TRY(GROW_ARRAY(s->tokens.logp, capacity, need));
    capacity = 0;
    TRY(GROW_ARRAY(s->tokens.entropy, capacity, need));
    capacity = 0;
    TRY(GROW_ARRAY(s->tokens.mean_logit, capacity, need));
    capacity = 0;
    TRY(GROW_ARRAY(s->tokens.is_top, capacity, need));
    capacity = 0;
    TRY(GROW_ARRAY(s->weights, capacity, need));
    s->cap_readouts = need;
    return OK;
}

static enum status build_forest(struct scorer *s, const struct sample *samples, int64_t n) {
    struct forest *f = &s->forest;
    forest_clear(f);
    TRY(GROW_ARRAY(s->scores, s->cap_scores, SCORER_RESPONSES * n));
    for (int64_t i = 0; i < n; i++) {
        const struct sample *sample = &samples[i];
        int32_t root;
        TRY(forest_add(f, -1, sample->prompt, sample->prompt_count, sample->row, &root));
        for (int j = 0; j < SCORER_RESPONSES; j++) {
            struct response_score *score = &s->scores[SCORER_RESPONSES * i + j];
            *score = (struct response_score){.first = f->n_readouts};
            if (j >= sample->n_responses) {
                continue;
            }
            const struct sample_response *r = &sample->responses[j];
            int32_t child;
            int32_t unscored = 0;
            TRY(forest_add(f, root, r->tokens, r->count, sample->row, &child));
            TRY(forest_score(f, child, &unscored));
            score->tokens = f->n_readouts - score->first;
        }
    }
    return forest_finish(f, s->model->config.vocabulary, s->model->config.max_positions);
}

enum status scorer_run(struct scorer *s, const struct sample *samples, int64_t n) {
    s->samples = samples;
    s->n_samples = n;
    TRY(build_forest(s, samples, n));
    TRY(grow_readouts(s, s->forest.n_readouts));
    TRY(pass_forward(s->pass, &s->forest));
    TRY(pass_logps(s->pass, &s->tokens));
    for (int64_t i = 0; i < SCORER_RESPONSES * n; i++) {
        struct response_score *score = &s->scores[i];
        for (int64_t t = score->first; t < score->first + score->tokens; t++) {
            score->logp += s->tokens.logp[t];
            score->entropy += s->tokens.entropy[t];
            score->mean_logit += s->tokens.mean_logit[t];
            score->top += s->tokens.is_top[t];
        }
    }
    return OK;
}

enum status scorer_backward(struct scorer *s, const double *gradient, pass_on_final *on_final,
                            void *context) {
    for (int64_t i = 0; i < SCORER_RESPONSES * s->n_samples; i++) {
        const struct response_score *score = &s->scores[i];
        for (int64_t t = score->first; t < score->first + score->tokens; t++) {
            s->weights[t] = gradient[i];
        }
    }
    const struct readout_gradients g = {.logp = s->weights};
    return pass_backward(s->pass, &g, on_final, context);
}

double scorer_flops(const struct scorer *s) {
    const struct model_config *c = &s->model->config;
    return s->forest.n_tokens * model_flops_layers(c) + s->forest.n_readouts * model_flops_head(c) +
           (double)s->forest.attention_pairs * model_flops_attention(c);
}
