/* A few-shot reward model trained by the ranks together is the one that a rank trains alone: batch norm's
 * statistics, gradients, latents and dropout do not depend on who has which users. One rank of four has none.
 * What fails on one rank ends all of them. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "few_shot/train.h"
#include "tests/check.h"
#include "util/mem.h"

enum { PAIRS = 40, WIDTH = 2, LABELS = 2, STEPS = 12 };

static void make_world(struct world *w) {
    struct rng r = rng_stream(9, RNG_CHECK, 0, 0);
    *w = (struct world){.rows = 2 * PAIRS, .width = WIDTH, .pairs = PAIRS, .labels = LABELS};
    CHECK(NEW_ARRAY(w->values, w->rows * WIDTH) == OK && NEW_ARRAY(w->a, PAIRS) == OK &&
          NEW_ARRAY(w->b, PAIRS) == OK && NEW_ARRAY(w->choices, LABELS * PAIRS) == OK &&
          NEW_ARRAY(w->train, PAIRS) == OK && NEW_ARRAY(w->test, PAIRS) == OK);
    for (int64_t i = 0; i < w->rows * WIDTH; i++) {
        w->values[i] = (float)rng_normal(&r);
    }
    for (int64_t i = 0; i < PAIRS; i++) {
        w->a[i] = 2 * i;
        w->b[i] = 2 * i + 1;
        bool b_is_more = w->values[WIDTH * w->b[i]] > w->values[WIDTH * w->a[i]];
        w->choices[i] = b_is_more;
        w->choices[PAIRS + i] = !b_is_more;
        w->train[i] = w->test[i] = i;
    }
    w->n_train = w->n_test = PAIRS;
}

struct result {
    double loss[STEPS];
    struct network model;
    struct few_shot_accuracy accuracy[LABELS + 1];
};

static bool near(double x, double y) {
    return fabs(x - y) <= 1e-9 || (isnan(x) && isnan(y));
}

/* Averages over batches forget what was there, and are plain ones: over two batches the mean of each alone
 * (where the context's size, which goes by turns, means nothing). */
static void check_average(struct few_shot_trainer *t) {
    enum { HIDDEN = 6, RUNS = 4 };
    static const int batches[RUNS] = {2, 1, 1, 2};
    struct mt19937 start = t->train.draws;
    const struct network *m = t->model;
    double mean[RUNS][HIDDEN], variance[RUNS][HIDDEN];
    for (int run = 0; run < RUNS; run++) {
        t->train.draws = run == 1 || run == 3 ? start : t->train.draws;
        for (int i = 0; i < HIDDEN && run == 3; i++) {
            m->running_mean[i] = m->running_variance[i] = 7;
        }
        CHECK(few_shot_average_norm(t, batches[run], t->options->context_min, t->options->context_max) == OK);
        for (int i = 0; i < HIDDEN; i++) {
            mean[run][i] = m->running_mean[i];
            variance[run][i] = m->running_variance[i];
        }
    }
    for (int i = 0; i < HIDDEN; i++) {
        CHECK(near(mean[0][i], mean[3][i]) && near(variance[0][i], variance[3][i]));
        if (m->shape.kind != NETWORK_PROCESS) {
            CHECK(near(mean[0][i], (mean[1][i] + mean[2][i]) / 2) && mean[1][i] != mean[2][i]);
            CHECK(near(variance[0][i], (variance[1][i] + variance[2][i]) / 2));
        }
    }
}

static const struct few_shot_options options = {.batch = 3,
                                                .targets = 8,
                                                .context_max = 5,
                                                .samples = 2,
                                                .eval_samples = 3,
                                                .beta_kl = 0.01,
                                                .dropout = 0.2,
                                                .adam = {1e-2, 3e-5, 0.1},
                                                .seed = 4,
                                                .task_seed = 42};

static void train(struct comm *c, const struct world *w, const struct network_shape *shape,
                  struct result *out) {
    struct few_shot_trainer t;
    CHECK(network_open(shape, 3, &out->model) == OK);
    CHECK(few_shot_trainer_open(c, &out->model, w, &options, &t) == OK);
    for (int i = 0; i < STEPS; i++) {
        struct few_shot_value value;
        CHECK(few_shot_step(&t, &value) == OK);
        out->loss[i] = value.nll + value.kl;
    }
    check_average(&t);
    struct few_shot_accuracy again[LABELS + 1];
    CHECK(few_shot_evaluate(&t, 3, out->accuracy) == OK);
    CHECK(few_shot_evaluate(&t, 3, again) == OK); /* the same users again */
    CHECK(again[LABELS].mean[MEASURE_ALL] == out->accuracy[LABELS].mean[MEASURE_ALL]);
    few_shot_trainer_close(&t);
}

static void compare(struct comm *c, const struct world *w, const struct network_shape *shape) {
    struct result together;
    struct result alone;
    train(c, w, shape, &together);
    train(NULL, w, shape, &alone);
    for (int i = 0; i < STEPS; i++) {
        CHECK(near(together.loss[i], alone.loss[i]));
    }
    CHECK(alone.loss[STEPS - 1] != alone.loss[0]);
    double worst = 0;
    for (int64_t i = 0; i < alone.model.count; i++) {
        worst = fmax(worst, fabs(together.model.parameters[i] - alone.model.parameters[i]));
    }
    if (worst >= 1e-8) {
        fprintf(stderr, "kind %d: parameters differ by %g\n", (int)shape->kind, worst);
        failures++;
    }
    for (int64_t i = 0; i < shape->hidden; i++) {
        CHECK(near(together.model.running_variance[i], alone.model.running_variance[i]));
    }
    double users = 0;
    for (int i = 0; i <= LABELS; i++) {
        const struct few_shot_accuracy *a = &together.accuracy[i];
        users += i < LABELS ? a->users : 0;
        CHECK(a->users == alone.accuracy[i].users);
        for (int m = 0; m < MEASURES; m++) {
            CHECK(near(a->mean[m], alone.accuracy[i].mean[m]));
            CHECK(near(a->error[m], alone.accuracy[i].error[m]));
        }
        if (a->users > 0) { /* three of eight pairs were seen */
            CHECK(near(8 * a->mean[MEASURE_ALL], 3 * a->mean[MEASURE_SEEN] + 5 * a->mean[MEASURE_UNSEEN]));
        }
    }
    CHECK(users == PAIRS / 3 * 3 && together.accuracy[LABELS].users == users);
    network_close(&together.model);
    network_close(&alone.model);
}

/* The ranks' last failed alone: every one of them says so, and with the same code. */
static void expect_failed(const struct comm *c, enum status st) {
    char who[32];
    snprintf(who, sizeof who, "rank %d of %d", c->size - 1, c->size);
    CHECK(st == ERR_INTERNAL);
    CHECK(strstr(status_message()->text, "few-shot batch: ") != NULL);
    CHECK(c->size == 1 || strncmp(status_message()->text, who, strlen(who)) == 0);
}

/* A batch that does not fit on one rank: in an update, in the norm's averages, in an evaluation. Nobody is
 * left in a collective, nothing is updated, and then the ranks are in step. */
static void fail_on_one(struct comm *c, const struct world *w, const struct network_shape *shape) {
    struct few_shot_trainer t;
    struct few_shot_value value;
    struct few_shot_accuracy accuracy[LABELS + 1];
    struct network m, untouched;
    CHECK(network_open(shape, 3, &m) == OK && network_open(shape, 3, &untouched) == OK);
    CHECK(few_shot_trainer_open(c, &m, w, &options, &t) == OK);
    int64_t fits = t.pass.limits.targets;
    t.pass.limits.targets = c->rank == c->size - 1 ? 0 : fits;
    expect_failed(c, few_shot_step(&t, &value));
    CHECK(t.adam.step == 0);
    CHECK(memcmp(m.parameters, untouched.parameters, (size_t)m.count * sizeof *m.parameters) == 0);
    expect_failed(c, few_shot_average_norm(&t, 3, 0, 2));
    expect_failed(c, few_shot_evaluate(&t, 3, accuracy));
    t.pass.limits.targets = fits;
    CHECK(few_shot_evaluate(&t, 3, accuracy) == OK);
    few_shot_trainer_close(&t);
    network_close(&m);
    network_close(&untouched);
}

int main(int argc, char **argv) {
    struct comm *c;
    static const struct network_shape shapes[] = {
        {NETWORK_BTL, WIDTH, 6, 2, AGGREGATE_ATTENTION, false, false},
        {NETWORK_DPL, WIDTH, 6, 2, AGGREGATE_ATTENTION, false, false},
        {NETWORK_PROCESS, WIDTH, 6, 2, AGGREGATE_ATTENTION, true, false},
        {NETWORK_PROCESS, WIDTH, 6, 2, AGGREGATE_ATTENTION, false, true},
    };
    if (comm_start(&argc, &argv, &c) != OK) {
        return 1;
    }
    struct world w;
    make_world(&w);
    for (int i = 0; i < COUNT_OF(shapes); i++) {
        compare(c, &w, &shapes[i]);
        fail_on_one(c, &w, &shapes[i]);
    }
    world_free(&w);
    comm_finish(c);
    return failures != 0;
}
