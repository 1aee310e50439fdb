/* Where a command's result goes. */
#ifndef COLLIMATE_COMMAND_DELIVER_H
#define COLLIMATE_COMMAND_DELIVER_H

#include "util/text.h"

/* Local, on one rank. To a file (file_write), or to standard output where path is "". Fails: ERR_WRITE. */
enum status deliver_text(const char *path, const struct text *text);

#endif
