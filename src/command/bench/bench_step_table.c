#include "command/bench/bench_step_table.h"

#include <stdio.h>

#include "util/clock.h"
#include "util/mem.h"

/* Peak: of the device's memory, or of this process. */
static double memory_mib(struct backend *b) {
    int64_t taken = backend_memory_taken(b);
    return (double)(taken > 0 ? taken : mem_peak_resident()) / (1 << 20);
}

enum status bench_step_table(struct bench *b, struct bench_step_result *r) {
    const struct settings *s = b->session.settings;
    const struct times *t = &r->times;
    struct comm *comm = b->session.comm;
    double rates[] = {b->peak_fma, b->peak_product, b->peak_flops};
    TRY(comm_sum_f64(comm, rates, COUNT_OF(rates)));
    TRY(comm_max_f64(comm, &r->waited_s, 1));
    if (comm->rank != 0) {
        return OK;
    }
    double pairs = (double)s->train.batch / t->median, rate = r->flops / t->median;
    double tokens = pairs * (double)s->bench.tokens, memory = memory_mib(b->session.backend);
    printf("# dpo step, %lld parameters, %lld pairs of %lld tokens (prompt once), %lld pairs a forest\n"
           "# FLOP a step: 3 x (layers %.4g x tokens + head %.4g x scored + attention %.4g x query-key pairs)"
           " = %.4g\n"
           "# median of %lld after %d warm-up steps, the slowest rank's; mfu against %.1f GFLOP/s\n",
           (long long)r->parameters, (long long)s->train.batch, (long long)s->bench.tokens,
           (long long)r->pairs_in_forest, model_flops_layers(&b->config), model_flops_head(&b->config),
           model_flops_attention(&b->config), r->flops, (long long)s->bench.repeats, BENCH_STEP_WARM_UP,
           rates[2] / 1e9);
    printf("%6s %8s %17s %8s %10s %10s %9s %7s %9s %8s %10s\n", "ranks", "step s", "p10-p90", "first s",
           "pairs/s", "tokens/s", "GFLOP/s", "mfu %", "exposed s", "MiB", "loss");
    printf("%6d %8.4f %8.4f-%8.4f %8.4f %10.4g %10.5g %9.1f %7.1f %9.4f %8.0f %10.6f\n", comm->size,
           t->median, t->p10, t->p90, r->first_s, pairs, tokens, rate / 1e9, 100 * rate / rates[2],
           r->waited_s, memory, r->loss);
    char stamp[32];
    clock_stamp(stamp, sizeof stamp);
    TRY(bench_row(b,
                  "date,ranks,threads,device,shape,pair_tokens,batch,micro_tokens,step_s_median,step_s_p10,"
                  "step_s_p90,first_step_s,tokens_per_s,pairs_per_s,gflops,peak_gflops,product_gflops,mfu,"
                  "comm_exposed_s,mem_peak_mib,loss_at_n"));
    return bench_row(b,
                     "%s,%d,%d,%s,%s,%lld,%lld,%lld,%.6f,%.6f,%.6f,%.6f,%.6g,%.6g,%.6g,%.6g,%.6g,%.5f,%.6f,"
                     "%.1f,%.9g",
                     stamp, comm->size, b->session.backend->caps.threads, b->session.backend->caps.name,
                     b->shape, (long long)s->bench.tokens, (long long)s->train.batch,
                     (long long)s->train.micro_tokens, t->median, t->p10, t->p90, r->first_s, tokens, pairs,
                     rate / 1e9, rates[2] / 1e9, rates[1] / 1e9, rate / rates[2], r->waited_s, memory,
                     r->loss);
}
