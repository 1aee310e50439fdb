/* A graph of operations as cuDNN's descriptors give it, computed on the CPU, operation by operation.
 *
 * A value is a dense (batch, heads, rows, columns) array. Its numbers beyond the lengths of a product (the
 * overrides) are NaN, so that whatever looks there without a mask shows; they are never stored to a ragged
 * tensor. Operands of products are rounded to bf16, as are values whose tensor is.
 */
#ifndef CUDNN_STAND_IN_GRAPH_H
#define CUDNN_STAND_IN_GRAPH_H

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

extern "C" {
#include "cuda/cudnn_api.h"
}

namespace stand_in {

struct descriptor {
    int kind;
    bool is_final;
    std::map<int, std::vector<char>> values;
    std::map<int, std::vector<descriptor *>> links;
    descriptor *graph; /* of an engine configuration */
};

struct tensor {
    int64_t id;
    int32_t type;
    std::array<int64_t, 4> sizes, strides;
    bool is_virtual, is_by_value;
    const descriptor *offsets; /* NULL: not ragged */
};
tensor tensor_of(const descriptor *d);

/* What a run is about: where tensors are, and the scalars that were given by value. */
struct run {
    std::vector<const descriptor *> operations;
    std::map<int64_t, char *> places;
    std::map<int64_t, float> scalars;
    bool (*is_device)(const void *data, size_t bytes);
};
/* Ends the process with a message where the graph or an address makes no sense. */
void compute(const run &r);
/* One value of an attribute; `otherwise` where it was not set. */
template <typename T> T attribute(const descriptor *d, int name, T otherwise) {
    auto found = d->values.find(name);
    T out = otherwise;
    if (found != d->values.end() && found->second.size() >= sizeof out) {
        __builtin_memcpy(&out, found->second.data(), sizeof out);
    }
    return out;
}
const descriptor *linked(const descriptor *d, int name);
[[noreturn]] void misuse(const char *what, int64_t id);

} // namespace stand_in

#endif
