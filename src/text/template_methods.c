/* Methods of strings, dicts, lists and loops. */
#include <stdio.h>
#include <string.h>

#include "text/template_internal.h"
#include "text/unicode.h"

static enum status needed_string(struct render *r, const struct call *c, int i, const struct string **out) {
    TRY(jinja_take_string(r, c, i, out));
    return *out ? OK : refuse(r, "'%s' needs a string", c->name);
}

static enum status method_case(struct render *r, const struct call *c, struct value *out) {
    enum letter_case to = strcmp(c->name, "upper") == 0   ? CASE_UPPER
                          : strcmp(c->name, "lower") == 0 ? CASE_LOWER
                                                          : CASE_TITLE;
    return jinja_cased(r, c->self.string, to, out);
}

static enum status method_title(struct render *r, const struct call *c, struct value *out) {
    return jinja_titled(r, c->self.string, false, out);
}

static enum status method_strip(struct render *r, const struct call *c, struct value *out) {
    const struct string *chars;
    int sides = c->name[0] == 'l' ? 1 : c->name[0] == 'r' ? 2 : 3;
    TRY(jinja_take_string(r, c, 0, &chars));
    return jinja_stripped(r, c->self.string, chars, sides, out);
}

static enum status add_cut(struct render *r, const struct string *s, size_t from, size_t to,
                           struct value list) {
    struct value v;
    TRY(string_cut(&r->pool, s, from, to - from, &v));
    return sequence_add(&r->pool, list, v);
}

static void reverse(struct sequence *s) {
    for (int64_t i = 0; i < s->n / 2; i++) {
        struct value v = s->items[i];
        s->items[i] = s->items[s->n - 1 - i];
        s->items[s->n - 1 - i] = v;
    }
}

static bool blank_at(const struct string *s, size_t at, int *length) {
    return jinja_is_blank(utf8_point(s->s + at, length));
}

/* Words between white space, from the left. */
static enum status split_blanks(struct render *r, const struct string *s, int64_t most, struct value list) {
    size_t at = 0;
    for (;;) {
        int length;
        while (at < s->n && blank_at(s, at, &length)) {
            at += (size_t)length;
        }
        if (at >= s->n) {
            return OK;
        }
        if (most >= 0 && list.sequence->n >= most) {
            struct value rest;
            TRY(string_cut(&r->pool, s, at, s->n - at, &rest));
            TRY(jinja_stripped(r, rest.string, NULL, 2, &rest));
            return sequence_add(&r->pool, list, rest);
        }
        size_t from = at;
        while (at < s->n && !blank_at(s, at, &length)) {
            at += (size_t)length;
        }
        TRY(add_cut(r, s, from, at, list));
    }
}

static enum status split_by(struct render *r, const struct string *s, const struct string *by, int64_t most,
                            struct value list) {
    size_t at = 0;
    while (list.sequence->n != most) {
        const char *hit = memmem(s->s + at, s->n - at, by->s, by->n);
        if (!hit) {
            break;
        }
        size_t to = (size_t)(hit - s->s);
        TRY(add_cut(r, s, at, to, list));
        at = to + by->n;
    }
    return add_cut(r, s, at, s->n, list);
}

/* The last place of `what` in the first n bytes of s; NULL if there is none. */
static const char *last_of(const char *s, size_t n, const struct string *what) {
    for (size_t at = n + 1; at-- > 0;) {
        if (n - at >= what->n && memcmp(s + at, what->s, what->n) == 0) {
            return s + at;
        }
    }
    return NULL;
}

static enum status rsplit_by(struct render *r, const struct string *s, const struct string *by, int64_t most,
                             struct value list) {
    size_t end = s->n;
    while (list.sequence->n != most) {
        const char *hit = last_of(s->s, end, by);
        if (!hit) {
            break;
        }
        size_t at = (size_t)(hit - s->s);
        TRY(add_cut(r, s, at + by->n, end, list));
        end = at;
    }
    TRY(add_cut(r, s, 0, end, list));
    reverse(list.sequence);
    return OK;
}

static enum status method_split(struct render *r, const struct call *c, struct value *out) {
    const struct string *by;
    int64_t most;
    bool from_right = c->name[0] == 'r';
    TRY(jinja_take_string(r, c, 0, &by));
    TRY(jinja_take_int(r, c, 1, -1, &most));
    most = most < 0 ? -1 : most;
    TRY(jinja_spend(r, (int64_t)c->self.string->n / 16));
    TRY(sequence_new(&r->pool, VALUE_LIST, 0, out));
    if (by && by->n == 0) {
        return refuse(r, "'%s' by an empty string", c->name);
    }
    if (by) {
        return (from_right ? rsplit_by : split_by)(r, c->self.string, by, most, *out);
    }
    if (from_right && most >= 0) {
        return lacking(r, "'rsplit' by white space with a limit is not supported");
    }
    return split_blanks(r, c->self.string, most, *out);
}

static enum status method_splitlines(struct render *r, const struct call *c, struct value *out) {
    return jinja_split_lines(r, c->self.string, value_truth(c->args[0]), out);
}

static enum status method_partition(struct render *r, const struct call *c, struct value *out) {
    const struct string *s = c->self.string;
    const struct string *by;
    TRY(needed_string(r, c, 0, &by));
    if (by->n == 0) {
        return refuse(r, "'%s' by an empty string", c->name);
    }
    TRY(jinja_spend(r, (int64_t)s->n / 16));
    bool from_right = c->name[0] == 'r';
    const char *hit = from_right ? last_of(s->s, s->n, by) : memmem(s->s, s->n, by->s, by->n);
    size_t at = hit ? (size_t)(hit - s->s) : from_right ? 0 : s->n;
    size_t end = hit ? at + by->n : at;
    TRY(sequence_new(&r->pool, VALUE_TUPLE, 3, out));
    TRY(add_cut(r, s, 0, at, *out));
    TRY(add_cut(r, s, at, end, *out));
    return add_cut(r, s, end, s->n, *out);
}

/* The part of the receiver between the optional arguments i and i + 1; *from: its first code point.
 * *there: whether there is such a part (an empty one may lie at the very end). */
static enum status bounded(struct render *r, const struct call *c, int i, struct string *out, int64_t *from,
                           bool *there) {
    int64_t n = string_points(c->self.string);
    int64_t to;
    struct value cut;
    *out = *c->self.string;
    *from = 0;
    *there = true;
    if (!is_given(c->args[i]) && !is_given(c->args[i + 1])) {
        return OK;
    }
    struct call copy = *c;
    for (int k = i; k < i + 2; k++) {
        copy.args[k].kind = copy.args[k].kind == VALUE_NONE ? VALUE_MISSING : copy.args[k].kind;
    }
    TRY(jinja_take_int(r, &copy, i, 0, from));
    TRY(jinja_take_int(r, &copy, i + 1, n, &to));
    *from += *from < 0 ? n : 0;
    to += to < 0 ? n : 0;
    *from = *from < 0 ? 0 : *from;
    to = to < 0 ? 0 : to > n ? n : to;
    *there = *from <= to;
    if (*there) {
        size_t begin = string_offset(c->self.string, *from);
        size_t end = string_offset(c->self.string, to);
        TRY(string_cut(&r->pool, c->self.string, begin, end - begin, &cut));
        *out = *cut.string;
    }
    return OK;
}

static bool has_affix(const struct string *s, const struct string *affix, bool at_end) {
    return s->n >= affix->n && memcmp(s->s + (at_end ? s->n - affix->n : 0), affix->s, affix->n) == 0;
}

static enum status method_affix(struct render *r, const struct call *c, struct value *out) {
    struct string s;
    int64_t from;
    bool there;
    bool at_end = c->name[0] == 'e';
    struct value one = c->args[0];
    struct sequence single = {.items = &one, .n = 1};
    const struct sequence *affixes = one.kind == VALUE_TUPLE ? one.sequence : &single;
    TRY(jinja_spend(r, (int64_t)c->self.string->n / 64 + affixes->n));
    TRY(bounded(r, c, 1, &s, &from, &there));
    *out = value_bool(false);
    for (int64_t i = 0; i < affixes->n; i++) {
        TRY(jinja_undefined_used(r, affixes->items[i]));
        if (!is_string(affixes->items[i])) {
            return refuse(r, "'%s' takes a string or a tuple of strings", c->name);
        }
        out->truth = out->truth || (there && has_affix(&s, affixes->items[i].string, at_end));
    }
    return OK;
}

static enum status method_remove(struct render *r, const struct call *c, struct value *out) {
    const struct string *s = c->self.string;
    const struct string *affix;
    bool at_end = c->name[6] == 's';
    TRY(needed_string(r, c, 0, &affix));
    bool has = has_affix(s, affix, at_end);
    size_t left = has ? s->n - affix->n : s->n;
    return string_cut(&r->pool, s, has && !at_end ? affix->n : 0, left, out);
}

static enum status method_find(struct render *r, const struct call *c, struct value *out) {
    struct string s;
    const struct string *what;
    int64_t from;
    bool there;
    TRY(needed_string(r, c, 0, &what));
    TRY(jinja_spend(r, (int64_t)c->self.string->n / 16));
    TRY(bounded(r, c, 1, &s, &from, &there));
    bool last = c->name[0] == 'r';
    const char *hit = !there ? NULL : last ? last_of(s.s, s.n, what) : memmem(s.s, s.n, what->s, what->n);
    bool raises = strstr(c->name, "index") != NULL;
    if (!hit && raises) {
        return refuse(r, "'%s' finds nothing", c->name);
    }
    struct string before = {.s = s.s, .n = hit ? (size_t)(hit - s.s) : 0};
    *out = value_int(hit ? from + string_points(&before) : -1);
    return OK;
}

static enum status method_count(struct render *r, const struct call *c, struct value *out) {
    struct string s;
    const struct string *what;
    int64_t from;
    bool there;
    TRY(needed_string(r, c, 0, &what));
    TRY(jinja_spend(r, (int64_t)c->self.string->n / 16));
    TRY(bounded(r, c, 1, &s, &from, &there));
    *out = value_int(0);
    if (!there) {
        return OK;
    }
    if (what->n == 0) {
        *out = value_int(string_points(&s) + 1);
        return OK;
    }
    for (size_t at = 0;;) {
        const char *hit = memmem(s.s + at, s.n - at, what->s, what->n);
        if (!hit) {
            return OK;
        }
        out->integer++;
        at = (size_t)(hit - s.s) + what->n;
    }
}

static enum status method_replace(struct render *r, const struct call *c, struct value *out) {
    const struct string *from;
    const struct string *to;
    int64_t most;
    TRY(needed_string(r, c, 0, &from));
    TRY(needed_string(r, c, 1, &to));
    TRY(jinja_take_int(r, c, 2, -1, &most));
    return jinja_replaced(r, c->self.string, from, to, most < 0 ? -1 : most, out);
}

static enum status method_join(struct render *r, const struct call *c, struct value *out) {
    struct builder b = {.pool = &r->pool};
    struct sequence *s;
    TRY(jinja_elements(r, c->args[0], &s));
    TRY(jinja_spend(r, s->n));
    for (int64_t i = 0; i < s->n; i++) {
        TRY(jinja_undefined_used(r, s->items[i]));
        if (!is_string(s->items[i])) {
            return refuse(r, "'join' takes strings, not a %s", value_type(s->items[i]));
        }
        TRY(i > 0 ? builder_string(&b, c->self.string) : OK);
        TRY(builder_string(&b, s->items[i].string));
    }
    return builder_done(&b, out);
}

static enum status put_fill(struct builder *b, const struct string *fill, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        TRY(builder_string(b, fill));
    }
    return OK;
}

/* ljust, rjust, center, zfill. */
static enum status method_justify(struct render *r, const struct call *c, struct value *out) {
    static const struct string blank = {.s = " ", .n = 1};
    static const struct string zero = {.s = "0", .n = 1};
    const struct string *s = c->self.string;
    const struct string *fill;
    struct builder b = {.pool = &r->pool};
    int64_t width;
    bool zeros = c->name[0] == 'z';
    size_t sign = zeros && s->n > 0 && (s->s[0] == '-' || s->s[0] == '+');
    TRY(jinja_take_int(r, c, 0, 0, &width));
    TRY(jinja_take_string(r, c, 1, &fill));
    if (fill && string_points(fill) != 1) {
        return refuse(r, "'%s' fills with one character", c->name);
    }
    fill = fill ? fill : zeros ? &zero : &blank;
    int64_t n = string_points(s);
    int64_t more = width > n ? width - n : 0;
    int64_t left = c->name[0] == 'l' ? 0 : c->name[0] == 'c' ? more / 2 + (more & width & 1) : more;
    TRY(jinja_spend(r, more));
    TRY(builder_cut(&b, s, 0, sign));
    TRY(put_fill(&b, fill, left));
    TRY(builder_cut(&b, s, sign, s->n - sign));
    TRY(put_fill(&b, fill, more - left));
    return builder_done(&b, out);
}

static enum status method_class(struct render *r, const struct call *c, struct value *out) {
    static const struct {
        const char *name;
        enum char_class class;
    } classes[] = {{"isdigit", CHAR_DIGIT}, {"isalpha", CHAR_ALPHA}, {"isalnum", CHAR_ALNUM},
                   {"isspace", CHAR_SPACE}, {"isupper", CHAR_UPPER}, {"islower", CHAR_LOWER}};
    TRY(jinja_spend(r, (int64_t)c->self.string->n / 8));
    for (int i = 0; i < COUNT_OF(classes); i++) {
        if (strcmp(c->name, classes[i].name) == 0) {
            *out = value_bool(jinja_all_of_class(c->self.string, classes[i].class));
        }
    }
    return OK;
}

const struct function template_string_methods[] = {
    {"upper", "", 0, method_case},
    {"lower", "", 0, method_case},
    {"capitalize", "", 0, method_case},
    {"title", "", 0, method_title},
    {"strip", "chars", 0, method_strip},
    {"lstrip", "chars", 0, method_strip},
    {"rstrip", "chars", 0, method_strip},
    {"split", "sep maxsplit", 0, method_split},
    {"rsplit", "sep maxsplit", 0, method_split},
    {"splitlines", "keepends", 0, method_splitlines},
    {"partition", "sep", 1, method_partition},
    {"rpartition", "sep", 1, method_partition},
    {"startswith", "prefix start end", 1, method_affix},
    {"endswith", "suffix start end", 1, method_affix},
    {"removeprefix", "prefix", 1, method_remove},
    {"removesuffix", "suffix", 1, method_remove},
    {"find", "sub start end", 1, method_find},
    {"rfind", "sub start end", 1, method_find},
    {"index", "sub start end", 1, method_find},
    {"rindex", "sub start end", 1, method_find},
    {"count", "sub start end", 1, method_count},
    {"replace", "old new count", 2, method_replace},
    {"join", "iterable", 1, method_join},
    {"ljust", "width fillchar", 1, method_justify},
    {"rjust", "width fillchar", 1, method_justify},
    {"center", "width fillchar", 1, method_justify},
    {"zfill", "width", 1, method_justify},
    {"isdigit", "", 0, method_class},
    {"isalpha", "", 0, method_class},
    {"isalnum", "", 0, method_class},
    {"isspace", "", 0, method_class},
    {"isupper", "", 0, method_class},
    {"islower", "", 0, method_class},
    {0},
};

/* Dicts. */

static enum status method_get(struct render *r, const struct call *c, struct value *out) {
    const struct dict *d = c->self.dict;
    if (!value_has_hash(c->args[0])) {
        return refuse(r, "a %s is looked for among keys", value_type(c->args[0]));
    }
    TRY(jinja_spend(r, d->n / 4 + d->n * (value_weight(c->args[0]) - 1)));
    const struct value *there = dict_find(d, c->args[0]);
    *out = there ? *there : is_given(c->args[1]) ? c->args[1] : value_none();
    return OK;
}

static enum status method_view(struct render *r, const struct call *c, struct value *out) {
    const struct dict *d = c->self.dict;
    TRY(jinja_spend(r, d->n / 2));
    TRY(sequence_new(&r->pool, VALUE_VIEW, d->n, out));
    for (int64_t i = 0; i < d->n; i++) {
        struct value v = c->name[0] == 'k' ? d->entries[i].key : d->entries[i].value;
        if (c->name[0] == 'i') {
            TRY(sequence_new(&r->pool, VALUE_TUPLE, 2, &v));
            TRY(sequence_add(&r->pool, v, d->entries[i].key));
            TRY(sequence_add(&r->pool, v, d->entries[i].value));
        }
        TRY(sequence_add(&r->pool, *out, v));
    }
    return OK;
}

static enum status method_copy(struct render *r, const struct call *c, struct value *out) {
    (void)r;
    *out = c->self; /* which never changes */
    return OK;
}

const struct function template_dict_methods[] = {
    {"get", "key default", 1, method_get}, {"items", "", 0, method_view}, {"keys", "", 0, method_view},
    {"values", "", 0, method_view},        {"copy", "", 0, method_copy},  {0},
};

/* Lists and tuples. */

static enum status method_list_index(struct render *r, const struct call *c, struct value *out) {
    const struct sequence *s = c->self.sequence;
    int64_t count = 0;
    int64_t first = -1;
    TRY(jinja_spend(r, s->n / 4 + s->n * (value_weight(c->args[0]) - 1)));
    for (int64_t i = 0; i < s->n; i++) {
        bool equal = values_equal(s->items[i], c->args[0]);
        first = equal && first < 0 ? i : first;
        count += equal;
    }
    if (c->name[0] == 'i' && first < 0) {
        return refuse(r, "'index' finds nothing");
    }
    *out = value_int(c->name[0] == 'i' ? first : count);
    return OK;
}

const struct function template_list_methods[] = {
    {"index", "value", 1, method_list_index},
    {"count", "value", 1, method_list_index},
    {"copy", "", 0, method_copy},
    {0},
};

/* Loops. */

static enum status method_cycle(struct render *r, const struct call *c, struct value *out) {
    if (c->all->n == 0) {
        return refuse(r, "loop.cycle() without values");
    }
    *out = c->all->values[c->self.loop->index % c->all->n];
    return OK;
}

static enum status method_changed(struct render *r, const struct call *c, struct value *out) {
    struct loop *loop = c->self.loop;
    struct value now;
    struct sequence given = {.items = c->all->values, .n = c->all->n};
    TRY(jinja_listed(r, VALUE_TUPLE, &given, &now));
    TRY(jinja_spend(r, value_weight(now)));
    *out = value_bool(!is_given(loop->changed) || !values_equal(loop->changed, now));
    loop->changed = now;
    return OK;
}

const struct function template_loop_methods[] = {
    {"cycle", NULL, 0, method_cycle},
    {"changed", NULL, 0, method_changed},
    {0},
};

const char *const template_unsafe_methods[] = {
    "dict.clear", "dict.pop",    "dict.popitem", "dict.setdefault", "dict.update", "list.append",
    "list.clear", "list.extend", "list.insert",  "list.pop",        "list.remove", "list.reverse",
    "list.sort",  NULL,
};
const char *const template_other_methods[] = {
    "str.casefold",     "str.encode",      "str.expandtabs", "str.format",
    "str.format_map",   "str.isascii",     "str.isdecimal",  "str.isnumeric",
    "str.istitle",      "str.maketrans",   "str.swapcase",   "str.translate",
    "str.isidentifier", "str.isprintable", "dict.fromkeys",  NULL,
};
