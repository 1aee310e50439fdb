/* Time by operation, taken at the front door. Where nobody asks (backend.times is NULL) no clock is read.
 *
 * On the CPU an operation's time is the clock around it. A device runs behind the host: its back end takes
 * stamps among the operations and says later how much time lies between two, so nothing waits that did not
 * before; what is counted is then the device's time, and copies to the host count without what the host waits
 * for. A copy between back ends counts as a row of its own (read, write, copy, zero).
 */
#ifndef COLLIMATE_BACKEND_OPERATION_TIMES_H
#define COLLIMATE_BACKEND_OPERATION_TIMES_H

#include "backend/backend.h"

/* Rows of the times: an enum operation_row, or one of these. */
enum moved { MOVED_WRITE = OPERATION_COUNT, MOVED_READ, MOVED_COPY, MOVED_ZERO, OPERATION_TIMES };

struct operation_time {
    int64_t calls;
    double seconds, flops, bytes; /* as describe_*() says */
};

/* Local. Counts from here on, until the back end is closed. Fails: ERR_SYSTEM. */
enum status operation_times_start(struct backend *b);
/* Local. What was counted so far; waits for the device. Zeros where nothing was started. */
enum status operation_times_read(struct backend *b, struct operation_time out[OPERATION_TIMES]);
const char *operation_times_name(int row);

/* For backend.c, around a call; only where b->times is not NULL. end passes st on. */
enum status operation_times_begin(struct backend *b);
enum status operation_times_end(struct backend *b, int row, double flops, double bytes, enum status st);
/* For backend_close(). */
void operation_times_close(struct backend *b);

#endif
