/* How much memory a pass takes: counted by running it on the plan back end, which computes nothing. */
#include "model/lora.h"
#include "model/pass_internal.h"
#include "util/mem.h"

/* The plan back end reserves no memory, so its workspace may be as large as sizes go. */
static const int64_t WORKSPACE_BYTES = (int64_t)1 << 50;

static enum status open_plan(const struct backend_caps *caps, struct backend **out) {
    char why[256];
    struct backend_request request = {.device = "plan", .compute = "fp32", .device_index = -1};
    TRY(backend_open(&request, out, why));
    (*out)->caps.master = caps->master;
    (*out)->caps.compute = caps->compute;
    (*out)->caps.readout = caps->readout;
    return OK;
}

/* Sequences as long as the model has positions for; rows [0, distinct) are read, the first of them as often
 * as needed. */
static enum status fill_forest(struct forest *f, const struct model_config *c, int32_t tokens,
                               int32_t readouts, int32_t distinct) {
    int32_t *ids, segment;
    int64_t longest = c->learned_positions && c->max_positions < tokens ? c->max_positions : tokens;
    enum status st = OK;
    TRY(NEW_ARRAY(ids, (int64_t)tokens + readouts));
    forest_clear(f);
    for (int64_t i = 0; i < tokens && st == OK; i += longest) {
        st = forest_add(f, -1, ids, (int32_t)(tokens - i < longest ? tokens - i : longest), i, &segment);
    }
    if (st == OK && readouts > 0) {
        /* Only the counts matter here, so the arrays are filled without forest_score(). */
        st = NEW_ARRAY(f->readout_at, readouts);
        st = st == OK ? NEW_ARRAY(f->readout_segment, readouts) : st;
        f->readout_target = ids;
        ids = NULL;
        f->n_readouts = st == OK ? readouts : 0;
        f->cap_readouts = f->n_readouts;
        for (int32_t i = 0; i < f->n_readouts; i++) {
            f->readout_at[i] = i < distinct ? i : 0;
        }
    }
    mem_free(ids);
    return st == OK ? forest_finish(f, INT32_MAX, 0) : st;
}

/* A model like one of this configuration, with adapters beside a frozen base where it has them. */
static enum status open_counted(struct backend *b, const struct model_config *c, struct model **out) {
    struct lora *l;
    TRY(model_open_as(b, c, c->lora ? ARENA_FROZEN : ARENA_TRAINED, 0, out));
    return c->lora ? lora_open(*out, c->lora, ARENA_TRAINED, 0, &l) : OK;
}

/* As many conditions as a pass of the model has at most, of which nothing is read. */
static enum status open_condition(const struct model_config *c, struct condition *out, double **z) {
    *out = (struct condition){0};
    if (!c->lora || c->lora->film.layers == 0) {
        return OK;
    }
    const struct film_layout *f = &c->lora->film;
    *out = (struct condition){.n = f->conditions, .width = f->width};
    TRY(NEW_ARRAY(*z, f->conditions * f->width));
    out->z = *z;
    return OK;
}

static enum status run_once(struct model *m, struct workspace *w, enum pass_keep keep,
                            const struct condition *condition, const struct forest *f) {
    struct pass *p = NULL;
    double *logps = NULL, *values = NULL;
    enum status st = OK;
    TRY_TO(done, NEW_ARRAY(logps, (int64_t)f->n_readouts + 1));
    TRY_TO(done, m->config.value_head ? NEW_ARRAY(values, (int64_t)f->n_readouts + 1) : OK);
    TRY_TO(done, pass_open(m, w, keep, &p));
    if (m->config.lora && keep != KEEP_NOTHING) {
        pass_drop(p, 0, 0);
    }
    pass_condition(p, condition);
    TRY_TO(done, pass_forward(p, f));
    if (m->config.head == HEAD_LANGUAGE) {
        TRY_TO(done, pass_logps(p, &(struct token_scores){.logp = logps, .value = values}));
    } else {
        bool reads = f->n_readouts > 0;
        TRY_TO(done, pass_values(p, reads ? f->readout_at : &(int32_t){0}, reads ? f->n_readouts : 1, logps));
    }
    if (keep != KEEP_NOTHING) {
        struct readout_gradients g = {.token_values = values};
        *(m->config.head == HEAD_LANGUAGE ? &g.logp : &g.values) = logps;
        TRY_TO(done, pass_backward(p, &g, NULL, NULL));
    }
done:
    pass_close(p);
    mem_free(logps);
    mem_free(values);
    return st;
}

enum status pass_bytes(const struct model_config *c, const struct backend_caps *caps, enum pass_keep keep,
                       int32_t tokens, int32_t readouts, int64_t *out) {
    struct backend *b = NULL;
    struct model *m = NULL;
    struct workspace w = {0};
    struct forest f = {0};
    struct condition condition;
    double *z = NULL;
    enum status st = OK;
    TRY_TO(done, open_condition(c, &condition, &z));
    TRY_TO(done, open_plan(caps, &b));
    TRY_TO(done, open_counted(b, c, &m));
    TRY_TO(done, arena_need_gradients(m->trained));
    TRY_TO(done, workspace_open(b, WORKSPACE_BYTES, &w));
    /* Rows that go on in the last layer: copies of fewer than all of them can take more than all. */
    int32_t most = readouts < tokens ? readouts : tokens;
    int32_t fewer = most == tokens && tokens > 1 ? tokens - 1 : most;
    const int32_t distinct[] = {most, fewer};
    for (int i = 0; i < COUNT_OF(distinct); i++) {
        TRY_TO(done, fill_forest(&f, c, tokens, readouts, distinct[i]));
        TRY_TO(done, run_once(m, &w, keep, condition.n > 0 ? &condition : NULL, &f));
        forest_free(&f);
    }
    *out = w.peak;
done:
    mem_free(z);
    forest_free(&f);
    workspace_close(&w);
    model_close(m);
    backend_close(b);
    return st;
}

enum status cache_bytes(const struct model_config *c, const struct backend_caps *caps, int32_t sequences,
                        int32_t max_tokens, int64_t *out) {
    struct backend *b = NULL;
    struct model *m = NULL;
    struct cache *cache = NULL;
    struct workspace w = {0};
    int32_t *ids = NULL, *offsets = NULL, *all = NULL;
    float *logits = NULL;
    struct condition condition;
    double *z = NULL;
    enum status st = OK;
    int64_t logit_count, most = max_tokens > CACHE_PREFILL_TOKENS ? max_tokens : CACHE_PREFILL_TOKENS;
    most = most > sequences ? most : sequences;
    TRY(size_mul(sequences, c->vocabulary, "logits", &logit_count));
    TRY_TO(done, open_plan(caps, &b));
    TRY_TO(done, open_counted(b, c, &m));
    TRY_TO(done, workspace_open(b, WORKSPACE_BYTES, &w));
    TRY_TO(done, cache_open(m, &w, sequences, max_tokens, &cache));
    TRY_TO(done, open_condition(c, &condition, &z));
    cache_condition(cache, condition.n > 0 ? &condition : NULL);
    /* The fullest group of prompts there can be, then a step of all sequences. */
    int64_t total = most < (int64_t)sequences * max_tokens ? most : (int64_t)sequences * max_tokens;
    TRY_TO(done, NEW_ARRAY(ids, total + sequences));
    TRY_TO(done, NEW_ARRAY(offsets, (int64_t)sequences + 1));
    TRY_TO(done, NEW_ARRAY(all, sequences));
    TRY_TO(done, NEW_ARRAY(logits, logit_count));
    for (int32_t s = 0; s < sequences; s++) {
        offsets[s + 1] = offsets[s] + (int32_t)(total / sequences + (s < total % sequences));
        all[s] = s;
    }
    TRY_TO(done, cache_prefill(cache, ids, offsets, sequences, logits));
    if (total < (int64_t)sequences * max_tokens) {
        TRY_TO(done, cache_step(cache, all, ids, offsets[1] < max_tokens ? sequences : 0, logits));
    }
    *out = w.peak;
done:
    cache_close(cache);
    workspace_close(&w);
    model_close(m);
    backend_close(b);
    mem_free(z);
    mem_free(ids);
    mem_free(offsets);
    mem_free(all);
    mem_free(logits);
    return st;
}
