/* A model's verdicts: questions dealt over ranks, each computed alone, so that neither the rank count nor
 * what stands beside it changes a bit of it. */
#include <math.h>
#include <string.h>

#include "command/judge/judge.h"
#include "io/ordered.h"
#include "score/work.h"
#include "util/log.h"
#include "util/mem.h"

enum { UNITS_PER_RANK = 16, ROOM = 512 };

struct judging {
    struct judge *judge;
    struct asking asking;
    struct pass *pass;
    struct workspace workspace;
    int64_t room; /* tokens that the workspace is for */
    struct forest forest;
    struct ids ids;
    float *logits;
    struct text prompt;
    int64_t beyond;             /* texts that are longer than the model's positions; this rank's */
    double *results;            /* ORDERS of each unit; this rank's, 0 elsewhere */
    struct ordered_file *saved; /* judge.save; NULL: none */
    struct text lines;
};
enum { ORDERS = 2 };

static void judging_close(struct judging *g) {
    asking_close(&g->asking);
    pass_close(g->pass);
    workspace_close(&g->workspace);
    forest_free(&g->forest);
    ids_free(&g->ids);
    mem_free(g->logits);
    text_free(&g->prompt);
    mem_free(g->results);
    text_free(&g->lines);
    ordered_abandon(g->saved);
}

/* A pass that so many tokens fit into. */
static enum status make_room(struct judging *g, int64_t tokens) {
    struct model *m = g->judge->session.model;
    int64_t bytes;
    int n;
    if (g->pass && tokens <= g->room) {
        return OK;
    }
    pass_close(g->pass);
    g->pass = NULL;
    workspace_close(&g->workspace);
    g->workspace = (struct workspace){0};
    g->room = (tokens + tokens / 4 + ROOM - 1) / ROOM * ROOM;
    TRY(to_int(g->room, "tokens of a question", &n));
    TRY(pass_bytes(&m->config, &m->backend->caps, KEEP_NOTHING, n, 1, &bytes));
    TRY(workspace_open(m->backend, bytes, &g->workspace));
    return pass_open(m, &g->workspace, KEEP_NOTHING, &g->pass);
}

/* Whether the model can read g->ids. */
static enum status check_length(struct judging *g) {
    const struct model_config *config = &g->judge->session.model->config;
    int64_t n = g->ids.count, positions = model_positions(config);
    if (n == 0) {
        return fail(ERR_DATA, "a text without any token");
    }
    if (config->learned_positions && n > config->max_positions) {
        return fail(ERR_DATA,
                    "%lld tokens with all that stands around it, and the judge has positions for %lld",
                    (long long)n, (long long)config->max_positions);
    }
    g->beyond += positions > 0 && n > positions;
    return OK;
}

/* The pass over g->ids, read out at the last one. */
static enum status forward(struct judging *g, int64_t row) {
    const struct model_config *config = &g->judge->session.model->config;
    int32_t segment;
    int count;
    TRY(check_length(g));
    TRY(to_int(g->ids.count, "tokens of a question", &count));
    TRY(make_room(g, count));
    forest_clear(&g->forest);
    TRY(forest_add(&g->forest, -1, g->ids.data, count, row, &segment));
    TRY(forest_value(&g->forest, segment, config->head == HEAD_SCORE ? config->pad_id : -1));
    TRY(forest_finish(&g->forest, config->vocabulary, config->learned_positions ? config->max_positions : 0));
    return pass_forward(g->pass, &g->forest);
}

/* The probability that the answer shown as B is the better one. */
static enum status ask(struct judging *g, const struct judged *p, bool swapped, double *out) {
    const char *const answers[2] = {swapped ? p->y->text : p->x->text, swapped ? p->x->text : p->y->text};
    int32_t choices[2];
    TRY(asking_ids(&g->asking, g->prompt.data ? g->prompt.data : "", answers, &g->ids, choices));
    TRY(forward(g, p->x->key));
    TRY(pass_logits(g->pass, g->forest.readout_at, 1, g->logits));
    double difference = (double)g->logits[choices[1]] - (double)g->logits[choices[0]];
    if (!isfinite(difference)) {
        return fail(ERR_DATA, "the judge's logits are not finite");
    }
    *out = 1 / (1 + exp(-difference));
    return OK;
}

/* What the two orders come to, for b. in_order: shown last, shown first. */
static double preference(const struct settings *s, const double in_order[ORDERS]) {
    double last = in_order[0], first = in_order[1];
    if (s->judge.verdict == 1) {
        return (last + first) / 2;
    }
    return last > 0.5 && first > 0.5 ? 1 : last < 0.5 && first < 0.5 ? 0 : 0.5;
}

static enum status put_line(struct judging *g, const struct judged *p, const double in_order[ORDERS]) {
    const struct judge *j = g->judge;
    const char *names[] = {j->systems[p->a].name, j->systems[p->b].name};
    struct text *out = &g->lines;
    TRY(text_printf(out, "{\"row\": %lld", (long long)p->x->key));
    for (int i = 0; i < 2; i++) {
        TRY(text_printf(out, ", \"%s\": ", i ? "b" : "a"));
        TRY(text_json(out, names[i], strlen(names[i])));
    }
    TRY(text_puts(out, ", \"preference\": "));
    TRY(text_json_number(out, preference(j->run->settings, in_order)));
    TRY(text_puts(out, ", \"orders\": ["));
    TRY(text_json_number(out, in_order[0]));
    TRY(text_puts(out, ", "));
    TRY(text_json_number(out, in_order[1]));
    return text_printf(out, "], \"length_a\": %lld, \"length_b\": %lld}\n", (long long)p->x->length,
                       (long long)p->y->length);
}

static enum status ask_units(void *context, const int64_t *units, int64_t n) {
    struct judging *g = context;
    text_clear(&g->lines);
    for (int64_t i = 0; i < n; i++) {
        const struct judged *p = &g->judge->pairs[units[i]];
        double *results = g->results + units[i] * ORDERS;
        TRY(judge_prompt(g->judge, p->x, &g->prompt));
        for (int order = 0; order < ORDERS; order++) {
            if (ask(g, p, order == 1, &results[order]) != OK) {
                return note("asking about line %lld of %s", (long long)p->x->line,
                            g->judge->systems[p->a].path);
            }
        }
        results[1] = 1 - results[1]; /* there b was shown first */
        TRY(g->saved ? put_line(g, p, results) : OK);
    }
    return OK;
}

static enum status write_units(void *context) {
    struct judging *g = context;
    return g->saved ? ordered_append(g->saved, OK, g->lines.data ? g->lines.data : "", g->lines.len) : OK;
}

/* Reply `unit` of all systems' end to end. */
static struct reply *reply_at(const struct judge *j, int64_t unit) {
    int i = 0;
    while (unit >= j->systems[i].n) {
        unit -= j->systems[i++].n;
    }
    return &j->systems[i].list[unit];
}

static enum status reward_units(void *context, const int64_t *units, int64_t n) {
    struct judging *g = context;
    for (int64_t i = 0; i < n; i++) {
        const struct reply *reply = reply_at(g->judge, units[i]);
        TRY(judge_prompt(g->judge, reply, &g->prompt));
        TRY(asking_reply_ids(&g->asking, g->prompt.data ? g->prompt.data : "", reply->text, &g->ids));
        if (forward(g, reply->key) != OK) {
            return note("judging the answer of line %lld", (long long)reply->line);
        }
        TRY(pass_values(g->pass, g->forest.readout_at, 1, &g->results[units[i]]));
        if (!isfinite(g->results[units[i]])) {
            return fail(ERR_DATA, "the judge's reward of the answer of line %lld is not finite",
                        (long long)reply->line);
        }
    }
    return OK;
}

/* Collective. n units with `each` results, which every rank has then. */
static enum status run(struct judging *g, int64_t n, int each,
                       enum status (*compute)(void *, const int64_t *, int64_t)) {
    struct comm *c = g->judge->run->comm;
    struct work work = {
        .context = g,
        .label = "judge",
        .unit = each == ORDERS ? "pairs" : "answers",
        .phase = each == ORDERS ? "judging from pair" : "judging from answer",
        .n = n,
        .round = (int64_t)UNITS_PER_RANK * c->size,
        .compute = compute,
        .write = write_units,
    };
    enum status st = asking_open(&g->judge->session, &g->asking);
    st = st == OK ? NEW_ARRAY(g->results, n * each) : st;
    st = st == OK ? NEW_ARRAY(g->logits, g->judge->session.model->config.vocabulary) : st;
    TRY(comm_agree(c, st));
    TRY(work_run(c, &work));
    TRY(comm_sum_i64(c, &g->beyond, 1));
    if (g->beyond > 0) {
        log_root(LOG_WARN, "%lld texts go beyond the judge's %lld positions", (long long)g->beyond,
                 (long long)model_positions(&g->judge->session.model->config));
    }
    return comm_sum_f64(c, g->results, n * each);
}

/* Local, on rank 0. */
static enum status take_verdicts(struct judge *j, const double *results) {
    struct verdicts *v = &j->verdicts;
    int64_t record = 0;
    for (int64_t i = 0; i < j->n_pairs; i++) {
        const struct judged *p = &j->pairs[i];
        const double *r = results + i * ORDERS;
        record = i > 0 && (p->a != p[-1].a || p->b != p[-1].b) ? 0 : record;
        struct verdict verdict = {.prompt = p->x->key,
                                  .record = record++,
                                  .preference = preference(j->run->settings, r),
                                  .length = {p->x->length, p->y->length},
                                  .both_orders = true,
                                  .in_order = {r[0], r[1]}};
        TRY(verdicts_system(v, j->systems[p->a].name, &verdict.first));
        TRY(verdicts_system(v, j->systems[p->b].name, &verdict.second));
        TRY(verdicts_add(v, verdict));
    }
    return OK;
}

enum status judge_ask(struct judge *j) {
    struct judging g = {.judge = j};
    struct comm *c = j->run->comm;
    const char *save = j->run->settings->judge.save;
    enum status st;
    TRY_TO(done, *save ? ordered_open(c, save, &g.saved) : OK);
    TRY_TO(done, run(&g, j->n_pairs, ORDERS, ask_units));
    if (g.saved) {
        struct ordered_file *file = g.saved;
        g.saved = NULL;
        TRY_TO(done, ordered_finish(file));
    }
    st = comm_agree(c, c->rank == 0 ? take_verdicts(j, g.results) : OK);
done:
    judging_close(&g);
    return st;
}

enum status judge_reward(struct judge *j) {
    struct judging g = {.judge = j};
    int64_t n = 0;
    for (int i = 0; i < j->n_systems; i++) {
        n += j->systems[i].n;
    }
    enum status st = run(&g, n, 1, reward_units);
    for (int64_t i = 0; i < n && st == OK; i++) {
        reply_at(j, i)->reward = g.results[i];
    }
    judging_close(&g);
    return st;
}
