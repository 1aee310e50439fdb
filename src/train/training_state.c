#include "train/training_state.h"

#include "util/json.h"

enum { ARRAYS = 4 }; /* at most: the parameters, two states, the reference */

static int arrays_of(const struct optimizer *o, const struct training_state *s, struct named out[ARRAYS]) {
    struct arena *a = o->arena;
    struct tensor states[OPTIMIZER_STATES];
    const char *names[OPTIMIZER_STATES];
    int n = optimizer_state(o, states, names);
    out[0] = (struct named){
        .name = "parameters", .elements = a->elements, .backend = a->backend, .tensor = a->master};
    for (int i = 0; i < n; i++) {
        out[1 + i] = (struct named){.name = names[i],
                                    .elements = a->elements,
                                    .backend = a->backend,
                                    .tensor = states[i],
                                    .shards = optimizer_is_sharded(o) ? &o->shards : NULL};
    }
    if (s->reference) {
        out[1 + n++] = (struct named){.name = "reference",
                                      .elements = s->reference->elements,
                                      .backend = s->reference->backend,
                                      .tensor = s->reference->master};
    }
    return 1 + n;
}

static enum status print_state(const struct optimizer *optimizer, const struct training_state *s,
                               struct text *out) {
    TRY(text_printf(out, "\"step\": %lld, \"total\": %lld, \"updates\": %lld, \"sequence_tokens\": ",
                    (long long)s->step, (long long)s->total, (long long)optimizer->updates));
    TRY(text_json_number(out, s->sequence_tokens));
    for (int i = 0; i < s->n_memory; i++) {
        TRY(text_puts(out, i == 0 ? ", \"memory\": [" : ", "));
        TRY(text_json_number(out, s->memory[i]));
    }
    TRY(s->n_memory > 0 ? text_puts(out, "]") : OK);
    return text_puts(out, ", \"random\": \"stateless: Philox of (seed, purpose, row, step)\"");
}

enum status training_state_save(struct comm *c, const struct checkpoint_options *o,
                                const struct optimizer *optimizer, const struct training_state *state) {
    struct named arrays[ARRAYS];
    struct checkpoint_contents contents = {
        .step = state->step, .arrays = arrays, .n_arrays = arrays_of(optimizer, state, arrays)};
    enum status st = print_state(optimizer, state, &contents.state);
    st = checkpoint_save(c, o, &contents, st);
    text_free(&contents.state);
    return st;
}

static enum status take_memory(const struct checkpoint_found *f, struct training_state *state) {
    const json_t *list = json_object_get(f->state, "memory");
    if (state->n_memory == 0) {
        return OK;
    }
    if (!json_is_array(list) || (int)json_array_size(list) != state->n_memory) {
        return fail(ERR_DATA, "%s: the state's \"memory\" is no list of %d numbers", f->path,
                    state->n_memory);
    }
    for (int i = 0; i < state->n_memory; i++) {
        const json_t *number = json_array_get(list, (size_t)i);
        if (!json_is_number(number)) {
            return fail(ERR_DATA, "%s: the state's \"memory\" holds what is no number", f->path);
        }
        state->memory[i] = json_number_value(number);
    }
    return OK;
}

static enum status take_state(const struct checkpoint_found *f, struct optimizer *optimizer,
                              struct training_state *state) {
    TRY(json_take_int(f->state, "step", f->path, &state->step));
    TRY(json_take_int(f->state, "total", f->path, &state->total));
    TRY(json_take_int(f->state, "updates", f->path, &optimizer->updates));
    TRY(json_take_number(f->state, "sequence_tokens", f->path, &state->sequence_tokens));
    TRY(take_memory(f, state));
    TRY(state->reference ? arena_refresh(state->reference) : OK);
    return arena_refresh(optimizer->arena);
}

enum status training_state_load(struct comm *c, const struct checkpoint_options *o,
                                struct optimizer *optimizer, struct training_state *state, bool *found) {
    struct named arrays[ARRAYS];
    struct checkpoint_found from;
    TRY(checkpoint_load(c, o, arrays, arrays_of(optimizer, state, arrays), &from));
    *found = from.path != NULL;
    enum status st = comm_agree(c, from.path ? take_state(&from, optimizer, state) : OK);
    checkpoint_found_close(&from);
    return st;
}
