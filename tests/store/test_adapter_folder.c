/* Adapter folders that are not as they should be: each is refused with a word about why, and none is half
 * read. */
#include "tests/model_fixture.h"

#include <unistd.h>

#include "io/file.h"
#include "store/adapter_folder.h"

static struct backend *backend;
static char folder[] = "/tmp/adapterXXXXXX";

static void put(const char *name, const void *bytes, size_t n) {
    char path[64];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    MUST(file_write(path, bytes, n));
}

static struct model *open_model(const char *name) {
    struct model *m;
    char path[600];
    const struct model_folder_options options = {.kind = ARENA_FROZEN};
    snprintf(path, sizeof path, "%s/models/%s", fixtures(), name);
    MUST(model_folder_open(world, backend, path, &options, &m));
    return m;
}

/* Configuration and modules on the tiny Llama. */
static enum status read_config(const char *json, struct lora_layout *layout) {
    struct model *m = open_model("llama");
    json_t *config;
    *layout = (struct lora_layout){0};
    put("adapter_config.json", json, strlen(json));
    enum status st = adapter_config_read(folder, &config);
    if (st == OK) {
        st = adapter_config_layout(config, folder, false, &m->config, layout);
        json_decref(config);
    }
    model_close(m);
    return st;
}

static void refuse(const char *json, const char *words) {
    struct lora_layout layout;
    enum status st = read_config(json, &layout);
    lora_layout_free(&layout);
    if (st != ERR_DATA || !strstr(status_message()->text, words)) {
        FAIL("%s: %d, %s; expected \"%s\"", json, st, status_message()->text, words);
    }
}

#define LORA "\"peft_type\": \"LORA\", "

static void test_refused(void **state) {
    (void)state;
    refuse("[]", "not a JSON object");
    refuse("{", "adapter_config.json");
    refuse("{\"target_modules\": [\"q_proj\"]}", "peft_type");
    refuse("{\"peft_type\": 3}", "peft_type");
    refuse("{" LORA "\"target_modules\": [\"q_proj\"], \"bias\": \"lora_only\"}", "lora_only");
    refuse("{" LORA "\"target_modules\": [\"q_proj\"], \"use_dora\": true}", "use_dora");
    refuse("{" LORA "\"target_modules\": [\"q_proj\"], \"a_new_key\": {\"x\": 1}}", "a_new_key");
    refuse("{" LORA "\"target_modules\": [\"q_proj\"], \"trainable_token_indices\": [3]}", "trainable_token");
    refuse("{" LORA "\"target_modules\": [\"q_proj\"], \"init_lora_weights\": \"olora\"}", "olora");
    refuse("{" LORA "\"target_modules\": [\"q_proj\"], \"task_type\": \"SEQ_2_SEQ_LM\"}", "SEQ_2_SEQ_LM");
    refuse("{" LORA "\"target_modules\": [\"q_proj\"], \"r\": 0}", "rank 0");
    refuse("{" LORA "\"target_modules\": [\"q_proj\"], \"r\": 99999999}", "rank 99999999");
    refuse("{" LORA "\"target_modules\": [\"q_proj\"], \"r\": \"4\"}", "\"r\"");
    refuse("{" LORA "\"target_modules\": [\"q_proj\"], \"lora_dropout\": 1.5}", "lora_dropout");
    refuse("{" LORA "\"target_modules\": [\"q_proj\"], \"rank_pattern\": {\"q_proj\": \"x\"}}", "no number");
    refuse("{" LORA "\"target_modules\": [\"q_proj\"], \"rank_pattern\": {\"(\": 3}}", "no expression");
    refuse("{" LORA "\"target_modules\": \"all-linear\", \"layers_to_transform\": [0]}", "list of names");
    refuse("{" LORA "\"target_modules\": [\"q_proj\"], \"layers_to_transform\": [0, -1]}",
           "neither a block's");
    refuse("{" LORA "\"target_modules\": [\"q_proj\"], \"layers_to_transform\": \"0\"}", "neither a block's");
    refuse("{" LORA "\"target_modules\": [\"q_proj\"], \"layers_pattern\": \"layers\"}",
           "without \"layers_to");
    refuse("{" LORA "\"target_modules\": [\"q_proj\"], \"layers_to_transform\": 0, \"layers_pattern\": 3}",
           "neither text");
    refuse("{" LORA
           "\"target_modules\": [\"q_proj\"], \"layers_to_transform\": 0, \"layers_pattern\": \"(\"}",
           "no expression");
    refuse("{" LORA
           "\"target_modules\": [\"q_proj\"], \"layers_to_transform\": 0, \"layers_pattern\": \"(l)ayers\"}",
           "no block's number");
    refuse("{" LORA "\"target_modules\": [\"q_proj\"], \"layers_to_transform\": 2}", "fits target_modules");
    refuse("{" LORA
           "\"target_modules\": [\"q_proj\"], \"layers_to_transform\": 0, \"layers_pattern\": \"h\"}",
           "fits target_modules");
    refuse("{" LORA "\"target_modules\": []}", "fits target_modules");
    refuse("{" LORA "\"target_modules\": [\"c_attn\", 3]}", "fits target_modules");
    refuse("{" LORA "\"target_modules\": \"(a*)*b\"}", "fits target_modules");
    refuse("{" LORA "\"target_modules\": [\"lm_head\"]}", "lm_head");
    refuse("{" LORA "\"target_modules\": [\"q_proj\"], \"modules_to_save\": [\"v_proj\"]}",
           "modules_to_save");
}

/* Least keys, PEFT's defaults, its ways of naming modules. */
static void test_modules(void **state) {
    (void)state;
    static const struct {
        const char *json;
        int64_t n, n_saved, rank;
        double scale; /* of the first module */
    } cases[] = {
        {"{" LORA "\"target_modules\": [\"q_proj\"]}", 2, 0, 8, 1},
        {"{" LORA "\"target_modules\": [\"layers.1.self_attn.q_proj\", \"o_proj\"]}", 3, 0, 8, 1},
        {"{" LORA "\"target_modules\": \"all-linear\", \"r\": 4}", 14, 0, 4, 2},
        {"{" LORA "\"target_modules\": \"all-linear\", \"exclude_modules\": [\"k_proj\"]}", 12, 0, 8, 1},
        {"{" LORA "\"target_modules\": \".*layers\\\\.0.*proj\", \"use_rslora\": true, \"r\": 4}", 7, 0, 4,
         4},
        {"{" LORA "\"target_modules\": [\"q_proj\", \"v_proj\"], \"layers_to_transform\": 1}", 2, 0, 8, 1},
        {"{" LORA
         "\"target_modules\": [\"q_proj\"], \"layers_to_transform\": [0, 7], \"layers_pattern\": null}",
         1, 0, 8, 1},
        {"{" LORA "\"target_modules\": [\"q_proj\"], \"layers_to_transform\": [], \"layers_pattern\": []}", 2,
         0, 8, 1},
        {"{" LORA
         "\"target_modules\": [\"q_proj\"], \"layers_to_transform\": [1], \"layers_pattern\": [\"h\", "
         "\"lay...\"]}",
         1, 0, 8, 1},
        {"{" LORA
         "\"target_modules\": [\"q_proj\", \"model.layers.0.mlp.up_proj\"], \"layers_to_transform\": [1]}",
         2, 0, 8, 1},
        {"{" LORA "\"target_modules\": [\"q_proj\"], \"rank_pattern\": {\"layers.0.self_attn.q_proj\": 2}}",
         2, 0, 2, 4},
        {"{" LORA "\"target_modules\": [\"q_proj\"], \"alpha_pattern\": {\"^q_proj\": 2, \"q_proj\": 16}}", 2,
         0, 8, 2},
        {"{" LORA "\"target_modules\": [\"q_proj\"], \"modules_to_save\": [\"lm_head\", \"norm\"]}", 2, 6, 8,
         1},
    };
    for (int i = 0; i < COUNT_OF(cases); i++) {
        struct lora_layout layout;
        if (read_config(cases[i].json, &layout) != OK) {
            FAIL("%s: %s", cases[i].json, status_message()->text);
        }
        if (layout.n != cases[i].n || layout.n_saved != cases[i].n_saved ||
            layout.modules[0].rank != cases[i].rank ||
            fabs(layout.modules[0].scale - cases[i].scale) > 1e-12) {
            FAIL("%s: %lld modules, %lld saved, rank %lld, scale %g", cases[i].json, (long long)layout.n,
                 (long long)layout.n_saved, (long long)layout.modules[0].rank, layout.modules[0].scale);
        }
        lora_layout_free(&layout);
    }
}

/* Every beginning of a file of tensors, and tensors of another adapter. */
static void test_tensors(void **state) {
    (void)state;
    struct model *m = open_model("neox");
    struct lora_layout layout;
    struct lora *l;
    json_t *config;
    char path[600], *data;
    size_t n;
    snprintf(path, sizeof path, "%s/adapters/neox", fixtures());
    MUST(adapter_config_read(path, &config));
    MUST(adapter_config_layout(config, path, true, &m->config, &layout));
    MUST(lora_open(m, &layout, ARENA_TRAINED, 0, &l));
    MUST(adapter_folder_read(path, l));
    snprintf(path, sizeof path, "%s/adapters/neox/adapter_model.safetensors", fixtures());
    MUST(file_read(path, &data, &n));
    for (size_t length = 0; length < n; length += 1 + length / 16) {
        put("adapter_model.safetensors", data, length);
        assert_int_equal(adapter_folder_read(folder, l), ERR_DATA);
    }
    mem_free(data);
    snprintf(path, sizeof path, "%s/adapters/gpt2", fixtures());
    assert_int_equal(adapter_folder_read(path, l), ERR_DATA);
    assert_non_null(strstr(status_message()->text, "is missing"));
    assert_int_equal(adapter_folder_read("/nowhere", l), ERR_INPUT);
    lora_layout_free(&layout);
    json_decref(config);
    model_close(m);
}

int main(int argc, char **argv) {
    if (comm_start(&argc, &argv, &world) != OK || !mkdtemp(folder)) {
        return 1;
    }
    backend = open_backend("cpu");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_modules),
        cmocka_unit_test(test_tensors),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    backend_close(backend);
    char path[64];
    snprintf(path, sizeof path, "%s/adapter_config.json", folder);
    unlink(path);
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", folder);
    unlink(path);
    rmdir(folder);
    comm_finish(world);
    return failed;
}
