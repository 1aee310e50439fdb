#include "evaluate/reward_bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "evaluate/metrics.h"
#include "util/mem.h"

bool reward_bench_applies(const struct dataset_facts *facts) {
    return facts->format && strcmp(facts->format, "chosen_lists") == 0 && facts->n_subsets > 0;
}

bool reward_bench_is_tie(const char *subset, struct reward_bench_tie *tie) {
    static const char *const begins[2] = {"Ties ref:", "Ties tied:"};
    for (int i = 0; i < 2; i++) {
        size_t n = strlen(begins[i]);
        char *end;
        if (strncmp(subset, begins[i], n) == 0 && subset[n] >= '0' && subset[n] <= '9') {
            tie->number = strtoll(subset + n, &end, 10);
            tie->is_tied = i == 1;
            return *end == '\0';
        }
    }
    return false;
}

static bool is_right(const struct sample *s, int32_t response) {
    for (int32_t i = 0; i < s->n_pairs; i++) {
        if (s->pairs[i].chosen == response) {
            return true;
        }
    }
    return false;
}

/* The right answers' part of those that share the maximum. */
static double best_of(const struct sample *s, const double *values) {
    double best = -INFINITY;
    int right = 0, all = 0;
    for (int32_t i = 0; i < s->n_responses; i++) {
        best = fmax(best, values[i]);
    }
    for (int32_t i = 0; i < s->n_responses; i++) {
        all += values[i] == best;
        right += values[i] == best && is_right(s, i);
    }
    return all > 0 ? (double)right / all : 0;
}

static void measure(const struct sample *s, const double *values, struct reward_bench_tie *tie) {
    double best = -INFINITY, worst = INFINITY, wrong = -INFINITY;
    for (int32_t i = 0; i < s->n_responses; i++) {
        if (is_right(s, i)) {
            best = fmax(best, values[i]);
            worst = fmin(worst, values[i]);
        } else {
            wrong = fmax(wrong, values[i]);
        }
    }
    tie->gap = worst - wrong;
    tie->spread = best - worst;
}

enum status reward_bench_count(struct reward_bench *b, struct ratios *r, const struct sample *s,
                               const double *values) {
    struct reward_bench_tie tie = {0};
    if (s->subset < 0 || s->n_pairs == 0) {
        return OK;
    }
    if (!reward_bench_is_tie(b->facts->subsets[s->subset], &tie)) {
        ratios_count(r, b->first + s->subset, best_of(s, values), 1);
        return OK;
    }
    measure(s, values, &tie);
    TRY(GROW_ARRAY(b->ties, b->capacity, b->n + 1));
    b->ties[b->n++] = tie;
    return OK;
}

/* The reference of a number; NULL: there is none. */
static const struct reward_bench_tie *reference_of(const struct reward_bench_tie *ties, int64_t n,
                                                   int64_t number) {
    for (int64_t i = 0; i < n; i++) {
        if (!ties[i].is_tied && ties[i].number == number) {
            return &ties[i];
        }
    }
    return NULL;
}

static double share(double sum, double n) {
    return n > 0 ? sum / n : 0;
}

double reward_bench_ties(const struct reward_bench_tie *ties, int64_t n) {
    double right[2] = {0}, prompts[2] = {0}; /* of references, of ties */
    double preferred = 0, preferred_hard = 0, margin = 0, both = 0;
    for (int64_t i = 0; i < n; i++) {
        const struct reward_bench_tie *t = &ties[i];
        prompts[t->is_tied] += 1;
        right[t->is_tied] += t->gap > 0;
        const struct reward_bench_tie *ref = t->is_tied ? reference_of(ties, n, t->number) : NULL;
        if (ref) {
            double hard = fmin(ref->gap, t->gap), over = tanh(hard / t->spread - 1);
            both += 1;
            preferred += t->gap > t->spread;
            preferred_hard += hard > t->spread;
            margin += isnan(over) ? 0 : over;
        }
    }
    return n == 0 ? NAN
                  : 0.3 * share(right[1], prompts[1]) + 0.3 * share(right[0], prompts[0]) +
                        0.2 * share(preferred, both) + 0.2 * share(preferred_hard, both) +
                        0.01 * share(margin, both);
}

static enum status print(const struct reward_bench *b, const struct ratios *r,
                         const struct reward_bench_tie *ties, int64_t n, struct text *out) {
    static const char *const keys[2] = {"score", "prompts"};
    double sum = 0, score = reward_bench_ties(ties, n);
    int sections = 0;
    TRY(text_puts(out, ", \"reward_bench_2\": {"));
    for (int i = 0; i < b->facts->n_subsets; i++) {
        if (ratios_rows(r, b->first + i) > 0) {
            TRY(sections ? text_puts(out, ", ") : OK);
            TRY(ratios_put_member(r, b->facts->subsets[i], b->first + i, keys, out));
            sum += ratios_value(r, b->first + i);
            sections++;
        }
    }
    if (n > 0) {
        TRY(text_puts(out, sections ? ", \"Ties\": {\"score\": " : "\"Ties\": {\"score\": "));
        TRY(text_json_number(out, score));
        TRY(text_printf(out, ", \"prompts\": %lld}", (long long)n));
        sum += score;
        sections++;
    }
    TRY(metrics_put(out, "", "mean", sum / sections));
    return text_puts(out, "}");
}

enum status reward_bench_print(struct comm *c, const struct reward_bench *b, const struct ratios *r,
                               struct text *out) {
    struct reward_bench_tie *ties;
    int64_t n;
    enum status st = comm_gather_all(c, b->ties, b->n, sizeof *ties, &ties, &n);
    st = st == OK ? comm_agree(c, print(b, r, ties, n, out)) : st;
    mem_free(ties);
    return st;
}

void reward_bench_free(struct reward_bench *b) {
    mem_free(b->ties);
    b->ties = NULL;
}
