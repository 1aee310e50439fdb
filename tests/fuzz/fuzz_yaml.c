/* Configuration: a YAML file and key=value arguments for a command. What is taken must print as YAML that
 * means the same. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command/command.h"
#include "command/line.h"
#include "fuzz.h"
#include "util/text.h"

enum { MOST_ARGUMENTS = 16 };

static enum status configure(const char *command, char **more, int n_more, const char *file,
                             struct text *out) {
    static char program[] = "collimate", config[512];
    char name[32];
    struct settings settings = {0};
    struct options options;
    int rows;
    const struct option *table = settings_table(&rows);
    snprintf(name, sizeof name, "%s", command);
    snprintf(config, sizeof config, "%s", fuzz_path(file));
    char *argv[3 + MOST_ARGUMENTS] = {program, name, config};
    memcpy(argv + 3, more, (size_t)n_more * sizeof *more);
    FUZZ_CHECK(options_open(&options, table, rows, &settings, command) == OK);
    enum status st = line_configure(3 + n_more, argv, &options);
    if (st == OK) {
        st = options_print(&options, true, out);
        FUZZ_CHECK(st == OK);
    }
    options_close(&options);
    return st;
}

/* The arguments, a line each; those that name files are left out. */
static int split_lines(char *text, char **lines) {
    int n = 0;
    for (char *line = text; line && n < MOST_ARGUMENTS;) {
        char *end = strchr(line, '\n');
        if (end) {
            *end = '\0';
        }
        if (strchr(line, '=') && line[0] != '-') {
            lines[n++] = line;
        }
        line = end ? end + 1 : NULL;
    }
    return n;
}

static const char *command_named(const struct fuzz_section *s) {
    int n;
    const struct command *table = command_table(&n);
    for (int i = 0; i < n && s->data; i++) {
        size_t length = strlen(table[i].name);
        if (s->size >= length && memcmp(s->data, table[i].name, length) == 0) {
            return table[i].name;
        }
    }
    return "dpo";
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fuzz_section sections[] = {{.name = "config.yaml"}, {.name = "arguments"}, {.name = "command"}};
    struct text printed = {0}, again = {0};
    char *lines[MOST_ARGUMENTS];
    fuzz_split(data, size, sections, COUNT_OF(sections));
    const char *command = command_named(&sections[2]);
    fuzz_put("config.yaml", sections[0].data, sections[0].size);
    char *arguments = strndup(sections[1].data ? (const char *)sections[1].data : "", sections[1].size);
    FUZZ_CHECK(arguments != NULL);
    int n = split_lines(arguments, lines);
    if (fuzz_fine(configure(command, lines, n, "config.yaml", &printed), ERR_USAGE)) {
        fuzz_put("printed.yaml", printed.data, printed.len);
        FUZZ_CHECK(configure(command, lines, 0, "printed.yaml", &again) == OK);
        FUZZ_CHECK(again.len == printed.len && memcmp(again.data, printed.data, printed.len) == 0);
    }
    free(arguments);
    text_free(&printed);
    text_free(&again);
    return 0;
}
