/* bench.kind=comm: collectives in nccl-tests' shape. Bus bandwidth is what each link of an ideal ring would
 * carry: the algorithm's bandwidth times 2 (p-1)/p for a sum over p ranks. */
#include <stdio.h>

#include "command/bench.h"
#include "mpi/sum.h"
#include "util/clock.h"
#include "util/mem.h"

enum { SMALLEST = 1 << 10, LARGEST = 64 << 20, FACTOR = 4, WARM_UP = 3 };

struct comm_bench {
    struct bench *bench;
    struct comm *comm;
    void *values, *scratch;
    struct bucket_sum *buckets;
    double *seconds;
};

struct collective {
    const char *name, *type;
    int element_bytes;
    int64_t smallest;
    enum status (*run)(struct comm_bench *b, int64_t n);
    double (*result)(int ranks, int64_t i); /* expected element */
    bool is_sum;
    bool needs_power_of_two, is_buckets;
};

/* Rank r's element i; small integers, so that sums are exact in any order. */
static double given(int rank, int64_t i) {
    return (double)(i % 7) * (rank + 1);
}

static double summed(int ranks, int64_t i) {
    return (double)(i % 7) * ranks * (ranks + 1) / 2;
}

static double from_root(int ranks, int64_t i) {
    (void)ranks;
    return given(0, i);
}

static enum status run_library(struct comm_bench *b, int64_t n) {
    return comm_sum_f64(b->comm, b->values, n);
}

static enum status run_tree(struct comm_bench *b, int64_t n) {
    return sum_tree(b->comm, b->values, n, SUM_F32, b->scratch);
}

static enum status run_broadcast(struct comm_bench *b, int64_t n) {
    return comm_broadcast(b->comm, 0, b->values, n * (int64_t)sizeof(float));
}

static enum status run_buckets(struct comm_bench *b, int64_t n) {
    double waited;
    (void)n; /* the buckets were opened for it */
    bucket_begin(b->buckets, b->values);
    return bucket_finish(b->buckets, &waited);
}

static const struct collective table[] = {
    {"allreduce", "float64", SUM_F64, SMALLEST, run_library, summed, true, false, false},
    {"tree", "float32", SUM_F32, SMALLEST, run_tree, summed, true, true, false},
    {"buckets", "float32", SUM_F32, 1 << 20, run_buckets, summed, true, false, true},
    {"broadcast", "float32", SUM_F32, SMALLEST, run_broadcast, from_root, false, false, false},
};

static void fill(struct comm_bench *b, const struct collective *k, int64_t n) {
    float *f = b->values;
    double *d = b->values;
    for (int64_t i = 0; i < n; i++) {
        if (k->element_bytes == SUM_F32) {
            f[i] = (float)given(b->comm->rank, i);
        } else {
            d[i] = given(b->comm->rank, i);
        }
    }
}

static int64_t count_wrong(const struct comm_bench *b, const struct collective *k, int64_t n) {
    const float *f = b->values;
    const double *d = b->values;
    int64_t wrong = 0;
    for (int64_t i = 0; i < n; i++) {
        double want = k->result(b->comm->size, i);
        wrong += (k->element_bytes == SUM_F32 ? (double)f[i] : d[i]) != want;
    }
    return wrong;
}

static enum status measure(struct comm_bench *b, const struct collective *k, int64_t n, struct times *times,
                           int64_t *wrong) {
    int64_t repeats = b->bench->session.settings->bench.repeats;
    *wrong = 0;
    for (int64_t i = -WARM_UP; i < repeats; i++) {
        fill(b, k, n);
        TRY(comm_barrier(b->comm));
        double began = clock_seconds();
        TRY(k->run(b, n));
        if (i >= 0) {
            b->seconds[i] = clock_seconds() - began;
        }
        *wrong += count_wrong(b, k, n);
    }
    TRY(comm_sum_i64(b->comm, wrong, 1));
    return bench_times(b->comm, b->seconds, repeats, times);
}

static enum status run_size(struct comm_bench *b, const struct collective *k, int64_t bytes) {
    int64_t n = bytes / k->element_bytes, wrong;
    int p = b->comm->size;
    struct times t;
    if (k->is_buckets) {
        struct bucket_options o = {.elements = n,
                                   .element_bytes = k->element_bytes,
                                   .bucket_bytes = b->bench->session.settings->train.bucket_bytes,
                                   .threaded = true};
        TRY(bucket_open(b->comm, &o, &b->buckets));
    }
    enum status st = measure(b, k, n, &t, &wrong);
    bucket_close(b->buckets);
    b->buckets = NULL;
    TRY(st);
    double bandwidth = (double)bytes / t.median / 1e9;
    double bus = bandwidth * (k->is_sum ? 2.0 * (p - 1) / p : p > 1);
    if (b->comm->rank == 0) {
        printf("%12lld %12lld %9s %10s %12.1f %9.2f %9.2f %12.1f %8lld\n", (long long)bytes, (long long)n,
               k->type, k->name, t.median * 1e6, bandwidth, bus, t.p99 * 1e6, (long long)wrong);
        TRY(bench_row(b->bench, "%lld,%lld,%s,%s,%d,%.3f,%.4f,%.4f,%.3f,%lld", (long long)bytes, (long long)n,
                      k->type, k->name, p, t.median * 1e6, bandwidth, bus, t.p99 * 1e6, (long long)wrong));
    }
    return OK;
}

static enum status run_table(struct comm_bench *b) {
    int p = b->comm->size;
    if (b->comm->rank == 0) {
        printf("# %d ranks, %d on this host; %s\n"
               "# time: median of %lld, the slowest rank's; busbw: algbw x 2(p-1)/p for sums\n"
               "%12s %12s %9s %10s %12s %9s %9s %12s %8s\n",
               p, b->comm->node_size, comm_library(), (long long)b->bench->session.settings->bench.repeats,
               "bytes", "count", "type", "op", "time us", "algbw", "busbw", "p99 us", "#wrong");
        TRY(bench_row(b->bench, "bytes,count,type,op,ranks,time_us,algbw_gb_s,busbw_gb_s,p99_us,wrong"));
    }
    for (int i = 0; i < COUNT_OF(table); i++) {
        if (table[i].needs_power_of_two && (p & (p - 1)) != 0) {
            continue;
        }
        for (int64_t bytes = table[i].smallest; bytes <= LARGEST; bytes *= FACTOR) {
            TRY(run_size(b, &table[i], bytes));
        }
    }
    return OK;
}

enum status bench_comm(struct bench *bench) {
    struct comm_bench b = {.bench = bench, .comm = bench->session.comm};
    enum status st = NEW_ARRAY(b.seconds, bench->session.settings->bench.repeats);
    if (st == OK) {
        b.values = mem_aligned(LARGEST, 1);
        b.scratch = mem_aligned(LARGEST, 1);
        st = b.values && b.scratch ? OK : ERR_SYSTEM;
    }
    st = comm_agree(b.comm, st);
    if (st == OK) {
        st = run_table(&b);
    }
    mem_free(b.seconds);
    mem_free(b.values);
    mem_free(b.scratch);
    return st;
}
