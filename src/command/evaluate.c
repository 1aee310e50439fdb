/* evaluate: loss, margins, accuracies over exact rows, with confidence intervals, as one object. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "command/deliver.h"
#include "command/evaluate_kl.h"
#include "command/evaluate_users.h"
#include "command/steer_context.h"
#include "command/steer_data.h"
#include "command/trainer.h"
#include "evaluate/breakdown.h"
#include "evaluate/closed_set.h"
#include "evaluate/evaluation.h"
#include "evaluate/labels.h"
#include "evaluate/metrics.h"
#include "evaluate/values.h"
#include "mpi/watchdog.h"
#include "text/records.h"
#include "util/hash.h"
#include "util/log.h"

/* Ratios with an interval. margin_raw is the log-ratio difference without beta. */
enum value {
    VALUE_LOSS,
    VALUE_REWARD_CHOSEN,
    VALUE_REWARD_REJECTED,
    VALUE_ACCURACY,
    VALUE_MARGIN,
    VALUE_MARGIN_RAW,
    VALUE_LOGP_CHOSEN,
    VALUE_LOGP_REJECTED,
    VALUE_LOGP_ACCURACY,
    VALUE_NLL,
    VALUE_NLL_REJECTED,
    VALUE_TOKEN_ACCURACY,
    VALUE_LABELS, /* LABELS_MEASURES of them */
    VALUE_COUNT = VALUE_LABELS + LABELS_MEASURES,
    VALUE_BREAKDOWN = VALUE_COUNT /* of the accuracy, where there is a reference: breakdown_size of them */
};
enum need { NEED_NOTHING, NEED_SIDES, NEED_PAIRS, NEED_LOSS, NEED_REWARDS, NEED_REFERENCE };
static const struct {
    const char *name;
    enum need need;
} values[VALUE_LABELS] = {
    [VALUE_LOSS] = {"loss", NEED_LOSS},
    [VALUE_REWARD_CHOSEN] = {"rewards/chosen", NEED_REWARDS},
    [VALUE_REWARD_REJECTED] = {"rewards/rejected", NEED_REWARDS},
    [VALUE_ACCURACY] = {"rewards/accuracies", NEED_REFERENCE},
    [VALUE_MARGIN] = {"rewards/margins", NEED_REFERENCE},
    [VALUE_MARGIN_RAW] = {"margin_raw", NEED_REFERENCE},
    [VALUE_LOGP_CHOSEN] = {"logps/chosen", NEED_SIDES},
    [VALUE_LOGP_REJECTED] = {"logps/rejected", NEED_SIDES},
    [VALUE_LOGP_ACCURACY] = {"logps/accuracies", NEED_PAIRS},
    [VALUE_NLL] = {"nll", NEED_NOTHING},
    [VALUE_NLL_REJECTED] = {"nll/rejected", NEED_SIDES},
    [VALUE_TOKEN_ACCURACY] = {"mean_token_accuracy", NEED_NOTHING},
};

static struct interval_options interval_options(const struct settings *s) {
    return (struct interval_options){
        .samples = s->evaluate.bootstrap, .confidence = s->evaluate.confidence, .seed = (uint64_t)s->seed};
}

/* The reference where it runs over the same samples as the model. */
struct beside {
    struct model *model;
    struct workspace workspace;
    struct scorer scorer;
};

struct evaluation {
    struct session session;
    struct terms terms;
    struct ratios ratios;
    struct contexts contexts;
    struct text out;
    struct beside beside;
};

/* Losses that read two models at each token have both in memory. */
static bool reads_beside(const struct evaluation *e) {
    return e->terms.reads & READS_DIVERGENCE;
}

static const char *name_of(int v) {
    return v < VALUE_LABELS ? values[v].name : label_names[v - VALUE_LABELS];
}

/* Losses against a reference need one; SFT alone is the nll. */
static bool knows_loss(const struct evaluation *e) {
    return e->terms.rows != OVER_SEQUENCES && e->terms.n > 0 &&
           (e->terms.has_reference || !(e->terms.reads & READS_REFERENCE));
}

/* The accuracy of pairs is, by length, score gap and subset. */
static bool is_broken_down(const struct evaluation *e) {
    return e->terms.has_reference && e->terms.rows == OVER_PAIRS;
}

static bool applies(const struct evaluation *e, int v) {
    const struct terms *t = &e->terms;
    const bool is_met[] = {[NEED_NOTHING] = true,
                           [NEED_SIDES] = t->rows != OVER_SEQUENCES,
                           [NEED_PAIRS] = t->rows == OVER_PAIRS,
                           [NEED_LOSS] = knows_loss(e),
                           [NEED_REWARDS] = t->has_reference,
                           [NEED_REFERENCE] = is_broken_down(e)};
    bool is_asked = v >= VALUE_LABELS || is_met[values[v].need];
    /* Of labelled responses one side may be missing. */
    return is_asked && (ratios_rows(&e->ratios, v) > 0 || (v < VALUE_LABELS && t->rows != OVER_LABELED));
}

/* Whether the label of a pair is what scores and truth say. */
static void visit_label(struct evaluation *e, const struct sample *sample) {
    const struct sample_response *r = sample->responses;
    const struct label_pair pair = {{r[0].score, r[0].worth}, {r[1].score, r[1].worth}};
    if (sample->n_pairs == 1 && sample->pairs[0].label) {
        labels_count(&e->ratios, VALUE_LABELS, &pair);
    }
}

static void visit_pair(struct evaluation *e, const struct sample *sample, const struct scored_row *scored) {
    const struct response_score *scores = scored->responses;
    struct ratios *r = &e->ratios;
    ratios_count(r, VALUE_LOGP_CHOSEN, scores[0].logp, 1);
    ratios_count(r, VALUE_LOGP_REJECTED, scores[1].logp, 1);
    ratios_count(r, VALUE_LOGP_ACCURACY, scores[0].logp > scores[1].logp, 1);
    ratios_count(r, VALUE_NLL_REJECTED, -scores[1].logp, (double)scores[1].tokens);
    visit_label(e, sample);
}

/* What the implicit reward, beta times the log-ratio to the reference, says of a pair. */
static void visit_rewards(struct evaluation *e, const struct sample *sample, const struct sums *row) {
    struct ratios *r = &e->ratios;
    double margin = row->v[SUM_REWARD_CHOSEN] - row->v[SUM_REWARD_REJECTED];
    const struct breakdown_pair pair = {&sample->responses[0], &sample->responses[1],
                                        row->v[SUM_ACCURATE] > 0};
    ratios_count(r, VALUE_REWARD_CHOSEN, row->v[SUM_REWARD_CHOSEN], 1);
    ratios_count(r, VALUE_REWARD_REJECTED, row->v[SUM_REWARD_REJECTED], 1);
    ratios_count(r, VALUE_ACCURACY, pair.is_accurate, 1);
    ratios_count(r, VALUE_MARGIN, margin, 1);
    ratios_count(r, VALUE_MARGIN_RAW, margin / e->terms.options.beta, 1);
    breakdown_count(r, VALUE_BREAKDOWN, sample, &pair);
}

/* A labelled response is of one side: the desirable are called chosen, as in TRL. */
static void visit_labeled(struct evaluation *e, const struct scored_row *scored, const struct sums *row) {
    const struct response_score *own = &scored->responses[0];
    struct ratios *r = &e->ratios;
    bool good = scored->is_desirable;
    ratios_count(r, good ? VALUE_LOGP_CHOSEN : VALUE_LOGP_REJECTED, own->logp, 1);
    ratios_count(r, good ? VALUE_NLL : VALUE_NLL_REJECTED, -own->logp, (double)own->tokens);
    ratios_count(r, VALUE_TOKEN_ACCURACY, good ? (double)own->top : 0, good ? (double)own->tokens : 0);
    if (e->terms.has_reference) {
        ratios_count(r, good ? VALUE_REWARD_CHOSEN : VALUE_REWARD_REJECTED,
                     row->v[good ? SUM_REWARD_CHOSEN : SUM_REWARD_REJECTED], 1);
    }
}

static void visit_target(struct evaluation *e, const struct scored_row *scored) {
    const struct response_score *target = &scored->responses[scored->target];
    ratios_count(&e->ratios, VALUE_NLL, -target->logp, (double)target->tokens);
    ratios_count(&e->ratios, VALUE_TOKEN_ACCURACY, (double)target->top, (double)target->tokens);
}

/* A row's share of every ratio. */
static void visit(void *context, const struct sample *sample, const struct scored_row *scored,
                  const struct sums *row) {
    struct evaluation *e = context;
    if (e->terms.rows == OVER_LABELED) {
        visit_labeled(e, scored, row);
    } else {
        visit_target(e, scored);
    }
    if (e->terms.rows == OVER_PAIRS) {
        visit_pair(e, sample, scored);
    }
    if (knows_loss(e)) {
        ratios_count(&e->ratios, VALUE_LOSS, row->v[SUM_LOSS], 1);
    }
    if (is_broken_down(e)) {
        visit_rewards(e, sample, row);
    }
    ratios_end_row(&e->ratios, evaluation_unit(sample));
}

static enum status print_hashes(const struct session *s, struct text *out) {
    char digits[17];
    hash_text(s->model_hash, digits);
    TRY(text_printf(out, ", \"model_hash\": \"%s\"", digits));
    hash_text(dataset_hash(s->train.data), digits);
    return text_printf(out, ", \"data_hash\": \"%s\"", digits);
}

static const struct dataset_facts *facts_of(const struct evaluation *e) {
    return dataset_facts(e->session.train.data);
}

/* Of labelled responses: what is no ratio over rows. */
static enum status print_labeled(const struct evaluation *e, const struct sums *sums, struct text *out) {
    const struct ratios *r = &e->ratios;
    TRY(metrics_put(out, "", "desirable", sums->v[SUM_DESIRABLE]));
    if (e->terms.has_reference && sums->v[SUM_DESIRABLE] > 0 && sums->v[SUM_UNDESIRABLE] > 0) {
        TRY(metrics_put(out, "", "rewards/margins",
                        ratios_value(r, VALUE_REWARD_CHOSEN) - ratios_value(r, VALUE_REWARD_REJECTED)));
    }
    bool has_kl = knows_loss(e) && e->terms.scope == SCOPE_BATCH;
    return has_kl ? metrics_put(out, "", "kl", sums->v[SUM_KL] / sums->v[SUM_ROWS]) : OK;
}

static enum status print_result(struct evaluation *e, const struct sums *sums) {
    struct text *out = &e->out;
    const char *names[VALUE_COUNT] = {NULL};
    double tokens = sums->v[SUM_TARGET_TOKENS] + sums->v[SUM_REJECTED_TOKENS];
    TRY(metrics_put(out, "", "rows", sums->v[SUM_ROWS]));
    TRY(print_hashes(&e->session, out));
    bool with_sft = e->terms.target_weight != 0;
    if (with_sft) { /* as everywhere, "loss" is what is minimized */
        TRY(metrics_put(out, "", "loss", objective_value(&e->terms, sums)));
    }
    for (int v = 0; v < VALUE_COUNT; v++) {
        if (applies(e, v)) {
            names[v] = v == VALUE_LOSS && with_sft ? "preference_loss" : name_of(v);
            TRY(metrics_put(out, "", names[v], ratios_value(&e->ratios, v)));
        }
    }
    if (applies(e, VALUE_NLL)) {
        TRY(metrics_put(out, "", "perplexity", exp(ratios_value(&e->ratios, VALUE_NLL))));
    }
    TRY(metrics_put(out, "", "entropy", sums->v[SUM_ENTROPY] / tokens));
    TRY(e->terms.rows == OVER_LABELED ? print_labeled(e, sums, out) : OK);
    if (is_broken_down(e)) {
        TRY(breakdown_print(&e->ratios, VALUE_BREAKDOWN, facts_of(e), out));
    }
    return ratios_print(&e->ratios, names, VALUE_COUNT, out);
}

static enum status deliver(const struct evaluation *e) {
    const struct session *s = &e->session;
    return s->comm->rank == 0 ? deliver_text(s->settings->output, &e->out) : OK;
}

/* Collective. For the source's forests. */
static enum status open_workspace(struct session *s, const struct batch_source *source, enum pass_keep keep) {
    int64_t tokens = batch_forest_tokens(&source->plan, s->comm->size, &s->train.lengths);
    return session_workspace(s, s->model, keep, tokens, &s->workspace);
}

/* Collective. */
static enum status open_beside(struct evaluation *e, const struct batch_source *source) {
    struct session *s = &e->session;
    struct beside *b = &e->beside;
    const struct other_model reference = session_reference_of(s->settings->reference, IDS_ALL);
    int64_t tokens = batch_forest_tokens(&source->plan, s->comm->size, &s->train.lengths);
    TRY(session_open_other(s, &reference, &b->model, NULL));
    TRY(session_workspace(s, b->model, KEEP_INPUTS, tokens, &b->workspace));
    return comm_agree(s->comm, scorer_open(b->model, &b->workspace, KEEP_INPUTS, &b->scorer));
}

static void close_beside(struct beside *b) {
    scorer_close(&b->scorer);
    workspace_close(&b->workspace);
    model_close(b->model);
}

static enum status open_ratios(struct evaluation *e) {
    const struct interval_options intervals = interval_options(e->session.settings);
    int broken_down = is_broken_down(e) ? breakdown_size(facts_of(e)) : 0;
    TRY(ratios_open(&intervals, VALUE_COUNT + broken_down, &e->ratios));
    ratios_are_shares(&e->ratios, VALUE_ACCURACY, 1);
    ratios_are_shares(&e->ratios, VALUE_LOGP_ACCURACY, 1);
    ratios_are_shares(&e->ratios, VALUE_TOKEN_ACCURACY, 1 + LABELS_MEASURES + broken_down);
    return OK;
}

static enum status run_rows(struct evaluation *e) {
    struct session *s = &e->session;
    struct scorer scorer = {0};
    struct sums sums;
    struct batch_source source = session_evaluation(s, &s->train);
    enum pass_keep keep = reads_beside(e) ? KEEP_INPUTS : KEEP_NOTHING;
    TRY(contexts_open(s, 1, &e->contexts));
    TRY(open_workspace(s, &source, keep));
    TRY(reads_beside(e) ? open_beside(e, &source) : OK);
    enum status st = open_ratios(e);
    st = st == OK ? scorer_open(s->model, &s->workspace, keep, &scorer) : st;
    TRY_TO(done, comm_agree(s->comm, st));
    scorer.reference = reads_beside(e) ? &e->beside.scorer : NULL;
    scorer_condition(&scorer, contexts_condition(&e->contexts));
    watchdog_phase(s->comm->watchdog, "evaluating");
    TRY_TO(done, evaluate_rows(s->comm, &scorer, &source, &e->terms, visit, e, &sums));
    TRY_TO(done, ratios_reduce(s->comm, &e->ratios));
    TRY_TO(done, comm_agree(s->comm, print_result(e, &sums)));
    if (s->settings->evaluate.kl_positions > 0) {
        const struct interval_options intervals = interval_options(s->settings);
        TRY_TO(done, evaluate_kl(s, &intervals, &e->out));
    }
    st = text_puts(&e->out, "}\n");
    st = st == OK ? deliver(e) : st;
    st = comm_agree(s->comm, st);
done:
    scorer_close(&scorer);
    return st;
}

static enum status evaluate_labels(struct evaluation *e) {
    struct session *s = &e->session;
    const struct interval_options intervals = interval_options(s->settings);
    TRY(session_open_data(s, s->settings->data, (enum data_split)s->settings->split, &s->train.data));
    return s->run->dry_run
               ? OK
               : labels_evaluate(s->comm, s->train.data, s->settings->evaluate.rows, &intervals, &e->out);
}

static enum status evaluate_reward(struct evaluation *e) {
    struct session *s = &e->session;
    const struct settings *settings = s->settings;
    const struct rows_request request = {.path = settings->data,
                                         .key = "data",
                                         /* A split has some of a prompt's responses. */
                                         .kind = settings->split ? ROWS_COMPARED : ROWS_PROMPTS,
                                         .split = (enum data_split)settings->split,
                                         .limit = settings->evaluate.rows};
    if (*settings->reference) {
        return fail(ERR_USAGE, "reference is set, but %s is a reward model, which needs none",
                    settings->model);
    }
    TRY(session_open_rows(s, &request, &s->train));
    if (s->run->dry_run) {
        return OK;
    }
    const struct batch_source source = session_evaluation(s, &s->train);
    TRY(open_workspace(s, &source, KEEP_NOTHING));
    const struct values_options options = {
        .comm = s->comm,
        .model = s->model,
        .model_hash = s->model_hash,
        .workspace = &s->workspace,
        .rows = &s->train,
        .source = &source,
        .label_margin = settings->evaluate.label_margin,
        .reward = {.use_margin = settings->reward.margin, .centering = settings->reward.centering},
        .intervals = interval_options(settings),
    };
    return values_evaluate(&options, &e->out);
}

/* Characters and bytes of a choice, without the space in front of it. */
static enum status choice_length(void *context, const struct sample_response *r, int64_t *characters,
                                 int64_t *bytes) {
    const struct session *s = context;
    struct text text = {0};
    *characters = *bytes = 0;
    enum status st = tokenizer_decode_after(s->tokenizer, r->tokens, r->count, true, &text);
    if (st == OK && text.len > 0) {
        size_t space = text.data[0] == ' ';
        *bytes = (int64_t)(text.len - space);
        *characters = text_characters(text.data + space, text.len - space);
    }
    text_free(&text);
    return st;
}

static enum status evaluate_choices(struct evaluation *e) {
    struct session *s = &e->session;
    const struct rows_request request = {.path = s->settings->data,
                                         .key = "data",
                                         .kind = ROWS_PROMPTS,
                                         .limit = s->settings->evaluate.rows,
                                         .split = (enum data_split)s->settings->split};
    if (*s->settings->reference) {
        return fail(ERR_USAGE, "reference is set, but choices are compared under the model alone");
    }
    if (!s->tokenizer) {
        return fail(ERR_USAGE, "%s has no tokenizer, which choices' lengths need", s->settings->model);
    }
    TRY(session_open_rows(s, &request, &s->train));
    if (s->run->dry_run) {
        return OK;
    }
    const struct batch_source source = session_evaluation(s, &s->train);
    TRY(open_workspace(s, &source, KEEP_NOTHING));
    const struct closed_set_options options = {.comm = s->comm,
                                               .model = s->model,
                                               .model_hash = s->model_hash,
                                               .workspace = &s->workspace,
                                               .rows = &s->train,
                                               .source = &source,
                                               .length = choice_length,
                                               .context = s,
                                               .intervals = interval_options(s->settings)};
    return closed_set_evaluate(&options, &e->out);
}

/* Collective. Whether the data are prompts with right and wrong choices. */
static enum status are_choices(struct session *s, bool *out) {
    struct dataset *data;
    TRY(dataset_open(s->comm, s->settings->data, &data));
    const char *format = dataset_facts(data)->format;
    *out = format && strcmp(format, record_format_name(FORMAT_CHOICES)) == 0;
    dataset_close(data);
    return OK;
}

/* Collective. All rows are one batch: each is compared with the response of the one before, where there is a
 * reference to compare by. */
static enum status open_labeled(struct evaluation *e, struct rows_request *request) {
    struct session *s = &e->session;
    bool reads_mismatched = e->terms.reads & READS_MISMATCHED && *s->settings->reference;
    int64_t all = request->limit > 0 ? request->limit : INT64_MAX;
    request->kind = ROWS_UNPAIRED;
    request->mismatch = reads_mismatched ? all : 0;
    e->terms.scope = reads_mismatched ? e->terms.scope : SCOPE_ROW;
    TRY(session_open_rows(s, request, &s->train));
    return !reads_mismatched || s->train.n > 1
               ? OK
               : fail(ERR_USAGE, "%s: one row: dpo.loss=%s compares a response with those of other rows",
                      request->path, s->settings->dpo.loss);
}

/* Local. Before rows go through the model: what reads its logits comes last. */
static enum status look_at_reference(struct evaluation *e) {
    struct session *s = &e->session;
    bool reads_logits = reads_beside(e) || s->settings->evaluate.kl_positions > 0;
    bool is_read = reads_logits || e->terms.has_reference;
    return is_read ? session_look_reference(s, &s->model->config, reads_logits ? IDS_ALL : IDS_OF_ROWS) : OK;
}

/* Pairs without a reference have no loss of those that read one: whoever names one wants it. Local. */
static enum status check_loss(const struct evaluation *e) {
    const struct settings *s = e->session.settings;
    bool is_wanted = options_is_set(e->session.run->options, "dpo.loss") && !*s->reference;
    return is_wanted && e->terms.rows == OVER_PAIRS && (e->terms.reads & READS_REFERENCE)
               ? fail(ERR_USAGE,
                      "dpo.loss=%s: is measured against a reference; set reference, or leave it away",
                      s->dpo.loss)
               : OK;
}

/* Loss, margins and accuracies of a language model. */
static enum status evaluate_language(struct evaluation *e, struct rows_request *request) {
    struct session *s = &e->session;
    const struct settings *settings = s->settings;
    bool is_compared = e->terms.rows == OVER_LABELED;
    if (is_compared) {
        TRY(open_labeled(e, request));
    } else {
        TRY(rows_kind(s->comm, request->path, ROWS_RESPONSES, &request->kind));
        is_compared = request->kind == ROWS_PAIRS;
        request->kind = is_compared ? ROWS_LABELED : request->kind;
        TRY(session_open_rows(s, request, &s->train));
    }
    if (!is_compared) {
        terms_one("sft", &e->terms);
    }
    TRY(check_loss(e));
    e->terms.has_reference = is_compared && *settings->reference;
    if (s->steers && settings->evaluate.kl_positions > 0) {
        return fail(ERR_USAGE, "evaluate.kl_positions: not of a steered policy");
    }
    TRY(comm_agree(s->comm, look_at_reference(e)));
    if (s->run->dry_run) {
        return OK;
    }
    if (e->terms.has_reference && !reads_beside(e)) {
        struct batch_source source = session_evaluation(s, &s->train);
        const struct reference_request reference = {.rows = &s->train,
                                                    .source = &source,
                                                    .steps = INT64_MAX,
                                                    .is_main = true,
                                                    .tokens = e->terms.reads & READS_TOKEN_REFERENCE};
        TRY(session_reference(s, &reference));
    }
    return run_rows(e);
}

static enum status evaluate_work(struct evaluation *e) {
    struct session *s = &e->session;
    const struct settings *settings = s->settings;
    struct rows_request request = {.path = settings->data,
                                   .key = "data",
                                   .split = (enum data_split)settings->split,
                                   .limit = settings->evaluate.rows};
    TRY(session_need(settings->data, "data"));
    if (!*settings->model) {
        TRY(evaluate_labels(e));
        return s->run->dry_run ? OK : comm_agree(s->comm, deliver(e));
    }
    TRY(options_learn(s->run->options, LEARNT_USERS, steer_has_users(settings)));
    TRY(session_open_backend(s, NULL, true));
    TRY(session_open_model(s));
    if (steer_has_users(settings)) {
        TRY(evaluate_users(s, &e->out));
        return s->run->dry_run ? OK : comm_agree(s->comm, deliver(e));
    }
    bool is_reward = model_gives_values(&s->model->config);
    TRY(options_learn(s->run->options, LEARNT_REWARD_MODEL, is_reward));
    TRY(options_learn(s->run->options, LEARNT_LANGUAGE_MODEL, !is_reward));
    if (is_reward) {
        TRY(evaluate_reward(e));
        return s->run->dry_run ? OK : comm_agree(s->comm, deliver(e));
    }
    bool choices;
    TRY(are_choices(s, &choices));
    if (choices) {
        TRY(evaluate_choices(e));
        return s->run->dry_run ? OK : comm_agree(s->comm, deliver(e));
    }
    return evaluate_language(e, &request);
}

static enum status check_beside(const struct settings *s) {
    bool is_adapted = session_adapts_reference(s);
    if (!*s->reference) {
        return fail(ERR_USAGE,
                    "dpo.loss=%s: compares the model with its reference at each token; set reference",
                    s->dpo.loss);
    }
    if (is_adapted || *s->dpo.reference_file) {
        return fail(ERR_USAGE, "dpo.loss=%s: %s has no effect where the reference runs beside the model",
                    s->dpo.loss, is_adapted ? "reference.adapter" : "dpo.reference_file");
    }
    return OK;
}

enum status command_evaluate(struct run *run) {
    const struct settings *s = run->settings;
    struct evaluation e = {0};
    TRY(dpo_losses(run, &e.terms));
    if (reads_beside(&e)) {
        TRY(check_beside(s));
    }
    if (e.terms.rows != OVER_PAIRS && e.terms.rows != OVER_LABELED) {
        return fail(ERR_USAGE,
                    "dpo.loss=%s: evaluate reads pairs or labelled responses; training shows this loss on "
                    "eval_data",
                    s->dpo.loss);
    }
    session_open(run, &e.session);
    enum status st = evaluate_work(&e);
    ratios_close(&e.ratios);
    contexts_close(&e.contexts);
    close_beside(&e.beside);
    text_free(&e.out);
    session_close(&e.session);
    return st;
}
