/* Optimizer state as arenas beside the parameters, and the update in ranges of equal weight decay.
 *
 * Decay falls on matrices only, and the arena alternates between matrices and vectors, so an update is one
 * back end operation per run of parameters that agree. The state's layout is the arena's, padding included.
 */
#include "train/optimizer.h"

#include <math.h>

/* Which of the two states a kind keeps. */
static bool keeps_first(const struct optimizer_options *o) {
    return o->kind == OPTIMIZER_ADAM || o->kind == OPTIMIZER_ADAMW || o->momentum != 0;
}

static bool keeps_second(const struct optimizer_options *o) {
    return o->kind != OPTIMIZER_SGD;
}

static enum status state_open(struct model *m, struct tensor *out) {
    void *data;
    enum dtype type = m->master.type;
    TRY(backend_alloc(m->backend, m->arena_elements * dtype_size(type), &data));
    *out = tensor_at(data, 1, m->arena_elements, type);
    return backend_zero_tensor(m->backend, *out);
}

enum status optimizer_open(struct model *m, const struct optimizer_options *options, struct optimizer *out) {
    struct optimizer o = {.options = *options, .model = m};
    enum status st = OK;
    if (keeps_first(options)) {
        TRY_TO(failed, state_open(m, &o.first));
    }
    if (keeps_second(options)) {
        TRY_TO(failed, state_open(m, &o.second));
    }
    *out = o;
    return OK;
failed:
    optimizer_close(&o);
    return st;
}

void optimizer_close(struct optimizer *o) {
    if (!o || !o->model) {
        return;
    }
    struct backend *b = o->model->backend;
    if (o->first.data) {
        backend_free(b, o->first.data);
    }
    if (o->second.data) {
        backend_free(b, o->second.data);
    }
    *o = (struct optimizer){0};
}

/* Elements [first, last) of an arena, or none. */
static struct tensor part(struct tensor arena, int64_t first, int64_t last) {
    return arena.data ? tensor_columns(arena, first, last - first) : (struct tensor){0};
}

enum status optimizer_update(struct optimizer *o, double rate_multiplier, double gradient_scale) {
    const struct optimizer_options *p = &o->options;
    struct model *m = o->model;
    double t = (double)(o->updates + 1);
    struct optimizer_step s = {.kind = p->kind,
                               .learning_rate = p->learning_rate * rate_multiplier,
                               .beta1 = p->beta1,
                               .beta2 = p->beta2,
                               .epsilon = p->epsilon,
                               .momentum = p->momentum,
                               .alpha = p->alpha,
                               .bias_correction1 = 1 - pow(p->beta1, t),
                               .bias_correction2 = 1 - pow(p->beta2, t),
                               .gradient_scale = gradient_scale};
    bool has_copy = m->compute.type != m->master.type;
    for (int i = 0, next; i < m->n_parameters; i = next) {
        bool decay = m->parameters[i].decay;
        for (next = i + 1; next < m->n_parameters && m->parameters[next].decay == decay; next++) {
        }
        int64_t first = m->parameters[i].offset;
        int64_t last = next < m->n_parameters ? m->parameters[next].offset : m->arena_elements;
        s.weight_decay = decay ? p->weight_decay : 0;
        s.parameters = part(m->master, first, last);
        s.gradients = part(m->gradients, first, last);
        s.first = part(o->first, first, last);
        s.second = part(o->second, first, last);
        s.copy = has_copy ? part(m->compute, first, last) : (struct tensor){0};
        TRY(backend_optimizer(m->backend, &s));
    }
    o->updates++;
    return OK;
}

int optimizer_state(struct optimizer *o, struct tensor **tensors, const char **names) {
    int n = 0;
    if (o->first.data) {
        tensors[n] = &o->first;
        names[n++] = "first";
    }
    if (o->second.data) {
        tensors[n] = &o->second;
        names[n++] = "second";
    }
    return n;
}
