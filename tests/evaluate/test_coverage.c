/* Intervals hold what they say: worlds whose truth is known are drawn again and again, and the share of
 * nominal 95 % intervals that hold it is counted, for means that lie askew (losses), for margins, rewards and
 * accuracies, with one pair a prompt and with fifteen that have much in common.
 * COVERAGE_WORLDS: how many worlds of each kind (100; the margin allowed follows it). */
#include "evaluate/ratios.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/check.h"
#include "util/log.h"
#include "util/rng.h"

enum { LOSS, MARGIN, REWARD, EASY, EVEN, VALUES, SAMPLES = 400 };
static const char *const names[VALUES] = {"loss", "margin", "reward", "accuracy, easy", "accuracy, even"};

struct kind {
    int prompts, pairs;
    double within; /* standard deviation of what a prompt's pairs have in common; of each alone: 1 */
};

/* Margins of a pair: normal around 1, and around 0.2. */
static void count_pair(struct ratios *r, double common, struct rng *rng) {
    double margin = 1 + common + rng_normal(rng);
    ratios_count(r, LOSS, log1p(exp(-margin)), 1);
    ratios_count(r, MARGIN, margin, 1);
    ratios_count(r, REWARD, 2 / (1 + exp(-margin)), 1);
    ratios_count(r, EASY, margin > 0, 1);
    ratios_count(r, EVEN, margin > 0.8, 1);
}

/* Means over all worlds, by the trapezoid rule over the margin's normal distribution. */
static void find_truth(const struct kind *k, double truth[VALUES]) {
    double sd = sqrt(1 + k->within * k->within);
    double step = 1e-3;
    truth[LOSS] = truth[REWARD] = 0;
    for (double z = -10; z <= 10; z += step) {
        double density = exp(-z * z / 2) / sqrt(2 * M_PI);
        truth[LOSS] += step * density * log1p(exp(-1 - sd * z));
        truth[REWARD] += step * density * 2 / (1 + exp(-1 - sd * z));
    }
    truth[MARGIN] = 1;
    truth[EASY] = 0.5 * erfc(-1 / sd / sqrt(2));
    truth[EVEN] = 0.5 * erfc(-0.2 / sd / sqrt(2));
}

/* Draws a world and counts the intervals that hold the truth. */
static void look(struct comm *c, const struct kind *k, int world, const double truth[VALUES],
                 int held[VALUES]) {
    const struct interval_options o = {.samples = SAMPLES, .confidence = 0.95, .seed = (uint64_t)world};
    struct rng rng = rng_stream(77, RNG_BOOTSTRAP, world, k->prompts * 100 + k->pairs);
    struct ratios r;
    CHECK(ratios_open(&o, VALUES, &r) == OK);
    ratios_are_shares(&r, EASY, 2);
    for (int prompt = 0; prompt < k->prompts; prompt++) {
        double common = k->within * rng_normal(&rng);
        for (int pair = 0; pair < k->pairs; pair++) {
            count_pair(&r, common, &rng);
        }
        ratios_end_row(&r, prompt);
    }
    CHECK(ratios_reduce(c, &r) == OK);
    for (int v = 0; v < VALUES; v++) {
        held[v] += r.low[v] <= truth[v] && truth[v] <= r.high[v];
    }
    ratios_close(&r);
}

static void test_kind(struct comm *c, const struct kind *k, int worlds) {
    double truth[VALUES];
    int held[VALUES] = {0};
    find_truth(k, truth);
    for (int world = 0; world < worlds; world++) {
        look(c, k, world, truth, held);
    }
    for (int v = 0; v < VALUES; v++) {
        double share = (double)held[v] / worlds;
        double noise = 3 * sqrt(0.95 * 0.05 / worlds);
        printf("%3d prompts of %2d pairs: %-14s %.3f\n", k->prompts, k->pairs, names[v], share);
        CHECK(share >= 0.93 - noise && share <= 0.97 + noise);
    }
}

int main(int argc, char **argv) {
    const struct kind kinds[] = {{20, 1, 0},  {60, 1, 0},  {300, 1, 0},
                                 {20, 15, 1}, {60, 15, 1}, {20, 15, 0.3}};
    const char *worlds = getenv("COVERAGE_WORLDS");
    struct comm *c;
    if (comm_start(&argc, &argv, &c) != OK) {
        return 1;
    }
    log_init(c->rank, c->size, LOG_ERROR);
    for (int i = 0; i < COUNT_OF(kinds); i++) {
        test_kind(c, &kinds[i], worlds ? atoi(worlds) : 100);
    }
    comm_finish(c);
    return failures > 0;
}
