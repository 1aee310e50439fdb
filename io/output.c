#include "io/output.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "io/file.h"
#include "io/h5.h"
#include "util/fault.h"
#include "util/mem.h"
#include "util/regular.h"

/* Links and streams. */

enum status output_follow(const char *path, struct text *out) {
    enum { LINKS = 40, BYTES = 4096 };
    size_t before = out->len;
    TRY(text_puts(out, path));
    for (int i = 0; i < LINKS; i++) {
        char target[BYTES];
        ssize_t n = readlink(out->data + before, target, sizeof target - 1);
        if (n < 0) { /* no link, or nothing there */
            return OK;
        }
        target[n] = '\0';
        const char *slash = strrchr(out->data + before, '/');
        out->len = target[0] == '/' || !slash ? before : (size_t)(slash + 1 - out->data);
        TRY(text_puts(out, target));
    }
    return fail(ERR_WRITE, "%s: %s", path, strerror(ELOOP));
}

/* The descriptor that a name like /dev/fd/3 means; -1: none. Opening it would give another place in a regular
 * file. */
static int named_descriptor(const char *path) {
    static const char *const folders[] = {"/dev/fd/", "/proc/self/fd/"};
    if (strcmp(path, "/dev/stdout") == 0 || strcmp(path, "/dev/stderr") == 0) {
        return path[8] == 'o' ? STDOUT_FILENO : STDERR_FILENO;
    }
    for (int i = 0; i < COUNT_OF(folders); i++) {
        size_t n = strlen(folders[i]);
        char *end;
        if (strncmp(path, folders[i], n) == 0 && path[n] >= '0' && path[n] <= '9') {
            long number = strtol(path + n, &end, 10);
            return *end == '\0' && number < 1 << 20 ? (int)number : -1;
        }
    }
    return -1;
}

bool output_is_stream(const char *path) {
    struct stat facts;
    return named_descriptor(path) >= 0 ||
           (stat(path, &facts) == 0 && (S_ISFIFO(facts.st_mode) || S_ISCHR(facts.st_mode)));
}

enum status output_stream_open(const char *path, int *descriptor) {
    enum { TRIES = 200 };
    static const struct timespec pause = {0, 50000000};
    int number = named_descriptor(path);
    *descriptor = fault_hits(FAULT_OPEN) ? -1
                  : number >= 0          ? dup(number)
                                         : open(path, O_WRONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    for (int i = 0; i < TRIES && *descriptor < 0 && errno == ENXIO; i++) {
        nanosleep(&pause, NULL);
        *descriptor = open(path, O_WRONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    }
    if (*descriptor < 0) {
        return fail(ERR_WRITE, "%s: %s", path,
                    errno == ENXIO ? "nobody opens it for reading" : strerror(errno));
    }
    if (number < 0) {
        (void)fcntl(*descriptor, F_SETFL, 0); /* from here on writes wait for the reader */
    }
    return OK;
}

enum status output_stream_write(int descriptor, const char *path, const char *data, size_t n) {
    return file_put(descriptor, -1, data, n) == 0 ? OK : fail(ERR_WRITE, "%s: %s", path, strerror(errno));
}

enum status output_put(const char *temporary, const char *path) {
    struct stat facts;
    if (lstat(path, &facts) == 0 && !S_ISREG(facts.st_mode)) {
        return fail(ERR_WRITE, "%s: is no regular file; it is not replaced", path);
    }
    return !fault_hits(FAULT_RENAME) && rename(temporary, path) == 0
               ? OK
               : fail(ERR_WRITE, "%s: cannot be renamed from %s: %s", path, temporary, strerror(errno));
}

/* What may be replaced. */

static bool same_file(const char *a, const char *b) {
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static enum status refuse_input(const char *path, const char *input) {
    return fail(ERR_USAGE, "output: %s is the input %s, which it would replace; name another", path, input);
}

/* Is path one of the files in an input folder? */
static enum status check_folder(const char *path, const char *folder) {
    DIR *directory = fault_hits(FAULT_OPEN) ? NULL : opendir(folder);
    enum status st = OK;
    struct text name = {0};
    for (struct dirent *e = directory ? readdir(directory) : NULL; e && st == OK; e = readdir(directory)) {
        text_clear(&name);
        st = text_printf(&name, "%s/%s", folder, e->d_name);
        if (st == OK && e->d_name[0] != '.' && same_file(path, name.data)) {
            st = refuse_input(path, name.data);
        }
    }
    if (directory) {
        closedir(directory);
    }
    text_free(&name);
    return st;
}

static enum status check_inputs(const struct output_rules *rules, const char *path) {
    for (int i = 0; i < rules->n_inputs; i++) {
        struct stat facts;
        const char *input = rules->inputs[i];
        if (stat(input, &facts) != 0) {
            continue; /* whoever reads it says so */
        }
        if (same_file(path, input)) {
            return refuse_input(path, input);
        }
        TRY(S_ISDIR(facts.st_mode) ? check_folder(path, input) : OK);
    }
    return OK;
}

/* The first line, or as much of it as is needed, with its end cut off. */
static enum status first_line(const char *path, char *out, size_t size) {
    int descriptor;
    TRY(regular_open(path, &descriptor, NULL));
    ssize_t n = fault_hits(FAULT_READ) ? -1 : pread(descriptor, out, size - 1, 0);
    enum status st = n >= 0 ? OK : fail(ERR_INPUT, "%s: %s", path, strerror(errno));
    close(descriptor);
    out[n < 0 ? 0 : n] = '\0';
    out[strcspn(out, "\n")] = '\0';
    return st;
}

static bool fits(const char *text, bool is_content, const struct output_mark *mark) {
    return is_content ? strcmp(text, mark->content) == 0
                      : strncmp(text, mark->begins, strlen(mark->begins)) == 0 &&
                            (!mark->holds || strstr(text, mark->holds));
}

enum status output_has_mark(const char *path, const struct output_mark *marks, int n, bool *found) {
    enum { LINE_BYTES = 1 << 16 };
    char *text = NULL;
    bool is_h5 = n > 0 && marks[0].content;
    enum status st = is_h5 ? OK : NEW_ARRAY(text, LINE_BYTES);
    st = st != OK ? st : is_h5 ? h5_content(path, &text) : first_line(path, text, LINE_BYTES);
    *found = false;
    for (int i = 0; i < n && st == OK && *text && !*found; i++) {
        *found = fits(text, is_h5, &marks[i]);
    }
    mem_free(text);
    return st == ERR_DATA ? OK : st; /* that: no file of ours */
}

static enum status refuse_kind(const char *path, mode_t mode, enum output_form form) {
    const char *is = S_ISDIR(mode) ? "a folder" : S_ISREG(mode) ? "a file" : "no regular file";
    return fail(ERR_USAGE, "output: %s is %s, where %s is to be written", path, is,
                form == OUTPUT_FOLDER ? "a folder"
                : form == OUTPUT_HDF5 ? "an HDF5 file"
                                      : "a file or a stream of text");
}

/* A regular file, or the name of one that is not there. */
static enum status check_file(const struct output_rules *rules, const char *path, off_t bytes,
                              const struct output_mark *marks, int n) {
    bool is_result = bytes == 0 || rules->overwrite;
    TRY(check_inputs(rules, path));
    TRY(is_result ? OK : output_has_mark(path, marks, n, &is_result));
    return is_result
               ? OK
               : fail(
                     ERR_USAGE,
                     "output: %s exists and is no earlier result of %s; name another file, remove it, or set "
                     "overwrite=true",
                     path, rules->command);
}

enum status output_check(const struct output_rules *rules, const char *path, enum output_form form,
                         const struct output_mark *marks, int n) {
    struct text target = {0};
    struct stat facts;
    if (output_is_stream(path)) {
        return form == OUTPUT_TEXT ? OK : refuse_kind(path, S_IFIFO, form);
    }
    enum status st = output_follow(path, &target);
    bool is_there = st == OK && stat(target.data, &facts) == 0;
    if (is_there && (form == OUTPUT_FOLDER ? !S_ISDIR(facts.st_mode) : !S_ISREG(facts.st_mode))) {
        st = refuse_kind(path, facts.st_mode, form);
    }
    st = st == OK && form == OUTPUT_FOLDER ? check_inputs(rules, target.data) : st;
    if (st == OK && form != OUTPUT_FOLDER) {
        st = check_file(rules, target.data, is_there ? facts.st_size : 0, marks, n);
    }
    text_free(&target);
    return st == ERR_WRITE ? fail(ERR_USAGE, "%s", status_message()->text) : st;
}

enum status output_check_folder(const char *path) {
    struct text folder = {0};
    struct stat facts;
    enum status st = output_is_stream(path) ? OK : output_follow(path, &folder);
    char *slash = folder.data ? strrchr(folder.data, '/') : NULL;
    if (st == OK && slash) {
        slash[slash == folder.data] = '\0';
        bool is_there = stat(folder.data, &facts) == 0;
        if (!is_there || !S_ISDIR(facts.st_mode)) {
            st = fail(ERR_WRITE, "%s: cannot be written: %s: %s", path, folder.data,
                      is_there ? strerror(ENOTDIR) : strerror(errno));
        }
    }
    text_free(&folder);
    return st;
}
