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

static enum status take_state(const struct checkpoint_found *f, struct optimizer *optimizer,
                              struct training_state *state) {
    TRY(json_take_int(f->state, "step", f->path, &state->step));
    TRY(json_take_int(f->state, "total", f->path, &state->total));
    TRY(json_take_int(f->state, "updates", f->path, &optimizer->updates));
    TRY(json_take_number(f->state, "sequence_tokens", f->path, &state->sequence_tokens));
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
