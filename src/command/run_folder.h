/* A run folder: whose it is, and its records (config.yaml, environment.json, log.txt).
 *
 * It is taken before anything in it is looked at. Its records change only once the run is accepted, when
 * nothing is left that could refuse it: until then log lines are held back, and a run that is refused leaves
 * the folder as it was. */
#ifndef COLLIMATE_COMMAND_RUN_FOLDER_H
#define COLLIMATE_COMMAND_RUN_FOLDER_H

#include <stdio.h>

#include "backend/backend.h"
#include "command/command.h"
#include "io/lease.h"

struct run_folder {
    const char *path;
    struct lease *lease; /* rank 0, as the rest */
    FILE *log;           /* log.txt, or *held before the run is accepted */
    char *held;
    size_t held_bytes;
    bool made, accepted; /* made: the folder was not there before */
    char started[32];
};
/* Collective. Makes the folder, takes its lease, removes what dead writers left there. *out is to be finished
 * unless this fails. Fails: ERR_WRITE, naming who holds it. */
enum status run_folder_take(struct run *run, const char *path, struct run_folder *out);
/* Collective. Rank 0 writes config.yaml and environment.json and starts log.txt (appended to by a resumed
 * run). Once is enough. Fails: ERR_WRITE. */
enum status run_folder_accept(struct run *run, const struct backend *b, struct run_folder *folder);
/* Collective. The same where the folder has no records that could be lost. */
enum status run_folder_begin(struct run *run, const struct backend *b, struct run_folder *folder);
/* Collective: completes environment.json with the end and the exit code, however an accepted run ended (a
 * process that was killed leaves it without them), and gives the folder back. Returns st, or why the records
 * could not be completed. */
enum status run_folder_finish(struct run *run, const struct backend *b, struct run_folder *folder,
                              enum status st);

struct run_end {
    char at[32];
    int code; /* the program's exit code */
};
/* What made a result: version, command line, hosts, threads, libraries, settings that differ, and how it
 * ended (end NULL: not yet). Appends a JSON object. Local. */
enum status environment_print(const struct run *run, const struct backend *b, const char *started,
                              const struct run_end *end, struct text *out);

#endif
