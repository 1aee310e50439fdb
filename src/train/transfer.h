/* How the gradients of a device are summed over ranks: buckets staged through pinned host memory and summed
 * there; by an MPI that reads device memory; or by the devices' own library (NCCL).
 *
 * Which is fastest depends on links that nobody but a measurement knows, so each way that is there sums a
 * probe at the start, and the fastest is taken and logged. Deterministic training is always staged: the fixed
 * tree of mpi/sum.h has the order of additions, no library promises one.
 *
 * Nothing here waits inside backward. A finished bucket gets a mark in the device's work; the communication
 * thread starts its copy behind the mark, a few buckets ahead in a ring of pinned slots, sums, and starts the
 * copy back; the optimizer's operations follow the last of them.
 */
#ifndef COLLIMATE_TRAIN_TRANSFER_H
#define COLLIMATE_TRAIN_TRANSFER_H

#include "backend/backend.h"
#include "mpi/sum.h"

enum communication { COMMUNICATION_AUTO, COMMUNICATION_STAGED, COMMUNICATION_MPI, COMMUNICATION_NCCL };

struct transfer;
struct transfer_options {
    struct comm *comm;
    struct backend *backend;
    enum dtype type;               /* of the gradients */
    struct bucket_options buckets; /* with which `buckets` was opened */
    enum communication wanted;
};
/* Collective. Measures unless only one way is there, asked for or deterministic; `arena` on the device,
 * contiguous, is overwritten then. Fails: ERR_SYSTEM where the way that is asked for is not there. */
enum status transfer_open(const struct transfer_options *options, void *arena, struct bucket_sum *buckets,
                          struct transfer **out);
void transfer_close(struct transfer *t); /* NULL is fine */
/* Local. A step's sum over `arena` is about to begin: the reducer for bucket_begin(). */
const struct reducer *transfer_begin(struct transfer *t, void *arena);

#endif
