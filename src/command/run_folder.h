/* A run folder's records: config.yaml (resolved), environment.json, log.txt. */
#ifndef COLLIMATE_COMMAND_RUN_FOLDER_H
#define COLLIMATE_COMMAND_RUN_FOLDER_H

#include <stdio.h>

#include "backend/backend.h"
#include "command/command.h"

struct run_folder {
    const char *path;
    FILE *log; /* rank 0 */
    char started[32];
};
/* Collective: rank 0 makes the folder, writes config.yaml and environment.json, and starts log.txt (appended
 * to by a resumed run). Fails: ERR_WRITE. */
enum status run_folder_open(struct run *run, const struct backend *b, const char *path,
                            struct run_folder *out);
/* Collective: completes environment.json with the end and the exit code, however the run ended (a process
 * that was killed leaves it without them). Returns st, or why the records could not be completed. */
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
