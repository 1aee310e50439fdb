#include "command/evaluate_users.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "command/steer_context.h"
#include "command/steer_data.h"
#include "steer/conditional.h"
#include "util/hash.h"
#include "util/log.h"
#include "util/mem.h"

struct users_job {
    struct session *session;
    struct world world;
    struct text first, embeddings;
    struct model *reference; /* may be the session's own */
    struct workspace reference_workspace;
    struct scorer policy, other;
    struct conditional result;
    struct user_names names;
};

enum status users_counts(const char *words, struct conditional_options *o) {
    for (const char *at = words; *at;) {
        char *end;
        int64_t k = strtoll(at, &end, 10);
        bool is_next = end > at && (*end == ',' || *end == '\0') && k >= 0 && k <= 65536 &&
                       (o->n_counts == 0 || k > o->counts[o->n_counts - 1]);
        if (!is_next || o->n_counts == CONDITIONAL_COUNTS) {
            return fail(ERR_USAGE, "steer.counts=%s: at most %d numbers, each above the one before", words,
                        CONDITIONAL_COUNTS);
        }
        o->counts[o->n_counts++] = k;
        at = *end ? end + 1 : end;
    }
    return o->n_counts > 0 ? OK : fail(ERR_USAGE, "steer.counts is empty");
}

enum status users_names(const char *list, struct user_names *out) {
    struct names files = {0};
    enum status st = names_split(&files, list);
    for (int i = 0; i < files.n && i < MOST_USERS && st == OK; i++) {
        st = contexts_name(files.list[i], &out->of[out->n]);
        out->n += st == OK;
    }
    names_free(&files);
    return st;
}

void users_names_free(struct user_names *n) {
    for (int i = 0; i < n->n; i++) {
        mem_free(n->of[i]);
    }
    *n = (struct user_names){0};
}

static void turn(void *context, bool to_reference) {
    session_turn(context, to_reference);
}

enum status users_options(struct session *s, struct conditional_options *o) {
    const struct settings *settings = s->settings;
    *o = (struct conditional_options){.comm = s->comm,
                                      .steering = s->steers ? &s->steering : NULL,
                                      .turn = turn,
                                      .turn_context = s,
                                      .draws = settings->steer.draws,
                                      .targets = settings->steer.targets,
                                      .micro_tokens = settings->train.micro_tokens,
                                      .seed = (uint64_t)settings->seed,
                                      .task_seed = (uint64_t)settings->steer.task_seed};
    return users_counts(settings->steer.counts, o);
}

/* Collective. Both models' passes over forests of the evaluation. */
static enum status open_scorers(struct users_job *j, int64_t targets) {
    struct session *s = j->session;
    int64_t tokens = rows_forest_tokens(&s->train, targets, s->settings->train.micro_tokens);
    uint64_t hash;
    TRY(session_open_reference(s, IDS_OF_ROWS, &j->reference, &hash));
    TRY(session_workspace(s, j->reference, KEEP_NOTHING, tokens, &j->reference_workspace));
    TRY(session_workspace(s, s->model, KEEP_NOTHING, tokens, &s->workspace));
    enum status st = scorer_open(j->reference, &j->reference_workspace, KEEP_NOTHING, &j->other);
    st = st == OK ? scorer_open(s->model, &s->workspace, KEEP_NOTHING, &j->policy) : st;
    return comm_agree(s->comm, st);
}

enum status users_check_embeddings(const struct session *s, const char *embeddings, int64_t width) {
    struct text maker = {0};
    enum status st = steer_maker(embeddings, &maker);
    if (st == OK && s->steers && width != s->steering.shape.width) {
        st = fail(ERR_DATA, "%s: embeddings of %lld numbers; %s takes %lld", embeddings, (long long)width,
                  s->settings->adapter, (long long)s->steering.shape.width);
    }
    if (st == OK && s->steers && strcmp(maker.data, s->steering.embedder) != 0) {
        st = fail(ERR_DATA,
                  "%s: embeddings by %s; %s was trained on those by %s (embed.*, steer.embedder, compute)",
                  embeddings, maker.data, s->settings->adapter, s->steering.embedder);
    }
    text_free(&maker);
    return st;
}

static enum status print(struct users_job *j, const struct conditional_options *o, struct text *out) {
    const struct session *s = j->session;
    char data[17], model[17];
    hash_text(dataset_hash(s->train.data), data);
    hash_text(s->model_hash, model);
    TRY(text_printf(out, "{\"rows\": %lld, \"draws\": %lld, \"targets\": %lld, \"steered\": %s",
                    (long long)j->world.pairs, (long long)o->draws, (long long)o->targets,
                    o->steering ? "true" : "false"));
    TRY(text_printf(out, ", \"data_hash\": \"%s\", \"model_hash\": \"%s\"", data, model));
    TRY(conditional_print(&j->result, (const char *const *)j->names.of, out));
    return text_puts(out, "}\n");
}

static double percent(const struct conditional *c, int count, int64_t label) {
    return 100 * ratios_value(&c->ratios, conditional_at(c, count, label, PAIRS_CONFLICTING));
}

void users_log(const struct conditional *c, const struct user_names *names, const char *when) {
    for (int i = 0; i < c->n_counts; i++) {
        struct text line = {0};
        enum status st = text_printf(&line, "%s%lld choices:", when, (long long)c->counts[i]);
        for (int64_t label = 0; label < c->labels && st == OK; label++) {
            st = text_printf(&line, " %s %.1f,", names->of[label], percent(c, i, label));
        }
        if (st == OK) {
            log_root(LOG_INFO, "%s sum %.1f on conflicting pairs", line.data, percent(c, i, c->labels));
        }
        text_free(&line);
    }
}

/* Collective. */
static enum status open_all(struct users_job *j) {
    struct session *s = j->session;
    TRY(session_need_head(s->model, s->settings->model, HEAD_LANGUAGE));
    TRY(s->lora ? OK : session_need(s->settings->reference, "reference")); /* adapters have their base */
    enum status st = steer_first_file(s->settings->data, &j->first);
    st = st == OK ? users_names(s->settings->data, &j->names) : st;
    st = st == OK ? text_puts(&j->embeddings, s->settings->embeddings) : st;
    TRY(comm_agree(s->comm, st));
    const struct rows_request request = {.path = j->first.data, .key = "data", .kind = ROWS_LABELED};
    TRY(session_open_rows(s, &request, &s->train));
    TRY(comm_agree(s->comm, session_look_reference(s, &s->model->config, IDS_OF_ROWS)));
    if (s->run->dry_run && !*s->settings->embeddings) {
        return OK; /* what embeddings would be compared with is not made */
    }
    TRY(*s->settings->embeddings ? OK : steer_embed(s->run, j->first.data, &j->embeddings));
    TRY(steer_world(s, s->settings->data, (enum data_split)s->settings->split, j->embeddings.data,
                    &j->world));
    return comm_agree(s->comm, users_check_embeddings(s, j->embeddings.data, j->world.width));
}

static enum status run_users(struct users_job *j, struct text *out) {
    struct session *s = j->session;
    const struct settings *settings = s->settings;
    struct conditional_options o;
    TRY(comm_agree(s->comm, users_options(s, &o)));
    TRY(open_all(j));
    if (s->run->dry_run) {
        return OK;
    }
    o.world = &j->world;
    o.view = s->train.view;
    o.policy = &j->policy;
    o.reference = &j->other;
    o.intervals = (struct interval_options){settings->evaluate.bootstrap, settings->evaluate.confidence,
                                            (uint64_t)settings->seed};
    TRY(open_scorers(j, o.targets));
    TRY(conditional_run(&o, &j->result));
    users_log(&j->result, &j->names, "");
    return comm_agree(s->comm, print(j, &o, out));
}

enum status evaluate_users(struct session *s, struct text *out) {
    struct users_job j = {.session = s};
    enum status st = run_users(&j, out);
    conditional_close(&j.result);
    scorer_close(&j.policy);
    scorer_close(&j.other);
    workspace_close(&j.reference_workspace);
    if (j.reference != s->model) {
        model_close(j.reference);
    }
    world_free(&j.world);
    text_free(&j.first);
    text_free(&j.embeddings);
    users_names_free(&j.names);
    return st;
}
