#include "util/log.h"

#include <stdarg.h>
#include <unistd.h>

#include "util/clock.h"

/* Per-process facts set once by main; the only mutable state of this room. */
static struct {
    int rank;
    int size;
    enum log_level level;
    int warnings;
    FILE *tee;
    bool live_line; /* a progress line stands on the terminal and must be ended before other text */
} state = {.size = 1, .level = LOG_INFO};

void log_init(int rank, int size, enum log_level level) {
    state.rank = rank;
    state.size = size;
    state.level = level;
}

void log_tee(FILE *file) {
    state.tee = file;
}

int log_warnings(void) {
    return state.warnings;
}

int log_rank(void) {
    return state.rank;
}

static const char *level_prefix(enum log_level level) {
    return level == LOG_WARN ? "warning: " : "";
}

static void emit(enum log_level level, const char *where, const char *format, va_list args) {
    if (level == LOG_WARN) {
        state.warnings++;
    }
    bool is_shown = level <= state.level, is_kept = state.tee && (is_shown || level <= LOG_INFO);
    if (!is_shown && !is_kept) {
        return;
    }
    char text[2048];
    vsnprintf(text, sizeof text, format, args);
    if (is_shown) {
        fprintf(stderr, "%scollimate: %s%s%s\n", state.live_line ? "\n" : "", where, level_prefix(level),
                text);
        state.live_line = false;
    }
    if (is_kept) {
        char stamp[32];
        clock_stamp(stamp, sizeof stamp);
        fprintf(state.tee, "%s %s%s%s\n", stamp, where, level_prefix(level), text);
        fflush(state.tee);
    }
}

void log_root(enum log_level level, const char *format, ...) {
    if (state.rank != 0) {
        return;
    }
    va_list args;
    va_start(args, format);
    emit(level, "", format, args);
    va_end(args);
}

void log_any(enum log_level level, const char *format, ...) {
    char where[48] = "";
    if (state.size > 1) {
        snprintf(where, sizeof where, "[rank %d] ", state.rank);
    }
    va_list args;
    va_start(args, format);
    emit(level, where, format, args);
    va_end(args);
}

enum { BATCH_LOG_INTERVAL_S = 30 };
static const double terminal_interval_s = 0.2;

void progress_start(struct progress *p, const char *label, const char *unit, double total) {
    double now = clock_seconds();
    *p = (struct progress){.label = label, .unit = unit, .start_s = now, .last_s = now, .total = total};
}

static void show(const struct progress *p, double done, double now, const char *extra, bool live) {
    double elapsed = now - p->start_s;
    double rate = elapsed > 0 ? done / elapsed : 0;
    double left = rate > 0 ? (p->total - done) / rate : 0;
    fprintf(stderr, "%scollimate: %s %.0f/%.0f %s, %.4g %s/s, %.0f s left%s%s%s", live ? "\r\033[K" : "",
            p->label, done, p->total, p->unit, rate, p->unit, left, extra ? ", " : "", extra ? extra : "",
            live ? "" : "\n");
    fflush(stderr);
    state.live_line = live;
}

void progress_update(struct progress *p, double done, const char *extra) {
    if (state.rank != 0 || state.level < LOG_INFO) {
        return;
    }
    double now = clock_seconds();
    bool live = isatty(STDERR_FILENO) == 1;
    if (now - p->last_s >= (live ? terminal_interval_s : BATCH_LOG_INTERVAL_S)) {
        show(p, done, now, extra, live);
        p->last_s = now;
        p->last_done = done;
    }
}

void progress_end(struct progress *p, double done) {
    if (state.rank != 0 || state.level < LOG_INFO) {
        return;
    }
    if (isatty(STDERR_FILENO) == 1) {
        show(p, done, clock_seconds(), NULL, true);
        fprintf(stderr, "\n");
        state.live_line = false;
    }
}
