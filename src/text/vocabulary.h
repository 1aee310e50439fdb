/* Vocabulary, merges and added tokens: the tables behind a tokenizer. Private to src/text/.
 *
 * All are built once and then only read. Look-ups are open addressing with linear probing, at most half full.
 */
#ifndef COLLIMATE_TEXT_VOCABULARY_H
#define COLLIMATE_TEXT_VOCABULARY_H

#include <stdint.h>

#include "util/text.h"

/* 64-bit key to two 32-bit values. */
struct pair_slot {
    uint64_t key; /* UINT64_MAX: empty */
    uint32_t first, second;
};
struct pair_map {
    struct pair_slot *slots;
    uint64_t mask;
    int64_t count;
};
enum status pair_map_open(struct pair_map *m, int64_t expected);
void pair_map_free(struct pair_map *m);
/* Replaces what the key had. Grows as needed. */
enum status pair_map_put(struct pair_map *m, uint64_t key, uint32_t first, uint32_t second);
static inline uint64_t pair_hash(uint64_t key) {
    key *= 0x9E3779B97F4A7C15u;
    return key ^ key >> 32;
}
static inline const struct pair_slot *pair_map_find(const struct pair_map *m, uint64_t key) {
    for (uint64_t i = pair_hash(key) & m->mask;; i = (i + 1) & m->mask) {
        if (m->slots[i].key == key) {
            return &m->slots[i];
        }
        if (m->slots[i].key == UINT64_MAX) {
            return NULL;
        }
    }
}

/* Strings with ids. Ids may leave gaps (a gap has no string). */
struct token {
    size_t at;
    uint32_t len;
    uint32_t span;                          /* bytes of text that it stands for as a symbol of the model */
    uint8_t present, model, added, special; /* flags; model: of the vocabulary, not only added */
    uint8_t unused;                         /* of SentencePiece: never the result */
};
struct vocabulary {
    struct text strings;
    struct token *tokens;
    int64_t capacity;
    int32_t size;    /* ids are below this */
    int32_t longest; /* bytes of the longest string */
    int32_t *slots;  /* id + 1; 0: empty */
    uint64_t mask;
    int64_t count;
};
void vocabulary_free(struct vocabulary *v);
/* Fails: ERR_DATA for a negative or absurd id, an id or a string that is there already. */
enum status vocabulary_add(struct vocabulary *v, const char *s, size_t n, int64_t id);
/* -1: not there. */
int32_t vocabulary_find(const struct vocabulary *v, const char *s, size_t n);
static inline const char *vocabulary_string(const struct vocabulary *v, int32_t id, size_t *n) {
    *n = v->tokens[id].len;
    return v->strings.data + v->tokens[id].at;
}

/* Finds any of a set of strings in a text: the leftmost, there the longest. */
enum { FINDER_PAIRS = 3 };
struct finder {
    struct pair_map edges; /* node << 8 | byte -> node, id + 1 (0: no string ends here) */
    uint32_t nodes;
    uint8_t *begins; /* 65536 bits: the first two bytes of some string; both bits of a one-byte string */
    int n_pairs;     /* of such two bytes; more than FINDER_PAIRS: too many, or a string of one byte */
    char pairs[FINDER_PAIRS][2];
    uint8_t ends[32]; /* 256 bits: the last byte of some string */
};
enum status finder_open(struct finder *f);
void finder_free(struct finder *f);
enum status finder_add(struct finder *f, const char *s, size_t n, int32_t id);
/* First place at or after `at`; false if there is none. */
bool finder_next(const struct finder *f, const char *s, size_t n, size_t at, size_t *begin, size_t *end,
                 int32_t *id);
/* Whether some string ends with this byte. */
bool finder_may_end(const struct finder *f, char last);
/* The longest that begins at `at`; false if there is none, or nothing to be found at all. */
bool finder_here(const struct finder *f, const char *s, size_t n, size_t at, size_t *end, int32_t *id);

#endif
