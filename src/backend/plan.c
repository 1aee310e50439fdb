/* plan: runs nothing and holds nothing, so that --dry-run can lay a model out and say what it needs.
 *
 * Types and capabilities are those of the CPU back end. Addresses are numbers that no process can have
 * mapped; reads give zeros.
 */
#include <stdio.h>
#include <string.h>

#include "backend/backend_internal.h"
#include "util/mem.h"

static const uintptr_t FIRST_ADDRESS = (uintptr_t)1 << 55; /* not canonical: using it faults */

struct plan {
    uintptr_t next;
};

/* Every address is its own. */
static enum status plan_alloc(struct backend *b, int64_t bytes, void **out) {
    struct plan *p = b->context;
    int64_t room;
    TRY(size_add(bytes, 127, "plan: allocation", &room));
    room = room / 64 * 64; /* at least 64 bytes */
    if ((uintptr_t)room > UINTPTR_MAX - p->next) {
        return fail(ERR_SYSTEM, "plan: %lld bytes more have no addresses", (long long)bytes);
    }
    *out = (void *)p->next; // NOLINT(performance-no-int-to-ptr)
    p->next += (uintptr_t)room;
    return OK;
}

static void plan_free(struct backend *b, void *data) {
    (void)b, (void)data;
}

static enum status plan_write(struct backend *b, void *to, const void *host, int64_t bytes) {
    (void)b, (void)to, (void)host, (void)bytes;
    return OK;
}
static enum status plan_read(struct backend *b, void *host, const void *from, int64_t bytes) {
    (void)b, (void)from;
    if (bytes > 0) {
        memset(host, 0, (size_t)bytes);
    }
    return OK;
}
static enum status plan_copy(struct backend *b, void *to, const void *from, int64_t bytes) {
    (void)b, (void)to, (void)from, (void)bytes;
    return OK;
}
static enum status plan_zero(struct backend *b, void *to, int64_t bytes) {
    (void)b, (void)to, (void)bytes;
    return OK;
}
static enum status plan_sync(struct backend *b) {
    (void)b;
    return OK;
}
#define NOTHING(name, type)                                               \
    static enum status plan_##name(struct backend *b, const type *call) { \
        (void)b, (void)call;                                              \
        return OK;                                                        \
    }
OPERATIONS(NOTHING)

static void plan_destroy(struct backend *b) {
    mem_free(b->context);
    mem_free(b);
}

#define ENTRY(name, type) , .name = plan_##name
static const struct backend_ops operations = {
    .api_version = BACKEND_API_VERSION,
    .alloc = plan_alloc,
    .free = plan_free,
    .write = plan_write,
    .read = plan_read,
    .copy = plan_copy,
    .zero = plan_zero,
    .sync = plan_sync,
    .destroy = plan_destroy OPERATIONS(ENTRY),
};

enum status plan_open(const struct backend_request *request, struct backend **out, char why[256]) {
    struct backend *b = NULL;
    struct plan *p = NULL;
    enum status st;
    TRY_TO(failed, cpu_can(request));
    TRY_TO(failed, NEW_ARRAY(b, 1));
    TRY_TO(failed, NEW_ARRAY(p, 1));
    p->next = FIRST_ADDRESS;
    b->ops = &operations;
    b->caps = cpu_caps(request);
    b->caps.name = "plan";
    snprintf(b->caps.description, sizeof b->caps.description, "runs nothing, holds nothing");
    b->context = p;
    snprintf(why, 256, "asked for");
    *out = b;
    return OK;
failed:
    mem_free(p);
    mem_free(b);
    return st;
}
