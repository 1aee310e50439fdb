#include "decode/sampler.h"

#include <math.h>

#include "util/mem.h"

struct choice {
    double weight; /* exp((logit - largest) / temperature) */
    int32_t id;
};

struct sampler {
    int64_t vocabulary;
    double *weights;
    struct choice *heap; /* vocabulary of them */
    struct choice *best; /* what came off the heap, most likely first */
    /* Of the last draw: it was among the first n_kept of best, or with -1 among all weights. */
    int64_t n_kept;
    double sum; /* of the weights that it was among */
    double largest, temperature;
    const float *row;
    int32_t token;
};

enum status sampler_open(int64_t vocabulary, struct sampler **out) {
    struct sampler *s;
    TRY(NEW_ARRAY(s, 1));
    s->vocabulary = vocabulary;
    if (NEW_ARRAY(s->heap, vocabulary) != OK || NEW_ARRAY(s->best, vocabulary) != OK ||
        NEW_ARRAY(s->weights, vocabulary) != OK) {
        sampler_close(s);
        return ERR_SYSTEM;
    }
    *out = s;
    return OK;
}

void sampler_close(struct sampler *s) {
    if (s) {
        mem_free(s->weights);
        mem_free(s->heap);
        mem_free(s->best);
        mem_free(s);
    }
}

static bool before(const struct choice *a, const struct choice *b) {
    return a->weight > b->weight || (a->weight == b->weight && a->id < b->id);
}

/* The heap's top comes before all others, or with `last` after them. */
static void sift_down(struct choice *heap, int64_t n, int64_t at, bool last) {
    struct choice moving = heap[at];
    for (;;) {
        int64_t child = 2 * at + 1;
        if (child + 1 < n && before(&heap[child + 1], &heap[child]) != last) {
            child++;
        }
        if (child >= n || before(&heap[child], &moving) == last) {
            break;
        }
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moving;
}

static void make_heap(struct choice *heap, int64_t n, bool last) {
    for (int64_t i = n / 2 - 1; i >= 0; i--) {
        sift_down(heap, n, i, last);
    }
}

static struct choice pop(struct choice *heap, int64_t *n, bool last) {
    struct choice top = heap[0];
    heap[0] = heap[--*n];
    if (*n > 0) {
        sift_down(heap, *n, 0, last);
    }
    return top;
}

/* The k best into best, most likely first: one pass with a heap of those so far, the least likely on top. */
static void select_k(struct sampler *s, int64_t k) {
    for (int64_t i = 0; i < k; i++) {
        s->heap[i] = (struct choice){s->weights[i], (int32_t)i};
    }
    make_heap(s->heap, k, true);
    for (int64_t i = k; i < s->vocabulary; i++) {
        if (s->weights[i] > s->heap[0].weight) {
            s->heap[0] = (struct choice){s->weights[i], (int32_t)i};
            sift_down(s->heap, k, 0, true);
        }
    }
    for (int64_t left = k; left > 0;) {
        struct choice last = pop(s->heap, &left, true);
        s->best[left] = last;
    }
}

/* Of the k best, the fewest that reach the share of their sum. */
static int64_t take_of_k(struct sampler *s, int64_t k, double top_p) {
    double total = 0, sum = 0;
    int64_t taken = 0;
    select_k(s, k);
    for (int64_t i = 0; i < k; i++) {
        total += s->best[i].weight;
    }
    while (taken < k && (taken == 0 || sum < top_p * total)) {
        sum += s->best[taken++].weight;
    }
    return taken;
}

/* Of all, the fewest that reach the share of the total. Tokens of which all together weigh less than what
 * may be missing, and those that min-p leaves out, do not even come onto the heap. */
static int64_t take_of_all(struct sampler *s, const struct sampling *how, double total) {
    double floor = (1 - how->top_p) * total / (double)s->vocabulary * (1 - 1e-9), sum = 0;
    int64_t left = 0, taken = 0;
    floor = floor > how->min_p ? floor : how->min_p;
    for (int64_t i = 0; i < s->vocabulary; i++) {
        if (s->weights[i] >= floor) {
            s->heap[left++] = (struct choice){s->weights[i], (int32_t)i};
        }
    }
    if (how->top_p >= 1) { /* min-p alone: in any order */
        for (; taken < left; taken++) {
            s->best[taken] = s->heap[taken];
        }
        return taken;
    }
    make_heap(s->heap, left, false);
    while (left > 0 && (taken == 0 || sum < how->top_p * total)) {
        s->best[taken] = pop(s->heap, &left, false);
        sum += s->best[taken++].weight;
    }
    return taken;
}

/* The first candidate at which the running sum passes the share u of the whole: inverse of the distribution
 * function. Rounding may leave the sum short of it: then the last that can come. */
static int32_t invert_all(struct sampler *s, double u) {
    double sum = 0;
    int64_t last = 0;
    for (int64_t i = 0; i < s->vocabulary; i++) {
        sum += s->weights[i];
        last = s->weights[i] > 0 ? i : last;
        if (sum > u * s->sum) {
            break;
        }
    }
    return (int32_t)last;
}

static int32_t invert_best(struct sampler *s, double u) {
    double sum = 0;
    int64_t last = 0;
    for (int64_t i = 0; i < s->n_kept; i++) {
        sum += s->best[i].weight;
        last = s->best[i].weight > 0 ? i : last;
        if (sum > u * s->sum) {
            break;
        }
    }
    return s->best[last].id;
}

enum status sampler_draw(struct sampler *s, const struct sampling *how, const float *logits, struct rng *r,
                         int32_t *token) {
    int32_t largest;
    TRY(logits_top(logits, s->vocabulary, &largest));
    s->row = logits;
    s->largest = (double)logits[largest];
    s->temperature = how->temperature;
    if (how->temperature <= 0) {
        *token = s->token = largest;
        s->best[0] = (struct choice){1, largest};
        s->n_kept = 1;
        s->sum = 1;
        return OK;
    }
    s->sum = logits_weights(logits, s->vocabulary, largest, how->temperature, s->weights);
    double u = rng_uniform(r);
    bool has_k = how->top_k > 0 && how->top_k < s->vocabulary;
    if (!has_k && how->top_p >= 1 && how->min_p <= 0) {
        s->n_kept = -1;
        *token = s->token = invert_all(s, u);
        return OK;
    }
    s->n_kept = has_k ? take_of_k(s, how->top_k, how->top_p) : take_of_all(s, how, s->sum);
    while (has_k && s->n_kept > 1 && s->best[s->n_kept - 1].weight < how->min_p) {
        s->n_kept--;
    }
    s->sum = 0;
    for (int64_t i = 0; i < s->n_kept; i++) {
        s->sum += s->best[i].weight;
    }
    *token = s->token = invert_best(s, u);
    return OK;
}

/* Of a token that it was among. */
static double logp_of(const struct sampler *s, int32_t id, double log_sum) {
    return s->temperature > 0 ? ((double)s->row[id] - s->largest) / s->temperature - log_sum : 0;
}

double sampler_logp(const struct sampler *s) {
    return logp_of(s, s->token, log(s->sum));
}

double sampler_kl(const struct sampler *s, const struct logits *q) {
    double kl = 0, log_sum = log(s->sum);
    int64_t n = s->n_kept < 0 ? s->vocabulary : s->n_kept;
    for (int64_t i = 0; i < n; i++) {
        int32_t id = s->n_kept < 0 ? (int32_t)i : s->best[i].id;
        double weight = s->n_kept < 0 ? s->weights[i] : s->best[i].weight;
        double term = weight / s->sum * (logp_of(s, id, log_sum) - logits_logp(q, id));
        kl += weight > 0 ? term : 0;
    }
    return kl > 0 ? kl : 0;
}
