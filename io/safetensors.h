/* Safetensors files, single or sharded (model.safetensors.index.json), fp32 / bf16 / fp16 / fp64.
 *
 * A file is 8 bytes of header length, a JSON header {name: {dtype, shape, data_offsets}}, then the data.
 * Hostile headers (lengths past the file, overlaps, overflow, unknown types) are ERR_DATA with the name.
 */
#ifndef COLLIMATE_IO_SAFETENSORS_H
#define COLLIMATE_IO_SAFETENSORS_H

#include <stdint.h>

#include "util/status.h"

/* STORED_OTHER: integers, booleans, 8-bit floats (masks that old files carry). They are listed, not read. */
enum stored_type { STORED_F32, STORED_BF16, STORED_F16, STORED_F64, STORED_OTHER };

struct stored_tensor {
    const char *name; /* owned by the reader */
    enum stored_type type;
    int n_dims;
    int64_t shape[4];
    int64_t elements;
};

struct safetensors;
/* Local. folder holds model.safetensors or an index with its shards. Fails: ERR_INPUT, ERR_DATA. */
enum status safetensors_open(const char *folder, struct safetensors **out);
/* Local. One file under whatever name. */
enum status safetensors_open_file(const char *path, struct safetensors **out);
/* Local. Whether the folder has such files. */
bool safetensors_are_in(const char *folder);
void safetensors_close(struct safetensors *s);
int safetensors_count(const struct safetensors *s);
const struct stored_tensor *safetensors_at(const struct safetensors *s, int i);
/* NULL if there is none of that name. */
const struct stored_tensor *safetensors_find(const struct safetensors *s, const char *name);
/* Local. Elements [first, first + count) as floats. Fails: ERR_DATA for STORED_OTHER, ERR_INTERNAL outside t.
 */
enum status safetensors_read(struct safetensors *s, const struct stored_tensor *t, int64_t first,
                             int64_t count, float *out);

/* Writing: names and shapes first, then the data of each tensor in that order, in any number of pieces;
 * rounded to the nearest even of `type`. Shards of at most shard_bytes (0: 5 GB) with an index when there is
 * more than one. Atomic per file. Local. */
struct safetensors_writer;
enum status safetensors_create(const char *folder, enum stored_type type, int64_t shard_bytes,
                               struct safetensors_writer **out);
/* Before the first value: a word in the files' metadata that says what wrote them (no quotes in it).
 * Borrowed. */
void safetensors_made_by(struct safetensors_writer *w, const char *made_by);
/* Before the first value: the files' name before ".safetensors", in the place of "model". Borrowed. */
void safetensors_name(struct safetensors_writer *w, const char *stem);
enum status safetensors_declare(struct safetensors_writer *w, const char *name, int n_dims,
                                const int64_t *shape);
enum status safetensors_write(struct safetensors_writer *w, const float *data, int64_t count);
/* Finishes (fsync, rename) and frees, also after a failure. Fails: ERR_WRITE; ERR_INTERNAL if data is
 * missing. */
enum status safetensors_finish(struct safetensors_writer *w);
/* Frees without finishing; removes the temporary files. */
void safetensors_abandon(struct safetensors_writer *w);

#endif
