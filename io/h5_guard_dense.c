/* Links and attributes outside of their group's header (HDF5 File Format Specification 3.0, III.A.2, III.G):
 * a tree of names whose records point into a fractal heap, with the sizes that HDF5 1.8 to 1.14 give both.
 * Larger than 4 KiB, a record's bytes lie elsewhere in the file, where a second tree finds them. */
#include <string.h>

#include "io/h5_guard_internal.h"
#include "util/mem.h"

enum { TREE_HUGE = 1, TREE_LINKS = 5, TREE_ATTRIBUTES = 8 };
enum { HUGE_RECORD_BYTES = 24, LINK_RECORD_BYTES = 11, ATTRIBUTE_RECORD_BYTES = 17 };
enum { NODE_BYTES = 512, NODE_PREFIX = 6, CHECKSUM_BYTES = 4, MOST_RECORDS = 4096 };
enum { TABLE_WIDTH = 4, OBJECT_BYTES_MOST = 4096, DIRECT_BYTES_MOST = 1 << 16, LENGTH_BYTES = 2 };

struct heap {
    uint64_t address, root, huge_tree;
    int id_bytes, offset_bytes;
    uint64_t first_bytes; /* of the smallest block */
    int rows;             /* of the root, where it is a table of blocks; 0: it is a block */
};

/* A tree's records, end to end. */
struct records {
    unsigned char *data;
    int64_t used, capacity;
    int bytes; /* of one */
};

/* Records of a node: signature, version, type, records, and in an inner node the children with their record
 * counts. */
static enum status node(const struct guard *g, uint64_t address, uint64_t n, int type, bool is_inner,
                        struct records *out);

static enum status children(const struct guard *g, struct cursor c, uint64_t n, int type,
                            struct records *out) {
    for (uint64_t i = 0; i <= n; i++) {
        uint64_t child = cursor_take(&c, 8);
        uint64_t records = cursor_take(&c, 1); /* fewer than 256 fit into a node */
        TRY(c.is_over ? guard_bad(g, c.address, "a tree's node is too small") : OK);
        TRY(node(g, child, records, type, false, out));
    }
    return OK;
}

static enum status node(const struct guard *g, uint64_t address, uint64_t n, int type, bool is_inner,
                        struct records *out) {
    unsigned char *bytes;
    uint64_t own = n * (uint64_t)out->bytes;
    uint64_t whole = NODE_PREFIX + own + (is_inner ? (n + 1) * 9 : 0) + CHECKSUM_BYTES;
    if (whole > NODE_BYTES || out->used / out->bytes + (int64_t)n > MOST_RECORDS) {
        return guard_bad(g, address, "a tree's node has more records than fit into it");
    }
    TRY(guard_read(g, address, NODE_BYTES, "a tree's node lies outside of the file", &bytes));
    struct cursor c = {.at = bytes, .end = bytes + NODE_BYTES - CHECKSUM_BYTES, .address = address};
    bool is_ours = cursor_begins(&c, is_inner ? "BTIN" : "BTLF", 0) && cursor_take(&c, 1) == (uint64_t)type;
    const unsigned char *records = cursor_bytes(&c, own);
    enum status st =
        is_ours && records ? OK : guard_bad(g, address, "a tree's node does not begin as ours do");
    st = st == OK ? GROW_ARRAY(out->data, out->capacity, out->used + (int64_t)own + 1) : st;
    if (st == OK && records) {
        memcpy(out->data + out->used, records, own);
        out->used += (int64_t)own;
        st = is_inner ? children(g, c, n, type, out) : OK;
    }
    mem_free(bytes);
    return st;
}

/* All records of a tree with one level of inner nodes at most. */
static enum status tree(const struct guard *g, uint64_t address, int type, struct records *out) {
    enum { BYTES = 38, SPLIT = 100, MERGE = 40 };
    unsigned char *bytes;
    TRY(guard_read(g, address, BYTES, "a tree lies outside of the file", &bytes));
    struct cursor c = {.at = bytes, .end = bytes + BYTES, .address = address};
    bool is_ours = cursor_begins(&c, "BTHD", 0) && cursor_take(&c, 1) == (uint64_t)type &&
                   cursor_take(&c, 4) == NODE_BYTES && cursor_take(&c, 2) == (uint64_t)out->bytes;
    uint64_t depth = cursor_take(&c, 2);
    is_ours = is_ours && depth <= 1 && cursor_take(&c, 1) == SPLIT && cursor_take(&c, 1) == MERGE;
    uint64_t root = cursor_take(&c, 8);
    uint64_t n = cursor_take(&c, 2);
    uint64_t total = cursor_take(&c, 8);
    mem_free(bytes);
    if (!is_ours || total > MOST_RECORDS) {
        return guard_bad(g, address, "a tree does not begin as ours do");
    }
    TRY(total > 0 ? node(g, root, n, type, depth == 1, out) : OK);
    return out->used == (int64_t)total * out->bytes ? OK : guard_bad(g, address, "a tree lacks records");
}

static enum status open_heap(const struct guard *g, uint64_t address, int kind, struct heap *out) {
    enum { BYTES = 146, CHECKED = 2 };
    static const struct {
        int id_bytes, bits;
        uint64_t first_bytes;
    } made[] = {{7, 32, 512}, {8, 40, 1024}}; /* links, attributes (H5Gpkg.h, H5Oattribute.c) */
    unsigned char *bytes;
    TRY(guard_read(g, address, BYTES, "a heap lies outside of the file", &bytes));
    struct cursor c = {.at = bytes, .end = bytes + BYTES, .address = address};
    bool is_ours = cursor_begins(&c, "FRHP", 0) && cursor_take(&c, 2) == (uint64_t)made[kind].id_bytes &&
                   cursor_take(&c, 2) == 0 && cursor_take(&c, 1) == CHECKED &&
                   cursor_take(&c, 4) == OBJECT_BYTES_MOST;
    (void)cursor_take(&c, 8); /* the next huge object's number */
    out->huge_tree = cursor_take(&c, 8);
    (void)cursor_bytes(&c, 10 * 8); /* counts, and where free space is kept, which only writing asks for */
    is_ours = is_ours && cursor_take(&c, 2) == TABLE_WIDTH && cursor_take(&c, 8) == made[kind].first_bytes &&
              cursor_take(&c, 8) == DIRECT_BYTES_MOST && cursor_take(&c, 2) == (uint64_t)made[kind].bits &&
              cursor_take(&c, 2) == 1;
    out->root = cursor_take(&c, 8);
    out->rows = (int)cursor_take(&c, 2);
    mem_free(bytes);
    out->address = address;
    out->id_bytes = made[kind].id_bytes;
    out->offset_bytes = made[kind].bits / 8;
    out->first_bytes = made[kind].first_bytes;
    int direct_rows = 2 + __builtin_ctz(DIRECT_BYTES_MOST) - __builtin_ctzll(out->first_bytes);
    return is_ours && !c.is_over && out->rows <= direct_rows
               ? OK
               : guard_bad(g, address, "a heap does not begin as ours do");
}

/* The block that an offset of the heap lies in: its number among the root's, its offset and bytes. */
static void block_of(const struct heap *h, uint64_t offset, uint64_t *number, uint64_t *first,
                     uint64_t *bytes) {
    *first = 0;
    *number = 0;
    *bytes = h->first_bytes;
    for (int row = 0; row < h->rows; row++) {
        *bytes = row < 2 ? h->first_bytes : *bytes * 2;
        for (int i = 0; i < TABLE_WIDTH; i++, ++*number) {
            if (offset < *first + *bytes) {
                return;
            }
            *first += *bytes;
        }
    }
}

/* Address of a block of the root table. */
static enum status block_address(const struct guard *g, const struct heap *h, uint64_t number,
                                 uint64_t *out) {
    unsigned char *bytes;
    uint64_t n = 5 + 8 + (uint64_t)h->offset_bytes + 8 * (uint64_t)h->rows * TABLE_WIDTH + CHECKSUM_BYTES;
    if (number >= (uint64_t)h->rows * TABLE_WIDTH) {
        return guard_bad(g, h->address, "a name lies behind the end of its heap");
    }
    TRY(guard_read(g, h->root, n, "a heap's table lies outside of the file", &bytes));
    struct cursor c = {.at = bytes, .end = bytes + n, .address = h->root};
    bool is_ours = cursor_begins(&c, "FHIB", 0) && cursor_take(&c, 8) == h->address &&
                   cursor_take(&c, h->offset_bytes) == 0;
    (void)cursor_bytes(&c, 8 * number);
    *out = cursor_take(&c, 8);
    mem_free(bytes);
    return is_ours ? OK : guard_bad(g, h->root, "a heap's table does not begin as ours do");
}

/* n bytes at an offset of the heap, copied. */
static enum status managed(const struct guard *g, const struct heap *h, uint64_t offset, uint64_t n,
                           unsigned char **out, uint64_t *at) {
    uint64_t number, first, bytes, address = h->root;
    unsigned char *block;
    block_of(h, offset, &number, &first, &bytes);
    TRY(h->rows > 0 ? block_address(g, h, number, &address) : OK);
    uint64_t prefix = 5 + 8 + (uint64_t)h->offset_bytes + CHECKSUM_BYTES;
    if (offset < first + prefix || offset - first > bytes || n > bytes - (offset - first) || n == 0) {
        return guard_bad(g, h->address, "a name points out of its heap");
    }
    TRY(guard_read(g, address, bytes, "a heap's block lies outside of the file", &block));
    struct cursor c = {.at = block, .end = block + bytes, .address = address};
    bool is_ours = cursor_begins(&c, "FHDB", 0) && cursor_take(&c, 8) == h->address &&
                   cursor_take(&c, h->offset_bytes) == first;
    memmove(block, block + (offset - first), n);
    *out = block;
    *at = address + (offset - first);
    if (!is_ours) {
        mem_free(block);
        return guard_bad(g, address, "a heap's block does not begin as ours do");
    }
    return OK;
}

/* The bytes of a large attribute, by the number that its name has. */
static enum status huge(const struct guard *g, const struct heap *h, uint64_t number, unsigned char **out,
                        uint64_t *n, uint64_t *at) {
    enum { MOST = (1 << 20) + (1 << 10) };
    struct records all = {.bytes = HUGE_RECORD_BYTES};
    enum status st = tree(g, h->huge_tree, TREE_HUGE, &all);
    bool found = false;
    for (int64_t i = 0; i < all.used && st == OK; i += HUGE_RECORD_BYTES) {
        struct cursor c = {.at = all.data + i, .end = all.data + i + HUGE_RECORD_BYTES};
        uint64_t address = cursor_take(&c, 8);
        uint64_t bytes = cursor_take(&c, 8);
        bool is_it = cursor_take(&c, 8) == number;
        if (bytes > MOST || !guard_inside(g, address, bytes)) {
            st = guard_bad(g, h->huge_tree, "a large attribute lies outside of the file");
        } else if (is_it) {
            *at = address;
            *n = bytes;
            found = true;
        }
    }
    mem_free(all.data);
    TRY(st);
    return found ? guard_read(g, *at, *n, "a large attribute lies outside of the file", out)
                 : guard_bad(g, h->huge_tree, "a large attribute is not there");
}

/* What an id of the heap names: a link or an attribute. */
static enum status named(struct guard *g, const struct heap *h, struct cursor id, int kind, int depth) {
    enum { MANAGED = 0, HUGE_ONE = 0x10 };
    unsigned char *bytes = NULL;
    uint64_t n = 0;
    uint64_t at = 0;
    uint64_t flags = cursor_take(&id, 1);
    if (flags == MANAGED) {
        uint64_t offset = cursor_take(&id, h->offset_bytes);
        n = cursor_take(&id, LENGTH_BYTES);
        TRY(managed(g, h, offset, n, &bytes, &at));
    } else if (flags == HUGE_ONE && kind == GUARD_ATTRIBUTES && h->huge_tree != GUARD_UNDEFINED) {
        TRY(huge(g, h, cursor_take(&id, h->id_bytes - 1), &bytes, &n, &at));
    } else {
        return guard_bad(g, h->address, "a name points into its heap in a way that ours do not");
    }
    struct cursor body = {.at = bytes, .end = bytes + n, .address = at};
    enum status st = kind == GUARD_LINKS ? guard_link(g, body, depth) : guard_attribute(g, body);
    mem_free(bytes);
    return st;
}

enum status guard_dense(struct guard *g, uint64_t heap, uint64_t address, int kind, int depth) {
    enum { HASH_BYTES = 4 };
    struct heap h;
    struct records all = {.bytes = kind == GUARD_LINKS ? LINK_RECORD_BYTES : ATTRIBUTE_RECORD_BYTES};
    int before = kind == GUARD_LINKS ? HASH_BYTES : 0; /* a record of a link begins with its name's hash */
    TRY(open_heap(g, heap, kind, &h));
    enum status st = tree(g, address, kind == GUARD_LINKS ? TREE_LINKS : TREE_ATTRIBUTES, &all);
    for (int64_t i = 0; i < all.used && st == OK; i += all.bytes) {
        struct cursor id = {.at = all.data + i + before, .end = all.data + i + all.bytes};
        st = named(g, &h, id, kind, depth);
    }
    mem_free(all.data);
    return st;
}
