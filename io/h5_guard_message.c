/* Messages of object headers (HDF5 File Format Specification 3.0, IV.A.2), as far as ours have them. */
#include <string.h>

#include "io/h5_guard_internal.h"

enum {
    MESSAGE_NOTHING = 0,
    MESSAGE_SPACE = 1,
    MESSAGE_LINK_INFO = 2,
    MESSAGE_TYPE = 3,
    MESSAGE_FILL = 5,
    MESSAGE_LINK = 6,
    MESSAGE_LAYOUT = 8,
    MESSAGE_GROUP_INFO = 10,
    MESSAGE_FILTERS = 11,
    MESSAGE_ATTRIBUTE = 12,
    MESSAGE_ATTRIBUTE_INFO = 21,
};
enum { TEXT_BYTES_MOST = 1 << 20, NAME_BYTES_MOST = 256 };

/* The number types that we write, to the byte: class and version, bits, size, and what follows. */
struct number_type {
    int bytes, n;
    unsigned char is[20];
};
static const struct number_type number_types[] = {
    {1, 12, {0x10, 0x08, 0, 0, 1, 0, 0, 0, 0, 0, 8, 0}},                                    /* int8 */
    {1, 12, {0x10, 0x00, 0, 0, 1, 0, 0, 0, 0, 0, 8, 0}},                                    /* uint8 */
    {4, 12, {0x10, 0x08, 0, 0, 4, 0, 0, 0, 0, 0, 32, 0}},                                   /* int32 */
    {8, 12, {0x10, 0x08, 0, 0, 8, 0, 0, 0, 0, 0, 64, 0}},                                   /* int64 */
    {8, 12, {0x10, 0x00, 0, 0, 8, 0, 0, 0, 0, 0, 64, 0}},                                   /* uint64 */
    {4, 20, {0x11, 0x20, 31, 0, 4, 0, 0, 0, 0, 0, 32, 0, 23, 8, 0, 23, 127, 0, 0, 0}},      /* float */
    {8, 20, {0x11, 0x20, 63, 0, 8, 0, 0, 0, 0, 0, 64, 0, 52, 11, 0, 52, 0xff, 0x03, 0, 0}}, /* double */
};

/* Bytes of the number type that stands there; 0: it is none of ours. */
static int number_bytes(const struct cursor *c) {
    for (int i = 0; i < COUNT_OF(number_types); i++) {
        const struct number_type *t = &number_types[i];
        if (c->end - c->at >= t->n && memcmp(c->at, t->is, (size_t)t->n) == 0) {
            return t->bytes;
        }
    }
    return 0;
}

/* Bytes of a text of fixed size; 0: it is none. */
static uint64_t text_bytes(struct cursor c) {
    enum { STRING = 0x13, ENDS_WITH_NUL_UTF8 = 0x10 };
    bool is_text = cursor_take(&c, 1) == STRING && cursor_take(&c, 3) == ENDS_WITH_NUL_UTF8;
    uint64_t bytes = cursor_take(&c, 4);
    return is_text && !c.is_over && bytes <= TEXT_BYTES_MOST ? bytes : 0;
}

/* Version 2, one or two sizes that never change. */
static enum status space(const struct guard *g, struct cursor body, struct guard_object *object) {
    enum { SIMPLE = 1, HAS_MOST = 1 };
    bool is_ours = cursor_take(&body, 1) == 2;
    int rank = (int)cursor_take(&body, 1);
    uint64_t flags = cursor_take(&body, 1);
    is_ours = is_ours && cursor_take(&body, 1) == SIMPLE && (flags & ~(uint64_t)HAS_MOST) == 0;
    if (!is_ours || rank < 1 || rank > 2 || object->has_space) {
        return guard_bad(g, body.address, "an array has no shape of ours");
    }
    for (int i = 0; i < rank; i++) {
        object->sizes[i] = cursor_take(&body, 8);
    }
    for (int i = 0; i < rank && (flags & HAS_MOST); i++) {
        is_ours = is_ours && cursor_take(&body, 8) == object->sizes[i];
    }
    object->rank = rank;
    object->has_space = true;
    return is_ours && !body.is_over ? OK : guard_bad(g, body.address, "an array has a shape that can grow");
}

static enum status type(const struct guard *g, struct cursor body, struct guard_object *object) {
    object->element_bytes = number_bytes(&body);
    if (object->element_bytes == 0 || object->has_type) {
        return guard_bad(g, body.address, "an array has elements of a type that ours do not have");
    }
    object->has_type = true;
    return OK;
}

static enum status fill(const struct guard *g, struct cursor body, struct guard_object *object) {
    enum { HAS_VALUE = 0x20, KNOWN = 0x3f };
    bool is_ours = cursor_take(&body, 1) == 3;
    uint64_t flags = cursor_take(&body, 1);
    if (!is_ours || body.is_over || (flags & HAS_VALUE) || flags > KNOWN || object->has_fill) {
        return guard_bad(g, body.address, "an array has a fill value");
    }
    object->has_fill = true;
    return OK;
}

/* Shuffle and deflate, both or none, then the checksum. */
static enum status filters(const struct guard *g, struct cursor body, struct guard_object *object) {
    enum { DEFLATE = 1, SHUFFLE = 2, CHECKSUM = 3, MOST_FILTERS = 3 };
    bool is_ours = cursor_take(&body, 1) == 2 && !object->has_filters;
    object->has_filters = true;
    object->n_filters = (int)cursor_take(&body, 1);
    is_ours = is_ours && (object->n_filters == 1 || object->n_filters == MOST_FILTERS);
    for (int i = 0; i < object->n_filters && is_ours; i++) {
        int id = (int)cursor_take(&body, 2);
        (void)cursor_take(&body, 2); /* whether a failure of the filter is an error when writing */
        uint64_t n = cursor_take(&body, 2);
        uint64_t value = n == 1 ? cursor_take(&body, 4) : 0;
        bool is_last = i == object->n_filters - 1;
        is_ours = is_last ? id == CHECKSUM && n == 0 : n == 1 && id == (i == 0 ? SHUFFLE : DEFLATE);
        object->shuffled_bytes = id == SHUFFLE ? value : object->shuffled_bytes;
        is_ours = is_ours && (id != DEFLATE || value <= 9);
    }
    object->is_deflated = object->n_filters == MOST_FILTERS;
    return is_ours && !body.is_over ? OK
                                    : guard_bad(g, body.address, "an array uses filters that ours do not");
}

static enum status layout(const struct guard *g, struct cursor body, struct guard_object *object) {
    uint64_t n = (uint64_t)(body.end - body.at);
    if (object->has_layout || n > sizeof object->layout) {
        return guard_bad(g, body.address, "an array is stored as ours are not");
    }
    memcpy(object->layout, body.at, n);
    object->layout_bytes = n;
    object->layout_address = body.address;
    object->has_layout = true;
    return OK;
}

/* Where links or attributes lie that do not lie in the header: version 0, no order of creation. */
static enum status info(const struct guard *g, struct cursor body, int kind, struct guard_object *object) {
    bool is_ours = cursor_take(&body, 1) == 0 && cursor_take(&body, 1) == 0;
    object->heaps[kind] = cursor_take(&body, 8);
    object->trees[kind] = cursor_take(&body, 8);
    return is_ours && !body.is_over ? OK
                                    : guard_bad(g, body.address, "a group keeps order, which ours do not");
}

enum status guard_link(struct guard *g, struct cursor body, int depth) {
    enum { WIDTH = 3 };
    bool is_ours = cursor_take(&body, 1) == 1;
    uint64_t flags = cursor_take(&body, 1); /* further flags: soft and external links, order, other letters */
    if (!is_ours || flags > WIDTH) {
        return guard_bad(g, body.address, "a link is not a plain one within the file");
    }
    uint64_t n = cursor_take(&body, 1 << flags);
    const unsigned char *name = n > 0 && n < NAME_BYTES_MOST ? cursor_bytes(&body, n) : NULL;
    uint64_t address = cursor_take(&body, 8);
    if (!name || body.is_over || memchr(name, '\0', n) || memchr(name, '/', n)) {
        return guard_bad(g, body.address, "a link's name is not one of ours");
    }
    return guard_object(g, address, depth + 1);
}

enum status guard_attribute(const struct guard *g, struct cursor body) {
    enum { SCALAR_BYTES = 4 };
    static const unsigned char scalar[SCALAR_BYTES] = {2, 0, 0, 0};
    bool is_ours = cursor_take(&body, 1) == 3 && cursor_take(&body, 1) == 0;
    uint64_t name_bytes = cursor_take(&body, 2);
    uint64_t type_bytes = cursor_take(&body, 2);
    uint64_t space_bytes = cursor_take(&body, 2);
    (void)cursor_take(&body, 1); /* letters of the name */
    const unsigned char *name = cursor_bytes(&body, name_bytes);
    struct cursor type = {.at = cursor_bytes(&body, type_bytes)};
    const unsigned char *space_at = cursor_bytes(&body, space_bytes);
    if (!is_ours || body.is_over || name_bytes < 2 || name_bytes > NAME_BYTES_MOST ||
        memchr(name, '\0', name_bytes) != name + name_bytes - 1) {
        return guard_bad(g, body.address, "an attribute does not begin as ours do");
    }
    type.end = type.at + type_bytes;
    uint64_t bytes = (uint64_t)number_bytes(&type);
    bytes = bytes > 0 ? bytes : text_bytes(type);
    bool is_scalar = space_bytes >= SCALAR_BYTES && memcmp(space_at, scalar, SCALAR_BYTES) == 0;
    return bytes > 0 && is_scalar && cursor_bytes(&body, bytes)
               ? OK
               : guard_bad(g, body.address, "an attribute is neither a number nor a text of fixed size");
}

enum status guard_message(struct guard *g, int kind, struct cursor body, struct guard_object *object,
                          int depth) {
    switch (kind) {
    case MESSAGE_NOTHING:
        return OK;
    case MESSAGE_SPACE:
        return space(g, body, object);
    case MESSAGE_TYPE:
        return type(g, body, object);
    case MESSAGE_FILL:
        return fill(g, body, object);
    case MESSAGE_LAYOUT:
        return layout(g, body, object);
    case MESSAGE_FILTERS:
        return filters(g, body, object);
    case MESSAGE_LINK_INFO:
        object->is_group = true;
        return info(g, body, GUARD_LINKS, object);
    case MESSAGE_ATTRIBUTE_INFO:
        return info(g, body, GUARD_ATTRIBUTES, object);
    case MESSAGE_GROUP_INFO:
        return cursor_take(&body, 1) == 0 && cursor_take(&body, 1) == 0 && !body.is_over
                   ? OK
                   : guard_bad(g, body.address, "a group was made with options that ours do not have");
    case MESSAGE_LINK:
        return guard_link(g, body, depth);
    case MESSAGE_ATTRIBUTE:
        return guard_attribute(g, body);
    default:
        return guard_bad(g, body.address, "an object has a message that ours do not have");
    }
}
