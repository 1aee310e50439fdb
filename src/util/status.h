/* Errors: one code, one message.
 *
 * A function that can fail returns an enum status and has recorded, for this thread, what went wrong, where,
 * in which file or key, and what to do about it. The codes are the process exit codes documented in the
 * README; main() agrees on the worst over all ranks, prints one message and ends with that code. Nothing
 * below src/command/ exits.
 *
 *     enum status x_read(const char *path, struct x **out)
 *     {
 *         TRY(file_read(path, &text));
 *         if (text.len == 0) {
 *             return fail(ERR_DATA, "%s: empty file; expected JSON Lines", path);
 *         }
 *         ...
 */
#ifndef COLLIMATE_UTIL_STATUS_H
#define COLLIMATE_UTIL_STATUS_H

#include <stdbool.h>

enum status {
    OK = 0,
    ERR_USAGE = 2,     /* usage or configuration */
    ERR_DATA = 65,     /* bad input data */
    ERR_INPUT = 66,    /* input missing or unreadable */
    ERR_INTERNAL = 70, /* a broken invariant of ours */
    ERR_SYSTEM = 71,   /* memory, system or device */
    ERR_WRITE = 73,    /* cannot write */
    ERR_LOST = 75,     /* watchdog, or a rank was lost */
    REQUEUE = 85,      /* checkpointed on a signal or a limit; run again */
};

/* The record of this thread's last failure. text holds "what (while …; while …)". */
struct message {
    enum status code;
    char text[1024];
    const char *file; /* source position of fail() */
    int line;
};

/* Records the message and returns code, so that a caller writes `return fail(ERR_DATA, "…", …);`. */
#define fail(code, ...) status_same((status_fail((code), __FILE__, __LINE__, __VA_ARGS__), (code)))
void status_fail(enum status code, const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Hands the code through, so that readers and static analysis see which one a fail() returns. */
static inline enum status status_same(enum status code) {
    return code;
}

/* Adds "while …" to the current record on the way up; returns its code. At most a few are kept. */
enum status note(const char *format, ...) __attribute__((format(printf, 1, 2)));

const struct message *status_message(void);
/* Code of the current record: OK when nothing has failed since status_clear(). */
enum status status_code(void);
void status_clear(void);
/* Replaces this thread's record, e.g. by the one agreed on over all ranks. */
void status_set(const struct message *message);
/* "bad input data", …: one or two words for a code. */
const char *status_name(enum status code);

#define TRY(expression)                         \
    do {                                        \
        enum status try_status_ = (expression); \
        if (try_status_ != OK) {                \
            return try_status_;                 \
        }                                       \
    } while (0)

/* For functions that clean up: `st` is an enum status in scope, `done` the label. */
#define TRY_TO(done, expression) \
    do {                         \
        st = (expression);       \
        if (st != OK) {          \
            goto done;           \
        }                        \
    } while (0)

#define COUNT_OF(array) ((int)(sizeof(array) / sizeof((array)[0])))

#endif
