/* Records as texts that say how good an answer is: what stands where, what is trained, what is drawn. */
#include "tests/unit.h"

#include <stdio.h>
#include <string.h>

#include "text/hindsight.h"

static struct record_text from, out;

static void parse(enum record_format format, const char *json) {
    json_t *value;
    assert_int_equal(json_parse(json, strlen(json), "line 1", &value), OK);
    assert_int_equal(record_parse(format, value, "line 1", &from), OK);
    json_decref(value);
    assert_null(from.dropped);
}

static const char *text_of(const struct text *t) {
    return t->len ? t->data : "";
}

static void expect(const char *prompt, const char *response) {
    assert_string_equal(text_of(&out.prompt), prompt);
    assert_string_equal(text_of(&out.responses[0]), response);
    assert_int_equal(out.n_pairs, 0);
}

static void test_conditional(void **state) {
    (void)state;
    const struct hindsight h = {.kind = HINDSIGHT_CONDITIONAL, .good = "+", .bad = "-", .is_labelled = true};
    parse(FORMAT_PREFERENCE,
          "{\"prompt\": \"P\", \"chosen\": \" c\", \"rejected\": \" r\", \"subset\": \"s\"}");
    assert_int_equal(hindsight_texts(&h, &from), 2);
    assert_int_equal(hindsight_make(&h, &from, 0, 5, &out), OK);
    expect("P+", " c");
    assert_string_equal(text_of(&out.subset), "s");
    assert_int_equal(hindsight_make(&h, &from, 1, 5, &out), OK);
    expect("P-", " r");
    parse(FORMAT_UNPAIRED, "{\"prompt\": \"P\", \"completion\": \" x\", \"label\": false}");
    assert_int_equal(hindsight_texts(&h, &from), 1);
    assert_int_equal(hindsight_make(&h, &from, 0, 5, &out), OK);
    expect("P-", " x");
    parse(FORMAT_PROMPT, "{\"prompt\": \"P\"}");
    assert_int_equal(hindsight_make(&h, &from, 0, 5, &out), OK);
    expect("P+", "");
    assert_int_equal(out.n_responses, 0);
}

/* Each of the four texts comes, about as often as the others; markers are not trained. */
static void test_chain(void **state) {
    (void)state;
    const struct hindsight h = {.kind = HINDSIGHT_CHAIN, .good = "++", .bad = "-", .seed = 3};
    static const struct {
        const char *prompt, *response;
        size_t begin[2], end[2];
        int answers;
    } texts[4] = {{"P++", " c", {0}, {2}, 1},
                  {"P-", " rr", {0}, {3}, 1},
                  {"P++", " c- rr", {0, 3}, {2, 6}, 2},
                  {"P-", " rr++ c", {0, 5}, {3, 7}, 2}};
    int seen[4] = {0};
    parse(FORMAT_PREFERENCE, "{\"prompt\": \"P\", \"chosen\": \" c\", \"rejected\": \" rr\"}");
    assert_int_equal(hindsight_texts(&h, &from), 1);
    for (int64_t index = 0; index < 400; index++) {
        assert_int_equal(hindsight_make(&h, &from, 0, index, &out), OK);
        int kind = 0;
        while (kind < 4 && strcmp(text_of(&out.responses[0]), texts[kind].response) != 0) {
            kind++;
        }
        assert_true(kind < 4);
        const struct template_ranges *trained = &out.response_marks[0].trained;
        assert_string_equal(text_of(&out.prompt), texts[kind].prompt);
        assert_int_equal(trained->count, texts[kind].answers);
        for (int64_t k = 0; k < trained->count; k++) {
            assert_true(trained->data[k].begin == texts[kind].begin[k] &&
                        trained->data[k].end == texts[kind].end[k]);
        }
        seen[kind]++;
    }
    for (int kind = 0; kind < 4; kind++) {
        assert_in_range(seen[kind], 70, 130);
    }
}

/* Half of the texts are questions, in both orders, for the better and the worse; only their answer is
 * trained. */
static void test_questions(void **state) {
    (void)state;
    const struct hindsight h = {.kind = HINDSIGHT_QUESTIONS, .good = "+", .bad = "-", .seed = 3};
    static const char *const questions[4] = {
        "P\n\nFirst answer: c\n\nSecond answer: rr\n\nWhich answer is better? The answer is the first one.",
        "P\n\nFirst answer: rr\n\nSecond answer: c\n\nWhich answer is better? The answer is the second one.",
        "P\n\nFirst answer: c\n\nSecond answer: rr\n\nWhich answer is worse? The answer is the second one.",
        "P\n\nFirst answer: rr\n\nSecond answer: c\n\nWhich answer is worse? The answer is the first one."};
    int seen[5] = {0};
    parse(FORMAT_PREFERENCE, "{\"prompt\": \"P\", \"chosen\": \" c\", \"rejected\": \" rr\"}");
    assert_int_equal(hindsight_texts(&h, &from), 1);
    for (int64_t index = 0; index < 800; index++) {
        char whole[200];
        int kind = 0;
        assert_int_equal(hindsight_make(&h, &from, 0, index, &out), OK);
        snprintf(whole, sizeof whole, "%s%s", text_of(&out.prompt), text_of(&out.responses[0]));
        while (kind < 4 && strcmp(whole, questions[kind]) != 0) {
            kind++;
        }
        const struct template_ranges *trained = &out.response_marks[0].trained;
        assert_true(kind == 4 || (trained->count == 1 && trained->data[0].begin == 0 &&
                                  trained->data[0].end == out.responses[0].len &&
                                  strncmp(out.responses[0].data, " the ", 5) == 0));
        seen[kind]++;
    }
    for (int kind = 0; kind < 4; kind++) {
        assert_in_range(seen[kind], 70, 130);
    }
    assert_in_range(seen[4], 340, 460);
    record_text_free(&from);
    record_text_free(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_conditional), cmocka_unit_test(test_chain),
                                       cmocka_unit_test(test_questions)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
