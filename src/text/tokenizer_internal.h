/* What a tokenizer is made of. Private to src/text/ and its tests. */
#ifndef COLLIMATE_TEXT_TOKENIZER_INTERNAL_H
#define COLLIMATE_TEXT_TOKENIZER_INTERNAL_H

#include "text/bpe.h"
#include "text/pretokenize.h"
#include "text/tokenizer.h"
#include "util/json.h"

enum { STEPS_MAX = 16 }; /* normalizers, steps of a pre-tokenizer, decoders: each at most so many */
enum { BYTES_BEGIN = 256, BYTES_END = 257, BYTES_SIZE = 258 };

enum change_kind { CHANGE_NFC, CHANGE_PREPEND, CHANGE_REPLACE };
struct change { /* a normalizer */
    enum change_kind kind;
    char *from, *to;
    size_t from_n, to_n;
};

enum decode_kind { DECODE_BYTE_LEVEL, DECODE_REPLACE, DECODE_BYTE_FALLBACK, DECODE_FUSE, DECODE_STRIP };
struct decode_step {
    enum decode_kind kind;
    char *from, *to; /* DECODE_REPLACE; from: what DECODE_STRIP takes off */
    int64_t start, stop;
    bool first_only; /* DECODE_REPLACE: of the first token, its first mark is dropped (Metaspace) */
};

struct tokenizer {
    bool bytes;
    struct bpe bpe;
    uint8_t *classes;
    struct change changes[STEPS_MAX];
    int n_changes;
    struct step steps[STEPS_MAX];
    int n_steps;
    struct decode_step decoders[STEPS_MAX];
    int n_decoders;
    struct finder raw;        /* added tokens looked for in the text as it comes */
    struct finder normalized; /* those looked for after normalization */
    struct added_rule *rules; /* of the added tokens that are more than a string */
    int64_t n_rules, rules_capacity;
    int32_t begin, end;
    bool adds_begin;
    uint64_t hash;
    char *folder; /* where it came from; NULL for `bytes` */
};
struct added_rule {
    int32_t id;
    bool left, right, word; /* takes white space on its left, right; only between non-word characters */
    char *shown;            /* decodes to this, its normalized content; NULL: to its content */
};

/* Fills t from a parsed tokenizer.json. `where` is its path. */
enum status tokenizer_from_json(struct tokenizer *t, const json_t *root, const char *where);
/* Fills t from GPT-2's two files in folder. */
enum status tokenizer_from_merges(struct tokenizer *t, const char *folder);
/* Special ids from the other files of the folder (see tokenizer.h), then from well-known names. */
enum status tokenizer_read_specials(struct tokenizer *t, const char *folder);
/* The normalizer, pre_tokenizer and decoder sections (NULL or null: none). */
enum status read_normalizer(struct tokenizer *t, const json_t *section, const char *where);
enum status read_pre_tokenizer(struct tokenizer *t, const json_t *section, const char *where);
enum status read_decoder(struct tokenizer *t, const json_t *section, const char *where);
enum status read_added_tokens(struct tokenizer *t, const json_t *list, const char *where);
/* v through all normalizers; *out borrows from v or from the buffers (n_changes of them). */
enum status normalize(const struct tokenizer *t, const struct view *v, bool weigh,
                      struct view_buffer *buffers, struct view *out);

#endif
