/* Products by cuBLASLt with fp32 accumulation; bias and tanh-GELU in the epilogue where it has them.
 *
 * cuBLASLt counts by columns here: a row-major matrix is the transpose of what it sees at the same address.
 * So C = op(A) op(B) is asked for as C^T = op(B)^T op(A)^T, operands swapped and their flags kept; a bias for
 * every row of C is then one for every column of C^T, which is the epilogue's. fp32 products stay fp32;
 * compute: tf32 lets the tensor cores round their operands to 10 bits.
 *
 * An algorithm is asked for once per class of shapes (product.h) and remembered. In deterministic mode only
 * those are taken that add partial sums of a split k in a step of their own, never "in place"; and nothing is
 * timed, so the choice depends on the shape alone.
 */
#include <cublasLt.h>

#include <cstring>
#include <new>

#include "cuda/device.cuh"

extern "C" {
#include "cuda/product.h"
}

static const int64_t WORKSPACE_BYTES = int64_t(32) << 20; /* what NVIDIA advises for Hopper */

struct products {
    cublasLtHandle_t handle;
    void *workspace;
    struct product_table table;
};

static enum status blas_failed(const struct cuda *c, const char *what, cublasStatus_t status) {
    return cuda_fail(c, ERR_SYSTEM, "cuda: %s: %s", what, cublasLtGetStatusString(status));
}
#define BLAS_TRY(c, what, call)                       \
    do {                                              \
        cublasStatus_t status_ = (call);              \
        if (status_ != CUBLAS_STATUS_SUCCESS) {       \
            return blas_failed((c), (what), status_); \
        }                                             \
    } while (0)

enum status cuda_blas_open(struct cuda *c) {
    c->products = new (std::nothrow) struct products();
    if (!c->products) {
        return cuda_fail(c, ERR_SYSTEM, "cuda: no host memory");
    }
    BLAS_TRY(c, "cublasLtCreate", cublasLtCreate(&c->products->handle));
    return cuda_take(c, "the products' workspace", WORKSPACE_BYTES, &c->products->workspace);
}

void cuda_blas_close(struct cuda *c) {
    if (!c->products) {
        return;
    }
    if (c->products->handle) {
        (void)cublasLtDestroy(c->products->handle);
    }
    (void)cudaFree(c->products->workspace);
    delete c->products;
}

static cudaDataType_t blas_type(enum dtype type) {
    return type == DTYPE_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

template <typename T> __global__ void clear_rows(view<T> c, int64_t rows, int64_t columns) {
    FOR_EACH_ELEMENT(i, j, rows, columns) {
        put(c.row(i) + j, 0.0f);
    }
}

/* An empty sum: C is 0, or stays. */
static enum status empty_product(struct cuda *c, const struct gemm *g) {
    if (g->beta != 0.0) {
        return OK;
    }
    dim3 grid = grid_over(g->c.rows, g->c.columns);
    if (g->c.type == DTYPE_BF16) {
        LAUNCH(clear_rows, grid, THREADS, 0, c->stream, view_of<bf16>(g->c), g->c.rows, g->c.columns);
    } else {
        LAUNCH(clear_rows, grid, THREADS, 0, c->stream, view_of<float>(g->c), g->c.rows, g->c.columns);
    }
    return cuda_launched(c, "gemm");
}

/* A product in the library's words. d: C, or the activation, with C then the epilogue's auxiliary output. */
struct words {
    cublasLtMatmulDescOpaque_t operation;
    cublasLtMatrixLayoutOpaque_t first, second, d; /* first: our B, second: our A */
};

static enum status set_operation(const struct cuda *c, struct words *w, cublasLtMatmulDescAttributes_t what,
                                 const void *value, size_t bytes) {
    BLAS_TRY(c, "cublasLtMatmulDescSetAttribute",
             cublasLtMatmulDescSetAttribute(&w->operation, what, value, bytes));
    return OK;
}

static enum status describe_epilogue(const struct cuda *c, const struct gemm *g,
                                     const struct product_key *key, const void *bias, void *before,
                                     struct words *w) {
    bool has_gelu = (key->flags & PRODUCT_GELU) != 0;
    cublasLtEpilogue_t epilogue = bias && has_gelu ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS
                                  : has_gelu       ? CUBLASLT_EPILOGUE_GELU_AUX
                                  : bias           ? CUBLASLT_EPILOGUE_BIAS
                                                   : CUBLASLT_EPILOGUE_DEFAULT;
    TRY(set_operation(c, w, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue));
    if (bias) {
        int32_t type = blas_type(g->bias.type);
        TRY(set_operation(c, w, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias));
        TRY(set_operation(c, w, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &type, sizeof type));
    }
    if (has_gelu) {
        TRY(set_operation(c, w, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &before, sizeof before));
        TRY(set_operation(c, w, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, &key->ldc, sizeof key->ldc));
    }
    return OK;
}

/* g with the dimensions of key. Every field of the descriptors that an algorithm may depend on is in the key.
 */
static enum status describe(const struct cuda *c, const struct gemm *g, const struct product_key *key,
                            struct words *w) {
    cublasComputeType_t compute = c->allows_tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    cublasOperation_t first = g->transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasOperation_t second = g->transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    int64_t ldd = key->ldd > 0 ? key->ldd : key->ldc;
    uint64_t m = static_cast<uint64_t>(key->m);
    uint64_t n = static_cast<uint64_t>(key->n);
    uint64_t k = static_cast<uint64_t>(key->k);
    BLAS_TRY(c, "cublasLtMatmulDescInit", cublasLtMatmulDescInit(&w->operation, compute, CUDA_R_32F));
    TRY(set_operation(c, w, CUBLASLT_MATMUL_DESC_TRANSA, &first, sizeof first));
    TRY(set_operation(c, w, CUBLASLT_MATMUL_DESC_TRANSB, &second, sizeof second));
    BLAS_TRY(c, "cublasLtMatrixLayoutInit",
             cublasLtMatrixLayoutInit(&w->first, blas_type(g->b.type), g->transpose_b ? k : n,
                                      g->transpose_b ? n : k, key->ldb));
    BLAS_TRY(c, "cublasLtMatrixLayoutInit",
             cublasLtMatrixLayoutInit(&w->second, blas_type(g->a.type), g->transpose_a ? m : k,
                                      g->transpose_a ? k : m, key->lda));
    BLAS_TRY(c, "cublasLtMatrixLayoutInit", cublasLtMatrixLayoutInit(&w->d, blas_type(g->c.type), n, m, ldd));
    return OK;
}

static enum status set_preference(const struct cuda *c, cublasLtMatmulPreference_t p,
                                  const struct product_key *key) {
    uint64_t workspace = WORKSPACE_BYTES;
    uint32_t schemes =
        c->deterministic ? CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE : CUBLASLT_REDUCTION_SCHEME_MASK;
    uint32_t first = static_cast<uint32_t>(product_alignment(key, 1));
    uint32_t second = static_cast<uint32_t>(product_alignment(key, 0));
    uint32_t d = static_cast<uint32_t>(product_alignment(key, (key->flags & PRODUCT_GELU) != 0 ? 3 : 2));
    const struct {
        cublasLtMatmulPreferenceAttributes_t what;
        const void *value;
        size_t bytes;
    } all[] = {
        {CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace},
        {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes, sizeof schemes},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &first, sizeof first},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &second, sizeof second},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &d, sizeof d},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &d, sizeof d},
    };
    BLAS_TRY(c, "cublasLtMatmulPreferenceInit", cublasLtMatmulPreferenceInit(p));
    for (const auto &one : all) {
        BLAS_TRY(c, "cublasLtMatmulPreferenceSetAttribute",
                 cublasLtMatmulPreferenceSetAttribute(p, one.what, one.value, one.bytes));
    }
    return OK;
}

/* Asks the library about key's shape. The pointers in the question say nothing but their alignment. */
static enum status ask(const struct cuda *c, const struct gemm *g, const struct product_key *key,
                       struct product_choice *out) {
    struct words w;
    cublasLtMatmulPreferenceOpaque_t preference;
    cublasLtMatmulHeuristicResult_t best = {};
    int found = 0;
    void *bias = g->bias.data ? reinterpret_cast<void *>(product_alignment(key, 4)) : nullptr;
    void *before = reinterpret_cast<void *>(product_alignment(key, 2));
    TRY(describe(c, g, key, &w));
    TRY(describe_epilogue(c, g, key, bias, before, &w));
    TRY(set_preference(c, &preference, key));
    cublasStatus_t answer = cublasLtMatmulAlgoGetHeuristic(
        c->products->handle, &w.operation, &w.first, &w.second, &w.d, &w.d, &preference, 1, &best, &found);
    *out = {};
    if (answer == CUBLAS_STATUS_NOT_SUPPORTED || (answer == CUBLAS_STATUS_SUCCESS && found < 1)) {
        return OK;
    }
    BLAS_TRY(c, "cublasLtMatmulAlgoGetHeuristic", answer);
    static_assert(sizeof out->algorithm == sizeof best.algo, "an algorithm fits in a choice");
    std::memcpy(out->algorithm, &best.algo, sizeof best.algo);
    out->workspace_bytes = static_cast<int64_t>(best.workspaceSize);
    out->is_usable = best.state == CUBLAS_STATUS_SUCCESS;
    return OK;
}

static enum status choice_for(struct cuda *c, const struct gemm *g, const struct product_key *key,
                              struct product_choice *out) {
    const struct product_choice *known = product_find(&c->products->table, key);
    if (!known) {
        TRY(ask(c, g, key, out));
        known = product_remember(&c->products->table, key, out);
    }
    *out = *known;
    return OK;
}

/* The product by one choice. *ran is false where the library refuses the algorithm for this exact shape. */
static enum status run(struct cuda *c, const struct gemm *g, struct tensor activated,
                       const struct product_choice *choice, bool *ran) {
    float alpha = static_cast<float>(g->alpha);
    float beta = static_cast<float>(g->beta);
    struct product_key exact = product_exact(g, activated);
    void *d = activated.data ? activated.data : g->c.data;
    struct words w;
    cublasLtMatmulAlgo_t algorithm;
    TRY(describe(c, g, &exact, &w));
    TRY(describe_epilogue(c, g, &exact, g->bias.data, g->c.data, &w));
    std::memcpy(&algorithm, choice->algorithm, sizeof algorithm);
    cublasStatus_t status = cublasLtMatmul(c->products->handle, &w.operation, &alpha, g->b.data, &w.first,
                                           g->a.data, &w.second, &beta, d, &w.d, d, &w.d, &algorithm,
                                           c->products->workspace, WORKSPACE_BYTES, c->stream);
    *ran = status == CUBLAS_STATUS_SUCCESS;
    if (status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE) {
        return OK;
    }
    BLAS_TRY(c, "cublasLtMatmul", status);
    return OK;
}

/* By the class's algorithm; where that does not fit, by one for exactly this shape. */
static enum status multiply(struct cuda *c, const struct gemm *g, struct tensor activated, bool *ran) {
    const struct product_key keys[] = {product_class(g, activated), product_exact(g, activated)};
    *ran = false;
    for (int i = 0; i < 2 && !*ran; i++) {
        struct product_choice choice;
        TRY(choice_for(c, g, &keys[i], &choice));
        if (choice.is_usable) {
            TRY(run(c, g, activated, &choice, ran));
        }
    }
    return OK;
}

static enum status need_product(struct cuda *c, const struct gemm *g) {
    const struct tensor none = {};
    bool ran = false;
    TRY(multiply(c, g, none, &ran));
    if (ran) {
        return OK;
    }
    return cuda_fail(
        c, ERR_SYSTEM, "cuda: cuBLASLt has no algorithm for a product of %lld x %lld by %lld (%s)",
        static_cast<long long>(g->c.rows), static_cast<long long>(g->c.columns),
        static_cast<long long>(g->transpose_a ? g->a.rows : g->a.columns), dtype_name(g->a.type));
}

static bool is_empty(const struct gemm *g) {
    return (g->transpose_a ? g->a.rows : g->a.columns) == 0;
}

enum status cuda_product(struct cuda *c, const struct gemm *g) {
    struct gemm bare = *g;
    bare.bias = {};
    return is_empty(g) ? empty_product(c, g) : need_product(c, &bare);
}

template <typename C, typename T>
__global__ void add_bias(view<C> c, const T *bias, int64_t rows, int64_t columns) {
    FOR_EACH_ELEMENT(i, j, rows, columns) {
        C *at = c.row(i) + j;
        put(at, value_of(*at) + value_of(bias[j]));
    }
}

/* The bias where the epilogue does not have it: another type than C's, or an empty sum. */
static enum status cuda_add_bias(struct cuda *c, const struct gemm *g) {
    dim3 grid = grid_over(g->c.rows, g->c.columns);
    int64_t rows = g->c.rows;
    int64_t columns = g->c.columns;
    const void *bias = g->bias.data;
    if (g->bias.type == DTYPE_F32) {
        LAUNCH(add_bias, grid, THREADS, 0, c->stream, view_of<float>(g->c), static_cast<const float *>(bias),
               rows, columns);
    } else if (g->c.type == DTYPE_F32) {
        LAUNCH(add_bias, grid, THREADS, 0, c->stream, view_of<float>(g->c), static_cast<const bf16 *>(bias),
               rows, columns);
    } else {
        LAUNCH(add_bias, grid, THREADS, 0, c->stream, view_of<bf16>(g->c), static_cast<const bf16 *>(bias),
               rows, columns);
    }
    return cuda_launched(c, "gemm");
}

enum status cuda_gemm(struct backend *b, const struct gemm *g) {
    struct cuda *c = cuda_of(b);
    bool is_fused = !g->bias.data || (g->bias.type == g->c.type && !is_empty(g));
    if (is_fused) {
        return is_empty(g) ? empty_product(c, g) : need_product(c, g);
    }
    TRY(cuda_product(c, g));
    return cuda_add_bias(c, g);
}

/* cuBLASLt's GELU is the one with tanh; it writes what it was given beside the result, which backward reads.
 * Other activations, and shapes for which it has no such epilogue, take two steps. */
enum status cuda_gemm_activate(struct backend *b, const struct gemm_activate *call) {
    const struct gemm *g = &call->gemm;
    const struct activate *a = &call->activate;
    bool fits = a->kind == ACTIVATION_GELU_TANH && g->beta == 0.0 && !is_empty(g) &&
                product_leading(g->c) % 8 == 0 && (!g->bias.data || g->bias.type == g->c.type);
    bool ran = false;
    if (fits) {
        TRY(multiply(cuda_of(b), g, a->y, &ran));
    }
    if (ran) {
        return OK;
    }
    TRY(cuda_gemm(b, g));
    return cuda_activate(b, a);
}
