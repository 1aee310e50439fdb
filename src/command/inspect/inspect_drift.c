/* Embedding drift: what training has done to the vectors of the same responses (REAL, SPEC of the methods:
 * section 3.6). A rank reads its share of the rows in blocks and keeps three numbers for each. */
#include <math.h>
#include <string.h>

#include "command/inspect/inspect.h"
#include "data/sidecar.h"
#include "select/order.h"
#include "select/pairs.h"
#include "util/hash.h"
#include "util/mem.h"

enum { BLOCK_ROWS = 256 };
enum { L2, RELATIVE, COSINE, MEASURES };
static const char *const names[MEASURES] = {"l2", "relative_l2", "cosine"};
static const double quantiles[] = {0, 0.05, 0.25, 0.5, 0.75, 0.95, 1};

struct drift {
    struct sidecar *now, *before;
    struct sidecar_key now_key, before_key;
    uint64_t *keys[MEASURES]; /* of this rank's rows (select/order.h) */
    double sums[MEASURES];
    int64_t n, empty; /* here, then over all ranks */
};

static double length_of(const float *x, int64_t width) {
    double sum = 0;
    for (int64_t d = 0; d < width; d++) {
        sum += (double)x[d] * x[d];
    }
    return sqrt(sum);
}

static double distance_of(const float *x, const float *y, int64_t width) {
    double sum = 0;
    for (int64_t d = 0; d < width; d++) {
        double difference = (double)x[d] - y[d];
        sum += difference * difference;
    }
    return sqrt(sum);
}

static void add_row(struct drift *d, const float *now, const float *before, int64_t width) {
    double length = length_of(before, width);
    if (length == 0 || length_of(now, width) == 0) {
        d->empty++;
        return;
    }
    double values[MEASURES] = {
        [L2] = distance_of(now, before, width), [COSINE] = similarity_cosine(now, before, width)};
    values[RELATIVE] = values[L2] / length;
    for (int m = 0; m < MEASURES; m++) {
        d->keys[m][d->n] = order_key(values[m]);
        d->sums[m] += values[m];
    }
    d->n++;
}

/* Local. */
static enum status read_rows(struct drift *d, struct range part) {
    int64_t width = sidecar_width(d->now);
    float *now = NULL;
    float *before = NULL;
    enum status st;
    TRY_TO(done, NEW_ARRAY(now, BLOCK_ROWS * width));
    TRY_TO(done, NEW_ARRAY(before, BLOCK_ROWS * width));
    for (int m = 0; m < MEASURES; m++) {
        TRY_TO(done, NEW_ARRAY(d->keys[m], part.last - part.first));
    }
    for (int64_t first = part.first; first < part.last; first += BLOCK_ROWS) {
        int64_t rows = part.last - first < BLOCK_ROWS ? part.last - first : BLOCK_ROWS;
        TRY_TO(done, sidecar_read_values(d->now, first, rows, now));
        TRY_TO(done, sidecar_read_values(d->before, first, rows, before));
        for (int64_t i = 0; i < rows; i++) {
            add_row(d, now + i * width, before + i * width, width);
        }
    }
done:
    mem_free(now);
    mem_free(before);
    return st;
}

static enum status open_both(struct drift *d, const char *path, const char *against) {
    TRY(sidecar_open_values(path, 0, -1, &d->now, &d->now_key));
    TRY(sidecar_open_values(against, 0, -1, &d->before, &d->before_key));
    if (d->now_key.data != d->before_key.data || sidecar_rows(d->now) != sidecar_rows(d->before)) {
        return fail(ERR_DATA, "%s and %s hold embeddings of different data", path, against);
    }
    if (strcmp(d->now_key.recipe, d->before_key.recipe) != 0) {
        return fail(ERR_DATA, "%s was embedded as \"%s\", %s as \"%s\": give both the same embed.* keys",
                    path, d->now_key.recipe, against, d->before_key.recipe);
    }
    if (sidecar_width(d->now) != sidecar_width(d->before)) {
        return fail(ERR_DATA, "%s has width %lld, %s has %lld", path, (long long)sidecar_width(d->now),
                    against, (long long)sidecar_width(d->before));
    }
    return OK;
}

static enum status put_text(struct text *out, const char *value) {
    return text_json(out, value, strlen(value));
}

static enum status print_head(const struct drift *d, const char *path, const char *against, struct text *out,
                              struct text *report) {
    char now[17];
    char before[17];
    hash_text(d->now_key.model, now);
    hash_text(d->before_key.model, before);
    TRY(text_printf(out, "drift          from %s (model %s): %lld responses, %lld empty\n", against, before,
                    (long long)d->n, (long long)d->empty));
    TRY(text_printf(out, "%-14s %10s", "", "mean"));
    for (int q = 0; q < COUNT_OF(quantiles); q++) {
        TRY(text_printf(out, " %9.0f%%", 100 * quantiles[q]));
    }
    TRY(text_puts(out, "\n"));
    TRY(text_puts(report, "{\"file\": "));
    TRY(put_text(report, path));
    TRY(text_puts(report, ", \"against\": "));
    TRY(put_text(report, against));
    return text_printf(report,
                       ", \"model\": \"%s\", \"against_model\": \"%s\", \"embeddings\": \"%s\", "
                       "\"responses\": %lld, \"empty\": %lld",
                       now, before, d->now_key.recipe, (long long)d->n, (long long)d->empty);
}

/* Collective. */
static enum status print_measure(struct comm *c, const struct drift *d, int m, int64_t local,
                                 struct text *out, struct text *report) {
    const struct order_keys keys = {.keys = d->keys[m], .n = local};
    double mean = d->sums[m] / (double)d->n;
    enum status st = text_printf(out, "%-14s %10.6g", names[m], mean);
    st = st == OK ? text_printf(report, ", \"%s\": {\"mean\": %.6g, \"quantiles\": {", names[m], mean) : st;
    for (int q = 0; q < COUNT_OF(quantiles); q++) {
        double value = 0;
        TRY(comm_agree(c, st));
        TRY(order_quantile(c, &keys, d->n, quantiles[q], &value));
        st = text_printf(out, " %10.6g", value);
        st = st == OK ? text_printf(report, "%s\"%g\": %.6g", q ? ", " : "", quantiles[q], value) : st;
    }
    st = st == OK ? text_puts(out, "\n") : st;
    st = st == OK ? text_puts(report, "}}") : st;
    return comm_agree(c, st);
}

/* Collective. */
static enum status measure(struct comm *c, struct drift *d, const char *path, const char *against,
                           struct text *out, struct text *report) {
    TRY(comm_agree(c, open_both(d, path, against)));
    TRY(comm_agree(c, read_rows(d, range_part(sidecar_rows(d->now), c->rank, c->size))));
    int64_t local = d->n;
    int64_t counts[] = {d->n, d->empty};
    TRY(comm_sum_i64(c, counts, COUNT_OF(counts)));
    TRY(comm_sum_f64(c, d->sums, MEASURES));
    d->n = counts[0];
    d->empty = counts[1];
    TRY(comm_agree(c, print_head(d, path, against, out, report)));
    for (int m = 0; m < MEASURES && d->n > 0; m++) {
        TRY(print_measure(c, d, m, local, out, report));
    }
    return comm_agree(c, text_puts(report, "}\n"));
}

enum status inspect_drift(struct comm *c, const char *path, const char *against, struct text *out,
                          struct text *report) {
    struct drift d = {0};
    enum status st = measure(c, &d, path, against, out, report);
    for (int m = 0; m < MEASURES; m++) {
        mem_free(d.keys[m]);
    }
    struct sidecar *files[] = {d.now, d.before};
    for (int i = 0; i < COUNT_OF(files); i++) {
        enum status closed = sidecar_close(files[i]);
        st = st == OK ? closed : st;
    }
    return st;
}
