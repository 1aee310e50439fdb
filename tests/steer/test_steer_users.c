/* Users' updates and conditional accuracies, on any ranks: whose rows an update has and whose side of them is
 * chosen, which choices are told, what is refused; accuracies beside plain scores of one pair after another.
 */
#include "steer/conditional.h"
#include "steer/steer_source.h"
#include "store/model_folder.h"
#include "tests/small_world.h"

enum {
    PAIRS = 12,
    LABELS = 3,
    TOKENS = 5,
    VOCABULARY = 97,
    WIDTH = 4,
    HIDDEN = 6,
    USERS = 3,
    TARGETS = 4,
    STEPS = 24,
    DRAWS = 3
};

/* Pair p: responses 2p and 2p + 1 to prompt p; the first file's user prefers the second one where p is odd.
 */
static void write_pairs(struct comm *c, const char *path) {
    static int32_t prompt_tokens[PAIRS * TOKENS], response_tokens[PAIRS * 2 * TOKENS], chars[PAIRS * 2];
    static int64_t prompt_offsets[PAIRS + 1], response_offsets[PAIRS * 2 + 1], prompt[PAIRS * 2];
    static int64_t chosen[PAIRS], rejected[PAIRS];
    static int8_t label[PAIRS];
    struct dataset_facts facts = world_facts();
    struct dataset_part part = {.prompt_tokens = prompt_tokens,
                                .prompt_offsets = prompt_offsets,
                                .response_tokens = response_tokens,
                                .response_offsets = response_offsets,
                                .response_prompt = prompt,
                                .response_length_chars = chars,
                                .chosen = chosen,
                                .rejected = rejected,
                                .label = label};
    for (int64_t r = 0; r < PAIRS * 2 && c->rank == 0; r++) {
        prompt[r] = r / 2;
        response_offsets[r + 1] = response_offsets[r] + 2 + r % 4;
        for (int64_t t = response_offsets[r]; t < response_offsets[r + 1]; t++) {
            response_tokens[t] = (int32_t)world_draw(12, t, VOCABULARY);
        }
    }
    for (int64_t p = 0; p < PAIRS && c->rank == 0; p++) {
        prompt_offsets[p + 1] = prompt_offsets[p] + TOKENS;
        for (int64_t t = prompt_offsets[p]; t < prompt_offsets[p + 1]; t++) {
            prompt_tokens[t] = (int32_t)world_draw(11, t, VOCABULARY);
        }
        chosen[p] = 2 * p + p % 2;
        rejected[p] = 2 * p + 1 - p % 2;
        label[p] = 1;
        part.n_prompts = part.n_pairs = p + 1;
        part.n_responses = 2 * (p + 1);
    }
    facts.vocabulary = VOCABULARY;
    facts.end_id = -1;
    CHECK(dataset_write(c, path, &part, &facts) == OK);
}

/* Options are told apart by their rows: a and b by turns the first response. The second user disagrees with
 * the first one on pairs that are no multiple of 3, the third one on those that are 1 or 2 modulo 4. */
static void make_world(struct world *w) {
    *w =
        (struct world){.rows = PAIRS * 2, .width = WIDTH, .pairs = PAIRS, .labels = LABELS, .n_train = PAIRS};
    w->values = world_array(PAIRS * 2 * WIDTH, sizeof *w->values);
    w->a = world_array(PAIRS, sizeof *w->a);
    w->b = world_array(PAIRS, sizeof *w->b);
    w->first = world_array(PAIRS, sizeof *w->first);
    w->train = world_array(PAIRS, sizeof *w->train);
    w->choices = world_array(LABELS * PAIRS, sizeof *w->choices);
    struct rng r = rng_stream(3, RNG_CHECK, 0, 0);
    for (int64_t i = 0; i < PAIRS * 2 * WIDTH; i++) {
        w->values[i] = (float)rng_normal(&r);
    }
    for (int64_t p = 0; p < PAIRS; p++) {
        bool turned = p % 3 == 1;
        w->a[p] = 2 * p + turned;
        w->b[p] = 2 * p + !turned;
        w->first[p] = w->train[p] = p;
        bool second = p % 2 == 1; /* is better */
        w->choices[p] = second != turned;
        w->choices[PAIRS + p] = w->choices[p] ^ (p % 3 != 0);
        w->choices[2 * PAIRS + p] = w->choices[p] ^ (p % 4 == 1 || p % 4 == 2);
    }
}

static int64_t preferred(const struct world *w, int64_t label, int64_t pair) {
    return w->choices[label * PAIRS + pair] ? w->b[pair] : w->a[pair];
}

static struct batch_source rows_of(struct comm *c, struct view *v) {
    return (struct batch_source){
        .view = v,
        .plan = {.rows = PAIRS, .batch = USERS * TARGETS, .slots = 4, .micro_tokens = 64, .seed = 1},
        .rank = c->rank,
        .size = c->size};
}
static const struct steer_options drawn = {
    .users = USERS, .targets = TARGETS, .context_min = 1, .context_max = 3, .seed = 5, .task_seed = 42};

static int place_of(const int64_t *pairs, int64_t pair) {
    for (int i = 0; i < TARGETS; i++) {
        if (pairs[i] == pair) {
            return i;
        }
    }
    return -1;
}

/* Every pair of every user on one rank, the user's own choice first. */
static void check_rows(struct comm *c, const struct world *w, const struct batch *b, const int64_t *labels,
                       const int64_t *pairs) {
    int64_t seen[USERS * TARGETS] = {0}, missing = 0, wrong = 0;
    for (int64_t i = 0; i < b->n; i++) {
        const struct sample *s = &b->samples[i];
        int64_t pair = s->pairs[0].row;
        int at = place_of(pairs + s->user * TARGETS, pair);
        CHECK(at >= 0 && s->user >= 0 && s->user < USERS);
        seen[s->user * TARGETS + (at < 0 ? 0 : at)]++;
        wrong += s->responses[s->pairs[0].chosen].id != preferred(w, labels[s->user], pair);
        wrong += s->responses[s->pairs[0].rejected].id != 4 * pair + 1 - preferred(w, labels[s->user], pair);
    }
    CHECK(comm_sum_i64(c, seen, USERS * TARGETS) == OK);
    for (int i = 0; i < USERS * TARGETS; i++) {
        missing += seen[i] != 1;
    }
    CHECK(missing == 0 && wrong == 0);
}

/* Choices are of the user's own pairs, none twice, at the same places for all users, preferred before other.
 */
static void check_choices(const struct world *w, const struct batch_users *u, const int64_t *labels,
                          const int64_t *pairs) {
    int64_t wrong = 0;
    CHECK(u->n == USERS && u->width == WIDTH && u->choices >= 1 && u->choices <= 3);
    for (int64_t k = 0; k < u->choices; k++) {
        int at[USERS];
        for (int64_t user = 0; user < USERS; user++) {
            const float *told = u->pairs + (user * u->choices + k) * 2 * WIDTH;
            at[user] = -1;
            for (int i = 0; i < TARGETS; i++) {
                int64_t pair = pairs[user * TARGETS + i], best = preferred(w, labels[user], pair);
                bool is = memcmp(told, w->values + best * WIDTH, WIDTH * sizeof *told) == 0 &&
                          memcmp(told + WIDTH, w->values + (4 * pair + 1 - best) * WIDTH,
                                 WIDTH * sizeof *told) == 0;
                at[user] = is ? i : at[user];
            }
            wrong += at[user] < 0 || at[user] != at[0];
            for (int64_t other = 0; other < k; other++) {
                wrong += memcmp(told, u->pairs + (user * u->choices + other) * 2 * WIDTH,
                                2 * WIDTH * sizeof *told) == 0;
            }
        }
    }
    CHECK(wrong == 0);
}

static void test_updates(struct comm *c, const struct world *w, struct view *v) {
    const struct batch_source rows = rows_of(c, v);
    struct steer_source source;
    struct tasks tasks;
    struct batch b = {0}, again = {0};
    bool counts[4] = {0};
    CHECK(steer_source_open(&rows, w, &drawn, &source) == OK);
    CHECK(tasks_open(w, false, TARGETS, 42, &tasks) == OK);
    for (int64_t step = 0; step < STEPS; step++) {
        int64_t labels[USERS], pairs[USERS * TARGETS];
        for (int64_t user = 0; user < USERS; user++) {
            labels[user] = tasks_next(&tasks, 0);
            memcpy(pairs + user * TARGETS, tasks.chosen, TARGETS * sizeof *pairs);
        }
        CHECK(steer_source_read(&source, step, &b) == OK);
        check_rows(c, w, &b, labels, pairs);
        check_choices(w, &b.users, labels, pairs);
        counts[b.users.choices & 3] = true;
    }
    CHECK(!counts[0] && counts[1] && counts[2] && counts[3]);
    CHECK(steer_source_read(&source, 2, &again) == OK); /* back, and on again */
    CHECK(steer_source_read(&source, STEPS - 1, &again) == OK);
    CHECK(again.n == b.n && again.users.choices == b.users.choices);
    CHECK(memcmp(again.users.pairs, b.users.pairs,
                 (size_t)(USERS * b.users.choices * 2 * WIDTH) * sizeof *b.users.pairs) == 0);
    for (int64_t i = 0; i < b.n && i < again.n; i++) {
        CHECK(again.samples[i].user == b.samples[i].user && again.samples[i].row == b.samples[i].row);
    }
    batch_free(&b);
    batch_free(&again);
    tasks_close(&tasks);
    steer_source_close(&source);
}

/* A pair that all users agree on keeps its margin, one that is turned has none; without choices nothing is
 * told. */
static void test_turning(struct comm *c, const struct world *w, struct view *v) {
    struct sample *s;
    int64_t rows[] = {4, 4, 0};
    (void)c;
    CHECK(view_read(v, rows, 3, &s, NULL) == OK);
    s[0].pairs->margin = s[2].pairs->margin = 0.5F;
    steer_turn(w, 1, 4, &s[0]);
    CHECK(s[0].responses[0].id == s[1].responses[1].id && s[0].responses[1].id == s[1].responses[0].id);
    CHECK(isnan(s[0].pairs->margin));
    steer_turn(w, 1, 0, &s[2]);
    CHECK(s[2].responses[0].id == 0 && s[2].pairs->margin == 0.5F);
    samples_free(s);
}

static void refused(const struct batch_source *rows, const struct world *w, struct steer_options o,
                    enum status code, const char *words) {
    struct steer_source source;
    CHECK(steer_source_open(rows, w, &o, &source) == code);
    CHECK(strstr(status_message()->text, words));
    status_clear();
}

static void test_refusals(struct comm *c, struct dataset *d, const struct world *w, struct view *v) {
    const struct truncation short_rows = {
        .response_ratio = 1, .how = LENGTH_DROPS_ROW, .max_length = TOKENS + 4};
    struct batch_source rows = rows_of(c, v);
    struct steer_options o = drawn;
    struct view *part;
    o.context_max = TARGETS + 1;
    refused(&rows, w, o, ERR_USAGE, "a user's steer.targets=4 pairs");
    o.context_max = 0;
    refused(&rows, w, o, ERR_USAGE, "steer.context_min=1, steer.context_max=0");
    o = drawn;
    o.targets = PAIRS + 1;
    refused(&rows, w, o, ERR_DATA, "needs 13 pairs");
    CHECK(view_open(d, ROWS_LABELED, &short_rows, &part) == OK);
    rows = rows_of(c, part);
    refused(&rows, w, drawn, ERR_DATA, "6 of 12 pairs that all users have are left out");
    view_close(part);
}

/* A policy of random adapters and steering on a model, whose reference is the bare model. */
struct policy {
    struct model *model;
    struct lora *lora;
    struct steering steering;
    struct workspace workspaces[2];
    struct scorer own, reference;
};

static void open_policy(struct comm *c, struct backend *b, struct policy *p) {
    const struct model_folder_options options = {.kind = ARENA_FROZEN};
    const struct steering_shape shape = {.width = WIDTH, .hidden = HIDDEN, .heads = 2, .layers = 2};
    const struct steering_training t = {.deviation = 0.3, .rate = 1, .users = LABELS};
    struct lora_layout layout = {0};
    *p = (struct policy){0};
    CHECK(model_folder_open(c, b, FIXTURES "/models/llama", &options, &p->model) == OK);
    CHECK(steering_open(&shape, 3, &p->steering) == OK);
    CHECK(steering_lay_out(&p->steering, &t, &layout) == OK);
    CHECK(lora_open(p->model, &layout, ARENA_TRAINED, 0, &p->lora) == OK);
    lora_layout_free(&layout);
    steering_bind(&p->steering, lora_arena(p->lora));
    struct arena *a = lora_arena(p->lora);
    struct rng r = rng_stream(5, RNG_CHECK, 0, 0);
    for (int64_t i = 0; i < a->elements; i++) {
        double value = 0.5 * rng_normal(&r);
        CHECK(backend_write_doubles(b, tensor_columns(a->master, i, 1), &value) == OK);
    }
    CHECK(arena_refresh(a) == OK);
    for (int i = 0; i < 2; i++) {
        CHECK(workspace_open(b, 16 << 20, &p->workspaces[i]) == OK);
        CHECK(scorer_open(p->model, &p->workspaces[i], KEEP_NOTHING, i ? &p->reference : &p->own) == OK);
    }
}

static void close_policy(struct policy *p) {
    scorer_close(&p->own);
    scorer_close(&p->reference);
    workspace_close(&p->workspaces[0]);
    workspace_close(&p->workspaces[1]);
    steering_close(&p->steering);
    model_close(p->model);
}

static void turn(void *context, bool to_reference) {
    struct policy *p = context;
    lora_use(p->model, to_reference ? NULL : p->lora);
}

static double margin_of(struct scorer *s, const struct sample *sample) {
    CHECK(scorer_run(s, sample, 1) == OK);
    return s->scores[sample->pairs[0].chosen].logp - s->scores[sample->pairs[0].rejected].logp;
}

/* Implicit rewards of the first file's chosen above its rejected, pair by pair, for a user with these
 * choices. */
static void plain_margins(struct policy *p, const struct world *w, struct view *v, int64_t label,
                          const int64_t *told, int64_t k, double *margins) {
    float choices[2 * WIDTH];
    steer_choices(w, label, told, k, choices);
    CHECK(steering_encode(&p->steering, 1, k, choices, NULL) == OK);
    scorer_condition(&p->own, &p->steering.condition);
    for (int64_t i = 0; i < PAIRS; i++) {
        struct sample *s;
        CHECK(view_read(v, &i, 1, &s, NULL) == OK);
        s->user = 0;
        turn(p, true);
        margins[i] = -margin_of(&p->reference, s);
        turn(p, false);
        margins[i] += margin_of(&p->own, s);
        CHECK(fabs(margins[i]) > 1e-4); /* no sign hangs on rounding */
        samples_free(s);
    }
}

/* Share of a user's pairs but `without` that the margins have right. */
static double plain_accuracy(const struct world *w, int64_t label, const double *margins, int64_t without,
                             bool conflicting) {
    double right = 0, n = 0;
    for (int64_t i = 0; i < PAIRS; i++) {
        bool conflicts = w->choices[i] != w->choices[PAIRS + i] || w->choices[i] != w->choices[2 * PAIRS + i];
        bool as_first = w->choices[label * PAIRS + i] == w->choices[i];
        if (i != without && (conflicts || !conflicting)) {
            right += (margins[i] > 0) == as_first;
            n++;
        }
    }
    return right / n;
}

static double found(const struct conditional *r, int count, int64_t label, enum conditional_pairs kind) {
    return ratios_value(&r->ratios, conditional_at(r, count, label, kind));
}

/* All pairs but the choice are targets, so that a draw's numbers are those of one pair as the choice. */
static void check_told(struct policy *p, const struct world *w, struct view *v, const struct conditional *r) {
    int64_t fits = 0, differs = 0;
    for (int64_t told = 0; told < PAIRS; told++) {
        double off = 0;
        for (int64_t label = 0; label < LABELS; label++) {
            double margins[PAIRS];
            plain_margins(p, w, v, label, &told, 1, margins);
            for (int kind = PAIRS_ALL; kind < PAIRS_KINDS; kind++) {
                double want = plain_accuracy(w, label, margins, told, kind == PAIRS_CONFLICTING);
                off = fmax(off, fabs(want - found(r, 1, label, (enum conditional_pairs)kind)));
            }
        }
        fits += off < 1e-12;
        differs += off > 1e-3;
    }
    CHECK(fits >= 1 && differs >= 1);
}

static void check_untold(struct policy *p, const struct world *w, struct view *v, const struct conditional *r,
                         double *sum) {
    double margins[PAIRS];
    *sum = 0;
    plain_margins(p, w, v, 0, NULL, 0, margins);
    for (int64_t label = 0; label < LABELS; label++) {
        for (int kind = PAIRS_ALL; kind < PAIRS_KINDS; kind++) {
            double want = plain_accuracy(w, label, margins, -1, kind == PAIRS_CONFLICTING);
            CHECK(fabs(want - found(r, 0, label, (enum conditional_pairs)kind)) < 1e-12);
        }
        *sum += plain_accuracy(w, label, margins, -1, true);
    }
}

static void test_accuracies(struct comm *c, struct policy *p, struct world *w, struct view *v) {
    struct conditional r;
    double sum, printed;
    struct conditional_options o = {.comm = c,
                                    .world = w,
                                    .view = v,
                                    .steering = &p->steering,
                                    .policy = &p->own,
                                    .reference = &p->reference,
                                    .turn = turn,
                                    .turn_context = p,
                                    .draws = 1,
                                    .targets = PAIRS - 1,
                                    .counts = {0, 1},
                                    .n_counts = 2,
                                    .micro_tokens = 24,
                                    .seed = 9,
                                    .task_seed = 42};
    CHECK(conditional_run(&o, &r) == OK);
    CHECK(ratios_rows(&r.ratios, conditional_at(&r, 1, 0, PAIRS_ALL)) == PAIRS - 1);
    check_told(p, w, v, &r);
    conditional_close(&r);
    o.targets = PAIRS;
    CHECK(conditional_run(&o, &r) == ERR_DATA); /* none is left for a choice */
    status_clear();
    conditional_close(&r);
    o.n_counts = 1;
    o.draws = DRAWS;
    CHECK(conditional_run(&o, &r) == OK);
    check_untold(p, w, v, &r, &sum);
    CHECK(fabs(found(&r, 0, LABELS, PAIRS_CONFLICTING) - sum) < 1e-12);
    CHECK(ratios_rows(&r.ratios, conditional_at(&r, 0, 1, PAIRS_ALL)) == DRAWS * PAIRS);
    static const char *const names[] = {"one", "two", "three"};
    struct text line = {0};
    CHECK(conditional_print(&r, names, &line) == OK);
    static const char before[] = "\"sum\": [{\"choices\": 0, \"all\": {\"value\": ";
    const char *at = line.data ? strstr(line.data, before) : NULL;
    CHECK(at && sscanf(at + strlen(before), "%lf", &printed) == 1);
    CHECK(at && fabs(printed - found(&r, 0, LABELS, PAIRS_ALL)) < 1e-9);
    text_free(&line);
    conditional_close(&r);
}

/* Told nothing, a policy has 100 % of two users who differ everywhere; so has one that follows nobody. */
static void test_two(struct comm *c, struct policy *p, struct world *w, struct view *v) {
    struct conditional r;
    w->labels = 2;
    for (int64_t i = 0; i < PAIRS; i++) {
        w->choices[PAIRS + i] = !w->choices[i];
    }
    struct conditional_options o = {.comm = c,
                                    .world = w,
                                    .view = v,
                                    .policy = &p->own,
                                    .reference = &p->reference,
                                    .turn = turn,
                                    .turn_context = p,
                                    .draws = DRAWS,
                                    .targets = 5,
                                    .counts = {3},
                                    .n_counts = 1,
                                    .micro_tokens = 64,
                                    .task_seed = 42};
    CHECK(steering_encode(&p->steering, 2, 0, NULL, NULL) == OK);
    scorer_condition(&p->own, &p->steering.condition);
    CHECK(conditional_run(&o, &r) == OK);
    CHECK(r.counts[0] == 0 && fabs(found(&r, 0, 2, PAIRS_CONFLICTING) - 1) < 1e-12);
    conditional_close(&r);
    w->labels = LABELS;
}

static void run(struct comm *c, struct backend *b, const char *folder) {
    const struct truncation whole = {.response_ratio = 1};
    char path[128];
    struct dataset *d;
    struct view *v;
    struct world w;
    struct policy p;
    snprintf(path, sizeof path, "%s/pairs.h5", folder);
    write_pairs(c, path);
    CHECK(dataset_open(c, path, &d) == OK);
    CHECK(view_open(d, ROWS_LABELED, &whole, &v) == OK);
    make_world(&w);
    test_updates(c, &w, v);
    test_turning(c, &w, v);
    test_refusals(c, d, &w, v);
    open_policy(c, b, &p);
    test_accuracies(c, &p, &w, v);
    test_two(c, &p, &w, v);
    close_policy(&p);
    world_free(&w);
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
