/* Where a model's configuration and tokenizer are: a model folder, or a run's checkpoint in its place.
 *
 * `RUN/checkpoints/step-N.h5` holds parameters alone. Its configuration and tokenizer are those of RUN/model,
 * or, while the run has not ended, of the model that the run began with (RUN/config.yaml).
 */
#ifndef COLLIMATE_STORE_MODEL_SOURCE_H
#define COLLIMATE_STORE_MODEL_SOURCE_H

#include "model/config.h"
#include "util/text.h"

/* Local. Whether a path names a checkpoint: it ends in ".h5". */
bool model_is_checkpoint(const char *path);
/* Local. Appends the folder of config.json and tokenizer; path itself where it is no checkpoint. Fails:
 * ERR_INPUT where the checkpoint's run has neither a model nor a configuration that names one. */
enum status model_source_folder(const char *path, struct text *out);
/* Local. Whether the checkpoint's run trains a value head beside its model: its settings say
 * online.method=ppo. */
enum status model_source_has_values(const char *checkpoint, bool *out);
/* Local. Reads folder/config.json. Where it ties the head and the weights have another one of their own, it
 * is not tied (config.untied), as in transformers. */
enum status model_source_config(const char *folder, struct model_config *out);
/* Local. The same of the folder behind a path, which may be a checkpoint's. */
enum status model_source_find(const char *path, struct model_config *out);
/* Local. A config.json, or a folder that has one: what it says alone, without weights beside it. */
enum status model_source_shape(const char *path, struct model_config *out);

#endif
