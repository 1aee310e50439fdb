/* What `sft`, `dpo`, `reward` and `online` share: from settings to a trained model in the run folder. */
#ifndef COLLIMATE_COMMAND_TRAINER_H
#define COLLIMATE_COMMAND_TRAINER_H

#include "command/session.h"
#include "io/safetensors.h"
#include "score/live_reference.h"
#include "steer/steer_source.h"
#include "train/estimate.h"
#include "train/loop.h"

struct trainer;
/* Rows that a command makes itself of the data's prompts, in the place of rows that are read. */
struct trainer_source {
    /* Local, from settings alone: rows of an update, and updates that have the same. */
    int64_t (*batch)(const struct settings *s);
    int64_t (*span)(const struct settings *s);
    void (*request)(const struct settings *s, struct rows_request *out); /* what is read of the data */
    /* Local. Folders that it reads beside the model's and the reference's, for a model of this configuration:
     * session_look_other. */
    enum status (*look)(struct trainer *t, const struct model_config *config);
    /* Which ids the reference must know. */
    enum other_ids (*reference_ids)(const struct settings *s);
    /* Collective. What is in the rows that can be looked at before the first update; rows and tokenizer are
     * open. */
    enum status (*check_rows)(struct trainer *t);
    /* Local. Adds to an estimate what it takes; rows are open, a model need not be. */
    enum status (*memory)(struct trainer *t, struct estimate_options *out);
    /* Local, rank 0. The run begins anew: what an earlier one left goes. */
    enum status (*forget)(const struct trainer *t);
    /* Collective. The model and rows are open: sets t->training.source. */
    enum status (*open)(struct trainer *t);
    void (*close)(struct trainer *t);
};

struct trainer {
    struct session session;
    struct terms terms;
    const struct trainer_source *own; /* NULL: rows are read */
    void *own_state;                  /* of it, between open and close */
    uint64_t own_contents;            /* hash of what it reads */
    const char *command;              /* that is run, or will be */
    struct text view; /* of settings->data, made by this job and read in its place; empty: none */
    bool has_folder;  /* the output folder is this job's */
    struct batch_source data, eval_data;
    struct live_reference follower; /* dpo.sync_reference */
    struct workspace follower_workspace;
    struct world world;                        /* where users steer the policy: their pairs and choices, */
    struct steer_source users;                 /* in updates, */
    struct steers steers;                      /* in the step, */
    struct text embeddings;                    /* and the side-car of their choices; */
    struct text eval_embeddings;               /* likewise of eval_data */
    struct steer_evaluation *users_evaluation; /* of eval_data (trainer_steer_evaluate.c); NULL: none */
    struct estimate need;                      /* where has_need */
    bool has_need;
    double began, stop_at;   /* of the command, seconds since the epoch; stop_at 0: no limit */
    enum stored_type stored; /* of the weights that are written */
    struct training training;
};

/* What each trains, from the settings. Local. Fail: ERR_USAGE for keys that contradict
 * each other. */
enum status sft_terms(const struct run *run, struct terms *out);
enum status dpo_terms(const struct run *run, struct terms *out);
enum status reward_terms(const struct run *run, struct terms *out);
enum status online_terms(const struct run *run, struct terms *out);
const struct trainer_source *online_source(void);
/* Local. dpo.loss and its options into terms. Fails: ERR_USAGE. */
enum status dpo_losses(const struct run *run, struct terms *out);
/* Local. What keys dpo.* say of losses of pairs and labelled responses. Fails: ERR_USAGE, an unknown
 * divergence. */
enum status dpo_pair_options(const struct run *run, struct preference_options *out);
/* TAKES_* of the options of losses that are set. */
unsigned dpo_options_given(const struct options *o);

/* The rows of the data that the terms are over. */
enum row_kind trainer_rows(const struct terms *t);
/* Collective. Trains on them, or predicts under --dry-run. select: makes a view of the settings' data in the
 * output folder, once all is checked that can be, to be read in its place; NULL: none. */
typedef enum status trainer_select(struct run *run, struct text *view);
enum status trainer_run(struct run *run, const struct terms *terms, trainer_select *select);
/* Collective. The same on rows that the command makes itself. */
enum status trainer_run_own(struct run *run, const struct terms *terms, const struct trainer_source *own);

/* Where users steer the policy; elsewhere these do nothing. first: Collective, the first of the settings'
 * data files, as the view. embed: a trainer_select that leaves the side-car that `embeddings` does not name.
 * open: Collective, once rows and model are open: updates by users in the place of rows. */
bool trainer_steers(const struct settings *settings);
enum status trainer_steer_first(struct trainer *t);
enum status trainer_steer_embed(struct trainer *t);
enum status trainer_steer_open(struct trainer *t);
void trainer_steer_close(struct trainer *t);
/* Accuracies by user of eval_data, during the training: several files again, as many as data.
 * embed: Collective, the side-car of their choices, which may be that of data. rows: Collective, the first
 * one's. The other: Collective, once the policy and its reference are there; nothing where eval_data is not
 * set. */
enum status trainer_steer_embed_evaluation(struct trainer *t);
/* Local. steer.counts, and the number of eval_data's files, before anything is opened. */
enum status trainer_steer_evaluation_check(const struct settings *s);
enum status trainer_steer_evaluation_rows(struct trainer *t);
enum status trainer_steer_evaluation(struct trainer *t);
void trainer_steer_evaluation_close(struct trainer *t);

/* Which ids the reference must know as the model does. */
enum other_ids trainer_reference_ids(const struct trainer *t);
/* Local. What an estimate of the run asks; t has its back end, and where more than the state's bytes are
 * asked its rows open; no model. */
enum status trainer_estimate(struct trainer *t, struct estimate_options *out);
/* Local. The configuration of the model that is to be trained, with its head and adapters. */
enum status trainer_config(struct trainer *t, struct model_config *out);
/* Collective. --dry-run: data report, memory per rank, step time; t has its back end and rows open, no model.
 * Prints on standard output. */
enum status trainer_predict(struct trainer *t);

/* Collective. `data` (or the view of it) and `eval_data`, with the plan; t has its back end. */
enum status trainer_open_rows(struct trainer *t);
/* The plan, schedule and run options of the settings. Local. */
void trainer_plan(struct trainer *t);
enum pass_keep trainer_keep(const struct settings *settings);
struct optimizer_options trainer_optimizer(const struct settings *settings);
/* Which optimizer state this rank holds. */
struct shard_map trainer_shards(const struct settings *settings, const struct comm *c, int64_t elements);

#endif
