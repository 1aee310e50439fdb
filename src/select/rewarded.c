#include "select/rewarded.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "select/asked.h"
#include "select/rewarded_internal.h"
#include "select/selection_internal.h"
#include "util/log.h"
#include "util/mem.h"

enum drop { DROP_LABEL, DROP_REWARD, DROP_SAMPLE, DROPS };
static const char *const drop_names[DROPS] = {"no label", "no reward, score or margin",
                                              "a sample has a higher reward"};

/* A pair that is left. */
struct left {
    double margin;
    int64_t row;
};

struct job {
    const struct rewarded_options *options;
    struct dataset *data;
    struct rewards rewards;
    bool is_filter;
    struct left *list; /* this rank's, then all */
    int64_t n, capacity, candidates, wanted;
    int64_t dropped[DROPS], unsampled;
};

bool rewarded_knows(const char *strategy) {
    return strcmp(strategy, "filtered") == 0 || strcmp(strategy, "curriculum") == 0;
}

/* Whether a pair stays; *margin: chosen's reward above rejected's. */
static enum status look_at(struct job *j, const struct pair *p, double *margin, bool *stays) {
    double chosen = j->rewards.of[p->chosen], rejected = j->rewards.of[p->rejected];
    bool is_known = isfinite(chosen) && (j->is_filter || isfinite(rejected));
    enum drop why = DROPS;
    *margin = is_known ? chosen - rejected : (double)p->margin;
    if (p->label != 1) {
        why = DROP_LABEL;
    } else if (!is_known && (j->is_filter || isnan(p->margin))) {
        why = DROP_REWARD;
    } else if (j->is_filter) {
        struct response r;
        TRY(dataset_response(j->data, p->chosen, &r));
        j->unsampled += !isfinite(j->rewards.best[r.prompt]);
        why = j->rewards.best[r.prompt] > chosen ? DROP_SAMPLE : DROPS;
    }
    *stays = why == DROPS;
    j->dropped[why == DROPS ? 0 : why] += why != DROPS;
    return OK;
}

static enum status look_at_all(struct job *j) {
    struct pair pairs[SELECTION_BLOCK];
    const struct comm *c = j->options->comm;
    struct range part = range_part(j->candidates, c->rank, c->size);
    for (int64_t first = part.first; first < part.last; first += SELECTION_BLOCK) {
        struct range rows = range_block(part, first, SELECTION_BLOCK);
        TRY(dataset_pairs(j->data, rows, pairs));
        for (int64_t i = 0; i < rows.last - rows.first; i++) {
            double margin;
            bool stays;
            TRY(look_at(j, &pairs[i], &margin, &stays));
            if (stays) {
                TRY(GROW_ARRAY(j->list, j->capacity, j->n + 1));
                j->list[j->n++] = (struct left){margin, rows.first + i};
            }
        }
    }
    return OK;
}

/* The largest margin first; equal ones in the file's order. */
static int easy_first(const void *a, const void *b) {
    const struct left *x = a;
    const struct left *y = b;
    return x->margin != y->margin ? (x->margin > y->margin ? -1 : 1) : (x->row > y->row) - (x->row < y->row);
}

/* Collective. All ranks' pairs, in the order of the view. */
static enum status gather(struct job *j) {
    const struct rewarded_options *o = j->options;
    struct left *all;
    int64_t n;
    TRY(comm_gather_all(o->comm, j->list, j->n, sizeof *all, &all, &n));
    mem_free(j->list);
    j->list = all;
    j->n = n;
    if (n == 0) {
        return fail(ERR_DATA, "%s: no pair is left to select", o->data);
    }
    if (!j->is_filter) {
        qsort(all, (size_t)n, sizeof *all, easy_first);
    }
    j->wanted = o->count > 0 ? o->count : (int64_t)(o->fraction * (double)n);
    if (j->wanted < 1 || j->wanted > n) {
        return fail(ERR_USAGE, "select.%s asks for %lld of the %lld pairs that are left",
                    o->count > 0 ? "count" : "fraction", (long long)j->wanted, (long long)n);
    }
    return OK;
}

/* This rank's part of the view. */
struct part {
    int64_t *chosen, *rejected, *source;
    float *margin;
    int8_t *label;
};

static enum status read_part(struct job *j, struct range range, struct part *out) {
    int64_t n = range.last - range.first;
    TRY(NEW_ARRAY(out->chosen, n));
    TRY(NEW_ARRAY(out->rejected, n));
    TRY(NEW_ARRAY(out->source, n));
    TRY(NEW_ARRAY(out->margin, n));
    TRY(NEW_ARRAY(out->label, n));
    for (int64_t i = 0; i < n; i++) {
        struct pair p;
        TRY(dataset_pair(j->data, j->list[range.first + i].row, &p));
        out->chosen[i] = p.chosen;
        out->rejected[i] = p.rejected;
        out->source[i] = p.source;
        out->margin[i] = p.margin;
        out->label[i] = p.label;
    }
    return OK;
}

/* Collective. */
static enum status write_view(struct job *j) {
    const struct rewarded_options *o = j->options;
    struct range range = range_part(j->wanted, o->comm->rank, o->comm->size);
    struct part part = {0};
    enum status st = comm_agree(o->comm, read_part(j, range, &part));
    if (st == OK) {
        const struct view_pairs pairs = {.n = range.last - range.first,
                                         .chosen = part.chosen,
                                         .rejected = part.rejected,
                                         .source = part.source,
                                         .margin = part.margin,
                                         .label = part.label};
        st = dataset_write_view(o->comm, o->output, o->data, &pairs, o->command);
    }
    mem_free(part.chosen);
    mem_free(part.rejected);
    mem_free(part.source);
    mem_free(part.margin);
    mem_free(part.label);
    return st;
}

static enum status put_margins(const struct job *j, struct text *out) {
    const double margins[] = {j->list[0].margin, j->list[(j->wanted - 1) / 2].margin,
                              j->list[j->wanted - 1].margin};
    static const char *const names[] = {"first", "middle", "last"};
    TRY(text_puts(out, ", \"margin\": {"));
    for (int i = 0; i < COUNT_OF(names); i++) {
        TRY(text_printf(out, "%s\"%s\": ", i ? ", " : "", names[i]));
        TRY(text_json_number(out, margins[i]));
    }
    return text_puts(out, "}");
}

static enum status print(const struct job *j, struct text *out) {
    const struct rewarded_options *o = j->options;
    log_root(LOG_INFO, "%s: %lld of %lld pairs selected (%s)", o->strategy, (long long)j->wanted,
             (long long)j->candidates, o->data);
    TRY(text_printf(out, "{\"strategy\": \"%s\", \"data\": ", o->strategy));
    TRY(text_json(out, o->data, strlen(o->data)));
    TRY(text_printf(out, ", \"candidates\": %lld, \"selected\": %lld, \"dropped\": {",
                    (long long)j->candidates, (long long)j->wanted));
    for (int i = 0; i < DROPS; i++) {
        TRY(text_printf(out, "%s\"%s\": %lld", i ? ", " : "", drop_names[i], (long long)j->dropped[i]));
    }
    TRY(text_puts(out, "}"));
    if (j->is_filter) {
        if (j->unsampled > 0) {
            log_root(LOG_WARN, "%lld pairs have no sample and stay", (long long)j->unsampled);
        }
        TRY(text_printf(out, ", \"without_sample\": %lld", (long long)j->unsampled));
    }
    TRY(j->is_filter ? OK : put_margins(j, out));
    return text_puts(out, "}\n");
}

static enum status report(const struct job *j) {
    const struct rewarded_options *o = j->options;
    struct text text = {0};
    enum status st = print(j, &text);
    st = st == OK ? selection_put_report(o->comm, o->report, o->output, &text) : st;
    text_free(&text);
    return comm_agree(o->comm, st);
}

static enum status run(struct job *j) {
    const struct rewarded_options *o = j->options;
    int64_t counts[DROPS + 1];
    TRY(dataset_open_split(o->comm, o->data, o->split, &j->data));
    TRY(dataset_verify(o->comm, j->data, o->trust_data));
    j->candidates = dataset_size(j->data).pairs;
    if (j->candidates == 0) {
        return fail(ERR_DATA, "%s: no pairs to select from", o->data);
    }
    TRY(rewards_read(o, j->data, &j->rewards));
    TRY(comm_agree(o->comm, look_at_all(j)));
    memcpy(counts, j->dropped, sizeof j->dropped);
    counts[DROPS] = j->unsampled;
    TRY(comm_sum_i64(o->comm, counts, COUNT_OF(counts)));
    memcpy(j->dropped, counts, sizeof j->dropped);
    j->unsampled = counts[DROPS];
    for (int i = 0; i < DROPS; i++) {
        if (j->dropped[i] > 0) {
            log_root(LOG_WARN, "dropped %lld: %s", (long long)j->dropped[i], drop_names[i]);
        }
    }
    TRY(gather(j));
    TRY(*o->output ? write_view(j) : OK);
    return report(j);
}

enum status rewarded_run(const struct rewarded_options *o) {
    struct job j = {.options = o, .is_filter = strcmp(o->strategy, "filtered") == 0};
    if (j.is_filter && !*o->samples) {
        return fail(ERR_USAGE,
                    "select.strategy=filtered: set select.samples to samples of the policy with rewards "
                    "(generate with reward_model: generate.save, or its lines)");
    }
    enum status st = run(&j);
    rewards_free(&j.rewards);
    mem_free(j.list);
    if (j.data) {
        dataset_close(j.data);
    }
    return st;
}
