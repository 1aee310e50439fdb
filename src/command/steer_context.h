/* What the commands that only read a steered policy are told of users: steer.context, one file of choices a
 * user. */
#ifndef COLLIMATE_COMMAND_STEER_CONTEXT_H
#define COLLIMATE_COMMAND_STEER_CONTEXT_H

#include "command/session.h"

enum { CONTEXTS = 64 };

struct contexts {
    int n;
    char *names[CONTEXTS]; /* of the files, without folders and endings; "" where there is no file */
    double *z;
    struct condition condition; /* user by user */
};
/* Collective. What the session's policy is under: where it is steered, the users of steer.context, or one of
 * whom nothing is known where that is not set; n is 0 where it is not. most: users that the command takes.
 * Fails: ERR_USAGE for a context of a policy that is not steered, ERR_DATA for embeddings of another kind
 * than it was trained on. */
enum status contexts_open(struct session *s, int most, struct contexts *out);
void contexts_close(struct contexts *c);
/* NULL where there are none. */
const struct condition *contexts_condition(const struct contexts *c);
/* Local. A file's name without folder and ending. */
enum status contexts_name(const char *path, char **out);

#endif
