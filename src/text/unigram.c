#include "text/unigram.h"

#include <math.h>
#include <string.h>

#include "text/unicode.h"
#include "util/mem.h"

/* The best way to a byte of the word, and the token that it ends with. */
struct path {
    double score;
    uint32_t begin;
    int32_t id; /* -1: there is no way yet */
    uint32_t end;
};

enum { UNKNOWN = INT32_MAX }; /* as id */
enum { RECENTERED = 100000 }; /* size of a sum from which SentencePiece begins anew at 0 */

void unigram_free(struct unigram *u) {
    if (u) {
        finder_free(&u->tokens);
        mem_free(u->scores);
        mem_free(u->user);
        mem_free(u);
    }
}

static void offer(const struct unigram *u, struct path *to, double score, size_t begin, int32_t id) {
    score = u->single ? (double)(float)score : score;
    if (to->id < 0 || score > to->score) {
        to->score = score;
        to->begin = (uint32_t)begin;
        to->id = id;
    }
}

static double score_of(const struct unigram *u, int32_t id, size_t length) {
    if (u->user && u->user[id]) {
        return (double)(0.1f * (float)(length - 1)); /* always above what its parts have */
    }
    return u->scores[id];
}

/* Offers every token that begins at `at` to the place where it ends. */
static void offer_all(const struct unigram *u, struct path *paths, const char *word, size_t n, size_t at) {
    size_t single = (size_t)utf8_length((unsigned char)word[at]);
    bool covered = false;
    uint32_t node = 0;
    for (size_t i = at; i < n; i++) {
        uint64_t key = (uint64_t)node << 8 | (unsigned char)word[i];
        const struct pair_slot *edge = pair_map_find(&u->tokens.edges, key);
        if (!edge) {
            break;
        }
        if (edge->second) {
            int32_t id = (int32_t)edge->second - 1;
            size_t length = i + 1 - at;
            offer(u, &paths[i + 1], score_of(u, id, length) + paths[at].score, at, id);
            covered |= length == single;
        }
        node = edge->first;
    }
    if (!covered) {
        double score = u->unknown + paths[at].score;
        offer(u, &paths[at + single], u->single ? (double)(float)score : score, at, UNKNOWN);
    }
}

static enum status put_unknown(const struct unigram *u, const struct bpe *b, struct bpe_scratch *s,
                               const char *text, size_t n) {
    int32_t known = u->single ? -1 : vocabulary_find(&b->vocabulary, text, n);
    if (known >= 0 && b->vocabulary.tokens[known].model) {
        return bpe_push(s, known, n); /* as in the package */
    }
    if (bpe_falls_back(b, text, n)) {
        for (size_t i = 0; i < n; i++) {
            TRY(bpe_push(s, b->byte_ids[(unsigned char)text[i]], 1));
        }
        return OK;
    }
    return b->unk >= 0 ? bpe_push(s, b->unk, n)
                       : fail(ERR_DATA, "\"%.*s\" has no token, and the model no unknown one",
                              (int)(n < 80 ? n : 80), text);
}

/* Tokens of the best path, which its ends name backwards. */
static enum status put_path(const struct unigram *u, const struct bpe *b, struct bpe_scratch *s,
                            const char *word, size_t n) {
    struct path *paths = s->paths;
    for (size_t end = n; end > 0; end = paths[end].begin) {
        paths[paths[end].begin].end = (uint32_t)end;
    }
    size_t unknown = 0; /* bytes of unknown code points in a row */
    for (size_t at = 0; at < n;) {
        size_t end = paths[at].end;
        int32_t id = paths[end].id;
        bool is_unknown = id == UNKNOWN || id == b->unk;
        if (unknown > 0 && !is_unknown) {
            TRY(put_unknown(u, b, s, word + at - unknown, unknown));
        }
        unknown = is_unknown ? unknown + end - at : 0;
        TRY(is_unknown ? OK : bpe_push(s, id, end - at));
        at = end;
    }
    return unknown > 0 ? put_unknown(u, b, s, word + n - unknown, unknown) : OK;
}

/* Takes the sum at `at` off all that is known from there on, to keep the precision of floats. */
static void recenter(struct path *paths, size_t at, size_t n, size_t longest) {
    double offset = paths[at].score;
    for (size_t i = at; i <= n && i <= at + longest; i++) {
        if (i == at || paths[i].id >= 0) {
            paths[i].score = (double)((float)paths[i].score - (float)offset);
        }
    }
}

enum status unigram_word(const struct unigram *u, const struct bpe *b, struct bpe_scratch *s,
                         const char *word, size_t n) {
    if (n > 1u << 30) {
        return fail(ERR_DATA, "a word of %zu bytes is above 1 GiB", n);
    }
    s->count = 0;
    TRY(GROW_ARRAY(s->paths, s->paths_capacity, (int64_t)n + 1));
    for (size_t i = 0; i <= n; i++) {
        s->paths[i] = (struct path){.id = -1};
    }
    for (size_t at = 0; at < n; at += (size_t)utf8_length((unsigned char)word[at])) {
        if (u->single && fabs(s->paths[at].score) > RECENTERED) {
            recenter(s->paths, at, n, (size_t)b->vocabulary.longest + 4); /* no token reaches farther */
        }
        offer_all(u, s->paths, word, n, at);
    }
    return put_path(u, b, s, word, n);
}
