/* What the files of this room (and its tests) share: how each built-in back end is opened, and the registry.
 *
 * A back end is a row in the registry (registry.c): its name and a function of this form. The function
 * allocates the struct backend (mem_calloc) and what its context needs; its `destroy` entry frees both.
 * why: a line for the log, written on success.
 */
#ifndef COLLIMATE_BACKEND_INTERNAL_H
#define COLLIMATE_BACKEND_INTERNAL_H

#include "backend/backend.h"

typedef enum status backend_opener(const struct backend_request *request, struct backend **out,
                                   char why[256]);

backend_opener cpu_open;   /* own kernels on OpenMP threads */
backend_opener check_open; /* the suspicious one around the CPU */
backend_opener plan_open;  /* runs nothing, holds nothing */
backend_opener cuda_open;  /* the plug-in libcollimate_cuda.so */
/* Local. Whether `auto` should open the plug-in: it has a score and sees a device. Where not, why says it; a
 * machine without a driver is told without loading the plug-in's libraries. */
bool cuda_is_wanted(char why[256]);

/* Fills device memory of check:cpu with what it calls poison, so that a late use of it is noticed; on any
 * other back end nothing. */
void check_poison(struct backend *b, void *data, int64_t bytes);

/* What a CPU back end of this request can do, without opening one. cpu_can: ERR_SYSTEM or ERR_USAGE for a
 * compute type that it has not. */
enum status cpu_can(const struct backend_request *request);
struct backend_caps cpu_caps(const struct backend_request *request);

/* COLLIMATE_CPU_LEVEL, or NULL: the set of CPU kernels asked for (cpu.c). */
const char *cpu_level_wanted(void);

/* True when the byte ranges [a, a + bytes of a) and b's meet in an element. Views of one matrix that take
 * different columns or rows do not overlap. */
bool tensor_overlaps(struct tensor a, struct tensor b);
/* rows x columns without gaps between the rows. */
bool tensor_is_contiguous(struct tensor t);

#endif
