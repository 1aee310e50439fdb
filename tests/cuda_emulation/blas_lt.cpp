/* cuBLASLt over the same products. An algorithm remembers what alignment it was promised, and a product that
 * breaks the promise is refused. */
#include "blas.h"
#include "emulation.h"

#include <cublasLt.h>

using namespace emulation;

struct cublasLtContext {
    int unused;
};

cublasStatus_t cublasLtCreate(cublasLtHandle_t *out) {
    *out = new cublasLtContext();
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}

const char *cublasLtGetStatusString(cublasStatus_t status) {
    switch (status) {
    case CUBLAS_STATUS_SUCCESS:
        return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED:
        return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_ALLOC_FAILED:
        return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_INVALID_VALUE:
        return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_NOT_SUPPORTED:
        return "CUBLAS_STATUS_NOT_SUPPORTED";
    }
    return "?";
}

cublasStatus_t cublasLtMatmulDescInit(cublasLtMatmulDesc_t desc, cublasComputeType_t compute,
                                      cudaDataType_t scale_type) {
    *desc = {};
    desc->compute = compute;
    desc->epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    desc->bias_type = -1;
    return scale_type == CUDA_R_32F ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

/* The value's bytes must be those of the attribute's type. */
static cublasStatus_t set(void *to, size_t to_bytes, const void *value, size_t bytes) {
    if (bytes != to_bytes) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    std::memcpy(to, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t what,
                                              const void *value, size_t bytes) {
    switch (what) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
        return set(&desc->transpose_a, sizeof desc->transpose_a, value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB:
        return set(&desc->transpose_b, sizeof desc->transpose_b, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
        return set(&desc->epilogue, sizeof desc->epilogue, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
        return set(&desc->bias, sizeof desc->bias, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
        return set(&desc->bias_type, sizeof desc->bias_type, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER:
        return set(&desc->aux, sizeof desc->aux, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD:
        return set(&desc->aux_ld, sizeof desc->aux_ld, value, bytes);
    }
    return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatrixLayoutInit(cublasLtMatrixLayout_t layout, cudaDataType_t type, uint64_t rows,
                                        uint64_t columns, int64_t ld) {
    *layout = {type, rows, columns, ld};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceInit(cublasLtMatmulPreference_t preference) {
    *preference = {0, CUBLASLT_REDUCTION_SCHEME_MASK, {256, 256, 256, 256}};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t what,
                                                    const void *value, size_t bytes) {
    switch (what) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
        return set(&preference->workspace, sizeof preference->workspace, value, bytes);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
        return set(&preference->schemes, sizeof preference->schemes, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
        return set(&preference->alignment[what - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES],
                   sizeof preference->alignment[0], value, bytes);
    }
    return CUBLAS_STATUS_INVALID_VALUE;
}

static bool has_gelu(const cublasLtMatmulDescOpaque_t *desc) {
    return (desc->epilogue & CUBLASLT_EPILOGUE_GELU) != 0;
}
static bool has_aux(const cublasLtMatmulDescOpaque_t *desc) {
    return desc->epilogue == CUBLASLT_EPILOGUE_GELU_AUX || desc->epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
}
static bool has_bias(const cublasLtMatmulDescOpaque_t *desc) {
    return (desc->epilogue & CUBLASLT_EPILOGUE_BIAS) != 0;
}

/* The library wants the auxiliary output's columns to begin at multiples of 8 values. */
static bool epilogue_fits(const cublasLtMatmulDescOpaque_t *desc) {
    return !has_aux(desc) || (desc->aux_ld % 8 == 0 && reinterpret_cast<uintptr_t>(desc->aux) % 16 == 0);
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int most,
                                              cublasLtMatmulHeuristicResult_t *out, int *found) {
    *found = 0;
    bool types_fit = a->type == b->type && (d->type == a->type || d->type == CUDA_R_32F);
    if (!types_fit || !epilogue_fits(desc) || most < 1) {
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    *out = {};
    for (int i = 0; i < 4; i++) {
        out->algo.data[i] = preference->alignment[i];
    }
    out->algo.data[4] = 1; /* made by this function */
    *found = 1;
    return CUBLAS_STATUS_SUCCESS;
}

static bool is_aligned(const matrix &x, uint64_t bytes) {
    return reinterpret_cast<uintptr_t>(x.data) % bytes == 0;
}

static bool keeps_promises(const product &p, const cublasLtMatmulAlgo_t *algorithm) {
    return algorithm->data[4] == 1 && is_aligned(p.a, algorithm->data[0]) &&
           is_aligned(p.b, algorithm->data[1]) && (p.beta == 0.0f || is_aligned(p.c, algorithm->data[2])) &&
           is_aligned(p.d, algorithm->data[3]);
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t desc, const void *alpha, const void *a,
                              cublasLtMatrixLayout_t a_layout, const void *b, cublasLtMatrixLayout_t b_layout,
                              const void *beta, const void *c, cublasLtMatrixLayout_t c_layout, void *d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t *algorithm,
                              void *workspace, size_t workspace_bytes, cudaStream_t stream) {
    product p = {};
    p.transpose_a = desc->transpose_a == CUBLAS_OP_T;
    p.transpose_b = desc->transpose_b == CUBLAS_OP_T;
    p.m = static_cast<int64_t>(d_layout->rows);
    p.n = static_cast<int64_t>(d_layout->columns);
    p.k = static_cast<int64_t>(p.transpose_a ? a_layout->rows : a_layout->columns);
    p.alpha = *static_cast<const float *>(alpha);
    p.beta = *static_cast<const float *>(beta);
    p.a = matrix{a, a_layout->type, a_layout->ld};
    p.b = matrix{b, b_layout->type, b_layout->ld};
    p.c = matrix{c, c_layout->type, c_layout->ld};
    p.d = matrix{d, d_layout->type, d_layout->ld};
    p.compute = desc->compute;
    if (has_bias(desc)) {
        cudaDataType_t type =
            desc->bias_type < 0 ? d_layout->type : static_cast<cudaDataType_t>(desc->bias_type);
        p.bias = matrix{desc->bias, type, p.m};
    }
    p.gelu = has_gelu(desc);
    if (has_aux(desc)) {
        p.aux = matrix{desc->aux, d_layout->type, desc->aux_ld};
    }
    uint64_t other = p.transpose_b ? b_layout->columns : b_layout->rows;
    bool is_right = p.k == static_cast<int64_t>(other) && (!algorithm || keeps_promises(p, algorithm)) &&
                    (workspace_bytes == 0 || is_device(workspace, workspace_bytes));
    if (!is_right) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    return epilogue_fits(desc) ? enqueue_product(p, stream) : CUBLAS_STATUS_NOT_SUPPORTED;
}
