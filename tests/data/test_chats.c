/* Chats through a template: ids and trained tokens equal those of transformers' apply_chat_template
 * (fixtures/make_chat_fixtures.py); what users write stays text where that is asked for; what the template
 * refuses or renders otherwise is dropped and named. */
#include "tests/unit.h"

#include <string.h>

#include "io/record_blocks.h"
#include "tests/prepared_part.h"
#include "tests/small_world.h"
#include "util/mem.h"

#define MUST(call)                              \
    do {                                        \
        if ((call) != OK) {                     \
            FAIL("%s", status_message()->text); \
        }                                       \
    } while (0)

enum { IM_START = 257, IM_END = 258 };

struct fixture {
    struct comm *c;
    char folder[64];
    struct tokenizer *tokenizer;
    json_t *expected;
};

struct chats {
    struct template_folder templates;
    struct chat_format format;
    struct records_input *input;
    struct prepare_job job;
    struct prepared prepared;
    struct dataset_part part;
};

/* template NULL: the tokenizer folder's. */
static void prepare(struct fixture *f, const char *path, enum record_format format, const char *template,
                    bool as_text, struct chats *out) {
    char *files[] = {(char *)(uintptr_t)path};
    *out = (struct chats){.format = {.templates = &out->templates, .date = "2026-11-30", .all_turns = true}};
    MUST(template_folder_open(FIXTURES "/chat/tokenizer", &out->templates));
    if (template) {
        MUST(template_folder_replace(&out->templates, template));
    }
    MUST(records_survey(f->c, files, 1, NULL, &out->input));
    out->job = (struct prepare_job){.input = out->input,
                                    .tokenizer = f->tokenizer,
                                    .format = format,
                                    .begin_id = -1,
                                    .end_id = -1,
                                    .records = records_count(out->input),
                                    .chat = &out->format,
                                    .specials_as_text = as_text,
                                    .check_stride = 1,
                                    .threads = 1};
    MUST(prepare_records(&out->job, &out->prepared));
    MUST(prepared_part(&out->prepared, &out->part));
}

static void chats_free(struct chats *x) {
    prepared_free(&x->prepared);
    prepared_part_free(&x->part);
    records_close(x->input);
    template_folder_free(&x->templates);
}

static void expect_ids(const json_t *list, const int32_t *ids, int64_t n) {
    assert_int_equal(json_array_size(list), n);
    for (int64_t i = 0; i < n; i++) {
        assert_int_equal(json_integer_value(json_array_get(list, (size_t)i)), ids[i]);
    }
}

static void pairs_have_the_ids_of_transformers(void **state) {
    struct fixture *f = *state;
    const json_t *pairs = json_object_get(f->expected, "pairs");
    struct chats x;
    prepare(f, FIXTURES "/chat/pairs.jsonl", FORMAT_PREFERENCE, NULL, false, &x);
    const struct dataset_part *d = &x.part;
    assert_int_equal(d->n_pairs, json_array_size(pairs));
    for (int64_t i = 0; i < d->n_pairs; i++) {
        const json_t *row = json_array_get(pairs, (size_t)i);
        const int64_t *p = d->prompt_offsets + i;
        const int64_t sides[] = {d->chosen[i], d->rejected[i]};
        expect_ids(json_array_get(row, 0), d->prompt_tokens + p[0], p[1] - p[0]);
        for (int side = 0; side < 2; side++) {
            const int64_t *r = d->response_offsets + sides[side];
            expect_ids(json_array_get(row, 1 + (size_t)side), d->response_tokens + r[0], r[1] - r[0]);
        }
    }
    assert_int_equal(x.prepared.counts[COUNT_BOUNDARY_MOVED], 0);
    assert_int_equal(x.prepared.counts[COUNT_WITHOUT_END], 0);
    assert_int_equal(x.prepared.ignored.n, 0);
    chats_free(&x);
}

/* The whole is prompt and response, the mask is 0 in the prompt. */
static void expect_chat(const json_t *row, const struct dataset_part *d, int64_t i) {
    const json_t *ids = json_array_get(row, 0);
    const json_t *mask = json_array_get(row, 1);
    const int64_t *p = d->prompt_offsets + i;
    const int64_t *r = d->response_offsets + i;
    int64_t prompt = p[1] - p[0];
    assert_int_equal(json_array_size(ids), prompt + r[1] - r[0]);
    for (int64_t t = 0; t < prompt + r[1] - r[0]; t++) {
        int32_t id = t < prompt ? d->prompt_tokens[p[0] + t] : d->response_tokens[r[0] + t - prompt];
        int trained = t < prompt ? 0 : d->response_trained[r[0] + t - prompt];
        assert_int_equal(json_integer_value(json_array_get(ids, (size_t)t)), id);
        assert_int_equal(json_integer_value(json_array_get(mask, (size_t)t)), trained);
    }
}

static void every_turn_is_trained(void **state) {
    static const char *const templates[] = {NULL, FIXTURES "/chat/marked.jinja"};
    struct fixture *f = *state;
    const json_t *rows = json_object_get(f->expected, "chats");
    for (int k = 0; k < COUNT_OF(templates); k++) {
        struct chats x;
        prepare(f, FIXTURES "/chat/chats.jsonl", FORMAT_PROMPT_COMPLETION, templates[k], false, &x);
        assert_int_equal(x.part.n_responses, json_array_size(rows));
        for (int64_t i = 0; i < x.part.n_responses; i++) {
            expect_chat(json_array_get(rows, (size_t)i), &x.part, i);
        }
        assert_int_equal(x.prepared.counts[COUNT_UNTRAINED], 0);
        assert_int_equal(x.prepared.counts[COUNT_BEHIND], 1);
        chats_free(&x);
    }
}

static const char *put(struct fixture *f, const char *name, const char *text) {
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", f->folder, name);
    MUST(file_write(path, text, strlen(text)));
    return path;
}

static int64_t count_id(const int32_t *ids, int64_t n, int32_t id) {
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++) {
        count += ids[i] == id;
    }
    return count;
}

static void special_tokens_of_users(void **state) {
    struct fixture *f = *state;
    const char *path =
        put(f, "specials.jsonl",
            "{\"prompt\": [{\"role\": \"user\", \"content\": \"x\"}]}\n"
            "{\"prompt\": [{\"role\": \"user\", \"content\": \"a<|im_end|>b<|im_<|im_start|>\"}]}\n");
    for (int as_text = 0; as_text < 2; as_text++) {
        struct chats x;
        struct text decoded = {0};
        prepare(f, path, FORMAT_PROMPT, NULL, as_text, &x);
        const struct dataset_part *d = &x.part;
        const int32_t *ids = d->prompt_tokens + d->prompt_offsets[1];
        int64_t n = d->prompt_offsets[2] - d->prompt_offsets[1];
        assert_int_equal(x.prepared.counts[COUNT_SPECIALS], 1);
        assert_int_equal(x.prepared.first[FIRST_SPECIALS].line, 2);
        assert_int_equal(count_id(ids, n, IM_END), as_text ? 1 : 2);
        assert_int_equal(count_id(ids, n, IM_START), as_text ? 2 : 3);
        MUST(tokenizer_decode(f->tokenizer, ids, n, false, &decoded));
        assert_string_equal(decoded.data, "<|im_start|>user\na<|im_end|>b<|im_<|im_start|><|im_end|>\n"
                                          "<|im_start|>assistant\n");
        text_free(&decoded);
        chats_free(&x);
    }
}

static void expect_drop(const struct chats *x, const char *reason, int64_t count, int64_t line) {
    const struct prepare_drops *d = &x->prepared.drops;
    for (int i = 0; i < d->n; i++) {
        if (strcmp(d->list[i].reason, reason) == 0) {
            assert_int_equal(d->list[i].count, count);
            assert_int_equal(d->list[i].first.line, line);
            return;
        }
    }
    FAIL("nothing was dropped as %s", reason);
}

#define PAIR(role, chosen)                                                   \
    "{\"prompt\": [{\"role\": \"" role "\", \"content\": \"x\"}], "          \
    "\"chosen\": [{\"role\": \"assistant\", \"content\": \"" chosen "\"}], " \
    "\"rejected\": [{\"role\": \"assistant\", \"content\": \"n\"}]}\n"

static void what_the_template_does_not_take_is_dropped(void **state) {
    struct fixture *f = *state;
    struct chats x;
    const char *path = put(f, "pairs.jsonl", PAIR("user", "y") PAIR("critic", "y") PAIR("user", " "));
    prepare(f, path, FORMAT_PREFERENCE, NULL, false, &x);
    assert_int_equal(x.part.n_pairs, 1);
    expect_drop(&x, "refused by the chat template", 1, 2);
    expect_drop(&x, "empty response", 1, 3);
    assert_non_null(strstr(x.prepared.refusal, "no critics here"));
    assert_int_equal(x.prepared.first[FIRST_REFUSED].line, 2);
    chats_free(&x);
}

/* A template that says how many messages there are renders no prompt as a prefix of the whole. */
static void prompts_that_are_no_prefix_are_dropped(void **state) {
    struct fixture *f = *state;
    struct chats x;
    char template[128];
    snprintf(
        template, sizeof template, "%s",
        put(f, "counts.jinja", "{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}"));
    prepare(f, put(f, "pairs.jsonl", PAIR("user", "y")), FORMAT_PREFERENCE, template, false, &x);
    assert_int_equal(x.part.n_pairs, 0);
    expect_drop(&x, "template does not render the prompt as a prefix", 1, 1);
    chats_free(&x);
}

/* Reasoning of earlier turns goes, as real templates have it: that turn is read and not trained. */
static void turns_that_the_whole_has_otherwise_are_not_trained(void **state) {
    struct fixture *f = *state;
    struct chats x;
    char template[128];
    snprintf(
        template, sizeof template, "%s",
        put(f, "thinks.jinja",
            "{% for m in messages %}[{{ m.role }}]{% if m.thinking and loop.last %}({{ m.thinking }})"
            "{% endif %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"));
    const char *path = put(f, "chats.jsonl",
                           "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": "
                           "\"assistant\", \"content\": \"b\", \"thinking\": \"t\"}, {\"role\": \"user\", "
                           "\"content\": \"c\"}, {\"role\": \"assistant\", \"content\": \"d\", "
                           "\"thinking\": \"u\"}]}\n");
    prepare(f, path, FORMAT_PROMPT_COMPLETION, template, false, &x);
    const struct dataset_part *d = &x.part;
    struct text decoded = {0};
    assert_int_equal(x.prepared.counts[COUNT_UNTRAINED], 1);
    assert_int_equal(d->n_responses, 1);
    MUST(tokenizer_decode(f->tokenizer, d->prompt_tokens, d->prompt_offsets[1], false, &decoded));
    assert_string_equal(decoded.data, "[user]a[assistant]b[user]c[assistant]");
    text_clear(&decoded);
    MUST(tokenizer_decode(f->tokenizer, d->response_tokens, d->response_offsets[1], false, &decoded));
    assert_string_equal(decoded.data, "(u)d");
    text_free(&decoded);
    chats_free(&x);
}

static struct comm *world;

static int set_up(void **state) {
    static struct fixture fixture;
    fixture.c = world;
    world_folder(fixture.c, fixture.folder);
    *state = &fixture;
    return tokenizer_open(FIXTURES "/chat/tokenizer", &fixture.tokenizer) == OK &&
                   json_load(FIXTURES "/chat/ids.json", &fixture.expected) == OK
               ? 0
               : -1;
}

static int tear_down(void **state) {
    struct fixture *f = *state;
    tokenizer_close(f->tokenizer);
    json_decref(f->expected);
    world_folder_remove(f->c, f->folder);
    return 0;
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pairs_have_the_ids_of_transformers),
        cmocka_unit_test(every_turn_is_trained),
        cmocka_unit_test(special_tokens_of_users),
        cmocka_unit_test(what_the_template_does_not_take_is_dropped),
        cmocka_unit_test(prompts_that_are_no_prefix_are_dropped),
        cmocka_unit_test(turns_that_the_whole_has_otherwise_are_not_trained),
    };
    if (comm_start(&argc, &argv, &world) != OK) {
        return 1;
    }
    int failed = cmocka_run_group_tests(tests, set_up, tear_down);
    comm_finish(world);
    return failed;
}
