/* The text world of users: what a row says of its texts is what the rule says of them, and users differ where
 * they are meant to. */
#include "tests/unit.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

#include "data/synth_users.h"

static json_t *row(const struct synth_users *w, int64_t at, struct synth_users_counts *counts) {
    struct text line = {0};
    assert_int_equal(synth_users_row(w, at, &line, counts), OK);
    json_t *out = json_loads(line.data, 0, NULL);
    assert_non_null(out);
    text_free(&line);
    return out;
}

/* Of each response the scores that the record gives are those that its text has. */
static void check_scores(json_t *record, int users, double (*scores)[SYNTH_USERS_MAX]) {
    json_t *responses = json_object_get(record, "responses");
    for (size_t i = 0; i < json_array_size(responses); i++) {
        json_t *response = json_array_get(responses, i);
        json_t *given = json_object_get(response, "scores");
        synth_users_scores(json_string_value(json_object_get(response, "text")), users, scores[i]);
        assert_int_equal(json_object_size(given), users);
        for (int u = 0; u < users; u++) {
            double said = json_number_value(json_object_get(given, synth_user_name(u)));
            assert_true(fabs(said - scores[i][u]) < 5.1e-5);
        }
    }
}

static void test_rows(void **state) {
    (void)state;
    for (int users = 2; users <= SYNTH_USERS_MAX; users++) {
        struct synth_users w = {.seed = 5, .users = users, .responses = 2, .length = 24, .conflicting = 0.75};
        struct synth_users_counts counts = {0};
        enum { ROWS = 400 };
        int conflicting = 0;
        for (int64_t at = 0; at < ROWS; at++) {
            double scores[2][SYNTH_USERS_MAX];
            json_t *record = row(&w, at, &counts);
            check_scores(record, users, scores);
            int higher = 0;
            double sum = 0;
            for (int u = 0; u < users; u++) {
                assert_true(scores[0][u] != scores[1][u]); /* no ties: there are many counts to choose from */
                higher += scores[1][u] > scores[0][u];
                sum += scores[0][u];
            }
            bool differ = json_is_true(json_object_get(record, "conflicting"));
            assert_int_equal(differ, higher > 0 && higher < users);
            assert_true(!differ || fabs(sum - 1) < 1e-12);
            conflicting += differ;
            json_decref(record);
        }
        assert_int_equal(counts.rows, ROWS);
        assert_int_equal(counts.conflicting, conflicting);
        assert_int_equal(counts.pairs, ROWS * users);
        assert_int_equal(counts.ties, 0);
        assert_true(abs(conflicting - 300) < 4 * 9); /* the binomial's deviation is 8.7 */
    }
}

/* More responses than there are counts: what must be alike is counted. */
static void test_ties(void **state) {
    (void)state;
    struct synth_users w = {.seed = 1, .users = 2, .responses = 5, .length = 4, .conflicting = 1};
    struct synth_users_counts counts = {0};
    double scores[5][SYNTH_USERS_MAX];
    json_t *record = row(&w, 0, &counts);
    int64_t ties = 0;
    check_scores(record, 2, scores);
    for (int i = 0; i < 5; i++) {
        for (int j = 0; j < i; j++) {
            ties += (scores[i][0] == scores[j][0]) + (scores[i][1] == scores[j][1]);
        }
    }
    assert_true(ties >= 4); /* five responses, three counts */
    assert_int_equal(counts.ties, ties);
    assert_int_equal(counts.pairs, 20);
    json_decref(record);
}

static void test_rule(void **state) {
    (void)state;
    double scores[SYNTH_USERS_MAX];
    synth_users_scores(" It was royal, no glad ugly river.", 3, scores); /* "royal," is no word of a class */
    assert_true(scores[0] == .5 && scores[1] == .5 && scores[2] == 0);
    synth_users_scores("clear glad vague vile", 2, scores);
    assert_true(scores[0] == .5 && scores[1] == .5);
    synth_users_scores("clear royal mere", 2, scores); /* two users mind no grand and plain words */
    assert_true(scores[0] == 1 && scores[1] == 1);
    synth_users_scores("", 2, scores);
    assert_true(scores[0] == 0 && scores[1] == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_ties),
        cmocka_unit_test(test_rule),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
