#include "decode/sampler.h"

#include <math.h>

#include "util/mem.h"

struct choice {
    double weight; /* exp((logit - largest) / temperature) */
    int32_t id;
};

struct sampler {
    int64_t vocabulary;
    struct choice *heap; /* vocabulary of them */
    struct choice *best; /* what came off the heap, most likely first */
};

enum status sampler_open(int64_t vocabulary, struct sampler **out) {
    struct sampler *s;
    TRY(NEW_ARRAY(s, 1));
    s->vocabulary = vocabulary;
    if (NEW_ARRAY(s->heap, vocabulary) != OK || NEW_ARRAY(s->best, vocabulary) != OK) {
        sampler_close(s);
        return ERR_SYSTEM;
    }
    *out = s;
    return OK;
}

void sampler_close(struct sampler *s) {
    if (s) {
        mem_free(s->heap);
        mem_free(s->best);
        mem_free(s);
    }
}

/* Index of the largest logit, the lowest among equals. */
static enum status find_largest(const float *logits, int64_t n, int32_t *out) {
    int64_t at = -1;
    for (int64_t i = 0; i < n; i++) {
        if (isnan(logits[i]) || logits[i] == INFINITY) {
            return fail(ERR_DATA, "the logit of token %lld is %g; the model's weights are broken",
                        (long long)i, (double)logits[i]);
        }
        if (logits[i] != -INFINITY && (at < 0 || logits[i] > logits[at])) {
            at = i;
        }
    }
    if (at < 0) {
        return fail(ERR_DATA, "all logits are -inf; the model's weights are broken");
    }
    *out = (int32_t)at;
    return OK;
}

static bool before(const struct choice *a, const struct choice *b) {
    return a->weight > b->weight || (a->weight == b->weight && a->id < b->id);
}

static void sift_down(struct choice *heap, int64_t n, int64_t at) {
    struct choice moving = heap[at];
    for (;;) {
        int64_t child = 2 * at + 1;
        if (child + 1 < n && before(&heap[child + 1], &heap[child])) {
            child++;
        }
        if (child >= n || !before(&heap[child], &moving)) {
            break;
        }
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moving;
}

static struct choice pop(struct choice *heap, int64_t *n) {
    struct choice top = heap[0];
    heap[0] = heap[--*n];
    if (*n > 0) {
        sift_down(heap, *n, 0);
    }
    return top;
}

/* The first candidate at which the running sum passes share * total: inverse of the distribution function. */
static int32_t invert(const struct choice *c, int64_t n, double share, double total) {
    double sum = 0;
    int32_t last = c[0].id;
    for (int64_t i = 0; i < n; i++) {
        sum += c[i].weight;
        if (c[i].weight > 0) {
            last = c[i].id; /* rounding may leave the sum short of the total */
        }
        if (sum > share * total) {
            return c[i].id;
        }
    }
    return last;
}

/* Takes the likeliest candidates off the heap: at most `most`, and where top_p < 1 no more than reach its
 * share of the total over those `most`. Gives how many, and their sum. */
static int64_t take_best(struct sampler *s, int64_t most, double top_p, double total, double *kept) {
    int64_t left = s->vocabulary, n = 0;
    for (int64_t i = left / 2 - 1; i >= 0; i--) {
        sift_down(s->heap, left, i);
    }
    double sum = 0;
    if (most < left) { /* the share counts among these alone */
        total = 0;
        for (; n < most; n++) {
            s->best[n] = pop(s->heap, &left);
            total += s->best[n].weight;
        }
        left = 0;
    }
    int64_t taken = 0;
    while ((taken < n || left > 0) && (taken == 0 || sum < top_p * total)) {
        if (taken == n) {
            s->best[n++] = pop(s->heap, &left);
        }
        sum += s->best[taken++].weight;
    }
    *kept = sum;
    return taken;
}

enum status sampler_draw(struct sampler *s, const struct sampling *how, const float *logits, struct rng *r,
                         int32_t *token) {
    int32_t largest;
    TRY(find_largest(logits, s->vocabulary, &largest));
    if (how->temperature <= 0) {
        *token = largest;
        return OK;
    }
    double total = 0;
    for (int64_t i = 0; i < s->vocabulary; i++) {
        double weight = exp(((double)logits[i] - (double)logits[largest]) / how->temperature);
        s->heap[i] = (struct choice){weight, (int32_t)i};
        total += weight;
    }
    double u = rng_uniform(r);
    int64_t most = how->top_k > 0 && how->top_k < s->vocabulary ? how->top_k : s->vocabulary;
    if (most == s->vocabulary && how->top_p >= 1) {
        *token = invert(s->heap, s->vocabulary, u, total);
        return OK;
    }
    double kept;
    int64_t n = take_best(s, most, how->top_p, total, &kept);
    *token = invert(s->best, n, u, kept);
    return OK;
}
