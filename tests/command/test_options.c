/* The option table: parsing, messages, conditions, and that what is printed reads back. */
#include "tests/unit.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "command/settings.h"
#include "io/yaml.h"
#include "util/options.h"

struct fixture {
    struct settings settings;
    struct options options;
};

static void begin(struct fixture *f, const char *command) {
    int count;
    const struct option *table = settings_table(&count);
    *f = (struct fixture){0};
    assert_int_equal(options_open(&f->options, table, count, &f->settings, command), OK);
}

static void refused(struct fixture *f, const char *argument, const char *expected) {
    assert_int_equal(options_set_argument(&f->options, argument), ERR_USAGE);
    if (!strstr(status_message()->text, expected)) {
        FAIL("\"%s\" does not say \"%s\"", status_message()->text, expected);
    }
}

static void test_defaults_and_values(void **state) {
    (void)state;
    struct fixture f;
    begin(&f, "dpo");
    assert_true(f.settings.dpo.beta == 0.1);
    assert_int_equal(f.settings.train.batch, 64);
    assert_string_equal(f.settings.device, "auto");
    assert_int_equal(options_set_argument(&f.options, "train.learning_rate=5e-7"), OK);
    assert_int_equal(options_set_argument(&f.options, "train.optimizer=rmsprop"), OK);
    assert_int_equal(options_set_argument(&f.options, "model=a=b"), OK);
    assert_true(f.settings.train.learning_rate == 5e-7);
    assert_int_equal(f.settings.train.optimizer, 1);
    assert_string_equal(f.settings.model, "a=b");
    assert_true(options_is_set(&f.options, "model"));
    assert_false(options_is_set(&f.options, "data"));
    options_close(&f.options);
}

static void test_refusals(void **state) {
    (void)state;
    struct fixture f;
    begin(&f, "dpo");
    refused(&f, "train.learning_rat=1", "train.learning_rate");
    refused(&f, "learning_rate=1", "train.learning_rate");
    refused(&f, "generate.top_k=3", "belongs to");
    refused(&f, "train.batch=3.5", "not a whole number");
    refused(&f, "train.batch=0", "outside");
    refused(&f, "train.batch=99999999999999999999", "not a whole number");
    refused(&f, "train.optimizer=adamm", "adam");
    refused(&f, "train.deterministic=yes", "neither true nor false");
    refused(&f, "dpo.beta=nan", "not a number");
    refused(&f, "output=caf\xe9", "output: the value is not UTF-8");
    refused(&f, "novalue", "neither a file nor key=value");
    options_close(&f.options);
}

static void test_conditions(void **state) {
    (void)state;
    struct fixture f;
    begin(&f, "dpo");
    assert_int_equal(options_set_argument(&f.options, "train.alpha=0.9"), OK);
    assert_int_equal(options_check(&f.options), ERR_USAGE);
    assert_non_null(strstr(status_message()->text, "train.optimizer=rmsprop"));
    assert_int_equal(options_set_argument(&f.options, "train.optimizer=rmsprop"), OK);
    assert_int_equal(options_check(&f.options), OK);
    assert_int_equal(options_set_argument(&f.options, "truncate.unit=chars"), OK);
    assert_int_equal(options_check(&f.options), ERR_USAGE);
    assert_int_equal(options_set_argument(&f.options, "truncate.ratio=0.5"), OK);
    assert_int_equal(options_check(&f.options), OK);
    options_close(&f.options);
}

/* Every condition names a known key, and every default is accepted by its own row. */
static void test_table_is_sound(void **state) {
    (void)state;
    int count;
    const struct option *table = settings_table(&count);
    for (int i = 0; i < count; i++) {
        char command[32];
        size_t len = strcspn(table[i].commands, " ");
        memcpy(command, table[i].commands, len);
        command[len] = '\0';
        struct fixture f;
        begin(&f, strcmp(command, "*") == 0 ? "dpo" : command);
        assert_int_equal(options_set(&f.options, table[i].key, table[i].fallback, "test"), OK);
        enum status st = options_check(&f.options);
        if (st != OK && st != ERR_USAGE) {
            FAIL("%s: %s", table[i].key, status_message()->text);
        }
        assert_true(strlen(table[i].help) > 0);
        options_close(&f.options);
    }
}

static void test_print(void **state) {
    (void)state;
    struct fixture f;
    begin(&f, "sft");
    assert_int_equal(options_set_argument(&f.options, "data=a folder: #1"), OK);
    assert_int_equal(options_set_argument(&f.options, "train.learning_rate=1e-5"), OK);
    struct text text = {0};
    assert_int_equal(options_print(&f.options, false, &text), OK);
    assert_non_null(strstr(text.data, "data: \"a folder: #1\"\n"));
    assert_non_null(strstr(text.data, "train:\n"));
    assert_non_null(strstr(text.data, "  learning_rate: 1e-05\n"));
    assert_null(strstr(text.data, "dpo:"));
    text_free(&text);
    options_close(&f.options);
}

/* A command that takes others' keys, until it is one of them. */
static void test_also(void **state) {
    (void)state;
    struct fixture f;
    begin(&f, "preflight");
    refused(&f, "dpo.beta=0.2", "no effect in preflight");
    f.options.also = "sft dpo reward";
    assert_int_equal(options_set_argument(&f.options, "dpo.beta=0.2"), OK);
    assert_int_equal(options_set_argument(&f.options, "reward.margin=false"), OK);
    assert_int_equal(options_set_argument(&f.options, "preflight.sample=3"), OK);
    refused(&f, "synth.rows=3", "no effect in preflight");
    assert_int_equal(options_narrow(&f.options, "dpo"), ERR_USAGE);
    assert_non_null(strstr(status_message()->text, "\"reward.margin\" has no effect in dpo"));
    options_close(&f.options);
    begin(&f, "preflight");
    f.options.also = "sft dpo reward";
    assert_int_equal(options_set_argument(&f.options, "dpo.beta=0.2"), OK);
    assert_int_equal(options_set_argument(&f.options, "preflight.sample=3"), OK);
    assert_int_equal(options_narrow(&f.options, "dpo"), OK);
    assert_int_equal(options_narrow(&f.options, "sft"), ERR_USAGE);
    options_close(&f.options);
}

static enum status set_key(void *context, const char *key, const char *value, int line) {
    struct fixture *f = context;
    (void)line;
    return options_set(&f->options, key, value, "file");
}

/* Whatever a value holds, YAML gives it back. */
static void test_print_reads_back(void **state) {
    (void)state;
    static const char *const values[] = {"null",
                                         "~",
                                         "-1",
                                         "a: b",
                                         "x #y",
                                         "\"\\'",
                                         " end ",
                                         "\x01\x1b\x7f\t\r\n\n ",
                                         "\xc2\x80\xc2\x85\xc2\x9f\xc2\xa0",
                                         "\xe2\x80\xa8 \xe2\x80\xa9",
                                         "\xef\xbb\xbf\xef\xbf\xbe\xef\xbf\xbf",
                                         "\xf0\x9f\x98\x80 \xf0\x9f\xbf\xbe \xee\x80\x80"};
    char path[64];
    snprintf(path, sizeof path, "/tmp/test_options.%ld.yaml", (long)getpid());
    for (int i = 0; i < COUNT_OF(values); i++) {
        struct fixture written, read;
        struct text yaml = {0};
        begin(&written, "sft");
        begin(&read, "sft");
        assert_int_equal(options_set(&written.options, "output", values[i], "test"), OK);
        assert_int_equal(options_print(&written.options, true, &yaml), OK);
        FILE *file = fopen(path, "w");
        assert_non_null(file);
        assert_int_equal(fwrite(yaml.data, 1, yaml.len, file), yaml.len);
        assert_int_equal(fclose(file), 0);
        if (yaml_read(path, set_key, &read) != OK) {
            FAIL("value %d: %s", i, status_message()->text);
        }
        assert_string_equal(read.settings.output, values[i]);
        text_free(&yaml);
        options_close(&written.options);
        options_close(&read.options);
    }
    remove(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults_and_values),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_conditions),
        cmocka_unit_test(test_table_is_sound),
        cmocka_unit_test(test_print),
        cmocka_unit_test(test_also),
        cmocka_unit_test(test_print_reads_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
