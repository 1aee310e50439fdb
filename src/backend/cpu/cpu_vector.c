/* Element-wise work, row moves and sums. */
#include "backend/cpu/cpu_bf16.h"

#include <string.h>

static void convert_row(void *to, enum dtype to_type, const void *from, enum dtype from_type, int64_t n) {
    if (to_type == from_type) {
        memcpy(to, from, (size_t)(n * dtype_size(to_type)));
        return;
    }
    if (to_type == DTYPE_BF16 && from_type == DTYPE_F32) {
        floats_to_bf16(to, from, n);
        return;
    }
    if (to_type == DTYPE_F32 && from_type == DTYPE_BF16) {
        bf16_to_floats(to, from, n);
        return;
    }
    for (int64_t j = 0; j < n; j++) {
        double value = from_type == DTYPE_F64   ? ((const double *)from)[j]
                       : from_type == DTYPE_F32 ? (double)((const float *)from)[j]
                                                : (double)bf16_value(((const uint16_t *)from)[j]);
        if (to_type == DTYPE_F64) {
            ((double *)to)[j] = value;
        } else if (to_type == DTYPE_F32) {
            ((float *)to)[j] = (float)value;
        } else {
            ((uint16_t *)to)[j] = bf16_bits((float)value);
        }
    }
}

static char *any_row(struct tensor t, int64_t i) {
    return (char *)t.data + i * t.stride * dtype_size(t.type);
}

/* A contiguous tensor as rows of a size that threads can share: one long row becomes many. */
static struct tensor shared_rows(struct tensor t, int64_t *tail) {
    enum { PIECE = 8192 };
    *tail = 0;
    if (tensor_is_contiguous(t) && t.rows * t.columns > PIECE) {
        int64_t n = t.rows * t.columns;
        *tail = n % PIECE;
        t.rows = n / PIECE + (*tail > 0);
        t.columns = t.stride = PIECE;
    }
    return t;
}

static int64_t row_length(struct tensor t, int64_t i, int64_t tail) {
    return tail > 0 && i == t.rows - 1 ? tail : t.columns;
}

/* Both sides cut alike, where both can be. */
static int64_t share_pair(struct tensor *to, struct tensor *from) {
    int64_t tail = 0;
    if (tensor_is_contiguous(*to) && tensor_is_contiguous(*from)) {
        *to = shared_rows(*to, &tail);
        *from = shared_rows(*from, &tail);
    }
    return tail;
}

enum status CPU_OPERATION(convert)(struct backend *b, const struct convert *call) {
    struct tensor to = call->to;
    struct tensor from = call->from;
    int64_t tail = share_pair(&to, &from);
#pragma omp parallel for num_threads(cpu_of(b)->threads) if (to.rows * to.columns > CPU_PARALLEL_ELEMENTS)
    for (int64_t i = 0; i < to.rows; i++) {
        convert_row(any_row(to, i), to.type, any_row(from, i), from.type, row_length(to, i, tail));
    }
    return OK;
}

static bool is_row_type(enum dtype type) {
    return type == DTYPE_F32 || type == DTYPE_BF16;
}

/* to's columns [first, first + n) of row i += factor * from's row k. */
static void add_row(struct tensor to, int64_t i, struct tensor from, int64_t k, int64_t first, int64_t n,
                    float factor) {
    float room[2][CPU_PIECE];
    int64_t piece = to.type == from.type ? cpu_piece(to, n) : n < CPU_PIECE ? n : CPU_PIECE;
    for (int64_t j = first; j < first + n; j += piece) {
        int64_t count = first + n - j < piece ? first + n - j : piece;
        float *restrict y = cpu_load(to, i, j, count, room[0]);
        const float *restrict x = cpu_load(from, k, j, count, room[1]);
        for (int64_t c = 0; c < count; c++) {
            y[c] += factor * x[c];
        }
        cpu_store(to, i, j, count, y);
    }
}

enum status CPU_OPERATION(add)(struct backend *b, const struct add *call) {
    struct tensor to = call->to;
    struct tensor from = call->from;
    if (!is_row_type(to.type) || !is_row_type(from.type)) {
        return fail(ERR_INTERNAL, "backend_add: the CPU adds fp32 and bf16, not %s to %s",
                    dtype_name(from.type), dtype_name(to.type));
    }
    float factor = (float)call->alpha;
    int64_t tail = share_pair(&to, &from);
#pragma omp parallel for num_threads(cpu_of(b)->threads) if (to.rows * to.columns > CPU_PARALLEL_ELEMENTS)
    for (int64_t i = 0; i < to.rows; i++) {
        add_row(to, i, from, i, 0, row_length(to, i, tail), factor);
    }
    return OK;
}

/* Columns [first, first + width) of a strip loop. */
static int64_t strip_width(int64_t columns, int64_t first) {
    return columns - first < CPU_STRIP ? columns - first : CPU_STRIP;
}

enum status CPU_OPERATION(sum_rows)(struct backend *b, const struct sum_rows *call) {
    struct tensor to = call->to;
    struct tensor from = call->from;
    float *out = to.data;
#pragma omp parallel for num_threads(cpu_of(b)->threads) if (from.rows * from.columns > CPU_PARALLEL_ELEMENTS)
    for (int64_t first = 0; first < from.columns; first += CPU_STRIP) {
        int64_t width = strip_width(from.columns, first);
        double sums[CPU_STRIP] = {0};
        float room[CPU_STRIP];
        for (int64_t i = 0; i < from.rows; i++) {
            const float *x = cpu_load(from, i, first, width, room);
            for (int64_t j = 0; j < width; j++) {
                sums[j] += (double)x[j];
            }
        }
        for (int64_t j = 0; j < width; j++) {
            out[first + j] += (float)sums[j];
        }
    }
    return OK;
}

/* Ids come from device memory, where the front door does not look. */
static enum status check_ids(const char *operation, struct tensor ids, int64_t n, int64_t limit) {
    const int32_t *id = ids.data;
    for (int64_t i = 0; i < n; i++) {
        if (id[i] < 0 || id[i] >= limit) {
            return fail(ERR_INTERNAL, "backend_%s: number %lld is %d, outside [0, %lld)", operation,
                        (long long)i, id[i], (long long)limit);
        }
    }
    return OK;
}

/* to's row i = factor * from's row k; of one type. */
static void scale_row(struct tensor to, int64_t i, struct tensor from, int64_t k, float factor) {
    float room[2][CPU_PIECE];
    int64_t piece = cpu_piece(to, to.columns);
    for (int64_t j = 0; j < to.columns; j += piece) {
        int64_t count = to.columns - j < piece ? to.columns - j : piece;
        float *restrict y = cpu_place(to, i, j, room[0]);
        const float *restrict x = cpu_load(from, k, j, count, room[1]);
        for (int64_t c = 0; c < count; c++) {
            y[c] = factor * x[c];
        }
        cpu_store(to, i, j, count, y);
    }
}

enum status CPU_OPERATION(embed)(struct backend *b, const struct embed *call) {
    struct tensor out = call->out;
    struct tensor table = call->table;
    struct tensor ids = call->ids;
    TRY(check_ids("embed", ids, out.rows, table.rows));
    const int32_t *id = ids.data;
    float factor = (float)call->scale;
#pragma omp parallel for num_threads(cpu_of(b)->threads) if (out.rows * out.columns > CPU_PARALLEL_ELEMENTS)
    for (int64_t i = 0; i < out.rows; i++) {
        if (call->accumulate) {
            add_row(out, i, table, id[i], 0, out.columns, factor);
        } else {
            scale_row(out, i, table, id[i], factor);
        }
    }
    return OK;
}

/* to[id[i]] += factor * from[i], i ascending: every thread walks all rows in its own strip of columns. */
static void scatter(const struct cpu *cpu, struct tensor to, struct tensor from, const int32_t *id,
                    float factor) {
#pragma omp parallel for num_threads(cpu->threads) if (from.rows * from.columns > CPU_PARALLEL_ELEMENTS)
    for (int64_t first = 0; first < from.columns; first += CPU_STRIP) {
        int64_t width = strip_width(from.columns, first);
        for (int64_t i = 0; i < from.rows; i++) {
            add_row(to, id[i], from, i, first, width, factor);
        }
    }
}

enum status CPU_OPERATION(embed_gradient)(struct backend *b, const struct embed_gradient *call) {
    struct tensor dtable = call->dtable;
    struct tensor dout = call->dout;
    struct tensor ids = call->ids;
    TRY(check_ids("embed_gradient", ids, dout.rows, dtable.rows));
    scatter(cpu_of(b), dtable, dout, ids.data, (float)call->scale);
    return OK;
}

enum status CPU_OPERATION(gather)(struct backend *b, const struct gather *call) {
    struct tensor to = call->to;
    struct tensor from = call->from;
    struct tensor rows = call->rows;
    TRY(check_ids("gather", rows, to.rows, from.rows));
    const int32_t *row = rows.data;
#pragma omp parallel for num_threads(cpu_of(b)->threads) if (to.rows * to.columns > CPU_PARALLEL_ELEMENTS)
    for (int64_t i = 0; i < to.rows; i++) {
        memcpy(any_row(to, i), any_row(from, row[i]), (size_t)(to.columns * dtype_size(to.type)));
    }
    return OK;
}

enum status CPU_OPERATION(scatter_add)(struct backend *b, const struct scatter_add *call) {
    struct tensor to = call->to;
    struct tensor from = call->from;
    struct tensor rows = call->rows;
    TRY(check_ids("scatter_add", rows, from.rows, to.rows));
    scatter(cpu_of(b), to, from, rows.data, 1.0f);
    return OK;
}

enum status CPU_OPERATION(pool)(struct backend *b, const struct pool *call) {
    struct tensor to = call->to;
    struct tensor from = call->from;
    struct tensor spans = call->spans;
    const int32_t *span = spans.data;
    for (int64_t i = 0; i < to.rows; i++) {
        int64_t first = span[2 * i];
        int64_t count = span[2 * i + 1];
        if (first < 0 || count < 1 || count > from.rows - first) {
            return fail(ERR_INTERNAL, "backend_pool: span %lld takes rows %lld + %lld of %lld", (long long)i,
                        (long long)first, (long long)count, (long long)from.rows);
        }
    }
#pragma omp parallel for num_threads(cpu_of(b)->threads) schedule(dynamic, 1)
    for (int64_t i = 0; i < to.rows; i++) {
        int64_t first = span[2 * i];
        int64_t count = span[2 * i + 1];
        for (int64_t c = 0; c < to.columns; c += CPU_STRIP) {
            int64_t width = strip_width(to.columns, c);
            double sums[CPU_STRIP] = {0};
            float room[CPU_STRIP];
            for (int64_t r = first; r < first + count; r++) {
                const float *x = cpu_load(from, r, c, width, room);
                for (int64_t j = 0; j < width; j++) {
                    sums[j] += (double)x[j];
                }
            }
            for (int64_t j = 0; j < width; j++) {
                cpu_row(to, i)[c + j] = (float)(sums[j] / (double)count);
            }
        }
    }
    return OK;
}

static double squares_of(const float *x, int64_t n) {
    double sum = 0.0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < n; j++) {
        sum += (double)x[j] * (double)x[j];
    }
    return sum;
}

/* Of n values of a row from `first` on. */
static double block_squares(struct tensor row, int64_t first, int64_t n) {
    float room[CPU_PIECE];
    double sum = 0.0;
    int64_t piece = cpu_piece(row, n);
    for (int64_t j = 0; j < n; j += piece) {
        int64_t count = n - j < piece ? n - j : piece;
        sum += squares_of(cpu_load(row, 0, first + j, count, room), count);
    }
    return sum;
}

enum status CPU_OPERATION(sum_squares)(struct backend *b, const struct sum_squares *call) {
    struct tensor x = call->x;
    enum { BLOCK = 16384 };
    if (!is_row_type(x.type)) {
        return fail(ERR_INTERNAL, "backend_sum_squares: the CPU sums fp32 and bf16, not %s",
                    dtype_name(x.type));
    }
    int64_t n = x.rows * x.columns;
    int64_t blocks = (n + BLOCK - 1) / BLOCK;
    void *scratch = NULL;
    TRY(cpu_scratch(cpu_of(b), SCRATCH_SUMS, blocks * (int64_t)sizeof(double), &scratch));
    double *sums = scratch;
    struct tensor row = tensor_at(x.data, 1, n, x.type);
#pragma omp parallel for num_threads(cpu_of(b)->threads) if (blocks > 1)
    for (int64_t i = 0; i < blocks; i++) {
        int64_t rest = n - i * BLOCK;
        sums[i] = block_squares(row, i * BLOCK, rest < BLOCK ? rest : BLOCK);
    }
    double total = 0.0;
    for (int64_t i = 0; i < blocks; i++) {
        total += sums[i];
    }
    *call->out = total;
    return OK;
}
