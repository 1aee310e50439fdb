#include "command/checks.h"

#include "command/outputs.h"
#include "command/probe.h"
#include "command/run_folder.h"

enum { PROBE_BYTES = 4 << 10 };

static enum status look_at_slots(struct trainer *t, const struct model_config *config) {
    (void)config;
    return t->session.train.view ? batch_check(&t->data.plan, t->session.comm->size) : OK;
}

static enum status look_at_data(struct trainer *t, const struct model_config *config) {
    return config ? session_check_rows(&t->session.train, config) : OK;
}

static enum status look_at_eval_data(struct trainer *t, const struct model_config *config) {
    return config ? session_check_rows(&t->session.eval, config) : OK;
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

enum status trainer_check(struct trainer *t, const struct model_config *config, check_found *found,
                          void *context) {
    static const struct {
        const char *subject;
        enum status (*look)(struct trainer *t, const struct model_config *config);
    } checks[] = {{"slots", look_at_slots},
                  {"data", look_at_data},
                  {"eval_data", look_at_eval_data},
                  {"output", look_at_output}};
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
