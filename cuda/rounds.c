#include "cuda/rounds.h"

#include <stddef.h>

static bool same_keys(const struct run *r, const struct key_range *range) {
    return r->k_first == range->first && r->k_count == range->count;
}

/* Round 0: a causal range per span with queries. */
static int32_t causal_runs(const struct attention_map *map, int64_t queries, int64_t keys, struct run *runs,
                           struct rounds *out) {
    int32_t count = 0;
    int64_t reached = 0;
    int64_t q_end = 0;
    int64_t k_end = 0;
    for (int32_t s = 0; s < map->span_count; s++) {
        const struct query_span *span = &map->spans[s];
        if (span->count == 0) {
            continue;
        }
        const struct key_range *last =
            span->range_count > 0 ? &map->ranges[span->range_first + span->range_count - 1] : NULL;
        out->fits = last && last->causal && span->first == q_end && last->first >= k_end;
        if (!out->fits) {
            return 0;
        }
        runs[count++] = (struct run){span->first, span->count, last->first, last->count};
        q_end = (int64_t)span->first + span->count;
        k_end = (int64_t)last->first + last->count;
        reached += last->count;
    }
    out->fits = count > 0 && q_end == queries && k_end <= keys;
    out->covers_keys = reached == keys;
    return count;
}

/* Whole ranges, those of neighbors joined, in the order of their queries. */
static int32_t whole_runs(const struct attention_map *map, struct run *runs) {
    int32_t count = 0;
    for (int32_t s = 0; s < map->span_count; s++) {
        const struct query_span *span = &map->spans[s];
        for (int32_t i = 0; i < span->range_count && span->count > 0; i++) {
            const struct key_range *range = &map->ranges[span->range_first + i];
            int32_t at = count - 1;
            if (range->causal || range->count == 0) {
                continue;
            }
            while (at >= 0 &&
                   !(same_keys(&runs[at], range) && runs[at].q_first + runs[at].q_count == span->first)) {
                at--;
            }
            if (at >= 0) {
                runs[at].q_count += span->count;
            } else {
                runs[count++] = (struct run){span->first, span->count, range->first, range->count};
            }
        }
    }
    return count;
}

/* Moves one round's worth of `from` behind `to`, the rest together; returns how many were moved. */
static int32_t take_round(struct run *from, int32_t *left, struct run *to) {
    int32_t taken = 0;
    int32_t kept = 0;
    int64_t q_end = 0;
    int64_t k_end = 0;
    for (int32_t i = 0; i < *left; i++) {
        if (from[i].q_first >= q_end && from[i].k_first >= k_end) {
            q_end = (int64_t)from[i].q_first + from[i].q_count;
            k_end = (int64_t)from[i].k_first + from[i].k_count;
            to[taken++] = from[i];
        } else {
            from[kept++] = from[i];
        }
    }
    *left = kept;
    return taken;
}

void rounds_of(const struct attention_map *map, int64_t queries, int64_t keys, struct run *runs,
               struct rounds *out) {
    struct run *rest = runs + map->range_count;
    *out = (struct rounds){.count = 1};
    out->first[1] = causal_runs(map, queries, keys, runs, out);
    if (!out->fits) {
        return;
    }
    int32_t left = whole_runs(map, rest);
    while (left > 0 && out->count < ROUNDS_MOST) {
        int32_t first = out->first[out->count];
        out->first[++out->count] = first + take_round(rest, &left, runs + first);
    }
    out->whole_fits = left == 0;
    out->count = out->whole_fits ? out->count : 1;
}

/* At most n, and up, with `bits` leading bits. */
static int32_t leading(int32_t n, int bits, bool up) {
    int32_t unit = 1;
    while (n / unit >= 1 << bits) {
        unit *= 2;
    }
    return (n + (up ? unit - 1 : 0)) / unit * unit;
}

int32_t rounds_length(int32_t n) {
    return 64 * leading((n - 1) / 64 + 1, 2, true);
}

struct batch rounds_batch(const struct run *runs, int32_t first, int32_t end) {
    int32_t count = leading(end - first < BATCH_MOST ? end - first : BATCH_MOST, 2, false);
    struct batch b = {first, count, 1, 1, true};
    for (int32_t i = first; i < first + count; i++) {
        b.queries = runs[i].q_count > b.queries ? runs[i].q_count : b.queries;
        b.keys = runs[i].k_count > b.keys ? runs[i].k_count : b.keys;
        b.is_square = b.is_square && runs[i].q_count == runs[i].k_count;
    }
    b.queries = rounds_length(b.queries);
    b.keys = rounds_length(b.keys);
    return b;
}
