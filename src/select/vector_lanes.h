/* Sixteen rows or centers at a time: a cache line of products, and one register where the processor has
 * AVX-512. A comparison gives all bits of each lane. */
#ifndef COLLIMATE_SELECT_VECTOR_LANES_H
#define COLLIMATE_SELECT_VECTOR_LANES_H

#include <stdint.h>

#include "util/level.h"

enum { LANES = 16 };
typedef float vec __attribute__((vector_size(LANES * 4)));
typedef int32_t mask __attribute__((vector_size(LANES * 4)));
typedef uint8_t bytes __attribute__((vector_size(LANES)));
#define WHERE(m, yes, no) ((vec)(((mask)(yes) & (m)) | ((mask)(no) & ~(m))))

#endif
