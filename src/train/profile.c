#include "train/profile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/operation_times.h"
#include "mpi/collective_times.h"
#include "util/clock.h"
#include "util/log.h"

enum { MOST_ROWS = OPERATION_TIMES + COLLECTIVE_TIMES };

enum column { CALLS, SECONDS, FLOPS, BYTES, COLUMNS };
struct timed {
    char name[48];
    bool is_collective, is_beside;
    double sums[COLUMNS]; /* of this rank; then of all */
    double least, most;   /* seconds of a rank */
};

struct table {
    struct timed rows[MOST_ROWS];
    int n;
    double seconds; /* of the slowest rank */
    int ranks;
};

enum status profile_start(struct comm *c, struct backend *b, double *began) {
    enum status st = operation_times_start(b);
    st = st == OK ? collective_times_start(c) : st;
    TRY(comm_agree(c, st));
    *began = clock_seconds();
    return OK;
}

/* Local: all operations, called or not, and the collectives, which are the same ones on every rank. */
static enum status own_rows(const struct comm *c, struct backend *b, struct table *t) {
    struct operation_time operations[OPERATION_TIMES];
    struct collective_time collectives[COLLECTIVE_TIMES];
    int n = collective_times_read(c, collectives); /* first: reading the device's times may wait, not more */
    TRY(operation_times_read(b, operations));
    for (int i = 0; i < OPERATION_TIMES; i++) {
        const struct operation_time *o = &operations[i];
        struct timed *row = &t->rows[t->n++];
        *row = (struct timed){.sums = {(double)o->calls, o->seconds, o->flops, o->bytes}};
        snprintf(row->name, sizeof row->name, "%s", operation_times_name(i));
    }
    for (int i = 0; i < n; i++) {
        const struct collective_time *o = &collectives[i];
        struct timed *row = &t->rows[t->n++];
        *row = (struct timed){.is_collective = true,
                              .is_beside = o->is_beside,
                              .sums = {(double)o->calls, o->seconds, 0, o->bytes}};
        snprintf(row->name, sizeof row->name, "%s %s", o->line, o->kind);
    }
    return OK;
}

/* Collective: sums and extremes over ranks. */
static enum status add_ranks(struct comm *c, struct table *t) {
    double sums[MOST_ROWS * COLUMNS];
    double extremes[2 * MOST_ROWS + 1];
    TRY(comm_same(c, (uint64_t)t->n, "how many kinds of collectives were timed"));
    for (int i = 0; i < t->n; i++) {
        memcpy(&sums[(size_t)i * COLUMNS], t->rows[i].sums, sizeof t->rows[i].sums);
        extremes[2 * i] = t->rows[i].sums[SECONDS];
        extremes[2 * i + 1] = -t->rows[i].sums[SECONDS];
    }
    extremes[2 * t->n] = t->seconds;
    TRY(comm_sum_f64(c, sums, (int64_t)t->n * COLUMNS));
    TRY(comm_max_f64(c, extremes, 2 * (int64_t)t->n + 1));
    for (int i = 0; i < t->n; i++) {
        memcpy(t->rows[i].sums, &sums[(size_t)i * COLUMNS], sizeof t->rows[i].sums);
        t->rows[i].most = extremes[2 * i];
        t->rows[i].least = -extremes[2 * i + 1];
    }
    t->seconds = extremes[2 * t->n];
    t->ranks = c->size;
    return OK;
}

static int by_seconds(const void *a, const void *b) {
    const struct timed *x = a, *y = b;
    return (x->sums[SECONDS] < y->sums[SECONDS]) - (x->sums[SECONDS] > y->sums[SECONDS]);
}

/* 1e9 a second and rank, of what the row counts: its products, or else its memory or messages. */
static double rate_of(const struct timed *row) {
    double amount = row->sums[FLOPS] > 0 ? row->sums[FLOPS] : row->sums[BYTES];
    return row->sums[SECONDS] > 0 ? amount / row->sums[SECONDS] / 1e9 : 0;
}

static void log_row(const struct table *t, const struct timed *row) {
    double mean = row->sums[SECONDS] / t->ranks;
    char rate[32] = "";
    if (rate_of(row) > 0) {
        snprintf(rate, sizeof rate, "  %.3g %s", rate_of(row), row->sums[FLOPS] > 0 ? "GFLOP/s" : "GB/s");
    }
    log_root(LOG_INFO, "  %-26s %9.0f %10.4f %5.1f %% %10.4f %10.4f%s%s", row->name, row->sums[CALLS], mean,
             100 * mean / t->seconds, row->least, row->most, rate, row->is_beside ? "  beside" : "");
}

static enum status put_row(const struct table *t, const struct timed *row, const char *separator,
                           struct text *line) {
    TRY(text_printf(line, "%s\"%s\": {\"calls\": %.0f", separator, row->name, row->sums[CALLS]));
    TRY(metrics_put(line, "", "seconds", row->sums[SECONDS] / t->ranks));
    TRY(metrics_put(line, "", "least", row->least));
    TRY(metrics_put(line, "", "most", row->most));
    TRY(metrics_put(line, "", row->sums[FLOPS] > 0 ? "gflop_per_s" : "gb_per_s", rate_of(row)));
    return text_puts(line, row->is_beside ? ", \"beside\": true}" : "}");
}

static enum status put_rows(const struct table *t, bool collectives, struct text *line) {
    const char *separator = "";
    for (int i = 0; i < t->n; i++) {
        const struct timed *row = &t->rows[i];
        if (row->sums[CALLS] > 0 && row->is_collective == collectives) {
            TRY(put_row(t, row, separator, line));
            separator = ", ";
        }
    }
    return OK;
}

static enum status write_line(const struct table *t, int64_t step, struct metrics_file *metrics) {
    struct text line = {0};
    enum status st;
    TRY_TO(done,
           text_printf(&line, "{\"step\": %lld, \"profile\": {\"ranks\": %d", (long long)step, t->ranks));
    TRY_TO(done, metrics_put(&line, "", "seconds", t->seconds));
    TRY_TO(done, text_puts(&line, ", \"operations\": {"));
    TRY_TO(done, put_rows(t, false, &line));
    TRY_TO(done, text_puts(&line, "}, \"collectives\": {"));
    TRY_TO(done, put_rows(t, true, &line));
    TRY_TO(done, text_puts(&line, "}}"));
    TRY_TO(done, metrics_write(metrics, &line));
done:
    text_free(&line);
    return st;
}

enum status profile_report(struct comm *c, struct backend *b, double began, int64_t step,
                           struct metrics_file *metrics) {
    struct table t = {.seconds = clock_seconds() - began};
    TRY(comm_agree(c, own_rows(c, b, &t)));
    TRY(add_ranks(c, &t));
    qsort(t.rows, (size_t)t.n, sizeof t.rows[0], by_seconds);
    log_root(LOG_INFO,
             "profile of %.3f s on %d rank%s: calls of all, seconds (mean, share, least and most of a rank)",
             t.seconds, t.ranks, t.ranks == 1 ? "" : "s");
    for (int i = 0; i < t.n; i++) {
        if (t.rows[i].sums[CALLS] > 0) {
            log_row(&t, &t.rows[i]);
        }
    }
    return comm_agree(c, c->rank == 0 ? write_line(&t, step, metrics) : OK);
}
