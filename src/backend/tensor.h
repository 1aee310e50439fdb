/* Tensors as descriptions: addresses in a back end's memory, shapes, types, views. */
#ifndef COLLIMATE_BACKEND_TENSOR_H
#define COLLIMATE_BACKEND_TENSOR_H

#include <stdint.h>

enum dtype { DTYPE_F32, DTYPE_BF16, DTYPE_F64, DTYPE_I32 };
int64_t dtype_size(enum dtype type);
const char *dtype_name(enum dtype type);

struct tensor {
    void *data; /* NULL: no tensor */
    int64_t rows, columns, stride;
    enum dtype type;
};
/* Views: rows [first, first + count) and columns likewise. */
struct tensor tensor_rows(struct tensor t, int64_t first, int64_t count);
struct tensor tensor_columns(struct tensor t, int64_t first, int64_t count);
/* rows x columns, contiguous, at data. */
struct tensor tensor_at(void *data, int64_t rows, int64_t columns, enum dtype type);

#endif
