#include "few_shot/state.h"

#include <math.h>

#include "store/checkpoint_internal.h"
#include "util/json.h"

/* The sequence of users is kept as an array of doubles, which hold 32 bits exactly: the Mersenne Twister's
 * words, then which of them is next. */
enum { WORDS = COUNT_OF(((struct mt19937 *)0)->state), USERS = WORDS + 1, ARRAYS = 6 };

/* Every rank holds all of every array: it writes its part, and reads the whole. */
static void arrays_of(const struct few_shot_trainer *t, bool whole, double users[USERS],
                      struct checkpoint_array out[ARRAYS]) {
    const struct network *m = t->model;
    const int64_t hidden = m->shape.hidden;
    const struct {
        const char *name;
        double *data;
        int64_t elements;
    } all[ARRAYS] = {{"parameters", m->parameters, m->count},
                     {"first", t->adam.first, m->count},
                     {"second", t->adam.second, m->count},
                     {"running_mean", m->running_mean, hidden},
                     {"running_variance", m->running_variance, hidden},
                     {"users", users, USERS}};
    for (int i = 0; i < ARRAYS; i++) {
        int64_t n = all[i].elements;
        struct range part = whole ? (struct range){0, n} : range_part(n, t->comm->rank, t->comm->size);
        out[i] = (struct checkpoint_array){.name = all[i].name,
                                           .elements = n,
                                           .part = part,
                                           .element_bytes = (int)sizeof(double),
                                           .data = all[i].data + part.first};
    }
}

enum status few_shot_state_save(const struct few_shot_trainer *t, const struct checkpoint_options *o) {
    struct checkpoint_array arrays[ARRAYS];
    struct checkpoint_contents contents = {.step = t->adam.step, .arrays = arrays, .n_arrays = ARRAYS};
    double users[USERS];
    for (int i = 0; i < WORDS; i++) {
        users[i] = t->train.draws.state[i];
    }
    users[WORDS] = t->train.draws.next;
    arrays_of(t, false, users, arrays);
    enum status st = text_printf(&contents.state, "\"step\": %lld", (long long)t->adam.step);
    st = checkpoint_write(t->comm, o, &contents, st);
    text_free(&contents.state);
    return st;
}

/* Local. Nothing else may be an index. */
static enum status take_users(const double users[USERS], const char *path, struct mt19937 *out) {
    for (int i = 0; i < USERS; i++) {
        double most = i < WORDS ? UINT32_MAX : WORDS;
        if (!(users[i] >= 0 && users[i] <= most) || users[i] != floor(users[i])) {
            return fail(ERR_DATA, "%s: /arrays/users is no state of a sequence of users", path);
        }
    }
    for (int i = 0; i < WORDS; i++) {
        out->state[i] = (uint32_t)users[i];
    }
    out->next = (int)users[WORDS];
    return OK;
}

static enum status take_state(struct few_shot_trainer *t, const struct checkpoint_found *from,
                              const double users[USERS]) {
    TRY(json_take_int(from->state, "step", from->path, &t->adam.step));
    return take_users(users, from->path, &t->train.draws);
}

enum status few_shot_state_load(struct few_shot_trainer *t, const struct checkpoint_options *o) {
    struct comm *c = t->comm;
    struct checkpoint_array arrays[ARRAYS];
    struct checkpoint_found from;
    double users[USERS];
    enum status st;
    TRY(checkpoint_find(c, o, &from));
    if (!from.path) {
        return OK;
    }
    arrays_of(t, true, users, arrays);
    TRY_TO(done, checkpoint_file_read(c, from.path, arrays, ARRAYS));
    TRY_TO(done, comm_agree(c, take_state(t, &from, users)));
    TRY_TO(done, checkpoint_set_aside(c, o->run, from.step));
done:
    checkpoint_found_close(&from);
    return st;
}
