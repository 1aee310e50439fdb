/* What the launcher says about this process before MPI starts. Every guess about launchers is in this file.
 */
#ifndef COLLIMATE_MPI_LAUNCH_H
#define COLLIMATE_MPI_LAUNCH_H

#include "util/status.h"

/* Local. The rank that the launcher (mpirun, srun) gave this process; 0 outside of one. Only for what must
 * work without MPI, such as printing --version once; otherwise ask comm->rank. */
int launch_rank(void);

/* Local, before MPI starts. A process that no launcher started will be the only rank: tells Open MPI 4 that
 * it needs no daemon and no folder of sockets, which take 0.3 s to make. A user who has set
 * OMPI_MCA_ess_singleton_isolated is left alone. */
void launch_prepare(void);

/* What the launcher says before MPI starts (which sets some of these variables itself): this process's rank,
 * and of how many tasks it is one at least, with the variable that says so. COLLIMATE_ALONE=1 says that each
 * task is a run of its own. Local. */
struct launch {
    int rank;
    long tasks; /* 1 where none says more */
    const char *variable;
};
void launch_look(struct launch *out);
/* Local. Whether MPI has that many ranks: if not, each of these processes believes that it is alone, and all
 * would write the same files. Fails: ERR_SYSTEM naming the variable, and what to do. */
enum status launch_check(const struct launch *l, int ranks);

/* Local. The number of the batch job that this is in; "" where it is in none. */
const char *launch_job(void);

/* Local. Seconds since the epoch at which Slurm ends this job (SLURM_JOB_END_TIME), 0 if it does not say. */
double launch_end_time(void);

#endif
