/* The words of cuDNN's interface against its header, and the graphs of attention before the library itself,
 * where these are there. The library names engines for a device that is only described to it, so this needs
 * none; nothing is run.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "cuda/cudnn_graph.h"
#include "tests/unit.h"

#if defined __has_include
#if __has_include(<cudnn_graph.h>) && __has_include(<cuda_runtime_api.h>)
#include <cudnn_graph.h>
#define SAME(name) _Static_assert((int)(name) == (int)CUDNN_##name, #name)
SAME(STATUS_SUCCESS);
SAME(STATUS_BAD_PARAM);
SAME(STATUS_NOT_SUPPORTED);
SAME(BACKEND_POINTWISE_DESCRIPTOR);
SAME(BACKEND_ENGINECFG_DESCRIPTOR);
SAME(BACKEND_ENGINEHEUR_DESCRIPTOR);
SAME(BACKEND_EXECUTION_PLAN_DESCRIPTOR);
SAME(BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
SAME(BACKEND_OPERATIONGRAPH_DESCRIPTOR);
SAME(BACKEND_VARIANT_PACK_DESCRIPTOR);
SAME(BACKEND_TENSOR_DESCRIPTOR);
SAME(BACKEND_MATMUL_DESCRIPTOR);
SAME(BACKEND_OPERATION_MATMUL_DESCRIPTOR);
SAME(BACKEND_REDUCTION_DESCRIPTOR);
SAME(BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
SAME(BACKEND_OPERATION_RESHAPE_DESCRIPTOR);
SAME(BACKEND_DEVICEPROP_DESCRIPTOR);
SAME(ATTR_POINTWISE_MODE);
SAME(ATTR_POINTWISE_MATH_PREC);
SAME(ATTR_POINTWISE_AXIS);
SAME(ATTR_ENGINEHEUR_MODE);
SAME(ATTR_ENGINEHEUR_OPERATION_GRAPH);
SAME(ATTR_ENGINEHEUR_RESULTS);
SAME(ATTR_ENGINEHEUR_DEVICEPROP);
SAME(ATTR_EXECUTION_PLAN_HANDLE);
SAME(ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
SAME(ATTR_EXECUTION_PLAN_WORKSPACE_SIZE);
SAME(ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR);
SAME(ATTR_OPERATION_POINTWISE_XDESC);
SAME(ATTR_OPERATION_POINTWISE_BDESC);
SAME(ATTR_OPERATION_POINTWISE_YDESC);
SAME(ATTR_OPERATION_POINTWISE_TDESC);
SAME(ATTR_OPERATIONGRAPH_HANDLE);
SAME(ATTR_OPERATIONGRAPH_OPS);
SAME(ATTR_TENSOR_BYTE_ALIGNMENT);
SAME(ATTR_TENSOR_DATA_TYPE);
SAME(ATTR_TENSOR_DIMENSIONS);
SAME(ATTR_TENSOR_STRIDES);
SAME(ATTR_TENSOR_UNIQUE_ID);
SAME(ATTR_TENSOR_IS_VIRTUAL);
SAME(ATTR_TENSOR_IS_BY_VALUE);
SAME(ATTR_TENSOR_RAGGED_OFFSET_DESC);
SAME(ATTR_VARIANT_PACK_UNIQUE_IDS);
SAME(ATTR_VARIANT_PACK_DATA_POINTERS);
SAME(ATTR_VARIANT_PACK_WORKSPACE);
SAME(ATTR_MATMUL_COMP_TYPE);
SAME(ATTR_OPERATION_MATMUL_ADESC);
SAME(ATTR_OPERATION_MATMUL_BDESC);
SAME(ATTR_OPERATION_MATMUL_CDESC);
SAME(ATTR_OPERATION_MATMUL_DESC);
SAME(ATTR_OPERATION_MATMUL_GEMM_M_OVERRIDE_DESC);
SAME(ATTR_OPERATION_MATMUL_GEMM_N_OVERRIDE_DESC);
SAME(ATTR_OPERATION_MATMUL_GEMM_K_OVERRIDE_DESC);
SAME(ATTR_REDUCTION_OPERATOR);
SAME(ATTR_REDUCTION_COMP_TYPE);
SAME(ATTR_OPERATION_REDUCTION_XDESC);
SAME(ATTR_OPERATION_REDUCTION_YDESC);
SAME(ATTR_OPERATION_REDUCTION_DESC);
SAME(ATTR_OPERATION_RESHAPE_XDESC);
SAME(ATTR_OPERATION_RESHAPE_YDESC);
SAME(ATTR_DEVICEPROP_JSON_REPRESENTATION);
SAME(TYPE_HANDLE);
SAME(TYPE_DATA_TYPE);
SAME(TYPE_BOOLEAN);
SAME(TYPE_INT64);
SAME(TYPE_VOID_PTR);
SAME(TYPE_HEUR_MODE);
SAME(TYPE_POINTWISE_MODE);
SAME(TYPE_BACKEND_DESCRIPTOR);
SAME(TYPE_REDUCTION_OPERATOR_TYPE);
SAME(TYPE_CHAR);
SAME(DATA_FLOAT);
SAME(DATA_INT32);
SAME(DATA_BFLOAT16);
SAME(DATA_BOOLEAN);
SAME(POINTWISE_ADD);
SAME(POINTWISE_MUL);
SAME(POINTWISE_DIV);
SAME(POINTWISE_SUB);
SAME(POINTWISE_EXP);
SAME(POINTWISE_LOG);
SAME(POINTWISE_IDENTITY);
SAME(POINTWISE_CMP_GE);
SAME(POINTWISE_CMP_LT);
SAME(POINTWISE_LOGICAL_AND);
SAME(POINTWISE_GEN_INDEX);
SAME(POINTWISE_BINARY_SELECT);
SAME(REDUCE_TENSOR_ADD);
SAME(REDUCE_TENSOR_MAX);
SAME(HEUR_MODE_A);
#endif
#endif

/* H100 (deviceVer 900) or A100 (800), as cuDNN's device properties name things. */
static const char DEVICE[] =
    "{\"maxGridSize\":[2147483647,65535,65535],\"maxBlockSize\":[1024,1024,64],\"regsPerBlock\":65536,"
    "\"multiProcessorCount\":%d,\"warpSize\":32,\"maxSharedMemoryPerBlock\":49152,"
    "\"maxSharedMemoryPerBlockOptin\":%d,\"reservedSharedMemoryPerBlock\":1024,\"maxRegistersPerSM\":65536,"
    "\"maxCtasPerSM\":32,\"maxThreadsPerBlock\":1024,\"maxThreadsPerSM\":2048,\"pciDeviceId\":9008,"
    "\"isTccDriver\":0,\"supportCoopLaunch\":1,\"smClockRateKHz\":1980000,\"memClockRateKHz\":2619000,"
    "\"l2CacheSize\":52428800,\"deviceName\":\"%s\",\"deviceVer\":%d,\"driverVer\":13000,"
    "\"totalGlobalMem\":85520809984,\"cudaDeviceId\":0}";

static bool find(void *file, const char *name, void *out) {
    void *symbol = dlsym(file, name);
    memcpy(out, &symbol, sizeof symbol);
    return symbol != NULL;
}

/* The library wants a driver, or the toolkit's stub of one, though nothing here calls it. */
static bool has_driver(void) {
#ifdef CUDA_DRIVER_STUB
    return dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL) || dlopen(CUDA_DRIVER_STUB, RTLD_NOW | RTLD_GLOBAL);
#else
    return dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL) != NULL;
#endif
}

static bool load(struct cudnn_library *l) {
    void *file = dlopen("libcudnn.so.9", RTLD_NOW | RTLD_LOCAL);
    return file && has_driver() && find(file, "cudnnGetVersion", &l->get_version) &&
           find(file, "cudnnBackendCreateDescriptor", &l->create_descriptor) &&
           find(file, "cudnnBackendDestroyDescriptor", &l->destroy_descriptor) &&
           find(file, "cudnnBackendSetAttribute", &l->set_attribute) &&
           find(file, "cudnnBackendGetAttribute", &l->get_attribute) &&
           find(file, "cudnnBackendFinalize", &l->finalize) && l->get_version() >= FUSED_LEAST_VERSION;
}

static struct fused_shape shape_of(int is_backward, int mask, int kv_heads, int head_dim) {
    struct fused_shape s = {.is_backward = is_backward,
                            .mask = mask,
                            .batch = 6,
                            .heads = 12,
                            .kv_heads = kv_heads,
                            .head_dim = head_dim,
                            .queries = 192,
                            .keys = mask == FUSED_CAUSAL ? 192 : 256};
    for (int i = 0; i < (is_backward ? FUSED_MATRICES : FUSED_DOUT); i++) {
        bool is_packed = i != FUSED_OUT && i != FUSED_DOUT;
        s.strides[i] = (is_packed ? 12 + 2 * kv_heads : 12) * head_dim;
    }
    return s;
}

/* Engines that the library names for a shape. */
static int engines(const struct cudnn_library *l, const char *device, struct fused_shape shape) {
    struct fused_plan plan;
    int status = fused_plan_open(l, NULL, device, &shape, &plan);
    int found = plan.engines;
    assert_int_equal(status, found > 0 ? STATUS_SUCCESS : STATUS_NOT_SUPPORTED);
    fused_plan_close(l, &plan);
    return found;
}

static void test_engines(void **state) {
    struct cudnn_library l = {0};
    char hopper[1024];
    char ampere[1024];
    (void)state;
#ifdef __SANITIZE_ADDRESS__
    skip(); /* what the library itself leaks is not the matter here */
#endif
    if (!load(&l)) {
        skip(); /* no libcudnn.so.9 or no libcuda.so.1 here */
    }
    snprintf(hopper, sizeof hopper, DEVICE, 132, 232448, "NVIDIA H100 80GB HBM3", 900);
    snprintf(ampere, sizeof ampere, DEVICE, 108, 166912, "NVIDIA A100-SXM4-80GB", 800);
    for (int is_backward = 0; is_backward < 2; is_backward++) {
        for (int mask = FUSED_ALL; mask <= FUSED_CAUSAL_TAIL; mask++) {
            for (int kv_heads = 2; kv_heads <= 12; kv_heads += 10) {
                assert_true(engines(&l, hopper, shape_of(is_backward, mask, kv_heads, 64)) > 0);
                assert_true(engines(&l, hopper, shape_of(is_backward, mask, kv_heads, 128)) > 0);
                assert_true(engines(&l, ampere, shape_of(is_backward, mask, kv_heads, 128)) > 0);
            }
        }
    }
    /* The answer means something: there are shapes for which there is none. */
    assert_int_equal(engines(&l, ampere, shape_of(1, FUSED_CAUSAL, 2, 256)), 0);
    assert_int_equal(engines(&l, hopper, shape_of(0, FUSED_CAUSAL, 2, 20)), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_engines)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
