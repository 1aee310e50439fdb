/* From online.method and online.loss to what is minimized. */
#include <math.h>
#include <string.h>

#include "objective/objective.h"
#include "util/text.h"

static const char *const grpo_losses[] = {"grpo",  "bnpo",  "dr_grpo", "dapo",
                                          "luspo", "cispo", "sapo",    "vespo"};

static const struct method {
    const char *name;
    const char *loss; /* of groups: the only one; of pairs: where none is asked for; NULL: one of grpo's */
    enum { ONE_LOSS, ONE_OF_GRPO, ANY_OF_PAIRS } takes;
} methods[] = {
    {"grpo", "dapo", ONE_OF_GRPO},
    {"rloo", "rloo", ONE_LOSS},
    {"ppo", "ppo", ONE_LOSS},
    {"raft", "sft", ONE_LOSS},
    {"online_dpo", "sigmoid", ANY_OF_PAIRS},
    {"xpo", "sigmoid", ANY_OF_PAIRS},
    {"nash_md", "nash_md", ONE_LOSS},
};

static enum status find_method(const char *name, const struct method **out) {
    for (int i = 0; i < COUNT_OF(methods); i++) {
        if (strcmp(methods[i].name, name) == 0) {
            *out = &methods[i];
            return OK;
        }
    }
    return fail(ERR_USAGE,
                "online.method: \"%s\" is unknown; known: grpo, rloo, ppo, raft, online_dpo, xpo, nash_md",
                name);
}

static enum status check_grpo(const char *loss) {
    for (int i = 0; i < COUNT_OF(grpo_losses); i++) {
        if (strcmp(grpo_losses[i], loss) == 0) {
            return OK;
        }
    }
    return fail(
        ERR_USAGE,
        "online.loss: \"%s\" is unknown; with online.method=grpo it is one of grpo, bnpo, dr_grpo, dapo, "
        "luspo, cispo, sapo, vespo",
        loss);
}

static enum status in_range(const char *what, double value, bool above_zero) {
    return isfinite(value) && (above_zero ? value > 0 : value >= 0)
               ? OK
               : fail(ERR_USAGE, "%s is %g; it must be %s", what, value,
                      above_zero ? "a positive number" : "0 or a positive number");
}

static enum status check_policy(const char *loss, const struct policy_options *o) {
    TRY(in_range("online.kl", o->beta, false));
    TRY(in_range("online.clip", o->clip_low, false));
    TRY(in_range("online.clip_high", o->clip_high, false));
    TRY(in_range("online.delta", o->delta, false));
    TRY(in_range("online.importance_cap", o->importance_cap, false));
    TRY(in_range("online.value_weight", o->value_weight, false));
    TRY(in_range("online.value_clip", o->value_clip, false));
    if (strcmp(loss, "vespo") == 0 && o->sequence_level) {
        return fail(ERR_USAGE, "online.ratio=sequence has no place in online.loss=vespo, whose weight is the "
                               "whole response's already");
    }
    return strcmp(loss, "dr_grpo") == 0 && o->max_tokens < 1
               ? fail(ERR_USAGE, "online.loss=dr_grpo divides by online.max_new_tokens, which is %lld",
                      (long long)o->max_tokens)
               : OK;
}

static void add_reference(struct terms *out, const char *loss) {
    bool reads = out->policy.beta != 0 || strcmp(loss, "nash_md") == 0;
    out->reads |= reads ? READS_TOKEN_REFERENCE | READS_REFERENCE : 0;
    out->has_reference = reads;
}

static enum status pair_terms(const struct method *m, const char *loss, double xpo_alpha, struct terms *out) {
    TRY(terms_parse(loss, out));
    if (out->rows != OVER_PAIRS || out->n == 0) {
        return fail(ERR_USAGE, "online.loss: \"%s\" is no loss of pairs, which online.method=%s has", loss,
                    m->name);
    }
    if (strcmp(m->name, "xpo") != 0) {
        return OK;
    }
    TRY(in_range("online.xpo_alpha", xpo_alpha, false));
    const struct objective *xpo = objective_find("xpo");
    if (out->n == MOST_TERMS) {
        return fail(ERR_USAGE, "online.loss: more than %d losses", MOST_TERMS - 1);
    }
    out->list[out->n++] = (struct term){xpo, xpo_alpha};
    out->reads |= xpo->reads;
    return OK;
}

enum status policy_terms(const char *method, const char *loss, double xpo_alpha, struct terms *out) {
    const struct method *m;
    TRY(find_method(method, &m));
    bool asked = loss && *loss;
    const char *name = asked ? loss : m->loss;
    if (m->takes == ANY_OF_PAIRS) {
        return pair_terms(m, name, xpo_alpha, out);
    }
    if (m->takes == ONE_OF_GRPO) {
        TRY(check_grpo(name));
    } else if (asked && strcmp(loss, m->loss) != 0) {
        return fail(ERR_USAGE, "online.loss: \"%s\" has no place in online.method=%s; leave it out", loss,
                    method);
    }
    terms_one(name, out);
    if (out->rows == OVER_GROUPS) {
        TRY(check_policy(name, &out->policy));
        add_reference(out, name);
    }
    return OK;
}
