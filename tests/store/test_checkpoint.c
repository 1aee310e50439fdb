/* Checkpoints of arbitrary named arrays: from a back end's memory, packed shares and the host's doubles, and
 * back, whole, on 1, 2 and 4 ranks; a frozen arena; what does not fit is named. */
#include <string.h>

#include "io/file.h"
#include "store/checkpoint.h"
#include "store/checkpoint_file.h"
#include "tests/small_world.h"
#include "util/log.h"

enum { VALUES = 70001, NUMBERS = 37, ARRAYS = 4 };

static float value_of(int64_t i) {
    return (float)(i % 4093) * 0.37f - 100;
}

/* What a run goes on from. */
struct world {
    struct backend *backend;
    struct tensor values, shares, rounded;
    struct shard_map map;
    double numbers[NUMBERS];
};

static struct tensor take(struct backend *b, int64_t n, enum dtype type) {
    void *data = NULL;
    CHECK(backend_alloc(b, n * dtype_size(type), &data) == OK);
    struct tensor t = tensor_at(data, 1, n, type);
    CHECK(backend_zero_tensor(b, t) == OK);
    return t;
}

static void world_open(struct comm *c, const char *device, struct world *w) {
    char why[256];
    const struct backend_request request = {.device = device, .compute = "fp32", .device_index = -1};
    *w = (struct world){.map = shard_map_over(c, VALUES)};
    CHECK(backend_open(&request, &w->backend, why) == OK);
    w->values = take(w->backend, VALUES, DTYPE_F32);
    w->shares = take(w->backend, shard_count(&w->map, c->rank), DTYPE_F32);
    w->rounded = take(w->backend, VALUES, DTYPE_BF16);
}

static void world_close(struct world *w) {
    backend_free(w->backend, w->values.data);
    backend_free(w->backend, w->shares.data);
    backend_free(w->backend, w->rounded.data);
    backend_close(w->backend);
}

static void arrays_of(struct world *w, struct named out[ARRAYS]) {
    const struct named all[ARRAYS] = {
        {.name = "values", .elements = VALUES, .backend = w->backend, .tensor = w->values},
        {.name = "shares", .elements = VALUES, .backend = w->backend, .tensor = w->shares, .shards = &w->map},
        {.name = "rounded", .elements = VALUES, .backend = w->backend, .tensor = w->rounded},
        {.name = "numbers", .elements = NUMBERS, .host = w->numbers}};
    memcpy(out, all, sizeof all);
}

/* Values of this rank's packed shares, or of all; negated. */
static void values_into(struct world *w, int rank, double *values, double *shares) {
    int64_t n = 0;
    for (int64_t i = 0; i < VALUES; i++) {
        values[i] = (double)value_of(i);
    }
    for (int64_t unit = 0; unit < shard_units(&w->map); unit++) {
        struct range r = shard_range(&w->map, unit, rank);
        for (int64_t i = r.first; i < r.last; i++) {
            shares[n++] = -(double)value_of(i);
        }
    }
}

static void fill(struct world *w, int rank) {
    double *values = world_array(VALUES, 8), *shares = world_array(VALUES, 8);
    values_into(w, rank, values, shares);
    CHECK(backend_write_doubles(w->backend, w->values, values) == OK);
    CHECK(backend_write_doubles(w->backend, w->rounded, values) == OK);
    CHECK(backend_write_doubles(w->backend, w->shares, shares) == OK);
    for (int i = 0; i < NUMBERS; i++) {
        w->numbers[i] = 1.0 / (i + 3);
    }
    mem_free(values);
    mem_free(shares);
}

static void check(const struct world *full, const struct world *w, int rank) {
    double *want = world_array(VALUES, 8), *shares = world_array(VALUES, 8), *got = world_array(VALUES, 8);
    int64_t wrong = 0;
    values_into((struct world *)w, rank, want, shares);
    CHECK(backend_read_doubles(w->backend, got, w->values) == OK);
    wrong += memcmp(got, want, VALUES * sizeof *got) != 0;
    CHECK(backend_read_doubles(w->backend, got, w->shares) == OK);
    wrong += memcmp(got, shares, (size_t)w->shares.columns * sizeof *got) != 0;
    CHECK(backend_read_doubles(w->backend, got, w->rounded) == OK);
    CHECK(backend_read_doubles(full->backend, want, full->rounded) == OK);
    wrong += memcmp(got, want, VALUES * sizeof *got) != 0;
    wrong += memcmp(w->numbers, full->numbers, sizeof w->numbers) != 0;
    CHECK(wrong == 0);
    mem_free(want);
    mem_free(shares);
    mem_free(got);
}

static enum status save(struct comm *c, struct world *w, const struct checkpoint_options *o, int64_t step,
                        enum status made) {
    struct named arrays[ARRAYS];
    struct checkpoint_contents contents = {.step = step, .arrays = arrays, .n_arrays = ARRAYS};
    arrays_of(w, arrays);
    CHECK(text_printf(&contents.state, "\"step\": %lld, \"what\": \"a test\"", (long long)step) == OK);
    enum status st = checkpoint_save(c, o, &contents, made);
    text_free(&contents.state);
    return st;
}

static void test_round_trip(struct comm *c, const char *run, const char *device) {
    const struct fact facts[] = {{"colour", "blue", NULL, FACT_FIXED}};
    const struct fact others[] = {{"colour", "green", NULL, FACT_FIXED}};
    struct checkpoint_options o = {.run = run, .facts = facts, .n_facts = 1, .keep = 2};
    struct checkpoint_found found;
    struct world full, empty;
    struct named arrays[ARRAYS];
    world_open(c, device, &full);
    world_open(c, device, &empty);
    arrays_of(&empty, arrays);
    fill(&full, c->rank);
    CHECK(checkpoint_load(c, &o, arrays, ARRAYS, &found) == OK && !found.path);
    CHECK(save(c, &full, &o, 3, OK) == OK);
    CHECK(checkpoint_load(c, &o, arrays, ARRAYS, &found) == OK && found.path && found.step == 3);
    const char *what = json_string_value(json_object_get(found.state, "what"));
    CHECK(what && strcmp(what, "a test") == 0);
    check(&full, &empty, c->rank);
    /* Some of the arrays, in another order, as somebody else wants them. */
    const struct named some[] = {arrays[3], arrays[0]};
    CHECK(backend_zero_tensor(empty.backend, empty.values) == OK);
    memset(empty.numbers, 0, sizeof empty.numbers);
    CHECK(checkpoint_read(c, found.path, some, 2) == OK);
    check(&full, &empty, c->rank);
    const struct named missing = {.name = "nobody", .elements = NUMBERS, .host = empty.numbers};
    CHECK(checkpoint_read(c, found.path, &missing, 1) == ERR_DATA);
    CHECK(strstr(status_message()->text, "nobody"));
    const struct named longer = {.name = "numbers", .elements = NUMBERS + 1, .host = empty.numbers};
    CHECK(checkpoint_read(c, found.path, &longer, 1) == ERR_DATA);
    checkpoint_found_close(&found);
    o.facts = others;
    CHECK(checkpoint_load(c, &o, arrays, ARRAYS, &found) == ERR_USAGE);
    CHECK(strstr(status_message()->text, "colour (was blue, is green)"));
    world_close(&full);
    world_close(&empty);
}

/* One rank could not make its contents: nobody writes, everybody knows. */
static void test_failed_rank(struct comm *c, const char *run) {
    const struct checkpoint_options o = {.run = run, .keep = 1};
    struct world w;
    char path[128];
    world_open(c, "cpu", &w);
    enum status made = c->rank == c->size - 1 ? fail(ERR_DATA, "no contents") : OK;
    CHECK(save(c, &w, &o, 9, made) == ERR_DATA);
    CHECK(strstr(status_message()->text, "no contents"));
    snprintf(path, sizeof path, "%s/checkpoints/step-9.h5", run);
    CHECK(access(path, F_OK) != 0);
    struct named many[CHECKPOINT_ARRAYS + 1] = {{0}};
    const struct checkpoint_contents contents = {.arrays = many, .n_arrays = COUNT_OF(many)};
    CHECK(checkpoint_save(c, &o, &contents, OK) == ERR_INTERNAL);
    world_close(&w);
}

int main(int argc, char **argv) {
    static const char *const devices[] = {"cpu", "check:cpu"}; /* the second's memory is not the host's */
    struct comm *c;
    char folder[64], run[96];
    if (comm_start(&argc, &argv, &c) != OK) {
        return 1;
    }
    log_init(c->rank, c->size, LOG_ERROR);
    world_folder(c, folder);
    for (int i = 0; i < COUNT_OF(devices); i++) {
        snprintf(run, sizeof run, "%s/run%d", folder, i);
        CHECK(c->rank == 0 ? folder_make(run) == OK : true);
        test_round_trip(c, run, devices[i]);
    }
    test_failed_rank(c, run);
    world_folder_remove(c, folder);
    comm_finish(c);
    return failures > 0;
}
