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

enum { MOST_USERS = 64 };

struct users_job {
    struct session *session;
    struct world world;
    struct text first, embeddings;
    struct model *reference; /* may be the session's own */
    struct workspace reference_workspace;
    struct scorer policy, other;
    struct conditional result;
    char *names[MOST_USERS];
};

/* "0,1,3,5,10", ascending. Local. */
static enum status parse_counts(const char *words, struct conditional_options *o) {
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

/* Of the users' files. Local. */
static enum status take_names(struct users_job *j) {
    struct names files = {0};
    enum status st = names_split(&files, j->session->settings->data);
    for (int i = 0; i < files.n && i < MOST_USERS && st == OK; i++) {
        st = contexts_name(files.list[i], &j->names[i]);
    }
    names_free(&files);
    return st;
}

static void turn(void *context, bool to_reference) {
    session_turn(context, to_reference);
}

/* Collective. Both models' passes over forests of the evaluation. */
static enum status open_scorers(struct users_job *j, int64_t targets) {
    struct session *s = j->session;
    int64_t tokens = rows_forest_tokens(&s->train, targets, s->settings->train.micro_tokens);
    uint64_t hash;
    TRY(session_open_reference(s, &j->reference, &hash));
    TRY(session_workspace(s, j->reference, KEEP_NOTHING, tokens, &j->reference_workspace));
    TRY(session_workspace(s, s->model, KEEP_NOTHING, tokens, &s->workspace));
    enum status st = scorer_open(j->reference, &j->reference_workspace, KEEP_NOTHING, &j->other);
    st = st == OK ? scorer_open(s->model, &s->workspace, KEEP_NOTHING, &j->policy) : st;
    return comm_agree(s->comm, st);
}

/* Local. The steering takes embeddings as it has learnt on. */
static enum status check_embeddings(const struct users_job *j) {
    const struct session *s = j->session;
    struct text maker = {0};
    enum status st = steer_maker(j->embeddings.data, &maker);
    if (st == OK && s->steers && j->world.width != s->steering.shape.width) {
        st = fail(ERR_DATA, "%s: embeddings of %lld numbers; %s takes %lld", j->embeddings.data,
                  (long long)j->world.width, s->settings->adapter, (long long)s->steering.shape.width);
    }
    if (st == OK && s->steers && strcmp(maker.data, s->steering.embedder) != 0) {
        st = fail(ERR_DATA, "%s: embeddings by %s; %s was trained on those by %s", j->embeddings.data,
                  maker.data, s->settings->adapter, s->steering.embedder);
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
    TRY(conditional_print(&j->result, (const char *const *)j->names, out));
    return text_puts(out, "}\n");
}

static double percent(const struct users_job *j, int count, int64_t label, enum conditional_pairs kind) {
    return 100 * ratios_value(&j->result.ratios, conditional_at(&j->result, count, label, kind));
}

/* A line for each count of choices: every user's accuracy where they differ, and the sum. */
static void log_table(const struct users_job *j) {
    const struct conditional *c = &j->result;
    for (int i = 0; i < c->n_counts; i++) {
        struct text line = {0};
        enum status st = text_printf(&line, "%lld choices:", (long long)c->counts[i]);
        for (int64_t label = 0; label < c->labels && st == OK; label++) {
            st = text_printf(&line, " %s %.1f,", j->names[label], percent(j, i, label, PAIRS_CONFLICTING));
        }
        if (st == OK) {
            log_root(LOG_INFO, "%s sum %.1f on conflicting pairs", line.data,
                     percent(j, i, c->labels, PAIRS_CONFLICTING));
        }
        text_free(&line);
    }
}

/* Collective. */
static enum status open_all(struct users_job *j) {
    struct session *s = j->session;
    TRY(session_need_head(s->model, s->settings->model, HEAD_LANGUAGE));
    TRY(s->lora ? OK : session_need(s->settings->reference, "reference")); /* adapters have their base */
    enum status st = steer_first_file(s->settings, &j->first);
    st = st == OK ? take_names(j) : st;
    st = st == OK ? text_puts(&j->embeddings, s->settings->embeddings) : st;
    TRY(comm_agree(s->comm, st));
    const struct rows_request request = {.path = j->first.data, .key = "data", .kind = ROWS_LABELED};
    TRY(session_open_rows(s, &request, &s->train));
    TRY(*s->settings->embeddings ? OK : steer_embed(s->run, j->first.data, &j->embeddings));
    TRY(steer_world(s, j->embeddings.data, &j->world));
    return comm_agree(s->comm, check_embeddings(j));
}

static enum status run_users(struct users_job *j, struct text *out) {
    struct session *s = j->session;
    const struct settings *settings = s->settings;
    struct conditional_options o = {
        .comm = s->comm,
        .world = &j->world,
        .view = NULL,
        .steering = s->steers ? &s->steering : NULL,
        .policy = &j->policy,
        .reference = &j->other,
        .turn = turn,
        .turn_context = s,
        .draws = settings->steer.draws,
        .targets = settings->steer.targets,
        .micro_tokens = settings->train.micro_tokens,
        .seed = (uint64_t)settings->seed,
        .task_seed = (uint64_t)settings->steer.task_seed,
        .intervals = {settings->evaluate.bootstrap, settings->evaluate.confidence, (uint64_t)settings->seed}};
    TRY(comm_agree(s->comm, parse_counts(settings->steer.counts, &o)));
    TRY(open_all(j));
    if (s->run->dry_run) {
        return OK;
    }
    o.view = s->train.view;
    TRY(open_scorers(j, o.targets));
    TRY(conditional_run(&o, &j->result));
    log_table(j);
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
    for (int i = 0; i < MOST_USERS; i++) {
        mem_free(j.names[i]);
    }
    return st;
}
