/* A small network's folder: model.safetensors, its tensors by name. */
#ifndef COLLIMATE_STORE_NETWORK_FOLDER_H
#define COLLIMATE_STORE_NETWORK_FOLDER_H

#include "encoder/network.h"

/* Local. Writes FOLDER/model.safetensors (fp32), batch norm's statistics included. Fails: ERR_WRITE. */
enum status network_folder_save(const struct network *m, const char *folder);
/* Local. Parameters and statistics of such a file. Fails: ERR_INPUT; ERR_DATA for a tensor that is missing or
 * of another shape than m's, a number that is not finite, or a variance below 0. */
enum status network_folder_load(struct network *m, const char *folder);

#endif
