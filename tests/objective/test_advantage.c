/* From rewards to advantages: closed forms, the specification's numbers, PyTorch's. */
#include "tests/unit.h"

#include <math.h>

#include "objective/advantage.h"
#include "util/json.h"
#include "util/rng.h"

static void assert_near(double a, double b) {
    if (!(fabs(a - b) < 1e-12)) {
        FAIL("%.15g, not %.15g", a, b);
    }
}

static void test_gae(void **state) {
    (void)state;
    const double rewards[] = {-.1, -.2, 1}, values[] = {.5, .4, .3}, expected[] = {.14675, .365, .7};
    double a[3], returns[3];
    advantage_gae(rewards, values, 3, 1, .95, a, returns);
    for (int i = 0; i < 3; i++) {
        assert_near(a[i], expected[i]);
        assert_near(returns[i], expected[i] + values[i]);
    }
    /* lambda 1: all that is to come less the value; lambda 0: one step */
    advantage_gae(rewards, values, 3, .5, 1, a, returns);
    assert_near(a[0], -.1 + .5 * -.2 + .25 * 1 - .5);
    advantage_gae(rewards, values, 3, .5, 0, a, returns);
    assert_near(a[0], -.1 + .5 * .4 - .5);
    assert_near(a[2], 1 - .3);
    advantage_gae(rewards, values, 0, 1, .95, a, returns); /* an empty response has none */
}

static void test_shape(void **state) {
    (void)state;
    const double logp[] = {-1, -2, -3}, reference[] = {-1.5, -1, -3};
    double r[3] = {9, 9, 9};
    advantage_shape(logp, reference, 3, .1, 2, r);
    assert_near(r[0], -.05);
    assert_near(r[1], .1);
    assert_near(r[2], 2);
    advantage_shape(logp, reference, 0, .1, 2, r);
    assert_near(r[0], -.05);
}

static void test_whiten(void **state) {
    (void)state;
    double x[] = {1, 2, 3, 6}, y[] = {1, 2, 3, 6};
    struct moments all = {0}, one = {0}, other = {0}, none = {0};
    moments_add(&all, x, 4);
    assert_near(all.n, 4);
    assert_near(all.mean, 3);
    assert_near(all.squares, 14);
    moments_add(&one, x, 1);
    moments_add(&other, x + 1, 3);
    moments_merge(&one, &other);
    moments_merge(&one, &none);
    assert_near(one.mean, 3);
    assert_near(one.squares, 14);
    advantage_whiten(&all, false, x, 4);
    advantage_whiten(&all, true, y, 4);
    for (int i = 0; i < 4; i++) {
        double at = i == 3 ? 6 : i + 1;
        assert_near(x[i], (at - 3) / sqrt(3.5 + 1e-8));
        assert_near(y[i], x[i] + 3);
    }
    double same[] = {2, 2};
    struct moments flat = {0};
    moments_add(&flat, same, 2);
    advantage_whiten(&flat, false, same, 2);
    assert_true(same[0] == 0 && same[1] == 0);
    /* far from 0 nothing is lost */
    double far[] = {1e9, 1e9 + 1, 1e9 + 2};
    struct moments m = {0};
    moments_add(&m, far, 3);
    assert_near(m.squares, 2);
}

static void test_groups(void **state) {
    (void)state;
    const double rewards[] = {1, 2, 3, 5, 5, 5};
    double a[6];
    advantage_group(rewards, 2, 3, SCALE_GROUP, a);
    assert_near(a[0], -1 / (1 + 1e-4));
    assert_near(a[2], 1 / (1 + 1e-4));
    assert_true(a[1] == 0 && a[3] == 0 && a[5] == 0);
    advantage_group(rewards, 2, 3, SCALE_NONE, a);
    assert_near(a[0], -1);
    advantage_group(rewards, 6, 1, SCALE_GROUP, a); /* groups of one */
    assert_true(a[0] == 0 && a[5] == 0);
    assert_near(advantage_flat_groups(rewards, 2, 3), .5);
    assert_near(advantage_flat_groups(rewards, 0, 3), 0);
    advantage_leave_one_out(rewards, 2, 3, false, a);
    assert_near(a[0], 1 - 2.5);
    assert_near(a[1], 0);
    assert_near(a[2], 3 - 1.5);
    advantage_leave_one_out(rewards, 6, 1, false, a);
    assert_near(a[3], 5);
}

/* Of any rewards: the sum over a group is 0; leaving one out is the group's difference times n / (n - 1). */
static void test_identities(void **state) {
    (void)state;
    struct rng g = rng_stream(4, RNG_CHECK, 0, 0);
    for (int round = 0; round < 50; round++) {
        double rewards[12], a[12], left[12];
        for (int i = 0; i < 12; i++) {
            rewards[i] = 10 * rng_uniform(&g) - 5;
        }
        advantage_group(rewards, 3, 4, SCALE_NONE, a);
        advantage_leave_one_out(rewards, 3, 4, false, left);
        for (int i = 0; i < 12; i++) {
            assert_near(left[i], a[i] * 4 / 3);
        }
        advantage_group(rewards, 3, 4, SCALE_BATCH, a);
        assert_near(a[4] + a[5] + a[6] + a[7], 0);
        double spread = advantage_deviation(left, 12);
        advantage_leave_one_out(rewards, 3, 4, true, left);
        assert_near(advantage_deviation(left, 12), spread / (spread + 1e-4));
    }
}

static void compare(const json_t *file, const char *name, const double *a, int n) {
    const json_t *expected = json_object_get(json_object_get(file, "advantages"), name);
    assert_int_equal(json_array_size(expected), n);
    for (int i = 0; i < n; i++) {
        assert_near(a[i], json_number_value(json_array_get(expected, (size_t)i)));
    }
}

/* TRL's formulas in PyTorch (fixtures/make_policy.py). */
static void test_against_torch(void **state) {
    (void)state;
    json_t *file, *r;
    size_t i;
    double rewards[6], a[6];
    assert_int_equal(json_load(FIXTURES "/policy.json", &file), OK);
    json_array_foreach(json_object_get(file, "responses"), i, r) {
        rewards[i] = json_number_value(json_object_get(r, "reward"));
    }
    static const char *const scales[] = {"group", "batch", "none"};
    for (int k = 0; k < COUNT_OF(scales); k++) {
        advantage_group(rewards, 2, 3, (enum advantage_scale)k, a);
        compare(file, scales[k], a, 6);
    }
    advantage_leave_one_out(rewards, 2, 3, false, a);
    compare(file, "leave_one_out", a, 6);
    advantage_leave_one_out(rewards, 2, 3, true, a);
    compare(file, "normalized", a, 6);
    json_decref(file);
}

static void test_stop_and_control(void **state) {
    (void)state;
    const struct missing_stop replaced = {-1, 0}, less = {NAN, .5}, both = {-1, .5};
    assert_true(advantage_stopped(&replaced, 3, false) == -1 && advantage_stopped(&replaced, 3, true) == 3);
    assert_true(advantage_stopped(&less, 3, false) == 2.5 && advantage_stopped(&both, 3, false) == -1.5);
    struct kl_controller c = {.15, 6, 10000};
    kl_control(&c, 6, 512);
    assert_near(c.coefficient, .15);
    kl_control(&c, 6.6, 500); /* a tenth above */
    assert_near(c.coefficient, .15 * (1 + .1 * .05));
    kl_control(&c, 600, 500); /* clipped */
    assert_near(c.coefficient, .15 * (1 + .1 * .05) * 1.01);
    kl_control(&c, 0, 500);
    assert_near(c.coefficient, .15 * (1 + .1 * .05) * 1.01 * .99);
    struct kl_controller fixed = {.15, 0, 10000};
    kl_control(&fixed, 100, 500);
    assert_true(fixed.coefficient == .15);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gae),
        cmocka_unit_test(test_shape),
        cmocka_unit_test(test_whiten),
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_identities),
        cmocka_unit_test(test_against_torch),
        cmocka_unit_test(test_stop_and_control),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
