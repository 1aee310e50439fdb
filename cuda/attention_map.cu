/* An attention map's way to the device, once per id: spans, links (a span's range with its first position),
 * query tiles, and for every key tile the links that touch it. */
#include <new>

#include "cuda/attention.cuh"

/* Sizes of a map's parts, and where each begins in one piece of memory. */
struct map_layout {
    int64_t links, tiles, entries, key_tiles;
    int64_t links_at, tiles_at, first_at, entries_at, bytes;
};

static int64_t range_tiles(const struct key_range *r) {
    return r->count > 0 ? (r->first + r->count - 1) / ATTENTION_TILE - r->first / ATTENTION_TILE + 1 : 0;
}

static map_layout layout_of(const struct attention_map *map, int64_t keys) {
    map_layout l = {};
    for (int32_t s = 0; s < map->span_count; s++) {
        const struct query_span *span = &map->spans[s];
        l.links += span->range_count;
        l.tiles += (span->count + ATTENTION_TILE - 1) / ATTENTION_TILE;
        for (int32_t r = 0; r < span->range_count; r++) {
            l.entries += range_tiles(&map->ranges[span->range_first + r]);
        }
    }
    l.key_tiles = (keys + ATTENTION_TILE - 1) / ATTENTION_TILE;
    l.links_at = map->span_count * static_cast<int64_t>(sizeof(device_span));
    l.tiles_at = l.links_at + l.links * static_cast<int64_t>(sizeof(device_link));
    l.first_at = l.tiles_at + l.tiles * static_cast<int64_t>(sizeof(query_tile));
    l.entries_at = l.first_at + (l.key_tiles + 1) * static_cast<int64_t>(sizeof(int32_t));
    l.bytes = l.entries_at + l.entries * static_cast<int64_t>(sizeof(int32_t));
    return l;
}

static void fill_spans(const struct attention_map *map, device_span *spans, device_link *links,
                       query_tile *tiles) {
    int32_t link = 0;
    int32_t tile = 0;
    for (int32_t s = 0; s < map->span_count; s++) {
        const struct query_span *from = &map->spans[s];
        const struct key_range *ranges = map->ranges + from->range_first;
        device_span *to = &spans[s];
        *to = device_span{0,    from->first,       from->count,
                          link, from->range_count, ranges[from->range_count - 1].causal};
        for (int32_t r = 0; r < from->range_count; r++) {
            links[link++] = device_link{to->total, ranges[r].first, ranges[r].count, s, ranges[r].causal};
            to->total += ranges[r].count;
        }
        for (int32_t i = 0; i < from->count; i += ATTENTION_TILE) {
            tiles[tile++] =
                query_tile{s, i, from->count - i < ATTENTION_TILE ? from->count - i : ATTENTION_TILE};
        }
    }
}

/* Links by key tile, each tile's in ascending order: count, sum up, place (first moves on, then back). */
static void fill_entries(const map_layout *l, const device_link *links, int32_t *first, int32_t *entries) {
    for (int64_t t = 0; t <= l->key_tiles; t++) {
        first[t] = 0;
    }
    for (int64_t k = 0; k < l->links; k++) {
        for (int64_t t = links[k].first / ATTENTION_TILE;
             links[k].count > 0 && t * ATTENTION_TILE < links[k].first + links[k].count; t++) {
            first[t + 1]++;
        }
    }
    for (int64_t t = 0; t < l->key_tiles; t++) {
        first[t + 1] += first[t];
    }
    for (int64_t k = 0; k < l->links; k++) {
        for (int64_t t = links[k].first / ATTENTION_TILE;
             links[k].count > 0 && t * ATTENTION_TILE < links[k].first + links[k].count; t++) {
            entries[first[t]++] = static_cast<int32_t>(k);
        }
    }
    for (int64_t t = l->key_tiles; t > 0; t--) {
        first[t] = first[t - 1];
    }
    first[0] = 0;
}

enum status cuda_use_map(struct backend *b, const struct attention_map *map, int64_t keys) {
    struct cuda *c = cuda_of(b);
    if (c->has_map && c->map_id == map->id && c->map_keys == keys) {
        return OK;
    }
    map_layout l = layout_of(map, keys);
    if (l.entries > INT32_MAX || l.links > INT32_MAX || l.tiles > INT32_MAX) {
        return cuda_fail(c, ERR_SYSTEM,
                         "cuda: an attention map with %lld ranges over %lld key tiles is too large",
                         static_cast<long long>(l.links), static_cast<long long>(l.key_tiles));
    }
    char *host = new (std::nothrow) char[static_cast<size_t>(l.bytes)];
    void *device = nullptr;
    if (!host) {
        return cuda_fail(c, ERR_SYSTEM, "cuda: no host memory for an attention map");
    }
    device_link *links = reinterpret_cast<device_link *>(host + l.links_at);
    fill_spans(map, reinterpret_cast<device_span *>(host), links,
               reinterpret_cast<query_tile *>(host + l.tiles_at));
    fill_entries(&l, links, reinterpret_cast<int32_t *>(host + l.first_at),
                 reinterpret_cast<int32_t *>(host + l.entries_at));
    c->has_map = false;
    enum status st = cuda_scratch(c, SCRATCH_MAP, l.bytes, &device);
    if (st == OK) {
        st = cuda_write(b, device, host, l.bytes);
    }
    delete[] host;
    TRY(st);
    const char *at = static_cast<const char *>(device);
    c->map = device_map{reinterpret_cast<const device_span *>(at),
                        reinterpret_cast<const device_link *>(at + l.links_at),
                        reinterpret_cast<const query_tile *>(at + l.tiles_at),
                        reinterpret_cast<const int32_t *>(at + l.first_at),
                        reinterpret_cast<const int32_t *>(at + l.entries_at),
                        static_cast<int32_t>(l.tiles),
                        static_cast<int32_t>(l.key_tiles)};
    c->map_id = map->id;
    c->map_keys = keys;
    c->has_map = true;
    return OK;
}
