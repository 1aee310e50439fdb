/* Embeddings of a data file's responses: what `embed` writes and `select` reads.
 *
 * A response's vector is the mean of hidden rows over its tokens (REAL: E(y) = 1/T sum_t A_t, after the final
 * norm, the prompt left out), or its last row. The text is the response alone, or prompt + response; the end
 * token counts only where asked for. Sums run in double.
 *
 * The same values for any rank count: responses are taken in fixed blocks, each cut into forests by
 * micro_tokens, and a forest is computed by one rank as a whole. Forests are dealt by cost (work.h), and a
 * later run computes only what is missing.
 */
#ifndef COLLIMATE_SCORE_EMBEDDING_H
#define COLLIMATE_SCORE_EMBEDDING_H

#include "data/dataset.h"
#include "model/model.h"
#include "util/text.h"

enum embedding_pooling { POOL_MEAN, POOL_LAST }; /* as embed.pooling's words are in order */

struct embedding_options {
    struct comm *comm;
    struct model *model;
    uint64_t model_hash;
    const char *model_name; /* for messages */
    const char *compute;    /* the type of its products, "fp32" or "bf16", as the side-car's key has it */
    struct dataset *data;
    int64_t micro_tokens; /* of a forest, where no text is longer */
    enum embedding_pooling pooling;
    bool full;             /* prompt + response; else the response alone */
    bool begin, end;       /* with these tokens */
    bool masked_end;       /* with an end token that does not see itself */
    int64_t layer;         /* l: the input of layer l; -1: the final norm's output */
    int64_t max_length;    /* tokens of a text, */
    bool is_automatic;     /* a path that is given was chosen by the program: it may be computed again */
    bool must_have_length; /* which the model must have positions for; else it takes what it has */
};

struct embedding_report {
    int64_t responses, computed, cut, empty; /* cut: longer than max_length; empty: a zero vector */
    int64_t tokens;                          /* computed */
    double seconds;                          /* of reading, computing and writing */
    double forward_seconds;                  /* of the forward passes alone, mean of the ranks */
};
/* Collective. Embeds every response of the data into the side-car at *path (empty: beside the data, its name
 * holds the key; it comes back in *path). Takes a workspace of its own for as long as it runs. Fails:
 * ERR_DATA for a side-car of another model, data or recipe; ERR_USAGE for a layer or a special token that the
 * model lacks; REQUEUE after SIGUSR1. */
enum status embedding_compute(const struct embedding_options *o, struct text *path,
                              struct embedding_report *out);

#endif
