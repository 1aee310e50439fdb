/* What a saved folder holds: the type of the weights, shards with an index, the ids that end a text, and
 * every file of the source but its weights. */
#include "tests/model_fixture.h"

#include <sys/stat.h>
#include <unistd.h>

#include "io/file.h"
#include "io/safetensors.h"
#include "util/log.h"

static char folder[64];
static struct backend *cpu;

static const char *at(const char *name) {
    static char path[4][512];
    static int next;
    char *out = path[next++ % 4];
    snprintf(out, sizeof path[0], "%s/%s", folder, name);
    return out;
}

static void put(const char *name, const char *bytes, size_t n) {
    char parent[256];
    snprintf(parent, sizeof parent, "%.255s", at(name));
    *strrchr(parent, '/') = '\0';
    MUST(folder_make(parent));
    MUST(file_write(at(name), bytes, n));
}

static bool holds(const char *name, const char *bytes, size_t n) {
    FILE *file = fopen(at(name), "rb");
    char got[512];
    if (!file) {
        return false;
    }
    size_t size = fread(got, 1, sizeof got, file);
    fclose(file);
    return size == n && memcmp(got, bytes, n) == 0;
}

static bool is_there(const char *name) {
    return access(at(name), F_OK) == 0;
}

static struct model *open_fixture(const char *name) {
    char path[512];
    struct model *m;
    snprintf(path, sizeof path, "%s/models/%s", fixtures(), name);
    MUST(model_folder_open(world, cpu, path, NULL, &m));
    return m;
}

static json_t *object_of(const char *name) {
    json_t *object;
    MUST(json_load(at(name), &object));
    return object;
}

static void dtype_is(const char *name, const char *expected) {
    json_t *object = object_of(name);
    assert_string_equal(json_string_value(json_object_get(object, "dtype")), expected);
    assert_string_equal(json_string_value(json_object_get(object, "torch_dtype")), expected);
    json_decref(object);
}

static void same_weights(struct model *m, const char *name) {
    struct model *again;
    uint64_t before, after;
    MUST(model_folder_open(world, cpu, at(name), NULL, &again));
    MUST(arena_hash(m->base, &before));
    MUST(arena_hash(again->base, &after));
    assert_int_equal(before, after);
    model_close(again);
}

/* The fixture's values are bf16 numbers, so they come back to the bit. */
static void test_types(void **state) {
    (void)state;
    static const char *const names[] = {
        [STORED_F32] = "float32", [STORED_BF16] = "bfloat16", [STORED_F16] = "float16"};
    struct model *m = open_fixture("llama-bias");
    for (int type = STORED_F32; type <= STORED_F16; type++) {
        enum stored_type found;
        MUST(model_folder_save(world, m, at("typed"), &(struct model_save){.type = (enum stored_type)type}));
        dtype_is("typed/config.json", names[type]);
        MUST(model_folder_type(at("typed"), &found));
        assert_int_equal(found, type);
        if (type != STORED_F16) {
            same_weights(m, "typed");
        }
    }
    /* 70000 has no number in fp16 */
    MUST(arena_write(m->base, 0, 5, 1, &(float){70000}));
    MUST(model_folder_save(world, m, at("typed"), &(struct model_save){.type = STORED_F16}));
    dtype_is("typed/config.json", "float32");
    same_weights(m, "typed");
    model_close(m);
}

/* What most values have, wherever they stand. */
static void test_majority(void **state) {
    (void)state;
    enum stored_type found = STORED_OTHER;
    char path[512];
    snprintf(path, sizeof path, "%s/models/neox", fixtures()); /* fp16 by its script */
    MUST(model_folder_type(path, &found));
    assert_int_equal(found, STORED_F16);
    snprintf(path, sizeof path, "%s/models/llama", fixtures());
    MUST(model_folder_type(path, &found));
    assert_int_equal(found, STORED_F32);
    MUST(folder_make(at("empty")));
    found = STORED_OTHER;
    MUST(model_folder_type(at("empty"), &found));
    assert_int_equal(found, STORED_F32);
}

static void test_shards(void **state) {
    (void)state;
    struct model *m = open_fixture("llama-bias");
    const struct model_save small = {.type = STORED_BF16, .shard_bytes = 8000};
    MUST(model_folder_save(world, m, at("cut"), &small));
    assert_false(is_there("cut/model.safetensors"));
    json_t *index = object_of("cut/model.safetensors.index.json");
    const json_t *map = json_object_get(index, "weight_map");
    assert_int_equal(json_object_size(map), m->base->n);
    const char *first = json_string_value(json_object_get(map, "model.embed_tokens.weight"));
    const char *norm = json_string_value(json_object_get(map, "model.norm.weight"));
    assert_true(first && norm && strcmp(first, norm) != 0);
    const char *tensor;
    json_t *file;
    json_object_foreach((json_t *)map, tensor, file) {
        char name[128];
        struct stat facts;
        snprintf(name, sizeof name, "cut/%s", json_string_value(file));
        assert_int_equal(stat(at(name), &facts), 0);
        assert_in_range(facts.st_size, 1, 8000 + 2000); /* and a header */
    }
    json_decref(index);
    same_weights(m, "cut");
    MUST(model_folder_save(world, m, at("cut"), &(struct model_save){.type = STORED_BF16}));
    assert_false(is_there("cut/model.safetensors.index.json"));
    same_weights(m, "cut");
    model_close(m);
}

/* gzip goes over as it is, a link as the file behind it; what is of weights, hidden or of a run stays. */
static void test_carried(void **state) {
    (void)state;
    static const char packed[] = "\x1f\x8b\x08 not really gzip";
    static const char *const carried[] = {"chat_template.jinja", "special_tokens_map.json",
                                          "additional_chat_templates/tools.jinja", "modeling_own.py"};
    static const char *const left[] = {"pytorch_model.bin",
                                       "pytorch_model.bin.index.json",
                                       "adapter_config.json",
                                       "consolidated.00.pth",
                                       ".gitattributes",
                                       "model-00001-of-00002.safetensors",
                                       "checkpoint-5/trainer_state.json",
                                       "one/two/deep.txt",
                                       "run/log.txt"};
    struct model *m = open_fixture("llama");
    char name[256];
    for (int i = 0; i < COUNT_OF(carried); i++) {
        snprintf(name, sizeof name, "from/%s", carried[i]);
        put(name, carried[i], strlen(carried[i]));
    }
    for (int i = 0; i < COUNT_OF(left); i++) {
        snprintf(name, sizeof name, "from/%s", left[i]);
        put(name, "x", 1);
    }
    put("from/run/environment.json", "{}", 2);
    put("from/words.gz", packed, sizeof packed);
    put("elsewhere/blob", "blob", 4);
    assert_int_equal(symlink("../elsewhere/blob", at("from/merges.txt")), 0);
    const struct model_save options = {.source = at("from"), .carries = true};
    char to[256];
    snprintf(to, sizeof to, "%s", at("to"));
    MUST(model_folder_save(world, m, to, &options));
    for (int i = 0; i < COUNT_OF(carried); i++) {
        snprintf(name, sizeof name, "to/%s", carried[i]);
        assert_true(holds(name, carried[i], strlen(carried[i])));
    }
    for (int i = 0; i < COUNT_OF(left); i++) {
        snprintf(name, sizeof name, "to/%s", left[i]);
        assert_false(is_there(name));
    }
    assert_false(is_there("to/run") || is_there("to/one/two") || is_there("to/checkpoint-5"));
    assert_true(holds("to/words.gz", packed, sizeof packed));
    assert_true(holds("to/merges.txt", "blob", 4));
    same_weights(m, "to");
    MUST(model_folder_save(world, m, to, &(struct model_save){.source = to, .carries = true}));
    assert_true(holds("to/merges.txt", "blob", 4));
    model_close(m);
}

/* generation_config.json of what was trained from a folder with these two. */
static json_t *ends_of(struct model *m, const char *config, const char *generation) {
    char to[256];
    put("ends/config.json", config, strlen(config));
    unlink(at("ends/generation_config.json"));
    if (generation) {
        put("ends/generation_config.json", generation, strlen(generation));
    }
    snprintf(to, sizeof to, "%s", at("ended"));
    MUST(model_folder_save(world, m, to, &(struct model_save){.source = at("ends"), .carries = true}));
    return object_of("ended/generation_config.json");
}

static void ends_are(json_t *object, const char *expected) {
    char *got = json_dumps(json_object_get(object, "eos_token_id"), JSON_ENCODE_ANY | JSON_COMPACT);
    assert_non_null(got);
    assert_string_equal(got, expected);
    mem_free(got);
    json_decref(object);
}

static void test_ends(void **state) {
    (void)state;
    struct model *m = open_fixture("llama"); /* whose end token is 2 */
    ends_are(ends_of(m, "{\"eos_token_id\": [2, 7]}", NULL), "[2,7]");
    ends_are(ends_of(m, "{\"eos_token_id\": 2}", NULL), "2");
    ends_are(ends_of(m, "{\"eos_token_id\": 2}", "{\"eos_token_id\": [9, 2], \"top_k\": 3}"), "[9,2]");
    json_t *kept = ends_of(m, "{\"eos_token_id\": 2}", "{\"eos_token_id\": 9, \"top_k\": 3}");
    assert_int_equal(json_integer_value(json_object_get(kept, "top_k")), 3);
    ends_are(kept, "9"); /* transformers generates by it */
    ends_are(ends_of(m, "{\"eos_token_id\": 5}", "{\"eos_token_id\": 5}"), "2"); /* another tokenizer's */
    json_t *config = object_of("ended/config.json");
    assert_int_equal(json_integer_value(json_object_get(config, "eos_token_id")), 2);
    json_decref(config);
    model_close(m);
}

int main(int argc, char **argv) {
    if (comm_start(&argc, &argv, &world) != OK) {
        return 1;
    }
    log_init(0, 1, LOG_ERROR);
    snprintf(folder, sizeof folder, "/tmp/collimate-XXXXXX");
    if (!mkdtemp(folder)) {
        return 1;
    }
    cpu = open_backend("cpu");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types),   cmocka_unit_test(test_majority), cmocka_unit_test(test_shards),
        cmocka_unit_test(test_carried), cmocka_unit_test(test_ends),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    backend_close(cpu);
    char command[96];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    failed += system(command) != 0;
    comm_finish(world);
    return failed;
}
