/* merge: a model with an adapter's products in its weights, as a model folder, and the proof: the
 * log-probabilities (a reward model's values) of all responses of the data under model + adapter beside those
 * under the folder as it was written, in the type that it was written in. */
#include <math.h>
#include <string.h>

#include "command/deliver.h"
#include "command/outputs.h"
#include "command/session.h"
#include "score/row_blocks.h"
#include "score/scorer.h"
#include "util/mem.h"

struct merge_job {
    struct session session;
    enum stored_type type;
    struct scorer scorer;
    double *before, *now; /* by response; of this rank's blocks, else 0 */
    double worst;
    int64_t worst_row;
};

static enum status score_forest(void *context, const struct sample *samples, int64_t n) {
    struct merge_job *job = context;
    bool is_value = model_gives_values(&job->session.model->config);
    TRY(scorer_run(&job->scorer, samples, n));
    for (int64_t i = 0; i < n; i++) {
        const struct response_score *s = &job->scorer.scores[job->scorer.first[i]];
        double score = is_value ? s->value : s->logp;
        if (!isfinite(score)) {
            return fail(ERR_DATA, "merge: the log-probability of response %lld is not finite",
                        (long long)samples[i].row);
        }
        job->now[samples[i].row] = score;
    }
    return OK;
}

/* Collective. All rows under the model that is open, into job->now. */
static enum status score_rows(struct merge_job *job) {
    struct session *s = &job->session;
    const struct row_blocks blocks = {.context = job,
                                      .rows = &s->train,
                                      .micro_tokens = s->settings->train.micro_tokens,
                                      .label = "merge",
                                      .unit = "responses",
                                      .phase = "scoring from response",
                                      .forest = score_forest};
    int64_t tokens = row_blocks_tokens(&s->train, s->settings->train.micro_tokens);
    TRY(session_workspace(s, s->model, KEEP_NOTHING, tokens, &s->workspace));
    TRY(comm_agree(s->comm, scorer_open(s->model, &s->workspace, KEEP_NOTHING, &job->scorer)));
    enum status st = row_blocks_run(s->comm, &blocks);
    scorer_close(&job->scorer);
    workspace_close(&s->workspace);
    s->workspace = (struct workspace){0};
    return st;
}

/* Local. */
static enum status merge_here(struct merge_job *job) {
    struct session *s = &job->session;
    if (s->steers) {
        return fail(ERR_USAGE,
                    "%s has steering, which goes by users and into no weights; its adapters alone "
                    "merge from a folder without steering.json",
                    s->settings->adapter);
    }
    TRY(lora_merge(s->model, s->lora));
    lora_use(s->model, NULL);
    int wanted = s->settings->save.dtype;
    job->type = wanted > 0 ? (enum stored_type)(wanted - 1) : STORED_F32;
    return wanted > 0 ? OK : model_folder_type(s->source.data, &job->type);
}

/* Collective. The merged model, written and read again in the place of the one that was open. */
static enum status replace_model(struct merge_job *job) {
    struct session *s = &job->session;
    const char *output = s->settings->output;
    TRY(comm_agree(s->comm, merge_here(job)));
    const struct model_save options = {.source = s->source.data,
                                       .carries = true,
                                       .tokenizer = s->tokenizer,
                                       .made_by = OUTPUT_MADE_BY_MERGE,
                                       .type = job->type};
    TRY(model_folder_save(s->comm, s->model, output, &options));
    const struct model_folder_options again = {.head = s->model->config.head};
    model_close(s->model);
    s->model = NULL;
    s->lora = NULL;
    return model_folder_open(s->comm, s->backend, output, &again, &s->model);
}

/* Collective. */
static enum status compare(struct merge_job *job) {
    struct comm *c = job->session.comm;
    double worst = 0;
    for (int64_t i = 0; i < dataset_size(job->session.train.data).responses; i++) {
        double off = fabs(job->now[i] - job->before[i]);
        job->worst_row = off > worst ? i : job->worst_row;
        worst = fmax(worst, off);
    }
    job->worst = worst;
    TRY(comm_max_f64(c, &job->worst, 1));
    job->worst_row = worst == job->worst ? job->worst_row : -1;
    return comm_max_i64(c, &job->worst_row, 1);
}

static enum status report(const struct merge_job *job) {
    static const char *const names[] = {[STORED_F32] = "fp32", [STORED_BF16] = "bf16", [STORED_F16] = "fp16"};
    const struct session *s = &job->session;
    struct text out = {0};
    enum status st = text_puts(&out, "{\"output\": ");
    st = st == OK ? text_json(&out, s->settings->output, strlen(s->settings->output)) : st;
    st = st == OK ? text_printf(&out, ", \"type\": \"%s\", \"responses\": %lld, \"worst_difference\": ",
                                names[job->type], (long long)s->train.n)
                  : st;
    st = st == OK ? text_json_number(&out, job->worst) : st;
    st = st == OK ? text_printf(&out, ", \"worst_response\": %lld}\n", (long long)job->worst_row) : st;
    log_root(LOG_INFO, "merged model in %s, as %s", s->settings->output, names[job->type]);
    st = st == OK && s->comm->rank == 0 ? deliver_text("", &out) : st;
    text_free(&out);
    return comm_agree(s->comm, st);
}

static enum status prove(struct merge_job *job) {
    int64_t n = dataset_size(job->session.train.data).responses; /* of which rows may be a part */
    TRY(NEW_ARRAY(job->before, n));
    return NEW_ARRAY(job->now, n);
}

static enum status merge_work(struct merge_job *job) {
    struct session *s = &job->session;
    const struct rows_request request = {.path = s->settings->data,
                                         .key = "data",
                                         .kind = ROWS_RESPONSES,
                                         .split = (enum data_split)s->settings->split,
                                         .limit = s->settings->evaluate.rows};
    TRY(session_need(s->settings->model, "model"));
    TRY(session_need(s->settings->adapter, "adapter"));
    TRY(session_need(s->settings->output, "output"));
    TRY(session_need(s->settings->data, "data"));
    TRY(session_open_backend(s, NULL, true));
    TRY(session_open_model(s));
    TRY(session_open_rows(s, &request, &s->train));
    if (s->run->dry_run) {
        return OK;
    }
    TRY(comm_agree(s->comm, prove(job)));
    TRY(score_rows(job));
    double *scores = job->before;
    job->before = job->now;
    job->now = scores;
    TRY(replace_model(job));
    TRY(score_rows(job));
    TRY(compare(job));
    return report(job);
}

enum status command_merge(struct run *run) {
    struct merge_job job = {0};
    session_open(run, &job.session);
    job.session.merges = true;
    enum status st = merge_work(&job);
    scorer_close(&job.scorer);
    mem_free(job.before);
    mem_free(job.now);
    session_close(&job.session);
    return st;
}
