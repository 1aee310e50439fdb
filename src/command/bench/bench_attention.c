/* bench.kind=attention: attention of the model's shape, forward and backward, on rows of 512 to 4,096 tokens,
 * as many rows as make TOKENS. FLOP are those of the keys that a query sees; backward counts five products,
 * of which one is forward's again. */
#include <math.h>
#include <stdio.h>

#include "command/bench/bench.h"
#include "util/clock.h"
#include "util/mem.h"
#include "util/rng.h"

enum { TOKENS = 4096, MOST_ROWS = 8 };
static const int row_tokens[] = {512, 2048, 4096};

struct world {
    struct bench *bench;
    struct backend *backend;
    struct workspace workspace;
    struct tensor q, k, v, out, dq, dk, dv, dout, lse;
    struct query_span spans[MOST_ROWS];
    struct key_range ranges[MOST_ROWS];
    struct attention_map map;
    struct attention attention;
    double *seconds;
};

static enum status open_world(struct world *w) {
    const struct model_config *m = &w->bench->config;
    const struct backend_caps *caps = &w->backend->caps;
    int64_t q_width = m->heads * m->head_dim;
    int64_t kv_width = m->kv_heads * m->head_dim;
    int64_t bytes = TOKENS * (4 * (q_width + kv_width) * dtype_size(caps->compute) +
                              m->heads * dtype_size(caps->readout));
    struct tensor *const wide[] = {&w->q, &w->dout, &w->out, &w->dq};
    struct tensor *const narrow[] = {&w->k, &w->v, &w->dk, &w->dv};
    TRY(NEW_ARRAY(w->seconds, w->bench->session.settings->bench.repeats));
    TRY(workspace_open(w->backend, bytes + 9 * 4096, &w->workspace)); /* alignment */
    for (int i = 0; i < 4; i++) {
        TRY(workspace_take(&w->workspace, TOKENS, q_width, caps->compute, "queries", wide[i]));
        TRY(workspace_take(&w->workspace, TOKENS, kv_width, caps->compute, "keys", narrow[i]));
        TRY(bench_fill(w->backend, *wide[i], i));
        TRY(bench_fill(w->backend, *narrow[i], 4 + i));
    }
    return workspace_take(&w->workspace, TOKENS, m->heads, caps->readout, "lse", &w->lse);
}

/* The map of TOKENS / tokens causal rows. */
static void set_rows(struct world *w, int tokens) {
    const struct model_config *m = &w->bench->config;
    int rows = TOKENS / tokens;
    for (int i = 0; i < rows; i++) {
        w->spans[i] = (struct query_span){i * tokens, tokens, i, 1};
        w->ranges[i] = (struct key_range){i * tokens, tokens, true};
    }
    w->map = (struct attention_map){.id = (uint64_t)tokens,
                                    .span_count = rows,
                                    .range_count = rows,
                                    .spans = w->spans,
                                    .ranges = w->ranges};
    w->attention = (struct attention){.map = &w->map,
                                      .heads = (int)m->heads,
                                      .kv_heads = (int)m->kv_heads,
                                      .head_dim = (int)m->head_dim,
                                      .scale = 1 / sqrt((double)m->head_dim),
                                      .q = w->q,
                                      .k = w->k,
                                      .v = w->v,
                                      .out = w->out,
                                      .lse = w->lse};
}

static enum status run_once(struct world *w, bool is_backward) {
    if (is_backward) {
        const struct attention_gradient g = {.dout = w->dout, .dq = w->dq, .dk = w->dk, .dv = w->dv};
        TRY(backend_attention_gradient(w->backend, &w->attention, &g));
    } else {
        TRY(backend_attention(w->backend, &w->attention));
    }
    return backend_sync(w->backend);
}

static enum status time_attention(struct world *w, bool is_backward) {
    int64_t repeats = w->bench->session.settings->bench.repeats;
    for (int64_t i = -1; i < repeats; i++) { /* the first is not counted */
        double began = clock_seconds();
        TRY(run_once(w, is_backward));
        if (i >= 0) {
            w->seconds[i] = clock_seconds() - began;
        }
    }
    return OK;
}

static enum status report(struct world *w, int tokens, bool is_backward, const struct times *t) {
    const struct bench *b = w->bench;
    const struct model_config *m = &b->config;
    const char *name = is_backward ? "backward" : "forward";
    double pairs = (double)TOKENS * ((double)tokens + 1) / 2;
    double flops = (is_backward ? 10.0 : 4.0) * (double)(m->heads * m->head_dim) * pairs;
    double rate = flops / t->median;
    if (b->session.comm->rank != 0) {
        return OK;
    }
    printf("%-10s %6d %6d %10.3f %10.3f %10.3f %10.1f %8.1f\n", name, tokens, TOKENS / tokens,
           t->median * 1e3, t->p10 * 1e3, t->p90 * 1e3, rate / 1e9, 100 * rate / b->peak_flops);
    return bench_row(w->bench, "%s,%d,%d,%.6f,%.6f,%.6f,%.3f,%.4f,%.1f,%.1f", name, tokens, TOKENS / tokens,
                     t->median * 1e3, t->p10 * 1e3, t->p90 * 1e3, rate / 1e9, rate / b->peak_flops,
                     b->peak_fma / 1e9, b->peak_product / 1e9);
}

static enum status run_table(struct world *w) {
    struct comm *c = w->bench->session.comm;
    const struct model_config *m = &w->bench->config;
    int64_t repeats = w->bench->session.settings->bench.repeats;
    if (c->rank == 0) {
        printf("# %s, causal, %lld heads, %lld key heads, head_dim %lld; median of %lld, the slowest rank's\n"
               "%-10s %6s %6s %10s %10s %10s %10s %8s\n",
               dtype_name(w->backend->caps.compute), (long long)m->heads, (long long)m->kv_heads,
               (long long)m->head_dim, (long long)repeats, "attention", "tokens", "rows", "ms", "p10 ms",
               "p90 ms", "GFLOP/s", "% peak");
        TRY(bench_row(w->bench, "pass,row_tokens,rows,ms_median,ms_p10,ms_p90,gflops,share_of_peak,"
                                "peak_fma_gflops,peak_product_gflops"));
    }
    for (int i = 0; i < 2 * COUNT_OF(row_tokens); i++) {
        struct times times;
        set_rows(w, row_tokens[i / 2]);
        TRY(comm_barrier(c));
        TRY(comm_agree(c, time_attention(w, i % 2 == 1)));
        TRY(times_reduce(c, w->seconds, repeats, &times));
        TRY(report(w, row_tokens[i / 2], i % 2 == 1, &times));
    }
    return OK;
}

enum status bench_attention(struct bench *b) {
    struct world w = {.bench = b, .backend = b->session.backend};
    enum status st = comm_agree(b->session.comm, open_world(&w));
    if (st == OK) {
        st = run_table(&w);
    }
    workspace_close(&w.workspace);
    mem_free(w.seconds);
    return st;
}
