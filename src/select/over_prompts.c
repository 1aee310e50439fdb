/* One pair of each prompt's responses as candidates, and all or a part of them as the choice. */
#include <math.h>

#include "select/selection_internal.h"
#include "util/mem.h"
#include "util/rng.h"

/* Every similarity within a prompt, for the report; NaN is refused here for all strategies. */
static enum status prompt_similarities(struct selection *s, int64_t prompt, const float *rows, int64_t n) {
    int64_t width = sidecar_width(s->embeddings);
    TRY(GROW_ARRAY(s->all, s->all_capacity, s->n_all + n * (n - 1) / 2));
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = i + 1; j < n; j++) {
            double cosine = similarity_cosine(rows + i * width, rows + j * width, width);
            if (isnan(cosine)) {
                return fail(ERR_DATA,
                            "the similarity of responses %lld and %lld of prompt %lld is not a number; embed "
                            "them again",
                            (long long)i, (long long)j, (long long)prompt);
            }
            s->all[s->n_all++] = cosine;
        }
    }
    return OK;
}

struct prompt_reader {
    struct known_pairs known;
    float *rows;
    int64_t capacity;
};

static enum status choose_in_prompt(struct selection *s, struct prompt_reader *r, int64_t prompt) {
    int64_t first;
    int64_t count;
    int a;
    int b;
    int n;
    uint64_t seed = (uint64_t)s->options->seed;
    TRY(dataset_prompt_responses(s->data, prompt, &first, &count));
    if (count < 2) {
        s->dropped[DROP_FEW_RESPONSES]++;
        return OK;
    }
    TRY(to_int(count, "responses of a prompt", &n));
    int64_t width = s->embeddings ? sidecar_width(s->embeddings) : 0;
    if (s->embeddings) {
        TRY(GROW_ARRAY(r->rows, r->capacity, count * width));
        TRY(sidecar_read_values(s->embeddings, first, count, r->rows));
        TRY(prompt_similarities(s, prompt, r->rows, count));
    }
    enum pair_strategy strategy = pairs_part(&s->mix, seed, prompt);
    TRY(pairs_within(strategy, r->rows, n, width, seed, prompt, &a, &b));
    struct candidate c = {.chosen = first + a, .rejected = first + b, .source = -1, .margin = NAN};
    if (s->embeddings) {
        c.similarity = similarity_cosine(r->rows + a * width, r->rows + b * width, width);
    }
    TRY(candidate_label(s, &r->known, &c));
    return candidates_add(s, &c);
}

enum status over_prompts_read(struct selection *s) {
    const struct comm *c = s->comm;
    struct range part = range_part(dataset_size(s->data).prompts, c->rank, c->size);
    struct prompt_reader reader = {0};
    struct range responses = {0, 0};
    int64_t first;
    int64_t count;
    enum status st = OK;
    if (part.first < part.last) {
        TRY(dataset_prompt_responses(s->data, part.first, &responses.first, &count));
        TRY(dataset_prompt_responses(s->data, part.last - 1, &first, &count));
        responses.last = first + count;
        st = known_pairs_read(s, responses, &reader.known);
    }
    for (int64_t p = part.first; p < part.last && st == OK; p++) {
        st = choose_in_prompt(s, &reader, p);
    }
    mem_free(reader.known.data);
    mem_free(reader.rows);
    return st;
}

/* All prompts that gave a pair, or a random part of them. */
enum status over_prompts_choose(struct selection *s) {
    struct comm *c = s->comm;
    uint64_t *keys = NULL;
    bool *skip = NULL;
    bool *taken = NULL;
    int64_t wanted;
    enum status st = NEW_ARRAY(keys, s->n);
    st = st == OK ? NEW_ARRAY(skip, s->n) : st;
    st = st == OK ? NEW_ARRAY(taken, s->n) : st;
    TRY_TO(done, comm_agree(c, st));
    TRY_TO(done, candidates_wanted(s, s->options->has_fraction ? s->options->fraction : 1, &wanted));
    for (int64_t i = 0; i < s->n; i++) {
        struct rng draws = rng_stream((uint64_t)s->options->seed, RNG_SELECT, s->before + i, 3);
        keys[i] = rng_u64(&draws);
        skip[i] = s->candidates[i].is_dropped;
    }
    TRY_TO(done, pairs_lowest(c, keys, skip, s->n, wanted, taken));
    for (int64_t i = 0; i < s->n; i++) {
        s->candidates[i].is_taken = taken[i];
    }
done:
    mem_free(keys);
    mem_free(skip);
    mem_free(taken);
    return st;
}

enum status over_prompts_largest(const struct selection *s, int64_t *out) {
    const struct comm *c = s->comm;
    struct range part = range_part(dataset_size(s->data).prompts, c->rank, c->size);
    *out = 0;
    for (int64_t p = part.first; p < part.last; p++) {
        int64_t first;
        int64_t count;
        TRY(dataset_prompt_responses(s->data, p, &first, &count));
        *out = count > *out ? count : *out;
    }
    return OK;
}
