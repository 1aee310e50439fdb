/* The normalizer, pre_tokenizer, decoder and added_tokens sections of tokenizer.json. */
#include <string.h>

#include "text/tokenizer_internal.h"
#include "util/mem.h"

static enum status lacks(const char *where, const char *section, const char *what) {
    return fail(ERR_DATA, "%s: %s \"%s\" is not supported", where, section, what);
}

static enum status type_of(const json_t *section, const char *where, const char *name, const char **type) {
    *type = NULL;
    if (json_is_object(section)) {
        TRY(json_take_string(section, "type", where, type));
    }
    return *type ? OK : fail(ERR_DATA, "%s: %s has no \"type\"", where, name);
}

/* A string of the section that must be there; its own copy, and its bytes (it may hold U+0000). */
static enum status take_copy(const json_t *section, const char *key, const char *where, char **out,
                             size_t *n) {
    const json_t *value = json_object_get(section, key);
    if (!json_is_string(value)) {
        return fail(ERR_DATA, "%s: \"%s\" must be a string", where, key);
    }
    *n = json_string_length(value);
    *out = mem_strndup(json_string_value(value), *n);
    return *out ? OK : ERR_SYSTEM;
}

/* {"String": …} or {"Regex": …}. */
static enum status take_pattern(const json_t *section, const char *where, const char **string,
                                const char **regex) {
    const json_t *pattern = json_object_get(section, "pattern");
    *string = *regex = NULL;
    if (json_is_object(pattern)) {
        TRY(json_take_string(pattern, "String", where, string));
        TRY(json_take_string(pattern, "Regex", where, regex));
    }
    bool one = (*string != NULL) != (*regex != NULL);
    if (!one || (*string && **string == '\0') || (*regex && **regex == '\0')) {
        return fail(ERR_DATA, "%s: \"pattern\" must hold a \"String\" or a \"Regex\"", where);
    }
    return OK;
}

enum status read_normalizer(struct tokenizer *t, const json_t *section, const char *where) {
    if (!section || json_is_null(section)) {
        return OK;
    }
    const char *type;
    TRY(type_of(section, where, "normalizer", &type));
    if (strcmp(type, "Sequence") == 0) {
        size_t i;
        const json_t *part;
        json_array_foreach(json_object_get(section, "normalizers"), i, part) {
            TRY(read_normalizer(t, part, where));
        }
        return OK;
    }
    if (t->n_changes == STEPS_MAX) {
        return fail(ERR_DATA, "%s: more than %d normalizers", where, STEPS_MAX);
    }
    struct change *c = &t->changes[t->n_changes++];
    if (strcmp(type, "NFC") == 0) {
        c->kind = CHANGE_NFC;
        return OK;
    }
    if (strcmp(type, "Prepend") == 0) {
        c->kind = CHANGE_PREPEND;
        return take_copy(section, "prepend", where, &c->to, &c->to_n);
    }
    if (strcmp(type, "Replace") == 0) {
        const char *string;
        const char *regex;
        TRY(take_pattern(section, where, &string, &regex));
        if (regex) {
            return lacks(where, "normalizer", "Replace with a Regex");
        }
        c->kind = CHANGE_REPLACE;
        c->from = mem_strdup(string);
        c->from_n = strlen(string);
        TRY(mem_ok(c->from));
        return take_copy(section, "content", where, &c->to, &c->to_n);
    }
    return lacks(where, "normalizer", type);
}

static enum status new_step(struct tokenizer *t, const char *where, enum step_kind kind, struct step **out) {
    if (t->n_steps == STEPS_MAX) {
        return fail(ERR_DATA, "%s: more than %d pre-tokenizer steps", where, STEPS_MAX);
    }
    *out = &t->steps[t->n_steps++];
    (*out)->kind = kind;
    return OK;
}

static enum status read_byte_level(struct tokenizer *t, const json_t *section, const char *where) {
    bool prefix = true;
    bool regex = true;
    struct step *step;
    TRY(json_take_bool(section, "add_prefix_space", where, &prefix));
    TRY(json_take_bool(section, "use_regex", where, &regex));
    if (prefix) {
        TRY(new_step(t, where, STEP_PREFIX_SPACE, &step));
    }
    if (regex) {
        TRY(new_step(t, where, STEP_GPT2, &step));
    }
    t->bpe.byte_level = true;
    return OK;
}

static enum status read_prepend_scheme(const json_t *section, const char *where, enum prepend *out) {
    bool prefix = true;
    const char *scheme = NULL;
    TRY(json_take_bool(section, "add_prefix_space", where, &prefix));
    TRY(json_take_string(section, "prepend_scheme", where, &scheme));
    if (!scheme) {
        *out = prefix ? PREPEND_ALWAYS : PREPEND_NEVER;
        return OK;
    }
    if (strcmp(scheme, "always") != 0 && strcmp(scheme, "first") != 0 && strcmp(scheme, "never") != 0) {
        return lacks(where, "prepend_scheme", scheme);
    }
    *out = scheme[0] == 'a' ? PREPEND_ALWAYS : scheme[0] == 'f' ? PREPEND_FIRST : PREPEND_NEVER;
    return OK;
}

static enum status take_mark(const json_t *section, const char *where, char **out, size_t *n) {
    TRY(take_copy(section, "replacement", where, out, n));
    if (*n == 0 || *n != (size_t)utf8_length((unsigned char)**out)) {
        return fail(ERR_DATA, "%s: Metaspace's \"replacement\" must be one character", where);
    }
    return OK;
}

static enum status read_metaspace(struct tokenizer *t, const json_t *section, const char *where) {
    bool split = true;
    struct step *step;
    TRY(json_take_bool(section, "split", where, &split));
    TRY(new_step(t, where, STEP_METASPACE, &step));
    TRY(read_prepend_scheme(section, where, &step->prepend));
    TRY(take_mark(section, where, &step->string, &step->string_n));
    if (split) {
        TRY(new_step(t, where, STEP_BEFORE_MARK, &step));
        TRY(take_mark(section, where, &step->string, &step->string_n));
    }
    return OK;
}

static enum status read_split(struct tokenizer *t, const json_t *section, const char *where) {
    const char *string;
    const char *regex;
    const char *behavior = NULL;
    bool invert = false;
    struct step *step;
    TRY(take_pattern(section, where, &string, &regex));
    TRY(json_take_string(section, "behavior", where, &behavior));
    TRY(json_take_bool(section, "invert", where, &invert));
    if (!behavior || (strcmp(behavior, "Isolated") != 0 && strcmp(behavior, "Removed") != 0)) {
        return lacks(where, "Split behavior", behavior ? behavior : "(none)");
    }
    TRY(new_step(t, where, STEP_STRING, &step));
    if (regex) {
        enum status st = step_pattern(regex, false, step);
        if (st != OK) {
            return fail(st, "%s: %s", where, status_message()->text);
        }
    } else {
        step->string = mem_strdup(string);
        step->string_n = strlen(string);
        TRY(mem_ok(step->string));
    }
    bool removed = behavior[0] == 'R';
    step->drop_matches = removed && !invert;
    step->drop_others = removed && invert;
    if (removed && !invert && step->kind != STEP_PATTERN && step->kind != STEP_STRING) {
        return lacks(where, "Split behavior",
                     "Removed"); /* would leave nothing: the patterns take in all text */
    }
    return OK;
}

static enum status read_digits(struct tokenizer *t, const json_t *section, const char *where) {
    bool individual = false;
    struct step *step;
    TRY(json_take_bool(section, "individual_digits", where, &individual));
    TRY(new_step(t, where, STEP_PATTERN, &step));
    return step_pattern(individual ? "\\p{N}" : "\\p{N}+", true, step);
}

enum status read_pre_tokenizer(struct tokenizer *t, const json_t *section, const char *where) {
    if (!section || json_is_null(section)) {
        return OK;
    }
    const char *type;
    TRY(type_of(section, where, "pre_tokenizer", &type));
    if (t->bpe.byte_level) {
        return lacks(where, "pre_tokenizer after ByteLevel", type);
    }
    if (strcmp(type, "Sequence") == 0) {
        size_t i;
        const json_t *part;
        json_array_foreach(json_object_get(section, "pretokenizers"), i, part) {
            TRY(read_pre_tokenizer(t, part, where));
        }
        return OK;
    }
    if (strcmp(type, "ByteLevel") == 0) {
        return read_byte_level(t, section, where);
    }
    if (strcmp(type, "Metaspace") == 0) {
        return read_metaspace(t, section, where);
    }
    if (strcmp(type, "Split") == 0) {
        return read_split(t, section, where);
    }
    if (strcmp(type, "Digits") == 0) {
        return read_digits(t, section, where);
    }
    return lacks(where, "pre_tokenizer", type);
}

static enum status read_decode_replace(struct decode_step *d, const json_t *section, const char *where) {
    const char *string;
    const char *regex;
    size_t n;
    TRY(take_pattern(section, where, &string, &regex));
    if (regex) {
        return lacks(where, "decoder", "Replace with a Regex");
    }
    d->kind = DECODE_REPLACE;
    d->from = mem_strdup(string);
    TRY(mem_ok(d->from));
    return take_copy(section, "content", where, &d->to, &n);
}

static enum status read_decode_metaspace(struct decode_step *d, const json_t *section, const char *where) {
    enum prepend prepend;
    size_t n;
    d->kind = DECODE_REPLACE;
    TRY(read_prepend_scheme(section, where, &prepend));
    d->first_only = prepend != PREPEND_NEVER;
    TRY(take_mark(section, where, &d->from, &n));
    d->to = mem_strdup(" ");
    return mem_ok(d->to);
}

static enum status read_decode_strip(struct decode_step *d, const json_t *section, const char *where) {
    size_t n;
    d->kind = DECODE_STRIP;
    TRY(take_copy(section, "content", where, &d->from, &n));
    TRY(json_take_int(section, "start", where, &d->start));
    TRY(json_take_int(section, "stop", where, &d->stop));
    if (n == 0 || n != (size_t)utf8_length((unsigned char)d->from[0]) || d->start < 0 || d->stop < 0) {
        return fail(ERR_DATA, "%s: decoder Strip needs one character and counts of at least 0", where);
    }
    return OK;
}

enum status read_decoder(struct tokenizer *t, const json_t *section, const char *where) {
    if (!section || json_is_null(section)) {
        return OK;
    }
    const char *type;
    TRY(type_of(section, where, "decoder", &type));
    if (strcmp(type, "Sequence") == 0) {
        size_t i;
        const json_t *part;
        json_array_foreach(json_object_get(section, "decoders"), i, part) {
            TRY(read_decoder(t, part, where));
        }
        return OK;
    }
    if (t->n_decoders == STEPS_MAX) {
        return fail(ERR_DATA, "%s: more than %d decoders", where, STEPS_MAX);
    }
    struct decode_step *d = &t->decoders[t->n_decoders++];
    if (strcmp(type, "ByteLevel") == 0) {
        d->kind = DECODE_BYTE_LEVEL;
    } else if (strcmp(type, "ByteFallback") == 0) {
        d->kind = DECODE_BYTE_FALLBACK;
    } else if (strcmp(type, "Fuse") == 0) {
        d->kind = DECODE_FUSE;
    } else if (strcmp(type, "Replace") == 0) {
        return read_decode_replace(d, section, where);
    } else if (strcmp(type, "Metaspace") == 0) {
        return read_decode_metaspace(d, section, where);
    } else if (strcmp(type, "Strip") == 0) {
        return read_decode_strip(d, section, where);
    } else {
        return lacks(where, "decoder", type);
    }
    return OK;
}

/* What the finder looks for: the content, normalized as the text will be; that is what it decodes to as well.
 */
static enum status add_to_finder(struct tokenizer *t, const char *s, size_t n, bool normalized,
                                 struct added_rule *rule) {
    if (!normalized) {
        return finder_add(&t->raw, s, n, rule->id);
    }
    struct view_buffer buffers[STEPS_MAX] = {0};
    struct view whole = {s, n, NULL, true};
    struct view changed;
    enum status st = OK;
    TRY_TO(done, normalize(t, &whole, false, buffers, &changed));
    if (changed.n == 0) {
        goto done;
    }
    if (changed.n != n || memcmp(changed.s, s, n) != 0) {
        rule->shown = mem_strndup(changed.s, changed.n);
        st = mem_ok(rule->shown);
    }
    st = st == OK ? finder_add(&t->normalized, changed.s, changed.n, rule->id) : st;
done:
    for (int i = 0; i < STEPS_MAX; i++) {
        view_buffer_free(&buffers[i]);
    }
    return st;
}

static enum status read_added_token(struct tokenizer *t, const json_t *entry, const char *where) {
    int64_t id = -1;
    bool special = false;
    bool normalized = true;
    struct added_rule rule = {0};
    const json_t *content = json_object_get(entry, "content");
    if (!json_is_string(content)) {
        return fail(ERR_DATA, "%s: an added token has no \"content\"", where);
    }
    TRY(json_take_int(entry, "id", where, &id));
    TRY(json_take_bool(entry, "special", where, &special));
    normalized = !special;
    TRY(json_take_bool(entry, "normalized", where, &normalized));
    TRY(json_take_bool(entry, "lstrip", where, &rule.left));
    TRY(json_take_bool(entry, "rstrip", where, &rule.right));
    TRY(json_take_bool(entry, "single_word", where, &rule.word));
    const char *s = json_string_value(content);
    size_t n = json_string_length(content);
    if (n == 0) {
        return OK; /* as in the package */
    }
    struct vocabulary *v = &t->bpe.vocabulary;
    int32_t known = vocabulary_find(v, s, n);
    if (known >= 0 && id >= 0 && known != id) {
        return fail(ERR_DATA, "%s: added token \"%.200s\" has id %lld but is %d in the vocabulary", where, s,
                    (long long)id, known);
    }
    if (known < 0) {
        enum status st = vocabulary_add(v, s, n, id);
        if (st != OK) {
            return fail(st, "%s: %s", where, status_message()->text);
        }
    } else {
        id = known;
    }
    v->tokens[id].added = 1;
    v->tokens[id].special |= special;
    rule.id = (int32_t)id;
    TRY(GROW_ARRAY(t->rules, t->rules_capacity, t->n_rules + 1));
    TRY(add_to_finder(t, s, n, normalized, &rule));
    if (rule.left || rule.right || rule.word || rule.shown) {
        t->rules[t->n_rules++] = rule;
    }
    return OK;
}

enum status read_added_tokens(struct tokenizer *t, const json_t *list, const char *where) {
    if (list && !json_is_null(list) && !json_is_array(list)) {
        return fail(ERR_DATA, "%s: \"added_tokens\" must be an array", where);
    }
    size_t i;
    const json_t *entry;
    json_array_foreach(list, i, entry) {
        TRY(read_added_token(t, entry, where));
    }
    return OK;
}
