#include "mpi/threads.h"

#include <omp.h>
#include <unistd.h>

int threads_of_rank(const struct comm *c, int64_t wanted) {
    if (wanted > 0) {
        return (int)wanted;
    }
    int threads = omp_get_max_threads();
    int processors = omp_get_num_procs();
    bool is_free = threads == processors && processors == (int)sysconf(_SC_NPROCESSORS_ONLN);
    if (is_free && c->node_size > 1) {
        threads = processors / c->node_size; /* ranks that are not bound share the node */
    }
    return threads > 0 ? threads : 1;
}
