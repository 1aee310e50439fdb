#include "select/balanced.h"

#include <string.h>

#include "util/mem.h"

enum status balanced_quotas(const int64_t *sizes, int64_t clusters, int64_t count, int64_t *quota) {
    int64_t left = count;
    int64_t open = 1; /* clusters that have rows left */
    memset(quota, 0, (size_t)clusters * sizeof *quota);
    while (left > 0 && open > 0) {
        open = 0;
        for (int64_t k = 0; k < clusters; k++) {
            open += quota[k] < sizes[k];
        }
        int64_t share = open > 0 && left > open ? left / open : 1;
        for (int64_t k = 0; k < clusters && left > 0; k++) {
            int64_t more = sizes[k] - quota[k] < share ? sizes[k] - quota[k] : share;
            quota[k] += more;
            left -= more;
        }
    }
    return left == 0
               ? OK
               : fail(ERR_USAGE, "%lld rows of %lld are wanted", (long long)count, (long long)(count - left));
}

/* Radix search in all clusters at once: the quota-th least distance of each, 8 bits at a time. A distance is
 * not negative, so its bits are in its order. */
enum { DIGIT_BITS = 8, DIGITS = 1 << DIGIT_BITS, KEY_BITS = 32 };

static uint32_t key_of(float distance) {
    distance = distance > 0 ? distance : 0;
    uint32_t bits;
    memcpy(&bits, &distance, sizeof bits);
    return bits;
}

struct thresholds {
    uint32_t *key;
    int64_t *below; /* rows of the cluster with lower keys, over all ranks */
    int64_t *histogram;
};

static void count_digits(const struct clustered *rows, const struct thresholds *t, int shift) {
    uint32_t fixed = shift + DIGIT_BITS == KEY_BITS ? 0 : ~(uint32_t)0 << (shift + DIGIT_BITS);
    memset(t->histogram, 0, (size_t)(rows->clusters * DIGITS) * sizeof *t->histogram);
    for (int64_t i = 0; i < rows->n; i++) {
        uint32_t key = key_of(rows->distance[i]);
        int32_t k = rows->cluster[i];
        if (!rows->skip[i] && (key & fixed) == t->key[k]) {
            t->histogram[(int64_t)k * DIGITS + (key >> shift & (DIGITS - 1))]++;
        }
    }
}

static enum status find_thresholds(struct comm *c, const struct clustered *rows, const int64_t *quota,
                                   const struct thresholds *t) {
    for (int shift = KEY_BITS - DIGIT_BITS; shift >= 0; shift -= DIGIT_BITS) {
        count_digits(rows, t, shift);
        TRY(comm_sum_i64(c, t->histogram, rows->clusters * DIGITS));
        for (int64_t k = 0; k < rows->clusters; k++) {
            const int64_t *counts = t->histogram + k * DIGITS;
            uint32_t digit = 0;
            while (digit < DIGITS - 1 && t->below[k] + counts[digit] < quota[k]) {
                t->below[k] += counts[digit++];
            }
            t->key[k] |= digit << shift;
        }
    }
    return OK;
}

/* ties (size x clusters): every rank's rows at the threshold, then how many of them this rank takes, in its
 * own row of the table. */
static enum status share_ties(struct comm *c, const struct clustered *rows, const int64_t *quota,
                              const struct thresholds *t, int64_t *ties) {
    int64_t *mine = ties + c->rank * rows->clusters;
    for (int64_t i = 0; i < rows->n; i++) {
        int32_t k = rows->cluster[i];
        mine[k] += !rows->skip[i] && key_of(rows->distance[i]) == t->key[k];
    }
    TRY(comm_sum_i64(c, ties, c->size * rows->clusters));
    for (int64_t k = 0; k < rows->clusters; k++) {
        int64_t wanted = quota[k] - t->below[k];
        for (int r = 0; r < c->rank; r++) {
            wanted -= ties[r * rows->clusters + k];
        }
        mine[k] = wanted > 0 ? wanted : 0;
    }
    return OK;
}

static void take(const struct clustered *rows, const int64_t *quota, const struct thresholds *t,
                 int64_t *ties, bool *taken) {
    for (int64_t i = 0; i < rows->n; i++) {
        int32_t k = rows->cluster[i];
        uint32_t key = key_of(rows->distance[i]);
        taken[i] = false;
        if (rows->skip[i] || quota[k] == 0 || key > t->key[k]) {
            continue;
        }
        bool tie = key == t->key[k];
        taken[i] = !tie || ties[k] > 0;
        ties[k] -= tie && ties[k] > 0;
    }
}

enum status balanced_select(struct comm *c, const struct clustered *rows, int64_t count, bool *taken,
                            int64_t *quota) {
    struct thresholds t = {0};
    int64_t *sizes = NULL;
    int64_t *ties = NULL;
    enum status st = NEW_ARRAY(sizes, rows->clusters);
    st = st == OK ? NEW_ARRAY(t.key, rows->clusters) : st;
    st = st == OK ? NEW_ARRAY(t.below, rows->clusters) : st;
    st = st == OK ? NEW_ARRAY(t.histogram, rows->clusters * DIGITS) : st;
    st = st == OK ? NEW_ARRAY(ties, c->size * rows->clusters) : st;
    TRY_TO(done, comm_agree(c, st));
    for (int64_t i = 0; i < rows->n; i++) {
        sizes[rows->cluster[i]] += !rows->skip[i];
    }
    TRY_TO(done, comm_sum_i64(c, sizes, rows->clusters));
    TRY_TO(done, balanced_quotas(sizes, rows->clusters, count, quota));
    TRY_TO(done, find_thresholds(c, rows, quota, &t));
    TRY_TO(done, share_ties(c, rows, quota, &t, ties));
    take(rows, quota, &t, ties + c->rank * rows->clusters, taken);
done:
    mem_free(sizes);
    mem_free(t.key);
    mem_free(t.below);
    mem_free(t.histogram);
    mem_free(ties);
    return st;
}
