/* steering.json: what it says is taken, what it cannot say is refused by name. */
#include "tests/unit.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "steer/steering_folder.h"

static char folder[64] = "/tmp/collimate-XXXXXX", path[96];

static void write_json(const char *text) {
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

/* A whole one, with the members `other` behind those that a file must have. */
static enum status open_as(int version, const char *heads, const char *aggregate, const char *other,
                           struct steering *s) {
    char text[512];
    snprintf(text, sizeof text,
             "{\"version\": %d, \"embedding_width\": 3, \"hidden\": 8, \"heads\": %s, \"layers\": 2, "
             "\"aggregate\": %s, \"embedder\": \"test\"%s}",
             version, heads, aggregate, other);
    write_json(text);
    return steering_folder_open(folder, s);
}

static enum status open_with(const char *heads, const char *aggregate, const char *other,
                             struct steering *s) {
    return open_as(1, heads, aggregate, other, s);
}

static void test_taken(void **state) {
    struct steering s;
    (void)state;
    assert_int_equal(open_with("4", "\"sum\"", "", &s), OK);
    assert_true(steering_folder_is(folder));
    assert_true(s.shape.width == 3 && s.shape.hidden == 8 && s.shape.heads == 4 && s.shape.layers == 2);
    assert_true(s.shape.aggregate == AGGREGATE_SUM && !s.shape.inner_mlp && !s.shape.bounded);
    assert_string_equal(s.embedder, "test");
    steering_close(&s);
    assert_int_equal(open_with("1", "\"mean\"", ", \"bounded\": true, \"inner_mlp\": true", &s), OK);
    assert_true(s.shape.aggregate == AGGREGATE_MEAN && s.shape.inner_mlp && s.shape.bounded);
    steering_close(&s);
    assert_int_equal(open_as(2, "1", "\"mean\"", ", \"bounded\": true", &s), OK);
    assert_true(s.shape.bounded);
    steering_close(&s);
}

static void test_refused(void **state) {
    static const struct {
        const char *heads, *aggregate, *other, *words;
    } cases[] = {{"3", "\"sum\"", "", "3 heads do not divide hidden, 8"},
                 {"0", "\"sum\"", "", "must be 1 or more"},
                 {"\"4\"", "\"sum\"", "", "heads"},
                 {"4", "\"most\"", "", "none of attention, mean and sum"},
                 {"4", "7", "", "none of attention, mean and sum"},
                 {"4", "\"sum\"", ", \"bounded\": 1", "\"bounded\" must be true or false"},
                 {"4", "\"sum\"", ", \"inner_mlp\": \"yes\"", "\"inner_mlp\" must be true or false"}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct steering s;
        assert_int_equal(open_with(cases[i].heads, cases[i].aggregate, cases[i].other, &s), ERR_DATA);
        if (!strstr(status_message()->text, cases[i].words)) {
            FAIL("case %zu: %s", i, status_message()->text);
        }
        status_clear();
    }
    struct steering s;
    write_json("{\"version\": 3}");
    assert_int_equal(steering_folder_open(folder, &s), ERR_DATA);
    assert_non_null(strstr(status_message()->text, "version 3; this program reads 1 to 2"));
    status_clear();
    assert_int_equal(unlink(path), 0);
    assert_false(steering_folder_is(folder));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_taken), cmocka_unit_test(test_refused)};
    if (!mkdtemp(folder)) {
        return 1;
    }
    snprintf(path, sizeof path, "%s/steering.json", folder);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return rmdir(folder) != 0 || failed;
}
