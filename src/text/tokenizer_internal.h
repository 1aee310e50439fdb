/* What a tokenizer is made of. Private to src/text/ and its tests. */
#ifndef COLLIMATE_TEXT_TOKENIZER_INTERNAL_H
#define COLLIMATE_TEXT_TOKENIZER_INTERNAL_H

#include "text/bpe.h"
#include "text/charsmap.h"
#include "text/pretokenize.h"
#include "text/tokenizer.h"
#include "text/unigram.h"
#include "util/json.h"

enum { STEPS_MAX = 16 }; /* normalizers, steps of a pre-tokenizer, decoders: each at most so many */
enum { BYTES_BEGIN = 256, BYTES_END = 257, BYTES_SIZE = 258 };

#define SPACE_MARK "\xe2\x96\x81" /* U+2581, SentencePiece's space */

enum change_kind {
    CHANGE_FORM,    /* a normalization form */
    CHANGE_PREPEND, /* `to` put in front */
    CHANGE_REPLACE, /* each `from`, or each match of the cut, becomes `to` */
    CHANGE_LOWERCASE,
    CHANGE_STRIP,         /* white space at the ends */
    CHANGE_PRECOMPILED,   /* a map of SentencePiece as the `tokenizers` package applies it */
    CHANGE_SENTENCEPIECE, /* SentencePiece's own normalizer */
};
struct change { /* a normalizer */
    enum change_kind kind;
    enum normal_form form;
    char *from, *to;
    size_t from_n, to_n;
    struct step cut;      /* CHANGE_REPLACE: its pattern */
    bool left, right;     /* CHANGE_STRIP */
    struct charsmap *map; /* of the two last kinds; NULL: none */
    bool dummy, extra;    /* CHANGE_SENTENCEPIECE: a space is put in front; extra spaces are removed */
    bool once;            /* … only where the text begins, and not with a space */
    bool escape;          /* … spaces become U+2581 */
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
    bool slow; /* of vocab.json and merges.txt, or tokenizer.model: added_tokens.json counts */
    struct bpe bpe;
    struct unigram *unigram; /* NULL: the model is BPE */
    struct finder
        symbols; /* user-defined symbols of SentencePiece: left alone by its normalizer, found whole */
    uint8_t *classes;
    struct change changes[STEPS_MAX];
    int n_changes;
    struct step steps[STEPS_MAX];
    int n_steps;
    struct decode_step decoders[STEPS_MAX];
    int n_decoders;
    struct finder raw;        /* added tokens looked for in the text as it comes */
    struct finder normalized; /* those looked for after normalization */
    struct added_token *added;
    int64_t n_added, added_capacity;
    struct added_rule *rules; /* of the added tokens that are more than a string */
    int64_t n_rules, rules_capacity;
    bool takes_right;     /* some added token takes the white space behind it */
    uint64_t beside_hash; /* of what the files beside changed in the added tokens; 0: nothing */
    int32_t begin, end, pad;
    bool adds_begin;
    uint64_t hash;
    char *folder; /* where it came from; NULL for `bytes` */
};
/* A token that is looked for in the text before the model sees it. */
struct added_token {
    char *content;
    size_t n;
    int64_t id;
    bool special;
    bool normalized;        /* looked for after normalization */
    bool left, right, word; /* takes white space on its left, right; only between non-word characters */
};
struct added_rule {
    int32_t id;
    bool left, right, word; /* takes white space on its left, right; only between non-word characters */
    char *shown;            /* decodes to this, its normalized content; NULL: to its content */
};

/* Parses FOLDER/NAME into *out, NULL where there is none; *path names it. */
enum status folder_json(const char *folder, const char *name, struct text *path, json_t **out);

/* Fills t from a parsed tokenizer.json, and the added tokens of the files beside it. `where` is its path. */
enum status tokenizer_from_json(struct tokenizer *t, const json_t *root, const char *where);
/* Fills t from vocab.json and merges.txt in its folder, by the rules of the tokenizer_class that
 * tokenizer_config.json names (none: GPT-2). Fails: ERR_DATA naming a class that is not here. */
enum status tokenizer_from_merges(struct tokenizer *t);
/* Fills t from a SentencePiece model, path, and the files beside it. */
enum status tokenizer_from_sentencepiece(struct tokenizer *t, const char *path);
/* The tables that every kind needs. */
enum status tokenizer_begin_fill(struct tokenizer *t);
/* Hash of vocabulary (in id order), merges or scores, and flags; not of the file's layout. */
uint64_t hash_model(const struct tokenizer *t);
/* Special ids from the other files of the folder (see tokenizer.h), then from well-known names. */
enum status tokenizer_read_specials(struct tokenizer *t, const char *folder);
/* The normalizer, pre_tokenizer and decoder sections (NULL or null: none). */
enum status read_normalizer(struct tokenizer *t, const json_t *section, const char *where);
enum status read_pre_tokenizer(struct tokenizer *t, const json_t *section, const char *where);
enum status read_decoder(struct tokenizer *t, const json_t *section, const char *where);

/* Added tokens: those of tokenizer.json; those that tokenizer_config.json has besides, and where it has no
 * added_tokens_decoder and `always`, those of added_tokens.json; then what finds them. */
enum status read_added_tokens(struct tokenizer *t, const json_t *list, const char *where);
enum status read_added_beside(struct tokenizer *t, bool always);
/* Takes in one token, or how a known one is to be matched; content is copied. id -1: the vocabulary's. */
enum status added_put(struct tokenizer *t, const struct added_token *token, const char *where);
enum status added_finish(struct tokenizer *t);
void added_free(struct tokenizer *t);

/* v through all normalizers; *out borrows from v or from the buffers (n_changes of them), whose `owed` is
 * what was lost at the end. */
enum status normalize(const struct tokenizer *t, struct matcher *matcher, const struct view *v, bool weigh,
                      struct view_buffer *buffers, struct view *out);
void change_free(struct change *c);

#endif
