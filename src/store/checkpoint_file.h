/* Checkpoints: named arrays and a JSON state in one HDF5 file, written by all ranks.
 *
 * Written beside, flushed, closed, read back and compared by checksum, renamed, folder fsynced. Arrays
 * are laid out by parameter arena, not by rank, so another rank count reads them.
 */
#ifndef COLLIMATE_STORE_CHECKPOINT_FILE_H
#define COLLIMATE_STORE_CHECKPOINT_FILE_H

#include "mpi/shard.h"

enum { CHECKPOINT_ARRAYS = 32 }; /* at most, in a file */

struct checkpoint_array {
    const char *name;               /* "parameters", "first", "second" */
    int64_t elements;               /* of the whole array */
    struct range part;              /* this rank's elements to write, or that it wants to read */
    int element_bytes;              /* 4 (float32) or 8 (float64) */
    void *data;                     /* part.last - part.first elements, or this rank's packed shares */
    const struct shard_map *shards; /* NULL, or data are this rank's shares instead of a part */
};

/* Collective. state_json: rank 0's string. Parts of all ranks must tile each array. Fails: ERR_WRITE, also
 * when what is read back differs (a full disk that the MPI-IO layer hid). */
enum status checkpoint_file_write(struct comm *c, const char *path, const char *state_json,
                                  const struct checkpoint_array *arrays, int n_arrays);
/* Collective. Reads the state (caller frees with mem_free), then the parts asked for. Fails: ERR_DATA for
 * damage. */
enum status checkpoint_file_read_state(struct comm *c, const char *path, char **state_json);
/* Local. How long the array is. Fails: ERR_DATA where the file has none of that name. */
enum status checkpoint_file_elements(const char *path, const char *name, int64_t *elements);
enum status checkpoint_file_read(struct comm *c, const char *path, const struct checkpoint_array *arrays,
                                 int n_arrays);

/* Collective. Newest of run/checkpoints/step-N.h5 that opens and verifies; a damaged one is named in a
 * warning and the one before it is taken. *path NULL if there is none (mem_free). Fails: ERR_DATA where all
 * are damaged, naming them. */
enum status checkpoint_latest(struct comm *c, const char *run, char **path, int64_t *step);
/* Collective. After checkpoint_latest found `step`: `latest` names it, and later ones, which did not verify,
 * become step-N.h5.damaged: they count no more, neither for `keep` nor as the newest. Fails: ERR_WRITE. */
enum status checkpoint_set_aside(struct comm *c, const char *run, int64_t step);
/* Collective. Writes `latest`, then removes all but the last `keep`. */
enum status checkpoint_prune(struct comm *c, const char *run, int keep);

#endif
