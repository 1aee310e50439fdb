/* Every kind of collective that training uses, at growing sizes: right on every rank, and how fast beside
 * what carries it (the slowest host's link, or a copy in memory on one host). */
#include <stdio.h>
#include <string.h>

#include "command/preflight/preflight.h"
#include "mpi/collectives.h"
#include "util/clock.h"

enum { REPEATS = 3, WARM_UP = 1, FACTOR = 8, LARGEST = 16 << 20 };

/* No larger sizes of a kind after one that took this long, or after all this time. */
static const double long_s = 0.1, budget_s = 2;
/* Below this share of the carrier, something is amiss. */
static const double poor_share = 0.05;

/* What bytes go through at best. */
struct carrier {
    double bytes_per_s; /* 0: unknown */
    char name[128];
};

static struct carrier find_carrier(const struct preflight *p) {
    struct carrier c = {0};
    const struct seat *slowest = &p->seats[0];
    char size[32];
    for (int r = 0; r < p->comm->size; r++) {
        const struct seat *s = &p->seats[r];
        bool slower = p->nodes > 1 ? s->link.bytes_per_s < slowest->link.bytes_per_s
                                   : s->copy_bytes_per_s < slowest->copy_bytes_per_s;
        slowest = slower ? s : slowest;
    }
    if (p->nodes == 1) {
        c.bytes_per_s = slowest->copy_bytes_per_s;
        snprintf(c.name, sizeof c.name, "a memcpy of %s/s on every rank at once",
                 needs_size(c.bytes_per_s, size));
    } else {
        c.bytes_per_s = slowest->link.bytes_per_s;
        bool said = c.bytes_per_s > 0;
        snprintf(c.name, sizeof c.name,
                 said ? "the link (%.31s on %.40s, %s/s)" : "a link whose rate is not known",
                 slowest->link.name, slowest->host, said ? needs_size(c.bytes_per_s, size) : "");
    }
    return c;
}

static void say_result(struct preflight *p, int kind, int64_t bytes, const struct collective_result *r,
                       const struct carrier *carrier) {
    char size[32], rate[32], beside[192] = "";
    double share = carrier->bytes_per_s > 0 ? r->bus / carrier->bytes_per_s : 1;
    if (carrier->bytes_per_s > 0) {
        snprintf(beside, sizeof beside, ", %.0f %% of %s", 100 * share, carrier->name);
    } else {
        snprintf(beside, sizeof beside, ", of %s", carrier->name);
    }
    bool is_large = bytes >= 1 << 20;
    preflight_say(p, is_large && share < poor_share ? FINDING_WARN : FINDING_OK, "collectives",
                  "%s %s: right up to %s, which takes %.3g ms: %s/s on each link%s", collective_name(kind),
                  collective_type(kind), needs_size((double)bytes, size), r->times.median * 1e3,
                  needs_size(r->bus, rate), beside);
}

/* Collective. One line for a kind. */
static enum status check_kind(struct preflight *p, struct collectives *b, int kind,
                              const struct carrier *carrier) {
    struct collective_result result = {0};
    int64_t last = 0;
    double began = clock_seconds();
    for (int64_t bytes = collective_smallest(kind); bytes <= LARGEST; bytes *= FACTOR) {
        TRY(collective_measure(b, kind, bytes, &result));
        last = bytes;
        if (result.wrong > 0) {
            preflight_refuse(p, ERR_SYSTEM, "collectives",
                             "%s %s of %lld bytes: %lld elements are wrong; the MPI library or the network "
                             "does not work",
                             collective_name(kind), collective_type(kind), (long long)bytes,
                             (long long)result.wrong);
            return OK;
        }
        double spent = clock_seconds() - began;
        TRY(comm_max_f64(p->comm, &spent, 1));
        if (result.times.median > long_s || spent > budget_s) { /* the same on all ranks */
            break;
        }
    }
    say_result(p, kind, last, &result, carrier);
    return OK;
}

enum status preflight_collectives(struct preflight *p) {
    struct collectives b = {.comm = p->comm,
                            .repeats = REPEATS,
                            .warm_up = WARM_UP,
                            .largest = LARGEST,
                            .bucket_bytes = p->run->settings->train.bucket_bytes};
    if (p->comm->size == 1) {
        preflight_say(p, FINDING_OK, "collectives", "one rank: nothing to say to anybody");
        return OK;
    }
    const struct carrier carrier = find_carrier(p);
    enum status st = collectives_open(&b);
    for (int kind = 0; kind < collectives_count() && st == OK; kind++) {
        if (collective_works(kind, p->comm->size)) {
            st = check_kind(p, &b, kind, &carrier);
        }
    }
    collectives_close(&b);
    return st;
}
