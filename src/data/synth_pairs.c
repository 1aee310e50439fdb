#include "data/synth_pairs.h"

#include "util/mem.h"

float synth_pair_reward(int user, double y) {
    double high = user == 0 ? 2 * y : 1 - y;
    return (float)(y < 0.5 ? y : high);
}

static enum status note_ties(struct synth_pairs *w, int64_t row, double a, double b) {
    for (int z = 0; z < SYNTH_USERS; z++) {
        struct synth_ties *t = &w->ties[z];
        if (synth_pair_reward(z, a) == synth_pair_reward(z, b)) {
            TRY(GROW_ARRAY(t->rows, t->rows_capacity, t->count + 1));
            t->rows[t->count++] = row;
        }
    }
    return OK;
}

/* Runs ahead of the options to find the ties and the place where the splits begin. */
enum status synth_pairs_open(struct synth_pairs *w, int64_t seed, int64_t rows) {
    *w = (struct synth_pairs){0};
    if (seed < 0 || seed > UINT32_MAX) {
        return fail(ERR_USAGE, "seed %lld: the world of two users takes seeds below 2^32, as NumPy does",
                    (long long)seed);
    }
    mt_seed_numpy(&w->options, (uint32_t)seed);
    w->splits = w->options;
    for (int64_t i = 0; i < rows; i++) {
        double a = mt_double(&w->splits);
        double b = mt_double(&w->splits);
        TRY(note_ties(w, i, a, b));
    }
    for (int z = 0; z < SYNTH_USERS; z++) {
        struct synth_ties *t = &w->ties[z];
        TRY(GROW_ARRAY(t->choices, t->choices_capacity, t->count));
        for (int64_t i = 0; i < t->count; i++) {
            t->choices[i] = (uint8_t)mt_numpy_below(&w->splits, 2);
        }
    }
    return OK;
}

void synth_pairs_close(struct synth_pairs *w) {
    for (int z = 0; z < SYNTH_USERS; z++) {
        mem_free(w->ties[z].rows);
        mem_free(w->ties[z].choices);
        w->ties[z] = (struct synth_ties){0};
    }
}

static int choose(struct synth_pairs *w, int user, float a, float b) {
    struct synth_ties *t = &w->ties[user];
    int choice = b > a;
    if (t->next < t->count && t->rows[t->next] == w->next) {
        choice = t->choices[t->next++];
    }
    w->chosen[user] += choice;
    return choice;
}

void synth_pairs_next(struct synth_pairs *w, struct synth_pair *out) {
    out->a = mt_double(&w->options);
    out->b = mt_double(&w->options);
    double u = mt_double(&w->splits);
    out->split = (u >= 0.8) + (u >= 0.8 + 0.1); /* first entry of the cumulative sums above u */
    for (int z = 0; z < SYNTH_USERS; z++) {
        out->choices[z] = choose(w, z, synth_pair_reward(z, out->a), synth_pair_reward(z, out->b));
    }
    w->in_split[out->split]++;
    w->next++;
}
