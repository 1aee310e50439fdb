/* Reading protocol buffers field by field (protobuf.dev/programming-guides/encoding). Private to src/text/.
 *
 * The reader takes hostile messages: every length is checked, nothing is followed by itself, groups (which
 * nobody writes any more) are refused.
 */
#ifndef COLLIMATE_TEXT_PROTOBUF_H
#define COLLIMATE_TEXT_PROTOBUF_H

#include <stddef.h>
#include <stdint.h>

#include "util/status.h"

enum protobuf_wire { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };
struct protobuf {
    const char *at, *end; /* what is left of the message */
    const char *where;    /* begins messages */
};
struct protobuf_field {
    uint32_t number;
    enum protobuf_wire wire;
    uint64_t value;   /* a number as it is stored */
    const char *data; /* WIRE_BYTES: borrowed from the message */
    size_t n;
};
/* The next field; *more is false at the end. Fails: ERR_DATA for what is cut off or no field. */
enum status protobuf_next(struct protobuf *p, struct protobuf_field *field, bool *more);
/* The field as a message, number or string; another wire type is ERR_DATA. */
enum status protobuf_message(const struct protobuf *p, const struct protobuf_field *field,
                             struct protobuf *out);
enum status protobuf_integer(const struct protobuf *p, const struct protobuf_field *field, int64_t *out);
enum status protobuf_bool(const struct protobuf *p, const struct protobuf_field *field, bool *out);
enum status protobuf_float(const struct protobuf *p, const struct protobuf_field *field, float *out);

#endif
