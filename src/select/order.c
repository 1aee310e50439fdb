#include "select/order.h"

#include <string.h>

#include "util/mem.h"

enum { DIGIT_BITS = 16, DIGITS = 1 << DIGIT_BITS };

static const uint64_t sign = (uint64_t)1 << 63;

uint64_t order_key(double value) {
    value += 0.0; /* -0 and 0 are equal */
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits & sign ? ~bits : bits | sign;
}

double order_value(uint64_t key) {
    uint64_t bits = key & sign ? key & ~sign : ~key;
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

enum status order_statistic(struct comm *c, const struct order_keys *of, int64_t count, uint64_t *key,
                            int64_t *below) {
    int64_t *histogram;
    TRY(comm_agree(c, NEW_ARRAY(histogram, DIGITS)));
    enum status st = OK;
    uint64_t prefix = 0;
    *below = 0;
    for (int shift = 64 - DIGIT_BITS; shift >= 0 && st == OK; shift -= DIGIT_BITS) {
        uint64_t fixed = shift == 64 - DIGIT_BITS ? 0 : ~(uint64_t)0 << (shift + DIGIT_BITS);
        memset(histogram, 0, DIGITS * sizeof *histogram);
        for (int64_t i = 0; i < of->n; i++) {
            if (!(of->skip && of->skip[i]) && (of->keys[i] & fixed) == prefix) {
                histogram[of->keys[i] >> shift & (DIGITS - 1)]++;
            }
        }
        st = comm_sum_i64(c, histogram, DIGITS);
        uint64_t digit = 0;
        while (st == OK && digit < DIGITS - 1 && *below + histogram[digit] < count) {
            *below += histogram[digit++];
        }
        prefix |= digit << shift;
    }
    mem_free(histogram);
    *key = prefix;
    return st;
}

enum status order_quantile(struct comm *c, const struct order_keys *of, int64_t total, double q,
                           double *out) {
    double place = q * (double)(total - 1);
    int64_t at = (int64_t)place;
    uint64_t low;
    uint64_t high;
    int64_t below;
    TRY(order_statistic(c, of, at + 1, &low, &below));
    TRY(order_statistic(c, of, at + 2 < total ? at + 2 : total, &high, &below));
    *out = order_value(low) + (place - (double)at) * (order_value(high) - order_value(low));
    return OK;
}
