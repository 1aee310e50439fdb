/* Chat templates: every rendering of transformers' to the byte, expressions and blocks of jinja2's, ranges,
 * limits, hostile templates. */
#include "tests/unit.h"

#include <stdio.h>
#include <string.h>

#include <zlib.h>

#include "text/template.h"
#include "util/mem.h"
#include "util/rng.h"

static const char date[] = "2026-11-30T08:15:30"; /* of make_template_fixtures.py */

/* The bytes of tests/fixtures/templates/NAME, unpacked where it is packed. */
static void fixture(const char *name, struct text *out) {
    char path[1024];
    char piece[65536];
    snprintf(path, sizeof path, "%s/templates/%s", fixtures(), name);
    gzFile file = gzopen(path, "rb");
    assert_non_null(file);
    text_clear(out);
    for (int n = gzread(file, piece, sizeof piece); n > 0; n = gzread(file, piece, sizeof piece)) {
        assert_int_equal(text_append(out, piece, (size_t)n), OK);
    }
    assert_int_equal(gzclose(file), Z_OK);
}

static json_t *json_fixture(const char *name) {
    struct text text = {0};
    json_t *value;
    fixture(name, &text);
    assert_int_equal(json_parse(text.data, text.len, name, &value), OK);
    text_free(&text);
    return value;
}

static json_t *specials(void) {
    json_t *object = json_pack("{s:s, s:s, s:s, s:s}", "bos_token", "<s>", "eos_token", "</s>", "unk_token",
                               "<unk>", "pad_token", "<pad>");
    assert_non_null(object);
    return object;
}

/* Where two texts first differ, with what is around it. */
static void show_difference(const char *what, const char *got, size_t got_n, const char *want,
                            size_t want_n) {
    size_t at = 0;
    while (at < got_n && at < want_n && got[at] == want[at]) {
        at++;
    }
    size_t from = at > 60 ? at - 60 : 0;
    FAIL("%s: differs at byte %zu of %zu (wanted %zu)\n--- got\n%.*s\n--- wanted\n%.*s\n", what, at, got_n,
         want_n, (int)(got_n - from > 160 ? 160 : got_n - from), got + from,
         (int)(want_n - from > 160 ? 160 : want_n - from), want + from);
}

static void check_text(const char *what, const struct text *got, const char *want, size_t want_n) {
    if (got->len != want_n || memcmp(got->data, want, want_n) != 0) {
        show_difference(what, got->data, got->len, want, want_n);
    }
}

static void check_ranges(const char *what, const struct template_ranges *got, const json_t *want) {
    if (got->count != (int64_t)json_array_size(want)) {
        FAIL("%s: %lld ranges of generation, wanted %zu", what, (long long)got->count, json_array_size(want));
    }
    for (int64_t i = 0; i < got->count; i++) {
        const json_t *range = json_array_get(want, (size_t)i);
        if ((json_int_t)got->data[i].begin != json_integer_value(json_array_get(range, 0)) ||
            (json_int_t)got->data[i].end != json_integer_value(json_array_get(range, 1))) {
            FAIL("%s: range %lld is [%zu, %zu)", what, (long long)i, got->data[i].begin, got->data[i].end);
        }
    }
}

struct parsed {
    const char *name;
    struct template *t;
    struct template_output out;
};

static void check_rendering(struct parsed *p, const struct template_input *input, const json_t *line,
                            const struct parsed *all, const char *what) {
    const json_t *row = json_object_get(line, p->name);
    const json_t *text = json_array_get(row, 0);
    assert_non_null(text);
    enum status st = template_render(p->t, input, &p->out);
    if (json_is_null(text)) {
        if (st != ERR_DATA) {
            FAIL("%s: code %d, but jinja2 raises %s", what, st,
                 json_string_value(json_array_get(row, 1)) ? json_string_value(json_array_get(row, 1)) : "");
        }
        p->out.text.len = 0;
        return;
    }
    if (st != OK) {
        FAIL("%s: code %d: %s", what, st, status_message()->text);
    }
    if (json_is_integer(text)) {
        const struct text *same = &all[json_integer_value(text)].out.text;
        check_text(what, &p->out.text, same->data, same->len);
    } else {
        check_text(what, &p->out.text, json_string_value(text), json_string_length(text));
    }
    check_ranges(what, &p->out.generation, json_array_get(row, 1));
}

static struct parsed *parse_all(const json_t *templates) {
    struct parsed *all;
    int64_t i = 0;
    assert_int_equal(NEW_ARRAY(all, (int64_t)json_object_size(templates)), OK);
    for (void *at = json_object_iter((json_t *)templates); at;
         at = json_object_iter_next((json_t *)templates, at)) {
        const json_t *text = json_object_iter_value(at);
        all[i].name = json_object_iter_key(at);
        if (template_parse(all[i].name, json_string_value(text), json_string_length(text), &all[i].t) != OK) {
            FAIL("%s", status_message()->text);
        }
        bool marks = strstr(json_string_value(text), "endgeneration") != NULL;
        assert_true(template_has_generation(all[i].t) == marks);
        i++;
    }
    return all;
}

static void test_renderings(void **state) {
    (void)state;
    struct text lines = {0};
    json_t *templates = json_fixture("templates.json.gz");
    json_t *conversations = json_fixture("conversations.json");
    json_t *special = specials();
    size_t n = json_object_size(templates);
    struct parsed *all = parse_all(templates);
    fixture("renderings.jsonl.gz", &lines);
    const char *at = lines.data;
    int64_t checked = 0;
    for (size_t k = 0; k < 2 * json_array_size(conversations); k++) {
        const json_t *c = json_array_get(conversations, k / 2);
        json_t *line;
        size_t length = strcspn(at, "\n");
        assert_int_equal(json_parse(at, length, "renderings", &line), OK);
        at += length + 1;
        const struct template_input input = {.messages = json_object_get(c, "messages"),
                                             .tools = json_object_get(c, "tools"),
                                             .documents = json_object_get(c, "documents"),
                                             .extra = json_object_get(c, "extra"),
                                             .specials = special,
                                             .date = date,
                                             .add_generation_prompt = k % 2 == 1};
        for (size_t i = 0; i < n; i++) {
            char what[200];
            snprintf(what, sizeof what, "%s, conversation %zu, prompt %zu", all[i].name, k / 2, k % 2);
            check_rendering(&all[i], &input, line, all, what);
            checked++;
        }
        json_decref(line);
    }
    assert_int_equal(checked, 72 * 30 * 2);
    for (size_t i = 0; i < n; i++) {
        template_free(all[i].t);
        template_output_free(&all[i].out);
    }
    mem_free(all);
    text_free(&lines);
    json_decref(special);
    json_decref(conversations);
    json_decref(templates);
}

/* One template with one message {role: user, content: c}; the status, its text in out. */
static enum status render_text(const char *text, size_t n, struct template_output *out) {
    struct template *t;
    TRY(template_parse("t", text, n, &t));
    json_t *messages = json_pack("[{s:s, s:s}]", "role", "user", "content", "c");
    json_t *special = specials();
    const struct template_input input = {
        .messages = messages, .specials = special, .date = date, .add_generation_prompt = true};
    enum status st = template_render(t, &input, out);
    json_decref(messages);
    json_decref(special);
    template_free(t);
    return st;
}

static void test_expressions(void **state) {
    (void)state;
    struct template_output out = {0};
    json_t *rows = json_fixture("expressions.json");
    size_t i;
    const json_t *row;
    int wrong = 0;
    json_array_foreach(rows, i, row) {
        const json_t *text = json_array_get(row, 0);
        const json_t *want = json_array_get(row, 1);
        enum status st = render_text(json_string_value(text), json_string_length(text), &out);
        bool refused = st == ERR_DATA || st == ERR_USAGE;
        if (json_is_null(want) ? !refused : st != OK) {
            print_error("%s\n  code %d: %s\n", json_string_value(text), st, status_message()->text);
            wrong++;
        } else if (st == OK && (out.text.len != json_string_length(want) ||
                                memcmp(out.text.data, json_string_value(want), out.text.len) != 0)) {
            print_error("%s\n  got    %s\n  wanted %s\n", json_string_value(text), out.text.data,
                        json_string_value(want));
            wrong++;
        }
    }
    assert_int_equal(wrong, 0);
    template_output_free(&out);
    json_decref(rows);
}

static void expect_text(const char *text, const char *want) {
    struct template_output out = {0};
    if (render_text(text, strlen(text), &out) != OK) {
        FAIL("%s: %s", text, status_message()->text);
    }
    check_text(text, &out.text, want, strlen(want));
    template_output_free(&out);
}

/* Refused with a message that has `words` in it. */
static void expect_refused(const char *text, size_t n, enum status code, const char *words) {
    struct template_output out = {0};
    enum status st = render_text(text, n, &out);
    if (st != code || !strstr(status_message()->text, words)) {
        FAIL("%.200s: code %d: %s\nwanted: %s", text, st, status_message()->text, words);
    }
    template_output_free(&out);
}

static void test_lacking(void **state) {
    (void)state;
    static const struct {
        const char *text, *words;
    } rows[] = {
        {"a\n{{ 1 | urlize }}", "t, line 2: filter 'urlize' is not supported"},
        {"\n\n{{ 1 is foo }}", "t, line 3: test 'foo' is not supported"},
        {"{{ 'a'.translate(1) }}", "t, line 1: method 'translate' of str is not supported"},
        {"{{ '%5d' % 3 }}", "%5 is not supported"},
        {"\n{% include 'x' %}", "t, line 2: statement 'include' is not supported"},
        {"{% for x in [] recursive %}{% endfor %}", "recursive loops are not supported"},
        {"{{ 9223372036854775807 + 1 }}", "beyond 64 bits"},
        {"{{ range }}", "printing a function is not supported"},
    };
    for (int i = 0; i < COUNT_OF(rows); i++) {
        expect_refused(rows[i].text, strlen(rows[i].text), ERR_USAGE, rows[i].words);
    }
    expect_text("{% if false %}{{ 1 | urlize }}{% endif %}x", "x"); /* only when a row comes to it */
}

static void test_messages(void **state) {
    (void)state;
    static const struct {
        const char *text, *words;
    } rows[] = {
        {"\n{{ raise_exception('Roles must alternate: ' ~ messages[0].role) }}",
         "t, line 2: the template refuses: Roles must alternate: user"},
        {"{{ a.b }}", "t, line 1: 'a' is undefined"},
        {"{{ messages[0].x.y }}", "there is no attribute 'x'"},
        {"{{ messages[5].role }}", "there is no such element"},
        {"{{ [].append(1) }}", "'append' would change a value"},
        {"{% macro m(p) %}{{ p.x }}{% endmacro %}{{ m() }}", "parameter 'p' was not given"},
        {"{{ 'a' | trim(1) }}", "'trim' takes a string, not a int"},
        {"{{ 'a' | trim(1, 2) }}", "filter 'trim' takes at most 1 arguments"},
        {"{{ 'a' | trim(x=2) }}", "filter 'trim' has no argument 'x'"},
        {"{{ 'a' | replace('a') }}", "filter 'replace' needs 2 arguments"},
        {"{% if x %}\n{% for", "t, line 2: a tag is not closed"},
        {"{% if x %}\n{{ 1 }}\n", "the template ends where elif is expected"},
        {"{{ \xff }}", "t: not valid UTF-8 at byte 3"},
        {"{{ 'a\\ud800' }}", "an escape that is no character"},
    };
    for (int i = 0; i < COUNT_OF(rows); i++) {
        expect_refused(rows[i].text, strlen(rows[i].text), ERR_DATA, rows[i].words);
    }
}

/* n times `piece`, then n times `close`, between two others. */
static void repeated(const char *before, const char *piece, const char *close, const char *after, int n,
                     struct text *out) {
    text_clear(out);
    assert_int_equal(text_puts(out, before), OK);
    for (int i = 0; i < 2 * n; i++) {
        assert_int_equal(text_puts(out, i < n ? piece : close), OK);
    }
    assert_int_equal(text_puts(out, after), OK);
}

static void test_nesting(void **state) {
    (void)state;
    static const struct {
        const char *before, *piece, *close, *after, *words;
    } rows[] = {
        {"{{ ", "(", ")", " }}", "nested deeper than 200"},
        {"{{ ", "[", "]", " }}", "nested deeper than 200"},
        {"{{ ", "{1:", "}", " }}", "nested deeper than 200"},
        {"{{ ", "not ", "", "1 }}", "nested deeper than 200"},
        {"{{ ", "- ", "", "1 }}", "nested deeper than 200"},
        {"{{ ", "1 if 1 else ", "", "1 }}", "nested deeper than 200"},
        {"{{ a", "[a", "]", " }}", "nested deeper than 200"},
        {"{{ a", "(a", ")", " }}", "nested deeper than 200"},
        {"{{ a", "|b(a", ")", " }}", "nested deeper than 200"},
        {"", "{% if 1 %}", "{% endif %}", "", "nested deeper than 200"},
        {"", "{% for x in [1] %}", "", "", "nested deeper than 200"},
        {"", "{% generation %}", "", "", "nested deeper than 200"},
        {"{% set ", "(", ")", " = 1 %}", "nested deeper than 200"},
        {"{{ 1", "+1", "", " }}", "nested deeper than 1000"},
        {"{{ 'a'", "|trim", "", " }}", "nested deeper than 1000"},
        {"{{ messages", "[0]", "", " }}", "nested deeper than 1000"},
        {"{{ 1", " and 1", "", " }}", "nested deeper than 1000"},
        {"{% if 0 %}", "{% elif 0 %}", "", "{% endif %}", "nested deeper than 1000"},
        {"{{ ", "(", "", " }}", "unexpected '}'"},
        {"", "{%", "", "", "a tag"},
        {"{{ ", "{{", "", "", "a tag is not closed"},
    };
    struct text text = {0};
    for (int i = 0; i < COUNT_OF(rows); i++) {
        repeated(rows[i].before, rows[i].piece, rows[i].close, rows[i].after, 100000, &text);
        expect_refused(text.data, text.len, ERR_DATA, rows[i].words);
    }
    repeated("{{ 'x'", " ~ 'x'", "", " }}", 100000, &text); /* no nesting */
    struct template_output out = {0};
    assert_int_equal(render_text(text.data, text.len, &out), OK);
    assert_int_equal(out.text.len, 100001);
    template_output_free(&out);
    text_free(&text);
}

static void test_limits(void **state) {
    (void)state;
    static const struct {
        const char *text, *words;
    } rows[] = {
        {"{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "nested deeper than 1000"},
        {"{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}",
         "nested deeper than 1000"},
        {"{% macro c() %}{{ caller() }}{% endmacro %}{% macro m() %}{% call c() %}{{ m() }}{% endcall %}{% "
         "endmacro %}"
         "{{ m() }}",
         "nested deeper than 1000"},
        {"{{ range(10 ** 9) }}", "range() of more than 100000 elements"},
        {"{{ range(-9223372036854775807, 9223372036854775807) }}", "range() of more than 100000 elements"},
        {"{% set r = range(99999) %}{% for a in r %}{% for b in r %}{% endfor %}{% endfor %}",
         "more than 20971520 steps"},
        {"{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}", "more than"},
        {"{{ 'abcdefgh' * 10 ** 12 }}", "more than"},
        {"{{ [0] * 10 ** 12 }}", "more than"},
        {"{{ ('ab' * 10 ** 7) * 100 }}", "64 MiB of text (while t is at its line 1)"},
        {"{{ range(99999) | join('x' * 10 ** 6) }}", "more than its 64 MiB of text"},
        {"{{ ('x' * 10 ** 6).join('y' * 10 ** 6) }}", "more than"},
        {"{{ ('x' * 10 ** 6) | replace('', 'y' * 10 ** 6) }}", "more than"},
        {"{{ ('x' * 10 ** 6).replace('x', 'y' * 10 ** 6) }}", "more than"},
        {"{{ 'x' | center(10 ** 9) }}", "is not supported"},
        {"{{ 'x'.center(10 ** 9) }}", "more than"},
        {"{{ 'x\ny' | indent(10 ** 9) }}", "more than"},
        {"{{ [1] | tojson(indent=10 ** 9) }}", "more than"},
        {"{{ 2 ** 10 ** 9 }}", "beyond 64 bits"},
        {"{% set ns = namespace(x='x') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
         "more than"},
        {"{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
         "more than"},
        {"{% set ns = namespace(x=[]) %}{% for i in range(999) %}{% set ns.x = [ns.x] %}{% endfor %}",
         "nested deeper than 200"},
        {"{% set ns = namespace(x=[]) %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}",
         "holds more than"},
        {"{% set ns = namespace(x={}) %}{% for i in range(99) %}{% set ns.x = {1: ns.x, 2: ns.x} %}{% endfor "
         "%}",
         "holds more than"},
        {"{{ ('a,' * 10 ** 6).split(',') | sort | unique | list | length ~ ('a ' * 10 ** 7).split() | length "
         "}}",
         "more than"},
    };
    for (int i = 0; i < COUNT_OF(rows); i++) {
        const char *text = rows[i].text;
        bool lacks = strstr(rows[i].words, "support") || strstr(rows[i].words, "64 bits");
        expect_refused(text, strlen(text), lacks ? ERR_USAGE : ERR_DATA, rows[i].words);
    }
    /* Values in circles are let go, and deep ones compared no longer than the steps last. */
    expect_text(
        "{% set ns = namespace() %}{% set ns.me = ns %}{% macro m() %}{{ ns.me.me is defined }}{% endmacro %}"
        "{% set ns.m = m %}{{ ns.m() }}",
        "True");
    expect_text("{% set a = namespace(x=[]) %}{% set b = namespace(x=[]) %}{% for i in range(20) %}"
                "{% set a.x = [a.x, a.x] %}{% set b.x = [b.x, b.x] %}{% endfor %}{{ a.x == b.x }}",
                "True");
}

/* A conversation from JSON text. */
static enum status render_json(const char *text, const char *input, struct template_output *out) {
    struct template *t;
    json_t *row;
    json_t *special = specials();
    TRY(template_parse("t", text, strlen(text), &t));
    assert_int_equal(json_parse(input, strlen(input), "input", &row), OK);
    const struct template_input given = {.messages = json_object_get(row, "messages"),
                                         .tools = json_object_get(row, "tools"),
                                         .extra = json_object_get(row, "extra"),
                                         .specials = special};
    enum status st = template_render(t, &given, out);
    json_decref(row);
    json_decref(special);
    template_free(t);
    return st;
}

/* The text with [ ] around what is input (or generation). */
static void expect_marked(const char *text, const char *input, bool generation, const char *want) {
    struct template_output out = {0};
    struct text marked = {0};
    if (render_json(text, input, &out) != OK) {
        FAIL("%s: %s", text, status_message()->text);
    }
    const struct template_ranges *ranges = generation ? &out.generation : &out.input;
    int64_t next = 0;
    for (size_t i = 0; i <= out.text.len; i++) {
        if (next > 0 && ranges->data[next - 1].end == i) {
            assert_int_equal(text_puts(&marked, "]"), OK);
        }
        if (next < ranges->count && ranges->data[next].begin == i) {
            assert_int_equal(text_puts(&marked, "["), OK);
            next++;
        }
        assert_int_equal(text_append(&marked, out.text.data + i, i < out.text.len), OK);
    }
    check_text(text, &marked, want, strlen(want));
    text_free(&marked);
    template_output_free(&out);
}

static void test_marks(void **state) {
    (void)state;
    static const char row[] = "{\"messages\": [{\"role\": \"user\", \"content\": \" <e>Hi \\u00e9 \"},"
                              " {\"role\": \"<e>\", \"content\": \"b\"}], \"extra\": {\"day\": \"Mon\"},"
                              " \"tools\": [{\"name\": \"f\", \"n\": 1}]}";
    static const struct {
        const char *text, *want;
    } rows[] = {
        {"{{ bos_token }}<{{ messages[0].role }}>{{ messages[0].content }}</e>",
         "<s><user>[ <e>Hi \xc3\xa9 ]</e>"},
        {"{{ '<' + messages[1]['role'] + '>' }}", "<[<e>]>"},
        {"{{ 'a' + messages[0].content | trim ~ 'b' }}", "a[<e>Hi \xc3\xa9]b"},
        {"{{ messages[0].content[1:4] }}|{{ messages[0].content.split('>')[1] }}", "[<e>]|[Hi \xc3\xa9 ]"},
        {"{{ messages[0].content | upper }}|{{ messages[0].content | length }}", "[ <E>HI \xc3\x89 ]|9"},
        {"{{ ('x' + messages[1].content)[::-1] }}{{ ('x' + messages[1].content).replace('x', '<e>') }}",
         "[b]x<e>[b]"},
        {"{{ tools | tojson }}", "[{\"[name]\": \"[f]\", \"[n]\": 1}]"},
        {"{{ tools }}", "[{'[name]': '[f]', '[n]': 1}]"},
        {"{% set x %}a{{ day }}b{% endset %}{{ x }}{% macro m(p) %}({{ p }}){% endmacro %}{{ m(day) }}",
         "a[Mon]b([Mon])"},
        {"{{ [day, 'x', day] | join('-') }}{{ '%s!' % day }}{{ day ~ day }}", "[Mon]-x-[MonMon]![MonMon]"},
        {"{{ missing | default(day) }}{{ day if day else 'x' }}{% for c in day %}{{ c }},{% endfor %}",
         "[MonMonM],[o],[n],"},
    };
    for (int i = 0; i < COUNT_OF(rows); i++) {
        expect_marked(rows[i].text, row, false, rows[i].want);
    }
    expect_marked("a{% generation %}b{{ day }}{% endgeneration %}{{ day }}c", row, true, "a[bMon]Monc");
    expect_marked(
        "{% macro m() %}a{% generation %}b{% endgeneration %}c{% endmacro %}x{{ m() }}{{ m() | upper }}", row,
        true, "xa[b]c[ABC]");
    expect_marked("{% generation %}{% endgeneration %}x", row, true, "x");
}

static void test_ranges(void **state) {
    (void)state;
    struct template_range data[] = {{2, 5}, {7, 8}};
    const struct template_ranges ranges = {.data = data, .count = 2};
    static const bool inside[10] = {false, false, true, true, true, false, false, true, false, false};
    for (size_t begin = 0; begin < 10; begin++) {
        bool touches = false;
        assert_false(template_ranges_touch(&ranges, begin, begin));
        for (size_t end = begin + 1; end <= 10; end++) {
            touches = touches || inside[end - 1];
            assert_true(template_ranges_touch(&ranges, begin, end) == touches);
        }
    }
    assert_false(template_ranges_touch(&(struct template_ranges){0}, 0, 10));
}

/* Rows as transformers takes them: null fields go, reasoning has two names. */
static void test_rows(void **state) {
    (void)state;
    struct template_output out = {0};
    static const char dump[] = "{{ messages | tojson }}";
    assert_int_equal(
        render_json(dump, "{\"messages\": [{\"role\": \"a\", \"content\": null, \"reasoning\": \"r\"}]}",
                    &out),
        OK);
    assert_string_equal(
        out.text.data,
        "[{\"thinking\": \"r\", \"role\": \"a\", \"reasoning\": \"r\", \"reasoning_content\": \"r\"}]");
    assert_int_equal(render_json(dump, "{\"messages\": [1]}", &out), ERR_DATA);
    assert_int_equal(render_json(dump, "{\"messages\": {}}", &out), ERR_DATA);
    assert_int_equal(render_json(dump, "{}", &out), OK);
    assert_string_equal(out.text.data, "[]");
    struct text deep = {0};
    repeated("{\"messages\": [{\"content\": ", "[", "]", "}]}", 300, &deep);
    assert_int_equal(render_json(dump, deep.data, &out), ERR_DATA);
    assert_non_null(strstr(status_message()->text, "nested deeper than 200"));
    text_free(&deep);
    template_output_free(&out);
}

static void test_date(void **state) {
    (void)state;
    static const char text[] = "{{ strftime_now('%d %B %Y %H') }}";
    struct template *t;
    struct template_output out = {0};
    assert_int_equal(template_parse("t", text, strlen(text), &t), OK);
    struct template_input input = {.date = "2024-02-29"};
    assert_int_equal(template_render(t, &input, &out), OK);
    assert_string_equal(out.text.data, "29 February 2024 00");
    input.date = "yesterday";
    assert_int_equal(template_render(t, &input, &out), ERR_USAGE);
    input.date = NULL;
    assert_int_equal(template_render(t, &input, &out), OK);
    assert_true(out.text.len > 10);
    template_free(t);
    template_output_free(&out);
}

/* Cut and flipped templates: rendered or refused, nothing else. */
static void test_noise(void **state) {
    (void)state;
    json_t *templates = json_fixture("templates.json.gz");
    struct template_output out = {0};
    struct rng r = rng_stream(11, RNG_CHECK, 0, 0);
    for (void *at = json_object_iter(templates); at; at = json_object_iter_next(templates, at)) {
        const json_t *text = json_object_iter_value(at);
        size_t n = json_string_length(text);
        for (int i = 0; i < 10; i++) {
            char *copy = mem_strndup(json_string_value(text), n);
            assert_non_null(copy);
            for (int j = 0; j < i; j++) {
                static const char bytes[] = "{}%#'\"()[]|.,=-+~ \nabz019\xc3";
                copy[rng_below(&r, (uint32_t)n)] = bytes[rng_below(&r, sizeof bytes - 1)];
            }
            enum status st = render_text(copy, (size_t)rng_below(&r, (uint32_t)n), &out);
            assert_true(st == OK || st == ERR_DATA || st == ERR_USAGE);
            mem_free(copy);
        }
    }
    template_output_free(&out);
    json_decref(templates);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_renderings), cmocka_unit_test(test_expressions), cmocka_unit_test(test_lacking),
        cmocka_unit_test(test_messages),   cmocka_unit_test(test_nesting),     cmocka_unit_test(test_limits),
        cmocka_unit_test(test_marks),      cmocka_unit_test(test_ranges),      cmocka_unit_test(test_rows),
        cmocka_unit_test(test_date),       cmocka_unit_test(test_noise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
