/* Reference scores: computed once, by all ranks, into a side-car keyed by model, data, view and compute type.
 *
 * They are computed step by step in the forests of the first training epoch, because products of other shapes
 * round differently: so the first epoch starts from margins that are exactly 0 where policy and reference are
 * the same model. What a killed run had written is kept: steps whose rows are all there are skipped.
 */
#ifndef COLLIMATE_SCORE_REFERENCE_H
#define COLLIMATE_SCORE_REFERENCE_H

#include "data/batch.h"
#include "data/rows.h"
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

struct reference_options {
    struct comm *comm;
    struct model *model;
    uint64_t model_hash;
    const char *compute; /* the type of its products, "fp32" or "bf16", as the side-car's key has it */
    struct workspace *workspace;       /* for its passes over the source's forests, KEEP_NOTHING */
    const struct batch_source *source; /* of rows; its side-car and counts are left alone */
    int64_t steps;                     /* updates that will read scores; an epoch's at most are computed */
    bool tokens;                       /* token by token as well */
    const char *path;                  /* of the side-car; "": beside the data, with the key in its name, */
    const char *folder;                /* or here, where it cannot lie there; "": nowhere */
};
/* Collective. Opens the side-car as rows->reference (sidecar_find), computes what it lacks and checks it; one
 * line in the log. Fails: as sidecar_find and the two above; REQUEUE after SIGUSR1. */
enum status reference_fill(const struct reference_options *o, struct rows *rows);

#endif
