#include "cuda/cudnn_graph.h"

#include <math.h>
#include <string.h>

/* Unique ids: those that a run names an address for, then virtual ones. */
enum {
    ID_MATRIX = 1,
    ID_OFFSETS = ID_MATRIX + FUSED_MATRICES,
    ID_QUERY_LENGTHS = ID_OFFSETS + FUSED_MATRICES,
    ID_KEY_LENGTHS,
    ID_STATISTICS,
    ID_DQ_SUMS,
    ID_PRODUCTS,
    ID_SCALE,
    ID_LOWEST,
    ID_ONE,
    ID_VIRTUAL,
    MOST_OPERATIONS = 48
};

/* A graph under construction. After a failure every further step does nothing. */
struct builder {
    const struct cudnn_library *library;
    const struct fused_shape *shape;
    struct fused_plan *plan;
    int status;
    int64_t next_id;
    cudnn_descriptor matrices[FUSED_MATRICES], offsets[FUSED_MATRICES];
    cudnn_descriptor query_lengths, key_lengths, lowest, scale;
    cudnn_descriptor operations[MOST_OPERATIONS];
    int operation_count;
};

struct layout {
    int64_t sizes[4], strides[4];
};

static struct layout dense(int64_t batch, int64_t heads, int64_t rows, int64_t columns) {
    return (struct layout){{batch, heads, rows, columns},
                           {heads * rows * columns, rows * columns, columns, 1}};
}

static struct layout transposed(struct layout l) {
    return (struct layout){{l.sizes[0], l.sizes[1], l.sizes[3], l.sizes[2]},
                           {l.strides[0], l.strides[1], l.strides[3], l.strides[2]}};
}

static struct layout scores_of(const struct fused_shape *s) {
    return dense(s->batch, s->heads, s->queries, s->keys);
}

static struct layout rows_of(const struct fused_shape *s) {
    return dense(s->batch, s->heads, s->queries, 1);
}

static cudnn_descriptor make(struct builder *b, int kind) {
    cudnn_descriptor made = NULL;
    if (b->status == STATUS_SUCCESS && b->plan->count == FUSED_DESCRIPTORS) {
        b->status = STATUS_BAD_PARAM;
    }
    if (b->status == STATUS_SUCCESS) {
        b->status = b->library->create_descriptor(kind, &made);
    }
    if (b->status == STATUS_SUCCESS) {
        b->plan->owned[b->plan->count++] = made;
    }
    return made;
}

static void set(struct builder *b, cudnn_descriptor d, int name, int type, int64_t count,
                const void *values) {
    if (b->status == STATUS_SUCCESS) {
        b->status = b->library->set_attribute(d, name, type, count, values);
    }
}

static void link_to(struct builder *b, cudnn_descriptor d, int name, cudnn_descriptor other) {
    if (other) {
        set(b, d, name, TYPE_BACKEND_DESCRIPTOR, 1, &other);
    }
}

static void finish(struct builder *b, cudnn_descriptor d) {
    if (b->status == STATUS_SUCCESS) {
        b->status = b->library->finalize(d);
    }
}

static cudnn_descriptor tensor(struct builder *b, int64_t id, int32_t type, struct layout l,
                               cudnn_descriptor offsets) {
    const int64_t alignment = 16;
    const bool yes = true;
    cudnn_descriptor d = make(b, BACKEND_TENSOR_DESCRIPTOR);
    set(b, d, ATTR_TENSOR_UNIQUE_ID, TYPE_INT64, 1, &id);
    set(b, d, ATTR_TENSOR_DATA_TYPE, TYPE_DATA_TYPE, 1, &type);
    set(b, d, ATTR_TENSOR_DIMENSIONS, TYPE_INT64, 4, l.sizes);
    set(b, d, ATTR_TENSOR_STRIDES, TYPE_INT64, 4, l.strides);
    set(b, d, ATTR_TENSOR_BYTE_ALIGNMENT, TYPE_INT64, 1, &alignment);
    if (id >= ID_VIRTUAL) {
        set(b, d, ATTR_TENSOR_IS_VIRTUAL, TYPE_BOOLEAN, 1, &yes);
    }
    if (id == ID_SCALE || id == ID_LOWEST || id == ID_ONE) {
        set(b, d, ATTR_TENSOR_IS_BY_VALUE, TYPE_BOOLEAN, 1, &yes);
    }
    link_to(b, d, ATTR_TENSOR_RAGGED_OFFSET_DESC, offsets);
    finish(b, d);
    return d;
}

static cudnn_descriptor between(struct builder *b, int32_t type, struct layout l) {
    return tensor(b, b->next_id++, type, l, NULL);
}

static cudnn_descriptor constant(struct builder *b, int64_t id) {
    return tensor(b, id, DATA_FLOAT, dense(1, 1, 1, 1), NULL);
}

static void keep_operation(struct builder *b, cudnn_descriptor operation) {
    finish(b, operation);
    if (b->operation_count == MOST_OPERATIONS) {
        b->status = STATUS_BAD_PARAM;
    } else {
        b->operations[b->operation_count++] = operation;
    }
}

/* Lengths of each run's part of a product, or NULL. */
struct lengths {
    cudnn_descriptor m, n, k;
};

static cudnn_descriptor multiply(struct builder *b, cudnn_descriptor x, cudnn_descriptor y,
                                 cudnn_descriptor out, struct lengths lengths) {
    const int32_t compute = DATA_FLOAT;
    cudnn_descriptor how = make(b, BACKEND_MATMUL_DESCRIPTOR);
    set(b, how, ATTR_MATMUL_COMP_TYPE, TYPE_DATA_TYPE, 1, &compute);
    finish(b, how);
    cudnn_descriptor operation = make(b, BACKEND_OPERATION_MATMUL_DESCRIPTOR);
    link_to(b, operation, ATTR_OPERATION_MATMUL_ADESC, x);
    link_to(b, operation, ATTR_OPERATION_MATMUL_BDESC, y);
    link_to(b, operation, ATTR_OPERATION_MATMUL_CDESC, out);
    link_to(b, operation, ATTR_OPERATION_MATMUL_DESC, how);
    link_to(b, operation, ATTR_OPERATION_MATMUL_GEMM_M_OVERRIDE_DESC, lengths.m);
    link_to(b, operation, ATTR_OPERATION_MATMUL_GEMM_N_OVERRIDE_DESC, lengths.n);
    link_to(b, operation, ATTR_OPERATION_MATMUL_GEMM_K_OVERRIDE_DESC, lengths.k);
    keep_operation(b, operation);
    return out;
}

/* Operands of an elementwise operation: x, y, and a select's condition. */
struct operands {
    cudnn_descriptor x, y, condition;
};

/* How an elementwise operation computes; to be finished. */
static cudnn_descriptor elementwise(struct builder *b, int32_t mode, int32_t compute) {
    cudnn_descriptor how = make(b, BACKEND_POINTWISE_DESCRIPTOR);
    set(b, how, ATTR_POINTWISE_MODE, TYPE_POINTWISE_MODE, 1, &mode);
    set(b, how, ATTR_POINTWISE_MATH_PREC, TYPE_DATA_TYPE, 1, &compute);
    return how;
}

static cudnn_descriptor apply(struct builder *b, cudnn_descriptor how, struct operands in,
                              cudnn_descriptor out) {
    finish(b, how);
    cudnn_descriptor operation = make(b, BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    link_to(b, operation, ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how);
    link_to(b, operation, ATTR_OPERATION_POINTWISE_XDESC, in.x);
    link_to(b, operation, ATTR_OPERATION_POINTWISE_BDESC, in.y);
    link_to(b, operation, ATTR_OPERATION_POINTWISE_TDESC, in.condition);
    link_to(b, operation, ATTR_OPERATION_POINTWISE_YDESC, out);
    keep_operation(b, operation);
    return out;
}

static cudnn_descriptor pointwise(struct builder *b, int32_t mode, struct operands in, cudnn_descriptor out) {
    int32_t compute = mode == POINTWISE_CMP_GE || mode == POINTWISE_CMP_LT || mode == POINTWISE_LOGICAL_AND
                          ? DATA_BOOLEAN
                          : DATA_FLOAT;
    return apply(b, elementwise(b, mode, compute), in, out);
}

/* Whole numbers: an index along an axis of x, or a sum or difference. */
static cudnn_descriptor count(struct builder *b, int32_t mode, struct operands in, int64_t axis) {
    cudnn_descriptor out = between(b, DATA_INT32, scores_of(b->shape));
    cudnn_descriptor how = elementwise(b, mode, DATA_INT32);
    set(b, how, ATTR_POINTWISE_AXIS, TYPE_INT64, 1, &axis);
    return apply(b, how, in, out);
}

static cudnn_descriptor reduce(struct builder *b, int32_t operator, cudnn_descriptor x,
                               cudnn_descriptor out) {
    const int32_t compute = DATA_FLOAT;
    cudnn_descriptor how = make(b, BACKEND_REDUCTION_DESCRIPTOR);
    set(b, how, ATTR_REDUCTION_OPERATOR, TYPE_REDUCTION_OPERATOR_TYPE, 1, &operator);
    set(b, how, ATTR_REDUCTION_COMP_TYPE, TYPE_DATA_TYPE, 1, &compute);
    finish(b, how);
    cudnn_descriptor operation = make(b, BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
    link_to(b, operation, ATTR_OPERATION_REDUCTION_XDESC, x);
    link_to(b, operation, ATTR_OPERATION_REDUCTION_YDESC, out);
    link_to(b, operation, ATTR_OPERATION_REDUCTION_DESC, how);
    keep_operation(b, operation);
    return out;
}

static cudnn_descriptor reshape(struct builder *b, cudnn_descriptor x, cudnn_descriptor out) {
    cudnn_descriptor operation = make(b, BACKEND_OPERATION_RESHAPE_DESCRIPTOR);
    link_to(b, operation, ATTR_OPERATION_RESHAPE_XDESC, x);
    link_to(b, operation, ATTR_OPERATION_RESHAPE_YDESC, out);
    keep_operation(b, operation);
    return out;
}

static struct layout matrix_layout(const struct fused_shape *s, int which) {
    int64_t heads = fused_follows_keys(which) ? s->kv_heads : s->heads;
    int64_t rows = fused_follows_keys(which) ? s->keys : s->queries;
    int64_t stride = s->strides[which];
    return (struct layout){{s->batch, heads, rows, s->head_dim}, {rows * stride, s->head_dim, stride, 1}};
}

/* K is given as its transpose, and so is V in backward: what the engines look for. */
static void add_matrices(struct builder *b) {
    const struct fused_shape *s = b->shape;
    const struct layout numbers = {{s->batch + 1, 1, 1, 1}, {1, 1, 1, 1}};
    const struct layout counts = {{s->batch, 1, 1, 1}, {1, 1, 1, 1}};
    for (int i = 0; i < (s->is_backward ? FUSED_MATRICES : FUSED_DOUT); i++) {
        struct layout l = matrix_layout(s, i);
        bool turns = i == FUSED_K || (i == FUSED_V && s->is_backward);
        b->offsets[i] = tensor(b, ID_OFFSETS + i, DATA_INT32, numbers, NULL);
        b->matrices[i] = tensor(b, ID_MATRIX + i, DATA_BFLOAT16, turns ? transposed(l) : l, b->offsets[i]);
    }
    b->query_lengths = tensor(b, ID_QUERY_LENGTHS, DATA_INT32, counts, NULL);
    b->key_lengths = tensor(b, ID_KEY_LENGTHS, DATA_INT32, counts, NULL);
    b->scale = constant(b, ID_SCALE);
    b->lowest = constant(b, ID_LOWEST);
}

static cudnn_descriptor compare(struct builder *b, int32_t mode, cudnn_descriptor x, cudnn_descriptor y) {
    return pointwise(b, mode, (struct operands){x, y, NULL}, between(b, DATA_BOOLEAN, scores_of(b->shape)));
}

static cudnn_descriptor scores(struct builder *b, int32_t mode, struct operands in) {
    return pointwise(b, mode, in, between(b, DATA_FLOAT, scores_of(b->shape)));
}

/* x where query and key are in the run and the query sees the key, else -infinity. */
static cudnn_descriptor mask(struct builder *b, cudnn_descriptor x) {
    cudnn_descriptor row = count(b, POINTWISE_GEN_INDEX, (struct operands){x, NULL, NULL}, 2);
    cudnn_descriptor column = count(b, POINTWISE_GEN_INDEX, (struct operands){x, NULL, NULL}, 3);
    cudnn_descriptor inside =
        compare(b, POINTWISE_LOGICAL_AND, compare(b, POINTWISE_CMP_LT, row, b->query_lengths),
                compare(b, POINTWISE_CMP_LT, column, b->key_lengths));
    x = scores(b, POINTWISE_BINARY_SELECT, (struct operands){x, b->lowest, inside});
    if (b->shape->mask == FUSED_ALL) {
        return x;
    }
    row = count(b, POINTWISE_GEN_INDEX, (struct operands){x, NULL, NULL}, 2);
    column = count(b, POINTWISE_GEN_INDEX, (struct operands){x, NULL, NULL}, 3);
    if (b->shape->mask == FUSED_CAUSAL_TAIL) {
        row = count(b, POINTWISE_ADD, (struct operands){row, b->key_lengths, NULL}, 3);
        row = count(b, POINTWISE_SUB, (struct operands){row, b->query_lengths, NULL}, 3);
    }
    return scores(b, POINTWISE_BINARY_SELECT,
                  (struct operands){x, b->lowest, compare(b, POINTWISE_CMP_GE, row, column)});
}

/* scale * Q K^T */
static cudnn_descriptor scaled_scores(struct builder *b) {
    cudnn_descriptor s =
        multiply(b, b->matrices[FUSED_Q], b->matrices[FUSED_K], between(b, DATA_FLOAT, scores_of(b->shape)),
                 (struct lengths){b->query_lengths, b->key_lengths, NULL});
    return scores(b, POINTWISE_MUL, (struct operands){s, b->scale, NULL});
}

static cudnn_descriptor row_values(struct builder *b) {
    return between(b, DATA_FLOAT, rows_of(b->shape));
}

/* O = softmax(mask(scale Q K^T)) V and the rows' log-sum-exps. */
static void add_forward(struct builder *b) {
    const struct fused_shape *s = b->shape;
    cudnn_descriptor x = mask(b, scaled_scores(b));
    cudnn_descriptor most = reduce(b, REDUCE_TENSOR_MAX, x, row_values(b));
    cudnn_descriptor weights =
        scores(b, POINTWISE_EXP,
               (struct operands){scores(b, POINTWISE_SUB, (struct operands){x, most, NULL}), NULL, NULL});
    cudnn_descriptor total = reduce(b, REDUCE_TENSOR_ADD, weights, row_values(b));
    cudnn_descriptor log = pointwise(b, POINTWISE_LOG, (struct operands){total, NULL, NULL}, row_values(b));
    pointwise(b, POINTWISE_ADD, (struct operands){most, log, NULL},
              tensor(b, ID_STATISTICS, DATA_FLOAT, rows_of(s), NULL));
    cudnn_descriptor p = pointwise(b, POINTWISE_DIV, (struct operands){weights, total, NULL},
                                   between(b, DATA_BFLOAT16, scores_of(s)));
    multiply(b, p, b->matrices[FUSED_V], b->matrices[FUSED_OUT],
             (struct lengths){b->query_lengths, NULL, b->key_lengths});
}

/* x^T times rows of `of`, summed over the query heads of a key head, to dK or dV. */
static void add_key_gradient(struct builder *b, cudnn_descriptor x, cudnn_descriptor of, int which) {
    const struct fused_shape *s = b->shape;
    struct lengths lengths = {b->key_lengths, NULL, b->query_lengths};
    struct layout turned = transposed(scores_of(s));
    turned.strides[2] = 1;
    turned.strides[3] = s->keys;
    cudnn_descriptor xt = reshape(b, x, between(b, DATA_BFLOAT16, turned));
    if (s->heads == s->kv_heads) {
        multiply(b, xt, of, b->matrices[which], lengths);
        return;
    }
    cudnn_descriptor all = between(b, DATA_BFLOAT16, dense(s->batch, s->heads, s->keys, s->head_dim));
    reduce(b, REDUCE_TENSOR_ADD, multiply(b, xt, of, all, lengths), b->matrices[which]);
}

/* P = exp(S - L), D = rowsum(dO * O), dS = P * (dO V^T - D) * scale; dV = P^T dO, dK = dS^T Q, dQ = dS K.
 * With the log-sum-exps and outputs of a union of runs, P, O and L are the union's, and so are the gradients.
 */
static void add_backward(struct builder *b) {
    const struct fused_shape *s = b->shape;
    cudnn_descriptor statistics = tensor(b, ID_STATISTICS, DATA_FLOAT, rows_of(s), NULL);
    cudnn_descriptor dout = b->matrices[FUSED_DOUT];
    struct layout o = dense(s->batch, s->heads, s->queries, s->head_dim);
    o.strides[2] = s->heads * s->head_dim;
    cudnn_descriptor product = pointwise(
        b, POINTWISE_MUL, (struct operands){dout, b->matrices[FUSED_OUT], NULL}, between(b, DATA_FLOAT, o));
    cudnn_descriptor delta = pointwise(
        b, POINTWISE_MUL,
        (struct operands){reduce(b, REDUCE_TENSOR_ADD, product, row_values(b)), constant(b, ID_ONE), NULL},
        tensor(b, ID_PRODUCTS, DATA_FLOAT, rows_of(s), NULL));
    cudnn_descriptor x =
        mask(b, scores(b, POINTWISE_SUB, (struct operands){scaled_scores(b), statistics, NULL}));
    cudnn_descriptor p = scores(b, POINTWISE_EXP, (struct operands){x, NULL, NULL});
    add_key_gradient(b, p, dout, FUSED_DV);
    cudnn_descriptor dp = multiply(b, dout, b->matrices[FUSED_V], between(b, DATA_FLOAT, scores_of(s)),
                                   (struct lengths){b->query_lengths, b->key_lengths, NULL});
    dp = scores(b, POINTWISE_SUB, (struct operands){dp, delta, NULL});
    dp = scores(b, POINTWISE_MUL, (struct operands){dp, p, NULL});
    cudnn_descriptor ds = scores(b, POINTWISE_MUL, (struct operands){dp, b->scale, NULL});
    add_key_gradient(b, ds, b->matrices[FUSED_Q], FUSED_DK);
    cudnn_descriptor k =
        reshape(b, b->matrices[FUSED_K],
                tensor(b, b->next_id++, DATA_BFLOAT16, matrix_layout(s, FUSED_K), b->offsets[FUSED_K]));
    cudnn_descriptor sums =
        tensor(b, ID_DQ_SUMS, DATA_FLOAT, dense(s->batch, s->heads, s->queries, s->head_dim), NULL);
    multiply(b, ds, k, sums, (struct lengths){b->query_lengths, NULL, b->key_lengths});
    pointwise(b, POINTWISE_IDENTITY, (struct operands){sums, NULL, NULL}, b->matrices[FUSED_DQ]);
}

/* The first engine of the library's own order that takes the graph: a function of the shape alone. */
static void choose(struct builder *b, cudnn_handle handle, cudnn_descriptor device, cudnn_descriptor graph) {
    enum { MOST_ENGINES = 8 };
    const int32_t mode = HEUR_MODE_A;
    cudnn_descriptor engines[MOST_ENGINES] = {0};
    int64_t found = 0;
    cudnn_descriptor asked = make(b, BACKEND_ENGINEHEUR_DESCRIPTOR);
    link_to(b, asked, ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
    set(b, asked, ATTR_ENGINEHEUR_MODE, TYPE_HEUR_MODE, 1, &mode);
    link_to(b, asked, ATTR_ENGINEHEUR_DEVICEPROP, device);
    finish(b, asked);
    for (int i = 0; i < MOST_ENGINES; i++) {
        engines[i] = make(b, BACKEND_ENGINECFG_DESCRIPTOR);
    }
    if (b->status == STATUS_SUCCESS) {
        b->status = b->library->get_attribute(asked, ATTR_ENGINEHEUR_RESULTS, TYPE_BACKEND_DESCRIPTOR,
                                              MOST_ENGINES, &found, (void *)engines);
    }
    if (b->status != STATUS_SUCCESS) {
        return;
    }
    b->plan->engines = (int)(found < MOST_ENGINES ? found : MOST_ENGINES);
    b->status = b->plan->engines > 0 && !handle ? STATUS_SUCCESS : STATUS_NOT_SUPPORTED;
    for (int i = 0; i < b->plan->engines && b->status != STATUS_SUCCESS; i++) {
        int64_t got = 0;
        b->status = STATUS_SUCCESS;
        cudnn_descriptor plan = make(b, BACKEND_EXECUTION_PLAN_DESCRIPTOR);
        set(b, plan, ATTR_EXECUTION_PLAN_HANDLE, TYPE_HANDLE, 1, (void *)&handle);
        link_to(b, plan, ATTR_EXECUTION_PLAN_ENGINE_CONFIG, engines[i]);
        finish(b, plan);
        if (b->status == STATUS_SUCCESS) {
            b->status = b->library->get_attribute(plan, ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, TYPE_INT64, 1,
                                                  &got, &b->plan->workspace_bytes);
        }
        b->plan->plan = b->status == STATUS_SUCCESS ? plan : NULL;
    }
}

int fused_plan_open(const struct cudnn_library *l, cudnn_handle handle, const char *device,
                    const struct fused_shape *shape, struct fused_plan *out) {
    struct builder b = {.library = l, .shape = shape, .plan = out, .next_id = ID_VIRTUAL};
    cudnn_descriptor properties = NULL;
    memset(out, 0, sizeof *out);
    add_matrices(&b);
    if (shape->is_backward) {
        add_backward(&b);
    } else {
        add_forward(&b);
    }
    cudnn_descriptor graph = make(&b, BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    set(&b, graph, ATTR_OPERATIONGRAPH_OPS, TYPE_BACKEND_DESCRIPTOR, b.operation_count, (void *)b.operations);
    if (handle) {
        set(&b, graph, ATTR_OPERATIONGRAPH_HANDLE, TYPE_HANDLE, 1, (void *)&handle);
    } else {
        properties = make(&b, BACKEND_DEVICEPROP_DESCRIPTOR);
        set(&b, properties, ATTR_DEVICEPROP_JSON_REPRESENTATION, TYPE_CHAR, (int64_t)strlen(device) + 1,
            device);
        finish(&b, properties);
    }
    finish(&b, graph);
    choose(&b, handle, properties, graph);
    return b.status;
}

void fused_plan_close(const struct cudnn_library *l, struct fused_plan *plan) {
    while (plan->count > 0) {
        (void)l->destroy_descriptor(plan->owned[--plan->count]);
    }
    plan->plan = NULL;
}

/* Ids and addresses of a run. */
struct addresses {
    int64_t ids[ID_VIRTUAL];
    void *data[ID_VIRTUAL];
    int64_t count;
};

static void add_address(struct addresses *a, int64_t id, void *data) {
    if (data) {
        a->ids[a->count] = id;
        a->data[a->count++] = data;
    }
}

int fused_plan_run(const struct cudnn_library *l, cudnn_handle handle, const struct fused_plan *plan,
                   const struct fused_data *data, void *workspace) {
    struct addresses a = {.count = 0};
    float scale = data->scale;
    float lowest = -INFINITY;
    float one = 1;
    cudnn_descriptor pack = NULL;
    for (int i = 0; i < FUSED_MATRICES; i++) {
        add_address(&a, ID_MATRIX + i, data->matrices[i]);
        add_address(&a, ID_OFFSETS + i, data->offsets[i]);
    }
    add_address(&a, ID_QUERY_LENGTHS, data->query_lengths);
    add_address(&a, ID_KEY_LENGTHS, data->key_lengths);
    add_address(&a, ID_STATISTICS, data->statistics);
    add_address(&a, ID_DQ_SUMS, data->dq_sums);
    add_address(&a, ID_PRODUCTS, data->products);
    add_address(&a, ID_SCALE, &scale);
    add_address(&a, ID_LOWEST, &lowest);
    if (data->products) { /* backward */
        add_address(&a, ID_ONE, &one);
    }
    int status = l->create_descriptor(BACKEND_VARIANT_PACK_DESCRIPTOR, &pack);
    if (status != STATUS_SUCCESS) {
        return status;
    }
    status = l->set_attribute(pack, ATTR_VARIANT_PACK_UNIQUE_IDS, TYPE_INT64, a.count, a.ids);
    if (status == STATUS_SUCCESS) {
        status =
            l->set_attribute(pack, ATTR_VARIANT_PACK_DATA_POINTERS, TYPE_VOID_PTR, a.count, (void *)a.data);
    }
    if (status == STATUS_SUCCESS) {
        status = l->set_attribute(pack, ATTR_VARIANT_PACK_WORKSPACE, TYPE_VOID_PTR, 1, (void *)&workspace);
    }
    if (status == STATUS_SUCCESS) {
        status = l->finalize(pack);
    }
    if (status == STATUS_SUCCESS) {
        status = l->execute(handle, plan->plan, pack);
    }
    (void)l->destroy_descriptor(pack);
    return status;
}
