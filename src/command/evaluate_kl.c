#include "command/evaluate_kl.h"

#include <math.h>
#include <stdio.h>

#include "decode/decoder.h"
#include "mpi/watchdog.h"
#include "score/scorer.h"
#include "util/log.h"
#include "util/mem.h"

/* Rows of logits held at a time, of each model. */
enum { LOGIT_ROWS = 32, MOST_POSITIONS = 512, PROMPTS_AT_ONCE = 32, DECODED_AT_ONCE = 16 };

struct job {
    struct session *session;
    struct rows rows; /* every response */
    struct model *reference;
    struct workspace workspaces[2];
    struct scorer scorers[2]; /* of the model, and of the reference */
    float *logits[2];
    int positions;
    int32_t samples;
    struct ratios ratios; /* given responses' positions, then those of drawn ones */
};

/* Adds the KL at readouts of the scorers' last run. */
static enum status count_readouts(struct job *job, const struct response_score *score) {
    const struct forest *f = &job->scorers[0].forest;
    int64_t vocabulary = job->session->model->config.vocabulary;
    int64_t n = score->tokens < job->positions ? score->tokens : job->positions;
    for (int64_t first = 0; first < n; first += LOGIT_ROWS) {
        int32_t count = (int32_t)(n - first < LOGIT_ROWS ? n - first : LOGIT_ROWS);
        const int32_t *at = f->readout_at + score->first + first;
        for (int i = 0; i < 2; i++) {
            TRY(pass_logits(job->scorers[i].pass, at, count, job->logits[i]));
        }
        for (int32_t i = 0; i < count; i++) {
            struct logits p, q;
            TRY(logits_open(job->logits[0] + i * vocabulary, vocabulary, &p));
            TRY(logits_open(job->logits[1] + i * vocabulary, vocabulary, &q));
            ratios_count(&job->ratios, (int)first + i, logits_kl(&p, &q), 1);
        }
    }
    return OK;
}

static enum status count_given(struct job *job, const struct sample *sample) {
    for (int i = 0; i < 2; i++) {
        TRY(scorer_run(&job->scorers[i], sample, 1));
    }
    for (int32_t j = 0; j < sample->n_responses; j++) {
        if (count_readouts(job, &job->scorers[0].scores[j]) != OK) {
            return note("reading row %lld", (long long)sample->row);
        }
    }
    return OK;
}

/* The prompt of a row, and whether the row is its first. */
static enum status prompt_of(struct job *job, const struct sample *sample, int64_t *prompt, bool *is_first) {
    struct response response;
    int64_t first, count;
    TRY(dataset_response(job->rows.data, sample->responses[0].id, &response));
    TRY(dataset_prompt_responses(job->rows.data, response.prompt, &first, &count));
    *prompt = response.prompt;
    *is_first = first == response.id;
    return OK;
}

/* Local. Responses drawn at temperature 1, until an end token of the data or the model. */
static enum status decode(struct job *job, struct decoder *d, const struct sample *samples, int64_t n) {
    int64_t responses = n * job->samples;
    struct prompt *prompts = NULL;
    struct response_tokens *out = NULL;
    int32_t *tokens = NULL;
    struct token_numbers *numbers = NULL;
    enum status st = NEW_ARRAY(prompts, responses);
    st = st == OK ? NEW_ARRAY(out, responses) : st;
    st = st == OK ? NEW_ARRAY(tokens, responses * job->positions) : st;
    TRY_TO(done, st == OK ? NEW_ARRAY(numbers, responses * job->positions) : st);
    int64_t asked = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t prompt;
        bool is_first;
        TRY_TO(done, prompt_of(job, &samples[i], &prompt, &is_first));
        int32_t wanted = is_first && samples[i].prompt_count > 0 ? job->samples : 0;
        for (int32_t k = 0; k < wanted; k++, asked++) {
            prompts[asked] = (struct prompt){
                .row = prompt, .sample = k, .tokens = samples[i].prompt, .count = samples[i].prompt_count};
            out[asked] = (struct response_tokens){.tokens = tokens + asked * job->positions,
                                                  .numbers = numbers + asked * job->positions};
        }
    }
    TRY_TO(done, decoder_run(d, prompts, asked, out, NULL, NULL));
    for (int64_t i = 0; i < asked; i++) {
        for (int32_t t = 0; t < out[i].count; t++) {
            ratios_count(&job->ratios, job->positions + t, out[i].numbers[t].kl, 1);
        }
        ratios_end_row(&job->ratios, prompts[i].row);
        st = out[i].broken ? ERR_DATA : st;
    }
done:
    mem_free(prompts);
    mem_free(out);
    mem_free(tokens);
    mem_free(numbers);
    return st;
}

static enum status run_given(struct job *job, struct range part) {
    struct session *s = job->session;
    int64_t logits;
    int n;
    TRY(size_mul(LOGIT_ROWS, s->model->config.vocabulary, "logits", &logits));
    TRY(to_int(job->rows.longest, "tokens of a prompt and its responses", &n));
    for (int i = 0; i < 2; i++) {
        struct model *m = i == 0 ? s->model : job->reference;
        int64_t bytes;
        TRY(NEW_ARRAY(job->logits[i], logits));
        TRY(pass_bytes(&m->config, &m->backend->caps, KEEP_NOTHING, n, n > LOGIT_ROWS ? n : LOGIT_ROWS,
                       &bytes));
        TRY(workspace_open(m->backend, bytes + logits * (int64_t)sizeof(float), &job->workspaces[i]));
        TRY(scorer_open(m, &job->workspaces[i], KEEP_NOTHING, &job->scorers[i]));
    }
    for (int64_t row = part.first; row < part.last; row++) {
        struct sample *sample = NULL;
        TRY(view_read_range(job->rows.view, (struct range){row, row + 1}, &sample, NULL));
        int64_t prompt = 0;
        bool is_first;
        enum status st = count_given(job, sample);
        st = st == OK ? prompt_of(job, sample, &prompt, &is_first) : st;
        ratios_end_row(&job->ratios, prompt);
        samples_free(sample);
        TRY(st);
    }
    return OK;
}

static enum status run_sampled(struct job *job, struct range part) {
    struct session *s = job->session;
    const int32_t ends[] = {dataset_facts(job->rows.data)->end_id, s->model->config.end_id};
    struct decoder_options o = {.sampling = {.temperature = 1, .top_p = 1},
                                .voices = {[VOICE_REFERENCE] = job->reference},
                                .seed = (uint64_t)s->settings->seed,
                                .sequences = DECODED_AT_ONCE,
                                .max_prompt = (int32_t)job->rows.longest,
                                .max_new_tokens = job->positions,
                                .stops = ends,
                                .n_stops = COUNT_OF(ends)};
    struct workspace w = {0};
    struct decoder *d = NULL;
    int64_t bytes;
    enum status st;
    if (job->samples == 0) {
        return OK;
    }
    TRY_TO(done, decoder_bytes(&s->model->config, &s->backend->caps, &o, &bytes));
    TRY_TO(done, workspace_open(s->backend, bytes, &w));
    TRY_TO(done, decoder_open(s->model, &w, &o, &d));
    for (int64_t row = part.first; row < part.last; row += PROMPTS_AT_ONCE) {
        struct range rows = range_block(part, row, PROMPTS_AT_ONCE);
        struct sample *samples = NULL;
        TRY_TO(done, view_read_range(job->rows.view, rows, &samples, NULL));
        st = decode(job, d, samples, rows.last - rows.first);
        samples_free(samples);
        TRY_TO(done, st);
    }
done:
    decoder_close(d);
    workspace_close(&w);
    return st;
}

/* Positions 1, 2, 4, … and the last that there is. */
static void log_table(const struct job *job) {
    const struct ratios *r = &job->ratios;
    int last = job->positions;
    while (last > 1 && ratios_rows(r, last - 1) == 0 && ratios_rows(r, job->positions + last - 1) == 0) {
        last--;
    }
    log_root(LOG_INFO,
             "KL(model || reference) by position of the response\n  position      given    sampled");
    for (int p = 1; p <= last; p = p < last && 2 * p > last ? last : 2 * p) {
        log_root(LOG_INFO, "  %8d %10.5f %10.5f", p, ratios_value(r, p - 1),
                 ratios_value(r, job->positions + p - 1));
    }
}

static enum status print(const struct job *job, struct text *out) {
    static const char *const keys[] = {"kl", "responses"};
    char words[MOST_POSITIONS][8];
    const char *names[MOST_POSITIONS];
    for (int p = 0; p < job->positions; p++) {
        snprintf(words[p], sizeof words[p], "%d", p + 1);
        names[p] = words[p];
    }
    struct ratios_group group = {
        .name = "kl_given", .first = 0, .n = job->positions, .names = names, .keys = keys};
    TRY(ratios_put_group(&job->ratios, &group, out));
    group.name = "kl_sampled";
    group.first = job->positions;
    return job->samples > 0 ? ratios_put_group(&job->ratios, &group, out) : OK;
}

static enum status open_all(struct job *job, const struct interval_options *intervals) {
    struct session *s = job->session;
    const struct other_model reference = session_reference_of(s->settings->reference, IDS_ALL);
    const struct rows_request request = {.path = s->settings->data,
                                         .key = "data",
                                         .kind = ROWS_RESPONSES,
                                         .split = (enum data_split)s->settings->split,
                                         .limit = s->settings->evaluate.rows};
    job->positions = (int)s->settings->evaluate.kl_positions;
    job->samples = (int32_t)s->settings->evaluate.kl_samples;
    TRY(session_open_rows(s, &request, &job->rows));
    TRY(session_open_other(s, &reference, &job->reference, NULL));
    return comm_agree(s->comm, ratios_open(intervals, 2 * job->positions, &job->ratios));
}

enum status evaluate_kl(struct session *s, const struct interval_options *intervals, struct text *out) {
    struct job job = {.session = s};
    enum status st;
    TRY_TO(done, open_all(&job, intervals));
    watchdog_phase(s->comm->watchdog, "comparing with the reference, position by position");
    struct range part = range_part(job.rows.n, s->comm->rank, s->comm->size);
    st = run_given(&job, part);
    st = st == OK ? run_sampled(&job, part) : st;
    TRY_TO(done, comm_agree(s->comm, st));
    TRY_TO(done, ratios_reduce(s->comm, &job.ratios));
    log_table(&job);
    st = comm_agree(s->comm, print(&job, out));
done:
    for (int i = 0; i < 2; i++) {
        scorer_close(&job.scorers[i]);
        workspace_close(&job.workspaces[i]);
        mem_free(job.logits[i]);
    }
    ratios_close(&job.ratios);
    rows_close(&job.rows);
    model_close(job.reference);
    return st;
}
