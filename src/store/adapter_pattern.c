/* Regular expressions of adapter_config.json by PCRE2. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <string.h>

#include "store/adapter_config.h"
#include "util/mem.h"
#include "util/text.h"

enum { MATCH_LIMIT = 1000000 };

static enum status match(pcre2_code *code, const char *name, bool *out) {
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
    } else {
        st = fail(ERR_SYSTEM, "out of memory: an expression of adapter_config.json");
    }
    pcre2_match_context_free(context);
    pcre2_match_data_free(data);
    return st;
}

enum status adapter_pattern_matches(const char *regex, bool is_suffix, const char *name, bool *out) {
    struct text full = {0};
    int code_error;
    PCRE2_SIZE at;
    enum status st = text_printf(&full, is_suffix ? "(?:.*\\.)?(?:%s)" : "%s", regex);
    pcre2_code *code = NULL;
    if (st == OK) {
        code = pcre2_compile((PCRE2_SPTR)full.data, full.len, PCRE2_UTF | PCRE2_ANCHORED | PCRE2_ENDANCHORED,
                             &code_error, &at, NULL);
        st = code ? match(code, name, out)
                  : fail(ERR_DATA, "adapter: \"%.200s\" is no expression that can be read", regex);
    }
    pcre2_code_free(code);
    text_free(&full);
    return st;
}
