/* Hugging Face model folders in and out: config.json, safetensors, tokenizer. Wires io, text and model. */
#ifndef COLLIMATE_STORE_MODEL_FOLDER_H
#define COLLIMATE_STORE_MODEL_FOLDER_H

#include "model/model.h"
#include "mpi/comm.h"
#include "text/tokenizer.h"

/* Collective. Reads folder/config.json and its weights into a new model on b. Missing, extra or misshapen
 * tensors are ERR_DATA by name. folder may be a run's checkpoint (store/model_source.h). A …ForCausalLM
 * folder may be opened with head HEAD_SCORE: the score head is then initialised from seed. o NULL: all
 * zero. */
struct model_folder_options {
    enum model_head head;
    uint64_t seed;
    enum arena_kind kind; /* of the parameters */
    int64_t beside;       /* bytes of gradients and optimizer state to come: model_open_as() */
};
enum status model_folder_open(struct comm *c, struct backend *b, const char *folder,
                              const struct model_folder_options *o, struct model **out);
/* Local. Would model_folder_open succeed? Reads config.json and the headers of the weights only. Fails:
 * ERR_INPUT, ERR_DATA naming the tensor. */
enum status model_folder_check(const char *folder, enum model_head head, struct model_config *out);
/* Collective: rank 0 writes config.json (keeping the other keys of config_source, a folder or NULL),
 * model.safetensors (sharded above 5 GB), generation_config.json and the tokenizer's files. Atomic per file.
 * made_by: a word for the weights' metadata; NULL: none. */
enum status model_folder_save(struct comm *c, struct model *m, const char *folder, const char *config_source,
                              const struct tokenizer *t, const char *made_by);
/* Local. Hash of the weights as read, and of what the configuration says of them. */
enum status model_folder_hash(struct model *m, uint64_t *out);

#endif
