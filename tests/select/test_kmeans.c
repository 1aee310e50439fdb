/* Distributed k-means: scikit-learn's answer from the same centers, an objective that never rises, the same
 * bits whatever is kept in memory, refusals; and the exact bipartition against trying every split. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "select/kmeans.h"
#include "tests/check.h"
#include "util/json.h"
#include "util/mem.h"
#include "util/rng.h"

static enum status read_rows(void *context, int64_t first, int64_t count, float *out) {
    const struct vectors *v = context;
    memcpy(out, (float *)v->context + first * v->width, (size_t)(count * v->width) * sizeof(float));
    return OK;
}

struct world {
    float *data;
    struct vectors inner, rows;
};

static void world_open(struct world *w, const struct comm *c, int64_t n, int64_t width) {
    CHECK(NEW_ARRAY(w->data, n * width) == OK);
    w->inner = (struct vectors){.n = n, .width = width, .context = w->data};
    w->rows = w->inner;
    w->rows.range = vectors_range(n, c->rank, c->size);
    w->rows.read = read_rows;
    w->rows.context = &w->inner;
}

static void test_scikit_learn(struct comm *c, struct backend *b) {
    json_t *fixture;
    CHECK(json_load(FIXTURES "/kmeans.json", &fixture) == OK);
    json_t *rows = json_object_get(fixture, "rows");
    int64_t n = (int64_t)json_array_size(rows);
    struct world w;
    world_open(&w, c, n, 5);
    for (int64_t i = 0; i < 5 * n; i++) {
        w.data[i] =
            (float)json_number_value(json_array_get(json_array_get(rows, (size_t)(i / 5)), (size_t)(i % 5)));
    }
    float initial[6 * 5];
    for (int k = 0; k < 6; k++) {
        int64_t row = json_integer_value(json_array_get(json_object_get(fixture, "initial"), (size_t)k));
        memcpy(initial + 5 * k, w.data + 5 * row, 5 * sizeof(float));
    }
    struct kmeans_options o = {.clusters = 6, .iterations = 100, .initial = initial};
    struct kmeans_result r;
    CHECK(kmeans_run(c, b, &w.rows, &o, &r) == OK);
    json_t *labels = json_object_get(fixture, "labels");
    for (int64_t i = w.rows.range.first; i < w.rows.range.last; i++) {
        CHECK(r.assignment[i - w.rows.range.first] == json_integer_value(json_array_get(labels, (size_t)i)));
    }
    double inertia = json_number_value(json_object_get(fixture, "inertia"));
    CHECK(fabs(r.objective[r.iterations - 1] - inertia) < 1e-4 * inertia);
    kmeans_free(&r);
    mem_free(w.data);
    json_decref(fixture);
}

/* Blobs far apart: every seeding that works finds them; and the objective falls all the way. */
static void test_seedings(struct comm *c, struct backend *b) {
    enum { N = 5000, WIDTH = 16, BLOBS = 7 };
    struct world w;
    world_open(&w, c, N, WIDTH);
    for (int64_t i = 0; i < N; i++) {
        struct rng noise = rng_stream(1, RNG_CHECK, i, 0);
        struct rng center = rng_stream(2, RNG_CHECK, i % BLOBS, 0);
        for (int d = 0; d < WIDTH; d++) {
            w.data[i * WIDTH + d] = (float)(10 * rng_normal(&center) + rng_normal(&noise));
        }
    }
    for (int seeding = SEEDING_PARALLEL; seeding <= SEEDING_PLUS_PLUS; seeding++) {
        struct kmeans_options o = {.clusters = BLOBS, .seeding = (enum kmeans_seeding)seeding, .seed = 3};
        struct kmeans_result kept;
        struct kmeans_result reread;
        CHECK(kmeans_run(c, b, &w.rows, &o, &kept) == OK);
        o.memory_bytes = 1;
        CHECK(kmeans_run(c, b, &w.rows, &o, &reread) == OK);
        CHECK(memcmp(kept.centers, reread.centers, BLOBS * WIDTH * sizeof(float)) == 0);
        for (int64_t i = 1; i < kept.iterations; i++) {
            CHECK(kept.objective[i] <= kept.objective[i - 1] * (1 + 1e-6));
        }
        int64_t sum = 0;
        for (int k = 0; k < BLOBS; k++) {
            sum += kept.counts[k];
        }
        CHECK(sum == N);
        /* About WIDTH of squared noise a row where every blob has its own center; hundreds where one is
         * missed. */
        CHECK(kept.objective[kept.iterations - 1] < 1.2 * N * WIDTH);
        kmeans_free(&kept);
        kmeans_free(&reread);
    }
    mem_free(w.data);
}

static void test_refusals(struct comm *c, struct backend *b) {
    struct world w;
    world_open(&w, c, 3000, 4);
    struct kmeans_options o = {.clusters = 3001};
    struct kmeans_result r;
    CHECK(kmeans_run(c, b, &w.rows, &o, &r) == ERR_USAGE);
    w.data[4 * 2999 + 1] = NAN;
    o.clusters = 2;
    CHECK(kmeans_run(c, b, &w.rows, &o, &r) == ERR_DATA);
    CHECK(strstr(status_message()->text, "2999") != NULL);
    mem_free(w.data);
}

static double split_cost(const float *x, int n, int width, int mask) {
    double cost = 0;
    for (int side = 0; side < 2; side++) {
        for (int d = 0; d < width; d++) {
            double sum = 0;
            double squares = 0;
            int count = 0;
            for (int i = 0; i < n; i++) {
                if ((mask >> i & 1) == side) {
                    sum += x[i * width + d];
                    squares += (double)x[i * width + d] * x[i * width + d];
                    count++;
                }
            }
            cost += count ? squares - sum * sum / count : 0;
        }
    }
    return cost;
}

static enum status halve(const float *rows, int n, int64_t prompt, int *side, int nearest[2]) {
    double distance[24];
    struct kmeans_halves halves = {.side = side, .distance = distance};
    TRY(kmeans_halve(rows, n, 3, 0, prompt, &halves));
    for (int s = 0; s < 2; s++) {
        nearest[s] = -1;
        for (int i = 0; i < n; i++) {
            bool nearer = nearest[s] < 0 || distance[i] < distance[nearest[s]] - halves.tolerance;
            nearest[s] = side[i] == s && nearer ? i : nearest[s];
        }
    }
    return OK;
}

static void test_bipartition(void) {
    enum { WIDTH = 3 };
    for (int n = 2; n <= 11; n++) {
        float x[11 * WIDTH];
        struct rng r = rng_stream(4, RNG_CHECK, n, 0);
        for (int i = 0; i < n * WIDTH; i++) {
            x[i] = (float)rng_normal(&r) + (i / WIDTH % 2 ? 3 : 0);
        }
        double least = INFINITY;
        for (int mask = 1; mask < (1 << n) - 1; mask++) {
            double cost = split_cost(x, n, WIDTH, mask);
            least = cost < least ? cost : least;
        }
        int side[11];
        int nearest[2];
        CHECK(halve(x, n, n, side, nearest) == OK);
        int mask = 0;
        for (int i = 0; i < n; i++) {
            mask |= side[i] << i;
        }
        CHECK(fabs(split_cost(x, n, WIDTH, mask) - least) < 1e-5 * (1 + least));
        CHECK(side[0] == 0 && side[nearest[0]] == 0 && side[nearest[1]] == 1);
    }
    float equal[3 * WIDTH] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
    int side[3];
    int nearest[2];
    CHECK(halve(equal, 3, 0, side, nearest) == OK);
    CHECK(nearest[0] != nearest[1]);
}

/* numpy's best of all splits, with one blob, which leaves many splits about as good, and with three. */
static void test_splits(void) {
    enum { WIDTH = 4, MOST = 20 };
    json_t *fixture;
    CHECK(json_load(FIXTURES "/halves.json", &fixture) == OK);
    CHECK(json_array_size(fixture) == 22);
    for (size_t k = 0; k < json_array_size(fixture); k++) {
        const json_t *split = json_array_get(fixture, k), *rows = json_object_get(split, "rows");
        int n = (int)json_array_size(rows), side[MOST];
        float x[MOST * WIDTH];
        double distance[MOST], cost = 0;
        struct kmeans_halves halves = {.side = side, .distance = distance};
        for (int i = 0; i < n * WIDTH; i++) {
            x[i] = (float)json_number_value(
                json_array_get(json_array_get(rows, (size_t)(i / WIDTH)), (size_t)(i % WIDTH)));
        }
        CHECK(kmeans_halve(x, n, WIDTH, 3, (int64_t)k, &halves) == OK);
        for (int i = 0; i < n; i++) {
            cost += distance[i];
        }
        double least = json_number_value(json_object_get(split, "cost"));
        CHECK(fabs(cost - least) < 1e-5 * (1 + least));
        CHECK(fabs(halves.apart - json_number_value(json_object_get(split, "apart"))) < 1e-4);
        for (int s = 0; s < 2; s++) {
            int64_t nearest =
                json_integer_value(json_array_get(json_object_get(split, "nearest"), (size_t)s));
            CHECK(side[nearest] == s);
            for (int i = 0; i < n; i++) {
                CHECK(side[i] != s || distance[i] > distance[nearest] - 1e-5);
            }
        }
    }
    json_decref(fixture);
}

int main(int argc, char **argv) {
    struct comm *c;
    if (comm_start(&argc, &argv, &c) != OK) {
        return 1;
    }
    struct backend *b;
    char why[256];
    struct backend_request request = {
        .device = "cpu", .compute = "fp32", .threads = 1, .deterministic = true};
    CHECK(backend_open(&request, &b, why) == OK);
    test_scikit_learn(c, b);
    test_seedings(c, b);
    test_refusals(c, b);
    test_bipartition();
    test_splits();
    backend_close(b);
    int64_t all = failures;
    failures = comm_sum_i64(c, &all, 1) == OK ? (int)all : 1;
    comm_finish(c);
    return failures != 0;
}
