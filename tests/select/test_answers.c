/* Answers that become labels, beside numpy's majorities and Krippendorff's alpha; what cannot be used,
 * counted with its line; what a round trip through a question's line keeps. */
#include "data/question.h"
#include "io/file.h"
#include "select/answers.h"
#include "tests/small_world.h"
#include "util/json.h"
#include "util/log.h"

enum { PROMPTS = 100, PAIRS = 40, SEED = 3 };

struct place {
    char data[96], view[96], report[96], answers[2][96];
};

static void write_world(struct comm *c, const char *path) {
    struct range mine = range_part(PROMPTS, c->rank, c->size);
    struct dataset_part part = world_part(mine.first, mine.last);
    struct dataset_facts facts = world_facts();
    CHECK(dataset_write(c, path, &part, &facts) == OK);
    world_part_free(&part);
}

/* The question about a pair of the fixture: the responses to one prompt. */
static struct question ask(int64_t pair) {
    return question_draw(SEED, 2 * pair + 1, 2 * pair);
}

static enum status put_answer(struct dataset *d, struct question q, const json_t *vote, struct text *out) {
    char digits[9];
    const char *annotator = json_string_value(json_array_get(vote, 1));
    snprintf(digits, sizeof digits, "%08llx", (unsigned long long)(dataset_hash(d) >> 32));
    TRY(text_printf(out, "{\"id\": \"%s-%lld-%lld\", \"preference\": \"%s\"", digits, (long long)q.a,
                    (long long)q.b, json_string_value(json_array_get(vote, 2))));
    return annotator ? text_printf(out, ", \"annotator\": \"%s\"}\n", annotator) : text_puts(out, "}\n");
}

/* The fixture's votes in two files, the second ending with lines of which none can be used. */
static void write_answers(struct dataset *d, const struct place *at, const json_t *fixture) {
    const json_t *votes = json_object_get(fixture, "votes");
    struct text files[2] = {{0}, {0}};
    for (size_t i = 0; i < json_array_size(votes); i++) {
        const json_t *vote = json_array_get(votes, i);
        struct question q = ask(json_integer_value(json_array_get(vote, 0)));
        CHECK(put_answer(d, q, vote, &files[i % 2]) == OK);
    }
    CHECK(text_puts(&files[1], "no answer\n"
                               "{\"id\": \"00000000-2-3\", \"preference\": \"a\"}\n"
                               "{\"id\": \"zzz\", \"preference\": \"a\"}\n"
                               "{\"preference\": \"a\"}\n"
                               "{\"id\": 7}\n[1]\n") == OK);
    CHECK(file_write(at->answers[0], files[0].data, files[0].len) == OK);
    CHECK(file_write(at->answers[1], files[1].data, files[1].len) == OK);
    text_free(&files[0]);
    text_free(&files[1]);
}

static void check_view(struct comm *c, const struct place *at, const json_t *fixture) {
    const json_t *labels = json_object_get(fixture, "labels");
    struct dataset *d;
    CHECK(dataset_open(c, at->view, &d) == OK);
    CHECK(dataset_size(d).pairs == PAIRS);
    for (int64_t i = 0; i < dataset_size(d).pairs; i++) {
        const char *label = json_string_value(json_array_get(labels, (size_t)i));
        struct question q = ask(i);
        struct pair pair;
        CHECK(dataset_pair(d, i, &pair) == OK);
        CHECK(pair.label == (label != NULL));
        if (label) {
            CHECK(pair.chosen == (label[0] == 'a' ? q.a : q.b));
            CHECK(pair.rejected == (label[0] == 'a' ? q.b : q.a));
        }
    }
    dataset_close(d);
}

static double number(const json_t *object, const char *key) {
    const json_t *member = json_object_get(object, key);
    CHECK(json_is_number(member));
    return json_number_value(member);
}

static void check_report(const struct place *at, const json_t *fixture) {
    const json_t *labels = json_object_get(fixture, "labels");
    int64_t labeled = 0;
    json_t *report;
    for (size_t i = 0; i < json_array_size(labels); i++) {
        labeled += json_is_string(json_array_get(labels, i));
    }
    CHECK(json_load(at->report, &report) == OK);
    const json_t *agreement = json_object_get(report, "agreement");
    CHECK(number(report, "labeled") == (double)labeled);
    CHECK(number(report, "labeled") + number(report, "ties") + number(report, "undecided") == PAIRS);
    CHECK(number(report, "answers") == (double)json_array_size(json_object_get(fixture, "votes")));
    CHECK(number(report, "lines") == number(report, "answers") + 6);
    CHECK(number(report, "no_json") == 1 && number(report, "other_data") == 1 &&
          number(report, "no_id") == 4);
    CHECK(number(report, "possible_pairs") == world_pairs_before(PROMPTS));
    CHECK(fabs(number(report, "prefer_a") - number(fixture, "prefer_a")) < 1e-12);
    CHECK(number(agreement, "pairs") == number(fixture, "several"));
    CHECK(fabs(number(agreement, "share") - number(fixture, "share")) < 1e-12);
    CHECK(fabs(number(agreement, "krippendorff_alpha") - number(fixture, "alpha")) < 1e-12);
    json_decref(report);
}

static void test_fixture(struct comm *c, const struct place *at) {
    json_t *fixture;
    struct dataset *d;
    char both[200];
    CHECK(json_load(FIXTURES "/answers.json", &fixture) == OK);
    CHECK(dataset_open(c, at->data, &d) == OK);
    if (c->rank == 0) {
        write_answers(d, at, fixture);
    }
    dataset_close(d);
    CHECK(comm_barrier(c) == OK);
    snprintf(both, sizeof both, "%s,%s", at->answers[0], at->answers[1]);
    const struct answers_options options = {
        .comm = c, .data = at->data, .answers = both, .output = at->view, .report = "", .command = "test"};
    CHECK(answers_run(&options) == OK);
    check_view(c, at, fixture);
    check_report(at, fixture);
    json_decref(fixture);
}

/* One annotator who changes his mind, and one who has none. */
static void test_again(struct comm *c, const struct place *at) {
    struct dataset *d;
    struct text lines = {0};
    struct pair pair;
    json_t *report;
    CHECK(dataset_open(c, at->data, &d) == OK);
    static const char *const votes[] = {"[0, \"x\", \"a\"]", "[0, \"y\", \"tie\"]", "[0, \"x\", \"b\"]",
                                        "[0, \"x\", \"b\"]", "[0, \"z\", \"b\"]",   "[0, null, \"A\"]"};
    for (int i = 0; i < COUNT_OF(votes); i++) {
        json_t *vote = json_loads(votes[i], 0, NULL);
        CHECK(put_answer(d, ask(9), vote, &lines) == OK);
        json_decref(vote);
    }
    dataset_close(d);
    CHECK(c->rank > 0 || file_write(at->answers[0], lines.data, lines.len) == OK);
    CHECK(comm_barrier(c) == OK);
    text_free(&lines);
    struct answers_options options = {.comm = c,
                                      .data = at->data,
                                      .answers = at->answers[0],
                                      .output = at->view,
                                      .report = "",
                                      .command = "test"};
    CHECK(answers_run(&options) == OK);
    CHECK(dataset_open(c, at->view, &d) == OK);
    CHECK(dataset_size(d).pairs == 1 && dataset_pair(d, 0, &pair) == OK);
    CHECK(pair.label == 1 && pair.chosen == ask(9).b); /* b: 2, a: 1, tie: 1 */
    dataset_close(d);
    CHECK(json_load(at->report, &report) == OK);
    CHECK(number(report, "answers") == 4 && number(report, "answered_again") == 2);
    json_decref(report);
    CHECK(comm_barrier(c) == OK);
    CHECK(c->rank > 0 || file_write(at->answers[0], "{}\n", 3) == OK);
    CHECK(comm_barrier(c) == OK);
    CHECK(answers_run(&options) == ERR_DATA);
    CHECK(strstr(status_message()->text, "no answer gives a label"));
}

/* Lines with a few characters changed: each is an answer, or counted for a reason. */
static void test_changed_lines(struct comm *c, const struct place *at) {
    enum { LINES = 400 };
    static const char *const kinds[] = {"no_json",    "no_id",         "other_data",
                                        "unknown_id", "no_preference", "answered_again"};
    struct text line = {0}, lines = {0};
    struct dataset *d;
    json_t *vote = json_loads("[0, \"x\", \"a\"]", 0, NULL), *report;
    CHECK(dataset_open(c, at->data, &d) == OK);
    for (int i = 0; i < LINES; i++) {
        struct rng r = rng_stream(11, RNG_CHECK, i, 0);
        text_clear(&line);
        CHECK(put_answer(d, ask(i % PAIRS), vote, &line) == OK);
        for (int64_t k = rng_below(&r, 3); k > 0; k--) {
            line.data[rng_below(&r, (int64_t)line.len - 1)] = (char)(32 + rng_below(&r, 95));
        }
        CHECK(text_append(&lines, line.data, line.len) == OK);
    }
    dataset_close(d);
    json_decref(vote);
    CHECK(c->rank > 0 || file_write(at->answers[0], lines.data, lines.len) == OK);
    CHECK(comm_barrier(c) == OK);
    const struct answers_options options = {.comm = c,
                                            .data = at->data,
                                            .answers = at->answers[0],
                                            .output = at->view,
                                            .report = "",
                                            .command = "test"};
    CHECK(answers_run(&options) == OK);
    CHECK(json_load(at->report, &report) == OK);
    double sum = number(report, "answers");
    for (int i = 0; i < COUNT_OF(kinds); i++) {
        sum += number(report, kinds[i]);
    }
    CHECK(number(report, "lines") == LINES && sum == LINES);
    CHECK(number(report, "no_json") > 0 && number(report, "no_id") > 0 && number(report, "answers") > 0);
    json_decref(report);
    text_free(&line);
    text_free(&lines);
}

/* The order does not depend on how the pair is given, and about half of all are turned. */
static void test_order(void) {
    int turned = 0;
    for (int64_t i = 0; i < 1000; i++) {
        struct question q = question_draw(SEED, i, i + 7), r = question_draw(SEED, i + 7, i);
        CHECK(q.a == r.a && q.b == r.b && q.a + q.b == 2 * i + 7);
        turned += q.a > q.b;
    }
    CHECK(turned > 430 && turned < 570);
}

static void test_ids(struct comm *c, const struct place *at) {
    struct dataset *d;
    struct question q;
    enum question_fault fault;
    char id[64], good[9];
    CHECK(dataset_open(c, at->data, &d) == OK);
    snprintf(good, sizeof good, "%08llx", (unsigned long long)(dataset_hash(d) >> 32));
    const struct {
        const char *end;
        enum question_fault fault;
    } cases[] = {{"-1-0", QUESTION_FINE},        {"-0-1", QUESTION_FINE},
                 {"-0-0", QUESTION_UNKNOWN},     {"-0-2", QUESTION_UNKNOWN},
                 {"-0-99999", QUESTION_UNKNOWN}, {"", QUESTION_NO_ID},
                 {"-1", QUESTION_NO_ID},         {"-1-", QUESTION_NO_ID},
                 {"-1-0 ", QUESTION_NO_ID},      {"--1-0", QUESTION_NO_ID},
                 {"-1-+0", QUESTION_NO_ID},      {"-99999999999999999999-1", QUESTION_UNKNOWN}};
    for (int i = 0; i < COUNT_OF(cases); i++) {
        snprintf(id, sizeof id, "%s%s", good, cases[i].end);
        CHECK(question_parse(d, id, &q, &fault) == OK && fault == cases[i].fault);
        CHECK(fault != QUESTION_FINE || (q.a == 1 - i && q.b == i));
    }
    CHECK(question_parse(d, "x", &q, &fault) == OK && fault == QUESTION_NO_ID);
    CHECK(question_parse(d, "", &q, &fault) == OK && fault == QUESTION_NO_ID);
    dataset_close(d);
}

int main(int argc, char **argv) {
    struct comm *c;
    char folder[64];
    struct place at;
    if (comm_start(&argc, &argv, &c) != OK) {
        return 1;
    }
    log_init(c->rank, c->size, LOG_ERROR);
    world_folder(c, folder);
    snprintf(at.data, sizeof at.data, "%s/data.h5", folder);
    snprintf(at.view, sizeof at.view, "%s/view.h5", folder);
    snprintf(at.report, sizeof at.report, "%s/view.json", folder);
    snprintf(at.answers[0], sizeof at.answers[0], "%s/one.jsonl", folder);
    snprintf(at.answers[1], sizeof at.answers[1], "%s/two.jsonl", folder);
    write_world(c, at.data);
    test_fixture(c, &at);
    test_again(c, &at);
    test_changed_lines(c, &at);
    test_order();
    test_ids(c, &at);
    world_folder_remove(c, folder);
    int64_t all = failures;
    failures = comm_sum_i64(c, &all, 1) == OK ? (int)all : 1;
    comm_finish(c);
    return failures != 0;
}
