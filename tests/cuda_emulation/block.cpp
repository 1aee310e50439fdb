/* A block of threads as fibers: barriers, warps, and the order in which threads take turns. */
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include <link.h>

#include "emulation.h"
#include "fiber.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace emulation {

enum { MOST_THREADS = 1024, WARP = 32, MEETINGS = 8 };

struct thread_state {
    fiber *on; /* NULL: not started */
    bool is_over;
    const char *waits_in;
    unsigned waits_line;
};

/* Lanes of a warp that meet at a warp-wide call. */
struct gathering {
    bool is_used;
    meeting what;
    unsigned mask, come, left; /* left: have not read yet, once all have come */
    unsigned ballot, line;
    uint64_t value[WARP];
};

struct block_state {
    const kernel *running;
    unsigned count, alive;
    thread_state thread[MOST_THREADS];
    gathering meeting[MOST_THREADS / WARP][MEETINGS];
    int current;
    /* threads that can go on, first in first out */
    unsigned short ready[MOST_THREADS + 1];
    unsigned ready_at, ready_count;
    /* the barrier: who waits, and what they brought */
    unsigned short waiting[MOST_THREADS];
    unsigned waiting_count, generation, barrier_line;
    verdict brought, result;
    void *shared;
};
static block_state B;
static fiber *host;
static std::vector<fiber *> idle;
static uint3 place[MOST_THREADS]; /* threadIdx of each thread of the running kernel */

static void push(unsigned t) {
    unsigned at = B.ready_at + B.ready_count;
    B.ready[at <= MOST_THREADS ? at : at - (MOST_THREADS + 1)] = static_cast<unsigned short>(t);
    B.ready_count++;
}

/* In an order of the seed's, so that nothing may rest on lower threads going first. */
static void push_all(const unsigned short *threads, unsigned n) {
    order in = order_of(n);
    for (unsigned i = 0; i < n; i++) {
        push(threads[in[i]]);
    }
}

static void become(unsigned t) {
    B.current = static_cast<int>(t);
    threadIdx = place[t];
}

[[noreturn]] static void nobody_can_go_on() {
    for (unsigned t = 0; t < B.count; t++) {
        if (!B.thread[t].is_over && B.thread[t].waits_in) {
            fprintf(stderr, "  thread %u waits at %s:%u\n", t, B.thread[t].waits_in, B.thread[t].waits_line);
        }
    }
    misuse("kernel %s, block (%u, %u, %u): threads wait for others that ended or wait elsewhere",
           B.running->name, blockIdx.x, blockIdx.y, blockIdx.z);
}

static unsigned take_ready() {
    if (B.ready_count == 0) {
        nobody_can_go_on();
    }
    unsigned t = B.ready[B.ready_at];
    B.ready_at = B.ready_at < MOST_THREADS ? B.ready_at + 1 : 0;
    B.ready_count--;
    return t;
}

static fiber *fiber_for(unsigned t) {
    if (!B.thread[t].on) {
        if (idle.empty()) {
            misuse("more fibers than threads");
        }
        B.thread[t].on = idle.back();
        idle.pop_back();
    }
    return B.thread[t].on;
}

/* Another thread's turn; comes back when this one is ready again. */
static void pause(site at) {
    unsigned self = static_cast<unsigned>(B.current);
    B.thread[self].waits_in = at.file_name();
    B.thread[self].waits_line = at.line();
    unsigned next = take_ready();
    if (next != self) {
        fiber *from = B.thread[self].on;
        fiber *to = fiber_for(next);
        become(next);
        fiber_switch(from, to); /* who switches back has made this thread the current one */
    }
    B.thread[self].waits_in = nullptr;
}

static void open_barrier() {
    B.result = B.brought;
    B.generation++;
    push_all(B.waiting, B.waiting_count);
    B.waiting_count = 0;
}

static void end_thread() {
    B.thread[B.current].is_over = true;
    B.alive--;
    if (B.waiting_count > 0 && B.waiting_count == B.alive) {
        open_barrier(); /* a thread that has ended is not waited for */
    }
}

/* A fiber runs threads one after another: most never wait, and need no fiber of their own. */
static void fiber_life(fiber *self) {
    for (;;) {
        B.running->thread();
        end_thread();
        fiber *to = host;
        if (B.alive > 0) {
            unsigned next = take_ready();
            become(next);
            if (!B.thread[next].on) {
                B.thread[next].on = self;
                continue;
            }
            to = B.thread[next].on;
        }
        idle.push_back(self);
        fiber_switch(self, to);
    }
}

verdict barrier(bool value, site at) {
    if (B.waiting_count == 0) {
        B.brought = verdict{0, 1, 0};
        B.barrier_line = at.line();
    } else if (B.barrier_line != at.line()) {
        misuse("kernel %s: threads of a block meet at barriers in different lines, %u and %u",
               B.running->name, B.barrier_line, at.line());
    }
    B.brought.any |= value;
    B.brought.all &= value;
    B.brought.count += value;
    B.waiting[B.waiting_count++] = static_cast<unsigned short>(B.current);
    if (B.waiting_count == B.alive) {
        open_barrier();
    }
    pause(at);
    return B.result;
}

int lane_number() {
    return B.current % WARP;
}

static gathering *join(unsigned mask, meeting what, site at) {
    unsigned warp = static_cast<unsigned>(B.current) / WARP;
    unsigned bit = 1u << lane_number();
    if (!(mask & bit)) {
        misuse("kernel %s, line %u: lane %d is not in its own mask %08x", B.running->name, at.line(),
               lane_number(), mask);
    }
    gathering *unused = nullptr;
    for (gathering &g : B.meeting[warp]) {
        if (g.is_used && g.come != g.mask && g.mask == mask) {
            if (g.what != what || g.line != at.line()) {
                misuse("kernel %s: lanes of a warp meet in different lines, %u and %u", B.running->name,
                       g.line, at.line());
            }
            return &g;
        }
        if (g.is_used && g.come != g.mask && (g.mask & mask)) {
            misuse("kernel %s, line %u: a lane is in two masks, %08x and %08x", B.running->name, at.line(),
                   g.mask, mask);
        }
        unused = g.is_used ? unused : &g;
    }
    if (!unused) {
        misuse("kernel %s: more than %d meetings of a warp at a time", B.running->name, MEETINGS);
    }
    unused->is_used = true;
    unused->what = what;
    unused->mask = mask;
    unused->come = 0;
    unused->ballot = 0;
    unused->line = at.line();
    return unused;
}

static void wait_for_lanes(gathering *g, site at) {
    unsigned warp_first = static_cast<unsigned>(B.current) / WARP * WARP;
    g->come |= 1u << lane_number();
    if (g->come == g->mask) {
        g->left = g->mask;
        unsigned short lanes[WARP];
        unsigned n = 0;
        for (unsigned lane = 0; lane < WARP; lane++) {
            if (g->mask >> lane & 1u) {
                lanes[n++] = static_cast<unsigned short>(warp_first + lane);
            }
        }
        push_all(lanes, n);
    }
    pause(at);
}

static void leave(gathering *g) {
    g->left &= ~(1u << lane_number());
    g->is_used = g->left != 0;
}

uint64_t meet(unsigned mask, meeting what, uint64_t value, int source, site at) {
    gathering *g = join(mask, what, at);
    if (!(mask >> source & 1u)) {
        misuse("kernel %s, line %u: lane %d reads lane %d, which is not in the mask %08x", B.running->name,
               at.line(), lane_number(), source, mask);
    }
    g->value[lane_number()] = value;
    wait_for_lanes(g, at);
    uint64_t result = g->value[source];
    leave(g);
    return result;
}

unsigned vote(unsigned mask, bool value, site at) {
    gathering *g = join(mask, meeting::VOTE, at);
    g->ballot |= static_cast<unsigned>(value) << lane_number();
    wait_for_lanes(g, at);
    unsigned result = g->ballot;
    leave(g);
    return result;
}

void meet_all(void *own, void (*work)(void *const own[32]), site at) {
    gathering *g = join(0xffffffffu, meeting::MATRIX, at);
    g->value[lane_number()] = reinterpret_cast<uint64_t>(own);
    if ((g->come | 1u << lane_number()) == g->mask) {
        void *all[WARP];
        for (int lane = 0; lane < WARP; lane++) {
            all[lane] = reinterpret_cast<void *>(g->value[lane]);
        }
        work(all);
    }
    wait_for_lanes(g, at);
    leave(g);
}

void *dynamic_shared() {
    return B.shared;
}

/* This object's thread-local memory is the kernels' __shared__ variables, and nothing else. */
struct tls_range {
    void *data;
    size_t bytes;
};
static thread_local char anchor;
static int find_tls(struct dl_phdr_info *info, size_t, void *out) {
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const char *data = static_cast<const char *>(info->dlpi_tls_data);
        size_t bytes = info->dlpi_phdr[i].p_memsz;
        if (info->dlpi_phdr[i].p_type == PT_TLS && data && &anchor >= data && &anchor < data + bytes) {
            *static_cast<tls_range *>(out) = tls_range{info->dlpi_tls_data, bytes};
            return 1;
        }
    }
    return 0;
}

static void run_block() {
    B.alive = B.count;
    B.ready_at = B.ready_count = B.waiting_count = 0;
    order in = order_of(B.count);
    for (unsigned t = 0; t < B.count; t++) {
        B.thread[t] = thread_state{};
        push(static_cast<unsigned>(in[t]));
    }
    unsigned first = take_ready();
    fiber *to = fiber_for(first);
    become(first);
    fiber_switch(host, to);
    for (unsigned w = 0; w < (B.count + WARP - 1) / WARP; w++) {
        for (gathering &g : B.meeting[w]) {
            if (g.is_used) {
                misuse("kernel %s: a warp's meeting was left open", B.running->name);
            }
        }
    }
}

void run_kernel(const kernel &k) {
    if (!host) {
        host = fiber_of_caller();
        for (int i = 0; i < MOST_THREADS; i++) {
            idle.push_back(fiber_new(fiber_life));
        }
    }
    tls_range statics = {};
    anchor = 0;
    dl_iterate_phdr(find_tls, &statics);
    std::unique_ptr<char[]> dynamic(new char[k.shared]);
    B.running = &k;
    B.shared = dynamic.get();
    B.count = k.block.x * k.block.y * k.block.z;
    blockDim = k.block;
    gridDim = k.grid;
    for (unsigned t = 0; t < B.count; t++) {
        place[t] = uint3{t % k.block.x, t / k.block.x % k.block.y, t / k.block.x / k.block.y};
    }
    uint64_t blocks = static_cast<uint64_t>(k.grid.x) * k.grid.y * k.grid.z;
    order in = order_of(blocks);
    for (uint64_t i = 0; i < blocks; i++) {
        uint64_t b = in[i];
        blockIdx.x = static_cast<unsigned>(b % k.grid.x);
        blockIdx.y = static_cast<unsigned>(b / k.grid.x % k.grid.y);
        blockIdx.z = static_cast<unsigned>(b / k.grid.x / k.grid.y);
        std::memset(statics.data, 0xff, statics.bytes);
        std::memset(B.shared, 0xff, k.shared);
        run_block();
    }
    counted.kernels++;
    counted.blocks += blocks;
}

} // namespace emulation
