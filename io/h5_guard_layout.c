/* Where an array's elements lie (HDF5 File Format Specification 3.0, IV.A.2.i, VII.C): in one piece, or in
 * chunks that a single address or a fixed array names. */
#include "io/h5_guard_internal.h"
#include "util/mem.h"

enum { CONTIGUOUS = 1, CHUNKED = 2, SINGLE_CHUNK = 1, FIXED_ARRAY = 3 };
enum { MASK_BYTES = 4, ADDRESS_BYTES = 8, CHECKSUM_BYTES = 4 };
static const uint64_t chunk_bytes_most = 1 << 26; /* as h5_read.c takes them */

struct chunks {
    uint64_t bytes; /* of a chunk in memory */
    uint64_t n;     /* chunks */
    bool is_deflated;
};

/* An array's bytes; false where they are more than a file can have. */
static bool whole_bytes(const struct guard_object *o, uint64_t *out) {
    uint64_t rows;
    return !__builtin_mul_overflow(o->sizes[0], o->sizes[1], &rows) &&
           !__builtin_mul_overflow(rows, (uint64_t)o->element_bytes, out) && *out <= INT64_MAX;
}

static enum status contiguous(const struct guard *g, struct cursor c, const struct guard_object *o) {
    uint64_t bytes;
    uint64_t address = cursor_take(&c, 8);
    uint64_t stored = cursor_take(&c, 8);
    bool fits = whole_bytes(o, &bytes) && stored == bytes && !o->has_filters && !c.is_over;
    return fits && (bytes == 0 || guard_inside(g, address, bytes))
               ? OK
               : fail(ERR_DATA,
                      "%s: an array is larger than the file, or not stored as ours are; it is truncated "
                      "or damaged (at byte %llu)",
                      g->path, (unsigned long long)c.address);
}

/* A chunk's place, bytes in the file and the filters that were left out. A deflated one has at most what zlib
 * makes of bytes that it cannot press together (H5Zdeflate.c); one that is not deflated has its bytes and
 * their checksum. */
static enum status chunk(const struct guard *g, const struct chunks *all, uint64_t address, uint64_t bytes,
                         uint64_t left_out, uint64_t at) {
    enum { DEFLATE_PLACE = 1 };
    bool is_pressed = all->is_deflated && left_out == 0;
    bool may_leave = left_out == 0 || (all->is_deflated && left_out == 1 << DEFLATE_PLACE);
    uint64_t whole = all->bytes + CHECKSUM_BYTES;
    bool fits =
        is_pressed ? bytes > CHECKSUM_BYTES && bytes <= whole + all->bytes / 1000 + 13 : bytes == whole;
    return may_leave && fits && guard_inside(g, address, bytes)
               ? OK
               : guard_bad(g, at, "a chunk of an array has an impossible place or size");
}

/* Bytes that the size of a chunk takes in an entry: HDF5's choice, from the size before compression. */
static int size_width(uint64_t bytes) {
    int bits = 63 - __builtin_clzll(bytes);
    int width = 1 + (bits + 8) / 8;
    return width > 8 ? 8 : width;
}

static enum status entries(const struct guard *g, const struct chunks *all, struct cursor c, uint64_t n) {
    for (uint64_t i = 0; i < n; i++) {
        uint64_t address = cursor_take(&c, ADDRESS_BYTES);
        uint64_t bytes = cursor_take(&c, size_width(all->bytes));
        uint64_t left_out = cursor_take(&c, MASK_BYTES);
        if (c.is_over) {
            return guard_bad(g, c.address, "a list of chunks ends early");
        }
        TRY(chunk(g, all, address, bytes, left_out, c.address));
    }
    return OK;
}

/* Bytes of an entry: an address, a size, a mask of filters. */
static uint64_t entry_width(const struct chunks *all) {
    uint64_t size = (uint64_t)size_width(all->bytes);
    return ADDRESS_BYTES + MASK_BYTES + size;
}

/* The block behind the header: entries, or pages of them, each with a checksum, whose bits say which are
 * there. */
static enum status fixed_array_block(const struct guard *g, const struct chunks *all, uint64_t address,
                                     uint64_t header, int page_bits) {
    enum { PREFIX = 14 };
    uint64_t entry = entry_width(all);
    uint64_t page = (uint64_t)1 << page_bits;
    uint64_t pages = all->n > page ? (all->n + page - 1) / page : 0;
    uint64_t bitmap = (pages + 7) / 8;
    uint64_t bytes = PREFIX + bitmap + all->n * entry + CHECKSUM_BYTES * (1 + pages);
    unsigned char *block;
    TRY(guard_read(g, address, bytes, "a list of chunks leaves the file", &block));
    struct cursor c = {.at = block, .end = block + bytes, .address = address};
    bool is_ours = cursor_begins(&c, "FADB", 0) && cursor_take(&c, 1) == 1 && cursor_take(&c, 8) == header;
    const unsigned char *there = cursor_bytes(&c, bitmap);
    for (uint64_t i = 0; i < pages && is_ours; i++) {
        is_ours = there && (there[i / 8] & (0x80 >> (i % 8)));
    }
    enum status st = is_ours ? OK : guard_bad(g, address, "a list of chunks does not begin as ours do");
    (void)cursor_bytes(&c, pages > 0 ? CHECKSUM_BYTES : 0);
    for (uint64_t done = 0; done < all->n && st == OK;) {
        uint64_t n = pages > 0 && all->n - done > page ? page : all->n - done;
        struct cursor part = {.at = c.at, .end = c.end, .address = address};
        st = entries(g, all, part, n);
        (void)cursor_bytes(&c, n * entry + CHECKSUM_BYTES);
        done += n;
    }
    mem_free(block);
    return st;
}

static enum status fixed_array(const struct guard *g, const struct chunks *all, uint64_t address,
                               int page_bits) {
    enum { BYTES = 28 };
    unsigned char *header;
    TRY(guard_read(g, address, BYTES, "a list of chunks lies outside of the file", &header));
    struct cursor c = {.at = header, .end = header + BYTES, .address = address};
    bool is_ours = cursor_begins(&c, "FAHD", 0) && cursor_take(&c, 1) == 1 &&
                   cursor_take(&c, 1) == entry_width(all) && cursor_take(&c, 1) == (uint64_t)page_bits &&
                   cursor_take(&c, 8) == all->n;
    uint64_t block = cursor_take(&c, 8);
    mem_free(header);
    if (!is_ours || (uint64_t)g->size / ADDRESS_BYTES < all->n) {
        return guard_bad(g, address, "a list of chunks is not that of its array");
    }
    return fixed_array_block(g, all, block, address, page_bits);
}

/* Sizes of a chunk: rows, the whole width, and an element's bytes. */
static bool chunk_shape(struct cursor *c, const struct guard_object *o, struct chunks *out) {
    int dimensions = (int)cursor_take(c, 1);
    int width = (int)cursor_take(c, 1);
    if (dimensions != o->rank + 1 || width < 1 || width > 8) {
        return false;
    }
    uint64_t rows = cursor_take(c, width);
    uint64_t columns = o->rank == 2 ? cursor_take(c, width) : 1;
    uint64_t element = cursor_take(c, width);
    uint64_t row_bytes;
    bool fits = rows > 0 && columns == o->sizes[1] && element == (uint64_t)o->element_bytes &&
                !__builtin_mul_overflow(columns, element, &row_bytes) &&
                !__builtin_mul_overflow(rows, row_bytes, &out->bytes);
    out->n = fits ? o->sizes[0] / rows + (o->sizes[0] % rows != 0) : 0;
    return fits && out->bytes > 0 && out->bytes <= chunk_bytes_most;
}

static enum status chunked(const struct guard *g, struct cursor c, const struct guard_object *o) {
    enum { ONE_IS_FILTERED = 2, PAGE_BITS = 10 };
    struct chunks all = {.is_deflated = o->is_deflated};
    uint64_t flags = cursor_take(&c, 1);
    bool is_ours = chunk_shape(&c, o, &all) && o->has_filters && all.n > 0 && g->use == GUARD_READS &&
                   (!o->is_deflated || o->shuffled_bytes == (uint64_t)o->element_bytes);
    uint64_t index = cursor_take(&c, 1);
    if (is_ours && index == SINGLE_CHUNK && flags == ONE_IS_FILTERED && all.n == 1) {
        uint64_t bytes = cursor_take(&c, 8);
        uint64_t left_out = cursor_take(&c, MASK_BYTES);
        uint64_t address = cursor_take(&c, ADDRESS_BYTES);
        return c.is_over ? guard_bad(g, c.address, "an array's layout ends early")
                         : chunk(g, &all, address, bytes, left_out, c.address);
    }
    int page_bits = (int)cursor_take(&c, 1);
    uint64_t address = cursor_take(&c, ADDRESS_BYTES);
    return is_ours && index == FIXED_ARRAY && flags == 0 && page_bits == PAGE_BITS && !c.is_over
               ? fixed_array(g, &all, address, page_bits)
               : guard_bad(g, c.address, "an array's chunks are not as ours are");
}

enum status guard_layout(const struct guard *g, struct guard_object *o) {
    struct cursor c = {.at = o->layout, .end = o->layout + o->layout_bytes, .address = o->layout_address};
    if (!o->has_space || !o->has_type || !o->has_layout || !o->has_fill) {
        return guard_bad(g, c.address, "an array lacks its shape, type or place");
    }
    uint64_t version = cursor_take(&c, 1);
    uint64_t class = cursor_take(&c, 1);
    if (class == CONTIGUOUS && (version == 3 || version == 4)) {
        return contiguous(g, c, o);
    }
    return class == CHUNKED && version == 4 ? chunked(g, c, o)
                                            : guard_bad(g, c.address, "an array is stored as ours are not");
}
