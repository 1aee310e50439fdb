/* The MPI communicator behind a comm, for io/h5.c alone (parallel HDF5 wants it). */
#ifndef COLLIMATE_MPI_COMM_HANDLE_H
#define COLLIMATE_MPI_COMM_HANDLE_H

#include <mpi.h>

#include "mpi/comm.h"

/* A communicator dup'ed for files. Owned by c. */
MPI_Comm comm_file_handle(const struct comm *c);

#endif
