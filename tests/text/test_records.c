/* Record formats: what each gives as prompt, responses and pairs, what is dropped and why, what is refused.
 */
#include "tests/unit.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "text/records.h"

static struct record_text record;

static enum status parse_as(enum record_format format, const char *json) {
    json_t *value;
    assert_int_equal(json_parse(json, strlen(json), "pairs.jsonl, line 7", &value), OK);
    enum status st = record_parse(format, value, "pairs.jsonl, line 7", &record);
    json_decref(value);
    return st;
}

static void parse(const char *json) {
    if (parse_as(FORMAT_AUTO, json) != OK) {
        FAIL("%s: %s", json, status_message()->text);
    }
}

static void expect_pair(const char *json, const char *prompt, const char *chosen, const char *rejected) {
    parse(json);
    assert_null(record.dropped);
    assert_string_equal(record.prompt.data, prompt);
    assert_int_equal(record.n_responses, 2);
    assert_int_equal(record.n_pairs, 1);
    assert_string_equal(record.responses[record.pairs[0].chosen].data, chosen);
    assert_string_equal(record.responses[record.pairs[0].rejected].data, rejected);
    assert_true(record.pairs[0].labeled);
}

static void expect_dropped(const char *json, const char *reason) {
    parse(json);
    if (!record.dropped || strcmp(record.dropped, reason) != 0) {
        FAIL("%s: dropped as %s, expected %s", json, record.dropped ? record.dropped : "(not)", reason);
    }
}

static void expect_refused(enum record_format format, const char *json, const char *words) {
    enum status st = parse_as(format, json);
    if (st != ERR_DATA || !strstr(status_message()->text, words) ||
        !strstr(status_message()->text, "pairs.jsonl, line 7")) {
        FAIL("%s: status %d, %s; expected %s", json, (int)st, status_message()->text, words);
    }
}

static void hh_splits_at_the_last_turn_of_chosen(void **state) {
    (void)state;
    expect_pair("{\"chosen\": \"\\n\\nHuman: a\\n\\nAssistant: b\\n\\nHuman: c\\n\\nAssistant: d e\","
                " \"rejected\": \"\\n\\nHuman: a\\n\\nAssistant: b\\n\\nHuman: c\\n\\nAssistant: f\"}",
                "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:", " d e", " f");
    assert_true(isnan(record.pairs[0].margin) && isnan(record.scores[0]));
    /* A marker inside the rejected response is part of it. */
    expect_pair(
        "{\"chosen\": \"\\n\\nHuman: a\\n\\nAssistant: d\", \"chosen_score\": 5, \"rejected_score\": 2.5,"
        " \"rejected\": \"\\n\\nHuman: a\\n\\nAssistant: f\\n\\nAssistant: g\", \"margin\": 0.5}",
        "\n\nHuman: a\n\nAssistant:", " d", " f\n\nAssistant: g");
    assert_true(record.scores[0] == 5 && record.scores[1] == 2.5 && record.pairs[0].margin == 0.5);
    expect_dropped("{\"chosen\": \"\\n\\nHuman: a\\n\\nAssistant: b\", \"rejected\": \"\\n\\nHuman: A\\n\\n"
                   "Assistant: c\"}",
                   "prompts differ");
    expect_dropped("{\"chosen\": \"\\n\\nHuman: a\\n\\nAssistant: b\", \"rejected\": \"\\n\\nHuman: a\"}",
                   "prompts differ");
    expect_dropped("{\"chosen\": \"\\n\\nHuman: a\\n\\nAssistant: b\", \"rejected\": \"\\n\\nHuman: a\\n\\n"
                   "Assistant: \\n\"}",
                   "empty response");
}

static void strings_are_taken_as_they_are(void **state) {
    (void)state;
    expect_pair("{\"prompt\": \"The sky is\", \"chosen\": \" blue.\", \"rejected\": \" green.\"}",
                "The sky is", " blue.", " green.");
    /* TRL would cut these inside a word. */
    expect_pair("{\"chosen\": \"It is great.\", \"rejected\": \"It is green.\"}", "It is", " great.",
                " green.");
    expect_dropped("{\"prompt\": \"a\", \"chosen\": \"\", \"rejected\": \"b\"}", "empty response");
    parse("{\"prompt\": \"The sky\", \"completion\": \" is\\u0000 blue\"}");
    assert_int_equal(record.n_responses, 1);
    assert_int_equal(record.n_pairs, 0);
    assert_int_equal(record.responses[0].len, 9);
    expect_dropped("{\"prompt\": \"a\", \"completion\": \" b\", \"label\": false}", "label is false");
    const struct {
        const char *label;
        int desirable;
    } labels[] = {{"true", 1}, {"false", 0}, {"1", 1}, {"0", 0}, {"1.0", 1}};
    for (int i = 0; i < COUNT_OF(labels); i++) {
        char json[96];
        snprintf(json, sizeof json, "{\"prompt\": \"a\", \"completion\": \" b\", \"label\": %s}",
                 labels[i].label);
        assert_int_equal(parse_as(FORMAT_UNPAIRED, json), OK);
        assert_true(!record.dropped && record.n_responses == 1 && record.desirable == labels[i].desirable);
    }
    assert_int_equal(parse_as(FORMAT_UNPAIRED, "{\"prompt\": \"a\", \"completion\": \" b\"}"), OK);
    assert_string_equal(record.dropped, "no label");
    expect_refused(FORMAT_UNPAIRED, "{\"prompt\": \"a\", \"completion\": \" b\", \"label\": 2}",
                   "must be true or false");
    parse("{\"prompt\": \"Only this\"}");
    assert_string_equal(record.prompt.data, "Only this");
    assert_int_equal(record.n_responses, 0);
}

#define USER(text) "{\"role\": \"user\", \"content\": \"" text "\"}"
#define BOT(text) "{\"role\": \"assistant\", \"content\": \"" text "\"}"

static void messages_become_a_transcript(void **state) {
    (void)state;
    const char *prompt = "Be kind.\n\nHuman: hi\n\nAssistant:";
    const char *system = "{\"role\": \"system\", \"content\": \"Be kind.\"}";
    struct text json = {0};
    assert_int_equal(text_printf(&json, "{\"prompt\": [%s, %s], \"chosen\": [%s], \"rejected\": [%s]}",
                                 system, USER("hi"), BOT("hello"), BOT("go")),
                     OK);
    expect_pair(json.data, prompt, " hello", " go");
    text_clear(&json);
    assert_int_equal(text_printf(&json, "{\"chosen\": [%s, %s, %s], \"rejected\": [%s, %s, %s]}", system,
                                 USER("hi"), BOT("hello"), system, USER("hi"), BOT("go")),
                     OK);
    expect_pair(json.data, prompt, " hello", " go");
    text_free(&json);
    expect_pair("{\"prompt\": \"hi\", \"chosen\": [" USER("hi") ", " BOT("hello") "], \"rejected\": [" USER(
                    "hi") ", " BOT("go") "]}",
                "\n\nHuman: hi\n\nAssistant:", " hello", " go");
    expect_pair(
        "{\"conversations\": [{\"from\": \"human\", \"value\": \"hi\"}], \"chosen\": {\"from\": \"gpt\", "
        "\"value\": \"hello\"}, \"rejected\": {\"from\": \"gpt\", \"value\": \"go\"}}",
        "\n\nHuman: hi\n\nAssistant:", " hello", " go");
    expect_pair(
        "{\"chosen\": [" USER("a") ", " BOT("b") ", " USER("c") ", " BOT("d") "], \"rejected\": [" USER(
            "a") ", " BOT("b") ", " USER("c") ", {\"role\": \"assistant\", \"content\": [{\"type\": "
                                              "\"text\", \"text\": \"e\"}]}]}",
        "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:", " d", " e");
    parse("{\"messages\": [" USER("a") ", " BOT("b") ", " USER("c") ", " BOT("d") "]}");
    assert_string_equal(record.prompt.data, "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:");
    assert_string_equal(record.responses[0].data, " d");
    parse("{\"prompt\": [" USER("a") "], \"completion\": [" BOT("b") "]}");
    assert_string_equal(record.responses[0].data, " b");
    parse("{\"prompt\": [" USER("a") "]}");
    assert_string_equal(record.prompt.data, "\n\nHuman: a\n\nAssistant:");
}

static void messages_without_a_common_prompt_are_dropped(void **state) {
    (void)state;
    expect_dropped("{\"chosen\": [" USER("a") ", " BOT("b") "], \"rejected\": [" USER("A") ", " BOT("c") "]}",
                   "prompts differ");
    expect_dropped(
        "{\"chosen\": [" USER("a") ", " USER("b") "], \"rejected\": [" USER("a") ", " BOT("c") "]}",
        "last message is not the assistant's");
    expect_dropped(
        "{\"chosen\": [" USER("a") ", " BOT("b") "], \"rejected\": [" USER("a") ", " USER("c") "]}",
        "last message is not the assistant's");
    expect_dropped("{\"chosen\": [" BOT("b") "], \"rejected\": [" BOT("c") "]}", "no prompt");
    expect_dropped("{\"chosen\": [" USER("a") ", " BOT("") "], \"rejected\": [" USER("a") ", " BOT("c") "]}",
                   "empty response");
    expect_dropped("{\"prompt\": [{\"role\": \"tool\", \"content\": \"x\"}], \"chosen\": [" BOT(
                       "b") "], \"rejected\": [" BOT("c") "]}",
                   "unknown role \"tool\"");
}

/* As TRL's extract_prompt has them, where that does not cut inside a word. */
static void a_prompt_is_found_where_the_sides_part(void **state) {
    (void)state;
    expect_pair("{\"chosen\": \"The sky is blue.\", \"rejected\": \"The sky is green.\"}", "The sky is",
                " blue.", " green.");
    assert_true(record.found_prompt);
    expect_pair("{\"chosen\": \"Q: why?\\nA: yes, so\", \"rejected\": \"Q: why?\\nA: no\"}",
                "Q: why?\nA:", " yes, so", " no");
    expect_pair("{\"chosen\": \"Über Öl\", \"rejected\": \"Über Äpfel\"}", "Über", " Öl", " Äpfel");
    expect_pair("{\"chosen\": \"abc def\", \"rejected\": \"abc-def\"}", "abc", " def", "-def");
    expect_pair("{\"chosen\": \"今日は晴れ\", \"rejected\": \"今日は雨\"}", "今日は", "晴れ", "雨");
    expect_pair("{\"chosen\": \"za źdź\", \"rejected\": \"za źle\"}", "za", " źdź", " źle");
    expect_dropped("{\"chosen\": \"yes\", \"rejected\": \"no\"}",
                   "chosen and rejected begin with nothing in common");
    expect_dropped("{\"chosen\": \"same it is\", \"rejected\": \"same it is\"}",
                   "chosen and rejected are equal, and there is no prompt");
    expect_dropped("{\"question\": \"q\", \"chosen\": \"a b\", \"rejected\": \"a c\"}",
                   "no \"prompt\" beside chosen and rejected");
    expect_pair("{\"prompt\": \"\", \"chosen\": \"a b\", \"rejected\": \"a c\"}", "", "a b", "a c");
    assert_false(record.found_prompt);
}

static void responses_may_be_several_turns(void **state) {
    (void)state;
    expect_pair("{\"chosen\": [" USER("a") ", " BOT("b") "], \"rejected\": [" USER("a") ", " BOT(
                    "c") ", " USER("d") ", " BOT("e") "]}",
                "\n\nHuman: a\n\nAssistant:", " b", " c\n\nHuman: d\n\nAssistant: e");
    /* A prompt that is given ends where it ends. */
    expect_pair("{\"prompt\": [" USER("a") "], \"chosen\": [" BOT("b") ", " USER("c") ", " BOT(
                    "d") "], \"rejected\": [" BOT("b") ", " USER("c") ", " BOT("e") "]}",
                "\n\nHuman: a\n\nAssistant:", " b\n\nHuman: c\n\nAssistant: d",
                " b\n\nHuman: c\n\nAssistant: e");
    /* Sides that part at a user's turn part before the assistant's. */
    expect_pair("{\"chosen\": [" USER("a") ", " BOT("b") ", " USER("c") ", " BOT(
                    "d") "], \"rejected\": [" USER("a") ", " BOT("b") ", " USER("C") ", " BOT("e") "]}",
                "\n\nHuman: a\n\nAssistant:", " b\n\nHuman: c\n\nAssistant: d",
                " b\n\nHuman: C\n\nAssistant: e");
    parse("{\"prompt\": [" USER("a") "], \"completion\": [" BOT("b") ", " USER("c") ", " BOT("d") "]}");
    assert_string_equal(record.responses[0].data, " b\n\nHuman: c\n\nAssistant: d");
    expect_dropped("{\"prompt\": [" USER("a") "], \"completion\": [" USER("b") ", " BOT("c") "]}",
                   "the response does not begin with the assistant's turn");
}

static void alpaca_is_messages(void **state) {
    (void)state;
    parse("{\"instruction\": \"Add.\", \"input\": \"1 2\", \"output\": \"3\", \"text\": \"x\"}");
    assert_string_equal(record.prompt.data, "\n\nHuman: Add.\n1 2\n\nAssistant:");
    assert_string_equal(record.responses[0].data, " 3");
    assert_int_equal(record.n_pairs, 0);
    parse("{\"instruction\": \"Now?\", \"input\": \"\", \"system\": \"Be kind.\", \"history\": "
          "[[\"hi\", \"hello\"]], \"output\": \"3\"}");
    assert_string_equal(record.prompt.data,
                        "Be kind.\n\nHuman: hi\n\nAssistant: hello\n\nHuman: Now?\n\nAssistant:");
    expect_pair("{\"instruction\": \"q\", \"output\": [\"good\", \"bad\"]}",
                "\n\nHuman: q\n\nAssistant:", " good", " bad");
    expect_pair("{\"instruction\": \"q\", \"input\": null, \"chosen\": \"good\", \"rejected\": \"bad\", "
                "\"chosen_score\": 2, \"rejected_score\": 1}",
                "\n\nHuman: q\n\nAssistant:", " good", " bad");
    assert_true(record.scores[0] == 2 && record.scores[1] == 1);
    expect_dropped("{\"instruction\": \"q\", \"output\": null}", "empty response");
    expect_refused(FORMAT_AUTO, "{\"instruction\": \"q\", \"output\": [\"good\"]}", "[chosen, rejected]");
}

static void fields_of_other_names_are_taken(void **state) {
    (void)state;
    parse("{\"text\": \"Once upon a time\"}");
    assert_int_equal(record.prompt.len, 0);
    assert_string_equal(record.responses[0].data, "Once upon a time");
    expect_dropped("{\"text\": \" \"}", "empty text");
    parse("{\"prompt\": \"p\", \"response\": \"r\", \"helpfulness\": 3}");
    assert_string_equal(record.responses[0].data, "r");
    expect_pair(
        "{\"prompt\": \"p\", \"response_0\": \"a\", \"response_1\": \"b\", \"better_response_id\": 1}", "p",
        "b", "a");
    parse("{\"prompt\": \"p\", \"response_0\": \"a\", \"response_1\": \"b\", \"response_2\": null}");
    assert_int_equal(record.n_responses, 2);
    assert_int_equal(record.n_skipped, 1);
    assert_int_equal(record.n_pairs, 0);
    expect_refused(FORMAT_AUTO, "{\"prompt\": \"p\", \"response_0\": \"a\", \"better_response_id\": 1}",
                   "names no response");
}

static void scored_responses_give_all_pairs_of_different_scores(void **state) {
    (void)state;
    parse("{\"prompt\": \"q\", \"responses\": [{\"text\": \"a\", \"score\": 1}, {\"text\": \"\", \"score\": "
          "9}, "
          "{\"text\": \"b\", \"score\": 3}, {\"text\": \"c\", \"score\": 1}, \"d\"]}");
    assert_int_equal(record.n_responses, 4);
    assert_int_equal(record.n_skipped, 1);
    assert_int_equal(record.n_ties, 1);
    assert_int_equal(record.n_pairs, 2);
    assert_int_equal(record.pairs[0].chosen, 1);
    assert_int_equal(record.pairs[0].rejected, 0);
    assert_int_equal(record.pairs[1].chosen, 1);
    assert_int_equal(record.pairs[1].rejected, 2);
    assert_true(isnan(record.scores[3]));
    assert_string_equal(record.responses[1].data, "b");
    expect_dropped("{\"prompt\": \"q\", \"responses\": [\"\", \" \"]}", "empty response");
    struct text many = {0};
    assert_int_equal(text_puts(&many, "{\"prompt\": \"q\", \"responses\": [\"r\""), OK);
    for (int i = 0; i < RECORD_RESPONSES_MAX; i++) {
        assert_int_equal(text_puts(&many, ", \"r\""), OK);
    }
    assert_int_equal(text_puts(&many, "]}"), OK);
    expect_refused(FORMAT_AUTO, many.data, "more than 64 responses");
    text_free(&many);
}

static void shp_is_rendered_as_a_transcript(void **state) {
    (void)state;
    expect_pair("{\"history\": \"why?\", \"human_ref_A\": \"x\", \"human_ref_B\": \"y\", \"labels\": 0, "
                "\"score_A\": 3, \"score_B\": 8}",
                "\n\nHuman: why?\n\nAssistant:", " y", " x");
    assert_true(record.scores[0] == 3 && record.scores[1] == 8);
    expect_pair("{\"history\": \"why?\", \"human_ref_A\": \"x\", \"human_ref_B\": \"y\", \"labels\": 1}",
                "\n\nHuman: why?\n\nAssistant:", " x", " y");
    expect_pair("{\"history\": \"why?\", \"human_ref_A\": \"x\", \"human_ref_B\": \"y\", \"score_A\": 3, "
                "\"score_B\": 8}",
                "\n\nHuman: why?\n\nAssistant:", " y", " x");
    expect_dropped("{\"history\": \"h\", \"human_ref_A\": \"x\", \"human_ref_B\": \"\", \"labels\": 1}",
                   "empty response");
    expect_refused(FORMAT_AUTO,
                   "{\"history\": \"h\", \"human_ref_A\": \"x\", \"human_ref_B\": \"y\", \"labels\": 2}",
                   "labels");
}

#define RATED(text, a, b, c, d)                                                       \
    "{\"response\": \"" text "\", \"annotations\": {\"helpfulness\": {\"Rating\": " a \
    "}, \"honesty\": {\"Rating\": " b "}, \"truthfulness\": {\"Rating\": " c          \
    "}, \"instruction_following\": "                                                  \
    "{\"Rating\": " d "}}}"

static void ultrafeedback_scores_are_mean_ratings(void **state) {
    (void)state;
    parse(
        "{\"instruction\": \"do\", \"completions\": [" RATED("a", "\"1\"", "\"2\"", "3", "\"4\"") ", " RATED(
            "b", "\"5\"", "\"5\"", "\"5\"", "\"4\"") ", " RATED("c", "\"N/A\"", "\"5\"", "\"5\"",
                                                                "\"4\"") "]}");
    assert_int_equal(record.n_responses, 2);
    assert_int_equal(record.n_skipped, 1);
    assert_true(record.scores[0] == 2.5 && record.scores[1] == 4.75);
    assert_int_equal(record.n_pairs, 1);
    assert_int_equal(record.pairs[0].chosen, 1);
    assert_string_equal(record.prompt.data, "\n\nHuman: do\n\nAssistant:");
    assert_string_equal(record.responses[0].data, " a");
}

static void hostile_records_are_refused_by_name(void **state) {
    (void)state;
    expect_refused(FORMAT_AUTO, "[1]", "must be an object");
    expect_refused(FORMAT_HH, "7", "must be an object");
    expect_refused(FORMAT_AUTO, "{\"txt\": \"a\", \"id\": 3}", "the keys: txt, id");
    expect_refused(FORMAT_HH, "{\"chosen\": 3, \"rejected\": \"b\"}", "\"chosen\" must be a string");
    expect_refused(FORMAT_AUTO, "{\"chosen\": [3], \"rejected\": [4]}", "message");
    expect_refused(FORMAT_AUTO, "{\"chosen\": [{\"role\": \"user\"}], \"rejected\": []}", "\"content\"");
    expect_refused(FORMAT_AUTO, "{\"prompt\": 5}", "\"prompt\" must be a string");
    expect_refused(FORMAT_AUTO, "{\"prompt\": [" USER("a") "], \"chosen\": \"b\", \"rejected\": \"c\"}",
                   "\"prompt\" must be a string");
    expect_refused(FORMAT_AUTO, "{\"prompt\": \"a\", \"responses\": {}}", "must be a list");
    expect_refused(FORMAT_AUTO, "{\"prompt\": \"a\", \"responses\": [3]}", "response 0");
    expect_refused(FORMAT_AUTO, "{\"prompt\": \"a\", \"responses\": [{\"text\": \"x\", \"score\": \"y\"}]}",
                   "\"score\" must be a number");
    expect_refused(FORMAT_ULTRAFEEDBACK, "{\"instruction\": \"a\", \"completions\": 3}", "must be a list");
    expect_refused(FORMAT_AUTO,
                   "{\"prompt\": \"a\", \"chosen\": [" BOT("b") "], \"rejected\": [" BOT("c") "]}",
                   "single message");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hh_splits_at_the_last_turn_of_chosen),
        cmocka_unit_test(strings_are_taken_as_they_are),
        cmocka_unit_test(messages_become_a_transcript),
        cmocka_unit_test(messages_without_a_common_prompt_are_dropped),
        cmocka_unit_test(a_prompt_is_found_where_the_sides_part),
        cmocka_unit_test(responses_may_be_several_turns),
        cmocka_unit_test(alpaca_is_messages),
        cmocka_unit_test(fields_of_other_names_are_taken),
        cmocka_unit_test(scored_responses_give_all_pairs_of_different_scores),
        cmocka_unit_test(shp_is_rendered_as_a_transcript),
        cmocka_unit_test(ultrafeedback_scores_are_mean_ratings),
        cmocka_unit_test(hostile_records_are_refused_by_name),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    record_text_free(&record);
    return failed;
}
