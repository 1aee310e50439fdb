/* Weights that are op(B) of many products before they change, laid out for the kernels of bf16 dot products
 * once a change.
 *
 * A matrix W (rows x columns, contiguous, bf16) is declared with its place in memory. Its panels
 * (dot_kernel.h) are made by the first product that reads W after a change, for each way in which W is read
 * on its own: y = x W^T (KEPT_TRANSPOSED) and dx = dy W (KEPT_STRAIGHT). Who writes W says so; a panel that
 * is not of W's values is never read.
 */
#ifndef COLLIMATE_CPU_KEPT_WEIGHTS_H
#define COLLIMATE_CPU_KEPT_WEIGHTS_H

#include <stdbool.h>
#include <stdint.h>

#include "util/status.h"

enum kept_way { KEPT_TRANSPOSED, KEPT_STRAIGHT, KEPT_WAYS };

struct kept_weight {
    const char *data;
    int64_t rows, columns;
    uint16_t *panels[KEPT_WAYS]; /* NULL: not made yet; the set's own */
    bool is_current[KEPT_WAYS];
};

struct kept_weights {
    struct kept_weight *list; /* by address */
    int64_t n, capacity;
};

/* Elements of a way's panels (backend_kept_bytes). */
int64_t kept_elements(int64_t rows, int64_t columns);
/* Fails: ERR_INTERNAL where it overlaps one that is declared; ERR_SYSTEM without memory. */
enum status kept_declare(struct kept_weights *k, const void *data, int64_t rows, int64_t columns);
/* What lies in [data, data + bytes) has new values; is no weight any more. */
void kept_change(struct kept_weights *k, const void *data, int64_t bytes);
void kept_drop(struct kept_weights *k, const void *data, int64_t bytes);
/* The matrix that the address lies in, or NULL. */
struct kept_weight *kept_find(struct kept_weights *k, const void *data);
void kept_close(struct kept_weights *k);

#endif
