/* What the parts of the guard share: the file, a cursor that cannot leave its bytes, and what an object is.
 */
#ifndef COLLIMATE_IO_H5_GUARD_INTERNAL_H
#define COLLIMATE_IO_H5_GUARD_INTERNAL_H

#include <stddef.h>
#include <stdint.h>

#include "io/h5_guard.h"

#define GUARD_UNDEFINED UINT64_MAX /* an address of nothing */

struct guard {
    const char *path;
    int descriptor;
    int64_t size;
    enum h5_guard_use use;
    uint64_t *objects; /* headers seen: each is linked once */
    int64_t n_objects, capacity;
};

/* ERR_DATA with the path, what is wrong and where. */
enum status guard_bad(const struct guard *g, uint64_t address, const char *what);
/* n bytes of the file at an address, freed with mem_free. */
enum status guard_read(const struct guard *g, uint64_t address, uint64_t n, const char *what,
                       unsigned char **out);
/* Do n bytes at an address lie in the file? */
bool guard_inside(const struct guard *g, uint64_t address, uint64_t n);

/* Bytes in memory. What is taken past the end is 0 and sets `is_over`, which is asked for once, at the end.
 */
struct cursor {
    const unsigned char *at, *end;
    uint64_t address; /* of the structure, for messages */
    bool is_over;
};
uint64_t cursor_take(struct cursor *c, int bytes);               /* little-endian; at most 8 bytes */
const unsigned char *cursor_bytes(struct cursor *c, uint64_t n); /* NULL past the end */
/* The next 4 bytes are this signature, and the one after them is the version. */
bool cursor_begins(struct cursor *c, const char *signature, int version);

enum { GUARD_LAYOUT_BYTES = 64 };

/* An object header's messages, as far as they matter. */
struct guard_object {
    bool is_group, has_space, has_type, has_fill, has_layout, has_filters;
    int rank;
    uint64_t sizes[2]; /* 1 where there is no such dimension */
    int element_bytes;
    bool is_deflated;
    int n_filters;
    uint64_t shuffled_bytes;
    unsigned char layout[GUARD_LAYOUT_BYTES]; /* looked at when all else is known */
    uint64_t layout_bytes, layout_address;
    uint64_t heaps[2], trees[2]; /* dense links and attributes */
};
enum { GUARD_LINKS, GUARD_ATTRIBUTES };

/* What a link leads to is looked at. */
enum { GUARD_DEPTH = 8 };
enum status guard_object(struct guard *g, uint64_t address, int depth);

/* One message of a header. */
enum status guard_message(struct guard *g, int type, struct cursor body, struct guard_object *object,
                          int depth);
enum status guard_attribute(const struct guard *g, struct cursor body);
enum status guard_link(struct guard *g, struct cursor body, int depth);
/* The array's bytes, once all messages are known. */
enum status guard_layout(const struct guard *g, struct guard_object *object);
/* Links or attributes that lie in a heap, through the tree of their names. */
enum status guard_dense(struct guard *g, uint64_t heap, uint64_t tree, int kind, int depth);

#endif
