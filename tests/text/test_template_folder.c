/* Where a model folder keeps its chat templates and special tokens. */
#include "tests/unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/file.h"
#include "text/template_folder.h"

static char folder[64];

static const char *place(const char *name) {
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void put(const char *name, const char *text) {
    assert_int_equal(file_write(place(name), text, strlen(text)), OK);
}

static int make(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/collimate-template-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int clear(void **state) {
    static const char *const names[] = {"chat_template.jinja",
                                        "tokenizer_config.json",
                                        "special_tokens_map.json",
                                        "additional_chat_templates/tool_use.jinja",
                                        "additional_chat_templates/default.jinja",
                                        "additional_chat_templates/notes.txt"};
    (void)state;
    for (int i = 0; i < COUNT_OF(names); i++) {
        unlink(place(names[i]));
    }
    rmdir(place("additional_chat_templates"));
    return rmdir(folder);
}

/* What the folder's template for rows with or without tools renders; NULL: it has none. */
static void expect(bool tools, const char *want) {
    struct template_folder f;
    struct template_output out = {0};
    if (template_folder_open(folder, &f) != OK) {
        FAIL("%s", status_message()->text);
    }
    const struct template *t = template_folder_choose(&f, tools);
    if (!want) {
        assert_null(t);
    } else {
        const struct template_input input = {.specials = f.specials};
        assert_non_null(t);
        assert_int_equal(template_render(t, &input, &out), OK);
        assert_string_equal(out.text.data, want);
    }
    template_output_free(&out);
    template_folder_free(&f);
}

static void expect_failure(enum status code, const char *words) {
    struct template_folder f;
    assert_int_equal(template_folder_open(folder, &f), code);
    if (!strstr(status_message()->text, words)) {
        FAIL("%s", status_message()->text);
    }
    template_folder_free(&f);
}

static void test_none(void **state) {
    (void)state;
    expect(false, NULL);
    put("tokenizer_config.json", "{\"chat_template\": null, \"bos_token\": \"<s>\"}");
    expect(true, NULL);
}

static void test_config(void **state) {
    (void)state;
    put("tokenizer_config.json", "{\"chat_template\": \"c{{ bos_token }}\", \"bos_token\": \"<s>\"}");
    expect(false, "c<s>");
    put("tokenizer_config.json", "{\"chat_template\": [{\"name\": \"default\", \"template\": \"d\"},"
                                 " {\"name\": \"tool_use\", \"template\": \"t\"}]}");
    expect(false, "d");
    expect(true, "t");
    put("tokenizer_config.json", "{\"chat_template\": [{\"name\": \"rag\", \"template\": \"r\"}]}");
    expect(false, NULL);
}

static void test_files(void **state) {
    (void)state;
    put("tokenizer_config.json", "{\"chat_template\": \"config\"}");
    put("chat_template.jinja", "file\n");
    expect(false, "file");
    expect(true, "file");
    assert_int_equal(mkdir(place("additional_chat_templates"), 0700), 0);
    put("additional_chat_templates/tool_use.jinja", "tools");
    put("additional_chat_templates/notes.txt", "{% broken");
    expect(false, "file");
    expect(true, "tools");
    unlink(place("chat_template.jinja"));
    expect(false, NULL); /* the files are all there is, as for transformers */
    put("additional_chat_templates/default.jinja", "additional");
    expect(false, "additional");
}

static void test_tokens(void **state) {
    (void)state;
    put("chat_template.jinja",
        "{{ bos_token }}|{{ eos_token }}|{{ pad_token }}|{{ image_token }}|{{ named_token }}|"
        "{{ cls_token is defined }}{{ add_bos_token is defined }}");
    put("tokenizer_config.json",
        "{\"bos_token\": {\"content\": \"<b>\", \"lstrip\": false}, \"eos_token\": \"<e>\","
        " \"image_token\": \"<i>\", \"cls_token\": null, \"add_bos_token\": true,"
        " \"extra_special_tokens\": {\"named_token\": \"<n>\"}}");
    expect(false, "<b>|<e>||<i>|<n>|FalseFalse");
    put("special_tokens_map.json", "{\"eos_token\": {\"content\": \"<E>\"}, \"pad_token\": \"<p>\"}");
    expect(false, "<b>|<E>|<p>|<i>|<n>|FalseFalse");
    put("tokenizer_config.json", "{\"bos_token\": \"<b>\", \"added_tokens_decoder\": {}}");
    expect(false, "<b>|||||FalseFalse");
}

static void test_broken(void **state) {
    (void)state;
    put("chat_template.jinja", "a\n{% if %}");
    expect_failure(ERR_DATA, "chat_template.jinja, line 2: an expression is missing");
    put("chat_template.jinja", "{% import 'x' as y %}");
    expect_failure(ERR_USAGE, "statement 'import' is not supported");
    unlink(place("chat_template.jinja"));
    put("tokenizer_config.json", "{\"chat_template\": 1}");
    expect_failure(ERR_DATA, "\"chat_template\" must be text");
    put("tokenizer_config.json", "{\"chat_template\": [{\"template\": \"x\"}]}");
    expect_failure(ERR_DATA, "an element without a name");
    put("tokenizer_config.json", "{\"chat_template\": [{\"name\": \"a\"}]}");
    expect_failure(ERR_DATA, "\"chat_template\" must be text");
    put("tokenizer_config.json", "[]");
    expect_failure(ERR_DATA, "an object is expected");
    put("tokenizer_config.json", "{");
    expect_failure(ERR_DATA, "not valid JSON");
    struct template *t;
    assert_int_equal(template_read(place("absent.jinja"), &t), ERR_INPUT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_none, make, clear),
        cmocka_unit_test_setup_teardown(test_config, make, clear),
        cmocka_unit_test_setup_teardown(test_files, make, clear),
        cmocka_unit_test_setup_teardown(test_tokens, make, clear),
        cmocka_unit_test_setup_teardown(test_broken, make, clear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
