/* Win rates, length-controlled win rates and ratings of a file as AlpacaEval writes them, beside what
 * scikit-learn and scipy say (tests/fixtures/make_judge.py) and what the alpaca_eval package says
 * (compare_alpaca_eval.sh), on 1, 2 and 4 ranks; orders, corrections and ratings by hand. */
#include "evaluate/win_rate.h"

#include <math.h>
#include <string.h>

#include "evaluate/ratings.h"
#include "tests/check.h"
#include "util/json.h"
#include "util/log.h"

static double number(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    CHECK(json_is_number(value));
    return json_number_value(value);
}

static struct verdict verdict_of(int32_t first, int32_t second, int64_t prompt, double preference) {
    return (struct verdict){
        .first = first, .second = second, .prompt = prompt, .preference = preference, .length = {-1, -1}};
}

/* What win_rate_print says, as an object. */
static json_t *print(const struct win_rate_options *o, const struct verdicts *v) {
    struct text out = {0};
    json_t *object = NULL;
    CHECK(text_puts(&out, "{\"verdicts\": 1") == OK);
    CHECK(win_rate_print(o, v, &out) == OK);
    CHECK(text_puts(&out, "}") == OK);
    CHECK(o->comm->rank != 0 || json_parse(out.data, out.len, "printed", &object) == OK);
    text_free(&out);
    return object;
}

static void check_pair(const json_t *pair, const json_t *expected) {
    static const char *const counts[] = {"wins", "ties", "losses"};
    for (int i = 0; i < COUNT_OF(counts); i++) {
        CHECK(number(pair, counts[i]) == number(expected, counts[i]));
    }
    CHECK(fabs(number(pair, "win_rate") - number(expected, "win_rate")) < 1e-12);
    CHECK(fabs(number(pair, "length_controlled_win_rate") - number(expected, "length_controlled_win_rate")) <
          1e-8);
    CHECK(fabs(number(pair, "length_controlled_win_rate/se") - number(expected, "se")) < 1e-8);
    const json_t *ends = json_object_get(pair, "win_rate/interval");
    CHECK(json_number_value(json_array_get(ends, 0)) < number(pair, "win_rate"));
    CHECK(json_number_value(json_array_get(ends, 1)) > number(pair, "win_rate"));
}

static void check_all(const json_t *object, const json_t *expected) {
    const json_t *pairs = json_object_get(object, "pairs");
    const json_t *pair, *rating;
    const char *name;
    size_t i;
    json_array_foreach(pairs, i, pair) {
        char key[64];
        snprintf(key, sizeof key, "%s %s", json_string_value(json_object_get(pair, "a")),
                 json_string_value(json_object_get(pair, "b")));
        check_pair(pair, json_object_get(json_object_get(expected, "pairs"), key));
    }
    CHECK(i == 3);
    json_object_foreach((json_t *)json_object_get(object, "ratings"), name, rating) {
        double value = number(rating, "rating");
        const json_t *ends = json_object_get(rating, "interval");
        CHECK(fabs(value - number(json_object_get(expected, "ratings"), name)) < 1e-3);
        CHECK(json_number_value(json_array_get(ends, 0)) < value &&
              json_number_value(json_array_get(ends, 1)) > value);
    }
}

static void test_fixture(struct comm *c) {
    struct win_rate_options o = {c, {200, 0.95, 1}, 1, 1, NULL};
    struct verdicts v = {0};
    struct gamed gamed;
    json_t *expected = NULL;
    CHECK(json_load(FIXTURES "/judge/expected.json", &expected) == OK);
    CHECK(gamed_read(FIXTURES "/judge/gamed.csv", &gamed) == OK && gamed.n_difficulty == 80);
    CHECK(c->rank != 0 || verdicts_read(FIXTURES "/judge/annotations.json", &v) == OK);
    json_t *object = print(&o, &v);
    o.gamed = &gamed;
    json_t *controlled = print(&o, &v);
    if (c->rank == 0) {
        const json_t *pair = json_array_get(json_object_get(controlled, "pairs"), 0);
        const json_t *with = json_object_get(expected, "gamed");
        check_all(object, expected);
        CHECK(strcmp(json_string_value(json_object_get(pair, "b")), "long") == 0);
        CHECK(fabs(number(pair, "length_controlled_win_rate") - number(with, "length_controlled_win_rate")) <
              1e-6);
        CHECK(fabs(number(pair, "length_controlled_win_rate/se") - number(with, "se")) < 1e-6);
    }
    json_decref(object);
    json_decref(controlled);
    json_decref(expected);
    gamed_free(&gamed);
    verdicts_free(&v);
}

/* What alpaca_eval says of a pair: with its solver taken to the end to 1e-9, and as it stops, at a tolerance
 * of 1e-4, as near as that is. */
static void check_published(const json_t *pair, const json_t *said, const char *formula) {
    char exact[32];
    snprintf(exact, sizeof exact, "%s_exact", formula);
    const json_t *to_the_end = json_object_get(said, exact);
    CHECK(fabs(number(pair, "win_rate") - number(said, "win_rate")) < 1e-12);
    CHECK(number(pair, "wins") == number(said, "wins") && number(pair, "ties") == number(said, "ties") &&
          number(pair, "losses") == number(said, "losses"));
    CHECK(fabs(number(pair, "length_controlled_win_rate") - number(to_the_end, "rate")) < 1e-9);
    CHECK(fabs(number(pair, "length_controlled_win_rate/se") - number(to_the_end, "se")) < 1e-9);
    CHECK(fabs(number(pair, "length_controlled_win_rate") - number(json_object_get(said, formula), "rate")) <
          1e-4);
}

/* "mixed": records in another order than their indices, some without a preference, some ties written 0. */
static void test_published(struct comm *c, const char *name, bool is_gamed) {
    char path[256];
    struct win_rate_options o = {c, {0, 0.95, 1}, 1, 1, NULL};
    struct verdicts v = {0};
    struct gamed gamed;
    json_t *said = NULL;
    snprintf(path, sizeof path, FIXTURES "/judge/%s.json", name);
    CHECK(json_load(FIXTURES "/judge/alpaca_eval.json", &said) == OK);
    CHECK(gamed_read(FIXTURES "/judge/gamed.csv", &gamed) == OK);
    CHECK(c->rank != 0 || verdicts_read(path, &v) == OK);
    o.gamed = is_gamed ? &gamed : NULL;
    json_t *object = print(&o, &v);
    const json_t *pairs = json_object_get(object, "pairs");
    const json_t *expected = json_object_get(said, name);
    CHECK(c->rank != 0 ||
          (json_array_size(pairs) > 0 && json_array_size(pairs) == json_array_size(expected)));
    for (size_t i = 0; i < json_array_size(pairs); i++) {
        check_published(json_array_get(pairs, i), json_array_get(expected, i),
                        is_gamed ? "gamed" : "minimal");
    }
    json_decref(object);
    json_decref(said);
    gamed_free(&gamed);
    verdicts_free(&v);
}

/* Four prompts judged in both orders: on two the same answer wins, on one the first place, on one the second
 * place. b wins 3 + 1 of 8. */
static void test_orders(struct comm *c) {
    static const double in_order[] = {1, 0, 0, 1}, swapped[] = {0, 1, 0, 1};
    const struct win_rate_options o = {c, {0, 0.95, 1}, 0.9, 0.8, NULL};
    struct verdicts v = {0};
    int32_t a, b;
    CHECK(verdicts_system(&v, "a", &a) == OK && verdicts_system(&v, "b", &b) == OK);
    for (int i = 0; i < 4 && c->rank == 0; i++) {
        CHECK(verdicts_add(&v, verdict_of(a, b, i, in_order[i])) == OK);
        CHECK(verdicts_add(&v, verdict_of(b, a, i, swapped[i])) == OK);
    }
    json_t *object = print(&o, &v);
    if (c->rank == 0) {
        const json_t *pair = json_array_get(json_object_get(object, "pairs"), 0);
        CHECK(number(pair, "win_rate") == 0.5 && number(pair, "wins") == 4);
        CHECK(number(pair, "orders_agree") == 0.5 && number(pair, "first_place_wins") == 0.5);
        CHECK(fabs(number(pair, "corrected_win_rate") - (0.5 + 0.8 - 1) / 0.7) < 1e-12);
        CHECK(!json_object_get(pair, "win_rate/interval") &&
              !json_object_get(pair, "length_controlled_win_rate"));
    }
    json_decref(object);
    verdicts_free(&v);
}

/* Two systems: three wins in four are 400 log10(3) points; a system that only wins has no finite rating. */
static void test_ratings(void) {
    const struct interval_options none = {0, 0.95, 1};
    struct verdicts v = {0};
    struct rating r[2];
    int32_t a, b;
    CHECK(verdicts_system(&v, "a", &a) == OK && verdicts_system(&v, "b", &b) == OK);
    for (int i = 0; i < 4; i++) {
        CHECK(verdicts_add(&v, verdict_of(a, b, i, i > 0)) == OK);
    }
    CHECK(ratings_fit(&v, &none, r) == OK);
    CHECK(fabs(r[1].value - r[0].value - 400 * log10(3)) < 1e-6 &&
          fabs(r[1].value + r[0].value - 2000) < 1e-6);
    v.list[0].preference = 1;
    CHECK(ratings_fit(&v, &none, r) == OK && isnan(r[0].value) && isnan(r[1].value));
    verdicts_free(&v);
}

int main(int argc, char **argv) {
    struct comm *c;
    if (comm_start(&argc, &argv, &c) != OK) {
        return 1;
    }
    log_init(c->rank, c->size, LOG_ERROR);
    test_fixture(c);
    for (int is_gamed = 0; is_gamed < 2; is_gamed++) {
        test_published(c, "annotations", is_gamed);
        test_published(c, "mixed", is_gamed);
    }
    test_orders(c);
    test_ratings();
    int64_t all = failures;
    CHECK(comm_sum_i64(c, &all, 1) == OK);
    comm_finish(c);
    return all != 0;
}
