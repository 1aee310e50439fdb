/* select: a view of a preference file with the pairs that a strategy chooses. */
#include "command/select.h"

#include "command/line.h"
#include "command/session.h"

struct selection_options select_options(const struct run *run) {
    const struct settings *s = run->settings;
    return (struct selection_options){
        .comm = run->comm,
        .compare = s->select.compare,
        .strategy = s->select.strategy,
        .scope = (enum selection_scope)s->select.scope,
        .fraction = s->select.fraction,
        .has_fraction = options_is_set(run->options, "select.fraction"),
        .count = s->select.count,
        .clusters = s->select.clusters,
        .seeding = (enum kmeans_seeding)s->select.seeding,
        .seed = s->seed,
        .trust_data = s->trust_data,
    };
}

enum status select_run(struct run *run, struct selection_options options) {
    struct selection_looks looks;
    struct session session;
    struct text command = {0};
    TRY(selection_look(options.strategy, &looks));
    session_open(run, &session);
    enum status st = comm_agree(run->comm, line_text(run, &command));
    if (st == OK && looks.clusters) {
        st = session_open_backend(&session, "cpu", true);
    }
    options.backend = session.backend;
    options.command = command.data;
    st = st == OK ? selection_run(&options) : st;
    text_free(&command);
    session_close(&session);
    return st;
}

enum status command_select(struct run *run) {
    const struct settings *s = run->settings;
    struct selection_options options = select_options(run);
    options.data = s->data;
    options.embeddings = s->embeddings;
    options.output = run->dry_run ? "" : s->output;
    options.report = s->select.report;
    TRY(session_need(s->data, "data"));
    if (!*s->select.strategy) {
        return fail(ERR_USAGE, "select.strategy is not set; give random, easy, hard, centroid, balanced or a "
                               "mix");
    }
    TRY(run->dry_run ? OK : session_need(s->output, "output"));
    return select_run(run, options);
}
