/* Sums over the devices of a job by NCCL, opened at run time: no build and no start needs it.
 *
 * The prototypes are the few of nccl.h (2.x) that are used; NCCL keeps its binary interface within a major
 * version. The group's key is NCCL's unique id, which one rank makes and the caller hands to all.
 */
#include <dlfcn.h>

#include <cstdio>
#include <cstring>
#include <new>

#include "cuda/device.cuh"

typedef struct ncclComm *nccl_comm;
struct nccl_key {
    char internal[BACKEND_GROUP_KEY_BYTES]; /* ncclUniqueId */
};
enum { NCCL_SUCCESS = 0, NCCL_IN_PROGRESS = 7 };              /* ncclResult_t */
enum { NCCL_FLOAT32 = 7, NCCL_FLOAT64 = 8, NCCL_SUM_OP = 0 }; /* ncclDataType_t, ncclRedOp_t */

struct device_group {
    void *library;
    nccl_comm comm;
    int (*get_version)(int *);
    int (*get_unique_id)(struct nccl_key *);
    int (*init_rank)(nccl_comm *, int size, struct nccl_key, int rank);
    int (*all_reduce)(const void *, void *, size_t, int type, int op, nccl_comm, cudaStream_t);
    int (*async_error)(nccl_comm, int *);
    int (*end)(nccl_comm);
    const char *(*error_string)(int);
};

/* ISO C++ lets dlsym's void * become a function only by way of a copy of its bits. */
template <typename F> static bool find(void *library, const char *name, F *out) {
    void *symbol = dlsym(library, name);
    std::memcpy(out, &symbol, sizeof *out);
    return symbol != nullptr;
}

static enum status load(struct cuda *c) {
    if (c->group) {
        return OK;
    }
    static const char name[] = "libnccl.so.2"; /* where the loader looks: LD_LIBRARY_PATH comes first */
    void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        const char *reason = dlerror();
        return cuda_fail(c, ERR_SYSTEM, "no NCCL: %.200s", reason ? reason : name);
    }
    struct device_group *g = new (std::nothrow) struct device_group();
    if (!g) {
        return cuda_fail(c, ERR_SYSTEM, "cuda: no host memory");
    }
    g->library = library; /* stays loaded: it has threads of its own */
    if (!find(library, "ncclGetVersion", &g->get_version) ||
        !find(library, "ncclGetUniqueId", &g->get_unique_id) ||
        !find(library, "ncclCommInitRank", &g->init_rank) ||
        !find(library, "ncclAllReduce", &g->all_reduce) ||
        !find(library, "ncclCommGetAsyncError", &g->async_error) ||
        !find(library, "ncclCommAbort", &g->end) || !find(library, "ncclGetErrorString", &g->error_string)) {
        delete g;
        return cuda_fail(c, ERR_SYSTEM, "no NCCL: %.200s lacks a function that is needed", name);
    }
    c->group = g;
    return OK;
}

static enum status nccl_failed(const struct cuda *c, const char *what, int result) {
    return cuda_fail(c, ERR_SYSTEM, "NCCL: %s: %s (set NCCL_DEBUG=WARN for more)", what,
                     c->group->error_string(result));
}
#define NCCL_TRY(c, what, call)                       \
    do {                                              \
        int result_ = (call);                         \
        if (result_ != NCCL_SUCCESS) {                \
            return nccl_failed((c), (what), result_); \
        }                                             \
    } while (0)

enum status cuda_group_find(struct backend *b, char name[64]) {
    struct cuda *c = cuda_of(b);
    int version = 0;
    TRY(load(c));
    NCCL_TRY(c, "ncclGetVersion", c->group->get_version(&version));
    snprintf(name, 64, "NCCL %d.%d.%d", version / 10000, version / 100 % 100, version % 100);
    return OK;
}

enum status cuda_group_key(struct backend *b, unsigned char key[BACKEND_GROUP_KEY_BYTES]) {
    struct cuda *c = cuda_of(b);
    struct nccl_key id;
    TRY(load(c));
    NCCL_TRY(c, "ncclGetUniqueId", c->group->get_unique_id(&id));
    std::memcpy(key, id.internal, sizeof id.internal);
    return OK;
}

enum status cuda_group_open(struct backend *b, const unsigned char key[BACKEND_GROUP_KEY_BYTES], int rank,
                            int size) {
    struct cuda *c = cuda_of(b);
    struct nccl_key id;
    TRY(load(c));
    std::memcpy(id.internal, key, sizeof id.internal);
    NCCL_TRY(c, "ncclCommInitRank", c->group->init_rank(&c->group->comm, size, id, rank));
    return OK;
}

/* Abort rather than destroy: destroying waits for ranks that may be gone, and nothing is under way. */
void cuda_group_close(struct backend *b) {
    struct cuda *c = cuda_of(b);
    if (!c->group) {
        return;
    }
    (void)cudaStreamSynchronize(c->sums);
    if (c->group->comm) {
        (void)c->group->end(c->group->comm);
    }
    delete c->group;
    c->group = nullptr;
}

enum status cuda_group_sum(struct backend *b, void *values, int64_t n, enum dtype type, void *after,
                           void *done) {
    struct cuda *c = cuda_of(b);
    struct device_group *g = c->group;
    int state = NCCL_SUCCESS;
    CUDA_TRY(c, "cudaSetDevice", cudaSetDevice(c->device));
    CUDA_TRY(c, "cudaStreamWaitEvent", cudaStreamWaitEvent(c->sums, static_cast<cudaEvent_t>(after), 0));
    NCCL_TRY(c, "ncclAllReduce",
             g->all_reduce(values, values, static_cast<size_t>(n),
                           type == DTYPE_F64 ? NCCL_FLOAT64 : NCCL_FLOAT32, NCCL_SUM_OP, g->comm, c->sums));
    NCCL_TRY(c, "ncclCommGetAsyncError", g->async_error(g->comm, &state));
    if (state != NCCL_SUCCESS && state != NCCL_IN_PROGRESS) {
        return nccl_failed(c, "a sum over the devices", state);
    }
    CUDA_TRY(c, "cudaEventRecord", cudaEventRecord(static_cast<cudaEvent_t>(done), c->sums));
    return OK;
}
