#include "data/sample.h"

#include "util/hash.h"

int64_t sample_scored(const struct sample *s, int response) {
    const struct sample_response *r = &s->responses[response];
    int64_t first = s->prompt_count == 0 && r->count > 0;
    if (!r->trained) {
        return r->count - first;
    }
    int64_t scored = 0;
    for (int64_t i = first; i < r->count; i++) {
        scored += r->trained[i];
    }
    return scored;
}

int64_t sample_tokens(const struct sample *s) {
    int64_t tokens = s->prompt_count;
    for (int i = 0; i < s->n_responses; i++) {
        tokens += s->responses[i].count;
    }
    return tokens;
}

double sample_attention_pairs(const struct sample *s) {
    double prompt = s->prompt_count;
    double pairs = prompt * (prompt + 1) / 2;
    for (int i = 0; i < s->n_responses; i++) {
        double count = s->responses[i].count;
        pairs += count * prompt + count * (count + 1) / 2;
    }
    return pairs;
}

uint64_t sample_hash(const struct sample *s, int response) {
    const struct sample_response *r = &s->responses[response];
    uint64_t prompt = hash_bytes(s->prompt, (size_t)s->prompt_count * sizeof *s->prompt, 0);
    uint64_t tokens = hash_bytes(r->tokens, (size_t)r->count * sizeof *r->tokens, prompt);
    return r->trained ? hash_bytes(r->trained, (size_t)r->count, tokens) : tokens;
}
