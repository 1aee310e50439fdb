#include "mpi/launch.h"

#include <stdlib.h>

#include "util/status.h"

int launch_rank(void) {
    /* Open MPI's mpirun, PMIx launchers, srun; the first that is set counts. */
    static const char *const names[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID"};
    for (int i = 0; i < COUNT_OF(names); i++) {
        const char *value = getenv(names[i]);
        if (value && *value) {
            return (int)strtol(value, NULL, 10);
        }
    }
    return 0;
}

double launch_end_time(void) {
    const char *value = getenv("SLURM_JOB_END_TIME");
    return value ? strtod(value, NULL) : 0;
}
