/* Copies beside the operations: a stream in each direction, ordered by events, pinned host memory.
 *
 * The communication thread calls some of these, so each names the device first: CUDA's choice of a device
 * belongs to a thread. The streams have the highest priority: a copy is short, and the sum over ranks waits
 * for it, while kernels have work for the whole of backward.
 */
#include "cuda/device.cuh"

enum status cuda_transfers_open(struct cuda *c) {
    int least = 0;
    int greatest = 0;
    CUDA_TRY(c, "cudaDeviceGetStreamPriorityRange", cudaDeviceGetStreamPriorityRange(&least, &greatest));
    for (cudaStream_t *stream : {&c->down, &c->up, &c->sums}) {
        CUDA_TRY(c, "cudaStreamCreate",
                 cudaStreamCreateWithPriority(stream, cudaStreamNonBlocking, greatest));
    }
    return OK;
}

void cuda_transfers_close(struct cuda *c) {
    for (cudaStream_t stream : {c->down, c->up, c->sums}) {
        if (stream) {
            (void)cudaStreamSynchronize(stream);
            (void)cudaStreamDestroy(stream);
        }
    }
}

static enum status use_device(const struct cuda *c) {
    CUDA_TRY(c, "cudaSetDevice", cudaSetDevice(c->device));
    return OK;
}

static enum status host_alloc(struct backend *b, int64_t bytes, void **out) {
    const struct cuda *c = cuda_of(b);
    cudaError_t error = cudaHostAlloc(out, static_cast<size_t>(bytes > 0 ? bytes : 1), cudaHostAllocDefault);
    if (error == cudaErrorMemoryAllocation) {
        (void)cudaGetLastError();
        return cuda_fail(c, ERR_SYSTEM, "cuda: no %lld bytes of pinned host memory; lower train.bucket_bytes",
                         static_cast<long long>(bytes));
    }
    CUDA_TRY(c, "cudaHostAlloc", error);
    return OK;
}

static void host_free(struct backend *, void *data) {
    (void)cudaFreeHost(data);
}

static enum status event_open(struct backend *b, void **event) {
    const struct cuda *c = cuda_of(b);
    cudaEvent_t made = nullptr;
    CUDA_TRY(c, "cudaEventCreate", cudaEventCreateWithFlags(&made, cudaEventDisableTiming));
    *event = made;
    return OK;
}

static void event_close(struct backend *, void *event) {
    (void)cudaEventDestroy(static_cast<cudaEvent_t>(event));
}

static enum status mark(struct backend *b, void *event) {
    const struct cuda *c = cuda_of(b);
    CUDA_TRY(c, "cudaEventRecord", cudaEventRecord(static_cast<cudaEvent_t>(event), c->stream));
    return OK;
}

static enum status is_passed(struct backend *b, void *event, bool *out) {
    const struct cuda *c = cuda_of(b);
    TRY(use_device(c));
    cudaError_t state = cudaEventQuery(static_cast<cudaEvent_t>(event));
    *out = state == cudaSuccess;
    if (state == cudaErrorNotReady) {
        (void)cudaGetLastError(); /* an answer, not an error */
        return OK;
    }
    CUDA_TRY(c, "waiting for an event", state);
    return OK;
}

static enum status follow(struct backend *b, void *event) {
    const struct cuda *c = cuda_of(b);
    CUDA_TRY(c, "cudaStreamWaitEvent", cudaStreamWaitEvent(c->stream, static_cast<cudaEvent_t>(event), 0));
    return OK;
}

static enum status fetch(struct backend *b, void *host, const void *from, int64_t bytes, void *after,
                         void *done) {
    const struct cuda *c = cuda_of(b);
    TRY(use_device(c));
    CUDA_TRY(c, "cudaStreamWaitEvent", cudaStreamWaitEvent(c->down, static_cast<cudaEvent_t>(after), 0));
    CUDA_TRY(c, "fetch",
             cudaMemcpyAsync(host, from, static_cast<size_t>(bytes), cudaMemcpyDeviceToHost, c->down));
    CUDA_TRY(c, "cudaEventRecord", cudaEventRecord(static_cast<cudaEvent_t>(done), c->down));
    return OK;
}

static enum status deliver(struct backend *b, void *to, const void *host, int64_t bytes, void *done) {
    const struct cuda *c = cuda_of(b);
    TRY(use_device(c));
    CUDA_TRY(c, "deliver",
             cudaMemcpyAsync(to, host, static_cast<size_t>(bytes), cudaMemcpyHostToDevice, c->up));
    CUDA_TRY(c, "cudaEventRecord", cudaEventRecord(static_cast<cudaEvent_t>(done), c->up));
    return OK;
}

const struct backend_transfers cuda_transfers = {
    .host_alloc = host_alloc,
    .host_free = host_free,
    .event_open = event_open,
    .event_close = event_close,
    .mark = mark,
    .is_passed = is_passed,
    .follow = follow,
    .fetch = fetch,
    .deliver = deliver,
    .group_find = cuda_group_find,
    .group_key = cuda_group_key,
    .group_open = cuda_group_open,
    .group_close = cuda_group_close,
    .group_sum = cuda_group_sum,
};
