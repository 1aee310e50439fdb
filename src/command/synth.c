/* collimate synth: worlds whose preferences are known, so that claims can be tested against the truth.
 *
 * text    JSON Lines records of the text world (synth_text.h), the same file for any rank count.
 * pairs   two conflicting users on [0, 1] (the generator of neural-process preference models' synthetic
 *         experiment), drawn as NumPy's legacy generator draws it:
 *           rand(N, 2) gives the options a, b of N pairs; user 0's reward is y below 1/2 and 2y from there,
 * user 1's y and 1 - y; rewards are rounded to float32; choice_z is 1 where b's reward is larger, 0 where it
 *           is smaller, and randint(0, 2) on a tie, drawn once per user after that user's rewards; then each
 *           pair's split is drawn: train, val, test with .8, .1, .1.
 *         CSV: idx, split, reward_a_0, reward_b_0, choice_0, choice_1. One sequence of draws cannot be dealt:
 *         rank 0 draws and writes it.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "command/command.h"
#include "command/synth_text.h"
#include "io/ordered.h"
#include "util/log.h"
#include "util/mem.h"
#include "util/rng.h"

enum { ROUND_ROWS = 4096, USERS = 2 };
enum { KIND_PAIRS, KIND_TEXT };

static float reward(int user, double y) {
    double high = user == 0 ? 2 * y : 1 - y;
    return (float)(y < 0.5 ? y : high);
}

/* Rows where a user's two rewards are equal, and what was drawn for them. */
struct ties {
    int64_t *rows;
    uint8_t *choices;
    int64_t count, rows_capacity, choices_capacity;
    int64_t next; /* the first that has not been written yet */
};

struct pair_world {
    int64_t rows;
    struct mt19937 options; /* at the next row's options */
    struct mt19937 splits;  /* at the next row's split */
    struct ties ties[USERS];
    int64_t chosen[USERS], in_split[3];
};

static enum status note_ties(struct pair_world *w, int64_t row, double a, double b) {
    for (int z = 0; z < USERS; z++) {
        struct ties *t = &w->ties[z];
        if (reward(z, a) == reward(z, b)) {
            TRY(GROW_ARRAY(t->rows, t->rows_capacity, t->count + 1));
            t->rows[t->count++] = row;
        }
    }
    return OK;
}

/* Runs ahead of the options to find the ties and the place where the splits begin. */
static enum status pair_world_open(struct pair_world *w, uint32_t seed, int64_t rows) {
    w->rows = rows;
    mt_seed_numpy(&w->options, seed);
    w->splits = w->options;
    for (int64_t i = 0; i < rows; i++) {
        double a = mt_double(&w->splits);
        double b = mt_double(&w->splits);
        TRY(note_ties(w, i, a, b));
    }
    for (int z = 0; z < USERS; z++) {
        struct ties *t = &w->ties[z];
        TRY(GROW_ARRAY(t->choices, t->choices_capacity, t->count));
        for (int64_t i = 0; i < t->count; i++) {
            t->choices[i] = (uint8_t)mt_numpy_below(&w->splits, 2);
        }
    }
    return OK;
}

static void pair_world_close(struct pair_world *w) {
    for (int z = 0; z < USERS; z++) {
        mem_free(w->ties[z].rows);
        mem_free(w->ties[z].choices);
    }
}

/* Shortest decimal that reads back as the same float32. */
static enum status put_float(struct text *out, float v) {
    enum { ALWAYS_ENOUGH = 9 };
    char digits[32];
    for (int precision = 1; precision <= ALWAYS_ENOUGH; precision++) {
        snprintf(digits, sizeof digits, "%.*g", precision, (double)v);
        if (strtof(digits, NULL) == v) {
            break;
        }
    }
    return text_puts(out, digits);
}

static int choose(struct pair_world *w, int user, int64_t row, float a, float b) {
    struct ties *t = &w->ties[user];
    int choice = b > a;
    if (t->next < t->count && t->rows[t->next] == row) {
        choice = t->choices[t->next++];
    }
    w->chosen[user] += choice;
    return choice;
}

static enum status put_pair_row(struct pair_world *w, int64_t row, struct text *out) {
    static const char *const names[] = {"train", "val", "test"};
    double a = mt_double(&w->options);
    double b = mt_double(&w->options);
    double u = mt_double(&w->splits);
    int split = (u >= 0.8) + (u >= 0.8 + 0.1); /* first entry of the cumulative sums above u */
    int choices[USERS];
    for (int z = 0; z < USERS; z++) {
        choices[z] = choose(w, z, row, reward(z, a), reward(z, b));
    }
    w->in_split[split]++;
    TRY(text_printf(out, "%lld,%s,", (long long)row, names[split]));
    TRY(put_float(out, reward(0, a)));
    TRY(text_puts(out, ","));
    TRY(put_float(out, reward(0, b)));
    return text_printf(out, ",%d,%d\n", choices[0], choices[1]);
}

static enum status put_pair_rows(struct pair_world *w, int64_t first, int64_t last, struct text *out) {
    TRY(first == 0 ? text_puts(out, "idx,split,reward_a_0,reward_b_0,choice_0,choice_1\n") : OK);
    for (int64_t row = first; row < last; row++) {
        TRY(put_pair_row(w, row, out));
    }
    return OK;
}

/* Collective. */
static enum status write_pairs(struct run *run, struct ordered_file *file, struct text *report) {
    const struct settings *s = run->settings;
    struct pair_world *w;
    enum status st = NEW_ARRAY(w, 1);
    if (st == OK && run->comm->rank == 0) {
        st = s->seed <= UINT32_MAX
                 ? pair_world_open(w, (uint32_t)s->seed, s->synth.rows)
                 : fail(ERR_USAGE, "seed: synth.kind=pairs takes seeds below 2^32, as NumPy does");
    }
    struct text text = {0};
    for (int64_t first = 0; first < s->synth.rows; first += ROUND_ROWS) {
        int64_t last = first + ROUND_ROWS < s->synth.rows ? first + ROUND_ROWS : s->synth.rows;
        text_clear(&text);
        if (st == OK && run->comm->rank == 0) {
            st = put_pair_rows(w, first, last, &text);
        }
        TRY_TO(done, ordered_append(file, st, text.data, text.len));
    }
    st = text_printf(
        report,
        "%lld pairs; splits %lld train, %lld val, %lld test; user 0 prefers b in %lld, user 1 in %lld",
        (long long)s->synth.rows, (long long)w->in_split[0], (long long)w->in_split[1],
        (long long)w->in_split[2], (long long)w->chosen[0], (long long)w->chosen[1]);
done:
    text_free(&text);
    if (w) {
        pair_world_close(w);
    }
    mem_free(w);
    return st;
}

static enum status put_text_rows(const struct synth_world *w, struct range rows, struct text *out,
                                 struct synth_counts *counts) {
    for (int64_t row = rows.first; row < rows.last; row++) {
        TRY(synth_text_row(w, row, out, counts));
    }
    return OK;
}

/* Collective. */
static enum status report_text(struct comm *c, const struct synth_world *w, struct synth_counts *counts,
                               struct text *report) {
    int64_t whole[] = {counts->rows, counts->flipped};
    TRY(comm_sum_i64(c, whole, COUNT_OF(whole)));
    TRY(comm_sum_f64(c, &counts->similarity, 1));
    int64_t labels = whole[0] * (w->responses - 1);
    return text_printf(
        report, "%lld records of %d responses; %lld of %lld labels turned (%.2f %%); mean similarity %.3f",
        (long long)whole[0], w->responses, (long long)whole[1], (long long)labels,
        100.0 * (double)whole[1] / (double)labels, counts->similarity / (double)whole[0]);
}

/* Collective. */
static enum status write_text(struct run *run, struct ordered_file *file, struct text *report) {
    const struct settings *s = run->settings;
    struct synth_world w = {.seed = (uint64_t)s->seed,
                            .rule = (enum synth_rule)s->synth.rule,
                            .responses = (int)s->synth.responses,
                            .length = (int)s->synth.length,
                            .noise = s->synth.noise,
                            .noise_similarity = s->synth.noise_similarity};
    struct synth_counts counts = {0};
    struct text text = {0};
    enum status st = OK;
    int64_t round = (int64_t)ROUND_ROWS * run->comm->size;
    struct progress progress;
    progress_start(&progress, "synth", "rows", (double)s->synth.rows);
    for (int64_t first = 0; first < s->synth.rows && st == OK; first += round) {
        int64_t rows = s->synth.rows - first < round ? s->synth.rows - first : round;
        struct range mine = range_part(rows, run->comm->rank, run->comm->size);
        mine.first += first;
        mine.last += first;
        text_clear(&text);
        st = put_text_rows(&w, mine, &text, &counts);
        st = ordered_append(file, st, text.data, text.len);
        progress_update(&progress, (double)(first + rows), NULL);
    }
    progress_end(&progress, (double)s->synth.rows);
    text_free(&text);
    return st == OK ? report_text(run->comm, &w, &counts, report) : st;
}

enum status command_synth(struct run *run) {
    const struct settings *s = run->settings;
    if (*s->output == '\0') {
        return fail(ERR_USAGE, "output: synth needs the name of the file to write");
    }
    if (run->dry_run) {
        log_root(LOG_INFO, "would write %lld %s to %s", (long long)s->synth.rows,
                 s->synth.kind == KIND_PAIRS ? "pairs (CSV)" : "records (JSON Lines)", s->output);
        return OK;
    }
    struct ordered_file *file;
    TRY(ordered_open(run->comm, s->output, &file));
    struct text report = {0};
    enum status st =
        s->synth.kind == KIND_PAIRS ? write_pairs(run, file, &report) : write_text(run, file, &report);
    if (st == OK) {
        st = ordered_finish(file);
    } else {
        ordered_abandon(file);
    }
    if (st == OK) {
        log_root(LOG_INFO, "%s: %s", s->output, report.data);
    }
    text_free(&report);
    return st;
}
