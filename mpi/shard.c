#include "mpi/shard.h"

#include <string.h>

#include "mpi/sum_internal.h"
#include "mpi/watchdog.h"
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
        watchdog_moves(l->watchdog);
    }
    lane_end(l);
    return OK;
}

struct shard_overlaps shard_overlaps(const struct shard_map *m, struct range range, int rank) {
    int64_t unit = m->size * m->width;
    return (struct shard_overlaps){m, range, rank, range.first / unit, parts_of(range.last, unit)};
}

bool shard_overlaps_next(struct shard_overlaps *o, struct range *out) {
    while (o->unit < o->last_unit) {
        struct range share = shard_range(o->map, o->unit++, o->rank);
        out->first = share.first > o->range.first ? share.first : o->range.first;
        out->last = share.last < o->range.last ? share.last : o->range.last;
        if (out->first < out->last) {
            return true;
        }
    }
    return false;
}

int64_t shard_overlap_count(const struct shard_map *m, struct range range, int rank) {
    struct shard_overlaps o = shard_overlaps(m, range, rank);
    int64_t count = 0;
    for (struct range r; shard_overlaps_next(&o, &r);) {
        count += r.last - r.first;
    }
    return count;
}

int64_t shard_packed(const struct shard_map *m, int64_t at) {
    return at / (m->size * m->width) * m->width + at % m->width;
}
