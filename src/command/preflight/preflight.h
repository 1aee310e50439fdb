/* What the checks of `preflight` share. A check is collective and says one line for each thing it looked at:
 * a finding, a subject, and what was found. A failure in a check is a refusal, not the end: the other checks
 * still run, and the first refusal's code is the program's.
 */
#ifndef COLLIMATE_COMMAND_PREFLIGHT_H
#define COLLIMATE_COMMAND_PREFLIGHT_H

#include "command/needs.h"
#include "command/trainer.h"
#include "util/machine.h"

enum finding { FINDING_OK, FINDING_WARN, FINDING_REFUSE, FINDINGS };

/* Where a rank sits. Plain bytes: gathered as it is. */
struct seat {
    char host[64];
    char device[64];
    int32_t node_rank, node_size, threads;
    struct machine_cores cores;
    struct machine_memory memory;
    struct machine_link link;
    double copy_bytes_per_s; /* of a memcpy in this rank's memory, all ranks at once */
    double name_s;           /* machine_find_name(); 0 but on the first rank of a host */
    int64_t device_free;     /* where the device's memory is not the host's; else 0 */
};

struct preflight {
    struct run *run;
    struct comm *comm;
    struct trainer trainer;
    struct model_config config;
    struct estimate need;
    bool has_backend, has_model, has_rows, has_output, has_need;
    struct seat *seats; /* of all ranks */
    int nodes;
    int64_t said[FINDINGS];
    const char *last; /* the subject of the last line, and how many lines in a row are of it and ok */
    int in_a_row;
    struct message refusal; /* the first */
    double began_s;
};

/* All ranks, with the same finding; rank 0 prints, of many lines in a row that are ok the first. printf-like.
 */
void preflight_say(struct preflight *p, enum finding finding, const char *subject, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* A refusal with the code that the run would end with. */
void preflight_refuse(struct preflight *p, enum status code, const char *subject, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* Did an agreed-on step of a check fail? Then its message is said as a refusal and forgotten. */
bool preflight_failed(struct preflight *p, const char *subject, enum status st);

/* The checks, in their order. Collective. */
enum status preflight_seats(struct preflight *p);
enum status preflight_collectives(struct preflight *p);
enum status preflight_data(struct preflight *p);
enum status preflight_memory(struct preflight *p);
enum status preflight_output(struct preflight *p);

#endif
