/* A value head beside a model and beside adapters: a file of its own, read back; zero where there is none;
 * trained with the adapters, whose base stays frozen; checkpoints' shapes. */
#include "tests/model_fixture.h"

#include <unistd.h>

#include "model/lora.h"
#include "store/adapter_folder.h"
#include "store/value_head.h"

static struct backend *backend;
static char folder[] = "/tmp/value_headXXXXXX";

static struct model *open_at(const char *path, bool value_head, enum arena_kind kind) {
    struct model *m;
    const struct model_folder_options options = {.value_head = value_head, .kind = kind};
    MUST(model_folder_open(world, backend, path, &options, &m));
    return m;
}

static const char *fixture_path(void) {
    static char path[600];
    snprintf(path, sizeof path, "%s/models/llama", fixtures());
    return path;
}

static int index_of(const struct arena *a) {
    for (int i = 0; i < a->n; i++) {
        if (value_head_is(&a->parameters[i])) {
            return i;
        }
    }
    return -1;
}

static float first_weight(const struct arena *a) {
    float value = NAN;
    MUST(arena_read(a, index_of(a), 0, 1, &value));
    return value;
}

static void set_weights(struct arena *a, float value) {
    int i = index_of(a);
    for (int64_t k = 0; k < a->parameters[i].columns; k++) {
        MUST(arena_write(a, i, k, 1, &value));
    }
    MUST(arena_refresh(a));
}

static void test_beside_a_model(void **state) {
    (void)state;
    struct model *m = open_at(fixture_path(), true, ARENA_TRAINED);
    struct model *bare = open_at(fixture_path(), false, ARENA_TRAINED);
    assert_true(first_weight(m->base) == 0 && !arena_find(bare->base, VALUE_HEAD));
    assert_int_equal(arena_parameter_count(m->base), arena_parameter_count(bare->base) + m->config.width);
    model_close(bare);
    set_weights(m->base, .5f);
    const struct model_save options = {.source = fixture_path()};
    MUST(model_folder_save(world, m, folder, &options));
    model_close(m);
    m = open_at(folder, true, ARENA_TRAINED);
    assert_true(first_weight(m->base) == .5f);
    model_close(m);
    m = open_at(folder, false, ARENA_TRAINED); /* the model's own files are a model's */
    assert_int_equal(index_of(m->base), -1);
    MUST(model_folder_save(world, m, folder, &options)); /* in whose place another one comes without a head */
    model_close(m);
    m = open_at(folder, true, ARENA_TRAINED);
    assert_true(first_weight(m->base) == 0);
    model_close(m);
}

static void test_other_width(void **state) {
    (void)state;
    char path[100];
    struct safetensors_writer *w;
    struct model *m = NULL;
    const int64_t two = 2;
    const float values[2] = {1, 2};
    const struct model_folder_options options = {.value_head = true};
    MUST(safetensors_create(folder, STORED_F32, 0, &w));
    safetensors_name(w, "value_head");
    MUST(safetensors_declare(w, VALUE_HEAD, 1, &two));
    MUST(safetensors_write(w, values, 2));
    MUST(safetensors_finish(w));
    assert_int_equal(model_folder_open(world, backend, folder, &options, &m), ERR_DATA);
    assert_non_null(strstr(status_message()->text, "value_head.safetensors"));
    snprintf(path, sizeof path, "%s/value_head.safetensors", folder);
    assert_int_equal(unlink(path), 0);
}

/* One pass and backward of log-probabilities and values; the gradient of the head's first weight. */
static double gradient_of(struct fixture *f) {
    double logps[MOST_READOUTS], values[MOST_READOUTS], slopes[MOST_READOUTS], out;
    struct pass *p;
    make_forest(f, 0, 2, true);
    MUST(arena_need_gradients(f->model->trained));
    MUST(arena_zero_gradients(f->model->trained));
    MUST(pass_open(f->model, &f->w, KEEP_ALL, &p));
    MUST(pass_forward(p, &f->forest));
    MUST(pass_logps(p, &(struct token_scores){.logp = logps, .value = values}));
    for (int32_t i = 0; i < f->forest.n_readouts; i++) {
        slopes[i] = 1;
    }
    MUST(pass_backward(p, &(struct readout_gradients){.logp = slopes, .token_values = slopes}, NULL, NULL));
    pass_close(p);
    const struct arena *a = f->model->trained;
    int64_t at = a->parameters[index_of(a)].offset;
    MUST(backend_read_doubles(backend, &out, tensor_columns(a->gradients, at, 1)));
    return out;
}

static void test_beside_adapters(void **state) {
    (void)state;
    struct fixture f;
    struct lora *l;
    struct lora_layout layout = {0};
    json_t *config = json_pack("{s:s,s:[s],s:i}", "peft_type", "LORA", "target_modules", "q_proj", "r", 2);
    fixture_open(&f, backend, "llama");
    model_close(f.model);
    f.model = open_at(fixture_path(), true, ARENA_FROZEN);
    MUST(lora_layout_add(&layout, "model.layers.0.self_attn.q_proj", 2, 1));
    MUST(lora_layout_save(&layout, VALUE_HEAD));
    MUST(lora_open(f.model, &layout, ARENA_TRAINED, 0, &l));
    assert_true(first_weight(lora_arena(l)) == 0);
    assert_true(fabs(gradient_of(&f)) > 1e-6);
    set_weights(lora_arena(l), .25f);
    const struct adapter_save options = {.config = config, .type = STORED_F32};
    MUST(adapter_folder_save(world, l, folder, &options));
    set_weights(lora_arena(l), 0);
    MUST(adapter_folder_read(folder, l));
    assert_true(first_weight(lora_arena(l)) == .25f && first_weight(f.model->base) == 0);
    json_decref(config);
    lora_layout_free(&layout);
    fixture_close(&f);
}

int main(int argc, char **argv) {
    char command[100];
    if (comm_start(&argc, &argv, &world) != OK || !mkdtemp(folder)) {
        return 1;
    }
    backend = open_backend(test_device());
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_beside_a_model),
        cmocka_unit_test(test_other_width),
        cmocka_unit_test(test_beside_adapters),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    backend_close(backend);
    snprintf(command, sizeof command, "rm -r %s", folder);
    failed += system(command) != 0;
    comm_finish(world);
    return failed;
}
