/* The few words of cuDNN's graph interface that are used, so that no build needs its headers. Names and
 * numbers are those of cudnn_graph.h (9.x) without CUDNN_ (tests/cuda/test_cudnn_graph.c compares them where
 * that header is there); cuDNN keeps its binary interface within a major version.
 */
#ifndef COLLIMATE_CUDA_CUDNN_API_H
#define COLLIMATE_CUDA_CUDNN_API_H

#include <stddef.h>
#include <stdint.h>

typedef void *cudnn_descriptor;
typedef void *cudnn_handle;

enum { STATUS_SUCCESS = 0, STATUS_BAD_PARAM = 2000, STATUS_NOT_SUPPORTED = 3000 };
enum {
    BACKEND_POINTWISE_DESCRIPTOR = 0,
    BACKEND_ENGINECFG_DESCRIPTOR = 3,
    BACKEND_ENGINEHEUR_DESCRIPTOR = 4,
    BACKEND_EXECUTION_PLAN_DESCRIPTOR = 5,
    BACKEND_OPERATION_POINTWISE_DESCRIPTOR = 13,
    BACKEND_OPERATIONGRAPH_DESCRIPTOR = 15,
    BACKEND_VARIANT_PACK_DESCRIPTOR = 16,
    BACKEND_TENSOR_DESCRIPTOR = 17,
    BACKEND_MATMUL_DESCRIPTOR = 18,
    BACKEND_OPERATION_MATMUL_DESCRIPTOR = 19,
    BACKEND_REDUCTION_DESCRIPTOR = 21,
    BACKEND_OPERATION_REDUCTION_DESCRIPTOR = 22,
    BACKEND_OPERATION_RESHAPE_DESCRIPTOR = 31,
    BACKEND_DEVICEPROP_DESCRIPTOR = 38
};
enum {
    ATTR_POINTWISE_MODE = 0,
    ATTR_POINTWISE_MATH_PREC = 1,
    ATTR_POINTWISE_AXIS = 9,
    ATTR_ENGINEHEUR_MODE = 200,
    ATTR_ENGINEHEUR_OPERATION_GRAPH = 201,
    ATTR_ENGINEHEUR_RESULTS = 202,
    ATTR_ENGINEHEUR_DEVICEPROP = 204,
    ATTR_EXECUTION_PLAN_HANDLE = 400,
    ATTR_EXECUTION_PLAN_ENGINE_CONFIG = 401,
    ATTR_EXECUTION_PLAN_WORKSPACE_SIZE = 402,
    ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR = 750,
    ATTR_OPERATION_POINTWISE_XDESC = 751,
    ATTR_OPERATION_POINTWISE_BDESC = 752,
    ATTR_OPERATION_POINTWISE_YDESC = 753,
    ATTR_OPERATION_POINTWISE_TDESC = 758,
    ATTR_OPERATIONGRAPH_HANDLE = 800,
    ATTR_OPERATIONGRAPH_OPS = 801,
    ATTR_TENSOR_BYTE_ALIGNMENT = 900,
    ATTR_TENSOR_DATA_TYPE = 901,
    ATTR_TENSOR_DIMENSIONS = 902,
    ATTR_TENSOR_STRIDES = 903,
    ATTR_TENSOR_UNIQUE_ID = 906,
    ATTR_TENSOR_IS_VIRTUAL = 907,
    ATTR_TENSOR_IS_BY_VALUE = 908,
    ATTR_TENSOR_RAGGED_OFFSET_DESC = 913,
    ATTR_VARIANT_PACK_UNIQUE_IDS = 1000,
    ATTR_VARIANT_PACK_DATA_POINTERS = 1001,
    ATTR_VARIANT_PACK_WORKSPACE = 1003,
    ATTR_MATMUL_COMP_TYPE = 1500,
    ATTR_OPERATION_MATMUL_ADESC = 1520,
    ATTR_OPERATION_MATMUL_BDESC = 1521,
    ATTR_OPERATION_MATMUL_CDESC = 1522,
    ATTR_OPERATION_MATMUL_DESC = 1523,
    ATTR_OPERATION_MATMUL_GEMM_M_OVERRIDE_DESC = 1525,
    ATTR_OPERATION_MATMUL_GEMM_N_OVERRIDE_DESC = 1526,
    ATTR_OPERATION_MATMUL_GEMM_K_OVERRIDE_DESC = 1527,
    ATTR_REDUCTION_OPERATOR = 1600,
    ATTR_REDUCTION_COMP_TYPE = 1601,
    ATTR_OPERATION_REDUCTION_XDESC = 1610,
    ATTR_OPERATION_REDUCTION_YDESC = 1611,
    ATTR_OPERATION_REDUCTION_DESC = 1612,
    ATTR_OPERATION_RESHAPE_XDESC = 2200,
    ATTR_OPERATION_RESHAPE_YDESC = 2201,
    ATTR_DEVICEPROP_JSON_REPRESENTATION = 2702
};
enum {
    TYPE_HANDLE = 0,
    TYPE_DATA_TYPE = 1,
    TYPE_BOOLEAN = 2,
    TYPE_INT64 = 3,
    TYPE_VOID_PTR = 6,
    TYPE_HEUR_MODE = 8,
    TYPE_POINTWISE_MODE = 14,
    TYPE_BACKEND_DESCRIPTOR = 15,
    TYPE_REDUCTION_OPERATOR_TYPE = 18,
    TYPE_CHAR = 24
};
enum { DATA_FLOAT = 0, DATA_INT32 = 4, DATA_BFLOAT16 = 9, DATA_BOOLEAN = 11 };
enum {
    POINTWISE_ADD = 0,
    POINTWISE_MUL = 1,
    POINTWISE_DIV = 6,
    POINTWISE_SUB = 9,
    POINTWISE_EXP = 13,
    POINTWISE_LOG = 15,
    POINTWISE_IDENTITY = 21,
    POINTWISE_CMP_GE = 303,
    POINTWISE_CMP_LT = 304,
    POINTWISE_LOGICAL_AND = 400,
    POINTWISE_GEN_INDEX = 501,
    POINTWISE_BINARY_SELECT = 601
};
enum { REDUCE_TENSOR_ADD = 0, REDUCE_TENSOR_MAX = 3 };
enum { HEUR_MODE_A = 3 };

/* Entry points of libcudnn.so.9. */
struct cudnn_library {
    size_t (*get_version)(void);
    const char *(*error_string)(int status);
    void (*last_error)(char *message, size_t size);
    int (*create)(cudnn_handle *);
    int (*destroy)(cudnn_handle);
    int (*set_stream)(cudnn_handle, void *stream);
    int (*create_descriptor)(int kind, cudnn_descriptor *);
    int (*destroy_descriptor)(cudnn_descriptor);
    int (*set_attribute)(cudnn_descriptor, int name, int type, int64_t count, const void *values);
    int (*get_attribute)(cudnn_descriptor, int name, int type, int64_t asked, int64_t *count, void *values);
    int (*finalize)(cudnn_descriptor);
    int (*execute)(cudnn_handle, cudnn_descriptor plan, cudnn_descriptor pack);
};

#endif
