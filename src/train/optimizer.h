/* Optimizers and schedules with PyTorch's semantics (SPEC 1.5). */
#ifndef COLLIMATE_TRAIN_OPTIMIZER_H
#define COLLIMATE_TRAIN_OPTIMIZER_H

#include "model/arena.h"
#include "mpi/shard.h"

struct optimizer_options {
    enum optimizer_kind kind;
    double learning_rate, beta1, beta2, epsilon, weight_decay, momentum, alpha;
};

struct optimizer {
    struct optimizer_options options;
    struct arena *arena;
    struct shard_map shards;     /* what this rank holds state of, and updates */
    struct tensor first, second; /* state of the shares, packed; none where the kind has none */
    void *staging;               /* parameters on the host, where sharded on a device; else NULL */
    int64_t updates;             /* done so far; t of the bias correction is updates + 1 */
};
/* States that a kind keeps, 0 to OPTIMIZER_STATES, each as large as its shares. */
int optimizer_states(const struct optimizer_options *o);
/* Local. State is zeroed; the arena is borrowed. shards: shard_map_whole() where it is not sharded. */
enum status optimizer_open(struct arena *a, const struct optimizer_options *o, const struct shard_map *shards,
                           struct optimizer *out);
void optimizer_close(struct optimizer *o);
bool optimizer_is_sharded(const struct optimizer *o);
/* Local. One update of this rank's shares from the arena's gradients with rate multiplier (schedule) and
 * gradient scale (clipping), renewing the compute copy. Where sharded, parameters_gather() comes next. */
enum status optimizer_update(struct optimizer *o, double rate_multiplier, double gradient_scale);
/* Collective. After a sharded update: every rank's shares of the parameters on all ranks. updated: how this
 * rank's update went, agreed on first. */
enum status parameters_gather(struct comm *c, struct optimizer *o, enum status updated);
enum { OPTIMIZER_STATES = 2 };
/* Packed states by name ("first", "second") for checkpoints; returns how many, 0 to OPTIMIZER_STATES. */
int optimizer_state(const struct optimizer *o, struct tensor *tensors, const char **names);

enum schedule { SCHEDULE_CONSTANT, SCHEDULE_LINEAR, SCHEDULE_COSINE, SCHEDULE_CONSTANT_WITH_WARMUP };
/* Multiplier of update s (from 0) of total, warm-up W. constant: (s+1)/(W+1) up to 1 (DPO reference); linear:
 * s/W up, then down to 0 at total; constant_with_warmup: s/W up to 1; cosine: s/W up, then half a cosine to 0
 * at total (transformers), clamped past total. */
double schedule_multiplier(enum schedule kind, int64_t step, int64_t warmup, int64_t total);

#endif
