#include "train/stop.h"

#include <ctype.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const double term_s = 2;        /* from the order to end to mpirun's SIGKILL */
static const double term_margin = 1.2; /* a write may take so much longer than the last one */
static const double limit_margin = 2;  /* and with a limit, so much longer */
static const double limit_spare_s = 1; /* to end */

enum stop stop_vote(const struct stop_facts *f) {
    if (f->signal == SIGTERM) {
        return f->signal_age_s + term_margin * f->save_s > term_s ? STOP_TERM_TIGHT : STOP_TERM;
    }
    if (f->signal != 0) {
        return STOP_USR1;
    }
    double need_s = limit_margin * (f->step_s + f->save_s + f->evaluate_s) + limit_spare_s;
    return f->stop_at > 0 && f->now + need_s >= f->stop_at ? STOP_LIMIT : STOP_NO;
}

bool stop_wants_measure(const struct stop_facts *f, double began) {
    return f->stop_at > 0 && f->save_s == 0 && f->now - began >= (f->stop_at - began) / 2;
}

void stop_describe(enum stop why, int64_t step, int64_t saved, char *out, size_t size) {
    static const char *const reasons[STOP_COUNT] = {
        "", "stopped before the time limit", "stopped on SIGUSR1", "stopped on SIGTERM",
        "stopped on SIGTERM, which leaves too little time for a checkpoint,"};
    char rest[64] = "there is no checkpoint yet";
    if (saved >= 0) {
        snprintf(rest, sizeof rest, "the checkpoint is of step %lld", (long long)saved);
    }
    snprintf(out, size, "%s after step %lld; %s; run the same command again to go on", reasons[why],
             (long long)step, rest);
}

/* *out is seconds since the epoch. */
static bool parse_time(const char *text, double *out) {
    static const char *const formats[] = {"%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S"};
    for (int i = 0; i < COUNT_OF(formats); i++) {
        struct tm t = {0};
        const char *rest = strptime(text, formats[i], &t);
        bool utc = rest && strcmp(rest, "Z") == 0;
        if (rest && (utc || *rest == '\0')) {
            t.tm_isdst = -1; /* the time zone's rules say */
            *out = (double)(utc ? timegm(&t) : mktime(&t));
            return true;
        }
    }
    return false;
}

/* Units come in falling order, each once; a number without a unit is seconds. */
static bool parse_duration(const char *text, double *out) {
    static const struct {
        char letter;
        double seconds;
    } units[] = {{'d', 86400}, {'h', 3600}, {'m', 60}, {'s', 1}};
    int next = 0;
    *out = 0;
    while (isdigit((unsigned char)*text)) {
        char *end;
        double value = strtod(text, &end);
        char letter = *end ? *end : 's';
        while (next < COUNT_OF(units) && units[next].letter != letter) {
            next++;
        }
        if (next == COUNT_OF(units)) {
            return false;
        }
        *out += value * units[next++].seconds;
        text = *end ? end + 1 : end;
    }
    return *text == '\0' && *out > 0 && isfinite(*out);
}

enum status stop_parse(const char *text, double began, double *out) {
    double duration;
    *out = 0;
    if (!*text) {
        return OK;
    }
    if (parse_time(text, out)) {
        return *out > began
                   ? OK
                   : fail(ERR_USAGE,
                          "train.stop_before: %s is past, by %.0f s; set a time to come, or a duration "
                          "(2h30m), which counts from each start",
                          text, began - *out);
    }
    if (!parse_duration(text, &duration)) {
        return fail(ERR_USAGE,
                    "train.stop_before: \"%s\" is neither a duration (9000, 150m, 2h30m) nor a time "
                    "(2026-11-21T08:00:00Z)",
                    text);
    }
    *out = began + duration;
    return OK;
}
