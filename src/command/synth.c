/* collimate synth: worlds whose preferences are known, so that claims can be tested against the truth.
 *
 * text    JSON Lines records of the text world (synth_text.h), the same file for any rank count.
 * pairs   two conflicting users on [0, 1] (synth_pairs.h).
 *         CSV: idx, split, reward_a_0, reward_b_0, choice_0, choice_1. One sequence of draws cannot be dealt:
 *         rank 0 draws and writes it.
 */
#include <stdio.h>
#include <stdlib.h>

#include "command/command.h"
#include "data/synth_pairs.h"
#include "data/synth_text.h"
#include "io/ordered.h"
#include "util/log.h"
#include "util/mem.h"

enum { ROUND_ROWS = 4096 };
enum { KIND_PAIRS, KIND_TEXT };

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
                            .marked = (int)s->synth.marked,
                            .noise = s->synth.noise,
                            .noise_similarity = s->synth.noise_similarity,
                            .noise_full_at = s->synth.noise_full_at};
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
