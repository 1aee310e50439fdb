#include "command/checks.h"

#include <string.h>

#include "command/needs.h"
#include "command/outputs.h"
#include "command/probe.h"
#include "command/run_folder.h"
#include "store/adapter_config.h"
#include "store/model_folder.h"
#include "util/log.h"

enum { PROBE_BYTES = 4 << 10 };

/* Its folder's headers, which is what can be said of it before it is opened. A dry run asks for no weights.
 * Collective. */
static enum status look_at_model(struct trainer *t, const struct model_config *config) {
    const struct session *s = &t->session;
    const char *folder = s->settings->model;
    struct model_config own;
    enum status st = OK;
    (void)config;
    if (s->model) {
        return session_need_head(s->model, folder, s->head);
    }
    TRY(session_need(folder, "model"));
    if (!s->run->dry_run) {
        st = model_folder_check(folder, s->head, &own);
        st = st == OK ? session_need_config_head(&own, folder, s->head) : st;
    }
    return comm_agree(s->comm, st == OK ? trainer_config(t, &own) : st);
}

static enum status look_at_reference(struct trainer *t, const struct model_config *config) {
    struct session *s = &t->session;
    if (!t->terms.has_reference || !*s->settings->reference || !config) {
        return OK;
    }
    return comm_agree(s->comm, session_look_reference(s, config, trainer_reference_ids(t)));
}

/* Its configuration in such a model. The reference of an adapter that is trained further would be another
 * model than the policy that begins, unless it is said. Collective. */
static enum status look_at_adapter(struct trainer *t, const struct model_config *config) {
    const struct settings *s = t->session.settings;
    bool is_open = t->terms.has_reference && *s->adapter && !*s->reference && !*s->reference_adapter;
    if (is_open && !t->terms.reference_free) {
        return fail(
            ERR_USAGE,
            "adapter is trained further, and its reference is not said: set reference.adapter=%s (the "
            "policy as it begins), reference.adapter=none (the base alone) or reference=FOLDER",
            s->adapter);
    }
    bool is_adapted = session_adapts_reference(s);
    if (s->dpo.sync_reference && (*s->adapter || s->lora.rank > 0)) {
        return fail(ERR_USAGE,
                    "dpo.sync_reference: a reference cannot follow adapters; train the whole model");
    }
    if (is_adapted && (s->dpo.sync_reference || t->terms.reads & READS_DIVERGENCE)) {
        return fail(ERR_USAGE, "reference.adapter has no effect where the reference runs beside the policy; "
                               "merge it (collimate merge) and set reference=FOLDER");
    }
    if (is_adapted) {
        json_t *own = NULL;
        enum status st = adapter_config_read(s->reference_adapter, &own);
        json_decref(own);
        TRY(comm_agree(t->session.comm, st));
    }
    return config ? comm_agree(t->session.comm, session_plan_adapters(&t->session, config)) : OK;
}

/* What a source of its own reads. */
static enum status look_at_own(struct trainer *t, const struct model_config *config) {
    return t->own && config ? comm_agree(t->session.comm, t->own->look(t, config)) : OK;
}

static enum status look_at_slots(struct trainer *t, const struct model_config *config) {
    (void)config;
    return t->session.train.view ? batch_check(&t->data.plan, t->session.comm->size) : OK;
}

static enum status look_at_rows(const struct rows *rows, const struct model_config *config) {
    if (!config || !rows->view) {
        return OK;
    }
    TRY(rows_check_vocabulary(rows, config->vocabulary));
    return session_check_rows(rows, config);
}

static enum status look_at_data(struct trainer *t, const struct model_config *config) {
    return look_at_rows(&t->session.train, config);
}

static enum status look_at_eval_data(struct trainer *t, const struct model_config *config) {
    return look_at_rows(&t->session.eval, config);
}

/* A dry run may be for another machine: it is told. */
static enum status refuse_here(const struct trainer *t, enum status st) {
    if (st == OK || !t->session.run->dry_run) {
        return st;
    }
    log_root(LOG_WARN, "here the run would be refused: %s", status_message()->text);
    status_clear();
    return OK;
}

static enum status look_at_memory(struct trainer *t, const struct model_config *config) {
    struct estimate_options options;
    if (!config || !t->session.train.view || !t->session.backend) {
        return OK;
    }
    TRY(comm_agree(t->session.comm, trainer_estimate(t, &options)));
    TRY(estimate_memory(&options, &t->need));
    t->has_need = true;
    return refuse_here(t, comm_agree(t->session.comm, needs_memory(t, &t->need)));
}

enum status check_folder(struct comm *c, const char *folder) {
    struct probe_report report;
    return probe_folder(c, folder, PROBE_BYTES, &report);
}

static enum status look_at_output(struct trainer *t, const struct model_config *config) {
    (void)config;
    struct run *run = t->session.run;
    const char *output = t->session.settings->output;
    struct run_folder folder;
    if (t->has_folder) {
        return check_folder(run->comm, output);
    }
    if (run->dry_run && !*output) {
        return OK;
    }
    TRY(session_need(output, "output"));
    TRY(outputs_check(run, t->command));
    TRY(run_folder_take(run, output, &folder));
    return comm_agree(run->comm, run_folder_finish(run, NULL, &folder, check_folder(run->comm, output)));
}

static enum status look_at_room(struct trainer *t, const struct model_config *config) {
    (void)config;
    bool is_known = t->has_need && *t->session.settings->output;
    return is_known ? refuse_here(t, needs_room(t, &t->need)) : OK;
}

enum status trainer_check(struct trainer *t, const struct model_config *config, check_found *found,
                          void *context) {
    static const struct {
        const char *subject;
        enum status (*look)(struct trainer *t, const struct model_config *config);
    } checks[] = {{"model", look_at_model},         {"adapter", look_at_adapter},
                  {"reference", look_at_reference}, {"rewards", look_at_own},
                  {"slots", look_at_slots},         {"data", look_at_data},
                  {"eval_data", look_at_eval_data}, {"memory", look_at_memory},
                  {"output", look_at_output},       {"output", look_at_room}};
    for (int i = 0; i < COUNT_OF(checks); i++) {
        enum status st = checks[i].look(t, config);
        if (found) {
            found(context, checks[i].subject, st);
        } else {
            TRY(st);
        }
    }
    return OK;
}
