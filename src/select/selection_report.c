/* What a selection says about itself: similarities of all candidates and of the selected, rows dropped and
 * why, overlaps with other views. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "data/pair_key.h"
#include "io/file.h"
#include "io/output.h"
#include "select/selection_internal.h"
#include "util/log.h"
#include "util/mem.h"

enum { BINS = 20, BLOCK = 1024, BAR = 40 };

struct distribution {
    int64_t n;
    double sum, squares, least, most;
    int64_t bins[BINS];
};

struct distributions {
    struct distribution all, taken;
    double low, width; /* of the bins */
};

static const char *const drop_names[SELECTION_DROPS] = {
    [DROP_EQUAL_SCORES] = "equal scores",
    [DROP_FEW_RESPONSES] = "prompts with less than two responses",
    [DROP_EQUAL_RESPONSES] = "equal responses",
    [DROP_ASKED] = "asked before",
    [DROP_UNLABELED] = "no label and no scores",
};

static void add(struct distribution *d, double v) {
    d->least = d->n == 0 || v < d->least ? v : d->least;
    d->most = d->n == 0 || v > d->most ? v : d->most;
    d->n++;
    d->sum += v;
    d->squares += v * v;
}

/* Collective. Sums of doubles may round otherwise on other rank counts; they are printed to six digits. */
static enum status merge(struct comm *c, struct distribution *d) {
    double sums[] = {d->sum, d->squares};
    double ends[] = {d->n > 0 ? -d->least : -INFINITY, d->n > 0 ? d->most : -INFINITY};
    TRY(comm_sum_f64(c, sums, 2));
    TRY(comm_max_f64(c, ends, 2));
    TRY(comm_sum_i64(c, &d->n, 1));
    d->sum = sums[0];
    d->squares = sums[1];
    d->least = -ends[0];
    d->most = ends[1];
    return OK;
}

static void count_bin(const struct distributions *d, struct distribution *into, double v) {
    int bin = d->width > 0 ? (int)((v - d->low) / d->width) : 0;
    into->bins[bin < 0 ? 0 : bin >= BINS ? BINS - 1 : bin]++;
}

/* Candidates: every pair of responses over prompts, else the file's pairs that are not dropped. */
static void each_candidate(const struct selection *s,
                           void visit(const struct distributions *, struct distribution *, double),
                           const struct distributions *d, struct distribution *into) {
    for (int64_t i = 0; i < s->n_all; i++) {
        visit(d, into, s->all[i]);
    }
    for (int64_t i = 0; i < s->n && !s->over_prompts; i++) {
        if (!s->candidates[i].is_dropped) {
            visit(d, into, s->candidates[i].similarity);
        }
    }
}

static void visit_add(const struct distributions *d, struct distribution *into, double v) {
    (void)d;
    add(into, v);
}

static enum status distribute(const struct selection *s, struct distributions *d) {
    struct comm *c = s->comm;
    each_candidate(s, visit_add, d, &d->all);
    for (int64_t i = 0; i < s->n; i++) {
        if (s->candidates[i].is_taken) {
            add(&d->taken, s->candidates[i].similarity);
        }
    }
    TRY(merge(c, &d->all));
    TRY(merge(c, &d->taken));
    d->low = d->all.least;
    d->width = (d->all.most - d->all.least) / BINS;
    each_candidate(s, count_bin, d, &d->all);
    for (int64_t i = 0; i < s->n; i++) {
        if (s->candidates[i].is_taken) {
            count_bin(d, &d->taken, s->candidates[i].similarity);
        }
    }
    TRY(comm_sum_i64(c, d->all.bins, BINS));
    return comm_sum_i64(c, d->taken.bins, BINS);
}

static double mean(const struct distribution *d) {
    return d->sum / (double)d->n;
}

static double deviation(const struct distribution *d) {
    double m = mean(d);
    return sqrt(fmax(d->squares / (double)d->n - m * m, 0));
}

static void log_distribution(const char *name, const struct distribution *d) {
    log_root(LOG_INFO, "similarity of %s: %lld pairs, mean %.4f, deviation %.4f, %.4f to %.4f", name,
             (long long)d->n, mean(d), deviation(d), d->least, d->most);
}

static void log_histogram(const struct distributions *d) {
    static const char bar[BAR + 1] = "########################################";
    int64_t most = 1;
    for (int i = 0; i < BINS; i++) {
        most = d->all.bins[i] > most ? d->all.bins[i] : most;
    }
    log_root(LOG_INFO, "  similarity          all  selected");
    for (int i = 0; i < BINS; i++) {
        double low = d->low + i * d->width;
        log_root(LOG_INFO, "  %7.4f %7.4f %8lld  %8lld %.*s", low, low + d->width, (long long)d->all.bins[i],
                 (long long)d->taken.bins[i], (int)(BAR * d->all.bins[i] / most), bar);
    }
}

static enum status print_distribution(const char *name, const struct distribution *d, struct text *out) {
    TRY(text_printf(out,
                    ", \"%s\": {\"pairs\": %lld, \"mean\": %.6f, \"deviation\": %.6f, \"least\": %.6f, "
                    "\"most\": %.6f, \"bins\": [",
                    name, (long long)d->n, mean(d), deviation(d), d->least, d->most));
    for (int i = 0; i < BINS; i++) {
        TRY(text_printf(out, "%s%lld", i ? ", " : "", (long long)d->bins[i]));
    }
    return text_puts(out, "]}");
}

/* Collective. */
static enum status report_similarity(const struct selection *s, struct text *out) {
    struct distributions d = {0};
    if (!s->embeddings) {
        return OK;
    }
    TRY(distribute(s, &d));
    if (d.all.n == 0) {
        return OK;
    }
    log_distribution(s->over_prompts ? "all responses to the same prompt" : "all candidates", &d.all);
    log_distribution("the selected", &d.taken);
    log_histogram(&d);
    TRY(text_printf(out, ", \"similarity\": {\"low\": %.6f, \"bin_width\": %.6f", d.low, d.width));
    TRY(print_distribution("all", &d.all, out));
    TRY(print_distribution("selected", &d.taken, out));
    return text_puts(out, "}");
}

/* Overlaps: unordered pairs of responses. */

/* Local. Pairs of the other view that this rank has selected. */
static enum status count_shared(struct dataset *other, const struct pair_key *mine, int64_t n, int64_t *out) {
    struct range all = {0, dataset_size(other).pairs};
    struct pair pairs[BLOCK];
    *out = 0;
    for (int64_t first = 0; first < all.last; first += BLOCK) {
        struct range rows = range_block(all, first, BLOCK);
        TRY(dataset_pairs(other, rows, pairs));
        for (int64_t i = 0; i < rows.last - rows.first && n > 0; i++) {
            struct pair_key k = pair_key(pairs[i].chosen, pairs[i].rejected);
            *out += bsearch(&k, mine, (size_t)n, sizeof *mine, pair_key_order) != NULL;
        }
    }
    return OK;
}

/* Collective. */
static enum status report_overlap(const struct selection *s, const char *path, const struct pair_key *mine,
                                  int64_t n, struct text *out) {
    struct dataset *other;
    int64_t shared = 0;
    TRY(dataset_open(s->comm, path, &other));
    int64_t total = dataset_size(other).pairs;
    enum status st = dataset_hash(other) == dataset_hash(s->data)
                         ? count_shared(other, mine, n, &shared)
                         : fail(ERR_DATA, "select.compare: %s selects from other data", path);
    dataset_close(other);
    TRY(comm_agree(s->comm, st));
    TRY(comm_sum_i64(s->comm, &shared, 1));
    double either = (double)(s->taken + total - shared);
    log_root(LOG_INFO, "shared with %s: %lld of its %lld pairs", path, (long long)shared, (long long)total);
    TRY(text_puts(out, out->data[out->len - 1] == '[' ? "{\"file\": " : ", {\"file\": "));
    TRY(text_json(out, path, strlen(path)));
    return text_printf(out, ", \"pairs\": %lld, \"shared\": %lld, \"jaccard\": %.6f}", (long long)total,
                       (long long)shared, (double)shared / either);
}

/* Collective. */
static enum status report_overlaps(const struct selection *s, struct text *out) {
    const char *list = s->options->compare;
    struct pair_key *mine = NULL;
    struct names files = {0};
    int64_t n = 0;
    enum status st;
    if (!*list || !s->data) {
        return OK;
    }
    TRY(comm_agree(s->comm, NEW_ARRAY(mine, s->n)));
    for (int64_t i = 0; i < s->n; i++) {
        if (s->candidates[i].is_taken) {
            mine[n++] = pair_key(s->candidates[i].chosen, s->candidates[i].rejected);
        }
    }
    if (n > 0) {
        qsort(mine, (size_t)n, sizeof *mine, pair_key_order);
    }
    st = text_puts(out, ", \"overlap\": [");
    st = comm_agree(s->comm, st == OK ? names_split(&files, list) : st);
    for (int i = 0; i < files.n && st == OK; i++) {
        st = report_overlap(s, files.list[i], mine, n, out);
    }
    names_free(&files);
    mem_free(mine);
    return st == OK ? text_puts(out, "]") : st;
}

static enum status report_clusters(const struct selection *s, struct text *out) {
    int64_t least = INT64_MAX;
    int64_t most = 0;
    if (!s->quota) {
        return OK;
    }
    for (int64_t k = 0; k < s->clusters; k++) {
        least = s->quota[k] < least ? s->quota[k] : least;
        most = s->quota[k] > most ? s->quota[k] : most;
    }
    log_root(LOG_INFO, "balanced over %lld clusters (%lld iterations): %lld to %lld pairs of each",
             (long long)s->clusters, (long long)s->iterations, (long long)least, (long long)most);
    TRY(text_printf(out, ", \"clusters\": %lld, \"iterations\": %lld, \"objective\": %.6g, \"quotas\": [",
                    (long long)s->clusters, (long long)s->iterations, s->objective));
    for (int64_t k = 0; k < s->clusters; k++) {
        TRY(text_printf(out, "%s%lld", k ? ", " : "", (long long)s->quota[k]));
    }
    return text_puts(out, "]");
}

static enum status report_head(const struct selection *s, struct text *out) {
    const char *scope = s->over_prompts ? "prompts" : "pairs";
    log_root(LOG_INFO, "%s: %lld of %lld %s selected (%s)", s->options->strategy, (long long)s->taken,
             (long long)s->total, scope, s->options->data);
    TRY(text_puts(out, "{\"strategy\": "));
    TRY(text_json(out, s->options->strategy, strlen(s->options->strategy)));
    TRY(text_printf(out, ", \"scope\": \"%s\", \"seed\": %lld, \"data\": ", scope,
                    (long long)s->options->seed));
    TRY(text_json(out, s->options->data, strlen(s->options->data)));
    if (s->embeddings) {
        TRY(text_printf(out, ", \"embeddings\": \"%s\", \"model\": \"%016llx\"", s->key.recipe,
                        (unsigned long long)s->key.model));
    }
    TRY(text_printf(out, ", \"candidates\": %lld, \"selected\": %lld, \"unlabeled\": %lld, \"dropped\": {",
                    (long long)s->total, (long long)s->taken, (long long)s->unlabeled));
    for (int i = 0; i < SELECTION_DROPS; i++) {
        if (s->dropped[i] > 0) {
            log_root(LOG_WARN, "dropped %lld: %s", (long long)s->dropped[i], drop_names[i]);
        }
        TRY(text_printf(out, "%s\"%s\": %lld", i ? ", " : "", drop_names[i], (long long)s->dropped[i]));
    }
    if (s->unlabeled > 0) {
        log_root(LOG_WARN,
                 "%lld selected pairs have no label: they are for labeling (select.export), not for training",
                 (long long)s->unlabeled);
    }
    return text_puts(out, "}");
}

/* The report's name where none is given: the result's with another end. */
static enum status report_path(const char *report, const char *beside, struct text *out) {
    if (*report) {
        return text_puts(out, report);
    }
    size_t len = strlen(beside) - (text_ends(beside, ".h5") ? 3 : text_ends(beside, ".jsonl") ? 6 : 0);
    return text_printf(out, "%.*s.json", (int)len, beside);
}

enum status selection_put_report(const struct comm *c, const char *report, const char *beside,
                                 const struct text *text) {
    struct text path = {0};
    enum status st = OK;
    if (c->rank != 0 || !*beside || (!*report && output_is_stream(beside))) {
        return OK;
    }
    TRY_TO(done, report_path(report, beside, &path));
    TRY_TO(done, file_write(path.data, text->data, text->len));
    log_root(LOG_INFO, "%s; report in %s", beside, path.data);
done:
    text_free(&path);
    return st;
}

enum status selection_report(const struct selection *s) {
    struct text out = {0};
    enum status st = report_head(s, &out);
    st = st == OK ? report_clusters(s, &out) : st;
    st = st == OK ? report_similarity(s, &out) : st;
    st = st == OK ? report_overlaps(s, &out) : st;
    st = st == OK ? text_puts(&out, "}\n") : st;
    const struct selection_options *o = s->options;
    st = st == OK ? selection_put_report(s->comm, o->report, *o->output ? o->output : o->export, &out) : st;
    text_free(&out);
    return comm_agree(s->comm, st);
}
