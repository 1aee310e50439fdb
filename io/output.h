/* Where results go: what may be replaced, links, and streams.
 *
 * A result takes the place of what stood under its name. So before a command works it is asked of every name
 * that it will write: it is refused where that would destroy an input (known by device and inode, whatever
 * its name), or a file that is not an earlier result of the same command, which is told by what stands in it.
 * A link is followed: the new file is written beside its target, and the link stays. A FIFO, a character
 * device or a descriptor of this process (/dev/stdout, >(command)) takes text as a stream and nothing else;
 * rename() would put a file in its place.
 */
#ifndef COLLIMATE_IO_OUTPUT_H
#define COLLIMATE_IO_OUTPUT_H

#include "util/text.h"

enum output_form {
    OUTPUT_TEXT,   /* lines or one object: a stream may take it */
    OUTPUT_HDF5,   /* needs a regular file */
    OUTPUT_FOLDER, /* a folder that files are written into */
};

/* How an earlier result is known. A file is one if it fits any of the marks; an empty one is always replaced.
 */
struct output_mark {
    const char *content; /* HDF5: its attribute "content"; NULL: text */
    const char *begins;  /* the text's first bytes */
    const char *holds;   /* and what else stands in its first line; NULL: nothing */
};

struct output_rules {
    const char *command; /* for messages */
    char *const *inputs; /* files that are read; folders stand for the files in them */
    int n_inputs;
    bool overwrite; /* a stranger's file may be replaced; an input never */
};
/* Local. marks: n of them. Fails: ERR_USAGE where path must not be written; ERR_SYSTEM. */
enum status output_check(const struct output_rules *rules, const char *path, enum output_form form,
                         const struct output_mark *marks, int n);
/* Local. Is there a folder that a file of that name can be written into? Links are followed; a stream needs
 * none. Fails: ERR_WRITE naming the folder. */
enum status output_check_folder(const char *path);
/* Local. *found: a regular file has one of the marks. Fails where it cannot be read: ERR_INPUT, ERR_SYSTEM.
 */
enum status output_has_mark(const char *path, const struct output_mark *marks, int n, bool *found);

/* Local. Appends the name that a file has when links are followed, also one that is not there yet. Fails:
 * ERR_WRITE for links that go in a circle. */
enum status output_follow(const char *path, struct text *out);
/* Local. Puts a finished temporary file in its place, and never in that of anything but a regular file.
 * Fails: ERR_WRITE. */
enum status output_put(const char *temporary, const char *path);

/* Local. Is text written to it, and no file put in its place? */
bool output_is_stream(const char *path);
/* Local. A descriptor to write to, blocking; closed by the caller. A FIFO that nobody reads is waited for ten
 * seconds. Fails: ERR_WRITE. */
enum status output_stream_open(const char *path, int *descriptor);
/* Local. All of n bytes to a descriptor. path: for the message. Fails: ERR_WRITE. */
enum status output_stream_write(int descriptor, const char *path, const char *data, size_t n);

#endif
