/* judge: which of two or more systems answered the same prompts better, by annotations or by the rewards that
 * stand with their answers; one object. Verdicts are few and small: rank 0 reads and counts them. */
#include <stdio.h>
#include <string.h>

#include "command/command.h"
#include "evaluate/win_rate.h"
#include "io/file.h"
#include "util/log.h"
#include "util/mem.h"

enum { MOST_FILES = 64 };

struct judge {
    struct run *run;
    struct verdicts verdicts;
    struct gamed gamed;
    struct text out;
};

/* A file is called what its name says, without folder and ending. */
static char *name_of(const char *path) {
    const char *slash = strrchr(path, '/');
    const char *begin = slash ? slash + 1 : path;
    const char *dot = strrchr(begin, '.');
    return mem_strndup(begin, dot && dot > begin ? (size_t)(dot - begin) : strlen(begin));
}

static enum status add_answers(struct judge *j, char *const *paths, int n) {
    enum status st = OK;
    for (int b = 1; b < n && st == OK; b++) {
        for (int a = 0; a < b && st == OK; a++) {
            char *names[2] = {name_of(paths[a]), name_of(paths[b])};
            const char *const both[2] = {paths[a], paths[b]};
            st = mem_ok(names[0]) == OK ? mem_ok(names[1]) : fail(ERR_SYSTEM, "out of memory");
            if (st == OK && strcmp(names[0], names[1]) == 0) {
                st = fail(ERR_USAGE, "judge.answers: two files are called %s; name them apart", names[0]);
            }
            const char *const called[2] = {names[0], names[1]};
            st = st == OK ? verdicts_from_rewards(both, called, &j->verdicts) : st;
            mem_free(names[0]);
            mem_free(names[1]);
        }
    }
    return st;
}

static enum status read_answers(struct judge *j, const char *list) {
    char *paths[MOST_FILES] = {NULL};
    int n = 0;
    enum status st = OK;
    for (const char *at = list; *at && st == OK;) {
        size_t length = text_list_name(at);
        if (n == MOST_FILES) {
            st = fail(ERR_USAGE, "judge.answers: more than %d files", MOST_FILES);
            break;
        }
        paths[n] = mem_strndup(at, length);
        st = mem_ok(paths[n++]);
        at += length + (at[length] == ',');
    }
    if (st == OK && n < 2) {
        st = fail(ERR_USAGE, "judge.answers: %s is one file; a comparison needs two or more", list);
    }
    st = st == OK ? add_answers(j, paths, n) : st;
    for (int i = 0; i < n; i++) {
        mem_free(paths[i]);
    }
    return st;
}

/* Local, on rank 0. */
static enum status read_all(struct judge *j) {
    const struct settings *s = j->run->settings;
    TRY(*s->judge.annotations ? verdicts_read(s->judge.annotations, &j->verdicts) : OK);
    TRY(*s->judge.answers ? read_answers(j, s->judge.answers) : OK);
    TRY(*s->judge.gamed ? gamed_read(s->judge.gamed, &j->gamed) : OK);
    if (j->verdicts.n == 0) {
        return fail(ERR_DATA, "%s: no record has a preference", s->judge.annotations);
    }
    if (j->verdicts.without > 0) {
        log_root(LOG_WARN, "%lld records without a preference are left out", (long long)j->verdicts.without);
    }
    return OK;
}

static enum status deliver(struct judge *j) {
    const struct settings *s = j->run->settings;
    TRY(text_puts(&j->out, "}\n"));
    if (*s->output) {
        return file_write(s->output, j->out.data, j->out.len);
    }
    fputs(j->out.data, stdout);
    return fflush(stdout) == 0 ? OK : fail(ERR_WRITE, "standard output: cannot write");
}

static enum status work(struct judge *j) {
    const struct settings *s = j->run->settings;
    struct comm *c = j->run->comm;
    const struct win_rate_options options = {
        .comm = c,
        .intervals = {s->evaluate.bootstrap, s->evaluate.confidence, (uint64_t)s->seed},
        .sensitivity = s->judge.sensitivity,
        .specificity = s->judge.specificity,
        .gamed = *s->judge.gamed ? &j->gamed : NULL};
    enum status st = c->rank == 0 ? read_all(j) : OK;
    st = st == OK
             ? text_printf(&j->out, "{\"verdicts\": %lld, \"without_preference\": %lld, \"confidence\": %g",
                           (long long)j->verdicts.n, (long long)j->verdicts.without, s->evaluate.confidence)
             : st;
    TRY(comm_agree(c, st));
    if (j->run->dry_run) {
        return OK;
    }
    TRY(win_rate_print(&options, &j->verdicts, &j->out));
    return comm_agree(c, c->rank == 0 ? deliver(j) : OK);
}

enum status command_judge(struct run *run) {
    const struct settings *s = run->settings;
    struct judge j = {.run = run};
    if (!*s->judge.annotations && !*s->judge.answers) {
        return fail(ERR_USAGE, "judge: set judge.annotations (a file of verdicts) or judge.answers (files of "
                               "answers with rewards, from generate)");
    }
    if (s->judge.sensitivity + s->judge.specificity <= 1) {
        return fail(ERR_USAGE,
                    "judge.sensitivity + judge.specificity is at most 1: such a judge knows nothing");
    }
    enum status st = work(&j);
    verdicts_free(&j.verdicts);
    gamed_free(&j.gamed);
    text_free(&j.out);
    return st;
}
