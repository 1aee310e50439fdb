#include "decode/draw.h"

#include <math.h>
#include <string.h>

#include "util/mem.h"

static bool has_penalty(const struct decoder_options *o) {
    return o->repetition_penalty != 0 && o->repetition_penalty != 1;
}

enum status drawer_open(const struct decoder_options *o, int64_t vocabulary, struct drawer *out) {
    *out = (struct drawer){.options = o, .vocabulary = vocabulary};
    TRY(NEW_ARRAY(out->room, vocabulary));
    TRY(NEW_ARRAY(out->shaped, vocabulary));
    TRY(has_penalty(o) ? NEW_ARRAY(out->seen, vocabulary) : OK);
    return sampler_open(vocabulary, &out->sampler);
}

void drawer_close(struct drawer *d) {
    sampler_close(d->sampler);
    mem_free(d->room);
    mem_free(d->shaped);
    mem_free(d->seen);
    *d = (struct drawer){0};
}

const float *drawer_reference(const struct drawer *d, const float *const rows[VOICES]) {
    bool is_proxy = d->options->rule.kind == RULE_PROXY;
    return !rows[VOICE_REFERENCE] && is_proxy ? rows[VOICE_POLICY] : rows[VOICE_REFERENCE];
}

/* Each token of the text once, as transformers does. */
static void penalize(struct drawer *d, const int32_t *tokens, int32_t n) {
    float penalty = (float)d->options->repetition_penalty;
    for (int32_t i = 0; i < n; i++) {
        float *x = &d->shaped[tokens[i]];
        if (d->seen[tokens[i]] != d->draws) {
            d->seen[tokens[i]] = d->draws;
            *x = *x > 0 ? *x / penalty : *x * penalty;
        }
    }
}

/* The row with penalty and bars, or itself where there are none. */
static const float *shape(struct drawer *d, const struct prompt *p, const struct response_tokens *so_far,
                          const float *row) {
    const bool *barred = d->options->barred;
    if (!d->seen && !barred) {
        return row;
    }
    memcpy(d->shaped, row, (size_t)d->vocabulary * sizeof *row);
    if (d->seen) {
        d->draws++;
        penalize(d, p->tokens, p->count);
        penalize(d, so_far->tokens, so_far->count);
    }
    for (int64_t i = 0; barred && i < d->vocabulary; i++) {
        d->shaped[i] = barred[i] ? -INFINITY : d->shaped[i];
    }
    return d->shaped;
}

static bool is_filtered(const struct drawer *d) {
    const struct sampling *s = &d->options->sampling;
    bool by_k = s->top_k > 0 && s->top_k < d->vocabulary;
    return s->temperature != 1 || by_k || s->top_p < 1 || s->min_p > 0;
}

static enum status count_numbers(struct drawer *d, const float *const rows[VOICES], struct drawn *out) {
    const float *reference = drawer_reference(d, rows);
    bool is_voice = false;
    out->numbers = (struct token_numbers){.reference_logp = NAN, .kl = NAN};
    for (int v = 0; v < VOICES; v++) {
        is_voice |= out->from == rows[v];
    }
    if (!is_voice) {
        struct logits l;
        TRY(logits_open(out->from, d->vocabulary, &l));
        out->numbers.logp = logits_logp(&l, out->token);
    }
    if (!out->is_plain) {
        out->numbers.drawn_logp = sampler_logp(d->sampler);
    }
    if (reference) {
        struct logits l;
        TRY(logits_open(reference, d->vocabulary, &l));
        out->numbers.reference_logp = 0;
        out->numbers.kl = out->is_plain && out->from == reference ? 0 : sampler_kl(d->sampler, &l);
    }
    return OK;
}

enum status drawer_draw(struct drawer *d, const struct prompt *p, const struct response_tokens *so_far,
                        const float *const rows[VOICES], bool want, struct drawn *out) {
    const struct decoder_options *o = d->options;
    int64_t place = ((int64_t)p->sample << 32) + so_far->count;
    struct rng r = rng_stream(o->seed, RNG_SAMPLE, p->row, place);
    TRY(rule_apply(&o->rule, rows, d->vocabulary, so_far->count, d->room, &out->from));
    const float *row = shape(d, p, so_far, out->from);
    TRY(sampler_draw(d->sampler, &o->sampling, row, &r, &out->token));
    out->is_plain = row == out->from && !is_filtered(d);
    return want ? count_numbers(d, rows, out) : OK;
}
