/* A stand-in for libcudnn.so.9 on the emulated device: the calls that cuda/fused.cu makes. A graph is
 * computed on the CPU, in the order of its stream, as its descriptors describe it (graph.h), whatever it is:
 * a mask, a stride or a length that is described wrongly gives wrong numbers. STAND_IN_CUDNN, moods: "none",
 * no graph has an engine; "causal", only graphs with a causal mask have one; "old", version 9.0.0.
 * STAND_IN_CUDNN_LOG: a file that gets a line of counts when a handle ends.
 */
#include <dlfcn.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "graph.h"

using stand_in::descriptor;

namespace {

constexpr int64_t WORKSPACE_BYTES = 4096;
struct handle {
    void *stream;
    void (*enqueue)(void *stream, void (*work)(void *), void *data);
    bool (*is_device)(const void *data, size_t bytes);
};
long plans, executions;

bool is_mood(const char *mood) {
    const char *now = getenv("STAND_IN_CUDNN");
    return now && std::strcmp(now, mood) == 0;
}

size_t size_of(int type) {
    switch (type) {
    case TYPE_CHAR:
    case TYPE_BOOLEAN:
        return 1;
    case TYPE_DATA_TYPE:
    case TYPE_HEUR_MODE:
    case TYPE_POINTWISE_MODE:
    case TYPE_REDUCTION_OPERATOR_TYPE:
        return 4;
    default:
        return 8;
    }
}

bool is_operation(const descriptor *d) {
    return d->kind == BACKEND_OPERATION_MATMUL_DESCRIPTOR ||
           d->kind == BACKEND_OPERATION_POINTWISE_DESCRIPTOR ||
           d->kind == BACKEND_OPERATION_REDUCTION_DESCRIPTOR ||
           d->kind == BACKEND_OPERATION_RESHAPE_DESCRIPTOR;
}

bool is_causal(const descriptor *graph) {
    for (const descriptor *d : graph->links.at(ATTR_OPERATIONGRAPH_OPS)) {
        const descriptor *how = stand_in::linked(d, ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR);
        if (how && stand_in::attribute<int32_t>(how, ATTR_POINTWISE_MODE, -1) == POINTWISE_CMP_GE) {
            return true;
        }
    }
    return false;
}

/* The addresses of a variant pack; scalars are read now, as their memory is the caller's. */
stand_in::run *run_of(const descriptor *graph, const descriptor *pack, const handle *h) {
    auto *r = new stand_in::run();
    const auto &ids = pack->values.at(ATTR_VARIANT_PACK_UNIQUE_IDS);
    const auto &pointers = pack->values.at(ATTR_VARIANT_PACK_DATA_POINTERS);
    for (size_t i = 0; i + 8 <= ids.size(); i += 8) {
        int64_t id = 0;
        char *place = nullptr;
        std::memcpy(&id, ids.data() + i, 8);
        std::memcpy(&place, pointers.data() + i, 8);
        r->places[id] = place;
    }
    for (const descriptor *operation : graph->links.at(ATTR_OPERATIONGRAPH_OPS)) {
        r->operations.push_back(operation);
        for (const auto &link : operation->links) {
            const descriptor *d = link.second[0];
            if (d->kind == BACKEND_TENSOR_DESCRIPTOR && stand_in::tensor_of(d).is_by_value) {
                int64_t id = stand_in::tensor_of(d).id;
                std::memcpy(&r->scalars[id], r->places.at(id), sizeof(float));
            }
        }
    }
    r->is_device = h->is_device;
    return r;
}

void work(void *data) {
    auto *r = static_cast<stand_in::run *>(data);
    stand_in::compute(*r);
    delete r;
}

} // namespace

extern "C" {

size_t cudnnGetVersion(void) {
    return is_mood("old") ? 90000 : 91900;
}

const char *cudnnGetErrorString(int status) {
    return status == STATUS_SUCCESS         ? "CUDNN_STATUS_SUCCESS"
           : status == STATUS_NOT_SUPPORTED ? "CUDNN_STATUS_NOT_SUPPORTED"
                                            : "CUDNN_STATUS_BAD_PARAM";
}

void cudnnGetLastErrorString(char *message, size_t size) {
    snprintf(message, size, "stand-in");
}

int cudnnCreate(void **out) {
    const char *folder = getenv("COLLIMATE_PLUGIN_PATH");
    std::string path = std::string(folder ? folder : ".") + "/libcollimate_cuda.so";
    void *device = dlopen(path.c_str(), RTLD_NOW | RTLD_NOLOAD);
    auto *h = new handle();
    void *enqueue = device ? dlsym(device, "emulated_enqueue") : nullptr;
    void *is_device = device ? dlsym(device, "emulated_is_device") : nullptr;
    std::memcpy(&h->enqueue, &enqueue, sizeof enqueue);
    std::memcpy(&h->is_device, &is_device, sizeof is_device);
    *out = h;
    return enqueue && is_device ? STATUS_SUCCESS : STATUS_NOT_SUPPORTED;
}

int cudnnDestroy(void *h) {
    const char *log = getenv("STAND_IN_CUDNN_LOG");
    FILE *file = log ? fopen(log, "a") : nullptr;
    if (file) {
        fprintf(file, "plans %ld executions %ld\n", plans, executions);
        fclose(file);
    }
    delete static_cast<handle *>(h);
    return STATUS_SUCCESS;
}

int cudnnSetStream(void *h, void *stream) {
    static_cast<handle *>(h)->stream = stream;
    return STATUS_SUCCESS;
}

int cudnnBackendCreateDescriptor(int kind, void **out) {
    auto *d = new descriptor();
    d->kind = kind;
    *out = d;
    return STATUS_SUCCESS;
}

int cudnnBackendDestroyDescriptor(void *d) {
    delete static_cast<descriptor *>(d);
    return STATUS_SUCCESS;
}

int cudnnBackendSetAttribute(void *to, int name, int type, int64_t count, const void *values) {
    auto *d = static_cast<descriptor *>(to);
    if (d->is_final || count < 1) {
        return STATUS_BAD_PARAM;
    }
    if (type == TYPE_BACKEND_DESCRIPTOR) {
        auto *const *links = static_cast<descriptor *const *>(values);
        d->links[name].assign(links, links + count);
        for (const descriptor *other : d->links[name]) {
            if (!other->is_final && other->kind != BACKEND_ENGINECFG_DESCRIPTOR) {
                return STATUS_BAD_PARAM;
            }
        }
        return STATUS_SUCCESS;
    }
    const char *bytes = static_cast<const char *>(values);
    d->values[name].assign(bytes, bytes + size_of(type) * static_cast<size_t>(count));
    return STATUS_SUCCESS;
}

int cudnnBackendFinalize(void *given) {
    auto *d = static_cast<descriptor *>(given);
    bool is_sound = true;
    if (d->kind == BACKEND_OPERATIONGRAPH_DESCRIPTOR) {
        for (const descriptor *operation : d->links[ATTR_OPERATIONGRAPH_OPS]) {
            is_sound = is_sound && is_operation(operation);
        }
        is_sound = is_sound && d->values.count(ATTR_OPERATIONGRAPH_HANDLE) > 0;
    } else if (d->kind == BACKEND_EXECUTION_PLAN_DESCRIPTOR) {
        is_sound = stand_in::linked(d, ATTR_EXECUTION_PLAN_ENGINE_CONFIG) != nullptr &&
                   d->values.count(ATTR_EXECUTION_PLAN_HANDLE) > 0;
    }
    d->is_final = true;
    plans += d->kind == BACKEND_EXECUTION_PLAN_DESCRIPTOR;
    return is_sound ? STATUS_SUCCESS : STATUS_BAD_PARAM;
}

int cudnnBackendGetAttribute(void *from, int name, int, int64_t asked, int64_t *count, void *values) {
    auto *d = static_cast<descriptor *>(from);
    if (name == ATTR_EXECUTION_PLAN_WORKSPACE_SIZE) {
        std::memcpy(values, &WORKSPACE_BYTES, sizeof WORKSPACE_BYTES);
        *count = 1;
        return STATUS_SUCCESS;
    }
    if (name != ATTR_ENGINEHEUR_RESULTS || asked < 1) {
        return STATUS_BAD_PARAM;
    }
    auto *graph = d->links[ATTR_ENGINEHEUR_OPERATION_GRAPH][0];
    *count = is_mood("none") || (is_mood("causal") && !is_causal(graph)) ? 0 : 1;
    static_cast<descriptor **>(values)[0]->graph = graph;
    return STATUS_SUCCESS;
}

int cudnnBackendExecute(void *given, void *plan, void *pack) {
    auto *h = static_cast<handle *>(given);
    const auto *p = static_cast<const descriptor *>(pack);
    const descriptor *graph =
        stand_in::linked(static_cast<descriptor *>(plan), ATTR_EXECUTION_PLAN_ENGINE_CONFIG)->graph;
    void *workspace = stand_in::attribute<void *>(p, ATTR_VARIANT_PACK_WORKSPACE, nullptr);
    if (!p->is_final || !h->is_device(workspace, WORKSPACE_BYTES)) {
        return STATUS_BAD_PARAM;
    }
    executions++;
    h->enqueue(h->stream, work, run_of(graph, p, h));
    return STATUS_SUCCESS;
}

} // extern "C"
