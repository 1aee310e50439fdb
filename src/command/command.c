#include "command/command.h"

static const struct command table[] = {
    {NULL, NULL, NULL},
};

const struct command *command_table(int *count) {
    *count = COUNT_OF(table) - 1;
    return table;
}
