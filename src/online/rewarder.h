/* What a response is worth: columns of numbers by name, summed with weights.
 *
 *   length    tokens of the response
 *   stop      1 where the response ended by itself, 0 where it was cut
 *   pattern   1 or 0: a regular expression is found; or what it captures, or the whole response, equals the
 *             data's answer, as text or as a number
 *   command   what a program of the user's says (reward_program.h)
 *
 * Models are columns as well; whoever runs them puts their numbers beside these (reward_sum).
 */
#ifndef COLLIMATE_ONLINE_REWARDER_H
#define COLLIMATE_ONLINE_REWARDER_H

#include <stdbool.h>
#include <stdint.h>

#include "util/status.h"

/* A response as rewards see it. Borrowed. */
struct rewarded {
    int64_t row;    /* of the data: the prompt's */
    int32_t sample; /* from 0 */
    bool is_stopped;
    const char *prompt, *text; /* UTF-8 */
    const char *answer;        /* the data's; NULL: none */
    const int32_t *tokens;
    int64_t n_tokens;
};

enum reward_match { MATCH_FOUND, MATCH_EXACT, MATCH_NUMBER };

struct rewarder_options {
    double length_weight, stop_weight; /* 0: no such column */
    const char *pattern;               /* PCRE2; NULL or "" with MATCH_FOUND: no such column */
    enum reward_match match;
    double pattern_weight;
    const char *command; /* of the shell; NULL or "": no such column */
    double command_weight, timeout_s;
    int rank; /* of this program, for messages and the command's environment */
};

enum { REWARDER_COLUMNS = 4 };
struct rewarder;
/* Local. Compiles the pattern, starts the program. Strings are copied. Fails: ERR_USAGE (a pattern that is
 * none, naming the place), ERR_SYSTEM (the program does not start). */
enum status rewarder_open(const struct rewarder_options *o, struct rewarder **out);
void rewarder_close(struct rewarder *r);
int rewarder_columns(const struct rewarder *r);
const char *rewarder_name(const struct rewarder *r, int column);
double rewarder_weight(const struct rewarder *r, int column);

/* Local. out: n x columns, response by response. Fails: ERR_DATA naming row, sample and rank: a program that
 * died, was silent too long, or wrote what is no reward; an answer that is missing or is no number. */
enum status rewarder_run(struct rewarder *r, const struct rewarded *responses, int64_t n, double *out);

/* Local. Weighted sum of a response's columns, whosever they are. Fails: ERR_DATA naming row, sample and the
 * column that is not finite. */
enum status reward_sum(const struct rewarded *of, int columns, const char *const *names,
                       const double *weights, const double *values, double *out);

#endif
