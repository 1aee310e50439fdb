/* Sums of arrays over ranks with a fixed order of additions.
 *
 * The tree: in round k = 0, 1, … a rank meets the partner at distance 2^k. Both hold the same range, each
 * gives away one half of it and adds what it receives to the other (recursive halving); after log2(p) rounds
 * a rank holds 1/p of the elements, summed over all. The rounds then run backwards and hand the sums out
 * (recursive doubling). An element's additions are ((r0 + r1) + (r2 + r3)) + … whoever does them, because
 * a + b = b + a in floating point: the order depends on the rank numbers alone, not on which rank kept
 * which half. Traffic is 2 n (p-1)/p, a ring's, and the largest messages go to the nearest ranks.
 * On shared memory this beats the library's allreduce a little at every size that was tried (README here).
 */
#include "mpi/sum.h"

#include <string.h>

#include "mpi/sum_internal.h"
#include "mpi/watchdog.h"
#include "util/mem.h"

bool is_power_of_two(int64_t n) {
    return n > 0 && (n & (n - 1)) == 0;
}

static void add(void *to, const void *from, int64_t n, int element_bytes) {
    if (element_bytes == SUM_F32) {
        float *restrict x = to;
        const float *restrict y = from;
        for (int64_t i = 0; i < n; i++) {
            x[i] += y[i];
        }
    } else {
        double *restrict x = to;
        const double *restrict y = from;
        for (int64_t i = 0; i < n; i++) {
            x[i] += y[i];
        }
    }
}

static int64_t chunk_elements(int element_bytes) {
    return SUM_SCRATCH_BYTES / 2 / element_bytes;
}

/* What a rank sends and receives in one exchange: element ranges of the array, and with whom. */
struct swap {
    struct range send, receive;
    int to, from;
    bool adds; /* received values are added; otherwise they replace */
};

/* One chunk under way. */
struct chunk {
    MPI_Request requests[2];
    int n;
    char *target, *arrived;
    int64_t count; /* elements that arrive */
};

static int64_t clamp(int64_t left, int64_t most) {
    return left < 0 ? 0 : left < most ? left : most;
}

/* Starts chunk k of an exchange. arrived: where values to be added land first. */
static enum status chunk_start(struct lane *l, char *values, int element_bytes, const struct swap *s,
                               int64_t at, struct chunk *out) {
    int64_t most = chunk_elements(element_bytes);
    int64_t sent = clamp(s->send.last - s->send.first - at, most);
    out->count = clamp(s->receive.last - s->receive.first - at, most);
    out->target = values + (s->receive.first + at) * element_bytes;
    out->n = 0;
    if (out->count > 0) {
        TRY(mpi_ok(MPI_Irecv(s->adds ? out->arrived : out->target, (int)(out->count * element_bytes),
                             MPI_BYTE, s->from, 0, l->comm, &out->requests[out->n++]),
                   "MPI_Irecv"));
    }
    if (sent > 0) {
        TRY(mpi_ok(MPI_Isend(values + (s->send.first + at) * element_bytes, (int)(sent * element_bytes),
                             MPI_BYTE, s->to, 0, l->comm, &out->requests[out->n++]),
                   "MPI_Isend"));
    }
    l->bytes += (double)sent * element_bytes;
    return OK;
}

/* One exchange, two chunks under way at a time: one is added while the other is on the wire. Chunks pair up
 * between ranks by their order. */
static enum status exchange(struct lane *l, char *values, int element_bytes, const struct swap *s,
                            void *scratch) {
    int64_t n_out = s->send.last - s->send.first, n_in = s->receive.last - s->receive.first;
    int64_t longest = n_out > n_in ? n_out : n_in, most = chunk_elements(element_bytes);
    /* An exchange of a single chunk needs no second place, and scratch may not have one. */
    struct chunk chunks[2] = {{.arrived = scratch},
                              {.arrived = longest > most ? (char *)scratch + most * element_bytes : scratch}};
    int64_t started = 0;
    for (int64_t at = 0, k = 0; at < longest; at += most, k++) {
        for (; started < longest && started <= at + most; started += most) {
            TRY(chunk_start(l, values, element_bytes, s, started, &chunks[started / most % 2]));
        }
        struct chunk *c = &chunks[k % 2];
        TRY(mpi_ok(MPI_Waitall(c->n, c->requests, MPI_STATUSES_IGNORE), "MPI_Waitall"));
        watchdog_moves(l->watchdog);
        if (s->adds) {
            add(c->target, c->arrived, c->count, element_bytes);
        }
    }
    return OK;
}

/* The ranges that a rank works on, round after round: held[0] is the whole unit, held[rounds] its share. */
struct ladder {
    struct range held[32];
    int rounds;
};

/* Shares of `width` elements; those at the end may be shorter or empty. */
static struct ladder climb(const struct lane *l, int64_t n, int64_t width) {
    struct ladder t = {.held = {{0, n}}};
    int64_t shares = l->size;
    for (int distance = 1; distance < l->size; distance *= 2) {
        struct range whole = t.held[t.rounds];
        shares /= 2;
        int64_t middle = whole.first + clamp(whole.last - whole.first, shares * width);
        bool takes_upper = (l->rank & distance) != 0;
        t.held[++t.rounds] =
            takes_upper ? (struct range){middle, whole.last} : (struct range){whole.first, middle};
    }
    return t;
}

/* What `whole` holds beside `part`, which is at one of its ends. An empty part is ambiguous: `upper` says at
 * which end. */
static struct range beside(struct range whole, struct range part, bool upper) {
    return upper ? (struct range){whole.first, part.first} : (struct range){part.last, whole.last};
}

enum status lane_reduce_shares(struct lane *l, void *values, int64_t n, int64_t width, int element_bytes,
                               void *scratch) {
    const struct ladder t = climb(l, n, width);
    for (int k = 0; k < t.rounds; k++) {
        int partner = l->rank ^ (1 << k);
        struct range mine = t.held[k + 1];
        struct range rest = beside(t.held[k], mine, (l->rank >> k & 1) != 0);
        struct swap s = {rest, mine, partner, partner, true};
        TRY(exchange(l, values, element_bytes, &s, scratch));
    }
    return OK;
}

enum status lane_gather_shares(struct lane *l, void *values, int64_t n, int64_t width, int element_bytes) {
    const struct ladder t = climb(l, n, width);
    for (int k = t.rounds - 1; k >= 0; k--) {
        int partner = l->rank ^ (1 << k);
        struct range mine = t.held[k + 1];
        struct range rest = beside(t.held[k], mine, (l->rank >> k & 1) != 0);
        struct swap s = {mine, rest, partner, partner, false};
        TRY(exchange(l, values, element_bytes, &s, values)); /* nothing is added: no scratch is touched */
    }
    return OK;
}

enum status lane_sum_tree(struct lane *l, void *values, int64_t n, int element_bytes, void *scratch) {
    lane_begin(l, "tree sum", n);
    int64_t width = (n + l->size - 1) / l->size;
    TRY(lane_reduce_shares(l, values, n, width, element_bytes, scratch));
    TRY(lane_gather_shares(l, values, n, width, element_bytes));
    lane_end(l);
    return OK;
}

int share_of(int rank, int size) {
    if (!is_power_of_two(size)) {
        return rank;
    }
    int share = 0;
    for (int bit = 1; bit < size; bit *= 2) {
        share = 2 * share + ((rank & bit) != 0);
    }
    return share;
}

static enum status check_size(const struct comm *c) {
    return is_power_of_two(c->size) ? OK
                                    : fail(ERR_USAGE,
                                           "%d ranks: sums with the same bits on any rank count need a power "
                                           "of two; start 1, 2, 4, "
                                           "8, … ranks or set train.deterministic to false",
                                           c->size);
}

enum status sum_tree(struct comm *c, void *values, int64_t n, int element_bytes, void *scratch) {
    TRY(check_size(c));
    return lane_sum_tree(&c->mpi->world, values, n, element_bytes, scratch);
}

/* Small arrays: partners swap everything and both add, so there is nothing to hand out. */
enum status sum_tree_f64(struct comm *c, double *values, int64_t n) {
    TRY(check_size(c));
    struct lane *l = &c->mpi->world;
    lane_begin(l, "small tree sum", n);
    enum { MOST = 512 };
    double theirs[MOST];
    for (int64_t first = 0; first < n; first += MOST) {
        int count = (int)(n - first < MOST ? n - first : MOST);
        for (int distance = 1; distance < l->size; distance *= 2) {
            int partner = l->rank ^ distance;
            TRY(mpi_ok(MPI_Sendrecv(values + first, count, MPI_DOUBLE, partner, 0, theirs, count, MPI_DOUBLE,
                                    partner, 0, l->comm, MPI_STATUS_IGNORE),
                       "MPI_Sendrecv"));
            add(values + first, theirs, count, SUM_F64);
            l->bytes += 8.0 * count;
        }
    }
    lane_end(l);
    return OK;
}
