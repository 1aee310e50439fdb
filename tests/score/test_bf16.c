/* bf16 on the CPU beside fp32, every family: the same fp32 model (rounded to bf16 first, as a user's folder
 * is), log-probabilities token by token, and the gradient of the DPO loss as a direction.
 *
 * bf16 has 8 bits: an activation is rounded by at most 2^-9 of itself, some four times in a block, errors of
 * random signs. What that does to a token's log-probability grows with the spread of the logits, which these
 * random models have wide (log-probabilities down to -8.5 with some hundred tokens). PyTorch's own bf16 pass
 * is off by 0.018 (neox) to 0.076 (llama) on them at worst, by up to 0.005 on average; here no family may be
 * further off than twice that. A trained model is held to 2e-2 and 2e-3 in tests/e2e/test_bf16.sh. */
#include "tests/model_fixture.h"

static const double WORST_TOKEN = 0.15, WORST_MEAN = 0.01;

static struct backend *with_type(const char *compute) {
    char why[256];
    struct backend *b;
    const struct backend_request request = {
        .device = "cpu", .compute = compute, .device_index = -1, .threads = 2, .deterministic = true};
    MUST(backend_open(&request, &b, why));
    return b;
}

/* Parameters take what bf16 holds of them, so that both sides have the same. */
static void round_parameters(struct backend *half, struct model *m) {
    struct arena *a = m->base;
    void *data;
    MUST(backend_alloc(half, a->elements * 2, &data));
    struct tensor rounded = tensor_at(data, 1, a->elements, DTYPE_BF16);
    MUST(backend_convert(half, rounded, a->master));
    MUST(backend_convert(half, a->master, rounded));
    MUST(arena_refresh(a));
    backend_free(half, data);
}

static double cosine(const double *a, const double *b, int64_t n) {
    double ab = 0, aa = 0, bb = 0;
    for (int64_t i = 0; i < n; i++) {
        ab += a[i] * b[i];
        aa += a[i] * a[i];
        bb += b[i] * b[i];
    }
    return ab / sqrt(aa * bb);
}

static void check_model(struct backend *full, struct backend *half, const char *name) {
    struct fixture f, h;
    double fine[MOST_READOUTS], coarse[MOST_READOUTS], mean = 0;
    fixture_open(&f, full, name);
    fixture_open(&h, half, name);
    round_parameters(half, f.model);
    round_parameters(half, h.model);
    make_forest(&f, 0, f.rows, true);
    make_forest(&h, 0, h.rows, true);
    logps_of(&f, fine);
    logps_of(&h, coarse);
    int32_t n = f.forest.n_readouts;
    for (int32_t i = 0; i < n; i++) {
        mean += (coarse[i] - fine[i]) / n;
        if (!(fabs(coarse[i] - fine[i]) <= WORST_TOKEN)) {
            FAIL("%s: token %d has log-probability %.6g in bf16, %.6g in fp32", name, i, coarse[i], fine[i]);
        }
    }
    if (!(fabs(mean) <= WORST_MEAN)) {
        FAIL("%s: log-probabilities are %.3g apart on average", name, mean);
    }
    dpo_step(&f, KEEP_ALL, 0, f.rows);
    dpo_step(&h, KEEP_ALL, 0, h.rows);
    double *fine_gradient = all_gradients(&f), *coarse_gradient = all_gradients(&h);
    double same = cosine(fine_gradient, coarse_gradient, f.model->base->elements);
    if (!(same > 0.999)) {
        FAIL("%s: the gradient in bf16 has a cosine of %.6f with fp32's", name, same);
    }
    mem_free(fine_gradient);
    mem_free(coarse_gradient);
    fixture_close(&f);
    fixture_close(&h);
}

static void test_families(void **state) {
    (void)state;
    struct backend *full = with_type("fp32"), *half = with_type("bf16");
    for (int i = 0; i < COUNT_OF(language_models); i++) {
        check_model(full, half, language_models[i]);
    }
    backend_close(full);
    backend_close(half);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_families)};
    if (comm_start(&argc, &argv, &world) != OK) {
        return 1;
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    comm_finish(world);
    return failed;
}
