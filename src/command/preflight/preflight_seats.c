/* Ranks, hosts, cores, threads, devices: who sits where, and whether they get in each other's way. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "command/preflight/preflight.h"
#include "mpi/threads.h"
#include "util/clock.h"
#include "util/mem.h"

enum { COPY_BYTES = 32 << 20, COPIES = 3 };

/* All ranks copy at once, as they do in a step: reads and writes count once. Collective. */
static enum status measure_copy(struct preflight *p, double *bytes_per_s) {
    char *from = mem_aligned(COPY_BYTES, 1), *to = mem_aligned(COPY_BYTES, 1);
    double best = 0;
    enum status st = comm_agree(p->comm, from && to ? OK : ERR_SYSTEM);
    if (st == OK) {
        memset(from, 1, COPY_BYTES);
        memset(to, 2, COPY_BYTES);
    }
    for (int i = 0; i < COPIES && st == OK; i++) {
        st = comm_barrier(p->comm);
        double began = clock_seconds();
        memcpy(to, from, COPY_BYTES);
        double rate = COPY_BYTES / (clock_seconds() - began);
        best = rate > best && to[COPY_BYTES - 1 - i] == 1 ? rate : best;
    }
    mem_free(from);
    mem_free(to);
    mem_trim();
    *bytes_per_s = best;
    return st;
}

/* Local. */
static void take_seat(const struct preflight *p, struct seat *s) {
    const struct session *session = &p->trainer.session;
    memcpy(s->host, p->comm->host, sizeof s->host);
    s->node_rank = p->comm->node_rank;
    s->node_size = p->comm->node_size;
    s->threads = threads_of_rank(p->comm, session->settings->threads);
    if (session->backend) {
        const struct backend_caps *caps = &session->backend->caps;
        bool apart = strcmp(caps->name, "cuda") == 0;
        snprintf(s->device, sizeof s->device, "%.20s%s%.40s", caps->name, apart ? ": " : "",
                 apart ? caps->description : "");
        s->device_free = apart ? caps->memory_free : 0;
    }
    machine_cores(&s->cores);
    machine_memory(&s->memory);
    machine_link(&s->link);
    s->name_s = s->node_rank == 0 ? machine_find_name() : 0;
}

static bool first_of_node(const struct seat *s) {
    return s->node_rank == 0;
}

static void say_rank(struct preflight *p, int rank) {
    const struct seat *s = &p->seats[rank];
    struct text cores = {0};
    if (machine_cores_print(&s->cores, &cores) == OK) {
        preflight_say(p, FINDING_OK, "rank", "%d on %s, cores %s, %d threads, %s", rank, s->host,
                      cores.len ? cores.data : "unknown", s->threads, s->device);
    }
    status_clear();
    text_free(&cores);
}

/* Ranks of one node: their cores together, and whether bound threads must share. */
struct crowd {
    struct machine_cores cores; /* of all its ranks */
    int ranks, threads, shared; /* shared: cores that more than one rank may use */
    bool bound;                 /* some rank may use fewer cores than the others together */
};

static void join(struct crowd *c, const struct seat *s) {
    c->ranks++;
    c->threads += s->threads;
    for (int i = 0; i < MACHINE_CORES; i++) {
        uint8_t bit = (uint8_t)(1 << i % 8);
        if (!(s->cores.mask[i / 8] & bit)) {
            continue;
        }
        if (c->cores.mask[i / 8] & bit) {
            c->shared++;
        } else {
            c->cores.count++;
        }
        c->cores.mask[i / 8] |= bit;
    }
}

static void say_node(struct preflight *p, const struct seat *first) {
    struct crowd c = {0};
    for (int r = 0; r < p->comm->size; r++) {
        if (strcmp(p->seats[r].host, first->host) == 0) {
            join(&c, &p->seats[r]);
            c.bound |= p->seats[r].cores.count != first->cores.count;
        }
    }
    c.bound |= first->cores.count < c.cores.count;
    if (c.cores.count > 0 && c.threads > c.cores.count) {
        bool crowded = c.ranks > c.cores.count;
        preflight_say(p, FINDING_WARN, "cores", "%s: %d ranks with %d threads together on %d cores; %s%d%s",
                      first->host, c.ranks, c.threads, c.cores.count,
                      crowded ? "take at most " : "set threads=",
                      crowded ? c.cores.count : c.cores.count / c.ranks, crowded ? " ranks" : "");
    } else if (c.bound && c.shared > 0) {
        preflight_say(p, FINDING_WARN, "cores", "%s: ranks are bound, but %d cores belong to more than one",
                      first->host, c.shared);
    } else {
        preflight_say(p, FINDING_OK, "cores", "%s: %d ranks with %d threads together on %d cores",
                      first->host, c.ranks, c.threads, c.cores.count);
    }
}

/* Open MPI asks for the name at each start. */
static void say_name(struct preflight *p, const struct seat *s) {
    static const double slow_s = 1;
    if (s->name_s < 0 || s->name_s > slow_s) {
        preflight_say(p, FINDING_WARN, "host",
                      "%s: its own name %s (%.1f s): every mpirun waits for that, some 10 s; add the line "
                      "\"127.0.1.1 %s\" to its /etc/hosts",
                      s->host, s->name_s < 0 ? "does not resolve" : "resolves slowly", fabs(s->name_s),
                      s->host);
    }
}

static void say_threads(struct preflight *p) {
    int crowded = 0, rank = -1, uneven = 0;
    for (int r = 0; r < p->comm->size; r++) {
        const struct seat *s = &p->seats[r];
        bool more = s->cores.count > 0 && s->threads > s->cores.count;
        crowded += more;
        rank = more && rank < 0 ? r : rank;
        uneven += s->threads != p->seats[0].threads || s->node_size != p->seats[0].node_size;
    }
    if (crowded > 0) {
        preflight_say(p, FINDING_WARN, "threads",
                      "%d ranks have more threads than cores (rank %d: %d on %d); bind them to more (mpirun "
                      "--map-by slot:PE=n, srun -c n) or set threads",
                      crowded, rank, p->seats[rank].threads, p->seats[rank].cores.count);
    }
    if (uneven > 0) {
        preflight_say(p, FINDING_WARN, "threads",
                      "%d ranks have other threads or neighbors than rank 0: the slowest sets the pace",
                      uneven);
    }
}

static void say_devices(struct preflight *p) {
    if (!p->has_backend) {
        return;
    }
    int kinds = 0;
    for (int r = 1; r < p->comm->size; r++) {
        kinds += strcmp(p->seats[r].device, p->seats[0].device) != 0;
    }
    const struct backend_caps *caps = &p->trainer.session.backend->caps;
    preflight_say(p, kinds ? FINDING_WARN : FINDING_OK, "device", "%s: %s%s", caps->name, caps->description,
                  kinds ? "; some ranks have others" : ", on every rank");
}

enum status preflight_seats(struct preflight *p) {
    struct seat mine = {0};
    int64_t n;
    take_seat(p, &mine);
    TRY(measure_copy(p, &mine.copy_bytes_per_s));
    TRY(comm_gather_all(p->comm, &mine, 1, sizeof mine, &p->seats, &n));
    for (int r = 0; r < p->comm->size; r++) {
        p->nodes += first_of_node(&p->seats[r]);
    }
    preflight_say(p, FINDING_OK, "ranks", "%d on %d host%s; %s", p->comm->size, p->nodes,
                  p->nodes > 1 ? "s" : "", comm_library());
    for (int r = 0; r < p->comm->size; r++) {
        say_rank(p, r);
    }
    for (int r = 0; r < p->comm->size; r++) {
        if (first_of_node(&p->seats[r])) {
            say_node(p, &p->seats[r]);
            say_name(p, &p->seats[r]);
        }
    }
    say_threads(p);
    say_devices(p);
    return OK;
}
