/* bench.kind=ops: the operations of a layer and the head on the model's shape, bench.tokens rows. GFLOP/s
 * stand beside the multiply-add peak of the same run, bytes (what must move at least) beside the triad's. */
#include <math.h>
#include <stdio.h>

#include "command/bench/bench.h"
#include "util/clock.h"
#include "util/mem.h"
#include "util/rng.h"

/* Tensors of one layer's shape; all stay allocated, so that every operation finds its operands cold or warm
 * as in a step. */
struct world {
    struct bench *bench;
    struct backend *backend;
    int64_t T, d, F, V, q_width, kv_width; /* tokens, widths */
    int heads, kv_heads, head_dim;
    struct workspace workspace;
    struct tensor x, y, dx, wide, wide2, q, k, v, attended, dq, dk, dv; /* compute type */
    struct tensor weight, head_weight;                                  /* (F, d), (V, d) */
    struct tensor dweight, dhead;                                       /* master type */
    struct tensor parameters, first, second;                            /* F * d, master type */
    struct tensor norm_weight, dnorm, statistics, lse, rope, head_statistics, row_weight;
    struct tensor ids; /* 1 x T */
    struct query_span span;
    struct key_range range;
    struct attention_map map;
    double *seconds;
};

static double product_flops(const struct world *w) {
    return 2.0 * (double)w->T * (double)w->F * (double)w->d;
}

static double attention_flops(const struct world *w) {
    return 4.0 * (double)w->head_dim * w->heads * (double)w->T * ((double)w->T + 1) / 2;
}

static double attention_gradient_flops(const struct world *w) {
    return 2.5 * attention_flops(w); /* five products where forward has two */
}

static double head_flops(const struct world *w) {
    return 2.0 * (double)w->T * (double)w->d * (double)w->V;
}

static double head_gradient_flops(const struct world *w) {
    return 3 * head_flops(w); /* logits again, dhidden, dweight */
}

static double compute_bytes(const struct world *w, double tensors, int64_t columns) {
    return tensors * (double)w->T * (double)columns * (double)dtype_size(w->backend->caps.compute);
}

static double norm_bytes(const struct world *w) {
    return compute_bytes(w, 2, w->d);
}

static double norm_gradient_bytes(const struct world *w) {
    return compute_bytes(w, 4, w->d); /* x, dy, dx read and written */
}

static double activate_bytes(const struct world *w) {
    return compute_bytes(w, 2, w->F);
}

static double activate_gradient_bytes(const struct world *w) {
    return compute_bytes(w, 3, w->F);
}

static double rope_bytes(const struct world *w) {
    return compute_bytes(w, 2, w->q_width);
}

static double add_bytes(const struct world *w) {
    return compute_bytes(w, 3, w->d);
}

static double embed_bytes(const struct world *w) {
    return compute_bytes(w, 2, w->d);
}

static double arena_bytes(const struct world *w, double arenas) {
    return arenas * (double)w->F * (double)w->d * (double)dtype_size(w->backend->caps.master);
}

static double optimizer_bytes(const struct world *w) {
    return arena_bytes(w, 7); /* four read, three written */
}

static double squares_bytes(const struct world *w) {
    return arena_bytes(w, 1);
}

static enum status run_forward(struct world *w) {
    struct gemm g = {.a = w->x, .b = w->weight, .c = w->wide, .transpose_b = true, .alpha = 1};
    return backend_gemm(w->backend, &g);
}

static enum status run_input_gradient(struct world *w) {
    struct gemm g = {.a = w->wide, .b = w->weight, .c = w->dx, .alpha = 1};
    return backend_gemm(w->backend, &g);
}

static enum status run_weight_gradient(struct world *w) {
    struct gemm g = {.a = w->wide, .b = w->x, .c = w->dweight, .transpose_a = true, .alpha = 1, .beta = 1};
    return backend_gemm(w->backend, &g);
}

static struct attention attention_of(const struct world *w) {
    return (struct attention){.map = &w->map,
                              .heads = w->heads,
                              .kv_heads = w->kv_heads,
                              .head_dim = w->head_dim,
                              .scale = 1 / sqrt(w->head_dim),
                              .q = w->q,
                              .k = w->k,
                              .v = w->v,
                              .out = w->attended,
                              .lse = w->lse};
}

static enum status run_attention(struct world *w) {
    struct attention a = attention_of(w);
    return backend_attention(w->backend, &a);
}

static enum status run_attention_gradient(struct world *w) {
    struct attention a = attention_of(w);
    /* The output itself serves as its gradient: any values will do. */
    struct attention_gradient g = {.dout = w->attended, .dq = w->dq, .dk = w->dk, .dv = w->dv};
    return backend_attention_gradient(w->backend, &a, &g);
}

static struct head head_of(const struct world *w) {
    return (struct head){
        .hidden = w->x, .weight = w->head_weight, .targets = w->ids, .statistics = w->head_statistics};
}

static enum status run_head(struct world *w) {
    struct head h = head_of(w);
    return backend_head(w->backend, &h);
}

static enum status run_head_gradient(struct world *w) {
    struct head h = head_of(w);
    struct head_gradient g = {.row_weight = w->row_weight, .dhidden = w->dx, .dweight = w->dhead};
    return backend_head_gradient(w->backend, &h, &g);
}

static struct norm norm_of(const struct world *w) {
    return (struct norm){.kind = NORM_LAYER,
                         .epsilon = 1e-5,
                         .x = w->x,
                         .y = w->y,
                         .weight = w->norm_weight,
                         .statistics = w->statistics};
}

static enum status run_norm(struct world *w) {
    struct norm n = norm_of(w);
    return backend_norm(w->backend, &n);
}

static enum status run_norm_gradient(struct world *w) {
    struct norm n = norm_of(w);
    struct norm_gradient g = {.dy = w->y, .dx = w->dx, .dweight = w->dnorm};
    return backend_norm_gradient(w->backend, &n, &g);
}

static enum status run_activate(struct world *w) {
    struct activate a = {.kind = ACTIVATION_GELU, .gate = w->wide, .y = w->wide2};
    return backend_activate(w->backend, &a);
}

static enum status run_activate_gradient(struct world *w) {
    struct activate a = {.kind = ACTIVATION_GELU, .gate = w->wide, .y = w->wide2};
    struct activate_gradient g = {.dy = w->wide2, .dgate = w->wide};
    return backend_activate_gradient(w->backend, &a, &g);
}

static enum status run_rope(struct world *w) {
    struct rope r = {.x = w->q,
                     .table = w->rope,
                     .heads = w->heads,
                     .head_dim = w->head_dim,
                     .rotary_dim = (int)w->rope.columns};
    return backend_rope(w->backend, &r);
}

static enum status run_add(struct world *w) {
    return backend_add(w->backend, w->dx, 1e-3, w->x);
}

static enum status run_embed(struct world *w) {
    return backend_embed(w->backend, w->y, w->head_weight, w->ids, 1, false);
}

static enum status run_optimizer(struct world *w) {
    struct optimizer_step s = {.kind = OPTIMIZER_ADAMW,
                               .learning_rate = 1e-6,
                               .beta1 = 0.9,
                               .beta2 = 0.999,
                               .epsilon = 1e-8,
                               .bias_correction1 = 0.1,
                               .bias_correction2 = 0.001,
                               .gradient_scale = 1,
                               .parameters = w->parameters,
                               .gradients = tensor_at(w->dweight.data, 1, w->F * w->d, w->dweight.type),
                               .first = w->first,
                               .second = w->second};
    return backend_optimizer(w->backend, &s);
}

static enum status run_squares(struct world *w) {
    double sum;
    return backend_sum_squares(w->backend, w->parameters, &sum);
}

/* In an order in which every operation finds its inputs filled. */
static const struct operation {
    const char *name, *shape;
    enum status (*run)(struct world *w);
    double (*flops)(const struct world *w); /* NULL: bound by memory */
    double (*bytes)(const struct world *w);
} table[] = {
    {"gemm forward", "T F d", run_forward, product_flops, NULL},
    {"gemm input gradient", "T d F", run_input_gradient, product_flops, NULL},
    {"gemm weight gradient", "F d T", run_weight_gradient, product_flops, NULL},
    {"attention", "T H hd", run_attention, attention_flops, NULL},
    {"attention gradient", "T H hd", run_attention_gradient, attention_gradient_flops, NULL},
    {"head", "T d V", run_head, head_flops, NULL},
    {"head gradient", "T d V", run_head_gradient, head_gradient_flops, NULL},
    {"norm", "T d", run_norm, NULL, norm_bytes},
    {"norm gradient", "T d", run_norm_gradient, NULL, norm_gradient_bytes},
    {"activation", "T F", run_activate, NULL, activate_bytes},
    {"activation gradient", "T F", run_activate_gradient, NULL, activate_gradient_bytes},
    {"rope", "T H hd", run_rope, NULL, rope_bytes},
    {"add", "T d", run_add, NULL, add_bytes},
    {"embed", "T d", run_embed, NULL, embed_bytes},
    {"adamw", "F d", run_optimizer, NULL, optimizer_bytes},
    {"sum of squares", "F d", run_squares, NULL, squares_bytes},
};

struct request {
    struct tensor *to;
    int64_t rows, columns;
    enum dtype type;
    const char *what;
};

enum status bench_fill(struct backend *b, struct tensor t, int64_t stream) {
    double *values;
    struct rng r = rng_stream(0, RNG_BENCH, stream, 1);
    TRY(NEW_ARRAY(values, t.columns));
    enum status st = OK;
    for (int64_t i = 0; i < t.rows && st == OK; i++) {
        for (int64_t j = 0; j < t.columns; j++) {
            values[j] = 0.2 * rng_uniform(&r) - 0.1;
        }
        st = backend_write_doubles(b, tensor_rows(t, i, 1), values);
    }
    mem_free(values);
    return st;
}

static enum status fill_ids(struct world *w) {
    int32_t *ids;
    struct rng r = rng_stream(0, RNG_BENCH, 0, 2);
    TRY(NEW_ARRAY(ids, w->T));
    for (int64_t i = 0; i < w->T; i++) {
        ids[i] = (int32_t)rng_below(&r, w->V);
    }
    enum status st = backend_write(w->backend, w->ids.data, ids, w->T * (int64_t)sizeof *ids);
    mem_free(ids);
    return st;
}

static enum status make_tensors(struct world *w, const struct request *requests, int n) {
    int64_t bytes = 0;
    for (int i = 0; i < n; i++) {
        int64_t elements;
        TRY(size_mul(requests[i].rows, requests[i].columns, requests[i].what, &elements));
        TRY(size_mul(elements, dtype_size(requests[i].type), requests[i].what, &elements));
        TRY(size_add(bytes, elements + 4096, "workspace", &bytes)); /* alignment */
    }
    TRY(workspace_open(w->backend, bytes, &w->workspace));
    for (int i = 0; i < n; i++) {
        const struct request *q = &requests[i];
        TRY(workspace_take(&w->workspace, q->rows, q->columns, q->type, q->what, q->to));
        if (q->type != DTYPE_I32) {
            TRY(bench_fill(w->backend, *q->to, i));
        }
    }
    TRY(backend_zero_tensor(w->backend, w->first));
    TRY(backend_zero_tensor(w->backend, w->second));
    return fill_ids(w);
}

static enum status open_world(struct world *w) {
    const struct model_config *m = &w->bench->config;
    const struct backend_caps *caps = &w->backend->caps;
    enum dtype c = caps->compute, p = caps->master, r = caps->readout;
    int rotary = m->rope.rotary_dim > 0 ? m->rope.rotary_dim : (int)m->head_dim;
    TRY(NEW_ARRAY(w->seconds, w->bench->session.settings->bench.repeats));
    const struct request requests[] = {
        {&w->x, w->T, w->d, c, "x"},
        {&w->y, w->T, w->d, c, "y"},
        {&w->dx, w->T, w->d, c, "dx"},
        {&w->wide, w->T, w->F, c, "gate"},
        {&w->wide2, w->T, w->F, c, "activation"},
        {&w->q, w->T, w->q_width, c, "q"},
        {&w->k, w->T, w->kv_width, c, "k"},
        {&w->v, w->T, w->kv_width, c, "v"},
        {&w->attended, w->T, w->q_width, c, "attention"},
        {&w->dq, w->T, w->q_width, c, "dq"},
        {&w->dk, w->T, w->kv_width, c, "dk"},
        {&w->dv, w->T, w->kv_width, c, "dv"},
        {&w->weight, w->F, w->d, c, "weight"},
        {&w->head_weight, w->V, w->d, c, "head weight"},
        {&w->dweight, w->F, w->d, p, "weight gradient"},
        {&w->dhead, w->V, w->d, p, "head gradient"},
        {&w->parameters, 1, w->F * w->d, p, "parameters"},
        {&w->first, 1, w->F * w->d, p, "state"},
        {&w->second, 1, w->F * w->d, p, "state"},
        {&w->norm_weight, 1, w->d, c, "norm"},
        {&w->dnorm, 1, w->d, p, "norm gradient"},
        {&w->statistics, w->T, 2, r, "statistics"},
        {&w->lse, w->T, w->heads, r, "lse"},
        {&w->rope, w->T, rotary, r, "rope"},
        {&w->head_statistics, w->T, HEAD_STATISTICS, r, "head statistics"},
        {&w->row_weight, 1, w->T, r, "row weight"},
        {&w->ids, 1, w->T, DTYPE_I32, "ids"},
    };
    return make_tensors(w, requests, COUNT_OF(requests));
}

static enum status time_operation(struct world *w, const struct operation *o) {
    int64_t repeats = w->bench->session.settings->bench.repeats;
    enum { WARM_UP = 2 };
    for (int64_t i = -WARM_UP; i < repeats; i++) {
        double began = clock_seconds();
        TRY(o->run(w));
        TRY(backend_sync(w->backend));
        if (i >= 0) {
            w->seconds[i] = clock_seconds() - began;
        }
    }
    return OK;
}

static enum status report(struct world *w, const struct operation *o, const struct times *t) {
    const struct bench *b = w->bench;
    double flops = o->flops ? o->flops(w) / t->median : 0, bytes = o->bytes ? o->bytes(w) / t->median : 0;
    double share = o->flops ? flops / b->peak_flops : bytes / b->peak_bytes;
    if (b->session.comm->rank != 0) {
        return OK;
    }
    printf("%-22s %-8s %10.4f %19.4f %10.1f %8.1f %8.1f\n", o->name, o->shape, t->median * 1e3, t->p90 * 1e3,
           flops / 1e9, bytes / 1e9, 100 * share);
    return bench_row(w->bench, "%s,%s,%lld,%.6f,%.6f,%.6f,%.3f,%.3f,%.4f,%.1f,%.1f,%.1f", o->name, o->shape,
                     (long long)w->T, t->median * 1e3, t->p10 * 1e3, t->p90 * 1e3, flops / 1e9, bytes / 1e9,
                     share, b->peak_fma / 1e9, b->peak_product / 1e9, b->peak_bytes / 1e9);
}

static enum status run_table(struct world *w) {
    struct comm *c = w->bench->session.comm;
    if (c->rank == 0) {
        printf("# T %lld tokens, d %lld, F %lld, H %d, hd %d, V %lld; median of %lld, the slowest rank's\n"
               "%-22s %-8s %10s %19s %10s %8s %8s\n",
               (long long)w->T, (long long)w->d, (long long)w->F, w->heads, w->head_dim, (long long)w->V,
               (long long)w->bench->session.settings->bench.repeats, "op", "shape", "ms", "p90 ms", "GFLOP/s",
               "GB/s", "% peak");
        TRY(bench_row(w->bench, "op,shape,tokens,ms_median,ms_p10,ms_p90,gflops,gb_s,share_of_peak,"
                                "peak_fma_gflops,peak_product_gflops,peak_triad_gb_s"));
    }
    for (int i = 0; i < COUNT_OF(table); i++) {
        struct times times;
        TRY(comm_barrier(c));
        TRY(comm_agree(c, time_operation(w, &table[i])));
        TRY(times_reduce(c, w->seconds, w->bench->session.settings->bench.repeats, &times));
        TRY(report(w, &table[i], &times));
    }
    return OK;
}

enum status bench_ops(struct bench *b) {
    const struct model_config *m = &b->config;
    struct world w = {.bench = b,
                      .backend = b->session.backend,
                      .T = b->session.settings->bench.tokens,
                      .d = m->width,
                      .F = m->ffn,
                      .V = m->vocabulary,
                      .q_width = m->heads * m->head_dim,
                      .kv_width = m->kv_heads * m->head_dim,
                      .heads = (int)m->heads,
                      .kv_heads = (int)m->kv_heads,
                      .head_dim = (int)m->head_dim};
    w.span = (struct query_span){0, (int32_t)w.T, 0, 1};
    w.range = (struct key_range){0, (int32_t)w.T, true};
    w.map = (struct attention_map){
        .id = 1, .span_count = 1, .range_count = 1, .spans = &w.span, .ranges = &w.range};
    enum status st = comm_agree(b->session.comm, open_world(&w));
    if (st == OK) {
        st = run_table(&w);
    }
    workspace_close(&w.workspace);
    mem_free(w.seconds);
    return st;
}
