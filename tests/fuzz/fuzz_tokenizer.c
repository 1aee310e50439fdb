/* Tokenizer folders: tokenizer.json, tokenizer.model, or vocab.json and merges.txt, and the files beside
 * them; a text goes through what opens, and another goes on from it. */
#include <string.h>

#include "fuzz.h"
#include "text/tokenizer.h"
#include "util/mem.h"

enum { TEXT = 8 };

static const char some_text[] = "Hello, world! It's 12345 \xc3\xa9\xcc\x81 \xe4\xb8\xad\xe6\x96\x87 "
                                "\xf0\x9f\x98\x80\n\n  </s><|endoftext|>";

static void use(const struct tokenizer *t, const char *text, size_t size) {
    struct encoder *e;
    struct ids ids = {0};
    struct text chars = {0}, back = {0};
    int32_t size_of = tokenizer_size(t);
    FUZZ_CHECK(tokenizer_begin(t) >= -1 && tokenizer_begin(t) < size_of);
    FUZZ_CHECK(tokenizer_end(t) >= -1 && tokenizer_end(t) < size_of);
    (void)tokenizer_hash(t);
    for (int32_t i = 0; i < size_of && i < 300; i++) {
        size_t n;
        (void)tokenizer_token(t, i, &n);
    }
    FUZZ_CHECK(encoder_open(t, &e) == OK);
    if (fuzz_fine(tokenizer_encode(e, text, size, &ids, &chars), ERR_DATA)) {
        FUZZ_CHECK((int64_t)chars.len == ids.count);
        for (int64_t i = 0; i < ids.count; i++) {
            FUZZ_CHECK(ids.data[i] >= 0 && ids.data[i] < size_of);
        }
        FUZZ_CHECK(tokenizer_decode(t, ids.data, ids.count, true, &back) == OK);
        FUZZ_CHECK(tokenizer_decode(t, ids.data, ids.count, false, &back) == OK);
    }
    int64_t before = ids.count;
    if (fuzz_fine(tokenizer_encode_after(e, some_text, sizeof some_text - 1, text, size, &ids, &chars),
                  ERR_DATA)) {
        FUZZ_CHECK((int64_t)chars.len == ids.count);
        FUZZ_CHECK(tokenizer_decode_after(t, ids.data + before, ids.count - before, true, &back) == OK);
    }
    ids_free(&ids);
    text_free(&chars);
    text_free(&back);
    encoder_close(e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fuzz_section s[] = {{.name = "tokenizer.json"},
                               {.name = "vocab.json"},
                               {.name = "merges.txt"},
                               {.name = "tokenizer_config.json"},
                               {.name = "special_tokens_map.json"},
                               {.name = "generation_config.json"},
                               {.name = "added_tokens.json"},
                               {.name = "tokenizer.model"},
                               [TEXT] = {.name = "text"}};
    struct tokenizer *t;
    (void)fuzz_comm(); /* the log's level */
    fuzz_split_files(data, size, s, TEXT);
    fuzz_split(data, size, s, COUNT_OF(s));
    enum status st = tokenizer_open(fuzz_folder(), &t);
    if (st != ERR_INPUT && fuzz_fine(st, ERR_DATA)) { /* ERR_INPUT: neither of the two kinds is there */
        use(t, some_text, sizeof some_text - 1);
        if (s[TEXT].data) {
            use(t, (const char *)s[TEXT].data, s[TEXT].size);
        }
        tokenizer_close(t);
    }
    return 0;
}
