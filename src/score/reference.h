/* Reference scores: computed once, by all ranks, into a side-car keyed by model, data, view and compute type.
 *
 * They are computed step by step in the forests of the first training epoch, because products of other shapes
 * round differently: so the first epoch starts from margins that are exactly 0 where policy and reference are
 * the same model. What a killed run had written is kept: steps whose rows are all there are skipped.
 */
#ifndef COLLIMATE_SCORE_REFERENCE_H
#define COLLIMATE_SCORE_REFERENCE_H

#include "data/batch.h"
#include "score/scorer.h"

/* What is scored: the first `steps` updates of source's first epoch, so that a short run over large data does
 * not wait for rows that it never sees. */
struct reference_job {
    struct comm *comm;
    struct scorer *scorer; /* of the reference model */
    const struct batch_source *source;
    struct sidecar *file;
    int64_t steps; /* at most an epoch's */
};

/* Collective. Computes what the file lacks. *computed, *there: rows over all ranks. */
enum status reference_compute(const struct reference_job *job, int64_t *computed, int64_t *there);

/* Collective. Recomputes a few rows and compares: |difference| <= absolute + relative * |sum|, with
 * (1e-3, 1e-5) in fp32 and (0.5, 1e-2) in bf16, which is above what other forests round and far below what
 * other weights or tokens change. Fails: ERR_DATA naming a response and both values. *worst: the largest
 * difference seen. */
enum { REFERENCE_CHECK_ROWS = 4 };
enum status reference_check(const struct reference_job *job, double *worst);

#endif
