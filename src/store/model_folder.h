/* Hugging Face model folders in and out: config.json, safetensors, tokenizer. Wires io, text and model. */
#ifndef COLLIMATE_STORE_MODEL_FOLDER_H
#define COLLIMATE_STORE_MODEL_FOLDER_H

#include "io/safetensors.h"
#include "model/model.h"
#include "mpi/comm.h"
#include "text/tokenizer.h"

/* Collective. Reads folder/config.json and its weights into a new model on b. Missing, extra or misshapen
 * tensors are ERR_DATA by name. folder may be a run's checkpoint (store/model_source.h). A …ForCausalLM
 * folder may be opened with head HEAD_SCORE: the score head is then initialised from seed. o NULL: all
 * zero. */
struct model_folder_options {
    enum model_head head;
    bool value_head; /* of a language model beside its own: the folder's (value_head.h), or zero */
    uint64_t seed;
    enum arena_kind kind; /* of the parameters */
    int64_t beside;       /* bytes of gradients and optimizer state to come: model_open_as() */
};
enum status model_folder_open(struct comm *c, struct backend *b, const char *folder,
                              const struct model_folder_options *o, struct model **out);
/* Local. Would model_folder_open succeed? Reads config.json and the headers of the weights only. Fails:
 * ERR_INPUT, ERR_DATA naming the tensor. */
enum status model_folder_check(const char *folder, enum model_head head, struct model_config *out);
/* Local. What most of a folder's weights are stored as; fp32 for doubles, and where it has none. */
enum status model_folder_type(const char *folder, enum stored_type *out);

struct model_save {
    const char
        *source;  /* folder or config.json that the model came from, whose other keys are kept; or NULL */
    bool carries; /* the source's other files as well: store/model_carry.h */
    const struct tokenizer *tokenizer; /* its files, last; NULL: none */
    const char *made_by;               /* a word for the weights' metadata; NULL: none */
    enum stored_type type;             /* fp32, bf16, or fp16: then fp32 where a weight is too large for it */
    int64_t shard_bytes;               /* of a file of weights; 0: 5 GB */
};
/* Collective: rank 0 writes config.json, generation_config.json (the source's, unless the end token is
 * another now), the weights, sharded with an index where they need more than one file, and what options name.
 * Atomic per file. options NULL: all zero. */
enum status model_folder_save(struct comm *c, struct model *m, const char *folder,
                              const struct model_save *options);
/* Local. Hash of the weights as read, and of what the configuration says of them. */
enum status model_folder_hash(struct model *m, uint64_t *out);

#endif
