/* The command line: COMMAND [CONFIG.yaml …] [key=value …] and the flags. */
#ifndef COLLIMATE_COMMAND_LINE_H
#define COLLIMATE_COMMAND_LINE_H

#include "command/command.h"
#include "util/text.h"

struct line {
    const struct command *command; /* NULL: only a flag below */
    bool want_version, want_help, dry_run, print_config, quiet;
};

/* Local. Reads flags and the command's name only; works before MPI. Fails: ERR_USAGE with the nearest
 * command. */
enum status line_parse(int argc, char **argv, struct line *out);
/* Local. Reads configuration files and key=value into the options, in order, and checks them. */
enum status line_configure(int argc, char **argv, struct options *options);
/* Local. The command as it was given, without the launcher: the same for any rank count. Appended. */
enum status line_text(const struct run *run, struct text *out);
/* Local. --version and --help on standard output. */
enum status line_print_version(void);
enum status line_print_help(const struct line *line);
/* Local. --print-config without a command: every key of the table, as configs/reference.yaml. */
enum status line_print_reference(void);
/* Rank 0 prints the resolved configuration as YAML, with help as comments. */
enum status line_print_config(const struct run *run);

#endif
