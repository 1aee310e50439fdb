/* Which update the model in a run's folder is of: model/step.json, beside what other programs read. */
#ifndef COLLIMATE_STORE_MODEL_STEP_H
#define COLLIMATE_STORE_MODEL_STEP_H

#include <stdint.h>

#include "util/status.h"

/* Local. Fails: ERR_WRITE. */
enum status model_step_write(const char *folder, int64_t step);
/* Local. Before the model changes: it says nothing until it is whole. Fails: ERR_WRITE. */
enum status model_step_forget(const char *folder);
/* Local. -1 where it does not say (a version before, or a folder that was not made by a run). */
int64_t model_step_read(const char *folder);
/* Local. Removes the model that a run left in a folder, of which nothing is true any more; what we did not
 * write stays. Fails: ERR_WRITE. */
enum status model_step_remove(const char *folder);

#endif
