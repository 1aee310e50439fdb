/* Accuracies by user during the training of a steered policy: those of `evaluate`, on users' files of their
 * own. */
#include <stdio.h>
#include <string.h>

#include "command/evaluate_users.h"
#include "command/steer_data.h"
#include "command/trainer.h"
#include "evaluate/metrics.h"
#include "util/mem.h"

struct steer_evaluation {
    struct world world;
    struct user_names names;
    struct model *reference; /* the session's own, or another one, */
    struct workspace other;  /* which has a workspace of its own */
    struct conditional_options options;
};

/* Collective. Whether two files hold the same responses. */
static enum status compare_files(struct comm *c, const char *one, const char *other, bool *same) {
    struct dataset *d[2] = {NULL, NULL};
    enum status st = dataset_open(c, one, &d[0]);
    st = st == OK ? dataset_open(c, other, &d[1]) : st;
    *same = st == OK && dataset_hash(d[0]) == dataset_hash(d[1]);
    for (int i = 0; i < 2; i++) {
        if (d[i]) {
            dataset_close(d[i]);
        }
    }
    return st;
}

static enum status embed_first(struct trainer *t, const char *file) {
    const struct settings *s = t->session.settings;
    bool same = false;
    TRY(compare_files(t->session.comm, t->view.data, file, &same));
    enum status st = OK;
    if (same) {
        st = text_puts(&t->eval_embeddings, t->embeddings.data);
    } else if (*s->embeddings) {
        st = fail(
            ERR_USAGE,
            "eval_data: %s has other responses than data, so that embeddings=%s does not hold theirs; leave "
            "embeddings to the job, or take other splits of the same file",
            file, s->embeddings);
    } else {
        st = text_printf(&t->eval_embeddings, "%s/steer.eval.embeddings.h5", s->output);
    }
    TRY(comm_agree(t->session.comm, st));
    return same ? OK : steer_embed(t->session.run, file, &t->eval_embeddings);
}

enum status trainer_steer_embed_evaluation(struct trainer *t) {
    struct text first = {0};
    enum status st = steer_first_file(t->session.settings->eval_data, &first);
    st = comm_agree(t->session.comm, st);
    st = st == OK ? embed_first(t, first.data) : st;
    text_free(&first);
    return st;
}

/* Local. As many users as data has. */
static enum status check_users(const struct settings *s) {
    struct names data = {0}, eval = {0};
    enum status st = names_split(&data, s->data);
    st = st == OK ? names_split(&eval, s->eval_data) : st;
    if (st == OK && data.n != eval.n) {
        st = fail(ERR_USAGE,
                  "eval_data names %d files and data %d: of a steered policy they are the same users'",
                  eval.n, data.n);
    }
    names_free(&data);
    names_free(&eval);
    return st;
}

enum status trainer_steer_evaluation_check(const struct settings *s) {
    struct conditional_options counts = {0};
    TRY(users_counts(s->steer.counts, &counts));
    return check_users(s);
}

enum status trainer_steer_evaluation_rows(struct trainer *t) {
    const struct settings *s = t->session.settings;
    struct text first = {0};
    enum status st = comm_agree(t->session.comm, steer_first_file(s->eval_data, &first));
    const struct rows_request request = {.path = first.data, .key = "eval_data", .kind = ROWS_LABELED};
    st = st == OK ? session_open_rows(&t->session, &request, &t->session.eval) : st;
    text_free(&first);
    return st;
}

static enum status put_label(const struct conditional *r, const char *name, int64_t label,
                             struct text *line) {
    for (int i = 0; i < r->n_counts; i++) {
        struct text key = {0};
        enum status st = text_printf(&key, "accuracies/%s/%lld", name, (long long)r->counts[i]);
        double value = ratios_value(&r->ratios, conditional_at(r, i, label, PAIRS_CONFLICTING));
        st = st == OK ? metrics_put(line, "eval_", key.data, value) : st;
        text_free(&key);
        TRY(st);
    }
    return OK;
}

static enum status put_result(const struct steer_evaluation *e, const struct conditional *r,
                              struct text *line) {
    for (int64_t label = 0; label < r->labels; label++) {
        TRY(put_label(r, e->names.of[label], label, line));
    }
    return put_label(r, "sum", r->labels, line);
}

/* Collective. One scorer serves policy and reference where they are one model, by turns. */
static enum status evaluate(void *context, int64_t step, struct text *line) {
    struct trainer *t = context;
    struct session *s = &t->session;
    struct steer_evaluation *e = t->users_evaluation;
    struct scorer policy = {0}, other = {0};
    struct conditional result = {0};
    char when[48];
    bool is_own = e->reference == s->model;
    enum status st = scorer_open(s->model, &s->workspace, KEEP_NOTHING, &policy);
    st = st == OK && !is_own ? scorer_open(e->reference, &e->other, KEEP_NOTHING, &other) : st;
    TRY_TO(done, comm_agree(s->comm, st));
    e->options.policy = &policy;
    e->options.reference = is_own ? &policy : &other;
    TRY_TO(done, conditional_run(&e->options, &result));
    st = comm_agree(s->comm, put_result(e, &result, line));
    snprintf(when, sizeof when, "step %lld: ", (long long)step);
    users_log(&result, &e->names, when);
done:
    conditional_close(&result);
    scorer_close(&policy);
    scorer_close(&other);
    return st;
}

/* Local. */
static enum status plan(struct trainer *t, struct steer_evaluation *e) {
    struct session *s = &t->session;
    const struct settings *settings = s->settings;
    TRY(users_options(s, &e->options));
    e->options.world = &e->world;
    e->options.view = s->eval.view;
    e->options.intervals = (struct interval_options){.confidence = 0.95, .seed = (uint64_t)settings->seed};
    return users_names(settings->eval_data, &e->names);
}

/* Collective. The embeddings are of the kind that is learnt on. */
static enum status open_world(struct trainer *t, struct steer_evaluation *e) {
    struct session *s = &t->session;
    struct text maker = {0};
    TRY(steer_world(s, s->settings->eval_data, (enum data_split)s->settings->eval_split,
                    t->eval_embeddings.data, &e->world));
    enum status st = steer_maker(t->eval_embeddings.data, &maker);
    if (st == OK && strcmp(maker.data, s->steering.embedder) != 0) {
        st = fail(ERR_DATA, "%s: embeddings by %s; those of data are by %s", t->eval_embeddings.data,
                  maker.data, s->steering.embedder);
    }
    text_free(&maker);
    return comm_agree(s->comm, st);
}

enum status trainer_steer_evaluation(struct trainer *t) {
    struct session *s = &t->session;
    struct steer_evaluation *e;
    uint64_t hash;
    if (!t->training.steers || !s->eval.view) {
        return OK;
    }
    TRY(comm_agree(s->comm, NEW_ARRAY(t->users_evaluation, 1)));
    e = t->users_evaluation;
    TRY(comm_agree(s->comm, plan(t, e)));
    TRY(open_world(t, e));
    TRY(session_open_reference(s, IDS_OF_ROWS, &e->reference, &hash));
    if (e->reference != s->model) {
        int64_t tokens = rows_forest_tokens(&s->eval, e->options.targets, s->settings->train.micro_tokens);
        TRY(session_workspace(s, e->reference, KEEP_NOTHING, tokens, &e->other));
    }
    t->training.evaluate = evaluate;
    t->training.evaluate_context = t;
    return OK;
}

void trainer_steer_evaluation_close(struct trainer *t) {
    struct steer_evaluation *e = t->users_evaluation;
    if (!e) {
        return;
    }
    workspace_close(&e->other);
    if (e->reference && e->reference != t->session.model) {
        model_close(e->reference);
    }
    world_free(&e->world);
    users_names_free(&e->names);
    mem_free(e);
    t->users_evaluation = NULL;
}
