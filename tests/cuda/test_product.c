/* Classes of product shapes and the table of choices, as the CUDA back end uses them. */
#include <string.h>

#include "cuda/product.h"
#include "tests/unit.h"
#include "util/mem.h"

static const struct tensor none = {0};

/* Addresses that nobody reads, with a known alignment. */
static struct tensor matrix(uintptr_t address, int64_t rows, int64_t columns) {
    return tensor_at((void *)address, rows, columns, DTYPE_BF16); // NOLINT(performance-no-int-to-ptr)
}

static struct gemm forward(int64_t tokens, int64_t in, int64_t out) {
    return (struct gemm){.a = matrix(1024, tokens, in),
                         .b = matrix(4096, out, in),
                         .c = matrix(8192, tokens, out),
                         .transpose_b = true,
                         .alpha = 1};
}

static bool same_key(const struct product_key *a, const struct product_key *b) {
    return memcmp(a, b, sizeof *a) == 0;
}

static void test_round(void **state) {
    (void)state;
    for (int64_t n = 0; n < 5000; n++) {
        int64_t up = product_round(n);
        assert_true(up >= n && 8 * (up - n) <= n);
        assert_true(product_round(up) == up);
        assert_true(product_round(n + 1) >= up);
    }
    assert_int_equal(product_round(15), 15);
    assert_int_equal(product_round(17), 18);
    assert_int_equal(product_round(4097), 4608);
}

static void test_tokens_share_a_class(void **state) {
    (void)state;
    struct gemm one = forward(1990, 512, 2048), other = forward(2001, 512, 2048);
    struct product_key a = product_class(&one, none), b = product_class(&other, none);
    assert_true(same_key(&a, &b));
    assert_int_equal(a.m, 2048);
    a = product_exact(&one, none);
    b = product_exact(&other, none);
    assert_false(same_key(&a, &b));
    /* Widths are exact, whatever their size. */
    struct gemm wide = forward(2000, 512, 50257);
    assert_int_equal(product_class(&wide, none).n, 50257);
    assert_int_equal(product_class(&wide, none).k, 512);
    /* dW = dy^T x: the tokens are k. */
    struct gemm weight = {.a = matrix(0, 1990, 2048),
                          .b = matrix(0, 1990, 510),
                          .c = matrix(0, 2048, 510),
                          .transpose_a = true};
    assert_int_equal(product_class(&weight, none).k, 2048);
    assert_int_equal(product_class(&weight, none).m, 2048);
    assert_int_equal(product_class(&weight, none).n, 510);
}

static void test_keys_tell_apart(void **state) {
    (void)state;
    struct gemm g = forward(64, 512, 2048);
    struct product_key base = product_exact(&g, none), key;
    g.beta = 1;
    key = product_exact(&g, none);
    assert_false(same_key(&base, &key));
    g = forward(64, 512, 2048);
    g.bias = matrix(256, 1, 2048);
    key = product_exact(&g, none);
    assert_false(same_key(&base, &key));
    assert_int_equal(product_alignment(&key, 4), 256);
    g = forward(64, 512, 2048);
    key = product_exact(&g, matrix(512, 64, 2048));
    assert_true(key.ldd == 2048 && (key.flags & PRODUCT_GELU));
    g.c.type = DTYPE_F32;
    key = product_exact(&g, none);
    assert_false(same_key(&base, &key));
    g = forward(64, 512, 2048);
    g.a.stride = 520;
    key = product_exact(&g, none);
    assert_int_equal(key.lda, 520);
    assert_int_equal(product_alignment(&key, 0), 16); /* 1040 bytes a row */
    g.a = matrix(1026, 64, 512);
    key = product_exact(&g, none);
    assert_int_equal(product_alignment(&key, 0), 2);
    assert_int_equal(product_alignment(&key, 1), 256);
}

static void test_table(void **state) {
    (void)state;
    struct product_table *t;
    assert_int_equal(NEW_ARRAY(t, 1), OK);
    /* More keys than there are places: the last ones are always found, none is ever wrong. */
    for (int64_t i = 0; i < 3 * PRODUCT_CHOICES; i++) {
        struct gemm g = forward(i + 1, 512, 2048);
        struct product_key key = product_exact(&g, none);
        struct product_choice choice = {.workspace_bytes = i, .is_usable = true};
        assert_null(product_find(t, &key));
        assert_int_equal(product_remember(t, &key, &choice)->workspace_bytes, i);
        assert_int_equal(product_find(t, &key)->workspace_bytes, i);
        assert_true(t->count <= PRODUCT_CHOICES * 3 / 4);
    }
    int64_t found = 0;
    for (int64_t i = 0; i < 3 * PRODUCT_CHOICES; i++) {
        struct gemm g = forward(i + 1, 512, 2048);
        struct product_key key = product_exact(&g, none);
        const struct product_choice *choice = product_find(t, &key);
        assert_true(!choice || choice->workspace_bytes == i);
        found += choice != NULL;
    }
    assert_int_equal(found, t->count);
    mem_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round),
        cmocka_unit_test(test_tokens_share_a_class),
        cmocka_unit_test(test_keys_tell_apart),
        cmocka_unit_test(test_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
