#include "text/charsmap.h"

#include <string.h>

#include "util/mem.h"

struct charsmap {
    uint32_t *units;
    uint32_t n_units;
    char *texts;
    size_t texts_n;
};

/* A unit of the double array. */
static uint32_t label(uint32_t unit) {
    return unit & (1u << 31 | 0xFF);
}

static uint32_t offset(uint32_t unit) {
    return (unit >> 10) << ((unit & 1u << 9) >> 6);
}

static bool has_leaf(uint32_t unit) {
    return unit >> 8 & 1;
}

void charsmap_close(struct charsmap *m) {
    if (m) {
        mem_free(m->units);
        mem_free(m->texts);
        mem_free(m);
    }
}

static uint32_t little_endian(const char *s) {
    const unsigned char *u = (const unsigned char *)s;
    return u[0] | (uint32_t)u[1] << 8 | (uint32_t)u[2] << 16 | (uint32_t)u[3] << 24;
}

enum status charsmap_open(const char *blob, size_t n, const char *where, struct charsmap **out) {
    uint32_t size = n >= 4 ? little_endian(blob) : 0;
    if (size == 0 || size % 4 != 0 || size >= n - 4 || blob[n - 1] != '\0') {
        return fail(ERR_DATA, "%s: the precompiled map of characters is damaged (%zu bytes)", where, n);
    }
    struct charsmap *m;
    enum status st = OK;
    TRY(NEW_ARRAY(m, 1));
    m->n_units = size / 4;
    m->texts_n = n - 4 - size;
    TRY_TO(failed, NEW_ARRAY(m->units, m->n_units));
    for (uint32_t i = 0; i < m->n_units; i++) {
        m->units[i] = little_endian(blob + 4 + 4 * (size_t)i);
    }
    m->texts = mem_strndup(blob + 4 + size, m->texts_n);
    TRY_TO(failed, mem_ok(m->texts));
    *out = m;
    return OK;
failed:
    charsmap_close(m);
    return st;
}

struct replacement charsmap_find(const struct charsmap *m, const char *s, size_t n, bool longest) {
    struct replacement found = {0};
    uint32_t at = offset(m->units[0]);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        at ^= c;
        if (at >= m->n_units || label(m->units[at]) != c) {
            break;
        }
        uint32_t unit = m->units[at];
        at ^= offset(unit);
        if (!has_leaf(unit) || at >= m->n_units) {
            continue;
        }
        uint32_t value = m->units[at] & 0x7fffffffu;
        if (value < m->texts_n) {
            found = (struct replacement){i + 1, m->texts + value, strlen(m->texts + value)};
        }
        if (found.taken > 0 && !longest) {
            break;
        }
    }
    return found;
}
