/* judge: which of two or more systems answered the same prompts better, by annotations, by the rewards that
 * stand with their answers, or by a model here; one object. Verdicts are few and small: rank 0 counts them.
 */
#include <string.h>

#include "command/deliver.h"
#include "command/judge/judge.h"
#include "data/question.h"
#include "util/log.h"
#include "util/mem.h"

static enum status read_answers(struct judge *j) {
    const char *list = j->run->settings->judge.answers;
    struct names names = {0};
    enum status st = names_split(&names, list);
    if (st == OK && (names.n < 2 || names.n > JUDGED_FILES)) {
        st = names.n < 2
                 ? fail(ERR_USAGE, "judge.answers: %s is one file; a comparison needs two or more", list)
                 : fail(ERR_USAGE, "judge.answers: more than %d files", JUDGED_FILES);
    }
    for (int i = 0; i < names.n && st == OK; i++) {
        st = replies_read(names.list[i], &j->systems[j->n_systems++]);
        for (int k = 0; k < i && st == OK; k++) {
            st = strcmp(j->systems[k].name, j->systems[i].name) != 0
                     ? OK
                     : fail(ERR_USAGE, "judge.answers: two files are called %s; name them apart",
                            j->systems[i].name);
        }
    }
    names_free(&names);
    return st;
}

/* Prompts that only one of two systems answered. */
static void tell_unanswered(const struct replies *x, const struct replies *y, int64_t common) {
    int64_t n = x->n + y->n - 2 * common;
    if (n > 0) {
        log_root(LOG_WARN, "left out: %lld prompts that only one of %s and %s answered", (long long)n,
                 x->name, y->name);
    }
}

/* Each pair of systems, the later one against all before it. */
static enum status compare_rewards(struct judge *j) {
    for (int b = 1; b < j->n_systems; b++) {
        for (int a = 0; a < b; a++) {
            int64_t before = j->verdicts.n;
            TRY(verdicts_from_rewards(&j->systems[a], &j->systems[b], &j->verdicts));
            if (j->n_pairs == 0) { /* else it was told when the pairs were made */
                tell_unanswered(&j->systems[a], &j->systems[b], j->verdicts.n - before);
            }
        }
    }
    return OK;
}

static enum status add_pairs(struct judge *j, int a, int b) {
    const struct replies *x = &j->systems[a];
    const struct replies *y = &j->systems[b];
    int64_t before = j->n_pairs;
    for (int64_t i = 0; i < x->n; i++) {
        const struct reply *other = replies_find(y, x->list[i].key);
        if (other) {
            TRY(GROW_ARRAY(j->pairs, j->pairs_capacity, j->n_pairs + 1));
            j->pairs[j->n_pairs++] = (struct judged){a, b, &x->list[i], other};
        }
    }
    if (j->n_pairs == before) {
        return fail(ERR_DATA, "%s and %s have no prompt in common", x->path, y->path);
    }
    tell_unanswered(x, y, j->n_pairs - before);
    return OK;
}

enum status judge_pair(struct judge *j) {
    for (int b = 1; b < j->n_systems; b++) {
        for (int a = 0; a < b; a++) {
            TRY(add_pairs(j, a, b));
        }
    }
    return OK;
}

enum status judge_prompt(const struct judge *j, const struct reply *reply, struct text *out) {
    text_clear(out);
    if (reply->prompt) {
        return text_puts(out, reply->prompt);
    }
    if (!j->data) {
        return fail(ERR_USAGE, "judge.answers: the files do not hold the prompts; set data to the preference "
                               "file that they are answers to");
    }
    if (reply->row >= dataset_size(j->data).prompts) {
        return fail(ERR_DATA, "%s: has no prompt %lld; data is not what was answered", dataset_path(j->data),
                    (long long)reply->row);
    }
    if (dataset_facts(j->data)->template_hash != 0) {
        return fail(ERR_USAGE,
                    "a chat template made the prompts of %s, and they would go through another one; give "
                    "answers that hold \"instruction\" (generate.format=alpaca_eval)",
                    dataset_path(j->data));
    }
    return question_prompt(j->data, j->data_tokenizer, reply->row, out);
}

/* Collective. The judge, and the prompts where they are needed. */
static enum status open_judge(struct judge *j) {
    struct session *s = &j->session;
    const struct settings *settings = j->run->settings;
    session_open(j->run, s);
    TRY(session_open_backend(s, NULL, true));
    TRY(session_open_model(s));
    bool is_reward = model_gives_values(&s->model->config);
    TRY(options_learn(j->run->options, LEARNT_REWARD_MODEL, is_reward));
    TRY(options_learn(j->run->options, LEARNT_LANGUAGE_MODEL, !is_reward));
    if (!*settings->data) {
        return OK;
    }
    TRY(dataset_open(s->comm, settings->data, &j->data));
    TRY(dataset_verify_once(s->comm, j->data, settings->trust_data, &j->run->seen));
    return comm_agree(s->comm, dataset_open_tokenizer(j->data, settings->tokenizer, &j->data_tokenizer));
}

/* Local. A question that is the same whichever answer is a asks nothing. Ends at the first pair that shows
 * the difference. */
static enum status check_template(const struct judge *j, struct asking *asking) {
    struct text prompt = {0};
    bool shows = false, differ = false;
    enum status st = OK;
    for (int64_t i = 0; i < j->n_pairs && st == OK && !shows; i++) {
        const struct judged *p = &j->pairs[i];
        const char *const answers[2] = {p->x->text, p->y->text};
        if (strcmp(answers[0], answers[1]) != 0) {
            differ = true;
            st = judge_prompt(j, p->x, &prompt);
            st = st == OK ? asking_shows(asking, prompt.data ? prompt.data : "", answers, &shows) : st;
        }
    }
    text_free(&prompt);
    return st != OK || shows || !differ
               ? st
               : fail(ERR_DATA,
                      "%s: neither answer stands in the question that it makes; write {{ a }} and {{ b }} "
                      "where they belong",
                      j->run->settings->judge.template);
}

/* Collective. Asks about the first pair alone: what cannot be asked ends the run here. */
static enum status try_first(struct judge *j) {
    struct asking asking = {0};
    struct text prompt = {0};
    struct ids ids = {0};
    const struct judged *p = &j->pairs[0];
    const char *const answers[2] = {p->x->text, p->y->text};
    int32_t choices[2];
    enum status st = asking_open(&j->session, &asking);
    st = st == OK ? judge_prompt(j, p->x, &prompt) : st;
    if (st == OK && !model_gives_values(&j->session.model->config)) {
        st = *j->run->settings->judge.template ? check_template(j, &asking) : OK;
        st = st != OK ? st : asking_ids(&asking, prompt.data ? prompt.data : "", answers, &ids, choices);
    }
    asking_close(&asking);
    text_free(&prompt);
    ids_free(&ids);
    return comm_agree(j->run->comm, st);
}

/* Collective. Verdicts of a model. */
static enum status ask_model(struct judge *j) {
    TRY(comm_agree(j->run->comm, read_answers(j)));
    TRY(comm_agree(j->run->comm, judge_pair(j)));
    TRY(open_judge(j));
    TRY(try_first(j));
    log_root(LOG_INFO, "%lld pairs of answers to judge", (long long)j->n_pairs);
    if (j->run->dry_run) {
        return OK;
    }
    if (!model_gives_values(&j->session.model->config)) {
        return judge_ask(j);
    }
    TRY(judge_reward(j));
    return comm_agree(j->run->comm, j->run->comm->rank == 0 ? compare_rewards(j) : OK);
}

/* Local, on rank 0. */
static enum status read_all(struct judge *j) {
    const struct settings *s = j->run->settings;
    TRY(*s->judge.annotations ? verdicts_read(s->judge.annotations, &j->verdicts) : OK);
    if (*s->judge.answers && !*s->model) {
        TRY(read_answers(j));
        TRY(compare_rewards(j));
    }
    TRY(*s->judge.gamed ? gamed_read(s->judge.gamed, &j->gamed) : OK);
    if (j->verdicts.n_unjudged > 0) {
        log_root(LOG_WARN, "%lld records without a preference are left out",
                 (long long)j->verdicts.n_unjudged);
    }
    return OK;
}

static enum status deliver(struct judge *j) {
    TRY(text_puts(&j->out, "}\n"));
    return deliver_text(j->run->settings->output, &j->out);
}

static enum status work(struct judge *j) {
    const struct settings *s = j->run->settings;
    struct comm *c = j->run->comm;
    const struct win_rate_options options = {
        .comm = c,
        .intervals = {s->evaluate.bootstrap, s->evaluate.confidence, (uint64_t)s->seed},
        .sensitivity = s->judge.sensitivity,
        .specificity = s->judge.specificity,
        .gamed = *s->judge.gamed ? &j->gamed : NULL};
    TRY(*s->model ? ask_model(j) : OK);
    enum status st = c->rank == 0 ? read_all(j) : OK;
    st =
        st == OK
            ? text_printf(&j->out, "{\"verdicts\": %lld, \"without_preference\": %lld, \"confidence\": %g",
                          (long long)j->verdicts.n, (long long)j->verdicts.n_unjudged, s->evaluate.confidence)
            : st;
    TRY(comm_agree(c, st));
    if (j->run->dry_run) {
        return OK;
    }
    TRY(win_rate_print(&options, &j->verdicts, &j->out));
    return comm_agree(c, c->rank == 0 ? deliver(j) : OK);
}

static void judge_close(struct judge *j) {
    for (int i = 0; i < j->n_systems; i++) {
        replies_free(&j->systems[i]);
    }
    mem_free(j->pairs);
    verdicts_free(&j->verdicts);
    gamed_free(&j->gamed);
    if (j->data) {
        dataset_close(j->data);
    }
    tokenizer_close(j->data_tokenizer);
    session_close(&j->session);
}

enum status command_judge(struct run *run) {
    const struct settings *s = run->settings;
    struct judge j = {.run = run};
    if (!*s->judge.annotations && !*s->judge.answers) {
        return fail(ERR_USAGE, "judge: set judge.annotations (a file of verdicts) or judge.answers (files of "
                               "answers, with rewards from generate or with model=FOLDER, which judges)");
    }
    if (s->judge.sensitivity + s->judge.specificity <= 1) {
        return fail(ERR_USAGE,
                    "judge.sensitivity + judge.specificity is at most 1: such a judge knows nothing");
    }
    enum status st = work(&j);
    judge_close(&j);
    text_free(&j.out);
    return st;
}
