/* Pair selection against a plain sort of all rows, for any split of the rows over the ranks; within prompts
 * against trying every pair. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "select/pairs.h"
#include "tests/check.h"
#include "util/mem.h"
#include "util/rng.h"

enum { ROWS = 1003 };

struct entry {
    double value;
    int row;
};
static int by_value_then_row(const void *a, const void *b) {
    const struct entry *x = a;
    const struct entry *y = b;
    return x->value != y->value ? (x->value > y->value) - (x->value < y->value) : x->row - y->row;
}

static void all_similarities(double *out) {
    for (int i = 0; i < ROWS; i++) {
        struct rng r = rng_stream(5, RNG_CHECK, i, 0);
        out[i] = floor(40 * rng_uniform(&r)) / 20 - 1; /* many ties, both signs, zero */
    }
}

static void select_rows(struct comm *c, const char *mix, double fraction, int64_t count, const double *all,
                        bool *out) {
    struct pair_selection s = {.fraction = fraction, .count = count, .seed = 9};
    CHECK(pair_mix_parse(mix, &s.mix) == OK);
    /* Uneven ranges; the last rank of four has none. */
    struct range part = range_part(ROWS, c->rank, c->size);
    if (c->size == 4) {
        int64_t cuts[] = {0, 10, 700, ROWS, ROWS};
        part = (struct range){cuts[c->rank], cuts[c->rank + 1]};
    }
    bool mine[ROWS];
    CHECK(pairs_select(c, &s, all + part.first, part.last - part.first, part.first, mine) == OK);
    int64_t taken[ROWS] = {0};
    for (int64_t i = part.first; i < part.last; i++) {
        taken[i] = mine[i - part.first];
    }
    CHECK(comm_sum_i64(c, taken, ROWS) == OK);
    for (int i = 0; i < ROWS; i++) {
        out[i] = taken[i] != 0;
    }
}

static int count_of(const bool *taken) {
    int n = 0;
    for (int i = 0; i < ROWS; i++) {
        n += taken[i];
    }
    return n;
}

static void test_over_pairs(struct comm *c) {
    double all[ROWS];
    struct entry sorted[ROWS];
    all_similarities(all);
    for (int i = 0; i < ROWS; i++) {
        sorted[i] = (struct entry){all[i], i};
    }
    qsort(sorted, ROWS, sizeof *sorted, by_value_then_row);
    const double fractions[] = {0.5, 0.1, 1, 0.001};
    for (int f = 0; f < COUNT_OF(fractions); f++) {
        int m = (int)floor(fractions[f] * ROWS);
        bool easy[ROWS];
        bool hard[ROWS];
        bool random[ROWS];
        select_rows(c, "easy", fractions[f], 0, all, easy);
        select_rows(c, "hard", fractions[f], 0, all, hard);
        select_rows(c, "random", fractions[f], 0, all, random);
        CHECK(count_of(random) == (int)nearbyint(fractions[f] * ROWS));
        for (int i = 0; i < ROWS; i++) {
            CHECK(easy[sorted[i].row] == (i < m));
            CHECK(hard[sorted[i].row] == (i >= ROWS - m));
            CHECK(fractions[f] > 0.5 || !(easy[i] && hard[i]));
        }
    }
}

static void test_mix_and_count(struct comm *c) {
    double all[ROWS];
    all_similarities(all);
    bool easy[ROWS];
    bool mix[ROWS];
    select_rows(c, "easy", 0, 100, all, easy);
    select_rows(c, "easy:0.5,random:0.25,hard:0.25", 0, 200, all, mix);
    CHECK(count_of(easy) == 100 && count_of(mix) == 200);
    double easy_sum = 0;
    double other_sum = 0;
    for (int i = 0; i < ROWS; i++) {
        CHECK(!easy[i] || mix[i]); /* the easiest hundred are the mix's first half */
        easy_sum += easy[i] ? all[i] : 0;
        other_sum += mix[i] && !easy[i] ? all[i] : 0;
    }
    CHECK(easy_sum / 100 < -0.8);
    CHECK(other_sum / 100 > 0.3); /* half random (mean 0), half at the top */
    struct pair_selection s = {.count = ROWS + 1, .mix = {.n = 1}};
    bool taken[ROWS];
    struct range part = range_part(ROWS, c->rank, c->size);
    CHECK(pairs_select(c, &s, all + part.first, part.last - part.first, part.first, taken) == ERR_USAGE);
    all[17] = NAN;
    s.count = 5;
    CHECK(pairs_select(c, &s, all + part.first, part.last - part.first, part.first, taken) == ERR_DATA);
    CHECK(strstr(status_message()->text, "17") != NULL);
}

static void test_parse(void) {
    struct pair_mix mix;
    CHECK(pair_mix_parse("centroid", &mix) == OK && mix.n == 1 && mix.parts[0].strategy == PAIRS_CENTROID);
    CHECK(pair_mix_parse("eazy", &mix) == ERR_USAGE);
    CHECK(pair_mix_parse("easy:0.5", &mix) == ERR_USAGE);
    CHECK(pair_mix_parse("easy:0.5,hard:0.5,", &mix) == ERR_USAGE);
    CHECK(pair_mix_parse("easy:x,hard:0.5", &mix) == ERR_USAGE);
    CHECK(pair_mix_parse("", &mix) == ERR_USAGE);
}

static enum status within(enum pair_strategy strategy, const float *rows, int n, int64_t width, uint64_t seed,
                          int64_t prompt, int *a, int *b) {
    const struct pair_choices from = {
        .strategy = strategy, .rows = rows, .n = n, .width = width, .seed = seed, .prompt = prompt};
    struct pair_choice choice;
    TRY(pairs_within(&from, &choice));
    *a = choice.a;
    *b = choice.b;
    return OK;
}

/* With pairs taken away one after the other, each strategy goes through all of them once, in its order. */
static void test_skipped(void) {
    enum { N = 6, WIDTH = 4 };
    float rows[N * WIDTH];
    for (int i = 0; i < N * WIDTH; i++) {
        struct rng r = rng_stream(8, RNG_CHECK, i, 0);
        rows[i] = (float)rng_normal(&r);
    }
    for (int strategy = PAIRS_RANDOM; strategy <= PAIRS_CENTROID; strategy++) {
        bool skip[N * N] = {false};
        struct pair_choice choice = {0}, last = {.measure = -INFINITY};
        const struct pair_choices from = {
            .strategy = (enum pair_strategy)strategy, .rows = rows, .n = N, .width = WIDTH, .skip = skip};
        int n = 0;
        for (; n <= N * N; n++) {
            CHECK(pairs_within(&from, &choice) == OK);
            if (choice.a < 0) {
                break;
            }
            CHECK(choice.a < choice.b && choice.b < N && !skip[choice.a * N + choice.b]);
            CHECK(choice.measure >= last.measure);
            skip[choice.a * N + choice.b] = true;
            last = choice;
        }
        CHECK(strategy == PAIRS_CENTROID ? n >= N - 1 && n <= N * N / 4 : n == N * (N - 1) / 2);
    }
}

static void test_within(void) {
    enum { WIDTH = 4, MOST = 9 };
    for (int n = 2; n <= MOST; n++) {
        float rows[MOST * WIDTH];
        struct rng r = rng_stream(6, RNG_CHECK, n, 0);
        for (int i = 0; i < n * WIDTH; i++) {
            rows[i] = (float)rng_normal(&r);
        }
        double least = 2;
        double most = -2;
        for (int i = 0; i < n; i++) {
            for (int j = i + 1; j < n; j++) {
                double cosine = similarity_cosine(rows + i * WIDTH, rows + j * WIDTH, WIDTH);
                least = fmin(least, cosine);
                most = fmax(most, cosine);
            }
        }
        int a;
        int b;
        CHECK(within(PAIRS_EASY, rows, n, WIDTH, 0, n, &a, &b) == OK);
        CHECK(a < b && similarity_cosine(rows + a * WIDTH, rows + b * WIDTH, WIDTH) == least);
        CHECK(within(PAIRS_HARD, rows, n, WIDTH, 0, n, &a, &b) == OK);
        CHECK(a < b && similarity_cosine(rows + a * WIDTH, rows + b * WIDTH, WIDTH) == most);
        CHECK(within(PAIRS_CENTROID, rows, n, WIDTH, 0, n, &a, &b) == OK);
        CHECK(a >= 0 && a < b && b < n);
        int seen = 0;
        for (int prompt = 0; prompt < 400; prompt++) {
            CHECK(within(PAIRS_RANDOM, rows, n, WIDTH, 1, prompt, &a, &b) == OK);
            CHECK(a >= 0 && a < b && b < n);
            seen |= a == 0 && b == n - 1;
        }
        CHECK(seen);
    }
    /* Equal responses: easy and hard are the first pair, centroid still gives two different ones. */
    float equal[3 * WIDTH] = {1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4};
    int a;
    int b;
    CHECK(within(PAIRS_EASY, equal, 3, WIDTH, 0, 0, &a, &b) == OK && a == 0 && b == 1);
    CHECK(within(PAIRS_CENTROID, equal, 3, WIDTH, 0, 0, &a, &b) == OK && a != b);
    /* Two tight pairs: the centers' members come from different groups. */
    float groups[4 * WIDTH] = {1, 0, 0, 0, 0, 1, 0, 0, 1, 0.1f, 0, 0, 0.1f, 1, 0, 0};
    CHECK(within(PAIRS_CENTROID, groups, 4, WIDTH, 0, 0, &a, &b) == OK);
    CHECK(a % 2 != b % 2);
}

int main(int argc, char **argv) {
    struct comm *c;
    if (comm_start(&argc, &argv, &c) != OK) {
        return 1;
    }
    test_parse();
    test_over_pairs(c);
    test_mix_and_count(c);
    test_within();
    test_skipped();
    int64_t all = failures;
    failures = comm_sum_i64(c, &all, 1) == OK ? (int)all : 1;
    comm_finish(c);
    return failures != 0;
}
