/* check:cpu, the suspicious back end: runs every operation on the CPU back end and watches it (check_memory.h
 * says how). Indices that live on the device, which the front functions cannot see, are checked here as well.
 */
#include <stdio.h>
#include <string.h>

#include "backend/backend_internal.h"
#include "backend/check/check_memory.h"
#include "util/mem.h"

static struct check_memory *memory_of(struct backend *b) {
    return b->context;
}

static struct backend *inner_of(struct backend *b) {
    return memory_of(b)->inner;
}

static struct call call_of(struct backend *b, const char *op) {
    return (struct call){.memory = memory_of(b), .op = op};
}

static enum status check_alloc(struct backend *b, int64_t bytes, void **out) {
    return check_memory_alloc(memory_of(b), bytes, out);
}

static void check_free(struct backend *b, void *data) {
    check_memory_free(memory_of(b), data);
}

static enum status check_write(struct backend *b, void *to, const void *host, int64_t bytes) {
    char *real;
    TRY(check_memory_find(memory_of(b), "write", "to", to, bytes, &real));
    return inner_of(b)->ops->write(inner_of(b), real, host, bytes);
}

static enum status check_read(struct backend *b, void *host, const void *from, int64_t bytes) {
    char *real;
    TRY(check_memory_find(memory_of(b), "read", "from", from, bytes, &real));
    return inner_of(b)->ops->read(inner_of(b), host, real, bytes);
}

static enum status check_copy(struct backend *b, void *to, const void *from, int64_t bytes) {
    char *real_to;
    char *real_from;
    TRY(check_memory_find(memory_of(b), "copy", "to", to, bytes, &real_to));
    TRY(check_memory_find(memory_of(b), "copy", "from", from, bytes, &real_from));
    return inner_of(b)->ops->copy(inner_of(b), real_to, real_from, bytes);
}

static enum status check_zero(struct backend *b, void *to, int64_t bytes) {
    char *real;
    TRY(check_memory_find(memory_of(b), "zero", "to", to, bytes, &real));
    return inner_of(b)->ops->zero(inner_of(b), real, bytes);
}

static enum status check_sync(struct backend *b) {
    return inner_of(b)->ops->sync(inner_of(b));
}

static enum status check_convert(struct backend *b, struct tensor to, struct tensor from) {
    struct call c = call_of(b, "convert");
    call_use(&c, "to", &to, USE_WRITE);
    call_use(&c, "from", &from, USE_READ);
    TRY(call_begin(&c));
    return call_end(&c, inner_of(b)->ops->convert(inner_of(b), to, from));
}

static enum status check_gemm(struct backend *b, const struct gemm *given) {
    struct gemm g = *given;
    struct call c = call_of(b, "gemm");
    call_use(&c, "a", &g.a, USE_READ);
    call_use(&c, "b", &g.b, USE_READ);
    call_use(&c, "bias", &g.bias, USE_READ);
    call_use(&c, "c", &g.c, g.beta != 0 ? USE_UPDATE : USE_WRITE);
    TRY(call_begin(&c));
    return call_end(&c, inner_of(b)->ops->gemm(inner_of(b), &g));
}

static enum status check_add(struct backend *b, struct tensor to, double alpha, struct tensor from) {
    struct call c = call_of(b, "add");
    call_use(&c, "to", &to, USE_UPDATE);
    call_use(&c, "from", &from, USE_READ);
    TRY(call_begin(&c));
    return call_end(&c, inner_of(b)->ops->add(inner_of(b), to, alpha, from));
}

static enum status check_sum_rows(struct backend *b, struct tensor to, struct tensor from) {
    struct call c = call_of(b, "sum_rows");
    call_use(&c, "to", &to, USE_UPDATE);
    call_use(&c, "from", &from, USE_READ);
    TRY(call_begin(&c));
    return call_end(&c, inner_of(b)->ops->sum_rows(inner_of(b), to, from));
}

static enum status check_embed(struct backend *b, struct tensor out, struct tensor table, struct tensor ids,
                               double scale, bool accumulate) {
    struct call c = call_of(b, "embed");
    call_use(&c, "out", &out, accumulate ? USE_UPDATE : USE_WRITE);
    call_use(&c, "table", &table, USE_READ);
    call_use(&c, "ids", &ids, USE_READ);
    TRY(call_begin(&c));
    enum status st = call_indices(&c, "ids", ids, 0, table.rows);
    return call_end(&c,
                    st != OK ? st : inner_of(b)->ops->embed(inner_of(b), out, table, ids, scale, accumulate));
}

static enum status check_embed_gradient(struct backend *b, struct tensor dtable, struct tensor dout,
                                        struct tensor ids, double scale) {
    struct call c = call_of(b, "embed_gradient");
    call_use(&c, "dtable", &dtable, USE_SOME);
    call_use(&c, "dout", &dout, USE_READ);
    call_use(&c, "ids", &ids, USE_READ);
    TRY(call_begin(&c));
    enum status st = call_indices(&c, "ids", ids, 0, dtable.rows);
    if (st == OK) {
        st = inner_of(b)->ops->embed_gradient(inner_of(b), dtable, dout, ids, scale);
    }
    return call_rows_end(&c, st, dtable, ids);
}

static enum status check_norm(struct backend *b, const struct norm *given) {
    struct norm n = *given;
    struct call c = call_of(b, "norm");
    call_use(&c, "x", &n.x, USE_READ);
    call_use(&c, "weight", &n.weight, USE_READ);
    call_use(&c, "bias", &n.bias, USE_READ);
    call_use(&c, "y", &n.y, USE_WRITE);
    call_use(&c, "statistics", &n.statistics, USE_WRITE);
    TRY(call_begin(&c));
    return call_end(&c, inner_of(b)->ops->norm(inner_of(b), &n));
}

static enum status check_norm_gradient(struct backend *b, const struct norm *given,
                                       const struct norm_gradient *given_gradient) {
    struct norm n = *given;
    struct norm_gradient g = *given_gradient;
    struct call c = call_of(b, "norm_gradient");
    n.y = (struct tensor){0}; /* may be gone by now */
    call_use(&c, "x", &n.x, USE_READ);
    call_use(&c, "weight", &n.weight, USE_READ);
    call_use(&c, "bias", &n.bias, USE_READ);
    call_use(&c, "statistics", &n.statistics, USE_READ);
    call_use(&c, "dy", &g.dy, USE_READ);
    call_use(&c, "dx", &g.dx, USE_UPDATE);
    call_use(&c, "dweight", &g.dweight, USE_UPDATE);
    call_use(&c, "dbias", &g.dbias, USE_UPDATE);
    TRY(call_begin(&c));
    return call_end(&c, inner_of(b)->ops->norm_gradient(inner_of(b), &n, &g));
}

static enum status check_rope(struct backend *b, const struct rope *given) {
    struct rope r = *given;
    struct call c = call_of(b, "rope");
    call_use(&c, "x", &r.x, USE_UPDATE);
    call_use(&c, "table", &r.table, USE_READ);
    TRY(call_begin(&c));
    return call_end(&c, inner_of(b)->ops->rope(inner_of(b), &r));
}

static enum status check_activate(struct backend *b, const struct activate *given) {
    struct activate a = *given;
    struct call c = call_of(b, "activate");
    call_use(&c, "gate", &a.gate, USE_READ);
    call_use(&c, "up", &a.up, USE_READ);
    call_use(&c, "y", &a.y, USE_WRITE);
    TRY(call_begin(&c));
    return call_end(&c, inner_of(b)->ops->activate(inner_of(b), &a));
}

static enum status check_activate_gradient(struct backend *b, const struct activate *given,
                                           const struct activate_gradient *given_gradient) {
    struct activate a = *given;
    struct activate_gradient g = *given_gradient;
    struct call c = call_of(b, "activate_gradient");
    a.y = (struct tensor){0}; /* may be gone by now */
    call_use(&c, "gate", &a.gate, USE_READ);
    call_use(&c, "up", &a.up, USE_READ);
    call_use(&c, "dy", &g.dy, USE_READ);
    call_use(&c, "dgate", &g.dgate, USE_WRITE);
    call_use(&c, "dup", &g.dup, USE_WRITE);
    TRY(call_begin(&c));
    return call_end(&c, inner_of(b)->ops->activate_gradient(inner_of(b), &a, &g));
}

static enum status check_attention(struct backend *b, const struct attention *given) {
    struct attention a = *given;
    struct call c = call_of(b, "attention");
    call_use(&c, "q", &a.q, USE_READ);
    call_use(&c, "k", &a.k, USE_READ);
    call_use(&c, "v", &a.v, USE_READ);
    call_use(&c, "out", &a.out, USE_WRITE);
    call_use(&c, "lse", &a.lse, USE_WRITE);
    TRY(call_begin(&c));
    return call_end(&c, inner_of(b)->ops->attention(inner_of(b), &a));
}

static enum status check_attention_gradient(struct backend *b, const struct attention *given,
                                            const struct attention_gradient *given_gradient) {
    struct attention a = *given;
    struct attention_gradient g = *given_gradient;
    struct call c = call_of(b, "attention_gradient");
    call_use(&c, "q", &a.q, USE_READ);
    call_use(&c, "k", &a.k, USE_READ);
    call_use(&c, "v", &a.v, USE_READ);
    call_use(&c, "out", &a.out, USE_READ);
    call_use(&c, "lse", &a.lse, USE_READ);
    call_use(&c, "dout", &g.dout, USE_READ);
    call_use(&c, "dq", &g.dq, USE_WRITE);
    call_use(&c, "dk", &g.dk, USE_WRITE);
    call_use(&c, "dv", &g.dv, USE_WRITE);
    TRY(call_begin(&c));
    return call_end(&c, inner_of(b)->ops->attention_gradient(inner_of(b), &a, &g));
}

static void use_head(struct call *c, struct head *h, enum use_kind statistics) {
    call_use(c, "hidden", &h->hidden, USE_READ);
    call_use(c, "weight", &h->weight, USE_READ);
    call_use(c, "bias", &h->bias, USE_READ);
    call_use(c, "targets", &h->targets, USE_READ);
    call_use(c, "statistics", &h->statistics, statistics);
}

static enum status check_head(struct backend *b, const struct head *given) {
    struct head h = *given;
    struct call c = call_of(b, "head");
    use_head(&c, &h, USE_WRITE);
    TRY(call_begin(&c));
    enum status st = call_indices(&c, "targets", h.targets, -1, h.weight.rows);
    return call_end(&c, st != OK ? st : inner_of(b)->ops->head(inner_of(b), &h));
}

static enum status check_head_gradient(struct backend *b, const struct head *given,
                                       const struct head_gradient *given_gradient) {
    struct head h = *given;
    struct head_gradient g = *given_gradient;
    struct call c = call_of(b, "head_gradient");
    use_head(&c, &h, USE_READ);
    call_use(&c, "row_weight", &g.row_weight, USE_READ);
    call_use(&c, "dhidden", &g.dhidden, USE_WRITE);
    call_use(&c, "dweight", &g.dweight, USE_UPDATE);
    call_use(&c, "dbias", &g.dbias, USE_UPDATE);
    TRY(call_begin(&c));
    enum status st = call_indices(&c, "targets", h.targets, -1, h.weight.rows);
    return call_end(&c, st != OK ? st : inner_of(b)->ops->head_gradient(inner_of(b), &h, &g));
}

static enum status check_gather(struct backend *b, struct tensor to, struct tensor from, struct tensor rows) {
    struct call c = call_of(b, "gather");
    call_use(&c, "to", &to, USE_WRITE);
    call_use(&c, "from", &from, USE_READ);
    call_use(&c, "rows", &rows, USE_READ);
    TRY(call_begin(&c));
    enum status st = call_indices(&c, "rows", rows, 0, from.rows);
    return call_end(&c, st != OK ? st : inner_of(b)->ops->gather(inner_of(b), to, from, rows));
}

static enum status check_scatter_add(struct backend *b, struct tensor to, struct tensor from,
                                     struct tensor rows) {
    struct call c = call_of(b, "scatter_add");
    call_use(&c, "to", &to, USE_SOME);
    call_use(&c, "from", &from, USE_READ);
    call_use(&c, "rows", &rows, USE_READ);
    TRY(call_begin(&c));
    enum status st = call_indices(&c, "rows", rows, 0, to.rows);
    if (st == OK) {
        st = inner_of(b)->ops->scatter_add(inner_of(b), to, from, rows);
    }
    return call_rows_end(&c, st, to, rows);
}

static enum status check_pool(struct backend *b, struct tensor to, struct tensor from, struct tensor spans) {
    struct call c = call_of(b, "pool");
    call_use(&c, "to", &to, USE_WRITE);
    call_use(&c, "from", &from, USE_READ);
    call_use(&c, "spans", &spans, USE_READ);
    TRY(call_begin(&c));
    enum status st = call_indices(&c, "spans", spans, 0, from.rows + 1);
    for (int64_t i = 0; i < spans.rows && st == OK; i++) {
        const int32_t *span = (const int32_t *)spans.data + i * spans.stride;
        if (span[1] > from.rows - span[0]) {
            st = fail(ERR_INTERNAL, "check: pool: span %lld reaches past the last row", (long long)i);
        }
    }
    return call_end(&c, st != OK ? st : inner_of(b)->ops->pool(inner_of(b), to, from, spans));
}

static enum status check_sum_squares(struct backend *b, struct tensor x, double *out) {
    struct call c = call_of(b, "sum_squares");
    call_use(&c, "x", &x, USE_READ);
    TRY(call_begin(&c));
    return call_end(&c, inner_of(b)->ops->sum_squares(inner_of(b), x, out));
}

static enum status check_optimizer(struct backend *b, const struct optimizer_step *given) {
    struct optimizer_step s = *given;
    struct call c = call_of(b, "optimizer");
    call_use(&c, "parameters", &s.parameters, USE_UPDATE);
    call_use(&c, "gradients", &s.gradients, USE_READ);
    call_use(&c, "first", &s.first, USE_UPDATE);
    call_use(&c, "second", &s.second, USE_UPDATE);
    call_use(&c, "copy", &s.copy, USE_WRITE);
    TRY(call_begin(&c));
    return call_end(&c, inner_of(b)->ops->optimizer(inner_of(b), &s));
}

static void check_destroy(struct backend *b) {
    struct backend *inner = inner_of(b);
    check_memory_close(memory_of(b));
    mem_free(b->context);
    backend_close(inner);
    mem_free(b);
}

/* No host_address: callers take the copying way, as they do with a device of its own memory. */
static const struct backend_ops operations = {
    .api_version = BACKEND_API_VERSION,
    .alloc = check_alloc,
    .free = check_free,
    .write = check_write,
    .read = check_read,
    .copy = check_copy,
    .zero = check_zero,
    .sync = check_sync,
    .convert = check_convert,
    .gemm = check_gemm,
    .add = check_add,
    .sum_rows = check_sum_rows,
    .embed = check_embed,
    .embed_gradient = check_embed_gradient,
    .norm = check_norm,
    .norm_gradient = check_norm_gradient,
    .rope = check_rope,
    .activate = check_activate,
    .activate_gradient = check_activate_gradient,
    .attention = check_attention,
    .attention_gradient = check_attention_gradient,
    .head = check_head,
    .head_gradient = check_head_gradient,
    .gather = check_gather,
    .scatter_add = check_scatter_add,
    .pool = check_pool,
    .sum_squares = check_sum_squares,
    .optimizer = check_optimizer,
    .destroy = check_destroy,
};

void check_poison(struct backend *b, void *data, int64_t bytes) {
    if (b && b->ops == &operations) {
        check_memory_poison(memory_of(b), data, bytes);
    }
}

enum status check_open(const struct backend_request *request, struct backend **out, char why[256]) {
    struct backend *inner = NULL;
    struct backend *b = NULL;
    struct check_memory *memory = NULL;
    enum status st = cpu_open(request, &inner, why);
    TRY_TO(failed, st);
    TRY_TO(failed, NEW_ARRAY(b, 1));
    TRY_TO(failed, NEW_ARRAY(memory, 1));
    TRY_TO(failed, check_memory_open(inner, memory));
    b->ops = &operations;
    b->caps = inner->caps;
    b->caps.name = "check:cpu";
    b->context = memory;
    snprintf(why, 256, "asked for: the CPU back end under suspicion, slow");
    *out = b;
    return OK;
failed:
    mem_free(memory);
    mem_free(b);
    backend_close(inner);
    return st;
}
