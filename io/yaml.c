/* YAML by libyaml's event parser, so that every key keeps its line.
 *
 * Only what a configuration needs is taken: one document, a mapping of mappings, scalars and sequences of
 * scalars. Everything that could make two readers disagree (anchors, aliases, tags, duplicate keys, several
 * documents) is refused with its line. Depth, size and the number of keys are bounded, so a hostile file
 * costs little.
 */
#include "io/yaml.h"

#include <stdio.h>
#include <string.h>

#include <yaml.h>

#include "io/file.h"
#include "util/mem.h"
#include "util/text.h"

enum { MAX_DEPTH = 8, MAX_KEYS = 4096, MAX_BYTES = 1 << 20 };

struct reader {
    const char *path;
    yaml_parser_t parser;
    yaml_event_t event; /* valid while has_event */
    bool has_event;
    yaml_visit *visit;
    void *context;
    struct text key; /* dotted path to here */
    char **keys;     /* full keys seen so far */
    int *lines;
    int n_keys;
    int64_t keys_capacity, lines_capacity;
};

static int event_line(const struct reader *r) {
    return (int)r->event.start_mark.line + 1;
}

static enum status next(struct reader *r) {
    if (r->has_event) {
        yaml_event_delete(&r->event);
        r->has_event = false;
    }
    if (!yaml_parser_parse(&r->parser, &r->event)) {
        const yaml_parser_t *p = &r->parser;
        if (p->error == YAML_MEMORY_ERROR) {
            return fail(ERR_SYSTEM, "%s: out of memory", r->path);
        }
        if (p->error == YAML_READER_ERROR) {
            return fail(ERR_USAGE, "%s, byte %zu: not valid YAML: %s", r->path, p->problem_offset,
                        p->problem ? p->problem : "unreadable");
        }
        return fail(ERR_USAGE, "%s, line %zu: not valid YAML: %s%s%s", r->path, p->problem_mark.line + 1,
                    p->context ? p->context : "", p->context ? ", " : "",
                    p->problem ? p->problem : "unreadable");
    }
    r->has_event = true;
    return OK;
}

static enum status refuse_decoration(const struct reader *r, const yaml_char_t *anchor,
                                     const yaml_char_t *tag) {
    if (anchor) {
        return fail(ERR_USAGE,
                    "%s, line %d: anchor \"&%s\": anchors and aliases are not taken; write the value out",
                    r->path, event_line(r), (const char *)anchor);
    }
    if (tag) {
        return fail(ERR_USAGE, "%s, line %d: tag \"%s\": tags are not taken; write the plain value", r->path,
                    event_line(r), (const char *)tag);
    }
    return OK;
}

/* The scalar of the current event. null and ~ count as no text. */
static enum status scalar(const struct reader *r, const char **out) {
    const char *value = (const char *)r->event.data.scalar.value;
    TRY(refuse_decoration(r, r->event.data.scalar.anchor, r->event.data.scalar.tag));
    if (strlen(value) != r->event.data.scalar.length) {
        return fail(ERR_USAGE, "%s, line %d: a value holds a NUL character", r->path, event_line(r));
    }
    bool plain = r->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    *out = plain && (strcmp(value, "~") == 0 || strcmp(value, "null") == 0) ? "" : value;
    return OK;
}

static enum status visit(struct reader *r, const char *value, int line) {
    for (int i = 0; i < r->n_keys; i++) {
        if (strcmp(r->keys[i], r->key.data) == 0) {
            return fail(ERR_USAGE, "%s, line %d: key \"%s\" is given twice (first in line %d)", r->path, line,
                        r->key.data, r->lines[i]);
        }
    }
    if (r->n_keys == MAX_KEYS) {
        return fail(ERR_USAGE, "%s, line %d: more than %d keys", r->path, line, MAX_KEYS);
    }
    TRY(GROW_ARRAY(r->keys, r->keys_capacity, r->n_keys + 1));
    TRY(GROW_ARRAY(r->lines, r->lines_capacity, r->n_keys + 1));
    char *copy = mem_strdup(r->key.data);
    TRY(mem_ok(copy));
    r->keys[r->n_keys] = copy;
    r->lines[r->n_keys++] = line;
    return r->visit(r->context, r->key.data, value, line);
}

/* Items of a sequence, joined by commas, up to its end event. */
static enum status sequence(struct reader *r, struct text *joined) {
    TRY(refuse_decoration(r, r->event.data.sequence_start.anchor, r->event.data.sequence_start.tag));
    TRY(text_puts(joined, ""));
    for (int items = 0;; items++) {
        TRY(next(r));
        if (r->event.type == YAML_SEQUENCE_END_EVENT) {
            return OK;
        }
        if (r->event.type != YAML_SCALAR_EVENT) {
            return fail(ERR_USAGE, "%s, line %d: key \"%s\": a list may hold only plain values", r->path,
                        event_line(r), r->key.data);
        }
        const char *item;
        TRY(scalar(r, &item));
        if (strchr(item, ',')) {
            return fail(ERR_USAGE, "%s, line %d: key \"%s\": a list's value may not hold a comma (\"%s\")",
                        r->path, event_line(r), r->key.data, item);
        }
        TRY(items > 0 ? text_puts(joined, ",") : OK);
        TRY(text_puts(joined, item));
    }
}

static enum status mapping(struct reader *r, int depth);

/* The value of the key that r->key names; the current event is its first. */
static enum status value_of_key(struct reader *r, int depth, int key_line) {
    const char *text = NULL;
    switch (r->event.type) {
    case YAML_SCALAR_EVENT:
        TRY(scalar(r, &text));
        return visit(r, text, key_line);
    case YAML_MAPPING_START_EVENT:
        return mapping(r, depth + 1);
    case YAML_SEQUENCE_START_EVENT: {
        struct text joined = {0};
        enum status st = sequence(r, &joined);
        if (st == OK) {
            st = visit(r, joined.data, key_line);
        }
        text_free(&joined);
        return st;
    }
    case YAML_ALIAS_EVENT:
        return fail(ERR_USAGE,
                    "%s, line %d: alias \"*%s\": anchors and aliases are not taken; write the value out",
                    r->path, event_line(r), (const char *)r->event.data.alias.anchor);
    default:
        return fail(ERR_INTERNAL, "%s, line %d: unexpected YAML event %d", r->path, event_line(r),
                    (int)r->event.type);
    }
}

/* Keys of a mapping whose start event is current, up to its end event. */
static enum status mapping(struct reader *r, int depth) {
    TRY(refuse_decoration(r, r->event.data.mapping_start.anchor, r->event.data.mapping_start.tag));
    if (depth > MAX_DEPTH) {
        return fail(ERR_USAGE, "%s, line %d: keys nest deeper than %d", r->path, event_line(r), MAX_DEPTH);
    }
    size_t base = r->key.len;
    for (;;) {
        TRY(next(r));
        if (r->event.type == YAML_MAPPING_END_EVENT) {
            return OK;
        }
        if (r->event.type != YAML_SCALAR_EVENT) {
            return fail(ERR_USAGE, "%s, line %d: a key must be a plain word", r->path, event_line(r));
        }
        const char *name;
        int line = event_line(r);
        TRY(scalar(r, &name));
        if (*name == '\0') {
            return fail(ERR_USAGE, "%s, line %d: empty key", r->path, line);
        }
        TRY(base > 0 ? text_puts(&r->key, ".") : OK);
        TRY(text_puts(&r->key, name));
        TRY(next(r));
        TRY(value_of_key(r, depth, line));
        r->key.len = base;
        r->key.data[base] = '\0';
    }
}

static enum status document(struct reader *r) {
    TRY(next(r)); /* start of the stream */
    TRY(next(r));
    if (r->event.type == YAML_STREAM_END_EVENT) {
        return OK; /* nothing but comments: nothing is set */
    }
    TRY(next(r));
    bool empty = r->event.type == YAML_SCALAR_EVENT && r->event.data.scalar.length == 0;
    if (!empty && r->event.type != YAML_MAPPING_START_EVENT) {
        return fail(ERR_USAGE, "%s, line %d: expected \"key: value\" lines", r->path, event_line(r));
    }
    TRY(empty ? OK : mapping(r, 1));
    TRY(next(r)); /* end of the document */
    TRY(next(r));
    if (r->event.type != YAML_STREAM_END_EVENT) {
        return fail(ERR_USAGE, "%s, line %d: a second document begins; give one file for each", r->path,
                    event_line(r));
    }
    return OK;
}

enum status yaml_read(const char *path, yaml_visit *visit_key, void *context) {
    char *bytes;
    size_t len;
    enum status st = file_read(path, &bytes, &len);
    if (st == ERR_DATA) { /* what is wrong with a configuration is a wrong use */
        struct message why = *status_message();
        return fail(ERR_USAGE, "%s", why.text);
    }
    TRY(st);
    if (len > MAX_BYTES) {
        mem_free(bytes);
        return fail(ERR_USAGE, "%s: %zu bytes; a configuration has at most %d", path, len, (int)MAX_BYTES);
    }
    struct reader r = {.path = path, .visit = visit_key, .context = context};
    if (yaml_parser_initialize(&r.parser)) {
        yaml_parser_set_input_string(&r.parser, (const unsigned char *)bytes, len);
        st = document(&r);
        if (r.has_event) {
            yaml_event_delete(&r.event);
        }
        yaml_parser_delete(&r.parser);
    } else {
        st = fail(ERR_SYSTEM, "%s: out of memory", path);
    }
    for (int i = 0; i < r.n_keys; i++) {
        mem_free(r.keys[i]);
    }
    mem_free(r.keys);
    mem_free(r.lines);
    text_free(&r.key);
    mem_free(bytes);
    return st;
}

const char *yaml_library(void) {
    return yaml_get_version_string();
}
