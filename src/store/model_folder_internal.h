/* What reading and writing a model folder share. */
#ifndef COLLIMATE_STORE_MODEL_FOLDER_INTERNAL_H
#define COLLIMATE_STORE_MODEL_FOLDER_INTERNAL_H

#include "model/model.h"

/* Local. A parameter's shape as files have it; its dimensions. */
int parameter_stored_shape(const struct parameter *p, int64_t shape[2]);
/* Local. Elements that move at a time: parameters that are stored in another order go in one piece. */
int64_t parameter_piece(const struct parameter *p);

#endif
