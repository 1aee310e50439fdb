/* A training whose policy follows its users: their data, their choices, and what the step does with them. */
#include "command/embed.h"
#include "command/trainer.h"
#include "encoder/dense.h"
#include "util/log.h"
#include "util/mem.h"

enum status trainer_steer_first(struct trainer *t) {
    const char *data = t->session.settings->data;
    return text_printf(&t->view, "%.*s", (int)text_list_name(data), data);
}

/* The embedding model is a session's of its own for as long as this takes. */
static enum status embed(struct trainer *t) {
    struct run *run = t->session.run;
    struct settings settings = *run->settings;
    struct session session;
    struct dataset *data = NULL;
    settings.model = *settings.steer.embedder ? settings.steer.embedder : settings.model;
    settings.adapter = "";
    session_open(run, &session);
    session.settings = &settings;
    enum status st = session_open_backend(&session, NULL, true);
    st = st == OK ? session_open_model(&session) : st;
    st = st == OK ? session_open_data(&session, t->view.data, &data) : st;
    st = st == OK ? embed_run(&session, data, true, &t->embeddings) : st;
    if (data) {
        dataset_close(data);
    }
    session_close(&session);
    return st;
}

enum status trainer_steer_embed(struct trainer *t) {
    const struct settings *s = t->session.settings;
    bool is_given = *s->embeddings;
    enum status st = is_given ? text_puts(&t->embeddings, s->embeddings)
                              : text_printf(&t->embeddings, "%s/steer.embeddings.h5", s->output);
    TRY(comm_agree(t->session.comm, st));
    return is_given ? OK : embed(t);
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
    t->training.steps = s->train.steps > 0 ? s->train.steps : s->train.epochs * (pass > 0 ? pass : 1);
    return OK;
}

enum status trainer_steer_open(struct trainer *t) {
    const struct session *s = &t->session;
    const struct world_options o = {.data = s->settings->data,
                                    .embeddings = t->embeddings.data,
                                    .split_seed = (uint64_t)s->settings->seed,
                                    .trust_data = s->settings->trust_data};
    int64_t dropped = 0;
    dense_set_threads(1); /* so that the encoder's bits are the same on any ranks */
    TRY(world_of_files(s->comm, &o, &t->world, &dropped));
    log_root(
        LOG_INFO,
        "users: %lld, of %lld pairs that all of them have (%lld were not everyone's); embeddings of %lld "
        "numbers",
        (long long)t->world.labels, (long long)t->world.pairs, (long long)dropped, (long long)t->world.width);
    return comm_agree(s->comm, open_users(t));
}

void trainer_steer_close(struct trainer *t) {
    steer_source_close(&t->users);
    world_free(&t->world);
    text_free(&t->embeddings);
}
