/* Losses of reward models on embeddings: golden numbers, and what must hold of probabilities. */
#include "tests/unit.h"

#include <math.h>

#include "objective/few_shot_loss.h"

static void test_golden(void **state) {
    (void)state;
    struct few_shot_loss l;
    struct few_shot_kl kl;
    few_shot_btl((const double[]){1}, (const double[]){0.2}, 0, &l);
    assert_true(fabs(l.value - 0.3711006659477777) < 1e-15);
    few_shot_dpl((const double[]){1, 0}, (const double[]){0.2, 0}, 0, &l);
    assert_true(fabs(l.value - 0.12159015060833034) < 1e-14);
    few_shot_normal_kl(0.3, 0.5, -0.1, 0.8, &kl);
    assert_true(fabs(kl.value - 0.2903161292457356) < 1e-15);
    few_shot_normal_kl(0.3, 0.5, 0.3, 0.5, &kl);
    assert_true(kl.value == 0 && kl.d_m == 0 && kl.d_s == 0 && kl.d_n == 0 && kl.d_t == 0);
    for (int dpl = 0; dpl < 2; dpl++) { /* p(a > b) + p(b > a) = 1, also far out */
        for (double shift = -700; shift <= 700; shift += 100) {
            struct few_shot_loss other;
            const double a[] = {shift, 0.3};
            const double b[] = {0.2, -0.4};
            (dpl ? few_shot_dpl : few_shot_btl)(a, b, 0, &l);
            (dpl ? few_shot_dpl : few_shot_btl)(a, b, 1, &other);
            assert_true(isfinite(l.value) && isfinite(other.value));
            assert_true(fabs(exp(-l.value) + exp(-other.value) - 1) < 1e-12);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_golden)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
