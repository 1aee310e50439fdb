#include <string.h>

#include "model/pass_internal.h"
#include "util/mem.h"

enum status pass_open(struct model *m, struct workspace *w, enum pass_keep keep, struct pass **out) {
    struct pass *p;
    TRY(NEW_ARRAY(p, 1));
    p->model = m;
    p->w = w;
    p->keep = keep;
    p->mark = workspace_mark(w);
    p->drop_step = -1;
    if (NEW_ARRAY(p->layers, m->config.layers) != OK) {
        mem_free(p);
        return ERR_SYSTEM;
    }
    *out = p;
    return OK;
}

void pass_close(struct pass *p) {
    if (!p) {
        return;
    }
    workspace_release(p->w, p->mark);
    rope_cache_free(&p->rope);
    rope_cache_free(&p->rope_local);
    mem_free(p->spans);
    mem_free(p->ranges);
    mem_free(p->row_of);
    mem_free(p->active);
    mem_free(p->lengths);
    mem_free(p->wanted);
    mem_free(p->scratch);
    mem_free(p->numbers);
    mem_free(p->drop_keys);
    mem_free(p->mask);
    mem_free(p->conditions);
    mem_free(p->value_rows);
    mem_free(p->value_hidden);
    mem_free(p->layers);
    mem_free(p);
}

enum status pass_take(struct pass *p, int64_t rows, int64_t columns, const char *what, struct tensor *out) {
    return workspace_take(p->w, rows, columns, p->w->backend->caps.compute, what, out);
}

enum status pass_take_readout(struct pass *p, int64_t rows, int64_t columns, const char *what,
                              struct tensor *out) {
    return workspace_take(p->w, rows, columns, p->w->backend->caps.readout, what, out);
}

enum status pass_put_ids(struct pass *p, const int32_t *ids, int32_t n, const char *what,
                         struct tensor *out) {
    TRY(workspace_take(p->w, 1, n, DTYPE_I32, what, out));
    return backend_write(p->w->backend, out->data, ids, n * (int64_t)sizeof *ids);
}

enum status pass_need_numbers(struct pass *p, int64_t n) {
    return GROW_ARRAY(p->numbers, p->cap_numbers, n);
}

/* Numbers the active rows and inverts that. */
static enum status choose_rows(struct pass *p, const struct trunk_input *in) {
    TRY(GROW_ARRAYS(p->cap_rows, in->n, GROWN(p->row_of), GROWN(p->active)));
    p->n_rows = in->n;
    p->n_active = 0;
    for (int32_t i = 0; i < in->n; i++) {
        bool wanted = !in->wanted || (p->n_active < in->n_wanted && in->wanted[p->n_active] == i);
        p->row_of[i] = wanted ? p->n_active : -1;
        if (wanted) {
            p->active[p->n_active++] = i;
        }
    }
    if (in->wanted && p->n_active != in->n_wanted) {
        return fail(ERR_INTERNAL, "pass: rows to read are not ascending");
    }
    p->compact = p->n_active < p->n_rows;
    return OK;
}

/* One run of active rows [first, end) of a span: it sees what the span's rows see up to its end. */
static void add_run(struct pass *p, const struct query_span *span, int32_t first, int32_t end) {
    struct attention_map *to = &p->last_map;
    struct query_span *run = &p->spans[to->span_count++];
    *run = (struct query_span){p->row_of[first], end - first, to->range_count, span->range_count};
    for (int32_t i = 0; i < span->range_count; i++) {
        p->ranges[to->range_count++] = p->map->ranges[span->range_first + i];
    }
    p->ranges[to->range_count - 1].count -= span->first + span->count - end;
}

/* The last layer's map: the spans' runs of active rows as queries, all rows as keys. */
static enum status make_last_map(struct pass *p) {
    p->last_map = (struct attention_map){0};
    for (int pass = 0; pass < 2; pass++) {
        int64_t runs = 0, ranges = 0;
        for (int32_t s = 0; s < p->map->span_count; s++) {
            const struct query_span *span = &p->map->spans[s];
            for (int32_t i = span->first; i < span->first + span->count;) {
                int32_t end = i;
                while (end < span->first + span->count && p->row_of[end] >= 0) {
                    end++;
                }
                if (end > i && pass == 1) {
                    add_run(p, span, i, end);
                }
                runs += end > i;
                ranges += end > i ? span->range_count : 0;
                i = end > i ? end : i + 1;
            }
        }
        if (pass == 0) {
            TRY(GROW_ARRAY(p->spans, p->cap_spans, runs));
            TRY(GROW_ARRAY(p->ranges, p->cap_ranges, ranges));
        }
    }
    p->last_map.spans = p->spans;
    p->last_map.ranges = p->ranges;
    p->last_map.id = model_map_id(&p->last_map);
    return OK;
}

static enum status put_tables(struct pass *p, const struct trunk_input *in, struct rope_cache *cache,
                              struct rope_tables *out) {
    const struct model_config *c = &p->model->config;
    int64_t width = c->rope.rotary_dim;
    TRY(pass_need_numbers(p, 2 * in->n * width));
    TRY(rope_table(cache, c, in->positions, in->lengths, in->n, p->numbers));
    TRY(pass_take_readout(p, in->n, width, "rope table", &out->all));
    TRY(backend_write_doubles(p->w->backend, out->all, p->numbers));
    if (!p->compact) {
        return OK;
    }
    double *some = p->numbers + in->n * width;
    for (int32_t i = 0; i < p->n_active; i++) {
        memcpy(some + i * width, p->numbers + p->active[i] * width, (size_t)width * sizeof *some);
    }
    TRY(pass_take_readout(p, p->n_active, width, "rope table", &out->active));
    return backend_write_doubles(p->w->backend, out->active, some);
}

static enum status put_rope(struct pass *p, const struct trunk_input *in) {
    const struct model_config *c = &p->model->config;
    p->tables = p->tables_local = (struct rope_tables){0};
    if (c->rope.rotary_dim == 0) {
        return OK;
    }
    TRY(put_tables(p, in, &p->rope, &p->tables));
    if (c->local_theta == 0) {
        return OK;
    }
    p->rope_local.local = true;
    return put_tables(p, in, &p->rope_local, &p->tables_local);
}

static enum status put_input(struct pass *p, const struct trunk_input *in) {
    const struct model_config *c = &p->model->config;
    TRY(choose_rows(p, in));
    p->map = in->map;
    p->cache = in->cache;
    p->attend_cache = in->attend_cache;
    TRY(pass_put_ids(p, in->tokens, in->n, "tokens", &p->tokens));
    if (c->learned_positions) {
        for (int32_t i = 0; i < in->n; i++) {
            if (in->positions[i] >= c->max_positions) {
                return fail(ERR_DATA,
                            "a sequence of more than %lld tokens; the model has no more positions: "
                            "set truncate.max_length",
                            (long long)c->max_positions);
            }
        }
        TRY(pass_put_ids(p, in->positions, in->n, "positions", &p->positions));
    }
    if (in->cache) {
        TRY(pass_put_ids(p, in->cache_rows, in->n, "cache rows", &p->cache_rows));
    }
    if (p->compact) {
        TRY(make_last_map(p));
        TRY(pass_put_ids(p, p->active, p->n_active, "rows read out", &p->active_rows));
    }
    TRY(film_begin(p, in->conditions, in->n));
    return put_rope(p, in);
}

static enum status embed(struct pass *p, struct tensor x) {
    const struct model *m = p->model;
    const struct model_config *c = &m->config;
    struct tensor table = place_view(m->plan->embed, c->vocabulary, c->width);
    TRY(backend_embed(p->w->backend, x, table, p->tokens, c->embedding_scale, false));
    if (!c->learned_positions) {
        return OK;
    }
    table = place_view(m->plan->positions, c->max_positions, c->width);
    return backend_embed(p->w->backend, x, table, p->positions, 1, true);
}

/* Layers with their inputs (and, with KEEP_ALL, everything) kept. */
static enum status run_kept(struct pass *p, struct tensor x, struct tensor *out) {
    const struct model_config *c = &p->model->config;
    for (int64_t l = 0; l < c->layers; l++) {
        struct layer_state *s = &p->layers[l];
        *s = (struct layer_state){.x = x};
        if (p->keep == KEEP_ALL) {
            TRY(layer_forward(p, l, s, true));
        } else {
            struct tensor y;
            TRY(pass_take(p, layer_is_compact(p, l) ? p->n_active : p->n_rows, c->width, "residual", &y));
            int64_t mark = workspace_mark(p->w);
            struct layer_state once = {.x = x, .y = y};
            TRY(layer_forward(p, l, &once, true));
            workspace_release(p->w, mark);
            s->y = y;
        }
        x = s->y;
    }
    *out = x;
    return OK;
}

/* Layers that leave nothing: two buffers take turns. */
static enum status run_plain(struct pass *p, struct tensor x, struct tensor *out) {
    const struct model_config *c = &p->model->config;
    struct tensor other;
    TRY(pass_take(p, p->n_rows, c->width, "residual", &other));
    int64_t mark = workspace_mark(p->w);
    for (int64_t l = 0; l < c->layers; l++) {
        struct layer_state *s = &p->layers[l];
        *s = (struct layer_state){.x = x, .y = other};
        if (layer_is_compact(p, l)) {
            s->y = tensor_rows(other, 0, p->n_active);
        }
        TRY(layer_forward(p, l, s, true));
        workspace_release(p->w, mark);
        other = x;
        x = s->y;
    }
    *out = x;
    return OK;
}

enum status trunk_run(struct pass *p, const struct trunk_input *in) {
    const struct model *m = p->model;
    struct tensor x, y;
    TRY(put_input(p, in));
    TRY(pass_take(p, in->n, m->config.width, "embeddings", &x));
    TRY(embed(p, x));
    TRY(p->keep == KEEP_NOTHING ? run_plain(p, x, &y) : run_kept(p, x, &y));
    TRY(pass_take(p, y.rows, y.columns, "final norm", &p->hidden));
    TRY(pass_take_readout(p, y.rows, 2, "norm statistics", &p->final_statistics));
    struct norm n = layer_norm_of(p, &m->plan->final_norm, y, p->hidden, p->final_statistics);
    return backend_norm(p->w->backend, &n);
}

/* The rows that the readouts of f read, ascending; NULL where there are no readouts. */
static enum status rows_of_readouts(struct pass *p, const struct forest *f, struct trunk_input *in) {
    if (f->n_readouts == 0) {
        return OK;
    }
    TRY(GROW_ARRAY(p->wanted, p->cap_wanted, 2 * (int64_t)f->n_tokens));
    int32_t *is_read = p->wanted + f->n_tokens;
    memset(is_read, 0, (size_t)f->n_tokens * sizeof *is_read);
    for (int32_t i = 0; i < f->n_readouts; i++) {
        if (f->readout_at[i] < 0 || f->readout_at[i] >= f->n_tokens) {
            return fail(ERR_INTERNAL, "pass: readout %d at row %d of %d", i, f->readout_at[i], f->n_tokens);
        }
        is_read[f->readout_at[i]] = 1;
    }
    in->wanted = p->wanted;
    for (int32_t i = 0; i < f->n_tokens; i++) {
        if (is_read[i]) {
            p->wanted[in->n_wanted++] = i;
        }
    }
    return OK;
}

/* Each token's longest sequence, root to leaf, for rope that depends on it. */
static enum status tree_lengths(struct pass *p, const struct forest *f, struct trunk_input *in) {
    if (model_rope_break(&p->model->config) == INT64_MAX) {
        return OK;
    }
    TRY(GROW_ARRAY(p->lengths, p->cap_lengths, (int64_t)f->n_tokens + f->n_segments));
    int32_t *longest = p->lengths + f->n_tokens; /* per root */
    for (int32_t i = 0; i < f->n_segments; i++) {
        const struct segment *s = &f->segments[i];
        int32_t root = i, end = s->position + s->count;
        while (f->segments[root].parent >= 0) {
            root = f->segments[root].parent;
        }
        longest[i] = end;
        longest[root] = end > longest[root] ? end : longest[root];
    }
    for (int32_t i = 0; i < f->n_segments; i++) {
        const struct segment *s = &f->segments[i];
        int32_t root = i;
        while (f->segments[root].parent >= 0) {
            root = f->segments[root].parent;
        }
        for (int32_t t = s->first; t < s->first + s->count; t++) {
            p->lengths[t] = longest[root];
        }
    }
    in->lengths = p->lengths;
    return OK;
}

/* Each token's condition. */
static enum status name_conditions(struct pass *p, const struct forest *f, struct trunk_input *in) {
    if (!p->condition) {
        return OK;
    }
    TRY(GROW_ARRAY(p->conditions, p->cap_conditions, f->n_tokens));
    for (int32_t i = 0; i < f->n_segments; i++) {
        const struct segment *s = &f->segments[i];
        for (int32_t t = s->first; t < s->first + s->count; t++) {
            p->conditions[t] = s->condition;
        }
    }
    in->conditions = p->conditions;
    return OK;
}

enum status pass_forward(struct pass *p, const struct forest *f) {
    struct trunk_input in = {
        .n = f->n_tokens, .tokens = f->tokens, .positions = f->positions, .map = &f->map};
    workspace_release(p->w, p->mark);
    p->forest = f;
    p->is_forward_done = p->is_backward_done = p->is_scored = false;
    p->n_values = 0;
    if (f->n_tokens < 1 || f->map.span_count < 1) {
        return fail(ERR_INTERNAL, "pass: an empty forest, or forest_finish() was not called");
    }
    TRY(rows_of_readouts(p, f, &in));
    TRY(adapters_name_tokens(p, f));
    TRY(tree_lengths(p, f, &in));
    TRY(name_conditions(p, f, &in));
    TRY(trunk_run(p, &in));
    p->is_forward_done = true;
    return OK;
}
