/* Streams, events and launches. With seed 0 work is done when it is given. With another seed it waits in its
 * stream's queue, and at every call some of it, from streams drawn at random, is done: what two streams or
 * the host do without an event or a wait between them happens in any order. */
#include <chrono>
#include <deque>
#include <set>
#include <vector>

#include "emulation.h"

/* A point in a stream: passed once `passed` has reached the number that a record was given. */
struct CUevent_st {
    uint64_t recorded, passed;
    std::chrono::steady_clock::time_point when; /* it last passed */
};

namespace emulation {
struct item {
    std::function<void()> work;
    CUevent_st *event; /* waits for it to pass `point` */
    uint64_t point;
};
} // namespace emulation

struct CUstream_st {
    std::deque<emulation::item> queue;
};

namespace emulation {

static std::vector<CUstream_st *> &streams() {
    static std::vector<CUstream_st *> all;
    return all;
}

static CUstream_st *stream_of(cudaStream_t s) {
    static CUstream_st *none = nullptr; /* the default stream */
    if (!s) {
        if (!none) {
            none = new CUstream_st();
            streams().push_back(none);
        }
        return none;
    }
    for (CUstream_st *known : streams()) {
        if (known == s) {
            return s;
        }
    }
    misuse("a stream that does not exist");
}

static bool can_go_on(const CUstream_st *s) {
    return !s->queue.empty() &&
           (!s->queue.front().event || s->queue.front().event->passed >= s->queue.front().point);
}

static void step(CUstream_st *s) {
    item next = std::move(s->queue.front());
    s->queue.pop_front();
    if (next.work) {
        next.work();
    }
}

/* One piece of work from a stream that has some; false: nothing can go on. */
static bool step_any() {
    std::vector<CUstream_st *> able;
    for (CUstream_st *s : streams()) {
        if (can_go_on(s)) {
            able.push_back(s);
        }
    }
    if (able.empty()) {
        return false;
    }
    step(able[draw() % able.size()]);
    return true;
}

template <typename Done> static void work_until(Done done) {
    open_device_memory();
    while (!done()) {
        if (!step_any()) {
            misuse("streams wait for events that nobody records");
        }
    }
    close_device_memory();
}

static void add(cudaStream_t stream, item &&next) {
    stream_of(stream)->queue.push_back(std::move(next));
    if (asked().seed == 0 || !stream) {
        finish_all();
    } else if (draw() % 8 == 0) {
        open_device_memory();
        for (uint64_t left = draw() % 16; left > 0 && step_any(); left--) {
        }
        close_device_memory();
    }
}

void enqueue(cudaStream_t stream, std::function<void()> work) {
    add(stream, item{std::move(work), nullptr, 0});
}

void finish_stream(cudaStream_t stream) {
    const CUstream_st *s = stream_of(stream);
    counted.synchronizations++;
    work_until([=] { return s->queue.empty(); });
}

void finish_all() {
    work_until([] {
        for (const CUstream_st *s : streams()) {
            if (!s->queue.empty()) {
                return false;
            }
        }
        return true;
    });
}

static size_t shared_allowed = 48 * 1024;

/* What a launch may ask for on compute capability 8.0 and later. */
static bool launch_fits(dim3 grid, dim3 block, size_t shared) {
    uint64_t threads = static_cast<uint64_t>(block.x) * block.y * block.z;
    return grid.x > 0 && grid.x <= INT32_MAX && grid.y > 0 && grid.y <= 65535 && grid.z > 0 &&
           grid.z <= 65535 && threads > 0 && threads <= 1024 && block.z <= 64 && shared <= shared_allowed;
}

void enqueue_kernel(const char *name, dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
                    std::function<void()> thread) {
    guard in(lock());
    if (!launch_fits(grid, block, shared)) {
        remember(cudaErrorInvalidConfiguration);
        return;
    }
    kernel k = {name, grid, block, shared, std::move(thread)};
    enqueue(stream, [k] { run_kernel(k); });
}

} // namespace emulation

using namespace emulation;

/* The emulation does not know which kernel a launch names: more for one is more for all. */
cudaError_t cudaFuncSetAttribute(const void *kernel, cudaFuncAttribute attribute, int value) {
    guard in(lock());
    int most = 0;
    cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0);
    if (!kernel || attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 || value > most) {
        return remember(cudaErrorInvalidValue);
    }
    shared_allowed = std::max(shared_allowed, static_cast<size_t>(value));
    return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize(void) {
    guard in(lock());
    counted.synchronizations++;
    finish_all();
    return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t *out) {
    guard in(lock());
    *out = new CUstream_st();
    streams().push_back(*out);
    counted.streams++;
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned) {
    return cudaStreamCreate(out);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *out, unsigned, int) {
    return cudaStreamCreate(out);
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
    *least = 0;
    *greatest = -5;
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t s) {
    guard in(lock());
    finish_stream(s);
    std::erase(streams(), s);
    delete s;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t s) {
    guard in(lock());
    finish_stream(s);
    return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t s) {
    guard in(lock());
    open_device_memory();
    bool any = step_any(); /* who polls sees progress */
    close_device_memory();
    return any && !stream_of(s)->queue.empty() ? cudaErrorNotReady : cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned) {
    guard in(lock());
    if (e->recorded > 0) {
        add(s, item{{}, e, e->recorded});
    }
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *out) {
    guard in(lock());
    *out = new CUevent_st();
    counted.events++;
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned) {
    return cudaEventCreate(out);
}

cudaError_t cudaEventDestroy(cudaEvent_t e) {
    guard in(lock());
    finish_all();
    delete e;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s) {
    guard in(lock());
    uint64_t point = ++e->recorded;
    enqueue(s, [=] {
        e->passed = std::max(e->passed, point);
        e->when = std::chrono::steady_clock::now();
    });
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t e) {
    guard in(lock());
    counted.synchronizations++;
    uint64_t point = e->recorded;
    work_until([=] { return e->passed >= point; });
    return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t e) {
    guard in(lock());
    open_device_memory();
    if (e->passed < e->recorded) {
        step_any();
    }
    close_device_memory();
    return e->passed < e->recorded ? cudaErrorNotReady : cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t from, cudaEvent_t to) {
    guard in(lock());
    if (from->passed < from->recorded || to->passed < to->recorded) {
        return cudaErrorNotReady;
    }
    *milliseconds = std::chrono::duration<float, std::milli>(to->when - from->when).count();
    return cudaSuccess;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t s, void (*function)(void *), void *data) {
    guard in(lock());
    enqueue(s, [=] { function(data); });
    return cudaSuccess;
}
