/* few-shot: a reward model on embeddings, conditioned on a few of a user's choices or not (network.h), from
 * the world of two users or from preference files and their embeddings; or a trained one evaluated again.
 *
 * OUTPUT/metrics.jsonl has a line for each update, OUTPUT/result.json the accuracies at each size of context,
 * OUTPUT/model.safetensors the parameters; OUTPUT/checkpoints holds what it goes on from, while it trains.
 */
#include <math.h>
#include <stdio.h>

#include "command/checks.h"
#include "command/facts.h"
#include "command/run_folder.h"
#include "command/session.h"
#include "encoder/dense.h"
#include "evaluate/metrics.h"
#include "few_shot/state.h"
#include "io/file.h"
#include "mpi/threads.h"
#include "store/checkpoint_file.h"
#include "store/network_folder.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/mem.h"

static const int64_t context_sizes[] = {0, 1, 3, 5, 10};
enum { INNER_AUTO, INNER_LINEAR, INNER_MLP };

struct few_shot {
    struct run *run;
    struct world world;
    struct network model;
    struct few_shot_options options;
    struct few_shot_trainer trainer;
    struct metrics_file metrics;
    struct facts facts;
    struct checkpoint_options checkpoint;
    struct text line, result;
    int64_t steps;
    double seconds; /* of the updates */
};

static struct world_options world_options(const struct settings *s) {
    return (struct world_options){.rows = s->few_shot.world_rows,
                                  .seed = s->few_shot.world_seed,
                                  .data = s->data,
                                  .trust_data = s->trust_data,
                                  .embeddings = s->embeddings,
                                  .context_data = s->few_shot.context_data,
                                  .contexts_apart = s->few_shot.context_conflicting >= 0,
                                  .context_conflicting = s->few_shot.context_conflicting,
                                  .split_seed = (uint64_t)s->few_shot.task_seed,
                                  .holdout = s->few_shot.holdout,
                                  .split = (enum data_split)s->split};
}

static void read_options(const struct settings *s, struct few_shot_options *o) {
    *o = (struct few_shot_options){.batch = s->few_shot.batch,
                                   .targets = s->few_shot.targets,
                                   .context_min = s->few_shot.context_min,
                                   .context_max = s->few_shot.context_max,
                                   .samples = s->few_shot.samples,
                                   .eval_samples = s->few_shot.eval_samples,
                                   .beta_kl = s->few_shot.beta_kl,
                                   .dropout = s->few_shot.dropout,
                                   .objective = (enum few_shot_objective)s->few_shot.objective,
                                   .adam = {.learning_rate = s->few_shot.learning_rate,
                                            .epsilon = s->few_shot.epsilon,
                                            .weight_decay = s->few_shot.weight_decay},
                                   .seed = (uint64_t)s->seed,
                                   .task_seed = (uint64_t)s->few_shot.task_seed};
}

/* Collective. */
static enum status open_world(struct few_shot *f) {
    const struct settings *s = f->run->settings;
    const struct world_options options = world_options(s);
    int64_t dropped = 0;
    if (*s->data) {
        TRY(session_need(s->embeddings, "embeddings"));
        TRY(world_of_files(f->run->comm, &options, &f->world, &dropped));
    } else {
        TRY(comm_agree(f->run->comm, world_of_two_users(&options, &f->world)));
    }
    const struct world *w = &f->world;
    log_root(LOG_INFO, "%s: %lld pairs of width %lld, %lld labels; %lld train, %lld test; %lld left out",
             *s->data ? s->data : "two users", (long long)w->pairs, (long long)w->width, (long long)w->labels,
             (long long)w->n_train, (long long)w->n_test, (long long)dropped);
    if (w->n_shown_train > 0) {
        log_root(LOG_INFO, "contexts are of another set: %lld pairs in training, %lld in evaluation",
                 (long long)w->n_shown_train, (long long)w->n_shown_test);
    }
    return OK;
}

/* Collective. */
static enum status open_model(struct few_shot *f) {
    const struct settings *s = f->run->settings;
    int inner = s->few_shot.inner;
    struct network_shape shape = {.kind = (enum network_kind)s->few_shot.model,
                                  .width = f->world.width,
                                  .hidden = s->few_shot.hidden,
                                  .heads = s->few_shot.heads,
                                  .aggregate = (enum network_aggregate)s->few_shot.aggregate,
                                  .inner_mlp = inner == INNER_MLP || (inner == INNER_AUTO && !*s->data),
                                  .latent = s->few_shot.latent};
    read_options(s, &f->options);
    f->steps = s->few_shot.steps ? s->few_shot.steps
                                 : s->few_shot.passes * few_shot_steps_per_pass(&f->world, &f->options);
    enum status st = network_open(&shape, (uint64_t)s->seed, &f->model);
    st = st == OK ? few_shot_trainer_open(f->run->comm, &f->model, &f->world, &f->options, &f->trainer) : st;
    st = st == OK && *s->model ? network_folder_load(&f->model, s->model) : st;
    TRY(comm_agree(f->run->comm, st));
    if (*s->model) {
        log_root(LOG_INFO, "%lld parameters from %s", (long long)f->model.count, s->model);
        return OK;
    }
    log_root(LOG_INFO, "%lld parameters; %lld updates of %lld users x %lld pairs", (long long)f->model.count,
             (long long)f->steps, (long long)f->options.batch, (long long)f->options.targets);
    return OK;
}

static enum status write_step(struct few_shot *f, int64_t step, const struct few_shot_value *value) {
    if (f->run->comm->rank != 0) {
        return OK;
    }
    bool latent = f->model.shape.latent;
    text_clear(&f->line);
    TRY(metrics_put(&f->line, "", "step", (double)step));
    TRY(metrics_put(&f->line, "", "loss", value->nll + f->options.beta_kl * value->kl));
    TRY(latent ? metrics_put(&f->line, "", "nll", value->nll) : OK);
    TRY(latent ? metrics_put(&f->line, "", "kl", value->kl) : OK);
    TRY(metrics_put(&f->line, "", "context", (double)f->trainer.users.batch.context));
    return metrics_write(&f->metrics, &f->line);
}

/* Collective. After an update, whose line went as st says: a checkpoint where it is time; SIGUSR1 ends the
 * run with one. */
static enum status keep_state(struct few_shot *f, int64_t step, enum status st) {
    struct comm *c = f->run->comm;
    int64_t every = f->run->settings->few_shot.checkpoint_every;
    bool asked;
    TRY(comm_agree(c, st));
    TRY(comm_stop_asked(c, &asked));
    asked = asked && step < f->steps;
    if (!asked && (every == 0 || step % every != 0 || step == f->steps)) {
        return OK;
    }
    TRY(comm_agree(c, c->rank == 0 ? metrics_sync(&f->metrics) : OK));
    TRY(few_shot_state_save(&f->trainer, &f->checkpoint));
    if (asked) {
        log_root(LOG_WARN, "stopped on SIGUSR1 after update %lld, with a checkpoint", (long long)step);
        return fail(REQUEUE, "stopped on SIGUSR1 after update %lld", (long long)step);
    }
    return OK;
}

/* Collective. */
static enum status train(struct few_shot *f) {
    struct progress progress;
    double start = clock_seconds();
    progress_start(&progress, "few-shot", "updates", (double)f->steps);
    for (int64_t step = f->trainer.adam.step + 1; step <= f->steps; step++) {
        struct few_shot_value value;
        TRY(few_shot_step(&f->trainer, &value));
        TRY(keep_state(f, step, write_step(f, step, &value)));
        char extra[64];
        snprintf(extra, sizeof extra, "nll %.4f", value.nll);
        progress_update(&progress, (double)step, extra);
    }
    progress_end(&progress, (double)f->steps);
    f->seconds = clock_seconds() - start;
    return OK;
}

static enum status put_accuracy(struct text *out, const struct few_shot_accuracy *a) {
    static const char *const names[MEASURES] = {"accuracy", "seen", "unseen", "paper_unseen"};
    TRY(metrics_put(out, "", "users", a->users));
    for (int m = 0; m < MEASURES; m++) {
        char name[32];
        snprintf(name, sizeof name, "%s_error", names[m]);
        TRY(isfinite(a->mean[m]) ? metrics_put(out, "", names[m], a->mean[m]) : OK);
        TRY(isfinite(a->error[m]) ? metrics_put(out, "", name, a->error[m]) : OK);
    }
    return OK;
}

/* {"context": k, "users": …, "accuracy": …, "labels": [{…}, …]} */
static enum status put_context(struct text *out, int64_t context, const struct few_shot_accuracy *all,
                               int64_t labels) {
    struct text part = {0};
    enum status st = metrics_put(&part, "", "context", (double)context);
    st = st == OK ? put_accuracy(&part, &all[labels]) : st;
    st = st == OK ? text_printf(out, "%s, \"labels\": [", part.data) : st;
    for (int64_t i = 0; i < labels && st == OK; i++) {
        text_clear(&part);
        st = put_accuracy(&part, &all[i]);
        st = st == OK ? text_printf(out, "%s%s}", i ? ", " : "", part.data) : st;
    }
    text_free(&part);
    return st == OK ? text_puts(out, "]}") : st;
}

static void log_accuracy(int64_t context, const struct few_shot_accuracy *a) {
    log_root(LOG_INFO,
             "context %2lld: accuracy %5.2f +- %.2f %%; unseen %5.2f; seen %5.2f; positions k and up %5.2f",
             (long long)context, 100 * a->mean[MEASURE_ALL], 100 * a->error[MEASURE_ALL],
             100 * a->mean[MEASURE_UNSEEN], 100 * a->mean[MEASURE_SEEN], 100 * a->mean[MEASURE_PAPER_UNSEEN]);
}

/* Collective. Batch norm's statistics for contexts of one size, where they are by size. */
static enum status norm_for(struct few_shot *f, int64_t context) {
    const struct settings *s = f->run->settings;
    return s->few_shot.norm_by_context
               ? few_shot_average_norm(&f->trainer, s->few_shot.norm_batches, context, context)
               : OK;
}

/* Collective. For contexts of every size that was trained. */
static enum status norm_for_all(struct few_shot *f) {
    return few_shot_average_norm(&f->trainer, f->run->settings->few_shot.norm_batches, f->options.context_min,
                                 f->options.context_max);
}

/* Collective. Models without a context have one row. */
static enum status evaluate(struct few_shot *f) {
    struct text *out = &f->result;
    struct few_shot_accuracy *all;
    int64_t labels = f->world.labels;
    int rows = f->model.shape.kind == NETWORK_PROCESS ? COUNT_OF(context_sizes) : 1;
    TRY(comm_agree(f->run->comm, NEW_ARRAY(all, labels + 1)));
    enum status st = OK;
    if (!*f->run->settings->model) {
        st = metrics_put(out, "", "steps", (double)f->steps);
        st = st == OK ? metrics_put(out, "", "seconds", f->seconds) : st;
    }
    st = st == OK ? metrics_put(out, "", "parameters", (double)f->model.count) : st;
    st = comm_agree(f->run->comm, st == OK ? text_puts(out, ", \"evaluation\": [") : st);
    for (int i = 0; i < rows && st == OK; i++) {
        if (context_sizes[i] <= f->options.targets) {
            st = norm_for(f, context_sizes[i]);
            st = st == OK ? few_shot_evaluate(&f->trainer, context_sizes[i], all) : st;
            st = st == OK && i ? text_puts(out, ", ") : st;
            st = st == OK ? put_context(out, context_sizes[i], all, labels) : st;
            st = comm_agree(f->run->comm, st);
        }
        if (st == OK && context_sizes[i] <= f->options.targets) {
            log_accuracy(context_sizes[i], &all[labels]);
        }
    }
    mem_free(all);
    return comm_agree(f->run->comm, st == OK ? text_puts(out, "]}\n") : st);
}

static enum status deliver(struct few_shot *f, const char *folder) {
    struct text path = {0};
    if (f->run->comm->rank != 0) {
        return OK;
    }
    enum status st = text_printf(&path, "%s/result.json", folder);
    st = st == OK ? file_write(path.data, f->result.data, f->result.len) : st;
    st = st == OK && !*f->run->settings->model ? network_folder_save(&f->model, folder) : st;
    text_free(&path);
    return st;
}

static enum status open_metrics(struct few_shot *f, const char *folder) {
    int64_t step = f->trainer.adam.step;
    bool tensorboard = f->run->settings->train.tensorboard;
    return f->run->comm->rank == 0 ? metrics_open(folder, step > 0 ? step : -1, tensorboard, &f->metrics)
                                   : OK;
}

/* Collective. Where an unfinished run left off. */
static enum status go_on(struct few_shot *f, const struct lease *lease, int threads) {
    struct run *run = f->run;
    const struct settings *s = run->settings;
    TRY(comm_agree(run->comm, facts_few_shot(run, world_hash(&f->world), threads, &f->facts)));
    f->checkpoint = (struct checkpoint_options){.run = s->output,
                                                .lease = lease,
                                                .facts = f->facts.list,
                                                .n_facts = (int)f->facts.n,
                                                .keep = (int)s->train.checkpoint_keep,
                                                .resume = (enum resume)s->train.resume};
    TRY(few_shot_state_load(&f->trainer, &f->checkpoint));
    if (f->trainer.adam.step > f->steps) {
        return fail(ERR_USAGE,
                    "%s: %lld updates are done, and few_shot.steps asks for %lld; set few_shot.steps=%lld or "
                    "more, choose another output, or start anew with train.resume=never",
                    s->output, (long long)f->trainer.adam.step, (long long)f->steps,
                    (long long)f->trainer.adam.step);
    }
    if (f->trainer.adam.step > 0) {
        log_root(LOG_INFO, "going on after update %lld of %lld", (long long)f->trainer.adam.step,
                 (long long)f->steps);
    }
    return OK;
}

/* Collective. */
static enum status few_shot_work(struct few_shot *f) {
    struct run *run = f->run;
    const struct settings *s = run->settings;
    struct run_folder folder = {0};
    struct backend host = {.caps = {.name = "host", .description = "host arrays in double; OpenBLAS"}};
    TRY(session_need(s->output, "output"));
    host.caps.threads = threads_of_rank(run->comm, s->threads);
    dense_set_threads(host.caps.threads);
    TRY(open_world(f));
    TRY(open_model(f));
    TRY(run_folder_take(run, s->output, &folder));
    enum status st = check_folder(run->comm, s->output);
    if (run->dry_run) {
        return comm_agree(run->comm, run_folder_finish(run, &host, &folder, st));
    }
    st = st == OK ? run_folder_begin(run, &host, &folder) : st;
    st = st == OK && !*s->model ? go_on(f, folder.lease, host.caps.threads) : st;
    st = st == OK ? run_folder_accept(run, &host, &folder) : st;
    st = st == OK && !*s->model ? comm_agree(run->comm, open_metrics(f, s->output)) : st;
    st = st == OK && !*s->model ? train(f) : st;
    st = st == OK ? norm_for_all(f) : st;
    st = st == OK ? evaluate(f) : st;
    st = st == OK && s->few_shot.norm_by_context ? norm_for_all(f) : st; /* which the saved model has */
    st = st == OK ? comm_agree(run->comm, lease_check(folder.lease)) : st;
    st = st == OK ? comm_agree(run->comm, deliver(f, s->output)) : st;
    st = st == OK && !*s->model ? checkpoint_prune(run->comm, s->output, 0) : st; /* done: begins anew */
    metrics_close(&f->metrics);
    enum status finished = run_folder_finish(run, &host, &folder, st);
    return comm_agree(run->comm, finished);
}

enum status command_few_shot(struct run *run) {
    struct few_shot f = {.run = run};
    enum status st = few_shot_work(&f);
    few_shot_trainer_close(&f.trainer);
    network_close(&f.model);
    world_free(&f.world);
    text_free(&f.line);
    text_free(&f.result);
    facts_free(&f.facts);
    return st;
}
