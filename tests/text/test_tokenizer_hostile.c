/* Damaged, hostile and unsupported tokenizers: a clear refusal that names what is wrong, never a crash. */
#include "tests/unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"
#include "text/tokenizer.h"
#include "util/mem.h"

static char folder[] = "/tmp/collimate-hostile-XXXXXX";
static struct text path;

static const char *in_folder(const char *name) {
    text_clear(&path);
    assert_int_equal(text_printf(&path, "%s/%s", folder, name), OK);
    return path.data;
}

static void write_file(const char *name, const char *data, size_t n) {
    FILE *file = fopen(in_folder(name), "wb"); /* not file_write(): hundreds of files need no disk */
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
}

static enum status open_text(const char *json, size_t n, struct tokenizer **t) {
    write_file("tokenizer.json", json, n);
    return tokenizer_open(folder, t);
}

static void expect_refused(const char *json, const char *words) {
    struct tokenizer *t;
    enum status st = open_text(json, strlen(json), &t);
    if (st != ERR_DATA || !strstr(status_message()->text, words) || !strstr(status_message()->text, folder)) {
        FAIL("%s\nstatus %d, \"%s\"; expected \"%s\"", json, (int)st, st ? status_message()->text : "",
             words);
    }
}

/* A tokenizer of the model alone, or of a model and another section. */
#define MODEL(fields) "{\"model\": {\"type\": \"BPE\", " fields "}}"
#define WITH(section) \
    "{\"model\": {\"vocab\": {\"a\": 0, \"b\": 1, \"ab\": 2}, \"merges\": [\"a b\"]}, " section "}"

static void models_that_do_not_hold_together(void **state) {
    (void)state;
    expect_refused("", "not valid JSON");
    expect_refused("[]", "an object is expected");
    expect_refused("{}", "there is no \"model\"");
    expect_refused(MODEL("\"vocab\": {}, \"merges\": []"), "vocabulary");
    expect_refused(MODEL("\"vocab\": [\"a\"], \"merges\": []"), "vocabulary");
    expect_refused(MODEL("\"vocab\": {\"a\": 0}"), "\"merges\"");
    expect_refused(MODEL("\"vocab\": {\"a\": \"0\"}, \"merges\": []"), "must be an integer");
    expect_refused(MODEL("\"vocab\": {\"a\": 0, \"b\": 0}, \"merges\": []"), "the same id 0");
    expect_refused(MODEL("\"vocab\": {\"a\": -1}, \"merges\": []"), "out of range");
    expect_refused(MODEL("\"vocab\": {\"a\": 4294967296}, \"merges\": []"), "out of range");
    expect_refused(MODEL("\"vocab\": {\"a\": 50000000}, \"merges\": []"), "out of range");
    expect_refused(MODEL("\"vocab\": {\"a\": 9999999999999999999999}, \"merges\": []"), "must be an integer");
    expect_refused(MODEL("\"vocab\": {\"a\": 0, \"b\": 1}, \"merges\": [\"a c\"]"),
                   "\"c\" is not in the vocabulary");
    expect_refused(MODEL("\"vocab\": {\"a\": 0, \"b\": 1}, \"merges\": [\"c a\"]"),
                   "\"c\" is not in the vocabulary");
    expect_refused(MODEL("\"vocab\": {\"a\": 0, \"b\": 1}, \"merges\": [\"a b\"]"), "\"ab\", which is not");
    expect_refused(MODEL("\"vocab\": {\"a\": 0, \"b\": 1}, \"merges\": [[\"a\", \"b\"]]"),
                   "\"ab\", which is not");
    expect_refused(MODEL("\"vocab\": {\"a\": 0}, \"merges\": [\"aa\"]"), "is not two tokens");
    expect_refused(MODEL("\"vocab\": {\"a\": 0}, \"merges\": [\"a a a\"]"), "is not two tokens");
    expect_refused(MODEL("\"vocab\": {\"a\": 0, \"\": 1}, \"merges\": [\"a \"]"), "not in the vocabulary");
    expect_refused(MODEL("\"vocab\": {\"a\": 0}, \"merges\": [[\"a\"]]"), "neither a string nor two");
    expect_refused(MODEL("\"vocab\": {\"a\": 0}, \"merges\": [7]"), "neither a string nor two");
    expect_refused(MODEL("\"vocab\": {\"a\": 0}, \"merges\": [], \"unk_token\": \"u\""), "unk_token \"u\"");
}

static void what_is_not_supported_is_named(void **state) {
    (void)state;
    expect_refused("{\"model\": {\"type\": \"WordPiece\", \"vocab\": {\"a\": 0}}}", "\"WordPiece\"");
    expect_refused(MODEL("\"vocab\": {\"a\": 0}, \"merges\": [], \"dropout\": 0.1"), "\"dropout\"");
    expect_refused(MODEL("\"vocab\": {\"a\": 0}, \"merges\": [], \"end_of_word_suffix\": \"</w>\""),
                   "\"end_of_word_suffix\"");
    expect_refused(WITH("\"normalizer\": {\"type\": \"BertNormalizer\"}"), "normalizer \"BertNormalizer\"");
    expect_refused(
        WITH("\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"StripAccents\"}]}"),
        "normalizer \"StripAccents\"");
    expect_refused(WITH("\"normalizer\": {\"type\": \"Precompiled\", \"precompiled_charsmap\": \"!\"}"),
                   "base64");
    expect_refused(WITH("\"normalizer\": {\"type\": \"Precompiled\", \"precompiled_charsmap\": \"AAAA\"}"),
                   "map of characters is damaged");
    expect_refused(WITH("\"pre_tokenizer\": {\"type\": \"BertPreTokenizer\"}"),
                   "pre_tokenizer \"BertPreTokenizer\"");
    expect_refused(
        WITH("\"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"Regex\": \"a+\"}, \"behavior\": "
             "\"MergedWithBoth\"}"),
        "MergedWithBoth");
    expect_refused(
        WITH("\"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"Regex\": \"\\\\w+\"}, \"behavior\": "
             "\"Isolated\"}"),
        "\\w");
    expect_refused(
        WITH("\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"ByteLevel\"}, "
             "{\"type\": \"Digits\"}]}"),
        "after ByteLevel \"Digits\"");
    expect_refused(WITH("\"decoder\": {\"type\": \"WordPiece\"}"), "decoder \"WordPiece\"");
    expect_refused(WITH("\"post_processor\": {\"type\": \"BertProcessing\"}"),
                   "post_processor \"BertProcessing\"");
    expect_refused(WITH("\"normalizer\": 3"), "normalizer has no \"type\"");
    expect_refused(WITH("\"added_tokens\": {}"), "\"added_tokens\" must be an array");
    expect_refused(WITH("\"added_tokens\": [{\"id\": 3}]"), "no \"content\"");
    expect_refused(WITH("\"added_tokens\": [{\"content\": \"c\"}]"), "out of range");
    expect_refused(WITH("\"added_tokens\": [{\"content\": \"c\", \"id\": 1}]"), "the same id 1");
    expect_refused(WITH("\"added_tokens\": [{\"content\": \"b\", \"id\": 7}]"), "is 1 in the vocabulary");
    expect_refused(WITH("\"added_tokens\": [{\"content\": \"c\", \"id\": 99999999999}]"), "out of range");
    expect_refused(
        WITH("\"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": "
             "{\"id\": \"<s>\"}}]}"),
        "not in the vocabulary");
}

static void unigram_models_are_checked(void **state) {
    (void)state;
#define UNIGRAM(fields) "{\"model\": {\"type\": \"Unigram\", " fields "}}"
    expect_refused(UNIGRAM("\"vocab\": []"), "array of tokens and scores");
    expect_refused(UNIGRAM("\"vocab\": {\"a\": 0}"), "array of tokens and scores");
    expect_refused(UNIGRAM("\"vocab\": [\"a\"]"), "entry 0 of the vocabulary");
    expect_refused(UNIGRAM("\"vocab\": [[\"a\", 0], [\"b\"]]"), "entry 1 of the vocabulary");
    expect_refused(UNIGRAM("\"vocab\": [[\"a\", \"0\"]]"), "entry 0 of the vocabulary");
    expect_refused(UNIGRAM("\"vocab\": [[\"a\", 0], [\"a\", 0]]"), "two ids");
    expect_refused(UNIGRAM("\"vocab\": [[\"a\", 0]], \"unk_id\": 1"), "unk_id 1");
    expect_refused(UNIGRAM("\"vocab\": [[\"a\", 0]], \"unk_id\": -7"), "unk_id -7");
    const char *json = UNIGRAM("\"vocab\": [[\"a\", 0]]");
    struct tokenizer *t;
    struct encoder *e;
    struct ids ids = {0};
    assert_int_equal(open_text(json, strlen(json), &t), OK);
    assert_int_equal(encoder_open(t, &e), OK);
    assert_int_equal(tokenizer_encode(e, "aab", 3, &ids, NULL), ERR_DATA);
    assert_non_null(strstr(status_message()->text, "no unknown one"));
    assert_int_equal(ids.count, 0);
    encoder_close(e);
    tokenizer_close(t);
    ids_free(&ids);
}

static void every_truncation_is_refused(void **state) {
    (void)state;
    char *json;
    size_t n;
    assert_int_equal(file_read(FIXTURES "/tokenizers/rules/tokenizer.json", &json, &n), OK);
    for (size_t cut = 0; cut + 2 < n; cut += 1 + cut / 40) {
        struct tokenizer *t;
        assert_int_equal(open_text(json, cut, &t), ERR_DATA);
    }
    mem_free(json);
}

/* Single bytes changed: refused or read, then used; what matters is that nothing breaks (sanitizers watch).
 */
static void damaged_bytes_never_crash(void **state) {
    (void)state;
    char *json;
    size_t n;
    assert_int_equal(file_read(FIXTURES "/tokenizers/rules/tokenizer.json", &json, &n), OK);
    static const char bytes[] = {'"', '{', ']', '9', '-', '\0', 'x'};
    int opened = 0;
    for (size_t at = 0; at < n; at += 67) {
        char old = json[at];
        json[at] = bytes[at / 67 % sizeof bytes];
        struct tokenizer *t;
        enum status st = open_text(json, n, &t);
        if (st == OK) {
            struct encoder *e;
            struct ids ids = {0};
            struct text out = {0};
            const char *text = "a <m> word 12\u00e9 <r> \n";
            assert_int_equal(encoder_open(t, &e), OK);
            assert_int_equal(tokenizer_encode(e, text, strlen(text), &ids, NULL), OK);
            assert_int_equal(tokenizer_decode(t, ids.data, ids.count, false, &out), OK);
            ids_free(&ids);
            text_free(&out);
            encoder_close(e);
            tokenizer_close(t);
            opened++;
        } else {
            assert_int_equal(st, ERR_DATA);
        }
        json[at] = old;
    }
    assert_true(opened > 0);
    mem_free(json);
}

static void deep_nesting_is_refused(void **state) {
    (void)state;
    enum { DEPTH = 100000 };
    struct text json = {0};
    assert_int_equal(text_puts(&json, "{\"normalizer\": "), OK);
    for (int i = 0; i < DEPTH; i++) {
        assert_int_equal(text_puts(&json, "["), OK);
    }
    struct tokenizer *t;
    assert_int_equal(open_text(json.data, json.len, &t), ERR_DATA);
    text_clear(&json);
    assert_int_equal(
        text_puts(&json, "{\"model\": {\"vocab\": {\"a\": 0}, \"merges\": []}, \"normalizer\": "), OK);
    for (int i = 0; i < 900; i++) {
        assert_int_equal(text_puts(&json, "{\"type\": \"Sequence\", \"normalizers\": ["), OK);
    }
    for (int i = 0; i < 900; i++) {
        assert_int_equal(text_puts(&json, "]}"), OK);
    }
    assert_int_equal(text_puts(&json, "}"), OK);
    assert_int_equal(open_text(json.data, json.len, &t), OK); /* empty sequences change nothing */
    tokenizer_close(t);
    text_free(&json);
}

static void files_beside_are_checked(void **state) {
    (void)state;
    struct tokenizer *t;
    const char *json = WITH("\"version\": \"1.0\"");
    assert_int_equal(open_text(json, strlen(json), &t), OK);
    tokenizer_close(t);
    const struct {
        const char *json, *words;
    } configs[] = {{"{\"eos_token\": \"zzz\"}", "\"zzz\", which is not in the vocabulary"},
                   {"{\"eos_token\": 3}", "must be a string"},
                   {"{\"eos_token_id\": 3}", "not in the vocabulary of 3"},
                   {"{\"bos_token_id\": [-4]}", "must be an id"},
                   {"{\"bos_token_id\": ", "not valid JSON"}};
    for (int i = 0; i < COUNT_OF(configs); i++) {
        write_file("tokenizer_config.json", configs[i].json, strlen(configs[i].json));
        expect_refused(json, configs[i].words);
    }
    assert_int_equal(unlink(in_folder("tokenizer_config.json")), 0);
    assert_int_equal(unlink(in_folder("tokenizer.json")), 0);
    assert_int_equal(tokenizer_open(folder, &t), ERR_INPUT);
    assert_int_equal(tokenizer_open("/no/such/folder", &t), ERR_INPUT);
    write_file("vocab.json", "{\"a\": 0}", 8);
    write_file("merges.txt", "#version: 0.2\na\xff b\n", 19);
    assert_int_equal(tokenizer_open(folder, &t), ERR_DATA);
    write_file("merges.txt", "a b\n", 4);
    assert_int_equal(tokenizer_open(folder, &t), ERR_DATA);
    assert_int_equal(unlink(in_folder("vocab.json")), 0);
    assert_int_equal(unlink(in_folder("merges.txt")), 0);
}

static enum status open_model(const char *data, size_t n, struct tokenizer **t) {
    write_file("tokenizer.model", data, n);
    return tokenizer_open(folder, t);
}

static void expect_model_refused(const char *data, size_t n, const char *words) {
    struct tokenizer *t;
    enum status st = open_model(data, n, &t);
    if (st != ERR_DATA || !strstr(status_message()->text, words) || !strstr(status_message()->text, folder)) {
        FAIL("status %d, \"%s\"; expected \"%s\"", (int)st, st ? status_message()->text : "", words);
    }
}
#define REFUSED(bytes, words) expect_model_refused(bytes, sizeof bytes - 1, words)
/* Pieces <unk> (unknown), a. */
#define TWO                     \
    "\n\x09\n\x05<unk>\x18\x02" \
    "\n\x08\n\x01"              \
    "a\x15\0\0\x80\xbf"

static void sentencepiece_models_are_checked(void **state) {
    (void)state;
    struct tokenizer *t;
    assert_int_equal(open_model(TWO, sizeof TWO - 1, &t), OK);
    assert_int_equal(tokenizer_size(t), 2);
    tokenizer_close(t);
    REFUSED("", "not a SentencePiece model");
    REFUSED("IQ== 0\n", "not a SentencePiece model");                     /* tiktoken's */
    REFUSED("\n\x7f\n", "longer than what is left");                      /* a length */
    REFUSED("\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "longer than"); /* 2^64 - 1 */
    REFUSED("\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "more than 10 bytes");
    REFUSED("\n\x80", "cut off");
    REFUSED(TWO "\x03", "out of range");             /* field 0 */
    REFUSED(TWO "\x0b", "unknown type");             /* a group */
    REFUSED(TWO "\x15\0\0", "cut off");              /* a float */
    REFUSED(TWO "\x08\x01", "another type");         /* a piece that is a number */
    REFUSED(TWO "\x12\x02\x1a\x00", "another type"); /* the kind of model as bytes */
    REFUSED(TWO "\x12\x02\x18\x03", "words or characters");
    REFUSED(TWO "\x12\x03\xc0\x01\x01", "treat_whitespace_as_suffix");
    REFUSED(TWO "\x1a\x06\x12\x04\x04\0\0\0", "map of characters");
    REFUSED(TWO "\x1a\x0b\x12\x09\xff\xff\xff\xff\x01\0\0\0\0", "map of characters");
    REFUSED(TWO "\x2a\x06\x12\x04\0\0\0\0", "denormalizer");
    REFUSED(TWO "\n\x03\n\x01"
                "a",
            "two ids");
    REFUSED(TWO "\n\x03\n\x01\0", "piece 2");
    REFUSED(TWO "\n\x03\n\x01\xff", "piece 2");
    REFUSED(TWO "\n\x08\n\x01"
                "b\x15\0\0\xc0\x7f",
            "piece 2"); /* not a number */
    REFUSED(TWO "\n\x05\n\x01"
                "b\x18\x07",
            "piece 2");
    REFUSED(TWO "\n\x05\n\x01"
                "b\x18\x02",
            "two unknown");
    REFUSED("\n\x03\n\x01"
            "a",
            "no unknown");
    write_file("tokenizer_config.json", "{\"tokenizer_class\": \"T5Tokenizer\"}", 34);
    REFUSED(TWO, "\"T5Tokenizer\" with tokenizer.model is not supported");
    write_file("tokenizer_config.json", "{\"tokenizer_class\": \"LlamaTokenizer\"}", 37);
    REFUSED(TWO, "needs a BPE model");
    assert_int_equal(unlink(in_folder("tokenizer_config.json")), 0);
}

/* Cut anywhere, and single bytes changed: refused, or read and used. */
static void damaged_models_never_crash(void **state) {
    (void)state;
    char *data;
    size_t n;
    int opened = 0;
    assert_int_equal(file_read(FIXTURES "/tokenizers/unigram-model/tokenizer.model", &data, &n), OK);
    for (size_t at = 1; at < n; at += 1 + n / 400) {
        struct tokenizer *t;
        char old = data[at];
        data[at] ^= (char)(1 << at % 8);
        enum status st = open_model(data, at % 3 ? n : at, &t);
        data[at] = old;
        if (st != OK) {
            assert_int_equal(st, ERR_DATA);
            continue;
        }
        struct encoder *e;
        struct ids ids = {0};
        struct text out = {0};
        const char *text = "a <m> word 12\u00e9 \ufb01<r> \n";
        assert_int_equal(encoder_open(t, &e), OK);
        assert_int_equal(tokenizer_encode(e, text, strlen(text), &ids, NULL), OK);
        assert_int_equal(tokenizer_decode(t, ids.data, ids.count, false, &out), OK);
        ids_free(&ids);
        text_free(&out);
        encoder_close(e);
        tokenizer_close(t);
        opened++;
    }
    assert_true(opened > 0);
    assert_int_equal(unlink(in_folder("tokenizer.model")), 0);
    mem_free(data);
}

static void slow_folders_are_checked(void **state) {
    (void)state;
    struct tokenizer *t;
    const struct {
        const char *name, *content, *words;
    } files[] = {
        {"tokenizer_config.json", "{\"tokenizer_class\": \"BertTokenizer\"}",
         "\"BertTokenizer\" with vocab.json"},
        {"tokenizer_config.json", "{\"added_tokens_decoder\": {\"x\": {\"content\": \"c\"}}}",
         "\"x\" is not an id"},
        {"tokenizer_config.json", "{\"added_tokens_decoder\": {\"5\": {}}}", "no \"content\""},
        {"tokenizer_config.json", "{\"added_tokens_decoder\": {\"5\": {\"content\": \"b\"}}}",
         "is 1 in the vocabulary"},
        {"tokenizer_config.json", "{\"added_tokens_decoder\": {\"1\": {\"content\": \"c\"}}}",
         "the same id 1"},
        {"added_tokens.json", "{\"c\": \"7\"}", "must be an integer"},
        {"added_tokens.json", "[]", "object of tokens and ids"},
        {"added_tokens.json", "{\"c\": 999999999}", "out of range"},
    };
    const char *vocab = "{\"a\": 0, \"b\": 1, \"ab\": 2}";
    write_file("vocab.json", vocab, strlen(vocab));
    write_file("merges.txt", "a b\n", 4);
    for (int i = 0; i < COUNT_OF(files); i++) {
        write_file(files[i].name, files[i].content, strlen(files[i].content));
        enum status st = tokenizer_open(folder, &t);
        if (st != ERR_DATA || !strstr(status_message()->text, files[i].words)) {
            FAIL("%s: status %d, \"%s\"", files[i].content, (int)st, st ? status_message()->text : "");
        }
        assert_int_equal(unlink(in_folder(files[i].name)), 0);
    }
    write_file("added_tokens.json", "{\"c\": 3}", 8);
    assert_int_equal(tokenizer_open(folder, &t), OK);
    assert_int_equal(tokenizer_id(t, "c"), 3);
    tokenizer_close(t);
    assert_int_equal(unlink(in_folder("added_tokens.json")), 0);
    assert_int_equal(unlink(in_folder("vocab.json")), 0);
    assert_int_equal(unlink(in_folder("merges.txt")), 0);
}

static void invalid_utf8_is_refused_with_its_place(void **state) {
    (void)state;
    const char *const bad[] = {"abc\x80",     "abc\xc0\xaf", "abc\xed\xa0\x80", "abc\xf4\x90\x80\x80",
                               "abc\xe2\x82", "abc\xff"};
    struct tokenizer *t;
    struct encoder *e;
    struct ids ids = {0};
    struct text chars = {0};
    assert_int_equal(tokenizer_open(FIXTURES "/tokenizers/neox", &t), OK);
    assert_int_equal(encoder_open(t, &e), OK);
    for (int i = 0; i < COUNT_OF(bad); i++) {
        assert_int_equal(tokenizer_encode(e, bad[i], strlen(bad[i]), &ids, &chars), ERR_DATA);
        assert_non_null(strstr(status_message()->text, "byte 3"));
        assert_int_equal(ids.count, 0);
        assert_int_equal(chars.len, 0);
    }
    int32_t ids_bad[] = {1 << 30, -1}; /* an id without a token has no text */
    assert_int_equal(tokenizer_decode(t, &ids_bad[0], 1, false, &chars), OK);
    assert_int_equal(chars.len, 0);
    assert_int_equal(tokenizer_decode(t, &ids_bad[1], 1, false, &chars), ERR_DATA);
    ids_free(&ids);
    text_free(&chars);
    encoder_close(e);
    tokenizer_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(models_that_do_not_hold_together),
        cmocka_unit_test(what_is_not_supported_is_named),
        cmocka_unit_test(unigram_models_are_checked),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(damaged_bytes_never_crash),
        cmocka_unit_test(deep_nesting_is_refused),
        cmocka_unit_test(files_beside_are_checked),
        cmocka_unit_test(sentencepiece_models_are_checked),
        cmocka_unit_test(damaged_models_never_crash),
        cmocka_unit_test(slow_folders_are_checked),
        cmocka_unit_test(invalid_utf8_is_refused_with_its_place),
    };
    if (!mkdtemp(folder)) {
        return 1;
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    const char *const names[] = {"tokenizer.json", "tokenizer_config.json", "vocab.json",
                                 "merges.txt",     "tokenizer.model",       "added_tokens.json"};
    for (int i = 0; i < COUNT_OF(names); i++) {
        (void)unlink(in_folder(names[i]));
    }
    (void)rmdir(folder);
    text_free(&path);
    return failed;
}
