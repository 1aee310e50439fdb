/* Which process this is, in a word that others on any host can read: whose a lease or a temporary file is,
 * and whether that one still lives. */
#ifndef COLLIMATE_UTIL_PROCESS_H
#define COLLIMATE_UTIL_PROCESS_H

#include <stdbool.h>

enum { PROCESS_NAME = 80 };

/* Local. "HOST-PID-PLACE-START" and a NUL: the host's short name; a hash of its boot and of the process
 * numbers' namespace; the clock tick at which the process began. No other process is called so. Neither '.'
 * nor '/' is in it. */
void process_name(char out[PROCESS_NAME]);

/* Local. Whether a word is such a name, of whatever process. */
bool process_is_name(const char *name);

enum process_life { PROCESS_LIVES, PROCESS_DEAD, PROCESS_UNKNOWN };
/* Local. Of the process with that name. Unknown: of another host, container or boot, or no such name. */
enum process_life process_life(const char *name);

#endif
