#include "train/np_state.h"

#include <string.h>
#include <unistd.h>

#include "io/file.h"
#include "util/hash.h"
#include "util/mem.h"

/* The file: this head, the arrays in the order of arrays_of, and a hash of all that. */
struct head {
    char magic[8];
    uint64_t key;
    int64_t step, count, hidden;
    struct mt19937 draws;
};
static const char magic[8] = "npstate1";
enum { ARRAYS = 5 };

static void arrays_of(const struct np_trainer *t, double *array[ARRAYS], int64_t n[ARRAYS]) {
    const struct np_model *m = t->model;
    double *all[ARRAYS] = {m->parameters, t->adam.first, t->adam.second, m->running_mean,
                           m->running_variance};
    for (int i = 0; i < ARRAYS; i++) {
        array[i] = all[i];
        n[i] = i < 3 ? m->count : m->shape.hidden;
    }
}

static uint64_t join_numbers(uint64_t hash, const double *values, int n) {
    for (int i = 0; i < n; i++) {
        hash = hash_join(hash, hash_bytes(&values[i], sizeof values[i], 0));
    }
    return hash;
}

uint64_t np_state_key(const struct np_trainer *t) {
    const struct np_options *o = t->options;
    const struct np_shape *s = &t->model->shape;
    const struct np_world *w = t->train.world;
    const double numbers[] = {(double)o->batch,
                              (double)o->targets,
                              (double)o->context_min,
                              (double)o->context_max,
                              (double)o->samples,
                              o->beta_kl,
                              o->dropout,
                              (double)o->objective,
                              o->learning_rate,
                              o->epsilon,
                              o->weight_decay,
                              (double)o->seed,
                              (double)o->task_seed,
                              (double)s->kind,
                              (double)s->width,
                              (double)s->hidden,
                              (double)s->heads,
                              (double)s->aggregate,
                              (double)s->inner_mlp,
                              (double)s->latent,
                              (double)w->rows,
                              (double)w->pairs,
                              (double)w->labels,
                              (double)w->n_train};
    uint64_t hash = join_numbers(0, numbers, COUNT_OF(numbers));
    hash = hash_join(hash, hash_bytes(w->values, (size_t)(w->rows * w->width) * sizeof *w->values, 0));
    hash = hash_join(hash, hash_bytes(w->choices, (size_t)(w->labels * w->pairs), 0));
    return hash_join(hash, hash_bytes(w->train, (size_t)w->n_train * sizeof *w->train, 0));
}

/* Bytes of the whole file. */
static size_t state_bytes(const struct np_trainer *t) {
    double *array[ARRAYS];
    int64_t n[ARRAYS];
    size_t bytes = sizeof(struct head) + sizeof(uint64_t);
    arrays_of(t, array, n);
    for (int i = 0; i < ARRAYS; i++) {
        bytes += (size_t)n[i] * sizeof *array[i];
    }
    return bytes;
}

enum status np_state_save(const struct np_trainer *t, const char *path) {
    double *array[ARRAYS];
    int64_t n[ARRAYS];
    char *data;
    size_t bytes = state_bytes(t);
    struct head head = {.key = np_state_key(t),
                        .step = t->adam.step,
                        .count = t->model->count,
                        .hidden = t->model->shape.hidden,
                        .draws = t->train.draws};
    TRY(NEW_ARRAY(data, (int64_t)bytes));
    memcpy(head.magic, magic, sizeof magic);
    memcpy(data, &head, sizeof head);
    char *to = data + sizeof head;
    arrays_of(t, array, n);
    for (int i = 0; i < ARRAYS; i++) {
        memcpy(to, array[i], (size_t)n[i] * sizeof *array[i]);
        to += (size_t)n[i] * sizeof *array[i];
    }
    uint64_t hash = hash_bytes(data, bytes - sizeof hash, 0);
    memcpy(to, &hash, sizeof hash);
    enum status st = file_write(path, data, bytes);
    mem_free(data);
    return st;
}

static enum status check(const struct np_trainer *t, const char *path, const char *data, size_t len) {
    struct head head;
    uint64_t hash;
    if (len < sizeof head + sizeof hash || memcmp(data, magic, sizeof magic) != 0) {
        return fail(ERR_DATA, "%s: is no state of a few-shot model; remove it to start again", path);
    }
    memcpy(&head, data, sizeof head);
    memcpy(&hash, data + len - sizeof hash, sizeof hash);
    if (hash != hash_bytes(data, len - sizeof hash, 0)) {
        return fail(ERR_DATA, "%s: is damaged; remove it to start again", path);
    }
    if (head.key != np_state_key(t) || len != state_bytes(t)) {
        return fail(ERR_USAGE,
                    "%s: an unfinished run with other settings or data is there; remove it or name "
                    "another output",
                    path);
    }
    return OK;
}

static void restore(struct np_trainer *t, const char *data) {
    double *array[ARRAYS];
    int64_t n[ARRAYS];
    struct head head;
    memcpy(&head, data, sizeof head);
    t->adam.step = head.step;
    t->train.draws = head.draws;
    const char *from = data + sizeof head;
    arrays_of(t, array, n);
    for (int i = 0; i < ARRAYS; i++) {
        memcpy(array[i], from, (size_t)n[i] * sizeof *array[i]);
        from += (size_t)n[i] * sizeof *array[i];
    }
}

enum status np_state_load(struct np_trainer *t, const char *path) {
    struct comm *c = t->comm;
    int64_t found = c->rank == 0 && access(path, F_OK) == 0;
    char *data = NULL;
    size_t len = 0;
    enum status st = OK;
    if (found) {
        st = file_read(path, &data, &len);
        st = st == OK ? check(t, path, data, len) : st;
    }
    TRY_TO(done, comm_agree(c, st));
    TRY_TO(done, comm_broadcast(c, 0, &found, sizeof found));
    if (found) {
        len = state_bytes(t);
        TRY_TO(done, comm_agree(c, data ? OK : NEW_ARRAY(data, (int64_t)len)));
        TRY_TO(done, comm_broadcast(c, 0, data, (int64_t)len));
        restore(t, data);
    }
done:
    mem_free(data);
    return st;
}
