/* Rewards that can be verified: a regular expression over a response, and the data's answer. */
#ifndef COLLIMATE_ONLINE_REWARD_PATTERN_H
#define COLLIMATE_ONLINE_REWARD_PATTERN_H

#include "online/rewarder.h"

struct reward_pattern;
/* Local. regex (PCRE2, Unicode): "" is the whole text, with MATCH_NUMBER the last number in it. Fails:
 * ERR_USAGE with the place of what is no expression. */
enum status reward_pattern_open(const char *regex, enum reward_match match, struct reward_pattern **out);
void reward_pattern_close(struct reward_pattern *p);
/* Local. 1 or 0. found: the expression is in the text. exact, number: what its last match captures (its first
 * group, or all of it) is the answer, white space around it aside, or the same number (1e-9; "1,000", "$5"
 * and "40%" are numbers). The same is taken of the answer where the expression is found there. Fails:
 * ERR_DATA naming the row: no answer, one that is no number, or a match that takes too long. */
enum status reward_pattern_match(const struct reward_pattern *p, const struct rewarded *r, double *out);
/* Local. Whether a row's answer (NULL: it has none) is one that responses can be compared with. Fails: as
 * above. */
enum status reward_pattern_check(const struct reward_pattern *p, int64_t row, const char *answer);

#endif
