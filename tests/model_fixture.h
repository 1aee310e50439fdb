/* What the model's tests share: fixtures (make_model_fixtures.py), forests of preference rows, the DPO loss
 * on them, and gradients in the file's layout. */
#ifndef COLLIMATE_TESTS_MODEL_FIXTURE_H
#define COLLIMATE_TESTS_MODEL_FIXTURE_H

#include "tests/unit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/model_folder.h"
#include "util/mem.h"

#define MUST(call)                                         \
    do {                                                   \
        if ((call) != OK) {                                \
            FAIL("%s: %s", #call, status_message()->text); \
        }                                                  \
    } while (0)

static const char *const language_models[] = {
    "llama", "llama-bias", "mistral", "neox",   "neox-sequential", "gpt2",  "qwen2",
    "qwen3", "phi",        "gemma",   "gemma2", "smollm3",         "olmo2", "granite",
    "phi3",  "phi4-mini",  "gemma3",  "cohere", "cohere2"};

enum { MOST_ROWS = 8, MOST_READOUTS = 256 };
static struct comm *world;

struct fixture {
    char folder[512];
    json_t *expected;
    struct model *model;
    struct workspace w;
    struct forest forest;
    int32_t chosen[MOST_ROWS], rejected[MOST_ROWS]; /* segments */
    int rows;
};

static inline void fixture_open(struct fixture *f, struct backend *b, const char *name) {
    char path[600];
    *f = (struct fixture){0};
    snprintf(f->folder, sizeof f->folder, "%s/models/%s", fixtures(), name);
    snprintf(path, sizeof path, "%s/expected.json", f->folder);
    MUST(json_load(path, &f->expected));
    MUST(model_folder_open(world, b, f->folder, NULL, &f->model));
    MUST(arena_need_gradients(f->model->trained));
    MUST(workspace_open(b, 16 << 20, &f->w));
    f->rows = (int)json_array_size(json_object_get(f->expected, "rows"));
}

static inline void fixture_close(struct fixture *f) {
    forest_free(&f->forest);
    workspace_close(&f->w);
    model_close(f->model);
    json_decref(f->expected);
}

static inline double number(const struct fixture *f, const char *key) {
    return json_number_value(json_object_get(f->expected, key));
}

static inline double element(const struct fixture *f, const char *key, int i) {
    return json_number_value(json_array_get(json_object_get(f->expected, key), (size_t)i));
}

/* Token ids of a row's "prompt", "chosen" or "rejected". */
static inline int32_t row_ids(const struct fixture *f, int row, const char *key, int32_t ids[64]) {
    const json_t *list =
        json_object_get(json_array_get(json_object_get(f->expected, "rows"), (size_t)row), key);
    for (size_t i = 0; i < json_array_size(list); i++) {
        ids[i] = (int32_t)json_integer_value(json_array_get(list, i));
    }
    return (int32_t)json_array_size(list);
}

static inline int32_t add_segment(struct fixture *f, int32_t parent, int row, const char *key) {
    int32_t ids[64], segment, count = row_ids(f, row, key, ids);
    MUST(forest_add(&f->forest, parent, ids, count, row, &segment));
    return segment;
}

static inline void add_response(struct fixture *f, int32_t prompt, int row, const char *key,
                                int32_t *segment) {
    *segment = add_segment(f, prompt, row, key);
    MUST(forest_score(&f->forest, *segment, NULL));
}

static inline void finish_forest(struct fixture *f) {
    MUST(forest_finish(&f->forest, f->model->config.vocabulary, f->model->config.max_positions));
}

/* Rows [first, last): trees of a prompt with one or both responses. */
static inline void make_forest(struct fixture *f, int first, int last, bool both) {
    forest_clear(&f->forest);
    for (int i = first; i < last; i++) {
        int32_t prompt = add_segment(f, -1, i, "prompt");
        add_response(f, prompt, i, "chosen", &f->chosen[i]);
        if (both) {
            add_response(f, prompt, i, "rejected", &f->rejected[i]);
        }
    }
    finish_forest(f);
}

static inline double segment_sum(const struct fixture *f, int32_t segment, const double *logps) {
    double sum = 0;
    for (int32_t i = 0; i < f->forest.n_readouts; i++) {
        sum += f->forest.readout_segment[i] == segment ? logps[i] : 0;
    }
    return sum;
}

/* Mean over rows [first, last) of -log sigma(beta h); weights: d loss / d logp of each readout. */
static inline double dpo_loss(const struct fixture *f, int first, int last, const double *logps,
                              double *weights) {
    double loss = 0, beta = number(f, "beta");
    memset(weights, 0, (size_t)f->forest.n_readouts * sizeof *weights);
    for (int i = first; i < last; i++) {
        double h = segment_sum(f, f->chosen[i], logps) - element(f, "reference_chosen", i) -
                   segment_sum(f, f->rejected[i], logps) + element(f, "reference_rejected", i);
        double g = -beta / (1 + exp(beta * h)) / (last - first);
        loss += log1p(exp(-beta * h)) / (last - first);
        for (int32_t r = 0; r < f->forest.n_readouts; r++) {
            int32_t of = f->forest.readout_segment[r];
            weights[r] += of == f->chosen[i] ? g : of == f->rejected[i] ? -g : 0;
        }
    }
    return loss;
}

/* Log-probabilities of the forest's readouts, on a pass that keeps nothing. */
static inline void logps_of(struct fixture *f, double *logps) {
    struct pass *p;
    MUST(pass_open(f->model, &f->w, KEEP_NOTHING, &p));
    MUST(pass_forward(p, &f->forest));
    MUST(pass_logps(p, &(struct token_scores){.logp = logps}));
    pass_close(p);
}

/* Loss and gradients (into the arena, cleared first) of the DPO loss on rows [first, last). */
static inline double dpo_step(struct fixture *f, enum pass_keep keep, int first, int last) {
    double logps[MOST_READOUTS], weights[MOST_READOUTS];
    struct pass *p;
    make_forest(f, first, last, true);
    MUST(arena_zero_gradients(f->model->trained));
    MUST(pass_open(f->model, &f->w, keep, &p));
    MUST(pass_forward(p, &f->forest));
    MUST(pass_logps(p, &(struct token_scores){.logp = logps}));
    double loss = dpo_loss(f, first, last, logps, weights);
    MUST(pass_backward(p, &(struct readout_gradients){.logp = weights}, NULL, NULL));
    pass_close(p);
    return loss;
}

/* All gradients, as doubles. The caller frees. */
static inline double *all_gradients(struct fixture *f) {
    double *out = mem_calloc(f->model->trained->elements, sizeof *out);
    assert_non_null(out);
    MUST(backend_read_doubles(f->model->backend, out, f->model->trained->gradients));
    return out;
}

static inline struct backend *open_backend(const char *device) {
    struct backend *b;
    char why[256];
    const struct backend_request request = {.device = device, .compute = "fp32", .device_index = -1};
    MUST(backend_open(&request, &b, why));
    return b;
}

/* The devices to test: the CPU, plain and under suspicion, or the one that COLLIMATE_TEST_DEVICE names. */
static inline int devices(const char *names[2]) {
    names[0] = test_device();
    names[1] = "check:cpu";
    return strcmp(names[0], "cpu") == 0 ? 2 : 1;
}

#endif
