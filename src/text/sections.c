/* The normalizer, pre_tokenizer and decoder sections of tokenizer.json. */
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

static enum status cut_by(const json_t *section, const char *where, struct step *out) {
    const char *string;
    const char *regex;
    TRY(take_pattern(section, where, &string, &regex));
    if (regex) {
        enum status st = step_pattern(regex, false, out);
        return st == OK ? OK : fail(st, "%s: %s", where, status_message()->text);
    }
    *out = (struct step){.kind = STEP_STRING, .string = mem_strdup(string), .string_n = strlen(string)};
    return mem_ok(out->string);
}

static enum status read_replace(struct change *c, const json_t *section, const char *where) {
    c->kind = CHANGE_REPLACE;
    TRY(cut_by(section, where, &c->cut));
    if (c->cut.kind != STEP_STRING && c->cut.kind != STEP_PATTERN) {
        return lacks(where, "normalizer", "Replace with a pattern that cuts words");
    }
    return take_copy(section, "content", where, &c->to, &c->to_n);
}

static enum status read_strip(struct change *c, const json_t *section, const char *where) {
    c->kind = CHANGE_STRIP;
    c->left = c->right = true;
    TRY(json_take_bool(section, "strip_left", where, &c->left));
    return json_take_bool(section, "strip_right", where, &c->right);
}

static int base64_digit(char c) {
    return c >= 'A' && c <= 'Z'   ? c - 'A'
           : c >= 'a' && c <= 'z' ? c - 'a' + 26
           : c >= '0' && c <= '9' ? c - '0' + 52
           : c == '+'             ? 62
           : c == '/'             ? 63
                                  : -1;
}

static enum status read_precompiled(struct change *c, const json_t *section, const char *where) {
    const char *coded = "";
    struct text blob = {0};
    enum status st = OK;
    uint32_t bits = 0;
    int n_bits = 0;
    c->kind = CHANGE_PRECOMPILED;
    TRY(json_take_string(section, "precompiled_charsmap", where, &coded));
    for (; *coded && *coded != '='; coded++) {
        int digit = base64_digit(*coded);
        if (digit < 0) {
            st = fail(ERR_DATA, "%s: \"precompiled_charsmap\" is not base64", where);
            goto done;
        }
        bits = bits << 6 | (uint32_t)digit;
        n_bits += 6;
        if (n_bits >= 8) {
            n_bits -= 8;
            char byte = (char)(bits >> n_bits & 0xFF);
            TRY_TO(done, text_append(&blob, &byte, 1));
        }
    }
    st = charsmap_open(blob.data ? blob.data : "", blob.len, where, &c->map);
done:
    text_free(&blob);
    return st;
}

static enum status read_change(struct change *c, const char *type, const json_t *section, const char *where) {
    static const struct {
        const char *name;
        enum normal_form form;
    } forms[] = {{"NFC", FORM_C}, {"NFD", FORM_D}, {"NFKC", FORM_KC}, {"NFKD", FORM_KD}};
    for (int i = 0; i < COUNT_OF(forms); i++) {
        if (strcmp(type, forms[i].name) == 0) {
            *c = (struct change){.kind = CHANGE_FORM, .form = forms[i].form};
            return OK;
        }
    }
    if (strcmp(type, "Prepend") == 0) {
        c->kind = CHANGE_PREPEND;
        return take_copy(section, "prepend", where, &c->to, &c->to_n);
    }
    if (strcmp(type, "Replace") == 0) {
        return read_replace(c, section, where);
    }
    if (strcmp(type, "Strip") == 0) {
        return read_strip(c, section, where);
    }
    if (strcmp(type, "Precompiled") == 0) {
        return read_precompiled(c, section, where);
    }
    c->kind = CHANGE_LOWERCASE;
    return strcmp(type, "Lowercase") == 0 ? OK : lacks(where, "normalizer", type);
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
    return read_change(&t->changes[t->n_changes++], type, section, where);
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

/* How a cut joins its pieces, and what it drops. */
static enum status read_behavior(const json_t *section, const char *where, struct step *step) {
    const char *behavior = NULL;
    TRY(json_take_string(section, "behavior", where, &behavior));
    TRY(json_take_bool(section, "invert", where, &step->inverted));
    const char *name = behavior ? behavior : "(none)";
    bool removed = strcmp(name, "Removed") == 0;
    step->drop_matches = removed && !step->inverted;
    step->drop_others = removed && step->inverted;
    step->joins = strcmp(name, "MergedWithPrevious") == 0 ? JOIN_PREVIOUS
                  : strcmp(name, "MergedWithNext") == 0   ? JOIN_NEXT
                  : strcmp(name, "Contiguous") == 0       ? JOIN_ALIKE
                                                          : JOIN_NONE;
    if (step->joins == JOIN_NONE && !removed && strcmp(name, "Isolated") != 0) {
        return lacks(where, "Split behavior", name);
    }
    /* The hand-written patterns take in all text: nothing is between two matches. */
    bool known = step->kind != STEP_PATTERN && step->kind != STEP_STRING;
    return known && (step->drop_matches || step->joins == JOIN_ALIKE) ? lacks(where, "Split behavior", name)
                                                                      : OK;
}

static enum status read_split(struct tokenizer *t, const json_t *section, const char *where) {
    struct step *step;
    TRY(new_step(t, where, STEP_STRING, &step));
    TRY(cut_by(section, where, step));
    return read_behavior(section, where, step);
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
