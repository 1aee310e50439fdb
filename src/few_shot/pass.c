#include "few_shot/pass.h"

#include <string.h>

#include "encoder/internal.h"
#include "objective/few_shot_loss.h"
#include "objective/logistic.h"
#include "util/mem.h"

static const double NP_MOMENTUM = 0.1; /* PyTorch's */

static enum status open_arrays(struct np_pass *p) {
    const struct np_limits *l = &p->limits;
    int64_t h = p->model->shape.hidden;
    int64_t outputs = np_outputs(&p->model->shape);
    int64_t users = p->model->shape.kind == NP_PROCESS ? l->users : 0;
    int64_t rows;
    int64_t all;
    TRY(size_mul(l->users * 2, l->targets, "rows of a few-shot batch", &rows));
    TRY(size_mul(rows, l->samples, "rows of a few-shot batch", &all));
    struct {
        double **at;
        int64_t rows, columns;
    } arrays[] = {
        {&p->target_inner, rows, h},
        {&p->target, rows, h},
        {&p->from_target, rows, h},
        {&p->mean, users, h},
        {&p->scale, users, h},
        {&p->z, users * l->samples, h},
        {&p->hidden, all, h},
        {&p->from_z, users * l->samples, h},
        {&p->active, all, h},
        {&p->outputs, all, outputs},
        {&p->d_outputs, all, outputs},
        {&p->d_hidden, all, h},
        {&p->d_options, rows, h},
        {&p->d_target, rows, h},
        {&p->d_z, users * l->samples, h},
        {&p->d_users, users * l->samples, h},
        {&p->inverse_std, 1, h},
        {&p->sums, 1, 2 * h + 1},
    };
    for (int i = 0; i < COUNT_OF(arrays); i++) {
        int64_t n;
        TRY(size_mul(arrays[i].rows, arrays[i].columns, "a few-shot batch", &n));
        TRY(NEW_ARRAY(*arrays[i].at, n));
    }
    return OK;
}

enum status np_pass_open(struct np_model *m, struct comm *comm, const struct np_limits *limits,
                         struct np_pass *out) {
    *out = (struct np_pass){.model = m, .comm = comm, .limits = *limits};
    enum status st = open_arrays(out);
    if (m->shape.kind == NP_PROCESS) {
        st = st == OK ? np_set_open(m, limits->users, limits->context, &out->context) : st;
        if (m->shape.latent) {
            st = st == OK ? np_set_open(m, limits->users, limits->targets, &out->whole) : st;
        }
    }
    out->norm = (struct np_norm){.comm = comm,
                                 .width = m->shape.hidden,
                                 .momentum = NP_MOMENTUM,
                                 .weight = np_parameter(m, NP_NORM_WEIGHT),
                                 .bias = np_parameter(m, NP_NORM_BIAS),
                                 .d_weight = np_gradient(m, NP_NORM_WEIGHT),
                                 .d_bias = np_gradient(m, NP_NORM_BIAS),
                                 .running_mean = m->running_mean,
                                 .running_variance = m->running_variance,
                                 .inverse_std = out->inverse_std,
                                 .sums = out->sums};
    if (st != OK) {
        np_pass_close(out);
    }
    return st;
}

void np_pass_close(struct np_pass *p) {
    double *arrays[] = {p->target_inner, p->target,   p->from_target, p->mean,    p->scale,       p->z,
                        p->hidden,       p->from_z,   p->active,      p->outputs, p->d_outputs,   p->d_hidden,
                        p->d_options,    p->d_target, p->d_z,         p->d_users, p->inverse_std, p->sums};
    for (int i = 0; i < COUNT_OF(arrays); i++) {
        mem_free(arrays[i]);
    }
    np_set_close(&p->context);
    np_set_close(&p->whole);
    *p = (struct np_pass){0};
}

/* The users' pairs at the positions, chosen before rejected; positions NULL: all. */
static void fill_set(const struct np_pass *p, const struct np_batch *b, const int32_t *positions,
                     int64_t items, struct np_set *set) {
    int64_t d = p->model->shape.width;
    set->users = b->users;
    set->items = items;
    set->dropout = p->is_training ? b->dropout : 0;
    set->seed = b->seed;
    set->first_user = b->first_user;
    set->step = 2 * b->step + (positions ? 0 : 1); /* other draws for the other set */
    for (int64_t i = 0; i < b->users * items; i++) {
        int64_t at = positions ? positions[i % items] : i % items;
        int64_t pair = i / items * b->targets + at;
        const double *options = b->options + pair * 2 * d;
        bool swapped = b->choices[pair];
        memcpy(set->input + i * 2 * d, options + (swapped ? d : 0), (size_t)d * sizeof *options);
        memcpy(set->input + i * 2 * d + d, options + (swapped ? 0 : d), (size_t)d * sizeof *options);
    }
}

/* m and s = softplus(raw) of a latent set's outputs. */
static struct np_set *drawn_from(struct np_pass *p, enum np_objective objective) {
    return p->is_training && objective == NP_ELBO ? &p->whole : &p->context;
}

static void draw_latent(struct np_pass *p, const struct np_batch *b, const struct np_set *set) {
    int64_t h = p->model->shape.hidden;
    for (int64_t i = 0; i < b->users * h; i++) {
        const double *out = set->out + i / h * 2 * h + i % h;
        p->mean[i] = out[0];
        p->scale[i] = softplus(out[h]);
    }
    for (int64_t i = 0; i < b->samples * b->users * h; i++) {
        int64_t at = i % (b->users * h);
        p->z[i] = p->mean[at] + p->scale[at] * b->noise[i];
    }
}

static void encode_context(struct np_pass *p, const struct np_batch *b, enum np_objective objective) {
    const struct np_shape *s = &p->model->shape;
    fill_set(p, b, b->context_at, b->context, &p->context);
    np_set_forward(p->model, &p->context);
    if (s->latent && p->is_training) {
        fill_set(p, b, NULL, b->targets, &p->whole);
        np_set_forward(p->model, &p->whole);
    }
    if (s->latent) {
        draw_latent(p, b, drawn_from(p, objective));
    } else {
        memcpy(p->z, p->context.out, (size_t)(b->users * s->hidden) * sizeof *p->z);
    }
}

/* The halves of the head's first layer: what it makes of a target, and of z. */
static struct np_linear head_part(const struct np_model *m, bool of_z) {
    struct np_linear l = np_layer(m, NP_HEAD_0);
    l.stride = l.inputs;
    l.inputs = m->shape.hidden;
    l.weight += of_z ? m->shape.hidden : 0;
    l.d_weight += of_z ? m->shape.hidden : 0;
    return l;
}

static void join_head(struct np_pass *p, const struct np_batch *b, int64_t rows) {
    int64_t h = p->model->shape.hidden;
    bool has_z = p->model->shape.kind == NP_PROCESS;
#pragma omp parallel for
    for (int64_t i = 0; i < b->samples * rows; i++) {
        const double *of_target = p->from_target + i % rows * h;
        double *to = p->hidden + i * h;
        memcpy(to, of_target, (size_t)h * sizeof *to);
        const double *of_z = p->from_z + i / (2 * b->targets) * h;
        for (int64_t j = 0; has_z && j < h; j++) {
            to[j] += of_z[j];
        }
    }
}

static enum status check(const struct np_pass *p, const struct np_batch *b) {
    const struct np_limits *l = &p->limits;
    if (b->users > l->users || b->targets > l->targets || b->context > l->context ||
        b->context > b->targets || b->samples > l->samples) {
        return fail(ERR_INTERNAL,
                    "few-shot batch: %lld users, %lld targets, %lld context pairs, %lld samples do not fit",
                    (long long)b->users, (long long)b->targets, (long long)b->context, (long long)b->samples);
    }
    return OK;
}

enum status np_forward(struct np_pass *p, const struct np_batch *b, bool is_training,
                       enum np_objective objective) {
    const struct np_model *m = p->model;
    int64_t rows = b->users * b->targets * 2;
    TRY(check(p, b));
    p->is_training = is_training;
    struct np_linear first = np_layer(m, NP_TARGET_0);
    struct np_linear second = np_layer(m, NP_TARGET_1);
    struct np_linear of_target = head_part(m, false);
    struct np_linear last = np_layer(m, NP_HEAD_1);
    np_linear_forward(&first, rows, b->options, true, p->target_inner);
    np_linear_forward(&second, rows, p->target_inner, false, p->target);
    np_linear_forward(&of_target, rows, p->target, false, p->from_target);
    if (m->shape.kind == NP_PROCESS) {
        struct np_linear of_z = head_part(m, true);
        encode_context(p, b, objective);
        np_linear_forward(&of_z, b->samples * b->users, p->z, false, p->from_z);
    }
    join_head(p, b, rows);
    if (is_training) {
        TRY(np_norm_train(&p->norm, b->samples * rows, p->hidden, p->active));
    } else {
        np_norm_evaluate(&p->norm, b->samples * rows, p->hidden, p->active);
    }
    np_linear_forward(&last, b->samples * rows, p->active, false, p->outputs);
    return OK;
}

/* The likelihood's share of the loss, and its gradient by the outputs. */
static double likelihood(struct np_pass *p, const struct np_batch *b) {
    int64_t outputs = np_outputs(&p->model->shape);
    int64_t pairs = b->users * b->targets;
    double weight = 1 / ((double)b->all_users * (double)b->targets * (double)b->samples);
    double sum = 0;
    for (int64_t i = 0; i < b->samples * pairs; i++) {
        const double *a = p->outputs + i * 2 * outputs;
        double *d = p->d_outputs + i * 2 * outputs;
        struct few_shot_loss loss;
        if (p->model->shape.kind == NP_DPL) {
            few_shot_dpl(a, a + outputs, b->choices[i % pairs], &loss);
        } else {
            few_shot_btl(a, a + outputs, b->choices[i % pairs], &loss);
        }
        sum += weight * loss.value;
        for (int64_t j = 0; j < outputs; j++) {
            d[j] = weight * loss.d_a[j];
            d[outputs + j] = weight * loss.d_b[j];
        }
    }
    return sum;
}

/* Sums of d_hidden over the samples (by option) and over a user's options (by sample and user). */
static void split_head(struct np_pass *p, const struct np_batch *b, int64_t rows) {
    int64_t h = p->model->shape.hidden;
    memcpy(p->d_options, p->d_hidden, (size_t)(rows * h) * sizeof *p->d_options);
    for (int64_t i = rows * h; i < b->samples * rows * h; i++) {
        p->d_options[i % (rows * h)] += p->d_hidden[i];
    }
    if (p->model->shape.kind != NP_PROCESS) {
        return;
    }
    memset(p->d_users, 0, (size_t)(b->samples * b->users * h) * sizeof *p->d_users);
    for (int64_t i = 0; i < b->samples * b->users; i++) {
        np_sum_rows(2 * b->targets, h, p->d_hidden + i * 2 * b->targets * h, p->d_users + i * h);
    }
}

/* Adds the divergence of user i's latents in dimension j to the gradients by both sets' outputs. */
static double divergence_at(struct np_set *from, struct np_set *to, int64_t at, int64_t h, double weight) {
    struct few_shot_kl kl;
    double raw_from = from->out[at + h];
    double raw_to = to->out[at + h];
    few_shot_normal_kl(from->out[at], softplus(raw_from), to->out[at], softplus(raw_to), &kl);
    from->d_out[at] += weight * kl.d_m;
    from->d_out[at + h] += weight * kl.d_s * logistic(raw_from);
    to->d_out[at] += weight * kl.d_n;
    to->d_out[at + h] += weight * kl.d_t * logistic(raw_to);
    return kl.value;
}

static double latent_backward(struct np_pass *p, const struct np_batch *b, double beta_kl,
                              enum np_objective objective) {
    int64_t h = p->model->shape.hidden;
    struct np_set *drawn = drawn_from(p, objective);
    struct np_set *other = drawn == &p->whole ? &p->context : &p->whole;
    memset(drawn->d_out, 0, (size_t)(b->users * 2 * h) * sizeof *drawn->d_out);
    memset(other->d_out, 0, (size_t)(b->users * 2 * h) * sizeof *other->d_out);
    for (int64_t i = 0; i < b->samples * b->users * h; i++) {
        int64_t unit = i % (b->users * h);
        int64_t at = unit / h * 2 * h + unit % h;
        drawn->d_out[at] += p->d_z[i];
        drawn->d_out[at + h] += p->d_z[i] * b->noise[i] * logistic(drawn->out[at + h]);
    }
    double kl = 0;
    for (int64_t i = 0; i < b->users * h && beta_kl > 0; i++) {
        kl += divergence_at(drawn, other, i / h * 2 * h + i % h, h, beta_kl / (double)b->all_users);
    }
    np_set_backward(p->model, drawn);
    if (beta_kl > 0) {
        np_set_backward(p->model, other);
    }
    return kl / (double)b->all_users;
}

enum status np_backward(struct np_pass *p, const struct np_batch *b, double beta_kl,
                        enum np_objective objective, struct np_value *out) {
    const struct np_model *m = p->model;
    int64_t rows = b->users * b->targets * 2;
    struct np_linear first = np_layer(m, NP_TARGET_0);
    struct np_linear second = np_layer(m, NP_TARGET_1);
    struct np_linear of_target = head_part(m, false);
    struct np_linear last = np_layer(m, NP_HEAD_1);
    *out = (struct np_value){.nll = likelihood(p, b)};
    np_linear_backward(&last, b->samples * rows, p->active, p->d_outputs, p->d_hidden);
    TRY(np_norm_backward(&p->norm, b->samples * rows, p->hidden, p->active, p->d_hidden));
    split_head(p, b, rows);
    np_linear_backward(&of_target, rows, p->target, p->d_options, p->d_target);
    double *d_inner = p->d_options; /* its use is over */
    np_linear_backward(&second, rows, p->target_inner, p->d_target, d_inner);
    np_relu_backward(rows * m->shape.hidden, p->target_inner, d_inner);
    np_linear_backward(&first, rows, b->options, d_inner, NULL);
    if (m->shape.kind != NP_PROCESS) {
        return OK;
    }
    struct np_linear of_z = head_part(m, true);
    np_linear_backward(&of_z, b->samples * b->users, p->z, p->d_users, p->d_z);
    if (m->shape.latent) {
        out->kl = latent_backward(p, b, beta_kl, objective);
    } else {
        memcpy(p->context.d_out, p->d_z, (size_t)(b->users * m->shape.hidden) * sizeof *p->d_z);
        np_set_backward(p->model, &p->context);
    }
    return OK;
}
