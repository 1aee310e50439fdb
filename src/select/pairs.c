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
                "select.strategy: unknown \"%.*s\"; known: random, easy, hard, centroid, balanced, and mixes",
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

enum pair_strategy pairs_part(const struct pair_mix *mix, uint64_t seed, int64_t prompt) {
    struct rng draws = rng_stream(seed, RNG_SELECT, prompt, 1);
    double u = rng_uniform(&draws);
    for (int i = 0; i < mix->n - 1; i++) {
        u -= mix->parts[i].share;
        if (u < 0) {
            return mix->parts[i].strategy;
        }
    }
    return mix->parts[mix->n - 1].strategy;
}

static void random_pair(int n, uint64_t seed, int64_t prompt, int *a, int *b) {
    struct rng draws = rng_stream(seed, RNG_SELECT, prompt, 2);
    int64_t pick = rng_below(&draws, (int64_t)n * (n - 1) / 2);
    for (int i = 0; i < n - 1; i++) {
        if (pick < n - 1 - i) {
            *a = i;
            *b = i + 1 + (int)pick;
            return;
        }
        pick -= n - 1 - i;
    }
}

/* Rows scaled to length 1: Euclidean and cosine orders agree then. */
static enum status centroid_pair(const float *rows, int n, int64_t width, uint64_t seed, int64_t prompt,
                                 int nearest[2]) {
    float *unit;
    int *side = NULL;
    enum status st;
    TRY_TO(done, NEW_ARRAY(unit, n * width));
    TRY_TO(done, NEW_ARRAY(side, n));
    for (int i = 0; i < n; i++) {
        double norm = 0;
        for (int64_t d = 0; d < width; d++) {
            norm += (double)rows[i * width + d] * rows[i * width + d];
        }
        norm = fmax(sqrt(norm), 1e-12);
        for (int64_t d = 0; d < width; d++) {
            unit[i * width + d] = (float)(rows[i * width + d] / norm);
        }
    }
    st = kmeans_bipartition(unit, n, width, seed, prompt, side, nearest);
done:
    mem_free(unit);
    mem_free(side);
    return st;
}

enum status pairs_within(enum pair_strategy strategy, const float *rows, int n, int64_t width, uint64_t seed,
                         int64_t prompt, int *a, int *b) {
    if (strategy == PAIRS_RANDOM) {
        random_pair(n, seed, prompt, a, b);
        return OK;
    }
    if (strategy == PAIRS_CENTROID) {
        int nearest[2];
        TRY(centroid_pair(rows, n, width, seed, prompt, nearest));
        *a = nearest[0] < nearest[1] ? nearest[0] : nearest[1];
        *b = nearest[0] < nearest[1] ? nearest[1] : nearest[0];
        return OK;
    }
    double best = 0;
    *a = -1;
    for (int i = 0; i < n; i++) {
        for (int j = i + 1; j < n; j++) {
            double cosine = similarity_cosine(rows + i * width, rows + j * width, width);
            if (isnan(cosine)) {
                return fail(ERR_DATA, "the similarity of responses %d and %d of prompt %lld is not a number",
                            i, j, (long long)prompt);
            }
            bool better = strategy == PAIRS_EASY ? cosine < best : cosine > best;
            if (*a < 0 || better) {
                best = cosine;
                *a = i;
                *b = j;
            }
        }
    }
    return OK;
}
