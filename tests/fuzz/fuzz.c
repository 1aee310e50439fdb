#include "fuzz.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/log.h"
#include "util/status.h"

static char folder[256];
static struct comm *comm;

static void end(void) {
    DIR *listing = opendir(folder);
    for (struct dirent *e = listing ? readdir(listing) : NULL; e; e = readdir(listing)) {
        if (e->d_name[0] != '.') {
            unlink(fuzz_path(e->d_name));
        }
    }
    if (listing) {
        closedir(listing);
        rmdir(folder);
    }
}

struct comm *fuzz_comm(void) {
    if (!comm) {
        int argc = 1;
        char name[] = "fuzz";
        char *arguments[] = {name, NULL};
        char **argv = arguments;
        log_init(0, 1, LOG_ERROR);
        FUZZ_CHECK(comm_start(&argc, &argv, &comm) == OK);
    }
    return comm;
}

/* Before the first input: what MPI compares at its start is none of the target's doing. */
int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    (void)fuzz_comm();
    return 0;
}

const char *fuzz_folder(void) {
    if (!folder[0]) {
        const char *given = getenv("FUZZ_FOLDER");
        const char *parent = getenv("TMPDIR");
        if (given) {
            snprintf(folder, sizeof folder, "%s", given);
            return folder;
        }
        snprintf(folder, sizeof folder, "%s/collimate-fuzz-XXXXXX", parent ? parent : "/tmp");
        FUZZ_CHECK(mkdtemp(folder) != NULL);
        atexit(end);
    }
    return folder;
}

const char *fuzz_path(const char *name) {
    static char paths[4][512];
    static int next;
    next = (next + 1) % 4;
    snprintf(paths[next], sizeof paths[next], "%s/%s", fuzz_folder(), name);
    return paths[next];
}

void fuzz_put(const char *name, const void *data, size_t size) {
    int file = open(fuzz_path(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    FUZZ_CHECK(file >= 0);
    for (size_t done = 0; done < size;) {
        ssize_t n = write(file, (const char *)data + done, size - done);
        FUZZ_CHECK(n > 0);
        done += (size_t)n;
    }
    FUZZ_CHECK(close(file) == 0);
}

void fuzz_remove(const char *name) {
    unlink(fuzz_path(name));
}

static const char mark[] = "%%% ";

/* The begin of the next section at or after `from`, or the end. */
static const uint8_t *next_section(const uint8_t *from, const uint8_t *end_of_data, const uint8_t *begin) {
    for (const uint8_t *at = from; at < end_of_data; at++) {
        at = memchr(at, mark[0], (size_t)(end_of_data - at));
        if (!at) {
            break;
        }
        bool fits = (size_t)(end_of_data - at) >= sizeof mark - 1 && memcmp(at, mark, sizeof mark - 1) == 0;
        if (fits && (at == begin || at[-1] == '\n')) {
            return at;
        }
    }
    return end_of_data;
}

void fuzz_split(const uint8_t *data, size_t size, struct fuzz_section *sections, int n) {
    const uint8_t *last = data + size;
    const uint8_t *at = size ? next_section(data, last, data) : last;
    if (at != data) {
        sections[0].data = data;
        sections[0].size = size;
        return;
    }
    while (at < last) {
        const uint8_t *name = at + sizeof mark - 1;
        const uint8_t *line = memchr(name, '\n', (size_t)(last - name));
        if (!line) {
            return;
        }
        const uint8_t *begin = line + 1;
        at = next_section(begin, last, data);
        const uint8_t *stop = at > begin && at[-1] == '\n' ? at - 1 : at;
        for (int i = 0; i < n; i++) {
            size_t length = strlen(sections[i].name);
            if (length == (size_t)(line - name) && memcmp(sections[i].name, name, length) == 0) {
                sections[i].data = begin;
                sections[i].size = (size_t)(stop - begin);
            }
        }
    }
}

void fuzz_split_files(const uint8_t *data, size_t size, struct fuzz_section *sections, int n) {
    fuzz_split(data, size, sections, n);
    for (int i = 0; i < n; i++) {
        if (sections[i].data) {
            fuzz_put(sections[i].name, sections[i].data, sections[i].size);
        } else {
            fuzz_remove(sections[i].name);
        }
    }
}

void fuzz_check(bool holds, const char *what, const char *file, int line) {
    if (!holds) {
        fprintf(stderr, "%s:%d: does not hold: %s\nlast message: %s\n", file, line, what,
                status_message()->text);
        abort();
    }
}

bool fuzz_fine(enum status st, enum status refusal) {
    if (st != OK && st != refusal) {
        fprintf(stderr, "code %d (%s): %s\n", (int)st, status_name(st), status_message()->text);
        abort();
    }
    if (st != OK && !status_message()->text[0]) {
        fprintf(stderr, "a refusal without a message\n");
        abort();
    }
    return st == OK;
}
