#include "objective/policy.h"

#include <math.h>

#include "objective/logistic.h"
#include "objective/objective.h"

#define MOST_LOG 80.0

/* What a loss of a token sees. */
struct seen {
    const struct policy_options *o;
    double logp, advantage, ratio;
    double phi; /* of vespo */
};
struct token_loss {
    double value, d_logp, d_ratio;
    bool low, high; /* clipped */
};
typedef struct token_loss token_rule(const struct seen *s);

struct policy_rule {
    token_rule *token;
    enum { MEANS_OF_RESPONSES, ALL_TOKENS, MOST_TOKENS, RESPONSES } over;
    enum { RATIO_AS_ASKED, RATIO_OF_SUMS } ratio;
    bool has_value, has_phi, is_nash;
};

/* NaN stays NaN, here and below, so that it is seen in the end. */
static double between(double x, double low, double high) {
    return x < low ? low : x > high ? high : x;
}

static struct token_loss clipped(const struct seen *s) {
    const struct policy_options *o = s->o;
    double low = 1 - o->clip_low, high = 1 + o->clip_high, a = s->advantage;
    bool ends = o->delta > 0 && s->ratio > o->delta;
    double ratio = ends ? o->delta : s->ratio;
    double held = between(s->ratio, low, high);
    struct token_loss out = {.low = ratio < low && a<0, .high = ratio> high && a > 0};
    bool own = !(ratio * a > held * a);
    out.value = -(own ? ratio : held) * a;
    out.d_ratio = own ? (ends ? 0 : -a) : held == s->ratio ? -a : 0;
    return out;
}

static struct token_loss cispo(const struct seen *s) {
    double most = s->o->clip_high, weight = between(s->ratio, 0, most) * s->advantage;
    return (struct token_loss){
        .value = -weight * s->logp, .d_logp = -weight, .high = s->ratio > most && s->advantage > 0};
}

static struct token_loss sapo(const struct seen *s) {
    double tau = s->o->sapo_tau[s->advantage > 0 ? 0 : 1];
    double gate = logistic(tau * (s->ratio - 1));
    return (struct token_loss){.value = -4 / tau * gate * s->advantage,
                               .d_ratio = -4 * gate * logistic(-tau * (s->ratio - 1)) * s->advantage};
}

static struct token_loss vespo(const struct seen *s) {
    double weight = s->phi * s->advantage;
    return (struct token_loss){.value = -weight * s->logp, .d_logp = -weight};
}

static struct token_loss nash_md(const struct seen *s) {
    return (struct token_loss){.value = -s->advantage * s->logp, .d_logp = -s->advantage};
}

const struct policy_rule policy_grpo = {clipped, MEANS_OF_RESPONSES, RATIO_AS_ASKED, false, false, false};
const struct policy_rule policy_bnpo = {clipped, ALL_TOKENS, RATIO_AS_ASKED, false, false, false};
const struct policy_rule policy_dr_grpo = {clipped, MOST_TOKENS, RATIO_AS_ASKED, false, false, false};
const struct policy_rule policy_dapo = {clipped, ALL_TOKENS, RATIO_AS_ASKED, false, false, false};
const struct policy_rule policy_luspo = {clipped, RESPONSES, RATIO_AS_ASKED, false, false, false};
const struct policy_rule policy_cispo = {cispo, ALL_TOKENS, RATIO_AS_ASKED, false, false, false};
const struct policy_rule policy_sapo = {sapo, MEANS_OF_RESPONSES, RATIO_AS_ASKED, false, false, false};
const struct policy_rule policy_vespo = {vespo, ALL_TOKENS, RATIO_AS_ASKED, false, true, false};
const struct policy_rule policy_rloo = {clipped, MEANS_OF_RESPONSES, RATIO_OF_SUMS, false, false, false};
const struct policy_rule policy_ppo = {clipped, ALL_TOKENS, RATIO_AS_ASKED, true, false, false};
const struct policy_rule policy_nash_md = {nash_md, RESPONSES, RATIO_AS_ASKED, false, false, true};

struct policy_options policy_defaults(void) {
    return (struct policy_options){.kl_correction = true,
                                   .clip_low = .2,
                                   .clip_high = .2,
                                   .sapo_tau = {1, 1.05},
                                   .vespo_k = {2, 3},
                                   .vespo_lambda = {3, 2},
                                   .value_weight = .1,
                                   .value_clip = .2};
}

/* Rows. */

/* A response in a row: where it stands, and what its tokens share. */
struct turn {
    const struct terms *t;
    const struct policy_rule *rule;
    const struct response_score *r;
    double weight;    /* of a token's loss in the value */
    bool shared;      /* one ratio for all tokens */
    double per_token; /* d log of the shared ratio / d log p of a token */
    double log_ratio, phi;
    double shared_slope;  /* d value / d shared ratio, added up */
    double value, policy; /* the response's part of the value, and of that the policy's */
    double ratios, low, high;
};

static bool is_inside(double log_ratio) {
    return fabs(log_ratio) < MOST_LOG;
}

static double bounded(double log_ratio, double most) {
    return between(log_ratio, -most, most);
}

static double old_logp(const struct response_score *r, int64_t k) {
    return r->token_old ? r->token_old[k] : r->token_logp[k];
}

static double phi_of(const struct policy_options *o, const struct response_score *r) {
    double sum = 0;
    for (int64_t k = 0; k < r->tokens; k++) {
        sum += bounded(r->token_logp[k] - old_logp(r, k), 20);
    }
    int sign = r->advantage >= 0 ? 0 : 1;
    double log_w = between(sum, log(1e-8), 20);
    return exp(o->vespo_lambda[sign] + o->vespo_k[sign] * log_w - o->vespo_lambda[sign] * exp(log_w));
}

static double token_weight(const struct policy_rule *rule, const struct policy_options *o,
                           const struct denominators *d, int64_t tokens) {
    double rows = fmax(d->rows, 1);
    switch (rule->over) {
    case MEANS_OF_RESPONSES:
        return 1 / (rows * fmax((double)tokens, 1));
    case ALL_TOKENS:
        return 1 / fmax(d->target_tokens, 1);
    case MOST_TOKENS:
        return 1 / (rows * (double)o->max_tokens);
    default:
        return 1 / rows;
    }
}

static struct turn begin(const struct terms *t, const struct response_score *r,
                         const struct denominators *d) {
    const struct policy_options *o = &t->policy;
    struct turn out = {.t = t, .rule = t->list[0].objective->policy, .r = r};
    out.weight = token_weight(out.rule, o, d, r->tokens);
    out.phi = out.rule->has_phi ? phi_of(o, r) : 0;
    out.shared = out.rule->ratio == RATIO_OF_SUMS || o->sequence_level;
    double mean = out.rule->ratio == RATIO_OF_SUMS ? 1 : 1 / fmax((double)r->tokens, 1);
    for (int64_t k = 0; k < r->tokens && out.shared; k++) {
        out.log_ratio += mean * (r->token_logp[k] - old_logp(r, k));
    }
    out.per_token = is_inside(out.log_ratio) ? mean : 0;
    return out;
}

/* Adds beta (log p - log p_ref) log p, the first factor held. */
static void add_plain_kl(double beta, double logp, double reference, struct token_loss *loss,
                         struct sums *sums) {
    loss->value += beta * (logp - reference) * logp;
    loss->d_logp += beta * (logp - reference);
    sums->v[SUM_KL] += logp - reference;
}

/* Adds beta k3, or what nash_md has. */
static void add_kl(const struct turn *n, int64_t k, double ratio, struct token_loss *loss,
                   struct sums *sums) {
    const struct policy_options *o = &n->t->policy;
    const struct response_score *r = n->r;
    if (!r->token_reference || (o->beta == 0 && !n->rule->is_nash)) {
        return;
    }
    if (n->rule->is_nash) {
        add_plain_kl(o->beta, r->token_logp[k], r->token_reference[k], loss, sums);
        return;
    }
    double x = r->token_reference[k] - r->token_logp[k], in = bounded(x, MOST_LOG);
    double kl = expm1(in) - x, scale = o->kl_correction ? ratio : 1;
    loss->value += o->beta * scale * kl;
    loss->d_logp += o->beta * scale * (is_inside(x) ? -expm1(in) : 1);
    loss->d_ratio += o->kl_correction ? o->beta * kl : 0;
    sums->v[SUM_KL] += scale * kl;
}

static void count_ratio(struct turn *n, double log_ratio, const struct token_loss *loss, struct sums *sums) {
    double ratio = exp(bounded(log_ratio, MOST_LOG));
    n->ratios += 1;
    n->low += loss->low;
    n->high += loss->high;
    sums->v[SUM_RATIOS] += 1;
    sums->v[SUM_RATIO] += ratio;
    sums->v[SUM_RATIO_SQUARES] += ratio * ratio;
    sums->v[SUM_RATIO_KL] += .5 * log_ratio * log_ratio;
    sums->v[SUM_CLIPPED] += loss->low || loss->high;
    sums->v[SUM_CLIPPED_LOW] += loss->low;
}

/* Half the larger squared distance from the return; *d: its slope. */
static double value_loss(const struct policy_options *o, const struct response_score *r, int64_t k, double *d,
                         bool *is_clipped) {
    double v = r->token_value[k], target = r->token_return[k], old = r->token_old_value[k];
    double held = between(v, old - o->value_clip, old + o->value_clip);
    double own = (v - target) * (v - target), other = (held - target) * (held - target);
    *is_clipped = other > own;
    *d = *is_clipped ? 0 : v - target; /* where the held one counts it lies at an end */
    return .5 * (*is_clipped ? other : own);
}

static double add_value(const struct turn *n, int64_t k, const struct slope *slope, struct sums *sums) {
    const struct policy_options *o = &n->t->policy;
    double d;
    bool is_clipped;
    double value = value_loss(o, n->r, k, &d, &is_clipped);
    sums->v[SUM_VALUE_LOSS] += value;
    sums->v[SUM_VALUES_CLIPPED] += is_clipped;
    if (slope->token_value) {
        slope->token_value[n->r->first + k] += n->weight * o->value_weight * d;
    }
    return o->value_weight * value;
}

/* The policy's loss of a token counts cap / ratio where the ratio is above, and that is held. */
static void cap(double most, double ratio, struct token_loss *loss) {
    if (most > 0 && ratio > most) {
        loss->value *= most / ratio;
        loss->d_logp *= most / ratio;
        loss->d_ratio *= most / ratio;
    }
}

static struct seen look(const struct turn *n, int64_t k, double ratio) {
    const struct response_score *r = n->r;
    return (struct seen){.o = &n->t->policy,
                         .logp = r->token_logp[k],
                         .advantage = r->token_advantage ? r->token_advantage[k] : r->advantage,
                         .ratio = ratio,
                         .phi = n->phi};
}

static void add_token(struct turn *n, int64_t k, const struct slope *slope, struct sums *sums) {
    double moved = n->r->token_logp[k] - old_logp(n->r, k), log_ratio = n->shared ? n->log_ratio : moved;
    double ratio = exp(bounded(log_ratio, MOST_LOG));
    const struct seen seen = look(n, k, ratio);
    struct token_loss loss = n->rule->token(&seen);
    cap(seen.o->importance_cap, ratio, &loss);
    n->policy += n->weight * loss.value;
    add_kl(n, k, ratio, &loss, sums);
    n->value += n->weight * (loss.value + (n->rule->has_value ? add_value(n, k, slope, sums) : 0));
    n->shared_slope += n->shared ? n->weight * loss.d_ratio : 0;
    double own = n->shared || !is_inside(moved) ? 0 : loss.d_ratio * ratio;
    if (slope->token_logp) {
        slope->token_logp[n->r->first + k] += n->weight * (loss.d_logp + own);
    }
    if (!n->shared || k == 0) {
        count_ratio(n, log_ratio, &loss, sums);
    }
    sums->v[SUM_DRIFT] += fabs(moved);
    sums->drift = fmax(sums->drift, fabs(moved));
}

/* What the ratio that all tokens share gives each of them. */
static void add_shared(const struct turn *n, const struct slope *slope) {
    double each = n->shared_slope * exp(bounded(n->log_ratio, MOST_LOG)) * n->per_token;
    for (int64_t k = n->r->first; k < n->r->first + n->r->tokens && slope->token_logp; k++) {
        slope->token_logp[k] += each;
    }
}

static void add_shares(const struct turn *n, struct sums *sums) {
    double low = n->ratios > 0 ? n->low / n->ratios : 0, high = n->ratios > 0 ? n->high / n->ratios : 0;
    bool is_first = sums->v[SUM_RESPONSES] == 0;
    sums->lowest = is_first ? low : fmin(sums->lowest, low);
    sums->highest = is_first ? high : fmax(sums->highest, high);
    sums->v[SUM_RESPONSES] += 1;
    sums->v[SUM_PHI] += n->phi;
}

static bool are_finite(const struct response_score *r, const struct slope *slope) {
    bool out = true;
    for (int64_t k = r->first; k < r->first + r->tokens; k++) {
        out = out && (!slope->token_logp || isfinite(slope->token_logp[k])) &&
              (!slope->token_value || isfinite(slope->token_value[k]));
    }
    return out;
}

bool policy_row(const struct terms *t, const struct scored_row *row, const struct denominators *d,
                const struct slope *slope, struct sums *sums) {
    bool is_finite = true;
    for (int32_t i = 0; i < row->n; i++) {
        struct turn n = begin(t, &row->responses[i], d);
        for (int64_t k = 0; k < n.r->tokens; k++) {
            add_token(&n, k, slope, sums);
        }
        add_shared(&n, slope);
        add_shares(&n, sums);
        sums->v[SUM_LOSS] += n.value * d->rows;
        sums->v[SUM_POLICY_LOSS] += n.policy * d->rows;
        is_finite = is_finite && isfinite(n.value) && are_finite(n.r, slope);
    }
    return is_finite;
}
