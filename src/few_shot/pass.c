#include "few_shot/pass.h"

#include <string.h>

#include "objective/few_shot_loss.h"
#include "objective/logistic.h"
#include "util/mem.h"

static const double norm_momentum = 0.1; /* PyTorch's */

static enum status open_arrays(struct few_shot_pass *p) {
    const struct few_shot_limits *l = &p->limits;
    int64_t h = p->model->shape.hidden;
    int64_t outputs = network_outputs(&p->model->shape);
    int64_t users = p->model->shape.kind == NETWORK_PROCESS ? l->users : 0;
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

enum status few_shot_pass_open(struct network *m, struct comm *comm, const struct few_shot_limits *limits,
                               struct few_shot_pass *out) {
    *out = (struct few_shot_pass){.model = m, .comm = comm, .limits = *limits};
    enum status st = open_arrays(out);
    if (m->shape.kind == NETWORK_PROCESS) {
        st = st == OK ? set_pass_open(m, limits->users, limits->context, &out->context) : st;
        if (m->shape.latent) {
            st = st == OK ? set_pass_open(m, limits->users, limits->targets, &out->whole) : st;
        }
    }
    out->norm = (struct batch_norm){.comm = comm,
                                    .width = m->shape.hidden,
                                    .momentum = norm_momentum,
                                    .weight = network_parameter(m, NETWORK_NORM_WEIGHT),
                                    .bias = network_parameter(m, NETWORK_NORM_BIAS),
                                    .d_weight = network_gradient(m, NETWORK_NORM_WEIGHT),
                                    .d_bias = network_gradient(m, NETWORK_NORM_BIAS),
                                    .running_mean = m->running_mean,
                                    .running_variance = m->running_variance,
                                    .inverse_std = out->inverse_std,
                                    .sums = out->sums};
    if (st != OK) {
        few_shot_pass_close(out);
    }
    return st;
}

void few_shot_pass_close(struct few_shot_pass *p) {
    double *arrays[] = {p->target_inner, p->target,   p->from_target, p->mean,    p->scale,       p->z,
                        p->hidden,       p->from_z,   p->active,      p->outputs, p->d_outputs,   p->d_hidden,
                        p->d_options,    p->d_target, p->d_z,         p->d_users, p->inverse_std, p->sums};
    for (int i = 0; i < COUNT_OF(arrays); i++) {
        mem_free(arrays[i]);
    }
    set_pass_close(&p->context);
    set_pass_close(&p->whole);
    *p = (struct few_shot_pass){0};
}

/* The users' pairs at the positions, chosen before rejected; positions NULL: all. */
static void fill_set(const struct few_shot_pass *p, const struct few_shot_batch *b, const int32_t *positions,
                     int64_t items, struct set_pass *set) {
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
        bool is_shown = positions && b->shown;
        const double *options = is_shown ? b->shown + i * 2 * d : b->options + pair * 2 * d;
        bool swapped = is_shown ? b->shown_choices[i] : b->choices[pair];
        memcpy(set->input + i * 2 * d, options + (swapped ? d : 0), (size_t)d * sizeof *options);
        memcpy(set->input + i * 2 * d + d, options + (swapped ? 0 : d), (size_t)d * sizeof *options);
    }
}

/* m and s = softplus(raw) of a latent set's outputs. */
static struct set_pass *drawn_from(struct few_shot_pass *p, enum few_shot_objective objective) {
    return p->is_training && objective == FEW_SHOT_ELBO ? &p->whole : &p->context;
}

static void draw_latent(struct few_shot_pass *p, const struct few_shot_batch *b, const struct set_pass *set) {
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

static void encode_context(struct few_shot_pass *p, const struct few_shot_batch *b,
                           enum few_shot_objective objective) {
    const struct network_shape *s = &p->model->shape;
    fill_set(p, b, b->context_at, b->context, &p->context);
    set_pass_forward(p->model, &p->context);
    if (s->latent && p->is_training) {
        fill_set(p, b, NULL, b->targets, &p->whole);
        set_pass_forward(p->model, &p->whole);
    }
    if (s->latent) {
        draw_latent(p, b, drawn_from(p, objective));
    } else {
        memcpy(p->z, p->context.out, (size_t)(b->users * s->hidden) * sizeof *p->z);
    }
}

/* The halves of the head's first layer: what it makes of a target, and of z. */
static struct linear_layer head_part(const struct network *m, bool of_z) {
    struct linear_layer l = network_layer(m, NETWORK_HEAD_0);
    l.stride = l.inputs;
    l.inputs = m->shape.hidden;
    l.weight += of_z ? m->shape.hidden : 0;
    l.d_weight += of_z ? m->shape.hidden : 0;
    return l;
}

static int64_t rows_of(const struct few_shot_batch *b) {
    return b->users * b->targets * 2;
}

static void join_head(struct few_shot_pass *p, const struct few_shot_batch *b, int64_t rows) {
    int64_t h = p->model->shape.hidden;
    bool has_z = p->model->shape.kind == NETWORK_PROCESS;
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

static enum status check(const struct few_shot_pass *p, const struct few_shot_batch *b) {
    const struct few_shot_limits *l = &p->limits;
    if (b->users > l->users || b->targets > l->targets || b->context > l->context ||
        b->context > b->targets || b->samples > l->samples) {
        return fail(ERR_INTERNAL,
                    "few-shot batch: %lld users, %lld targets, %lld context pairs, %lld samples do not fit",
                    (long long)b->users, (long long)b->targets, (long long)b->context, (long long)b->samples);
    }
    return OK;
}

/* Up to the head's batch norm, into p->hidden. */
static void to_norm(struct few_shot_pass *p, const struct few_shot_batch *b,
                    enum few_shot_objective objective) {
    const struct network *m = p->model;
    int64_t rows = rows_of(b);
    struct linear_layer first = network_layer(m, NETWORK_TARGET_0);
    struct linear_layer second = network_layer(m, NETWORK_TARGET_1);
    struct linear_layer of_target = head_part(m, false);
    linear_forward(&first, rows, b->options, true, p->target_inner);
    linear_forward(&second, rows, p->target_inner, false, p->target);
    linear_forward(&of_target, rows, p->target, false, p->from_target);
    if (m->shape.kind == NETWORK_PROCESS) {
        struct linear_layer of_z = head_part(m, true);
        encode_context(p, b, objective);
        linear_forward(&of_z, b->samples * b->users, p->z, false, p->from_z);
    }
    join_head(p, b, rows);
}

enum status few_shot_forward(struct few_shot_pass *p, const struct few_shot_batch *b, bool is_training,
                             enum few_shot_objective objective) {
    enum status st = check(p, b);
    struct linear_layer last = network_layer(p->model, NETWORK_HEAD_1);
    p->is_training = is_training;
    p->head_rows = st == OK ? b->samples * rows_of(b) : 0;
    if (st == OK) {
        to_norm(p, b, objective);
    }
    if (is_training) { /* a rank that failed is there too, without rows */
        enum status normed = batch_norm_train(&p->norm, p->head_rows, p->hidden, p->active);
        st = st == OK ? normed : st;
    } else {
        batch_norm_evaluate(&p->norm, p->head_rows, p->hidden, p->active);
    }
    linear_forward(&last, p->head_rows, p->active, false, p->outputs);
    return st;
}

/* The likelihood's share of the loss, and its gradient by the outputs. */
static double likelihood(struct few_shot_pass *p, const struct few_shot_batch *b) {
    int64_t outputs = network_outputs(&p->model->shape);
    int64_t pairs = b->users * b->targets;
    double weight = 1 / ((double)b->all_users * (double)b->targets * (double)b->samples);
    double sum = 0;
    for (int64_t i = 0; i < b->samples * pairs; i++) {
        const double *a = p->outputs + i * 2 * outputs;
        double *d = p->d_outputs + i * 2 * outputs;
        struct few_shot_loss loss;
        if (p->model->shape.kind == NETWORK_DPL) {
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
static void split_head(struct few_shot_pass *p, const struct few_shot_batch *b, int64_t rows) {
    int64_t h = p->model->shape.hidden;
    memcpy(p->d_options, p->d_hidden, (size_t)(rows * h) * sizeof *p->d_options);
    for (int64_t i = rows * h; i < b->samples * rows * h; i++) {
        p->d_options[i % (rows * h)] += p->d_hidden[i];
    }
    if (p->model->shape.kind != NETWORK_PROCESS) {
        return;
    }
    memset(p->d_users, 0, (size_t)(b->samples * b->users * h) * sizeof *p->d_users);
    for (int64_t i = 0; i < b->samples * b->users; i++) {
        sum_rows(2 * b->targets, h, p->d_hidden + i * 2 * b->targets * h, p->d_users + i * h);
    }
}

/* Adds the divergence of user i's latents in dimension j to the gradients by both sets' outputs. */
static double divergence_at(struct set_pass *from, struct set_pass *to, int64_t at, int64_t h,
                            double weight) {
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

static double latent_backward(struct few_shot_pass *p, const struct few_shot_batch *b, double beta_kl,
                              enum few_shot_objective objective) {
    int64_t h = p->model->shape.hidden;
    struct set_pass *drawn = drawn_from(p, objective);
    struct set_pass *other = drawn == &p->whole ? &p->context : &p->whole;
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
    set_pass_backward(p->model, drawn);
    if (beta_kl > 0) {
        set_pass_backward(p->model, other);
    }
    return kl / (double)b->all_users;
}

/* From the head's batch norm down, from p->d_hidden. Returns the divergence. */
static double from_norm(struct few_shot_pass *p, const struct few_shot_batch *b, double beta_kl,
                        enum few_shot_objective objective) {
    const struct network *m = p->model;
    int64_t rows = rows_of(b);
    struct linear_layer first = network_layer(m, NETWORK_TARGET_0);
    struct linear_layer second = network_layer(m, NETWORK_TARGET_1);
    struct linear_layer of_target = head_part(m, false);
    split_head(p, b, rows);
    linear_backward(&of_target, rows, p->target, p->d_options, p->d_target);
    double *d_inner = p->d_options; /* its use is over */
    linear_backward(&second, rows, p->target_inner, p->d_target, d_inner);
    relu_backward(rows * m->shape.hidden, p->target_inner, d_inner);
    linear_backward(&first, rows, b->options, d_inner, NULL);
    if (m->shape.kind != NETWORK_PROCESS) {
        return 0;
    }
    struct linear_layer of_z = head_part(m, true);
    linear_backward(&of_z, b->samples * b->users, p->z, p->d_users, p->d_z);
    if (m->shape.latent) {
        return latent_backward(p, b, beta_kl, objective);
    }
    memcpy(p->context.d_out, p->d_z, (size_t)(b->users * m->shape.hidden) * sizeof *p->d_z);
    set_pass_backward(m, &p->context);
    return 0;
}

enum status few_shot_backward(struct few_shot_pass *p, const struct few_shot_batch *b, double beta_kl,
                              enum few_shot_objective objective, struct few_shot_value *out) {
    struct linear_layer last = network_layer(p->model, NETWORK_HEAD_1);
    bool has_rows = p->head_rows > 0;
    *out = (struct few_shot_value){.nll = has_rows ? likelihood(p, b) : 0};
    linear_backward(&last, p->head_rows, p->active, p->d_outputs, p->d_hidden);
    TRY(batch_norm_backward(&p->norm, p->head_rows, p->hidden, p->active, p->d_hidden));
    out->kl = has_rows ? from_norm(p, b, beta_kl, objective) : 0;
    return OK;
}
