/* Rows that are prompts: the same tokens as pairs have, each response once, every labeled pair once, whatever
 * the order of pairs. */
#include "tests/unit.h"

#include "data/batch.h"
#include "tests/plan_costs.h"
#include "tests/small_world.h"

enum { N_PROMPTS = 9 };

struct fixture {
    struct comm *c;
    char folder[64];
    char path[96];
};

/* Prompt p has p % 4 + 1 responses; all ordered pairs of them are there from the first to the last, dealt so
 * that a prompt's pairs lie apart; every fifth has no label. */
struct lists {
    int32_t prompt_tokens[N_PROMPTS * 8], response_tokens[256];
    int64_t prompt_offsets[N_PROMPTS + 1], response_offsets[64], response_prompt[64];
    int64_t first[N_PROMPTS + 1], chosen[128], rejected[128];
    int32_t length_chars[64];
    float margin[128];
    int8_t label[128];
    struct dataset_part part;
};

static void fill_responses(struct lists *l) {
    int64_t n = 0, at = 0;
    for (int64_t p = 0; p < N_PROMPTS; p++) {
        for (int i = 0; i < 8; i++) {
            l->prompt_tokens[8 * p + i] = (int32_t)(100 * p + i);
        }
        l->prompt_offsets[p + 1] = 8 * (p + 1);
        l->first[p] = n;
        for (int64_t r = 0; r <= p % 4; r++, n++) {
            for (int64_t i = 0; i <= (n * 5) % 7; i++) {
                l->response_tokens[at++] = (int32_t)(1000 + 10 * n + i);
            }
            l->response_offsets[n + 1] = at;
            l->response_prompt[n] = p;
        }
    }
    l->first[N_PROMPTS] = n;
    l->part.n_responses = n;
}

static void fill_pairs(struct lists *l) {
    int64_t n = 0;
    for (int64_t gap = 1; gap < 4; gap++) {
        for (int64_t p = N_PROMPTS; p-- > 0;) {
            for (int64_t a = l->first[p]; a + gap < l->first[p + 1]; a++, n++) {
                l->chosen[n] = n % 2 ? a : a + gap;
                l->rejected[n] = n % 2 ? a + gap : a;
                l->margin[n] = n % 3 ? NAN : (float)n;
                l->label[n] = n % 5 != 0;
            }
        }
    }
    l->part.n_pairs = n;
}

static struct lists *make_lists(struct fixture *f) {
    struct lists *l = world_array(1, sizeof *l);
    struct dataset_facts facts = world_facts();
    facts.end_id = -1;
    l->part = (struct dataset_part){.n_prompts = N_PROMPTS,
                                    .prompt_tokens = l->prompt_tokens,
                                    .prompt_offsets = l->prompt_offsets,
                                    .response_tokens = l->response_tokens,
                                    .response_offsets = l->response_offsets,
                                    .response_prompt = l->response_prompt,
                                    .response_length_chars = l->length_chars,
                                    .chosen = l->chosen,
                                    .rejected = l->rejected,
                                    .margin = l->margin,
                                    .label = l->label};
    fill_responses(l);
    fill_pairs(l);
    assert_int_equal(dataset_write(f->c, f->path, &l->part, &facts), OK);
    return l;
}

static void same_tokens(const struct sample_response *a, const struct sample_response *b) {
    assert_int_equal(a->id, b->id);
    assert_int_equal(a->count, b->count);
    assert_memory_equal(a->tokens, b->tokens, (size_t)a->count * sizeof *a->tokens);
}

/* A pair of a prompt's row beside the same pair as a row of its own. */
static void compare_pair(struct view *pairs, const struct sample *s, const struct sample_pair *p) {
    struct sample *one;
    assert_int_equal(view_read(pairs, &p->row, 1, &one, NULL), OK);
    assert_int_equal(one->n_pairs, 1);
    assert_int_equal(s->prompt_count, one->prompt_count);
    assert_memory_equal(s->prompt, one->prompt, (size_t)s->prompt_count * sizeof *s->prompt);
    same_tokens(&s->responses[p->chosen], &one->responses[0]);
    same_tokens(&s->responses[p->rejected], &one->responses[1]);
    assert_true(p->margin == one->pairs[0].margin || (isnan(p->margin) && isnan(one->pairs[0].margin)));
    samples_free(one);
}

static void check_rows(struct lists *l, struct dataset *d, enum row_kind kind, const struct truncation *t) {
    struct view *v, *pairs;
    struct sample *samples;
    struct cut_counts counts = {0};
    int64_t rows[N_PROMPTS], n_pairs = 0, labeled = 0;
    int32_t cost[N_PROMPTS];
    int seen[128] = {0};
    assert_int_equal(view_open(d, kind, t, &v), OK);
    assert_int_equal(view_open(d, ROWS_PAIRS, t, &pairs), OK);
    assert_int_equal(view_hash(v), view_hash(pairs));
    int64_t n = view_rows(v);
    assert_in_range(n, 1, N_PROMPTS);
    for (int64_t i = 0; i < n; i++) {
        rows[i] = n - 1 - i;
    }
    assert_int_equal(view_costs(v, rows, n, cost), OK);
    assert_int_equal(view_read(v, rows, n, &samples, &counts), OK);
    for (int64_t i = 0; i < n; i++) {
        const struct sample *s = &samples[i];
        int64_t prompt = l->response_prompt[s->responses[0].id];
        int32_t tokens = s->prompt_count;
        assert_int_equal(s->row, rows[i]);
        assert_true(kind == ROWS_COMPARED || s->n_responses == prompt % 4 + 1);
        for (int32_t j = 0; j < s->n_responses; j++) {
            tokens += s->responses[j].count;
            for (int32_t k = 0; k < j; k++) {
                assert_int_not_equal(s->responses[j].id, s->responses[k].id);
            }
        }
        assert_int_equal(tokens, cost[i]);
        assert_true(s->n_pairs > 0);
        for (int32_t k = 0; k < s->n_pairs; k++) {
            compare_pair(pairs, s, &s->pairs[k]);
            assert_int_equal(seen[s->pairs[k].row]++, 0);
        }
        n_pairs += s->n_pairs;
    }
    for (int64_t i = 0; i < l->part.n_pairs; i++) {
        labeled += l->label[i] != 0;
        assert_int_equal(seen[i], l->label[i] != 0);
    }
    assert_int_equal(counts.pairs, labeled);
    assert_int_equal(n_pairs, labeled);
    samples_free(samples);
    view_close(pairs);
    view_close(v);
}

static void test_rows(void **state) {
    struct fixture *f = *state;
    struct lists *l = make_lists(f);
    struct dataset *d;
    const struct truncation cuts[] = {{.response_ratio = 1},
                                      {.response_ratio = 0.5},
                                      {.response_ratio = 1, .max_length = 11, .max_prompt = 5},
                                      {.response_ratio = 1, .max_response = 3, .keep_start = true}};
    assert_int_equal(dataset_open(f->c, f->path, &d), OK);
    for (int i = 0; i < COUNT_OF(cuts); i++) {
        check_rows(l, d, ROWS_COMPARED, &cuts[i]);
        check_rows(l, d, ROWS_PROMPTS, &cuts[i]);
    }
    dataset_close(d);
    mem_free(l);
}

/* Prompts alone: all of them, without responses; what is to be drawn has its room. */
static void test_bare(void **state) {
    struct fixture *f = *state;
    struct lists *l = make_lists(f);
    static const struct {
        struct truncation t;
        int32_t count, first; /* tokens of a prompt of 8, and the place of the first */
    } cases[] = {
        {{.response_ratio = 1, .max_response = 100}, 8, 0},
        {{.response_ratio = 1, .max_length = 12, .max_response = 4}, 8, 0},
        {{.response_ratio = 1, .max_length = 11, .max_response = 4}, 5, 3}, /* half of 11 */
        {{.response_ratio = 1, .max_length = 11, .max_response = 4, .keep_start = true}, 5, 0},
        {{.response_ratio = 1, .max_length = 11, .max_response = 8, .max_prompt = 6}, 3, 5},
    };
    struct dataset *d;
    assert_int_equal(dataset_open(f->c, f->path, &d), OK);
    for (int i = 0; i < COUNT_OF(cases); i++) {
        struct view *v;
        struct sample *s;
        struct view_plan *plan;
        int64_t rows[] = {7, 0};
        int32_t cost;
        assert_int_equal(view_open(d, ROWS_BARE, &cases[i].t, &v), OK);
        assert_int_equal(view_rows(v), N_PROMPTS);
        assert_int_equal(view_read(v, rows, 2, &s, NULL), OK);
        for (int k = 0; k < 2; k++) {
            assert_true(s[k].row == rows[k] && s[k].n_responses == 0 && s[k].n_pairs == 0 &&
                        s[k].target == -1);
            assert_int_equal(s[k].prompt_count, cases[i].count);
            assert_int_equal(s[k].prompt[0], 100 * rows[k] + cases[i].first);
        }
        assert_int_equal(view_plan_open(v, rows, 2, &plan), OK);
        assert_int_equal(view_plan_cost(plan, 1, &cost), OK);
        assert_int_equal(cost, cases[i].count);
        view_plan_close(plan);
        samples_free(s);
        view_close(v);
    }
    dataset_close(d);
    mem_free(l);
}

/* Without pairs, every prompt is a row of ROWS_PROMPTS; without labels there is nothing to compare. */
static void test_without_pairs(void **state) {
    struct fixture *f = *state;
    struct lists *l = make_lists(f);
    struct dataset_facts facts = world_facts();
    struct dataset *d;
    struct view *v;
    const struct truncation t = {.response_ratio = 1};
    int64_t row = N_PROMPTS - 1;
    struct sample *s;
    int64_t n_pairs = l->part.n_pairs;
    facts.end_id = -1;
    l->part.n_pairs = 0;
    assert_int_equal(dataset_write(f->c, f->path, &l->part, &facts), OK);
    assert_int_equal(dataset_open(f->c, f->path, &d), OK);
    assert_int_equal(view_open(d, ROWS_COMPARED, &t, &v), ERR_DATA);
    assert_int_equal(view_open(d, ROWS_PROMPTS, &t, &v), OK);
    assert_int_equal(view_rows(v), N_PROMPTS);
    assert_int_equal(view_read(v, &row, 1, &s, NULL), OK);
    assert_int_equal(s->n_responses, row % 4 + 1);
    assert_int_equal(s->n_pairs, 0);
    samples_free(s);
    view_close(v);
    dataset_close(d);

    memset(l->label, 0, sizeof l->label);
    l->part.n_pairs = n_pairs;
    assert_int_equal(dataset_write(f->c, f->path, &l->part, &facts), OK);
    assert_int_equal(dataset_open(f->c, f->path, &d), OK);
    assert_int_equal(view_open(d, ROWS_COMPARED, &t, &v), ERR_DATA);
    assert_non_null(strstr(status_message()->text, "no labeled pairs"));
    dataset_close(d);
    mem_free(l);
}

/* Rows of labeled pairs: those of all pairs, without the others; none is there where no pair has a label. */
static void test_labeled(void **state) {
    struct fixture *f = *state;
    struct lists *l = make_lists(f);
    struct dataset_facts facts = world_facts();
    struct dataset *d;
    const struct truncation t = {.response_ratio = 1, .max_length = 20};
    facts.end_id = -1;
    assert_int_equal(dataset_open(f->c, f->path, &d), OK);
    for (int chosen = 0; chosen < 2; chosen++) {
        struct view *all, *some;
        assert_int_equal(view_open(d, chosen ? ROWS_CHOSEN : ROWS_PAIRS, &t, &all), OK);
        assert_int_equal(view_open(d, chosen ? ROWS_PREFERRED : ROWS_LABELED, &t, &some), OK);
        assert_true(view_hash(all) == view_hash(some));
        int64_t at = 0;
        for (int64_t row = 0; row < l->part.n_pairs; row++) {
            struct sample *s, *expected;
            int32_t cost, expected_cost;
            if (l->label[row] == 0) {
                continue;
            }
            assert_int_equal(view_read(some, &at, 1, &s, NULL), OK);
            assert_int_equal(view_read(all, &row, 1, &expected, NULL), OK);
            assert_int_equal(view_costs(some, &at, 1, &cost), OK);
            assert_int_equal(view_costs(all, &row, 1, &expected_cost), OK);
            assert_int_equal(cost, expected_cost);
            assert_int_equal(s->row, row);
            assert_int_equal(s->n_responses, expected->n_responses);
            assert_int_equal(s->responses[0].id, expected->responses[0].id);
            assert_true(chosen || (s->pairs[0].row == row && s->pairs[0].label == 1));
            samples_free(s);
            samples_free(expected);
            at++;
        }
        assert_int_equal(view_rows(some), at);
        assert_int_equal(view_unlabeled(some), l->part.n_pairs - at);
        assert_int_equal(view_unlabeled(all), 0);
        assert_true(at < l->part.n_pairs);
        view_close(all);
        view_close(some);
    }
    dataset_close(d);
    memset(l->label, 0, sizeof l->label);
    assert_int_equal(dataset_write(f->c, f->path, &l->part, &facts), OK);
    assert_int_equal(dataset_open(f->c, f->path, &d), OK);
    struct view *v;
    assert_int_equal(view_open(d, ROWS_LABELED, &t, &v), ERR_DATA);
    assert_non_null(strstr(status_message()->text, "has a label"));
    assert_int_equal(view_open(d, ROWS_PREFERRED, &t, &v), ERR_DATA);
    dataset_close(d);
    mem_free(l);
}

/* A side-car that holds, for the view's responses, a sum that is a function of the response. */
static double sum_of(int64_t response) {
    return -1.5 - (double)response;
}

static void write_reference(struct fixture *f, struct view *v, struct dataset *d, struct sidecar **out) {
    const struct sidecar_key key = {
        .model = 1, .data = dataset_hash(d), .view = view_hash(v), .compute = "fp32", .recipe = "logp"};
    char path[128];
    struct sample *s;
    snprintf(path, sizeof path, "%s/lists.reference.h5", f->folder);
    assert_int_equal(sidecar_open(f->c, path, &key, dataset_size(d).responses, 0, false, out), OK);
    for (int64_t row = 0; row < view_rows(v); row++) {
        assert_int_equal(view_read(v, &row, 1, &s, NULL), OK);
        for (int j = 0; j < s->n_responses; j++) {
            const int64_t id = s->responses[j].id;
            const double sum = sum_of(id);
            const int32_t count = s->responses[j].count;
            const uint64_t hash = sample_hash(s, j);
            assert_int_equal(sidecar_write_reference(*out, &id, 1, &sum, &count, &hash), OK);
        }
        samples_free(s);
    }
}

/* A batch has a reference for each response of its rows, however many these are. */
static void test_reference_of_lists(void **state) {
    struct fixture *f = *state;
    struct lists *l = make_lists(f);
    const struct truncation whole = {.response_ratio = 1};
    struct dataset *d;
    struct view *v;
    struct sidecar *file;
    struct batch b = {0};
    int64_t most = 0;
    assert_int_equal(dataset_open(f->c, f->path, &d), OK);
    assert_int_equal(view_open(d, ROWS_PROMPTS, &whole, &v), OK);
    write_reference(f, v, d, &file);
    const struct batch_source source = {
        .view = v,
        .reference = file,
        .plan = {.rows = view_rows(v), .batch = 4, .slots = 2, .micro_tokens = 64, .shuffle = true},
        .size = 1};
    for (int64_t step = 0; step < batch_steps(&source.plan); step++) {
        assert_int_equal(batch_read(&source, step, &b), OK);
        assert_int_equal(b.first[0], 0);
        for (int64_t i = 0; i < b.n; i++) {
            const struct sample *s = &b.samples[i];
            assert_int_equal(b.first[i + 1] - b.first[i], s->n_responses);
            most = s->n_responses > most ? s->n_responses : most;
            for (int j = 0; j < s->n_responses; j++) {
                assert_true(b.reference[b.first[i] + j] == sum_of(s->responses[j].id));
            }
        }
    }
    assert_int_equal(most, 4);
    batch_free(&b);
    assert_int_equal(sidecar_close(file), OK);
    view_close(v);
    dataset_close(d);
    mem_free(l);
}

static struct comm *world;

static int set_up(void **state) {
    static struct fixture fixture;
    fixture.c = world;
    world_folder(fixture.c, fixture.folder);
    snprintf(fixture.path, sizeof fixture.path, "%s/data.h5", fixture.folder);
    *state = &fixture;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *f = *state;
    world_folder_remove(f->c, f->folder);
    return 0;
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_bare),
        cmocka_unit_test(test_without_pairs),
        cmocka_unit_test(test_labeled),
        cmocka_unit_test(test_reference_of_lists),
    };
    if (comm_start(&argc, &argv, &world) != OK) {
        return 1;
    }
    int failed = cmocka_run_group_tests(tests, set_up, tear_down);
    comm_finish(world);
    return failed;
}
