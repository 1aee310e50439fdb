/* A training whose policy follows its users: their data, their choices, and what the step does with them. */
#include <stdio.h>

#include "command/steer_data.h"
#include "command/trainer.h"

bool trainer_steers(const struct settings *settings) {
    return *settings->steer.layers;
}

enum status trainer_steer_first(struct trainer *t) {
    bool is_known = t->view.len > 0 || !trainer_steers(t->session.settings);
    enum status st = is_known ? OK : steer_first_file(t->session.settings->data, &t->view);
    return comm_agree(t->session.comm, st);
}

enum status trainer_steer_embed(struct trainer *t) {
    const struct settings *s = t->session.settings;
    bool is_given = *s->embeddings;
    if (!trainer_steers(s)) {
        return OK;
    }
    TRY(trainer_steer_first(t));
    enum status st = is_given ? text_puts(&t->embeddings, s->embeddings)
                              : text_printf(&t->embeddings, "%s/steer.embeddings.h5", s->output);
    TRY(comm_agree(t->session.comm, st));
    TRY(is_given ? OK : steer_embed(t->session.run, t->view.data, &t->embeddings));
    return *s->eval_data ? trainer_steer_embed_evaluation(t) : OK;
}

/* Local. What the batch's rows are under. */
static enum status begin(void *context, const struct batch *b) {
    struct trainer *t = context;
    struct steering *s = &t->session.steering;
    const struct steering_training o = session_steering_training(&t->session);
    const struct steering_dropout dropout = {.rate = o.dropout, .seed = o.seed, .step = b->step};
    return steering_encode(s, b->users.n, b->users.choices, b->users.pairs, &dropout);
}

static enum status backward(void *context) {
    struct trainer *t = context;
    return steering_backward(&t->session.steering);
}

/* Local. */
static enum status open_users(struct trainer *t) {
    const struct settings *s = t->session.settings;
    const struct steer_options o = {.users = s->train.batch / s->steer.targets,
                                    .targets = s->steer.targets,
                                    .context_min = s->steer.context_min,
                                    .context_max = s->steer.context_max,
                                    .seed = (uint64_t)s->seed,
                                    .task_seed = (uint64_t)s->steer.task_seed};
    struct steering *steering = &t->session.steering;
    if (t->world.width != steering->shape.width) {
        return fail(ERR_DATA, "%s: embeddings of %lld numbers, the steering takes %lld", t->embeddings.data,
                    (long long)t->world.width, (long long)steering->shape.width);
    }
    struct text maker = {0};
    enum status st = steer_maker(t->embeddings.data, &maker);
    if (st == OK) {
        snprintf(steering->embedder, sizeof steering->embedder, "%s", maker.data);
    }
    text_free(&maker);
    TRY(st);
    TRY(steer_source_open(&t->data, &t->world, &o, &t->users));
    if (s->steer.standardize && !*s->adapter) {
        steering_standardize(steering, t->world.values, t->world.rows);
    }
    int64_t pass = t->world.n_train / o.users;
    t->steers = (struct steers){
        .context = t, .condition = &steering->condition, .begin = begin, .backward = backward};
    steering_tensors(steering, &t->steers.elements);
    t->training.steers = &t->steers;
    t->training.source.context = &t->users;
    t->training.source.read = steer_source_read;
    t->training.eval_data = NULL; /* accuracies by user are in its place */
    t->training.steps = s->train.steps > 0 ? s->train.steps : s->train.epochs * (pass > 0 ? pass : 1);
    return OK;
}

enum status trainer_steer_open(struct trainer *t) {
    const struct session *s = &t->session;
    if (!trainer_steers(s->settings)) {
        return OK;
    }
    TRY(steer_world(s, s->settings->data, (enum data_split)s->settings->split, t->embeddings.data,
                    &t->world));
    return comm_agree(s->comm, open_users(t));
}

void trainer_steer_close(struct trainer *t) {
    trainer_steer_evaluation_close(t);
    steer_source_close(&t->users);
    world_free(&t->world);
    text_free(&t->embeddings);
    text_free(&t->eval_embeddings);
}
