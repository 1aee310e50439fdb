/* Records with right and wrong answers: what stands between prompt and answer, which pairs there are and in
 * which order, how an answer is named, RewardBench 2's ids; what is dropped and refused. */
#include "tests/unit.h"

#include <stdio.h>
#include <string.h>

#include "text/records.h"

static struct record_text record;

static enum status parse_as(enum record_format format, const char *json) {
    json_t *value;
    assert_int_equal(json_parse(json, strlen(json), "line 1", &value), OK);
    enum status st = record_parse(format, value, "line 1", &record);
    json_decref(value);
    return st;
}

static void parse(const char *json) {
    if (parse_as(FORMAT_AUTO, json) != OK) {
        FAIL("%s: %s", json, status_message()->text);
    }
}

/* pairs: chosen and rejected by turns. */
static void expect_pairs(const int *pairs, int n) {
    assert_null(record.dropped);
    assert_int_equal(record.n_pairs, n);
    for (int i = 0; i < n; i++) {
        assert_int_equal(record.pairs[i].chosen, pairs[2 * i]);
        assert_int_equal(record.pairs[i].rejected, pairs[2 * i + 1]);
        assert_true(record.pairs[i].labeled);
    }
}

static void expect_refused(const char *json, const char *words) {
    assert_int_equal(parse_as(FORMAT_AUTO, json), ERR_DATA);
    if (!strstr(status_message()->text, words)) {
        FAIL("%s: %s, not %s", json, status_message()->text, words);
    }
}

static void test_answers(void **state) {
    (void)state;
    parse("{\"prompt\": \"q\", \"choices\": [\"a\", \"b b\", \"c\"], \"answer\": 1, \"subset\": \"s\"}");
    expect_pairs((int[]){1, 0, 1, 2}, 2);
    assert_string_equal(record.prompt.data, "q");
    assert_string_equal(record.responses[1].data, " b b");
    assert_string_equal(record.subset.data, "s");
    parse("{\"prompt\": \"q\", \"choices\": [\"a\", \"b\", \"c\"], \"answer\": \"c\"}");
    expect_pairs((int[]){2, 0, 2, 1}, 2);
    /* Several: the first that is named is the best; one that is named twice counts once. */
    parse("{\"prompt\": \"q\", \"choices\": [\"a\", \"b\", \"c\"], \"answer\": [2, \"a\", 2]}");
    expect_pairs((int[]){2, 1, 0, 1}, 2);
}

static void test_spaces(void **state) {
    (void)state;
    static const char *const prompts[] = {"q", "q ", "q\\n", ""};
    static const char *const expected[] = {" a", "a", "a", "a"};
    for (int i = 0; i < COUNT_OF(prompts); i++) {
        char json[200];
        snprintf(json, sizeof json, "{\"prompt\": \"%s\", \"choices\": [\"a\", \" b\"], \"answer\": 0}",
                 prompts[i]);
        parse(json);
        assert_string_equal(record.responses[0].data, expected[i]);
        assert_string_equal(record.responses[1].data, " b");
    }
    /* Behind messages, which become a transcript, an answer is a turn. */
    parse("{\"prompt\": [{\"role\": \"user\", \"content\": \"q\"}], \"choices\": [\"a\", \"b\"], \"answer\": "
          "0}");
    assert_string_equal(record.prompt.data, "\n\nHuman: q\n\nAssistant:");
    assert_string_equal(record.responses[1].data, " b");
}

static void test_lists(void **state) {
    (void)state;
    parse("{\"prompt\": \"q\", \"chosen\": [\"a\"], \"rejected\": [\"b\", \"c\", \"d\"], \"subset\": "
          "\"Math\", \"id\": 4}");
    expect_pairs((int[]){0, 1, 0, 2, 0, 3}, 3);
    assert_string_equal(record.subset.data, "Math");
    parse("{\"prompt\": \"q\", \"chosen\": [\"a\", \"b\"], \"rejected\": [\"c\"], \"subset\": \"Ties\", "
          "\"id\": \"tied:7\"}");
    expect_pairs((int[]){0, 2, 1, 2}, 2);
    assert_string_equal(record.subset.data, "Ties tied:7");
    parse("{\"prompt\": \"q\", \"chosen\": [\"a\"], \"rejected\": [\"c\"], \"subset\": \"Focus\", \"id\": "
          "\"ref:7\"}");
    assert_string_equal(record.subset.data, "Focus");
    /* Messages are pairs as ever. */
    parse("{\"chosen\": [{\"role\": \"user\", \"content\": \"q\"}, {\"role\": \"assistant\", \"content\": "
          "\"a\"}], "
          "\"rejected\": [{\"role\": \"user\", \"content\": \"q\"}, {\"role\": \"assistant\", \"content\": "
          "\"b\"}]}");
    expect_pairs((int[]){0, 1}, 1);
}

static void test_bad(void **state) {
    (void)state;
    static const char *const dropped[][2] = {
        {"{\"prompt\": \"q\", \"choices\": [\"a\", \" \"], \"answer\": 0}", "empty choice"},
        {"{\"prompt\": \"q\", \"choices\": [\"a\"], \"answer\": 0}", "no wrong choice"},
        {"{\"prompt\": \"q\", \"choices\": [\"a\", \"b\"], \"answer\": []}", "no right choice"},
        {"{\"prompt\": \"q\", \"chosen\": [\"a\"], \"rejected\": []}", "no wrong choice"}};
    for (int i = 0; i < COUNT_OF(dropped); i++) {
        parse(dropped[i][0]);
        assert_non_null(record.dropped);
        assert_string_equal(record.dropped, dropped[i][1]);
    }
    expect_refused("{\"prompt\": \"q\", \"choices\": [\"a\", \"b\"], \"answer\": -1}",
                   "\"answer\" is neither");
    expect_refused("{\"prompt\": \"q\", \"choices\": [\"a\", \"b\"], \"answer\": \"A\"}",
                   "\"answer\" is neither");
    expect_refused("{\"prompt\": \"q\", \"choices\": [\"a\", \"b\"], \"answer\": [0, 9]}",
                   "\"answer\" is neither");
    expect_refused("{\"prompt\": \"q\", \"choices\": {\"a\": 1}, \"answer\": 0}",
                   "\"choices\" must be a list");
    expect_refused("{\"prompt\": \"q\", \"choices\": [\"a\", null], \"answer\": 0}",
                   "must be a list of strings; 1");
    expect_refused("{\"prompt\": \"q\", \"chosen\": [\"a\"], \"rejected\": \"b\"}",
                   "\"rejected\" must be a list");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_answers), cmocka_unit_test(test_spaces),
                                       cmocka_unit_test(test_lists), cmocka_unit_test(test_bad)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    record_text_free(&record);
    return failed;
}
