/* A stand-in for libnccl.so.2 on one host without devices: the calls that cuda/group.cu makes, with sums in
 * rank order through a shared memory segment whose name is the unique id. A sum is complete when the call
 * returns, so it belongs with streams that work at once (EMULATED_SEED=0). STAND_IN_NCCL=deaf: making a group
 * fails.
 */
#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SUCCESS = 0, SYSTEM_ERROR = 2, INVALID_ARGUMENT = 4, FLOAT32 = 7, FLOAT64 = 8, SUM = 0 };
enum { PIECE_BYTES = 1 << 20, MOST_RANKS = 16 };

struct unique_id {
    char internal[128];
};
struct shared {
    atomic_int arrived, rounds;
    char values[MOST_RANKS][PIECE_BYTES];
};
struct group {
    struct shared *shared;
    int rank, size;
};

static void meet(struct group *g) {
    int round = atomic_load(&g->shared->rounds);
    if (atomic_fetch_add(&g->shared->arrived, 1) == g->size - 1) {
        atomic_store(&g->shared->arrived, 0);
        atomic_fetch_add(&g->shared->rounds, 1);
        return;
    }
    while (atomic_load(&g->shared->rounds) == round) {
        sched_yield();
    }
}

int ncclGetVersion(int *version);
int ncclGetVersion(int *version) {
    *version = 22809;
    return SUCCESS;
}

const char *ncclGetErrorString(int result);
const char *ncclGetErrorString(int result) {
    return result == INVALID_ARGUMENT ? "invalid argument" : "unhandled system error";
}

int ncclGetUniqueId(struct unique_id *id);
int ncclGetUniqueId(struct unique_id *id) {
    memset(id, 0, sizeof *id);
    snprintf(id->internal, sizeof id->internal, "/collimate-nccl-%ld", (long)getpid());
    shm_unlink(id->internal);
    return SUCCESS;
}

int ncclCommInitRank(struct group **out, int size, struct unique_id id, int rank);
int ncclCommInitRank(struct group **out, int size, struct unique_id id, int rank) {
    const char *mood = getenv("STAND_IN_NCCL");
    if (mood && strcmp(mood, "deaf") == 0) {
        return SYSTEM_ERROR;
    }
    struct group *g = calloc(1, sizeof *g);
    int file = shm_open(id.internal, O_RDWR | O_CREAT, 0600);
    if (!g || file < 0 || size > MOST_RANKS || ftruncate(file, sizeof(struct shared)) != 0) {
        free(g);
        return SYSTEM_ERROR;
    }
    g->shared = mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    g->rank = rank;
    g->size = size;
    close(file);
    if (g->shared == MAP_FAILED) {
        free(g);
        return SYSTEM_ERROR;
    }
    meet(g);
    shm_unlink(id.internal); /* everyone has it */
    *out = g;
    return SUCCESS;
}

static void add(void *to, const void *from, size_t n, int type, int first) {
    for (size_t i = 0; i < n; i++) {
        if (type == FLOAT32) {
            ((float *)to)[i] = (first ? 0 : ((float *)to)[i]) + ((const float *)from)[i];
        } else {
            ((double *)to)[i] = (first ? 0 : ((double *)to)[i]) + ((const double *)from)[i];
        }
    }
}

int ncclAllReduce(const void *from, void *to, size_t n, int type, int operation, struct group *g,
                  void *stream);
int ncclAllReduce(const void *from, void *to, size_t n, int type, int operation, struct group *g,
                  void *stream) {
    size_t size = type == FLOAT64 ? 8 : 4, most = PIECE_BYTES / size;
    (void)stream;
    if (operation != SUM || (type != FLOAT32 && type != FLOAT64)) {
        return INVALID_ARGUMENT;
    }
    for (size_t first = 0; first < n; first += most) {
        size_t count = n - first < most ? n - first : most;
        memcpy(g->shared->values[g->rank], (const char *)from + first * size, count * size);
        meet(g);
        for (int rank = 0; rank < g->size; rank++) {
            add((char *)to + first * size, g->shared->values[rank], count, type, rank == 0);
        }
        meet(g);
    }
    return SUCCESS;
}

int ncclCommGetAsyncError(struct group *g, int *result);
int ncclCommGetAsyncError(struct group *g, int *result) {
    (void)g;
    *result = SUCCESS;
    return SUCCESS;
}

int ncclCommAbort(struct group *g);
int ncclCommAbort(struct group *g) {
    munmap(g->shared, sizeof(struct shared));
    free(g);
    return SUCCESS;
}
