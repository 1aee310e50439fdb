#include "command/trainer.h"

#include "command/checks.h"
#include "command/facts.h"
#include "command/run_folder.h"
#include "mpi/launch.h"
#include "steer/steering_folder.h"
#include "store/adapter_folder.h"
#include "store/model_step.h"
#include "train/speed.h"
#include "train/stop.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/mem.h"

enum row_kind trainer_rows(const struct terms *t) {
    static const enum row_kind kinds[] = {[OVER_SEQUENCES] = ROWS_PREFERRED,
                                          [OVER_PAIRS] = ROWS_LABELED,
                                          [OVER_LISTS] = ROWS_PROMPTS,
                                          [OVER_PROMPTS] = ROWS_COMPARED,
                                          [OVER_LABELED] = ROWS_UNPAIRED};
    return kinds[t->rows];
}

enum pass_keep trainer_keep(const struct settings *settings) {
    return settings->train.recompute == RECOMPUTE_LAYERS ? KEEP_INPUTS : KEEP_ALL;
}

struct optimizer_options trainer_optimizer(const struct settings *settings) {
    return (struct optimizer_options){
        .kind = (enum optimizer_kind)settings->train.optimizer,
        .learning_rate = settings->train.learning_rate,
        .beta1 = settings->train.beta1,
        .beta2 = settings->train.beta2,
        .epsilon = settings->train.epsilon,
        .weight_decay = settings->train.weight_decay,
        .momentum = settings->train.momentum,
        .alpha = settings->train.alpha,
    };
}

struct shard_map trainer_shards(const struct settings *settings, const struct comm *c, int64_t elements) {
    return settings->train.shard_optimizer ? shard_map_over(c, elements) : shard_map_whole(elements);
}

static enum status read_batch(void *context, int64_t step, struct batch *b) {
    return batch_read(context, step, b);
}

void trainer_plan(struct trainer *t) {
    struct session *s = &t->session;
    const struct settings *settings = s->settings;
    t->data = (struct batch_source){
        .view = s->train.view,
        .reference = s->train.reference,
        .plan = {.rows = s->train.n,
                 .batch = t->own ? t->own->batch(settings) : settings->train.batch,
                 .slots = settings->train.slots,
                 .micro_tokens = settings->train.micro_tokens,
                 .seed = (uint64_t)settings->seed,
                 .shuffle = settings->train.shuffle,
                 .deterministic = settings->train.deterministic},
        .rank = s->comm->rank,
        .size = s->comm->size,
    };
    if (s->eval.view) {
        t->eval_data = session_evaluation(s, &s->eval);
    }
    int64_t steps = settings->train.steps, span = t->own ? t->own->span(settings) : 1;
    t->training = (struct training){
        .comm = s->comm,
        .workspace = &s->workspace,
        .terms = &t->terms,
        .source = {.context = &t->data, .read = read_batch, .ahead = true, .plan = t->data.plan},
        .eval_data = s->eval.view ? &t->eval_data : NULL,
        .keep = trainer_keep(settings),
        .label = s->run->options->command,
        .steps = steps > 0 ? steps : settings->train.epochs * batch_steps(&t->data.plan) * span,
        .warmup_steps = settings->train.warmup_steps,
        .schedule = (enum schedule)settings->train.schedule,
        .clip = settings->train.clip,
        .seed = (uint64_t)settings->seed,
        .communication = (enum communication)settings->train.communication,
        .bucket_bytes = settings->train.bucket_bytes,
        .checkpoint_every = settings->train.checkpoint_every,
        .evaluate_every = settings->train.evaluate_every,
        .profile = settings->train.profile,
        .tensorboard = settings->train.tensorboard,
        .began = t->began,
        .stop_at = t->stop_at,
        .checkpoint = {.run = settings->output,
                       .keep = (int)settings->train.checkpoint_keep,
                       .resume = (enum resume)settings->train.resume},
    };
}

enum status trainer_open_rows(struct trainer *t) {
    struct session *s = &t->session;
    const struct settings *settings = s->settings;
    TRY(trainer_steer_first(t));
    int64_t mismatch = t->terms.reads & READS_MISMATCHED ? settings->train.batch : 0;
    if (mismatch == 1) {
        return fail(ERR_USAGE,
                    "train.batch=1: dpo.loss=%s compares a response with those of other rows of the update; "
                    "set train.batch to 2 or more",
                    settings->dpo.loss);
    }
    struct rows_request train = {.path = t->view.len > 0 ? t->view.data : settings->data,
                                 .key = "data",
                                 .kind = trainer_rows(&t->terms),
                                 /* a selection has taken the split's rows */
                                 .split = (enum data_split)(t->view.len > 0 ? SPLIT_ALL : settings->split),
                                 .mismatch = mismatch};
    if (t->own) {
        t->own->request(settings, &train);
    }
    TRY(session_open_rows(s, &train, &s->train));
    if (*settings->eval_data && trainer_steers(settings)) {
        TRY(trainer_steer_evaluation_rows(t));
    } else if (*settings->eval_data) {
        const struct rows_request eval = {.path = settings->eval_data,
                                          .key = "eval_data",
                                          .kind = trainer_rows(&t->terms),
                                          .split = (enum data_split)settings->eval_split,
                                          .limit = settings->evaluate.rows,
                                          .mismatch = mismatch};
        TRY(session_open_rows(s, &eval, &s->eval));
    }
    trainer_plan(t);
    return OK;
}

static void warn_of_idle_ranks(const struct trainer *t) {
    const struct batch_plan *plan = &t->data.plan;
    int64_t rows = plan->batch < plan->rows ? plan->batch : plan->rows;
    if (rows < t->data.size) {
        log_root(LOG_WARN,
                 "an update has %lld rows and there are %d ranks: %lld of them have nothing to do; a larger "
                 "%s or fewer ranks would do",
                 (long long)rows, t->data.size, (long long)(t->data.size - rows),
                 t->own ? "online.prompts" : "train.batch");
    }
}

/* Every rank's products at once, as in a step. */
static enum status measure_speed(struct trainer *t) {
    enum status st = speed_gemm(t->session.backend, SPEED_BRIEF_S, &t->training.peak_flops);
    TRY(comm_agree(t->session.comm, st));
    return comm_sum_f64(t->session.comm, &t->training.peak_flops, 1);
}

static enum status follow(void *context, int64_t step) {
    struct trainer *t = context;
    return live_reference_follow(&t->follower, t->session.model->trained, step);
}

enum other_ids trainer_reference_ids(const struct trainer *t) {
    enum other_ids read = t->terms.reads & READS_DIVERGENCE ? IDS_ALL : IDS_OF_ROWS;
    return t->own ? t->own->reference_ids(t->session.settings) : read;
}

/* What is read at each token needs its hidden states. */
static enum pass_keep follower_keep(const struct trainer *t) {
    return t->terms.reads & READS_DIVERGENCE ? KEEP_INPUTS : KEEP_NOTHING;
}

/* Local. The follower has its model. */
static enum status open_follower(struct trainer *t, struct model *model) {
    struct session *s = &t->session;
    struct live_reference *r = &t->follower;
    r->workspace = &t->follower_workspace;
    r->tokens = t->terms.reads & READS_TOKEN_REFERENCE;
    r->mixup = s->settings->dpo.reference_mixup_alpha;
    r->every = s->settings->dpo.sync_reference ? s->settings->dpo.reference_sync_steps : 0;
    r->keep = follower_keep(t);
    return live_reference_open(r, model, s->model);
}

/* Collective. A reference that follows, or is read at each token: in memory, in place of side-cars. */
static enum status prepare_follower(struct trainer *t) {
    struct session *s = &t->session;
    const char *folder = *s->settings->reference ? s->settings->reference : s->settings->model;
    struct other_model reference = session_reference_of(folder, trainer_reference_ids(t));
    reference.kind = s->settings->dpo.sync_reference ? ARENA_TRAINED : ARENA_FROZEN;
    struct model *model = NULL;
    int64_t tokens = batch_forest_tokens(&t->data.plan, s->comm->size, &s->train.lengths);
    if (s->eval.view) {
        int64_t eval = batch_forest_tokens(&t->eval_data.plan, s->comm->size, &s->eval.lengths);
        tokens = eval > tokens ? eval : tokens;
    }
    TRY(session_open_other(s, &reference, &model, &s->train.reference_model));
    enum status st = session_workspace(s, model, follower_keep(t), tokens, &t->follower_workspace);
    if (st != OK) {
        model_close(model);
        return st;
    }
    TRY(comm_agree(s->comm, open_follower(t, model)));
    if (t->terms.reads & READS_DIVERGENCE) {
        t->training.reference_scorer = &t->follower.scorer;
        log_root(LOG_INFO, "the reference %s runs beside the policy, for the divergence at each token",
                 folder);
    } else {
        t->data.score_reference = t->eval_data.score_reference = live_reference_score;
        t->data.scores = t->eval_data.scores = &t->follower;
        t->training.source.ahead = false;
    }
    if (s->settings->dpo.sync_reference) {
        t->training.reference = model->base;
        t->training.updated = follow;
        t->training.updated_context = t;
        log_root(LOG_INFO, "the reference follows: %s, and every %lld updates %g of the policy", folder,
                 (long long)t->follower.every, t->follower.mixup);
    }
    return OK;
}

static enum status prepare_reference(struct trainer *t) {
    struct session *s = &t->session;
    if (!t->terms.has_reference) {
        return OK;
    }
    if (s->settings->dpo.sync_reference || t->terms.reads & READS_DIVERGENCE) {
        return prepare_follower(t);
    }
    bool tokens = t->terms.reads & READS_TOKEN_REFERENCE;
    const struct reference_request train = {.rows = &s->train,
                                            .source = &t->data,
                                            .steps = t->training.steers ? INT64_MAX : t->training.steps,
                                            .is_main = true,
                                            .folder = s->settings->output,
                                            .tokens = tokens};
    TRY(session_reference(s, &train));
    t->data.reference = s->train.reference;
    t->data.reads_tokens = tokens;
    if (t->training.eval_data) {
        const struct reference_request eval = {.rows = &s->eval,
                                               .source = &t->eval_data,
                                               .steps = INT64_MAX,
                                               .folder = s->settings->output,
                                               .tokens = tokens};
        TRY(session_reference(s, &eval));
        t->eval_data.reference = s->eval.reference;
        t->eval_data.reads_tokens = tokens;
    }
    return OK;
}

static double mib(int64_t bytes) {
    return (double)bytes / (1 << 20);
}

/* A device's memory did not do: what --dry-run would have said goes with the message. Collective. */
static enum status explain_memory(struct trainer *t, enum status st) {
    const struct message failure = *status_message();
    struct estimate_options options;
    struct estimate e;
    if (st != ERR_SYSTEM || t->session.backend->caps.memory_total == 0) {
        return st;
    }
    bool is_known = t->session.train.view || trainer_open_rows(t) == OK;
    is_known = is_known && comm_agree(t->session.comm, trainer_estimate(t, &options)) == OK &&
               estimate_memory(&options, &e) == OK;
    status_set(&failure);
    return is_known
               ? note("--dry-run counts, in MiB: parameters %.1f, gradients %.1f, optimizer %.1f, partial "
                      "sums %.1f, activations %.1f for a forest of %lld tokens",
                      mib(e.model), mib(e.gradients), mib(e.optimizer), mib(e.partial),
                      mib(estimate_pass(&e)), (long long)e.forest_tokens)
               : st;
}

/* Local. As large as --dry-run says. */
static enum status open_workspace(struct trainer *t) {
    struct estimate_options options;
    struct estimate e = {0};
    TRY(trainer_estimate(t, &options));
    TRY(estimate_passes(&options, &e));
    return workspace_open(t->session.backend, estimate_pass(&e), &t->session.workspace);
}

static enum status train(struct trainer *t) {
    struct session *s = &t->session;
    struct optimizer_options options = trainer_optimizer(s->settings);
    struct optimizer optimizer = {0};
    struct facts facts = {0};
    enum status st = arena_need_gradients(s->model->trained);
    struct shard_map shards = trainer_shards(s->settings, s->comm, s->model->trained->elements);
    st = st == OK ? optimizer_open(s->model->trained, &options, &shards, &optimizer) : st;
    st = st == OK ? facts_collect(t, &facts) : st;
    TRY_TO(done, comm_agree(s->comm, st));
    TRY_TO(done, facts_check_hosts(t, &facts));
    TRY_TO(done, comm_agree(s->comm, open_workspace(t)));
    TRY_TO(done, measure_speed(t));
    t->training.model = s->model;
    t->training.optimizer = &optimizer;
    t->training.begins_at_reference = t->terms.has_reference && session_begins_at_reference(s);
    t->training.checkpoint.facts = facts.list;
    t->training.checkpoint.n_facts = (int)facts.n;
    log_root(LOG_INFO, "%lld parameters, %lld updates of %lld rows, %d ranks with %d threads each",
             (long long)s->model->trained->elements, (long long)t->training.steps,
             (long long)t->data.plan.batch, s->comm->size, s->backend->caps.threads);
    TRY_TO(done, training_run(&t->training));
done:
    t->training.optimizer = NULL; /* it ends here, as the facts do */
    t->training.checkpoint.facts = NULL;
    facts_free(&facts);
    optimizer_close(&optimizer);
    return st;
}

/* adapter/ as PEFT has it, in the place of model/. */
static enum status save_adapters(struct trainer *t, const char *folder) {
    struct session *s = &t->session;
    const struct adapter_save options = {.config = s->adapter_config,
                                         .type = s->settings->save.dtype > 0 ? t->stored : STORED_F32};
    json_t *base = json_string(s->settings->model);
    bool bad = json_object_set_new(s->adapter_config, "base_model_name_or_path", base) != 0;
    TRY(comm_agree(s->comm, bad ? fail(ERR_SYSTEM, "out of memory: adapter_config.json") : OK));
    return adapter_folder_save(s->comm, s->lora, folder, &options);
}

/* What an adapter's folder holds. */
static enum status save_adapter(struct trainer *t, const char *folder) {
    struct session *s = &t->session;
    TRY(s->adapter_config ? save_adapters(t, folder) : OK);
    return s->steers ? steering_folder_save(s->comm, &s->steering, folder) : OK;
}

static enum status save_model(struct trainer *t) {
    struct session *s = &t->session;
    struct text path = {0};
    bool first = s->comm->rank == 0;
    const char *what = s->lora ? "adapter" : "model";
    enum status st = lease_check(t->training.checkpoint.lease);
    st = st == OK ? text_printf(&path, "%s/%s", s->settings->output, what) : st;
    st = comm_agree(s->comm, st == OK && first ? model_step_forget(path.data) : st);
    if (st == OK && s->lora) {
        st = save_adapter(t, path.data);
    } else if (st == OK) {
        const struct model_save options = {
            .source = s->source.data, .carries = true, .tokenizer = s->tokenizer, .type = t->stored};
        st = model_folder_save(s->comm, s->model, path.data, &options);
    }
    if (st == OK) {
        st = comm_agree(s->comm, first ? model_step_write(path.data, t->training.steps) : OK);
    }
    if (st == OK) {
        log_root(LOG_INFO, "%s in %s, metrics in %s/metrics.jsonl, peak memory %.0f MiB", what, path.data,
                 s->settings->output, (double)mem_peak_resident() / (1 << 20));
    }
    text_free(&path);
    return st;
}

/* What the weights will be written as: as they came, unless a setting says otherwise. Local. */
static enum status choose_stored(struct trainer *t) {
    int wanted = t->session.settings->save.dtype;
    if (wanted > 0) {
        t->stored = (enum stored_type)(wanted - 1);
        return OK;
    }
    return model_folder_type(t->session.source.data, &t->stored);
}

/* When to end: the setting or the job's own limit, whichever is earlier. Local. */
static enum status find_limit(struct trainer *t) {
    double end = launch_end_time();
    t->began = clock_wall();
    TRY(stop_parse(t->session.settings->train.stop_before, t->began, &t->stop_at));
    if (end > 0 && end <= t->began) {
        log_root(LOG_WARN,
                 "SLURM_JOB_END_TIME=%.0f is past, by %.0f s, and is not heeded: is it another job's, or the "
                 "clock wrong? unset it, or set train.stop_before",
                 end, t->began - end);
    } else if (end > 0 && (t->stop_at == 0 || end < t->stop_at)) {
        t->stop_at = end;
    }
    return OK;
}

static enum status state_bytes(struct trainer *t, int64_t *out) {
    struct estimate_options options;
    TRY(trainer_estimate(t, &options));
    return estimate_state_bytes(&options, out);
}

struct acceptance {
    struct trainer *t;
    struct run_folder *folder;
};

/* Of the loop: the run goes on, or begins anew beside the model of another one. */
static enum status accept_run(void *context, bool is_new) {
    const struct acceptance *a = context;
    struct session *s = &a->t->session;
    struct text path = {0};
    TRY(run_folder_accept(s->run, s->backend, a->folder));
    enum status st = OK;
    if (is_new && s->comm->rank == 0) {
        st = text_printf(&path, "%s/model", s->settings->output);
        st = st == OK ? model_step_remove(path.data) : st;
        text_clear(&path);
        st = st == OK ? text_printf(&path, "%s/adapter", s->settings->output) : st;
        st = st == OK ? model_step_remove(path.data) : st;
        st = st == OK && a->t->own ? a->t->own->forget(a->t) : st;
    }
    text_free(&path);
    return comm_agree(s->comm, st);
}

/* Collective. Before a model is opened. */
static enum status check_without_model(struct trainer *t) {
    struct model_config config;
    TRY(comm_agree(t->session.comm, trainer_config(t, &config)));
    TRY(comm_agree(t->session.comm, session_open_tokenizer(&t->session)));
    TRY(trainer_open_rows(t));
    return trainer_check(t, &config, NULL, NULL);
}

/* Collective. What takes long comes when all of the data has been looked at: a selection, embeddings of
 * users' data. */
static enum status make_data(struct trainer *t, trainer_select *select) {
    const struct settings *s = t->session.settings;
    bool embeds = trainer_steers(s) && !*s->embeddings;
    if (select || embeds) {
        TRY(check_without_model(t));
        session_close_data(&t->session);
    }
    TRY(select ? select(t->session.run, &t->view) : OK);
    return trainer_steer_embed(t);
}

/* Collective. Everything that the folder has to be this job's for. */
static enum status work_in(struct trainer *t, struct run_folder *folder, trainer_select *select) {
    struct session *s = &t->session;
    const struct settings *settings = s->settings;
    struct acceptance acceptance = {.t = t, .folder = folder};
    TRY(make_data(t, select));
    TRY(session_open_backend(s, NULL, settings->train.deterministic));
    if (t->own || !t->terms.has_reference ||
        !*settings->reference) { /* else a second model is to fit for a while */
        TRY(comm_agree(s->comm, state_bytes(t, &s->beside)));
    }
    enum status st = session_open_model(s);
    TRY(st == OK ? OK : explain_memory(t, st));
    TRY(comm_agree(s->comm, choose_stored(t)));
    TRY(trainer_open_rows(t));
    TRY(trainer_check(t, &s->model->config, NULL, NULL));
    warn_of_idle_ranks(t);
    TRY(trainer_steer_open(t));
    TRY(run_folder_begin(s->run, s->backend, folder));
    t->training.checkpoint.lease = folder->lease;
    t->training.accepted = accept_run;
    t->training.accepted_context = &acceptance;
    st = t->own ? t->own->open(t) : prepare_reference(t);
    st = st == OK ? trainer_steer_evaluation(t) : st;
    st = st == OK ? train(t) : st;
    st = st == OK ? OK : explain_memory(t, st);
    return st == OK ? save_model(t) : st;
}

static enum status trainer_work(struct trainer *t, trainer_select *select) {
    struct session *s = &t->session;
    const struct settings *settings = s->settings;
    TRY(session_need(settings->model, "model"));
    TRY(session_need(settings->data, "data"));
    TRY(s->run->dry_run ? OK : session_need(settings->output, "output"));
    TRY(comm_agree(s->comm, find_limit(t)));
    comm_watch_signals();
    s->head = model_head_for(t->terms.reads & READS_VALUE);
    s->value_head = t->terms.reads & READS_TOKEN_VALUE;
    s->trains = true;
    if (s->run->dry_run) {
        TRY(session_open_backend(s, NULL, settings->train.deterministic));
        TRY(check_without_model(t));
        warn_of_idle_ranks(t);
        return trainer_predict(t);
    }
    struct run_folder folder;
    TRY(run_folder_take(s->run, settings->output, &folder));
    t->has_folder = true;
    enum status st = work_in(t, &folder, select);
    return comm_agree(s->comm, run_folder_finish(s->run, s->backend, &folder, st));
}

static enum status run_with(struct run *run, const struct terms *terms, trainer_select *select,
                            const struct trainer_source *own) {
    struct trainer trainer = {.terms = *terms, .own = own, .command = run->options->command};
    session_open(run, &trainer.session);
    enum status st = trainer_work(&trainer, select);
    trainer_steer_close(&trainer);
    if (own) {
        own->close(&trainer);
    }
    live_reference_close(&trainer.follower);
    workspace_close(&trainer.follower_workspace);
    session_close(&trainer.session);
    text_free(&trainer.view);
    return st;
}

enum status trainer_run(struct run *run, const struct terms *terms, trainer_select *select) {
    return run_with(run, terms, select, NULL);
}

enum status trainer_run_own(struct run *run, const struct terms *terms, const struct trainer_source *own) {
    return run_with(run, terms, NULL, own);
}
