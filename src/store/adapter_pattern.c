/* Regular expressions of adapter_config.json by PCRE2. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <stdlib.h>
#include <string.h>

#include "store/adapter_config.h"
#include "util/mem.h"
#include "util/text.h"

enum { MATCH_LIMIT = 1000000 };

/* The number that group 1 holds. */
static enum status take_number(pcre2_match_data *data, const char *name, int64_t *out) {
    const PCRE2_SIZE *at = pcre2_get_ovector_pointer(data);
    char *end;
    *out = at[2] == PCRE2_UNSET ? -1 : strtoll(name + at[2], &end, 10);
    return *out >= 0 && end == name + at[3] ? OK
                                            : fail(ERR_DATA, "adapter: no block's number in %.200s", name);
}

/* number: group 1's, of a match; NULL: not asked for. */
static enum status match(pcre2_code *code, const char *name, bool *out, int64_t *number) {
    pcre2_match_data *data = pcre2_match_data_create_from_pattern(code, NULL);
    pcre2_match_context *context = pcre2_match_context_create(NULL);
    enum status st = OK;
    if (data && context) {
        pcre2_set_match_limit(context, MATCH_LIMIT);
        int n = pcre2_match(code, (PCRE2_SPTR)name, strlen(name), 0, 0, data, context);
        *out = n >= 0;
        if (n < 0 && n != PCRE2_ERROR_NOMATCH) {
            st = fail(ERR_DATA, "adapter: an expression takes too long on %.200s", name);
        }
        st = st == OK && n >= 0 && number ? take_number(data, name, number) : st;
    } else {
        st = fail(ERR_SYSTEM, "out of memory: an expression of adapter_config.json");
    }
    pcre2_match_context_free(context);
    pcre2_match_data_free(data);
    return st;
}

static enum status compile(const char *full, size_t len, uint32_t options, const char *regex,
                           pcre2_code **out) {
    int code_error;
    PCRE2_SIZE at;
    *out = pcre2_compile((PCRE2_SPTR)full, len, PCRE2_UTF | PCRE2_ANCHORED | options, &code_error, &at, NULL);
    return *out ? OK : fail(ERR_DATA, "adapter: \"%.200s\" is no expression that can be read", regex);
}

enum status adapter_pattern_matches(const char *regex, bool is_suffix, const char *name, bool *out) {
    struct text full = {0};
    pcre2_code *code = NULL;
    enum status st = text_printf(&full, is_suffix ? "(?:.*\\.)?(?:%s)" : "%s", regex);
    st = st == OK ? compile(full.data, full.len, PCRE2_ENDANCHORED, regex, &code) : st;
    st = st == OK ? match(code, name, out, NULL) : st;
    pcre2_code_free(code);
    text_free(&full);
    return st;
}

enum status adapter_pattern_number(const char *regex, const char *name, int64_t *out) {
    struct text full = {0};
    pcre2_code *code = NULL;
    bool fits;
    *out = -1;
    enum status st = text_printf(&full, ".*\\.%s\\.(\\d+)\\.", regex);
    st = st == OK ? compile(full.data, full.len, 0, regex, &code) : st;
    st = st == OK ? match(code, name, &fits, out) : st;
    pcre2_code_free(code);
    text_free(&full);
    return st;
}
