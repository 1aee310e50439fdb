#include "model/forest.h"

#include "model/model_internal.h"
#include "util/hash.h"
#include "util/mem.h"

/* Deeper than any tree we make; bounds the walk to the root. */
enum { MAX_DEPTH = 64 };

void forest_clear(struct forest *f) {
    f->n_tokens = f->n_segments = f->n_readouts = 0;
    f->attention_pairs = 0;
    f->map = (struct attention_map){0};
}

void forest_free(struct forest *f) {
    mem_free(f->tokens);
    mem_free(f->positions);
    mem_free(f->segments);
    mem_free(f->readout_at);
    mem_free(f->readout_target);
    mem_free(f->readout_segment);
    mem_free(f->spans);
    mem_free(f->ranges);
    *f = (struct forest){0};
}

static enum status reserve_tokens(struct forest *f, int64_t need) {
    return GROW_ARRAYS(f->cap_tokens, need, GROWN(f->tokens), GROWN(f->positions));
}

static enum status reserve_readouts(struct forest *f, int64_t need) {
    return GROW_ARRAYS(f->cap_readouts, need, GROWN(f->readout_at), GROWN(f->readout_target),
                       GROWN(f->readout_segment));
}

enum status forest_add(struct forest *f, int32_t parent, const int32_t *tokens, int32_t count, int64_t row,
                       int32_t *segment) {
    if (parent < -1 || parent >= f->n_segments || count < 0 || (count == 0 && parent >= 0)) {
        return fail(ERR_INTERNAL, "forest: segment of row %lld has parent %d and %d tokens", (long long)row,
                    parent, count);
    }
    if ((int64_t)f->n_tokens + count > INT32_MAX) {
        return fail(ERR_DATA, "forest: more than 2^31 tokens in a batch; lower train.micro_tokens");
    }
    TRY(reserve_tokens(f, (int64_t)f->n_tokens + count));
    TRY(GROW_ARRAY(f->segments, f->cap_segments, (int64_t)f->n_segments + 1));
    struct segment *s = &f->segments[f->n_segments];
    int32_t position = 0;
    if (parent >= 0) {
        position = f->segments[parent].position + f->segments[parent].count;
    }
    *s = (struct segment){.parent = parent,
                          .first = f->n_tokens,
                          .count = count,
                          .position = position,
                          .row = row,
                          .condition = parent >= 0 ? f->segments[parent].condition : -1};
    for (int32_t i = 0; i < count; i++) {
        f->tokens[f->n_tokens + i] = tokens[i];
        f->positions[f->n_tokens + i] = s->position + i;
    }
    f->n_tokens += count;
    *segment = f->n_segments++;
    return OK;
}

enum status forest_score(struct forest *f, int32_t segment, int32_t *unscored) {
    return forest_score_trained(f, segment, NULL, unscored);
}

enum status forest_score_trained(struct forest *f, int32_t segment, const uint8_t *trained,
                                 int32_t *unscored) {
    if (segment < 0 || segment >= f->n_segments) {
        return fail(ERR_INTERNAL, "forest: no segment %d", segment);
    }
    const struct segment *s = &f->segments[segment];
    const struct segment *p = s->parent < 0 ? NULL : &f->segments[s->parent];
    TRY(reserve_readouts(f, (int64_t)f->n_readouts + s->count));
    for (int32_t i = 0; i < s->count; i++) {
        bool from_parent = i == 0;
        if (trained && !trained[i]) {
            continue;
        }
        if (from_parent && (!p || p->count == 0)) {
            if (unscored) {
                ++*unscored;
            }
            continue;
        }
        int32_t n = f->n_readouts++;
        f->readout_at[n] = from_parent ? p->first + p->count - 1 : s->first + i - 1;
        f->readout_target[n] = f->tokens[s->first + i];
        f->readout_segment[n] = segment;
    }
    return OK;
}

/* The last row of a segment's path whose token is not pad; the path's first row where there is none. */
static enum status value_row(const struct forest *f, int32_t segment, int32_t pad, int32_t *row) {
    int32_t first = -1;
    for (int32_t s = segment; s >= 0; s = f->segments[s].parent) {
        const struct segment *own = &f->segments[s];
        for (int32_t t = own->first + own->count - 1; t >= own->first; t--) {
            if (pad < 0 || f->tokens[t] != pad) {
                *row = t;
                return OK;
            }
            first = t;
        }
    }
    if (first < 0) {
        return fail(ERR_DATA, "row %lld: no token to read a value at", (long long)f->segments[segment].row);
    }
    *row = first;
    return OK;
}

enum status forest_value(struct forest *f, int32_t segment, int32_t pad) {
    int32_t row = 0;
    if (segment < 0 || segment >= f->n_segments) {
        return fail(ERR_INTERNAL, "forest: no segment %d", segment);
    }
    TRY(value_row(f, segment, pad, &row));
    TRY(reserve_readouts(f, (int64_t)f->n_readouts + 1));
    int32_t n = f->n_readouts++;
    f->readout_at[n] = row;
    f->readout_target[n] = -1;
    f->readout_segment[n] = segment;
    return OK;
}

static enum status check_tokens(const struct forest *f, int64_t vocabulary, int64_t max_positions) {
    for (int32_t i = 0; i < f->n_segments; i++) {
        const struct segment *s = &f->segments[i];
        for (int32_t t = s->first; t < s->first + s->count; t++) {
            if (f->tokens[t] < 0 || f->tokens[t] >= vocabulary) {
                return fail(ERR_DATA,
                            "row %lld: token id %d is outside the model's vocabulary of %lld; was the "
                            "data prepared with this model's tokenizer?",
                            (long long)s->row, f->tokens[t], (long long)vocabulary);
            }
        }
        if (max_positions > 0 && (int64_t)s->position + s->count > max_positions) {
            return fail(ERR_DATA,
                        "row %lld: %d tokens with its prompt, the model has positions for %lld; set "
                        "truncate.max_length",
                        (long long)s->row, s->position + s->count, (long long)max_positions);
        }
    }
    return OK;
}

/* Appends the ranges that rows of segment s see, the last `count` of them causal and ending at the span's
 * end: one whole range per ancestor from the root down, then the segment itself up to there. */
static enum status add_span(struct forest *f, int32_t segment, int32_t *n_ranges) {
    int32_t path[MAX_DEPTH];
    int depth = 0;
    for (int32_t s = f->segments[segment].parent; s >= 0; s = f->segments[s].parent) {
        if (depth == MAX_DEPTH) {
            return fail(ERR_INTERNAL, "forest: a tree deeper than %d", MAX_DEPTH);
        }
        path[depth++] = s;
    }
    const struct segment *own = &f->segments[segment];
    TRY(GROW_ARRAY(f->ranges, f->cap_ranges, (int64_t)*n_ranges + depth + 1));
    struct query_span *span = &f->spans[f->map.span_count++];
    *span = (struct query_span){own->first, own->count, *n_ranges, 0};
    while (depth > 0) {
        const struct segment *s = &f->segments[path[--depth]];
        if (s->count > 0) {
            f->ranges[(*n_ranges)++] = (struct key_range){s->first, s->count, false};
        }
    }
    int64_t own_pairs = 0;
    if (!own->blind) {
        f->ranges[(*n_ranges)++] = (struct key_range){own->first, own->count, true};
        own_pairs = (int64_t)own->count * (own->count + 1) / 2;
    }
    span->range_count = *n_ranges - span->range_first;
    f->attention_pairs += (int64_t)own->count * own->position + own_pairs;
    return OK;
}

uint64_t model_map_id(const struct attention_map *map) {
    uint64_t spans = hash_bytes(map->spans, (size_t)map->span_count * sizeof *map->spans, 1);
    uint64_t ranges = 2; /* field by field: key_range has padding */
    for (int32_t i = 0; i < map->range_count; i++) {
        const struct key_range *r = &map->ranges[i];
        const int32_t fields[] = {r->first, r->count, r->causal};
        ranges = hash_bytes(fields, sizeof fields, ranges);
    }
    return hash_join(spans, ranges);
}

enum status forest_finish(struct forest *f, int64_t vocabulary, int64_t max_positions) {
    int32_t n_ranges = 0;
    TRY(check_tokens(f, vocabulary, max_positions));
    TRY(GROW_ARRAY(f->spans, f->cap_spans, f->n_segments));
    f->map = (struct attention_map){0};
    f->attention_pairs = 0;
    for (int32_t i = 0; i < f->n_segments; i++) {
        if (f->segments[i].count > 0) {
            TRY(add_span(f, i, &n_ranges));
        }
    }
    f->map.range_count = n_ranges;
    f->map.spans = f->spans;
    f->map.ranges = f->ranges;
    f->map.id = model_map_id(&f->map);
    return OK;
}
