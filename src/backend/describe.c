/* What each operation's call touches and computes: one function a row of operations.h. */
#include "backend/operations.h"

static struct described_tensor *put(struct described *d, const char *name, struct tensor *t,
                                    enum use_kind use) {
    d->tensors[d->n] = (struct described_tensor){.name = name, .tensor = t, .use = use};
    return &d->tensors[d->n++];
}

/* count rows of a tensor that are read or written; read and written rows count twice. */
static double bytes_of(const struct tensor *t, int64_t count, enum use_kind use) {
    double once = t->data ? (double)count * (double)t->columns * (double)dtype_size(t->type) : 0;
    return use == USE_UPDATE || use == USE_SOME ? 2 * once : once;
}

/* The whole tensor. */
static void use(struct described *d, const char *name, struct tensor *t, enum use_kind kind) {
    put(d, name, t, kind);
    d->bytes += bytes_of(t, t->rows, kind);
}

/* As many rows of it as others name. */
static void use_rows(struct described *d, const char *name, struct tensor *t, enum use_kind kind,
                     int64_t count) {
    put(d, name, t, kind);
    d->bytes += bytes_of(t, count, kind);
}

/* Numbers in [low, high). */
static void use_index(struct described *d, const char *name, struct tensor *t, enum index_kind index,
                      int64_t low, int64_t high) {
    struct described_tensor *put_there = put(d, name, t, USE_READ);
    put_there->index = index;
    put_there->low = low;
    put_there->high = high;
    d->bytes += bytes_of(t, t->rows, USE_READ);
}

static void begin(struct described *d) {
    d->n = 0;
    d->flops = d->bytes = 0;
}

void describe_convert(struct convert *call, struct described *out) {
    begin(out);
    use(out, "to", &call->to, USE_WRITE);
    use(out, "from", &call->from, USE_READ);
}

static void use_gemm(struct gemm *g, struct described *out) {
    int64_t inner = g->transpose_a ? g->a.rows : g->a.columns;
    use(out, "a", &g->a, USE_READ);
    use(out, "b", &g->b, USE_READ);
    use(out, "bias", &g->bias, USE_READ);
    use(out, "c", &g->c, g->beta != 0 ? USE_UPDATE : USE_WRITE);
    out->flops += 2 * (double)g->c.rows * (double)g->c.columns * (double)inner;
}

void describe_gemm(struct gemm *call, struct described *out) {
    begin(out);
    use_gemm(call, out);
}

void describe_gemm_activate(struct gemm_activate *call, struct described *out) {
    begin(out);
    use_gemm(&call->gemm, out);
    use(out, "y", &call->activate.y, USE_WRITE);
}

void describe_add(struct add *call, struct described *out) {
    begin(out);
    use(out, "to", &call->to, USE_UPDATE);
    use(out, "from", &call->from, USE_READ);
}

void describe_sum_rows(struct sum_rows *call, struct described *out) {
    begin(out);
    use(out, "to", &call->to, USE_UPDATE);
    use(out, "from", &call->from, USE_READ);
}

void describe_sum_squares(struct sum_squares *call, struct described *out) {
    begin(out);
    use(out, "x", &call->x, USE_READ);
}

void describe_embed(struct embed *call, struct described *out) {
    begin(out);
    use(out, "out", &call->out, call->accumulate ? USE_UPDATE : USE_WRITE);
    use_rows(out, "table", &call->table, USE_READ, call->out.rows);
    use_index(out, "ids", &call->ids, INDEX_ROWS, 0, call->table.rows);
}

void describe_embed_gradient(struct embed_gradient *call, struct described *out) {
    begin(out);
    use_rows(out, "dtable", &call->dtable, USE_SOME, call->dout.rows);
    use(out, "dout", &call->dout, USE_READ);
    use_index(out, "ids", &call->ids, INDEX_ROWS, 0, call->dtable.rows);
}

void describe_gather(struct gather *call, struct described *out) {
    begin(out);
    use(out, "to", &call->to, USE_WRITE);
    use_rows(out, "from", &call->from, USE_READ, call->to.rows);
    use_index(out, "rows", &call->rows, INDEX_ROWS, 0, call->from.rows);
}

void describe_scatter_add(struct scatter_add *call, struct described *out) {
    begin(out);
    use_rows(out, "to", &call->to, USE_SOME, call->from.rows);
    use(out, "from", &call->from, USE_READ);
    use_index(out, "rows", &call->rows, INDEX_ROWS, 0, call->to.rows);
}

/* The lengths of the spans are on the device: from is counted whole. */
void describe_pool(struct pool *call, struct described *out) {
    begin(out);
    use(out, "to", &call->to, USE_WRITE);
    use(out, "from", &call->from, USE_READ);
    use_index(out, "spans", &call->spans, INDEX_SPANS, 0, call->from.rows + 1);
}

static void use_film(struct film *f, struct described *out) {
    use(out, "x", &f->x, USE_READ);
    use(out, "scale", &f->scale, USE_READ);
    use_index(out, "conditions", &f->conditions, INDEX_ROWS, -1, f->scale.rows);
}

void describe_film(struct film *call, struct described *out) {
    begin(out);
    use_film(call, out);
    use(out, "shift", &call->shift, USE_READ);
    use(out, "y", &call->y, USE_WRITE);
}

void describe_film_gradient(struct film_backward *call, struct described *out) {
    begin(out);
    use_film(&call->film, out);
    use(out, "d", &call->gradient.d, USE_UPDATE);
    use(out, "dscale", &call->gradient.dscale, USE_WRITE);
    use(out, "dshift", &call->gradient.dshift, USE_WRITE);
}

static void use_norm(struct norm *n, struct described *out) {
    use(out, "x", &n->x, USE_READ);
    use(out, "weight", &n->weight, USE_READ);
    use(out, "bias", &n->bias, USE_READ);
}

void describe_norm(struct norm *call, struct described *out) {
    begin(out);
    use_norm(call, out);
    use(out, "y", &call->y, USE_WRITE);
    use(out, "statistics", &call->statistics, USE_WRITE);
}

/* Without y, which may be gone by now. */
void describe_norm_gradient(struct norm_backward *call, struct described *out) {
    struct norm_gradient *g = &call->gradient;
    begin(out);
    use_norm(&call->norm, out);
    use(out, "statistics", &call->norm.statistics, USE_READ);
    use(out, "dy", &g->dy, USE_READ);
    use(out, "dx", &g->dx, USE_UPDATE);
    use(out, "dweight", &g->dweight, USE_UPDATE);
    use(out, "dbias", &g->dbias, USE_UPDATE);
}

void describe_rope(struct rope *call, struct described *out) {
    begin(out);
    use(out, "x", &call->x, USE_UPDATE);
    use(out, "table", &call->table, USE_READ);
}

void describe_activate(struct activate *call, struct described *out) {
    begin(out);
    use(out, "gate", &call->gate, USE_READ);
    use(out, "up", &call->up, USE_READ);
    use(out, "y", &call->y, USE_WRITE);
}

/* Without y, which may be gone by now. */
void describe_activate_gradient(struct activate_backward *call, struct described *out) {
    begin(out);
    use(out, "gate", &call->activate.gate, USE_READ);
    use(out, "up", &call->activate.up, USE_READ);
    use(out, "dy", &call->gradient.dy, USE_READ);
    use(out, "dgate", &call->gradient.dgate, USE_WRITE);
    use(out, "dup", &call->gradient.dup, USE_WRITE);
}

/* Keys that the queries of a span see: of a causal range, its last, one more with every query; at most the
 * window. */
static double span_pairs(const struct attention_map *map, const struct query_span *span, int window) {
    int64_t whole = 0, first_causal = 0, step = 0;
    for (int32_t i = 0; i < span->range_count; i++) {
        const struct key_range *range = &map->ranges[span->range_first + i];
        if (range->causal) {
            first_causal = (int64_t)range->count - span->count + 1;
            step = 1;
        } else {
            whole += range->count;
        }
    }
    double pairs = 0;
    for (int64_t i = 0; i < span->count; i++) {
        int64_t seen = whole + first_causal + step * i;
        pairs += (double)(window > 0 && seen > window ? window : seen);
    }
    return pairs;
}

/* Multiplications and additions of `products` matrix products over all pairs of a query and a key it sees. */
static double attention_flops(const struct attention *a, int products) {
    double pairs = 0;
    for (int32_t s = 0; s < a->map->span_count; s++) {
        pairs += span_pairs(a->map, &a->map->spans[s], a->window);
    }
    return 2.0 * products * pairs * a->heads * a->head_dim;
}

static void use_attention(struct attention *a, struct described *out) {
    use(out, "q", &a->q, USE_READ);
    use(out, "k", &a->k, USE_READ);
    use(out, "v", &a->v, USE_READ);
}

/* Scores, and their sums of values. */
void describe_attention(struct attention *call, struct described *out) {
    begin(out);
    use_attention(call, out);
    use(out, "out", &call->out, USE_WRITE);
    use(out, "lse", &call->lse, USE_WRITE);
    out->flops = attention_flops(call, 2);
}

/* Scores once more, their gradients, dq, dk and dv. */
void describe_attention_gradient(struct attention_backward *call, struct described *out) {
    begin(out);
    use_attention(&call->attention, out);
    use(out, "out", &call->attention.out, USE_READ);
    use(out, "lse", &call->attention.lse, USE_READ);
    use(out, "dout", &call->gradient.dout, USE_READ);
    use(out, "dq", &call->gradient.dq, USE_WRITE);
    use(out, "dk", &call->gradient.dk, USE_WRITE);
    use(out, "dv", &call->gradient.dv, USE_WRITE);
    out->flops = attention_flops(&call->attention, 5);
}

static void use_head(struct head *h, enum use_kind statistics, struct described *out) {
    use(out, "hidden", &h->hidden, USE_READ);
    use(out, "weight", &h->weight, USE_READ);
    use(out, "bias", &h->bias, USE_READ);
    use_index(out, "targets", &h->targets, INDEX_ROWS, -1, h->weight.rows);
    use(out, "statistics", &h->statistics, statistics);
}

static double logits_flops(const struct head *h) {
    return 2 * (double)h->hidden.rows * (double)h->hidden.columns * (double)h->weight.rows;
}

void describe_head(struct head *call, struct described *out) {
    begin(out);
    use_head(call, USE_WRITE, out);
    out->flops = logits_flops(call);
}

void describe_read_logits(struct read_logits *call, struct described *out) {
    begin(out);
    use(out, "logits", &call->logits, USE_UPDATE);
    use_index(out, "targets", &call->targets, INDEX_ROWS, -1, call->logits.columns);
    use(out, "statistics", &call->statistics, USE_WRITE);
}

/* Logits once more, dhidden, and dweight where it is asked for; as if every row had a weight. */
void describe_head_gradient(struct head_backward *call, struct described *out) {
    struct head_gradient *g = &call->gradient;
    begin(out);
    use_head(&call->head, USE_READ, out);
    use(out, "row_weight", &g->row_weight, USE_READ);
    use(out, "dhidden", &g->dhidden, USE_WRITE);
    use(out, "dweight", &g->dweight, USE_UPDATE);
    use(out, "dbias", &g->dbias, USE_UPDATE);
    out->flops = (g->dweight.data ? 3 : 2) * logits_flops(&call->head);
}

void describe_optimizer(struct optimizer_step *call, struct described *out) {
    begin(out);
    use(out, "parameters", &call->parameters, USE_UPDATE);
    use(out, "gradients", &call->gradients, USE_READ);
    use(out, "first", &call->first, USE_UPDATE);
    use(out, "second", &call->second, USE_UPDATE);
    use(out, "copy", &call->copy, USE_WRITE);
}

const char *operation_name(int operation) {
#define NAME(name, type) #name,
    static const char *const names[] = {OPERATIONS(NAME) OPTIONAL_OPERATIONS(NAME) CPU_OPERATIONS(NAME)};
    return operation >= 0 && operation < OPERATION_COUNT ? names[operation] : "unknown";
}
