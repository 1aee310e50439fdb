#include "score/embedding.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "data/batch.h"
#include "data/sidecar_find.h"
#include "score/work.h"
#include "util/clock.h"
#include "util/mem.h"

/* Forests never reach over a block's end. A round has so many forests for each rank, so that dealing by cost
 * evens the ranks out; it is also what a killed run loses at most. */
enum { BLOCK_RESPONSES = 1024, ROUND_FORESTS = 16 };

/* What the options mean with this model and this data. */
struct recipe_of_text {
    bool full, end, masked_end;
    int32_t begin_id, end_id; /* -1: not put there */
    int32_t content_end;      /* the data's own end token, taken off first; -1: none */
    int64_t limit;            /* tokens */
    int layer;                /* -1: the final norm's output */
    enum embedding_pooling pooling;
};

/* Consecutive responses that go through the model at once. */
struct piece {
    int64_t first, count;
    int32_t cost; /* tokens at most */
};
struct pieces {
    struct piece *data;
    int64_t n, capacity;
};

struct embedder {
    const struct embedding_options *options;
    struct comm *comm;
    struct model *model;
    struct dataset *data;
    struct sidecar *file;
    struct recipe_of_text recipe;
    struct workspace workspace;
    struct pass *pass;
    struct forest forest;
    struct pieces pieces;
    uint8_t *wanted; /* responses of the split; NULL: all */
    int64_t n_wanted;
    int32_t *tokens; /* one text */
    int64_t tokens_capacity;
    int32_t *spans; /* of the forest's texts that have tokens */
    int64_t spans_capacity;
    float *means;
    int64_t means_capacity;
    /* Of this rank in this round. */
    int64_t *ids;
    float *values;
    int64_t n_ids, ids_capacity, values_capacity;
    int64_t cut, empty, tokens_done, computed;
    double forward_s;
};

static int32_t either(int32_t first, int32_t second) {
    return first >= 0 ? first : second;
}

/* Local. */
static enum status choose_recipe(const struct embedding_options *o, struct recipe_of_text *out) {
    const struct model_config *config = &o->model->config;
    const struct dataset_facts *facts = dataset_facts(o->data);
    *out = (struct recipe_of_text){.full = o->full,
                                   .end = o->end || o->masked_end,
                                   .masked_end = o->masked_end,
                                   .begin_id = -1,
                                   .end_id = -1,
                                   .content_end = facts->end_id,
                                   .limit = o->max_length,
                                   .layer = (int)o->layer,
                                   .pooling = o->pooling};
    if (out->layer > config->layers) {
        return fail(ERR_USAGE, "embed.layer is %d, the model has layers 0 to %lld (%lld: the final norm)",
                    out->layer, (long long)config->layers, (long long)config->layers);
    }
    if (out->layer == config->layers) {
        out->layer = -1;
    }
    int64_t positions = model_positions(config);
    if (positions > 0 && out->limit > positions) {
        if (o->must_have_length) {
            return fail(ERR_USAGE, "embed.max_length is %lld, the model has positions for %lld",
                        (long long)out->limit, (long long)positions);
        }
        out->limit = positions;
    }
    if (out->end) {
        out->end_id = either(facts->end_id, config->end_id);
    }
    if (o->begin) {
        out->begin_id = either(facts->begin_id, config->begin_id);
    }
    if ((out->end && out->end_id < 0) || (o->begin && out->begin_id < 0)) {
        return fail(ERR_USAGE, "embed.%s: neither the data nor the model names such a token",
                    out->end && out->end_id < 0 ? "end" : "begin");
    }
    if (out->masked_end && out->limit < 2) {
        return fail(ERR_USAGE, "embed.max_length: the end token needs one before it: at least 2");
    }
    return OK;
}

/* The recipe's name in the side-car's key. */
static void recipe_name(const struct recipe_of_text *r, char out[64]) {
    snprintf(out, 64, "%s %s l%d m%lld%s%s", r->pooling == POOL_LAST ? "last" : "mean",
             r->full ? "full" : "response", r->layer, (long long)r->limit,
             r->masked_end ? " masked-end"
             : r->end      ? " end"
                           : "",
             r->begin_id >= 0 ? " begin" : "");
}

/* Tokens of a response's text before any cut, its end token counted whether it stays or not. */
static int64_t text_length(const struct recipe_of_text *r, const struct response *response) {
    int64_t appended = r->end && r->content_end < 0;
    return response->count + appended + (r->full ? response->prompt_count : 0) + (r->begin_id >= 0);
}

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* A text in e->tokens; *content: all but the masked end token. The response keeps its start; a prompt in
 * front of it keeps its end. */
static enum status read_text(struct embedder *e, const struct response *r, int64_t *content) {
    const struct recipe_of_text *recipe = &e->recipe;
    int64_t limit = recipe->limit - recipe->masked_end;
    int64_t begin = recipe->begin_id >= 0;
    int64_t need = begin + r->prompt_count + r->count + 1;
    TRY(GROW_ARRAY(e->tokens, e->tokens_capacity, need));
    int32_t *own = e->tokens + begin + r->prompt_count; /* the response's place before the prompt is cut */
    TRY(dataset_response_tokens(e->data, r->first, r->count, own));
    int64_t own_count = r->count;
    if (own_count > 0 && recipe->content_end >= 0 && own[own_count - 1] == recipe->content_end) {
        own_count--;
    }
    if (recipe->end && !recipe->masked_end) {
        own[own_count++] = recipe->end_id;
    }
    int64_t prompt = recipe->full ? r->prompt_count : 0;
    e->cut += begin + prompt + own_count > limit;
    own_count = least(own_count, limit - least(begin, limit));
    int64_t kept = least(prompt, limit - begin - own_count);
    TRY(dataset_prompt_tokens(e->data, r->prompt_first + r->prompt_count - kept, kept, e->tokens + begin));
    if (begin) {
        e->tokens[0] = recipe->begin_id;
    }
    memmove(e->tokens + begin + kept, own, (size_t)own_count * sizeof *own);
    *content = own_count > 0 ? begin + kept + own_count : 0;
    return OK;
}

/* Appends a response's tree and its span; *has_rows is false where it has no token. */
static enum status add_text(struct embedder *e, const struct response *r, int64_t *n_spans, bool *has_rows) {
    int64_t count;
    int32_t segment;
    TRY(read_text(e, r, &count));
    *has_rows = count > 0;
    if (count == 0) {
        e->empty++;
        return OK;
    }
    TRY(forest_add(&e->forest, -1, e->tokens, (int32_t)count, r->id, &segment));
    if (e->recipe.masked_end) {
        TRY(forest_add(&e->forest, segment, &e->recipe.end_id, 1, r->id, &segment));
        e->forest.segments[segment].blind = true;
    }
    const struct segment *s = &e->forest.segments[segment];
    bool last = e->recipe.pooling == POOL_LAST;
    e->spans[2 * *n_spans] = last ? s->first + s->count - 1 : s->first;
    e->spans[2 * *n_spans + 1] = last ? 1 : s->count;
    ++*n_spans;
    return OK;
}

static enum status check_finite(const struct embedder *e, const float *values, int64_t id) {
    int64_t width = e->model->config.width;
    for (int64_t d = 0; d < width; d++) {
        if (!isfinite(values[d])) {
            return fail(ERR_DATA, "response %lld: its embedding is not finite under model %s", (long long)id,
                        e->options->model_name);
        }
    }
    return OK;
}

/* The pass alone is timed, so that its share can be told: pass_means would wait for it anyway. */
static enum status run_forward(struct embedder *e) {
    double start = clock_seconds();
    TRY(pass_forward(e->pass, &e->forest));
    TRY(backend_sync(e->model->backend));
    e->forward_s += clock_seconds() - start;
    return OK;
}

static bool wants(const struct embedder *e, int64_t id) {
    return !e->wanted || e->wanted[id];
}

/* One forest: its rows join this rank's of the round. */
static enum status embed_piece(struct embedder *e, const struct piece *piece) {
    struct response responses[BLOCK_RESPONSES];
    bool has_rows[BLOCK_RESPONSES];
    const struct model_config *config = &e->model->config;
    int64_t n_spans = 0;
    int64_t before = e->n_ids;
    TRY(dataset_responses(e->data, (struct range){piece->first, piece->first + piece->count}, responses));
    TRY(GROW_ARRAY(e->spans, e->spans_capacity, 2 * piece->count));
    TRY(GROW_ARRAY(e->means, e->means_capacity, piece->count * config->width));
    TRY(GROW_ARRAY(e->ids, e->ids_capacity, e->n_ids + piece->count));
    TRY(GROW_ARRAY(e->values, e->values_capacity, (e->n_ids + piece->count) * config->width));
    forest_clear(&e->forest);
    for (int64_t i = 0; i < piece->count; i++) {
        has_rows[i] = false;
        TRY(wants(e, piece->first + i) ? add_text(e, &responses[i], &n_spans, &has_rows[i]) : OK);
    }
    if (n_spans > 0) {
        TRY(forest_finish(&e->forest, config->vocabulary, model_positions(config)));
        TRY(run_forward(e));
        TRY(pass_means(e->pass, e->spans, (int32_t)n_spans, e->recipe.layer, e->means));
    }
    const float *from = e->means;
    for (int64_t i = 0; i < piece->count; i++) {
        if (!wants(e, piece->first + i)) {
            continue;
        }
        float *to = e->values + e->n_ids * config->width;
        e->ids[e->n_ids++] = piece->first + i;
        memset(to, 0, (size_t)config->width * sizeof *to);
        if (has_rows[i]) {
            memcpy(to, from, (size_t)config->width * sizeof *to);
            TRY(check_finite(e, to, piece->first + i));
            from += config->width;
        }
    }
    e->tokens_done += e->forest.n_tokens;
    e->computed += e->n_ids - before;
    return OK;
}

/* A block's forests. */
static enum status cut_block(struct embedder *e, struct range block) {
    struct pieces *out = &e->pieces;
    struct response responses[BLOCK_RESPONSES];
    int64_t ends[BLOCK_RESPONSES] = {0};
    int32_t cost[BLOCK_RESPONSES] = {0};
    int64_t n = block.last - block.first;
    TRY(dataset_responses(e->data, block, responses));
    for (int64_t i = 0; i < n; i++) {
        cost[i] = (int32_t)least(text_length(&e->recipe, &responses[i]), e->recipe.limit);
    }
    int64_t runs = batch_cut(cost, n, e->options->micro_tokens, ends);
    TRY(GROW_ARRAY(out->data, out->capacity, out->n + runs));
    for (int64_t k = 0, at = 0; k < runs; at = ends[k++]) {
        struct piece p = {.first = block.first + at, .count = ends[k] - at};
        for (int64_t i = at; i < ends[k]; i++) {
            p.cost += cost[i];
        }
        out->data[out->n++] = p;
    }
    return OK;
}

/* Local. All forests, and the longest text; the same on every rank. */
static enum status cut_all(struct embedder *e) {
    const struct range all = {0, dataset_size(e->data).responses};
    for (int64_t first = 0; first < all.last; first += BLOCK_RESPONSES) {
        TRY(cut_block(e, range_block(all, first, BLOCK_RESPONSES)));
    }
    return OK;
}

static int64_t responses_before(void *context, int64_t piece) {
    const struct embedder *e = context;
    return piece < e->pieces.n ? e->pieces.data[piece].first : dataset_size(e->data).responses;
}

/* A forest is missing where the file lacks one of its rows. */
static enum status piece_is_missing(void *context, int64_t piece, bool *out) {
    struct embedder *e = context;
    const struct piece *p = &e->pieces.data[piece];
    int64_t ids[BLOCK_RESPONSES];
    bool done[BLOCK_RESPONSES];
    for (int64_t i = 0; i < p->count; i++) {
        ids[i] = p->first + i;
    }
    TRY(sidecar_done(e->file, ids, p->count, done));
    *out = false;
    for (int64_t i = 0; i < p->count; i++) {
        *out = *out || (!done[i] && wants(e, ids[i]));
    }
    return OK;
}

static int32_t piece_cost(void *context, int64_t piece) {
    const struct embedder *e = context;
    return e->pieces.data[piece].cost;
}

static enum status embed_pieces(void *context, const int64_t *pieces, int64_t n) {
    struct embedder *e = context;
    e->n_ids = 0;
    for (int64_t i = 0; i < n; i++) {
        TRY(embed_piece(e, &e->pieces.data[pieces[i]]));
    }
    return OK;
}

static enum status write_pieces(void *context) {
    const struct embedder *e = context;
    return sidecar_write_values(e->file, e->ids, e->n_ids, e->values);
}

/* Collective. */
static enum status embed_missing(struct embedder *e) {
    char all[32];
    snprintf(all, sizeof all, " of %lld", (long long)dataset_size(e->data).responses);
    struct work work = {
        .context = e,
        .label = "embed",
        .unit = "responses",
        .phase = "embedding from response",
        .n = e->pieces.n,
        .round = ROUND_FORESTS * (int64_t)e->comm->size,
        .deal = DEAL_BY_COST,
        .done_before = responses_before,
        .is_missing = piece_is_missing,
        .cost = piece_cost,
        .compute = embed_pieces,
        .write = write_pieces,
        .stopped = {"response ", all},
    };
    return work_run(e->comm, &work);
}

static enum status open_pass(struct embedder *e) {
    const struct model *model = e->model;
    enum pass_keep keep = e->recipe.layer >= 0 ? KEEP_INPUTS : KEEP_NOTHING;
    int64_t largest = 1;
    int64_t bytes;
    int tokens;
    for (int64_t k = 0; k < e->pieces.n; k++) {
        largest = e->pieces.data[k].cost > largest ? e->pieces.data[k].cost : largest;
    }
    TRY(to_int(largest, "tokens of the largest forest", &tokens));
    TRY(pass_bytes(&model->config, &model->backend->caps, keep, tokens, 0, &bytes));
    TRY(workspace_open(model->backend, bytes, &e->workspace));
    return pass_open(e->model, &e->workspace, keep, &e->pass);
}

/* Collective. */
static enum status lacks_texts(void *context, struct sidecar *file, bool *out) {
    struct embedder *e = context;
    enum status st = OK;
    int64_t missing = 0;
    e->file = file;
    for (int64_t piece = 0; piece < e->pieces.n && !missing && st == OK; piece++) {
        bool is_missing = false;
        st = piece_is_missing(e, piece, &is_missing);
        missing = is_missing;
    }
    TRY(comm_agree(e->comm, st));
    *out = missing;
    return OK;
}

static enum status open_file(struct embedder *e, struct text *path) {
    const struct embedding_options *o = e->options;
    struct sidecar_key key = {.model = o->model_hash, .data = dataset_hash(e->data)};
    int64_t width = e->model->config.width;
    struct sidecar *file = NULL;
    bool is_named = path->len > 0;
    const struct sidecar_wanted wanted = {.key = &key,
                                          .rows = dataset_size(e->data).responses,
                                          .width = width,
                                          .lacks = lacks_texts,
                                          .context = e,
                                          .is_automatic = o->is_automatic || !is_named,
                                          .folder = "",
                                          .named_by = "output"};
    recipe_name(&e->recipe, key.recipe);
    snprintf(key.compute, sizeof key.compute, "%s", o->compute);
    TRY(comm_agree(e->comm, is_named ? OK : sidecar_path(e->data, &key, width, path)));
    TRY(sidecar_find(e->comm, &wanted, path, &file));
    e->file = file;
    return OK;
}

/* Of a split only its responses. */
static enum status choose_responses(struct embedder *e) {
    int64_t *ids;
    TRY(dataset_split_responses(e->data, &ids, &e->n_wanted));
    enum status st = ids ? NEW_ARRAY(e->wanted, dataset_size(e->data).responses) : OK;
    for (int64_t i = 0; ids && st == OK && i < e->n_wanted; i++) {
        e->wanted[ids[i]] = 1;
    }
    mem_free(ids);
    return st;
}

static enum status prepare(struct embedder *e) {
    TRY(choose_recipe(e->options, &e->recipe));
    TRY(choose_responses(e));
    TRY(cut_all(e));
    return open_pass(e);
}

static enum status embed_all(struct embedder *e, struct text *path) {
    if (dataset_size(e->data).responses == 0) {
        return fail(ERR_DATA, "%s: no responses to embed", dataset_path(e->data));
    }
    TRY(comm_agree(e->comm, prepare(e)));
    TRY(open_file(e, path));
    enum status st = embed_missing(e);
    enum status closed = sidecar_close(e->file);
    return st == OK ? closed : st;
}

static void embedder_close(struct embedder *e) {
    if (e->pass) {
        pass_close(e->pass);
    }
    workspace_close(&e->workspace);
    forest_free(&e->forest);
    mem_free(e->pieces.data);
    mem_free(e->wanted);
    mem_free(e->tokens);
    mem_free(e->spans);
    mem_free(e->means);
    mem_free(e->ids);
    mem_free(e->values);
}

enum status embedding_compute(const struct embedding_options *o, struct text *path,
                              struct embedding_report *out) {
    struct embedder e = {.options = o, .comm = o->comm, .model = o->model, .data = o->data};
    double start = clock_seconds();
    enum status st = embed_all(&e, path);
    int64_t sums[] = {e.computed, e.cut, e.empty, e.tokens_done};
    double forward_s = e.forward_s;
    int64_t wanted = e.n_wanted;
    embedder_close(&e);
    TRY(st);
    TRY(comm_sum_i64(o->comm, sums, COUNT_OF(sums)));
    TRY(comm_sum_f64(o->comm, &forward_s, 1));
    *out = (struct embedding_report){.responses = wanted,
                                     .computed = sums[0],
                                     .cut = sums[1],
                                     .empty = sums[2],
                                     .tokens = sums[3],
                                     .seconds = clock_seconds() - start,
                                     .forward_seconds = forward_s / o->comm->size};
    return OK;
}
