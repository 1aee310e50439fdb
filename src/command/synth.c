/* collimate synth: worlds whose preferences are known, so that claims can be tested against the truth.
 *
 * text    JSON Lines records of the text world (synth_text.h), the same file for any rank count.
 * users   likewise, of the text world of users (synth_users.h): responses with a score for each user.
 * pairs   two conflicting users on [0, 1] (synth_pairs.h).
 *         CSV: idx, split, reward_a_0, reward_b_0, choice_0, choice_1. One sequence of draws cannot be dealt:
 *         rank 0 draws and writes it.
 */
#include <stdio.h>
#include <stdlib.h>

#include "command/command.h"
#include "data/synth_pairs.h"
#include "data/synth_text.h"
#include "data/synth_users.h"
#include "io/ordered.h"
#include "util/log.h"
#include "util/mem.h"

enum { ROUND_ROWS = 4096 };
enum { KIND_PAIRS, KIND_TEXT, KIND_USERS };

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

static enum status put_pair_row(struct synth_pairs *w, int64_t row, struct text *out) {
    static const char *const names[] = {"train", "val", "test"};
    struct synth_pair pair;
    synth_pairs_next(w, &pair);
    TRY(text_printf(out, "%lld,%s,", (long long)row, names[pair.split]));
    TRY(put_float(out, synth_pair_reward(0, pair.a)));
    TRY(text_puts(out, ","));
    TRY(put_float(out, synth_pair_reward(0, pair.b)));
    return text_printf(out, ",%d,%d\n", pair.choices[0], pair.choices[1]);
}

static enum status put_pair_rows(struct synth_pairs *w, int64_t first, int64_t last, struct text *out) {
    TRY(first == 0 ? text_puts(out, "idx,split,reward_a_0,reward_b_0,choice_0,choice_1\n") : OK);
    for (int64_t row = first; row < last; row++) {
        TRY(put_pair_row(w, row, out));
    }
    return OK;
}

/* Collective. */
static enum status write_pairs(struct run *run, struct ordered_file *file, struct text *report) {
    const struct settings *s = run->settings;
    struct synth_pairs *w;
    enum status st = NEW_ARRAY(w, 1);
    if (st == OK && run->comm->rank == 0) {
        st = synth_pairs_open(w, s->seed, s->synth.rows);
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
        synth_pairs_close(w);
    }
    mem_free(w);
    return st;
}

/* A world whose rows are functions of the seed, and what was written of it. */
struct text_world {
    int kind;
    struct synth_world text;
    struct synth_counts text_counts;
    struct synth_users users;
    struct synth_users_counts users_counts;
};

static struct text_world text_world(const struct settings *s) {
    return (struct text_world){.kind = s->synth.kind,
                               .text = {.seed = (uint64_t)s->seed,
                                        .rule = (enum synth_rule)s->synth.rule,
                                        .responses = (int)s->synth.responses,
                                        .length = (int)s->synth.length,
                                        .marked = (int)s->synth.marked,
                                        .noise = s->synth.noise,
                                        .noise_similarity = s->synth.noise_similarity,
                                        .noise_full_at = s->synth.noise_full_at},
                               .users = {.seed = (uint64_t)s->seed,
                                         .users = (int)s->synth.users,
                                         .responses = (int)s->synth.responses,
                                         .length = (int)s->synth.length,
                                         .conflicting = s->synth.conflicting}};
}

static enum status put_text_rows(struct text_world *w, struct range rows, struct text *out) {
    for (int64_t row = rows.first; row < rows.last; row++) {
        TRY(w->kind == KIND_USERS ? synth_users_row(&w->users, row, out, &w->users_counts)
                                  : synth_text_row(&w->text, row, out, &w->text_counts));
    }
    return OK;
}

/* Collective. */
static enum status report_users(struct comm *c, const struct text_world *w, struct text *report) {
    const struct synth_users_counts *counts = &w->users_counts;
    int64_t whole[] = {counts->rows, counts->conflicting, counts->pairs, counts->ties};
    TRY(comm_sum_i64(c, whole, COUNT_OF(whole)));
    TRY(text_printf(report, "%lld records of %d responses, on %lld of which users differ; users",
                    (long long)whole[0], w->users.responses, (long long)whole[1]));
    for (int u = 0; u < w->users.users; u++) {
        TRY(text_printf(report, "%s %s", u ? "," : "", synth_user_name(u)));
    }
    return text_printf(report, "; %lld of %lld choices are ties", (long long)whole[3], (long long)whole[2]);
}

/* Collective. */
static enum status report_text(struct comm *c, const struct text_world *w, struct text *report) {
    const struct synth_counts *counts = &w->text_counts;
    int64_t whole[] = {counts->rows, counts->flipped};
    double similarity = counts->similarity;
    TRY(comm_sum_i64(c, whole, COUNT_OF(whole)));
    TRY(comm_sum_f64(c, &similarity, 1));
    int64_t labels = whole[0] * (w->text.responses - 1);
    return text_printf(
        report, "%lld records of %d responses; %lld of %lld labels turned (%.2f %%); mean similarity %.3f",
        (long long)whole[0], w->text.responses, (long long)whole[1], (long long)labels,
        100.0 * (double)whole[1] / (double)labels, similarity / (double)whole[0]);
}

/* Collective. */
static enum status write_text(struct run *run, struct ordered_file *file, struct text *report) {
    const struct settings *s = run->settings;
    struct text_world w = text_world(s);
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
        st = put_text_rows(&w, mine, &text);
        st = ordered_append(file, st, text.data, text.len);
        progress_update(&progress, (double)(first + rows), NULL);
    }
    progress_end(&progress, (double)s->synth.rows);
    text_free(&text);
    TRY(st);
    return w.kind == KIND_USERS ? report_users(run->comm, &w, report) : report_text(run->comm, &w, report);
}

enum status command_synth(struct run *run) {
    const struct settings *s = run->settings;
    if (*s->output == '\0') {
        return fail(ERR_USAGE, "output: synth needs the name of the file to write");
    }
    if (s->synth.kind == KIND_TEXT && 2 * s->synth.marked > s->synth.length) {
        return fail(ERR_USAGE, "synth.marked: %lld words of %lld (synth.length); half of them at most",
                    (long long)s->synth.marked, (long long)s->synth.length);
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
