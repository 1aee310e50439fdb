/* The cache of pieces: whatever was met before, ids and code points are those of the model's own words. */
#include "tests/unit.h"

#include <string.h>

#include "text/encode_internal.h"
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

/* A text, what the encoder says of it, and what is expected. */
struct texts {
    struct bpe_scratch scratch;
    struct ids ids, expected;
    struct text text, chars, expected_chars;
};

static void texts_free(struct texts *w) {
    bpe_scratch_free(&w->scratch);
    ids_free(&w->ids);
    ids_free(&w->expected);
    text_free(&w->text);
    text_free(&w->chars);
    text_free(&w->expected_chars);
}

static void compare(const char *folder, int64_t texts) {
    struct tokenizer *t = open_fixture(folder);
    struct encoder *e;
    struct texts w = {0};
    struct rng r = rng_stream(23, RNG_CHECK, 0, 0);
    assert_int_equal(encoder_open(t, &e), OK);
    for (int64_t i = 0; i < texts; i++) {
        w.ids.count = w.expected.count = 0;
        text_clear(&w.chars);
        text_clear(&w.expected_chars);
        make_text(&r, &w.text);
        expect(t, &w.scratch, &w.text, &w.expected, &w.expected_chars);
        assert_int_equal(tokenizer_encode(e, w.text.data, w.text.len, &w.ids, i % 3 ? &w.chars : NULL), OK);
        if (w.ids.count != w.expected.count ||
            memcmp(w.ids.data, w.expected.data, (size_t)w.ids.count * sizeof *w.ids.data) != 0) {
            FAIL("%s: text %lld, \"%s\": other ids", folder, (long long)i, w.text.data);
        }
        if (i % 3 && (w.chars.len != w.expected_chars.len ||
                      memcmp(w.chars.data, w.expected_chars.data, w.chars.len + 1) != 0)) {
            FAIL("%s: text %lld, \"%s\": other code points", folder, (long long)i, w.text.data);
        }
    }
    encoder_close(e);
    texts_free(&w);
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

enum { WORD = 5 };

/* " aaaa" and so on. */
static const char *word_at(int64_t i, char word[WORD + 1]) {
    word[0] = ' ';
    for (int at = 1; at < WORD; at++, i /= 26) {
        word[at] = (char)('a' + i % 26);
    }
    word[WORD] = '\0';
    return word;
}

static struct piece *line_of(const struct pieces *p, const char *word) {
    return pieces_line(p, piece_key(word, WORD, WORD));
}

/* Words of the first line that so many share, of those that the cache takes. */
static void find_neighbours(const struct encoder *e, struct bpe_scratch *scratch, char words[][WORD + 1],
                            int64_t wanted) {
    enum { WORDS = 26 * 26 * 26 * 26, MOST = 4 };
    static int32_t first[PIECE_LINES][MOST];
    static uint8_t counts[PIECE_LINES];
    char word[WORD + 1];
    assert_true(wanted <= MOST);
    for (int32_t i = 0; i < WORDS; i++) {
        int64_t line = (line_of(&e->pieces, word_at(i, word)) - e->pieces.lines) / 2;
        assert_int_equal(bpe_word(&e->t->bpe, scratch, word, WORD), OK);
        if (scratch->count > PIECE_IDS) {
            continue;
        }
        first[line][counts[line]++] = i;
        if (counts[line] == wanted) {
            for (int64_t at = 0; at < wanted; at++) {
                word_at(first[line][at], words[at]);
            }
            return;
        }
    }
    FAIL("no line has %lld words", (long long)wanted);
}

static const struct piece *look(struct piece *line, const char *word) {
    struct piece_key key = piece_key(word, WORD, WORD);
    for (int place = 0; place < 2; place++) {
        if (piece_is(&line[place], key, WORD)) {
            return &line[place];
        }
    }
    return NULL;
}

/* Four words of one line of two places: a new one takes the second, what is found again moves to the first,
 * and stays there while others come. Ids are those without the cache at each step. */
static void a_full_line_gives_way(void **state) {
    enum { WORDS = 4 };
    /* a word, then which are in the line: first and second place */
    static const int steps[][3] = {{0, 0, -1}, {1, 0, 1}, {2, 0, 2}, {0, 0, 2}, {2, 2, 0}, {3, 2, 3},
                                   {0, 2, 0},  {2, 2, 0}, {1, 2, 1}, {1, 1, 2}, {3, 1, 3}, {2, 1, 2}};
    struct tokenizer *t = open_fixture("gpt2");
    struct encoder *e;
    struct texts w = {0};
    char words[WORDS][WORD + 1];
    (void)state;
    assert_int_equal(encoder_open(t, &e), OK);
    find_neighbours(e, &w.scratch, words, WORDS);
    struct piece *line = line_of(&e->pieces, words[0]);
    for (int i = 0; i < COUNT_OF(steps); i++) {
        w.ids.count = w.expected.count = 0;
        text_clear(&w.text);
        text_clear(&w.chars);
        text_clear(&w.expected_chars);
        assert_int_equal(text_puts(&w.text, words[steps[i][0]]), OK);
        expect(t, &w.scratch, &w.text, &w.expected, &w.expected_chars);
        assert_int_equal(tokenizer_encode(e, w.text.data, w.text.len, &w.ids, &w.chars), OK);
        assert_int_equal(w.ids.count, w.expected.count);
        assert_memory_equal(w.ids.data, w.expected.data, (size_t)w.ids.count * sizeof *w.ids.data);
        assert_int_equal(w.chars.len, w.expected_chars.len);
        assert_memory_equal(w.chars.data, w.expected_chars.data, w.chars.len);
        for (int word = 0; word < WORDS; word++) {
            int place = word == steps[i][1] ? 0 : word == steps[i][2] ? 1 : -1;
            assert_ptr_equal(look(line, words[word]), place < 0 ? NULL : line + place);
        }
    }
    encoder_close(e);
    texts_free(&w);
    tokenizer_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_is_the_bytes_and_no_more),
        cmocka_unit_test(ids_are_those_without_it),
        cmocka_unit_test(a_full_line_gives_way),
        cmocka_unit_test(zeros_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
