/* What checkpoints have in common, whatever trains: folder, state and facts. Between checkpoint_state.c and
 * those who know what the arrays are (checkpoint.c, few_shot/state.c). */
#ifndef COLLIMATE_STORE_CHECKPOINT_INTERNAL_H
#define COLLIMATE_STORE_CHECKPOINT_INTERNAL_H

#include <jansson.h>

#include "store/checkpoint.h"
#include "store/checkpoint_file.h"
#include "util/text.h"

struct checkpoint_contents {
    int64_t step;
    struct text state; /* members of a JSON object, which the facts join */
    const struct checkpoint_array *arrays;
    int n_arrays;
};
/* Collective. Writes run/checkpoints/step-N.h5 and keeps the newest o->keep; nothing of that where a rank's
 * `made`, the making of its contents, is not OK. Fails: that, ERR_WRITE. */
enum status checkpoint_write(struct comm *c, const struct checkpoint_options *o,
                             const struct checkpoint_contents *contents, enum status made);

struct checkpoint_found {
    char *path; /* NULL: the run begins anew, as it should */
    int64_t step;
    json_t *state;
};
/* Collective. The checkpoint that o->resume goes on from, its facts compared; its arrays are to be read, then
 * checkpoint_set_aside to be called. Fails: ERR_USAGE naming the fixed facts that differ, ERR_INPUT where
 * there must be one and is none, ERR_DATA for damage. */
enum status checkpoint_find(struct comm *c, const struct checkpoint_options *o, struct checkpoint_found *out);
void checkpoint_found_close(struct checkpoint_found *f);

#endif
