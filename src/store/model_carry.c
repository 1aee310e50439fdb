#include "store/model_carry.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/file.h"
#include "util/fault.h"
#include "util/log.h"
#include "util/mem.h"
#include "util/regular.h"
#include "util/text.h"

/* The largest tokenizers take some ten MiB: what is larger is weights under a name that is not known here. */
static const int64_t most_bytes = (int64_t)256 << 20;

static const char *const weights[] = {".safetensors", ".index.json", ".bin",    ".pt",      ".pth",
                                      ".ckpt",        ".ckpt.index", ".h5",     ".msgpack", ".ot",
                                      ".gguf",        ".npz",        ".tflite", ".onnx",    ".onnx_data",
                                      ".mlmodel",     ".mlpackage",  ".distcp", ".tmp",     ".nemo"};

static const char *const anew[] = {"config.json", "generation_config.json", "adapter_config.json"};

/* What is taken of a folder, beside what never is. */
enum taken {
    ALL,
    ALL_BUT_TOKENIZER, /* whose files come from elsewhere; chat templates are taken */
    TOKENIZER_ALONE,   /* and its chat templates */
};

static bool is_taken(const char *name, enum taken what) {
    enum tokenizer_file kind = tokenizer_file_of(name);
    return what == TOKENIZER_ALONE ? kind != TOKENIZER_NONE : what == ALL || kind != TOKENIZER_FILE;
}

static bool is_carried(const char *name) {
    for (int i = 0; i < COUNT_OF(weights); i++) {
        if (text_ends(name, weights[i])) {
            return false;
        }
    }
    for (int i = 0; i < COUNT_OF(anew); i++) {
        if (strcmp(name, anew[i]) == 0) {
            return false;
        }
    }
    return name[0] != '.';
}

static enum status read_raw(const char *path, char **data, int64_t *n) {
    int descriptor;
    TRY(regular_open(path, &descriptor, n));
    enum status st = *n <= most_bytes ? OK
                                      : fail(ERR_DATA, "%s: %lld bytes, more than any file beside weights",
                                             path, (long long)*n);
    st = st == OK ? NEW_ARRAY(*data, *n) : st;
    st = st == OK ? file_read_at(descriptor, path, 0, *data, (size_t)*n) : st;
    close(descriptor);
    return st;
}

static enum status copy_file(const char *from, const char *folder, const char *name) {
    char *data = NULL;
    int64_t n = 0;
    struct text to = {0};
    enum status st = OK;
    if (read_raw(from, &data, &n) != OK) {
        log_root(LOG_WARN, "not carried over: %s", status_message()->text);
        status_clear();
        goto done;
    }
    TRY_TO(done, folder_make(folder));
    TRY_TO(done, text_printf(&to, "%s/%s", folder, name));
    st = file_write(to.data, data, (size_t)n);
done:
    mem_free(data);
    text_free(&to);
    return st;
}

/* A run of ours that was put into the model's folder. */
static bool is_run(const char *folder) {
    struct text path = {0};
    bool found = text_printf(&path, "%s/environment.json", folder) == OK && access(path.data, F_OK) == 0;
    text_free(&path);
    return found;
}

static bool has_what_is_carried(const char *folder, const char *name) {
    return !text_starts(name, "checkpoint-") && !is_run(folder);
}

static enum status carry_folder(const char *from, const char *to, enum taken what, int depth);

static enum status carry_entry(const char *from, const char *to, const char *name, int depth) {
    struct text source = {0};
    struct text target = {0};
    struct stat facts;
    enum status st;
    TRY_TO(done, text_printf(&source, "%s/%s", from, name));
    TRY_TO(done, text_printf(&target, "%s/%s", to, name));
    if (stat(source.data, &facts) != 0) {
        log_root(LOG_WARN, "not carried over: %s cannot be read", source.data);
    } else if (S_ISREG(facts.st_mode)) {
        st = copy_file(source.data, to, name);
    } else if (S_ISDIR(facts.st_mode) && depth == 0 && has_what_is_carried(source.data, name)) {
        st = carry_folder(source.data, target.data, ALL, depth + 1);
    }
done:
    text_free(&source);
    text_free(&target);
    return st;
}

static enum status carry_folder(const char *from, const char *to, enum taken what, int depth) {
    enum status st = OK;
    DIR *entries = fault_hits(FAULT_OPEN) ? NULL : opendir(from);
    if (!entries) {
        log_root(LOG_WARN, "not carried over: %s cannot be read", from);
        return OK;
    }
    for (const struct dirent *e = readdir(entries); e && st == OK; e = readdir(entries)) {
        st =
            is_carried(e->d_name) && is_taken(e->d_name, what) ? carry_entry(from, to, e->d_name, depth) : OK;
    }
    closedir(entries);
    return st;
}

static bool same_folder(const char *a, const char *b) {
    struct stat x;
    struct stat y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

enum status model_carry(const char *from, const struct tokenizer *tokenizer, const char *to) {
    const char *own = tokenizer ? tokenizer_folder(tokenizer) : NULL;
    bool is_elsewhere = tokenizer && (!own || !from || !same_folder(own, from));
    if (from && !same_folder(from, to)) {
        TRY(carry_folder(from, to, is_elsewhere ? ALL_BUT_TOKENIZER : ALL, 0));
    }
    if (tokenizer && !own) {
        return tokenizer_write_bytes(to);
    }
    return is_elsewhere && !same_folder(own, to) ? carry_folder(own, to, TOKENIZER_ALONE, 0) : OK;
}
