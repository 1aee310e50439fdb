/* The fixed tree: the same bits on 1, 2 and 4 ranks as a serial tree over all leaves. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mpi/sum_internal.h"
#include "tests/check.h"
#include "util/mem.h"
#include "util/rng.h"

enum { LEAVES = 8 };

/* Magnitudes over ten orders, so that another order of additions shows in the bits. */
static double leaf_value(int leaf, int64_t element) {
    struct rng r = rng_stream(7, RNG_CHECK, leaf, element);
    double size = rng_uniform(&r) * 10;
    double value = rng_normal(&r);
    for (; size > 1; size -= 1) {
        value *= 10;
    }
    return value;
}

static double tree_f64(int first, int last, int64_t element) {
    if (last - first == 1) {
        return leaf_value(first, element);
    }
    int middle = (first + last) / 2;
    return tree_f64(first, middle, element) + tree_f64(middle, last, element);
}

static float tree_f32(int first, int last, int64_t element) {
    if (last - first == 1) {
        return (float)leaf_value(first, element);
    }
    int middle = (first + last) / 2;
    return tree_f32(first, middle, element) + tree_f32(middle, last, element);
}

static void test_size(struct comm *c, int64_t n) {
    struct range mine = range_part(LEAVES, c->rank, c->size);
    int first = (int)mine.first, last = (int)mine.last;
    double *d = mem_calloc(n, sizeof *d), *scratch = mem_calloc(n, sizeof *scratch),
           *small = mem_calloc(n, 8);
    float *f = mem_calloc(n, sizeof *f);
    for (int64_t i = 0; i < n; i++) {
        d[i] = small[i] = tree_f64(first, last, i);
        f[i] = tree_f32(first, last, i);
    }
    CHECK(sum_tree(c, d, n, SUM_F64, scratch) == OK);
    CHECK(sum_tree(c, f, n, SUM_F32, scratch) == OK);
    CHECK(sum_tree_f64(c, small, n) == OK);
    int64_t wrong = 0;
    for (int64_t i = 0; i < n; i++) {
        double want = tree_f64(0, LEAVES, i);
        float want_f32 = tree_f32(0, LEAVES, i);
        wrong += memcmp(&d[i], &want, 8) != 0 || memcmp(&small[i], &want, 8) != 0 ||
                 memcmp(&f[i], &want_f32, 4) != 0;
    }
    CHECK(wrong == 0);
    mem_free(d);
    mem_free(scratch);
    mem_free(small);
    mem_free(f);
}

/* The test must be able to fail: a plain left-to-right sum has other bits. */
static void test_order_shows(void) {
    int different = 0;
    for (int64_t i = 0; i < 100; i++) {
        double sum = 0, want = tree_f64(0, LEAVES, i);
        for (int leaf = 0; leaf < LEAVES; leaf++) {
            sum += leaf_value(leaf, i);
        }
        different += memcmp(&sum, &want, 8) != 0;
    }
    CHECK(different > 10);
}

int main(int argc, char **argv) {
    struct comm *c;
    setenv("COLLIMATE_CHECK", "collectives", 1);
    if (comm_start(&argc, &argv, &c) != OK) {
        return 1;
    }
    /* Around a chunk (32768 doubles) and several of them; none at all; fewer than ranks. */
    int64_t sizes[] = {0, 1, 2, 3, 5, 511, 513, 32768, 65537, 140001};
    for (int i = 0; i < COUNT_OF(sizes); i++) {
        test_size(c, sizes[i]);
    }
    test_order_shows();
    comm_finish(c);
    return failures != 0;
}
