/* One pair of each prompt's responses as candidates, and all of them or those that tell most as the choice.
 * Responses of a prompt with the same tokens are one: a class, whose first member's embedding stands for it.
 */
#include <math.h>
#include <string.h>

#include "select/order.h"
#include "select/selection_internal.h"
#include "util/mem.h"
#include "util/rng.h"

/* A prompt at a time; arrays grow to the largest. */
struct prompt_reader {
    struct known_pairs known;
    struct response *responses;
    int32_t *tokens;
    float *rows;   /* of classes */
    int *class_of; /* each response */
    int *standing; /* for a class: its first response with a score, else its first */
    bool *skip;    /* classes x classes: asked before */
    int64_t response_capacity, token_capacity, row_capacity, class_capacity, standing_capacity, skip_capacity;
    int64_t prompt, first; /* first: response */
    int n, classes;
    bool is_asked; /* some pair of this prompt was */
};

static void reader_free(struct prompt_reader *r) {
    mem_free(r->known.data);
    mem_free(r->responses);
    mem_free(r->tokens);
    mem_free(r->rows);
    mem_free(r->class_of);
    mem_free(r->standing);
    mem_free(r->skip);
}

/* Every similarity within a prompt, for the report; NaN is refused here for all strategies. */
static enum status prompt_similarities(struct selection *s, const struct prompt_reader *r) {
    int64_t width = sidecar_width(s->embeddings);
    int64_t n = r->classes;
    TRY(GROW_ARRAY(s->all, s->all_capacity, s->n_all + n * (n - 1) / 2));
    for (int i = 0; i < r->classes; i++) {
        for (int j = i + 1; j < r->classes; j++) {
            double cosine = similarity_cosine(r->rows + i * width, r->rows + j * width, width);
            if (isnan(cosine)) {
                return fail(ERR_DATA,
                            "the similarity of responses %d and %d of prompt %lld is not a number; embed "
                            "them again",
                            i, j, (long long)r->prompt);
            }
            s->all[s->n_all++] = cosine;
        }
    }
    return OK;
}

static enum status read_responses(struct selection *s, int64_t prompt, struct prompt_reader *r) {
    int64_t count;
    r->prompt = prompt;
    TRY(dataset_prompt_responses(s->data, prompt, &r->first, &count));
    TRY(to_int(count, "responses of a prompt", &r->n));
    TRY(GROW_ARRAY(r->responses, r->response_capacity, count));
    TRY(GROW_ARRAY(r->class_of, r->class_capacity, count));
    TRY(GROW_ARRAY(r->standing, r->standing_capacity, count));
    TRY(dataset_responses(s->data, (struct range){r->first, r->first + count}, r->responses));
    if (count < 2) {
        return OK;
    }
    const struct response *last = &r->responses[count - 1];
    int64_t tokens = last->first + last->count - r->responses[0].first;
    TRY(GROW_ARRAY(r->tokens, r->token_capacity, tokens));
    return dataset_response_tokens(s->data, r->responses[0].first, tokens, r->tokens);
}

static bool are_equal(const struct prompt_reader *r, int i, int j) {
    const struct response *a = &r->responses[i];
    const struct response *b = &r->responses[j];
    int64_t first = r->responses[0].first;
    return a->count == b->count &&
           (a->count == 0 || memcmp(r->tokens + (a->first - first), r->tokens + (b->first - first),
                                    (size_t)a->count * sizeof *r->tokens) == 0);
}

/* first_of[c], the first member, is left in standing until a member with a score takes its place. */
static void find_classes(struct prompt_reader *r) {
    r->classes = 0;
    for (int i = 0; i < r->n; i++) {
        int c = 0;
        while (c < r->classes && !are_equal(r, r->standing[c], i)) {
            c++;
        }
        if (c == r->classes) {
            r->standing[r->classes++] = i;
        } else if (isnan(r->responses[r->standing[c]].score) && !isnan(r->responses[i].score)) {
            r->standing[c] = i;
        }
        r->class_of[i] = c;
    }
}

/* The classes' embeddings: those of equal texts are equal, so the first member's moves to its class's place.
 */
static enum status read_rows(struct selection *s, struct prompt_reader *r) {
    int64_t width = sidecar_width(s->embeddings);
    TRY(GROW_ARRAY(r->rows, r->row_capacity, r->n * width));
    TRY(sidecar_read_values(s->embeddings, r->first, r->n, r->rows));
    for (int i = 0, c = 0; i < r->n && c < r->classes; i++) {
        if (r->class_of[i] == c) {
            memmove(r->rows + c++ * width, r->rows + i * width, (size_t)width * sizeof *r->rows);
        }
    }
    return prompt_similarities(s, r);
}

/* Marks the pairs of classes of which two members were asked. */
static enum status find_asked(const struct selection *s, struct prompt_reader *r) {
    int n = r->classes;
    int64_t count;
    const struct pair_key *keys = asked_from(&s->asked, r->first, r->first + r->n, &count);
    r->is_asked = count > 0;
    if (!r->is_asked) {
        return OK;
    }
    TRY(GROW_ARRAY(r->skip, r->skip_capacity, (int64_t)n * n));
    memset(r->skip, 0, (size_t)n * (size_t)n * sizeof *r->skip);
    for (int64_t k = 0; k < count; k++) {
        if (keys[k].high < r->first + r->n) {
            int i = r->class_of[keys[k].low - r->first];
            int j = r->class_of[keys[k].high - r->first];
            r->skip[(int64_t)(i < j ? i : j) * n + (i < j ? j : i)] = true;
        }
    }
    return OK;
}

/* A pair that the file knows under a response's equal. */
static void use_equals(const struct prompt_reader *r, int a, int b, struct candidate *c) {
    for (int i = 0; i < r->n; i++) {
        for (int j = 0; j < r->n; j++) {
            if (r->class_of[i] == a && r->class_of[j] == b &&
                known_pairs_has(&r->known, r->first + i, r->first + j)) {
                c->chosen = r->first + i;
                c->rejected = r->first + j;
                return;
            }
        }
    }
}

static enum status choose_in_prompt(struct selection *s, struct prompt_reader *r) {
    uint64_t seed = (uint64_t)s->options->seed;
    int64_t width = s->embeddings ? sidecar_width(s->embeddings) : 0;
    int part = pairs_part(&s->mix, seed, r->prompt);
    const struct pair_choices from = {.strategy = s->mix.parts[part].strategy,
                                      .rows = r->rows,
                                      .n = r->classes,
                                      .width = width,
                                      .seed = seed,
                                      .prompt = r->prompt,
                                      .skip = r->is_asked ? r->skip : NULL};
    struct pair_choice pair;
    TRY(pairs_within(&from, &pair));
    if (pair.a < 0) {
        s->dropped[DROP_ASKED]++;
        return OK;
    }
    struct candidate c = {.chosen = r->first + r->standing[pair.a],
                          .rejected = r->first + r->standing[pair.b],
                          .source = -1,
                          .measure = pair.measure,
                          .cluster = -1,
                          .margin = NAN,
                          .part = (int8_t)part,
                          .is_asked = r->is_asked};
    if (s->embeddings) {
        c.similarity = similarity_cosine(r->rows + pair.a * width, r->rows + pair.b * width, width);
    }
    if (r->classes < r->n) {
        use_equals(r, pair.a, pair.b, &c);
    }
    TRY(candidate_label(s, &r->known, &c));
    return candidates_add(s, &c);
}

static enum status read_prompt(struct selection *s, int64_t prompt, struct prompt_reader *r) {
    TRY(read_responses(s, prompt, r));
    if (r->n < 2) {
        s->dropped[DROP_FEW_RESPONSES]++;
        return OK;
    }
    find_classes(r);
    if (r->classes < 2) {
        s->dropped[DROP_EQUAL_RESPONSES]++;
        return OK;
    }
    TRY(s->embeddings ? read_rows(s, r) : OK);
    TRY(find_asked(s, r));
    return choose_in_prompt(s, r);
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
        st = read_prompt(s, p, &reader);
    }
    reader_free(&reader);
    return st;
}

/* Choosing among the prompts: each part of a mix from its own, those first of which nothing was asked. */

struct chooser {
    uint64_t *keys;
    bool *skip, *taken;
};

static bool belongs(const struct candidate *c, int part, bool is_asked) {
    return !c->is_dropped && c->part == part && c->is_asked == is_asked;
}

/* Collective. */
static enum status count_left(const struct selection *s, int part, bool is_asked, int64_t *out) {
    *out = 0;
    for (int64_t i = 0; i < s->n; i++) {
        *out += belongs(&s->candidates[i], part, is_asked);
    }
    return comm_sum_i64(s->comm, out, 1);
}

/* Collective. The count that tell most; all of them where it is more. */
static enum status take(const struct selection *s, const struct chooser *h, int part, bool is_asked,
                        int64_t count) {
    bool random = s->mix.parts[part].strategy == PAIRS_RANDOM;
    for (int64_t i = 0; i < s->n; i++) {
        struct rng draws = rng_stream((uint64_t)s->options->seed, RNG_SELECT, s->before + i, 3);
        h->keys[i] = random ? rng_u64(&draws) : order_key(s->candidates[i].measure);
        h->skip[i] = !belongs(&s->candidates[i], part, is_asked);
    }
    return pairs_lowest(s->comm, h->keys, h->skip, s->n, count, h->taken);
}

/* What each part gives of `wanted`: its share, and where it has less, the others more, in their order. */
static void share_out(const struct pair_mix *mix, const int64_t *left, int64_t wanted, int64_t *count) {
    int64_t done = 0;
    double upto = 0;
    for (int p = 0; p < mix->n; p++) {
        upto += mix->parts[p].share;
        int64_t end = p == mix->n - 1 ? wanted : (int64_t)floor(upto * (double)wanted);
        count[p] = end - done;
        done = end;
    }
    int64_t lacking = 0;
    for (int p = 0; p < mix->n; p++) {
        lacking += count[p] > left[p] ? count[p] - left[p] : 0;
        count[p] = count[p] > left[p] ? left[p] : count[p];
    }
    for (int p = 0; p < mix->n; p++) {
        int64_t more = left[p] - count[p] < lacking ? left[p] - count[p] : lacking;
        count[p] += more;
        lacking -= more;
    }
}

/* Collective. */
static enum status choose_parts(const struct selection *s, const struct chooser *h) {
    int64_t fresh[PAIR_MIX_PARTS] = {0}, left[PAIR_MIX_PARTS] = {0}, count[PAIR_MIX_PARTS] = {0}, wanted;
    TRY(candidates_wanted(s, s->options->has_fraction ? s->options->fraction : 1, &wanted));
    for (int p = 0; p < s->mix.n; p++) {
        TRY(count_left(s, p, false, &fresh[p]));
        TRY(count_left(s, p, true, &left[p]));
        left[p] += fresh[p];
    }
    share_out(&s->mix, left, wanted, count);
    for (int p = 0; p < s->mix.n; p++) {
        int64_t first = count[p] < fresh[p] ? count[p] : fresh[p];
        TRY(take(s, h, p, false, first));
        TRY(take(s, h, p, true, count[p] - first));
    }
    return OK;
}

enum status over_prompts_choose(struct selection *s) {
    struct comm *c = s->comm;
    struct chooser h = {0};
    enum status st = NEW_ARRAY(h.keys, s->n);
    st = st == OK ? NEW_ARRAY(h.skip, s->n) : st;
    st = st == OK ? NEW_ARRAY(h.taken, s->n) : st;
    st = comm_agree(c, st);
    st = st == OK ? choose_parts(s, &h) : st;
    for (int64_t i = 0; i < s->n && st == OK; i++) {
        s->candidates[i].is_taken = h.taken[i];
    }
    mem_free(h.keys);
    mem_free(h.skip);
    mem_free(h.taken);
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
