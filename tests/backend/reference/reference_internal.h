/* Between the reference's files: rows of doubles, and the operations that reference_backend.c puts into the
 * table. */
#ifndef COLLIMATE_TESTS_REFERENCE_INTERNAL_H
#define COLLIMATE_TESTS_REFERENCE_INTERNAL_H

#include "backend/backend.h"

static inline double *row_of(struct tensor t, int64_t i) {
    return (double *)t.data + i * t.stride;
}
static inline const int32_t *ints_of(struct tensor t) {
    return t.data;
}

#define REFERENCE_PROTOTYPE(name, type) enum status reference_##name(struct backend *b, const type *call);
OPERATIONS(REFERENCE_PROTOTYPE)
#undef REFERENCE_PROTOTYPE

#endif
