#include "util/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local struct message current;

void status_fail(enum status code, const char *file, int line, const char *format, ...) {
    va_list args;
    va_start(args, format);
    char text[sizeof current.text]; /* the arguments may point into the current record */
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    memcpy(current.text, text, sizeof text);
    current.code = code;
    current.file = file;
    current.line = line;
}

enum status note(const char *format, ...) {
    size_t used = strlen(current.text);
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    snprintf(current.text + used, sizeof current.text - used, " (while %s)", text);
    return current.code;
}

const struct message *status_message(void) {
    return &current;
}

enum status status_code(void) {
    return current.code;
}

void status_clear(void) {
    current = (struct message){0};
}

void status_set(const struct message *message) {
    current = *message;
}

const char *status_name(enum status code) {
    switch (code) {
    case OK:
        return "done";
    case ERR_USAGE:
        return "usage or configuration";
    case ERR_DATA:
        return "bad input data";
    case ERR_INPUT:
        return "input missing";
    case ERR_INTERNAL:
        return "internal error";
    case ERR_SYSTEM:
        return "system or device";
    case ERR_WRITE:
        return "cannot write";
    case ERR_LOST:
        return "lost rank or watchdog";
    case REQUEUE:
        return "checkpointed, requeue";
    }
    return "unknown";
}
