/* The head: logits are made a slab (rows x part of the vocabulary) at a time, reduced, and forgotten.
 *
 *               vocabulary ->
 *     rows   | slab | slab | slab | ...      one slab is in the cache at a time; for each row its running
 *       |    | slab | slab | slab | ...      numbers are corrected by e^(old maximum - new maximum) whenever
 * a v                                    slab brings a larger logit, as in an online softmax
 *
 * Forward keeps for each row the running maximum, the sums of e^(logit - maximum) and of its square, the sum
 * of logit times that, the sum of logits and the target's logit. Backward makes the slabs again, turns them
 * in place into the gradient with respect to logits, (onehot(target) - softmax) * row_weight, and multiplies
 * that with the weight (dhidden) and with the hidden rows (dweight).
 */
#include "backend/cpu/cpu_bf16.h"
#include "backend/cpu/cpu_math.h"

#include <math.h>
#include <string.h>

enum { ROWS = CPU_SLAB_ROWS, COLUMNS = CPU_SLAB_COLUMNS };

struct running {
    double sum, squares, weighted, total; /* of e, e^2, logit * e, logit; e = e^(logit - largest) */
    float largest, target;
    bool is_top;
};

/* Raw products to logits. */
static void cap_row(double softcap, float *x, int64_t n) {
    float cap = (float)softcap;
    if (cap > 0.0f) {
        for (int64_t j = 0; j < n; j++) {
            x[j] = cap * cpu_tanh(x[j] / cap);
        }
    }
}

/* slab (rows x n, dense) = hidden rows times the weights' rows [first, first + n), plus bias. */
static enum status make_logits(struct cpu *cpu, const struct head *h, struct tensor hidden, int64_t first,
                               struct tensor slab) {
    struct product p = {
        .m = hidden.rows,
        .n = slab.columns,
        .k = hidden.columns,
        .transpose_b = true,
        .alpha = 1.0f,
        .a = hidden.data,
        .b = cpu_at(h->weight, first, 0),
        .c = slab.data,
        .lda = hidden.stride,
        .ldb = h->weight.stride,
        .ldc = slab.stride,
        .bias = h->bias.data ? cpu_at(h->bias, 0, first) : NULL,
        .type_a = hidden.type,
        .type_b = h->weight.type,
        .type_bias = h->bias.type,
    };
    return cpu_product(cpu, &p);
}

/* Adds n logits of a row; target: place of the row's target among them, or outside [0, n). */
static void reduce_row(struct running *r, const float *x, int64_t n, int64_t target) {
    enum { BLOCK = 512 }; /* fp32 sums over a block, fp64 over blocks */
    float largest = -INFINITY;
#pragma omp simd reduction(max : largest)
    for (int64_t j = 0; j < n; j++) {
        largest = x[j] > largest ? x[j] : largest;
    }
    if (largest > r->largest) {
        double keep = exp((double)r->largest - (double)largest);
        r->sum *= keep;
        r->squares *= keep * keep;
        r->weighted *= keep;
        r->largest = largest;
    }
    float shift = r->largest;
    for (int64_t first = 0; first < n; first += BLOCK) {
        int64_t count = n - first < BLOCK ? n - first : BLOCK;
        float sum = 0.0f;
        float squares = 0.0f;
        float weighted = 0.0f;
        float total = 0.0f;
#pragma omp simd reduction(+ : sum, squares, weighted, total)
        for (int64_t j = first; j < first + count; j++) {
            float e = cpu_exp_negative(x[j] - shift);
            sum += e;
            squares += e * e;
            weighted += e * x[j];
            total += x[j];
        }
        r->sum += (double)sum;
        r->squares += (double)squares;
        r->weighted += (double)weighted;
        r->total += (double)total;
    }
    if (target >= 0 && target < n) {
        r->target = x[target];
    }
}

static void finish_row(float *out, int32_t target, int64_t vocabulary, const struct running *r) {
    double log_sum = log(r->sum);
    double lse = (double)r->largest + log_sum;
    double to_largest = (double)r->target - (double)r->largest;
    out[HEAD_LOGP] = target < 0 ? 0.0f : (float)(to_largest - log_sum);
    out[HEAD_LSE] = (float)lse;
    out[HEAD_ENTROPY] = (float)(lse - r->weighted / r->sum);
    out[HEAD_IS_TOP] = target >= 0 && r->target == r->largest ? 1.0f : 0.0f;
    out[HEAD_MEAN_LOGIT] = (float)(r->total / (double)vocabulary);
    out[HEAD_COLLISION] = (float)(log(r->squares) - 2 * log_sum);
}

static enum status check_targets(const char *operation, struct tensor targets, int64_t n,
                                 int64_t vocabulary) {
    const int32_t *target = targets.data;
    for (int64_t i = 0; i < n; i++) {
        if (target[i] < -1 || target[i] >= vocabulary) {
            return fail(ERR_INTERNAL, "backend_%s: target %lld is %d, outside a vocabulary of %lld",
                        operation, (long long)i, target[i], (long long)vocabulary);
        }
    }
    return OK;
}

enum status CPU_OPERATION(head)(struct backend *b, const struct head *h) {
    struct cpu *cpu = cpu_of(b);
    TRY(check_targets("head", h->targets, h->hidden.rows, h->weight.rows));
    int64_t vocabulary = h->weight.rows;
    int64_t width = least(vocabulary, COLUMNS);
    int64_t height = least(h->hidden.rows, ROWS);
    int64_t slab_size = (height * width + 15) / 16 * 16; /* what follows stays aligned */
    void *scratch = NULL;
    TRY(cpu_scratch(cpu, SCRATCH_HEAD,
                    slab_size * (int64_t)sizeof(float) + height * (int64_t)sizeof(struct running), &scratch));
    float *slab = scratch;
    struct running *running = (void *)(slab + slab_size);
    const int32_t *targets = h->targets.data;
    for (int64_t row = 0; row < h->hidden.rows; row += height) {
        int64_t rows = least(height, h->hidden.rows - row);
        for (int64_t i = 0; i < rows; i++) {
            running[i] = (struct running){.largest = -INFINITY};
        }
        for (int64_t first = 0; first < vocabulary; first += width) {
            int64_t n = least(width, vocabulary - first);
            TRY(make_logits(cpu, h, tensor_rows(h->hidden, row, rows), first,
                            tensor_at(slab, rows, n, DTYPE_F32)));
#pragma omp parallel for num_threads(cpu->threads) if (rows * n > CPU_PARALLEL_ELEMENTS)
            for (int64_t i = 0; i < rows; i++) {
                cap_row(h->softcap, slab + i * n, n);
                reduce_row(&running[i], slab + i * n, n, targets[row + i] - first);
            }
        }
        for (int64_t i = 0; i < rows; i++) {
            finish_row(cpu_row(h->statistics, row + i), targets[row + i], vocabulary, &running[i]);
        }
    }
    return OK;
}

/* The same slabs of the same logits, so the same sums. */
enum status CPU_OPERATION(read_logits)(struct backend *b, const struct read_logits *call) {
    struct tensor x = call->logits;
    const int32_t *targets = call->targets.data;
    TRY(check_targets("read_logits", call->targets, x.rows, x.columns));
#pragma omp parallel for num_threads(cpu_of(b)->threads) if (x.rows * x.columns > CPU_PARALLEL_ELEMENTS)
    for (int64_t i = 0; i < x.rows; i++) {
        struct running running = {.largest = -INFINITY};
        for (int64_t first = 0; first < x.columns; first += COLUMNS) {
            float *slab = cpu_row(x, i) + first;
            int64_t n = least(COLUMNS, x.columns - first);
            cap_row(call->softcap, slab, n);
            reduce_row(&running, slab, n, targets[i] - first);
        }
        finish_row(cpu_row(call->statistics, i), targets[i], x.columns, &running);
    }
    return OK;
}

/* n logits of a row become the gradient with respect to the raw products (bias included). */
static void gradient_row(const struct head *h, int64_t row, float weight, float *x, int64_t n,
                         int64_t target) {
    float lse = cpu_row(h->statistics, row)[HEAD_LSE];
    float cap = (float)h->softcap;
    float target_slope = 1.0f;
    if (target >= 0 && target < n && cap > 0.0f) {
        target_slope = 1.0f - (x[target] / cap) * (x[target] / cap);
    }
    if (cap > 0.0f) {
        for (int64_t j = 0; j < n; j++) {
            float ratio = x[j] / cap;
            x[j] = -cpu_exp_negative(x[j] - lse) * weight * (1.0f - ratio * ratio);
        }
    } else {
        for (int64_t j = 0; j < n; j++) {
            x[j] = -cpu_exp_negative(x[j] - lse) * weight;
        }
    }
    if (target >= 0 && target < n) {
        x[target] += weight * target_slope;
    }
}

/* A block of rows that have a gradient, gathered, and what backward makes of it. */
struct head_block {
    int64_t rows, width;
    int64_t *row; /* in hidden */
    float *weight;
    float *slab;             /* rows x width */
    float *hidden, *dhidden; /* rows x d */
};

static enum status block_open(struct cpu *cpu, const struct head *h, struct head_block *out) {
    int64_t height = least(h->hidden.rows, ROWS);
    int64_t width = least(h->weight.rows, COLUMNS);
    int64_t d = h->hidden.columns;
    void *scratch = NULL;
    TRY(cpu_scratch(cpu, SCRATCH_HEAD,
                    height * ((int64_t)sizeof(int64_t) + (1 + width + 2 * d) * (int64_t)sizeof(float)),
                    &scratch));
    out->width = width;
    out->row = scratch;
    out->slab = (float *)(out->row + height);
    out->hidden = out->slab + height * width;
    out->dhidden = out->hidden + height * d;
    out->weight = out->dhidden + height * d;
    return OK;
}

/* The next rows with a target and a weight, from *row on; the others' dhidden is zero. */
static void block_gather(const struct head *h, const struct head_gradient *g, int64_t *row,
                         struct head_block *block) {
    const int32_t *target = h->targets.data;
    const float *weight = g->row_weight.data;
    int64_t d = h->hidden.columns;
    block->rows = 0;
    for (; *row < h->hidden.rows && block->rows < ROWS; (*row)++) {
        if (target[*row] < 0 || weight[*row] == 0.0f) {
            memset(cpu_at(g->dhidden, *row, 0), 0, (size_t)(d * dtype_size(g->dhidden.type)));
            continue;
        }
        block->row[block->rows] = *row;
        block->weight[block->rows] = weight[*row];
        float *to = block->hidden + block->rows * d;
        const float *hidden = cpu_load(h->hidden, *row, 0, d, to);
        if (hidden != to) {
            memcpy(to, hidden, (size_t)d * sizeof(float));
        }
        block->rows++;
    }
}

/* The two products and the bias of one slab of gradients. */
static enum status slab_gradients(struct backend *b, const struct head *h, const struct head_gradient *g,
                                  const struct head_block *block, int64_t first) {
    int64_t d = h->hidden.columns;
    int64_t n = least(block->width, h->weight.rows - first);
    struct product to_hidden = {
        .m = block->rows,
        .n = d,
        .k = n,
        .alpha = 1.0f,
        .beta = first == 0 ? 0.0f : 1.0f,
        .a = block->slab,
        .b = cpu_at(h->weight, first, 0),
        .c = block->dhidden,
        .lda = n,
        .ldb = h->weight.stride,
        .ldc = d,
        .type_b = h->weight.type,
    };
    TRY(cpu_product(cpu_of(b), &to_hidden));
    if (g->dweight.data) {
        struct product to_weight = {
            .m = n,
            .n = d,
            .k = block->rows,
            .transpose_a = true,
            .alpha = 1.0f,
            .beta = 1.0f,
            .a = block->slab,
            .b = block->hidden,
            .c = cpu_row(g->dweight, first),
            .lda = n,
            .ldb = d,
            .ldc = g->dweight.stride,
        };
        TRY(cpu_product(cpu_of(b), &to_weight));
    }
    const struct sum_rows sums = {.to = tensor_columns(g->dbias, first, n),
                                  .from = tensor_at(block->slab, block->rows, n, DTYPE_F32)};
    return g->dbias.data ? CPU_OPERATION(sum_rows)(b, &sums) : OK;
}

static enum status block_gradient(struct backend *b, const struct head *h, const struct head_gradient *g,
                                  const struct head_block *block) {
    struct cpu *cpu = cpu_of(b);
    int64_t d = h->hidden.columns;
    const int32_t *targets = h->targets.data;
    for (int64_t first = 0; first < h->weight.rows; first += block->width) {
        int64_t n = least(block->width, h->weight.rows - first);
        TRY(make_logits(cpu, h, tensor_at(block->hidden, block->rows, d, DTYPE_F32), first,
                        tensor_at(block->slab, block->rows, n, DTYPE_F32)));
#pragma omp parallel for num_threads(cpu->threads) if (block->rows * n > CPU_PARALLEL_ELEMENTS)
        for (int64_t i = 0; i < block->rows; i++) {
            int64_t row = block->row[i];
            cap_row(h->softcap, block->slab + i * n, n);
            gradient_row(h, row, block->weight[i], block->slab + i * n, n, targets[row] - first);
        }
        TRY(slab_gradients(b, h, g, block, first));
    }
    for (int64_t i = 0; i < block->rows; i++) {
        const float *from = block->dhidden + i * d;
        if (g->dhidden.type == DTYPE_BF16) {
            cpu_store(g->dhidden, block->row[i], 0, d, from);
        } else {
            memcpy(cpu_row(g->dhidden, block->row[i]), from, (size_t)d * sizeof(float));
        }
    }
    return OK;
}

enum status CPU_OPERATION(head_gradient)(struct backend *b, const struct head_backward *call) {
    const struct head *h = &call->head;
    const struct head_gradient *g = &call->gradient;
    TRY(check_targets("head_gradient", h->targets, h->hidden.rows, h->weight.rows));
    struct head_block block = {0};
    TRY(block_open(cpu_of(b), h, &block));
    int64_t row = 0;
    while (row < h->hidden.rows) {
        block_gather(h, g, &row, &block);
        if (block.rows > 0) {
            TRY(block_gradient(b, h, g, &block));
        }
    }
    return OK;
}
