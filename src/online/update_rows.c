#include "online/update_rows.h"

#include <stdlib.h>

#include "util/mem.h"

void update_rows_free(struct update_rows *r) {
    mem_free(r->prompt);
    mem_free(r->first);
    mem_free(r->response);
    *r = (struct update_rows){0};
}

/* Room for n rows of so many responses each. */
static enum status make_room(int64_t n, int64_t each, struct update_rows *out) {
    int64_t responses;
    update_rows_free(out);
    TRY(size_mul(n, each, "responses", &responses));
    out->n = n;
    TRY(NEW_ARRAY(out->prompt, n));
    TRY(NEW_ARRAY(out->first, n + 1));
    TRY(NEW_ARRAY(out->response, responses));
    for (int64_t i = 0; i <= n; i++) {
        out->first[i] = i * each;
    }
    return OK;
}

enum status update_rows_groups(const struct rollout *r, struct update_rows *out) {
    TRY(make_room(r->n, r->samples, out));
    for (int64_t i = 0; i < r->n; i++) {
        out->prompt[i] = i;
    }
    for (int64_t k = 0; k < rollout_responses(r); k++) {
        out->response[k] = k;
    }
    return OK;
}

enum status update_rows_own(const struct rollout *r, struct update_rows *out) {
    int64_t at = 0;
    TRY(make_room(r->n * r->own, 1, out));
    for (int64_t k = 0; k < rollout_responses(r); k++) {
        if (rollout_is_own(r, k)) {
            out->prompt[at] = k / r->samples;
            out->response[at++] = k;
        }
    }
    return OK;
}

struct scored {
    double score;
    int64_t number;
};

static int by_score(const void *a, const void *b) {
    const struct scored *x = a, *y = b;
    if (x->score != y->score) {
        return x->score > y->score ? -1 : 1;
    }
    return x->number < y->number ? -1 : 1;
}

static int by_number(const void *a, const void *b) {
    const struct scored *x = a, *y = b;
    return x->number < y->number ? -1 : x->number > y->number;
}

enum status update_rows_top(const struct rollout *r, const double *scores, double share,
                            struct update_rows *out) {
    int64_t responses = rollout_responses(r), kept = (int64_t)(share * (double)responses);
    struct scored *list;
    kept = kept < 1 ? 1 : kept;
    TRY(NEW_ARRAY(list, responses));
    for (int64_t k = 0; k < responses; k++) {
        list[k] = (struct scored){scores[k], k};
    }
    qsort(list, (size_t)responses, sizeof *list, by_score);
    qsort(list, (size_t)kept, sizeof *list, by_number);
    enum status st = make_room(kept, 1, out);
    for (int64_t i = 0; i < kept && st == OK; i++) {
        out->prompt[i] = list[i].number / r->samples;
        out->response[i] = list[i].number;
    }
    mem_free(list);
    return st;
}

/* The first of a prompt's responses with the highest score, and the last with the lowest. */
static void extremes(const struct rollout *r, const double *scores, int64_t prompt, int64_t *best,
                     int64_t *worst) {
    *best = *worst = prompt * r->samples;
    for (int64_t k = *best + 1; k < (prompt + 1) * r->samples; k++) {
        *best = scores[k] > scores[*best] ? k : *best;
        *worst = scores[k] <= scores[*worst] ? k : *worst;
    }
}

enum status update_rows_best(const struct rollout *r, const double *scores, struct update_rows *out) {
    int64_t worst;
    TRY(make_room(r->n, 1, out));
    for (int64_t i = 0; i < r->n; i++) {
        out->prompt[i] = i;
        extremes(r, scores, i, &out->response[i], &worst);
    }
    return OK;
}

enum status update_rows_pairs(const struct rollout *r, const double *scores, struct update_rows *out) {
    TRY(make_room(r->n, 2, out));
    out->is_paired = true;
    for (int64_t i = 0; i < r->n; i++) {
        out->prompt[i] = i;
        extremes(r, scores, i, &out->response[2 * i], &out->response[2 * i + 1]);
    }
    return OK;
}
