#include "steer/steering.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "util/mem.h"

enum status steering_open(const struct steering_shape *shape, uint64_t seed, struct steering *out) {
    const struct network_shape encoder = {.kind = NETWORK_CONTEXT,
                                          .width = shape->width,
                                          .hidden = shape->hidden,
                                          .heads = shape->heads,
                                          .aggregate = shape->aggregate,
                                          .inner_mlp = shape->inner_mlp};
    int64_t most = 0;
    enum status st = OK;
    *out = (struct steering){.shape = *shape};
    TRY(network_open(&encoder, seed, &out->encoder));
    for (int i = 0; i < NETWORK_TENSORS; i++) {
        const struct network_range *r = &out->encoder.tensors[i];
        most = r->rows * r->columns > most ? r->rows * r->columns : most;
    }
    TRY_TO(failed, NEW_ARRAY(out->mean, shape->width));
    TRY_TO(failed, NEW_ARRAY(out->scale, shape->width));
    TRY_TO(failed, NEW_ARRAY(out->numbers, most));
    for (int64_t j = 0; j < shape->width; j++) {
        out->scale[j] = 1;
    }
    return OK;
failed:
    steering_close(out);
    return st;
}

void steering_close(struct steering *s) {
    network_close(&s->encoder);
    set_pass_close(&s->pass);
    mem_free(s->mean);
    mem_free(s->scale);
    mem_free(s->numbers);
    mem_free(s->z);
    mem_free(s->condition.dz);
    *s = (struct steering){0};
}

/* Names are those of the network's ranges; the values come from steering_start() or a file. */
static enum status lead(const struct steering *s, const struct steering_training *t, struct lora_layout *l) {
    for (int i = 0; i < NETWORK_TENSORS; i++) {
        const struct network_range *r = &s->encoder.tensors[i];
        bool is_bias = r->columns == 1;
        struct parameter p = {.rows = is_bias ? 1 : r->rows,
                              .columns = is_bias ? r->rows : r->columns,
                              .decay = !is_bias,
                              .n_dims = is_bias ? 1 : 2,
                              .init = INIT_ZERO,
                              .rate = t->rate};
        snprintf(p.name, sizeof p.name, "%s", r->name);
        TRY(r->rows > 0 ? lora_layout_lead(l, &p) : OK);
    }
    return OK;
}

enum status steering_lay_out(const struct steering *s, const struct steering_training *t,
                             struct lora_layout *l) {
    l->film = (struct film_layout){.layers = s->shape.layers,
                                   .width = s->shape.hidden,
                                   .deviation = t->start == START_FILM ? 0 : t->deviation,
                                   .rate = t->rate,
                                   .conditions = t->users};
    return lead(s, t, l);
}

void steering_bind(struct steering *s, struct arena *a) {
    s->arena = a;
    s->revision = a->revision - 1; /* nothing is read yet */
}

int steering_tensors(const struct steering *s, int64_t *elements) {
    int n = 0;
    for (int i = 0; i < NETWORK_TENSORS; i++) {
        n += s->encoder.tensors[i].rows > 0;
    }
    *elements = s->arena && n < s->arena->n ? s->arena->parameters[n].offset : 0;
    return n;
}

/* The arena's parameters from 0 on, one by one, beside the network's. */
struct tensor_pair {
    int network, place; /* the next of each */
    int64_t elements;   /* of the last */
    double *parameter, *gradient;
    struct place at;
};
static bool next_tensor(const struct steering *s, struct tensor_pair *p) {
    while (p->network < NETWORK_TENSORS && s->encoder.tensors[p->network].rows == 0) {
        p->network++;
    }
    if (p->network == NETWORK_TENSORS) {
        return false;
    }
    const struct network_range *r = &s->encoder.tensors[p->network];
    p->elements = r->rows * r->columns;
    p->parameter = s->encoder.parameters + r->offset;
    p->gradient = s->encoder.gradients + r->offset;
    p->at = (struct place){s->arena, s->arena->parameters[p->place].offset};
    p->network++;
    p->place++;
    return true;
}

static struct tensor values_at(struct place at, int64_t elements) {
    return tensor_columns(arena_values(at.arena), at.offset, elements);
}

enum status steering_start(struct steering *s, const struct steering_training *t) {
    if (t->start == START_ENCODER) {
        for (int i = NETWORK_OUTER_1; i <= NETWORK_OUTER_1_BIAS; i++) {
            const struct network_range *r = &s->encoder.tensors[i];
            memset(s->encoder.parameters + r->offset, 0,
                   (size_t)(r->rows * r->columns) * sizeof *s->encoder.parameters);
        }
    }
    for (struct tensor_pair p = {0}; next_tensor(s, &p);) {
        TRY(backend_write_doubles(s->arena->backend, values_at(p.at, p.elements), p.parameter));
    }
    return arena_refresh(s->arena);
}

static enum status read_parameters(struct steering *s) {
    if (s->revision == s->arena->revision) {
        return OK;
    }
    for (struct tensor_pair p = {0}; next_tensor(s, &p);) {
        TRY(backend_read_doubles(s->arena->backend, p.parameter, values_at(p.at, p.elements)));
    }
    s->revision = s->arena->revision;
    return OK;
}

static enum status need_room(struct steering *s, int64_t users, int64_t k) {
    if (users <= s->users_cap && k <= s->items_cap) {
        return OK;
    }
    users = users > s->users_cap ? users : s->users_cap;
    k = k > s->items_cap ? k : s->items_cap;
    set_pass_close(&s->pass);
    s->users_cap = s->items_cap = 0;
    TRY(set_pass_open(&s->encoder, users, k, &s->pass));
    mem_free(s->z);
    mem_free(s->condition.dz);
    s->condition.dz = NULL;
    TRY(NEW_ARRAY(s->z, users * s->shape.hidden));
    TRY(NEW_ARRAY(s->condition.dz, users * s->shape.hidden));
    s->users_cap = users;
    s->items_cap = k;
    return OK;
}

enum status steering_encode(struct steering *s, int64_t users, int64_t k, const float *choices,
                            const struct steering_dropout *dropout) {
    int64_t d = s->shape.width, n = users * s->shape.hidden;
    TRY(read_parameters(s));
    TRY(need_room(s, users, k));
    for (int64_t i = 0; i < users * k * 2; i++) {
        for (int64_t j = 0; j < d; j++) {
            s->pass.input[i * d + j] = ((double)choices[i * d + j] - s->mean[j]) * s->scale[j];
        }
    }
    s->pass.users = users;
    s->pass.items = k;
    s->pass.dropout = dropout ? dropout->rate : 0;
    s->pass.seed = dropout ? dropout->seed : 0;
    s->pass.step = dropout ? dropout->step : 0;
    s->pass.first_user = 0;
    set_pass_forward(&s->encoder, &s->pass);
    for (int64_t i = 0; i < n; i++) {
        s->z[i] = s->shape.bounded ? tanh(s->pass.out[i]) : s->pass.out[i];
    }
    memset(s->condition.dz, 0, (size_t)n * sizeof *s->condition.dz);
    s->condition.n = (int32_t)users;
    s->condition.width = s->shape.hidden;
    s->condition.z = s->z;
    return OK;
}

/* The arena's gradient += the network's. */
static enum status add_gradient(struct steering *s, const struct tensor_pair *p) {
    struct tensor to = place_gradient(p->at, 1, p->elements);
    if (!to.data) {
        return fail(ERR_INTERNAL, "steering: the arena has no gradients");
    }
    TRY(backend_read_doubles(s->arena->backend, s->numbers, to));
    for (int64_t i = 0; i < p->elements; i++) {
        s->numbers[i] += p->gradient[i];
    }
    return backend_write_doubles(s->arena->backend, to, s->numbers);
}

enum status steering_backward(struct steering *s) {
    int64_t n = s->condition.n * s->shape.hidden;
    for (int64_t i = 0; i < n; i++) {
        double slope = s->shape.bounded ? 1 - s->z[i] * s->z[i] : 1;
        s->pass.d_out[i] = slope * s->condition.dz[i];
    }
    memset(s->condition.dz, 0, (size_t)n * sizeof *s->condition.dz);
    memset(s->encoder.gradients, 0, (size_t)s->encoder.count * sizeof *s->encoder.gradients);
    set_pass_backward(&s->encoder, &s->pass);
    for (struct tensor_pair p = {0}; next_tensor(s, &p);) {
        TRY(add_gradient(s, &p));
    }
    return OK;
}

void steering_standardize(struct steering *s, const float *rows, int64_t n) {
    int64_t d = s->shape.width;
    for (int64_t j = 0; j < d && n > 0; j++) {
        double sum = 0, squares = 0;
        for (int64_t i = 0; i < n; i++) {
            sum += (double)rows[i * d + j];
        }
        s->mean[j] = sum / (double)n;
        for (int64_t i = 0; i < n; i++) {
            double off = (double)rows[i * d + j] - s->mean[j];
            squares += off * off;
        }
        s->scale[j] = squares > 0 ? 1 / sqrt(squares / (double)n) : 1;
    }
}
