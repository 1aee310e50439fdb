#include "select/pairs.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "select/kmeans.h"
#include "select/order.h"
#include "util/mem.h"
#include "util/rng.h"
#include "util/text.h"

static const char *const names[] = {"random", "easy", "hard", "centroid", "balanced"};

static enum status parse_part(const char *text, size_t len, struct pair_mix *out) {
    if (out->n == PAIR_MIX_PARTS) {
        return fail(ERR_USAGE, "select.strategy: more than %d parts", PAIR_MIX_PARTS);
    }
    size_t name = 0;
    while (name < len && text[name] != ':') {
        name++;
    }
    double share = 1;
    if (name < len) {
        char *end;
        share = strtod(text + name + 1, &end);
        if (end != text + len || !(share > 0 && share <= 1)) {
            return fail(ERR_USAGE, "select.strategy: \"%.*s\": a share is a number above 0, at most 1",
                        (int)len, text);
        }
    }
    for (int i = 0; i < COUNT_OF(names); i++) {
        if (strlen(names[i]) == name && strncmp(names[i], text, name) == 0) {
            out->parts[out->n].strategy = (enum pair_strategy)i;
            out->parts[out->n++].share = share;
            return OK;
        }
    }
    return fail(ERR_USAGE,
                "select.strategy: unknown \"%.*s\"; known: random, easy, hard, centroid, balanced, and mixes "
                "(filtered and curriculum: `select` alone)",
                (int)name, text);
}

enum status pair_mix_parse(const char *text, struct pair_mix *out) {
    *out = (struct pair_mix){0};
    double sum = 0;
    for (const char *at = text;;) {
        size_t len = strcspn(at, ",");
        TRY(parse_part(at, len, out));
        sum += out->parts[out->n - 1].share;
        at += len;
        if (*at == '\0') {
            break;
        }
        at++;
    }
    if (fabs(sum - 1) > 1e-9) {
        return fail(ERR_USAGE, "select.strategy: the shares of \"%s\" sum to %g, not 1", text, sum);
    }
    return OK;
}

double similarity_cosine(const float *a, const float *b, int64_t width) {
    const double epsilon = 1e-8;
    double product = 0;
    double aa = 0;
    double bb = 0;
    for (int64_t d = 0; d < width; d++) {
        product += (double)a[d] * b[d];
        aa += (double)a[d] * a[d];
        bb += (double)b[d] * b[d];
    }
    return product / (fmax(sqrt(aa), epsilon) * fmax(sqrt(bb), epsilon));
}

enum status pairs_lowest(struct comm *c, const uint64_t *keys, const bool *skip, int64_t n, int64_t count,
                         bool *taken) {
    if (count == 0) {
        return OK;
    }
    uint64_t threshold;
    int64_t below;
    const struct order_keys all = {.keys = keys, .skip = skip, .n = n};
    TRY(order_statistic(c, &all, count, &threshold, &below));
    int64_t equal = 0;
    for (int64_t i = 0; i < n; i++) {
        equal += !skip[i] && keys[i] == threshold;
    }
    int64_t before;
    int64_t total;
    TRY(comm_scan_i64(c, equal, &before, &total));
    int64_t wanted = count - below - before; /* of this rank's ties, the first */
    for (int64_t i = 0; i < n; i++) {
        if (skip[i]) {
            continue;
        }
        bool tie = keys[i] == threshold && wanted > 0;
        wanted -= tie;
        if (keys[i] < threshold || tie) {
            taken[i] = true;
        }
    }
    return OK;
}

/* One part of a mix: `count` of the rows not yet taken; left: how many those are over all ranks. */
struct part {
    enum pair_strategy strategy;
    uint64_t seed;
    int64_t count, left;
};
static enum status take_part(struct comm *c, const struct part *p, const double *similarity, int64_t n,
                             int64_t first, bool *taken) {
    uint64_t *keys;
    bool *skip = NULL;
    bool *lowest = NULL;
    enum status st = NEW_ARRAY(keys, n);
    st = st == OK ? NEW_ARRAY(skip, n) : st;
    st = st == OK ? NEW_ARRAY(lowest, n) : st;
    TRY_TO(done, comm_agree(c, st));
    for (int64_t i = 0; i < n; i++) {
        struct rng draws = rng_stream(p->seed, RNG_SELECT, first + i, 0);
        keys[i] = p->strategy == PAIRS_RANDOM ? rng_u64(&draws) : order_key(similarity[i]);
        skip[i] = taken[i];
    }
    /* The hardest are what the lowest others leave, so that ties fall as in one stable sort. */
    bool hard = p->strategy == PAIRS_HARD;
    TRY_TO(done, pairs_lowest(c, keys, skip, n, hard ? p->left - p->count : p->count, lowest));
    for (int64_t i = 0; i < n; i++) {
        taken[i] = taken[i] || (!skip[i] && lowest[i] != hard);
    }
done:
    mem_free(keys);
    mem_free(skip);
    mem_free(lowest);
    return st;
}

static enum status check_similarities(const double *similarity, int64_t n, int64_t first) {
    for (int64_t i = 0; i < n; i++) {
        if (isnan(similarity[i])) {
            return fail(ERR_DATA, "the similarity of pair %lld is not a number; embed its responses again",
                        (long long)(first + i));
        }
    }
    return OK;
}

enum status pairs_select(struct comm *c, const struct pair_selection *s, const double *similarity, int64_t n,
                         int64_t first, bool *taken) {
    TRY(comm_agree(c, check_similarities(similarity, n, first)));
    int64_t rows = n;
    TRY(comm_sum_i64(c, &rows, 1));
    bool all_random = s->mix.n == 1 && s->mix.parts[0].strategy == PAIRS_RANDOM;
    double share = s->fraction * (double)rows;
    int64_t wanted = s->count > 0 ? s->count : (int64_t)(all_random ? nearbyint(share) : floor(share));
    if (wanted > rows) {
        return fail(ERR_USAGE, "select.count: %lld pairs of %lld", (long long)wanted, (long long)rows);
    }
    memset(taken, 0, (size_t)n * sizeof *taken);
    int64_t done = 0;
    double upto = 0;
    for (int i = 0; i < s->mix.n; i++) {
        enum pair_strategy strategy = s->mix.parts[i].strategy;
        if (strategy == PAIRS_CENTROID || strategy == PAIRS_BALANCED) {
            return fail(ERR_USAGE, "select.strategy: %s does not choose among pairs in a mix",
                        names[strategy]);
        }
        upto += s->mix.parts[i].share;
        int64_t end = i == s->mix.n - 1 ? wanted : (int64_t)floor(upto * (double)wanted);
        struct part p = {.strategy = strategy, .seed = s->seed, .count = end - done, .left = rows - done};
        TRY(take_part(c, &p, similarity, n, first, taken));
        done = end;
    }
    return OK;
}

int pairs_part(const struct pair_mix *mix, uint64_t seed, int64_t prompt) {
    struct rng draws = rng_stream(seed, RNG_SELECT, prompt, 1);
    double u = rng_uniform(&draws);
    for (int i = 0; i < mix->n - 1; i++) {
        u -= mix->parts[i].share;
        if (u < 0) {
            return i;
        }
    }
    return mix->n - 1;
}

static bool is_open(const struct pair_choices *from, int i, int j) {
    return !from->skip || !from->skip[(int64_t)i * from->n + j];
}

static void random_pair(const struct pair_choices *from, struct pair_choice *out) {
    struct rng draws = rng_stream(from->seed, RNG_SELECT, from->prompt, 2);
    int64_t open = 0;
    for (int i = 0; i < from->n; i++) {
        for (int j = i + 1; j < from->n; j++) {
            open += is_open(from, i, j);
        }
    }
    int64_t pick = open > 0 ? rng_below(&draws, open) : -1;
    for (int i = 0; i < from->n; i++) {
        for (int j = i + 1; j < from->n; j++) {
            if (is_open(from, i, j) && pick-- == 0) {
                *out = (struct pair_choice){.a = i, .b = j};
            }
        }
    }
}

static void nearest_to_both(const struct pair_choices *from, const struct kmeans_halves *halves,
                            struct pair_choice *out) {
    double least = INFINITY;
    out->measure = -halves->apart;
    for (int i = 0; i < from->n; i++) {
        for (int j = i + 1; j < from->n; j++) {
            double sum = halves->distance[i] + halves->distance[j];
            if (halves->side[i] != halves->side[j] && is_open(from, i, j) &&
                (out->a < 0 || sum < least - halves->tolerance)) {
                least = sum;
                out->a = i;
                out->b = j;
            }
        }
    }
}

/* Rows scaled to length 1: Euclidean and cosine orders agree then. */
static enum status centroid_pair(const struct pair_choices *from, struct pair_choice *out) {
    int64_t width = from->width;
    float *unit;
    struct kmeans_halves halves = {0};
    enum status st;
    TRY_TO(done, NEW_ARRAY(unit, from->n * width));
    TRY_TO(done, NEW_ARRAY(halves.side, from->n));
    TRY_TO(done, NEW_ARRAY(halves.distance, from->n));
    for (int i = 0; i < from->n; i++) {
        const float *row = from->rows + i * width;
        double norm = 0;
        for (int64_t d = 0; d < width; d++) {
            norm += (double)row[d] * row[d];
        }
        norm = fmax(sqrt(norm), 1e-12);
        for (int64_t d = 0; d < width; d++) {
            unit[i * width + d] = (float)(row[d] / norm);
        }
    }
    TRY_TO(done, kmeans_halve(unit, from->n, width, from->seed, from->prompt, &halves));
    nearest_to_both(from, &halves, out);
done:
    mem_free(unit);
    mem_free(halves.side);
    mem_free(halves.distance);
    return st;
}

static enum status extreme_pair(const struct pair_choices *from, struct pair_choice *out) {
    int64_t width = from->width;
    for (int i = 0; i < from->n; i++) {
        for (int j = i + 1; j < from->n; j++) {
            double cosine = similarity_cosine(from->rows + i * width, from->rows + j * width, width);
            double measure = from->strategy == PAIRS_HARD ? -cosine : cosine;
            if (isnan(cosine)) {
                return fail(ERR_DATA, "the similarity of responses %d and %d of prompt %lld is not a number",
                            i, j, (long long)from->prompt);
            }
            if (is_open(from, i, j) && (out->a < 0 || measure < out->measure)) {
                *out = (struct pair_choice){i, j, measure};
            }
        }
    }
    return OK;
}

enum status pairs_within(const struct pair_choices *from, struct pair_choice *out) {
    *out = (struct pair_choice){-1, -1, 0};
    if (from->strategy == PAIRS_RANDOM) {
        random_pair(from, out);
        return OK;
    }
    return from->strategy == PAIRS_CENTROID ? centroid_pair(from, out) : extreme_pair(from, out);
}
