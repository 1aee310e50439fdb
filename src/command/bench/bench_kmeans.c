/* bench.kind=kmeans: a balanced half of synthetic rows, as `select` takes it: k-means from given centers,
 * then equal quotas over the clusters.
 *
 * Row i is that of one of 1000 hidden centers (drawn by a hash of i) plus uniform noise as wide as the
 * centers lie apart, all by a hash of (row, column), so that another program can make the same floats
 * (benchmarks/peers/kmeans.py). With bench.decay the columns have a spectrum that falls. The first centers
 * are rows 0, n/k, 2n/k, …. Where rows are not kept in memory (bench.memory_mib), they lie in a scratch file.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "command/bench/bench.h"
#include "select/balanced.h"
#include "select/kmeans.h"
#include "util/clock.h"
#include "util/mem.h"

enum { HIDDEN = 1000, BLOCK = 1024 };

struct kmeans_bench {
    struct bench *bench;
    struct comm *comm;
    int64_t n, width, clusters;
    struct range mine;
    FILE *scratch; /* this rank's rows */
    float *scale;  /* of each column */
    float *initial;
    struct kmeans_result result;
};

/* The finalizer of splitmix64 (Steele et al. 2014). */
static uint64_t mixed(uint64_t x) {
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* In [-1, 1), a multiple of 2^-23. */
static float uniform(uint64_t index) {
    return (float)((double)(mixed(index * 0x9e3779b97f4a7c15u) >> 40) * 0x1p-23 - 1);
}

static void make_row(const struct kmeans_bench *b, int64_t row, float *out) {
    int64_t width = b->width;
    uint64_t center = mixed((uint64_t)row + 1) % HIDDEN;
    uint64_t centers_at = (uint64_t)1 << 48;
    for (int64_t d = 0; d < width; d++) {
        out[d] = uniform((uint64_t)(row * width + d)) +
                 0.5f * uniform(centers_at + center * (uint64_t)width + (uint64_t)d);
        out[d] *= b->scale[d];
    }
}

static enum status read_rows(void *context, int64_t first, int64_t count, float *out) {
    struct kmeans_bench *b = context;
    size_t row_bytes = (size_t)b->width * sizeof *out;
    if (fseek(b->scratch, (first - b->mine.first) * (long)row_bytes, SEEK_SET) != 0 ||
        fread(out, row_bytes, (size_t)count, b->scratch) != (size_t)count) {
        return fail(ERR_SYSTEM, "bench: the scratch file cannot be read");
    }
    return OK;
}

static enum status write_rows(struct kmeans_bench *b) {
    float *block;
    TRY(NEW_ARRAY(block, BLOCK * b->width));
    b->scratch = tmpfile();
    enum status st = b->scratch ? OK : fail(ERR_WRITE, "bench: no scratch file can be made");
    for (int64_t first = b->mine.first; first < b->mine.last && st == OK; first += BLOCK) {
        int64_t n = b->mine.last - first < BLOCK ? b->mine.last - first : BLOCK;
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < n; i++) {
            make_row(b, first + i, block + i * b->width);
        }
        if (fwrite(block, (size_t)b->width * sizeof *block, (size_t)n, b->scratch) != (size_t)n) {
            st = fail(ERR_WRITE, "bench: the scratch file cannot be written");
        }
    }
    mem_free(block);
    return st;
}

/* Half of the rows. */
static enum status take_half(struct kmeans_bench *b, double *seconds) {
    const struct kmeans_result *r = &b->result;
    int64_t n = b->mine.last - b->mine.first;
    bool *skip = NULL;
    bool *taken = NULL;
    int64_t *quota = NULL;
    enum status st = NEW_ARRAY(skip, n);
    st = st == OK ? NEW_ARRAY(taken, n) : st;
    st = st == OK ? NEW_ARRAY(quota, b->clusters) : st;
    TRY_TO(done, comm_agree(b->comm, st));
    const struct clustered rows = {
        .n = n, .clusters = b->clusters, .cluster = r->assignment, .distance = r->distance, .skip = skip};
    double start = clock_seconds();
    TRY_TO(done, balanced_select(b->comm, &rows, b->n / 2, taken, quota));
    *seconds = clock_seconds() - start;
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++) {
        count += taken[i];
    }
    TRY_TO(done, comm_sum_i64(b->comm, &count, 1));
    if (count != b->n / 2) {
        st = fail(ERR_INTERNAL, "bench: %lld rows selected", (long long)count);
    }
done:
    mem_free(skip);
    mem_free(taken);
    mem_free(quota);
    return st;
}

static enum status report(struct kmeans_bench *b, double seconds, double select_s) {
    const struct kmeans_result *r = &b->result;
    int64_t n = b->mine.last - b->mine.first;
    double objective = 0;
    int threads = b->bench->session.backend->caps.threads;
    int64_t resident = mem_peak_resident();
    for (int64_t i = 0; i < n; i++) {
        objective += r->distance[i];
    }
    TRY(comm_sum_f64(b->comm, &objective, 1));
    TRY(comm_max_i64(b->comm, &resident, 1));
    double pass_s = seconds / (double)(r->iterations + 1); /* the last assigns to the final centers */
    double mib = (double)resident / (1 << 20);
    if (b->comm->rank == 0) {
        printf(
            "%lld rows of %lld, %lld clusters, %d ranks with %d threads\n"
            "%lld iterations and an assignment in %.3f s, %.4f s each; %.1f %% of the distances were spared\n"
            "objective %.8g; balanced half in %.3f s; peak memory of a rank %.0f MiB\n",
            (long long)b->n, (long long)b->width, (long long)b->clusters, b->comm->size, threads,
            (long long)r->iterations, seconds, pass_s, 100 * (1 - r->looked), objective, select_s, mib);
    }
    TRY(bench_row(b->bench, "rows,width,clusters,ranks,threads,iterations,seconds,pass_seconds,objective,"
                            "spared,select_seconds,peak_mib"));
    return bench_row(b->bench, "%lld,%lld,%lld,%d,%d,%lld,%.6f,%.6f,%.9g,%.4f,%.6f,%.1f", (long long)b->n,
                     (long long)b->width, (long long)b->clusters, b->comm->size, threads,
                     (long long)r->iterations, seconds, pass_s, objective, 1 - r->looked, select_s, mib);
}

static enum status run(struct kmeans_bench *b) {
    const struct settings *s = b->bench->session.settings;
    const struct vectors rows = {
        .n = b->n, .width = b->width, .range = b->mine, .read = read_rows, .context = b};
    const struct kmeans_options options = {.clusters = b->clusters,
                                           .iterations = s->bench.iterations,
                                           .pruning = (enum kmeans_pruning)s->bench.pruning,
                                           .initial = b->initial,
                                           .memory_bytes = s->bench.memory_mib << 20};
    double select_s = 0;
    TRY(comm_agree(b->comm, write_rows(b)));
    TRY(comm_barrier(b->comm));
    TRY(kmeans_run(b->comm, b->bench->session.backend, &rows, &options, &b->result));
    double seconds = b->result.seconds;
    TRY(take_half(b, &select_s));
    return report(b, seconds, select_s);
}

enum status bench_kmeans(struct bench *bench) {
    struct session *session = &bench->session;
    const struct settings *s = session->settings;
    struct kmeans_bench b = {.bench = bench,
                             .comm = session->comm,
                             .n = s->bench.rows,
                             .width = s->bench.width,
                             .clusters = s->bench.clusters};
    if (b.clusters > b.n) {
        return fail(ERR_USAGE, "bench.clusters: %lld of %lld rows", (long long)b.clusters, (long long)b.n);
    }
    b.mine = vectors_range(b.n, b.comm->rank, b.comm->size);
    TRY(session_open_backend(session, "cpu", true));
    enum status st = NEW_ARRAY(b.initial, b.clusters * b.width);
    st = st == OK ? NEW_ARRAY(b.scale, b.width) : st;
    TRY_TO(done, comm_agree(b.comm, st));
    for (int64_t d = 0; d < b.width; d++) {
        b.scale[d] = (float)pow((double)(d + 1), -s->bench.decay);
    }
    for (int64_t k = 0; k < b.clusters; k++) {
        make_row(&b, k * (b.n / b.clusters), b.initial + k * b.width);
    }
    st = run(&b);
done:
    kmeans_free(&b.result);
    mem_free(b.initial);
    mem_free(b.scale);
    if (b.scratch && fclose(b.scratch) != 0 && st == OK) {
        st = fail(ERR_WRITE, "bench: the scratch file cannot be closed");
    }
    return st;
}
