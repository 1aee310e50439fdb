/* What the launcher says about this process before MPI starts. Every guess about launchers is in this file.
 */
#ifndef COLLIMATE_MPI_LAUNCH_H
#define COLLIMATE_MPI_LAUNCH_H

/* Local. The rank that the launcher (mpirun, srun) gave this process; 0 outside of one. Only for what must
 * work without MPI, such as printing --version once; otherwise ask comm->rank. */
int launch_rank(void);

/* Local, before MPI starts. A process that no launcher started will be the only rank: tells Open MPI 4 that
 * it needs no daemon and no folder of sockets, which take 0.3 s to make. A user who has set
 * OMPI_MCA_ess_singleton_isolated is left alone. */
void launch_prepare(void);

/* Local. Seconds since the epoch at which Slurm ends this job (SLURM_JOB_END_TIME), 0 if it does not say. */
double launch_end_time(void);

#endif
