/* Regular expressions of tokenizer.json by PCRE2.
 *
 * The package matches with Oniguruma. Where the two read an expression differently, it is rewritten (\s) or
 * refused by name. What remains: \p{…} in expressions other than the three known ones follows PCRE2's Unicode
 * version, so letters added to Unicode later than that are cut differently there.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <stdio.h>
#include <string.h>

#include <utf8proc.h>

#include "text/pretokenize.h"
#include "text/tokenizer.h"
#include "util/mem.h"

/* White_Space of Unicode; PCRE2's own \s takes in U+180E as well. */
static const char SPACE_LIST[] =
    "\\t-\\r \\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}";
enum { MATCH_LIMIT = 10000000, JIT_STACK = 16 << 20 };

void tokenizer_libraries(char out[128]) {
    char version[64] = ""; /* "10.42 2022-12-11" */
    if (pcre2_config(PCRE2_CONFIG_VERSION, NULL) < (int)sizeof version) {
        (void)pcre2_config(PCRE2_CONFIG_VERSION, version);
    }
    version[strcspn(version, " ")] = '\0';
    snprintf(out, 128, "pcre2 %s, utf8proc %.20s", version, utf8proc_version());
}

struct pattern {
    pcre2_code *code;
};

struct matcher {
    pcre2_match_data *data;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
};

static enum status refuse(const char *regex, const char *what) {
    return fail(ERR_DATA, "pattern \"%.200s\": %s is not supported", regex, what);
}

/* The escape whose letter is at *at; *at is left on its last character. */
static enum status translate_escape(const char *regex, const char **at, bool in_class, struct text *out) {
    const char *p = *at;
    if (*p == 's' && !in_class) {
        return text_printf(out, "[%s]", SPACE_LIST);
    }
    if (*p == 's') {
        return text_puts(out, SPACE_LIST);
    }
    if (*p == 'S' && !in_class) {
        return text_printf(out, "[^%s]", SPACE_LIST);
    }
    bool same = *p != '\0' && (strchr("pPrntdDx", *p) || strchr("\\/.*+?()[]{}|^$-'\"!#%&,:;<=>@_`~ ", *p));
    if (!same) {
        char name[] = {'\\', *p, '\0'};
        return refuse(regex, name);
    }
    const char *close = strchr("pPx", *p) && p[1] == '{' ? strchr(p, '}') : p;
    if (!close) {
        return refuse(regex, "an unclosed {");
    }
    *at = close;
    return text_printf(out, "\\%.*s", (int)(close - p) + 1, p);
}

static enum status translate(const char *regex, struct text *out) {
    bool in_class = false;
    for (const char *p = regex; *p; p++) {
        if (*p == '\\') {
            p++;
            TRY(translate_escape(regex, &p, in_class, out));
            continue;
        }
        if (in_class && (*p == '[' || (*p == '&' && p[1] == '&'))) {
            return refuse(regex, "a class inside a class");
        }
        if (!in_class && *p == '}' && p[1] == '+') {
            return refuse(regex, "{n,m}+");
        }
        if (!in_class && *p == '(' && p[1] == '?' && !strchr(":=!<>i", p[2])) {
            return refuse(regex, "this kind of group");
        }
        TRY(text_append(out, p, 1));
        if (!in_class && *p == '[') {
            in_class = true;
            if (p[1] == '^') {
                TRY(text_append(out, ++p, 1));
            }
            if (p[1] == ']') { /* first in a class: itself */
                TRY(text_append(out, ++p, 1));
            }
        } else if (in_class && *p == ']') {
            in_class = false;
        }
    }
    return OK;
}

static enum status compile(const char *regex, struct pattern *p) {
    struct text own = {0};
    pcre2_compile_context *context = NULL;
    enum status st = OK;
    TRY_TO(done, translate(regex, &own));
    context = pcre2_compile_context_create(NULL);
    if (!context || pcre2_set_newline(context, PCRE2_NEWLINE_LF) != 0) {
        st = fail(ERR_SYSTEM, "out of memory for a pattern");
        goto done;
    }
    int code = 0;
    PCRE2_SIZE at = 0;
    uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
    p->code = pcre2_compile((PCRE2_SPTR)(own.data ? own.data : ""), own.len, options, &code, &at, context);
    if (!p->code) {
        PCRE2_UCHAR message[128] = {0};
        (void)pcre2_get_error_message(code, message, sizeof message);
        st = fail(ERR_DATA, "pattern \"%.200s\": %s (at %zu)", regex, (const char *)message, at);
        goto done;
    }
    /* Without JIT (not on this processor) the interpreter gives the same matches. */
    (void)pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE);
done:
    if (context) {
        pcre2_compile_context_free(context);
    }
    text_free(&own);
    return st;
}

void step_free(struct step *s) {
    if (s->pattern) {
        pcre2_code_free(s->pattern->code);
    }
    mem_free(s->pattern);
    mem_free(s->string);
    *s = (struct step){0};
}

enum status step_pattern(const char *regex, bool plain, struct step *out) {
    *out = (struct step){.kind = STEP_PATTERN};
    if (!plain) {
        out->kind = strcmp(regex, PATTERN_GPT2) == 0     ? STEP_GPT2
                    : strcmp(regex, PATTERN_LLAMA3) == 0 ? STEP_LLAMA3
                    : strcmp(regex, PATTERN_QWEN) == 0   ? STEP_QWEN
                                                         : STEP_PATTERN;
    }
    if (out->kind != STEP_PATTERN) {
        return OK;
    }
    TRY(NEW_ARRAY(out->pattern, 1));
    enum status st = compile(regex, out->pattern);
    if (st != OK) {
        step_free(out);
    }
    return st;
}

void matcher_close(struct matcher *m) {
    if (!m) {
        return;
    }
    pcre2_match_data_free(m->data);
    pcre2_match_context_free(m->context);
    if (m->stack) {
        pcre2_jit_stack_free(m->stack);
    }
    mem_free(m);
}

enum status matcher_open(struct matcher **out) {
    struct matcher *m;
    TRY(NEW_ARRAY(m, 1));
    m->data = pcre2_match_data_create(1, NULL);
    m->context = pcre2_match_context_create(NULL);
    m->stack = pcre2_jit_stack_create(32 << 10, JIT_STACK, NULL);
    if (!m->data || !m->context || !m->stack) {
        matcher_close(m);
        return fail(ERR_SYSTEM, "out of memory for pattern matching");
    }
    (void)pcre2_set_match_limit(m->context, MATCH_LIMIT);
    (void)pcre2_set_depth_limit(m->context, MATCH_LIMIT);
    pcre2_jit_stack_assign(m->context, NULL, m->stack);
    *out = m;
    return OK;
}

enum status cut_match(struct matcher *m, const struct step *step, const char *s, size_t n, size_t at,
                      size_t *begin, size_t *end) {
    *begin = *end = n;
    if (step->kind == STEP_STRING) {
        const char *found = memmem(s + at, n - at, step->string, step->string_n);
        *begin = found ? (size_t)(found - s) : n;
        *end = found ? *begin + step->string_n : n;
        return OK;
    }
    int rc = pcre2_match(step->pattern->code, (PCRE2_SPTR)s, n, at, PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY,
                         m->data, m->context);
    if (rc == PCRE2_ERROR_NOMATCH) {
        return OK;
    }
    if (rc < 0) {
        PCRE2_UCHAR message[128] = {0};
        (void)pcre2_get_error_message(rc, message, sizeof message);
        return fail(ERR_DATA, "the tokenizer's pattern fails at byte %zu: %s", at, (const char *)message);
    }
    const PCRE2_SIZE *found = pcre2_get_ovector_pointer(m->data);
    *begin = found[0];
    *end = found[1];
    return *end > *begin ? OK : fail(ERR_DATA, "the tokenizer's pattern matches nothing at byte %zu", at);
}
