/* bench: what this machine does, beside the peak that it shows in the same run. */
#include "command/bench/bench.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "command/deliver.h"
#include "store/model_source.h"
#include "train/speed.h"
#include "util/clock.h"
#include "util/log.h"

static const char default_shape[] =
    "{\"architectures\": [\"GPTNeoXForCausalLM\"], \"model_type\": \"gpt_neox\", \"hidden_size\": 512,"
    " \"num_hidden_layers\": 6, \"num_attention_heads\": 8, \"intermediate_size\": 2048,"
    " \"vocab_size\": 50304, \"max_position_embeddings\": 2048, \"rotary_pct\": 0.25,"
    " \"rotary_emb_base\": 10000, \"layer_norm_eps\": 1e-05, \"hidden_act\": \"gelu\","
    " \"use_parallel_residual\": true, \"tie_word_embeddings\": false, \"initializer_range\": 0.02}";

enum status bench_row(struct bench *b, const char *format, ...) {
    char line[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    return text_printf(&b->csv, "%s\n", line);
}

/* settings->model: a model folder or a config.json; only the shape is read. */
static enum status read_shape(struct bench *b) {
    const char *given = b->session.settings->model;
    if (!*given) {
        b->shape = "gpt-neox-70m";
        return model_config_parse(default_shape, strlen(default_shape), "built-in shape", &b->config);
    }
    b->shape = given;
    return model_source_shape(given, &b->config);
}

/* Read, add, write on arrays of n elements. */
static enum status triad_at(struct backend *backend, int64_t n, double *bytes_per_s) {
    enum { REPEATS = 5 };
    enum dtype type = backend->caps.master;
    struct tensor t[2];
    void *data[2] = {0};
    double best = 0;
    enum status st = OK;
    for (int i = 0; i < 2; i++) {
        TRY_TO(done, backend_alloc(backend, n * dtype_size(type), &data[i]));
        t[i] = tensor_at(data[i], 1, n, type);
        TRY_TO(done, backend_zero_tensor(backend, t[i]));
    }
    for (int i = 0; i < REPEATS; i++) {
        double began = clock_seconds();
        TRY_TO(done, backend_add(backend, t[0], 1, t[1]));
        TRY_TO(done, backend_sync(backend));
        double rate = 3.0 * (double)n * (double)dtype_size(type) / (clock_seconds() - began);
        best = rate > best ? rate : best;
    }
    *bytes_per_s = best;
done:
    backend_free(backend, data[0]);
    backend_free(backend, data[1]);
    return st;
}

/* On arrays far larger than any cache; on a device that is done with those in a millisecond, than its caches.
 */
static enum status measure_triad(struct backend *backend, double *bytes_per_s) {
    enum { FEW = 16 << 20, MANY = 256 << 20 };
    double more = 0;
    TRY(triad_at(backend, FEW, bytes_per_s));
    if (3.0 * FEW * (double)dtype_size(backend->caps.master) / *bytes_per_s < 1e-3) {
        TRY(triad_at(backend, MANY, &more));
    }
    *bytes_per_s = more > *bytes_per_s ? more : *bytes_per_s;
    return OK;
}

/* All ranks at once, as they work. */
static enum status measure_peaks(struct bench *b) {
    struct backend *backend = b->session.backend;
    TRY(speed_gemm(backend, SPEED_USUAL_S, &b->peak_product));
    bool is_cpu = strncmp(backend->caps.name, "cpu", 3) == 0;
    b->peak_fma = is_cpu ? bench_peak_fma(backend->caps.threads) : 0;
    b->peak_flops = b->peak_fma > b->peak_product ? b->peak_fma : b->peak_product;
    return measure_triad(backend, &b->peak_bytes);
}

static enum status run_device(struct bench *b, enum status (*table)(struct bench *b)) {
    struct session *s = &b->session;
    TRY(session_open_backend(s, NULL, s->settings->train.deterministic));
    TRY(comm_barrier(s->comm));
    TRY(comm_agree(s->comm, measure_peaks(b)));
    if (s->comm->rank == 0) {
        printf("# %s; shape %s; %d ranks with %d threads each\n"
               "# peaks of rank 0: multiply-add %.1f GFLOP/s, product %.1f GFLOP/s, triad %.1f GB/s\n",
               s->backend->caps.description, b->shape, s->comm->size, s->backend->caps.threads,
               b->peak_fma / 1e9, b->peak_product / 1e9, b->peak_bytes / 1e9);
    }
    return table(b);
}

enum status command_bench(struct run *run) {
    enum { KIND_OPS, KIND_COMM, KIND_STEP, KIND_KMEANS, KIND_DECODE, KIND_ATTENTION };
    struct bench b = {0};
    const struct settings *settings = run->settings;
    session_open(run, &b.session);
    enum status st = comm_agree(run->comm, read_shape(&b));
    if (st == OK && run->dry_run) {
        log_root(LOG_INFO, "bench: shape %s, %lld repetitions", b.shape, (long long)settings->bench.repeats);
    } else if (st == OK && settings->bench.kind == KIND_COMM) {
        st = bench_comm(&b);
    } else if (st == OK && settings->bench.kind == KIND_KMEANS) {
        st = bench_kmeans(&b);
    } else if (st == OK) {
        st = run_device(&b, settings->bench.kind == KIND_OPS         ? bench_ops
                            : settings->bench.kind == KIND_DECODE    ? bench_decode
                            : settings->bench.kind == KIND_ATTENTION ? bench_attention
                                                                     : bench_step);
    }
    if (st == OK && !run->dry_run) {
        if (run->comm->rank == 0 && *settings->output) {
            st = deliver_text(settings->output, &b.csv);
        }
        st = comm_agree(run->comm, st);
    }
    text_free(&b.csv);
    session_close(&b.session);
    return st;
}
