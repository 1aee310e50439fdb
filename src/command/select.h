/* What `select` and `dpo` share: a selection as the settings' select.* ask for it. */
#ifndef COLLIMATE_COMMAND_SELECT_H
#define COLLIMATE_COMMAND_SELECT_H

#include "command/command.h"
#include "select/selection.h"

/* Local. Options from the settings; the files are the caller's to name. */
struct selection_options select_options(struct run *run);
/* Collective. Runs it, on a CPU back end of its own where the strategy clusters. */
enum status select_run(struct run *run, struct selection_options options);

#endif
