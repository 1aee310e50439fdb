#include "text/vocabulary.h"

#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "util/hash.h"
#include "util/mem.h"

static uint64_t table_size(int64_t expected) {
    uint64_t size = 16;
    while (size < 2 * (uint64_t)expected) {
        size *= 2;
    }
    return size;
}

enum status pair_map_open(struct pair_map *m, int64_t expected) {
    uint64_t size = table_size(expected);
    *m = (struct pair_map){.mask = size - 1};
    TRY(NEW_ARRAY(m->slots, (int64_t)size));
    memset(m->slots, 0xFF, size * sizeof *m->slots);
    return OK;
}

void pair_map_free(struct pair_map *m) {
    mem_free(m->slots);
    *m = (struct pair_map){0};
}

enum status pair_map_put(struct pair_map *m, uint64_t key, uint32_t first, uint32_t second) {
    if (2 * (uint64_t)(m->count + 1) > m->mask + 1) {
        struct pair_map larger;
        TRY(pair_map_open(&larger, m->count * 2 + 16));
        for (uint64_t i = 0; i <= m->mask; i++) {
            const struct pair_slot *s = &m->slots[i];
            if (s->key != UINT64_MAX) {
                TRY(pair_map_put(&larger, s->key, s->first, s->second)); /* has room: cannot fail */
            }
        }
        mem_free(m->slots);
        *m = larger;
    }
    uint64_t i = pair_hash(key) & m->mask;
    while (m->slots[i].key != UINT64_MAX && m->slots[i].key != key) {
        i = (i + 1) & m->mask;
    }
    m->count += m->slots[i].key == UINT64_MAX;
    m->slots[i] = (struct pair_slot){key, first, second};
    return OK;
}

void vocabulary_free(struct vocabulary *v) {
    text_free(&v->strings);
    mem_free(v->tokens);
    mem_free(v->slots);
    *v = (struct vocabulary){0};
}

static void insert(struct vocabulary *v, int32_t id) {
    size_t n;
    const char *s = vocabulary_string(v, id, &n);
    uint64_t i = hash_bytes(s, n, 0) & v->mask;
    while (v->slots[i]) {
        i = (i + 1) & v->mask;
    }
    v->slots[i] = id + 1;
}

static enum status grow_slots(struct vocabulary *v) {
    if (v->slots && 2 * (uint64_t)(v->count + 1) <= v->mask + 1) {
        return OK;
    }
    uint64_t size = table_size(2 * (v->count + 1));
    int32_t *slots;
    TRY(NEW_ARRAY(slots, (int64_t)size));
    mem_free(v->slots);
    v->slots = slots;
    v->mask = size - 1;
    for (int32_t id = 0; id < v->size; id++) {
        if (v->tokens[id].present) {
            insert(v, id);
        }
    }
    return OK;
}

enum status vocabulary_add(struct vocabulary *v, const char *s, size_t n, int64_t id) {
    enum { SLACK = 1 << 20, HIGHEST = 1 << 26 };
    if (id < 0 || id >= HIGHEST || id > 8 * (v->count + 1) + SLACK) {
        return fail(ERR_DATA, "token \"%.*s\": id %lld is out of range", (int)(n < 80 ? n : 80), s,
                    (long long)id);
    }
    if (n > INT32_MAX / 2) {
        return fail(ERR_DATA, "token %lld is %zu bytes long", (long long)id, n);
    }
    if (id < v->size && v->tokens[id].present) {
        return fail(ERR_DATA, "tokens \"%.*s\" and \"%.*s\" have the same id %lld", (int)v->tokens[id].len,
                    v->strings.data + v->tokens[id].at, (int)(n < 80 ? n : 80), s, (long long)id);
    }
    if (v->count > 0 && vocabulary_find(v, s, n) >= 0) {
        return fail(ERR_DATA, "token \"%.*s\" has two ids", (int)(n < 80 ? n : 80), s);
    }
    TRY(grow_slots(v));
    TRY(GROW_ARRAY(v->tokens, v->capacity, id + 1));
    for (int32_t gap = v->size; gap < id; gap++) {
        v->tokens[gap] = (struct token){0};
    }
    v->tokens[id] = (struct token){.at = v->strings.len, .len = (uint32_t)n, .present = 1};
    TRY(text_append(&v->strings, s, n));
    if (id >= v->size) {
        v->size = (int32_t)id + 1;
    }
    if ((int32_t)n > v->longest) {
        v->longest = (int32_t)n;
    }
    v->count++;
    insert(v, (int32_t)id);
    return OK;
}

int32_t vocabulary_find(const struct vocabulary *v, const char *s, size_t n) {
    if (!v->slots) {
        return -1;
    }
    for (uint64_t i = hash_bytes(s, n, 0) & v->mask; v->slots[i]; i = (i + 1) & v->mask) {
        const struct token *t = &v->tokens[v->slots[i] - 1];
        if (t->len == n && memcmp(v->strings.data + t->at, s, n) == 0) {
            return v->slots[i] - 1;
        }
    }
    return -1;
}

enum status finder_open(struct finder *f) {
    *f = (struct finder){.nodes = 1};
    TRY(pair_map_open(&f->edges, 64));
    return NEW_ARRAY(f->begins, 65536 / 8);
}

void finder_free(struct finder *f) {
    pair_map_free(&f->edges);
    mem_free(f->begins);
    *f = (struct finder){0};
}

static bool begins_with(const struct finder *f, unsigned char a, unsigned char b) {
    return f->begins[a * 32 + b / 8] >> b % 8 & 1;
}

static void mark(struct finder *f, unsigned char a, unsigned char b) {
    if (!begins_with(f, a, b) && f->n_pairs++ < FINDER_PAIRS) {
        f->pairs[f->n_pairs - 1][0] = (char)a;
        f->pairs[f->n_pairs - 1][1] = (char)b;
    }
    f->begins[a * 32 + b / 8] |= (uint8_t)(1u << b % 8);
}

enum status finder_add(struct finder *f, const char *s, size_t n, int32_t id) {
    uint32_t node = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t key = (uint64_t)node << 8 | (unsigned char)s[i];
        const struct pair_slot *edge = pair_map_find(&f->edges, key);
        uint32_t next = edge ? edge->first : f->nodes++;
        uint32_t ends = edge ? edge->second : 0;
        if (i + 1 == n && !ends) {
            ends = (uint32_t)id + 1;
        }
        TRY(pair_map_put(&f->edges, key, next, ends));
        node = next;
    }
    for (int b = 0; n == 1 && b < 256; b++) {
        mark(f, (unsigned char)s[0], (unsigned char)b);
    }
    if (n > 1) {
        mark(f, (unsigned char)s[0], (unsigned char)s[1]);
    }
    if (n > 0) {
        unsigned char last = (unsigned char)s[n - 1];
        f->ends[last / 8] |= (uint8_t)(1u << last % 8);
    }
    return OK;
}

/* Longest string at s[at]; 0 if there is none. */
static size_t longest_at(const struct finder *f, const char *s, size_t n, size_t at, int32_t *id) {
    size_t best = 0;
    uint32_t node = 0;
    for (size_t i = at; i < n; i++) {
        const struct pair_slot *edge = pair_map_find(&f->edges, (uint64_t)node << 8 | (unsigned char)s[i]);
        if (!edge) {
            break;
        }
        if (edge->second) {
            best = i + 1 - at;
            *id = (int32_t)edge->second - 1;
        }
        node = edge->first;
    }
    return best;
}

/* The first place at or after `at` where the first two bytes of some string stand, or the text's last byte.
 */
static size_t next_begin(const struct finder *f, const char *s, size_t n, size_t at) {
#ifdef __SSE2__
    while (f->n_pairs <= FINDER_PAIRS && n - at > 16) {
        __m128i first = _mm_loadu_si128((const __m128i *)(const void *)(s + at));
        __m128i second = _mm_loadu_si128((const __m128i *)(const void *)(s + at + 1));
        __m128i any = _mm_setzero_si128();
        for (int i = 0; i < f->n_pairs; i++) {
            __m128i a = _mm_cmpeq_epi8(first, _mm_set1_epi8(f->pairs[i][0]));
            __m128i b = _mm_cmpeq_epi8(second, _mm_set1_epi8(f->pairs[i][1]));
            any = _mm_or_si128(any, _mm_and_si128(a, b));
        }
        unsigned found = (unsigned)_mm_movemask_epi8(any);
        if (found) {
            return at + (size_t)__builtin_ctz(found);
        }
        at += 16;
    }
#endif
    while (at + 1 < n && !begins_with(f, (unsigned char)s[at], (unsigned char)s[at + 1])) {
        at++;
    }
    return at;
}

bool finder_next(const struct finder *f, const char *s, size_t n, size_t at, size_t *begin, size_t *end,
                 int32_t *id) {
    if (f->nodes <= 1) {
        return false;
    }
    while (at < n) {
        at = next_begin(f, s, n, at);
        size_t length = longest_at(f, s, n, at, id);
        if (length > 0) {
            *begin = at;
            *end = at + length;
            return true;
        }
        at++;
    }
    return false;
}

bool finder_may_end(const struct finder *f, char last) {
    return f->ends[(unsigned char)last / 8] >> (unsigned char)last % 8 & 1;
}

bool finder_here(const struct finder *f, const char *s, size_t n, size_t at, size_t *end, int32_t *id) {
    size_t length = f->nodes > 1 ? longest_at(f, s, n, at, id) : 0;
    *end = at + length;
    return length > 0;
}
