/* Between the reference's files: rows of doubles, and the operations that reference.c puts into the table. */
#ifndef COLLIMATE_TESTS_REFERENCE_INTERNAL_H
#define COLLIMATE_TESTS_REFERENCE_INTERNAL_H

#include "backend/backend.h"

static inline double *row_of(struct tensor t, int64_t i) {
    return (double *)t.data + i * t.stride;
}
static inline const int32_t *ints_of(struct tensor t) {
    return t.data;
}

enum status reference_norm(struct backend *b, const struct norm *n);
enum status reference_norm_gradient(struct backend *b, const struct norm *n, const struct norm_gradient *g);
enum status reference_rope(struct backend *b, const struct rope *r);
enum status reference_activate(struct backend *b, const struct activate *a);
enum status reference_activate_gradient(struct backend *b, const struct activate *a,
                                        const struct activate_gradient *g);
enum status reference_attention(struct backend *b, const struct attention *a);
enum status reference_attention_gradient(struct backend *b, const struct attention *a,
                                         const struct attention_gradient *g);
enum status reference_head(struct backend *b, const struct head *h);
enum status reference_head_gradient(struct backend *b, const struct head *h, const struct head_gradient *g);
enum status reference_optimizer(struct backend *b, const struct optimizer_step *s);

#endif
