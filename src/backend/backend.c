/* The front door: every operation's arguments are checked here once for all back ends, which check nothing.
 *
 * A wrong argument is a bug of the caller, so it is ERR_INTERNAL, and the message names the operation, the
 * tensor and both shapes. Operations on nothing (no rows) return at once, so kernels see at least one row.
 */
#include "backend/backend.h"

#include "backend/backend_internal.h"
#include "backend/cpu/kept_weights.h"
#include "backend/operation_times.h"
#include "util/mem.h"

/* A wanted number of rows or columns that may be anything. */
enum { ANY = -1 };

static enum status broken(const char *operation, const char *name, const char *what) {
    return fail(ERR_INTERNAL, "backend_%s: %s: %s", operation, name, what);
}

/* t is rows x columns of this type (ANY: not checked), with memory behind it unless it is empty. */
static enum status check_tensor(const char *operation, const char *name, struct tensor t, int64_t rows,
                                int64_t columns, enum dtype type) {
    if ((rows != ANY && t.rows != rows) || (columns != ANY && t.columns != columns)) {
        return fail(ERR_INTERNAL, "backend_%s: %s is %lld x %lld and should be %lld x %lld", operation, name,
                    (long long)t.rows, (long long)t.columns, (long long)(rows == ANY ? t.rows : rows),
                    (long long)(columns == ANY ? t.columns : columns));
    }
    if (t.type != type) {
        return fail(ERR_INTERNAL, "backend_%s: %s is %s and should be %s", operation, name,
                    dtype_name(t.type), dtype_name(type));
    }
    if (t.rows < 0 || t.columns < 0 || (t.rows > 1 && t.stride < t.columns)) {
        return fail(ERR_INTERNAL, "backend_%s: %s has shape %lld x %lld and stride %lld", operation, name,
                    (long long)t.rows, (long long)t.columns, (long long)t.stride);
    }
    if (!t.data && t.rows > 0 && t.columns > 0) {
        return broken(operation, name, "no memory");
    }
    return OK;
}

static enum status check_optional(const char *operation, const char *name, struct tensor t, int64_t rows,
                                  int64_t columns, enum dtype type) {
    return t.data ? check_tensor(operation, name, t, rows, columns, type) : OK;
}

static enum status check_contiguous(const char *operation, const char *name, struct tensor t) {
    return tensor_is_contiguous(t) ? OK : broken(operation, name, "rows with gaps; it must be contiguous");
}

/* out shares no element with any of the n tensors in[]. */
static enum status check_apart(const char *operation, const char *name, struct tensor out, int n,
                               const struct tensor *in) {
    for (int i = 0; i < n; i++) {
        if (tensor_overlaps(out, in[i])) {
            return broken(operation, name, "overlaps another tensor of the operation");
        }
    }
    return OK;
}
#define APART(operation, name, out, ...)                                               \
    check_apart((operation), (name), (out),                                            \
                (int)(sizeof((struct tensor[]){__VA_ARGS__}) / sizeof(struct tensor)), \
                (const struct tensor[]){__VA_ARGS__})

static bool is_nothing(struct tensor t) {
    return t.rows == 0 || t.columns == 0;
}

static enum status check_floating(const char *operation, const char *name, struct tensor t) {
    return t.type == DTYPE_I32 ? broken(operation, name, "int32; it must be a floating type") : OK;
}

/* Every checked call goes through here, and is timed where somebody asked. */
#define RUN(name, type)                                                        \
    static enum status run_##name(struct backend *b, const type *call) {       \
        if (!b->times) {                                                       \
            return b->ops->name(b, call);                                      \
        }                                                                      \
        type copy = *call;                                                     \
        struct described d;                                                    \
        describe_##name(&copy, &d);                                            \
        TRY(operation_times_begin(b));                                         \
        enum status st = b->ops->name(b, call);                                \
        return operation_times_end(b, OPERATION_##name, d.flops, d.bytes, st); \
    }
OPERATIONS(RUN)
OPTIONAL_OPERATIONS(RUN)
CPU_OPERATIONS(RUN)

/* A copy or a fill; bytes > 0. from: NULL where nothing is read. */
static enum status run_move(struct backend *b, enum moved row, void *to, const void *from, int64_t bytes) {
    enum status st = OK;
    if (b->times) {
        TRY(operation_times_begin(b));
    }
    switch (row) {
    case MOVED_WRITE:
        st = b->ops->write(b, to, from, bytes);
        break;
    case MOVED_READ:
        st = b->ops->read(b, to, from, bytes);
        break;
    case MOVED_COPY:
        st = b->ops->copy(b, to, from, bytes);
        break;
    default:
        st = b->ops->zero(b, to, bytes);
    }
    double moved = (double)bytes * (row == MOVED_COPY ? 2 : 1);
    return b->times ? operation_times_end(b, (int)row, 0, moved, st) : st;
}

enum status backend_alloc(struct backend *b, int64_t bytes, void **out) {
    if (bytes < 0) {
        return broken("alloc", "bytes", "negative");
    }
    return b->ops->alloc(b, bytes, out);
}

void backend_free(struct backend *b, void *data) {
    if (data) {
        b->ops->free(b, data);
    }
}

static enum status check_bytes(const char *operation, const void *a, const void *b, int64_t bytes) {
    if (bytes < 0) {
        return broken(operation, "bytes", "negative");
    }
    return bytes > 0 && (!a || !b) ? broken(operation, "address", "no memory") : OK;
}

enum status backend_write(struct backend *b, void *to, const void *host, int64_t bytes) {
    TRY(check_bytes("write", to, host, bytes));
    return bytes == 0 ? OK : run_move(b, MOVED_WRITE, to, host, bytes);
}

enum status backend_read(struct backend *b, void *host, const void *from, int64_t bytes) {
    TRY(check_bytes("read", host, from, bytes));
    return bytes == 0 ? OK : run_move(b, MOVED_READ, host, from, bytes);
}

enum status backend_copy(struct backend *b, void *to, const void *from, int64_t bytes) {
    TRY(check_bytes("copy", to, from, bytes));
    if (bytes > 0 && tensor_overlaps(tensor_at(to, 1, (bytes + 3) / 4, DTYPE_I32),
                                     tensor_at((void *)(uintptr_t)from, 1, (bytes + 3) / 4, DTYPE_I32))) {
        return broken("copy", "to", "overlaps from");
    }
    return bytes == 0 ? OK : run_move(b, MOVED_COPY, to, from, bytes);
}

enum status backend_zero(struct backend *b, void *to, int64_t bytes) {
    TRY(check_bytes("zero", to, to, bytes));
    return bytes == 0 ? OK : run_move(b, MOVED_ZERO, to, NULL, bytes);
}

enum status backend_zero_tensor(struct backend *b, struct tensor t) {
    TRY(check_tensor("zero_tensor", "t", t, ANY, ANY, t.type));
    TRY(check_contiguous("zero_tensor", "t", t));
    return backend_zero(b, t.data, t.rows * t.columns * dtype_size(t.type));
}

enum status backend_sync(struct backend *b) {
    return b->ops->sync(b);
}

int64_t backend_memory_taken(struct backend *b) {
    return b->ops->memory_taken ? b->ops->memory_taken(b) : 0;
}

int64_t backend_scratch_bytes(const struct backend *b, int64_t width, int64_t vocabulary, int head_dim) {
    return b->ops->scratch_bytes ? b->ops->scratch_bytes(b, width, vocabulary, head_dim) : 0;
}

int64_t backend_kept_bytes(const struct backend *b, int64_t rows, int64_t columns) {
    return b->caps.keeps_weights ? kept_elements(rows, columns) * dtype_size(b->caps.compute) : 0;
}

enum status backend_keep_weights(struct backend *b, struct tensor weights) {
    if (!b->ops->keep_weights) {
        return OK;
    }
    TRY(check_tensor("keep_weights", "weights", weights, ANY, ANY, b->caps.compute));
    TRY(check_contiguous("keep_weights", "weights", weights));
    return b->ops->keep_weights(b, weights);
}

void backend_weights_changed(struct backend *b, struct tensor where) {
    if (b->ops->weights_changed && where.data) {
        b->ops->weights_changed(b, where.data, where.rows * where.stride * dtype_size(where.type));
    }
}

void backend_drop_weights(struct backend *b, struct tensor where) {
    if (b->ops->drop_weights && where.data) {
        b->ops->drop_weights(b, where.data, where.rows * where.stride * dtype_size(where.type));
    }
}

void *backend_host_address(struct backend *b, void *data) {
    return b->ops->host_address && data ? b->ops->host_address(b, data) : NULL;
}

enum status backend_convert(struct backend *b, struct tensor to, struct tensor from) {
    TRY(check_tensor("convert", "from", from, ANY, ANY, from.type));
    TRY(check_tensor("convert", "to", to, from.rows, from.columns, to.type));
    if ((to.type == DTYPE_I32) != (from.type == DTYPE_I32)) {
        return broken("convert", "to", "int32 converts only to int32");
    }
    TRY(APART("convert", "to", to, from));
    return is_nothing(from) ? OK : run_convert(b, &(struct convert){.to = to, .from = from});
}

static enum status check_gemm(const struct backend *b, const struct gemm *g) {
    enum dtype type = b->caps.compute;
    int64_t k = g->transpose_a ? g->a.rows : g->a.columns;
    int64_t m = g->transpose_a ? g->a.columns : g->a.rows;
    int64_t n = g->transpose_b ? g->b.rows : g->b.columns;
    TRY(check_tensor("gemm", "a", g->a, ANY, ANY, type));
    TRY(check_tensor("gemm", "b", g->b, g->transpose_b ? n : k, g->transpose_b ? k : n, type));
    TRY(check_tensor("gemm", "c", g->c, m, n, g->c.type == type ? type : b->caps.master));
    TRY(check_optional("gemm", "bias", g->bias, 1, n, type));
    if (g->beta != 0.0 && g->beta != 1.0) {
        return broken("gemm", "beta", "neither 0 nor 1");
    }
    return APART("gemm", "c", g->c, g->a, g->b, g->bias);
}

enum status backend_gemm(struct backend *b, const struct gemm *g) {
    TRY(check_gemm(b, g));
    return is_nothing(g->c) ? OK : run_gemm(b, g);
}

enum status backend_add(struct backend *b, struct tensor to, double alpha, struct tensor from) {
    TRY(check_tensor("add", "from", from, ANY, ANY, from.type));
    TRY(check_tensor("add", "to", to, from.rows, from.columns, to.type));
    TRY(check_floating("add", "from", from));
    TRY(check_floating("add", "to", to));
    TRY(APART("add", "to", to, from));
    return is_nothing(to) ? OK : run_add(b, &(struct add){.to = to, .from = from, .alpha = alpha});
}

enum status backend_sum_rows(struct backend *b, struct tensor to, struct tensor from) {
    TRY(check_tensor("sum_rows", "from", from, ANY, ANY, b->caps.compute));
    TRY(check_tensor("sum_rows", "to", to, 1, from.columns, b->caps.master));
    TRY(APART("sum_rows", "to", to, from));
    return is_nothing(from) ? OK : run_sum_rows(b, &(struct sum_rows){.to = to, .from = from});
}

/* ids: 1 x rows or rows x 1, I32, without gaps. */
static enum status check_ids(const char *operation, const char *name, struct tensor ids, int64_t rows) {
    TRY(check_tensor(operation, name, ids, ANY, ANY, DTYPE_I32));
    if (ids.rows * ids.columns != rows || (ids.rows != 1 && ids.columns != 1)) {
        return fail(ERR_INTERNAL, "backend_%s: %s is %lld x %lld and should hold %lld numbers", operation,
                    name, (long long)ids.rows, (long long)ids.columns, (long long)rows);
    }
    return check_contiguous(operation, name, ids);
}

enum status backend_embed(struct backend *b, struct tensor out, struct tensor table, struct tensor ids,
                          double scale, bool accumulate) {
    TRY(check_tensor("embed", "table", table, ANY, ANY, b->caps.compute));
    TRY(check_tensor("embed", "out", out, ANY, table.columns, b->caps.compute));
    TRY(check_ids("embed", "ids", ids, out.rows));
    TRY(APART("embed", "out", out, table, ids));
    const struct embed call = {
        .out = out, .table = table, .ids = ids, .scale = scale, .accumulate = accumulate};
    return is_nothing(out) ? OK : run_embed(b, &call);
}

enum status backend_embed_gradient(struct backend *b, struct tensor dtable, struct tensor dout,
                                   struct tensor ids, double scale) {
    TRY(check_tensor("embed_gradient", "dtable", dtable, ANY, ANY, b->caps.master));
    TRY(check_tensor("embed_gradient", "dout", dout, ANY, dtable.columns, b->caps.compute));
    TRY(check_ids("embed_gradient", "ids", ids, dout.rows));
    TRY(APART("embed_gradient", "dtable", dtable, dout, ids));
    const struct embed_gradient call = {.dtable = dtable, .dout = dout, .ids = ids, .scale = scale};
    return is_nothing(dout) ? OK : run_embed_gradient(b, &call);
}

static enum status check_norm(const struct backend *b, const char *operation, const struct norm *n) {
    enum dtype type = b->caps.compute;
    TRY(check_tensor(operation, "x", n->x, ANY, ANY, type));
    TRY(check_optional(operation, "weight", n->weight, 1, n->x.columns, type));
    TRY(check_optional(operation, "bias", n->bias, 1, n->x.columns, type));
    return check_tensor(operation, "statistics", n->statistics, n->x.rows, 2, b->caps.readout);
}

enum status backend_norm(struct backend *b, const struct norm *n) {
    TRY(check_norm(b, "norm", n));
    TRY(check_tensor("norm", "y", n->y, n->x.rows, n->x.columns, b->caps.compute));
    TRY(APART("norm", "y", n->y, n->x, n->weight, n->bias, n->statistics));
    TRY(APART("norm", "statistics", n->statistics, n->x, n->weight, n->bias));
    return is_nothing(n->x) ? OK : run_norm(b, n);
}

enum status backend_norm_gradient(struct backend *b, const struct norm *n, const struct norm_gradient *g) {
    static const char OPERATION[] = "norm_gradient";
    TRY(check_norm(b, OPERATION, n));
    TRY(check_tensor(OPERATION, "dy", g->dy, n->x.rows, n->x.columns, b->caps.compute));
    TRY(check_tensor(OPERATION, "dx", g->dx, n->x.rows, n->x.columns, b->caps.compute));
    TRY(check_optional(OPERATION, "dweight", g->dweight, 1, n->x.columns, b->caps.master));
    TRY(check_optional(OPERATION, "dbias", g->dbias, 1, n->x.columns, b->caps.master));
    TRY(APART(OPERATION, "dx", g->dx, n->x, n->weight, n->statistics, g->dy, g->dweight, g->dbias));
    TRY(APART(OPERATION, "dweight", g->dweight, n->x, n->weight, n->statistics, g->dy, g->dbias));
    TRY(APART(OPERATION, "dbias", g->dbias, n->x, n->weight, n->statistics, g->dy));
    const struct norm_backward call = {.norm = *n, .gradient = *g};
    return is_nothing(n->x) ? OK : run_norm_gradient(b, &call);
}

enum status backend_rope(struct backend *b, const struct rope *r) {
    if (r->heads < 1 || r->head_dim < 1 || r->rotary_dim < 0 || r->rotary_dim > r->head_dim ||
        r->rotary_dim % 2 != 0) {
        return fail(ERR_INTERNAL, "backend_rope: %d of %d values in %d heads cannot turn", r->rotary_dim,
                    r->head_dim, r->heads);
    }
    TRY(check_tensor("rope", "x", r->x, ANY, (int64_t)r->heads * r->head_dim, b->caps.compute));
    TRY(check_tensor("rope", "table", r->table, r->x.rows, r->rotary_dim, b->caps.readout));
    TRY(APART("rope", "x", r->x, r->table));
    return r->x.rows == 0 || r->rotary_dim == 0 ? OK : run_rope(b, r);
}

static enum status check_activate(const struct backend *b, const char *operation, const struct activate *a) {
    enum dtype type = b->caps.compute;
    TRY(check_tensor(operation, "gate", a->gate, ANY, ANY, type));
    return check_optional(operation, "up", a->up, a->gate.rows, a->gate.columns, type);
}

enum status backend_activate(struct backend *b, const struct activate *a) {
    TRY(check_activate(b, "activate", a));
    TRY(check_tensor("activate", "y", a->y, a->gate.rows, a->gate.columns, b->caps.compute));
    TRY(APART("activate", "y", a->y, a->gate, a->up));
    return is_nothing(a->gate) ? OK : run_activate(b, a);
}

static bool same_tensor(struct tensor a, struct tensor b) {
    return a.data == b.data && a.stride == b.stride;
}

enum status backend_gemm_activate(struct backend *b, const struct gemm *g, const struct activate *a) {
    bool is_one = !a->up.data && same_tensor(a->gate, g->c) && g->c.type == b->caps.compute;
    if (!b->ops->gemm_activate || !is_one) {
        TRY(backend_gemm(b, g));
        return backend_activate(b, a);
    }
    TRY(check_gemm(b, g));
    TRY(check_activate(b, "gemm_activate", a));
    TRY(check_tensor("gemm_activate", "y", a->y, g->c.rows, g->c.columns, b->caps.compute));
    TRY(APART("gemm_activate", "y", a->y, g->c, g->a, g->b, g->bias));
    const struct gemm_activate call = {.gemm = *g, .activate = *a};
    return is_nothing(g->c) ? OK : run_gemm_activate(b, &call);
}

enum status backend_activate_gradient(struct backend *b, const struct activate *a,
                                      const struct activate_gradient *g) {
    static const char OPERATION[] = "activate_gradient";
    int64_t rows = a->gate.rows;
    int64_t columns = a->gate.columns;
    struct tensor none = {0};
    TRY(check_activate(b, OPERATION, a));
    TRY(check_tensor(OPERATION, "dy", g->dy, rows, columns, b->caps.compute));
    TRY(check_tensor(OPERATION, "dgate", g->dgate, rows, columns, b->caps.compute));
    if (a->up.data || g->dup.data) {
        TRY(check_tensor(OPERATION, "dup", g->dup, rows, a->up.data ? columns : 0, b->caps.compute));
    }
    TRY(APART(OPERATION, "dgate", g->dgate, g->dy, a->up, g->dup,
              same_tensor(g->dgate, a->gate) ? none : a->gate));
    TRY(APART(OPERATION, "dup", g->dup, g->dy, a->gate, same_tensor(g->dup, a->up) ? none : a->up));
    const struct activate_backward call = {.activate = *a, .gradient = *g};
    return rows == 0 || columns == 0 ? OK : run_activate_gradient(b, &call);
}

/* One span's place and ranges; end is where the previous span ended. */
static enum status check_span(const char *operation, const struct attention_map *map, int32_t s, int32_t end,
                              int64_t keys) {
    const struct query_span *span = &map->spans[s];
    if (span->first != end || span->count < 0 || span->range_first < 0 || span->range_count < 1 ||
        span->range_count > map->range_count - span->range_first) {
        return fail(ERR_INTERNAL, "backend_%s: span %d (rows %d + %d, ranges %d + %d) does not follow row %d",
                    operation, s, span->first, span->count, span->range_first, span->range_count, end);
    }
    for (int32_t i = 0; i < span->range_count; i++) {
        const struct key_range *range = &map->ranges[span->range_first + i];
        bool is_last = i == span->range_count - 1;
        if (range->first < 0 || range->count < 0 || range->count > keys - range->first ||
            (range->causal && (!is_last || range->count < span->count))) {
            return fail(ERR_INTERNAL, "backend_%s: range %d (keys %d + %d%s) of span %d is out of place",
                        operation, i, range->first, range->count, range->causal ? ", causal" : "", s);
        }
    }
    return OK;
}

static enum status check_attention(const struct backend *b, const char *operation,
                                   const struct attention *a) {
    enum dtype type = b->caps.compute;
    if (a->heads < 1 || a->kv_heads < 1 || a->heads % a->kv_heads != 0 || a->head_dim < 1 || a->window < 0) {
        return fail(ERR_INTERNAL, "backend_%s: %d heads over %d key heads of %d, window %d", operation,
                    a->heads, a->kv_heads, a->head_dim, a->window);
    }
    int64_t width = (int64_t)a->heads * a->head_dim;
    int64_t kv_width = (int64_t)a->kv_heads * a->head_dim;
    TRY(check_tensor(operation, "q", a->q, ANY, width, type));
    TRY(check_tensor(operation, "k", a->k, ANY, kv_width, type));
    TRY(check_tensor(operation, "v", a->v, a->k.rows, kv_width, type));
    TRY(check_tensor(operation, "out", a->out, a->q.rows, width, type));
    TRY(check_optional(operation, "lse", a->lse, a->q.rows, a->heads, b->caps.readout));
    if (!a->map || (a->map->span_count > 0 && (!a->map->spans || !a->map->ranges))) {
        return broken(operation, "map", "missing");
    }
    int64_t end = 0;
    for (int32_t s = 0; s < a->map->span_count; s++) {
        TRY(check_span(operation, a->map, s, (int32_t)end, a->k.rows));
        end += a->map->spans[s].count;
    }
    return end == a->q.rows ? OK : broken(operation, "map", "spans do not cover the query rows");
}

enum status backend_attention(struct backend *b, const struct attention *a) {
    TRY(check_attention(b, "attention", a));
    TRY(APART("attention", "out", a->out, a->q, a->k, a->v, a->lse));
    TRY(APART("attention", "lse", a->lse, a->q, a->k, a->v));
    return a->q.rows == 0 ? OK : run_attention(b, a);
}

enum status backend_attention_gradient(struct backend *b, const struct attention *a,
                                       const struct attention_gradient *g) {
    static const char OPERATION[] = "attention_gradient";
    enum dtype type = b->caps.compute;
    TRY(check_attention(b, OPERATION, a));
    TRY(check_tensor(OPERATION, "lse", a->lse, a->q.rows, a->heads, b->caps.readout));
    TRY(check_tensor(OPERATION, "dout", g->dout, a->q.rows, a->q.columns, type));
    TRY(check_tensor(OPERATION, "dq", g->dq, a->q.rows, a->q.columns, type));
    TRY(check_tensor(OPERATION, "dk", g->dk, a->k.rows, a->k.columns, type));
    TRY(check_tensor(OPERATION, "dv", g->dv, a->k.rows, a->k.columns, type));
    TRY(APART(OPERATION, "dq", g->dq, a->q, a->k, a->v, a->out, a->lse, g->dout, g->dk, g->dv));
    TRY(APART(OPERATION, "dk", g->dk, a->q, a->k, a->v, a->out, a->lse, g->dout, g->dv));
    TRY(APART(OPERATION, "dv", g->dv, a->q, a->k, a->v, a->out, a->lse, g->dout));
    const struct attention_backward call = {.attention = *a, .gradient = *g};
    return a->q.rows == 0 && a->k.rows == 0 ? OK : run_attention_gradient(b, &call);
}

static enum status check_head(const struct backend *b, const char *operation, const struct head *h) {
    enum dtype type = b->caps.compute;
    TRY(check_tensor(operation, "hidden", h->hidden, ANY, ANY, type));
    TRY(check_tensor(operation, "weight", h->weight, ANY, h->hidden.columns, type));
    TRY(check_optional(operation, "bias", h->bias, 1, h->weight.rows, type));
    TRY(check_ids(operation, "targets", h->targets, h->hidden.rows));
    TRY(check_tensor(operation, "statistics", h->statistics, h->hidden.rows, HEAD_STATISTICS,
                     b->caps.readout));
    if (h->weight.rows < 1 || h->hidden.columns < 1) {
        return broken(operation, "weight", "empty");
    }
    return OK;
}

enum status backend_head(struct backend *b, const struct head *h) {
    TRY(check_head(b, "head", h));
    TRY(APART("head", "statistics", h->statistics, h->hidden, h->weight, h->bias, h->targets));
    return h->hidden.rows == 0 ? OK : run_head(b, h);
}

bool backend_reads_logits(const struct backend *b) {
    return b->ops->read_logits != NULL;
}

enum status backend_read_logits(struct backend *b, const struct read_logits *call) {
    static const char OPERATION[] = "read_logits";
    if (!backend_reads_logits(b)) {
        return broken(OPERATION, "logits", "not on this back end");
    }
    TRY(check_tensor(OPERATION, "logits", call->logits, ANY, ANY, b->caps.readout));
    TRY(check_ids(OPERATION, "targets", call->targets, call->logits.rows));
    TRY(check_tensor(OPERATION, "statistics", call->statistics, call->logits.rows, HEAD_STATISTICS,
                     b->caps.readout));
    TRY(APART(OPERATION, "statistics", call->statistics, call->logits, call->targets));
    return is_nothing(call->logits) ? OK : run_read_logits(b, call);
}

enum status backend_head_gradient(struct backend *b, const struct head *h, const struct head_gradient *g) {
    static const char OPERATION[] = "head_gradient";
    TRY(check_head(b, OPERATION, h));
    TRY(check_tensor(OPERATION, "row_weight", g->row_weight, ANY, ANY, b->caps.readout));
    if (g->row_weight.rows * g->row_weight.columns != h->hidden.rows) {
        return broken(OPERATION, "row_weight", "not one number per row of hidden");
    }
    TRY(check_contiguous(OPERATION, "row_weight", g->row_weight));
    TRY(check_tensor(OPERATION, "dhidden", g->dhidden, h->hidden.rows, h->hidden.columns, b->caps.compute));
    TRY(check_optional(OPERATION, "dweight", g->dweight, h->weight.rows, h->weight.columns, b->caps.master));
    TRY(check_optional(OPERATION, "dbias", g->dbias, 1, h->weight.rows, b->caps.master));
    TRY(APART(OPERATION, "dhidden", g->dhidden, h->hidden, h->weight, h->bias, h->targets, h->statistics,
              g->row_weight, g->dweight, g->dbias));
    TRY(APART(OPERATION, "dweight", g->dweight, h->hidden, h->weight, h->bias, h->targets, h->statistics,
              g->row_weight, g->dbias));
    TRY(APART(OPERATION, "dbias", g->dbias, h->hidden, h->weight, h->bias, h->targets, h->statistics,
              g->row_weight));
    const struct head_backward call = {.head = *h, .gradient = *g};
    return h->hidden.rows == 0 ? OK : run_head_gradient(b, &call);
}

enum status backend_gather(struct backend *b, struct tensor to, struct tensor from, struct tensor rows) {
    TRY(check_tensor("gather", "from", from, ANY, ANY, b->caps.compute));
    TRY(check_tensor("gather", "to", to, ANY, from.columns, b->caps.compute));
    TRY(check_ids("gather", "rows", rows, to.rows));
    TRY(APART("gather", "to", to, from, rows));
    return is_nothing(to) ? OK : run_gather(b, &(struct gather){.to = to, .from = from, .rows = rows});
}

enum status backend_scatter_add(struct backend *b, struct tensor to, struct tensor from, struct tensor rows) {
    TRY(check_tensor("scatter_add", "from", from, ANY, ANY, b->caps.compute));
    TRY(check_tensor("scatter_add", "to", to, ANY, from.columns, b->caps.compute));
    TRY(check_ids("scatter_add", "rows", rows, from.rows));
    TRY(APART("scatter_add", "to", to, from, rows));
    const struct scatter_add call = {.to = to, .from = from, .rows = rows};
    return is_nothing(from) ? OK : run_scatter_add(b, &call);
}

enum status backend_pool(struct backend *b, struct tensor to, struct tensor from, struct tensor spans) {
    TRY(check_tensor("pool", "from", from, ANY, ANY, b->caps.compute));
    TRY(check_tensor("pool", "to", to, ANY, from.columns, b->caps.readout));
    TRY(check_tensor("pool", "spans", spans, to.rows, 2, DTYPE_I32));
    TRY(check_contiguous("pool", "spans", spans));
    TRY(APART("pool", "to", to, from, spans));
    return is_nothing(to) ? OK : run_pool(b, &(struct pool){.to = to, .from = from, .spans = spans});
}

static enum status check_film(const struct backend *b, const char *operation, const struct film *f) {
    enum dtype type = b->caps.compute;
    TRY(check_tensor(operation, "x", f->x, ANY, ANY, type));
    TRY(check_tensor(operation, "scale", f->scale, ANY, f->x.columns, type));
    TRY(check_tensor(operation, "shift", f->shift, f->scale.rows, f->x.columns, type));
    return check_ids(operation, "conditions", f->conditions, f->x.rows);
}

enum status backend_film(struct backend *b, const struct film *f) {
    TRY(check_film(b, "film", f));
    TRY(check_tensor("film", "y", f->y, f->x.rows, f->x.columns, b->caps.compute));
    TRY(APART("film", "y", f->y, f->x, f->scale, f->shift, f->conditions));
    return is_nothing(f->x) ? OK : run_film(b, f);
}

enum status backend_film_gradient(struct backend *b, const struct film *f, const struct film_gradient *g) {
    static const char OPERATION[] = "film_gradient";
    TRY(check_film(b, OPERATION, f));
    TRY(check_tensor(OPERATION, "d", g->d, f->x.rows, f->x.columns, b->caps.compute));
    TRY(check_tensor(OPERATION, "dscale", g->dscale, f->scale.rows, f->x.columns, b->caps.compute));
    TRY(check_tensor(OPERATION, "dshift", g->dshift, f->scale.rows, f->x.columns, b->caps.compute));
    TRY(APART(OPERATION, "d", g->d, f->x, f->scale, f->shift, f->conditions, g->dscale, g->dshift));
    TRY(APART(OPERATION, "dscale", g->dscale, f->x, f->scale, f->shift, f->conditions, g->dshift));
    TRY(APART(OPERATION, "dshift", g->dshift, f->x, f->scale, f->shift, f->conditions));
    const struct film_backward call = {.film = *f, .gradient = *g};
    return is_nothing(g->dscale) ? OK : run_film_gradient(b, &call);
}

enum status backend_sum_squares(struct backend *b, struct tensor x, double *out) {
    TRY(check_tensor("sum_squares", "x", x, ANY, ANY, x.type));
    TRY(check_floating("sum_squares", "x", x));
    TRY(check_contiguous("sum_squares", "x", x));
    *out = 0.0;
    return is_nothing(x) ? OK : run_sum_squares(b, &(struct sum_squares){.x = x, .out = out});
}

enum status backend_optimizer(struct backend *b, const struct optimizer_step *s) {
    enum dtype type = b->caps.master;
    int64_t n = s->parameters.columns;
    bool is_adam = s->kind == OPTIMIZER_ADAM || s->kind == OPTIMIZER_ADAMW;
    TRY(check_tensor("optimizer", "parameters", s->parameters, 1, ANY, type));
    TRY(check_tensor("optimizer", "gradients", s->gradients, 1, n, type));
    TRY(check_optional("optimizer", "first", s->first, 1, n, type));
    TRY(check_optional("optimizer", "second", s->second, 1, n, type));
    TRY(check_optional("optimizer", "copy", s->copy, 1, n, b->caps.compute));
    if ((is_adam || s->momentum != 0.0) && !s->first.data && n > 0) {
        return broken("optimizer", "first", "missing: Adam's mean or the momentum lives there");
    }
    if (s->kind != OPTIMIZER_SGD && !s->second.data && n > 0) {
        return broken("optimizer", "second", "missing: the mean of squares lives there");
    }
    TRY(APART("optimizer", "parameters", s->parameters, s->gradients, s->first, s->second, s->copy));
    TRY(APART("optimizer", "first", s->first, s->gradients, s->second, s->copy));
    TRY(APART("optimizer", "second", s->second, s->gradients, s->copy));
    return n == 0 ? OK : run_optimizer(b, s);
}
