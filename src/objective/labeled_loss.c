#include "objective/labeled_loss.h"

#include "objective/logistic.h"

enum { OWN, OTHER };

static double ratio_of(const struct terms *t, const struct scored_row *row, int which) {
    const struct response_score *r = &row->responses[which];
    return r->logp - (row->has_reference && !t->reference_free ? r->reference : 0);
}

void labeled_gather_kto(const struct objective *o, const struct terms *t, const struct scored_row *row,
                        double *gathered) {
    (void)o;
    gathered[0] += ratio_of(t, row, OTHER);
    gathered[1] += 1;
}

double labeled_kl(const double *gathered) {
    double kl = gathered ? gathered[0] / gathered[1] : 0;
    return kl < 0 ? 0 : kl; /* what is not a number stays so */
}

/* 1 - s(u) = s(-u), u being what the label wants to grow. */
static double labeled_loss(const struct terms *t, const struct scored_row *row, double zero, double weight,
                           const struct slope *slope) {
    const struct preference_options *o = &t->options;
    double sign = row->is_desirable ? 1 : -1;
    double share = row->is_desirable ? o->desirable_weight : o->undesirable_weight;
    double u = sign * o->beta * (ratio_of(t, row, OWN) - zero);
    slope->logp[OWN] -= weight * share * sign * o->beta * logistic(u) * logistic(-u);
    return share * logistic(-u);
}

double labeled_kto(const struct objective *o, const struct terms *t, const struct scored_row *row,
                   const double *gathered, double weight, const struct slope *slope) {
    (void)o;
    return labeled_loss(t, row, labeled_kl(gathered), weight, slope);
}

double labeled_apo_zero(const struct objective *o, const struct terms *t, const struct scored_row *row,
                        const double *gathered, double weight, const struct slope *slope) {
    (void)o;
    (void)gathered;
    return labeled_loss(t, row, 0, weight, slope);
}
