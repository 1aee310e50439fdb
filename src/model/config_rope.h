/* Rotary embedding in a config.json: the layouts of transformers 4 (rope_theta, rope_scaling) and 5
 * (rope_parameters). */
#ifndef COLLIMATE_MODEL_CONFIG_ROPE_H
#define COLLIMATE_MODEL_CONFIG_ROPE_H

#include "model/config.h"

/* Local. Fills c->rope and c->local_theta; c has its family and shape. Fails: ERR_DATA. */
enum status config_take_rope(const json_t *json, const char *where, struct model_config *c);
/* Local. Adds the keys that are missing. Returns 0, or not 0 where memory ran out. */
int config_print_rope(const struct model_config *c, json_t *o);
/* Sets key unless it holds a value already; takes value over. Returns as above. */
int config_set_missing(json_t *object, const char *key, json_t *value);

#endif
