#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/model_internal.h"
#include "util/hash.h"
#include "util/mem.h"
#include "util/rng.h"

/* Elements that cross between host and device at a time. */
enum { CHUNK = 1 << 20, ALIGNMENT = 16 };
/* Bytes that a part of the store may lose to alignment, and parts: parameters, compute copy, gradients, two
 * states. */
enum { STORE_ALIGNMENT = 64, STORE_PARTS = 5 };

/* Lays parameters out one after the other. */
struct builder {
    struct model *m;
    int64_t capacity, offset;
};

/* What add() is told beside name and shape. */
struct layout {
    bool joined; /* follows the one before without a gap */
    bool transposed;
    int64_t heads;
    int init;
    double init_scale;
};

/* Replaces '*' in pattern by layer and adds suffix. */
static enum status name_of(const char *pattern, int64_t layer, const char *suffix, char out[96]) {
    const char *star = strchr(pattern, '*');
    int head = star ? (int)(star - pattern) : (int)strlen(pattern);
    int n = star ? snprintf(out, 96, "%.*s%lld%s%s", head, pattern, (long long)layer, star + 1, suffix)
                 : snprintf(out, 96, "%s%s", pattern, suffix);
    return n > 0 && n < 96 ? OK : fail(ERR_INTERNAL, "parameter name %s is too long", pattern);
}

static enum status add(struct builder *b, const char *name, int64_t rows, int64_t columns,
                       const struct layout *o) {
    struct model *m = b->m;
    TRY(GROW_ARRAY(m->parameters, b->capacity, (int64_t)m->n_parameters + 1));
    struct parameter *p = &m->parameters[m->n_parameters];
    memset(p, 0, sizeof *p);
    snprintf(p->name, sizeof p->name, "%s", name);
    if (!o->joined) {
        b->offset = (b->offset + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    }
    p->rows = rows;
    p->columns = columns;
    p->offset = b->offset;
    p->n_dims = rows == 1 && o->init != INIT_NORMAL ? 1 : 2;
    p->decay = p->n_dims == 2;
    p->stored_transposed = o->transposed && p->n_dims == 2;
    p->stored_heads = o->heads;
    p->init = o->init;
    p->init_scale = o->init_scale == 0 ? 1 : o->init_scale;
    int64_t elements;
    TRY(size_mul(rows, columns, p->name, &elements));
    TRY(size_add(b->offset, elements, p->name, &b->offset));
    m->n_parameters++;
    return OK;
}

/* The offset of the parameter added last. */
static int64_t last(const struct builder *b) {
    return b->m->parameters[b->m->n_parameters - 1].offset;
}

static enum status add_affine(struct builder *b, const char *pattern, int64_t layer, int64_t n,
                              struct affine *out) {
    *out = (struct affine){-1, -1, n};
    if (!pattern) {
        return OK;
    }
    const struct model_config *c = &b->m->config;
    char name[96];
    TRY(name_of(pattern, layer, ".weight", name));
    TRY(add(b, name, 1, n, &(struct layout){.init = c->norm_offset == 1 ? INIT_ZERO : INIT_ONE}));
    out->weight = last(b);
    if (c->norm_bias) {
        TRY(name_of(pattern, layer, ".bias", name));
        TRY(add(b, name, 1, n, &(struct layout){.init = INIT_ZERO}));
        out->bias = last(b);
    }
    return OK;
}

/* A product whose weight is several parameters, one under the other: weights first, then biases. */
struct part {
    const char *pattern;
    int64_t outputs;
};
static enum status add_linear(struct builder *b, int64_t layer, const struct part *parts, int n_parts,
                              const struct layout *o, struct linear *out) {
    char name[96];
    bool has_bias = out->bias >= 0;
    for (int i = 0; i < n_parts; i++) {
        struct layout each = *o;
        each.joined = i > 0;
        each.init = INIT_NORMAL;
        TRY(name_of(parts[i].pattern, layer, ".weight", name));
        TRY(add(b, name, parts[i].outputs, out->in, &each));
        out->weight = i == 0 ? last(b) : out->weight;
    }
    for (int i = 0; has_bias && i < n_parts; i++) {
        TRY(name_of(parts[i].pattern, layer, ".bias", name));
        TRY(add(b, name, 1, parts[i].outputs,
                &(struct layout){.joined = i > 0, .heads = o->heads, .init = INIT_ZERO}));
        out->bias = i == 0 ? last(b) : out->bias;
    }
    return OK;
}

static struct linear linear_of(int64_t out, int64_t in, bool bias) {
    return (struct linear){-1, bias ? 0 : -1, out, in};
}

static enum status add_attention(struct builder *b, int64_t l, struct layer_plan *p) {
    const struct model_config *c = &b->m->config;
    const struct family_names *n = &c->family->names;
    int64_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    struct layout o = {.transposed = c->family->stored_transposed};
    p->qkv = linear_of(q + 2 * kv, c->width, c->qkv_bias);
    if (n->qkv) {
        o.heads = c->family->heads_interleaved ? c->heads : 0;
        TRY(add_linear(b, l, &(struct part){n->qkv, q + 2 * kv}, 1, &o, &p->qkv));
        o.heads = 0;
    } else {
        const struct part parts[] = {{n->q, q}, {n->k, kv}, {n->v, kv}};
        TRY(add_linear(b, l, parts, 3, &o, &p->qkv));
    }
    TRY(add_affine(b, c->qk_norm ? n->q_norm : NULL, l, c->head_dim, &p->q_norm));
    TRY(add_affine(b, c->qk_norm ? n->k_norm : NULL, l, c->head_dim, &p->k_norm));
    p->out = linear_of(c->width, q, c->out_bias);
    o.init_scale = c->residual_init ? 1 / sqrt(2 * (double)c->layers) : 1;
    TRY(add_linear(b, l, &(struct part){n->out, c->width}, 1, &o, &p->out));
    return OK;
}

static enum status add_mlp(struct builder *b, int64_t l, struct layer_plan *p) {
    const struct model_config *c = &b->m->config;
    const struct family_names *n = &c->family->names;
    struct layout o = {.transposed = c->family->stored_transposed};
    const struct part parts[] = {{n->gate, c->ffn}, {n->up, c->ffn}};
    p->up = linear_of(c->gated ? 2 * c->ffn : c->ffn, c->width, c->mlp_bias);
    TRY(add_linear(b, l, c->gated ? parts : parts + 1, c->gated ? 2 : 1, &o, &p->up));
    p->down = linear_of(c->width, c->ffn, c->mlp_bias);
    o.init_scale = c->residual_init ? 1 / sqrt(2 * (double)c->layers) : 1;
    return add_linear(b, l, &(struct part){n->down, c->width}, 1, &o, &p->down);
}

static enum status add_layer(struct builder *b, int64_t l, struct layer_plan *p) {
    const struct model_config *c = &b->m->config;
    const struct family_names *n = &c->family->names;
    b->offset = (b->offset + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    p->first = b->offset;
    TRY(add_affine(b, n->norm1, l, c->width, &p->norm1));
    TRY(add_attention(b, l, p));
    TRY(add_affine(b, c->post_norms ? n->post_norm1 : NULL, l, c->width, &p->post_norm1));
    TRY(add_affine(b, c->shared_norm ? NULL : n->norm2, l, c->width, &p->norm2));
    TRY(add_mlp(b, l, p));
    return add_affine(b, c->post_norms ? n->post_norm2 : NULL, l, c->width, &p->post_norm2);
}

static enum status add_head(struct builder *b, struct model_plan *plan) {
    const struct model_config *c = &b->m->config;
    bool scores = c->head == HEAD_SCORE;
    plan->head = linear_of(scores ? 1 : c->vocabulary, c->width, !scores && c->head_bias);
    const char *pattern = scores ? "score" : c->family->names.head;
    if (scores || !c->tied) {
        double range = c->initializer_range > 0 ? c->initializer_range : 1;
        /* N(0, 1 / (d + 1)): values of unit size whatever the width (Ziegler et al. 2019). */
        struct layout layout = {.init_scale = scores ? 1 / (sqrt((double)c->width + 1) * range) : 0};
        return add_linear(b, 0, &(struct part){pattern, plan->head.out}, 1, &layout, &plan->head);
    }
    plan->head.weight = plan->embed;
    if (c->head_bias) {
        char name[96];
        TRY(name_of(pattern, 0, ".bias", name));
        TRY(add(b, name, 1, c->vocabulary, &(struct layout){.init = INIT_ZERO}));
        plan->head.bias = last(b);
    }
    return OK;
}

/* Order of use in the forward pass: embeddings first, since a tied embedding's gradient is final last. */
static enum status lay_out(struct model *m) {
    const struct model_config *c = &m->config;
    const struct family_names *n = &c->family->names;
    struct model_plan *plan = m->plan;
    struct builder b = {.m = m};
    struct linear table = linear_of(c->vocabulary, c->width, false);
    TRY(add_linear(&b, 0, &(struct part){n->embed, c->vocabulary}, 1, &(struct layout){0}, &table));
    plan->embed = table.weight;
    if (c->learned_positions) {
        table = linear_of(c->max_positions, c->width, false);
        TRY(add_linear(&b, 0, &(struct part){n->positions, c->max_positions}, 1, &(struct layout){0},
                       &table));
        plan->positions = table.weight;
    }
    TRY(NEW_ARRAY(plan->layers, c->layers));
    for (int64_t l = 0; l < c->layers; l++) {
        TRY(add_layer(&b, l, &plan->layers[l]));
    }
    TRY(add_affine(&b, n->final_norm, 0, c->width, &plan->final_norm));
    TRY(add_head(&b, plan));
    m->arena_elements = (b.offset + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return OK;
}

static bool is_in_store(const struct model *m, const void *data) {
    const char *at = data;
    return m->store.base && at >= m->store.base && at < m->store.base + m->store.capacity;
}

enum status model_take(struct model *m, const char *what, int64_t elements, enum dtype type,
                       struct tensor *out) {
    int64_t bytes;
    void *data;
    TRY(size_mul(elements, dtype_size(type), what, &bytes));
    if (bytes + STORE_ALIGNMENT <= m->store.capacity - m->store.used) {
        TRY(workspace_take(&m->store, 1, elements, type, what, out));
    } else {
        if (backend_alloc(m->backend, bytes, &data) != OK) {
            return note("taking memory for %s, %lld %s values", what, (long long)elements, dtype_name(type));
        }
        *out = tensor_at(data, 1, elements, type);
    }
    return backend_zero_tensor(m->backend, *out);
}

void model_give_back(struct model *m, struct tensor *t) {
    if (is_in_store(m, t->data)) {
        workspace_release(&m->store, (char *)t->data - m->store.base);
    } else if (t->data) {
        backend_free(m->backend, t->data);
    }
    *t = (struct tensor){0};
}

/* Room for the parameters and what stands beside them. */
static enum status open_store(struct model *m, int64_t beside) {
    const struct backend_caps *caps = &m->backend->caps;
    int64_t bytes = dtype_size(caps->master);
    void *data;
    bytes += caps->compute != caps->master ? dtype_size(caps->compute) : 0;
    TRY(size_mul(m->arena_elements, bytes, "parameters", &bytes));
    TRY(size_add(bytes, beside + (int64_t)STORE_PARTS * STORE_ALIGNMENT, "parameters", &bytes));
    if (backend_alloc(m->backend, bytes, &data) != OK) {
        return note("taking memory for the parameters, %lld values%s", (long long)m->arena_elements,
                    beside > 0 ? ", their gradients and the optimizer's state" : "");
    }
    m->store = (struct workspace){.backend = m->backend, .base = data, .capacity = bytes};
    return OK;
}

enum status model_open_beside(struct backend *b, const struct model_config *config, int64_t beside,
                              struct model **out) {
    struct model *m;
    enum status st = OK;
    TRY(NEW_ARRAY(m, 1));
    m->config = *config;
    m->backend = b;
    TRY_TO(failed, NEW_ARRAY(m->plan, 1));
    TRY_TO(failed, lay_out(m));
    TRY_TO(failed, open_store(m, beside));
    TRY_TO(failed, model_take(m, "the parameters", m->arena_elements, b->caps.master, &m->master));
    m->compute = m->master;
    if (b->caps.compute != b->caps.master) {
        m->compute = (struct tensor){0};
        TRY_TO(failed, model_take(m, "the parameters' compute copy", m->arena_elements, b->caps.compute,
                                  &m->compute));
    }
    *out = m;
    return OK;
failed:
    model_close(m);
    return st;
}

enum status model_open(struct backend *b, const struct model_config *config, struct model **out) {
    return model_open_beside(b, config, 0, out);
}

void model_close(struct model *m) {
    if (!m) {
        return;
    }
    if (!is_in_store(m, m->gradients.data)) {
        model_give_back(m, &m->gradients);
    }
    workspace_close(&m->store);
    if (m->plan) {
        mem_free(m->plan->layers);
    }
    mem_free(m->plan);
    mem_free(m->parameters);
    mem_free(m);
}

enum status model_need_gradients(struct model *m) {
    return m->gradients.data
               ? OK
               : model_take(m, "the gradients", m->arena_elements, m->backend->caps.master, &m->gradients);
}

enum status model_zero_gradients(struct model *m) {
    return m->gradients.data ? backend_zero_tensor(m->backend, m->gradients) : OK;
}

enum status model_refresh(struct model *m) {
    return m->compute.data == m->master.data ? OK : backend_convert(m->backend, m->compute, m->master);
}

int64_t model_parameter_count(const struct model *m) {
    int64_t n = 0;
    for (int i = 0; i < m->n_parameters; i++) {
        n += m->parameters[i].rows * m->parameters[i].columns;
    }
    return n;
}

const struct parameter *model_find(const struct model *m, const char *name) {
    for (int i = 0; i < m->n_parameters; i++) {
        if (strcmp(m->parameters[i].name, name) == 0) {
            return &m->parameters[i];
        }
    }
    return NULL;
}

struct tensor model_view(const struct model *m, int64_t offset, int64_t rows, int64_t columns) {
    if (offset < 0) {
        return (struct tensor){0};
    }
    enum dtype type = m->compute.type;
    return tensor_at((char *)m->compute.data + offset * dtype_size(type), rows, columns, type);
}

struct tensor model_gradient(const struct model *m, int64_t offset, int64_t rows, int64_t columns) {
    if (offset < 0) {
        return (struct tensor){0};
    }
    enum dtype type = m->gradients.type;
    return tensor_at((char *)m->gradients.data + offset * dtype_size(type), rows, columns, type);
}

/* Host floats to and from master elements [offset, offset + n). */
static enum status put(struct model *m, int64_t offset, int64_t n, const float *values) {
    char *at = (char *)m->master.data + offset * dtype_size(m->master.type);
    if (m->master.type == DTYPE_F32) {
        return backend_write(m->backend, at, values, n * (int64_t)sizeof *values);
    }
    enum status st = OK;
    double *wide;
    int64_t chunk = n < CHUNK ? n : CHUNK;
    TRY(NEW_ARRAY(wide, chunk));
    for (int64_t i = 0; i < n && st == OK; i += chunk) {
        int64_t count = n - i < chunk ? n - i : chunk;
        for (int64_t j = 0; j < count; j++) {
            wide[j] = (double)values[i + j];
        }
        st = backend_write_doubles(
            m->backend, tensor_at(at + i * dtype_size(m->master.type), 1, count, m->master.type), wide);
    }
    mem_free(wide);
    return st;
}

static enum status get(struct model *m, int64_t offset, int64_t n, float *values) {
    char *at = (char *)m->master.data + offset * dtype_size(m->master.type);
    if (m->master.type == DTYPE_F32) {
        return backend_read(m->backend, values, at, n * (int64_t)sizeof *values);
    }
    enum status st = OK;
    double *wide;
    int64_t chunk = n < CHUNK ? n : CHUNK;
    TRY(NEW_ARRAY(wide, chunk));
    for (int64_t i = 0; i < n && st == OK; i += chunk) {
        int64_t count = n - i < chunk ? n - i : chunk;
        st = backend_read_doubles(m->backend, wide,
                                  tensor_at(at + i * dtype_size(m->master.type), 1, count, m->master.type));
        for (int64_t j = 0; j < count; j++) {
            values[i + j] = (float)wide[j];
        }
    }
    mem_free(wide);
    return st;
}

static bool is_plain(const struct parameter *p) {
    return !p->stored_transposed && p->stored_heads == 0;
}

/* Our place of the file's element e. */
static int64_t place_of(const struct parameter *p, int64_t e) {
    if (p->stored_transposed) {
        return e % p->rows * p->columns + e / p->rows;
    }
    int64_t unit = p->n_dims == 2 ? p->columns : 1;
    int64_t outputs = p->n_dims == 2 ? p->rows : p->columns;
    int64_t head_dim = outputs / (3 * p->stored_heads);
    int64_t r = e / unit, head = r / (3 * head_dim), part = r / head_dim % 3;
    return ((part * p->stored_heads + head) * head_dim + r % head_dim) * unit + e % unit;
}

static enum status check_piece(const struct model *m, int i, int64_t first, int64_t count) {
    if (i < 0 || i >= m->n_parameters || first < 0 || count < 0 ||
        first > m->parameters[i].rows * m->parameters[i].columns - count) {
        return fail(ERR_INTERNAL, "model: parameter %d has no elements [%lld, %lld)", i, (long long)first,
                    (long long)(first + count));
    }
    return OK;
}

enum status model_write(struct model *m, int i, int64_t first, int64_t count, const float *values) {
    TRY(check_piece(m, i, first, count));
    const struct parameter *p = &m->parameters[i];
    if (is_plain(p)) {
        return put(m, p->offset + first, count, values);
    }
    int64_t elements = p->rows * p->columns;
    float *whole;
    enum status st = OK;
    TRY(NEW_ARRAY(whole, elements));
    if (count < elements) {
        TRY_TO(done, get(m, p->offset, elements, whole));
    }
    for (int64_t e = 0; e < count; e++) {
        whole[place_of(p, first + e)] = values[e];
    }
    st = put(m, p->offset, elements, whole);
done:
    mem_free(whole);
    return st;
}

enum status model_read(struct model *m, int i, int64_t first, int64_t count, float *values) {
    TRY(check_piece(m, i, first, count));
    const struct parameter *p = &m->parameters[i];
    if (is_plain(p)) {
        return get(m, p->offset + first, count, values);
    }
    int64_t elements = p->rows * p->columns;
    float *whole;
    TRY(NEW_ARRAY(whole, elements));
    enum status st = get(m, p->offset, elements, whole);
    for (int64_t e = 0; e < count && st == OK; e++) {
        values[e] = whole[place_of(p, first + e)];
    }
    mem_free(whole);
    return st;
}

/* Draws of the file's rows [first, first + rows) of parameter p: a stream per row. */
static void draw_rows(const struct parameter *p, double deviation, uint64_t seed, int64_t first, int64_t rows,
                      float *out) {
    int64_t columns = p->stored_transposed ? p->rows : p->columns;
    int64_t name = (int64_t)(hash_bytes(p->name, strlen(p->name), 0) >> 1);
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        struct rng g = rng_stream(seed, RNG_INIT, name, first + r);
        for (int64_t j = 0; j < columns; j++) {
            out[r * columns + j] = (float)(deviation * rng_normal(&g));
        }
    }
}

static enum status initialize_one(struct model *m, int i, uint64_t seed) {
    const struct parameter *p = &m->parameters[i];
    int64_t rows = p->stored_transposed ? p->columns : p->rows;
    int64_t columns = p->stored_transposed ? p->rows : p->columns;
    int64_t step = is_plain(p) ? (CHUNK + columns - 1) / columns : rows;
    step = step < rows ? step : rows;
    float *values;
    enum status st = OK;
    TRY(NEW_ARRAY(values, step * columns));
    for (int64_t r = 0; r < rows && st == OK; r += step) {
        int64_t count = rows - r < step ? rows - r : step;
        if (p->init == INIT_NORMAL) {
            draw_rows(p, m->config.initializer_range * p->init_scale, seed, r, count, values);
        }
        for (int64_t e = 0; p->init == INIT_ONE && e < count * columns; e++) {
            values[e] = 1;
        }
        st = model_write(m, i, r * columns, count * columns, values);
    }
    mem_free(values);
    return st;
}

enum status model_initialize(struct model *m, uint64_t seed) {
    for (int i = 0; i < m->n_parameters; i++) {
        TRY(initialize_one(m, i, seed));
    }
    return model_refresh(m);
}
