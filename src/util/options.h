/* Options: one table says each key's type, default, range, meaning and when it applies; reading, checking,
 * --help, the resolved config.yaml and configs/reference.yaml all come from it.
 *
 * A table's rows point into a settings struct by offset. Values arrive as text with their source ("run.yaml,
 * line 7" or "command line") and are parsed and checked at once; options_check() then refuses keys that were
 * set but have no effect beside the others chosen.
 */
#ifndef COLLIMATE_UTIL_OPTIONS_H
#define COLLIMATE_UTIL_OPTIONS_H

#include <stddef.h>
#include <stdint.h>

#include "util/text.h"

enum option_type { OPTION_TEXT, OPTION_CHOICE, OPTION_BOOL, OPTION_INT, OPTION_NUMBER };

/* How a run that goes on takes another value of a key. What is not said is refused, so that a new key cannot
 * be forgotten. */
enum option_resume {
    RESUME_SAME,     /* refused: it would change the numbers */
    RESUME_FREE,     /* named */
    RESUME_ROUNDING, /* named: sums may be rounded otherwise */
    RESUME_ANY,      /* a place or a wish, whose contents are compared by themselves */
};

/* `when` is a list of conditions that must all hold, joined by "&":
 *   key          it is not what it is by default
 *   !key         it is
 *   key=a|b      it is one of these
 *   key!=a|b     it is none of these
 *   @words       what the command learns only from its input: words for a message; options_learn says it
 *   a,b          one of both holds
 *   command:a    holds in every other command
 * A condition on a key that the command does not take holds. */
struct option {
    const char *key;       /* "train.learning_rate" */
    enum option_type type; /* field: char *, int (index of the choice), bool, int64_t, double */
    size_t offset;
    const char *fallback; /* the default, as text; "" for no text */
    const char *choices;  /* OPTION_CHOICE: "constant|linear|cosine" */
    double low,
        high; /* OPTION_INT, OPTION_NUMBER: inclusive; both 0: any. Same default and bounds in all commands */
    const char *unit; /* "tokens", "s", "" */
    const char *help;
    const char *commands; /* space-separated commands that take it; "*": all */
    const char *when;     /* the key has an effect only then; NULL: always (see below) */
    enum option_resume resume;
};

struct options {
    const struct option *table;
    int count;
    void *settings;      /* the struct that offsets point into */
    const char *command; /* "dpo"; NULL: every command's keys, for the reference */
    const char *also;    /* further commands whose keys are taken, separated by spaces; NULL: none */
    char **source;       /* per row: where it was set, NULL: default */
};

/* Local. Fills settings with the defaults. */
enum status options_open(struct options *o, const struct option *table, int count, void *settings,
                         const char *command);
void options_close(struct options *o);
/* Sets a key. source: "run.yaml, line 7". Fails: ERR_USAGE with source, key and, for an unknown key, the
 * nearest known one. */
enum status options_set(struct options *o, const char *key, const char *value, const char *source);
/* "key=value" of the command line. */
enum status options_set_argument(struct options *o, const char *argument);
/* After everything is set. Fails: ERR_USAGE for a key that has no effect (source, key, and what it would
 * need). */
enum status options_check(const struct options *o);
/* What the command has learned. Fails: ERR_USAGE for a key that was set and needs "@words", where that does
 * not hold. */
enum status options_learn(const struct options *o, const char *words, bool holds);
/* From now on the keys of `also` are those of this one command. Fails: ERR_USAGE for a key that was set and
 * has no effect in it. */
enum status options_narrow(struct options *o, const char *also);
/* Whether the command takes the key of a row of the table. */
bool options_takes(const struct options *o, int row);
/* Local. Whether there is such a key, of whatever command. */
bool options_knows(const struct options *o, const char *key);
bool options_is_set(const struct options *o, const char *key);
const char *options_source(const struct options *o, const char *key); /* "default" where not set */
/* Appends a key's value as text. Fails: ERR_INTERNAL for an unknown key. */
enum status options_value(const struct options *o, const char *key, struct text *out);
/* The resolved configuration as YAML: keys of this command in table order, nested; with help as comments
 * if `comments` (and ranges and commands, where it is no command's). The commented form can be read back and
 * means the same: keys that were not set stand in it as "#key: default". */
enum status options_print(const struct options *o, bool comments, struct text *out);
/* The help table of this command. */
enum status options_help(const struct options *o, struct text *out);

#endif
