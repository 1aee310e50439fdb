/* Arenas: layout and gaps, values as files store them, what a frozen arena is and is not, where backward
 * adds, what counts as a change, the hash, and room beside. */
#include "tests/unit.h"

#include <stdio.h>
#include <string.h>

#include "model/arena.h"
#include "util/hash.h"
#include "util/mem.h"

#define MUST(call) assert_int_equal(call, OK)

static struct backend *open_device(const char *device) {
    struct backend *b;
    char why[256];
    const struct backend_request request = {.device = device, .compute = "fp32", .device_index = -1};
    MUST(backend_open(&request, &b, why));
    return b;
}

static struct place add(struct arena *a, const char *name, int64_t rows, int64_t columns, bool joined) {
    struct place at;
    struct parameter p = {.rows = rows, .columns = columns, .n_dims = rows > 1 ? 2 : 1, .deviation = 0.5};
    snprintf(p.name, sizeof p.name, "%s", name);
    MUST(arena_add(a, &p, joined, &at));
    assert_ptr_equal(at.arena, a);
    return at;
}

/* A matrix (3, 5), one that follows it without a gap (2, 5), a vector (3): elements 0, 15, 32 of 48. */
enum { MATRIX, JOINED, VECTOR, ELEMENTS = 48 };

static struct arena *open_arena(struct backend *b, enum arena_kind kind, int64_t beside) {
    struct arena *a;
    MUST(arena_open(b, kind, &a));
    add(a, "matrix", 3, 5, false);
    add(a, "joined", 2, 5, true);
    add(a, "vector", 1, 3, false);
    MUST(arena_allocate(a, beside));
    return a;
}

static void fill(struct arena *a) {
    float values[15];
    for (int i = 0; i < 15; i++) {
        values[i] = (float)(1 + i) / 3;
    }
    MUST(arena_write(a, MATRIX, 0, 15, values));
    MUST(arena_write(a, JOINED, 0, 10, values));
    MUST(arena_write(a, VECTOR, 0, 3, values));
    MUST(arena_refresh(a));
}

static void test_layout(void **state) {
    (void)state;
    struct backend *b = open_device("cpu");
    struct arena *a = open_arena(b, ARENA_TRAINED, 0);
    assert_int_equal(a->n, 3);
    assert_int_equal(a->parameters[MATRIX].offset, 0);
    assert_int_equal(a->parameters[JOINED].offset, 15);
    assert_int_equal(a->parameters[VECTOR].offset, 32);
    assert_int_equal(a->elements, ELEMENTS);
    assert_int_equal(arena_parameter_count(a), 15 + 10 + 3);
    assert_ptr_equal(arena_find(a, "joined"), &a->parameters[JOINED]);
    assert_null(arena_find(a, "join"));
    fill(a);
    double values[ELEMENTS];
    MUST(backend_read_doubles(b, values, a->master));
    assert_true(values[14] == (double)(15.0f / 3) && values[15] == (double)(1.0f / 3));
    for (int i = 25; i < ELEMENTS; i++) { /* the gaps are zero */
        assert_true(i >= 32 && i < 35 ? values[i] > 0 : values[i] == 0);
    }
    struct parameter late = {.name = "late", .rows = 1, .columns = 1};
    assert_int_equal(arena_add(a, &late, false, NULL), ERR_INTERNAL);
    struct parameter huge = {.name = "huge", .rows = INT64_MAX / 2, .columns = 3};
    struct arena *other;
    MUST(arena_open(b, ARENA_TRAINED, &other));
    assert_int_not_equal(arena_add(other, &huge, false, NULL), OK);
    assert_int_equal(other->n, 0);
    arena_close(other);
    arena_close(a);
    arena_close(NULL);
    backend_close(b);
}

/* Pieces, and parameters that files hold transposed or head by head. */
static void test_values(void **state) {
    (void)state;
    struct backend *b = open_device("cpu");
    struct arena *a;
    struct parameter turned = {
        .name = "turned", .rows = 2, .columns = 3, .n_dims = 2, .stored_transposed = 1};
    struct parameter heads = {.name = "heads", .rows = 12, .columns = 1, .n_dims = 2, .stored_heads = 2};
    MUST(arena_open(b, ARENA_TRAINED, &a));
    MUST(arena_add(a, &turned, false, NULL));
    MUST(arena_add(a, &heads, false, NULL));
    MUST(arena_allocate(a, 0));
    const float file[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
    float got[12];
    MUST(arena_write(a, 0, 0, 6, file)); /* the file's rows are our columns: (0 1) (2 3) (4 5) */
    MUST(arena_write(a, 1, 0, 5, file));
    MUST(arena_write(a, 1, 5, 7, file + 5));
    const double ours[] = {0, 2, 4, 1, 3, 5};
    /* Two heads of q, k, v of two rows each become q of both, k of both, v of both. */
    const double grouped[] = {0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11};
    double values[32];
    MUST(backend_read_doubles(b, values, a->master));
    assert_memory_equal(values, ours, sizeof ours);
    assert_memory_equal(values + 16, grouped, sizeof grouped);
    MUST(arena_read(a, 0, 0, 6, got));
    assert_memory_equal(got, file, 6 * sizeof *got);
    MUST(arena_read(a, 1, 3, 9, got));
    assert_memory_equal(got, file + 3, 9 * sizeof *got);
    assert_int_equal(arena_read(a, 1, 3, 10, got), ERR_INTERNAL);
    assert_int_equal(arena_write(a, 2, 0, 1, file), ERR_INTERNAL);
    arena_close(a);
    backend_close(b);
}

/* Rounded as written (to nearest, ties to even), nothing but compute values, and the same bits as the compute
 * copy of an arena that is trained. */
static void test_frozen(void **state) {
    (void)state;
    const char *const devices[] = {"cpu", "check:cpu"};
    const float exact[] = {1, -2.5f, 0x1.01p0f, 0x1.03p0f, 1.0f / 3};
    const float rounded[] = {1, -2.5f, 1, 0x1.04p0f, 0x1.56p-2f};
    float got[5];
    for (int i = 0; i < COUNT_OF(devices); i++) {
        struct backend *b = open_device(devices[i]);
        b->caps.compute = DTYPE_BF16;
        struct arena *frozen = open_arena(b, ARENA_FROZEN, 0);
        struct arena *trained = open_arena(b, ARENA_TRAINED, 0);
        assert_null(frozen->master.data);
        assert_int_equal(frozen->compute.type, DTYPE_BF16);
        MUST(arena_write(frozen, MATRIX, 5, 5, exact));
        MUST(arena_read(frozen, MATRIX, 5, 5, got));
        assert_memory_equal(got, rounded, sizeof got);
        MUST(arena_write(trained, MATRIX, 5, 5, exact));
        MUST(arena_read(trained, MATRIX, 5, 5, got));
        assert_memory_equal(got, exact, sizeof got);
        fill(frozen);
        fill(trained);
        double values[2][ELEMENTS];
        MUST(backend_read_doubles(b, values[0], frozen->compute));
        MUST(backend_read_doubles(b, values[1], trained->compute));
        assert_memory_equal(values[0], values[1], sizeof values[0]);
        assert_int_equal(arena_need_gradients(frozen), ERR_INTERNAL);
        MUST(arena_zero_gradients(frozen));
        struct place at = {frozen, 15};
        assert_null(place_gradient(at, 2, 5).data);
        assert_ptr_equal(place_view(at, 2, 5).data, (char *)frozen->compute.data + 15 * 2);
        arena_close(frozen);
        arena_close(trained);
        backend_close(b);
    }
}

static int64_t memory_of(enum dtype compute, enum arena_kind kind) {
    struct backend *plan = open_device("plan");
    struct arena *a;
    plan->caps.compute = compute;
    MUST(arena_open(plan, kind, &a));
    add(a, "large", 1 << 10, 1 << 10, false);
    MUST(arena_allocate(a, 0));
    int64_t bytes = a->store.used;
    arena_close(a);
    backend_close(plan);
    return bytes;
}

static void test_memory(void **state) {
    (void)state;
    const int64_t n = 1 << 20;
    assert_int_equal(memory_of(DTYPE_F32, ARENA_TRAINED), 4 * n);
    assert_int_equal(memory_of(DTYPE_F32, ARENA_FROZEN), 4 * n);
    assert_int_equal(memory_of(DTYPE_BF16, ARENA_TRAINED), 6 * n);
    assert_int_equal(memory_of(DTYPE_BF16, ARENA_FROZEN), 2 * n);
}

/* Where backward adds: nowhere, into the arena's own gradients, or into what somebody else keeps. */
static void test_gradients(void **state) {
    (void)state;
    struct backend *b = open_device("cpu");
    struct arena *a = open_arena(b, ARENA_TRAINED, 0);
    const struct place at = {a, 15}, none = {NULL, 0};
    assert_null(place_gradient(at, 2, 5).data);
    MUST(arena_zero_gradients(a));
    MUST(arena_need_gradients(a));
    void *own = a->gradients.data;
    MUST(arena_need_gradients(a));
    assert_ptr_equal(a->gradients.data, own);
    struct tensor g = place_gradient(at, 2, 5);
    assert_ptr_equal(g.data, (char *)own + 15 * 4);
    assert_true(g.rows == 2 && g.columns == 5);
    assert_ptr_equal(place_gradient(place_after(at, 5), 1, 5).data, (char *)own + 20 * 4);
    assert_null(place_view(none, 2, 5).data);
    assert_null(place_gradient(none, 2, 5).data);
    assert_null(place_after(none, 7).arena);
    struct tensor elsewhere;
    MUST(arena_take(a, "elsewhere", a->elements, DTYPE_F32, &elsewhere));
    arena_collect_into(a, elsewhere);
    assert_ptr_equal(place_gradient(at, 2, 5).data, (char *)elsewhere.data + 15 * 4);
    assert_ptr_equal(a->gradients.data, own);
    arena_collect_into(a, (struct tensor){0});
    assert_ptr_equal(place_gradient(at, 2, 5).data, g.data);
    arena_give_back(a, &elsewhere);
    assert_null(elsewhere.data);
    arena_close(a);
    backend_close(b);
}

static void test_revision(void **state) {
    (void)state;
    struct backend *b = open_device("cpu");
    struct arena *a = open_arena(b, ARENA_TRAINED, 0);
    uint64_t before = a->revision, hash;
    float value = 2;
    MUST(arena_need_gradients(a));
    MUST(arena_zero_gradients(a));
    MUST(arena_read(a, VECTOR, 0, 1, &value));
    MUST(arena_hash(a, &hash));
    assert_int_equal(a->revision, before);
    MUST(arena_write(a, VECTOR, 0, 1, &value));
    assert_true(a->revision > before);
    before = a->revision;
    MUST(arena_refresh(a));
    assert_true(a->revision > before);
    before = a->revision;
    MUST(arena_initialize(a, 1));
    assert_true(a->revision > before);
    arena_close(a);
    backend_close(b);
}

/* Blocks of 2^18 elements, each hashed with its number. */
static void test_hash(void **state) {
    (void)state;
    enum { BLOCK = 1 << 18, TAIL = 16 * 5 };
    const char *const devices[] = {"cpu", "check:cpu"}; /* the second's memory is not the host's */
    for (int i = 0; i < COUNT_OF(devices); i++) {
        struct backend *b = open_device(devices[i]);
        uint64_t hash[2], parts[2], want;
        for (int kind = 0; kind < 2; kind++) {
            struct arena *a;
            MUST(arena_open(b, (enum arena_kind)kind, &a));
            add(a, "values", 2 * BLOCK + TAIL, 1, false);
            MUST(arena_allocate(a, 0));
            MUST(arena_initialize(a, 5));
            assert_int_equal(arena_hash_blocks(a), 3);
            MUST(arena_hash(a, &hash[kind]));
            MUST(arena_hash_part(a, 0, 2, &parts[0]));
            MUST(arena_hash_part(a, 2, 3, &parts[1]));
            assert_true(parts[0] + parts[1] == hash[kind]);
            float *values = mem_calloc(a->elements, sizeof *values);
            assert_non_null(values);
            MUST(arena_read(a, 0, 0, a->elements, values));
            want = hash_bytes(values, BLOCK * sizeof *values, 0) +
                   hash_bytes(values + BLOCK, BLOCK * sizeof *values, 1) +
                   hash_bytes(values + 2 * (int64_t)BLOCK, TAIL * sizeof *values, 2);
            assert_true(hash[kind] == want);
            mem_free(values);
            arena_close(a);
        }
        backend_close(b);
    }
}

/* In bf16 a frozen arena, which has no master values, is known by the same hash. */
static void test_hash_of_a_type(void **state) {
    (void)state;
    uint64_t hash[2], of_masters;
    struct backend *b = open_device("cpu");
    b->caps.compute = DTYPE_BF16;
    for (int kind = 0; kind < 2; kind++) {
        struct arena *a;
        MUST(arena_open(b, (enum arena_kind)kind, &a));
        add(a, "values", 48, 3, false);
        MUST(arena_allocate(a, 0));
        MUST(arena_initialize(a, 5));
        MUST(arena_hash(a, &hash[kind]));
        if (kind == ARENA_TRAINED) {
            MUST(arena_hash_part(a, 0, 1, &of_masters));
        }
        arena_close(a);
    }
    assert_true(hash[ARENA_TRAINED] == hash[ARENA_FROZEN]);
    assert_true(hash[ARENA_TRAINED] != of_masters);
    backend_close(b);
}

/* What was asked for beside comes from the one allocation; more than that from its own. */
static void test_beside(void **state) {
    (void)state;
    struct backend *b = open_device("cpu");
    struct arena *a = open_arena(b, ARENA_TRAINED, 2 * ELEMENTS * 4);
    struct tensor state1, more;
    MUST(arena_need_gradients(a));
    MUST(arena_take(a, "a state", ELEMENTS, DTYPE_F32, &state1));
    const char *base = a->store.base, *end = base + a->store.capacity;
    const char *gradients = a->gradients.data, *first = state1.data;
    assert_true(gradients >= base && gradients < end && first >= base && first < end);
    MUST(arena_take(a, "more", 1 << 16, DTYPE_F32, &more));
    const char *outside = more.data;
    assert_true(outside < base || outside >= end);
    arena_give_back(a, &more);
    int64_t used = a->store.used;
    arena_give_back(a, &state1);
    assert_true(a->store.used < used);
    arena_close(a);
    backend_close(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layout), cmocka_unit_test(test_values),         cmocka_unit_test(test_frozen),
        cmocka_unit_test(test_memory), cmocka_unit_test(test_gradients),      cmocka_unit_test(test_revision),
        cmocka_unit_test(test_hash),   cmocka_unit_test(test_hash_of_a_type), cmocka_unit_test(test_beside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
