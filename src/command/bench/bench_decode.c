/* bench.kind=decode: prompts of random tokens, read and gone on from, one batch after another: tokens per
 * second, and what share of the memory bandwidth that was measured in the same run the steps reach. A step
 * reads all weights but the embedding, and the keys and values of every sequence. The processor's time of a
 * step tells a slow step from a machine that has other things to do. */
#include <stdio.h>
#include <time.h>

#include "command/bench/bench.h"
#include "decode/decoder.h"
#include "util/clock.h"
#include "util/mem.h"

static const int batches[] = {1, 4, 16, 64};
enum { MOST_BATCH = 64 };

struct decode_bench {
    struct bench *bench;
    struct model *model;
    int32_t prompt, steps; /* tokens of each prompt, and steps after it */
    int32_t *tokens;       /* MOST_BATCH prompts */
    int32_t *drawn;        /* MOST_BATCH responses */
    bool stops;            /* at the first token */
    double peak_read;      /* bytes/s; 0: not measured, on a device */
};

static bool is_end(void *context, const int32_t *tokens, int32_t count) {
    const struct decode_bench *d = context;
    (void)tokens;
    (void)count;
    return d->stops;
}

struct run_times {
    double seconds, processor;
};

/* A run: of the prompts alone, or with all steps. */
static enum status run_once(struct decode_bench *d, struct decoder *decoder, int batch, bool stops,
                            struct run_times *out) {
    struct prompt prompts[MOST_BATCH];
    struct response_tokens responses[MOST_BATCH];
    for (int i = 0; i < batch; i++) {
        prompts[i] = (struct prompt){.row = i, .tokens = d->tokens + i * d->prompt, .count = d->prompt};
        responses[i] = (struct response_tokens){.tokens = d->drawn + i * (d->steps + 1)};
    }
    d->stops = stops;
    double began = clock_seconds();
    clock_t at = clock();
    TRY(decoder_run(decoder, prompts, batch, responses, NULL, NULL));
    out->processor = (double)(clock() - at) / CLOCKS_PER_SEC;
    out->seconds = clock_seconds() - began;
    return OK;
}

/* Bytes that a step of this many sequences reads, half of its steps done. */
static double bytes_of_step(const struct decode_bench *d, int batch) {
    const struct model_config *c = &d->model->config;
    double weights = (double)d->model->base->elements;
    double embedding = (double)c->vocabulary * (double)c->width;
    double context = (double)d->prompt + d->steps / 2.0;
    double cached = 2.0 * (double)c->layers * (double)(c->kv_heads * c->head_dim) * context * batch;
    double of_weights = c->tied ? weights : weights - embedding;
    return (of_weights + cached) * (double)dtype_size(d->model->backend->caps.compute);
}

/* The least of ROUNDS runs of each kind, prompts alone and with steps behind them: what else the machine does
 * only adds to a run, and the difference of two runs would have it twice. */
static enum status time_both(struct decode_bench *d, struct decoder *decoder, int batch,
                             struct run_times *prompts, struct run_times *all) {
    enum { ROUNDS = 3 };
    struct run_times now;
    TRY(run_once(d, decoder, batch, true, &now)); /* warm */
    for (int i = 0; i < ROUNDS; i++) {
        TRY(run_once(d, decoder, batch, true, &now));
        *prompts = i == 0 || now.seconds < prompts->seconds ? now : *prompts;
        TRY(run_once(d, decoder, batch, false, &now));
        *all = i == 0 || now.seconds < all->seconds ? now : *all;
    }
    return OK;
}

/* A batch's line, and its row of the CSV. */
static enum status show_batch(const struct decode_bench *d, int batch, const struct run_times *prompts,
                              const struct run_times *all) {
    struct bench *b = d->bench;
    double step = (all->seconds - prompts->seconds) / d->steps;
    double processor = (all->processor - prompts->processor) / d->steps;
    double of_prompts = (double)batch * d->prompt / prompts->seconds;
    if (step <= 0) {
        printf("%8d %16.1f   steps too short to be measured: more bench.repeats\n", batch, of_prompts);
        return bench_row(b, "%d,%d,%.6g,,,,,", batch, d->prompt, of_prompts);
    }
    double rate = bytes_of_step(d, batch) / step, share = rate / b->peak_bytes;
    char of_read[32] = "-", read_field[32] = "";
    if (d->peak_read > 0) {
        snprintf(of_read, sizeof of_read, "%.1f %%", 100 * rate / d->peak_read);
        snprintf(read_field, sizeof read_field, "%.4f", rate / d->peak_read);
    }
    printf("%8d %16.1f %11.2f %14.2f %14.1f %14.1f %% %16s\n", batch, of_prompts, 1e3 * step, 1e3 * processor,
           batch / step, 100 * share, of_read);
    return bench_row(b, "%d,%d,%.6g,%.6g,%.6g,%.6g,%.4f,%s", batch, d->prompt, of_prompts, step, processor,
                     batch / step, share, read_field);
}

static enum status run_batch(struct decode_bench *d, int batch) {
    const struct decoder_options o = {.sampling = {.temperature = 1, .top_p = 1},
                                      .sequences = batch,
                                      .max_prompt = d->prompt,
                                      .max_new_tokens = d->steps + 1,
                                      .is_end = is_end,
                                      .end_context = d};
    struct workspace w = {0};
    struct decoder *decoder = NULL;
    int64_t bytes;
    struct run_times all = {0}, prompts = {0};
    enum status st;
    TRY_TO(done, decoder_bytes(&d->model->config, &d->model->backend->caps, &o, &bytes));
    TRY_TO(done, workspace_open(d->model->backend, bytes, &w));
    TRY_TO(done, decoder_open(d->model, &w, &o, &decoder));
    TRY_TO(done, time_both(d, decoder, batch, &prompts, &all));
    st = d->bench->session.comm->rank == 0 ? show_batch(d, batch, &prompts, &all) : OK;
done:
    decoder_close(decoder);
    workspace_close(&w);
    return st;
}

static enum status open_all(struct decode_bench *d) {
    const struct settings *s = d->bench->session.settings;
    TRY(model_open(d->bench->session.backend, &d->bench->config, &d->model));
    TRY(arena_initialize(d->model->base, (uint64_t)s->seed));
    TRY(NEW_ARRAY(d->tokens, (int64_t)MOST_BATCH * d->prompt));
    for (int64_t i = 0; i < (int64_t)MOST_BATCH * d->prompt; i++) {
        struct rng r = rng_stream((uint64_t)s->seed, RNG_BENCH, i, 0);
        d->tokens[i] = (int32_t)rng_below(&r, d->model->config.vocabulary);
    }
    return NEW_ARRAY(d->drawn, (int64_t)MOST_BATCH * (d->steps + 1));
}

enum status bench_decode(struct bench *bench) {
    const struct settings *s = bench->session.settings;
    struct comm *c = bench->session.comm;
    struct decode_bench d = {
        .bench = bench, .prompt = (int32_t)s->bench.tokens, .steps = (int32_t)s->bench.repeats};
    enum status st = bench_peak_read(bench->session.backend, &d.peak_read);
    st = st == OK ? open_all(&d) : st;
    if (st == OK && c->rank == 0) {
        if (d.peak_read > 0) {
            printf("# reading alone %.1f GB/s\n", d.peak_read / 1e9);
        }
        printf("#  batch  prompt tokens/s     step/ms  processor/ms       tokens/s  share of triad  share of "
               "reading\n");
        st = bench_row(bench, "batch,prompt,prompt_tokens_s,step_s,processor_s,tokens_s,share_of_triad,"
                              "share_of_reading");
    }
    st = comm_agree(c, st);
    int one = (int)s->bench.sequences, n = one > 0 ? 1 : COUNT_OF(batches);
    for (int i = 0; i < n && st == OK; i++) {
        st = comm_agree(c, run_batch(&d, one > 0 ? one : batches[i]));
    }
    mem_free(d.tokens);
    mem_free(d.drawn);
    model_close(d.model);
    return st;
}
