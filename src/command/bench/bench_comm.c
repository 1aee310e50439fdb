/* bench.kind=comm: collectives in nccl-tests' shape. Bus bandwidth is what each link of an ideal ring would
 * carry: the algorithm's bandwidth times 2 (p-1)/p for a sum over p ranks. */
#include <stdio.h>

#include "command/bench/bench.h"

enum { FACTOR = 4, WARM_UP = 3 };

static enum status run_size(struct bench *bench, struct collectives *b, int kind, int64_t bytes) {
    struct collective_result r;
    TRY(collective_measure(b, kind, bytes, &r));
    if (b->comm->rank != 0) {
        return OK;
    }
    long long n = bytes / collective_element_bytes(kind);
    const char *type = collective_type(kind), *name = collective_name(kind);
    printf("%12lld %12lld %9s %10s %12.1f %9.2f %9.2f %12.1f %8lld\n", (long long)bytes, n, type, name,
           r.times.median * 1e6, r.bandwidth / 1e9, r.bus / 1e9, r.times.p99 * 1e6, (long long)r.wrong);
    return bench_row(bench, "%lld,%lld,%s,%s,%d,%.3f,%.4f,%.4f,%.3f,%lld", (long long)bytes, n, type, name,
                     b->comm->size, r.times.median * 1e6, r.bandwidth / 1e9, r.bus / 1e9, r.times.p99 * 1e6,
                     (long long)r.wrong);
}

static enum status run_table(struct bench *bench, struct collectives *b) {
    int p = b->comm->size, chosen = bench->session.settings->bench.collective;
    if (b->comm->rank == 0) {
        printf("# %d ranks, %d on this host; %s\n"
               "# time: median of %lld, the slowest rank's; busbw: algbw x 2(p-1)/p for sums\n"
               "%12s %12s %9s %10s %12s %9s %9s %12s %8s\n",
               p, b->comm->node_size, comm_library(), (long long)b->repeats, "bytes", "count", "type", "op",
               "time us", "algbw", "busbw", "p99 us", "#wrong");
        TRY(bench_row(bench, "bytes,count,type,op,ranks,time_us,algbw_gb_s,busbw_gb_s,p99_us,wrong"));
    }
    for (int i = 0; i < collectives_count(); i++) {
        bool wanted = chosen == 0 || chosen == i + 1;
        if (!wanted || !collective_works(i, p)) {
            continue;
        }
        for (int64_t bytes = collective_smallest(i); bytes <= b->largest; bytes *= FACTOR) {
            TRY(run_size(bench, b, i, bytes));
        }
    }
    return OK;
}

enum status bench_comm(struct bench *bench) {
    const struct settings *s = bench->session.settings;
    struct collectives b = {.comm = bench->session.comm,
                            .repeats = s->bench.repeats,
                            .warm_up = WARM_UP,
                            .largest = s->bench.largest,
                            .bucket_bytes = s->train.bucket_bytes};
    enum status st = collectives_open(&b);
    if (st == OK) {
        st = run_table(bench, &b);
    }
    collectives_close(&b);
    return st;
}
