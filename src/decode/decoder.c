#include "decode/decoder.h"

#include <math.h>

#include "util/mem.h"

/* A sequence of the cache. */
struct sequence {
    int64_t prompt; /* being answered; -1: idle */
    int32_t length; /* tokens in the cache */
    int32_t token;  /* goes in next */
};

struct decoder {
    struct model *model;
    struct decoder_options options;
    struct cache *cache;
    struct sampler *sampler;
    int32_t n_slots, max_tokens;
    struct sequence *slots;
    float *logits; /* DECODER_ROWS x vocabulary */
    /* Of the run. */
    const struct prompt *prompts;
    struct response_tokens *out;
    int64_t n, next, done;
};

static int32_t slots_of(const struct decoder_options *o) {
    return (o->sequences + DECODER_ROWS - 1) / DECODER_ROWS * DECODER_ROWS;
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
    return cache_bytes(c, caps, slots_of(o), max_tokens, out);
}

enum status decoder_open(struct model *m, struct workspace *w, const struct decoder_options *o,
                         struct decoder **out) {
    struct decoder *d;
    int64_t logits;
    enum status st = OK;
    TRY(size_mul(DECODER_ROWS, m->config.vocabulary, "logits", &logits));
    TRY(NEW_ARRAY(d, 1));
    d->model = m;
    d->options = *o;
    d->n_slots = slots_of(o);
    TRY_TO(failed, tokens_of(o, &d->max_tokens));
    TRY_TO(failed, NEW_ARRAY(d->slots, d->n_slots));
    TRY_TO(failed, NEW_ARRAY(d->logits, logits));
    TRY_TO(failed, sampler_open(m->config.vocabulary, &d->sampler));
    TRY_TO(failed, cache_open(m, w, d->n_slots, d->max_tokens, &d->cache));
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
    cache_close(d->cache);
    sampler_close(d->sampler);
    mem_free(d->slots);
    mem_free(d->logits);
    mem_free(d);
}

static bool is_stop(const struct decoder_options *o, int32_t token) {
    for (int32_t i = 0; i < o->n_stops; i++) {
        if (o->stops[i] == token) {
            return true;
        }
    }
    return false;
}

static void bar(const struct decoder *d, float *logits) {
    for (int64_t i = 0; d->options.barred && i < d->model->config.vocabulary; i++) {
        logits[i] = d->options.barred[i] ? -INFINITY : logits[i];
    }
}

/* Draws the slot's next token; at a stop token or the limit the slot becomes idle. */
static enum status draw(struct decoder *d, struct sequence *slot, float *logits) {
    struct response_tokens *out = &d->out[slot->prompt];
    int64_t row = d->prompts[slot->prompt].row;
    bar(d, logits);
    struct rng r = rng_stream(d->options.seed, RNG_SAMPLE, row, out->count);
    if (sampler_draw(d->sampler, &d->options.sampling, logits, &r, &slot->token) != OK) {
        return note("generating token %d of row %lld", out->count, (long long)row);
    }
    out->tokens[out->count++] = slot->token;
    out->stopped = is_stop(&d->options, slot->token);
    if (out->stopped || out->count == d->options.max_new_tokens) {
        slot->prompt = -1;
        d->done++;
    }
    return OK;
}

/* Gives an idle slot the next prompts until one needs a second token, or none is left. */
static enum status fill(struct decoder *d, int32_t s) {
    struct sequence *slot = &d->slots[s];
    while (slot->prompt < 0 && d->next < d->n) {
        const struct prompt *p = &d->prompts[d->next];
        if (p->count > d->options.max_prompt) {
            return fail(ERR_INTERNAL, "decoder: row %lld has %d prompt tokens, announced were %d",
                        (long long)p->row, p->count, d->options.max_prompt);
        }
        d->out[d->next].count = 0;
        slot->prompt = d->next++;
        slot->length = p->count;
        if (cache_start(d->cache, s, p->tokens, p->count, d->logits) != OK) {
            return note("reading the prompt of row %lld", (long long)p->row);
        }
        TRY(draw(d, slot, d->logits));
    }
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
    return cache_start(d->cache, s, &slot->token, 1, d->logits);
}

/* One step of slots [first, first + DECODER_ROWS), unless all of them are idle. */
static enum status step(struct decoder *d, int32_t first) {
    int32_t sequences[DECODER_ROWS], tokens[DECODER_ROWS], active = 0;
    struct sequence *slots = d->slots + first;
    for (int32_t i = 0; i < DECODER_ROWS; i++) {
        TRY(fill(d, first + i));
        active += slots[i].prompt >= 0;
    }
    if (active == 0) {
        return OK;
    }
    for (int32_t i = 0; i < DECODER_ROWS; i++) {
        if (slots[i].prompt < 0) {
            TRY(idle_along(d, first + i));
        }
        sequences[i] = first + i;
        tokens[i] = slots[i].token;
    }
    TRY(cache_step(d->cache, sequences, tokens, DECODER_ROWS, d->logits));
    for (int32_t i = 0; i < DECODER_ROWS; i++) {
        slots[i].length++;
        if (slots[i].prompt >= 0) {
            TRY(draw(d, &slots[i], d->logits + i * d->model->config.vocabulary));
        }
    }
    return OK;
}

enum status decoder_run(struct decoder *d, const struct prompt *prompts, int64_t n,
                        struct response_tokens *out, decoder_on_done *on_done, void *context) {
    d->prompts = prompts;
    d->out = out;
    d->n = n;
    d->next = d->done = 0;
    for (int32_t s = 0; s < d->n_slots; s++) {
        d->slots[s].prompt = -1;
    }
    while (d->done < n) {
        for (int32_t first = 0; first < d->n_slots; first += DECODER_ROWS) {
            TRY(step(d, first));
        }
        if (on_done) {
            on_done(context, d->done);
        }
    }
    return OK;
}
