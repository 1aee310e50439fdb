/* The source of online's batches: what it takes, and how it is opened. */
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "command/online/online.h"
#include "command/stops.h"
#include "store/model_source.h"
#include "util/hash.h"
#include "util/log.h"
#include "util/mem.h"

/* Of a rollout, whose numbers by token every rank has, and the most of them while it is drawn. */
enum { BYTES_OF_TOKEN = 96 };

/* What it holds. */
struct online_state {
    struct experience experience;
    struct decoder_options other; /* of samples that are not the policy's own */
    struct stop_set stops;
    bool *barred;     /* ids that the tokenizer does not have; NULL: none */
    double *expected; /* tokens of a response, by row */
    struct reward_model models[MOST_REWARD_MODELS];
    int n_models;
    struct rewarder *rewarder;
    struct model *reference;    /* the session's own model, or the next one's; NULL: none */
    struct live_reference live; /* owns a second model */
    struct text folder;         /* of rollouts */
};

/* Rows. */

static int64_t batch_of(const struct settings *s) {
    return s->online.prompts;
}

static int64_t span_of(const struct settings *s) {
    return s->online.inner_epochs;
}

static void request(const struct settings *s, struct rows_request *out) {
    out->kind = ROWS_BARE;
    out->mismatch = 0;
    out->drawn = online_samples(s);
    out->apart = s->online.method == ONLINE_RAFT;
    out->truncation.max_response = (int32_t)s->online.max_new_tokens;
}

/* Local. The folders of a list with commas. Nothing is left to be freed where it fails. */
static enum status list_folders(const char *text, struct names *out) {
    *out = (struct names){0};
    enum status st = names_split(out, text);
    if (st == OK && out->n > MOST_REWARD_MODELS) {
        st = fail(ERR_USAGE, "reward_model: %d folders, at most %d", out->n, MOST_REWARD_MODELS);
    }
    if (st != OK) {
        names_free(out);
    }
    return st;
}

/* Memory. */

/* Whether a model of its own gives the reference. */
static bool has_second(const struct trainer *t) {
    const struct settings *s = t->session.settings;
    bool adapts = *s->adapter || s->lora.rank > 0;
    bool is_base = !*s->reference || strcmp(s->reference, s->model) == 0;
    return t->terms.has_reference && !(adapts && is_base);
}

/* Bytes of a folder's weights as they are held for passes alone. */
static enum status frozen_bytes(const struct backend *b, const struct model_config *config, int64_t *out) {
    TRY(estimate_elements(config, out));
    *out *= dtype_size(b->caps.compute) * (b->caps.keeps_weights ? 2 : 1);
    return OK;
}

/* Of groups, the logits that are drawn from have the temperature: set_temperature(). What is left out of a
 * draw is only where no ratio is formed: a ratio would have to be that of what was drawn from, token by
 * token, and a pass knows all tokens. */
static struct sampling sampling_of(const struct settings *s) {
    return (struct sampling){.temperature = online_way_of(s)->by_group ? 1 : s->online.temperature,
                             .top_k = s->online.top_k,
                             .top_p = s->online.top_p,
                             .min_p = s->online.min_p};
}

static struct decoder_options decoder_options_of(const struct trainer *t) {
    const struct settings *s = t->session.settings;
    return (struct decoder_options){
        .sampling = sampling_of(s),
        .repetition_penalty = 1,
        .seed = (uint64_t)s->seed,
        .sequences = (int32_t)s->online.sequences,
        .max_prompt = (int32_t)(t->session.train.longest_path - s->online.max_new_tokens),
        .max_new_tokens = (int32_t)s->online.max_new_tokens,
    };
}

/* Adds what a reward model takes. */
static enum status judge_memory(const struct trainer *t, const char *folder, struct estimate_options *out) {
    struct model_config config;
    int64_t bytes, pass;
    int n;
    TRY(model_source_find(folder, &config));
    config.head = HEAD_SCORE;
    TRY(frozen_bytes(t->session.backend, &config, &bytes));
    TRY(to_int(batch_forest_tokens(&t->data.plan, t->data.size, &t->session.train.lengths),
               "tokens of the largest forest", &n));
    TRY(pass_bytes(&config, &t->session.backend->caps, KEEP_NOTHING, n, n, &pass));
    out->others += bytes;
    out->drawing = pass > out->drawing ? pass : out->drawing;
    return OK;
}

static enum status memory(struct trainer *t, struct estimate_options *out) {
    const struct settings *s = t->session.settings;
    struct decoder_options options = decoder_options_of(t);
    struct names folders;
    int64_t bytes;
    enum status st = OK;
    if (online_way_of(s)->by_group) {
        out->config.logit_scale /= s->online.temperature; /* a pass holds scaled copies: set_temperature() */
    }
    TRY(decoder_bytes(&out->config, &t->session.backend->caps, &options, &out->drawing));
    out->held = t->data.plan.batch * online_samples(s) * s->online.max_new_tokens * BYTES_OF_TOKEN;
    if (online_has_other(s)) { /* the other voice's cache */
        out->others += out->drawing;
    }
    if (has_second(t)) {
        TRY(frozen_bytes(t->session.backend, &out->config, &bytes));
        out->others += s->online.sync_reference ? 2 * bytes : bytes;
    }
    TRY(list_folders(s->reward_model, &folders));
    for (int i = 0; i < folders.n && st == OK; i++) {
        st = judge_memory(t, folders.list[i], out);
    }
    names_free(&folders);
    return st;
}

/* It says what it makes of what the policy draws, or draws with it. */
static enum other_ids reference_ids(const struct settings *s) {
    return online_has_other(s) ? IDS_ALL : IDS_DRAWN;
}

static enum status look(struct trainer *t, const struct model_config *config) {
    struct names folders;
    enum status st = OK;
    TRY(list_folders(t->session.settings->reward_model, &folders));
    for (int i = 0; i < folders.n && st == OK; i++) {
        const struct other_model judge = session_judge_of(folders.list[i]);
        st = session_look_other(&t->session, config, &judge);
    }
    names_free(&folders);
    return st == OK ? OK : note("looking at reward_model");
}

/* Rollouts that an earlier run kept. Local. */
static enum status forget(const struct trainer *t) {
    struct text path = {0};
    enum status st = text_printf(&path, "%s/rollouts", t->session.settings->output);
    DIR *folder = st == OK ? opendir(path.data) : NULL;
    size_t length = path.len;
    for (struct dirent *entry = folder ? readdir(folder) : NULL; entry && st == OK; entry = readdir(folder)) {
        if (text_starts(entry->d_name, "step-") && text_ends(entry->d_name, ".jsonl")) {
            path.len = length;
            st = text_printf(&path, "/%s", entry->d_name);
            if (st == OK && unlink(path.data) != 0) {
                st = fail(ERR_WRITE, "%s: cannot be removed: %s", path.data, strerror(errno));
            }
        }
    }
    if (folder) {
        closedir(folder);
    }
    text_free(&path);
    return st;
}

/* Opening. */

/* The reference's numbers of a batch. Local: nobody else has the workspace. */
static enum status score_reference(void *context, struct batch *b) {
    struct trainer *t = context;
    struct online_state *o = t->own_state;
    struct live_reference *live = &o->live;
    session_turn(&t->session, true);
    enum status st = scorer_open(o->reference, &t->session.workspace, KEEP_NOTHING, &live->scorer);
    st = st == OK ? live_reference_score(live, b) : st;
    scorer_close(&live->scorer);
    session_turn(&t->session, false);
    return st;
}

static enum status follow(void *context, int64_t step) {
    struct trainer *t = context;
    struct online_state *o = t->own_state;
    return live_reference_follow(&o->live, t->session.model->trained, step);
}

/* Collective. A second model that stands still, or follows. */
static enum status open_second(struct trainer *t, struct online_state *o) {
    struct session *s = &t->session;
    const struct settings *settings = s->settings;
    const char *folder = *settings->reference ? settings->reference : settings->model;
    struct other_model reference = session_reference_of(folder, reference_ids(settings));
    struct model *model;
    if (settings->online.sync_reference) { /* follows every parameter */
        reference.kind = ARENA_TRAINED;
        reference.value_head = s->value_head;
    }
    TRY(session_open_other(s, &reference, &model, &s->train.reference_model));
    o->live.every = settings->online.sync_reference ? settings->online.reference_sync_steps : 0;
    o->live.mixup = settings->online.reference_mixup_alpha;
    TRY(comm_agree(s->comm, live_reference_open(&o->live, model, s->model)));
    o->reference = model;
    if (settings->online.sync_reference) {
        t->training.reference = model->base;
        t->training.updated = follow;
        t->training.updated_context = t;
    }
    log_root(LOG_INFO, "the reference is %s%s", folder, o->live.every > 0 ? ", and follows" : "");
    return OK;
}

/* Collective. */
static enum status open_reference(struct trainer *t, struct online_state *o) {
    struct session *s = &t->session;
    if (!t->terms.has_reference) {
        return OK;
    }
    o->live.tokens = true;
    if (!session_adapts_reference(s->settings) && (!s->lora || has_second(t))) {
        return open_second(t, o);
    }
    TRY(session_open_reference(s, reference_ids(s->settings), &o->reference, &s->train.reference_model));
    if (o->reference != s->model) {
        o->live.model = o->reference; /* which closes it */
    }
    return OK;
}

/* Collective. */
static enum status open_judge(struct trainer *t, const char *folder, struct reward_model *out) {
    struct session *s = &t->session;
    const struct other_model judge = session_judge_of(folder);
    const char *slash = strrchr(folder, '/');
    uint64_t hash;
    TRY(session_open_other(s, &judge, &out->model, &hash));
    t->own_contents = hash_join(t->own_contents, hash);
    out->name = mem_strdup(slash && slash[1] ? slash + 1 : folder);
    return comm_agree(s->comm, mem_ok(out->name));
}

/* Local. online.reward_weights, one for each model. */
static enum status read_weights(const char *text, struct online_state *o) {
    const char *at = text;
    for (int i = 0; i < o->n_models; i++) {
        char *end = NULL;
        o->models[i].weight = 1;
        if (!*text) {
            continue;
        }
        o->models[i].weight = strtod(at, &end);
        bool is_last = i == o->n_models - 1;
        if (end == at || *end != (is_last ? '\0' : ',') || !isfinite(o->models[i].weight)) {
            return fail(ERR_USAGE, "online.reward_weights: \"%s\" is no list of %d numbers, comma separated",
                        text, o->n_models);
        }
        at = end + 1;
    }
    return OK;
}

/* Two models of one name are told apart by their places. */
static enum status name_apart(struct online_state *o) {
    for (int i = 1; i < o->n_models; i++) {
        struct text name = {0};
        bool same = false;
        for (int j = 0; j < i; j++) {
            same |= strcmp(o->models[i].name, o->models[j].name) == 0;
        }
        if (same) {
            TRY(text_printf(&name, "%s_%d", o->models[i].name, i + 1));
            mem_free(o->models[i].name);
            o->models[i].name = name.data;
        }
    }
    return OK;
}

/* Collective. */
static enum status open_judges(struct trainer *t, struct online_state *o) {
    const struct settings *s = t->session.settings;
    struct names folders;
    TRY(comm_agree(t->session.comm, list_folders(s->reward_model, &folders)));
    enum status st = OK;
    for (int i = 0; i < folders.n && st == OK; i++) {
        st = open_judge(t, folders.list[i], &o->models[o->n_models++]);
    }
    names_free(&folders);
    TRY(st);
    st = read_weights(s->online.reward_weights, o);
    return comm_agree(t->session.comm, st == OK ? name_apart(o) : st);
}

/* Local. */
static enum status open_rewarder(struct trainer *t, struct online_state *o) {
    const struct settings *s = t->session.settings;
    bool needs_text = *s->online.reward_command || *s->online.reward_pattern || s->online.reward_match > 0;
    const struct rewarder_options options = {.length_weight = s->online.reward_length,
                                             .stop_weight = s->online.reward_stop,
                                             .pattern = s->online.reward_pattern,
                                             .match = (enum reward_match)s->online.reward_match,
                                             .pattern_weight = s->online.reward_pattern_weight,
                                             .command = s->online.reward_command,
                                             .command_weight = s->online.reward_command_weight,
                                             .timeout_s = s->online.reward_timeout_s,
                                             .rank = t->session.comm->rank};
    if (needs_text && !t->session.tokenizer) {
        return fail(ERR_USAGE, "%s has no tokenizer, and rewards by pattern or program need text", s->model);
    }
    return rewarder_open(&options, &o->rewarder);
}

/* Local. What a response to a prompt is expected to take: what the data's take, or half of what one may. Of
 * this rank's part of the rows. */
static enum status expect_part(struct trainer *t, double *expected) {
    struct dataset *data = t->session.train.data;
    double most = (double)t->session.settings->online.max_new_tokens;
    struct range part = range_part(t->session.train.n, t->session.comm->rank, t->session.comm->size);
    for (int64_t row = part.first; row < part.last; row++) {
        int64_t first, count;
        double tokens = 0;
        TRY(dataset_prompt_responses(data, view_row_in_file(t->session.train.view, row), &first, &count));
        for (int64_t id = first; id < first + count; id++) {
            struct response r;
            TRY(dataset_response(data, id, &r));
            tokens += (double)r.count / (double)count;
        }
        expected[row] = count > 0 ? fmin(fmax(tokens, 1), most) : fmax(most / 2, 1);
    }
    return OK;
}

/* Collective. */
static enum status open_expected(struct trainer *t, struct online_state *o) {
    struct comm *c = t->session.comm;
    enum status st = NEW_ARRAY(o->expected, t->session.train.n);
    TRY(comm_agree(c, st == OK ? expect_part(t, o->expected) : st));
    return comm_sum_f64(c, o->expected, t->session.train.n);
}

/* Log-probabilities are those at the temperature: so are the logits, of the policy and of its reference.
 * Local. */
static enum status set_temperature(struct trainer *t, struct online_state *o) {
    const struct settings *s = t->session.settings;
    struct model *models[] = {t->session.model, o->reference != t->session.model ? o->reference : NULL};
    for (int i = 0; i < COUNT_OF(models) && online_way_of(s)->by_group && s->online.temperature != 1; i++) {
        if (models[i] && models[i]->config.logit_softcap > 0) {
            return fail(ERR_USAGE,
                        "online.temperature=%g: %s caps its logits, and is trained at temperature 1 "
                        "alone",
                        s->online.temperature, s->model);
        }
        if (models[i]) {
            models[i]->config.logit_scale /= s->online.temperature;
        }
    }
    return OK;
}

static enum status read_missing_stop(const struct settings *s, struct missing_stop *out) {
    char *end;
    *out = (struct missing_stop){.score = NAN, .penalty = s->online.missing_stop_penalty};
    if (!*s->online.missing_stop_score) {
        return OK;
    }
    out->score = strtod(s->online.missing_stop_score, &end);
    return *end == '\0' && isfinite(out->score)
               ? OK
               : fail(ERR_USAGE, "online.missing_stop_score: \"%s\" is no number",
                      s->online.missing_stop_score);
}

/* Values of a batch's tokens, by the policy as it is. Local: nobody else has the workspace. */
static enum status score_values(void *context, const struct batch *b, double *out) {
    struct trainer *t = context;
    struct scorer scorer;
    enum status st = scorer_open(t->session.model, &t->session.workspace, KEEP_NOTHING, &scorer);
    for (int64_t c = 0; c < b->n_cuts && st == OK; c++) {
        const struct forest_cut *cut = &b->cuts[c];
        st = scorer_run(&scorer, b->samples + cut->first, cut->last - cut->first);
        for (int64_t i = cut->first; i < cut->last && st == OK; i++) {
            const struct response_score *scores = &scorer.scores[scorer.first[i - cut->first]];
            for (int32_t j = 0; j < b->samples[i].n_responses; j++) {
                for (int64_t k = 0; k < scores[j].tokens; k++) {
                    out[b->token_first[b->first[i] + j] + k] = scores[j].token_value[k];
                }
            }
        }
    }
    scorer_close(&scorer);
    return st;
}

/* How the last sample of a prompt is drawn: by the reference, or by a mixture with it. */
static void set_other(struct trainer *t, struct online_state *o, const struct decoder_options *own) {
    const struct session *s = &t->session;
    bool is_mixture = s->settings->online.method == ONLINE_NASH_MD;
    o->other = *own;
    o->other.rule = (struct rule){.kind = RULE_MIX, .mix = is_mixture ? 1 - s->settings->online.mixture : 0};
    o->other.voices[VOICE_REFERENCE] = o->reference;
    o->other.has_adapters = s->lora && o->reference == s->model;
    o->other.adapters[VOICE_POLICY] = s->lora;
    o->other.adapters[VOICE_REFERENCE] = s->reference_lora;
}

static struct appraiser appraiser_of(struct trainer *t, const struct online_state *o) {
    struct session *s = &t->session;
    return (struct appraiser){.comm = s->comm,
                              .workspace = &s->workspace,
                              .tokenizer = s->tokenizer,
                              .rewarder = o->rewarder,
                              .models = o->models,
                              .n_models = o->n_models,
                              .score_reference = t->terms.has_reference ? score_reference : NULL,
                              .scores = t,
                              .score_values = t->terms.reads & READS_TOKEN_VALUE ? score_values : NULL,
                              .valuer = t,
                              .find_answer = s->tokenizer ? online_find_answer : NULL,
                              .answers = t};
}

/* Local. */
static enum status open_experience(struct trainer *t, struct online_state *o) {
    struct session *s = &t->session;
    const struct settings *settings = s->settings;
    const struct kl_controller control = {.coefficient = online_kl(s->run),
                                          .target = settings->online.kl_target,
                                          .horizon = settings->online.kl_horizon};
    struct experience_options options = {
        .terms = &t->terms,
        .rollout = {.comm = s->comm,
                    .model = s->model,
                    .workspace = &s->workspace,
                    .view = s->train.view,
                    .decoder = decoder_options_of(t),
                    .samples = (int32_t)online_samples(settings),
                    .first_token = stops_first_token(s, s->train.data),
                    .expected = o->expected},
        .appraiser = appraiser_of(t, o),
        .plan = t->data.plan,
        .span = settings->online.inner_epochs,
        .method = (enum online_method)settings->online.method,
        .scale = (enum advantage_scale)settings->online.scale_rewards,
        .normalize = settings->online.normalize_advantages,
        .gamma = settings->online.gamma,
        .lambda = settings->online.lambda,
        .whiten_rewards = settings->online.whiten_rewards,
        .kl_in_reward = online_way_of(settings)->kl_in_reward && control.coefficient > 0,
        .top_share = settings->online.keep == 1 ? 0 : settings->online.top_share,
        .mask_truncated = settings->online.mask_truncated,
    };
    options.rollout.decoder.stops = o->stops.ids;
    options.rollout.decoder.n_stops = o->stops.n;
    options.rollout.decoder.barred = o->barred;
    if (online_has_other(settings)) {
        set_other(t, o, &options.rollout.decoder);
        options.rollout.other = &o->other;
    }
    TRY(read_missing_stop(settings, &options.missing_stop));
    TRY(text_printf(&o->folder, "%s/rollouts", settings->output));
    options.folder = settings->online.keep_rollouts ? o->folder.data : NULL;
    return experience_open(&options, &control, &o->experience);
}

/* Local. What is drawn from, and from what. */
static enum status open_drawing(struct trainer *t, struct online_state *o) {
    struct session *s = &t->session;
    TRY(session_need_head(s->model, s->settings->model, HEAD_LANGUAGE));
    TRY(s->settings->online.stop_at_end ? stops_read(s, &o->stops) : OK);
    TRY(stops_bar(s, &o->barred));
    TRY(open_rewarder(t, o));
    TRY(set_temperature(t, o));
    return open_experience(t, o);
}

/* Collective. */
static enum status open_source(struct trainer *t) {
    struct online_state *o;
    enum status st = NEW_ARRAY(o, 1);
    TRY(comm_agree(t->session.comm, st));
    t->own_state = o;
    TRY(online_check_answers(t));
    TRY(open_reference(t, o));
    TRY(open_judges(t, o));
    TRY(open_expected(t, o));
    TRY(comm_agree(t->session.comm, open_drawing(t, o)));
    struct source *source = &t->training.source;
    *source = (struct source){.context = &o->experience,
                              .read = experience_read,
                              .plan = t->data.plan,
                              .computes = true,
                              .span = t->session.settings->online.inner_epochs,
                              .report = experience_report,
                              .memory = &o->experience.control.coefficient,
                              .n_memory = 1};
    return OK;
}

static void close_source(struct trainer *t) {
    struct online_state *o = t->own_state;
    if (!o) {
        return;
    }
    experience_summary(&o->experience);
    experience_close(&o->experience);
    rewarder_close(o->rewarder);
    for (int i = 0; i < o->n_models; i++) {
        model_close(o->models[i].model);
        mem_free(o->models[i].name);
    }
    live_reference_close(&o->live);
    mem_free(o->expected);
    mem_free(o->barred);
    text_free(&o->folder);
    mem_free(o);
    t->own_state = NULL;
}

const struct trainer_source *online_source(void) {
    static const struct trainer_source source = {.batch = batch_of,
                                                 .span = span_of,
                                                 .request = request,
                                                 .look = look,
                                                 .reference_ids = reference_ids,
                                                 .check_rows = online_check_answers,
                                                 .memory = memory,
                                                 .forget = forget,
                                                 .open = open_source,
                                                 .close = close_source};
    return &source;
}
