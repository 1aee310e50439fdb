/* Device memory: plain cudaMalloc per allocation (the rooms above allocate arenas, not tensors), copies
 * through two pinned buffers that take turns, and the scratch memory of operations. */
#include <cstring>

#include "cuda/device.cuh"

static const int64_t STAGING_BYTES = int64_t(8) << 20;
/* Scratch that follows the number of tokens begins large enough for a million queries times heads, so that
 * later steps with longer forests need no other; slabs of logits are of one size, and larger. */
static const int64_t SCRATCH_LEAST = int64_t(4) << 20;
static const int64_t SCRATCH_EXACT = int64_t(16) << 20;

static const char *fault_name(int fault) {
    static const char *const names[] = {"",       "embed", "embed_gradient or scatter_add",
                                        "gather", "pool",  "head", "film"};
    return fault > FAULT_NONE && fault <= FAULT_FILM ? names[fault] : "?";
}

enum status cuda_memory_open(struct cuda *c) {
    CUDA_TRY(c, "cudaStreamCreate", cudaStreamCreateWithFlags(&c->stream, cudaStreamNonBlocking));
    CUDA_TRY(c, "cudaHostAlloc",
             cudaHostAlloc(reinterpret_cast<void **>(&c->fault), sizeof *c->fault, cudaHostAllocMapped));
    *c->fault = FAULT_NONE;
    for (int i = 0; i < 2; i++) {
        CUDA_TRY(
            c, "cudaHostAlloc of staging memory",
            cudaHostAlloc(reinterpret_cast<void **>(&c->staging[i]), STAGING_BYTES, cudaHostAllocDefault));
        CUDA_TRY(c, "cudaEventCreate", cudaEventCreateWithFlags(&c->staging_done[i], cudaEventDisableTiming));
    }
    return OK;
}

/* At the end of a life errors have nobody to go to, and after a failed open half of it is not there. */
void cuda_memory_close(struct cuda *c) {
    if (c->stream) {
        (void)cudaStreamSynchronize(c->stream);
    }
    for (int i = 0; i < SCRATCH_KINDS; i++) {
        (void)cudaFree(c->scratch[i]);
    }
    for (int i = 0; i < 2; i++) {
        if (c->staging_done[i]) {
            (void)cudaEventDestroy(c->staging_done[i]);
        }
        (void)cudaFreeHost(c->staging[i]);
    }
    (void)cudaFreeHost(c->fault);
    if (c->stream) {
        (void)cudaStreamDestroy(c->stream);
    }
}

/* what: for the message; empty where the caller adds a name. */
enum status cuda_take(const struct cuda *c, const char *what, int64_t bytes, void **out) {
    cudaError_t error = cudaMalloc(out, static_cast<size_t>(bytes > 0 ? bytes : 1));
    if (error == cudaErrorMemoryAllocation) {
        size_t unused = 0;
        size_t total = 0;
        (void)cudaGetLastError(); /* this one leaves the device usable */
        (void)cudaMemGetInfo(&unused, &total);
        return cuda_fail(c, ERR_SYSTEM,
                         "cuda: %s%s%lld bytes of device memory were asked for and are not there (%zu of %zu "
                         "free); lower train.micro_tokens, or see --dry-run for what is needed",
                         what, *what ? ": " : "", static_cast<long long>(bytes), unused, total);
    }
    CUDA_TRY(c, "cudaMalloc", error);
    return OK;
}

/* In the order of enum cuda_scratch. */
static const char *const scratch_names[] = {
    "a slab of logits",
    "a slab of the logits' gradients",
    "the gradient of the head's rows",
    "attention's row sums",
    "an attention map",
    "partial sums",
    "fused attention's runs",
    "fused attention's offsets and lengths",
    "fused attention's log-sum-exps",
    "fused attention's sums of query gradients",
    "a part of attention's output or gradients",
    "the log-sum-exps of a part of attention",
    "cuDNN's workspace",
};
static_assert(sizeof scratch_names / sizeof *scratch_names == SCRATCH_KINDS, "a name for each kind");

enum status cuda_scratch(struct cuda *c, enum cuda_scratch kind, int64_t bytes, void **out) {
    if (bytes > c->scratch_bytes[kind] || !c->scratch[kind]) {
        CUDA_TRY(c, "waiting before scratch memory grows", cudaStreamSynchronize(c->stream));
        CUDA_TRY(c, "cudaFree", cudaFree(c->scratch[kind]));
        c->scratch[kind] = nullptr;
        c->scratch_bytes[kind] = 0;
        int64_t size = SCRATCH_LEAST;
        while (size < bytes) {
            size *= 2;
        }
        size = bytes > SCRATCH_EXACT ? bytes : size;
        TRY(cuda_take(c, scratch_names[kind], size, &c->scratch[kind]));
        c->scratch_bytes[kind] = size;
    }
    *out = c->scratch[kind];
    return OK;
}

int64_t cuda_memory_taken(struct backend *b) {
    size_t unused = 0;
    size_t total = 0;
    if (cudaMemGetInfo(&unused, &total) != cudaSuccess) {
        return 0;
    }
    return b->caps.memory_free - static_cast<int64_t>(unused);
}

enum status cuda_alloc(struct backend *b, int64_t bytes, void **out) {
    void *data = nullptr;
    TRY(cuda_take(cuda_of(b), "", bytes, &data));
    *out = data;
    return OK;
}

void cuda_free(struct backend *b, void *data) {
    (void)cudaStreamSynchronize(cuda_of(b)->stream); /* nothing that was given may still use it */
    (void)cudaFree(data);
}

/* The caller's memory is free to change on return: it has been copied to a pinned half, and a half is
 * written again only when the device has read it. */
enum status cuda_write(struct backend *b, void *to, const void *host, int64_t bytes) {
    struct cuda *c = cuda_of(b);
    for (int64_t at = 0, half = 0; at < bytes; at += STAGING_BYTES, half ^= 1) {
        size_t n = static_cast<size_t>(bytes - at < STAGING_BYTES ? bytes - at : STAGING_BYTES);
        CUDA_TRY(c, "write", cudaEventSynchronize(c->staging_done[half]));
        std::memcpy(c->staging[half], static_cast<const char *>(host) + at, n);
        CUDA_TRY(c, "write",
                 cudaMemcpyAsync(static_cast<char *>(to) + at, c->staging[half], n, cudaMemcpyHostToDevice,
                                 c->stream));
        CUDA_TRY(c, "write", cudaEventRecord(c->staging_done[half], c->stream));
    }
    return OK;
}

/* A wait is over: what kernels complained of meanwhile. */
static enum status look_at_fault(struct cuda *c) {
    int fault = *static_cast<volatile int *>(c->fault);
    if (fault == FAULT_NONE) {
        return OK;
    }
    *c->fault = FAULT_NONE;
    return cuda_fail(c, ERR_INTERNAL,
                     "backend_%s: a row number, target or span on the device is outside its table",
                     fault_name(fault));
}

enum status cuda_read(struct backend *b, void *host, const void *from, int64_t bytes) {
    struct cuda *c = cuda_of(b);
    for (int64_t at = 0; at < bytes; at += STAGING_BYTES) {
        size_t n = static_cast<size_t>(bytes - at < STAGING_BYTES ? bytes - at : STAGING_BYTES);
        CUDA_TRY(c, "read",
                 cudaMemcpyAsync(c->staging[0], static_cast<const char *>(from) + at, n,
                                 cudaMemcpyDeviceToHost, c->stream));
        CUDA_TRY(c, "read", cudaStreamSynchronize(c->stream));
        std::memcpy(static_cast<char *>(host) + at, c->staging[0], n);
    }
    return look_at_fault(c);
}

enum status cuda_copy(struct backend *b, void *to, const void *from, int64_t bytes) {
    struct cuda *c = cuda_of(b);
    CUDA_TRY(c, "copy",
             cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyDeviceToDevice, c->stream));
    return OK;
}

enum status cuda_zero(struct backend *b, void *to, int64_t bytes) {
    struct cuda *c = cuda_of(b);
    CUDA_TRY(c, "zero", cudaMemsetAsync(to, 0, static_cast<size_t>(bytes), c->stream));
    return OK;
}

enum status cuda_sync(struct backend *b) {
    struct cuda *c = cuda_of(b);
    CUDA_TRY(c, "sync", cudaStreamSynchronize(c->stream));
    return look_at_fault(c);
}
