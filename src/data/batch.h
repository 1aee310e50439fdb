/* The cut: which rows an update sees, which slot each of them goes to, and which forests a rank makes of its
 * slots.
 *
 * An epoch is a permutation of the view's rows that is a function of (seed, epoch), or the file's order; an
 * update takes the next `batch` places of it, the last one of an epoch what is left: no row is dropped, none
 * comes twice. The rows of an update are dealt to a fixed number of slots by cost, the longest first onto the
 * lightest slot, so what a slot holds depends on seed, step and data alone. Of equal rows the lower is first;
 * of equally light slots first the one whose turn it is in an order that goes back and forth between halves,
 * quarters, … of the slots. Rank r owns the slots range_part(slots, r, size) and reads their rows only: with
 * that order even a batch of few rows feeds all ranks.
 *
 * A forest holds at most micro_tokens tokens (or one longer row). In deterministic mode each slot has its own
 * forests, so that the slot is the unit of the arithmetic; otherwise a rank's slots are packed together.
 */
#ifndef COLLIMATE_DATA_BATCH_H
#define COLLIMATE_DATA_BATCH_H

#include "data/lengths.h"
#include "data/sidecar.h"
#include "data/view.h"
#include "mpi/comm.h"

struct batch_plan {
    int64_t rows;  /* of the view, or the first rows only */
    int64_t batch; /* rows in an update over all ranks */
    int64_t slots, micro_tokens;
    uint64_t seed;
    bool shuffle, deterministic;
};

/* Local. Fails: ERR_USAGE when the plan cannot work on `ranks` ranks; the message says which counts can. */
enum status batch_check(const struct batch_plan *p, int ranks);
/* Updates in an epoch. */
int64_t batch_steps(const struct batch_plan *p);

/* Where step s (from 0) stands: rows at places [first, first + count) of the epoch's order. */
struct step_place {
    int64_t epoch, first, count;
};
struct step_place batch_place(const struct batch_plan *p, int64_t step);
/* The view's row at place i of an epoch. */
int64_t batch_row(const struct batch_plan *p, int64_t epoch, int64_t i);

/* Local. Deals n rows to slots. order (n): indices of the rows, slot by slot, in dealing order within a slot;
 * slot_first (slots + 1): where each slot begins in order. */
enum status batch_deal(const int32_t *cost, const int64_t *rows, int64_t n, int64_t slots, int64_t *order,
                       int64_t *slot_first);

/* Cuts n rows in order into runs of at most `limit` tokens (a longer row stands alone). ends (n): one past
 * each run's last row. Returns the number of runs. */
int64_t batch_cut(const int32_t *cost, int64_t n, int64_t limit, int64_t *ends);

/* A run of a rank's samples that goes through the model at once. */
struct forest_cut {
    int64_t first, last; /* samples [first, last) */
    int64_t slot;        /* this rank's slot, from 0; 0 in fast mode */
};

/* Of each user of an update, on all ranks alike, embeddings of the choices that the policy follows. */
struct batch_users {
    int64_t n, choices, width;
    float *pairs; /* (n, choices, 2, width): of chosen and rejected */
};

/* A rank's share of an update. */
struct batch {
    int64_t step;
    struct step_place place;
    int64_t n; /* rows of this rank */
    struct sample *samples;
    int64_t *first;          /* n + 1: sample i's responses are [first[i], first[i + 1]) of all */
    double *reference;       /* sums by response, at first[i] + j; NULL without a side-car */
    int64_t *token_first;    /* where the tokens of the batch's response k are in token_reference: at */
    double *token_reference; /* token_first[k]; both NULL where nobody reads them */
    /* Of a policy's own samples, by response and laid out like token_reference; NULL where nobody reads them:
     * log-probabilities when they were drawn, advantages, returns, and the values that these came from. */
    double *advantage, *token_old, *token_advantage, *token_return, *token_old_value;
    struct batch_users users; /* none but where they steer a policy */
    int64_t n_cuts;
    struct forest_cut *cuts;
    int64_t tokens;        /* of this rank's forests */
    int64_t target_tokens; /* scored tokens of the targets, this rank's; of groups: of all responses */
    /* Over all ranks, from an earlier reduction: what the losses divide by. */
    double global_target_tokens;
    double global_responses; /* of groups; whoever makes them sets it */
};
void batch_free(struct batch *b);

/* Local. Of n rows with these costs that are dealt to slots, the ones of this rank's slots, in dealing order,
 * and the forests of them: sets b->n, n_cuts and cuts, and *index (the caller's): places of b->n of the rows.
 */
enum status batch_share(const struct batch_plan *p, struct range slots, const int32_t *cost,
                        const int64_t *rows, int64_t n, struct batch *b, int64_t **index);
/* Local. b has its samples: makes `first`, counts tokens. */
enum status batch_count(struct batch *b);

/* Reads batches of a view. Everything is borrowed. */
struct batch_source {
    struct view *view;
    struct sidecar *reference; /* NULL: none */
    bool reads_tokens;         /* of the reference, which holds them then */
    /* Local. In place of a side-car: scores of a batch that is read else, into its reference and
     * token_reference; NULL: none. A batch then may not be read before the update before it is done. */
    enum status (*score_reference)(void *context, struct batch *b);
    void *scores; /* its context */
    struct batch_plan plan;
    int rank, size;
    struct cut_counts *counts; /* added to; may be NULL */
};
/* Local. This rank's rows of a step. b is freed first. Fails: as view_read; ERR_DATA when a side-car row is
 * missing or was computed from other tokens. */
enum status batch_read(const struct batch_source *s, int64_t step, struct batch *b);

/* Rows of an update that are not the plan's: any of the view's, a row any number of times. */
struct batch_rows {
    int64_t n;
    const int64_t *rows;
    /* May change the sample that was read for rows[i]; NULL: nothing. */
    void (*adjust)(void *context, int64_t i, struct sample *sample);
    void *context;
};
/* Local. The same for these rows, in the place of the plan's. */
enum status batch_read_rows(const struct batch_source *s, int64_t step, const struct batch_rows *rows,
                            struct batch *b);

/* Local. Makes token_first and token_reference, for as many numbers as the responses have scored tokens. */
enum status batch_place_tokens(struct batch *b);
/* Local. Another array laid out like it, zero. The caller gives it to the batch, or releases it. */
enum status batch_token_array(const struct batch *b, double **out);

/* Local. Tokens of a forest of any update, on any of the ranks, at most. lengths: of the plan's rows, over
 * all ranks. */
int64_t batch_forest_tokens(const struct batch_plan *p, int ranks, const struct lengths *lengths);

#endif
