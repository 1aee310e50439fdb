#include "util/clock.h"

#include <time.h>

double clock_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

double clock_wall(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void clock_stamp(char *out, size_t size) {
    clock_stamp_ago(0, out, size);
}

void clock_stamp_ago(double seconds, char *out, size_t size) {
    time_t then = time(NULL) - (time_t)seconds;
    struct tm utc;
    gmtime_r(&then, &utc);
    strftime(out, size, "%Y-%m-%dT%H:%M:%SZ", &utc);
}
