/* The cache of pieces: whatever was met before, ids and code points are those of the model's own words. */
#include "tests/unit.h"

#include <string.h>

#include "text/pieces.h"
#include "text/tokenizer_internal.h"
#include "util/mem.h"
#include "util/rng.h"

static struct tokenizer *open_fixture(const char *folder) {
    struct text path = {0};
    struct tokenizer *t;
    assert_int_equal(text_printf(&path, "%s/tokenizers/%s", fixtures(), folder), OK);
    if (tokenizer_open(path.data, &t) != OK) {
        FAIL("%s: %s", folder, status_message()->text);
    }
    text_free(&path);
    assert_true(t->n_changes == 0 && t->n_steps == 1 && t->steps[0].kind <= STEP_QWEN && t->bpe.byte_level);
    return t;
}

/* Words of 1 to 24 bytes, some of several bytes a letter, most of few letters so that they come again. */
static void make_text(struct rng *r, struct text *out) {
    static const char *const letters[] = {
        "e", "t", "a", "o", "n", "i", "\xc3\xa9", "\xd0\xb6", "\xe4\xb8\xad", "\xf0\x9f\x98\x80"};
    text_clear(out);
    for (int64_t words = 1 + rng_below(r, 60); words > 0; words--) {
        assert_int_equal(text_puts(out, rng_below(r, 4) ? " " : ""), OK);
        int64_t few = rng_below(r, 3) ? 3 : COUNT_OF(letters);
        for (int64_t n = 1 + rng_below(r, rng_below(r, 3) ? 5 : 24); n > 0; n--) {
            assert_int_equal(text_puts(out, letters[rng_below(r, few)]), OK);
        }
    }
}

/* Word by word, without a cache. */
static void expect(const struct tokenizer *t, struct bpe_scratch *scratch, const struct text *text,
                   struct ids *ids, struct text *chars) {
    size_t end;
    const struct view whole = {.s = text->data, .n = text->len};
    for (size_t at = 0; at < text->len; at = end) {
        assert_int_equal(cut_pieces(t->steps[0].kind, t->classes, text->data, text->len, at, &end, 1), 1);
        assert_int_equal(bpe_word(&t->bpe, scratch, text->data + at, end - at), OK);
        size_t from = at;
        for (int64_t i = 0; i < scratch->count; i++) {
            char count = (char)view_count(&whole, from, scratch->symbols[i].len);
            from += scratch->symbols[i].len;
            assert_int_equal(GROW_ARRAY(ids->data, ids->capacity, ids->count + 1), OK);
            ids->data[ids->count++] = scratch->symbols[i].id;
            assert_int_equal(text_append(chars, &count, 1), OK);
        }
        assert_true(from == end);
    }
}

static void compare(const char *folder, int64_t texts) {
    struct tokenizer *t = open_fixture(folder);
    struct encoder *e;
    struct bpe_scratch scratch = {0};
    struct ids ids = {0};
    struct ids expected = {0};
    struct text text = {0};
    struct text chars = {0};
    struct text expected_chars = {0};
    struct rng r = rng_stream(23, RNG_CHECK, 0, 0);
    assert_int_equal(encoder_open(t, &e), OK);
    for (int64_t i = 0; i < texts; i++) {
        ids.count = expected.count = 0;
        text_clear(&chars);
        text_clear(&expected_chars);
        make_text(&r, &text);
        expect(t, &scratch, &text, &expected, &expected_chars);
        assert_int_equal(tokenizer_encode(e, text.data, text.len, &ids, i % 3 ? &chars : NULL), OK);
        if (ids.count != expected.count ||
            memcmp(ids.data, expected.data, (size_t)ids.count * sizeof *ids.data) != 0) {
            FAIL("%s: text %lld, \"%s\": other ids", folder, (long long)i, text.data);
        }
        if (i % 3 && (chars.len != expected_chars.len ||
                      memcmp(chars.data, expected_chars.data, chars.len + 1) != 0)) {
            FAIL("%s: text %lld, \"%s\": other code points", folder, (long long)i, text.data);
        }
    }
    encoder_close(e);
    bpe_scratch_free(&scratch);
    ids_free(&ids);
    ids_free(&expected);
    text_free(&text);
    text_free(&chars);
    text_free(&expected_chars);
    tokenizer_close(t);
}

/* Some 150,000 words, of which most come again; a few share a line with more than it has places for. */
static void ids_are_those_without_it(void **state) {
    (void)state;
    static const char *const folders[] = {"gpt2", "llama3-style"};
    for (int i = 0; i < COUNT_OF(folders); i++) {
        compare(folders[i], 5000);
    }
}

static void a_key_is_the_bytes_and_no_more(void **state) {
    (void)state;
    const char text[] = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz";
    for (size_t n = 0; n <= PIECE_BYTES; n++) {
        char own[PIECE_BYTES] = {0};
        memcpy(own, text, n);
        struct piece_key padded = piece_key(own, n, n);
        struct piece_key roomy = piece_key(text, n, sizeof text);
        assert_memory_equal(&padded, own, sizeof own);
        assert_memory_equal(&roomy, own, sizeof own);
    }
}

/* A piece with zeros at its end is another than the same without. */
static void zeros_count(void **state) {
    (void)state;
    struct tokenizer *t = open_fixture("gpt2");
    struct encoder *e;
    struct ids ids = {0};
    assert_int_equal(encoder_open(t, &e), OK);
    for (int round = 0; round < 2; round++) {
        for (size_t n = 1; n <= 5; n++) {
            ids.count = 0;
            assert_int_equal(tokenizer_encode(e, "\0\0\0\0\0", n, &ids, NULL), OK);
            assert_int_equal(ids.count, n);
        }
    }
    encoder_close(e);
    ids_free(&ids);
    tokenizer_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_is_the_bytes_and_no_more),
        cmocka_unit_test(ids_are_those_without_it),
        cmocka_unit_test(zeros_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
