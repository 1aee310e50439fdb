#include "command/command.h"

static const struct command table[] = {
    {"prepare", "JSON Lines (plain, gzip or an array) to a tokenized preference file", command_prepare},
    {"inspect", "any file or folder of ours: what is in it, lengths, what made it", command_inspect},
    {"synth", "worlds whose preferences are known: text (JSON Lines) or two conflicting users (CSV)",
     command_synth},
    {"init", "a randomly initialized model folder from a config.json", command_init},
    {NULL, NULL, NULL},
};

const struct command *command_table(int *count) {
    *count = COUNT_OF(table) - 1;
    return table;
}
