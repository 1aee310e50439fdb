/* Attention's online softmax and its gradient, on tiles of scores: of panels, whose columns are lanes, and of
 * a lane's own row. Sums of exponentials run over even and over odd keys in both. The first parameters of the
 * inlined functions are constants, one loop each. */
#ifndef COLLIMATE_CPU_SOFTMAX_H
#define COLLIMATE_CPU_SOFTMAX_H

#include "backend/cpu/cpu_attention.h"
#include "backend/cpu/cpu_vec.h"

#include <math.h>

/* Of a panel's lanes. */
struct running {
    float largest[MOST_WIDTH], sum[MOST_WIDTH];
    float keep[MOST_WIDTH]; /* what the last tile leaves of sums before it */
};

static inline void running_start(struct running *r, int width) {
    for (int l = 0; l < width; l++) {
        r->largest[l] = -INFINITY;
        r->sum[l] = 0.0f;
    }
}

/* Of each lane the bits of bf16 in the upper half, to nearest even; a NaN stays one. */
static inline __attribute__((always_inline)) mask vec_rounded(vec x) {
    mask rounded = (mask)x + 0x7fff + (((mask)x >> 16) & 1);
    mask is_number = (mask)(x == x);
    return (is_number & rounded) | (~is_number & ((mask)x | 0x400000));
}

/* Pairs of bf16: `even` in the lower half. */
static inline __attribute__((always_inline)) mask vec_pairs(vec even, vec odd) {
    return ((vec_rounded(even) >> 16) & 0xffff) | (vec_rounded(odd) & ~0xffff);
}

/* Scores of one vector of lanes, in rows of `width`, to e^(score - running maximum), where they are seen,
 * else to 0: in place, or rounded to `pairs` of keys (rows of `width` as well) where these are there. */
static inline __attribute__((always_inline)) void softmax_side(const bool is_whole, const int width,
                                                               const struct panel_view *view, float *scores,
                                                               uint32_t *pairs, struct running *r, int side) {
    int64_t at = (int64_t)side * LANES;
    mask low = (mask) * (const mask_any *)(view->low + at);
    mask high = (mask) * (const mask_any *)(view->high + at);
    vec before = vec_at(r->largest + at);
    vec largest = before;
    for (int64_t k = view->from; k < view->to; k++) {
        float *to = scores + k * width + at;
        vec x = vec_at(to);
        if (!is_whole) {
            mask row = (mask){0} + (int32_t)k;
            x = vec_pick((mask)(row < high) & (mask)(row >= low), x, vec_of(-INFINITY));
            vec_put(to, x);
        }
        largest = vec_larger(x, largest);
    }
    /* A lane that sees nothing here has -inf throughout. */
    vec shift = is_whole ? largest : vec_pick((mask)(low < high), largest, (vec){0});
    vec keep = vec_pick((mask)(before == largest), vec_of(1.0f), vec_exp_negative(before - shift));
    vec sums[2] = {{0}, {0}};
    for (int64_t k = view->from; k < view->to; k += 2) {
        vec e[2];
#pragma GCC unroll 2
        for (int odd = 0; odd < 2; odd++) {
            float *to = scores + (k + odd) * width + at;
            e[odd] = vec_exp_negative(vec_at(to) - shift);
            sums[odd] += e[odd];
            if (!pairs) {
                vec_put(to, e[odd]);
            }
        }
        if (pairs) {
            *(mask_any *)(pairs + k / 2 * width + at) = (mask_any)vec_pairs(e[0], e[1]);
        }
    }
    vec sum = sums[0] + sums[1];
    vec_put(r->largest + at, largest);
    vec_put(r->keep + at, keep);
    vec_put(r->sum + at, vec_at(r->sum + at) * keep + sum);
}

static inline __attribute__((always_inline)) void softmax_panel(const int width,
                                                                const struct panel_view *view, int64_t lanes,
                                                                float *scores, uint32_t *pairs,
                                                                struct running *r) {
    for (int side = 0; side * LANES < lanes; side++) {
        if (view->is_whole) {
            softmax_side(true, width, view, scores, pairs, r, side);
        } else {
            softmax_side(false, width, view, scores, pairs, r, side);
        }
    }
}

/* As softmax_side, of one lane's row of n scores, whole vectors, in place. */
static inline __attribute__((always_inline)) void softmax_lane(const int64_t n, const struct panel_view *view,
                                                               int64_t l, float *scores, struct running *r) {
    int64_t low = view->low[l];
    int64_t high = view->high[l];
    float before = r->largest[l];
    float largest = before;
    for (int64_t k = 0; k < n; k++) {
        scores[k] = k < low || k >= high ? -INFINITY : scores[k];
    }
    for (int64_t k = low; k < high; k++) {
        largest = scores[k] > largest ? scores[k] : largest;
    }
    float shift = low < high ? largest : 0.0f;
    float sums[2] = {0};
    for (int64_t k = 0; k < n; k += LANES) {
        vec_put(scores + k, vec_exp_negative(vec_at(scores + k) - shift));
    }
    for (int64_t k = low / 2 * 2; k < high; k += 2) {
        sums[0] += scores[k];
        sums[1] += scores[k + 1];
    }
    float sum = sums[0] + sums[1];
    float keep = before == largest ? 1.0f : vec_exp_negative(vec_of(before - shift))[0];
    r->largest[l] = largest;
    r->keep[l] = keep;
    r->sum[l] = r->sum[l] * keep + sum;
}

/* A lane's row of out, whose values are `step` apart, and its lse. room: a head's. */
static inline void finish_lane(const struct attention *a, int64_t row, int64_t column, const float *sums,
                               int64_t step, float largest, float sum, float *room) {
    float factor = sum == 0.0f ? 0.0f : 1.0f / sum;
    float *out = cpu_place(a->out, row, column, room);
    for (int64_t d = 0; d < a->head_dim; d++) {
        out[d] = sums[d * step] * factor;
    }
    cpu_store(a->out, row, column, a->head_dim, out);
    if (a->lse.data) {
        cpu_row(a->lse, row)[column / a->head_dim] = largest + logf(sum);
    }
}

/* P and dS, the gradient with respect to scale * q k^T, of one vector of lanes at key k, from scores (capped)
 * and dP; both are zero where the key is not seen. cap 0: none. */
static inline __attribute__((always_inline)) void gradient_of(const bool is_whole, float cap, int64_t k,
                                                              mask low, mask high, vec lse, vec d, vec *score,
                                                              vec *dp) {
    vec x = *score;
    vec e = vec_exp_negative(x - lse);
    vec slope = e * (*dp - d);
    if (cap > 0.0f) {
        vec ratio = x / cap;
        slope *= 1.0f - ratio * ratio;
    }
    if (!is_whole) {
        mask row = (mask){0} + (int32_t)k;
        mask is_seen = (mask)(row < high) & (mask)(row >= low);
        e = (vec)(is_seen & (mask)e);
        slope = (vec)(is_seen & (mask)slope);
    }
    *score = e;
    *dp = slope;
}

/* D of a lane: its row of out times that of dout. */
static inline float row_product(const float *out, const float *dout, int64_t n) {
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < n; j++) {
        sum += out[j] * dout[j];
    }
    return sum;
}

#endif
