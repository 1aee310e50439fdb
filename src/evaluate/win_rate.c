#include "evaluate/win_rate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "evaluate/metrics.h"
#include "evaluate/ratings.h"
#include "util/mem.h"

enum { WIN_RATE, AGREEMENT, FIRST_PLACE, VALUES };

/* A pair of systems, a < b, and its verdicts: order [first, last) of the table. */
struct pairing {
    int32_t a, b;
    int64_t first, last;
    int64_t wins, ties, losses;
};
struct table {
    const struct win_rate_options *options;
    const struct verdicts *verdicts;
    int64_t *order; /* verdicts by pair, then prompt */
    struct pairing *pairs;
    int64_t n;
    struct ratios ratios; /* VALUES of each pair */
};

static const struct verdict *at(const struct table *t, int64_t i) {
    return &t->verdicts->list[t->order[i]];
}
static int32_t low(const struct verdict *v) {
    return v->first < v->second ? v->first : v->second;
}
static int32_t high(const struct verdict *v) {
    return v->first < v->second ? v->second : v->first;
}
/* For b, whichever order the judge saw. */
static double preference(const struct verdict *v) {
    return v->first < v->second ? v->preference : 1 - v->preference;
}

static int compare(const struct verdict *x, const struct verdict *y) {
    if (low(x) != low(y)) {
        return low(x) < low(y) ? -1 : 1;
    }
    if (high(x) != high(y)) {
        return high(x) < high(y) ? -1 : 1;
    }
    return x->prompt < y->prompt ? -1 : x->prompt > y->prompt;
}

/* Sorting by merges keeps the file's order within a prompt, and needs no global for the table. */
static void sort(struct table *t, int64_t *scratch, int64_t first, int64_t last) {
    int64_t middle = first + (last - first) / 2;
    if (last - first < 2) {
        return;
    }
    sort(t, scratch, first, middle);
    sort(t, scratch, middle, last);
    for (int64_t i = first, j = middle, k = first; k < last; k++) {
        bool left = j == last || (i < middle && compare(at(t, i), at(t, j)) <= 0);
        scratch[k] = t->order[left ? i++ : j++];
    }
    memcpy(t->order + first, scratch + first, (size_t)(last - first) * sizeof *scratch);
}

static enum status find_pairs(struct table *t) {
    int64_t n = t->verdicts->n;
    int64_t *scratch = NULL;
    int64_t capacity = 0;
    TRY(NEW_ARRAY(t->order, n));
    TRY(NEW_ARRAY(scratch, n));
    for (int64_t i = 0; i < n; i++) {
        t->order[i] = i;
    }
    sort(t, scratch, 0, n);
    mem_free(scratch);
    for (int64_t i = 0; i < n; i++) {
        struct pairing *last = t->n > 0 ? &t->pairs[t->n - 1] : NULL;
        if (!last || last->a != low(at(t, i)) || last->b != high(at(t, i))) {
            TRY(GROW_ARRAY(t->pairs, capacity, t->n + 1));
            last = &t->pairs[t->n++];
            *last = (struct pairing){.a = low(at(t, i)), .b = high(at(t, i)), .first = i};
        }
        last->last = i + 1;
    }
    return OK;
}

/* Of one verdict that came from both orders: whether the same answer won in each, and how often the first
 * place did. */
static void count_asked(struct table *t, int first, const struct verdict *x) {
    double last = x->in_order[0], shown_first = x->in_order[1];
    bool agree = (last > 0.5) - (last < 0.5) == (shown_first > 0.5) - (shown_first < 0.5);
    ratios_count(&t->ratios, first + AGREEMENT, agree, 1);
    double wins = (last < 0.5) + 0.5 * (last == 0.5) + (shown_first > 0.5) + 0.5 * (shown_first == 0.5);
    ratios_count(&t->ratios, first + FIRST_PLACE, wins, 2);
}

/* Two verdicts on a prompt that saw the answers in other orders. */
static void count_orders(struct table *t, int first, const struct verdict *x, const struct verdict *y) {
    if (x->prompt != y->prompt || x->first != y->second) {
        return;
    }
    ratios_count(&t->ratios, first + AGREEMENT, preference(x) == preference(y), 1);
    ratios_count(&t->ratios, first + FIRST_PLACE, 2 - x->preference - y->preference, 2);
}

static void count_pair(struct table *t, int64_t p) {
    struct pairing *pair = &t->pairs[p];
    int first = (int)p * VALUES;
    for (int64_t i = pair->first; i < pair->last; i++) {
        double won = preference(at(t, i));
        pair->wins += won > 0.5;
        pair->ties += won == 0.5;
        pair->losses += won < 0.5;
        ratios_count(&t->ratios, first + WIN_RATE, won, 1);
        if (at(t, i)->both_orders) {
            count_asked(t, first, at(t, i));
        } else if (i > pair->first) {
            count_orders(t, first, at(t, i - 1), at(t, i));
        }
        if (i + 1 == pair->last || at(t, i + 1)->prompt != at(t, i)->prompt) {
            ratios_end_row(&t->ratios, at(t, i)->prompt);
        }
    }
}

static double corrected(const struct win_rate_options *o, double rate) {
    double x = (rate + o->specificity - 1) / (o->sensitivity + o->specificity - 1);
    return fmin(fmax(x, 0), 1);
}

static enum status put_rate(const struct table *t, const char *name, int v, struct text *out) {
    const struct ratios *r = &t->ratios;
    if (!(ratios_rows(r, v) > 0)) {
        return OK;
    }
    TRY(metrics_put(out, "", name, ratios_value(r, v)));
    if (r->bootstrap.samples > 0) {
        TRY(text_printf(out, ", \"%s/interval\": [", name));
        TRY(text_json_number(out, r->low[v]));
        TRY(text_puts(out, ", "));
        TRY(text_json_number(out, r->high[v]));
        TRY(text_puts(out, "]"));
    }
    return OK;
}

static enum status put_corrected(const struct table *t, int v, struct text *out) {
    const struct win_rate_options *o = t->options;
    if (o->sensitivity == 1 && o->specificity == 1) {
        return OK;
    }
    TRY(metrics_put(out, "", "corrected_win_rate", corrected(o, ratios_value(&t->ratios, v))));
    if (t->ratios.bootstrap.samples > 0) {
        TRY(text_puts(out, ", \"corrected_win_rate/interval\": ["));
        TRY(text_json_number(out, corrected(o, t->ratios.low[v])));
        TRY(text_puts(out, ", "));
        TRY(text_json_number(out, corrected(o, t->ratios.high[v])));
        TRY(text_puts(out, "]"));
    }
    return OK;
}

static enum status put_length_controlled(const struct table *t, const struct pairing *p, struct text *out) {
    struct length_controlled l;
    TRY(length_control(t->verdicts, p->a, p->b, t->options->gamed, &l));
    if (isnan(l.win_rate)) {
        return OK;
    }
    TRY(metrics_put(out, "", "length_controlled_win_rate", l.win_rate));
    return metrics_put(out, "", "length_controlled_win_rate/se", l.standard_error);
}

static enum status put_pair(const struct table *t, int64_t i, struct text *out) {
    const struct pairing *p = &t->pairs[i];
    const char *a = t->verdicts->systems[p->a];
    const char *b = t->verdicts->systems[p->b];
    int first = (int)i * VALUES;
    TRY(text_puts(out, "{\"a\": "));
    TRY(text_json(out, a, strlen(a)));
    TRY(text_puts(out, ", \"b\": "));
    TRY(text_json(out, b, strlen(b)));
    TRY(text_printf(out, ", \"verdicts\": %lld, \"wins\": %lld, \"ties\": %lld, \"losses\": %lld",
                    (long long)(p->last - p->first), (long long)p->wins, (long long)p->ties,
                    (long long)p->losses));
    TRY(put_rate(t, "win_rate", first + WIN_RATE, out));
    TRY(put_corrected(t, first + WIN_RATE, out));
    TRY(put_length_controlled(t, p, out));
    TRY(put_rate(t, "orders_agree", first + AGREEMENT, out));
    TRY(put_rate(t, "first_place_wins", first + FIRST_PLACE, out));
    return text_puts(out, "}");
}

static enum status put_ratings(const struct table *t, struct text *out) {
    struct rating *ratings = NULL;
    const struct verdicts *v = t->verdicts;
    enum status st;
    TRY_TO(done, NEW_ARRAY(ratings, v->n_systems));
    TRY_TO(done, ratings_fit(v, &t->options->intervals, ratings));
    TRY_TO(done, text_puts(out, ", \"ratings\": {"));
    for (int64_t i = 0; i < v->n_systems; i++) {
        TRY_TO(done, text_puts(out, i ? ", " : ""));
        TRY_TO(done, text_json(out, v->systems[i], strlen(v->systems[i])));
        TRY_TO(done, text_puts(out, ": {\"rating\": "));
        TRY_TO(done, text_json_number(out, ratings[i].value));
        TRY_TO(done, text_puts(out, ", \"interval\": ["));
        TRY_TO(done, text_json_number(out, ratings[i].low));
        TRY_TO(done, text_puts(out, ", "));
        TRY_TO(done, text_json_number(out, ratings[i].high));
        TRY_TO(done, text_puts(out, "]}"));
    }
    st = text_puts(out, "}");
done:
    mem_free(ratings);
    return st;
}

static enum status put_all(const struct table *t, struct text *out) {
    TRY(text_puts(out, ", \"pairs\": ["));
    for (int64_t i = 0; i < t->n; i++) {
        TRY(text_puts(out, i ? ", " : ""));
        TRY(put_pair(t, i, out));
    }
    TRY(text_puts(out, "]"));
    return put_ratings(t, out);
}

enum status win_rate_print(const struct win_rate_options *o, const struct verdicts *v, struct text *out) {
    struct table t = {.options = o, .verdicts = v};
    enum status st = find_pairs(&t);
    int64_t n = st == OK ? t.n : 0;
    TRY_TO(done, comm_agree(o->comm, st));
    TRY_TO(done, comm_max_i64(o->comm, &n, 1));
    st = ratios_open(&o->intervals, (int)n * VALUES, &t.ratios);
    TRY_TO(done, comm_agree(o->comm, st));
    ratios_are_shares(&t.ratios, 0, (int)n * VALUES);
    for (int64_t i = 0; i < t.n; i++) {
        count_pair(&t, i);
    }
    TRY_TO(done, ratios_reduce(o->comm, &t.ratios));
    st = comm_agree(o->comm, o->comm->rank == 0 ? put_all(&t, out) : OK);
done:
    ratios_close(&t.ratios);
    mem_free(t.order);
    mem_free(t.pairs);
    return st;
}
