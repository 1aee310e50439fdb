/* The commands: one row each, one file each. */
#ifndef COLLIMATE_COMMAND_COMMAND_H
#define COLLIMATE_COMMAND_COMMAND_H

#include "command/settings.h"
#include "data/dataset.h"
#include "mpi/comm.h"
#include "util/options.h"

/* What every command gets. */
struct run {
    struct comm *comm;
    struct settings *settings;
    struct options *options; /* what was set where, for the resolved config */
    bool dry_run;
    struct dataset_seen seen; /* data files that were compared with their hashes */
    const char *products;     /* what cpu.products=auto came to; NULL: nothing was measured yet */
    int argc;
    char **argv; /* the whole command line, for provenance */
};

struct command {
    const char *name, *help;
    enum status (*run)(struct run *run); /* collective; agrees inside before every collective part */
    const char *also; /* commands whose keys it takes too, separated by spaces; NULL: none */
};
const struct command *command_table(int *count);

enum status command_prepare(struct run *run);
enum status command_init(struct run *run);
enum status command_sft(struct run *run);
enum status command_dpo(struct run *run);
enum status command_score(struct run *run);
enum status command_generate(struct run *run);
enum status command_evaluate(struct run *run);
enum status command_judge(struct run *run);
enum status command_synth(struct run *run);
enum status command_inspect(struct run *run);
enum status command_bench(struct run *run);
enum status command_reward(struct run *run);
enum status command_online(struct run *run);
enum status command_embed(struct run *run);
enum status command_select(struct run *run);
enum status command_few_shot(struct run *run);
enum status command_merge(struct run *run);
enum status command_preflight(struct run *run);

#endif
