/* Memory that is released as a whole, with a bound. Private to src/text/.
 *
 * What is taken lives until pool_free(); nothing is given back before. So values that point to each other in
 * circles, and the ways out of a failure, need no care.
 */
#ifndef COLLIMATE_TEXT_POOL_H
#define COLLIMATE_TEXT_POOL_H

#include <stddef.h>
#include <stdint.h>

#include "util/status.h"

struct pool {
    struct pool_block *blocks; /* the newest first */
    size_t left;               /* bytes free at the end of the newest */
    int64_t taken, limit;      /* bytes */
};

/* *out: count zeroed elements of `size` bytes. Fails: ERR_DATA past the limit, ERR_SYSTEM. */
enum status pool_take(struct pool *p, int64_t count, size_t size, void *out);
#define POOL_ARRAY(pool, p, n) pool_take((pool), (n), sizeof *(p), (void *)&(p))
/* Makes room for at least `need` elements; capacity is doubled, the old elements are copied. */
#define POOL_GROW(pool, p, capacity, need) \
    pool_reserve((pool), (void *)&(p), &(capacity), (need), sizeof *(p))
enum status pool_reserve(struct pool *p, void *array, int64_t *capacity, int64_t need, size_t size);
void pool_free(struct pool *p);

#endif
