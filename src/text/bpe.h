/* Byte-pair encoding of one word. Private to src/text/.
 *
 * A word becomes symbols (bytes for byte-level vocabularies, code points otherwise), then the adjacent pair
 * with the lowest rank (ties: leftmost) is merged until no pair has a rank. Sennrich et al. 2016; the
 * handling of unknown symbols is that of the `tokenizers` package (models/bpe).
 */
#ifndef COLLIMATE_TEXT_BPE_H
#define COLLIMATE_TEXT_BPE_H

#include "text/vocabulary.h"

struct bpe {
    struct vocabulary vocabulary;
    struct pair_map merges; /* left << 32 | right -> rank, new id */
    bool byte_level;        /* symbols are bytes, stored as the printable characters of GPT-2 */
    bool byte_fallback;     /* an unknown code point becomes its bytes' tokens <0xXX> */
    bool fuse_unk;          /* unknown symbols in a row become one */
    bool ignore_merges;     /* a word that is a token is that token */
    bool splits_at_mark;    /* no merge reaches over "x▁": words may be cut there */
    bool has_unused;        /* some tokens are only a step on the way: they fall apart again */
    int32_t unk;            /* -1: unknown symbols are left out */
    int32_t byte_ids[256];  /* of each byte's symbol, or of <0xXX>; -1 */
    int32_t ascii_ids[128]; /* of each ASCII symbol where symbols are code points; -1 */
};
/* Fills the tables that follow from vocabulary and merges. */
void bpe_finish(struct bpe *b);
void bpe_free(struct bpe *b);

/* The printable character that GPT-2's byte-level vocabularies store a byte as, and back (-1: none). */
uint32_t bpe_byte_to_point(int byte);
int bpe_point_to_byte(uint32_t point);
/* Fails: ERR_DATA where a part or the result of a merge is not in the vocabulary. */
enum status bpe_add_merge(struct bpe *b, const char *left, size_t left_n, const char *right, size_t right_n,
                          uint32_t rank);

struct symbol {
    int32_t id;
    uint32_t len; /* bytes of the word that it stands for */
    uint32_t rank;
    int32_t merged;
    int32_t previous, next;
};
struct bpe_scratch {
    struct symbol *symbols; /* the result: ids and lengths */
    int64_t count, capacity;
    struct merge_candidate *heap;
    int64_t heap_count, heap_capacity;
    struct text spelled;
    struct unused_split *splits; /* by id, where the model has unused tokens */
    struct path *paths;          /* of unigram_word() */
    int64_t paths_capacity;
};
/* Appends a symbol. */
enum status bpe_push(struct bpe_scratch *s, int32_t id, size_t len);
/* Whether every byte of s has its token <0xXX>, and falling back to them is on. */
bool bpe_falls_back(const struct bpe *b, const char *s, size_t n);
void bpe_scratch_free(struct bpe_scratch *s);
/* Fails: ERR_DATA for a word above 1 GiB. */
enum status bpe_word(const struct bpe *b, struct bpe_scratch *s, const char *word, size_t n);

#endif
