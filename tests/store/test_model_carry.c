/* What a saved folder takes over: a tokenizer's copy opens again as it was; another tokenizer's files come
 * instead of the source's, never beside them. */
#include "tests/unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"
#include "store/model_carry.h"
#include "util/text.h"

static struct text path;

static const char *in_fixtures(const char *folder, const char *name) {
    text_clear(&path);
    assert_int_equal(text_printf(&path, FIXTURES "/tokenizers/%s%s%s", folder, *name ? "/" : "", name), OK);
    return path.data;
}

static void copies_open_again_as_they_were(void **state) {
    (void)state;
    const char *const sources[] = {"bytes", "tinystories", "gpt2", "llama-first", "qwen-slow"};
    for (int i = 0; i < COUNT_OF(sources); i++) {
        char folder[] = "/tmp/collimate-tokenizer-XXXXXX";
        assert_non_null(mkdtemp(folder));
        struct tokenizer *from;
        struct tokenizer *to;
        assert_int_equal(tokenizer_open(i ? in_fixtures(sources[i], "") : "bytes", &from), OK);
        assert_int_equal(model_carry(NULL, from, folder), OK);
        assert_int_equal(tokenizer_open(folder, &to), OK);
        assert_true(tokenizer_hash(from) == tokenizer_hash(to));
        assert_int_equal(tokenizer_size(from), tokenizer_size(to));
        assert_int_equal(tokenizer_end(from), tokenizer_end(to));
        tokenizer_close(to);
        /* The files written for `bytes` are a tokenizer in their own right, with the same ids. */
        text_clear(&path);
        assert_int_equal(text_printf(&path, "%s/tokenizer.json", folder), OK);
        if (i == 0) {
            assert_int_equal(tokenizer_open(path.data, &to), OK);
            struct encoder *e;
            struct ids ids = {0};
            assert_int_equal(encoder_open(to, &e), OK);
            assert_int_equal(tokenizer_encode(e, "\xc3\xa9 a\n", 5, &ids, NULL), OK);
            const int32_t expected[] = {0xc3, 0xa9, ' ', 'a', '\n'};
            assert_int_equal(ids.count, 5);
            assert_memory_equal(ids.data, expected, sizeof expected);
            assert_int_equal(tokenizer_end(to), 257);
            ids_free(&ids);
            encoder_close(e);
            tokenizer_close(to);
        }
        tokenizer_close(from);
        text_clear(&path);
        assert_int_equal(text_printf(&path, "rm -r %s", folder), OK);
        assert_int_equal(system(path.data), 0);
    }
}

/* put FOLDER NAME: a file that holds its folder's last letter. */
static void put(const char *folder, const char *name) {
    text_clear(&path);
    assert_int_equal(text_printf(&path, "%s/%s", folder, name), OK);
    assert_int_equal(file_write(path.data, folder + strlen(folder) - 1, 1), OK);
}

/* What stands in the file; 0: it is not there. */
static char holds(const char *folder, const char *name) {
    text_clear(&path);
    assert_int_equal(text_printf(&path, "%s/%s", folder, name), OK);
    FILE *file = fopen(path.data, "rb");
    int c = file ? fgetc(file) : 0;
    if (file) {
        fclose(file);
    }
    return (char)c;
}

static void another_tokenizer_comes_instead(void **state) {
    (void)state;
    char root[] = "/tmp/collimate-carry-XXXXXX";
    char a[64], b[64], to[64];
    assert_non_null(mkdtemp(root));
    snprintf(a, sizeof a, "%s/a", root);
    snprintf(b, sizeof b, "%s/b", root);
    snprintf(to, sizeof to, "%s/to", root);
    assert_int_equal(folder_make(a), OK);
    text_clear(&path);
    assert_int_equal(text_printf(&path, "cp -r %s/tokenizers/neox %s", FIXTURES, b), OK);
    assert_int_equal(system(path.data), 0);
    static const char *const of_a[] = {"tokenizer.json", "added_tokens.json", "chat_template.jinja",
                                       "LICENSE"};
    for (int i = 0; i < COUNT_OF(of_a); i++) {
        put(a, of_a[i]);
    }
    put(b, "README.md");
    struct tokenizer *t;
    assert_int_equal(tokenizer_open(b, &t), OK);
    assert_int_equal(folder_make(to), OK);
    assert_int_equal(model_carry(a, t, to), OK);
    assert_int_equal(holds(to, "tokenizer.json"), '{');
    assert_int_equal(holds(to, "added_tokens.json"), 0);
    assert_int_equal(holds(to, "chat_template.jinja"), 'a');
    assert_int_equal(holds(to, "LICENSE"), 'a');
    assert_int_equal(holds(to, "README.md"), 0);
    /* Its own template wins; a file that cannot be read is named, and the rest is there. */
    put(b, "chat_template.jinja");
    text_clear(&path);
    assert_int_equal(text_printf(&path, "%s/special_tokens_map.json", b), OK);
    unlink(path.data);
    assert_int_equal(symlink("nowhere", path.data), 0);
    assert_int_equal(model_carry(a, t, to), OK);
    assert_int_equal(holds(to, "chat_template.jinja"), 'b');
    /* The source's own: all of it. */
    assert_int_equal(model_carry(b, t, to), OK);
    assert_int_equal(holds(to, "README.md"), 'b');
    tokenizer_close(t);
    text_clear(&path);
    assert_int_equal(text_printf(&path, "rm -r %s", root), OK);
    assert_int_equal(system(path.data), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copies_open_again_as_they_were),
        cmocka_unit_test(another_tokenizer_comes_instead),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
