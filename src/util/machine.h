/* What the machine grants this process: cores, memory, links. Read from /proc and /sys; what cannot be read
 * is unknown (0), never a failure. */
#ifndef COLLIMATE_UTIL_MACHINE_H
#define COLLIMATE_UTIL_MACHINE_H

#include <stdint.h>

#include "util/text.h"

enum { MACHINE_CORES = 1024 };

/* The cores that this process may run on. */
struct machine_cores {
    int count;
    uint8_t mask[MACHINE_CORES / 8]; /* bit i % 8 of byte i / 8: core i */
};
void machine_cores(struct machine_cores *out);
/* Appends "0-3,8". */
enum status machine_cores_print(const struct machine_cores *cores, struct text *out);

/* Threads that a rank may ask for: eight for each processor of the machine, and 64 everywhere. More would
 * only meet the limits of the system, which OpenMP answers by ending the process. */
int machine_most_threads(void);

/* Bytes; 0: unknown or no limit. */
struct machine_memory {
    int64_t total, available;  /* of the machine; available: without swapping */
    int64_t group, group_used; /* limit of the control groups that this process is in, and what they hold
                                  beside caches */
    int64_t process;           /* limit of this process's address space */
};
void machine_memory(struct machine_memory *out);
/* What the processes here can still take together: the smaller of what is available and what the control
 * groups leave; 0: unknown. */
int64_t machine_memory_left(const struct machine_memory *m);

/* The fastest network link that is up (InfiniBand before Ethernet). */
struct machine_link {
    char name[32];      /* "" where there is none */
    double bytes_per_s; /* 0: it does not say */
};
void machine_link(struct machine_link *out);

/* Local. Seconds that it takes to find the address of this host's own name, which every mpirun asks for;
 * negative where nobody knows it. */
double machine_find_name(void);

#endif
