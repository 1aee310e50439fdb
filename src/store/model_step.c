#include "store/model_step.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"
#include "util/fault.h"
#include "util/json.h"

#define STEP_FILE "step.json"

enum status model_step_write(const char *folder, int64_t step) {
    struct text path = {0}, json = {0};
    enum status st;
    TRY_TO(done, text_printf(&path, "%s/" STEP_FILE, folder));
    TRY_TO(done, text_printf(&json, "{\"step\": %lld}\n", (long long)step));
    TRY_TO(done, file_write(path.data, json.data, json.len));
done:
    text_free(&path);
    text_free(&json);
    return st;
}

static enum status remove_file(const char *folder, const char *name) {
    struct text path = {0};
    enum status st = text_printf(&path, "%s/%s", folder, name);
    if (st == OK && unlink(path.data) != 0 && errno != ENOENT && errno != ENOTDIR) {
        st = fail(ERR_WRITE, "%s: cannot be removed: %s", path.data, strerror(errno));
    }
    text_free(&path);
    return st;
}

enum status model_step_forget(const char *folder) {
    return remove_file(folder, STEP_FILE);
}

int64_t model_step_read(const char *folder) {
    struct text path = {0};
    json_t *object = NULL;
    int64_t step = -1;
    if (text_printf(&path, "%s/" STEP_FILE, folder) == OK && access(path.data, R_OK) == 0 &&
        json_load(path.data, &object) == OK) {
        const json_t *value = json_object_get(object, "step");
        step = json_is_integer(value) && json_integer_value(value) >= 0 ? json_integer_value(value) : -1;
    }
    status_clear(); /* a damaged one says nothing */
    json_decref(object);
    text_free(&path);
    return step;
}

static bool is_ours(const char *name) {
    static const char *const names[] = {"config.json",
                                        "generation_config.json",
                                        "model.safetensors",
                                        "model.safetensors.index.json",
                                        "tokenizer.json",
                                        "vocab.json",
                                        "merges.txt",
                                        "special_tokens_map.json",
                                        "tokenizer_config.json",
                                        "added_tokens.json",
                                        "tokenizer.model",
                                        "adapter_config.json",
                                        "adapter_model.safetensors"};
    for (int i = 0; i < COUNT_OF(names); i++) {
        if (strcmp(names[i], name) == 0) {
            return true;
        }
    }
    return text_starts(name, "model-") && text_ends(name, ".safetensors");
}

enum status model_step_remove(const char *folder) {
    TRY(model_step_forget(folder));
    DIR *directory = fault_hits(FAULT_OPEN) ? NULL : opendir(folder);
    if (!directory) {
        return OK; /* there is none */
    }
    enum status st = OK;
    for (struct dirent *e = readdir(directory); e && st == OK; e = readdir(directory)) {
        st = is_ours(e->d_name) ? remove_file(folder, e->d_name) : OK;
    }
    closedir(directory);
    (void)rmdir(folder); /* stays where something else is in it */
    return st;
}
