/* YAML reading: what configurations need arrives with its line; everything ambiguous or hostile is refused.
 */
#include "tests/unit.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"
#include "io/yaml.h"
#include "util/text.h"

static char path[64];

static enum status collect(void *context, const char *key, const char *value, int line) {
    return text_printf(context, "%s=%s@%d;", key, value, line);
}

static enum status read_text(const char *yaml, size_t len, struct text *seen) {
    assert_int_equal(file_write(path, yaml, len), OK);
    text_clear(seen);
    return yaml_read(path, collect, seen);
}

static void check_read(const char *yaml, const char *expected) {
    struct text seen = {0};
    assert_int_equal(read_text(yaml, strlen(yaml), &seen), OK);
    assert_string_equal(seen.data ? seen.data : "", expected);
    text_free(&seen);
}

static void check_refused(const char *yaml, const char *place, const char *words) {
    struct text seen = {0};
    enum status st = read_text(yaml, strlen(yaml), &seen);
    if (st != ERR_USAGE || !strstr(status_message()->text, place) || !strstr(status_message()->text, words)) {
        FAIL("status %d, message '%s'; expected '%s' and '%s'", (int)st, status_message()->text, place,
             words);
    }
    assert_non_null(strstr(status_message()->text, path));
    text_free(&seen);
}

static void test_takes_configurations(void **state) {
    (void)state;
    check_read("", "");
    check_read("# nothing\n", "");
    check_read("---\n", "");
    check_read("a: 1\n", "a=1@1;");
    check_read("train:\n  steps: 3\n  deep:\n    x: 'a b'\nseed: 7\n",
               "train.steps=3@2;train.deep.x=a b@4;seed=7@5;");
    check_read("data: [a.h5, b.h5]\ninput:\n  - x\n  - \"y z\"\nnone: []\n",
               "data=a.h5,b.h5@1;input=x,y z@2;none=@5;");
    check_read("train.steps: 5 # dotted\ntrain: {batch: 4}\n", "train.steps=5@1;train.batch=4@2;");
    check_read("a: null\nb: ~\nc:\nd: 'null'\n", "a=@1;b=@2;c=@3;d=null@4;");
    check_read("a: 1e-6\r\nb: yes\r\n", "a=1e-6@1;b=yes@2;");
}

static void test_refuses_what_is_ambiguous(void **state) {
    (void)state;
    check_refused("a: 1\na: 2\n", "line 2", "given twice (first in line 1)");
    check_refused("train: {steps: 1}\ntrain.steps: 2\n", "line 2", "given twice");
    check_refused("a: &x 1\n", "line 1", "anchor");
    check_refused("a: 1\nb: *x\n", "line 2", "alias");
    check_refused("t: &x\n  a: 1\n", "line 1", "anchor");
    check_refused("a: !!int 3\n", "line 1", "tag");
    check_refused("a:\n  - 1\n  - [2, 3]\n", "line 3", "plain values");
    check_refused("a:\n  - k: 1\n", "line 2", "plain values");
    check_refused("a: ['x,y']\n", "line 1", "comma");
    check_refused("- a\n- b\n", "line 1", "key: value");
    check_refused("words\n", "line 1", "key: value");
    check_refused("? [a, b]\n: 1\n", "line 1", "plain word");
    check_refused("a: 1\n---\nb: 2\n", "line 2", "second document");
    check_refused("'': 1\n", "line 1", "empty key");
}

static void test_refuses_bad_syntax(void **state) {
    (void)state;
    check_refused("a:\n\tb: 1\n", "line 2", "not valid YAML");
    check_refused("a: [1, 2\n", "line", "not valid YAML");
    check_refused("a: 1\n b: 2\n", "line 2", "not valid YAML");
    check_refused("a: \"open\n", "line", "not valid YAML");
    check_refused("a: \xff\xfe\n", "byte 3", "not valid YAML");
    check_refused("a: \"x\\0y\"\n", "line 1", "NUL");
}

static void test_is_bounded(void **state) {
    (void)state;
    struct text yaml = {0};
    for (int i = 0; i < 500; i++) {
        assert_int_equal(text_puts(&yaml, "{a: "), OK);
    }
    check_refused(yaml.data, "line 1", "deeper");
    text_clear(&yaml);
    for (int i = 0; i < 5000; i++) {
        assert_int_equal(text_printf(&yaml, "k%d: 1\n", i), OK);
    }
    check_refused(yaml.data, "line 4097", "more than 4096 keys");
    text_clear(&yaml);
    for (int i = 0; i < 40000; i++) {
        assert_int_equal(text_puts(&yaml, "# a line that fills the file\n"), OK);
    }
    check_refused(yaml.data, "bytes", "at most");
    text_free(&yaml);
}

static void test_missing_file(void **state) {
    (void)state;
    assert_int_equal(yaml_read("/no/such/file.yaml", collect, NULL), ERR_INPUT);
    assert_non_null(strstr(status_message()->text, "/no/such/file.yaml"));
    assert_int_equal(yaml_read("/", collect, NULL), ERR_INPUT);
}

static enum status refuse(void *context, const char *key, const char *value, int line) {
    (void)context;
    (void)value;
    return fail(ERR_USAGE, "line %d: unknown key %s", line, key);
}

static void test_passes_the_visitor_s_verdict_on(void **state) {
    (void)state;
    assert_int_equal(file_write(path, "a: 1\nb: 2\n", 10), OK);
    assert_int_equal(yaml_read(path, refuse, NULL), ERR_USAGE);
    assert_string_equal(status_message()->text, "line 1: unknown key a");
}

int main(void) {
    snprintf(path, sizeof path, "/tmp/test_yaml.%ld.yaml", (long)getpid());
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_takes_configurations), cmocka_unit_test(test_refuses_what_is_ambiguous),
        cmocka_unit_test(test_refuses_bad_syntax),   cmocka_unit_test(test_is_bounded),
        cmocka_unit_test(test_missing_file),         cmocka_unit_test(test_passes_the_visitor_s_verdict_on),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}
