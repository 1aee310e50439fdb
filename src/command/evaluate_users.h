/* evaluate on several preference files over the same responses, one a user: accuracies by user and by the
 * number of the user's choices that a steered policy is told. */
#ifndef COLLIMATE_COMMAND_EVALUATE_USERS_H
#define COLLIMATE_COMMAND_EVALUATE_USERS_H

#include "command/session.h"

/* Collective. s is open but for its parts; appends one JSON object and a newline to out; nothing where the
 * run is dry. */
enum status evaluate_users(struct session *s, struct text *out);

#endif
