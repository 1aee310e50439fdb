/* Moments in the device's work, for times by operation (backend/operation_times.h): events on the stream of
 * the operations, made when they are first used. Recording one waits for nothing. */
#include <new>

#include "cuda/device.cuh"

enum status cuda_stamp(struct backend *b, int index) {
    struct cuda *c = cuda_of(b);
    if (!c->stamps) {
        c->stamps = new (std::nothrow) cudaEvent_t[BACKEND_STAMPS]();
        if (!c->stamps) {
            return cuda_fail(c, ERR_SYSTEM, "cuda: no host memory for stamps");
        }
    }
    if (!c->stamps[index]) {
        CUDA_TRY(c, "cudaEventCreate", cudaEventCreate(&c->stamps[index]));
    }
    CUDA_TRY(c, "cudaEventRecord", cudaEventRecord(c->stamps[index], c->stream));
    return OK;
}

enum status cuda_stamp_seconds(struct backend *b, int from, int to, double *seconds) {
    const struct cuda *c = cuda_of(b);
    float milliseconds = 0.0f;
    CUDA_TRY(c, "cudaEventSynchronize", cudaEventSynchronize(c->stamps[to]));
    CUDA_TRY(c, "cudaEventElapsedTime", cudaEventElapsedTime(&milliseconds, c->stamps[from], c->stamps[to]));
    *seconds = static_cast<double>(milliseconds) / 1e3;
    return OK;
}

void cuda_stamps_close(struct cuda *c) {
    for (int i = 0; c->stamps && i < BACKEND_STAMPS; i++) {
        if (c->stamps[i]) {
            (void)cudaEventDestroy(c->stamps[i]);
        }
    }
    delete[] c->stamps;
    c->stamps = nullptr;
}
