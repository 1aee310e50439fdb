/* Attention by cuDNN, opened at run time: no build and no start needs it.
 *
 * A map is taken apart into rounds of runs (rounds.h). Round 0, the causal ranges, is written where it
 * belongs; the other rounds go to scratch memory and are merged by log-sum-exp, their gradients added. Whole
 * ranges that make no rounds, and shapes for which the library has no engine, go to the own kernels. A plan
 * is asked for once per shape, whose numbers come from a few classes, and remembered.
 *
 * The library's backward adds into dQ in no fixed order; in deterministic mode the own kernels do that pass.
 * Outputs of parts are bf16, as the result is: a merge rounds once more.
 */
#include <dlfcn.h>

#include <cstdio>
#include <cstring>
#include <new>

#include "cuda/attention.cuh"

extern "C" {
#include "cuda/cudnn_graph.h"
#include "cuda/rounds.h"
}

static constexpr int PLANS_MOST = 256;
static constexpr int WARP = 32;
static constexpr int WARPS_PER_BLOCK = 4;
/* Offsets and lengths of a batch: a row of numbers for each matrix, then the lengths of queries, keys. */
static constexpr int NUMBERS_PITCH = 64;
static constexpr int QUERY_LENGTHS = FUSED_MATRICES * NUMBERS_PITCH;
static constexpr int KEY_LENGTHS = QUERY_LENGTHS + NUMBERS_PITCH;
static constexpr int NUMBERS = KEY_LENGTHS + NUMBERS_PITCH;

struct known_plan {
    struct fused_shape shape;
    struct fused_plan plan;
    bool is_usable;
};
struct fused {
    void *file; /* stays loaded: it has threads of its own */
    struct cudnn_library calls;
    cudnn_handle handle;
    struct known_plan *plans;
    int plan_count;
    bool has_map;
    uint64_t map_id;
    int64_t map_queries, map_keys;
    struct rounds rounds;
    struct run *runs; /* host; room for run_room */
    int64_t run_room;
};

template <typename F> static bool find(void *library, const char *name, F *out) {
    void *symbol = dlsym(library, name);
    std::memcpy(out, &symbol, sizeof *out);
    return symbol != nullptr;
}

/* NULL, or what is missing. */
static const char *load(struct fused *f) {
    struct cudnn_library *l = &f->calls;
    f->file = dlopen("libcudnn.so.9", RTLD_NOW | RTLD_LOCAL);
    if (!f->file) {
        return "libcudnn.so.9 is not where the loader looks (LD_LIBRARY_PATH)";
    }
    if (!find(f->file, "cudnnGetVersion", &l->get_version) ||
        !find(f->file, "cudnnGetErrorString", &l->error_string) ||
        !find(f->file, "cudnnGetLastErrorString", &l->last_error) ||
        !find(f->file, "cudnnCreate", &l->create) || !find(f->file, "cudnnDestroy", &l->destroy) ||
        !find(f->file, "cudnnSetStream", &l->set_stream) ||
        !find(f->file, "cudnnBackendCreateDescriptor", &l->create_descriptor) ||
        !find(f->file, "cudnnBackendDestroyDescriptor", &l->destroy_descriptor) ||
        !find(f->file, "cudnnBackendSetAttribute", &l->set_attribute) ||
        !find(f->file, "cudnnBackendGetAttribute", &l->get_attribute) ||
        !find(f->file, "cudnnBackendFinalize", &l->finalize) ||
        !find(f->file, "cudnnBackendExecute", &l->execute)) {
        return "libcudnn.so.9 lacks a function that is needed";
    }
    if (l->get_version() < FUSED_LEAST_VERSION) {
        return "cuDNN 9.10.2 or later is needed";
    }
    return nullptr;
}

static const char *start(struct cuda *c, struct fused *f) {
    const char *missing = load(f);
    if (missing) {
        return missing;
    }
    int status = f->calls.create(&f->handle);
    if (status == STATUS_SUCCESS) {
        status = f->calls.set_stream(f->handle, c->stream);
    }
    return status == STATUS_SUCCESS ? nullptr : f->calls.error_string(status);
}

static enum status refuse(struct cuda *c, const char *reason) {
    return cuda_fail(c, ERR_SYSTEM, "cuda.attention=cudnn: %.200s; auto or own takes the own kernels",
                     reason);
}

enum status cuda_fused_open(struct cuda *c, const char *asked, bool is_bf16, char words[160]) {
    bool is_wanted = std::strcmp(asked, "cudnn") == 0;
    if (std::strcmp(asked, "own") == 0 || (!is_bf16 && !is_wanted)) {
        snprintf(words, 160, "attention by own kernels");
        return OK;
    }
    if (!is_bf16) {
        return cuda_fail(c, ERR_USAGE,
                         "cuda.attention=cudnn needs compute=bf16: cuDNN has no other attention");
    }
    struct fused *f = new (std::nothrow) struct fused();
    struct known_plan *plans = new (std::nothrow) struct known_plan[PLANS_MOST];
    if (!f || !plans) {
        delete f;
        delete[] plans;
        return cuda_fail(c, ERR_SYSTEM, "cuda: no host memory");
    }
    c->fused = f;
    f->plans = plans;
    const char *missing = start(c, f);
    if (missing && is_wanted) {
        return refuse(c, missing);
    }
    if (missing) {
        cuda_fused_close(c);
        snprintf(words, 160, "attention by own kernels, %.110s", missing);
        return OK;
    }
    long long version = static_cast<long long>(f->calls.get_version());
    snprintf(words, 160, "attention by cuDNN %lld.%lld.%lld%s", version / 10000, version / 100 % 100,
             version % 100, c->deterministic ? ", its gradient by own kernels" : "");
    return OK;
}

static void forget_plans(struct fused *f) {
    while (f->plan_count > 0) {
        fused_plan_close(&f->calls, &f->plans[--f->plan_count].plan);
    }
}

void cuda_fused_close(struct cuda *c) {
    struct fused *f = c->fused;
    if (!f) {
        return;
    }
    if (c->stream) {
        (void)cudaStreamSynchronize(c->stream);
    }
    forget_plans(f);
    if (f->handle) {
        (void)f->calls.destroy(f->handle);
    }
    delete[] f->plans;
    delete[] f->runs;
    delete f;
    c->fused = nullptr;
}

static enum status fused_failed(const struct cuda *c, const char *what, int status) {
    char more[200] = "";
    c->fused->calls.last_error(more, sizeof more);
    return cuda_fail(c, ERR_SYSTEM, "cuda: cuDNN: %s: %s: %.199s", what, c->fused->calls.error_string(status),
                     more);
}

/* A call under way. Backward has g. */
struct work {
    struct cuda *c;
    const struct attention *a;
    const struct attention_gradient *g;
    const struct run *device_runs;
    struct tensor matrices[FUSED_MATRICES]; /* of the round: an output may be a part's */
    struct tensor lse;                      /* of the union */
};

/* The runs of a map, on the host and on the device, once per map. */
static enum status use_rounds(struct backend *b, const struct attention *a) {
    struct cuda *c = cuda_of(b);
    struct fused *f = c->fused;
    const struct attention_map *map = a->map;
    if (f->has_map && f->map_id == map->id && f->map_queries == a->q.rows && f->map_keys == a->k.rows) {
        return OK;
    }
    int64_t room = 2 * static_cast<int64_t>(map->range_count) + 1;
    void *device = nullptr;
    f->has_map = false;
    if (room > f->run_room) {
        delete[] f->runs;
        f->run_room = 0;
        f->runs = new (std::nothrow) struct run[static_cast<size_t>(room)];
        if (!f->runs) {
            return cuda_fail(c, ERR_SYSTEM, "cuda: no host memory for an attention map");
        }
        f->run_room = room;
    }
    rounds_of(map, a->q.rows, a->k.rows, f->runs, &f->rounds);
    int64_t bytes =
        f->rounds.fits ? f->rounds.first[f->rounds.count] * static_cast<int64_t>(sizeof(struct run)) : 0;
    TRY(cuda_scratch(c, SCRATCH_RUNS, bytes, &device));
    TRY(cuda_write(b, device, f->runs, bytes));
    f->map_id = map->id;
    f->map_queries = a->q.rows;
    f->map_keys = a->k.rows;
    f->has_map = true;
    return OK;
}

/* A window that is as long as every query's view is none. */
static bool is_narrow(const struct attention *a) {
    bool narrow = false;
    for (int32_t s = 0; a->window > 0 && s < a->map->span_count; s++) {
        const struct query_span *span = &a->map->spans[s];
        int64_t total = 0;
        for (int32_t r = 0; r < span->range_count; r++) {
            total += a->map->ranges[span->range_first + r].count;
        }
        narrow = narrow || total > a->window;
    }
    return narrow;
}

/* Rows at addresses that are multiples of 16 bytes, with offsets that fit in 32 bits. */
static bool is_reachable(struct tensor t) {
    return t.type == DTYPE_BF16 && reinterpret_cast<uintptr_t>(t.data) % 16 == 0 && t.stride % 8 == 0 &&
           t.rows * t.stride <= INT32_MAX;
}

static struct fused_shape shape_of(const struct work *w, const struct batch *batch, int round) {
    struct fused_shape s = {};
    s.is_backward = w->g != nullptr;
    s.mask = round > 0 ? FUSED_ALL : batch->is_square ? FUSED_CAUSAL : FUSED_CAUSAL_TAIL;
    s.batch = batch->count;
    s.heads = w->a->heads;
    s.kv_heads = w->a->kv_heads;
    s.head_dim = w->a->head_dim;
    s.queries = batch->queries;
    s.keys = batch->keys;
    for (int i = 0; i < (w->g ? FUSED_MATRICES : FUSED_DOUT); i++) {
        s.strides[i] = w->matrices[i].stride;
    }
    return s;
}

static enum status plan_for(struct cuda *c, const struct fused_shape *shape, const struct known_plan **out) {
    struct fused *f = c->fused;
    for (int i = 0; i < f->plan_count; i++) {
        if (std::memcmp(&f->plans[i].shape, shape, sizeof *shape) == 0) {
            *out = &f->plans[i];
            return OK;
        }
    }
    if (f->plan_count == PLANS_MOST) {
        CUDA_TRY(c, "waiting before plans are forgotten", cudaStreamSynchronize(c->stream));
        forget_plans(f);
    }
    struct known_plan *next = &f->plans[f->plan_count];
    next->shape = *shape;
    int status = fused_plan_open(&f->calls, f->handle, nullptr, shape, &next->plan);
    next->is_usable = status == STATUS_SUCCESS;
    if (!next->is_usable) {
        fused_plan_close(&f->calls, &next->plan);
    }
    if (!next->is_usable && status / 1000 != STATUS_NOT_SUPPORTED / 1000) {
        return fused_failed(c, "a plan for attention", status);
    }
    f->plan_count++;
    *out = next;
    return OK;
}

/* The outputs of a round: the caller's in round 0, else a part's, side by side in scratch memory. */
static enum status place_outputs(struct work *w, int round) {
    const struct attention *a = w->a;
    const struct tensor own[] = {w->g ? w->g->dq : a->out, w->g ? w->g->dk : a->out,
                                 w->g ? w->g->dv : a->out};
    const int which[] = {w->g ? FUSED_DQ : FUSED_OUT, FUSED_DK, FUSED_DV};
    int64_t sizes[3];
    int64_t total = 0;
    void *part = nullptr;
    int outputs = w->g ? 3 : 1;
    for (int i = 0; i < outputs; i++) {
        sizes[i] = own[i].rows * own[i].columns * dtype_size(own[i].type);
        sizes[i] = (sizes[i] + 255) / 256 * 256;
        total += sizes[i];
    }
    if (round > 0) {
        TRY(cuda_scratch(w->c, SCRATCH_PART, total, &part));
    }
    for (int i = 0; i < outputs; i++) {
        w->matrices[which[i]] =
            round > 0 ? tensor_at(part, own[i].rows, own[i].columns, own[i].type) : own[i];
        part = round > 0 ? static_cast<char *>(part) + sizes[i] : nullptr;
    }
    return OK;
}

/* Whether every batch of a round has a plan. */
static enum status has_plans(struct work *w, int round, bool *out) {
    const struct fused *f = w->c->fused;
    int32_t end = f->rounds.first[round + 1];
    TRY(place_outputs(w, round));
    *out = true;
    for (int32_t at = f->rounds.first[round]; at < end && *out;) {
        struct batch batch = rounds_batch(f->runs, at, end);
        struct fused_shape shape = shape_of(w, &batch, round);
        const struct known_plan *known = nullptr;
        TRY(plan_for(w->c, &shape, &known));
        *out = known->is_usable;
        at += batch.count;
    }
    return OK;
}

/* How many rounds the library computes; 0: none. The whole ranges only all together. */
static enum status count_rounds(struct backend *b, struct work *w, int *out) {
    const struct attention *a = w->a;
    const struct fused *f = w->c->fused;
    const int matrices = w->g ? FUSED_MATRICES : FUSED_DOUT;
    bool fits = a->softcap == 0 && a->head_dim % 8 == 0 && !is_narrow(a) && a->q.rows > 0;
    *out = 0;
    TRY(place_outputs(w, 0));
    for (int i = 0; i < matrices; i++) {
        fits = fits && is_reachable(w->matrices[i]);
    }
    if (!fits) {
        return OK;
    }
    TRY(use_rounds(b, a));
    if (!f->rounds.fits) {
        return OK;
    }
    TRY(has_plans(w, 0, &fits));
    *out = fits;
    for (int r = 1; r < f->rounds.count && fits; r++) {
        TRY(has_plans(w, r, &fits));
        *out = fits ? r + 1 : 1;
    }
    return OK;
}

/* Where a run begins in a matrix: at its first key or query, times the stride. */
struct matrix_places {
    int32_t stride[FUSED_MATRICES];
    bool by_keys[FUSED_MATRICES];
};

/* A block: thread t writes what belongs to run t. */
__global__ void number_runs(int32_t *numbers, const struct run *runs, int count, struct matrix_places m) {
    int t = static_cast<int>(threadIdx.x);
    if (t > count) {
        return;
    }
    struct run r = runs[t < count ? t : count - 1];
    int32_t q = t < count ? r.q_first : r.q_first + r.q_count; /* the last offset is the end */
    int32_t k = t < count ? r.k_first : r.k_first + r.k_count;
    for (int i = 0; i < FUSED_MATRICES; i++) {
        numbers[i * NUMBERS_PITCH + t] = (m.by_keys[i] ? k : q) * m.stride[i];
    }
    if (t < count) {
        numbers[QUERY_LENGTHS + t] = r.q_count;
        numbers[KEY_LENGTHS + t] = r.k_count;
    }
}

/* Between rows of a matrix and a batch's padded statistics: (count, heads, longest). */
struct padded {
    const struct run *runs;
    float *statistics;
    int32_t longest;
    int heads, head_dim;
    bool merges;
};

/* After forward, a warp per row and head: the row's log-sum-exp, or the row merged. */
__global__ void take_part(struct padded p, view<bf16> out, view<float> lse, view<const bf16> part,
                          int64_t warps) {
    int64_t at = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / WARP;
    if (at >= warps) {
        return; /* whole warps leave */
    }
    int64_t run = at / (static_cast<int64_t>(p.heads) * p.longest);
    int64_t head = at / p.longest % p.heads;
    int64_t i = at % p.longest;
    struct run r = p.runs[run];
    if (i >= r.q_count) {
        return;
    }
    float part_lse = p.statistics[at];
    int64_t row = r.q_first + i;
    if (p.merges) {
        merge_row(out.row(row) + head * p.head_dim, lse.row(row) + head, part.row(row) + head * p.head_dim,
                  part_lse, p.head_dim);
    } else if (threadIdx.x % WARP == 0) {
        lse.row(row)[head] = part_lse;
    }
}

/* Before backward, a thread per statistic: the union's log-sum-exp; 0 beyond a run's queries, where the
 * masks leave nothing of it. */
__global__ void give_statistics(struct padded p, view<const float> lse, int64_t n) {
    int64_t at = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (at >= n) {
        return;
    }
    int64_t i = at % p.longest;
    struct run r = p.runs[at / (static_cast<int64_t>(p.heads) * p.longest)];
    p.statistics[at] = i < r.q_count ? lse.row(r.q_first + i)[at / p.longest % p.heads] : 0.0f;
}

/* to += from in the rows of the runs: queries, or keys. */
__global__ void add_runs(const struct run *runs, int count, int32_t longest, bool by_keys, view<bf16> to,
                         view<const bf16> from, int64_t columns) {
    FOR_EACH_ELEMENT(at, j, static_cast<int64_t>(count) * longest, columns) {
        struct run r = runs[at / longest];
        int64_t i = at % longest;
        if (i < (by_keys ? r.k_count : r.q_count)) {
            int64_t row = (by_keys ? r.k_first : r.q_first) + i;
            bf16 *x = to.row(row) + j;
            put(x, value_of(*x) + value_of(from.row(row)[j]));
        }
    }
}

__global__ void clear_matrix(view<bf16> x, int64_t rows, int64_t columns) {
    FOR_EACH_ELEMENT(i, j, rows, columns) {
        put(x.row(i) + j, 0.0f);
    }
}

/* Scratch memory and numbers of a batch. */
static enum status prepare_batch(const struct work *w, const struct batch *batch, struct fused_data *data) {
    struct cuda *c = w->c;
    const struct attention *a = w->a;
    int64_t rows = static_cast<int64_t>(batch->count) * a->heads * batch->queries;
    int64_t floats = static_cast<int64_t>(sizeof(float));
    int64_t apart = (rows * floats + 255) / 256 * 256;
    struct matrix_places m = {};
    void *numbers = nullptr;
    TRY(cuda_scratch(c, SCRATCH_NUMBERS, NUMBERS * static_cast<int64_t>(sizeof(int32_t)), &numbers));
    TRY(cuda_scratch(c, SCRATCH_STATISTICS, w->g ? 2 * apart : apart, &data->statistics));
    if (w->g) {
        data->products = static_cast<char *>(data->statistics) + apart;
        TRY(cuda_scratch(c, SCRATCH_DQ_SUMS, rows * a->head_dim * floats, &data->dq_sums));
    }
    for (int i = 0; i < (w->g ? FUSED_MATRICES : FUSED_DOUT); i++) {
        m.stride[i] = static_cast<int32_t>(w->matrices[i].stride);
        m.by_keys[i] = fused_follows_keys(i);
        data->matrices[i] = w->matrices[i].data;
        data->offsets[i] = static_cast<int32_t *>(numbers) + i * NUMBERS_PITCH;
    }
    data->query_lengths = static_cast<int32_t *>(numbers) + QUERY_LENGTHS;
    data->key_lengths = static_cast<int32_t *>(numbers) + KEY_LENGTHS;
    data->scale = static_cast<float>(a->scale);
    LAUNCH(number_runs, 1, NUMBERS_PITCH, 0, c->stream, static_cast<int32_t *>(numbers),
           w->device_runs + batch->first, batch->count, m);
    return cuda_launched(c, "attention");
}

static struct padded padded_of(const struct work *w, const struct batch *batch, void *statistics, int round) {
    return padded{w->device_runs + batch->first,
                  static_cast<float *>(statistics),
                  batch->queries,
                  w->a->heads,
                  w->a->head_dim,
                  round > 0};
}

static enum status take_outputs(const struct work *w, const struct batch *batch, void *statistics,
                                int round) {
    int64_t warps = static_cast<int64_t>(batch->count) * w->a->heads * batch->queries;
    if (w->lse.data) {
        LAUNCH(take_part, blocks_for(warps, WARPS_PER_BLOCK), WARPS_PER_BLOCK * WARP, 0, w->c->stream,
               padded_of(w, batch, statistics, round), view_of<bf16>(w->a->out), view_of<float>(w->lse),
               view_of<const bf16>(w->matrices[FUSED_OUT]), warps);
    }
    return cuda_launched(w->c, "attention");
}

static void add_gradient(const struct work *w, const struct batch *batch, int which, struct tensor to) {
    bool by_keys = fused_follows_keys(which);
    int32_t longest = by_keys ? batch->keys : batch->queries;
    LAUNCH(add_runs, grid_over(static_cast<int64_t>(batch->count) * longest, to.columns), THREADS, 0,
           w->c->stream, w->device_runs + batch->first, batch->count, longest, by_keys, view_of<bf16>(to),
           view_of<const bf16>(w->matrices[which]), to.columns);
}

static enum status add_gradients(const struct work *w, const struct batch *batch) {
    add_gradient(w, batch, FUSED_DQ, w->g->dq);
    add_gradient(w, batch, FUSED_DK, w->g->dk);
    add_gradient(w, batch, FUSED_DV, w->g->dv);
    return cuda_launched(w->c, "attention_gradient");
}

static enum status run_batch(const struct work *w, const struct batch *batch, int round) {
    struct cuda *c = w->c;
    struct fused_shape shape = shape_of(w, batch, round);
    const struct known_plan *known = nullptr;
    struct fused_data data = {};
    void *memory = nullptr;
    TRY(plan_for(c, &shape, &known));
    TRY(prepare_batch(w, batch, &data));
    TRY(cuda_scratch(c, SCRATCH_LIBRARY, known->plan.workspace_bytes, &memory));
    if (w->g) {
        int64_t n = static_cast<int64_t>(batch->count) * w->a->heads * batch->queries;
        LAUNCH(give_statistics, blocks_for(n, THREADS), THREADS, 0, c->stream,
               padded_of(w, batch, data.statistics, round), view_of<const float>(w->lse), n);
        TRY(cuda_launched(c, "attention_gradient"));
    }
    int status = fused_plan_run(&c->fused->calls, c->fused->handle, &known->plan, &data, memory);
    if (status != STATUS_SUCCESS) {
        return fused_failed(c, "attention", status);
    }
    if (!w->g) {
        return take_outputs(w, batch, data.statistics, round);
    }
    return round > 0 ? add_gradients(w, batch) : OK;
}

static enum status run_rounds(struct work *w, int count) {
    const struct fused *f = w->c->fused;
    w->device_runs = static_cast<const struct run *>(w->c->scratch[SCRATCH_RUNS]);
    for (int r = 0; r < count; r++) {
        int32_t end = f->rounds.first[r + 1];
        TRY(place_outputs(w, r));
        for (int32_t at = f->rounds.first[r]; at < end;) {
            struct batch batch = rounds_batch(f->runs, at, end);
            TRY(run_batch(w, &batch, r));
            at += batch.count;
        }
    }
    return OK;
}

/* There are whole ranges, and the library has not had them. */
static bool has_rest(const struct fused *f, int rounds) {
    return !f->rounds.whole_fits || rounds < f->rounds.count;
}

/* The whole ranges by the own kernels, merged. */
static enum status merge_rest(struct backend *b, const struct work *w) {
    struct attention part = *w->a;
    void *out = nullptr;
    void *lse = nullptr;
    int64_t rows = part.q.rows;
    TRY(cuda_scratch(w->c, SCRATCH_PART, rows * part.out.columns * dtype_size(part.out.type), &out));
    TRY(cuda_scratch(w->c, SCRATCH_PART_LSE, 2 * rows * part.heads * dtype_size(DTYPE_F32), &lse));
    part.out = tensor_at(out, rows, part.out.columns, part.out.type);
    part.lse = tensor_at(static_cast<float *>(lse) + rows * part.heads, rows, part.heads, DTYPE_F32);
    TRY(cuda_attention_tiled(b, &part, PART_WHOLE));
    return cuda_attention_merge(b, part.heads, w->a->out, w->lse, part.out, part.lse);
}

static struct work work_of(struct cuda *c, const struct attention *a, const struct attention_gradient *g) {
    struct work w = {};
    w.c = c;
    w.a = a;
    w.g = g;
    w.lse = a->lse;
    w.matrices[FUSED_Q] = a->q;
    w.matrices[FUSED_K] = a->k;
    w.matrices[FUSED_V] = a->v;
    w.matrices[FUSED_OUT] = a->out;
    if (g) {
        w.matrices[FUSED_DOUT] = g->dout;
    }
    return w;
}

enum status cuda_fused_attention(struct backend *b, const struct attention *a, bool *done) {
    struct cuda *c = cuda_of(b);
    struct work w = work_of(c, a, nullptr);
    int rounds = 0;
    *done = false;
    if (!c->fused) {
        return OK;
    }
    TRY(count_rounds(b, &w, &rounds));
    if (rounds == 0) {
        return OK;
    }
    bool is_merged = rounds > 1 || has_rest(c->fused, rounds);
    if (!w.lse.data && is_merged) {
        void *lse = nullptr;
        TRY(cuda_scratch(c, SCRATCH_PART_LSE, 2 * a->q.rows * a->heads * dtype_size(DTYPE_F32), &lse));
        w.lse = tensor_at(lse, a->q.rows, a->heads, DTYPE_F32);
    }
    TRY(run_rounds(&w, rounds));
    *done = true;
    return has_rest(c->fused, rounds) ? merge_rest(b, &w) : OK;
}

enum status cuda_fused_attention_gradient(struct backend *b, const struct attention *a,
                                          const struct attention_gradient *g, bool *done) {
    struct cuda *c = cuda_of(b);
    struct work w = work_of(c, a, g);
    int rounds = 0;
    *done = false;
    if (!c->fused || c->deterministic) {
        return OK;
    }
    TRY(count_rounds(b, &w, &rounds));
    if (rounds == 0) {
        return OK;
    }
    for (struct tensor t : {g->dk, g->dv}) {
        if (!c->fused->rounds.covers_keys) {
            LAUNCH(clear_matrix, grid_over(t.rows, t.columns), THREADS, 0, c->stream, view_of<bf16>(t),
                   t.rows, t.columns);
        }
    }
    TRY(cuda_launched(c, "attention_gradient"));
    TRY(run_rounds(&w, rounds));
    *done = true;
    return has_rest(c->fused, rounds) ? cuda_attention_tiled_gradient(b, a, g, PART_WHOLE, true) : OK;
}
