#include "decode/rule.h"

#include <math.h>

/* room = from + a (to - less), in double; what never comes in `from` never comes. */
static void combine(const float *from, const float *to, const float *less, double a, int64_t n, float *room) {
    for (int64_t i = 0; i < n; i++) {
        double step = a * ((double)to[i] - (double)less[i]);
        room[i] = from[i] == -INFINITY ? -INFINITY : (float)((double)from[i] + step);
    }
}

/* l_R + a (l_D - l_R), which at 0 and 1 is one of them to the bit. */
static const float *mixed(const float *const rows[VOICES], double a, int64_t n, float *room) {
    const float *policy = rows[VOICE_POLICY], *reference = rows[VOICE_REFERENCE];
    if (a == 0 || a == 1) {
        return a == 0 ? reference : policy;
    }
    combine(reference, policy, reference, a, n, room);
    return room;
}

static enum status threshold(const struct rule *r, const float *const rows[VOICES], int64_t n, float *room,
                             const float **out) {
    struct logits policy, reference;
    TRY(logits_open(rows[VOICE_POLICY], n, &policy));
    TRY(logits_open(rows[VOICE_REFERENCE], n, &reference));
    bool differs = logits_kl(&policy, &reference) > r->threshold;
    *out = differs ? rows[VOICE_POLICY] : mixed(rows, r->mix, n, room);
    return OK;
}

enum status rule_apply(const struct rule *r, const float *const rows[VOICES], int64_t n, int64_t t,
                       float *room, const float **out) {
    switch (r->kind) {
    case RULE_MIX:
        *out = mixed(rows, r->mix, n, room);
        return OK;
    case RULE_LENGTH_CONTROL:
        *out = rows[t < r->tokens ? VOICE_POLICY : VOICE_REFERENCE];
        return OK;
    case RULE_KL_THRESHOLD:
        return threshold(r, rows, n, room, out);
    case RULE_PROXY:
        *out = rows[VOICE_POLICY];
        if (r->mix != 0) {
            combine(rows[VOICE_POLICY], rows[VOICE_EXPERT], rows[VOICE_ANTIEXPERT], r->mix, n, room);
            *out = room;
        }
        return OK;
    case RULE_NONE:
        break;
    }
    *out = rows[VOICE_POLICY];
    return OK;
}
