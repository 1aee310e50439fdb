/* Sets of adapters: their layout, arena and plan; merging. */
#include "model/lora.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/model_internal.h"
#include "util/hash.h"
#include "util/mem.h"

#define PREFIX "base_model.model." /* PEFT's */

struct lora {
    struct lora *next;
    struct lora_layout layout; /* in the order of the arena */
    struct arena *arena;
    struct model_plan *plan;
};

void lora_layout_free(struct lora_layout *l) {
    mem_free(l->modules);
    mem_free(l->saved);
    mem_free(l->leading);
    *l = (struct lora_layout){0};
}

static enum status copy_name(const char *from, char to[LORA_NAME]) {
    int n = snprintf(to, LORA_NAME, "%s", from);
    return n < LORA_NAME ? OK : fail(ERR_DATA, "adapter: the name %.200s is too long", from);
}

enum status lora_layout_add(struct lora_layout *l, const char *module, int64_t rank, double scale) {
    TRY(GROW_ARRAY(l->modules, l->capacity, l->n + 1));
    struct lora_module *to = &l->modules[l->n++];
    *to = (struct lora_module){.rank = rank, .scale = scale};
    return copy_name(module, to->name);
}

enum status lora_layout_lead(struct lora_layout *l, const struct parameter *p) {
    TRY(GROW_ARRAY(l->leading, l->cap_leading, l->n_leading + 1));
    l->leading[l->n_leading++] = *p;
    return OK;
}

enum status lora_layout_save(struct lora_layout *l, const char *parameter) {
    TRY(GROW_ARRAY(l->saved, l->cap_saved, l->n_saved + 1));
    return copy_name(parameter, l->saved[l->n_saved++]);
}

/* The product that a parameter is the weight of, or of whose outputs from *first on; NULL: none. */
static struct linear *product_of(const struct model *m, struct model_plan *plan, const struct parameter *p,
                                 int64_t *first) {
    for (int64_t l = 0; l < m->config.layers; l++) {
        struct layer_plan *layer = &plan->layers[l];
        struct linear *products[] = {&layer->qkv, &layer->out, &layer->up, &layer->down};
        for (int i = 0; i < COUNT_OF(products); i++) {
            struct linear *w = products[i];
            int64_t at = p->offset - w->weight.offset;
            if (w->weight.arena == m->base && at >= 0 && at < w->out * w->in) {
                *first = at / w->in;
                return w;
            }
        }
    }
    return NULL;
}

enum lora_role lora_role(const struct model *m, const struct parameter *p) {
    const struct model_plan *plan = m->bare;
    int64_t first;
    if (p->n_dims != 2) {
        return LORA_NONE;
    }
    if (product_of(m, m->bare, p, &first)) {
        return LORA_PRODUCT;
    }
    bool is_table =
        p->offset == plan->embed.offset || (plan->positions.arena && p->offset == plan->positions.offset);
    return is_table ? LORA_TABLE : LORA_HEAD;
}

/* The module of a weight's name, or NULL. */
static const struct lora_module *module_of(const struct lora_layout *l, const char *weight) {
    for (int64_t i = 0; i < l->n; i++) {
        size_t n = strlen(l->modules[i].name);
        if (strncmp(weight, l->modules[i].name, n) == 0 && strcmp(weight + n, ".weight") == 0) {
            return &l->modules[i];
        }
    }
    return NULL;
}

static bool is_saved(const struct lora_layout *l, const char *name) {
    for (int64_t i = 0; i < l->n_saved; i++) {
        if (strcmp(l->saved[i], name) == 0) {
            return true;
        }
    }
    return false;
}

static enum status name_parameter(struct parameter *p, const char *name, const char *suffix) {
    int n = snprintf(p->name, sizeof p->name, PREFIX "%s%s", name, suffix);
    return n < (int)sizeof p->name ? OK : fail(ERR_DATA, "adapter: the name %.200s is too long", name);
}

/* A and B beside the weight p. */
static enum status add_adapter(struct model *m, struct lora *l, const struct parameter *p,
                               const struct lora_module *module) {
    struct adapter a = {.count = p->rows,
                        .rank = module->rank,
                        .scale = module->scale,
                        .dropout = l->layout.dropout,
                        .stream = hash_bytes(module->name, strlen(module->name), 0)};
    struct linear *w = product_of(m, l->plan, p, &a.first);
    if (!w || w->n_adapters == LINEAR_ADAPTERS) {
        return fail(ERR_DATA, "adapter: %s is no product that takes one (an embedding, or the head)",
                    module->name);
    }
    if (module->rank < 1 || module->rank > (1 << 20)) {
        return fail(ERR_DATA, "adapter: %s has rank %lld", module->name, (long long)module->rank);
    }
    double bound = l->layout.gaussian ? 1 / (double)module->rank : 1 / sqrt((double)w->in);
    struct parameter down = {.rows = module->rank,
                             .columns = w->in,
                             .decay = true,
                             .n_dims = 2,
                             .init = l->layout.gaussian ? INIT_NORMAL : INIT_UNIFORM,
                             .deviation = bound};
    struct parameter up = {.rows = a.count,
                           .columns = module->rank,
                           .decay = true,
                           .n_dims = 2,
                           .stored_heads = p->stored_heads,
                           .init = INIT_ZERO};
    TRY(name_parameter(&down, module->name, ".lora_A.weight"));
    TRY(name_parameter(&up, module->name, ".lora_B.weight"));
    TRY(arena_add(l->arena, &down, false, &a.a));
    TRY(arena_add(l->arena, &up, false, &a.b));
    w->adapters[w->n_adapters++] = a;
    return OK;
}

/* Puts `to` in the place of `from` wherever the plan reads the head, a table or a norm. */
static int replace(const struct model *m, struct model_plan *plan, struct place from, struct place to) {
    struct place *places[] = {&plan->embed,
                              &plan->positions,
                              &plan->final_norm.weight,
                              &plan->final_norm.bias,
                              &plan->head.weight,
                              &plan->head.bias,
                              &plan->value};
    int found = 0;
    for (int i = 0; i < COUNT_OF(places); i++) {
        if (places[i]->arena == from.arena && places[i]->offset == from.offset) {
            *places[i] = to;
            found++;
        }
    }
    for (int64_t l = 0; l < m->config.layers; l++) {
        struct layer_plan *p = &plan->layers[l];
        struct affine *norms[] = {&p->norm1,      &p->norm2,  &p->post_norm1,
                                  &p->post_norm2, &p->q_norm, &p->k_norm};
        for (int i = 0; i < COUNT_OF(norms); i++) {
            struct place *parts[] = {&norms[i]->weight, &norms[i]->bias};
            for (int k = 0; k < COUNT_OF(parts); k++) {
                if (parts[k]->arena == from.arena && parts[k]->offset == from.offset) {
                    *parts[k] = to;
                    found++;
                }
            }
        }
    }
    return found;
}

static enum status add_saved(struct model *m, struct lora *l, const struct parameter *p) {
    struct parameter copy = *p;
    struct place to;
    TRY(name_parameter(&copy, p->name, ""));
    TRY(arena_add(l->arena, &copy, false, &to));
    return replace(m, l->plan, (struct place){m->base, p->offset}, to) > 0
               ? OK
               : fail(ERR_DATA,
                      "adapter: %s cannot be held whole: modules_to_save takes embeddings, norms and heads",
                      p->name);
}

/* What comes with a layer beside its adapters. */
static enum status begin_layer(struct model *m, struct lora *l, int64_t layer) {
    struct layer_plan *plan = &l->plan->layers[layer];
    plan->first = l->arena->elements;
    return layer < l->layout.film.layers
               ? film_add(l->arena, &l->layout.film, layer, m->config.width, &plan->film)
               : OK;
}

/* Everything in the order of the base, which is that of use; where each layer's part begins. */
static enum status lay_out(struct model *m, struct lora *l) {
    int64_t layer = 0, layers = m->config.layers, found = 0;
    for (int64_t i = 0; i < l->layout.n_leading; i++) {
        TRY(arena_add(l->arena, &l->layout.leading[i], false, NULL));
    }
    for (int i = 0; i < m->base->n; i++) {
        const struct parameter *p = &m->base->parameters[i];
        for (; layer < layers && p->offset >= m->bare->layers[layer].first; layer++) {
            TRY(begin_layer(m, l, layer));
        }
        if (layer == layers && p->offset >= m->bare->tail) {
            l->plan->tail = l->arena->elements;
            layer++;
        }
        const struct lora_module *module = module_of(&l->layout, p->name);
        bool saved = is_saved(&l->layout, p->name);
        found += (module != NULL) + saved;
        TRY(module ? add_adapter(m, l, p, module) : OK);
        TRY(saved ? add_saved(m, l, p) : OK);
    }
    if (found < l->layout.n + l->layout.n_saved) {
        return fail(ERR_INTERNAL, "adapter: of %lld modules the model has %lld",
                    (long long)(l->layout.n + l->layout.n_saved), (long long)found);
    }
    return OK;
}

static enum status copy_plan(const struct model *m, struct model_plan **out) {
    TRY(NEW_ARRAY(*out, 1));
    **out = *m->bare;
    (*out)->layers = NULL;
    TRY(NEW_ARRAY((*out)->layers, m->config.layers));
    memcpy((*out)->layers, m->bare->layers, (size_t)m->config.layers * sizeof *m->bare->layers);
    return OK;
}

static enum status copy_layout(const struct lora_layout *from, struct lora_layout *to) {
    *to = (struct lora_layout){.film = from->film, .dropout = from->dropout, .gaussian = from->gaussian};
    for (int64_t i = 0; i < from->n_leading; i++) {
        TRY(lora_layout_lead(to, &from->leading[i]));
    }
    for (int64_t i = 0; i < from->n; i++) {
        TRY(lora_layout_add(to, from->modules[i].name, from->modules[i].rank, from->modules[i].scale));
    }
    for (int64_t i = 0; i < from->n_saved; i++) {
        TRY(lora_layout_save(to, from->saved[i]));
    }
    return OK;
}

/* Values of a whole parameter of `from` to the one of `to` by index; both as the file stores them. */
static enum status copy_values(const struct arena *from, int i, struct arena *to, int k) {
    int64_t n = from->parameters[i].rows * from->parameters[i].columns;
    float *values;
    TRY(NEW_ARRAY(values, n));
    enum status st = arena_read(from, i, 0, n, values);
    st = st == OK ? arena_write(to, k, 0, n, values) : st;
    mem_free(values);
    return st;
}

/* -1: none. */
static int index_of(const struct arena *a, const char *name) {
    const struct parameter *p = arena_find(a, name);
    return p ? (int)(p - a->parameters) : -1;
}

static enum status copy_saved(const struct model *m, const struct lora *l) {
    for (int64_t i = 0; i < l->layout.n_saved; i++) {
        char name[sizeof(PREFIX) + LORA_NAME];
        snprintf(name, sizeof name, PREFIX "%s", l->layout.saved[i]);
        TRY(copy_values(m->base, index_of(m->base, l->layout.saved[i]), l->arena, index_of(l->arena, name)));
    }
    return arena_refresh(l->arena);
}

static void lora_close(struct lora *l) {
    arena_close(l->arena);
    model_plan_free(l->plan);
    lora_layout_free(&l->layout);
    mem_free(l);
}

enum status lora_open(struct model *m, const struct lora_layout *layout, enum arena_kind kind, int64_t beside,
                      struct lora **out) {
    struct lora *l;
    enum status st = OK;
    TRY(NEW_ARRAY(l, 1));
    TRY_TO(failed, copy_layout(layout, &l->layout));
    TRY_TO(failed, copy_plan(m, &l->plan));
    TRY_TO(failed, arena_open(m->backend, kind, &l->arena));
    TRY_TO(failed, lay_out(m, l));
    TRY_TO(failed, arena_allocate(l->arena, beside));
    TRY_TO(failed, copy_saved(m, l));
    l->next = m->loras;
    m->loras = l;
    lora_use(m, l);
    *out = l;
    return OK;
failed:
    lora_close(l);
    return st;
}

void lora_use(struct model *m, const struct lora *l) {
    m->plan = l ? l->plan : m->bare;
    m->config.lora = l ? &l->layout : NULL;
    m->trained = l && l->arena->kind == ARENA_TRAINED ? l->arena
                 : m->base->kind == ARENA_TRAINED     ? m->base
                                                      : NULL;
}

void lora_close_all(struct model *m) {
    lora_use(m, NULL);
    for (struct lora *l = m->loras, *next; l; l = next) {
        next = l->next;
        lora_close(l);
    }
    m->loras = NULL;
}

struct arena *lora_arena(const struct lora *l) {
    return l->arena;
}

bool lora_is_adapter(const struct parameter *p) {
    return strncmp(p->name, PREFIX, strlen(PREFIX)) == 0;
}

const struct lora_layout *lora_layout_of(const struct lora *l) {
    return &l->layout;
}

enum status lora_initialize(struct lora *l, uint64_t seed) {
    for (int64_t i = 0; i < l->arena->n; i++) {
        const struct parameter *p = &l->arena->parameters[i];
        if (lora_is_adapter(p) && is_saved(&l->layout, p->name + strlen(PREFIX))) {
            continue;
        }
        TRY(arena_initialize_one(l->arena, (int)i, seed));
    }
    return arena_refresh(l->arena);
}

/* W += scale B A of one module, all three as files store them but for W's order, which the product's place
 * has: rows [first, first + count) of ours. */
static enum status merge_one(struct model *m, const struct linear *w, const struct adapter *a) {
    int64_t n = a->count * w->in, na = a->rank * w->in, nb = a->count * a->rank;
    struct tensor weight = tensor_columns(m->base->master, w->weight.offset + a->first * w->in, n);
    double *values;
    TRY(NEW_ARRAY(values, n + na + nb));
    double *down = values + n, *up = down + na;
    enum status st;
    TRY_TO(done, backend_read_doubles(m->backend, values, weight));
    TRY_TO(done,
           backend_read_doubles(m->backend, down, tensor_columns(arena_values(a->a.arena), a->a.offset, na)));
    TRY_TO(done,
           backend_read_doubles(m->backend, up, tensor_columns(arena_values(a->b.arena), a->b.offset, nb)));
#pragma omp parallel for schedule(static) num_threads(m->backend->caps.threads)
    for (int64_t i = 0; i < a->count; i++) {
        for (int64_t k = 0; k < a->rank; k++) {
            double factor = a->scale * up[i * a->rank + k];
            for (int64_t j = 0; j < w->in; j++) {
                values[i * w->in + j] += factor * down[k * w->in + j];
            }
        }
    }
    st = backend_write_doubles(m->backend, weight, values);
done:
    mem_free(values);
    return st;
}

enum status lora_merge(struct model *m, const struct lora *l) {
    if (m->base->kind != ARENA_TRAINED) {
        return fail(ERR_INTERNAL, "adapter: a frozen base takes no adapter into its weights");
    }
    for (int64_t i = 0; i < m->config.layers; i++) {
        const struct layer_plan *p = &l->plan->layers[i];
        const struct linear *products[] = {&p->qkv, &p->out, &p->up, &p->down};
        for (int k = 0; k < COUNT_OF(products); k++) {
            for (int n = 0; n < products[k]->n_adapters; n++) {
                TRY(merge_one(m, products[k], &products[k]->adapters[n]));
            }
        }
    }
    for (int64_t i = 0; i < l->layout.n_saved; i++) {
        char name[sizeof(PREFIX) + LORA_NAME];
        snprintf(name, sizeof name, PREFIX "%s", l->layout.saved[i]);
        TRY(copy_values(l->arena, index_of(l->arena, name), m->base, index_of(m->base, l->layout.saved[i])));
    }
    return arena_refresh(m->base);
}
