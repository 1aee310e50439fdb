#include "mpi/launch.h"

#include <stdlib.h>
#include <string.h>

/* NULL where no launcher gave this process a rank. */
static const char *find_rank(void) {
    /* Open MPI's mpirun, PMIx and PMI launchers, srun; the first that is set counts. */
    static const char *const names[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"};
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

/* -1: not set, or no number. */
static long number_of(const char *variable) {
    const char *value = getenv(variable);
    char *end;
    long number = value ? strtol(value, &end, 10) : -1;
    return value && end > value && *end == '\0' && number >= 0 ? number : -1;
}

/* Tasks of the step of srun that this process is in; -1: it is in none. SLURM_NTASKS and SLURM_PROCID are
 * there in a batch script and in an interactive step too, one process for all of the allocation's tasks;
 * numbers of steps that srun did not start are the highest there are. */
static long step_tasks(void) {
    static const long first_special_step = 0xfffffff0;
    long step = number_of("SLURM_STEP_ID"), tasks = number_of("SLURM_STEP_NUM_TASKS");
    return tasks >= 0 ? tasks : step >= 0 && step < first_special_step ? number_of("SLURM_NTASKS") : -1;
}

void launch_look(struct launch *out) {
    long step = step_tasks();
    const struct {
        const char *name;
        long least; /* mpirun's daemons may be a step of srun, and its ranks in it */
    } says[] = {
        {"PMIX_RANK", number_of("PMIX_RANK") + 1},
        {"PMI_SIZE", number_of("PMI_SIZE")},
        {"PMI_RANK", number_of("PMI_RANK") + 1},
        {"MV2_COMM_WORLD_SIZE", number_of("MV2_COMM_WORLD_SIZE")},
        {"SLURM_NTASKS", step},
        {"SLURM_PROCID", step >= 0 ? number_of("SLURM_PROCID") + 1 : -1},
    };
    const char *alone = getenv("COLLIMATE_ALONE");
    *out = (struct launch){.rank = launch_rank(), .tasks = 1};
    if (getenv("OMPI_COMM_WORLD_SIZE") || (alone && strcmp(alone, "1") == 0)) {
        return;
    }
    for (int i = 0; i < COUNT_OF(says); i++) {
        if (says[i].least > out->tasks) {
            out->tasks = says[i].least;
            out->variable = says[i].name;
        }
    }
}

enum status launch_check(const struct launch *l, int ranks) {
    return l->tasks <= ranks
               ? OK
               : fail(
                     ERR_SYSTEM,
                     "%s says that there are %ld tasks or more, but MPI has %d rank%s: the launcher and MPI "
                     "do not know each other, and each task takes itself for the only one; start with srun "
                     "--mpi=pmix (srun --mpi=list shows whether it is there) or with the mpirun of the Open "
                     "MPI that this program is built with; tasks that are each to be a run of their own need "
                     "COLLIMATE_ALONE=1",
                     l->variable, l->tasks, ranks, ranks == 1 ? "" : "s");
}

const char *launch_job(void) {
    const char *job = getenv("SLURM_JOB_ID");
    return job ? job : "";
}

double launch_end_time(void) {
    const char *value = getenv("SLURM_JOB_END_TIME");
    return value ? strtod(value, NULL) : 0;
}
