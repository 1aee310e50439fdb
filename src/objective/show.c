/* The numbers that an objective shows: every one a ratio of sums. */
#include <math.h>

#include "objective/objective.h"

static double ratio(const struct shown *m, const double *v) {
    double numerator = m->plus == SUM_NONE ? -v[m->minus] : v[m->plus];
    if (m->plus != SUM_NONE && m->minus != SUM_NONE) {
        numerator -= v[m->minus];
    }
    double denominator = v[m->over] + (m->also != SUM_NONE ? v[m->also] : 0);
    return denominator > 0 ? numerator / denominator : 0;
}

/* v[plus] / v[over] - v[minus] / v[also]. Returns whether there are rows on each side that is asked for. */
static bool difference(const struct shown *m, const double *v, double *out) {
    bool minus = m->minus != SUM_NONE;
    *out = v[m->plus] / v[m->over] - (minus ? v[m->minus] / v[m->also] : 0);
    return v[m->over] > 0 && (!minus || v[m->also] > 0);
}

static double variance(const struct shown *m, const double *v) {
    double n = v[m->over] > 0 ? v[m->over] : 1, mean = v[m->minus] / n;
    return fmax(0, v[m->plus] / n - mean * mean);
}

static double value_of(const struct shown *m, const struct terms *t, const struct sums *sums) {
    switch (m->of) {
    case OF_LOSS:
        return objective_value(t, sums);
    case OF_LOWEST:
        return sums->lowest;
    case OF_HIGHEST:
        return sums->highest;
    case OF_DRIFT:
        return sums->drift;
    case OF_VARIANCE:
        return variance(m, sums->v);
    default:
        return ratio(m, sums->v);
    }
}

static bool applies(const struct shown *m, const struct terms *t) {
    return m->applies == ALWAYS || (m->applies == WITH_TARGET && t->target_weight != 0) ||
           (m->applies == WITH_REWARD && terms_have_rewards(t)) ||
           (m->applies == WITH_KL && t->policy.beta != 0) ||
           (m->applies == WITH_ODDS && terms_have(t, preference_orpo));
}

/* Whether an earlier term has the same list. */
static bool is_repeated(const struct terms *t, int term) {
    bool found = false;
    for (int k = 0; k < term; k++) {
        found = found || terms_shown(t, k) == terms_shown(t, term);
    }
    return found;
}

enum status objective_show(const struct terms *t, const struct sums *sums,
                           enum status (*show)(void *context, const char *name, double value),
                           void *context) {
    for (int k = 0; k < t->n || k == 0; k++) {
        const struct shown_list *l = terms_shown(t, k);
        for (int i = 0; i < l->n && !is_repeated(t, k); i++) {
            const struct shown *m = &l->list[i];
            double value = 0;
            if (applies(m, t) && (m->of != OF_MEANS || difference(m, sums->v, &value))) {
                TRY(show(context, m->name, m->of == OF_MEANS ? value : value_of(m, t, sums)));
            }
        }
    }
    return OK;
}
