/* The option table: parsing, messages, conditions, and that what is printed reads back. */
#include "tests/unit.h"

#include <stdio.h>
#include <stdlib.h>
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
    refused(&f, "novalue", "is neither key=value nor a file");
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

/* A table with one of each condition; "seen" is what `command` takes of it. */
struct small {
    int64_t a, b, c, d, e, f, g, h;
    int kind;
};
#define SMALL(key_, when_)                                                                         \
    {                                                                                              \
        .key = #key_, .type = OPTION_INT, .offset = offsetof(struct small, key_), .fallback = "0", \
        .commands = "one two", .when = when_, .help = "help"                                       \
    }

static void test_each_condition(void **state) {
    static const struct option table[] = {SMALL(a, NULL),
                                          SMALL(b, "a"),
                                          SMALL(c, "!a"),
                                          SMALL(d, "kind=x|y"),
                                          SMALL(e, "kind!=x"),
                                          SMALL(f, "a,d"),
                                          SMALL(g, "one:a&two:@a moon"),
                                          {.key = "h",
                                           .type = OPTION_INT,
                                           .offset = offsetof(struct small, h),
                                           .fallback = "0",
                                           .commands = "three",
                                           .help = "help"},
                                          {.key = "kind",
                                           .type = OPTION_CHOICE,
                                           .offset = offsetof(struct small, kind),
                                           .fallback = "z",
                                           .choices = "x|y|z",
                                           .commands = "one two",
                                           .when = "h",
                                           .help = "help"}};
    static const struct {
        const char *command, *set[3], *needs; /* needs NULL: nothing is refused */
    } cases[] = {{"one", {"b=1"}, "\"b\" has no effect here; it needs a to be set"},
                 {"one", {"b=1", "a=1"}, NULL},
                 {"one", {"b=1", "a=0"}, "it needs a to be set"},
                 {"one", {"c=1"}, NULL},
                 {"one", {"c=1", "a=2"}, "it needs a not to be set"},
                 {"one", {"d=1"}, "it needs kind=x|y"},
                 {"one", {"d=1", "kind=y"}, NULL}, /* h is another command's */
                 {"one", {"e=1", "kind=x"}, "it needs kind other than x"},
                 {"one", {"e=1"}, NULL},
                 {"one", {"f=1"}, "it needs a to be set or d to be set"},
                 {"one", {"f=1", "a=1"}, NULL},
                 {"one", {"f=1", "d=1", "kind=x"}, NULL},
                 {"one", {"g=1"}, "it needs a to be set"},
                 {"two", {"g=1"}, NULL}};
    (void)state;
    for (int i = 0; i < COUNT_OF(cases); i++) {
        struct small settings = {0};
        struct options o;
        assert_int_equal(options_open(&o, table, COUNT_OF(table), &settings, cases[i].command), OK);
        for (int k = 0; k < 3 && cases[i].set[k]; k++) {
            assert_int_equal(options_set_argument(&o, cases[i].set[k]), OK);
        }
        assert_int_equal(options_check(&o), cases[i].needs ? ERR_USAGE : OK);
        if (cases[i].needs && !strstr(status_message()->text, cases[i].needs)) {
            FAIL("case %d: %s", i, status_message()->text);
        }
        bool is_two = strcmp(cases[i].command, "two") == 0;
        assert_int_equal(options_learn(&o, "a moon", true), OK);
        assert_int_equal(options_learn(&o, "a moon", false), is_two ? ERR_USAGE : OK);
        assert_int_equal(options_learn(&o, "a sun", false), OK);
        options_close(&o);
    }
}

/* A value of a key that is not its default. */
static const char *other_value(const struct option *row, char out[64]) {
    switch (row->type) {
    case OPTION_TEXT:
        return "something";
    case OPTION_BOOL:
        return row->fallback[0] == 't' ? "false" : "true";
    case OPTION_CHOICE: {
        size_t first = strcspn(row->choices, "|");
        bool is_first = strlen(row->fallback) == first && strncmp(row->choices, row->fallback, first) == 0;
        const char *at = is_first ? row->choices + first + 1 : row->choices;
        snprintf(out, 64, "%.*s", (int)strcspn(at, "|"), at);
        return out;
    }
    default:
        snprintf(out, 64, row->type == OPTION_INT ? "%.0f" : "%.15g",
                 row->low == strtod(row->fallback, NULL) ? row->high : row->low);
        return out;
    }
}

/* Is `key` one of those that a row's conditions name? */
static bool names(const struct option *row, const char *key) {
    size_t n = strlen(key);
    for (const char *at = row->when; at && (at = strstr(at, key)); at += n) {
        bool begins = at == row->when || strchr("&,!:", at[-1]);
        bool ends = at[n] == '\0' || strchr("&,=!", at[n]);
        if (begins && ends) {
            return true;
        }
    }
    return false;
}

/* Every two keys of every command, each with its default and with another value: what one says of the other
 * is said by a condition in its row, whichever is set first, and no condition is broken. */
static void test_every_pair_of_keys(void **state) {
    static const char *const commands[] = {"prepare",  "init",      "sft",      "dpo",     "reward",
                                           "score",    "preflight", "evaluate", "embed",   "select",
                                           "few-shot", "generate",  "synth",    "inspect", "bench"};
    int count;
    int64_t pairs = 0, refused_pairs = 0;
    const struct option *table = settings_table(&count);
    (void)state;
    for (int c = 0; c < COUNT_OF(commands); c++) {
        for (int i = 0; i < count; i++) {
            struct fixture alone;
            char value[64], other[64];
            begin(&alone, commands[c]);
            if (!options_takes(&alone.options, i)) {
                options_close(&alone.options);
                continue;
            }
            assert_int_equal(options_set(&alone.options, table[i].key, other_value(&table[i], value), "test"),
                             OK);
            enum status by_itself = options_check(&alone.options);
            for (int k = 0; k < count; k++) {
                if (k == i || !options_takes(&alone.options, k)) {
                    continue;
                }
                struct fixture both, turned;
                begin(&both, commands[c]);
                begin(&turned, commands[c]);
                const char *first = other_value(&table[i], value), *second = other_value(&table[k], other);
                assert_int_equal(options_set(&both.options, table[i].key, first, "test"), OK);
                assert_int_equal(options_set(&both.options, table[k].key, second, "test"), OK);
                assert_int_equal(options_set(&turned.options, table[k].key, second, "test"), OK);
                assert_int_equal(options_set(&turned.options, table[i].key, first, "test"), OK);
                enum status st = options_check(&both.options);
                bool is_known = names(&table[i], table[k].key) || names(&table[k], table[i].key);
                if ((st != OK && st != ERR_USAGE) || options_check(&turned.options) != st) {
                    FAIL("%s: %s and %s: %s", commands[c], table[i].key, table[k].key,
                         status_message()->text);
                }
                /* A key that works alone is refused beside another only where a row says so; or the other is.
                 */
                bool other_alone = !table[k].when;
                if (st != OK && by_itself == OK && other_alone && !is_known) {
                    FAIL("%s: %s and %s: no row says so: %s", commands[c], table[i].key, table[k].key,
                         status_message()->text);
                }
                pairs++;
                refused_pairs += st != OK;
                options_close(&both.options);
                options_close(&turned.options);
            }
            options_close(&alone.options);
        }
    }
    assert_true(pairs > 10000 && refused_pairs > 100);
}

/* Pairs of which one has no effect, as users set them; each alone or beside something else is taken. */
static void test_keys_without_effect(void **state) {
    static const struct {
        const char *command, *set[3];
        bool is_refused;
    } cases[] = {
        {"sft", {"train.steps=1", "train.epochs=7"}, true},
        {"sft", {"train.epochs=7"}, false},
        {"sft", {"evaluate.rows=3"}, true},
        {"sft", {"evaluate.rows=3", "eval_data=x"}, false},
        {"evaluate", {"evaluate.rows=3"}, false},
        {"dpo", {"dpo.reference_free=true", "dpo.reference_file=x"}, true},
        {"dpo", {"dpo.reference_free=true", "reference=x"}, true},
        {"dpo", {"dpo.reference_file=x"}, false},
        {"dpo", {"select.strategy=easy", "select.count=5", "select.fraction=0.3"}, true},
        {"dpo", {"select.strategy=easy", "select.fraction=0.3"}, false},
        {"evaluate", {"model=x", "evaluate.bootstrap=0", "evaluate.confidence=0.9"}, true},
        {"evaluate", {"dpo.beta=0.2", "model=x"}, true},
        {"evaluate", {"dpo.beta=0.2", "model=x", "reference=y"}, false},
        {"evaluate", {"truncate.max_length=5"}, true},
        {"evaluate", {"trust_data=true"}, false},
        {"score", {"dpo.beta=0.2"}, true},
        {"sft", {"truncate.end_after_cut=false"}, true},
        {"sft", {"truncate.end_after_cut=false", "truncate.max_response=9"}, false},
        {"few-shot", {"model=x", "few_shot.steps=3"}, true},
        {"few-shot", {"few_shot.passes=3", "few_shot.steps=3"}, true},
        {"few-shot", {"data=x", "few_shot.world_rows=3"}, true},
        {"few-shot", {"embeddings=x"}, true},
        {"few-shot", {"few_shot.checkpoint_every=0", "train.checkpoint_keep=3"}, true},
        {"select", {"embeddings=x"}, false},
        {"select", {"select.export=x"}, true},
        {"select", {"select.strategy=easy", "select.export=x", "tokenizer=y"}, false},
        {"select", {"select.strategy=easy", "tokenizer=y"}, true},
        {"select", {"select.strategy=easy", "select.answers=x"}, true},
        {"select", {"select.answers=x", "select.exclude=y"}, true},
        {"select", {"select.answers=x", "embeddings=y"}, true},
        {"select", {"select.answers=x", "select.report=y"}, false},
        {"evaluate", {"evaluate.label_margin=1"}, true},
        {"bench", {"bench.kind=comm", "train.batch=3"}, true},
        {"bench", {"bench.kind=comm", "train.bucket_bytes=4096"}, false},
    };
    (void)state;
    for (int i = 0; i < COUNT_OF(cases); i++) {
        struct fixture f;
        begin(&f, cases[i].command);
        for (int k = 0; k < 3 && cases[i].set[k]; k++) {
            assert_int_equal(options_set_argument(&f.options, cases[i].set[k]), OK);
        }
        if (options_check(&f.options) != (cases[i].is_refused ? ERR_USAGE : OK)) {
            FAIL("case %d: %s %s", i, cases[i].command, cases[i].set[0]);
        }
        options_close(&f.options);
    }
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
        cmocka_unit_test(test_each_condition),
        cmocka_unit_test(test_every_pair_of_keys),
        cmocka_unit_test(test_keys_without_effect),
        cmocka_unit_test(test_table_is_sound),
        cmocka_unit_test(test_print),
        cmocka_unit_test(test_also),
        cmocka_unit_test(test_print_reads_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
