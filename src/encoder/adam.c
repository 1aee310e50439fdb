#include "encoder/adam.h"

#include <math.h>

#include "util/mem.h"

static const double beta1 = 0.9;
static const double beta2 = 0.999;

enum status adam_open(int64_t count, struct adam *out) {
    *out = (struct adam){.count = count};
    enum status st = NEW_ARRAY(out->first, count);
    st = st == OK ? NEW_ARRAY(out->second, count) : st;
    if (st != OK) {
        adam_close(out);
    }
    return st;
}

void adam_close(struct adam *a) {
    mem_free(a->first);
    mem_free(a->second);
    *a = (struct adam){0};
}

void adam_step(const struct adam_options *o, struct adam *a, double *parameters, double *gradients) {
    a->step++;
    double correction1 = 1 - pow(beta1, (double)a->step);
    double correction2 = 1 - pow(beta2, (double)a->step);
    for (int64_t i = 0; i < a->count; i++) {
        double g = gradients[i];
        a->first[i] = beta1 * a->first[i] + (1 - beta1) * g;
        a->second[i] = beta2 * a->second[i] + (1 - beta2) * g * g;
        double root = sqrt(a->second[i] / correction2) + o->epsilon;
        parameters[i] *= 1 - o->learning_rate * o->weight_decay;
        parameters[i] -= o->learning_rate * (a->first[i] / correction1) / root;
        gradients[i] = 0;
    }
}
