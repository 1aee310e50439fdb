/* Superblock and object headers (HDF5 File Format Specification 3.0, II.A and IV.A.1.b). */
#include <string.h>
#include <unistd.h>

#include "io/file.h"
#include "io/h5_guard_internal.h"
#include "util/foreign.h"
#include "util/mem.h"
#include "util/regular.h"

enum { SUPERBLOCK_BYTES = 48, MOST_OBJECTS = 4096, MOST_BLOCKS = 256 };
static const uint64_t header_bytes_most = 1 << 20; /* a message has 64 KiB at most, a header few of them */

enum status guard_bad(const struct guard *g, uint64_t address, const char *what) {
    return fail(ERR_DATA, "%s: damaged, or not written by collimate: %s (at byte %llu)", g->path, what,
                (unsigned long long)address);
}

bool guard_inside(const struct guard *g, uint64_t address, uint64_t n) {
    uint64_t size = (uint64_t)g->size;
    return address >= SUPERBLOCK_BYTES && address <= size && n <= size - address;
}

enum status guard_read(const struct guard *g, uint64_t address, uint64_t n, const char *what,
                       unsigned char **out) {
    if (!guard_inside(g, address, n)) {
        return guard_bad(g, address, what);
    }
    unsigned char *data;
    TRY(NEW_ARRAY(data, (int64_t)n));
    enum status st = file_read_at(g->descriptor, g->path, (int64_t)address, data, n);
    if (st != OK) {
        mem_free(data);
        return st;
    }
    *out = data;
    return OK;
}

const unsigned char *cursor_bytes(struct cursor *c, uint64_t n) {
    if (n > (uint64_t)(c->end - c->at)) {
        c->is_over = true;
        c->at = c->end;
        return NULL;
    }
    const unsigned char *at = c->at;
    c->at += n;
    return at;
}

uint64_t cursor_take(struct cursor *c, int bytes) {
    const unsigned char *at = cursor_bytes(c, (uint64_t)bytes);
    uint64_t value = 0;
    for (int i = 0; at && i < bytes; i++) {
        value |= (uint64_t)at[i] << (8 * i);
    }
    return value;
}

bool cursor_begins(struct cursor *c, const char *signature, int version) {
    const unsigned char *at = cursor_bytes(c, 4);
    return at && memcmp(at, signature, 4) == 0 && cursor_take(c, 1) == (uint64_t)version && !c->is_over;
}

/* Reads the superblock; *root: the root group's header. */
static enum status look_at_superblock(const struct guard *g, uint64_t *root) {
    static const unsigned char magic[] = {0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n'};
    unsigned char bytes[SUPERBLOCK_BYTES] = {0};
    if (g->size >= (int64_t)sizeof magic) {
        size_t n = g->size < SUPERBLOCK_BYTES ? (size_t)g->size : SUPERBLOCK_BYTES;
        TRY(file_read_at(g->descriptor, g->path, 0, bytes, n));
    }
    struct cursor c = {.at = bytes, .end = bytes + sizeof bytes};
    if (memcmp(cursor_bytes(&c, sizeof magic), magic, sizeof magic) != 0) {
        bool text = g->size > 0 && (bytes[0] == '{' || bytes[0] == '[');
        return fail(ERR_DATA, "%s: not an HDF5 file%s", g->path,
                    text ? "; it looks like JSON: make data of it with \"collimate prepare input=… "
                           "tokenizer=… output=FILE.h5\""
                         : "");
    }
    uint64_t version = cursor_take(&c, 1);
    if ((version != 2 && version != 3) || (g->use == GUARD_UPDATES && version != 2)) {
        return guard_bad(g, sizeof magic, "its superblock has another version");
    }
    if (cursor_take(&c, 1) != 8 || cursor_take(&c, 1) != 8) {
        return guard_bad(g, sizeof magic, "offsets or lengths do not have 8 bytes");
    }
    if (cursor_take(&c, 1) != 0) {
        return guard_bad(g, sizeof magic, "its writer has not closed it");
    }
    if (cursor_take(&c, 8) != 0 || cursor_take(&c, 8) != GUARD_UNDEFINED) {
        return guard_bad(g, sizeof magic, "its superblock has an offset or an extension");
    }
    uint64_t end = cursor_take(&c, 8);
    *root = cursor_take(&c, 8);
    return end == (uint64_t)g->size
               ? OK
               : fail(ERR_DATA, "%s: has %lld bytes where its header says %llu; it is truncated or damaged",
                      g->path, (long long)g->size, (unsigned long long)end);
}

/* Blocks of a header: the one behind its prefix, and what continuation messages name. */
struct blocks {
    struct {
        uint64_t address, bytes;
    } list[MOST_BLOCKS];
    int n;
};

static enum status continue_at(const struct guard *g, struct cursor body, struct blocks *blocks) {
    uint64_t address = cursor_take(&body, 8);
    uint64_t bytes = cursor_take(&body, 8);
    if (body.is_over || bytes < 8 || bytes > header_bytes_most || blocks->n == MOST_BLOCKS) {
        return guard_bad(g, body.address, "an object header goes on in a way that it cannot");
    }
    blocks->list[blocks->n].address = address;
    blocks->list[blocks->n++].bytes = bytes;
    return OK;
}

/* Messages up to `end`; a rest shorter than a message's prefix is a gap. */
static enum status look_at_messages(struct guard *g, struct cursor c, struct blocks *blocks,
                                    struct guard_object *object, int depth) {
    enum { PREFIX = 4, MAY_BE_SET = 1 | 4, CONTINUATION = 16 };
    while (c.end - c.at >= PREFIX) {
        int type = (int)cursor_take(&c, 1);
        uint64_t bytes = cursor_take(&c, 2);
        uint64_t flags = cursor_take(&c, 1);
        struct cursor body = {.at = cursor_bytes(&c, bytes), .address = c.address};
        if (!body.at || (flags & ~(uint64_t)MAY_BE_SET) != 0) {
            return guard_bad(g, c.address, "a message leaves its object header, or is shared");
        }
        body.end = body.at + bytes;
        TRY(type == CONTINUATION ? continue_at(g, body, blocks)
                                 : guard_message(g, type, body, object, depth));
    }
    return OK;
}

/* Finds the first block: flags say whether times precede its size, and how wide that is. */
static enum status look_at_prefix(const struct guard *g, uint64_t address, struct blocks *blocks) {
    enum { WIDTH = 3, HAS_TIMES = 0x20, LONGEST = 6 + 16 + 8 };
    unsigned char *bytes;
    uint64_t left = guard_inside(g, address, LONGEST) ? LONGEST : (uint64_t)g->size - address;
    TRY(guard_read(g, address, left, "an object header lies outside of the file", &bytes));
    struct cursor c = {.at = bytes, .end = bytes + left, .address = address};
    bool begins = cursor_begins(&c, "OHDR", 2);
    int flags = (int)cursor_take(&c, 1);
    (void)cursor_bytes(&c, flags & HAS_TIMES ? 16 : 0);
    uint64_t size = cursor_take(&c, 1 << (flags & WIDTH));
    uint64_t first = address + (uint64_t)(c.at - bytes);
    mem_free(bytes);
    if (!begins || c.is_over || (flags & ~(WIDTH | HAS_TIMES)) != 0 || size > header_bytes_most) {
        return guard_bad(g, address, "an object header does not begin as ours do");
    }
    *blocks = (struct blocks){.n = 1};
    blocks->list[0].address = first;
    blocks->list[0].bytes = size;
    return OK;
}

/* A block's messages; the first is followed by its checksum, the others hold theirs. */
static enum status look_at_block(struct guard *g, struct blocks *blocks, int i, struct guard_object *object,
                                 int depth) {
    unsigned char *bytes;
    uint64_t address = blocks->list[i].address;
    uint64_t n = blocks->list[i].bytes + (i == 0 ? 4 : 0);
    TRY(guard_read(g, address, n, "an object header is larger than the file", &bytes));
    struct cursor c = {.at = bytes, .end = bytes + n - 4, .address = address};
    enum status st = OK;
    if (i > 0 && memcmp(cursor_bytes(&c, 4), "OCHK", 4) != 0) {
        st = guard_bad(g, address, "an object header does not go on where it says");
    }
    st = st == OK ? look_at_messages(g, c, blocks, object, depth) : st;
    mem_free(bytes);
    return st;
}

static enum status remember(struct guard *g, uint64_t address) {
    for (int64_t i = 0; i < g->n_objects; i++) {
        if (g->objects[i] == address) {
            return guard_bad(g, address, "an object is linked twice");
        }
    }
    if (g->n_objects == MOST_OBJECTS) {
        return guard_bad(g, address, "there are more objects than a file of ours has");
    }
    TRY(GROW_ARRAY(g->objects, g->capacity, g->n_objects + 1));
    g->objects[g->n_objects++] = address;
    return OK;
}

static enum status look_at_group(struct guard *g, uint64_t address, const struct guard_object *object,
                                 int depth) {
    static const char *const what[] = {"links lie in a heap or tree alone",
                                       "attributes lie in a heap or tree alone"};
    for (int kind = GUARD_LINKS; kind <= GUARD_ATTRIBUTES; kind++) {
        bool is_there = object->heaps[kind] != GUARD_UNDEFINED;
        if (is_there != (object->trees[kind] != GUARD_UNDEFINED)) {
            return guard_bad(g, address, what[kind]);
        }
        if (is_there && g->use == GUARD_UPDATES) {
            return guard_bad(g, address, "a file that is updated has neither heaps nor trees");
        }
        TRY(is_there ? guard_dense(g, object->heaps[kind], object->trees[kind], kind, depth) : OK);
    }
    return OK;
}

enum status guard_object(struct guard *g, uint64_t address, int depth) {
    struct guard_object object = {.sizes = {1, 1},
                                  .heaps = {GUARD_UNDEFINED, GUARD_UNDEFINED},
                                  .trees = {GUARD_UNDEFINED, GUARD_UNDEFINED}};
    struct blocks blocks;
    if (depth > GUARD_DEPTH) {
        return guard_bad(g, address, "groups nest deeper than ours do");
    }
    TRY(remember(g, address));
    TRY(look_at_prefix(g, address, &blocks));
    for (int i = 0; i < blocks.n; i++) {
        TRY(look_at_block(g, &blocks, i, &object, depth));
    }
    bool is_array = object.has_space || object.has_type || object.has_layout || object.has_filters;
    if (is_array == object.is_group) {
        return guard_bad(g, address, "an object is neither a group nor an array");
    }
    return is_array ? guard_layout(g, &object) : look_at_group(g, address, &object, depth);
}

enum status h5_guard(const char *path, enum h5_guard_use use) {
    struct guard g = {.path = path, .use = use};
    uint64_t root;
    TRY(regular_open(path, &g.descriptor, &g.size));
    enum status st = foreign_refuse(g.descriptor, path);
    st = st == OK ? look_at_superblock(&g, &root) : st;
    st = st == OK ? guard_object(&g, root, 0) : st;
    close(g.descriptor);
    mem_free(g.objects);
    return st;
}
