/* The CUDA back end's table, how it opens, and the one symbol that the shared object exports.
 *
 * The score is 0: `device: auto` leaves it alone until it has been seen to pass the numerics suite on a
 * device (README.md here). */
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <new>

#include "cuda/attention.cuh"

enum status cuda_fail(const struct cuda *c, enum status code, const char *format, ...) {
    struct message failure = {};
    failure.code = code;
    failure.file = "cuda";
    va_list args;
    va_start(args, format);
    vsnprintf(failure.text, sizeof failure.text, format, args);
    va_end(args);
    c->record(&failure);
    return code;
}

enum status cuda_failed(const struct cuda *c, const char *what, cudaError_t error) {
    return cuda_fail(c, ERR_SYSTEM, "cuda: %s: %s (error %d)", what, cudaGetErrorString(error),
                     static_cast<int>(error));
}

static void cuda_destroy(struct backend *b) {
    struct cuda *c = cuda_of(b);
    cuda_group_close(b);
    cuda_transfers_close(c);
    cuda_stamps_close(c);
    cuda_fused_close(c);
    cuda_blas_close(c);
    cuda_memory_close(c);
    delete c;
    delete b;
}

#define ENTRY(name, type) , .name = cuda_##name
static const struct backend_ops operations = {
    .api_version = BACKEND_API_VERSION,
    .alloc = cuda_alloc,
    .free = cuda_free,
    .write = cuda_write,
    .read = cuda_read,
    .copy = cuda_copy,
    .zero = cuda_zero,
    .sync = cuda_sync,
    .host_address = nullptr, /* communication goes through the transfers */
    .transfers = &cuda_transfers,
    .scratch_bytes = cuda_scratch_bytes,
    .memory_taken = cuda_memory_taken,
    .stamp = cuda_stamp,
    .stamp_seconds = cuda_stamp_seconds,
    .destroy = cuda_destroy OPERATIONS(ENTRY) OPTIONAL_OPERATIONS(ENTRY),
};

/* A machine without a driver answers cudaErrorInsufficientDriver (35), one without a device cudaErrorNoDevice
 * (100): the same to a user. */
static int cuda_devices(void) {
    int count = 0;
    if (cudaGetDeviceCount(&count) != cudaSuccess) {
        (void)cudaGetLastError(); /* or the first launch would report it */
        return 0;
    }
    return count;
}

/* A node's ranks are dealt over the devices that they see. Two on one device share its memory and its time:
 * only where the user says so. */
static enum status choose_device(struct cuda *c, const struct backend_request *request) {
    int count = 0;
    cudaError_t error = cudaGetDeviceCount(&count);
    if (error == cudaErrorInsufficientDriver || error == cudaErrorNoDevice ||
        (error == cudaSuccess && count == 0)) {
        (void)cudaGetLastError();
        bool has_driver = error != cudaErrorInsufficientDriver;
        return cuda_fail(
            c, ERR_SYSTEM,
            "device cuda: no CUDA device: %s: %s (error %d); use a node with an NVIDIA driver and a "
            "device, or device=cpu",
            has_driver ? "a driver but no device that it shows (CUDA_VISIBLE_DEVICES, the "
                         "job's --gpus)"
                       : "no NVIDIA driver, or one older than this CUDA runtime",
            error == cudaSuccess ? "none is visible" : cudaGetErrorString(error), static_cast<int>(error));
    }
    CUDA_TRY(c, "cudaGetDeviceCount", error);
    int index = request->device_index > 0 ? request->device_index : 0;
    int most = request->device_ranks > 1 ? request->device_ranks : 1;
    if (index / count >= most) {
        return cuda_fail(c, ERR_SYSTEM,
                         "device cuda: this is process %d of its node and sees %d device%s, for %d process%s "
                         "each; run fewer ranks a node, let every rank see all of the node's devices, or set "
                         "device_ranks=%d to share them",
                         index + 1, count, count == 1 ? "" : "s", most, most == 1 ? "" : "es",
                         index / count + 1);
    }
    c->device = index % count;
    CUDA_TRY(c, "cudaSetDevice", cudaSetDevice(c->device));
    CUDA_TRY(c, "cudaDeviceGetAttribute",
             cudaDeviceGetAttribute(&c->shared_limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, c->device));
    return OK;
}

static enum status describe(const struct cuda *c, const struct backend_request *request, struct backend *b) {
    cudaDeviceProp properties;
    size_t unused = 0;
    size_t total = 0;
    CUDA_TRY(c, "cudaGetDeviceProperties", cudaGetDeviceProperties(&properties, c->device));
    CUDA_TRY(c, "cudaMemGetInfo", cudaMemGetInfo(&unused, &total));
    if (properties.major < 8) {
        return cuda_fail(c, ERR_SYSTEM,
                         "device cuda: %s has compute capability %d.%d; 8.0 or later is needed",
                         properties.name, properties.major, properties.minor);
    }
    b->caps.name = "cuda";
    b->caps.master = DTYPE_F32;
    b->caps.compute = std::strcmp(request->compute, "bf16") == 0 ? DTYPE_BF16 : DTYPE_F32;
    b->caps.readout = DTYPE_F32;
    b->caps.deterministic = true;
    b->caps.threads = 1;
    b->caps.memory_free = static_cast<int64_t>(unused);
    b->caps.memory_total = static_cast<int64_t>(total);
    char uuid[40]; /* as nvidia-smi -L writes it: groups of 8, 4, 4, 4, 12 */
    for (int i = 0, at = 0; i < 16; i++) {
        bool begins_group = i == 4 || i == 6 || i == 8 || i == 10;
        at += snprintf(uuid + at, sizeof uuid - static_cast<size_t>(at), "%s%02x", begins_group ? "-" : "",
                       static_cast<unsigned char>(properties.uuid.bytes[i]));
    }
    snprintf(b->caps.description, sizeof b->caps.description,
             "GPU-%s, device %d, %.50s, capability %d.%d, runtime %d", uuid, c->device, properties.name,
             properties.major, properties.minor, CUDART_VERSION);
    return OK;
}

static enum status open_parts(struct cuda *c, const struct backend_request *request, struct backend *b,
                              char words[160]) {
    TRY(choose_device(c, request));
    TRY(describe(c, request, b));
    TRY(cuda_memory_open(c));
    TRY(cuda_transfers_open(c));
    TRY(cuda_blas_open(c));
    TRY(cuda_fused_open(c, request->attention ? request->attention : "auto", b->caps.compute == DTYPE_BF16,
                        words));
    b->caps.deterministic = c->deterministic || !c->fused; /* cuDNN's dQ has no fixed order */
    return OK;
}

static enum status cuda_open_backend(const struct backend_request *request,
                                     void (*record)(const struct message *failure), struct backend **out,
                                     char why[256]) {
    struct backend *b = new (std::nothrow) struct backend();
    struct cuda *c = new (std::nothrow) struct cuda();
    if (!b || !c) {
        struct cuda nothing = {};
        nothing.record = record;
        delete b;
        delete c;
        return cuda_fail(&nothing, ERR_SYSTEM, "cuda: no host memory");
    }
    c->record = record;
    c->deterministic = request->deterministic;
    c->allows_tf32 = std::strcmp(request->compute, "tf32") == 0;
    b->ops = &operations;
    b->context = c;
    char words[160] = "";
    enum status st = open_parts(c, request, b, words);
    if (st != OK) {
        cuda_destroy(b);
        return st;
    }
    snprintf(why, 256, "asked for; %s", words);
    *out = b;
    return OK;
}

extern "C" __attribute__((visibility("default"))) const struct backend_plugin *collimate_backend(void) {
    static const struct backend_plugin plugin = {
        .api_version = BACKEND_API_VERSION, .score = 0, .devices = cuda_devices, .open = cuda_open_backend};
    return &plugin;
}
