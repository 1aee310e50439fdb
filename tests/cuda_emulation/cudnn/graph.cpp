#include "graph.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace stand_in {

void misuse(const char *what, int64_t id) {
    fprintf(stderr, "stand-in for cuDNN: %s (tensor %lld)\n", what, static_cast<long long>(id));
    abort();
}

const descriptor *linked(const descriptor *d, int name) {
    auto found = d->links.find(name);
    return found == d->links.end() || found->second.empty() ? nullptr : found->second[0];
}

static std::array<int64_t, 4> four(const descriptor *d, int name) {
    std::array<int64_t, 4> out = {};
    auto found = d->values.find(name);
    if (found == d->values.end() || found->second.size() != sizeof out) {
        misuse("a tensor without four sizes and strides", 0);
    }
    std::memcpy(out.data(), found->second.data(), sizeof out);
    return out;
}

tensor tensor_of(const descriptor *d) {
    return tensor{attribute<int64_t>(d, ATTR_TENSOR_UNIQUE_ID, -1),
                  attribute<int32_t>(d, ATTR_TENSOR_DATA_TYPE, -1),
                  four(d, ATTR_TENSOR_DIMENSIONS),
                  four(d, ATTR_TENSOR_STRIDES),
                  attribute<bool>(d, ATTR_TENSOR_IS_VIRTUAL, false),
                  attribute<bool>(d, ATTR_TENSOR_IS_BY_VALUE, false),
                  linked(d, ATTR_TENSOR_RAGGED_OFFSET_DESC)};
}

using lengths = std::vector<int64_t>; /* per batch; empty: all */
struct value {
    std::array<int64_t, 4> sizes;
    std::vector<float> data;
    lengths rows, columns;
    float &at(int64_t b, int64_t h, int64_t i, int64_t j) {
        return data[static_cast<size_t>(((b * sizes[1] + h) * sizes[2] + i) * sizes[3] + j)];
    }
    float at(int64_t b, int64_t h, int64_t i, int64_t j) const {
        return data[static_cast<size_t>(((b * sizes[1] + h) * sizes[2] + i) * sizes[3] + j)];
    }
};

static value blank(const std::array<int64_t, 4> &sizes) {
    size_t n = static_cast<size_t>(sizes[0] * sizes[1] * sizes[2] * sizes[3]);
    return value{sizes, std::vector<float>(n, NAN), {}, {}};
}

static int64_t length_of(const lengths &l, int64_t b, int64_t otherwise) {
    return l.empty() ? otherwise : std::min(l[static_cast<size_t>(b)], otherwise);
}

static float to_bf16(float x) {
    uint32_t bits = 0;
    std::memcpy(&bits, &x, sizeof bits);
    bits = std::isnan(x) ? bits | 0x400000u : bits + 0x7fffu + (bits >> 16 & 1u);
    bits &= 0xffff0000u;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

class machine {
  public:
    explicit machine(const run &given) : r(given) {
        for (const descriptor *d : r.operations) {
            if (d->kind == BACKEND_OPERATION_MATMUL_DESCRIPTOR) {
                note_lengths(d);
            }
        }
    }
    void operation(const descriptor *d);

  private:
    const run &r;
    std::map<int64_t, value> known;
    std::map<int64_t, std::array<lengths, 2>> extents; /* rows and columns of products' operands */

    lengths override_of(const descriptor *d, int name) const {
        const descriptor *given = linked(d, name);
        return given ? numbers(given, tensor_of(given).sizes[0]) : lengths{};
    }
    /* An operand may be read elsewhere before its product says how far it goes. */
    void note_lengths(const descriptor *d) {
        lengths m = override_of(d, ATTR_OPERATION_MATMUL_GEMM_M_OVERRIDE_DESC);
        lengths n = override_of(d, ATTR_OPERATION_MATMUL_GEMM_N_OVERRIDE_DESC);
        lengths k = override_of(d, ATTR_OPERATION_MATMUL_GEMM_K_OVERRIDE_DESC);
        extents[tensor_of(linked(d, ATTR_OPERATION_MATMUL_ADESC)).id] = {m, k};
        extents[tensor_of(linked(d, ATTR_OPERATION_MATMUL_BDESC)).id] = {k, n};
    }
    char *place(const tensor &t) const {
        auto found = r.places.find(t.id);
        if (found == r.places.end() || reinterpret_cast<uintptr_t>(found->second) % 16 != 0) {
            misuse("no address, or one that is not a multiple of 16", t.id);
        }
        return found->second;
    }
    char *row(const tensor &t, const lengths &offsets, int64_t b, int64_t h) const {
        int64_t size = t.type == DATA_BFLOAT16 ? 2 : 4;
        int64_t first = offsets.empty() ? b * t.strides[0] : offsets[static_cast<size_t>(b)];
        return place(t) + (first + h * t.strides[1]) * size;
    }
    lengths numbers(const descriptor *d, int64_t n) const {
        tensor t = tensor_of(d);
        const char *from = place(t);
        lengths out(static_cast<size_t>(n));
        if (t.type != DATA_INT32 || t.sizes[0] != n || !r.is_device(from, static_cast<size_t>(4 * n))) {
            misuse("lengths or offsets that are no int32 on the device", t.id);
        }
        for (int64_t i = 0; i < n; i++) {
            int32_t x = 0;
            std::memcpy(&x, from + 4 * i, sizeof x);
            out[static_cast<size_t>(i)] = x;
        }
        return out;
    }
    lengths offsets_of(const tensor &t) const {
        return t.offsets ? numbers(t.offsets, t.sizes[0] + 1) : lengths{};
    }
    float *cell(const tensor &t, char *at, int64_t i, int64_t j) const {
        int64_t size = t.type == DATA_BFLOAT16 ? 2 : 4;
        char *address = at + (i * t.strides[2] + j * t.strides[3]) * size;
        if (!r.is_device(address, static_cast<size_t>(size))) {
            misuse("an element that is not on the device", t.id);
        }
        return reinterpret_cast<float *>(address);
    }
    value load(const tensor &t, const lengths &rows, const lengths &columns) const;
    const value &get(const descriptor *d, const lengths &rows = {});
    void put(const descriptor *d, value v);
    void multiply(const descriptor *d);
    void pointwise(const descriptor *d);
    void reduce(const descriptor *d);
    void reshape(const descriptor *d);
};

value machine::load(const tensor &t, const lengths &rows, const lengths &columns) const {
    value v = blank(t.sizes);
    v.rows = rows;
    v.columns = columns;
    if (t.is_by_value) {
        v.data[0] = r.scalars.at(t.id);
        return v;
    }
    lengths offsets = offsets_of(t);
    if (t.offsets && rows.empty() && columns.empty()) {
        misuse("a ragged tensor is read and nothing says how far", t.id);
    }
    for (int64_t b = 0; b < t.sizes[0]; b++) {
        int64_t m = length_of(rows, b, t.sizes[2]);
        int64_t n = length_of(columns, b, t.sizes[3]);
        for (int64_t h = 0; h < t.sizes[1]; h++) {
            char *at = row(t, offsets, b, h);
            for (int64_t i = 0; i < m; i++) {
                for (int64_t j = 0; j < n; j++) {
                    const void *from = cell(t, at, i, j);
                    uint32_t bits = 0;
                    std::memcpy(t.type == DATA_BFLOAT16 ? reinterpret_cast<char *>(&bits) + 2
                                                        : reinterpret_cast<char *>(&bits),
                                from, t.type == DATA_BFLOAT16 ? 2 : 4);
                    float x = 0;
                    std::memcpy(&x, &bits, sizeof x);
                    v.at(b, h, i, j) =
                        t.type == DATA_INT32 ? static_cast<float>(static_cast<int32_t>(bits)) : x;
                }
            }
        }
    }
    return v;
}

/* rows: where no product says how far the tensor goes. */
const value &machine::get(const descriptor *d, const lengths &rows) {
    tensor t = tensor_of(d);
    auto found = known.find(t.id);
    if (found == known.end()) {
        if (t.is_virtual) {
            misuse("a virtual tensor is read before it is written", t.id);
        }
        auto noted = extents.find(t.id);
        bool is_noted = noted != extents.end();
        found = known
                    .emplace(t.id, load(t, is_noted ? noted->second[0] : rows,
                                        is_noted ? noted->second[1] : lengths{}))
                    .first;
    }
    return found->second;
}

void machine::put(const descriptor *d, value v) {
    tensor t = tensor_of(d);
    if (v.sizes != t.sizes || known.count(t.id) > 0) {
        misuse("a result of another size, or a second one", t.id);
    }
    if (t.type == DATA_BFLOAT16) {
        std::transform(v.data.begin(), v.data.end(), v.data.begin(), to_bf16);
    }
    if (!t.is_virtual) {
        lengths offsets = offsets_of(t);
        if (t.offsets && v.rows.empty()) {
            misuse("a ragged tensor is written and nothing says how far", t.id);
        }
        for (int64_t b = 0; b < t.sizes[0]; b++) {
            int64_t m = t.offsets ? length_of(v.rows, b, t.sizes[2]) : t.sizes[2];
            for (int64_t h = 0; h < t.sizes[1]; h++) {
                char *at = row(t, offsets, b, h);
                for (int64_t i = 0; i < m; i++) {
                    for (int64_t j = 0; j < t.sizes[3]; j++) {
                        float x = v.at(b, h, i, j);
                        const char *bits = reinterpret_cast<const char *>(&x);
                        void *to = cell(t, at, i, j);
                        std::memcpy(to, t.type == DATA_BFLOAT16 ? bits + 2 : bits,
                                    t.type == DATA_BFLOAT16 ? 2 : 4);
                    }
                }
            }
        }
    }
    known.emplace(t.id, std::move(v));
}

/* C = A B; heads of B are shared by groups of A's. */
void machine::multiply(const descriptor *d) {
    const descriptor *names[] = {linked(d, ATTR_OPERATION_MATMUL_ADESC),
                                 linked(d, ATTR_OPERATION_MATMUL_BDESC),
                                 linked(d, ATTR_OPERATION_MATMUL_CDESC)};
    const lengths l[] = {override_of(d, ATTR_OPERATION_MATMUL_GEMM_M_OVERRIDE_DESC),
                         override_of(d, ATTR_OPERATION_MATMUL_GEMM_N_OVERRIDE_DESC),
                         override_of(d, ATTR_OPERATION_MATMUL_GEMM_K_OVERRIDE_DESC)};
    tensor c = tensor_of(names[2]);
    const value &a = get(names[0]);
    const value &b = get(names[1]);
    value out = blank(c.sizes);
    int64_t group = a.sizes[1] / b.sizes[1];
    if (a.sizes[0] != b.sizes[0] || a.sizes[3] != b.sizes[2] || group * b.sizes[1] != a.sizes[1] ||
        c.sizes != std::array<int64_t, 4>{a.sizes[0], a.sizes[1], a.sizes[2], b.sizes[3]}) {
        misuse("sizes of a product that do not fit", c.id);
    }
    for (int64_t s = 0; s < c.sizes[0]; s++) {
        int64_t m = length_of(l[0], s, c.sizes[2]);
        int64_t n = length_of(l[1], s, c.sizes[3]);
        int64_t k = length_of(l[2], s, a.sizes[3]);
        for (int64_t h = 0; h < c.sizes[1]; h++) {
            for (int64_t i = 0; i < m; i++) {
                float *to = &out.at(s, h, i, 0);
                std::fill(to, to + n, 0.0f);
                for (int64_t x = 0; x < k; x++) {
                    float left = to_bf16(a.at(s, h, i, x));
                    const float *right = &b.data[static_cast<size_t>(
                        ((s * b.sizes[1] + h / group) * b.sizes[2] + x) * b.sizes[3])];
                    for (int64_t j = 0; j < n; j++) {
                        to[j] += left * right[j];
                    }
                }
            }
        }
    }
    out.rows = l[0];
    out.columns = l[1];
    put(names[2], std::move(out));
}

static float apply(int32_t mode, float x, float y, float condition) {
    switch (mode) {
    case POINTWISE_ADD:
        return x + y;
    case POINTWISE_MUL:
        return x * y;
    case POINTWISE_DIV:
        return x / y;
    case POINTWISE_SUB:
        return x - y;
    case POINTWISE_EXP:
        return std::exp(x);
    case POINTWISE_LOG:
        return std::log(x);
    case POINTWISE_IDENTITY:
        return x;
    case POINTWISE_CMP_GE:
        return x >= y;
    case POINTWISE_CMP_LT:
        return x < y;
    case POINTWISE_LOGICAL_AND:
        return x != 0 && y != 0;
    case POINTWISE_BINARY_SELECT:
        return condition != 0 ? x : y;
    default:
        misuse("an elementwise operation that is not known", mode);
    }
}

void machine::pointwise(const descriptor *d) {
    const descriptor *how = linked(d, ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR);
    const descriptor *to = linked(d, ATTR_OPERATION_POINTWISE_YDESC);
    const descriptor *names[] = {linked(d, ATTR_OPERATION_POINTWISE_XDESC),
                                 linked(d, ATTR_OPERATION_POINTWISE_BDESC),
                                 linked(d, ATTR_OPERATION_POINTWISE_TDESC)};
    int32_t mode = attribute<int32_t>(how, ATTR_POINTWISE_MODE, -1);
    int64_t axis = attribute<int64_t>(how, ATTR_POINTWISE_AXIS, -1);
    value out = blank(tensor_of(to).sizes);
    const value *in[3] = {};
    lengths rows;
    for (int i = 0; i < 3; i++) {
        in[i] = names[i] ? &get(names[i], rows) : nullptr;
        if (in[i] && rows.empty() && in[i]->sizes[2] == out.sizes[2]) {
            rows = in[i]->rows;
        }
    }
    for (int64_t b = 0; b < out.sizes[0]; b++) {
        for (int64_t h = 0; h < out.sizes[1]; h++) {
            for (int64_t i = 0; i < out.sizes[2]; i++) {
                for (int64_t j = 0; j < out.sizes[3]; j++) {
                    float x[3] = {};
                    for (int o = 0; o < 3 && mode != POINTWISE_GEN_INDEX; o++) {
                        if (in[o]) {
                            const auto &s = in[o]->sizes;
                            x[o] = in[o]->at(s[0] > 1 ? b : 0, s[1] > 1 ? h : 0, s[2] > 1 ? i : 0,
                                             s[3] > 1 ? j : 0);
                        }
                    }
                    out.at(b, h, i, j) = mode != POINTWISE_GEN_INDEX ? apply(mode, x[0], x[1], x[2])
                                                                     : static_cast<float>(axis == 2 ? i : j);
                }
            }
        }
    }
    out.rows = rows;
    put(to, std::move(out));
}

void machine::reduce(const descriptor *d) {
    const descriptor *how = linked(d, ATTR_OPERATION_REDUCTION_DESC);
    const descriptor *to = linked(d, ATTR_OPERATION_REDUCTION_YDESC);
    const value &in = get(linked(d, ATTR_OPERATION_REDUCTION_XDESC));
    bool is_sum = attribute<int32_t>(how, ATTR_REDUCTION_OPERATOR, -1) == REDUCE_TENSOR_ADD;
    value out = blank(tensor_of(to).sizes);
    std::fill(out.data.begin(), out.data.end(), is_sum ? 0.0f : -INFINITY);
    for (int64_t b = 0; b < in.sizes[0]; b++) {
        for (int64_t h = 0; h < in.sizes[1]; h++) {
            for (int64_t i = 0; i < in.sizes[2]; i++) {
                for (int64_t j = 0; j < in.sizes[3]; j++) {
                    float &at = out.at(b, h * out.sizes[1] / in.sizes[1], i, out.sizes[3] > 1 ? j : 0);
                    float x = in.at(b, h, i, j);
                    at = is_sum ? at + x : std::fmax(at, x);
                }
            }
        }
    }
    out.rows = in.rows;
    put(to, std::move(out));
}

/* The transposes that attention needs. */
void machine::reshape(const descriptor *d) {
    const descriptor *from = linked(d, ATTR_OPERATION_RESHAPE_XDESC);
    const descriptor *to = linked(d, ATTR_OPERATION_RESHAPE_YDESC);
    tensor x = tensor_of(from);
    tensor y = tensor_of(to);
    const value &in = get(from);
    value out = blank(y.sizes);
    if (x.sizes[2] != y.sizes[3] || x.sizes[3] != y.sizes[2] || x.strides[2] != y.strides[3] ||
        x.strides[3] != y.strides[2]) {
        misuse("a reshape that is no transpose", y.id);
    }
    for (int64_t b = 0; b < in.sizes[0]; b++) {
        for (int64_t h = 0; h < in.sizes[1]; h++) {
            for (int64_t i = 0; i < in.sizes[2]; i++) {
                for (int64_t j = 0; j < in.sizes[3]; j++) {
                    out.at(b, h, j, i) = in.at(b, h, i, j);
                }
            }
        }
    }
    out.rows = in.columns;
    out.columns = in.rows;
    put(to, std::move(out));
}

void machine::operation(const descriptor *d) {
    switch (d->kind) {
    case BACKEND_OPERATION_MATMUL_DESCRIPTOR:
        return multiply(d);
    case BACKEND_OPERATION_POINTWISE_DESCRIPTOR:
        return pointwise(d);
    case BACKEND_OPERATION_REDUCTION_DESCRIPTOR:
        return reduce(d);
    case BACKEND_OPERATION_RESHAPE_DESCRIPTOR:
        return reshape(d);
    default:
        misuse("an operation that is not known", d->kind);
    }
}

void compute(const run &r) {
    machine m(r);
    for (const descriptor *d : r.operations) {
        m.operation(d);
    }
}

} // namespace stand_in
