/* Opening an input file: the one way in the program, so that no open ever waits. */
#ifndef COLLIMATE_UTIL_REGULAR_H
#define COLLIMATE_UTIL_REGULAR_H

#include <stdint.h>

#include "util/status.h"

/* Opens a regular file for reading; a folder, FIFO, socket or device is refused before anything waits for it.
 * Local. *size (may be NULL): bytes. The caller closes *descriptor. Fails: ERR_INPUT. */
enum status regular_open(const char *path, int *descriptor, int64_t *size);

#endif
