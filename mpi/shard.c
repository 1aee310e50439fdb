#include "mpi/shard.h"

#include <string.h>

#include "mpi/sum_internal.h"
#include "util/mem.h"

/* Elements of a unit: fewer would make messages that are all latency; a small arena has a few units all the
 * same, so that every rank has work. A grain is a multiple of a cache line of floats. */
static const int64_t usual_unit = (int64_t)1 << 18;
static const int64_t least_units = 8;
static const int64_t alignment = 16;

static int64_t parts_of(int64_t n, int64_t part) {
    return (n + part - 1) / part;
}

int64_t shard_grain(int64_t elements) {
    int64_t grain = parts_of(parts_of(elements, SHARD_GRAINS), alignment) * alignment;
    return grain > 0 ? grain : alignment;
}

struct shard_map shard_map_over(const struct comm *c, int64_t elements) {
    int64_t grain = shard_grain(elements), unit = parts_of(elements, least_units);
    unit = unit < 1 ? 1 : unit < usual_unit ? unit : usual_unit;
    return (struct shard_map){.elements = elements,
                              .width = parts_of(parts_of(unit, c->size), grain) * grain,
                              .rank = c->rank,
                              .size = c->size};
}

struct shard_map shard_map_whole(int64_t elements) {
    return (struct shard_map){.elements = elements, .width = elements > 0 ? elements : 1, .size = 1};
}

int64_t shard_units(const struct shard_map *m) {
    return parts_of(m->elements, m->width * m->size);
}

struct range shard_range(const struct shard_map *m, int64_t unit, int rank) {
    int64_t first = (unit * m->size + share_of(rank, m->size)) * m->width;
    int64_t last = first + m->width;
    return (struct range){first < m->elements ? first : m->elements, last < m->elements ? last : m->elements};
}

int64_t shard_count(const struct shard_map *m, int rank) {
    int64_t units = shard_units(m);
    if (units == 0) {
        return 0;
    }
    struct range last = shard_range(m, units - 1, rank); /* only the last unit may be cut */
    return (units - 1) * m->width + last.last - last.first;
}

/* Collective. A unit whose shares stand in the order of the ranks. */
static enum status gather_unit(struct lane *l, const struct shard_map *m, int64_t unit, char *values,
                               int element_bytes) {
    int *counts;
    enum status st;
    TRY(NEW_ARRAY(counts, 2 * (int64_t)l->size));
    int64_t start = unit * m->size * m->width;
    for (int rank = 0; rank < l->size; rank++) {
        struct range r = shard_range(m, unit, rank);
        TRY_TO(done, to_int(r.last - r.first, "elements of a share", &counts[rank]));
        TRY_TO(done, to_int(r.first - start, "elements of a unit", &counts[l->size + rank]));
    }
    l->bytes += (double)counts[l->rank] * element_bytes * (l->size - 1);
    st = mpi_ok(MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, values + start * element_bytes, counts,
                               counts + l->size, element_bytes == SUM_F32 ? MPI_FLOAT : MPI_DOUBLE, l->comm),
                "MPI_Allgatherv");
done:
    mem_free(counts);
    return st;
}

enum status shard_gather(struct comm *c, const struct shard_map *m, void *values, int element_bytes) {
    struct lane *l = &c->mpi->world;
    int64_t unit = m->size * m->width;
    lane_begin(l, "gather of shares", m->elements);
    for (int64_t i = 0; i < shard_units(m); i++) {
        int64_t left = m->elements - i * unit;
        if (is_power_of_two(l->size)) {
            TRY(lane_gather_shares(l, (char *)values + i * unit * element_bytes, left < unit ? left : unit,
                                   m->width, element_bytes));
        } else {
            TRY(gather_unit(l, m, i, values, element_bytes));
        }
    }
    lane_end(l);
    return OK;
}

/* What one rank holds of a part of the arena: the overlaps of its shares with it, in order. */
struct overlaps {
    const struct shard_map *map;
    struct range part;
    int rank;
    int64_t unit, last_unit;
};

static struct overlaps overlaps_begin(const struct shard_map *m, struct range part, int rank) {
    int64_t unit = m->size * m->width;
    return (struct overlaps){m, part, rank, part.first / unit, parts_of(part.last, unit)};
}

static bool overlaps_next(struct overlaps *o, struct range *out) {
    while (o->unit < o->last_unit) {
        struct range share = shard_range(o->map, o->unit++, o->rank);
        out->first = share.first > o->part.first ? share.first : o->part.first;
        out->last = share.last < o->part.last ? share.last : o->part.last;
        if (out->first < out->last) {
            return true;
        }
    }
    return false;
}

/* Bytes that a share's holder and a part's holder have in common. */
static int64_t common(const struct shard_map *m, int holder, int part, int element_bytes) {
    struct overlaps o = overlaps_begin(m, range_part(m->elements, part, m->size), holder);
    int64_t sum = 0;
    for (struct range r; overlaps_next(&o, &r);) {
        sum += (r.last - r.first) * element_bytes;
    }
    return sum;
}

/* Between this rank's part and its pieces ordered by the rank that holds them. */
static void reorder(const struct shard_map *m, char *part, char *pieces, bool to_pieces, int element_bytes) {
    struct range mine = range_part(m->elements, m->rank, m->size);
    for (int rank = 0; rank < m->size; rank++) {
        struct overlaps o = overlaps_begin(m, mine, rank);
        for (struct range r; overlaps_next(&o, &r);) {
            char *at = part + (r.first - mine.first) * element_bytes;
            int64_t bytes = (r.last - r.first) * element_bytes;
            memcpy(to_pieces ? pieces : at, to_pieces ? at : pieces, (size_t)bytes);
            pieces += bytes;
        }
    }
}

/* Collective. Packed shares are already ordered by the part that they belong to; a part's pieces are not, and
 * pass through a buffer of its size. */
static enum status exchange_shares(struct comm *c, const struct shard_map *m, char *packed, char *part,
                                   bool to_part, int element_bytes) {
    struct range mine = range_part(m->elements, c->rank, c->size);
    int64_t *held = NULL; /* bytes of my shares in each rank's part; bytes of each rank's shares in mine */
    char *pieces = NULL;
    enum status st;
    TRY_TO(agreed, NEW_ARRAY(held, 2 * (int64_t)c->size));
    TRY_TO(agreed, NEW_ARRAY(pieces, (mine.last - mine.first) * element_bytes));
agreed:
    TRY_TO(done, comm_agree(c, st));
    int64_t *holds = held + c->size;
    for (int rank = 0; rank < c->size; rank++) {
        held[rank] = common(m, c->rank, rank, element_bytes);
        holds[rank] = common(m, rank, c->rank, element_bytes);
    }
    if (to_part) {
        TRY_TO(done, comm_exchange(c, packed, held, pieces, holds));
        reorder(m, part, pieces, false, element_bytes);
    } else {
        reorder(m, part, pieces, true, element_bytes);
        TRY_TO(done, comm_exchange(c, pieces, holds, packed, held));
    }
done:
    mem_free(held);
    mem_free(pieces);
    return st;
}

enum status shard_to_part(struct comm *c, const struct shard_map *m, const void *packed, void *part,
                          int element_bytes) {
    return exchange_shares(c, m, (char *)(uintptr_t)packed, part, true, element_bytes);
}

enum status shard_from_part(struct comm *c, const struct shard_map *m, const void *part, void *packed,
                            int element_bytes) {
    return exchange_shares(c, m, packed, (char *)(uintptr_t)part, false, element_bytes);
}
