#include "few_shot/train.h"

#include <math.h>
#include <string.h>

#include "util/mem.h"

static int64_t most(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static struct range my_users(const struct few_shot_trainer *t) {
    return t->comm ? range_part(t->options->batch, t->comm->rank, t->comm->size)
                   : (struct range){0, t->options->batch};
}

static enum status agree(const struct few_shot_trainer *t, enum status st) {
    return t->comm ? comm_agree(t->comm, st) : st;
}

static enum status check(const struct few_shot_options *o) {
    if (o->context_min > o->context_max || o->context_max > o->targets) {
        return fail(ERR_USAGE,
                    "few_shot: between %lld and %lld context pairs of %lld targets; the smallest must not be "
                    "above the largest, nor the largest above the targets",
                    (long long)o->context_min, (long long)o->context_max, (long long)o->targets);
    }
    return OK;
}

static enum status open_all(struct few_shot_trainer *t, const struct world *w) {
    const struct few_shot_options *o = t->options;
    struct range mine = my_users(t);
    bool latent = t->model->shape.latent;
    struct few_shot_limits limits = {.users = mine.last - mine.first,
                                     .targets = o->targets,
                                     .context = o->targets,
                                     .samples = latent ? most(o->samples, o->eval_samples) : 1};
    TRY(check(o));
    TRY(tasks_open(w, false, o->targets, o->task_seed, &t->train));
    TRY(tasks_open(w, true, o->targets, o->task_seed, &t->test));
    TRY(few_shot_pass_open(t->model, t->comm, &limits, &t->pass));
    TRY(users_open(t->model, w, &limits, &t->users));
    return adam_open(t->model->count, &t->adam);
}

enum status few_shot_trainer_open(struct comm *comm, struct network *m, const struct world *w,
                                  const struct few_shot_options *options, struct few_shot_trainer *out) {
    *out = (struct few_shot_trainer){.comm = comm, .model = m, .options = options};
    enum status st = open_all(out, w);
    if (st != OK) {
        few_shot_trainer_close(out);
    }
    return st;
}

void few_shot_trainer_close(struct few_shot_trainer *t) {
    tasks_close(&t->train);
    tasks_close(&t->test);
    few_shot_pass_close(&t->pass);
    users_close(&t->users);
    adam_close(&t->adam);
    *t = (struct few_shot_trainer){0};
}

int64_t few_shot_steps_per_pass(const struct world *w, const struct few_shot_options *options) {
    return w->n_train / options->batch;
}

static void draw_training(struct few_shot_trainer *t, int64_t context, int64_t step) {
    const struct few_shot_options *o = t->options;
    struct few_shot_draw draw = {.users = o->batch,
                                 .mine = my_users(t),
                                 .context = context,
                                 .samples = t->model->shape.latent ? o->samples : 1,
                                 .seed = o->seed,
                                 .step = step};
    users_draw(t->model, &t->train, &draw, &t->users);
}

/* Collective: the gradients' sum, and an allreduce in which a failure rides. st: how this rank's part of the
 * step went; *value: its share of the loss, then the loss. */
static enum status close_step(struct few_shot_trainer *t, enum status st, struct few_shot_value *value) {
    enum { NLL, KL, FAILED, CLOSING };
    double closing[CLOSING] = {value->nll, value->kl, st != OK};
    if (t->comm) {
        TRY(comm_sum_f64(t->comm, t->model->gradients, t->model->count));
        TRY(comm_sum_f64(t->comm, closing, CLOSING));
    }
    if (closing[FAILED] > 0) {
        return agree(t, st);
    }
    *value = (struct few_shot_value){.nll = closing[NLL], .kl = closing[KL]};
    if (!isfinite(value->nll) || !isfinite(value->kl)) {
        return fail(ERR_DATA,
                    "few-shot model: the loss of update %lld is not finite; lower the learning rate",
                    (long long)t->adam.step);
    }
    return OK;
}

enum status few_shot_step(struct few_shot_trainer *t, struct few_shot_value *value) {
    const struct few_shot_options *o = t->options;
    struct rng r = rng_stream(o->seed, RNG_SHUFFLE, -1, t->adam.step);
    draw_training(t, o->context_min + rng_below(&r, o->context_max - o->context_min + 1), t->adam.step);
    t->users.batch.dropout = o->dropout;
    enum status forward = few_shot_forward(&t->pass, &t->users.batch, true, o->objective);
    enum status backward = few_shot_backward(&t->pass, &t->users.batch, o->beta_kl, o->objective, value);
    TRY(close_step(t, forward == OK ? backward : forward, value));
    adam_step(&o->adam, &t->adam, t->model->parameters, t->model->gradients);
    return OK;
}

enum status few_shot_average_norm(struct few_shot_trainer *t, int64_t batches, int64_t least, int64_t most) {
    double momentum = t->pass.norm.momentum;
    enum status st = OK;
    for (int64_t i = 0; i < batches; i++) { /* all of them, whatever fails: the ranks are together in each */
        draw_training(t, least + i % (most - least + 1), t->adam.step + i);
        t->users.batch.dropout = 0;
        t->pass.norm.momentum = 1 / (double)(i + 1);
        /* z as evaluation draws it */
        enum status forward = few_shot_forward(&t->pass, &t->users.batch, true, FEW_SHOT_CODE);
        st = st == OK ? forward : st;
    }
    t->pass.norm.momentum = momentum;
    return agree(t, st);
}

/* Numerators over users of a measure: of the mean and of the variance. */
struct tally {
    double users[MEASURES], sum[MEASURES], squares[MEASURES];
};

/* Share of right choices of each measure for one of this rank's users. */
static void judge(const struct few_shot_trainer *t, int64_t user, double right[MEASURES],
                  double count[MEASURES]) {
    const struct few_shot_batch *b = &t->users.batch;
    int64_t outputs = network_outputs(&t->model->shape);
    for (int64_t at = 0; at < b->targets; at++) {
        int64_t target = t->users.positions[at];
        int64_t pair = user * b->targets + target;
        double hits = 0;
        for (int64_t s = 0; s < b->samples; s++) {
            const double *a = t->pass.outputs + (s * b->users * b->targets + pair) * 2 * outputs;
            hits += (a[outputs] > a[0]) == b->choices[pair];
        }
        bool is_shown = at < b->context && !b->shown;
        bool counts[MEASURES] = {true, is_shown, !is_shown, target >= b->context || b->shown};
        for (int m = 0; m < MEASURES; m++) {
            right[m] += counts[m] ? hits / (double)b->samples : 0;
            count[m] += counts[m];
        }
    }
}

static void tally_batch(const struct few_shot_trainer *t, int64_t labels, struct tally *tallies) {
    for (int64_t user = 0; user < t->users.batch.users; user++) {
        double right[MEASURES] = {0};
        double count[MEASURES] = {0};
        judge(t, user, right, count);
        struct tally *both[] = {&tallies[t->users.labels[user]], &tallies[labels]};
        for (int i = 0; i < 2; i++) {
            for (int m = 0; m < MEASURES; m++) {
                if (count[m] > 0) {
                    double share = right[m] / count[m];
                    both[i]->users[m] += 1;
                    both[i]->sum[m] += share;
                    both[i]->squares[m] += share * share;
                }
            }
        }
    }
}

static void summarize(const struct tally *tally, struct few_shot_accuracy *out) {
    out->users = tally->users[MEASURE_ALL];
    for (int m = 0; m < MEASURES; m++) {
        double n = tally->users[m];
        double mean = n > 0 ? tally->sum[m] / n : NAN;
        double variance = n > 1 ? fmax(tally->squares[m] - n * mean * mean, 0) / (n - 1) : NAN;
        out->mean[m] = mean;
        out->error[m] = sqrt(variance / n);
    }
}

/* Local. */
static enum status evaluate_batches(struct few_shot_trainer *t, int64_t context, struct tasks *tasks,
                                    struct tally *tallies) {
    const struct few_shot_options *o = t->options;
    struct few_shot_draw draw = {.users = o->batch,
                                 .mine = my_users(t),
                                 .context = context,
                                 .samples = t->model->shape.latent ? o->eval_samples : 1,
                                 .seed = o->seed};
    int64_t labels = tasks->world->labels;
    for (int64_t batch = 0; batch < tasks->n_ids / o->batch; batch++) {
        draw.step = -1 - batch; /* apart from the training steps */
        users_draw(t->model, tasks, &draw, &t->users);
        TRY(few_shot_forward(&t->pass, &t->users.batch, false, o->objective));
        tally_batch(t, labels, tallies);
    }
    return OK;
}

enum status few_shot_evaluate(struct few_shot_trainer *t, int64_t context, struct few_shot_accuracy *out) {
    int64_t labels = t->test.world->labels;
    struct tally *tallies;
    if (context > t->options->targets || t->test.n_ids < t->options->batch) {
        return fail(ERR_USAGE,
                    "few_shot: %lld context pairs of %lld targets, %lld test pairs for batches of "
                    "%lld users: nothing to evaluate",
                    (long long)context, (long long)t->options->targets, (long long)t->test.n_ids,
                    (long long)t->options->batch);
    }
    enum status st = NEW_ARRAY(tallies, labels + 1);
    struct mt19937 start = t->test.draws;
    st = agree(t, st == OK ? evaluate_batches(t, context, &t->test, tallies) : st);
    t->test.draws = start; /* the same users the next time */
    if (st == OK && t->comm) {
        st = comm_sum_f64(t->comm, (double *)tallies,
                          (labels + 1) * (int64_t)(sizeof *tallies / sizeof(double)));
    }
    for (int64_t i = 0; i <= labels && st == OK; i++) {
        summarize(&tallies[i], &out[i]);
    }
    mem_free(tallies);
    return st;
}
