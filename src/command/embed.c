/* embed: a vector for each response, into a side-car that `select` reads. */
#include "score/embedding.h"
#include "util/log.h"

static enum status embed_work(struct session *s, struct dataset **data, struct text *path) {
    const struct settings *settings = s->settings;
    TRY(session_need(settings->data, "data"));
    TRY(session_need(settings->model, "model"));
    TRY(session_open_backend(s, NULL, true));
    TRY(session_open_model(s));
    TRY(dataset_open(s->comm, settings->data, data));
    struct dataset_size size = dataset_size(*data);
    log_root(LOG_INFO, "data %s: %lld responses, %lld tokens", dataset_path(*data), (long long)size.responses,
             (long long)size.response_tokens);
    if (s->run->dry_run) {
        return OK;
    }
    const struct embedding_request request = {.data = *data, .path = path};
    struct embedding_report report;
    TRY(comm_agree(s->comm, text_puts(path, settings->output)));
    TRY(embedding_compute(s, &request, &report));
    embedding_print(&report, path->data);
    return OK;
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
