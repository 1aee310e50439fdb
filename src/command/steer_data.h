/* Data of users for the commands that steer: their files, their embeddings, and what made those. */
#ifndef COLLIMATE_COMMAND_STEER_DATA_H
#define COLLIMATE_COMMAND_STEER_DATA_H

#include "command/session.h"
#include "few_shot/world.h"

/* Whether `data` names several files. */
bool steer_has_users(const struct settings *s);
/* Local. The first of a list of files. */
enum status steer_first_file(const char *list, struct text *out);
/* Collective. Embeddings of the file's responses by steer.embedder, or by the model without its adapters, as
 * embed.* says; *path as embedding_compute()'s. */
enum status steer_embed(struct run *run, const char *file, struct text *path);
/* Local. What made a side-car: the recipe and the model's hash, in words. */
enum status steer_maker(const char *path, struct text *out);
/* Collective. The world of users' files with those embeddings, in the files' splits (the test split is
 * `split`'s, where that is not all); without splits all of it is the train split. Says what it is. */
enum status steer_world(const struct session *s, const char *files, enum data_split split,
                        const char *embeddings, struct world *out);

#endif
