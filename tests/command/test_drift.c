/* Drift between two side-cars whose vectors are known: response i has a unit vector before, turned by an
 * angle and scaled after, so L2 distance, relative distance and cosine have closed forms; mean and quantiles
 * are those of a plain sort. */
#include "command/inspect/inspect.h"
#include "data/sidecar.h"
#include "tests/small_world.h"
#include "util/json.h"

enum { ROWS = 1201, WIDTH = 6, EMPTY = 100 };

/* Half a turn over all rows, out of order; a scale of 1 or 2. */
static double angle_of(int64_t row) {
    return acos(-1) * (double)(row * 7 % ROWS) / ROWS;
}
static double scale_of(int64_t row) {
    return row % 2 ? 2 : 1;
}

static void write_values(struct comm *c, const char *path, bool turned, uint64_t data, const char *recipe) {
    struct sidecar_key key = {.model = turned ? 2 : 1, .data = data, .compute = "fp32"};
    struct range part = range_part(ROWS, c->rank, c->size);
    int64_t *ids = world_array(ROWS, 8);
    float *values = world_array(ROWS * WIDTH, 4);
    struct sidecar *s = NULL;
    snprintf(key.recipe, sizeof key.recipe, "%s", recipe);
    CHECK(sidecar_open(c, path, &key, ROWS, WIDTH, false, &s) == OK);
    for (int64_t i = part.first; i < part.last; i++) {
        float *v = values + (i - part.first) * WIDTH;
        ids[i - part.first] = i;
        if (i != EMPTY) { /* its vector stays zero */
            v[i % 3] = (float)(turned ? scale_of(i) * cos(angle_of(i)) : 3);
            v[3] = (float)(turned ? scale_of(i) * sin(angle_of(i)) : 0);
        }
    }
    CHECK(sidecar_write_values(s, ids, part.last - part.first, values) == OK);
    CHECK(sidecar_close(s) == OK);
    mem_free(ids);
    mem_free(values);
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a;
    double y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void check_measure(const json_t *report, const char *name, double *expected, int64_t n) {
    const json_t *measure = json_object_get(report, name);
    const json_t *quantiles = json_object_get(measure, "quantiles");
    const double shares[] = {0, 0.05, 0.25, 0.5, 0.75, 0.95, 1};
    double mean = 0;
    for (int64_t i = 0; i < n; i++) {
        mean += expected[i] / (double)n;
    }
    qsort(expected, (size_t)n, sizeof *expected, ascending);
    CHECK(fabs(json_number_value(json_object_get(measure, "mean")) - mean) < 1e-5 * (1 + fabs(mean)));
    for (int q = 0; q < COUNT_OF(shares); q++) {
        char key[16];
        snprintf(key, sizeof key, "%g", shares[q]);
        double place = shares[q] * (double)(n - 1);
        int64_t at = (int64_t)place;
        double high = expected[at + 1 < n ? at + 1 : at];
        double value = expected[at] + (place - (double)at) * (high - expected[at]);
        double found = json_number_value(json_object_get(quantiles, key));
        CHECK(json_object_get(quantiles, key) && fabs(found - value) < 1e-5 * (1 + fabs(value)));
    }
}

/* |a - b|^2 = 3^2 + s^2 - 2 * 3 s cos t. */
static void test_closed_forms(struct comm *c, const char *now, const char *before) {
    struct text out = {0};
    struct text report = {0};
    json_t *json = NULL;
    double *values = world_array(3 * ROWS, 8);
    int64_t n = 0;
    for (int64_t i = 0; i < ROWS; i++) {
        double s = scale_of(i);
        if (i != EMPTY) {
            values[n] = sqrt(9 + s * s - 6 * s * cos(angle_of(i)));
            values[ROWS + n] = values[n] / 3;
            values[2 * ROWS + n++] = cos(angle_of(i));
        }
    }
    CHECK(inspect_drift(c, now, before, &out, &report) == OK);
    CHECK(report.len > 0 && json_parse(report.data, report.len, "report", &json) == OK);
    CHECK(json_integer_value(json_object_get(json, "responses")) == ROWS - 1);
    CHECK(json_integer_value(json_object_get(json, "empty")) == 1);
    check_measure(json, "l2", values, n);
    check_measure(json, "relative_l2", values + ROWS, n);
    check_measure(json, "cosine", values + 2 * ROWS, n);
    json_decref(json);
    mem_free(values);
    text_free(&out);
    text_free(&report);
}

static void test_refusals(struct comm *c, const char *folder, const char *now) {
    struct text out = {0};
    struct text report = {0};
    char path[256];
    snprintf(path, sizeof path, "%s/other_data.h5", folder);
    write_values(c, path, false, 78, "mean");
    CHECK(inspect_drift(c, now, path, &out, &report) == ERR_DATA);
    CHECK(strstr(status_message()->text, "different data"));
    snprintf(path, sizeof path, "%s/other_recipe.h5", folder);
    write_values(c, path, false, 77, "last");
    CHECK(inspect_drift(c, now, path, &out, &report) == ERR_DATA);
    CHECK(strstr(status_message()->text, "embed.*"));
    snprintf(path, sizeof path, "%s/none.h5", folder);
    CHECK(inspect_drift(c, now, path, &out, &report) == ERR_INPUT);
    text_free(&out);
    text_free(&report);
}

int main(int argc, char **argv) {
    struct comm *c;
    char folder[64];
    char now[256];
    char before[256];
    if (comm_start(&argc, &argv, &c) != OK) {
        return 1;
    }
    world_folder(c, folder);
    snprintf(now, sizeof now, "%s/now.h5", folder);
    snprintf(before, sizeof before, "%s/before.h5", folder);
    write_values(c, now, true, 77, "mean");
    write_values(c, before, false, 77, "mean");
    test_closed_forms(c, now, before);
    test_refusals(c, folder, now);
    world_folder_remove(c, folder);
    int64_t all = failures;
    failures = comm_sum_i64(c, &all, 1) == OK ? (int)all : 1;
    comm_finish(c);
    return failures != 0;
}
