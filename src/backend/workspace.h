/* Scratch memory that a pass takes and gives back. */
#ifndef COLLIMATE_BACKEND_WORKSPACE_H
#define COLLIMATE_BACKEND_WORKSPACE_H

#include "backend/backend.h"

/* A bump allocator on device memory, so that nothing is allocated inside a step. */
struct workspace {
    struct backend *backend;
    char *base;
    int64_t capacity, used, peak;
};
/* Local. One allocation; grows never. workspace_take fails with ERR_SYSTEM naming `what`, what was asked and
 * the key (train.micro_tokens) that lowers it. Not cleared. */
enum status workspace_open(struct backend *b, int64_t bytes, struct workspace *out);
void workspace_close(struct workspace *w);
enum status workspace_take(struct workspace *w, int64_t rows, int64_t columns, enum dtype type,
                           const char *what, struct tensor *out);
int64_t workspace_mark(const struct workspace *w);
void workspace_release(struct workspace *w, int64_t mark);

#endif
