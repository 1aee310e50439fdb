/* Embeddings of a data file's responses: what `embed` writes and `select` reads.
 *
 * A response's vector is the mean of hidden rows over its tokens (REAL: E(y) = 1/T sum_t A_t, after the final
 * norm, the prompt left out), or its last row. The text is the response alone, or prompt + response; the end
 * token counts only where asked for. Sums run in double.
 *
 * The same values for any rank count: responses are taken in fixed blocks, each cut into forests by
 * train.micro_tokens, and a forest is computed by one rank as a whole. Forests are dealt by cost, a round at
 * a time; after each round its rows are safe in the side-car, and a later run computes only what is missing.
 */
#ifndef COLLIMATE_SCORE_EMBEDDING_H
#define COLLIMATE_SCORE_EMBEDDING_H

#include "command/session.h"

struct embedding_report {
    int64_t responses, computed, cut, empty; /* cut: longer than embed.max_length; empty: a zero vector */
    int64_t tokens;                          /* computed */
    double seconds;                          /* of reading, computing and writing */
    double forward_seconds;                  /* of the forward passes alone, mean of the ranks */
};
/* Collective. Embeds every response of data under the session's model (open) into the side-car at path ("":
 * beside the data, its name holds the key), whose path comes back in *path. Fails: ERR_DATA for a side-car
 * of another model, data or recipe; ERR_USAGE for a layer or a special token that the model lacks. */
struct embedding_request {
    struct dataset *data;
    struct text *path;
};
enum status embedding_compute(struct session *s, const struct embedding_request *request,
                              struct embedding_report *out);
/* What was computed, and its rate beside that of the forward passes alone. */
void embedding_print(const struct embedding_report *r, const char *path);

#endif
