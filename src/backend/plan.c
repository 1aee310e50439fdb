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
static enum status plan_convert(struct backend *b, struct tensor to, struct tensor from) {
    (void)b, (void)to, (void)from;
    return OK;
}
static enum status plan_gemm(struct backend *b, const struct gemm *g) {
    (void)b, (void)g;
    return OK;
}
static enum status plan_add(struct backend *b, struct tensor to, double alpha, struct tensor from) {
    (void)b, (void)to, (void)alpha, (void)from;
    return OK;
}
static enum status plan_embed(struct backend *b, struct tensor out, struct tensor table, struct tensor ids,
                              double scale, bool accumulate) {
    (void)b, (void)out, (void)table, (void)ids, (void)scale, (void)accumulate;
    return OK;
}
static enum status plan_embed_gradient(struct backend *b, struct tensor dtable, struct tensor dout,
                                       struct tensor ids, double scale) {
    (void)b, (void)dtable, (void)dout, (void)ids, (void)scale;
    return OK;
}
static enum status plan_norm(struct backend *b, const struct norm *n) {
    (void)b, (void)n;
    return OK;
}
static enum status plan_norm_gradient(struct backend *b, const struct norm *n,
                                      const struct norm_gradient *g) {
    (void)b, (void)n, (void)g;
    return OK;
}
static enum status plan_rope(struct backend *b, const struct rope *r) {
    (void)b, (void)r;
    return OK;
}
static enum status plan_activate(struct backend *b, const struct activate *a) {
    (void)b, (void)a;
    return OK;
}
static enum status plan_activate_gradient(struct backend *b, const struct activate *a,
                                          const struct activate_gradient *g) {
    (void)b, (void)a, (void)g;
    return OK;
}
static enum status plan_attention(struct backend *b, const struct attention *a) {
    (void)b, (void)a;
    return OK;
}
static enum status plan_attention_gradient(struct backend *b, const struct attention *a,
                                           const struct attention_gradient *g) {
    (void)b, (void)a, (void)g;
    return OK;
}
static enum status plan_head(struct backend *b, const struct head *h) {
    (void)b, (void)h;
    return OK;
}
static enum status plan_head_gradient(struct backend *b, const struct head *h,
                                      const struct head_gradient *g) {
    (void)b, (void)h, (void)g;
    return OK;
}
/* gather, scatter_add, pool */
static enum status plan_by_rows(struct backend *b, struct tensor to, struct tensor from, struct tensor rows) {
    (void)b, (void)to, (void)from, (void)rows;
    return OK;
}
static enum status plan_sum_squares(struct backend *b, struct tensor x, double *out) {
    (void)b, (void)x;
    *out = 0;
    return OK;
}
static enum status plan_optimizer(struct backend *b, const struct optimizer_step *s) {
    (void)b, (void)s;
    return OK;
}

static void plan_destroy(struct backend *b) {
    mem_free(b->context);
    mem_free(b);
}

static const struct backend_ops operations = {
    .api_version = BACKEND_API_VERSION,
    .alloc = plan_alloc,
    .free = plan_free,
    .write = plan_write,
    .read = plan_read,
    .copy = plan_copy,
    .zero = plan_zero,
    .sync = plan_sync,
    .convert = plan_convert,
    .gemm = plan_gemm,
    .add = plan_add,
    .sum_rows = plan_convert,
    .embed = plan_embed,
    .embed_gradient = plan_embed_gradient,
    .norm = plan_norm,
    .norm_gradient = plan_norm_gradient,
    .rope = plan_rope,
    .activate = plan_activate,
    .activate_gradient = plan_activate_gradient,
    .attention = plan_attention,
    .attention_gradient = plan_attention_gradient,
    .head = plan_head,
    .head_gradient = plan_head_gradient,
    .gather = plan_by_rows,
    .scatter_add = plan_by_rows,
    .pool = plan_by_rows,
    .sum_squares = plan_sum_squares,
    .optimizer = plan_optimizer,
    .destroy = plan_destroy,
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
