/* The suspicious back end notices what it is there for, and the plan counts. */
#include "tests/unit.h"

#include <math.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backend/backend_internal.h"
#include "backend/check/check_memory.h"
#include "backend/workspace.h"
#include "reference/harness.h"
#include "reference/reference_backend.h"

static struct backend *open_device(const char *name) {
    struct backend *b;
    char why[256];
    struct backend_request request = {.device = name, .compute = "fp32", .threads = 1, .device_index = -1};
    must(backend_open(&request, &b, why));
    assert_string_equal(b->caps.name, name);
    assert_true(strlen(why) > 0);
    return b;
}

static struct tensor fresh(struct backend *b, int64_t rows, int64_t columns) {
    void *data;
    must(backend_alloc(b, rows * columns * 4, &data));
    return tensor_at(data, rows, columns, DTYPE_F32);
}

static void expect_fault(enum status st, const char *op, const char *part) {
    const char *text = status_message()->text;
    if (st != ERR_INTERNAL || !strstr(text, op) || !strstr(text, part)) {
        FAIL("expected a fault of %s with \"%s\", got %d \"%s\"", op, part, (int)st, text);
    }
}

/* Dereferencing a device address on the host ends the process with SIGSEGV. */
static void test_host_cannot_look(void **state) {
    (void)state;
    static const char *const names[] = {"check:cpu", "plan"};
    for (int i = 0; i < 2; i++) {
        struct backend *b = open_device(names[i]);
        struct tensor t = fresh(b, 4, 4);
        pid_t child = fork();
        if (child == 0) {
            signal(SIGSEGV, SIG_DFL);
            signal(SIGBUS, SIG_DFL);
            _exit(((volatile float *)t.data)[3] > 0);
        }
        int how = 0;
        assert_int_equal(waitpid(child, &how, 0), child);
#ifdef __SANITIZE_ADDRESS__
        assert_true(WIFSIGNALED(how) || WEXITSTATUS(how) != 0);
#else
        assert_true(WIFSIGNALED(how) && (WTERMSIG(how) == SIGSEGV || WTERMSIG(how) == SIGBUS));
#endif
        assert_null(backend_host_address(b, t.data));
        backend_free(b, t.data);
        backend_close(b);
    }
}

static void test_bad_places(void **state) {
    (void)state;
    struct backend *b = open_device("check:cpu");
    struct tensor x = fresh(b, 8, 8);
    struct tensor y = fresh(b, 8, 8);
    float host[64] = {0};
    must(backend_write(b, x.data, host, sizeof host));
    must(backend_write(b, y.data, host, sizeof host));
    must(backend_add(b, x, 1, y));
    struct tensor far = x;
    far.rows = 9;
    struct tensor nine = fresh(b, 9, 8);
    must(backend_zero_tensor(b, nine));
    expect_fault(backend_add(b, nine, 1, far), "add", "past its allocation");
    expect_fault(backend_read(b, host, (char *)x.data + 8, 256), "read", "past its allocation");
    struct tensor lost = tensor_at(host, 8, 8, DTYPE_F32); /* host memory is no device memory */
    expect_fault(backend_add(b, x, 1, lost), "add", "not device memory");
    backend_free(b, y.data);
    expect_fault(backend_add(b, x, 1, y), "add", "freed");
    backend_free(b, (char *)x.data + 64);
    expect_fault(backend_add(b, x, 1, tensor_rows(nine, 0, 8)), "add", "freed");
    backend_close(b);
}

static void test_unwritten_memory(void **state) {
    (void)state;
    struct backend *b = open_device("check:cpu");
    struct tensor x = fresh(b, 3, 5);
    struct tensor y = fresh(b, 3, 5);
    must(backend_zero_tensor(b, y));
    expect_fault(backend_add(b, y, 1, x), "add", "(0, 0) was not written");
    must(backend_zero_tensor(b, y)); /* it took over the poison */
    double nan[15];
    for (int i = 0; i < 15; i++) {
        nan[i] = NAN; /* a NaN that was computed is not one that was never written */
    }
    must(backend_write_doubles(b, x, nan));
    must(backend_add(b, y, 1, x));
    backend_free(b, x.data);
    backend_free(b, y.data);
    backend_close(b);
}

/* What a workspace takes back is poison again. */
static void test_released_workspace(void **state) {
    (void)state;
    struct backend *b = open_device("check:cpu");
    struct workspace w;
    struct tensor kept;
    struct tensor late;
    must(workspace_open(b, 4096, &w));
    must(workspace_take(&w, 3, 5, DTYPE_F32, "kept", &kept));
    int64_t mark = workspace_mark(&w);
    must(workspace_take(&w, 3, 5, DTYPE_F32, "late", &late));
    must(backend_zero_tensor(b, kept));
    must(backend_zero_tensor(b, late));
    must(backend_add(b, kept, 1, late));
    workspace_release(&w, mark);
    expect_fault(backend_add(b, kept, 1, late), "add", "was not written");
    must(workspace_take(&w, 3, 5, DTYPE_F32, "again", &late));
    must(backend_zero_tensor(b, kept));
    expect_fault(backend_add(b, kept, 1, late), "add", "was not written");
    workspace_close(&w);
    backend_close(b);
}

static void test_indices(void **state) {
    (void)state;
    struct backend *b = open_device("check:cpu");
    struct tensor table = fresh(b, 4, 3);
    struct tensor out = fresh(b, 2, 3);
    struct tensor ids = fresh(b, 1, 2);
    ids.type = DTYPE_I32;
    must(backend_zero_tensor(b, table));
    must(backend_write(b, ids.data, (const int32_t[]){3, 4}, 8));
    expect_fault(backend_gather(b, out, table, ids), "gather", "rows[1] is 4");
    expect_fault(backend_embed(b, out, table, ids, 1, false), "embed", "ids[1] is 4");
    must(backend_write(b, ids.data, (const int32_t[]){-1, 0}, 8));
    expect_fault(backend_scatter_add(b, table, out, ids), "scatter_add", "rows[0] is -1");
    /* only rows that are named count: 1 and 3 may be unwritten, 2 may not */
    must(backend_zero_tensor(b, out));
    check_poison(b, table.data, 4 * 3 * 4);
    must(backend_zero_tensor(b, tensor_rows(table, 0, 1)));
    must(backend_write(b, ids.data, (const int32_t[]){0, 0}, 8));
    must(backend_scatter_add(b, table, out, ids));
    must(backend_embed_gradient(b, table, out, ids, 1));
    must(backend_write(b, ids.data, (const int32_t[]){0, 2}, 8));
    expect_fault(backend_scatter_add(b, table, out, ids), "scatter_add", "to (2, 0) was not written");
    backend_free(b, table.data);
    backend_free(b, out.data);
    backend_free(b, ids.data);
    backend_close(b);
}

/* A call whose operation misbehaves: `fault` is written by the "kernel" at byte `at` of the block of x or y.
 */
static enum status misbehave(struct check_memory *m, struct tensor x, struct tensor y, bool to_input,
                             int64_t at) {
    struct call c = {.memory = m, .op = "kernel"};
    call_use(&c, "x", &x, USE_READ);
    call_use(&c, "y", &y, USE_WRITE);
    TRY(call_begin(&c));
    for (int64_t i = 0; i < y.rows; i++) {
        for (int64_t j = 0; j < y.columns; j++) {
            ((float *)y.data)[i * y.stride + j] = ((float *)x.data)[i * x.stride + j] + 1;
        }
    }
    if (at != INT64_MAX) {
        ((char *)(to_input ? x.data : y.data))[at] ^= 1;
    }
    return call_end(&c, OK);
}

static void test_kernels_that_stray(void **state) {
    (void)state;
    struct backend *inner;
    struct check_memory m;
    must(reference_open(&inner));
    must(check_memory_open(inner, &m));
    void *x_data;
    void *y_data;
    must(check_memory_alloc(&m, 6 * 10 * 4, &x_data));
    must(check_memory_alloc(&m, 6 * 10 * 4, &y_data));
    struct tensor x = tensor_at(x_data, 6, 10, DTYPE_F32);
    struct tensor y = tensor_at(y_data, 6, 10, DTYPE_F32);
    char *real;
    must(check_memory_find(&m, "test", "x", x_data, 240, &real));
    memset(real, 0, 240);
    y.columns = 7; /* a view: three columns of gap */
    x.columns = 7;
    must(misbehave(&m, x, y, false, INT64_MAX));
    expect_fault(misbehave(&m, x, y, true, 12), "kernel", "changed its input x");
    expect_fault(misbehave(&m, x, y, true, 7 * 4), "kernel", "changed its input x"); /* its gap */
    expect_fault(misbehave(&m, x, y, false, 7 * 4 + 1), "kernel", "wrote outside its output y");
    expect_fault(misbehave(&m, x, y, false, -1), "kernel", "wrote outside its output y");
    expect_fault(misbehave(&m, x, y, false, 240), "kernel", "wrote outside its output y"); /* guard */
    /* in place: the input's change is the output's right */
    must(misbehave(&m, x, x, false, INT64_MAX));
    /* an output side by side with an input in one matrix is poisoned, and that input is watched still */
    struct tensor left = tensor_columns(tensor_at(y_data, 6, 10, DTYPE_F32), 0, 5);
    struct tensor right = tensor_columns(tensor_at(y_data, 6, 10, DTYPE_F32), 5, 5);
    must(check_memory_find(&m, "test", "y", y_data, 240, &real));
    memset(real, 0, 240);
    must(misbehave(&m, left, right, false, INT64_MAX));
    expect_fault(misbehave(&m, left, right, true, 40), "kernel", "changed its input x");
    check_memory_free(&m, x_data);
    check_memory_free(&m, y_data);
    check_memory_close(&m);
    backend_close(inner);
}

static void test_plan_holds_nothing(void **state) {
    (void)state;
    struct backend *b = open_device("plan");
    void *first;
    void *second;
    void *third;
    must(backend_alloc(b, 1000, &first));
    must(backend_alloc(b, 5000000000000, &second)); /* more than there is */
    backend_free(b, first);
    must(backend_alloc(b, 900, &third));
    assert_ptr_not_equal(second, third);
    assert_int_equal((uintptr_t)third % 64, 0);
    float host[8] = {1, 1, 1, 1, 1, 1, 1, 1};
    struct tensor x = tensor_at(third, 2, 4, DTYPE_F32);
    struct tensor y = tensor_at(second, 2, 4, DTYPE_F32);
    must(backend_write(b, third, host, 32));
    must(backend_add(b, x, 1, y));
    must(backend_read(b, host, third, 32));
    assert_true(host[7] == 0);
    expect_fault(backend_add(b, x, 1, tensor_rows(y, 0, 1)), "add", "should be");
    backend_free(b, second);
    backend_free(b, third);
    backend_close(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_host_cannot_look),
        cmocka_unit_test(test_bad_places),
        cmocka_unit_test(test_unwritten_memory),
        cmocka_unit_test(test_released_workspace),
        cmocka_unit_test(test_indices),
        cmocka_unit_test(test_kernels_that_stray),
        cmocka_unit_test(test_plan_holds_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
