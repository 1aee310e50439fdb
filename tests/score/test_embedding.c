/* `embed` beside transformers' hidden states: mean and last row, the response alone and behind its prompt,
 * another layer, begin and end tokens, the end token that does not see itself, a limit; in forests of any
 * size. */
#include "score/embedding.h"

#include "data/sidecar.h"
#include "store/model_folder.h"
#include "tests/small_world.h"
#include "util/json.h"
#include "util/log.h"

enum { WIDTH = 32, VOCABULARY = 97, RESPONSES = 6 };

static int32_t copy_ids(const json_t *list, int32_t *to) {
    for (size_t i = 0; i < json_array_size(list); i++) {
        to[i] = (int32_t)json_integer_value(json_array_get(list, i));
    }
    return (int32_t)json_array_size(list);
}

/* The fixture's prompts, all from rank 0; each response with the end token behind it. */
static void write_data(struct comm *c, const json_t *fixture, const char *path) {
    enum { MOST = 256 };
    const json_t *prompts = json_object_get(fixture, "prompts");
    struct dataset_facts facts = world_facts();
    struct dataset_part p = {.n_prompts = c->rank == 0 ? (int64_t)json_array_size(prompts) : 0};
    p.prompt_tokens = world_array(MOST, 4);
    p.prompt_offsets = world_array(MOST, 8);
    p.response_tokens = world_array(MOST, 4);
    p.response_offsets = world_array(MOST, 8);
    p.response_prompt = world_array(MOST, 8);
    p.response_score = world_array(MOST, 4);
    p.response_length_chars = world_array(MOST, 4);
    facts.vocabulary = VOCABULARY;
    facts.begin_id = (int32_t)json_integer_value(json_object_get(fixture, "begin"));
    facts.end_id = (int32_t)json_integer_value(json_object_get(fixture, "end"));
    for (int64_t i = 0; i < p.n_prompts; i++) {
        const json_t *prompt = json_array_get(prompts, (size_t)i);
        const json_t *responses = json_object_get(prompt, "responses");
        int64_t at = p.prompt_offsets[i];
        p.prompt_offsets[i + 1] = at + copy_ids(json_object_get(prompt, "prompt"), p.prompt_tokens + at);
        for (size_t r = 0; r < json_array_size(responses); r++) {
            at = p.response_offsets[p.n_responses];
            p.response_prompt[p.n_responses] = i;
            at += copy_ids(json_array_get(responses, r), p.response_tokens + at);
            p.response_tokens[at++] = facts.end_id;
            p.response_offsets[++p.n_responses] = at;
        }
    }
    CHECK(dataset_write(c, path, &p, &facts) == OK);
    world_part_free(&p);
}

static void apply(const char *setting, struct embedding_options *o) {
    const char *value = strchr(setting, '=') + 1;
    int64_t number = strtoll(value, NULL, 10);
    if (strncmp(setting, "embed.layer=", 12) == 0) {
        o->layer = number;
    } else if (strncmp(setting, "embed.max_length=", 17) == 0) {
        o->max_length = number;
        o->must_have_length = true;
    } else if (strcmp(setting, "embed.end=true") == 0) {
        o->end = true;
    } else if (strcmp(setting, "embed.begin=true") == 0) {
        o->begin = true;
    } else if (strcmp(setting, "embed.masked_end=true") == 0) {
        o->masked_end = true;
    } else if (strcmp(setting, "embed.text=full") == 0) {
        o->full = true;
    } else if (strcmp(setting, "embed.pooling=last") == 0) {
        o->pooling = POOL_LAST;
    } else {
        CHECK(!"a setting that this test knows");
    }
}

/* Collective. The vectors of a case, from the side-car. */
static void read_vectors(struct comm *c, const char *path, float *out) {
    struct sidecar *file;
    memset(out, 0, RESPONSES * WIDTH * sizeof *out);
    if (sidecar_open_values(path, 0, -1, &file, NULL) == OK) {
        CHECK(sidecar_read_values(file, 0, RESPONSES, out) == OK);
        CHECK(sidecar_close(file) == OK);
    } else {
        CHECK(!"the side-car is there");
    }
    CHECK(comm_barrier(c) == OK);
    if (c->rank == 0) {
        unlink(path);
    }
    CHECK(comm_barrier(c) == OK);
}

/* Collective. Vectors under the options of a case; a second run finds all of them. */
static void run_embed(struct comm *c, const char *folder, const json_t *test, int64_t micro_tokens,
                      float *out) {
    const struct backend_request request = {.device = "cpu", .compute = "fp32", .threads = 1};
    const struct model_folder_options as_is = {0};
    const json_t *given = json_object_get(test, "settings");
    struct embedding_options o = {.comm = c,
                                  .model_hash = 1,
                                  .model_name = json_string_value(json_object_get(test, "model")),
                                  .compute = "fp32",
                                  .micro_tokens = micro_tokens,
                                  .layer = -1,
                                  .max_length = 512};
    struct embedding_report report = {0};
    struct backend *backend;
    struct text path = {0};
    char name[600], why[256];
    CHECK(backend_open(&request, &backend, why) == OK);
    snprintf(name, sizeof name, FIXTURES "/models/%s", o.model_name);
    CHECK(model_folder_open(c, backend, name, &as_is, &o.model) == OK);
    snprintf(name, sizeof name, "%s/data.h5", folder);
    CHECK(dataset_open(c, name, &o.data) == OK);
    for (size_t i = 0; i < json_array_size(given); i++) {
        apply(json_string_value(json_array_get(given, i)), &o);
    }
    CHECK(embedding_compute(&o, &path, &report) == OK);
    CHECK(report.responses == RESPONSES && report.computed == RESPONSES && report.tokens > 0);
    CHECK(embedding_compute(&o, &path, &report) == OK);
    CHECK(report.responses == RESPONSES && report.computed == 0 && report.tokens == 0);
    read_vectors(c, path.data, out);
    text_free(&path);
    dataset_close(o.data);
    model_close(o.model);
    backend_close(backend);
}

static void test_case(struct comm *c, const char *folder, const json_t *test) {
    float values[RESPONSES * WIDTH], other[RESPONSES * WIDTH];
    const json_t *rows = json_object_get(test, "rows");
    CHECK(json_array_size(rows) == RESPONSES);
    run_embed(c, folder, test, 4096, values);
    if (json_array_size(json_object_get(test, "settings")) == 0) {
        run_embed(c, folder, test, 12, other);
    } else {
        memcpy(other, values, sizeof values);
    }
    for (int i = 0; i < RESPONSES * WIDTH; i++) { /* forests of less than seven rows are summed otherwise */
        CHECK(fabs((double)values[i] - (double)other[i]) <= 2e-6 * fmax(1, fabs((double)values[i])));
    }
    for (size_t i = 0; i < RESPONSES; i++) {
        for (size_t d = 0; d < WIDTH; d++) {
            double expected = json_number_value(json_array_get(json_array_get(rows, i), d));
            if (!(fabs((double)values[i * WIDTH + d] - expected) <= 1e-5 * fmax(1, fabs(expected)))) {
                fprintf(stderr, "%s: response %zu, dimension %zu: %.7g, transformers %.7g\n",
                        json_string_value(json_object_get(test, "model")), i, d,
                        (double)values[i * WIDTH + d], expected);
                failures++;
                return;
            }
        }
    }
}

int main(int argc, char **argv) {
    struct comm *c;
    char folder[64], path[96];
    json_t *fixture;
    if (comm_start(&argc, &argv, &c) != OK) {
        return 1;
    }
    log_init(c->rank, c->size, LOG_ERROR);
    world_folder(c, folder);
    snprintf(path, sizeof path, "%s/data.h5", folder);
    CHECK(json_load(FIXTURES "/embeddings.json", &fixture) == OK);
    write_data(c, fixture, path);
    const json_t *cases = json_object_get(fixture, "cases");
    CHECK(json_array_size(cases) > 0);
    int64_t all = 0;
    for (size_t i = 0; i < json_array_size(cases) && all == 0; i++) {
        test_case(c, folder, json_array_get(cases, i));
        all = failures;
        CHECK(comm_sum_i64(c, &all, 1) == OK);
    }
    json_decref(fixture);
    world_folder_remove(c, folder);
    failures = all != 0;
    comm_finish(c);
    return failures != 0;
}
