/* Greedy decoding against transformers' generate() for every family (fixtures/make_greedy.py): token for
 * token, with sliding windows, soft caps, grouped heads and stops. */
#include "tests/model_fixture.h"

#include "decode/decoder.h"

enum { PROMPTS = 10, LONGEST = 24, NEW = 16, END = 2 };

static int32_t read_ids(const json_t *row, const char *key, int32_t *out, int most) {
    const json_t *list = json_object_get(row, key);
    int n = (int)json_array_size(list);
    assert_in_range(n, 1, most);
    for (int i = 0; i < n; i++) {
        out[i] = (int32_t)json_integer_value(json_array_get(list, (size_t)i));
    }
    return n;
}

static void check_model(struct backend *b, const char *name, const json_t *rows) {
    static const int32_t stops[] = {END};
    const struct decoder_options o = {
        .sequences = 1, .max_prompt = LONGEST, .max_new_tokens = NEW, .stops = stops, .n_stops = 1};
    int32_t prompts[PROMPTS][LONGEST], got[PROMPTS][NEW], want[NEW];
    struct prompt in[PROMPTS];
    struct response_tokens out[PROMPTS];
    assert_int_equal(json_array_size(rows), PROMPTS);
    for (int i = 0; i < PROMPTS; i++) {
        int32_t count = read_ids(json_array_get(rows, (size_t)i), "prompt", prompts[i], LONGEST);
        in[i] = (struct prompt){.row = i, .tokens = prompts[i], .count = count};
        out[i] = (struct response_tokens){.tokens = got[i]};
    }
    char folder[512];
    struct model *m;
    struct workspace w;
    struct decoder *d;
    int64_t bytes;
    snprintf(folder, sizeof folder, "%s/models/%s", fixtures(), name);
    MUST(model_folder_open(world, b, folder, NULL, &m));
    MUST(decoder_bytes(&m->config, &b->caps, &o, &bytes));
    MUST(workspace_open(b, bytes, &w));
    MUST(decoder_open(m, &w, &o, &d));
    MUST(decoder_run(d, in, PROMPTS, out, NULL, NULL));
    for (int i = 0; i < PROMPTS; i++) {
        int32_t n = read_ids(json_array_get(rows, (size_t)i), "tokens", want, NEW);
        if (out[i].count != n || memcmp(got[i], want, (size_t)n * sizeof *want) != 0) {
            FAIL("%s, prompt %d: %d tokens (want %d), the first %d (want %d)", name, i, out[i].count, n,
                 got[i][0], want[0]);
        }
        assert_int_equal(out[i].stopped, want[n - 1] == END);
    }
    decoder_close(d);
    workspace_close(&w);
    model_close(m);
}

static void test_greedy(void **state) {
    (void)state;
    char why[256];
    struct backend *b;
    json_t *all, *entry;
    size_t i;
    const struct backend_request request = {
        .device = test_device(), .device_index = -1, .deterministic = true};
    MUST(backend_open(&request, &b, why));
    char path[512];
    snprintf(path, sizeof path, "%s/greedy.json", fixtures());
    MUST(json_load(path, &all));
    assert_int_equal(json_array_size(all), COUNT_OF(language_models));
    json_array_foreach(all, i, entry) {
        check_model(b, json_string_value(json_object_get(entry, "model")), json_object_get(entry, "rows"));
    }
    json_decref(all);
    backend_close(b);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_greedy)};
    if (comm_start(&argc, &argv, &world) != OK) {
        return 1;
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    comm_finish(world);
    return failed;
}
