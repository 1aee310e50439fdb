/* Truncation against a plain re-implementation on whole lists, and against cases worked out by hand. */
#include "tests/unit.h"

#include <stdlib.h>

#include "tests/plan_costs.h"
#include "tests/small_world.h"
#include "util/json.h"

enum { PROMPTS = 120, MOST = 512 };

struct fixture {
    struct comm *c;
    char folder[64];
    char path[96];
    bool masked; /* write_small: every third token is not trained */
};

/* Hand-made: one prompt 10..19; contents 100.., 200.., 300.. of 7, 3 and 12 tokens, each ended by 999; pairs
 * (0, 1) and (1, 2). Characters per token: 2, and 0 for every third (the rest of a character). */
static void write_small(struct fixture *f, int32_t end_id) {
    enum { N = 25 };
    int32_t prompt[10], tokens[N];
    uint8_t chars[N], trained[N];
    const int lengths[3] = {7, 3, 12};
    int64_t prompt_offsets[2] = {0, 10}, offsets[4] = {0}, prompts[3] = {0}, chosen[2] = {0, 1},
            rejected[2] = {1, 2};
    int32_t length_chars[3] = {0};
    for (int i = 0; i < 10; i++) {
        prompt[i] = 10 + i;
    }
    int at = 0;
    for (int r = 0; r < 3; r++) {
        for (int i = 0; i <= lengths[r]; i++, at++) {
            bool is_end = i == lengths[r];
            tokens[at] = is_end ? 999 : 100 * (r + 1) + i;
            chars[at] = is_end || i % 3 == 2 ? 0 : 2;
            trained[at] = at % 3 != 0;
            length_chars[r] += chars[at];
        }
        offsets[r + 1] = at;
    }
    struct dataset_part part = {.n_prompts = 1,
                                .n_responses = 3,
                                .n_pairs = 2,
                                .prompt_tokens = prompt,
                                .prompt_offsets = prompt_offsets,
                                .response_tokens = tokens,
                                .response_offsets = offsets,
                                .response_token_chars = chars,
                                .response_trained = f->masked ? trained : NULL,
                                .response_prompt = prompts,
                                .response_length_chars = length_chars,
                                .chosen = chosen,
                                .rejected = rejected};
    struct dataset_facts facts = world_facts();
    facts.end_id = end_id;
    assert_int_equal(at, N);
    assert_int_equal(dataset_write(f->c, f->path, &part, &facts), OK);
}

static void expect(const struct sample_response *r, int32_t first, int32_t content, int32_t end) {
    assert_int_equal(r->count, content + (end >= 0));
    for (int i = 0; i < content; i++) {
        assert_int_equal(r->tokens[i], first + i);
    }
    if (end >= 0) {
        assert_int_equal(r->tokens[content], end);
    }
}

/* One row of hand-made data: what must come out. */
struct hand_case {
    struct truncation t;
    int64_t row;
    int prompt_first, prompt_count; /* ids */
    int content[2], end[2];
};

static void test_by_hand(void **state) {
    struct fixture *f = *state;
    const struct hand_case cases[] = {
        /* Nothing cut: 10 + 7 + end, 10 + 3 + end. */
        {{.response_ratio = 1}, 0, 10, 10, {7, 3}, {999, 999}},
        /* Half: floor(3.5) = 3 and floor(1.5) = 1; the end token comes on top, or not. */
        {{.response_ratio = 0.5, .end_after_cut = true}, 0, 10, 10, {3, 1}, {999, 999}},
        {{.response_ratio = 0.5}, 0, 10, 10, {3, 1}, {-1, -1}},
        /* A tenth of 3 is nothing: one token stays. */
        {{.response_ratio = 0.1, .end_after_cut = true}, 1, 10, 10, {1, 1}, {999, 999}},
        /* At most 4: 7 + end becomes 3 + end or 4; 3 + end fits. */
        {{.response_ratio = 1, .max_response = 4, .end_after_cut = true}, 0, 10, 10, {3, 3}, {999, 999}},
        {{.response_ratio = 1, .max_response = 4}, 0, 10, 10, {4, 3}, {-1, 999}},
        /* Content fits but its end token does not. */
        {{.response_ratio = 1, .max_response = 3}, 0, 10, 10, {3, 3}, {-1, -1}},
        {{.response_ratio = 1, .max_response = 1, .end_after_cut = true}, 0, 10, 10, {1, 1}, {-1, -1}},
        /* 10 + 13 (the longest of the prompt's responses) fits in 23, not in 22: the prompt falls to 4. */
        {{.max_length = 23, .max_prompt = 4, .response_ratio = 1}, 0, 10, 10, {7, 3}, {999, 999}},
        {{.max_length = 22, .max_prompt = 4, .response_ratio = 1}, 0, 16, 4, {7, 3}, {999, 999}},
        {{.max_length = 22, .max_prompt = 4, .keep_start = true, .response_ratio = 1},
         1,
         10,
         4,
         {3, 12},
         {999, 999}},
        /* 4 + 8 and 4 + 13 in 10: responses fall to 6. */
        {{.max_length = 10, .max_prompt = 4, .response_ratio = 1, .end_after_cut = true},
         1,
         16,
         4,
         {3, 5},
         {999, 999}},
        {{.max_length = 10, .max_prompt = 4, .response_ratio = 1}, 1, 16, 4, {3, 6}, {999, -1}},
        /* max_prompt defaults to half; the ratio comes first: 12 * 0.25 = 3. */
        {{.max_length = 12, .response_ratio = 0.25, .end_after_cut = true}, 1, 14, 6, {1, 3}, {999, 999}},
        /* Characters: 2 2 0 2 2 0 2 = 10; a half is 5: 2 2 0, whose third token ends a character. */
        {{.response_ratio = 0.5, .unit = CUT_CHARS}, 0, 10, 10, {3, 1}, {-1, -1}},
        /* 8 of 10: 2 2 0 2 2 0. */
        {{.response_ratio = 0.8, .unit = CUT_CHARS, .end_after_cut = true}, 0, 10, 10, {6, 1}, {999, 999}},
    };
    write_small(f, 999);
    for (int i = 0; i < COUNT_OF(cases); i++) {
        const struct hand_case *k = &cases[i];
        struct dataset *d;
        struct view *v;
        struct sample *s;
        assert_int_equal(dataset_open(f->c, f->path, &d), OK);
        assert_int_equal(view_open(d, ROWS_PAIRS, &k->t, &v), OK);
        assert_int_equal(view_read(v, &k->row, 1, &s, NULL), OK);
        assert_int_equal(s->n_responses, 2);
        assert_int_equal(s->prompt_count, k->prompt_count);
        for (int j = 0; j < s->prompt_count; j++) {
            assert_int_equal(s->prompt[j], k->prompt_first + j);
        }
        for (int side = 0; side < 2; side++) {
            expect(&s->responses[side], 100 * ((int)k->row + side + 1), k->content[side], k->end[side]);
        }
        samples_free(s);
        view_close(v);
        dataset_close(d);
    }
}

static void expect_side(const json_t *side, const struct sample *s, int response) {
    const json_t *ids = json_array_get(side, 0), *mask = json_array_get(side, 1);
    const struct sample_response *r = &s->responses[response];
    assert_int_equal(json_array_size(ids), s->prompt_count + r->count);
    for (int i = 0; i < s->prompt_count + r->count; i++) {
        bool prompt = i < s->prompt_count;
        assert_int_equal(json_integer_value(json_array_get(mask, (size_t)i)), !prompt);
        assert_int_equal(json_integer_value(json_array_get(ids, (size_t)i)),
                         prompt ? s->prompt[i] : r->tokens[i - s->prompt_count]);
    }
}

/* What TRL's collator makes of the same rows (fixtures/make_trl_rows.py), whatever end_after_cut says; and
 * rows that are left out. */
static void test_trl(void **state) {
    struct fixture *f = *state;
    json_t *all, *rows;
    const char *length;
    write_small(f, 999);
    assert_int_equal(json_load(FIXTURES "/trl_rows.json", &all), OK);
    json_object_foreach(all, length, rows) {
        const struct truncation t = {
            .how = LENGTH_CUTS_ROW, .max_length = atoi(length), .response_ratio = 1, .end_after_cut = true};
        for (int64_t row = 0; row < 2; row++) {
            struct dataset *d;
            struct view *v;
            struct sample *s;
            assert_int_equal(dataset_open(f->c, f->path, &d), OK);
            assert_int_equal(view_open(d, ROWS_PAIRS, &t, &v), OK);
            assert_int_equal(view_read(v, &row, 1, &s, NULL), OK);
            for (int side = 0; side < 2; side++) {
                expect_side(json_array_get(json_array_get(rows, (size_t)row), (size_t)side), s, side);
            }
            samples_free(s);
            view_close(v);
            dataset_close(d);
        }
    }
    json_decref(all);
}

static void test_left_out(void **state) {
    struct fixture *f = *state;
    const struct {
        enum cut_length how;
        int32_t most;
        int64_t rows;
    } cases[] = {{LENGTH_CUTS_ROW, 10, 0},
                 {LENGTH_CUTS_ROW, 11, 2},
                 {LENGTH_DROPS_ROW, 23, 2},
                 {LENGTH_DROPS_ROW, 22, 1},
                 {LENGTH_DROPS_ROW, 17, 0}};
    write_small(f, 999);
    for (int i = 0; i < COUNT_OF(cases); i++) {
        const struct truncation t = {.how = cases[i].how, .max_length = cases[i].most, .response_ratio = 1};
        struct dataset *d;
        struct view *v;
        struct sample *s;
        int32_t cost;
        const int64_t row = 0;
        assert_int_equal(dataset_open(f->c, f->path, &d), OK);
        assert_int_equal(view_open(d, ROWS_PAIRS, &t, &v), OK);
        assert_int_equal(view_rows(v), cases[i].rows);
        assert_int_equal(view_left_out(v), 2 - cases[i].rows);
        if (cases[i].rows > 0) {
            assert_int_equal(view_read(v, &row, 1, &s, NULL), OK);
            assert_int_equal(view_costs(v, &row, 1, &cost), OK);
            assert_int_equal(cost, sample_tokens(s));
            samples_free(s);
        }
        view_close(v);
        dataset_close(d);
    }
}

static uint64_t read_masked(struct fixture *f, const struct truncation *t, int64_t row, struct sample **out) {
    struct dataset *d;
    struct view *v;
    assert_int_equal(dataset_open(f->c, f->path, &d), OK);
    assert_int_equal(dataset_size(d).has_trained, f->masked);
    assert_int_equal(view_open(d, ROWS_PAIRS, t, &v), OK);
    assert_int_equal(view_read(v, &row, 1, out, NULL), OK);
    uint64_t hash = dataset_hash(d);
    view_close(v);
    dataset_close(d);
    return hash;
}

/* What is trained goes with its tokens through a cut; an end token that is put back is like what it ends.
 * Tokens of the file: 8, 4, 13; those at 0, 3, 6, … are not trained. */
static void test_trained(void **state) {
    struct fixture *f = *state;
    const struct truncation whole = {.response_ratio = 1};
    const struct truncation half = {.response_ratio = 0.5, .end_after_cut = true};
    const uint8_t first[] = {0, 1, 1, 0, 1, 1, 0, 1}, second[] = {1, 0, 1, 1};
    const uint8_t first_half[] = {0, 1, 1, 1}, second_half[] = {1, 1};
    struct sample *s;
    f->masked = true;
    write_small(f, 999);
    uint64_t masked = read_masked(f, &whole, 0, &s);
    assert_memory_equal(s->responses[0].trained, first, sizeof first);
    assert_memory_equal(s->responses[1].trained, second, sizeof second);
    assert_int_equal(sample_scored(s, 0), 5);
    assert_int_equal(sample_scored(s, 1), 3);
    uint64_t hash = sample_hash(s, 0);
    s->prompt_count = 0; /* then the first token has no predictor */
    assert_int_equal(sample_scored(s, 0), 5);
    assert_int_equal(sample_scored(s, 1), 2);
    samples_free(s);
    read_masked(f, &half, 0, &s);
    assert_int_equal(s->responses[0].count, sizeof first_half);
    assert_memory_equal(s->responses[0].trained, first_half, sizeof first_half);
    assert_memory_equal(s->responses[1].trained, second_half, sizeof second_half);
    samples_free(s);
    f->masked = false;
    write_small(f, 999);
    assert_true(read_masked(f, &whole, 0, &s) != masked);
    assert_null(s->responses[0].trained);
    assert_int_equal(sample_scored(s, 0), 8);
    assert_true(sample_hash(s, 0) != hash);
    samples_free(s);
}

/* A file whose policy has no end token: the last token is content like any other. */
static void test_without_end_policy(void **state) {
    struct fixture *f = *state;
    struct dataset *d;
    struct view *v;
    struct sample *s;
    struct cut_counts counts = {0};
    const struct truncation t = {.response_ratio = 0.5, .end_after_cut = true};
    const int64_t rows[3] = {0, 1, 2};
    write_small(f, -1);
    assert_int_equal(dataset_open(f->c, f->path, &d), OK);
    assert_int_equal(view_open(d, ROWS_RESPONSES, &t, &v), OK);
    assert_int_equal(view_rows(v), 3);
    assert_int_equal(view_read(v, rows, 3, &s, &counts), OK);
    expect(&s[0].responses[0], 100, 4, -1);
    expect(&s[1].responses[0], 200, 2, -1);
    expect(&s[2].responses[0], 300, 6, -1);
    assert_int_equal(counts.rows, 3);
    assert_int_equal(counts.responses_cut, 3);
    assert_int_equal(counts.without_end, 0);
    samples_free(s);
    view_close(v);
    dataset_close(d);
}

/* The plain way: whole lists, cut one after the other. */
struct list {
    int32_t token[MOST];
    int count;
};

static struct list plain_response(const struct dataset_part *p, int64_t id, const struct truncation *t,
                                  bool *ended) {
    struct list out = {0};
    int64_t first = p->response_offsets[id],
            last = p->response_offsets[id + 1] - 1; /* the end token lies at last */
    double whole = t->unit == CUT_CHARS ? p->response_length_chars[id] : (double)(last - first);
    double share = floor(whole * t->response_ratio), used = 0;
    share = share < 1 ? 1 : share;
    *ended = true;
    for (int64_t i = first; i < last; i++) {
        used += t->unit == CUT_CHARS ? p->response_token_chars[i] : 1;
        if (t->response_ratio < 1 && used > share && out.count > 0) {
            *ended = t->end_after_cut;
            break;
        }
        out.token[out.count++] = p->response_tokens[i];
    }
    return out;
}

static void plain_limit(struct list *l, bool *ended, int limit, bool end_after_cut) {
    if (l->count + *ended > limit) {
        *ended = end_after_cut && limit > 1;
        int room = limit - *ended;
        l->count = l->count < room ? l->count : room;
    }
}

static struct list plain_step1(const struct dataset_part *p, int64_t id, const struct truncation *t,
                               bool *ended) {
    struct list l = plain_response(p, id, t, ended);
    if (t->max_response) {
        plain_limit(&l, ended, t->max_response, t->end_after_cut);
    }
    return l;
}

static void plain_row(const struct dataset_part *p, const int64_t *ids, int n, const struct truncation *t,
                      struct list out[3]) {
    int64_t prompt = p->response_prompt[ids[0]];
    int64_t first = p->prompt_offsets[prompt], count = p->prompt_offsets[prompt + 1] - first;
    int longest = 0, max_prompt = t->max_prompt ? t->max_prompt : t->max_length / 2;
    bool ended[2];
    for (int i = 0; i < n; i++) {
        out[i + 1] = plain_step1(p, ids[i], t, &ended[i]);
        int total = out[i + 1].count + ended[i];
        longest = total > longest ? total : longest;
    }
    if (t->max_length && count + longest > t->max_length && count > max_prompt) {
        first += t->keep_start ? 0 : count - max_prompt;
        count = max_prompt;
    }
    out[0].count = (int)count;
    memcpy(out[0].token, p->prompt_tokens + first, (size_t)count * 4);
    for (int i = 0; i < n; i++) {
        if (t->max_length) {
            plain_limit(&out[i + 1], &ended[i], t->max_length - (int)count, t->end_after_cut);
        }
        if (ended[i]) {
            out[i + 1].token[out[i + 1].count++] = WORLD_END;
        }
    }
}

static void same_list(const int32_t *tokens, int32_t count, const struct list *l) {
    assert_int_equal(count, l->count);
    assert_memory_equal(tokens, l->token, (size_t)count * 4);
}

static struct truncation draw_truncation(int64_t i) {
    const double ratios[] = {1, 0.9, 0.5, 0.33, 0.05};
    struct truncation t = {.response_ratio = ratios[world_draw(20, i, 5)],
                           .unit = world_draw(21, i, 2) ? CUT_CHARS : CUT_TOKENS,
                           .keep_start = world_draw(22, i, 2),
                           .end_after_cut = world_draw(23, i, 2)};
    t.max_response = world_draw(24, i, 2) ? 0 : 1 + (int32_t)world_draw(25, i, 60);
    t.max_length = world_draw(26, i, 3) == 0 ? 0 : 2 + (int32_t)world_draw(27, i, 120);
    t.max_prompt = t.max_length && world_draw(28, i, 2) ? (int32_t)world_draw(29, i, t.max_length) : 0;
    return t;
}

static void compare_rows(struct view *v, enum row_kind kind, const struct dataset_part *p,
                         const struct truncation *t) {
    int64_t n = view_rows(v), tokens = 0;
    int64_t *rows = world_array(n, 8);
    int32_t *cost = world_array(n, 4);
    struct sample *samples;
    struct cut_counts counts = {0};
    for (int64_t i = 0; i < n; i++) {
        rows[i] = (7 * i) % n;
    }
    assert_int_equal(view_costs(v, rows, n, cost), OK);
    assert_int_equal(view_read(v, rows, n, &samples, &counts), OK);
    assert_int_equal(counts.rows, n);
    int64_t without_end = 0;
    for (int64_t i = 0; i < n; i++) {
        struct list expected[3];
        int64_t ids[2] = {rows[i], 0};
        if (kind != ROWS_RESPONSES) {
            ids[0] = p->chosen[rows[i]];
            ids[1] = p->rejected[rows[i]];
            assert_int_equal(samples[i].n_pairs, kind == ROWS_PAIRS);
        }
        if (kind == ROWS_PAIRS) {
            assert_int_equal(samples[i].pairs[0].source, p->pair_source[rows[i]]);
            assert_int_equal(samples[i].pairs[0].label, p->label[rows[i]]);
        }
        plain_row(p, ids, samples[i].n_responses, t, expected);
        assert_int_equal(samples[i].row, rows[i]);
        same_list(samples[i].prompt, samples[i].prompt_count, &expected[0]);
        tokens = samples[i].prompt_count;
        for (int j = 0; j < samples[i].n_responses; j++) {
            const struct sample_response *r = &samples[i].responses[j];
            assert_int_equal(r->id, ids[j]);
            same_list(r->tokens, r->count, &expected[j + 1]);
            assert_true(r->count >= 1);
            assert_true(!t->max_length || samples[i].prompt_count + r->count <= t->max_length);
            without_end += r->tokens[r->count - 1] != WORLD_END;
            tokens += r->count;
        }
        assert_int_equal(cost[i], tokens);
    }
    assert_int_equal(counts.without_end, without_end);
    assert_int_equal(counts.empty_dropped, 0);
    samples_free(samples);
    mem_free(rows);
    mem_free(cost);
}

static void test_against_plain(void **state) {
    struct fixture *f = *state;
    struct dataset_part part = world_part(0, PROMPTS);
    struct dataset_facts facts = world_facts();
    struct dataset *d;
    assert_int_equal(dataset_write(f->c, f->path, &part, &facts), OK);
    assert_int_equal(dataset_open(f->c, f->path, &d), OK);
    for (int i = 0; i < 150; i++) {
        const enum row_kind kinds[] = {ROWS_PAIRS, ROWS_CHOSEN, ROWS_RESPONSES};
        struct truncation t = draw_truncation(i);
        struct view *v;
        assert_int_equal(view_open(d, kinds[i % 3], &t, &v), OK);
        compare_rows(v, kinds[i % 3], &part, &t);
        view_close(v);
    }
    dataset_close(d);
    world_part_free(&part);
}

static uint64_t hash_with(struct dataset *d, enum row_kind kind, struct truncation t) {
    struct view *v;
    assert_int_equal(view_open(d, kind, &t, &v), OK);
    uint64_t hash = view_hash(v);
    view_close(v);
    return hash;
}

static void test_hash_and_refusals(void **state) {
    struct fixture *f = *state;
    struct dataset *d;
    struct view *v;
    write_small(f, 999);
    assert_int_equal(dataset_open(f->c, f->path, &d), OK);
    uint64_t whole = hash_with(d, ROWS_PAIRS, (struct truncation){.response_ratio = 1});
    /* What has no effect does not change the hash; what has, does. */
    assert_int_equal(
        whole,
        hash_with(d, ROWS_RESPONSES,
                  (struct truncation){
                      .response_ratio = 1, .unit = CUT_CHARS, .keep_start = true, .end_after_cut = true}));
    const struct truncation others[] = {{.response_ratio = 0.5},
                                        {.response_ratio = 0.5, .unit = CUT_CHARS},
                                        {.response_ratio = 0.5, .end_after_cut = true},
                                        {.response_ratio = 1, .max_response = 5},
                                        {.response_ratio = 1, .max_length = 20},
                                        {.response_ratio = 1, .max_length = 20, .keep_start = true},
                                        {.response_ratio = 1, .max_length = 20, .max_prompt = 3}};
    for (int i = 0; i < COUNT_OF(others); i++) {
        assert_int_not_equal(whole, hash_with(d, ROWS_PAIRS, others[i]));
        for (int j = 0; j < i; j++) {
            assert_int_not_equal(hash_with(d, ROWS_PAIRS, others[i]), hash_with(d, ROWS_PAIRS, others[j]));
        }
    }
    const struct truncation bad[] = {{.response_ratio = 0},
                                     {.response_ratio = 1.5},
                                     {.response_ratio = NAN},
                                     {.response_ratio = 1, .max_length = 8, .max_prompt = 8},
                                     {.response_ratio = 1, .max_length = 1}};
    for (int i = 0; i < COUNT_OF(bad); i++) {
        assert_int_equal(view_open(d, ROWS_PAIRS, &bad[i], &v), ERR_USAGE);
    }
    dataset_close(d);
}

static void test_pairs_that_do_not_fit(void **state) {
    struct fixture *f = *state;
    struct dataset_part part = world_part(0, 30);
    struct dataset_facts facts = world_facts();
    struct dataset *d;
    struct view *v;
    struct sample *s;
    const struct truncation t = {.response_ratio = 1};
    const int64_t row = 1, beyond = part.n_pairs;
    part.rejected[1] = 0; /* another prompt's response */
    part.response_token_chars = NULL;
    assert_int_equal(dataset_write(f->c, f->path, &part, &facts), OK);
    assert_int_equal(dataset_open(f->c, f->path, &d), OK);
    assert_int_equal(view_open(d, ROWS_PAIRS, &t, &v), OK);
    assert_int_equal(view_read(v, &row, 1, &s, NULL), ERR_DATA);
    assert_non_null(strstr(status_message()->text, "different prompts"));
    assert_int_equal(view_read(v, &beyond, 1, &s, NULL), ERR_DATA);
    view_close(v);
    assert_int_equal(
        view_open(d, ROWS_PAIRS, &(struct truncation){.response_ratio = 0.5, .unit = CUT_CHARS}, &v),
        ERR_USAGE);
    dataset_close(d);
    part.n_pairs = 0;
    assert_int_equal(dataset_write(f->c, f->path, &part, &facts), OK);
    assert_int_equal(dataset_open(f->c, f->path, &d), OK);
    assert_int_equal(view_open(d, ROWS_PAIRS, &t, &v), ERR_DATA);
    assert_int_equal(view_open(d, ROWS_CHOSEN, &t, &v), OK); /* all responses */
    assert_int_equal(view_rows(v), part.n_responses);
    view_close(v);
    dataset_close(d);
}

/* Pairs whose sides are the same, as given and after a cut: counted, not dropped. */
static void test_alike(void **state) {
    struct fixture *f = *state;
    int32_t prompt[] = {1};
    int32_t tokens[] = {5, 6, 7, 5, 6, 7, 5, 6, 8, 9, 4, 6, 7};
    int64_t prompt_offsets[] = {0, 1}, offsets[] = {0, 3, 6, 10, 13}, prompts[4] = {0};
    int64_t chosen[] = {0, 0, 0}, rejected[] = {1, 2, 3};
    int32_t length_chars[4] = {0};
    struct dataset_part part = {.n_prompts = 1,
                                .n_responses = 4,
                                .n_pairs = 3,
                                .prompt_tokens = prompt,
                                .prompt_offsets = prompt_offsets,
                                .response_tokens = tokens,
                                .response_offsets = offsets,
                                .response_prompt = prompts,
                                .response_length_chars = length_chars,
                                .chosen = chosen,
                                .rejected = rejected};
    struct dataset_facts facts = world_facts();
    facts.end_id = -1;
    assert_int_equal(dataset_write(f->c, f->path, &part, &facts), OK);
    const int64_t want[2][2] = {{1, 0}, {2, 2}}; /* alike and cut: whole, and of two tokens each */
    for (int cut = 0; cut < 2; cut++) {
        struct dataset *d;
        struct view *v;
        struct sample *samples;
        struct cut_counts counts = {0};
        const struct truncation t = {.response_ratio = 1, .max_response = 2 * cut};
        assert_int_equal(dataset_open(f->c, f->path, &d), OK);
        assert_int_equal(view_open(d, ROWS_PAIRS, &t, &v), OK);
        assert_int_equal(view_read_range(v, (struct range){0, 3}, &samples, &counts), OK);
        assert_int_equal(counts.pairs, 3);
        assert_int_equal(counts.alike, want[cut][0]);
        assert_int_equal(counts.alike_cut, want[cut][1]);
        samples_free(samples);
        view_close(v);
        dataset_close(d);
    }
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
        cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_trl),
        cmocka_unit_test(test_left_out),
        cmocka_unit_test(test_trained),
        cmocka_unit_test(test_without_end_policy),
        cmocka_unit_test(test_against_plain),
        cmocka_unit_test(test_hash_and_refusals),
        cmocka_unit_test(test_pairs_that_do_not_fit),
        cmocka_unit_test(test_alike),
    };
    if (comm_start(&argc, &argv, &world) != OK) {
        return 1;
    }
    int failed = cmocka_run_group_tests(tests, set_up, tear_down);
    comm_finish(world);
    return failed;
}
