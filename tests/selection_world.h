/* Prompts with responses, or pairs, whose embeddings, scores and labels are plain functions, for the tests of
 * selections: written to files, selected from, read again. */
#ifndef COLLIMATE_TESTS_SELECTION_WORLD_H
#define COLLIMATE_TESTS_SELECTION_WORLD_H

#include "data/sidecar.h"
#include "select/pairs.h"
#include "select/selection.h"
#include "tests/small_world.h"
#include "util/json.h"

enum { PROMPTS = 60, PAIRS = 101, WIDTH = 4, MOST = 9, BLOBS = 4 };
static const int counts[] = {2, 3, 4, 5, 1, 8, 0, 9};
enum labels { BY_SCORE, EQUAL_SCORES, NO_SCORES, BY_FILE };

/* Responses of prompts; or of pairs, two each. */
struct world {
    bool of_pairs;
    int copies; /* of a prompt's responses so many are distinct and come again; 0: all are */
    int n_prompts, n;
    float rows[PROMPTS * MOST * WIDTH]; /* embeddings */
    float score[PROMPTS * MOST];
    int first[PAIRS + 1];
    char data[96], embeddings[96], view[96], other[96], report[96];
};

static inline enum labels labels_of(const struct world *w, int prompt) {
    return w->of_pairs || prompt % 6 > 3 ? BY_SCORE : (enum labels)(prompt % 6);
}

static inline int count_of(const struct world *w, int prompt) {
    return w->first[prompt + 1] - w->first[prompt];
}

static inline float draw(int64_t what, int64_t i, int64_t below) {
    return (float)world_draw(what, i, below);
}

/* Coarse numbers, so that similarities tie; every ninth prompt has equal responses; pairs lie in blobs. */
static inline void fill(struct world *w) {
    for (int p = 0; p < w->n_prompts; p++) {
        w->first[p + 1] = w->first[p] + (w->of_pairs ? 2 : counts[p % COUNT_OF(counts)]);
        for (int i = w->first[p]; i < w->first[p + 1]; i++) {
            int like = p % 9 == 4 ? w->first[p] : w->copies ? w->first[p] + (i - w->first[p]) % w->copies : i;
            for (int d = 0; d < WIDTH; d++) {
                w->rows[i * WIDTH + d] =
                    w->of_pairs ? 8.0f * (float)(d == p % 10 % BLOBS) + draw(21, like * WIDTH + d, 5)
                                : draw(22, like * WIDTH + d, 9) - 4.5f;
            }
            enum labels labels = labels_of(w, p);
            w->score[i] = labels == EQUAL_SCORES ? 1
                          : labels == NO_SCORES  ? NAN
                                                 : draw(23, w->copies ? like : i, 1000);
        }
    }
    w->n = w->first[w->n_prompts];
}

/* A prompt's pair in the file: for BY_FILE its last response before its first, whatever the scores. */
static inline bool file_pair(const struct world *w, int prompt, int *chosen, int *rejected) {
    *chosen = w->first[prompt + 1] - 1;
    *rejected = w->first[prompt];
    return w->of_pairs || (labels_of(w, prompt) == BY_FILE && count_of(w, prompt) >= 2);
}

/* Tokens differ, but for those that `copies` makes equal. */
static inline int64_t token_of(const struct world *w, int prompt, int response) {
    int place = response - w->first[prompt];
    return 1 + w->first[prompt] + (w->copies ? place % w->copies : place);
}

static inline void write_data(struct comm *c, struct world *w) {
    struct range mine = range_part(w->n_prompts, c->rank, c->size);
    struct dataset_part p = {.n_prompts = mine.last - mine.first};
    struct dataset_facts facts = world_facts();
    int before = w->first[mine.first];
    int64_t most = w->first[mine.last] - before;
    p.prompt_tokens = world_array(p.n_prompts, 4);
    p.prompt_offsets = world_array(p.n_prompts + 1, 8);
    p.response_tokens = world_array(most, 4);
    p.response_offsets = world_array(most + 1, 8);
    p.response_prompt = world_array(most, 8);
    p.response_score = world_array(most, 4);
    p.response_length_chars = world_array(most, 4);
    p.chosen = world_array(p.n_prompts, 8);
    p.rejected = world_array(p.n_prompts, 8);
    for (int64_t i = 0; i < p.n_prompts; i++) {
        int prompt = (int)(mine.first + i), chosen, rejected;
        p.prompt_offsets[i + 1] = i + 1;
        for (int r = w->first[prompt]; r < w->first[prompt + 1]; r++) {
            p.response_prompt[p.n_responses] = i;
            p.response_score[p.n_responses] = w->score[r];
            p.response_tokens[p.n_responses] = (int32_t)token_of(w, prompt, r);
            p.response_offsets[++p.n_responses] = r - before + 1;
        }
        if (file_pair(w, prompt, &chosen, &rejected)) {
            p.chosen[p.n_pairs] = chosen - before;
            p.rejected[p.n_pairs++] = rejected - before;
        }
    }
    CHECK(dataset_write(c, w->data, &p, &facts) == OK);
    world_part_free(&p);
}

static inline void write_embeddings(struct comm *c, const struct world *w) {
    struct sidecar_key key = {.model = 1, .compute = "fp32", .recipe = "mean"};
    struct sidecar *s;
    struct dataset *d;
    struct range mine = range_part(w->n, c->rank, c->size);
    int64_t ids[PROMPTS * MOST];
    for (int64_t i = mine.first; i < mine.last; i++) {
        ids[i - mine.first] = i;
    }
    CHECK(dataset_open(c, w->data, &d) == OK);
    key.data = dataset_hash(d);
    dataset_close(d);
    CHECK(sidecar_open(c, w->embeddings, &key, w->n, WIDTH, true, &s) == OK);
    CHECK(sidecar_write_values(s, ids, mine.last - mine.first, w->rows + mine.first * WIDTH) == OK);
    CHECK(sidecar_close(s) == OK);
}

static inline struct world *world_make(struct comm *c, const char *folder, bool of_pairs, int copies) {
    struct world *w = world_array(1, sizeof *w);
    w->of_pairs = of_pairs;
    w->copies = copies;
    w->n_prompts = of_pairs ? PAIRS : PROMPTS;
    snprintf(w->data, sizeof w->data, "%s/data%d-%d.h5", folder, of_pairs, copies);
    snprintf(w->embeddings, sizeof w->embeddings, "%s/data%d-%d.embeddings.h5", folder, of_pairs, copies);
    snprintf(w->view, sizeof w->view, "%s/view.h5", folder);
    snprintf(w->other, sizeof w->other, "%s/other.h5", folder);
    snprintf(w->report, sizeof w->report, "%s/view.json", folder);
    fill(w);
    write_data(c, w);
    write_embeddings(c, w);
    return w;
}

/* Collective. The selected pairs, in the view's order; returns how many, -1 after a failure. What is asked
 * for is completed with the files of the world and a half as the fraction. */
static inline int run_selection(struct comm *c, const struct world *w, struct selection_options asked,
                                struct pair *out) {
    struct selection_looks looks;
    char why[256];
    CHECK(selection_look(asked.strategy, &looks) == OK);
    asked.comm = c;
    asked.data = w->data;
    asked.embeddings = w->embeddings;
    asked.output = w->view;
    asked.report = "";
    asked.command = "collimate select";
    asked.compare = asked.compare ? asked.compare : "";
    asked.exclude = asked.exclude ? asked.exclude : "";
    asked.export = "";
    asked.fraction = 0.5;
    const struct backend_request request = {
        .device = "cpu", .compute = "fp32", .threads = 1, .device_ranks = 1, .deterministic = true};
    CHECK(!looks.clusters || backend_open(&request, &asked.backend, why) == OK);
    enum status st = comm_agree(c, selection_run(&asked));
    backend_close(asked.backend);
    if (st != OK) {
        return -1;
    }
    struct dataset *d;
    CHECK(dataset_open(c, w->view, &d) == OK);
    int n = (int)dataset_size(d).pairs;
    for (int64_t i = 0; i < n && i < PAIRS; i++) {
        CHECK(dataset_pair(d, i, &out[i]) == OK);
    }
    dataset_close(d);
    return n;
}

static inline double number_in(const json_t *object, const char *key) {
    const json_t *member = json_object_get(object, key);
    CHECK(json_is_number(member));
    return json_number_value(member);
}

static inline double cosine(const struct world *w, int a, int b) {
    double product = 0, aa = 0, bb = 0;
    for (int d = 0; d < WIDTH; d++) {
        double x = w->rows[a * WIDTH + d], y = w->rows[b * WIDTH + d];
        product += x * y;
        aa += x * x;
        bb += y * y;
    }
    return product / (sqrt(aa) * sqrt(bb));
}

/* The first least (sign 1) or greatest (-1) cosine of a prompt. */
static inline void extreme(const struct world *w, int prompt, int sign, int *a, int *b) {
    double best = INFINITY;
    for (int i = w->first[prompt]; i < w->first[prompt + 1]; i++) {
        for (int j = i + 1; j < w->first[prompt + 1]; j++) {
            if (sign * cosine(w, i, j) < best - 1e-12) {
                best = sign * cosine(w, i, j);
                *a = i;
                *b = j;
            }
        }
    }
}

#endif
