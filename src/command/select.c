/* select: a view of a preference file with the pairs that a strategy chooses. */
#include "command/session.h"
#include "select/selection.h"

enum status command_select(struct run *run) {
    const struct settings *s = run->settings;
    const struct selection_request request = {.data = s->data,
                                              .embeddings = s->embeddings,
                                              .output = run->dry_run ? "" : s->output,
                                              .report = s->select.report};
    TRY(session_need(s->data, "data"));
    if (!*s->select.strategy) {
        return fail(ERR_USAGE, "select.strategy is not set; give random, easy, hard, centroid, balanced or a "
                               "mix");
    }
    TRY(run->dry_run ? OK : session_need(s->output, "output"));
    return selection_run(run, &request);
}
