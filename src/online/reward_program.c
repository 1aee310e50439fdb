#include "online/reward_program.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/clock.h"
#include "util/json.h"
#include "util/mem.h"
#include "util/text.h"

enum { LONGEST_LINE = 1 << 20, SHOWN_BYTES = 120 };
/* For a program to end once its input is closed, again once it is told, and once it closed its output. */
#define GRACE_S 2.0

struct reward_program {
    pid_t pid;    /* of the shell; 0: it has ended */
    pid_t group;  /* of the shell and what it starts; 0: none */
    int to, from; /* -1: closed */
    int exit;     /* of waitpid, once it has ended */
    int rank;
    double timeout_s;
    struct text requests, replies;
    size_t sent, read; /* of requests and replies */
    /* Of the run. */
    const struct rewarded *responses;
    int64_t n, answered;
    double *rewards;
    double heard_s;
};

/* Starting and ending. */

/* Variables by which a program would take itself for one of this job's ranks. */
static bool is_ranks(const char *variable) {
    static const char *const prefixes[] = {
        "OMPI_", "PMIX_", "PMI_", "PRTE_", "MPI_LOCALRANKID", "PYTHONUNBUFFERED=", "COLLIMATE_REWARD_RANK="};
    for (int i = 0; i < COUNT_OF(prefixes); i++) {
        if (text_starts(variable, prefixes[i])) {
            return true;
        }
    }
    return false;
}

/* Borrows from environ and `rank`. */
static enum status make_environment(char *rank, char ***out) {
    static char unbuffered[] = "PYTHONUNBUFFERED=1";
    int64_t n = 0, kept = 0;
    for (; environ[n]; n++) {
    }
    TRY(NEW_ARRAY(*out, n + 3));
    for (int64_t i = 0; i < n; i++) {
        if (!is_ranks(environ[i])) {
            (*out)[kept++] = environ[i];
        }
    }
    (*out)[kept++] = unbuffered;
    (*out)[kept] = rank;
    return OK;
}

/* The program begins with the signals of a shell's child, and nothing of ours but its two pipes. */
static int spawn(const char *command, int in, int out, char **environment, pid_t *pid) {
    posix_spawn_file_actions_t files;
    posix_spawnattr_t how;
    sigset_t none, all;
    char *const argv[] = {(char[]){"sh"}, (char[]){"-c"}, (char *)command, NULL};
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, in, 0);
    posix_spawn_file_actions_adddup2(&files, out, 1);
#if defined(__GLIBC_PREREQ)
#if __GLIBC_PREREQ(2, 34)
    posix_spawn_file_actions_addclosefrom_np(&files, 3);
#endif
#endif
    posix_spawnattr_init(&how);
    posix_spawnattr_setflags(&how, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setsigmask(&how, &none);
    posix_spawnattr_setsigdefault(&how, &all);
    posix_spawnattr_setpgroup(&how, 0);
    int error = posix_spawn(pid, "/bin/sh", &files, &how, argv, environment);
    posix_spawnattr_destroy(&how);
    posix_spawn_file_actions_destroy(&files);
    return error;
}

static void shut(int *descriptor) {
    if (*descriptor >= 0) {
        close(*descriptor);
        *descriptor = -1;
    }
}

static enum status start(struct reward_program *p, const char *command) {
    char rank[64];
    char **environment = NULL;
    int in[2] = {-1, -1}, out[2] = {-1, -1};
    snprintf(rank, sizeof rank, "COLLIMATE_REWARD_RANK=%d", p->rank);
    TRY(make_environment(rank, &environment));
    int error = pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0 ? errno : 0;
    error = error ? error : spawn(command, in[0], out[1], environment, &p->pid);
    p->to = in[1];
    p->from = out[0];
    shut(&in[0]);
    shut(&out[1]);
    mem_free(environment);
    if (!error) {
        error =
            fcntl(p->to, F_SETFL, O_NONBLOCK) != 0 || fcntl(p->from, F_SETFL, O_NONBLOCK) != 0 ? errno : 0;
        p->group = p->pid;
    } else {
        p->pid = 0;
    }
    return error ? fail(ERR_SYSTEM, "online.reward_command on rank %d: cannot start a shell: %s", p->rank,
                        strerror(error))
                 : OK;
}

enum status reward_program_open(const char *command, double timeout_s, int rank,
                                struct reward_program **out) {
    struct reward_program *p;
    TRY(NEW_ARRAY(p, 1));
    *p = (struct reward_program){.to = -1, .from = -1, .rank = rank, .timeout_s = timeout_s};
    (void)signal(SIGPIPE, SIG_IGN); /* a program that closes its input is an error to report, not our end */
    enum status st = start(p, command);
    if (st != OK) {
        reward_program_close(p);
        return st;
    }
    *out = p;
    return OK;
}

/* Whether the program has ended within `seconds`. */
static bool ends_within(struct reward_program *p, double seconds) {
    for (double until = clock_seconds() + seconds; p->pid > 0;) {
        if (waitpid(p->pid, &p->exit, WNOHANG) != 0) {
            p->pid = 0;
        } else if (clock_seconds() > until) {
            return false;
        } else {
            (void)poll(NULL, 0, 5);
        }
    }
    return true;
}

/* What the shell has started is in its group, and goes with it. */
static void end(struct reward_program *p) {
    if (p->group <= 0) {
        return;
    }
    if (!ends_within(p, GRACE_S)) {
        kill(-p->group, SIGTERM);
        (void)ends_within(p, GRACE_S);
    }
    kill(-p->group, SIGKILL);
    (void)ends_within(p, GRACE_S);
    p->group = 0;
}

void reward_program_close(struct reward_program *p) {
    if (!p) {
        return;
    }
    shut(&p->to);
    shut(&p->from);
    end(p);
    text_free(&p->requests);
    text_free(&p->replies);
    mem_free(p);
}

/* Asking. */

static enum status put_string(struct text *t, const char *key, const char *value) {
    TRY(text_printf(t, ", \"%s\": ", key));
    return value ? text_json(t, value, strlen(value)) : text_puts(t, "null");
}

static enum status put_request(struct text *t, const struct rewarded *r, int64_t left) {
    TRY(text_printf(t, "{\"row\": %lld, \"sample\": %d", (long long)r->row, (int)r->sample));
    TRY(put_string(t, "prompt", r->prompt));
    TRY(put_string(t, "text", r->text));
    TRY(text_puts(t, ", \"tokens\": ["));
    for (int64_t i = 0; i < r->n_tokens; i++) {
        TRY(text_printf(t, "%s%d", i > 0 ? ", " : "", (int)r->tokens[i]));
    }
    TRY(text_puts(t, "]"));
    TRY(put_string(t, "answer", r->answer));
    return text_printf(t, ", \"left\": %lld}\n", (long long)left);
}

/* What went wrong, at the first response that has no reward. */
static enum status fail_here(const struct reward_program *p, const char *what) {
    if (p->answered < p->n) {
        const struct rewarded *r = &p->responses[p->answered];
        return fail(ERR_DATA, "online.reward_command on rank %d: row %lld, sample %d: %s", p->rank,
                    (long long)r->row, (int)r->sample, what);
    }
    return fail(ERR_DATA, "online.reward_command on rank %d: after row %lld, sample %d: %s", p->rank,
                p->n > 0 ? (long long)p->responses[p->n - 1].row : -1,
                p->n > 0 ? (int)p->responses[p->n - 1].sample : -1, what);
}

static enum status fail_line(const struct reward_program *p, const char *what, const char *line, size_t n) {
    struct text shown = {0};
    char text[SHOWN_BYTES * 6 + 400];
    TRY(text_json(&shown, line, n < SHOWN_BYTES ? n : SHOWN_BYTES));
    snprintf(text, sizeof text, "%s: it wrote %.*s%s", what, SHOWN_BYTES * 6, shown.data,
             n > SHOWN_BYTES ? "…" : "");
    text_free(&shown);
    return fail_here(p, text);
}

static enum status fail_ended(struct reward_program *p) {
    char what[300];
    if (!ends_within(p, GRACE_S)) {
        snprintf(what, sizeof what,
                 "the program closed its output after %lld of %lld rewards; it must answer "
                 "until its input ends",
                 (long long)p->answered, (long long)p->n);
        kill(-p->group, SIGKILL);
        return fail_here(p, what);
    }
    bool killed = WIFSIGNALED(p->exit);
    int code = killed ? WTERMSIG(p->exit) : WEXITSTATUS(p->exit);
    snprintf(what, sizeof what,
             "the program ended (%s %d%s) after %lld of %lld rewards; its own messages are "
             "above; it must answer every line and go on until its input ends",
             killed ? "signal" : "exit status", code, !killed && code == 127 ? ": no such command" : "",
             (long long)p->answered, (long long)p->n);
    return fail_here(p, what);
}

static enum status fail_silent(struct reward_program *p) {
    char what[300];
    snprintf(what, sizeof what,
             "the program has said nothing for %g s, after %lld of %lld rewards; look whether it hangs or "
             "keeps its "
             "lines back (flush them), or set online.reward_timeout_s higher",
             p->timeout_s, (long long)p->answered, (long long)p->n);
    kill(-p->group, SIGKILL);
    return fail_here(p, what);
}

/* Answers. */

static enum status check_echo(const struct reward_program *p, const json_t *reply, const char *line,
                              size_t n) {
    const struct rewarded *r = &p->responses[p->answered];
    int64_t row = r->row, sample = r->sample;
    TRY(json_take_int(reply, "row", "online.reward_command", &row));
    TRY(json_take_int(reply, "sample", "online.reward_command", &sample));
    return row == r->row && sample == r->sample ? OK : fail_line(p, "an answer to another question", line, n);
}

static enum status take_value(const struct reward_program *p, const json_t *reply, const char *line, size_t n,
                              double *out) {
    const json_t *value = json_is_object(reply) ? json_object_get(reply, "reward") : reply;
    TRY(json_is_object(reply) ? check_echo(p, reply, line, n) : OK);
    if (json_is_null(value)) {
        return fail_line(p, "the reward is not a finite number", line, n);
    }
    if (!json_is_number(value)) {
        return fail_line(p,
                         "not a line with a reward ({\"reward\": 0.5}, or 0.5); what is meant for people "
                         "belongs on its standard error",
                         line, n);
    }
    *out = json_number_value(value);
    return isfinite(*out) ? OK : fail_line(p, "the reward is not a finite number", line, n);
}

static bool is_infinite(const char *line, size_t n) {
    char text[16] = "", *end;
    memcpy(text, line, n < sizeof text ? n : 0);
    double v = strtod(text, &end);
    return end > text && *end == '\0' && !isfinite(v);
}

static enum status take_line(struct reward_program *p, const char *line, size_t n) {
    if (p->answered == p->n) {
        return fail_line(p, "more lines than it was asked", line, n);
    }
    if (is_infinite(line, n)) {
        return fail_line(p, "the reward is not a finite number", line, n);
    }
    json_t *reply = NULL;
    if (json_parse_record(line, n, "online.reward_command", &reply) != OK) {
        return fail_line(p,
                         "not a line with a reward ({\"reward\": 0.5}, or 0.5); what is meant for people "
                         "belongs on its standard error",
                         line, n);
    }
    enum status st = take_value(p, reply, line, n, &p->rewards[p->answered]);
    json_decref(reply);
    p->answered += st == OK;
    return st;
}

/* The whole lines that have come. */
static enum status take_lines(struct reward_program *p) {
    const char *end;
    while (p->read < p->replies.len &&
           (end = memchr(p->replies.data + p->read, '\n', p->replies.len - p->read))) {
        const char *line = p->replies.data + p->read;
        size_t n = (size_t)(end - line);
        p->read += n + 1;
        n -= n > 0 && line[n - 1] == '\r';
        TRY(take_line(p, line, n));
        p->heard_s = clock_seconds();
    }
    return p->replies.len - p->read > LONGEST_LINE
               ? fail_line(p, "a line without an end", p->replies.data + p->read, LONGEST_LINE)
               : OK;
}

/* Reads what is there; *ended: the program has closed its output. */
static enum status hear(struct reward_program *p, bool *ended) {
    char bytes[65536];
    ssize_t n = read(p->from, bytes, sizeof bytes);
    *ended = n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
    return n > 0 ? text_append(&p->replies, bytes, (size_t)n) : OK;
}

static void speak(struct reward_program *p) {
    ssize_t n = write(p->to, p->requests.data + p->sent, p->requests.len - p->sent);
    if (n > 0) {
        p->sent += (size_t)n;
        p->heard_s = clock_seconds();
    } else if (errno != EAGAIN && errno != EINTR) {
        p->sent = p->requests.len; /* it reads no more; whether it has answered all is seen by its lines */
    }
}

/* One round of speaking and listening. */
static enum status converse(struct reward_program *p) {
    bool speaks = p->sent < p->requests.len, ended = false;
    struct pollfd both[] = {{.fd = p->from, .events = POLLIN},
                            {.fd = speaks ? p->to : -1, .events = POLLOUT}};
    double left = p->timeout_s - (clock_seconds() - p->heard_s);
    if (left <= 0) {
        return fail_silent(p);
    }
    if (poll(both, 2, left > 1 ? 1000 : (int)(left * 1000) + 1) <= 0) {
        return OK;
    }
    if (both[0].revents) {
        TRY(hear(p, &ended));
        TRY(take_lines(p));
    }
    if (both[1].revents) {
        speak(p);
    }
    return ended && p->answered < p->n ? fail_ended(p) : OK;
}

/* Nothing may have been said that was not asked. */
static enum status check_quiet(struct reward_program *p) {
    bool ended;
    TRY(hear(p, &ended));
    return p->read < p->replies.len ? fail_line(p, "more lines than it was asked", p->replies.data + p->read,
                                                p->replies.len - p->read)
                                    : OK;
}

enum status reward_program_run(struct reward_program *p, const struct rewarded *responses, int64_t n,
                               double *rewards) {
    p->responses = responses;
    p->n = n;
    p->answered = 0;
    p->rewards = rewards;
    TRY(check_quiet(p)); /* since the run before */
    text_clear(&p->requests);
    text_clear(&p->replies);
    p->sent = p->read = 0;
    for (int64_t i = 0; i < n; i++) {
        TRY(put_request(&p->requests, &responses[i], n - 1 - i));
    }
    p->heard_s = clock_seconds();
    while (p->answered < n) {
        TRY(converse(p));
    }
    return check_quiet(p);
}
