/* The option table: parsing, messages, conditions, and that what is printed reads back. */
#include "tests/unit.h"

#include <string.h>

#include "command/settings.h"
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults_and_values),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_conditions),
        cmocka_unit_test(test_table_is_sound),
        cmocka_unit_test(test_print),
        cmocka_unit_test(test_also),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
