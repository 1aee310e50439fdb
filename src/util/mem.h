/* Host memory with checked sizes. The only file that calls malloc.
 *
 * NEW_ARRAY(p, n) gives n zeroed elements of *p or a recorded ERR_SYSTEM:
 *     double *sums;
 *     TRY(NEW_ARRAY(sums, n_rows));
 * Everything is released with mem_free(); NULL is fine.
 */
#ifndef COLLIMATE_UTIL_MEM_H
#define COLLIMATE_UTIL_MEM_H

#include <stddef.h>
#include <stdint.h>

#include "util/status.h"

/* NULL with a recorded failure when count < 0, count * size overflows, or memory is out. Zero elements give
 * a valid pointer. mem_calloc clears, mem_grow keeps the old content and does not clear what is new. */
void *mem_calloc(int64_t count, size_t size);
void *mem_grow(void *old, int64_t count, size_t size);
/* 64-byte aligned, size rounded up to 64, not cleared. */
void *mem_aligned(int64_t count, size_t size);
void mem_free(void *p);
char *mem_strdup(const char *s);
char *mem_strndup(const char *s, size_t n);

/* The status of an allocation by the functions above: TRY(mem_ok(copy)). */
static inline enum status mem_ok(const void *p) {
    return p ? OK : ERR_SYSTEM;
}

#define NEW_ARRAY(p, n) mem_ok((p) = mem_calloc((n), sizeof *(p)))
/* Makes room for at least `need` elements; capacity (int64_t) is doubled. p stays valid on failure. */
#define GROW_ARRAY(p, capacity, need) mem_reserve((void *)&(p), &(capacity), (need), sizeof *(p))
enum status mem_reserve(void *array, int64_t *capacity, int64_t need, size_t size);
/* Arrays that share one capacity: GROW_ARRAYS(f->capacity, need, GROWN(f->tokens), GROWN(f->positions)). */
struct mem_array {
    void *array; /* the pointer's address */
    size_t size; /* of an element */
};
#define GROWN(p) ((struct mem_array){(void *)&(p), sizeof *(p)})
#define GROW_ARRAYS(capacity, need, ...)                                          \
    mem_reserve_all(&(capacity), (need), (const struct mem_array[]){__VA_ARGS__}, \
                    (int)(sizeof((struct mem_array[]){__VA_ARGS__}) / sizeof(struct mem_array)))
enum status mem_reserve_all(int64_t *capacity, int64_t need, const struct mem_array *arrays, int n);

/* *out = a * b or a + b; ERR_DATA naming `what` when that overflows or an operand is negative. */
enum status size_mul(int64_t a, int64_t b, const char *what, int64_t *out);
enum status size_add(int64_t a, int64_t b, const char *what, int64_t *out);
/* Narrowing with a check. */
enum status to_int(int64_t value, const char *what, int *out);

/* Gives memory that was freed back to the system, where the C library would keep it. For after a phase whose
 * large buffers the next phase does not reuse. */
void mem_trim(void);
/* Most resident memory of this process so far, bytes (0 if the system does not say). */
int64_t mem_peak_resident(void);

#endif
