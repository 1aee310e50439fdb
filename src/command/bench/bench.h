/* What the benchmarks share: the session, peaks measured in the same run, times over ranks, and the
 * table that is printed and, as CSV, written to `output`. */
#ifndef COLLIMATE_COMMAND_BENCH_H
#define COLLIMATE_COMMAND_BENCH_H

#include "command/session.h"
#include "mpi/collectives.h"

struct bench {
    struct session session;
    struct model_config config; /* the shape: settings->model's, or a GPT-NeoX of 70M parameters */
    const char *shape;
    double peak_flops; /* FLOP/s of this rank: the best of multiply-add loops and a square product */
    double peak_fma, peak_product, peak_bytes; /* bytes/s of a triad on the device */
    struct text csv;                           /* rank 0 */
};

/* One row of the CSV; printf-like, without the newline. Local, rank 0 keeps it. */
enum status bench_row(struct bench *b, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Local. FLOP/s of independent fused multiply-adds in fp32 in registers, on `threads` threads. */
double bench_peak_fma(int threads);
/* Local. Bytes per second of reading memory, by all of a back end's threads; 0 where its memory is not the
 * host's. */
enum status bench_peak_read(struct backend *backend, double *bytes_per_s);

/* Local. Numbers of [-0.1, 0.1), a stream of them for each tensor. */
enum status bench_fill(struct backend *b, struct tensor t, int64_t stream);

/* Collective. The tables. */
enum status bench_ops(struct bench *b);
enum status bench_comm(struct bench *b);
enum status bench_step(struct bench *b);
enum status bench_kmeans(struct bench *b);
enum status bench_decode(struct bench *b);
enum status bench_attention(struct bench *b);

#endif
