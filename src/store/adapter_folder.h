/* Adapters as PEFT's folders: adapter_config.json and adapter_model.safetensors. */
#ifndef COLLIMATE_STORE_ADAPTER_FOLDER_H
#define COLLIMATE_STORE_ADAPTER_FOLDER_H

#include "io/safetensors.h"
#include "mpi/comm.h"
#include "store/adapter_config.h"

/* Whether the folder has adapters. */
bool adapter_folder_is(const char *folder);
/* Local. The folder's tensors into a set that was opened by its configuration. Fails: ERR_INPUT, ERR_DATA
 * naming a tensor that is missing, misshapen or has no place. */
enum status adapter_folder_read(const char *folder, struct lora *l);
/* Local. Hash of the set's values and of what its layout says of them. */
enum status adapter_hash(const struct lora *l, uint64_t *out);

struct adapter_save {
    const json_t *config; /* as adapter_config_make() or _read() gave it */
    enum stored_type type;
};
/* Collective. Rank 0 writes both files, each whole or not at all. Fails: ERR_WRITE. */
enum status adapter_folder_save(struct comm *c, const struct lora *l, const char *folder,
                                const struct adapter_save *options);

#endif
