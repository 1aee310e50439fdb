/* Clocks: monotonic seconds for durations, wall clock for stamps. */
#ifndef COLLIMATE_UTIL_CLOCK_H
#define COLLIMATE_UTIL_CLOCK_H

#include <stddef.h>

double clock_seconds(void);
/* Seconds since the epoch. */
double clock_wall(void);
/* "2026-11-20T08:15:30Z" (21 bytes with the NUL). */
void clock_stamp(char *out, size_t size);
/* The same, of the moment that is so many seconds past. */
void clock_stamp_ago(double seconds, char *out, size_t size);

#endif
