/* Event files that TensorBoard reads: a run's numbers by tag and step, added to one by one.
 *
 * A file is a row of records (TensorFlow's record_writer.cc): the length (8 bytes), its masked CRC-32C (4),
 * the message, the message's (4), all little-endian. A message is an Event (event.proto, summary.proto):
 * wall_time = 1, step = 2, file_version = 3, summary = 5 {value = 1 {tag = 1, simple_value = 2}}, session_log
 * = 7 {status = 1}. The first says which version the file has, the second that a session begins at a step:
 * readers drop what earlier files have from that step on. A record cut off at a file's end ends it for them.
 */
#ifndef COLLIMATE_IO_EVENT_FILE_H
#define COLLIMATE_IO_EVENT_FILE_H

#include <stdint.h>

#include "util/text.h"

struct event_file {
    int descriptor;
    char *path; /* NULL: not open */
};
/* Local. A new file in the folder, which is made where it is not there; its name comes after those that are,
 * since readers go by names. first: the first step that will be written. Fails: ERR_WRITE. */
enum status event_file_open(const char *folder, int64_t first, struct event_file *out);
/* Local. Appends a number to a summary; it is kept as a float. */
enum status event_put(struct text *summary, const char *tag, double value);
/* Local. Adds a summary as of now. Fails: ERR_WRITE. */
enum status event_file_write(struct event_file *f, int64_t step, const struct text *summary);
/* Local. Waits for the disk. Fails: ERR_WRITE. */
enum status event_file_sync(struct event_file *f);
void event_file_close(struct event_file *f);
/* Local. Removes the event files that this program has written to a folder, which may not be there. Fails:
 * ERR_WRITE. */
enum status event_files_remove(const char *folder);

/* CRC-32C (Castagnoli; RFC 3720, appendix B.4). */
uint32_t event_crc32c(const void *data, size_t n);

#endif
