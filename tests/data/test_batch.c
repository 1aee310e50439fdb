/* The cut of an epoch into updates, slots and forests: nothing dropped, nothing twice, even, and the same for
 * any rank count. Rows' sizes are ragged on purpose. */
#include "tests/unit.h"

#include <string.h>

#include "data/batch.h"
#include "util/mem.h"
#include "util/rng.h"

static struct batch_plan plan_of(int64_t rows, int64_t batch) {
    return (struct batch_plan){
        .rows = rows, .batch = batch, .slots = 8, .micro_tokens = 100, .seed = 7, .shuffle = true};
}

/* Every epoch is a permutation, walked in updates of `batch` rows and one smaller last one. */
static void test_epoch_is_a_permutation(void **state) {
    (void)state;
    enum { ROWS = 103 };
    struct batch_plan p = plan_of(ROWS, 10);
    assert_int_equal(batch_steps(&p), 11);
    int order[2][ROWS];
    for (int epoch = 0; epoch < 2; epoch++) {
        int seen[ROWS] = {0};
        int at = 0;
        for (int64_t step = epoch * 11; step < (epoch + 1) * 11; step++) {
            struct step_place place = batch_place(&p, step);
            assert_int_equal(place.epoch, epoch);
            assert_int_equal(place.count, step % 11 == 10 ? 3 : 10);
            for (int64_t i = 0; i < place.count; i++) {
                int64_t row = batch_row(&p, place.epoch, place.first + i);
                assert_in_range(row, 0, ROWS - 1);
                seen[row]++;
                order[epoch][at++] = (int)row;
            }
        }
        assert_int_equal(at, ROWS);
        for (int i = 0; i < ROWS; i++) {
            assert_int_equal(seen[i], 1);
        }
    }
    assert_memory_not_equal(order[0], order[1], sizeof order[0]);
}

static void test_file_order(void **state) {
    (void)state;
    struct batch_plan p = plan_of(5, 2);
    p.shuffle = false;
    for (int64_t i = 0; i < 5; i++) {
        assert_int_equal(batch_row(&p, 3, i), i);
    }
}

static void ragged(int32_t *cost, int64_t *rows, int n) {
    struct rng rng = rng_stream(1, RNG_CHECK, 0, 0);
    for (int i = 0; i < n; i++) {
        cost[i] = 1 + (int32_t)rng_below(&rng, 50) * (int32_t)rng_below(&rng, 8);
        rows[i] = 1000 + i * 3 % n;
    }
}

/* Longest first onto the lightest slot: worked by hand. */
static void test_deal_by_hand(void **state) {
    (void)state;
    const int32_t cost[] = {3, 9, 3, 5, 4};
    const int64_t rows[] = {40, 10, 20, 30, 50};
    int64_t order[5];
    int64_t first[4];
    assert_int_equal(batch_deal(cost, rows, 5, 3, order, first), OK);
    /* 9 -> slot 0; turns are 0, 2, 1: 5 -> slot 2; 4 -> slot 1; 3 (row 20 before 40) -> slot 1 (4), then slot
     * 2 (5). */
    const int64_t want_first[] = {0, 1, 3, 5};
    const int64_t want_order[] = {1, 4, 2, 3, 0};
    assert_memory_equal(first, want_first, sizeof want_first);
    assert_memory_equal(order, want_order, sizeof want_order);
}

/* All rows dealt once; slots differ by no more than the longest row; what a slot holds does not depend on the
 * order in which the rows are given. */
static void test_deal_is_even_and_stable(void **state) {
    (void)state;
    enum { N = 61, SLOTS = 8 };
    int32_t cost[N];
    int64_t rows[N];
    int64_t order[N];
    int64_t first[SLOTS + 1];
    ragged(cost, rows, N);
    assert_int_equal(batch_deal(cost, rows, N, SLOTS, order, first), OK);
    int seen[N] = {0};
    int64_t least = INT64_MAX;
    int64_t most = 0;
    int32_t longest = 0;
    for (int s = 0; s < SLOTS; s++) {
        int64_t load = 0;
        for (int64_t i = first[s]; i < first[s + 1]; i++) {
            seen[order[i]]++;
            load += cost[order[i]];
            longest = cost[order[i]] > longest ? cost[order[i]] : longest;
        }
        least = load < least ? load : least;
        most = load > most ? load : most;
    }
    for (int i = 0; i < N; i++) {
        assert_int_equal(seen[i], 1);
    }
    assert_true(most - least <= longest);

    int32_t cost_reversed[N];
    int64_t rows_reversed[N];
    int64_t order_reversed[N];
    int64_t first_reversed[SLOTS + 1];
    for (int i = 0; i < N; i++) {
        cost_reversed[i] = cost[N - 1 - i];
        rows_reversed[i] = rows[N - 1 - i];
    }
    assert_int_equal(batch_deal(cost_reversed, rows_reversed, N, SLOTS, order_reversed, first_reversed), OK);
    assert_memory_equal(first, first_reversed, sizeof first);
    for (int i = 0; i < N; i++) {
        assert_int_equal(rows[order[i]], rows_reversed[order_reversed[i]]);
    }
}

/* Fewer rows than slots: empty slots, no row lost. */
static void test_deal_with_empty_slots(void **state) {
    (void)state;
    const int32_t cost[] = {5, 2};
    const int64_t rows[] = {1, 0};
    int64_t order[2];
    int64_t first[9];
    assert_int_equal(batch_deal(cost, rows, 2, 8, order, first), OK);
    assert_int_equal(first[8], 2);
    assert_int_equal(order[0], 0);
    assert_int_equal(order[1], 1);
    assert_int_equal(batch_deal(cost, rows, 0, 8, order, first), OK);
    assert_int_equal(first[8], 0);
}

/* Tokens and rows of each of `ranks` ranks, which own neighbouring slots. */
static void shares(const int32_t *cost, int64_t n, int64_t slots, int ranks, int64_t *tokens, int64_t *rows) {
    int64_t ids[64];
    int64_t order[64];
    int64_t first[64];
    for (int64_t i = 0; i < n; i++) {
        ids[i] = i;
    }
    assert_int_equal(batch_deal(cost, ids, n, slots, order, first), OK);
    for (int r = 0; r < ranks; r++) {
        struct range mine = range_part(slots, r, ranks);
        rows[r] = first[mine.last] - first[mine.first];
        tokens[r] = 0;
        for (int64_t i = first[mine.first]; i < first[mine.last]; i++) {
            tokens[r] += cost[order[i]];
        }
    }
}

/* A batch of few rows feeds every rank as evenly as rows go, also where slots are no power of two; and rows
 * that fall evenly are even in tokens, since ranks take them back and forth. */
static void test_deal_feeds_all_ranks(void **state) {
    (void)state;
    const int32_t cost[] = {80, 70, 60, 50, 40, 30, 20, 10};
    int64_t tokens[8];
    int64_t rows[8];
    for (int ranks = 1; ranks <= 8; ranks *= 2) {
        for (int n = 1; n <= 8; n++) {
            shares(cost, n, 8, ranks, tokens, rows);
            for (int r = 0; r < ranks; r++) {
                assert_in_range(rows[r], n / ranks, (n + ranks - 1) / ranks);
            }
        }
    }
    shares(cost, 8, 8, 2, tokens, rows);
    assert_int_equal(tokens[0], tokens[1]);
    shares(cost, 8, 8, 4, tokens, rows);
    for (int r = 0; r < 4; r++) {
        assert_int_equal(tokens[r], 90);
    }
    shares(cost, 3, 12, 3, tokens, rows);
    for (int r = 0; r < 3; r++) {
        assert_int_equal(rows[r], 1);
    }
}

/* What forests can have at most: never less than what dealing and cutting makes of any update. */
static void test_forest_tokens(void **state) {
    (void)state;
    enum { ROWS = 60 };
    struct lengths lengths;
    int32_t cost[ROWS];
    int64_t rows[ROWS];
    ragged(cost, rows, ROWS);
    assert_int_equal(lengths_open(&lengths, "row"), OK);
    for (int i = 0; i < ROWS; i++) {
        lengths_add(&lengths, cost[i]);
    }
    int32_t sorted[ROWS];
    memcpy(sorted, cost, sizeof sorted);
    for (int i = 0; i < ROWS; i++) {
        for (int k = i + 1; k < ROWS; k++) {
            int32_t larger = sorted[i] > sorted[k] ? sorted[i] : sorted[k];
            sorted[k] = sorted[i] > sorted[k] ? sorted[k] : sorted[i];
            sorted[i] = larger;
        }
    }
    assert_int_equal(lengths_top(&lengths, 3), sorted[0] + sorted[1] + sorted[2]);
    assert_int_equal(lengths_top(&lengths, 1000), lengths.sum);
    struct batch_plan p = plan_of(ROWS, 20);
    p.micro_tokens = 1 << 26;
    for (int ranks = 1; ranks <= 8; ranks *= 2) {
        int64_t tokens[8];
        int64_t n[8];
        int64_t most = batch_forest_tokens(&p, ranks, &lengths);
        assert_true(most <= lengths_top(&lengths, 20));
        for (int at = 0; at < ROWS; at += 20) {
            shares(cost + at, 20, 8, ranks, tokens, n);
            for (int r = 0; r < ranks; r++) {
                assert_true(tokens[r] <= most);
            }
        }
    }
    p.micro_tokens = 1;
    assert_int_equal(batch_forest_tokens(&p, 2, &lengths), lengths.most);
    p.micro_tokens = sorted[0] + 5;
    assert_int_equal(batch_forest_tokens(&p, 2, &lengths), sorted[0] + 5);
    lengths_close(&lengths);
}

static void test_cut(void **state) {
    (void)state;
    const int32_t cost[] = {60, 40, 1, 150, 10, 90, 100};
    int64_t ends[7];
    int64_t n = batch_cut(cost, 7, 100, ends);
    const int64_t want[] = {2, 3, 4, 6, 7};
    assert_int_equal(n, 5);
    assert_memory_equal(ends, want, sizeof want);
    assert_int_equal(batch_cut(cost, 0, 100, ends), 0);
}

static void test_counts_that_cannot_work(void **state) {
    (void)state;
    struct batch_plan p = plan_of(100, 10);
    assert_int_equal(batch_check(&p, 8), OK);
    assert_int_equal(batch_check(&p, 3), OK);
    assert_int_equal(batch_check(&p, 9), ERR_USAGE);
    assert_non_null(strstr(status_message()->text, "at most 8"));
    p.deterministic = true;
    assert_int_equal(batch_check(&p, 4), OK);
    assert_int_equal(batch_check(&p, 3), ERR_USAGE);
    assert_non_null(strstr(status_message()->text, "up to 8"));
    assert_int_equal(batch_check(&p, 16), ERR_USAGE);
    p.slots = 6;
    assert_int_equal(batch_check(&p, 2), ERR_USAGE);
    p = plan_of(0, 10);
    assert_int_equal(batch_check(&p, 1), ERR_DATA);
}

/* A response after an empty prompt has no predictor for its first token. */
static void test_scored(void **state) {
    (void)state;
    const int32_t tokens[] = {1, 2, 3, 4};
    struct sample_response responses[] = {{.tokens = tokens, .count = 3}, {.tokens = tokens, .count = 1}};
    struct sample s = {.n_responses = 2, .prompt = tokens, .prompt_count = 2, .responses = responses};
    assert_int_equal(sample_scored(&s, 0), 3);
    assert_int_equal(sample_tokens(&s), 6);
    assert_true(sample_attention_pairs(&s) == 3 + (6 + 6) + (2 + 1));
    assert_true(sample_hash(&s, 0) != sample_hash(&s, 1));
    uint64_t before = sample_hash(&s, 0);
    s.prompt_count = 1;
    assert_true(sample_hash(&s, 0) != before);
    s.prompt_count = 0;
    assert_int_equal(sample_scored(&s, 0), 2);
    assert_int_equal(sample_scored(&s, 1), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_epoch_is_a_permutation),
        cmocka_unit_test(test_file_order),
        cmocka_unit_test(test_deal_by_hand),
        cmocka_unit_test(test_deal_is_even_and_stable),
        cmocka_unit_test(test_deal_with_empty_slots),
        cmocka_unit_test(test_deal_feeds_all_ranks),
        cmocka_unit_test(test_forest_tokens),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_counts_that_cannot_work),
        cmocka_unit_test(test_scored),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
