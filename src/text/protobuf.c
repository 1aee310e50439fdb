#include "text/protobuf.h"

#include <string.h>

static enum status damaged(const struct protobuf *p, const char *what) {
    return fail(ERR_DATA, "%s: damaged: %s", p->where, what);
}

static enum status take_varint(struct protobuf *p, uint64_t *out) {
    uint64_t value = 0;
    for (int shift = 0; shift < 70; shift += 7) {
        if (p->at == p->end) {
            return damaged(p, "a number is cut off");
        }
        unsigned char byte = (unsigned char)*p->at++;
        value |= shift < 64 ? (uint64_t)(byte & 0x7F) << shift : 0;
        if (byte < 0x80) {
            *out = value;
            return OK;
        }
    }
    return damaged(p, "a number has more than 10 bytes");
}

static enum status take_fixed(struct protobuf *p, size_t n, uint64_t *out) {
    if ((size_t)(p->end - p->at) < n) {
        return damaged(p, "a number is cut off");
    }
    *out = 0;
    for (size_t i = 0; i < n; i++) {
        *out |= (uint64_t)(unsigned char)p->at[i] << 8 * i;
    }
    p->at += n;
    return OK;
}

enum status protobuf_next(struct protobuf *p, struct protobuf_field *field, bool *more) {
    uint64_t key;
    *field = (struct protobuf_field){0};
    *more = p->at < p->end;
    if (!*more) {
        return OK;
    }
    TRY(take_varint(p, &key));
    if (key >> 3 == 0 || key >> 3 >= 1u << 29) {
        return damaged(p, "a field's number is out of range");
    }
    field->number = (uint32_t)(key >> 3);
    field->wire = (enum protobuf_wire)(key & 7);
    switch (key & 7) {
    case WIRE_VARINT:
        return take_varint(p, &field->value);
    case WIRE_64:
        return take_fixed(p, 8, &field->value);
    case WIRE_32:
        return take_fixed(p, 4, &field->value);
    case WIRE_BYTES:
        TRY(take_varint(p, &field->value));
        if (field->value > (uint64_t)(p->end - p->at)) {
            return damaged(p, "a field is longer than what is left");
        }
        field->data = p->at;
        field->n = (size_t)field->value;
        p->at += field->n;
        return OK;
    default:
        return damaged(p, "a field of an unknown type");
    }
}

static enum status expect(const struct protobuf *p, const struct protobuf_field *field,
                          enum protobuf_wire wire) {
    return field->wire == wire
               ? OK
               : fail(ERR_DATA, "%s: damaged: field %u has another type", p->where, field->number);
}

enum status protobuf_message(const struct protobuf *p, const struct protobuf_field *field,
                             struct protobuf *out) {
    TRY(expect(p, field, WIRE_BYTES));
    *out = (struct protobuf){field->data, field->data + field->n, p->where};
    return OK;
}

enum status protobuf_integer(const struct protobuf *p, const struct protobuf_field *field, int64_t *out) {
    TRY(expect(p, field, WIRE_VARINT));
    *out = (int64_t)field->value;
    return OK;
}

enum status protobuf_bool(const struct protobuf *p, const struct protobuf_field *field, bool *out) {
    TRY(expect(p, field, WIRE_VARINT));
    *out = field->value != 0;
    return OK;
}

enum status protobuf_float(const struct protobuf *p, const struct protobuf_field *field, float *out) {
    TRY(expect(p, field, WIRE_32));
    uint32_t bits = (uint32_t)field->value;
    memcpy(out, &bits, sizeof *out);
    return OK;
}
