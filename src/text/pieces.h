/* Which ids pieces of text have that were met before: a cache of bounded size. Private to src/text/.
 *
 * It holds pieces of at most 16 bytes and 3 ids, two to a line of 64 bytes. The first place of a line is for
 * what is met again: a new piece takes the second, and changes places when it is found there. Results never
 * depend on it: what is found compares equal byte for byte.
 */
#ifndef COLLIMATE_TEXT_PIECES_H
#define COLLIMATE_TEXT_PIECES_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "util/status.h"

enum { PIECE_BYTES = 16, PIECE_IDS = 3, PIECE_LINES = 1 << 16 };

/* A piece's bytes with zeros behind them. */
struct piece_key {
    uint64_t low, high;
};
struct piece {
    struct piece_key key;
    int32_t ids[PIECE_IDS];
    uint8_t points[PIECE_IDS]; /* code points that end in each of the ids */
    uint8_t shape;             /* bytes of the piece, and above them 32 for each id; 0: empty */
};
struct pieces {
    struct piece *lines; /* (PIECE_LINES, 2) */
};

enum status pieces_open(struct pieces *p);
void pieces_free(struct pieces *p);

static inline size_t piece_bytes(const struct piece *p) {
    return p->shape & 31u;
}

static inline int piece_ids(const struct piece *p) {
    return p->shape >> 5;
}

/* n <= PIECE_BYTES; room: bytes that may be read at s. */
static inline struct piece_key piece_key(const char *s, size_t n, size_t room) {
    static const uint8_t kept[2 * PIECE_BYTES] = {255, 255, 255, 255, 255, 255, 255, 255,
                                                  255, 255, 255, 255, 255, 255, 255, 255};
    struct piece_key key = {0, 0};
    if (room < PIECE_BYTES) {
        memcpy(&key, s, n);
        return key;
    }
    struct piece_key mask;
    memcpy(&key, s, sizeof key);
    memcpy(&mask, kept + PIECE_BYTES - n, sizeof mask);
    return (struct piece_key){key.low & mask.low, key.high & mask.high};
}

/* The line of a piece. */
static inline struct piece *pieces_line(const struct pieces *p, struct piece_key key) {
    enum { LINE_BITS = 16 };
    _Static_assert(1 << LINE_BITS == PIECE_LINES, "a line for each hash");
    uint64_t hash = key.low * 0x9E3779B97F4A7C15u + key.high * 0xC2B2AE3D27D4EB4Fu;
    return p->lines + (hash >> (64 - LINE_BITS)) * 2;
}

static inline bool piece_is(const struct piece *p, struct piece_key key, size_t n) {
    return p->key.low == key.low && p->key.high == key.high && piece_bytes(p) == n;
}

/* NULL: it is not there. */
static inline const struct piece *pieces_find(struct piece *line, struct piece_key key, size_t n) {
    if (!piece_is(&line[0], key, n)) {
        if (!piece_is(&line[1], key, n)) {
            return NULL;
        }
        struct piece first = line[0];
        line[0] = line[1];
        line[1] = first;
    }
    return &line[0];
}

/* Where a new piece goes. */
static inline struct piece *pieces_place(struct piece *line) {
    return &line[line[0].shape != 0];
}

#endif
