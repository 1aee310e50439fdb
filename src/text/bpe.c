#include "text/bpe.h"

#include <stdio.h>
#include <string.h>

#include "text/unicode.h"
#include "util/mem.h"

enum { NO_RANK = -1 };                     /* as uint32_t: above every rank */
enum { SHORT_WORD = 40 };                  /* symbols up to which scanning beats a heap */
static const char MARK[] = "\xe2\x96\x81"; /* U+2581, SentencePiece's space */

/* What an unused token was last put together from (SentencePiece, bpe_model.cc). */
struct unused_split {
    int32_t left, right; /* both 0: not yet */
};
struct merge_candidate {
    uint64_t order; /* rank << 32 | symbol */
    int32_t merged;
};

uint32_t bpe_byte_to_point(int byte) {
    bool printable =
        (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE && byte <= 0xFF);
    if (printable) {
        return (uint32_t)byte;
    }
    /* The others follow from U+0100 on in byte order: 0x00-0x20, 0x7F-0xA0, 0xAD. */
    return (uint32_t)(0x100 + (byte <= 0x20 ? byte : byte <= 0xA0 ? byte - 0x7F + 0x21 : 0x43));
}

int bpe_point_to_byte(uint32_t point) {
    if (point < 0x100) {
        return bpe_byte_to_point((int)point) == point ? (int)point : -1;
    }
    if (point <= 0x120) {
        return (int)(point - 0x100);
    }
    return point <= 0x142 ? (int)(point - 0x121 + 0x7F) : point == 0x143 ? 0xAD : -1;
}

void bpe_free(struct bpe *b) {
    vocabulary_free(&b->vocabulary);
    pair_map_free(&b->merges);
}

void bpe_scratch_free(struct bpe_scratch *s) {
    mem_free(s->symbols);
    mem_free(s->heap);
    text_free(&s->spelled);
    mem_free(s->splits);
    mem_free(s->paths);
    *s = (struct bpe_scratch){0};
}

/* Whether "x▁" with another x occurs in a token that merges make. */
static bool reaches_over_mark(const char *s, size_t n) {
    for (size_t i = 3; i + 3 <= n; i++) {
        if (memcmp(s + i, MARK, 3) == 0 && memcmp(s + i - 3, MARK, 3) != 0) {
            return true;
        }
    }
    for (size_t i = 1; i < 3 && i + 3 <= n; i++) {
        if (memcmp(s + i, MARK, 3) == 0) {
            return true;
        }
    }
    return false;
}

void bpe_finish(struct bpe *b) {
    for (int byte = 0; byte < 256; byte++) {
        char name[8];
        int n = b->byte_level ? utf8_put(bpe_byte_to_point(byte), name)
                              : snprintf(name, sizeof name, "<0x%02X>", (unsigned)byte);
        b->byte_ids[byte] = vocabulary_find(&b->vocabulary, name, (size_t)n);
    }
    for (int c = 0; c < 128; c++) {
        char name = (char)c;
        b->ascii_ids[c] = vocabulary_find(&b->vocabulary, &name, 1);
    }
    for (int32_t id = 0; id < b->vocabulary.size; id++) {
        size_t n;
        const char *s = vocabulary_string(&b->vocabulary, id, &n);
        uint32_t points = 0;
        for (size_t i = 0; i < n; i++) {
            points += !utf8_continues(s[i]);
        }
        b->vocabulary.tokens[id].span = b->byte_level ? points : (uint32_t)n;
    }
    b->splits_at_mark = !b->byte_level && vocabulary_find(&b->vocabulary, MARK, 3) >= 0;
    for (uint64_t i = 0; i <= b->merges.mask && b->splits_at_mark; i++) {
        if (b->merges.slots[i].key != UINT64_MAX) {
            size_t n;
            const char *s = vocabulary_string(&b->vocabulary, (int32_t)b->merges.slots[i].second, &n);
            b->splits_at_mark = !reaches_over_mark(s, n);
        }
    }
}

enum status bpe_add_merge(struct bpe *b, const char *left, size_t left_n, const char *right, size_t right_n,
                          uint32_t rank) {
    struct vocabulary *v = &b->vocabulary;
    int32_t first = vocabulary_find(v, left, left_n);
    int32_t second = vocabulary_find(v, right, right_n);
    if (first < 0 || second < 0 || left_n == 0 || right_n == 0) {
        return fail(ERR_DATA, "merge %u: \"%.*s\" is not in the vocabulary", rank,
                    (int)(first < 0 || left_n == 0 ? left_n : right_n),
                    first < 0 || left_n == 0 ? left : right);
    }
    struct text joined = {0};
    enum status st = OK;
    TRY_TO(done, text_append(&joined, left, left_n));
    TRY_TO(done, text_append(&joined, right, right_n));
    int32_t merged = vocabulary_find(v, joined.data, joined.len);
    if (merged < 0) {
        st = fail(ERR_DATA, "merge %u makes \"%.200s\", which is not in the vocabulary", rank, joined.data);
        goto done;
    }
    uint64_t key = (uint64_t)(uint32_t)first << 32 | (uint32_t)second;
    st = pair_map_put(&b->merges, key, rank, (uint32_t)merged);
done:
    text_free(&joined);
    return st;
}

enum status bpe_push(struct bpe_scratch *s, int32_t id, size_t len) {
    TRY(GROW_ARRAY(s->symbols, s->capacity, s->count + 1));
    s->symbols[s->count++] = (struct symbol){.id = id, .len = (uint32_t)len};
    return OK;
}

/* Added tokens share the table but are not the model's to find. */
static int32_t find_in_model(const struct bpe *b, const char *s, size_t n) {
    int32_t id = vocabulary_find(&b->vocabulary, s, n);
    return id >= 0 && b->vocabulary.tokens[id].model ? id : -1;
}

static int32_t symbol_id(const struct bpe *b, const char *s, size_t n) {
    return b->byte_level ? b->byte_ids[(unsigned char)s[0]]
           : n == 1      ? b->ascii_ids[(unsigned char)s[0]]
                         : find_in_model(b, s, n);
}

bool bpe_falls_back(const struct bpe *b, const char *s, size_t n) {
    bool all = b->byte_fallback && !b->byte_level;
    for (size_t i = 0; i < n && all; i++) {
        all = b->byte_ids[(unsigned char)s[i]] >= 0;
    }
    return all;
}

static enum status symbols_of(const struct bpe *b, struct bpe_scratch *s, const char *word, size_t n) {
    size_t pending = 0; /* bytes of unknown symbols not yet pushed */
    s->count = 0;
    for (size_t at = 0; at < n;) {
        size_t len = b->byte_level ? 1 : (size_t)utf8_length((unsigned char)word[at]);
        int32_t id = symbol_id(b, word + at, len);
        if (id >= 0) {
            if (pending > 0) {
                TRY(bpe_push(s, b->unk, pending));
                pending = 0;
            }
            TRY(bpe_push(s, id, len));
        } else if (bpe_falls_back(b, word + at, len)) {
            for (size_t i = 0; i < len; i++) {
                TRY(bpe_push(s, b->byte_ids[(unsigned char)word[at + i]], 1));
            }
        } else if (b->unk >= 0) {
            if (pending > 0 && !b->fuse_unk) {
                TRY(bpe_push(s, b->unk, pending));
                pending = 0;
            }
            pending += len;
        }
        at += len;
    }
    return pending > 0 ? bpe_push(s, b->unk, pending) : OK;
}

static inline void rank_pair(const struct bpe *b, struct bpe_scratch *s, struct symbol *left,
                             const struct symbol *right) {
    uint64_t key = (uint64_t)(uint32_t)left->id << 32 | (uint32_t)right->id;
    const struct pair_slot *merge = pair_map_find(&b->merges, key);
    left->rank = merge ? merge->first : (uint32_t)NO_RANK;
    left->merged = merge ? (int32_t)merge->second : -1;
    if (s->splits && merge && b->vocabulary.tokens[left->merged].unused) {
        s->splits[left->merged] = (struct unused_split){left->id, right->id};
    }
}

static void merge_short(const struct bpe *b, struct bpe_scratch *s) {
    struct symbol *a = s->symbols;
    int64_t n = s->count;
    for (int64_t i = 0; i + 1 < n; i++) {
        rank_pair(b, s, &a[i], &a[i + 1]);
    }
    while (n > 1) {
        int64_t best = 0;
        for (int64_t i = 1; i + 1 < n; i++) {
            best = a[i].rank < a[best].rank ? i : best;
        }
        if (a[best].rank == (uint32_t)NO_RANK) {
            break;
        }
        a[best].id = a[best].merged;
        a[best].len += a[best + 1].len;
        n--;
        memmove(a + best + 1, a + best + 2, (size_t)(n - best - 1) * sizeof *a);
        if (best > 0) {
            rank_pair(b, s, &a[best - 1], &a[best]);
        }
        if (best + 1 < n) {
            rank_pair(b, s, &a[best], &a[best + 1]);
        }
    }
    s->count = n;
}

static enum status heap_push(struct bpe_scratch *s, int64_t at) {
    const struct symbol *left = &s->symbols[at];
    if (left->merged < 0) {
        return OK;
    }
    TRY(GROW_ARRAY(s->heap, s->heap_capacity, s->heap_count + 1));
    struct merge_candidate c = {(uint64_t)left->rank << 32 | (uint64_t)at, left->merged};
    int64_t i = s->heap_count++;
    while (i > 0 && s->heap[(i - 1) / 2].order > c.order) {
        s->heap[i] = s->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    s->heap[i] = c;
    return OK;
}

static struct merge_candidate heap_pop(struct bpe_scratch *s) {
    struct merge_candidate top = s->heap[0];
    struct merge_candidate last = s->heap[--s->heap_count];
    int64_t n = s->heap_count;
    int64_t i = 0;
    for (int64_t child = 1; child < n; child = 2 * i + 1) {
        child += child + 1 < n && s->heap[child + 1].order < s->heap[child].order;
        if (s->heap[child].order >= last.order) {
            break;
        }
        s->heap[i] = s->heap[child];
        i = child;
    }
    s->heap[i] = last;
    return top;
}

/* Candidates whose symbols have changed since stay in the heap and are passed over when they come up. */
static enum status merge_long(const struct bpe *b, struct bpe_scratch *s) {
    struct symbol *a = s->symbols;
    int64_t n = s->count;
    s->heap_count = 0;
    for (int64_t i = 0; i < n; i++) {
        a[i].previous = (int32_t)i - 1;
        a[i].next = i + 1 < n ? (int32_t)i + 1 : -1;
        a[i].merged = -1;
        if (i + 1 < n) {
            rank_pair(b, s, &a[i], &a[i + 1]);
            TRY(heap_push(s, i));
        }
    }
    while (s->heap_count > 0) {
        struct merge_candidate top = heap_pop(s);
        int32_t at = (int32_t)(top.order & UINT32_MAX);
        struct symbol *left = &a[at];
        if (left->len == 0 || left->next < 0 || left->merged != top.merged) {
            continue;
        }
        struct symbol *right = &a[left->next];
        left->id = top.merged;
        left->len += right->len;
        left->next = right->next;
        right->len = 0;
        left->merged = -1;
        if (left->previous >= 0) {
            rank_pair(b, s, &a[left->previous], left);
            TRY(heap_push(s, left->previous));
        }
        if (left->next >= 0) {
            a[left->next].previous = at;
            rank_pair(b, s, left, &a[left->next]);
            TRY(heap_push(s, at));
        }
    }
    int64_t kept = 0;
    for (int64_t i = 0; i < n; i++) {
        if (a[i].len > 0) {
            a[kept].id = a[i].id;
            a[kept++].len = a[i].len;
        }
    }
    s->count = kept;
    return OK;
}

static enum status whole_word(const struct bpe *b, struct bpe_scratch *s, const char *word, size_t n,
                              bool *found) {
    *found = false;
    if (n > (size_t)b->vocabulary.longest) {
        return OK;
    }
    int32_t id;
    if (b->byte_level) {
        text_clear(&s->spelled);
        for (size_t i = 0; i < n; i++) {
            char unit[4];
            int length = utf8_put(bpe_byte_to_point((unsigned char)word[i]), unit);
            TRY(text_append(&s->spelled, unit, (size_t)length));
        }
        id = find_in_model(b, s->spelled.data, s->spelled.len);
    } else {
        id = find_in_model(b, word, n);
    }
    *found = id >= 0;
    s->count = 0;
    return *found ? bpe_push(s, id, n) : OK;
}

/* Puts an unused token's parts behind the symbols. Parts are shorter than the whole, so this ends. */
static enum status fall_apart(const struct bpe *b, struct bpe_scratch *s, int32_t id, uint32_t len) {
    const struct vocabulary *v = &b->vocabulary;
    struct unused_split parts = v->tokens[id].unused ? s->splits[id] : (struct unused_split){0};
    if (parts.left == parts.right && parts.left == 0) {
        return bpe_push(s, id, len);
    }
    TRY(fall_apart(b, s, parts.left, v->tokens[parts.left].len));
    return fall_apart(b, s, parts.right, v->tokens[parts.right].len);
}

static enum status expand_unused(const struct bpe *b, struct bpe_scratch *s) {
    int64_t n = s->count;
    for (int64_t i = 0; i < n; i++) {
        TRY(fall_apart(b, s, s->symbols[i].id, s->symbols[i].len));
    }
    s->count -= n;
    memmove(s->symbols, s->symbols + n, (size_t)s->count * sizeof *s->symbols);
    return OK;
}

enum status bpe_word(const struct bpe *b, struct bpe_scratch *s, const char *word, size_t n) {
    if (n > 1u << 30) {
        return fail(ERR_DATA, "a word of %zu bytes is above 1 GiB", n);
    }
    s->count = 0;
    if (n == 0) {
        return OK;
    }
    if (b->ignore_merges) {
        bool found;
        TRY(whole_word(b, s, word, n, &found));
        if (found) {
            return OK;
        }
    }
    if (b->has_unused && !s->splits) {
        TRY(NEW_ARRAY(s->splits, b->vocabulary.size));
    }
    TRY(symbols_of(b, s, word, n));
    if (s->count <= SHORT_WORD) {
        merge_short(b, s);
    } else {
        TRY(merge_long(b, s));
    }
    return b->has_unused ? expand_unused(b, s) : OK;
}
