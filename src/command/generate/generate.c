/* generate: responses to each prompt of a preference file, as JSON Lines in row order.
 *
 * Rows are dealt to the ranks in rounds of consecutive rows, so output is written as it comes and no rank
 * holds more than its share of a round; neither the rank count nor the batch changes a byte of it. With
 * generate.save each round is kept beside the file that it becomes, and a run that ended before goes on from
 * there.
 */
#include <stdio.h>

#include "command/generate/generate.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/mem.h"

/* Responses of a rank in a round, for each of its sequences: the end of a round leaves sequences idle. */
enum { ROUNDS_PER_SEQUENCE = 16 };

/* A rank's prompts of a round, and the responses to them: samples of each side by side. */
struct share {
    int64_t n;
    int32_t *tokens; /* prompts, longest apart */
    struct prompt *prompts;
    int32_t *generated; /* max_new_tokens apart */
    struct token_numbers *numbers;
    struct response_tokens *responses;
    double *rewards;
};

static void share_free(struct share *s) {
    mem_free(s->tokens);
    mem_free(s->prompts);
    mem_free(s->generated);
    mem_free(s->numbers);
    mem_free(s->responses);
    mem_free(s->rewards);
    *s = (struct share){0};
}

static double mebibytes(int64_t bytes) {
    return (double)bytes / (1 << 20);
}

static int64_t weight_bytes(const struct model *m) {
    return m->base->elements * dtype_size(m->backend->caps.master);
}

static enum status predict(struct generation *g) {
    struct text resolved = {0};
    int64_t bytes = 0, parameters = 0, other;
    const struct model *m = g->session.model;
    enum status st = OK;
    for (int v = 0; v < VOICES && st == OK; v++) {
        const struct model *voice = v == VOICE_POLICY ? m : g->voices[v];
        if (voice) {
            st = decoder_bytes(&voice->config, &voice->backend->caps, &g->options, &other);
            bytes += other;
            parameters += v == VOICE_POLICY || voice != m ? weight_bytes(voice) : 0;
        }
    }
    parameters += g->judge ? weight_bytes(g->judge) : 0;
    if (st == OK) {
        st = options_print(g->session.run->options, false, &resolved);
    }
    if (st == OK && g->session.comm->rank == 0) {
        printf("%sprompts %lld, the longest of %d tokens\nmemory per rank (MiB)\n  parameters %10.1f\n"
               "  cache      %10.1f  %d sequences of up to %d tokens\n",
               resolved.data, (long long)g->n, g->longest, mebibytes(parameters), mebibytes(bytes),
               g->options.sequences, g->longest + g->options.max_new_tokens);
    }
    text_free(&resolved);
    return comm_agree(g->session.comm, st);
}

static enum status open_decoder(struct generation *g) {
    struct session *s = &g->session;
    int64_t bytes;
    g->options.is_end = g->strings.n > 0 ? generate_is_end : NULL;
    g->options.end_context = &g->strings;
    for (int v = 0; v < VOICES; v++) {
        g->options.voices[v] = g->voices[v];
    }
    TRY(decoder_bytes(&s->model->config, &s->backend->caps, &g->options, &bytes));
    TRY(workspace_open(s->backend, bytes, &s->workspace));
    return decoder_open(s->model, &s->workspace, &g->options, &g->decoder);
}

static enum status share_open(const struct generation *g, int64_t n, struct share *s) {
    int64_t prompt_tokens, new_tokens, responses;
    s->n = n;
    TRY(size_mul(n, g->longest, "prompt tokens", &prompt_tokens));
    TRY(size_mul(n, g->samples, "responses", &responses));
    TRY(size_mul(responses, g->options.max_new_tokens, "new tokens", &new_tokens));
    TRY(NEW_ARRAY(s->tokens, prompt_tokens));
    TRY(NEW_ARRAY(s->prompts, responses));
    TRY(NEW_ARRAY(s->generated, new_tokens));
    TRY(NEW_ARRAY(s->numbers, new_tokens));
    TRY(NEW_ARRAY(s->rewards, responses));
    return NEW_ARRAY(s->responses, responses);
}

enum status generate_prompt_ids(struct generation *g, int64_t row, int32_t *ids, int64_t *count) {
    int64_t first;
    TRY(generate_prompt_span(g, row, &first, count));
    if (*count == 0) {
        ids[0] = generate_first_token(g);
        *count = 1;
        return OK;
    }
    return dataset_prompt_tokens(g->data, first, *count, ids);
}

static enum status share_read(struct generation *g, const int64_t *rows, int32_t user, struct share *s) {
    for (int64_t i = 0; i < s->n; i++) {
        int32_t *tokens = s->tokens + i * g->longest;
        int64_t count;
        TRY(generate_prompt_ids(g, rows[i], tokens, &count));
        for (int32_t k = 0; k < g->samples; k++) {
            int64_t at = i * g->samples + k;
            s->prompts[at] = (struct prompt){
                .row = rows[i], .sample = k, .condition = user, .tokens = tokens, .count = (int32_t)count};
            s->responses[at] =
                (struct response_tokens){.tokens = s->generated + at * g->options.max_new_tokens,
                                         .numbers = s->numbers + at * g->options.max_new_tokens};
        }
    }
    return OK;
}

static void show_progress(void *context, int64_t done) {
    struct generation *g = context;
    double prompts = (double)(g->done + done) / (double)g->samples / (double)g->n_spoken;
    progress_update(&g->work.progress, prompts * g->session.comm->size, NULL);
}

/* Answers for one value of the rule's parameters. */
static enum status speak(struct generation *g, struct spoken *spoken, const struct share *s) {
    int64_t n = s->n * g->samples;
    decoder_set_rule(g->decoder, &spoken->rule);
    TRY(decoder_run(g->decoder, s->prompts, n, s->responses, show_progress, g));
    g->done += n;
    return OK;
}

/* What is said to a prompt, the i-th of the shares. */
static enum status write_row(struct generation *g, int64_t unit, const struct share *shares, int64_t i,
                             struct text *scratch) {
    struct answers answers[MOST_VALUES];
    size_t begins = g->text.len;
    int64_t first = i * g->samples;
    for (int v = 0; v < g->n_spoken; v++) {
        answers[v] = (struct answers){.row = shares[v].prompts[first].row,
                                      .prompt = &shares[v].prompts[first],
                                      .responses = &shares[v].responses[first],
                                      .rewards = g->judge ? &shares[v].rewards[first] : NULL,
                                      .spoken = &g->spoken[v]};
        TRY(g->judge ? generate_judge(g, &answers[v]) : OK);
        TRY(generate_lines(g, &answers[v], scratch));
    }
    return generate_drawn_add(g, unit, answers, g->text.data + begins, g->text.len - begins);
}

static enum status generate_rows(void *context, const int64_t *at, int64_t n) {
    struct generation *g = context;
    struct share *shares = NULL;
    struct text scratch = {0};
    int64_t *rows; /* prompts */
    enum status st = NEW_ARRAY(rows, n);
    text_clear(&g->text);
    TRY_TO(done, st);
    for (int64_t i = 0; i < n; i++) {
        rows[i] = generate_prompt_at(g, at[i]);
    }
    TRY_TO(done, NEW_ARRAY(shares, g->n_spoken));
    for (int v = 0; v < g->n_spoken; v++) {
        TRY_TO(done, share_open(g, n, &shares[v]));
        TRY_TO(done, share_read(g, rows, g->spoken[v].user, &shares[v]));
        TRY_TO(done, speak(g, &g->spoken[v], &shares[v]));
    }
    for (int64_t i = 0; i < n; i++) {
        TRY_TO(done, write_row(g, at[i], shares, i, &scratch));
    }
done:
    for (int v = 0; shares && v < g->n_spoken; v++) {
        share_free(&shares[v]);
    }
    mem_free(shares);
    mem_free(rows);
    text_free(&scratch);
    return st;
}

static enum status write_rows(void *context) {
    struct generation *g = context;
    TRY(generate_drawn_write(g)); /* first, so that it is kept where the output cannot be written */
    return ordered_append(g->file, OK, g->text.data ? g->text.data : "", g->text.len);
}

static int64_t round_of(const struct generation *g) {
    int64_t round = (int64_t)g->options.sequences * ROUNDS_PER_SEQUENCE / g->samples;
    round = (round > 0 ? round : 1) * g->session.comm->size;
    return round > g->n ? g->n : round;
}

/* Collective. All rounds, behind those of an earlier run. */
static enum status run_rounds(struct generation *g) {
    bool is_saved = *g->session.settings->generate.save != '\0';
    char all[40];
    snprintf(all, sizeof all, " of %lld", (long long)g->n);
    TRY(ordered_open(g->session.comm, g->session.settings->output, &g->file));
    TRY(generate_drawn_open(g));
    TRY(ordered_append(g->file, OK, g->text.data ? g->text.data : "", g->text.len));
    g->work = (struct work){
        .context = g,
        .label = "generate",
        .unit = "prompts",
        .phase = "generating from prompt",
        .n = g->n,
        .round = round_of(g),
        .is_missing = is_saved ? generate_drawn_is_missing : NULL,
        .compute = generate_rows,
        .write = write_rows,
        .stopped = {is_saved ? "prompt " : NULL, all},
    };
    TRY(work_run(g->session.comm, &g->work));
    struct ordered_file *file = g->file;
    g->file = NULL;
    return ordered_finish(file);
}

static enum status run_all(struct generation *g) {
    double start = clock_seconds();
    int64_t counts[3] = {0};
    TRY(run_rounds(g));
    TRY(*g->session.settings->generate.save ? generate_save_write(g) : OK);
    TRY(generate_report(g, counts));
    double seconds = clock_seconds() - start;
    log_root(LOG_INFO,
             "%lld responses, %lld tokens (%lld responses ended by themselves), %.1f s, %.0f tokens/s",
             (long long)counts[0], (long long)counts[1], (long long)counts[2], seconds,
             (double)counts[1] / (seconds > 0 ? seconds : 1));
    return OK;
}

static enum status open_all(struct generation *g) {
    struct run *run = g->session.run;
    struct session *s = &g->session;
    TRY(session_need(run->settings->data, "data"));
    TRY(session_need(run->settings->model, "model"));
    TRY(comm_agree(run->comm, generate_read_rule(g)));
    TRY(session_open_backend(s, NULL, true));
    TRY(session_open_model(s));
    TRY(session_need_head(s->model, run->settings->model, HEAD_LANGUAGE));
    TRY(generate_open_users(g));
    TRY(generate_open_voices(g));
    TRY(session_open_data(s, run->settings->data, (enum data_split)run->settings->split, &g->data));
    return generate_look(g);
}

enum status command_generate(struct run *run) {
    struct generation g = {0};
    enum status st;
    session_open(run, &g.session);
    TRY_TO(done, open_all(&g));
    if (run->dry_run) {
        TRY_TO(done, predict(&g));
        goto done;
    }
    TRY_TO(done, comm_agree(run->comm, open_decoder(&g)));
    TRY_TO(done, run_all(&g));
done:
    ordered_abandon(g.file);
    mem_free(g.barred);
    mem_free(g.chosen);
    text_free(&g.text);
    text_free(&g.strings.scratch);
    for (int i = 0; i < g.strings.n; i++) {
        mem_free(g.strings.list[i]);
    }
    decoder_close(g.decoder);
    generate_save_free(&g.saved);
    generate_drawn_close(&g.drawn);
    generate_close_alpaca(&g.alpaca);
    generate_close_voices(&g);
    contexts_close(&g.contexts);
    if (g.data) {
        dataset_close(g.data);
    }
    session_close(&g.session);
    return st;
}
