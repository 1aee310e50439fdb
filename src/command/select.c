/* select: a view of a preference file with the pairs that a strategy chooses, for training or for annotators;
 * or with those that annotators have answered. */
#include "command/select.h"

#include "command/line.h"
#include "command/session.h"
#include "data/question.h"
#include "select/answers.h"
#include "select/rewarded.h"

struct selection_options select_options(struct run *run) {
    const struct settings *s = run->settings;
    return (struct selection_options){
        .comm = run->comm,
        .compare = s->select.compare,
        .exclude = s->select.exclude,
        .export = "",
        .split = (enum data_split)s->split,
        .strategy = s->select.strategy,
        .scope = (enum selection_scope)s->select.scope,
        .fraction = s->select.fraction,
        .has_fraction = options_is_set(run->options, "select.fraction"),
        .count = s->select.count,
        .clusters = s->select.clusters,
        .seeding = (enum kmeans_seeding)s->select.seeding,
        .seed = s->seed,
        .trust_data = s->trust_data,
        .seen = &run->seen,
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

static enum status take_answers(struct run *run) {
    const struct settings *s = run->settings;
    struct text command = {0};
    TRY(run->dry_run ? OK : session_need(s->output, "output"));
    enum status st = comm_agree(run->comm, line_text(run, &command));
    const struct answers_options options = {.comm = run->comm,
                                            .data = s->data,
                                            .answers = s->select.answers,
                                            .output = run->dry_run ? "" : s->output,
                                            .report = s->select.report,
                                            .command = command.data,
                                            .trust_data = s->trust_data};
    st = st == OK ? answers_run(&options) : st;
    text_free(&command);
    return st;
}

/* Collective. What only looks at rewards. */
static enum status select_by_rewards(struct run *run) {
    const struct settings *s = run->settings;
    const struct {
        const char *key, *value;
    } idle[] = {{"embeddings", s->embeddings},
                {"select.compare", s->select.compare},
                {"select.export", s->select.export},
                {"select.exclude", s->select.exclude}};
    struct text command = {0};
    if (s->select.scope == SCOPE_PROMPTS) {
        return fail(ERR_USAGE, "select.scope=prompts: select.strategy=%s selects among the file's pairs",
                    s->select.strategy);
    }
    for (int i = 0; i < COUNT_OF(idle); i++) {
        if (*idle[i].value) {
            return fail(ERR_USAGE, "%s: has no effect with select.strategy=%s", idle[i].key,
                        s->select.strategy);
        }
    }
    TRY(run->dry_run ? OK : session_need(s->output, "output"));
    enum status st = comm_agree(run->comm, line_text(run, &command));
    bool has_fraction = options_is_set(run->options, "select.fraction");
    const struct rewarded_options options = {.comm = run->comm,
                                             .data = s->data,
                                             .strategy = s->select.strategy,
                                             .split = (enum data_split)s->split,
                                             .rewards = s->select.rewards,
                                             .samples = s->select.samples,
                                             .output = run->dry_run ? "" : s->output,
                                             .report = s->select.report,
                                             .command = command.data,
                                             .fraction = has_fraction ? s->select.fraction : 1,
                                             .count = s->select.count,
                                             .trust_data = s->trust_data};
    st = st == OK ? rewarded_run(&options) : st;
    text_free(&command);
    return st;
}

/* Collective. The tokenizer is looked for before any work. */
static enum status open_tokenizer(struct run *run, struct tokenizer **out) {
    struct dataset *data;
    TRY(dataset_open(run->comm, run->settings->data, &data));
    enum status st = dataset_open_tokenizer(data, run->settings->tokenizer, out);
    dataset_close(data);
    return comm_agree(run->comm, st);
}

enum status command_select(struct run *run) {
    const struct settings *s = run->settings;
    struct selection_options options = select_options(run);
    struct tokenizer *tokenizer = NULL;
    TRY(session_need(s->data, "data"));
    if (*s->select.answers) {
        return take_answers(run);
    }
    if (!*s->select.strategy) {
        return fail(ERR_USAGE,
                    "select.strategy is not set; give random, easy, hard, centroid, balanced, a mix, "
                    "filtered or curriculum (or select.answers=FILE for what annotators answered)");
    }
    if (rewarded_knows(s->select.strategy)) {
        return select_by_rewards(run);
    }
    TRY(run->dry_run || *s->select.export ? OK : session_need(s->output, "output"));
    TRY(*s->select.export ? open_tokenizer(run, &tokenizer) : OK);
    options.data = s->data;
    options.embeddings = s->embeddings;
    options.output = run->dry_run ? "" : s->output;
    options.export = run->dry_run ? "" : s->select.export;
    options.report = s->select.report;
    options.tokenizer = tokenizer;
    enum status st = select_run(run, options);
    if (tokenizer) {
        tokenizer_close(tokenizer);
    }
    return st;
}
