/* Decoding with a key/value cache.
 *
 * Each layer has a key and a value buffer of sequences x max_tokens rows; sequence i's tokens lie at
 * i * max_tokens. Buffers start from zero and every row is added to once, so that the model's scatter_add
 * serves as the write.
 *
 * With longrope a sequence that passes its original positions is computed again from its first token, since
 * all its keys turn by other angles from there on; transformers does so too.
 */
#include <string.h>

#include "model/pass_internal.h"
#include "util/mem.h"

struct cache {
    struct model *model;
    struct workspace *w;
    struct pass *pass;
    int64_t mark; /* before the buffers */
    int32_t sequences, max_tokens;
    struct tensor keys, values; /* (layers * sequences * max_tokens, K hd) */
    int32_t *lengths, *prompts; /* tokens in the cache, and of them the prompt's, per sequence */
    int32_t *known;             /* sequences x max_tokens of them, only with longrope */
    int32_t *conditions;        /* per sequence; -1: none */
    struct forest forest;
    int32_t *rows, *positions, *lengths_now, *wanted, *conditions_now; /* of a run's tokens */
    int64_t cap_rows;
    struct query_span *spans; /* of a step */
    struct key_range *ranges;
};

static int64_t layer_rows(const struct cache *c) {
    return (int64_t)c->sequences * c->max_tokens;
}

void cache_layer(const struct cache *c, int64_t l, struct tensor *k, struct tensor *v) {
    *k = tensor_rows(c->keys, l * layer_rows(c), layer_rows(c));
    *v = tensor_rows(c->values, l * layer_rows(c), layer_rows(c));
}

enum status cache_add(struct cache *c, struct pass *p, int64_t l, const struct layer_state *s) {
    struct tensor k, v;
    cache_layer(c, l, &k, &v);
    TRY(backend_scatter_add(p->w->backend, k, s->k, p->cache_rows));
    return backend_scatter_add(p->w->backend, v, s->v, p->cache_rows);
}

static enum status open_buffers(struct cache *c) {
    const struct model_config *m = &c->model->config;
    enum dtype type = c->w->backend->caps.compute;
    int64_t rows;
    TRY(size_mul(m->layers, layer_rows(c), "key/value cache", &rows));
    TRY(workspace_take(c->w, rows, m->kv_heads * m->head_dim, type, "key cache", &c->keys));
    return workspace_take(c->w, rows, m->kv_heads * m->head_dim, type, "value cache", &c->values);
}

enum status cache_open(struct model *m, struct workspace *w, int32_t sequences, int32_t max_tokens,
                       struct cache **out) {
    struct cache *c;
    enum status st = OK;
    if (sequences < 1 || max_tokens < 1 || (int64_t)sequences * max_tokens > INT32_MAX) {
        return fail(ERR_USAGE,
                    "a cache of %d sequences of %d tokens is too large; lower generate.batch or "
                    "generate.max_new_tokens",
                    sequences, max_tokens);
    }
    TRY(NEW_ARRAY(c, 1));
    c->model = m;
    c->w = w;
    c->sequences = sequences;
    c->max_tokens = max_tokens;
    c->mark = workspace_mark(w);
    TRY_TO(failed, NEW_ARRAY(c->lengths, sequences));
    TRY_TO(failed, NEW_ARRAY(c->prompts, sequences));
    TRY_TO(failed, NEW_ARRAY(c->conditions, sequences));
    for (int32_t s = 0; s < sequences; s++) {
        c->conditions[s] = -1;
    }
    TRY_TO(failed, NEW_ARRAY(c->spans, sequences));
    TRY_TO(failed, NEW_ARRAY(c->ranges, 2 * (int64_t)sequences));
    if (m->config.rope.scaling == ROPE_LONG) {
        TRY_TO(failed, NEW_ARRAY(c->known, (int64_t)sequences * max_tokens));
    }
    TRY_TO(failed, open_buffers(c));
    TRY_TO(failed, pass_open(m, w, KEEP_NOTHING, &c->pass));
    *out = c;
    return OK;
failed:
    cache_close(c);
    return st;
}

void cache_close(struct cache *c) {
    if (!c) {
        return;
    }
    pass_close(c->pass);
    workspace_release(c->w, c->mark);
    forest_free(&c->forest);
    mem_free(c->lengths);
    mem_free(c->prompts);
    mem_free(c->known);
    mem_free(c->conditions);
    mem_free(c->conditions_now);
    mem_free(c->spans);
    mem_free(c->ranges);
    mem_free(c->rows);
    mem_free(c->positions);
    mem_free(c->lengths_now);
    mem_free(c->wanted);
    mem_free(c);
}

void cache_condition(struct cache *c, const struct condition *condition) {
    pass_condition(c->pass, condition);
}

void cache_set_condition(struct cache *c, int32_t sequence, int32_t condition) {
    c->conditions[sequence] = condition;
}

static enum status reserve(struct cache *c, int64_t n) {
    return GROW_ARRAYS(c->cap_rows, n, GROWN(c->rows), GROWN(c->positions), GROWN(c->lengths_now),
                       GROWN(c->wanted), GROWN(c->conditions_now));
}

static enum status run(struct cache *c, const struct trunk_input *in, int32_t n_logits, float *logits) {
    struct pass *p = c->pass;
    workspace_release(c->w, p->mark);
    p->is_forward_done = false;
    TRY(trunk_run(p, in));
    for (int32_t i = 0; i < n_logits; i++) {
        c->wanted[i] = i; /* active rows are those that were wanted, in order */
    }
    return pass_active_logits(p, c->wanted, n_logits, logits);
}

/* n prompts as roots of one forest, into these sequences. */
static enum status prefill_group(struct cache *c, const int32_t *sequences, const int32_t *tokens,
                                 const int32_t *offsets, int32_t n, float *logits) {
    struct forest *f = &c->forest;
    int32_t segment, total = offsets[n] - offsets[0], at = 0;
    const struct model_config *m = &c->model->config;
    forest_clear(f);
    TRY(reserve(c, total));
    for (int32_t i = 0; i < n; i++) {
        int32_t s = sequences[i], count = offsets[i + 1] - offsets[i];
        TRY(forest_add(f, -1, tokens + offsets[i], count, s, &segment));
        if (c->known) {
            memmove(c->known + (int64_t)s * c->max_tokens, tokens + offsets[i],
                    (size_t)count * sizeof *tokens);
        }
        for (int32_t j = 0; j < count; j++, at++) {
            c->rows[at] = s * c->max_tokens + j;
            c->lengths_now[at] = count;
            c->conditions_now[at] = c->conditions[s];
        }
        c->wanted[i] = at - 1;
        c->lengths[s] = c->prompts[s] = count;
    }
    TRY(forest_finish(f, m->vocabulary, m->learned_positions ? m->max_positions : 0));
    struct trunk_input in = {
        .n = total,
        .tokens = f->tokens,
        .positions = f->positions,
        .lengths = c->lengths_now,
        .map = &f->map,
        .wanted = c->wanted,
        .n_wanted = n,
        .cache = c,
        .cache_rows = c->rows,
        .conditions = c->conditions_now,
    };
    return run(c, &in, n, logits);
}

static enum status check_sequence(const struct cache *c, int32_t s) {
    if (s < 0 || s >= c->sequences) {
        return fail(ERR_INTERNAL, "cache: sequence %d of %d", s, c->sequences);
    }
    return OK;
}

/* Rows [first, max_tokens) of a sequence, in every layer, hold nothing. */
static enum status clear_rows(struct cache *c, int32_t s, int32_t first) {
    for (int64_t l = 0; l < c->model->config.layers && first < c->max_tokens; l++) {
        struct tensor k, v;
        int64_t row = (int64_t)s * c->max_tokens + first;
        cache_layer(c, l, &k, &v);
        TRY(backend_zero_tensor(c->w->backend, tensor_rows(k, row, c->max_tokens - first)));
        TRY(backend_zero_tensor(c->w->backend, tensor_rows(v, row, c->max_tokens - first)));
    }
    return OK;
}

enum status cache_start_all(struct cache *c, const int32_t *sequences, const int32_t *tokens,
                            const int32_t *offsets, int32_t n, float *logits) {
    for (int32_t i = 0; i < n; i++) {
        int32_t count = offsets[i + 1] - offsets[i];
        TRY(check_sequence(c, sequences[i]));
        if (count < 1 || count > c->max_tokens) {
            return fail(ERR_DATA, "a prompt of %d tokens; the cache holds 1 to %d", count, c->max_tokens);
        }
        TRY(clear_rows(c, sequences[i], 0));
    }
    int32_t most = c->max_tokens > CACHE_PREFILL_TOKENS ? c->max_tokens : CACHE_PREFILL_TOKENS;
    for (int32_t first = 0; first < n;) {
        int32_t last = first + 1;
        while (last < n && offsets[last + 1] - offsets[first] <= most) {
            last++;
        }
        TRY(prefill_group(c, sequences + first, tokens, offsets + first, last - first,
                          logits + first * c->model->config.vocabulary));
        first = last;
    }
    return OK;
}

enum status cache_start(struct cache *c, int32_t sequence, const int32_t *tokens, int32_t count,
                        float *logits) {
    const int32_t offsets[] = {0, count};
    return cache_start_all(c, &sequence, tokens, offsets, 1, logits);
}

enum status cache_prefill(struct cache *c, const int32_t *tokens, const int32_t *offsets, int32_t n,
                          float *logits) {
    int32_t *sequences;
    if (n < 1 || n > c->sequences) {
        return fail(ERR_INTERNAL, "cache: %d prompts for %d sequences", n, c->sequences);
    }
    TRY(NEW_ARRAY(sequences, n));
    for (int32_t s = 0; s < n; s++) {
        sequences[s] = s;
    }
    enum status st = cache_start_all(c, sequences, tokens, offsets, n, logits);
    mem_free(sequences);
    return st;
}

static enum status read_again(struct cache *c, int32_t from, int32_t to) {
    float *logits;
    TRY(NEW_ARRAY(logits, c->model->config.vocabulary));
    enum status st = cache_start(c, to, c->known + (int64_t)from * c->max_tokens, c->prompts[from], logits);
    mem_free(logits);
    return st;
}

enum status cache_copy_prompt(struct cache *c, int32_t from, int32_t to) {
    struct backend *b = c->w->backend;
    TRY(check_sequence(c, from));
    TRY(check_sequence(c, to));
    int32_t count = c->prompts[from];
    c->conditions[to] = c->conditions[from];
    int64_t break_at = model_rope_break(&c->model->config);
    if (c->known && count <= break_at && c->lengths[from] > break_at) {
        return read_again(c, from, to); /* its keys turn by the long factors by now */
    }
    if (c->known) {
        memmove(c->known + (int64_t)to * c->max_tokens, c->known + (int64_t)from * c->max_tokens,
                (size_t)count * sizeof *c->known);
    }
    for (int64_t l = 0; l < c->model->config.layers && from != to; l++) {
        struct tensor kv[2];
        cache_layer(c, l, &kv[0], &kv[1]);
        for (int i = 0; i < 2; i++) {
            struct tensor old = tensor_rows(kv[i], (int64_t)from * c->max_tokens, count);
            struct tensor new = tensor_rows(kv[i], (int64_t)to * c->max_tokens, count);
            TRY(backend_copy(b, new.data, old.data, count * old.columns * dtype_size(old.type)));
        }
    }
    c->lengths[to] = c->prompts[to] = count;
    return clear_rows(c, to, count);
}

enum status cache_token_logps(struct cache *c, const float *logits, const int32_t *targets, int32_t n,
                              double *out) {
    return pass_token_logps(c->pass, logits, targets, n, out);
}

/* What a sequence's next token sees: its prompt, and what came after, as a forest has it. So the keys are
 * taken in the same tiles, and a token's probability has the same bits as in a forest. */
static void see(struct cache *c, int32_t i, int32_t s, int32_t *n_ranges) {
    int32_t first = s * c->max_tokens, prompt = c->prompts[s];
    c->spans[i] = (struct query_span){i, 1, *n_ranges, 2};
    c->ranges[(*n_ranges)++] = (struct key_range){first, prompt, false};
    c->ranges[(*n_ranges)++] = (struct key_range){first + prompt, c->lengths[s] - prompt, true};
}

static enum status step(struct cache *c, const int32_t *sequences, const int32_t *tokens, int32_t n,
                        float *logits) {
    int64_t vocabulary = c->model->config.vocabulary;
    int32_t n_ranges = 0;
    TRY(reserve(c, n));
    for (int32_t i = 0; i < n; i++) {
        int32_t s = sequences[i];
        if (s < 0 || s >= c->sequences || c->lengths[s] < 1 || c->lengths[s] >= c->max_tokens) {
            return fail(ERR_INTERNAL, "cache: sequence %d of %d has no room or no prompt", s, c->sequences);
        }
        if (tokens[i] < 0 || tokens[i] >= vocabulary) {
            return fail(ERR_DATA, "token id %d is outside the model's vocabulary of %lld", tokens[i],
                        (long long)vocabulary);
        }
        c->positions[i] = c->lengths[s];
        c->rows[i] = s * c->max_tokens + c->lengths[s];
        c->lengths_now[i] = ++c->lengths[s];
        c->conditions_now[i] = c->conditions[s];
        see(c, i, s, &n_ranges);
    }
    struct attention_map map = {
        .span_count = n, .range_count = n_ranges, .spans = c->spans, .ranges = c->ranges};
    map.id = model_map_id(&map);
    struct trunk_input in = {
        .n = n,
        .tokens = tokens,
        .positions = c->positions,
        .lengths = c->lengths_now,
        .map = &map,
        .cache = c,
        .cache_rows = c->rows,
        .attend_cache = true,
        .conditions = c->conditions_now,
    };
    return n > 0 ? run(c, &in, n, logits) : OK;
}

/* Whether the next token of s is the first that turns by the long factors. */
static bool passes(const struct cache *c, int32_t s) {
    return s >= 0 && s < c->sequences && c->lengths[s] < c->max_tokens &&
           c->lengths[s] == model_rope_break(&c->model->config);
}

/* The same with longrope: runs of sequences that go on as they are, between those that begin again. */
static enum status step_long(struct cache *c, const int32_t *sequences, const int32_t *tokens, int32_t n,
                             float *logits) {
    int64_t vocabulary = c->model->config.vocabulary;
    for (int32_t i = 0; i < n;) {
        int32_t last = i;
        while (last < n && !passes(c, sequences[last])) {
            last++;
        }
        TRY(step(c, sequences + i, tokens + i, last - i, logits + i * vocabulary));
        for (; i < last; i++) {
            c->known[(int64_t)sequences[i] * c->max_tokens + c->lengths[sequences[i]] - 1] = tokens[i];
        }
        if (last < n) {
            int32_t s = sequences[last], *known = c->known + (int64_t)s * c->max_tokens;
            int32_t prompt = c->prompts[s];
            known[c->lengths[s]] = tokens[last];
            TRY(cache_start(c, s, known, c->lengths[s] + 1, logits + last * vocabulary));
            c->prompts[s] = prompt;
            i = last + 1;
        }
    }
    return OK;
}

enum status cache_step(struct cache *c, const int32_t *sequences, const int32_t *tokens, int32_t n,
                       float *logits) {
    return c->known ? step_long(c, sequences, tokens, n, logits) : step(c, sequences, tokens, n, logits);
}
