/* embed: a vector for each response, into a side-car that `select` reads. */
#include "command/embed.h"

#include "score/embedding.h"
#include "util/log.h"

/* What was computed, and its rate beside that of the forward passes alone. */
static void print(const struct embedding_report *r, const char *path) {
    log_root(LOG_INFO, "embeddings %s: %lld responses computed, %lld were there; %lld cut, %lld empty", path,
             (long long)r->computed, (long long)(r->responses - r->computed), (long long)r->cut,
             (long long)r->empty);
    if (r->computed > 0) {
        log_root(
            LOG_INFO,
            "%lld tokens in %.4f s, %.0f tokens/s; the forward pass alone %.0f tokens/s, %.1f %% of the time",
            (long long)r->tokens, r->seconds, (double)r->tokens / r->seconds,
            (double)r->tokens / r->forward_seconds, 100 * r->forward_seconds / r->seconds);
    }
}

enum status embed_run(const struct session *s, struct dataset *data, bool is_automatic, struct text *path) {
    const struct settings *settings = s->settings;
    const struct embedding_options options = {
        .comm = s->comm,
        .model = s->model,
        .model_hash = s->model_hash,
        .model_name = settings->model,
        .compute = session_numbers(s),
        .data = data,
        .is_automatic = is_automatic,
        .micro_tokens = settings->train.micro_tokens,
        .pooling = (enum embedding_pooling)settings->embed.pooling,
        .full = settings->embed.text == 1,
        .begin = settings->embed.begin,
        .end = settings->embed.end,
        .masked_end = settings->embed.masked_end,
        .layer = settings->embed.layer,
        .max_length = settings->embed.max_length,
        .must_have_length = options_is_set(s->run->options, "embed.max_length"),
    };
    struct embedding_report report;
    TRY(embedding_compute(&options, path, &report));
    print(&report, path->data);
    return OK;
}

enum status embed_aside(struct run *run, const struct embed_aside *what, struct text *path) {
    struct settings settings = *run->settings;
    struct session session;
    struct dataset *data = NULL;
    settings.model = what->model;
    settings.adapter = what->adapter;
    session_open(run, &session);
    session.settings = &settings;
    enum status st = session_open_backend(&session, NULL, true);
    st = st == OK ? session_open_model(&session) : st;
    st = st == OK ? session_open_data(&session, what->data, what->split, &data) : st;
    st = st == OK ? embed_run(&session, data, true, path) : st;
    if (data) {
        dataset_close(data);
    }
    session_close(&session);
    return st;
}

static enum status embed_work(struct session *s, struct dataset **data, struct text *path) {
    const struct settings *settings = s->settings;
    TRY(session_need(settings->data, "data"));
    TRY(session_need(settings->model, "model"));
    TRY(session_open_backend(s, NULL, true));
    TRY(session_open_model(s));
    TRY(session_open_data(s, settings->data, (enum data_split)settings->split, data));
    struct dataset_size size = dataset_size(*data);
    if (settings->split) {
        log_root(LOG_INFO, "data %s: split %s", dataset_path(*data),
                 data_split_name((enum data_split)settings->split));
    }
    log_root(LOG_INFO, "data %s: %lld responses, %lld tokens", dataset_path(*data), (long long)size.responses,
             (long long)size.response_tokens);
    if (s->run->dry_run) {
        return OK;
    }
    TRY(comm_agree(s->comm, text_puts(path, settings->output)));
    return embed_run(s, *data, false, path);
}

enum status command_embed(struct run *run) {
    struct session session;
    struct dataset *data = NULL;
    struct text path = {0};
    session_open(run, &session);
    enum status st = embed_work(&session, &data, &path);
    if (data) {
        dataset_close(data);
    }
    text_free(&path);
    session_close(&session);
    return st;
}
