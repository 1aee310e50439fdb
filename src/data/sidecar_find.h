/* Which side-car a run takes, and how it is opened: for reading alone where nothing is missing in it, so that
 * any number of jobs share a finished one in a folder that none of them may write. */
#ifndef COLLIMATE_DATA_SIDECAR_FIND_H
#define COLLIMATE_DATA_SIDECAR_FIND_H

#include "data/sidecar.h"

struct sidecar_wanted {
    const struct sidecar_key *key;
    int64_t rows, width,
        tokens; /* as in sidecar_open and sidecar_open_tokens; tokens 0: sums alone, or values */
    /* Collective. Does the file lack a row that the run needs? */
    enum status (*lacks)(void *context, struct sidecar *s, bool *out);
    void *context;
    /* The program chose its name: one that was computed for something else, or cannot be read, is computed
     * again, with a warning. Otherwise it is refused. */
    bool is_automatic;
    const char *folder; /* of the run: where an automatic one lies that cannot lie at its path; "": nowhere */
    const char *named_by; /* the key that would name another path, for messages */
};
/* Collective. Opens the side-car at *path, which becomes where it is. Fails: ERR_DATA for one with another
 * key; ERR_WRITE where rows are missing and cannot be written. */
enum status sidecar_find(struct comm *c, const struct sidecar_wanted *w, struct text *path,
                         struct sidecar **out);

#endif
