/* evaluate on several preference files over the same responses, one a user: accuracies by user and by the
 * number of the user's choices that a steered policy is told. */
#ifndef COLLIMATE_COMMAND_EVALUATE_USERS_H
#define COLLIMATE_COMMAND_EVALUATE_USERS_H

#include "command/session.h"
#include "steer/conditional.h"

/* Collective. s is open but for its parts; appends one JSON object and a newline to out; nothing where the
 * run is dry. */
enum status evaluate_users(struct session *s, struct text *out);

/* What a training that evaluates by users shares with it. */
enum { MOST_USERS = 64 };
struct user_names {
    int n;
    char *of[MOST_USERS];
};
/* Local. Of a list of users' files. */
enum status users_names(const char *list, struct user_names *out);
void users_names_free(struct user_names *n);
/* Local. "0,1,3,5,10", ascending, into the options. Fails: ERR_USAGE. */
enum status users_counts(const char *words, struct conditional_options *o);
/* Local. What the settings say of an evaluation by users; world, view, models and intervals are the caller's.
 * Fails: ERR_USAGE. */
enum status users_options(struct session *s, struct conditional_options *o);
/* Local. The session's steering takes embeddings as it has learnt on. Fails: ERR_DATA. */
enum status users_check_embeddings(const struct session *s, const char *embeddings, int64_t width);
/* Local. A line for each count of choices, behind the words `when`: every user's accuracy where they differ,
 * and the sum. */
void users_log(const struct conditional *c, const struct user_names *names, const char *when);

#endif
