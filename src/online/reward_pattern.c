#define PCRE2_CODE_UNIT_WIDTH 8
#include "online/reward_pattern.h"

#include <ctype.h>
#include <math.h>
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "util/mem.h"

static const char NUMBER[] = "[-+]?\\$?(?:\\d[\\d,]*(?:\\.\\d+)?|\\.\\d+)(?:[eE][-+]?\\d+)?%?";
enum { MATCH_LIMIT = 10000000, NUMBER_BYTES = 64 };

struct reward_pattern {
    enum reward_match match;
    pcre2_code *code; /* NULL: the whole text */
    pcre2_match_data *data;
    pcre2_match_context *context;
};

/* A part of a text. */
struct part {
    const char *at;
    size_t n;
};

static enum status compile(const char *regex, struct reward_pattern *p) {
    int error;
    size_t place;
    p->code = pcre2_compile((PCRE2_SPTR)regex, PCRE2_ZERO_TERMINATED,
                            PCRE2_UTF | PCRE2_UCP | PCRE2_MATCH_INVALID_UTF, &error, &place, NULL);
    if (!p->code) {
        char why[200] = "";
        pcre2_get_error_message(error, (PCRE2_UCHAR *)why, sizeof why);
        return fail(ERR_USAGE, "online.reward_pattern: \"%.200s\": %s (at character %zu)", regex, why,
                    place + 1);
    }
    p->data = pcre2_match_data_create_from_pattern(p->code, NULL);
    p->context = pcre2_match_context_create(NULL);
    if (!p->data || !p->context) {
        return fail(ERR_SYSTEM, "online.reward_pattern: out of memory");
    }
    pcre2_set_match_limit(p->context, MATCH_LIMIT);
    return OK;
}

enum status reward_pattern_open(const char *regex, enum reward_match match, struct reward_pattern **out) {
    struct reward_pattern *p;
    TRY(NEW_ARRAY(p, 1));
    p->match = match;
    const char *taken = *regex ? regex : match == MATCH_NUMBER ? NUMBER : "";
    enum status st = *taken ? compile(taken, p) : OK;
    if (st != OK) {
        reward_pattern_close(p);
        return st;
    }
    *out = p;
    return OK;
}

void reward_pattern_close(struct reward_pattern *p) {
    if (p) {
        pcre2_code_free(p->code);
        pcre2_match_data_free(p->data);
        pcre2_match_context_free(p->context);
        mem_free(p);
    }
}

static enum status fail_match(const struct rewarded *r, int code) {
    char why[200] = "";
    pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
    return fail(ERR_DATA,
                "online.reward_pattern: row %lld, sample %d: %s; write an expression that needs less "
                "searching",
                (long long)r->row, (int)r->sample, why);
}

static struct part captured(const struct reward_pattern *p, const char *text, int groups) {
    const size_t *at = pcre2_get_ovector_pointer(p->data);
    bool has_group = groups > 1 && at[2] != PCRE2_UNSET;
    size_t first = at[has_group ? 2 : 0], last = at[has_group ? 3 : 1];
    return (struct part){text + first, last > first ? last - first : 0};
}

/* The last match. *found: whether there is one. */
static enum status search(const struct reward_pattern *p, const struct rewarded *r, const char *text,
                          struct part *out, bool *found) {
    size_t length = strlen(text), from = 0;
    *found = !p->code;
    *out = (struct part){text, length};
    while (p->code && from <= length) {
        int groups = pcre2_match(p->code, (PCRE2_SPTR)text, length, from, 0, p->data, p->context);
        if (groups == PCRE2_ERROR_NOMATCH) {
            break;
        }
        if (groups < 0) {
            return fail_match(r, groups);
        }
        *found = true;
        *out = captured(p, text, groups);
        const size_t *at = pcre2_get_ovector_pointer(p->data);
        from = at[1] > from ? at[1] : from + 1;
    }
    return OK;
}

static struct part trim(struct part p) {
    while (p.n > 0 && isspace((unsigned char)p.at[0])) {
        p.at++;
        p.n--;
    }
    while (p.n > 0 && isspace((unsigned char)p.at[p.n - 1])) {
        p.n--;
    }
    return p;
}

/* Without signs of money, thousands and per cent. */
static bool read_number(struct part p, double *out) {
    char digits[NUMBER_BYTES];
    size_t n = 0;
    for (size_t i = 0; i < p.n; i++) {
        bool left_out = p.at[i] == ',' || p.at[i] == '$' || (p.at[i] == '%' && i + 1 == p.n);
        if (!left_out && n + 1 == sizeof digits) {
            return false;
        }
        if (!left_out) {
            digits[n++] = p.at[i];
        }
    }
    digits[n] = '\0';
    char *end;
    *out = strtod(digits, &end);
    return n > 0 && *end == '\0' && isfinite(*out);
}

/* The part of a row's answer that counts. */
static enum status take_answer(const struct reward_pattern *p, int64_t row, const char *text,
                               struct part *out) {
    const struct rewarded of = {.row = row};
    bool found;
    double number;
    if (!text) {
        return fail(ERR_DATA,
                    "online.reward_match: row %lld has no answer in the data; give one to every row, or "
                    "set online.reward_match=found",
                    (long long)row);
    }
    TRY(search(p, &of, text, out, &found));
    *out = trim(*out);
    if (p->match == MATCH_NUMBER && !read_number(*out, &number)) {
        return fail(ERR_DATA, "online.reward_match=number: row %lld: the data's answer \"%.*s\" is no number",
                    (long long)row, out->n < 80 ? (int)out->n : 80, out->at);
    }
    return OK;
}

enum status reward_pattern_check(const struct reward_pattern *p, int64_t row, const char *answer) {
    struct part part;
    return p->match == MATCH_FOUND ? OK : take_answer(p, row, answer, &part);
}

static bool same_number(struct part own, struct part answer) {
    double a, b;
    return read_number(own, &a) && read_number(answer, &b) && fabs(a - b) <= 1e-9 * fmax(1, fabs(b));
}

enum status reward_pattern_match(const struct reward_pattern *p, const struct rewarded *r, double *out) {
    struct part own, answer;
    bool found;
    TRY(search(p, r, r->text, &own, &found));
    *out = found;
    if (p->match == MATCH_FOUND) {
        return OK;
    }
    TRY(take_answer(p, r->row, r->answer, &answer));
    own = trim(own);
    bool is_same = p->match == MATCH_NUMBER ? same_number(own, answer)
                                            : own.n == answer.n && memcmp(own.at, answer.at, own.n) == 0;
    *out = found && is_same;
    return OK;
}
