/* Which names a command writes, and how it knows its own earlier results: the one place that answers whether
 * an output may be written (io/output.h says how). */
#ifndef COLLIMATE_COMMAND_OUTPUTS_H
#define COLLIMATE_COMMAND_OUTPUTS_H

#include "command/command.h"

/* The first words of a run folder's config.yaml; the command follows. */
#define OUTPUT_CONFIG_BEGINS "# collimate "
/* In the metadata of weights that `init` wrote. */
#define OUTPUT_MADE_BY_INIT "collimate init"
#define OUTPUT_MADE_BY_MERGE "collimate merge"

/* Collective. Looks at every name that the command will write, derived ones too, before it does any work.
 * command: the one that will run. Fails: ERR_USAGE where a name is an input, no fitting place, or a file that
 * is not an earlier result of the same command and overwrite is not set; ERR_WRITE where a file's folder is
 * not there. */
enum status outputs_check(struct run *run, const char *command);

#endif
