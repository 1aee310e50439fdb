/* Eight rows or centers at a time: a register of AVX2. Of wider vectors GCC makes the comparisons lane by
 * lane where no register holds them, several times as slow. A comparison gives all bits of each lane. */
#ifndef COLLIMATE_SELECT_VECTOR_LANES_H
#define COLLIMATE_SELECT_VECTOR_LANES_H

#include <stdint.h>

#include "util/level.h"

enum { LANES = 8 };
typedef float vec __attribute__((vector_size(LANES * 4)));
typedef int32_t mask __attribute__((vector_size(LANES * 4)));
typedef uint8_t bytes __attribute__((vector_size(LANES)));
#define WHERE(m, yes, no) ((vec)(((mask)(yes) & (m)) | ((mask)(no) & ~(m))))

#endif
