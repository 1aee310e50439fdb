/* Reference scores of lists, token by token: what is stored is what a batch of the first epoch scores, to the
 * bit, on any ranks; and slopes by token go back as slopes by response do. */
#include "tests/small_world.h"

#include "score/reference.h"
#include "store/model_folder.h"

enum { PROMPTS = 13, VOCABULARY = 97, TOKENS = 7 };

/* Prompt p has p % 4 + 1 responses of 1 to 4 tokens; prompt 3 is empty, so that a first token goes unscored.
 */
static void write_lists(struct comm *c, const char *path) {
    static int32_t prompt_tokens[PROMPTS * TOKENS], response_tokens[PROMPTS * 16], chars[PROMPTS * 4];
    static int64_t prompt_offsets[PROMPTS + 1], response_offsets[PROMPTS * 4 + 1], prompt[PROMPTS * 4];
    static int64_t chosen[PROMPTS], rejected[PROMPTS];
    struct dataset_facts facts = world_facts();
    struct dataset_part part = {.prompt_tokens = prompt_tokens,
                                .prompt_offsets = prompt_offsets,
                                .response_tokens = response_tokens,
                                .response_offsets = response_offsets,
                                .response_prompt = prompt,
                                .response_length_chars = chars,
                                .chosen = chosen,
                                .rejected = rejected};
    for (int64_t p = 0; p < PROMPTS && c->rank == 0; p++) {
        prompt_offsets[p + 1] = prompt_offsets[p] + (p == 3 ? 0 : TOKENS);
        for (int64_t t = prompt_offsets[p]; t < prompt_offsets[p + 1]; t++) {
            prompt_tokens[t] = (int32_t)world_draw(11, t, VOCABULARY);
        }
        for (int64_t j = 0; j <= p % 4; j++) {
            int64_t r = part.n_responses++;
            prompt[r] = p;
            response_offsets[r + 1] = response_offsets[r] + 1 + r % 4;
            for (int64_t t = response_offsets[r]; t < response_offsets[r + 1]; t++) {
                response_tokens[t] = (int32_t)world_draw(12, t, VOCABULARY);
            }
        }
        if (p % 4 > 0) {
            chosen[part.n_pairs] = part.n_responses - 1;
            rejected[part.n_pairs++] = part.n_responses - 2;
        }
        part.n_prompts++;
    }
    facts.vocabulary = VOCABULARY;
    facts.end_id = -1;
    CHECK(dataset_write(c, path, &part, &facts) == OK);
}

/* Each response of a batch, whose cut the scorer has run. */
static void compare(struct scorer *s, const struct batch *b, const struct forest_cut *cut, int64_t *wrong) {
    for (int64_t i = cut->first; i < cut->last; i++) {
        const struct scored_row row = scorer_row(s, b, cut, i);
        for (int32_t j = 0; j < row.n; j++) {
            const struct response_score *r = &row.responses[j];
            *wrong += r->reference != r->logp || r->tokens != sample_scored(&b->samples[i], j);
            for (int64_t t = 0; t < r->tokens; t++) {
                *wrong += r->token_reference[t] != r->token_logp[t];
            }
        }
    }
}

static void test_tokens(struct comm *c, struct scorer *s, const struct batch_source *source) {
    const struct reference_job job = {.comm = c,
                                      .scorer = s,
                                      .source = source,
                                      .file = source->reference,
                                      .steps = batch_steps(&source->plan)};
    struct batch_source bare = *source;
    struct reference_job first = job;
    struct batch b = {0};
    int64_t computed, there, wrong = 0, rows = 0;
    double worst;
    bare.reference = NULL;
    bare.reads_tokens = false;
    first.source = &bare;
    CHECK(reference_compute(&first, &computed, &there) == OK);
    CHECK(computed == source->plan.rows && there == 0);
    CHECK(reference_compute(&first, &computed, &there) == OK);
    CHECK(computed == 0 && there == source->plan.rows);
    CHECK(reference_check(&first, &worst) == OK && worst < 1e-4);
    for (int64_t step = 0; step < job.steps; step++) {
        CHECK(batch_read(source, step, &b) == OK);
        for (int64_t k = 0; k < b.n_cuts; k++) {
            CHECK(scorer_run(s, b.samples + b.cuts[k].first, b.cuts[k].last - b.cuts[k].first) == OK);
            compare(s, &b, &b.cuts[k], &wrong);
        }
        rows += b.n;
    }
    CHECK(wrong == 0);
    CHECK(comm_sum_i64(c, &rows, 1) == OK && rows == source->plan.rows);
    batch_free(&b);
}

/* The gradient of all log-probabilities of a row, each response weighted by its place + 1: as slopes by
 * response, or by token. */
static void gradient_of(struct scorer *s, const struct sample *sample, bool per_token, float *out) {
    CHECK(arena_zero_gradients(s->model->trained) == OK);
    CHECK(scorer_run(s, sample, 1) == OK);
    s->per_token = per_token;
    struct slope slope = scorer_slope(s, 0);
    CHECK((slope.token_logp != NULL) == per_token && !slope.value);
    for (int32_t j = 0; j < sample->n_responses; j++) {
        slope.logp[j] = per_token ? 0 : j + 1;
        for (int64_t t = s->scores[j].first; per_token && t < s->scores[j].first + s->scores[j].tokens; t++) {
            slope.token_logp[t] = j + 1;
        }
    }
    CHECK(scorer_backward(s, NULL, NULL) == OK);
    CHECK(backend_read(s->model->trained->backend, out, s->model->trained->gradients.data,
                       s->model->trained->elements * (int64_t)sizeof *out) == OK);
}

static void test_slopes(struct model *m, struct workspace *w, struct view *v) {
    struct scorer s;
    struct sample *sample;
    int64_t row = 2, n = m->trained->elements;
    float *by_response = world_array(n, sizeof *by_response), *by_token = world_array(n, sizeof *by_token);
    CHECK(scorer_open(m, w, KEEP_ALL, &s) == OK);
    CHECK(view_read(v, &row, 1, &sample, NULL) == OK);
    CHECK(sample->n_responses == 4);
    gradient_of(&s, sample, false, by_response);
    gradient_of(&s, sample, true, by_token);
    CHECK(memcmp(by_response, by_token, (size_t)n * sizeof *by_token) == 0);
    double squares = 0;
    for (int64_t i = 0; i < n; i++) {
        squares += (double)by_token[i] * (double)by_token[i];
    }
    CHECK(squares > 0);
    scorer_close(&s);
    samples_free(sample);
    mem_free(by_response);
    mem_free(by_token);
}

static void run(struct comm *c, struct backend *b, const char *folder) {
    const struct truncation whole = {.response_ratio = 1};
    char path[128];
    struct dataset *d;
    struct view *v;
    struct sidecar *file;
    struct model *m;
    struct workspace w;
    struct scorer s;
    snprintf(path, sizeof path, "%s/lists.h5", folder);
    write_lists(c, path);
    CHECK(dataset_open(c, path, &d) == OK);
    CHECK(view_open(d, ROWS_PROMPTS, &whole, &v) == OK);
    const struct sidecar_key key = {.data = dataset_hash(d), .compute = "fp32", .recipe = "token logp"};
    snprintf(path, sizeof path, "%s/lists.reference.h5", folder);
    CHECK(sidecar_open_tokens(c, path, &key, dataset_size(d).responses, dataset_size(d).response_tokens,
                              false, &file) == OK);
    CHECK(model_folder_open(c, b, FIXTURES "/models/llama", NULL, &m) == OK);
    CHECK(arena_need_gradients(m->trained) == OK);
    CHECK(workspace_open(b, 16 << 20, &w) == OK);
    CHECK(scorer_open(m, &w, KEEP_NOTHING, &s) == OK);
    const struct batch_source source = {
        .view = v,
        .reference = file,
        .reads_tokens = true,
        .plan = {.rows = view_rows(v), .batch = 6, .slots = 4, .micro_tokens = 40, .shuffle = true},
        .rank = c->rank,
        .size = c->size};
    test_tokens(c, &s, &source);
    scorer_close(&s);
    test_slopes(m, &w, v);
    workspace_close(&w);
    model_close(m);
    CHECK(sidecar_close(file) == OK);
    view_close(v);
    dataset_close(d);
}

int main(int argc, char **argv) {
    const struct backend_request request = {.device = "cpu", .compute = "fp32", .threads = 1};
    struct comm *c;
    struct backend *b;
    char folder[64], why[256];
    if (comm_start(&argc, &argv, &c) != OK) {
        return 1;
    }
    world_folder(c, folder);
    CHECK(backend_open(&request, &b, why) == OK);
    run(c, b, folder);
    backend_close(b);
    world_folder_remove(c, folder);
    comm_finish(c);
    return failures != 0;
}
