/* A frozen base: the bits of forward are a trained model's; backward adds no gradient to it, and what is
 * trained elsewhere gets the bits that it would have in the model itself. */
#include "tests/model_fixture.h"

#include "model/model_internal.h"

static struct backend *backend;

static void open_kind(struct fixture *f, const char *name, enum arena_kind kind) {
    const struct model_folder_options options = {.kind = kind};
    char path[600];
    *f = (struct fixture){0};
    snprintf(f->folder, sizeof f->folder, "%s/models/%s", fixtures(), name);
    snprintf(path, sizeof path, "%s/expected.json", f->folder);
    MUST(json_load(path, &f->expected));
    MUST(model_folder_open(world, backend, f->folder, &options, &f->model));
    MUST(workspace_open(backend, 16 << 20, &f->w));
    f->rows = (int)json_array_size(json_object_get(f->expected, "rows"));
}

/* Of the first layer: before attention, or (OLMo 2) after it. */
static struct affine *first_norm(const struct model *m) {
    struct layer_plan *l = &m->plan->layers[0];
    return l->norm1.weight.arena ? &l->norm1 : &l->post_norm1;
}

/* That norm's weight in an arena of its own, which is what is trained. */
static void move_out(struct fixture *f) {
    struct model *m = f->model;
    struct place *weight = &first_norm(m)->weight;
    int i = 0;
    while (m->base->parameters[i].offset != weight->offset) {
        i++;
    }
    struct parameter p = m->base->parameters[i];
    float values[1024];
    assert_in_range(p.columns, 1, COUNT_OF(values));
    MUST(arena_read(m->base, i, 0, p.columns, values));
    MUST(arena_open(backend, ARENA_TRAINED, &m->trained));
    MUST(arena_add(m->trained, &p, false, weight));
    MUST(arena_allocate(m->trained, 0));
    MUST(arena_write(m->trained, 0, 0, p.columns, values));
    MUST(arena_refresh(m->trained));
    MUST(arena_need_gradients(m->trained));
}

static void check_model(const char *name) {
    struct fixture whole, part;
    double logps[2][MOST_READOUTS], weights[MOST_READOUTS] = {0};
    struct pass *p;
    fixture_open(&whole, backend, name);
    open_kind(&part, name, ARENA_FROZEN);
    assert_null(part.model->trained);
    make_forest(&whole, 0, whole.rows, true);
    make_forest(&part, 0, part.rows, true);
    logps_of(&whole, logps[0]);
    logps_of(&part, logps[1]);
    assert_memory_equal(logps[0], logps[1], (size_t)whole.forest.n_readouts * sizeof **logps);
    /* Nothing is trained: backward says so. */
    MUST(pass_open(part.model, &part.w, KEEP_ALL, &p));
    MUST(pass_forward(p, &part.forest));
    MUST(pass_logps(p, &(struct token_scores){.logp = logps[1]}));
    assert_int_equal(pass_backward(p, &(struct readout_gradients){.logp = weights}, NULL, NULL),
                     ERR_INTERNAL);
    pass_close(p);
    move_out(&part);
    uint64_t before, after;
    MUST(arena_hash(part.model->base, &before));
    double loss = dpo_step(&whole, KEEP_ALL, 0, whole.rows);
    assert_true(loss == dpo_step(&part, KEEP_ALL, 0, part.rows));
    MUST(arena_hash(part.model->base, &after));
    assert_true(before == after);
    assert_null(part.model->base->gradients.data);
    const struct affine *norm = first_norm(whole.model);
    double want[1024], got[1024], size = 0;
    MUST(backend_read_doubles(backend, want, place_gradient(norm->weight, 1, norm->n)));
    MUST(backend_read_doubles(backend, got, place_gradient(first_norm(part.model)->weight, 1, norm->n)));
    for (int64_t i = 0; i < norm->n; i++) {
        size += fabs(got[i]);
    }
    assert_true(size > 0);
    assert_memory_equal(got, want, (size_t)norm->n * sizeof *got);
    fixture_close(&part);
    fixture_close(&whole);
}

static void test_language_models(void **state) {
    (void)state;
    const char *names[2];
    int n = devices(names);
    for (int i = 0; i < n; i++) {
        backend = open_backend(names[i]);
        for (int m = 0; m < COUNT_OF(language_models); m++) {
            check_model(language_models[m]);
        }
        backend_close(backend);
    }
}

/* A score head on a frozen trunk: values the same, and only what is trained changes. */
static void test_score_head(void **state) {
    (void)state;
    struct fixture f[2];
    double values[2][2];
    const int32_t at[] = {1, 3};
    backend = open_backend(test_device());
    for (int i = 0; i < 2; i++) {
        struct pass *p;
        const struct model_folder_options options = {
            .head = HEAD_SCORE, .kind = i ? ARENA_FROZEN : ARENA_TRAINED, .seed = 4};
        open_kind(&f[i], "llama", ARENA_FROZEN);
        model_close(f[i].model);
        MUST(model_folder_open(world, backend, f[i].folder, &options, &f[i].model));
        if (i == 0) {
            MUST(arena_need_gradients(f[i].model->trained));
        } else {
            move_out(&f[i]);
        }
        forest_clear(&f[i].forest);
        add_segment(&f[i], -1, 0, "prompt");
        finish_forest(&f[i]);
        MUST(pass_open(f[i].model, &f[i].w, KEEP_INPUTS, &p));
        MUST(pass_forward(p, &f[i].forest));
        MUST(pass_values(p, at, 2, values[i]));
        MUST(pass_backward(p, &(struct readout_gradients){.values = (double[]){1, -2}}, NULL, NULL));
        pass_close(p);
    }
    assert_memory_equal(values[0], values[1], sizeof values[0]);
    const struct affine *norms[] = {&f[0].model->plan->layers[0].norm1, &f[1].model->plan->layers[0].norm1};
    double gradients[2][1024];
    for (int i = 0; i < 2; i++) {
        MUST(backend_read_doubles(backend, gradients[i], place_gradient(norms[i]->weight, 1, norms[i]->n)));
    }
    assert_memory_equal(gradients[0], gradients[1], (size_t)norms[0]->n * sizeof(double));
    fixture_close(&f[0]);
    fixture_close(&f[1]);
    backend_close(backend);
}

int main(int argc, char **argv) {
    if (comm_start(&argc, &argv, &world) != OK) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_language_models),
        cmocka_unit_test(test_score_head),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    comm_finish(world);
    return failed;
}
