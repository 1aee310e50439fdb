#include "command/bench/bench_samples.h"

#include "util/mem.h"
#include "util/rng.h"

/* A reference near a random model: -log V a token. */
static const double reference_logp = -10.8;

/* This rank's pairs: those of its slots in deterministic mode. */
static struct range share(const struct bench_samples *s) {
    const struct batch_plan *p = &s->plan;
    if (!p->deterministic) {
        return range_part(p->batch, s->rank, s->size);
    }
    struct range slots = range_part(p->slots, s->rank, s->size);
    return (struct range){range_part(p->batch, slots.first, p->slots).first,
                          range_part(p->batch, slots.last - 1, p->slots).last};
}

static void fill_pair(struct bench_samples *s, int64_t i, int64_t row) {
    int32_t *tokens = s->tokens + i * s->pair_tokens;
    int64_t response = s->pair_tokens / 4, prompt = s->pair_tokens - 2 * response;
    struct rng r = rng_stream(s->plan.seed, RNG_BENCH, row, 0);
    for (int64_t t = 0; t < s->pair_tokens; t++) {
        tokens[t] = (int32_t)rng_below(&r, s->vocabulary);
    }
    s->batch.samples[i] = (struct sample){
        .row = row,
        .n_responses = 2,
        .prompt = tokens,
        .prompt_count = (int32_t)prompt,
        .responses = &s->responses[2 * i],
    };
    for (int j = 0; j < 2; j++) {
        s->responses[2 * i + j] = (struct sample_response){
            .id = 2 * row + j, .tokens = tokens + prompt + j * response, .count = (int32_t)response};
        s->batch.reference[2 * i + j] = reference_logp * (double)response;
    }
}

/* Forests of a run of pairs [first, last), of slot `slot` of this rank. */
static void cut(struct bench_samples *s, int64_t first, int64_t last, int64_t slot) {
    struct batch *b = &s->batch;
    for (; first < last; first = b->cuts[b->n_cuts - 1].last) {
        int64_t end = first + s->pairs_in_forest;
        b->cuts[b->n_cuts++] =
            (struct forest_cut){.first = first, .last = end < last ? end : last, .slot = slot};
    }
}

static void cut_all(struct bench_samples *s, int64_t first_pair) {
    const struct batch_plan *p = &s->plan;
    if (!p->deterministic) {
        cut(s, 0, s->batch.n, 0);
        return;
    }
    struct range slots = range_part(p->slots, s->rank, s->size);
    for (int64_t slot = slots.first; slot < slots.last; slot++) {
        struct range part = range_part(p->batch, slot, p->slots);
        cut(s, part.first - first_pair, part.last - first_pair, slot - slots.first);
    }
}

enum status bench_samples_open(struct bench_samples *s) {
    if (s->pair_tokens < 4) {
        return fail(ERR_USAGE, "bench.tokens=%lld: a pair has at least 4 tokens", (long long)s->pair_tokens);
    }
    struct range mine = share(s);
    struct batch *b = &s->batch;
    b->n = mine.last - mine.first;
    b->place = (struct step_place){.count = s->plan.batch};
    b->global_target_tokens = 1;
    s->pairs_in_forest = s->plan.micro_tokens / s->pair_tokens;
    s->pairs_in_forest = s->pairs_in_forest > 0 ? s->pairs_in_forest : 1;
    int64_t n;
    TRY(size_mul(b->n, s->pair_tokens, "tokens", &n));
    TRY(NEW_ARRAY(s->tokens, n));
    TRY(NEW_ARRAY(s->responses, 2 * b->n));
    TRY(NEW_ARRAY(b->samples, b->n));
    TRY(NEW_ARRAY(b->first, b->n + 1));
    TRY(NEW_ARRAY(b->reference, 2 * b->n));
    TRY(NEW_ARRAY(b->cuts, b->n));
    for (int64_t i = 0; i < b->n; i++) {
        fill_pair(s, i, mine.first + i);
        b->first[i + 1] = 2 * (i + 1);
    }
    cut_all(s, mine.first);
    return OK;
}

void bench_samples_close(struct bench_samples *s) {
    mem_free(s->tokens);
    mem_free(s->responses);
    mem_free(s->batch.samples);
    mem_free(s->batch.first);
    mem_free(s->batch.reference);
    mem_free(s->batch.cuts);
    *s = (struct bench_samples){0};
}
