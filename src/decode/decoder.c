#include "decode/decoder.h"

#include <math.h>
#include <string.h>

#include "decode/draw.h"
#include "util/mem.h"

/* Rows that a step or a reading of prompts takes at most: logits of so many are held. */
enum { MOST_ROWS = 64 };
/* Rows of a step are drawn by drawers beside each other; each has a few vectors over the vocabulary. */
enum { MOST_DRAWERS = 16 };

/* A sequence of the caches. */
struct sequence {
    int64_t item;   /* of the run's prompts, being answered; -1: idle */
    int32_t length; /* tokens in the cache */
    int32_t token;  /* goes in next */
};
struct voice {
    struct model *model;
    struct cache *cache;  /* NULL: not there */
    struct workspace own; /* of voices but the policy */
    float *logits;        /* most_rows x vocabulary */
    float *kept;          /* those of the last prompt that was read */
};

struct decoder {
    struct model *model;
    struct decoder_options options;
    struct voice voices[VOICES];
    struct drawer *drawers;
    int n_drawers, threads;
    bool steady;
    int32_t n_slots, max_tokens, most_rows;
    struct sequence *slots;
    int32_t kept_slot;                     /* which holds that last prompt */
    int32_t *sequences, *tokens, *offsets; /* of a step, or of the prompts that are read */
    int64_t cap_tokens;
    double *logps;
    struct drawn *drawn;
    bool *is_drawn;
    /* Of the run. */
    const struct prompt *prompts;
    struct response_tokens *out;
    int64_t n, next, done;
};

static int32_t slots_of(const struct decoder_options *o, const struct backend_caps *caps) {
    int32_t padded = (o->sequences + DECODER_ROWS - 1) / DECODER_ROWS * DECODER_ROWS;
    return caps->steady_rows ? o->sequences : padded;
}

static enum status tokens_of(const struct decoder_options *o, int32_t *out) {
    int sum = 0;
    TRY(to_int((int64_t)o->max_prompt + o->max_new_tokens, "prompt and response tokens", &sum));
    *out = sum;
    return OK;
}

enum status decoder_bytes(const struct model_config *c, const struct backend_caps *caps,
                          const struct decoder_options *o, int64_t *out) {
    int32_t max_tokens;
    TRY(tokens_of(o, &max_tokens));
    return cache_bytes(c, caps, slots_of(o, caps), max_tokens, out);
}

/* What follows goes through this voice's adapters; NULL where the voice is not there. */
static struct cache *use_voice(struct decoder *d, int v) {
    struct voice *voice = &d->voices[v];
    if (d->options.has_adapters && voice->model == d->model) {
        lora_use(voice->model, d->options.adapters[v]);
    }
    return voice->cache;
}

/* A voice besides the policy brings its own workspace: caches are not stacked. */
static enum status open_voice(struct decoder *d, struct model *m, struct workspace *w, int kind) {
    struct voice *v = &d->voices[kind];
    int64_t logits, bytes;
    if (m->config.vocabulary != d->model->config.vocabulary) {
        return fail(ERR_INTERNAL, "decoder: voices of different vocabularies");
    }
    v->model = m;
    (void)use_voice(d, kind);
    TRY(size_mul(d->most_rows, m->config.vocabulary, "logits", &logits));
    TRY(NEW_ARRAY(v->logits, logits));
    TRY(NEW_ARRAY(v->kept, m->config.vocabulary));
    if (!w) {
        TRY(decoder_bytes(&m->config, &m->backend->caps, &d->options, &bytes));
        TRY(workspace_open(m->backend, bytes, &v->own));
    }
    return cache_open(m, w ? w : &v->own, d->n_slots, d->max_tokens, &v->cache);
}

static enum status open_drawers(struct decoder *d) {
    int threads = d->model->backend->caps.threads;
    d->threads = threads < 1 ? 1 : threads;
    int n = d->threads < d->most_rows ? d->threads : d->most_rows;
    n = n < MOST_DRAWERS ? n : MOST_DRAWERS;
    TRY(NEW_ARRAY(d->drawers, n));
    while (d->n_drawers < n) {
        TRY(drawer_open(&d->options, d->model->config.vocabulary, &d->drawers[d->n_drawers++]));
    }
    return OK;
}

enum status decoder_open(struct model *m, struct workspace *w, const struct decoder_options *o,
                         struct decoder **out) {
    struct decoder *d;
    enum status st = OK;
    TRY(NEW_ARRAY(d, 1));
    d->model = m;
    d->options = *o;
    d->steady = m->backend->caps.steady_rows;
    d->n_slots = slots_of(o, &m->backend->caps);
    d->most_rows = !d->steady ? DECODER_ROWS : d->n_slots < MOST_ROWS ? d->n_slots : MOST_ROWS;
    TRY_TO(failed, tokens_of(o, &d->max_tokens));
    TRY_TO(failed, NEW_ARRAY(d->slots, d->n_slots));
    TRY_TO(failed, NEW_ARRAY(d->sequences, d->most_rows));
    TRY_TO(failed, NEW_ARRAY(d->offsets, d->most_rows + 1));
    TRY_TO(failed, NEW_ARRAY(d->logps, d->most_rows));
    TRY_TO(failed, NEW_ARRAY(d->drawn, d->most_rows));
    TRY_TO(failed, NEW_ARRAY(d->is_drawn, d->most_rows));
    TRY_TO(failed, GROW_ARRAY(d->tokens, d->cap_tokens, d->most_rows));
    TRY_TO(failed, open_drawers(d));
    for (int v = 0; v < VOICES; v++) {
        struct model *other = v == VOICE_POLICY ? m : o->voices[v];
        if (other) {
            TRY_TO(failed, open_voice(d, other, v == VOICE_POLICY ? w : NULL, v));
        }
    }
    (void)use_voice(d, VOICE_POLICY);
    cache_condition(d->voices[VOICE_POLICY].cache, o->condition);
    *out = d;
    return OK;
failed:
    decoder_close(d);
    return st;
}

void decoder_close(struct decoder *d) {
    if (!d) {
        return;
    }
    for (int v = 0; v < VOICES; v++) {
        cache_close(d->voices[v].cache);
        workspace_close(&d->voices[v].own);
        mem_free(d->voices[v].logits);
        mem_free(d->voices[v].kept);
    }
    for (int i = 0; i < d->n_drawers; i++) {
        drawer_close(&d->drawers[i]);
    }
    mem_free(d->drawers);
    mem_free(d->slots);
    mem_free(d->sequences);
    mem_free(d->offsets);
    mem_free(d->logps);
    mem_free(d->drawn);
    mem_free(d->is_drawn);
    mem_free(d->tokens);
    mem_free(d);
}

void decoder_set_rule(struct decoder *d, const struct rule *rule) {
    d->options.rule = *rule;
}

static bool is_stop(const struct decoder_options *o, const struct response_tokens *r) {
    for (int32_t i = 0; i < o->n_stops; i++) {
        if (o->stops[i] == r->tokens[r->count - 1]) {
            return true;
        }
    }
    return o->is_end && o->is_end(o->end_context, r->tokens, r->count);
}

/* Row i of every voice's logits, or of those that were kept. */
static void rows_of(const struct decoder *d, int32_t i, const float *rows[VOICES]) {
    for (int v = 0; v < VOICES; v++) {
        const struct voice *voice = &d->voices[v];
        const float *row = i < 0 ? voice->kept : voice->logits + i * d->model->config.vocabulary;
        rows[v] = voice->cache ? row : NULL;
    }
}

/* The slot's next token; fails where its logits are broken. Any thread, with a drawer of its own. */
static enum status draw_with(struct drawer *drawer, const struct decoder *d, const struct sequence *slot,
                             const float *const rows[VOICES], struct drawn *drawn) {
    const struct response_tokens *out = &d->out[slot->item];
    return drawer_draw(drawer, &d->prompts[slot->item], out, rows, out->numbers != NULL, drawn);
}

/* The same for this thread; where the logits are broken, the response ends with what it has. */
static bool draw(struct decoder *d, struct sequence *slot, const float *const rows[VOICES],
                 struct drawn *drawn) {
    struct response_tokens *out = &d->out[slot->item];
    if (draw_with(&d->drawers[0], d, slot, rows, drawn) != OK) {
        (void)note("generating token %d of row %lld", out->count, (long long)d->prompts[slot->item].row);
        out->broken = true;
        slot->item = -1;
        d->done++;
        return false;
    }
    slot->token = drawn->token;
    return true;
}

/* One drawer's rows of a step: every n_drawers-th. */
static void draw_share(struct decoder *d, int drawer, int32_t n) {
    for (int32_t i = drawer; i < n; i += d->n_drawers) {
        const float *rows[VOICES];
        struct sequence *slot = &d->slots[d->sequences[i]];
        d->drawn[i] = (struct drawn){0};
        rows_of(d, i, rows);
        d->is_drawn[i] = slot->item >= 0 && draw_with(&d->drawers[drawer], d, slot, rows, &d->drawn[i]) == OK;
    }
}

/* Those of a step's slots that are not idle. What a thread fails at is drawn again by this one, which says
 * so: a draw depends on nothing but its logits and its place. The team is the back end's, whose size does not
 * change: another size would end and start threads at every step. */
static void draw_all(struct decoder *d, int32_t n) {
#pragma omp parallel for num_threads(d->threads) schedule(static, 1) if (n > 1)
    for (int drawer = 0; drawer < d->n_drawers; drawer++) {
        draw_share(d, drawer, n);
    }
    for (int32_t i = 0; i < n; i++) {
        const float *rows[VOICES];
        struct sequence *slot = &d->slots[d->sequences[i]];
        rows_of(d, i, rows);
        if (d->is_drawn[i]) {
            slot->token = d->drawn[i].token;
        } else if (slot->item >= 0) {
            (void)draw(d, slot, rows, &d->drawn[i]);
        }
    }
}

/* Adds the token; at a stop or the limit the slot becomes idle. */
static void take(struct decoder *d, struct sequence *slot, const struct drawn *drawn) {
    struct response_tokens *out = &d->out[slot->item];
    if (out->numbers) {
        out->numbers[out->count] = drawn->numbers;
    }
    out->tokens[out->count++] = drawn->token;
    out->stopped = is_stop(&d->options, out);
    if (out->stopped || out->count == d->options.max_new_tokens) {
        slot->item = -1;
        d->done++;
    }
}

/* The voice that is compared with; -1: none. */
static int reference_voice(const struct decoder *d) {
    bool is_proxy = d->options.rule.kind == RULE_PROXY;
    return d->voices[VOICE_REFERENCE].cache ? VOICE_REFERENCE : is_proxy ? VOICE_POLICY : -1;
}

/* Log-probabilities of what was drawn, where they are a voice's own. row: of its logits, the first of n. */
static enum status add_logps(struct decoder *d, int32_t row, int32_t n, struct drawn *drawn) {
    const float *rows[VOICES];
    rows_of(d, row, rows);
    for (int32_t i = 0; i < n; i++) {
        d->tokens[i] = drawn[i].token;
    }
    for (int v = VOICE_POLICY; v <= VOICE_REFERENCE && rows[v]; v++) {
        TRY(cache_token_logps(d->voices[v].cache, rows[v], d->tokens, n, d->logps));
        for (int32_t i = 0; i < n; i++) {
            struct token_numbers *numbers = &drawn[i].numbers;
            bool is_own = drawn[i].from == rows[v] + i * d->model->config.vocabulary;
            numbers->logp = is_own ? d->logps[i] : numbers->logp;
            numbers->reference_logp = v == reference_voice(d) ? d->logps[i] : numbers->reference_logp;
        }
    }
    for (int32_t i = 0; i < n; i++) {
        struct token_numbers *numbers = &drawn[i].numbers;
        numbers->drawn_logp = drawn[i].is_plain ? numbers->logp : numbers->drawn_logp;
    }
    return OK;
}

static bool same_prompt(const struct decoder *d, int64_t a, int64_t b) {
    return a >= 0 && d->prompts[a].tokens == d->prompts[b].tokens &&
           d->prompts[a].condition == d->prompts[b].condition && d->prompts[a].count == d->prompts[b].count;
}

/* A slot that has been given its next item, and the row of logits after its prompt; -1: the kept ones. */
struct start {
    int32_t slot, row;
};

static enum status check_prompt(const struct decoder *d, const struct prompt *p) {
    if (p->count > d->options.max_prompt) {
        return fail(ERR_INTERNAL, "decoder: row %lld has %d prompt tokens, announced were %d",
                    (long long)p->row, p->count, d->options.max_prompt);
    }
    for (int32_t i = 0; i < p->count; i++) {
        if (p->tokens[i] < 0 || p->tokens[i] >= d->model->config.vocabulary) {
            return fail(ERR_DATA, "the prompt of row %lld: token id %d is outside the vocabulary of %lld",
                        (long long)p->row, p->tokens[i], (long long)d->model->config.vocabulary);
        }
    }
    return OK;
}

/* Gives idle slots the next items, at most `most` distinct prompts of them; those after the first sample of a
 * prompt that was read before copy it. n_new: prompts to be read, into d->sequences, their items in `items`.
 */
static enum status assign(struct decoder *d, struct start *starts, int64_t *items, int32_t *n,
                          int32_t *n_new) {
    *n = *n_new = 0;
    for (int32_t s = 0; s < d->n_slots && d->next < d->n; s++) {
        bool is_new = !same_prompt(d, d->next - 1, d->next);
        if (is_new && *n > *n_new && *n_new == 0) {
            break; /* what was kept is still needed */
        }
        if (d->slots[s].item >= 0 || *n == d->most_rows) {
            continue;
        }
        TRY(check_prompt(d, &d->prompts[d->next]));
        if (is_new) {
            items[*n_new] = d->next;
            d->sequences[(*n_new)++] = s;
        } else if (*n_new == 0) {
            for (int v = 0; v < VOICES; v++) {
                struct cache *cache = use_voice(d, v);
                TRY(cache ? cache_copy_prompt(cache, d->kept_slot, s) : OK);
            }
            d->kept_slot = s;
        }
        starts[(*n)++] = (struct start){s, *n_new - 1};
        d->slots[s] = (struct sequence){.item = d->next, .length = d->prompts[d->next].count};
        d->out[d->next].count = 0;
        d->out[d->next].stopped = d->out[d->next].broken = false;
        d->next++;
    }
    return OK;
}

/* Reads the new prompts, together where rows are steady. */
static enum status read_prompts(struct decoder *d, const int64_t *items, int32_t n) {
    int64_t vocabulary = d->model->config.vocabulary;
    int32_t step = d->steady ? n : 1;
    for (int32_t first = 0; first < n; first += step) {
        d->offsets[0] = 0;
        for (int32_t i = 0; i < step; i++) {
            const struct prompt *p = &d->prompts[items[first + i]];
            TRY(GROW_ARRAY(d->tokens, d->cap_tokens, (int64_t)d->offsets[i] + p->count));
            memcpy(d->tokens + d->offsets[i], p->tokens, (size_t)p->count * sizeof *p->tokens);
            d->offsets[i + 1] = d->offsets[i] + p->count;
            if (d->options.condition) {
                cache_set_condition(d->voices[VOICE_POLICY].cache, d->sequences[first + i], p->condition);
            }
        }
        for (int v = 0; v < VOICES; v++) {
            struct cache *cache = use_voice(d, v);
            if (cache && cache_start_all(cache, d->sequences + first, d->tokens, d->offsets, step,
                                         d->voices[v].logits + first * vocabulary) != OK) {
                return note("reading the prompts of rows %lld to %lld",
                            (long long)d->prompts[items[first]].row,
                            (long long)d->prompts[items[first + step - 1]].row);
            }
        }
    }
    for (int v = 0; v < VOICES && n > 0; v++) {
        struct voice *voice = &d->voices[v];
        if (voice->cache) {
            memcpy(voice->kept, voice->logits + (n - 1) * vocabulary, (size_t)vocabulary * sizeof(float));
        }
    }
    return OK;
}

/* Prompts that were read just now, for their further samples. */
static enum status copy_prompts(struct decoder *d, const struct start *starts, int32_t n) {
    for (int32_t i = 0; i < n; i++) {
        int32_t from = starts[i].row < 0 ? -1 : d->sequences[starts[i].row];
        for (int v = 0; v < VOICES && from >= 0 && from != starts[i].slot; v++) {
            struct cache *cache = use_voice(d, v);
            TRY(cache ? cache_copy_prompt(cache, from, starts[i].slot) : OK);
        }
        d->kept_slot = from >= 0 ? starts[i].slot : d->kept_slot;
    }
    return OK;
}

/* Gives idle slots the next items until each needs a second token, or none is left. */
static enum status fill(struct decoder *d) {
    struct start starts[MOST_ROWS];
    int64_t items[MOST_ROWS];
    int32_t n, n_new;
    do {
        TRY(assign(d, starts, items, &n, &n_new));
        TRY(read_prompts(d, items, n_new));
        TRY(copy_prompts(d, starts, n));
        for (int32_t i = 0; i < n; i++) {
            const float *rows[VOICES];
            struct drawn drawn;
            struct sequence *slot = &d->slots[starts[i].slot];
            rows_of(d, starts[i].row, rows);
            if (draw(d, slot, rows, &drawn)) {
                TRY(d->out[slot->item].numbers ? add_logps(d, starts[i].row, 1, &drawn) : OK);
                take(d, slot, &drawn);
            }
        }
    } while (n > 0);
    return OK;
}

/* An idle slot goes along with any token; it starts anew when the cache has no room for one more. */
static enum status idle_along(struct decoder *d, int32_t s) {
    struct sequence *slot = &d->slots[s];
    slot->token = 0;
    if (slot->length > 0 && slot->length < d->max_tokens) {
        return OK;
    }
    slot->length = 1;
    for (int v = 0; v < VOICES; v++) {
        struct cache *cache = use_voice(d, v);
        TRY(cache ? cache_start(cache, s, &slot->token, 1, d->voices[v].logits) : OK);
    }
    return OK;
}

/* One step of the n slots in d->sequences; idle ones among them are not read. */
static enum status step(struct decoder *d, int32_t n) {
    bool want = false;
    for (int32_t i = 0; i < n; i++) {
        d->tokens[i] = d->slots[d->sequences[i]].token;
    }
    for (int v = 0; v < VOICES; v++) {
        struct cache *cache = use_voice(d, v);
        TRY(cache ? cache_step(cache, d->sequences, d->tokens, n, d->voices[v].logits) : OK);
    }
    draw_all(d, n);
    for (int32_t i = 0; i < n; i++) {
        struct sequence *slot = &d->slots[d->sequences[i]];
        slot->length++;
        want |= slot->item >= 0 && d->out[slot->item].numbers != NULL;
    }
    TRY(want ? add_logps(d, 0, n, d->drawn) : OK);
    for (int32_t i = 0; i < n; i++) {
        struct sequence *slot = &d->slots[d->sequences[i]];
        if (slot->item >= 0) {
            take(d, slot, &d->drawn[i]);
        }
    }
    return OK;
}

/* One step of all slots that are not idle; where rows are not steady, of whole groups of slots. */
static enum status step_all(struct decoder *d) {
    for (int32_t first = 0; first < d->n_slots;) {
        int32_t n = 0, active = 0, s = first;
        for (; s < d->n_slots && n < d->most_rows; s++) {
            bool is_idle = d->slots[s].item < 0;
            active += !is_idle;
            if (!is_idle || !d->steady) {
                d->sequences[n++] = s;
            }
        }
        first = s;
        for (int32_t i = 0; active > 0 && i < n; i++) {
            if (d->slots[d->sequences[i]].item < 0) {
                TRY(idle_along(d, d->sequences[i]));
            }
        }
        TRY(active > 0 ? step(d, n) : OK);
    }
    return OK;
}

enum status decoder_run(struct decoder *d, const struct prompt *prompts, int64_t n,
                        struct response_tokens *out, decoder_on_done *on_done, void *context) {
    d->prompts = prompts;
    d->out = out;
    d->n = n;
    d->next = d->done = 0;
    d->kept_slot = -1;
    for (int32_t s = 0; s < d->n_slots; s++) {
        d->slots[s].item = -1;
    }
    enum status st = OK;
    while (d->done < n && st == OK) {
        st = fill(d);
        st = st == OK ? step_all(d) : st;
        if (on_done) {
            on_done(context, d->done);
        }
    }
    (void)use_voice(d, VOICE_POLICY);
    return st;
}
