#include "mpi/launch.h"

#include <stdlib.h>

#include "util/status.h"

/* NULL where no launcher gave this process a rank. */
static const char *find_rank(void) {
    /* Open MPI's mpirun, PMIx launchers, srun; the first that is set counts. */
    static const char *const names[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID"};
    for (int i = 0; i < COUNT_OF(names); i++) {
        const char *value = getenv(names[i]);
        if (value && *value) {
            return value;
        }
    }
    return NULL;
}

int launch_rank(void) {
    const char *rank = find_rank();
    return rank ? (int)strtol(rank, NULL, 10) : 0;
}

/* Both together: processes without a daemon all take one folder, and each removes it at its end, be it while
 * another makes its own in there. OMPIO would say that it cannot keep shared file pointers in that folder;
 * nobody shares one. */
void launch_prepare(void) {
    static const char isolated[] = "OMPI_MCA_ess_singleton_isolated";
    if (!find_rank() && !getenv(isolated) && setenv("OMPI_MCA_orte_create_session_dirs", "0", 1) == 0) {
        (void)setenv(isolated, "1", 0);
        (void)setenv("OMPI_MCA_sharedfp", "^sm", 0);
    }
}

double launch_end_time(void) {
    const char *value = getenv("SLURM_JOB_END_TIME");
    return value ? strtod(value, NULL) : 0;
}
