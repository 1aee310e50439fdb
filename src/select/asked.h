/* Pairs that annotators were asked about before: those of exports, of answers, and of views. */
#ifndef COLLIMATE_SELECT_ASKED_H
#define COLLIMATE_SELECT_ASKED_H

#include "data/dataset.h"
#include "data/pair_key.h"

struct asked {
    struct pair_key *list; /* sorted, each once; equal on all ranks */
    int64_t n, capacity;
};
/* Collective. files: comma separated; "": none. out is freed with asked_free, after a failure too. Fails:
 * ERR_DATA for a file that asks about other data, and for a line of text without an id. */
enum status asked_read(struct comm *c, const char *files, struct dataset *d, struct asked *out);
void asked_free(struct asked *a);
/* Local. */
bool asked_has(const struct asked *a, int64_t response, int64_t other);
/* Local. The keys whose lower response is in [first, last): *n of them. */
const struct pair_key *asked_from(const struct asked *a, int64_t first, int64_t last, int64_t *n);

#endif
