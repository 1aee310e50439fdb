/* Evaluation on 1, 2 and 4 ranks: every row once, its sums beside those of rows scored one by one,
 * agreement of labels beside a loop over all pairs. */
#include "evaluate/evaluation.h"

#include "evaluate/labels.h"
#include "store/model_folder.h"
#include "tests/small_world.h"
#include "util/json.h"
#include "util/log.h"

enum { PROMPTS = 30, VOCABULARY = 97 };

static float score_of(int64_t response) {
    return response % 11 == 0 ? NAN : (float)(response * 7 % 5);
}
static float worth_of(int64_t response) {
    return (float)(response * 3 % 7);
}

/* The world of all prompts on rank 0, in a small vocabulary, with scores and worths. */
static void write_data(struct comm *c, const char *path, bool is_judged) {
    struct dataset_facts facts = world_facts();
    struct dataset_part p = world_part(0, c->rank == 0 ? PROMPTS : 0);
    float *worth = world_array(p.n_responses, sizeof *worth);
    for (int64_t i = 0; i < p.prompt_offsets[p.n_prompts]; i++) {
        p.prompt_tokens[i] %= VOCABULARY;
    }
    for (int64_t i = 0; i < p.response_offsets[p.n_responses]; i++) {
        p.response_tokens[i] %= VOCABULARY;
    }
    for (int64_t i = 0; i < p.n_responses; i++) {
        p.response_score[i] = is_judged ? score_of(i) : NAN;
        worth[i] = is_judged ? worth_of(i) : NAN;
    }
    p.response_worth = worth;
    facts.vocabulary = VOCABULARY;
    facts.begin_id = facts.end_id = -1;
    CHECK(dataset_write(c, path, &p, &facts) == OK);
    mem_free(worth);
    p.response_worth = NULL;
    world_part_free(&p);
}

static double number(const json_t *object, const char *name) {
    return json_number_value(json_object_get(object, name));
}

/* Of the first `rows` pairs, by a loop over the world. */
static void expect_labels(const json_t *found, int64_t rows) {
    double agree[2] = {0}, ordered[2] = {0};
    int64_t labeled = 0, pair = 0;
    for (int64_t prompt = 0; prompt < PROMPTS && pair < rows; prompt++) {
        if (prompt % 10 == 0) {
            continue;
        }
        int64_t chosen = 2 * pair + prompt % 2, rejected = 2 * pair + (prompt % 2 == 0);
        pair++;
        if (prompt % 7 == 0) {
            continue;
        }
        float better[] = {score_of(chosen), worth_of(chosen)},
              worse[] = {score_of(rejected), worth_of(rejected)};
        labeled++;
        for (int m = 0; m < 2; m++) {
            ordered[m] += better[m] < worse[m] || better[m] > worse[m];
            agree[m] += better[m] > worse[m];
        }
    }
    CHECK(number(found, "labeled") == (double)labeled);
    CHECK(number(found, "labels/agree_with_scores") == agree[0] / ordered[0]);
    CHECK(number(found, "labels/agree_with_scores/pairs") == ordered[0]);
    CHECK(number(found, "labels/agree_with_truth") == agree[1] / ordered[1]);
    CHECK(number(found, "labels/agree_with_truth/pairs") == ordered[1]);
}

static void test_labels(struct comm *c, const char *folder) {
    const struct interval_options none = {.samples = 0}, some = {.samples = 50, .confidence = 0.9, .seed = 3};
    struct dataset *d;
    struct text out = {0};
    json_t *found = NULL;
    char path[128];
    snprintf(path, sizeof path, "%s/judged.h5", folder);
    CHECK(dataset_open(c, path, &d) == OK);
    const int64_t limits[] = {0, 11, 1000};
    for (int i = 0; i < COUNT_OF(limits); i++) {
        text_clear(&out);
        CHECK(labels_evaluate(c, d, limits[i], i == 0 ? &some : &none, &out) == OK);
        CHECK(json_parse(out.data, out.len, "test", &found) == OK);
        expect_labels(found, limits[i] == 11 ? 11 : dataset_size(d).pairs);
        CHECK(json_object_size(json_object_get(found, "intervals")) == (i == 0 ? 2 : 0));
        json_decref(found);
    }
    dataset_close(d);
    snprintf(path, sizeof path, "%s/plain.h5", folder);
    CHECK(dataset_open(c, path, &d) == OK);
    CHECK(labels_evaluate(c, d, 0, &none, &out) == ERR_USAGE);
    CHECK(strstr(status_message()->text, "neither"));
    status_clear();
    dataset_close(d);
    text_free(&out);
}

struct seen {
    int64_t rows[PROMPTS * 2];
    double logp;
};

static void visit(void *context, const struct sample *sample, const struct scored_row *row,
                  const struct sums *sums) {
    (void)sums;
    struct seen *seen = context;
    seen->rows[sample->row]++;
    seen->logp += row->responses[row->target].logp;
}

/* Chosen responses one by one, each in a forest of its own, on every rank. */
static double alone(struct scorer *s, struct view *v, double *tokens) {
    double sum = 0;
    *tokens = 0;
    for (int64_t row = 0; row < view_rows(v); row++) {
        struct sample *sample;
        CHECK(view_read(v, &row, 1, &sample, NULL) == OK);
        CHECK(scorer_run(s, sample, 1) == OK);
        sum += s->scores[0].logp;
        *tokens += (double)s->scores[0].tokens;
        samples_free(sample);
    }
    return sum;
}

static void test_rows(struct comm *c, struct scorer *s, struct view *v) {
    struct terms terms = {0};
    struct seen seen = {0};
    struct sums sums;
    double tokens, logp = alone(s, v, &tokens);
    terms_one("sft", &terms);
    for (int64_t slots = 4; slots <= 16; slots *= 4) {
        struct batch_source source = {.view = v,
                                      .plan = {.rows = view_rows(v),
                                               .batch = 8,
                                               .slots = slots,
                                               .micro_tokens = 200,
                                               .deterministic = true},
                                      .rank = c->rank,
                                      .size = c->size};
        memset(&seen, 0, sizeof seen);
        CHECK(evaluate_rows(c, s, &source, &terms, visit, &seen, &sums) == OK);
        CHECK(comm_sum_i64(c, seen.rows, view_rows(v)) == OK);
        CHECK(comm_sum_f64(c, &seen.logp, 1) == OK);
        for (int64_t i = 0; i < view_rows(v); i++) {
            CHECK(seen.rows[i] == 1);
        }
        CHECK(sums.v[SUM_ROWS] == (double)view_rows(v) && sums.v[SUM_TARGET_TOKENS] == tokens);
        CHECK(fabs(sums.v[SUM_TARGET_LOGP] - logp) <= 1e-5 * fabs(logp));
        CHECK(fabs(seen.logp - sums.v[SUM_TARGET_LOGP]) <= 1e-9 * fabs(logp));
        CHECK(fabs(objective_value(&terms, &sums) + logp / tokens) <= 1e-5 * fabs(logp / tokens));
    }
}

static void run_model(struct comm *c, const char *folder) {
    const struct backend_request request = {
        .device = "cpu", .compute = "fp32", .threads = 1, .deterministic = true};
    const struct truncation cut = {.max_length = 60, .response_ratio = 1}; /* positions: 64 */
    struct backend *b;
    struct model *m;
    struct workspace w;
    struct scorer s;
    struct dataset *d;
    struct view *v;
    char path[128], why[256];
    CHECK(backend_open(&request, &b, why) == OK);
    CHECK(model_folder_open(c, b, FIXTURES "/models/llama", NULL, &m) == OK);
    CHECK(workspace_open(b, 32 << 20, &w) == OK);
    CHECK(scorer_open(m, &w, KEEP_NOTHING, &s) == OK);
    snprintf(path, sizeof path, "%s/judged.h5", folder);
    CHECK(dataset_open(c, path, &d) == OK);
    CHECK(view_open(d, ROWS_CHOSEN, &cut, &v) == OK);
    test_rows(c, &s, v);
    view_close(v);
    dataset_close(d);
    scorer_close(&s);
    workspace_close(&w);
    model_close(m);
    backend_close(b);
}

int main(int argc, char **argv) {
    struct comm *c;
    char folder[64], path[128];
    if (comm_start(&argc, &argv, &c) != OK) {
        return 1;
    }
    log_init(c->rank, c->size, LOG_ERROR);
    world_folder(c, folder);
    snprintf(path, sizeof path, "%s/judged.h5", folder);
    write_data(c, path, true);
    snprintf(path, sizeof path, "%s/plain.h5", folder);
    write_data(c, path, false);
    test_labels(c, folder);
    run_model(c, folder);
    world_folder_remove(c, folder);
    int64_t all = failures;
    CHECK(comm_sum_i64(c, &all, 1) == OK);
    comm_finish(c);
    return all != 0;
}
