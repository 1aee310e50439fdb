/* One update of one batch: the same collectives in the same order, whatever happens.
 *
 *   gathering    only where a term sees the whole batch: all forests forward, and one small allreduce of what
 *                the term gathers from each row, before any of them goes backward
 *   slots        each rank runs its forests forward, objective, backward; the last backward lets buckets go
 *   meanwhile    what the caller does while they are under way (it reads ahead)
 *   gradients    summed over slots and ranks (gradient.h), in one order in deterministic mode
 *   closing      ONE small allreduce: [sums | failed | asked | spans | squares of the gradient | arrivals]
 *   update       the same on every rank, or on its share and then gathered
 *
 * What rides in the closing needs no collective of its own: failures, the caller's questions (signals, votes
 * to stop, the next batch's denominators), clocks, and the squared norm in pieces. So a loss never needs a
 * sum before its backward, and a rank that failed goes on with the step's collectives, says so in the closing
 * one, and all ranks discard the step.
 *
 * Training (loop.h), bench.kind=step and on-policy methods take their updates here and nowhere else.
 */
#ifndef COLLIMATE_TRAIN_STEP_H
#define COLLIMATE_TRAIN_STEP_H

#include "evaluate/batch_order.h"
#include "evaluate/evaluation.h"
#include "train/gradient.h"
#include "train/optimizer.h"
#include "train/straggler.h"

/* Seconds of a step, on a rank. */
enum span { SPAN_FORWARD, SPAN_BACKWARD, SPAN_WAIT, SPAN_MEANWHILE, SPAN_COUNT };

/* What a rank may take in silence while nothing has been measured, seconds. */
#define FIRST_ALLOWANCE_S 1800.0
/* After a first step (or a first checkpoint) a rank may be silent for many times the last one. */
#define ALLOWED_STEPS 20

/* Borrowed. */
struct step_parts {
    struct comm *comm;
    struct workspace *workspace;
    struct model *model;
    struct optimizer *optimizer; /* of the model's trained arena */
    const struct terms *terms;
};

/* What a batch's rows are under (model/film.h), made and learnt beside the model by an encoder whose
 * parameters are the first of the trained arena. */
struct steers {
    void *context;
    const struct condition *condition;
    int64_t elements; /* of the trained arena, from its first on: the encoder's */
    /* Local, before the batch's forests. */
    enum status (*begin)(void *context, const struct batch *b);
    /* Local, after each forest's backward: from the condition's dz to the arena's gradients. */
    enum status (*backward)(void *context);
};

struct step_options {
    uint64_t seed; /* of adapters' dropout */
    int64_t slots; /* that an update is cut into, over all ranks */
    bool deterministic;
    enum pass_keep keep; /* KEEP_ALL or KEEP_INPUTS */
    int64_t bucket_bytes;
    enum communication communication;
    double clip;              /* the gradient's norm; 0: none */
    int n_asked;              /* numbers that each rank's wish adds to the closing */
    struct scorer *reference; /* of a second model, where terms read its divergence; borrowed; NULL: none */
    const struct steers *steers; /* borrowed; NULL: nothing is steered */
};

/* What a rank asks of the others. */
struct wish {
    void *context;
    /* Local, while the buckets are under way. May be NULL. Its failure is the step's. */
    enum status (*meanwhile)(void *context);
    /* Local, just before the closing: values[n_asked], zero before, are summed over ranks. May be NULL. */
    void (*ask)(void *context, double *values);
    /* How what this rank did since its last step went (an update, a line of metrics): rides in the closing.
     */
    enum status late_status;
};

/* What all ranks know after the closing. */
struct verdict {
    struct sums sums;
    double grad_norm;         /* before clipping */
    double step_s;            /* since the last step's closing, or step_clock() */
    double spans[SPAN_COUNT]; /* mean over ranks */
    double closing_s;         /* of the closing reduction, on this rank */
    struct straggler straggler;
    const double *asked; /* sums over ranks; until the next step */
};

struct step {
    struct step_parts parts;
    struct step_options options;
    struct arena *arena; /* what is trained */
    struct scorer scorer;
    struct gradient_sum gradient;
    struct sums_tree sums;
    double sums_gathered[GATHERED]; /* over the batch; where a term has scope batch */
    struct order order;             /* of its rows; where a term has scope order */
    const double *gathered;         /* what the terms are given of these; NULL in scope row */
    struct stragglers stragglers;
    struct shard_map shares; /* who sums which squares of the gradient, and hashes which parameters */
    int64_t n_slots, n_squares;
    double spans[SPAN_COUNT], arrival_s, began_s, allowance_s;
    double *closing;              /* what the closing reduction carries */
    double optimizer_s, gather_s; /* of the last update */
    uint64_t parameters_hash;     /* after it; in deterministic mode */
};

/* Collective. Allocates what an update needs beside the optimizer: partial sums, buckets, a pass. */
enum status step_open(const struct step_parts *parts, const struct step_options *o, struct step *out);
void step_close(struct step *s);

/* Collective, whatever happens. Sums the gradients of b, of which each rank has its part. Fails, on all ranks
 * alike: ERR_DATA when a loss or the gradient norm is not finite (step and rows named); whatever a rank
 * failed with. */
enum status step_run(struct step *s, const struct batch *b, const struct wish *w, struct verdict *out);

/* Collective where sharded or deterministic, whatever happens. Clips by v's norm and updates with the rate
 * times rate_multiplier. What it returns may differ between ranks: it rides in the next closing
 * (wish.late_status). */
enum status step_update(struct step *s, const struct verdict *v, double rate_multiplier);

/* Local. The time since the last closing was not a step's (an evaluation, a checkpoint). */
void step_clock(struct step *s);
/* Local. Says for the watchdog what step `number` (from 1) is doing. */
void step_beat(const struct step *s, const char *phase, int64_t number);
/* Local. The pass gives its memory back, for others that use the workspace, and takes it again. */
void step_pause(struct step *s);
enum status step_continue(struct step *s);

#endif
