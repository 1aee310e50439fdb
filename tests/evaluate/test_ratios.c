/* Ratios on 1, 2 and 4 ranks: their values beside plain sums, their intervals beside a bootstrap that draws
 * row by row in double and formulas written anew, what is printed of them; breakdowns by hand. */
#include "evaluate/breakdown.h"

#include <math.h>
#include <string.h>

#include "tests/check.h"
#include "util/json.h"
#include "util/log.h"
#include "util/mem.h"
#include "util/rng.h"
#include "util/student.h"

enum { ROWS = 37, SAMPLES = 64, RATIOS = 3 };

/* A row's share; the third ratio has no row at all. */
static void share(int row, double numerator[RATIOS], double denominator[RATIOS]) {
    numerator[0] = row % 3 == 0;
    denominator[0] = 1;
    numerator[1] = 0.25 * row - 3;
    denominator[1] = row % 5;
    numerator[2] = denominator[2] = 0;
}

/* Rows by twos belong to one unit. */
static int64_t unit_of(int row) {
    return row / 2;
}

/* The smallest k with uniform < sum of e^-1 / i! up to k. */
static int poisson(double uniform) {
    double term = exp(-1), below = term;
    int k = 0;
    while (uniform >= below && k < 30) {
        term /= ++k;
        below += term;
    }
    return k;
}

/* Row by row in double: the ratio, its variance over the resamples and their skewness, the number of units
 * that they show. */
static void resample(int v, uint64_t seed, double *ratio, double *variance, double *skewness, double *units) {
    double numerators[SAMPLES] = {0}, denominators[SAMPLES] = {0}, n = 0, d = 0, squares = 0, cubes = 0,
           weights = 0;
    for (int row = 0; row < ROWS; row++) {
        struct rng rng = rng_stream(seed, RNG_BOOTSTRAP, unit_of(row), 0);
        double numerator[RATIOS], denominator[RATIOS];
        share(row, numerator, denominator);
        n += numerator[v];
        d += denominator[v];
        for (int s = 0; s < SAMPLES; s++) {
            int times = poisson((double)(rng_u64(&rng) >> 11) * 0x1p-53);
            numerators[s] += times * numerator[v];
            denominators[s] += times * denominator[v];
        }
    }
    for (int s = 0; s < SAMPLES; s++) {
        double off = numerators[s] - n / d * denominators[s];
        squares += off * off;
        cubes += off * off * off;
        weights += (denominators[s] - d) * (denominators[s] - d);
    }
    *ratio = n / d;
    *skewness = cubes / SAMPLES / pow(squares / SAMPLES, 1.5);
    *variance = squares / SAMPLES / (d * d);
    *units = d * d / (weights / SAMPLES);
}

/* Rows dealt one by one, each counted in two parts. */
static void count_rows(struct comm *c, struct ratios *r) {
    for (int row = c->rank; row < ROWS; row += c->size) {
        double numerator[RATIOS], denominator[RATIOS];
        share(row, numerator, denominator);
        for (int v = 0; v < RATIOS; v++) {
            ratios_count(r, v, 0.5 * numerator[v], denominator[v]);
            ratios_count(r, v, 0.5 * numerator[v], 0);
        }
        ratios_end_row(r, unit_of(row));
    }
}

/* Ratio 0 is a share: Wilson's interval; ratio 1 a mean: Student's, by Hall's transformation of (ratio - x) /
 * s. */
static void check_interval(const struct ratios *r, int v) {
    double ratio, variance, skew, units;
    resample(v, 5, &ratio, &variance, &skew, &units);
    double t = student_quantile(0.95, units - 1);
    if (v == 1) {
        double deviation = sqrt(variance * units / (units - 1));
        for (int i = 0; i < 2; i++) {
            double x = (ratio - (i == 0 ? r->low[v] : r->high[v])) / deviation;
            double straight = x + skew * x * x / 3 + skew * skew * x * x * x / 27 + skew / 6;
            CHECK(fabs(straight - (i == 0 ? t : -t)) <= 1e-10);
        }
        return;
    }
    double z = 1.6448536269514722; /* the normal distribution's 95 % point */
    double n = fmin(ratio * (1 - ratio) / variance, ROWS);
    n *= fmin(1, pow(student_quantile(0.95, ROWS - 1) / t, 2));
    /* Its ends solve (ratio - x)^2 = z^2 x (1 - x) / n. */
    for (int i = 0; i < 2; i++) {
        double x = i == 0 ? r->low[v] : r->high[v];
        CHECK((x < ratio) == (i == 0) && fabs((ratio - x) * (ratio - x) - z * z * x * (1 - x) / n) <= 1e-6);
    }
}

static void test_intervals(struct comm *c) {
    const struct interval_options o = {.samples = SAMPLES, .confidence = 0.9, .seed = 5};
    struct ratios r;
    CHECK(ratios_open(&o, RATIOS, &r) == OK);
    ratios_are_shares(&r, 0, 1);
    count_rows(c, &r);
    CHECK(ratios_reduce(c, &r) == OK);
    for (int v = 0; v < 2; v++) {
        double numerators = 0, denominators = 0;
        for (int row = 0; row < ROWS; row++) {
            double numerator[RATIOS], denominator[RATIOS];
            share(row, numerator, denominator);
            numerators += numerator[v];
            denominators += denominator[v];
        }
        CHECK(ratios_rows(&r, v) == denominators);
        CHECK(ratios_value(&r, v) == numerators / denominators);
        check_interval(&r, v);
    }
    CHECK(ratios_rows(&r, 2) == 0 && isnan(ratios_value(&r, 2)) && isnan(r.low[2]));
    ratios_close(&r);
}

static double member(const json_t *object, const char *name, size_t i) {
    return json_number_value(json_array_get(json_object_get(object, name), i));
}

/* What is printed can be read again; ratios without a name, and all of it without samples, are left out. */
static void test_print(struct comm *c) {
    const char *const names[RATIOS] = {"one", NULL, "none"};
    struct interval_options o = {.samples = SAMPLES, .confidence = 0.9, .seed = 5};
    struct ratios r;
    struct text out = {0};
    json_t *object = NULL;
    CHECK(ratios_open(&o, RATIOS, &r) == OK);
    count_rows(c, &r);
    CHECK(ratios_reduce(c, &r) == OK);
    CHECK(text_puts(&out, "{\"first\": 1") == OK && ratios_print(&r, names, RATIOS, &out) == OK);
    CHECK(text_puts(&out, "}") == OK && json_parse(out.data, out.len, "test", &object) == OK);
    const json_t *intervals = json_object_get(object, "intervals");
    CHECK(json_number_value(json_object_get(object, "confidence")) == 0.9);
    CHECK(json_object_size(intervals) == 2);
    CHECK(member(intervals, "one", 0) == r.low[0] && member(intervals, "one", 1) == r.high[0]);
    CHECK(json_is_null(json_array_get(json_object_get(intervals, "none"), 0)));
    json_decref(object);
    ratios_close(&r);
    o.samples = 0;
    CHECK(ratios_open(&o, RATIOS, &r) == OK);
    count_rows(c, &r);
    CHECK(ratios_reduce(c, &r) == OK);
    text_clear(&out);
    CHECK(ratios_print(&r, names, RATIOS, &out) == OK && out.len == 0);
    CHECK(ratios_value(&r, 0) == 13.0 / ROWS); /* 0, 3, … 36 */
    text_free(&out);
    ratios_close(&r);
}

static void check_group(const json_t *object, const char *group, const char *name, double accuracy,
                        int pairs) {
    const json_t *found = json_object_get(json_object_get(object, group), name);
    CHECK(found && json_number_value(json_object_get(found, "accuracy")) == accuracy);
    CHECK(json_number_value(json_object_get(found, "pairs")) == pairs);
}

/* Three pairs: 15 + 16 tokens without scores; 16 + 16 with a gap of 0.25 (its bucket's upper edge), wrong; 9
 * + 300 with a gap of 20. Two subsets of RewardBench, of the sections Chat and Safety. */
static void test_breakdown(struct comm *c) {
    char *subsets[] = {"alpacaeval-easy", "donotanswer"};
    const struct dataset_facts facts = {.n_subsets = 2, .subsets = subsets};
    const struct interval_options none = {.samples = 0};
    const struct sample samples[] = {{.subset = 0}, {.subset = 1}, {.subset = -1}};
    const struct sample_response responses[3][2] = {
        {{.count = 15, .score = NAN}, {.count = 16, .score = 1}},
        {{.count = 16, .score = 1}, {.count = 16, .score = 0.75f}},
        {{.count = 300, .score = 20}, {.count = 9, .score = 0}}};
    const bool accurate[] = {true, false, true};
    struct ratios r;
    struct text out = {0};
    json_t *object = NULL;
    CHECK(ratios_open(&none, 2 + breakdown_size(&facts), &r) == OK);
    for (int i = c->rank; i < 3; i += c->size) {
        const struct breakdown_pair pair = {&responses[i][0], &responses[i][1], accurate[i]};
        breakdown_count(&r, 2, &samples[i], &pair);
        ratios_end_row(&r, i);
    }
    CHECK(ratios_reduce(c, &r) == OK);
    CHECK(text_puts(&out, "{\"first\": 1") == OK && breakdown_print(&r, 2, &facts, &out) == OK);
    CHECK(text_puts(&out, "}") == OK && json_parse(out.data, out.len, "test", &object) == OK);
    check_group(object, "by_length", "below 16", 1, 1);
    check_group(object, "by_length", "16 to 31", 0, 1);
    check_group(object, "by_length", "128 to 255", 1, 1);
    check_group(object, "by_length_difference", "within a tenth", 0.5, 2);
    check_group(object, "by_length_difference", "chosen longer", 1, 1);
    check_group(object, "by_score_gap", "up to 0.25", 0, 1);
    check_group(object, "by_score_gap", "above 16", 1, 1);
    CHECK(json_object_size(json_object_get(object, "by_score_gap")) == 2);
    check_group(object, "subsets", "alpacaeval-easy", 1, 1);
    check_group(object, "subsets", "donotanswer", 0, 1);
    CHECK(json_number_value(json_object_get(object, "sections_mean")) == 0.5);
    CHECK(json_object_size(json_object_get(object, "sections")) == 2);
    json_decref(object);
    text_free(&out);
    ratios_close(&r);
}

int main(int argc, char **argv) {
    struct comm *c;
    if (comm_start(&argc, &argv, &c) != OK) {
        return 1;
    }
    log_init(c->rank, c->size, LOG_ERROR);
    test_intervals(c);
    test_print(c);
    test_breakdown(c);
    int64_t all = failures;
    CHECK(comm_sum_i64(c, &all, 1) == OK);
    comm_finish(c);
    return all != 0;
}
