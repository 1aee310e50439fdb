/* A small network's folder: what comes back is what went out, rounded to fp32; files that do not fit are
 * refused. */
#include "tests/unit.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "store/network_folder.h"

static const struct network_shape shape = {NETWORK_PROCESS, 3, 4, 2, AGGREGATE_ATTENTION, true, true};

static void must(enum status st) {
    if (st != OK) {
        FAIL("%s", status_message()->text);
    }
}

struct place {
    char folder[64], file[96];
    struct network written, read;
};

static void begin(struct place *p, const struct network_shape *other) {
    snprintf(p->folder, sizeof p->folder, "/tmp/collimate-XXXXXX");
    assert_non_null(mkdtemp(p->folder));
    snprintf(p->file, sizeof p->file, "%s/model.safetensors", p->folder);
    must(network_open(&shape, 1, &p->written));
    must(network_open(other, 2, &p->read));
}
static void end(struct place *p) {
    unlink(p->file);
    rmdir(p->folder);
    network_close(&p->written);
    network_close(&p->read);
}

static void expect_rounded(const double *got, const double *from, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        assert_true(got[i] == (double)(float)from[i]);
    }
}

static void test_round_trip(void **state) {
    (void)state;
    struct place p;
    begin(&p, &shape);
    for (int64_t i = 0; i < shape.hidden; i++) {
        p.written.running_mean[i] = 0.1 * (double)i - 1;
        p.written.running_variance[i] = 0.1 * (double)i;
    }
    must(network_folder_save(&p.written, p.folder));
    must(network_folder_load(&p.read, p.folder));
    expect_rounded(p.read.parameters, p.written.parameters, p.written.count);
    expect_rounded(p.read.running_mean, p.written.running_mean, shape.hidden);
    expect_rounded(p.read.running_variance, p.written.running_variance, shape.hidden);
    end(&p);
}

/* Loading what was written says so. */
static void refuses(struct place *p, const char *words) {
    must(network_folder_save(&p->written, p->folder));
    assert_int_equal(network_folder_load(&p->read, p->folder), ERR_DATA);
    if (!strstr(status_message()->text, words)) {
        FAIL("\"%s\" does not say \"%s\"", status_message()->text, words);
    }
    end(p);
}

static void refuses_shape(const struct network_shape *other, const char *words) {
    struct place p;
    begin(&p, other);
    refuses(&p, words);
}

/* A value that no training leaves. */
static void refuses_value(bool is_variance, double value, const char *words) {
    struct place p;
    begin(&p, &shape);
    *(is_variance ? &p.written.running_variance[1] : &p.written.parameters[p.written.count - 1]) = value;
    refuses(&p, words);
}

static void test_refusals(void **state) {
    (void)state;
    struct network_shape wider = shape, plain = shape, linear = shape;
    struct place p;
    wider.width = 5;
    plain.latent = false;
    refuses_shape(&wider, "target_encoder.0.weight is of another shape");
    refuses_shape(&plain, "context_encoder.outer.1.weight is of another shape");
    refuses_value(false, NAN, "context_encoder.outer.1.bias holds a number that is not finite");
    refuses_value(false, 1e300, "not finite"); /* beyond fp32 */
    refuses_value(true, NAN, "head.norm.running_var holds a number that is not finite");
    refuses_value(true, -1, "a variance below 0");
    begin(&p, &shape); /* nothing there */
    assert_int_equal(network_folder_load(&p.read, p.folder), ERR_INPUT);
    network_close(&p.written); /* a network that lacks what this one has */
    linear.inner_mlp = false;
    must(network_open(&linear, 1, &p.written));
    refuses(&p, "context_encoder.inner.1.weight is missing");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_round_trip), cmocka_unit_test(test_refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
