/* Decoding rules: from the voices' rows of logits at one place to the row that is drawn from.
 *
 * Pure functions. l_D is the policy's row, l_R the reference's, a = mix, t counts the response's tokens from
 * 0; every row is a distribution by its softmax at temperature 1.
 *
 *   none            l_D
 *   mix             l_R + a (l_D - l_R): a = 0 the reference, 1 the policy, above 1 beyond it
 *   length_control  l_D where t < tokens, else l_R
 *   kl_threshold    l_D where KL(D || R) > threshold, else a l_D + (1 - a) l_R
 *   proxy           l_D + a (expert - antiexpert) (proxy tuning, DExperts)
 */
#ifndef COLLIMATE_DECODE_RULE_H
#define COLLIMATE_DECODE_RULE_H

#include "decode/logits.h"

enum rule_kind { RULE_NONE, RULE_MIX, RULE_LENGTH_CONTROL, RULE_KL_THRESHOLD, RULE_PROXY };
enum voice_kind { VOICE_POLICY, VOICE_REFERENCE, VOICE_EXPERT, VOICE_ANTIEXPERT, VOICES };

struct rule {
    enum rule_kind kind;
    double mix, threshold;
    int64_t tokens;
};

/* Local. rows: of the voices, of n each; those that the rule does not read may be NULL. *out is one of them,
 * or room, n, which then holds the rule's row. Fails: ERR_DATA where a row is no distribution. */
enum status rule_apply(const struct rule *r, const float *const rows[VOICES], int64_t n, int64_t t,
                       float *room, const float **out);

#endif
