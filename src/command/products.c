#include "command/products.h"

#include "train/speed.h"
#include "util/log.h"

static const double MEASURED_S = 0.05;

/* Local. GFLOP/s of a product of bf16 matrices. */
static enum status measure(const struct backend_request *request, const char *kind, double *rate) {
    struct backend_request asked = *request;
    struct backend *b = NULL;
    char why[256];
    asked.device = "cpu";
    asked.products = kind;
    TRY(backend_open(&asked, &b, why));
    enum status st = speed_gemm(b, MEASURED_S, rate);
    backend_close(b);
    *rate *= 1e-9;
    return st;
}

/* Collective. On the slowest rank, to the thousandth. */
static enum status slowest_rate(struct comm *c, const struct backend_request *request, const char *kind,
                                double *rate) {
    TRY(comm_agree(c, measure(request, kind, rate)));
    int64_t negative = -(int64_t)(*rate * 1e3);
    TRY(comm_max_i64(c, &negative, 1));
    *rate = (double)-negative * 1e-3;
    return OK;
}

enum status products_choose(struct comm *c, const struct backend_request *request, bool is_deterministic,
                            const char **out) {
    static const char *const fast = PRODUCTS_AVX512;
    bool has = backend_cpu_offers_products(fast);
    int64_t extremes[] = {has, !has}; /* some rank has it, some has not */
    double in_fp32 = 0, in_bf16 = 0;
    *out = PRODUCTS_FP32;
    TRY(comm_max_i64(c, extremes, 2));
    if (!extremes[0]) {
        return OK;
    }
    if (is_deterministic) {
        return fail(ERR_USAGE,
                    "cpu.products: auto measures, and may find otherwise when the run goes on; with "
                    "train.deterministic=true and compute=bf16 give fp32, or %s, which %s",
                    fast, extremes[1] ? "some of these processors have" : "this processor has");
    }
    if (extremes[1]) {
        log_root(LOG_INFO, "products in fp32: not every rank's processor has AVX512-BF16");
        return OK;
    }
    TRY(slowest_rate(c, request, PRODUCTS_FP32, &in_fp32));
    TRY(slowest_rate(c, request, fast, &in_bf16));
    *out = in_bf16 > in_fp32 ? fast : PRODUCTS_FP32;
    log_root(LOG_INFO, "cpu.products: %s, %.0f GFLOP/s a rank in fp32 and %.0f by AVX512-BF16", *out, in_fp32,
             in_bf16);
    return OK;
}
