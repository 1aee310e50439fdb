#include "mpi/collectives.h"

#include <stdlib.h>

#include "util/clock.h"
#include "util/mem.h"

enum { SMALLEST = 1 << 10 };
enum element { F32, F64, I64 };
static const int element_bytes[] = {4, 8, 8};
static const char *const element_names[] = {"float32", "float64", "int64"};

struct collective {
    const char *name;
    enum element type;
    int64_t smallest;
    enum status (*run)(struct collectives *b, int64_t n);
    double (*expected)(const struct comm *c, int64_t n, int64_t i); /* element of the result */
    double (*bus)(int ranks);                                       /* share of the message on each link */
    bool is_apart; /* the result is in `result`, not in place */
    bool needs_power_of_two, is_buckets;
};

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

enum status times_reduce(struct comm *c, double *seconds, int64_t n, struct times *out) {
    TRY(comm_max_f64(c, seconds, n));
    qsort(seconds, (size_t)n, sizeof *seconds, ascending);
    *out = (struct times){.median = (seconds[(n - 1) / 2] + seconds[n / 2]) / 2,
                          .p10 = seconds[n / 10],
                          .p90 = seconds[n * 9 / 10],
                          .p99 = seconds[n * 99 / 100]};
    return OK;
}

static double given(int rank, int64_t i) {
    return (double)(i % 7) * (rank + 1);
}

static double of_sum(const struct comm *c, int64_t n, int64_t i) {
    (void)n;
    return (double)(i % 7) * c->size * (c->size + 1) / 2;
}

static double of_max(const struct comm *c, int64_t n, int64_t i) {
    (void)n;
    return given(c->size - 1, i);
}

static double of_root(const struct comm *c, int64_t n, int64_t i) {
    (void)c;
    (void)n;
    return given(0, i);
}

/* The rank whose part of n elements holds element i. */
static double of_owner(const struct comm *c, int64_t n, int64_t i) {
    int64_t share = n / c->size, extra = n % c->size;
    int64_t longer = extra * (share + 1); /* elements in the parts that are one longer */
    bool is_longer = i < longer || share == 0;
    return given((int)(is_longer ? i / (share + 1) : extra + (i - longer) / share), i);
}

/* My part of every rank's elements, rank by rank. */
static double of_senders(const struct comm *c, int64_t n, int64_t i) {
    struct range mine = range_part(n, c->rank, c->size);
    int64_t length = mine.last - mine.first;
    return given((int)(i / length), mine.first + i % length);
}

static double bus_sum(int ranks) {
    return 2.0 * (ranks - 1) / ranks;
}

static double bus_once(int ranks) {
    return (double)(ranks - 1) / ranks;
}

static double bus_root(int ranks) {
    return ranks > 1;
}

static enum status run_sum(struct collectives *b, int64_t n) {
    return comm_sum_f64(b->comm, b->values, n);
}

static enum status run_count(struct collectives *b, int64_t n) {
    return comm_sum_i64(b->comm, b->values, n);
}

static enum status run_max(struct collectives *b, int64_t n) {
    return comm_max_f64(b->comm, b->values, n);
}

static enum status run_tree(struct collectives *b, int64_t n) {
    return sum_tree(b->comm, b->values, n, SUM_F32, b->scratch);
}

static enum status run_broadcast(struct collectives *b, int64_t n) {
    return comm_broadcast(b->comm, 0, b->values, n * (int64_t)sizeof(float));
}

static enum status run_buckets(struct collectives *b, int64_t n) {
    double waited;
    (void)n; /* the buckets were opened for it */
    bucket_begin(b->buckets, b->values, NULL);
    return bucket_finish(b->buckets, &waited);
}

static enum status run_gather(struct collectives *b, int64_t n) {
    struct range mine = range_part(n, b->comm->rank, b->comm->size);
    for (int r = 0; r < b->comm->size; r++) {
        struct range part = range_part(n, r, b->comm->size);
        b->receive_counts[r] = (part.last - part.first) * (int64_t)sizeof(float);
    }
    return comm_gather_bytes(b->comm, (const float *)b->values + mine.first,
                             (mine.last - mine.first) * (int64_t)sizeof(float), b->result, b->receive_counts);
}

static enum status run_exchange(struct collectives *b, int64_t n) {
    struct range mine = range_part(n, b->comm->rank, b->comm->size);
    for (int r = 0; r < b->comm->size; r++) {
        struct range part = range_part(n, r, b->comm->size);
        b->send_counts[r] = (part.last - part.first) * (int64_t)sizeof(float);
        b->receive_counts[r] = (mine.last - mine.first) * (int64_t)sizeof(float);
    }
    return comm_exchange(b->comm, b->values, b->send_counts, b->result, b->receive_counts);
}

static const struct collective table[] = {
    {"allreduce", F64, SMALLEST, run_sum, of_sum, bus_sum, false, false, false},
    {"count", I64, SMALLEST, run_count, of_sum, bus_sum, false, false, false},
    {"max", F64, SMALLEST, run_max, of_max, bus_sum, false, false, false},
    {"tree", F32, SMALLEST, run_tree, of_sum, bus_sum, false, true, false},
    {"buckets", F32, 1 << 20, run_buckets, of_sum, bus_sum, false, false, true},
    {"broadcast", F32, SMALLEST, run_broadcast, of_root, bus_root, false, false, false},
    {"allgather", F32, SMALLEST, run_gather, of_owner, bus_once, true, false, false},
    {"alltoall", F32, SMALLEST, run_exchange, of_senders, bus_once, true, false, false},
};

int collectives_count(void) {
    return COUNT_OF(table);
}

const char *collective_name(int kind) {
    return table[kind].name;
}

const char *collective_type(int kind) {
    return element_names[table[kind].type];
}

int collective_element_bytes(int kind) {
    return element_bytes[table[kind].type];
}

int64_t collective_smallest(int kind) {
    return table[kind].smallest;
}

bool collective_works(int kind, int ranks) {
    return !table[kind].needs_power_of_two || (ranks & (ranks - 1)) == 0;
}

enum status collectives_open(struct collectives *b) {
    /* A part of an exchange is one element longer at most, on every rank. */
    int64_t bytes = b->largest + b->comm->size * (int64_t)sizeof(double);
    enum status st;
    TRY_TO(agreed, NEW_ARRAY(b->seconds, b->repeats));
    TRY_TO(agreed, NEW_ARRAY(b->send_counts, b->comm->size));
    TRY_TO(agreed, NEW_ARRAY(b->receive_counts, b->comm->size));
    b->values = mem_aligned(bytes, 1);
    b->result = mem_aligned(bytes, 1);
    b->scratch = mem_aligned(bytes, 1);
    st = b->values && b->result && b->scratch ? OK : ERR_SYSTEM;
agreed:
    return comm_agree(b->comm, st);
}

void collectives_close(struct collectives *b) {
    mem_free(b->seconds);
    mem_free(b->send_counts);
    mem_free(b->receive_counts);
    mem_free(b->values);
    mem_free(b->result);
    mem_free(b->scratch);
    *b = (struct collectives){0};
}

static void fill(struct collectives *b, enum element type, int64_t n) {
    float *f = b->values;
    double *d = b->values;
    int64_t *k = b->values;
    for (int64_t i = 0; i < n; i++) {
        double value = given(b->comm->rank, i);
        if (type == F32) {
            f[i] = (float)value;
        } else if (type == F64) {
            d[i] = value;
        } else {
            k[i] = (int64_t)value;
        }
    }
}

static double element(const void *values, enum element type, int64_t i) {
    switch (type) {
    case F32:
        return ((const float *)values)[i];
    case F64:
        return ((const double *)values)[i];
    default:
        return (double)((const int64_t *)values)[i];
    }
}

static int64_t count_wrong(const struct collectives *b, const struct collective *k, int64_t n) {
    const void *values = k->is_apart ? b->result : b->values;
    int64_t wrong = 0, length = n;
    if (k->expected == of_senders) {
        struct range mine = range_part(n, b->comm->rank, b->comm->size);
        length = b->comm->size * (mine.last - mine.first);
    }
    for (int64_t i = 0; i < length; i++) {
        wrong += element(values, k->type, i) != k->expected(b->comm, n, i);
    }
    return wrong;
}

static enum status repeat(struct collectives *b, const struct collective *k, int64_t n,
                          struct collective_result *out) {
    for (int64_t i = -b->warm_up; i < b->repeats; i++) {
        fill(b, k->type, n);
        TRY(comm_barrier(b->comm));
        double began = clock_seconds();
        TRY(k->run(b, n));
        if (i >= 0) {
            b->seconds[i] = clock_seconds() - began;
        }
        out->wrong += count_wrong(b, k, n);
    }
    TRY(comm_sum_i64(b->comm, &out->wrong, 1));
    return times_reduce(b->comm, b->seconds, b->repeats, &out->times);
}

enum status collective_measure(struct collectives *b, int kind, int64_t bytes,
                               struct collective_result *out) {
    const struct collective *k = &table[kind];
    int64_t n = bytes / element_bytes[k->type];
    *out = (struct collective_result){0};
    if (k->is_buckets) {
        struct bucket_options o = {.elements = n,
                                   .element_bytes = element_bytes[k->type],
                                   .bucket_bytes = b->bucket_bytes,
                                   .threaded = true};
        TRY(bucket_open(b->comm, &o, &b->buckets));
    }
    enum status st = repeat(b, k, n, out);
    bucket_close(b->buckets);
    b->buckets = NULL;
    TRY(st);
    out->bandwidth = (double)bytes / out->times.median;
    out->bus = out->bandwidth * k->bus(b->comm->size);
    return OK;
}
