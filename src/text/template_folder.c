#include "text/template_folder.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "io/file.h"
#include "util/hash.h"
#include "util/mem.h"

enum status template_read(const char *path, struct template **out) {
    char *data;
    size_t n;
    TRY(file_read(path, &data, &n));
    enum status st = template_parse(path, data, n, out);
    mem_free(data);
    return st;
}

static bool exists(const char *path) {
    struct stat facts;
    return stat(path, &facts) == 0;
}

static struct named_template *named(const struct template_folder *f, const char *name) {
    for (int64_t i = 0; i < f->count; i++) {
        if (strcmp(f->templates[i].name, name) == 0) {
            return &f->templates[i];
        }
    }
    return NULL;
}

/* Takes the template over in any case. A name that is there already gets the later one. */
static enum status add(struct template_folder *f, const char *name, size_t n, struct template *t) {
    char *copy = mem_strndup(name, n);
    struct named_template *there = copy ? named(f, copy) : NULL;
    if (!copy || (!there && GROW_ARRAY(f->templates, f->capacity, f->count + 1) != OK)) {
        mem_free(copy);
        template_free(t);
        return ERR_SYSTEM;
    }
    if (there) {
        mem_free(there->name);
        template_free(there->template);
    } else {
        there = &f->templates[f->count++];
    }
    *there = (struct named_template){copy, t};
    return OK;
}

static enum status add_file(struct template_folder *f, const char *name, size_t n, const char *path) {
    struct template *t;
    TRY(template_read(path, &t));
    return add(f, name, n, t);
}

/* additional_chat_templates/NAME.jinja, in the order of their names. */
static enum status add_folder(struct template_folder *f, const char *folder, struct text *path) {
    static const char suffix[] = ".jinja";
    struct dirent **entries;
    enum status st = OK;
    text_clear(path);
    TRY(text_printf(path, "%s/additional_chat_templates", folder));
    int n = exists(path->data) ? scandir(path->data, &entries, NULL, alphasort) : 0;
    if (n < 0) {
        return fail(ERR_INPUT, "%s: %s", path->data, strerror(errno));
    }
    for (int i = 0; i < n && st == OK; i++) {
        const char *name = entries[i]->d_name;
        if (text_ends(name, suffix)) {
            text_clear(path);
            st = text_printf(path, "%s/additional_chat_templates/%s", folder, name);
            st = st == OK ? add_file(f, name, strlen(name) - strlen(suffix), path->data) : st;
        }
    }
    for (int i = 0; i < n; i++) {
        mem_free(entries[i]);
    }
    if (n > 0) {
        mem_free(entries);
    }
    return st;
}

static enum status add_text(struct template_folder *f, const char *name, const json_t *text,
                            const char *where) {
    struct template *t;
    if (!json_is_string(text)) {
        return fail(ERR_DATA, "%s: \"chat_template\" must be text, or a list of {name, template}", where);
    }
    TRY(template_parse(where, json_string_value(text), json_string_length(text), &t));
    return add(f, name, strlen(name), t);
}

static enum status add_configured(struct template_folder *f, const json_t *config, const char *where) {
    const json_t *value = json_object_get(config, "chat_template");
    size_t i;
    const json_t *row;
    if (!value || json_is_null(value) || f->count > 0) {
        return OK;
    }
    if (!json_is_array(value)) {
        return add_text(f, "default", value, where);
    }
    json_array_foreach(value, i, row) {
        const char *name = json_string_value(json_object_get(row, "name"));
        if (!name) {
            return fail(ERR_DATA, "%s: \"chat_template\" has an element without a name", where);
        }
        TRY(add_text(f, name, json_object_get(row, "template"), where));
    }
    return OK;
}

/* A token as a string: it is one, or an object with "content". */
static json_t *token_text(json_t *value) {
    json_t *text = json_is_object(value) ? json_object_get(value, "content") : value;
    return json_is_string(text) ? text : NULL;
}

static enum status put_token(json_t *specials, const char *name, json_t *value) {
    json_t *text = token_text(value);
    if (text && json_object_set(specials, name, text) != 0) {
        return fail(ERR_SYSTEM, "out of memory: a special token");
    }
    return OK;
}

static enum status add_tokens(json_t *specials, const json_t *config) {
    json_t *extra = json_object_get(config, "extra_special_tokens");
    for (void *at = json_object_iter((json_t *)config); at;
         at = json_object_iter_next((json_t *)config, at)) {
        const char *key = json_object_iter_key(at);
        if (text_ends(key, "_token")) {
            TRY(put_token(specials, key, json_object_iter_value(at)));
        }
    }
    for (void *at = json_object_iter(extra); at; at = json_object_iter_next(extra, at)) {
        TRY(put_token(specials, json_object_iter_key(at), json_object_iter_value(at)));
    }
    return OK;
}

/* An absent file is an empty object. */
static enum status load(const char *folder, const char *name, struct text *path, json_t **out) {
    text_clear(path);
    TRY(text_printf(path, "%s/%s", folder, name));
    if (exists(path->data)) {
        TRY(json_load(path->data, out));
    } else {
        *out = json_object();
    }
    if (!json_is_object(*out)) {
        json_decref(*out);
        return fail(ERR_DATA, "%s: an object is expected", path->data);
    }
    return OK;
}

static enum status take_config(struct template_folder *f, const char *folder, struct text *path) {
    json_t *config;
    json_t *map;
    TRY(load(folder, "tokenizer_config.json", path, &config));
    enum status st = OK;
    TRY_TO(done, add_configured(f, config, path->data));
    TRY_TO(done, add_tokens(f->specials, config));
    if (!json_object_get(config, "added_tokens_decoder")) {
        TRY_TO(done, load(folder, "special_tokens_map.json", path, &map));
        st = add_tokens(f->specials, map);
        json_decref(map);
    }
done:
    json_decref(config);
    return st;
}

static enum status take_all(struct template_folder *f, const char *folder, struct text *path) {
    TRY(text_printf(path, "%s/chat_template.jinja", folder));
    if (exists(path->data)) {
        TRY(add_file(f, "default", strlen("default"), path->data));
    }
    TRY(add_folder(f, folder, path));
    return take_config(f, folder, path);
}

enum status template_folder_open(const char *folder, struct template_folder *out) {
    struct text path = {0};
    *out = (struct template_folder){.specials = json_object()};
    if (!out->specials) {
        return fail(ERR_SYSTEM, "out of memory: special tokens");
    }
    enum status st = take_all(out, folder, &path);
    text_free(&path);
    return st;
}

static void drop_templates(struct template_folder *f) {
    for (int64_t i = 0; i < f->count; i++) {
        mem_free(f->templates[i].name);
        template_free(f->templates[i].template);
    }
    f->count = 0;
}

enum status template_folder_replace(struct template_folder *f, const char *path) {
    drop_templates(f);
    return add_file(f, "default", strlen("default"), path);
}

uint64_t template_folder_hash(const struct template_folder *f) {
    uint64_t hash = 0;
    for (int64_t i = 0; i < f->count; i++) {
        const struct named_template *t = &f->templates[i];
        hash = hash_join(hash, hash_bytes(t->name, strlen(t->name), template_hash(t->template)));
    }
    return hash;
}

void template_folder_free(struct template_folder *f) {
    drop_templates(f);
    mem_free(f->templates);
    json_decref(f->specials);
    *f = (struct template_folder){0};
}

const struct template *template_folder_choose(const struct template_folder *f, bool tools) {
    const struct named_template *chosen = tools ? named(f, "tool_use") : NULL;
    chosen = chosen ? chosen : named(f, "default");
    return chosen ? chosen->template : NULL;
}
