/* Configuration files (libyaml): a mapping of mappings, flattened to dotted keys with their lines. */
#ifndef COLLIMATE_IO_YAML_H
#define COLLIMATE_IO_YAML_H

#include "util/status.h"

/* Called for each scalar: key "train.learning_rate", value as text; a sequence of scalars arrives joined by
 * commas. */
typedef enum status yaml_visit(void *context, const char *key, const char *value, int line);

/* Local. Fails: ERR_INPUT; ERR_USAGE with file and line for bad YAML (damaged gzip too), duplicate keys,
 * anchors, nested sequences. */
enum status yaml_read(const char *path, yaml_visit *visit, void *context);

/* Local. "0.2.5": the version of libyaml that runs. */
const char *yaml_library(void);

#endif
