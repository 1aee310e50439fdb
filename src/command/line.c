#include "command/line.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "command/deliver.h"
#include "generated/version.h"
#include "io/yaml.h"
#include "util/text.h"

static bool is_flag(const char *argument) {
    return argument[0] == '-';
}

static enum status parse_flag(const char *flag, struct line *out) {
    if (strcmp(flag, "--version") == 0) {
        out->want_version = true;
    } else if (strcmp(flag, "--help") == 0 || strcmp(flag, "-h") == 0) {
        out->want_help = true;
    } else if (strcmp(flag, "--dry-run") == 0) {
        out->dry_run = true;
    } else if (strcmp(flag, "--print-config") == 0) {
        out->print_config = true;
    } else if (strcmp(flag, "--quiet") == 0) {
        out->quiet = true;
    } else {
        return fail(
            ERR_USAGE,
            "command line: unknown flag \"%s\"; known: --help --version --dry-run --print-config --quiet",
            flag);
    }
    return OK;
}

static enum status find_command(const char *name, const struct command **out) {
    int count;
    const struct command *table = command_table(&count);
    const char *nearest = "";
    int least = INT_MAX;
    for (int i = 0; i < count; i++) {
        int distance = text_distance(table[i].name, name);
        if (distance == 0) {
            *out = &table[i];
            return OK;
        }
        if (distance < least) {
            least = distance;
            nearest = table[i].name;
        }
    }
    return fail(ERR_USAGE,
                "command line: unknown command \"%s\"; the nearest is \"%s\" (collimate --help lists all)",
                name, nearest);
}

enum status line_parse(int argc, char **argv, struct line *out) {
    *out = (struct line){0};
    for (int i = 1; i < argc; i++) {
        if (is_flag(argv[i])) {
            TRY(parse_flag(argv[i], out));
        } else if (!out->command) {
            TRY(find_command(argv[i], &out->command));
        }
    }
    if (!out->command && !out->want_version && !out->want_help && !out->print_config) {
        return fail(ERR_USAGE, "command line: no command; collimate --help lists them");
    }
    return OK;
}

struct source {
    struct options *options;
    const char *path;
};

static enum status visit_key(void *context, const char *key, const char *value, int line) {
    struct source *source = context;
    char where[512];
    snprintf(where, sizeof where, "%s, line %d", source->path, line);
    return options_set(source->options, key, value, where);
}

/* A file's name may hold a '=' too, behind what is no key. */
static bool is_configuration(const struct options *options, const char *argument) {
    char key[64];
    size_t len = strcspn(argument, "=");
    snprintf(key, sizeof key, "%.*s", (int)(len < sizeof key ? len : 0), argument);
    return text_ends(argument, ".yaml") &&
           (argument[len] == '\0' || (!options_knows(options, key) && access(argument, F_OK) == 0));
}

enum status line_configure(int argc, char **argv, struct options *options) {
    bool seen_command = false;
    for (int i = 1; i < argc; i++) {
        if (is_flag(argv[i])) {
            continue;
        }
        if (!seen_command) {
            seen_command = true;
        } else if (is_configuration(options, argv[i])) {
            struct source source = {.options = options, .path = argv[i]};
            TRY(yaml_read(argv[i], visit_key, &source));
        } else {
            TRY(options_set_argument(options, argv[i]));
        }
    }
    return options_check(options);
}

enum status line_text(const struct run *run, struct text *out) {
    TRY(text_puts(out, "collimate"));
    for (int i = 1; i < run->argc; i++) {
        TRY(text_printf(out, " %s", run->argv[i]));
    }
    return OK;
}

enum status line_print_help(const struct line *line) {
    int count;
    const struct command *commands = command_table(&count);
    if (!line->command) {
        printf("collimate %s: preference alignment of language models as one SPMD program\n\n"
               "  [mpirun -n N] collimate COMMAND [CONFIG.yaml ...] [key=value ...] [--dry-run]\n\n"
               "Later files and key=value pairs win. COMMAND --help lists its keys.\n\ncommands:\n",
               COLLIMATE_VERSION);
        for (int i = 0; i < count; i++) {
            printf("  %-10s %s\n", commands[i].name, commands[i].help);
        }
        printf("\nflags:\n"
               "  --dry-run       resolved configuration, data report, memory and step estimate; no work\n"
               "  --print-config  the resolved configuration as YAML; without COMMAND every key of all "
               "commands\n"
               "  --quiet         errors and results only\n"
               "  --version       build, libraries, instruction sets, devices\n\n"
               "exit codes: 0 done, 2 usage or configuration, 65 bad input data, 66 input missing, 70 "
               "internal,\n"
               "  71 system or device, 73 cannot write, 75 watchdog or lost rank, 85 checkpointed on a "
               "signal (requeue)\n");
        return OK;
    }
    struct settings settings = {0};
    struct options options;
    int rows;
    const struct option *table = settings_table(&rows);
    struct text help = {0};
    enum status st = options_open(&options, table, rows, &settings, line->command->name);
    options.also = line->command->also;
    if (st == OK) {
        st = options_help(&options, &help);
    }
    if (st == OK) {
        printf("collimate %s: %s\n\n%s", line->command->name, line->command->help,
               help.data ? help.data : "");
    }
    text_free(&help);
    options_close(&options);
    return st;
}

enum status line_print_reference(void) {
    struct settings settings = {0};
    struct options options;
    int rows;
    const struct option *table = settings_table(&rows);
    struct text text = {0};
    enum status st = options_open(&options, table, rows, &settings, NULL);
    st = st == OK ? text_puts(&text, "# Every key with its default, printed by `collimate --print-config`. A "
                                     "reference, not a configuration:\n# no command takes all keys. Copy "
                                     "what you need.\n")
                  : st;
    st = st == OK ? options_print(&options, true, &text) : st;
    st = st == OK ? deliver_text("", &text) : st;
    text_free(&text);
    options_close(&options);
    return st;
}

enum status line_print_config(const struct run *run) {
    struct text text = {0};
    enum status st = options_print(run->options, true, &text);
    if (st == OK && run->comm->rank == 0) {
        st = deliver_text("", &text);
    }
    text_free(&text);
    return st;
}
