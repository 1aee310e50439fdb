#include "few_shot/state.h"

#include <math.h>
#include <string.h>

#include "util/json.h"

/* The sequence of users is kept as an array of doubles, which hold 32 bits exactly: the Mersenne Twister's
 * words, then which of them is next. */
enum { WORDS = COUNT_OF(((struct mt19937 *)0)->state), USERS = WORDS + 1, ARRAYS = 6 };

/* Every rank holds all of every array. */
static void arrays_of(const struct few_shot_trainer *t, double users[USERS], struct named out[ARRAYS]) {
    const struct network *m = t->model;
    const int64_t hidden = m->shape.hidden;
    const struct named all[ARRAYS] = {
        {.name = "parameters", .elements = m->count, .host = m->parameters},
        {.name = "first", .elements = m->count, .host = t->adam.first},
        {.name = "second", .elements = m->count, .host = t->adam.second},
        {.name = "running_mean", .elements = hidden, .host = m->running_mean},
        {.name = "running_variance", .elements = hidden, .host = m->running_variance},
        {.name = "users", .elements = USERS, .host = users}};
    memcpy(out, all, sizeof all);
}

enum status few_shot_state_save(const struct few_shot_trainer *t, const struct checkpoint_options *o) {
    struct named arrays[ARRAYS];
    struct checkpoint_contents contents = {.step = t->adam.step, .arrays = arrays, .n_arrays = ARRAYS};
    double users[USERS];
    for (int i = 0; i < WORDS; i++) {
        users[i] = t->train.draws.state[i];
    }
    users[WORDS] = t->train.draws.next;
    arrays_of(t, users, arrays);
    enum status st = text_printf(&contents.state, "\"step\": %lld", (long long)t->adam.step);
    st = checkpoint_save(t->comm, o, &contents, st);
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
    struct named arrays[ARRAYS];
    struct checkpoint_found from;
    double users[USERS];
    arrays_of(t, users, arrays);
    TRY(checkpoint_load(t->comm, o, arrays, ARRAYS, &from));
    enum status st = comm_agree(t->comm, from.path ? take_state(t, &from, users) : OK);
    checkpoint_found_close(&from);
    return st;
}
