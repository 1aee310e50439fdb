/* The world: start and end of MPI, the plain collectives. Counts are int64 and go out in pieces, because
 * MPI 3 counts in int. */
#include "mpi/comm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mpi/comm_handle.h"
#include "mpi/comm_internal.h"
#include "mpi/launch.h"
#include "mpi/watchdog.h"
#include "util/fault.h"
#include "util/mem.h"
#if defined(OPEN_MPI)
#include <mpi-ext.h> /* MPIX_Query_cuda_support() */
#endif

/* Well under INT_MAX bytes, large enough that the number of calls does not matter, and small enough that a
 * slow network moves one long before the watchdog takes it for lost. */
static const int64_t largest_piece_bytes = (int64_t)1 << 27;

enum status mpi_ok(int rc, const char *what) {
    if (rc == MPI_SUCCESS && !fault_hits(FAULT_COLLECTIVE)) {
        return OK;
    }
    char text[MPI_MAX_ERROR_STRING] = "fails";
    int len = 0;
    int running = 0;
    if (rc != MPI_SUCCESS && MPI_Initialized(&running) == MPI_SUCCESS && running) {
        MPI_Error_string(rc, text, &len);
    }
    fail(ERR_LOST, "rank %d: MPI: %s: %s", launch_rank(), what, text);
    comm_abort(NULL, ERR_LOST); /* the others wait in this collective, or are already in the next one */
    return ERR_LOST;
}

enum status lane_open(struct lane *l, MPI_Comm parent, const char *name) {
    *l = (struct lane){
        .comm = MPI_COMM_NULL, .check = MPI_COMM_NULL, .name = name, .piece_bytes = largest_piece_bytes};
    TRY(mpi_ok(MPI_Comm_dup(parent, &l->comm), "MPI_Comm_dup"));
    TRY(mpi_ok(MPI_Comm_set_errhandler(l->comm, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler"));
    TRY(mpi_ok(MPI_Comm_rank(l->comm, &l->rank), "MPI_Comm_rank"));
    TRY(mpi_ok(MPI_Comm_size(l->comm, &l->size), "MPI_Comm_size"));
    const char *wanted = getenv("COLLIMATE_CHECK");
    if (wanted && strstr(wanted, "collectives")) {
        TRY(mpi_ok(MPI_Comm_dup(parent, &l->check), "MPI_Comm_dup"));
    }
    return OK;
}

void lane_close(struct lane *l) {
    if (l->comm != MPI_COMM_NULL) {
        MPI_Comm_free(&l->comm);
    }
    if (l->check != MPI_COMM_NULL) {
        MPI_Comm_free(&l->check);
    }
}

void lane_begin(struct lane *l, const char *kind, int64_t count) {
    watchdog_wait(l->watchdog, kind);
    lane_check(l, kind, count);
    lane_times_begin(l, kind);
}

void lane_end(struct lane *l) {
    lane_times_end(l);
    watchdog_go(l->watchdog);
}

int64_t lane_piece(const struct lane *l, int element_bytes) {
    int64_t n = l->piece_bytes / element_bytes;
    return n > 0 ? n : 1;
}

enum status lane_allreduce(struct lane *l, void *values, int64_t n, MPI_Datatype type, MPI_Op op) {
    int element_bytes;
    TRY(mpi_ok(MPI_Type_size(type, &element_bytes), "MPI_Type_size"));
    lane_begin(l, "allreduce", n);
    int64_t piece = lane_piece(l, element_bytes);
    for (int64_t first = 0; first < n; first += piece) {
        int count = (int)(n - first < piece ? n - first : piece);
        char *at = (char *)values + first * element_bytes;
        TRY(mpi_ok(MPI_Allreduce(MPI_IN_PLACE, at, count, type, op, l->comm), "MPI_Allreduce"));
        watchdog_moves(l->watchdog);
    }
    l->bytes += 2.0 * (double)n * element_bytes * (l->size - 1) / l->size;
    lane_end(l);
    return OK;
}

/* The flag lives in memory that the ranks of a host share, so that comm_abort needs nobody's help. */
static enum status open_abort_flag(struct comm *c) {
    struct comm_private *p = c->mpi;
    MPI_Aint bytes = c->node_rank == 0 ? (MPI_Aint)sizeof(int) : 0;
    int *mine;
    TRY(mpi_ok(MPI_Win_allocate_shared(bytes, sizeof(int), MPI_INFO_NULL, p->node, &mine, &p->abort_window),
               "MPI_Win_allocate_shared"));
    int unit;
    TRY(mpi_ok(MPI_Win_shared_query(p->abort_window, 0, &bytes, &unit, &p->abort_flag),
               "MPI_Win_shared_query"));
    if (c->node_rank == 0) {
        __atomic_store_n(p->abort_flag, 0, __ATOMIC_SEQ_CST);
    }
    return mpi_ok(MPI_Barrier(p->node), "MPI_Barrier");
}

static enum status open_world(struct comm *c) {
    struct comm_private *p = c->mpi;
    TRY(lane_open(&p->world, MPI_COMM_WORLD, "world"));
    c->rank = p->world.rank;
    c->size = p->world.size;
    TRY(mpi_ok(MPI_Comm_dup(MPI_COMM_WORLD, &p->file), "MPI_Comm_dup"));
    TRY(mpi_ok(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, c->rank, MPI_INFO_NULL, &p->node),
               "MPI_Comm_split_type"));
    TRY(mpi_ok(MPI_Comm_rank(p->node, &c->node_rank), "MPI_Comm_rank"));
    TRY(mpi_ok(MPI_Comm_size(p->node, &c->node_size), "MPI_Comm_size"));
    char name[MPI_MAX_PROCESSOR_NAME];
    int len;
    TRY(mpi_ok(MPI_Get_processor_name(name, &len), "MPI_Get_processor_name"));
    snprintf(c->host, sizeof c->host, "%.63s", name);
    process_name(c->owner);
    TRY(mpi_ok(MPI_Bcast(c->owner, sizeof c->owner, MPI_CHAR, 0, p->world.comm), "MPI_Bcast"));
    return c->node_size > 1 ? open_abort_flag(c) : OK;
}

enum status comm_start(int *argc, char ***argv, struct comm **out) {
    struct comm *c;
    TRY(NEW_ARRAY(c, 1));
    if (NEW_ARRAY(c->mpi, 1) != OK) {
        mem_free(c);
        return ERR_SYSTEM;
    }
    struct comm_private *p = c->mpi;
    p->world = (struct lane){.comm = MPI_COMM_NULL, .check = MPI_COMM_NULL};
    p->file = p->node = MPI_COMM_NULL;
    p->abort_window = MPI_WIN_NULL;
    int running = 0;
    enum status st = mpi_ok(MPI_Initialized(&running), "MPI_Initialized");
    if (st == OK && !running) {
        p->started_here = true;
        launch_prepare();
        st = mpi_ok(MPI_Init_thread(argc, argv, MPI_THREAD_MULTIPLE, &p->thread_level), "MPI_Init_thread");
    } else if (st == OK) {
        st = mpi_ok(MPI_Query_thread(&p->thread_level), "MPI_Query_thread");
    }
    if (st == OK) {
        st = open_world(c);
    }
    if (st != OK) {
        mem_free(p);
        mem_free(c);
        return st;
    }
    *out = c;
    return OK;
}

void comm_finish(struct comm *c) {
    if (!c) {
        return;
    }
    struct comm_private *p = c->mpi;
    lane_close(&p->world);
    if (p->abort_window != MPI_WIN_NULL) {
        MPI_Win_free(&p->abort_window);
    }
    if (p->file != MPI_COMM_NULL) {
        MPI_Comm_free(&p->file);
    }
    if (p->node != MPI_COMM_NULL) {
        MPI_Comm_free(&p->node);
    }
    if (p->started_here) {
        MPI_Finalize();
    }
    mem_free(p->times);
    mem_free(p);
    mem_free(c);
}

void comm_abort(struct comm *c, enum status code) {
    int *flag = c ? c->mpi->abort_flag : NULL;
    bool first = !flag || __atomic_exchange_n(flag, 1, __ATOMIC_SEQ_CST) == 0;
    const char *text = status_code() != OK ? status_message()->text : status_name(code);
    if (first && c && c->size > 1) {
        fprintf(stderr, "collimate: rank %d of %d on %s: %s\n", c->rank, c->size, c->host, text);
    } else if (first) {
        fprintf(stderr, "collimate: %s\n", text);
    }
    fflush(NULL);
    if (!c || c->size == 1) {
        _exit(code); /* MPI_Abort would add lines of its own, and there is nobody else to end */
    }
    if (!first) {
        sleep(1); /* so that the rank that speaks is not ended before it has spoken */
    }
    MPI_Abort(MPI_COMM_WORLD, code);
    _exit(code);
}

const char *comm_library(void) {
    static char line[128]; /* written once, with the same text whoever comes */
    char text[MPI_MAX_LIBRARY_VERSION_STRING];
    int len = 0;
    if (MPI_Get_library_version(text, &len) != MPI_SUCCESS) {
        return "MPI (unknown library)";
    }
    text[strcspn(text, ",\n")] = '\0';
#ifdef OMPI_MAJOR_VERSION
    snprintf(line, sizeof line, "%.60s (headers: Open MPI %d.%d.%d, MPI %d.%d)", text, OMPI_MAJOR_VERSION,
             OMPI_MINOR_VERSION, OMPI_RELEASE_VERSION, MPI_VERSION, MPI_SUBVERSION);
#else
    snprintf(line, sizeof line, "%.60s (headers: MPI %d.%d)", text, MPI_VERSION, MPI_SUBVERSION);
#endif
    return line;
}

bool comm_takes_device_memory(void) {
#if defined(MPIX_CUDA_AWARE_SUPPORT)
    return MPIX_Query_cuda_support() == 1;
#else
    return false;
#endif
}

MPI_Comm comm_file_handle(const struct comm *c) {
    return c->mpi->file;
}

enum status comm_barrier(struct comm *c) {
    struct lane *l = &c->mpi->world;
    lane_begin(l, "barrier", 0);
    enum status st = mpi_ok(MPI_Barrier(l->comm), "MPI_Barrier");
    lane_end(l);
    return st;
}

enum status comm_sum_f64(struct comm *c, double *values, int64_t n) {
    return lane_allreduce(&c->mpi->world, values, n, MPI_DOUBLE, MPI_SUM);
}

enum status comm_sum_i64(struct comm *c, int64_t *values, int64_t n) {
    return lane_allreduce(&c->mpi->world, values, n, MPI_INT64_T, MPI_SUM);
}

enum status comm_sum_u64(struct comm *c, uint64_t *values, int64_t n) {
    return lane_allreduce(&c->mpi->world, values, n, MPI_UINT64_T, MPI_SUM);
}

enum status comm_max_f64(struct comm *c, double *values, int64_t n) {
    return lane_allreduce(&c->mpi->world, values, n, MPI_DOUBLE, MPI_MAX);
}

enum status comm_max_i64(struct comm *c, int64_t *values, int64_t n) {
    return lane_allreduce(&c->mpi->world, values, n, MPI_INT64_T, MPI_MAX);
}

enum status comm_min_i64(struct comm *c, int64_t *values, int64_t n) {
    return lane_allreduce(&c->mpi->world, values, n, MPI_INT64_T, MPI_MIN);
}

enum status comm_broadcast(struct comm *c, int root, void *data, int64_t bytes) {
    struct lane *l = &c->mpi->world;
    lane_begin(l, "broadcast", bytes);
    int64_t piece = lane_piece(l, 1);
    for (int64_t first = 0; first < bytes; first += piece) {
        int count = (int)(bytes - first < piece ? bytes - first : piece);
        TRY(mpi_ok(MPI_Bcast((char *)data + first, count, MPI_BYTE, root, l->comm), "MPI_Bcast"));
        watchdog_moves(l->watchdog);
    }
    l->bytes += (double)bytes * (l->size - 1) / l->size;
    lane_end(l);
    return OK;
}

enum status comm_scan_i64(struct comm *c, int64_t value, int64_t *before, int64_t *total) {
    struct lane *l = &c->mpi->world;
    lane_begin(l, "scan", 1);
    int64_t lower = 0, sum = value;
    TRY(mpi_ok(MPI_Exscan(&value, &lower, 1, MPI_INT64_T, MPI_SUM, l->comm), "MPI_Exscan"));
    TRY(mpi_ok(MPI_Allreduce(MPI_IN_PLACE, &sum, 1, MPI_INT64_T, MPI_SUM, l->comm), "MPI_Allreduce"));
    lane_end(l);
    *before = c->rank == 0 ? 0 : lower; /* MPI leaves rank 0's undefined */
    *total = sum;
    return OK;
}

struct range range_part(int64_t n, int64_t index, int64_t count) {
    int64_t share = n / count, extra = n % count;
    int64_t first = index * share + (index < extra ? index : extra);
    return (struct range){first, first + share + (index < extra ? 1 : 0)};
}

struct range range_block(struct range r, int64_t first, int64_t most) {
    return (struct range){first, r.last - first < most ? r.last : first + most};
}
