/* score: log-probabilities (and rewards against a reference), or a reward model's rewards, of every response,
 * in row order. A row is a pair, or where prompts have several pairs, a prompt: each response once.
 *
 * The same bytes for any rank count (score/row_blocks.h): each round is written in order.
 */
#include <math.h>
#include <string.h>

#include "command/session.h"
#include "command/steer_context.h"
#include "data/comparisons.h"
#include "io/ordered.h"
#include "score/row_blocks.h"
#include "score/scorer.h"
#include "util/mem.h"

struct score_job {
    struct session session;
    struct contexts contexts;
    bool is_pairs;
    struct model *reference; /* NULL: none */
    struct workspace reference_workspace;
    struct scorer policy, reference_scorer;
    struct ordered_file *out;
    struct text text; /* of this rank in this round */
};

static enum status put_number(struct text *t, const char *name, double value) {
    TRY(text_printf(t, ", \"%s\": ", name));
    return text_json_number(t, value);
}

/* One response as a JSON line. reference: NULL for none. */
static enum status put_response(const struct score_job *job, const struct sample *sample, int side,
                                const struct response_score *score, const double *reference,
                                struct text *out) {
    const struct settings *settings = job->session.settings;
    if (!isfinite(score->logp) || (reference && !isfinite(*reference))) {
        return fail(ERR_DATA, "score: the log-probability of row %lld, response %lld is not finite",
                    (long long)sample->row, (long long)sample->responses[side].id);
    }
    TRY(text_printf(out, "{\"row\": %lld", (long long)sample->row));
    if (job->is_pairs) {
        TRY(text_printf(out, ", \"side\": \"%s\"", side == 0 ? "chosen" : "rejected"));
    }
    bool is_value = model_gives_values(&job->session.model->config);
    int64_t tokens = is_value ? sample->responses[side].count : score->tokens;
    TRY(text_printf(out, ", \"response\": %lld, \"tokens\": %lld", (long long)sample->responses[side].id,
                    (long long)tokens));
    if (is_value) {
        TRY(put_number(out, "reward", score->value));
        return text_puts(out, "}\n");
    }
    TRY(put_number(out, "logp", score->logp));
    if (reference) {
        TRY(put_number(out, "reference_logp", *reference));
        TRY(put_number(out, "reward", settings->dpo.beta * (score->logp - *reference)));
    }
    if (settings->score.per_token) {
        TRY(text_puts(out, ", \"token_logps\": ["));
        for (int64_t i = 0; i < score->tokens; i++) {
            TRY(text_puts(out, i ? ", " : ""));
            TRY(text_json_number(out, job->policy.tokens.logp[score->first + i]));
        }
        TRY(text_puts(out, "]"));
    }
    return text_puts(out, "}\n");
}

static enum status score_forest(void *context, const struct sample *samples, int64_t n) {
    struct score_job *job = context;
    TRY(scorer_run(&job->policy, samples, n));
    if (job->reference) {
        session_turn(&job->session, true);
        enum status st = scorer_run(&job->reference_scorer, samples, n);
        session_turn(&job->session, false);
        TRY(st);
    }
    for (int64_t i = 0; i < n; i++) {
        for (int side = 0; side < samples[i].n_responses; side++) {
            int64_t at = job->policy.first[i] + side;
            const double *reference = job->reference ? &job->reference_scorer.scores[at].logp : NULL;
            TRY(put_response(job, &samples[i], side, &job->policy.scores[at], reference, &job->text));
        }
    }
    return OK;
}

static enum status write_round(void *context) {
    struct score_job *job = context;
    enum status st = ordered_append(job->out, OK, job->text.data ? job->text.data : "", job->text.len);
    text_clear(&job->text);
    return st;
}

static enum status score_rows(struct score_job *job) {
    const struct row_blocks blocks = {.context = job,
                                      .rows = &job->session.train,
                                      .micro_tokens = job->session.settings->train.micro_tokens,
                                      .label = "score",
                                      .unit = "rows",
                                      .phase = "scoring from row",
                                      .forest = score_forest,
                                      .write = write_round};
    return row_blocks_run(job->session.comm, &blocks);
}

static enum status open_models(struct score_job *job) {
    struct session *s = &job->session;
    const char *folder = s->settings->reference;
    int64_t tokens = row_blocks_tokens(&s->train, s->settings->train.micro_tokens);
    if (*folder) {
        uint64_t hash;
        TRY(session_open_reference(s, IDS_OF_ROWS, &job->reference, &hash));
        TRY(session_workspace(s, job->reference, KEEP_NOTHING, tokens, &job->reference_workspace));
        TRY(comm_agree(s->comm, scorer_open(job->reference, &job->reference_workspace, KEEP_NOTHING,
                                            &job->reference_scorer)));
    }
    TRY(contexts_open(s, 1, &job->contexts));
    TRY(session_workspace(s, s->model, KEEP_NOTHING, tokens, &s->workspace));
    TRY(comm_agree(s->comm, scorer_open(s->model, &s->workspace, KEEP_NOTHING, &job->policy)));
    scorer_condition(&job->policy, contexts_condition(&job->contexts));
    return OK;
}

/* What a reward model has no answer to. */
static enum status check_options(const struct session *s) {
    if (!model_gives_values(&s->model->config)) {
        return OK;
    }
    if (*s->settings->reference) {
        return fail(ERR_USAGE, "reference is set, but %s is a reward model, which needs none",
                    s->settings->model);
    }
    return s->settings->score.per_token
               ? fail(ERR_USAGE, "score.per_token is set, but %s is a reward model: one value a response",
                      s->settings->model)
               : OK;
}

/* Pairs; but where a prompt has several, whose responses stand in more than one, prompts with each of their
 * responses once; or all responses, where some prompts of the file have no pair; of a split its responses. */
static enum status choose_rows(const struct session *s, enum row_kind *out) {
    struct dataset *data;
    struct comparisons pairs = {0};
    TRY(dataset_open_split(s->comm, s->settings->data, (enum data_split)s->settings->split, &data));
    *out = ROWS_RESPONSES;
    enum status st = dataset_size(data).pairs > 0 ? comparisons_open(data, &pairs) : OK;
    if (st == OK && dataset_size(data).pairs > 0) {
        bool is_view = strcmp(dataset_path(data), dataset_base_path(data)) != 0;
        bool leaves_prompts = !is_view && pairs.n_groups < dataset_size(data).prompts;
        bool is_repeated = pairs.n_groups < pairs.n;
        bool is_split = dataset_split(data) != SPLIT_ALL; /* which has some of a prompt's responses */
        *out = !is_repeated ? ROWS_LABELED : leaves_prompts || is_split ? ROWS_RESPONSES : ROWS_PROMPTS;
    }
    comparisons_close(&pairs);
    dataset_close(data);
    return comm_agree(s->comm, st);
}

static enum status score_work(struct score_job *job) {
    struct session *s = &job->session;
    struct rows_request request = {
        .path = s->settings->data, .key = "data", .split = (enum data_split)s->settings->split};
    TRY(session_need(s->settings->data, "data"));
    TRY(session_need(s->settings->model, "model"));
    TRY(session_open_backend(s, NULL, true));
    TRY(session_open_model(s));
    TRY(check_options(s));
    TRY(choose_rows(s, &request.kind));
    job->is_pairs = request.kind == ROWS_LABELED;
    TRY(session_open_rows(s, &request, &s->train));
    TRY(comm_agree(s->comm, session_look_reference(s, &s->model->config, IDS_OF_ROWS)));
    if (s->run->dry_run) {
        return OK;
    }
    TRY(open_models(job));
    TRY(ordered_open(s->comm, s->settings->output, &job->out));
    TRY(score_rows(job));
    struct ordered_file *out = job->out;
    job->out = NULL;
    return ordered_finish(out);
}

enum status command_score(struct run *run) {
    struct score_job job = {0};
    session_open(run, &job.session);
    enum status st = score_work(&job);
    scorer_close(&job.policy);
    scorer_close(&job.reference_scorer);
    workspace_close(&job.reference_workspace);
    if (job.reference != job.session.model) {
        model_close(job.reference);
    }
    ordered_abandon(job.out);
    text_free(&job.text);
    contexts_close(&job.contexts);
    session_close(&job.session);
    return st;
}
