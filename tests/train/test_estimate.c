/* What a training will hold, beside what it holds: parameters and optimizer states as they are really opened.
 */
#include "tests/unit.h"

#include "store/model_folder.h"
#include "tests/plan_costs.h"
#include "tests/small_world.h"
#include "train/estimate.h"

static struct comm *comm;
static struct backend *backend;
static struct model *model;
static char folder[64];
static struct dataset *data;
static struct view *view;
static struct lengths lengths; /* of the view's rows */

/* The chosen responses of ten prompts. */
static enum status open_rows(void) {
    const struct truncation whole = {.response_ratio = 1};
    const struct dataset_facts facts = world_facts();
    struct dataset_part part = world_part(0, 10);
    char path[128];
    world_folder(comm, folder);
    snprintf(path, sizeof path, "%s/data.h5", folder);
    enum status st = dataset_write(comm, path, &part, &facts);
    world_part_free(&part);
    TRY(st);
    TRY(dataset_open(comm, path, &data));
    TRY(view_open(data, ROWS_CHOSEN, &whole, &view));
    TRY(lengths_open(&lengths, "row"));
    for (int64_t row = 0; row < view_rows(view); row++) {
        int32_t cost;
        TRY(view_costs(view, &row, 1, &cost));
        lengths_add(&lengths, cost);
    }
    return OK;
}

static int open_all(void **state) {
    const struct backend_request request = {.device = "cpu", .compute = "fp32", .threads = 1};
    char path[4096], why[256];
    (void)state;
    snprintf(path, sizeof path, "%s/models/llama", fixtures());
    return comm_start(&(int){0}, &(char **){NULL}, &comm) != OK ||
           backend_open(&request, &backend, why) != OK ||
           model_folder_open(comm, backend, path, NULL, &model) != OK ||
           arena_need_gradients(model->trained) != OK || open_rows() != OK;
}

static int close_all(void **state) {
    (void)state;
    lengths_close(&lengths);
    view_close(view);
    dataset_close(data);
    world_folder_remove(comm, folder);
    model_close(model);
    backend_close(backend);
    comm_finish(comm);
    return 0;
}

static const struct optimizer_options kinds[] = {
    {.kind = OPTIMIZER_SGD},     {.kind = OPTIMIZER_SGD, .momentum = 0.5},
    {.kind = OPTIMIZER_RMSPROP}, {.kind = OPTIMIZER_RMSPROP, .momentum = 0.9},
    {.kind = OPTIMIZER_ADAM},    {.kind = OPTIMIZER_ADAMW}};

/* Gradients and states: as many elements as the optimizer's tensors really have. */
static void test_state_bytes(void **state) {
    static const int states[] = {0, 1, 1, 2, 2, 2};
    (void)state;
    for (int i = 0; i < COUNT_OF(kinds); i++) {
        const struct estimate_options o = {
            .comm = comm, .backend = backend, .config = model->config, .optimizer = kinds[i]};
        const struct shard_map whole = shard_map_whole(model->trained->elements);
        struct optimizer optimizer;
        struct tensor tensors[OPTIMIZER_STATES];
        const char *names[OPTIMIZER_STATES];
        int64_t bytes;
        assert_int_equal(optimizer_open(model->trained, &kinds[i], &whole, &optimizer), OK);
        int n = optimizer_state(&optimizer, tensors, names);
        assert_int_equal(n, states[i]);
        assert_int_equal(optimizer_states(&kinds[i]), n);
        assert_int_equal(estimate_state_bytes(&o, &bytes), OK);
        assert_int_equal(bytes, (1 + n) * model->trained->elements * (int64_t)sizeof(float));
        optimizer_close(&optimizer);
    }
}

/* The two steps have one row a slot; the largest forest is the longest row. */
static void test_memory(void **state) {
    const struct rows rows = {.n = 9, .tokens = 900, .scored = 400, .longest = 150, .lengths = lengths};
    struct batch_source source = {
        .view = view,
        .plan = {.rows = 9, .batch = 5, .slots = 8, .micro_tokens = 256, .deterministic = true},
        .size = 1};
    struct estimate_options o = {.comm = comm,
                                 .backend = backend,
                                 .config = model->config,
                                 .optimizer = {.kind = OPTIMIZER_ADAMW},
                                 .rows = &rows,
                                 .source = &source};
    struct estimate e, fast;
    int64_t longest = lengths.most;
    (void)state;
    assert_int_equal(estimate_memory(&o, &e), OK);
    int64_t arena = model->trained->elements * (int64_t)sizeof(float);
    assert_int_equal(e.parameters, model->trained->elements);
    assert_int_equal(e.forest_tokens, longest);
    assert_true(e.model >= arena && e.model < arena + (2 << 20) && e.model % (2 << 20) == 0);
    assert_true(e.gradients == e.model && e.optimizer == 2 * e.model && e.state_arenas == 2);
    assert_int_equal(e.partial_arenas, 3); /* a tree of 8 slots */
    assert_int_equal(e.partial, 3 * e.model);
    assert_int_equal(e.batches,
                     2 * 5 * 100 * (int64_t)sizeof(int32_t)); /* two updates of 5 rows of 100 tokens */
    assert_int_equal(e.total, e.baseline + e.model + e.gradients + e.optimizer + e.partial + e.batches +
                                  e.inside + estimate_pass(&e));
    source.plan.deterministic = false;
    assert_int_equal(estimate_memory(&o, &fast), OK);
    assert_true(fast.partial_arenas == 0 && fast.partial == 0);
    assert_true(fast.forest_tokens > longest); /* slots are packed together */
}

/* A step is three passes over its rows, and takes them at the measured rate. */
static void test_time(void **state) {
    const struct rows rows = {
        .n = 10, .tokens = 1000, .scored = 400, .longest = 150, .attention_pairs = 50000, .lengths = lengths};
    const struct batch_source source = {
        .view = view, .plan = {.rows = 9, .batch = 5, .slots = 1, .micro_tokens = 256}, .size = 1};
    const struct estimate_options o = {
        .comm = comm, .backend = backend, .config = model->config, .rows = &rows, .source = &source};
    const struct model_config *config = &model->config;
    struct estimate e;
    (void)state;
    assert_int_equal(estimate_training(&o, &e), OK);
    double half = 500 * model_flops_layers(config) + 200 * model_flops_head(config) +
                  25000 * model_flops_attention(config);
    assert_true(e.peak_flops > 0);
    assert_true(e.step_flops > 0.999999 * 3 * half && e.step_flops < 1.000001 * 3 * half);
    double seconds = e.step_flops / (ESTIMATE_EFFICIENCY * e.peak_flops);
    assert_true(e.step_seconds > 0.999999 * seconds && e.step_seconds < 1.000001 * seconds);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_state_bytes), cmocka_unit_test(test_memory),
                                       cmocka_unit_test(test_time)};
    return cmocka_run_group_tests(tests, open_all, close_all);
}
