#include "command/deliver.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "io/file.h"

enum status deliver_text(const char *path, const struct text *text) {
    const char *data = text->data ? text->data : "";
    if (*path) {
        return file_write(path, data, text->len);
    }
    bool done = fwrite(data, 1, text->len, stdout) == text->len && fflush(stdout) == 0 && !ferror(stdout);
    return done ? OK : fail(ERR_WRITE, "standard output: cannot be written: %s", strerror(errno));
}
