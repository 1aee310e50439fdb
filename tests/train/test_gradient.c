/* Gradients of slots, summed over slots and ranks: the same bits as a serial tree over all slots on 1, 2 and
 * 4 ranks, in the arena's own gradients; and to rounding in the fast mode. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/check.h"
#include "train/gradient.h"
#include "util/mem.h"
#include "util/rng.h"

enum { SLOTS = 8, ELEMENTS = 16 * 300 };

/* Magnitudes over six orders, so that another order of additions shows in the bits. */
static double value_of(int64_t slot, int64_t element) {
    struct rng r = rng_stream(11, RNG_CHECK, slot, element);
    double size = rng_uniform(&r);
    return rng_normal(&r) * pow(10, 6 * size);
}

static float tree(int64_t first, int64_t last, int64_t element) {
    int64_t middle = (first + last) / 2;
    return last - first == 1 ? (float)value_of(first, element)
                             : tree(first, middle, element) + tree(middle, last, element);
}

static struct arena *open_arena(struct backend *b) {
    struct arena *a = NULL;
    const struct parameter p = {.name = "all", .rows = ELEMENTS, .columns = 1, .n_dims = 2};
    CHECK(arena_open(b, ARENA_TRAINED, &a) == OK);
    CHECK(arena_add(a, &p, false, NULL) == OK);
    CHECK(arena_allocate(a, 0) == OK);
    CHECK(arena_need_gradients(a) == OK);
    return a;
}

/* What a backward does: adds the slot's gradient where its place says. */
static void backward(struct arena *a, int64_t slot) {
    struct tensor to = place_gradient((struct place){a, 0}, 1, ELEMENTS), from;
    double *values = mem_calloc(ELEMENTS, sizeof *values);
    for (int64_t i = 0; i < ELEMENTS; i++) {
        values[i] = value_of(slot, i);
    }
    CHECK(arena_take(a, "a slot", ELEMENTS, DTYPE_F32, &from) == OK);
    CHECK(backend_write_doubles(a->backend, from, values) == OK);
    CHECK(backend_add(a->backend, to, 1, from) == OK);
    arena_give_back(a, &from);
    mem_free(values);
}

static int64_t count_wrong(const struct arena *a, bool exact) {
    double *got = mem_calloc(ELEMENTS, sizeof *got);
    int64_t wrong = 0;
    CHECK(backend_read_doubles(a->backend, got, a->gradients) == OK);
    for (int64_t i = 0; i < ELEMENTS; i++) {
        double want = (double)tree(0, SLOTS, i), size = 0;
        for (int64_t slot = 0; slot < SLOTS; slot++) {
            size += fabs(value_of(slot, i));
        }
        wrong += exact ? got[i] != want : !(fabs(got[i] - want) <= 1e-6 * size);
    }
    mem_free(got);
    return wrong;
}

/* Twice, since the second step must find everything as the first did. */
static void check_steps(struct comm *c, struct arena *a, bool deterministic) {
    struct range mine = range_part(SLOTS, c->rank, c->size);
    const void *own = a->gradients.data;
    const struct gradient_options options = {.slots = deterministic ? mine.last - mine.first : 1,
                                             .deterministic = deterministic,
                                             .bucket_bytes = 4096,
                                             .shards = shard_map_whole(ELEMENTS)};
    struct gradient_sum sum;
    double waited;
    CHECK(gradient_open(c, a, &options, &sum) == OK);
    for (int step = 0; step < 2; step++) {
        CHECK(gradient_begin(&sum) == OK);
        for (int64_t slot = mine.first; slot < mine.last; slot++) {
            backward(a, slot);
            CHECK(a->gradients.data == own); /* whatever holds it may go on holding it */
            if (deterministic) {
                CHECK(gradient_push(&sum) == OK);
            }
        }
        CHECK(a->sink.data == own);
        CHECK(gradient_finish(&sum, &waited) == OK);
        CHECK(count_wrong(a, deterministic) == 0);
    }
    gradient_close(&sum);
    CHECK(a->sink.data == own && a->gradients.data == own);
}

/* Given up between two slots: the arena has its own gradients again, and the levels' memory is gone. */
static void check_abandoned(struct comm *c, struct arena *a) {
    const struct gradient_options options = {
        .slots = 4, .deterministic = true, .bucket_bytes = 4096, .shards = shard_map_whole(ELEMENTS)};
    struct gradient_sum sum;
    CHECK(gradient_open(c, a, &options, &sum) == OK);
    CHECK(gradient_begin(&sum) == OK);
    CHECK(a->sink.data != a->gradients.data);
    backward(a, 0);
    CHECK(gradient_push(&sum) == OK);
    gradient_close(&sum);
    CHECK(a->sink.data == a->gradients.data);
    CHECK(arena_zero_gradients(a) == OK);
}

int main(int argc, char **argv) {
    static const char *const devices[] = {"cpu", "check:cpu"}; /* the second's memory is not the host's */
    struct comm *c;
    if (comm_start(&argc, &argv, &c) != OK) {
        return 1;
    }
    for (int i = 0; i < COUNT_OF(devices); i++) {
        struct backend *b = NULL;
        char why[256];
        const struct backend_request request = {.device = devices[i], .compute = "fp32", .device_index = -1};
        CHECK(backend_open(&request, &b, why) == OK);
        struct arena *a = open_arena(b);
        check_steps(c, a, true);
        check_steps(c, a, false);
        check_abandoned(c, a);
        check_steps(c, a, true);
        arena_close(a);
        backend_close(b);
    }
    comm_finish(c);
    return failures > 0;
}
