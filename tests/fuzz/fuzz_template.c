/* Chat templates: one is read, and renders a row twice. */
#include <string.h>

#include "fuzz.h"
#include "text/template.h"
#include "text/unicode.h"

enum { TEMPLATE, ROW };

static const char some_row[] =
    "{\"messages\": [{\"role\": \"system\", \"content\": \"s\"}, {\"role\": \"user\", \"content\": "
    "[{\"type\": \"text\","
    " \"text\": \"\\u00e9<|x|>\"}]}, {\"role\": \"assistant\", \"content\": null, \"reasoning\": \"r\", "
    "\"tool_calls\":"
    " [{\"type\": \"function\", \"function\": {\"name\": \"f\", \"arguments\": {\"a\": [1, 2.5, true, "
    "null]}}}]},"
    " {\"role\": \"tool\", \"content\": \" 7 \"}, {\"role\": \"assistant\", \"content\": "
    "\"<think>x</think>y\"}],"
    " \"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"f\", \"parameters\": {\"type\": "
    "\"object\","
    " \"properties\": {\"a\": {\"type\": [\"array\", \"null\"], \"items\": {\"type\": \"number\"}}}}}}],"
    " \"extra\": {\"enable_thinking\": true}}";

static void check_ranges(const struct template_ranges *ranges, size_t n) {
    size_t at = 0;
    for (int64_t i = 0; i < ranges->count; i++) {
        FUZZ_CHECK(ranges->data[i].begin < ranges->data[i].end && ranges->data[i].end <= n);
        FUZZ_CHECK(i == 0 || ranges->data[i].begin > at);
        at = ranges->data[i].end;
    }
}

static enum status render(const struct template *t, const json_t *row, struct template_output *out) {
    json_t *specials = json_pack("{s:s, s:s}", "bos_token", "<s>", "eos_token", "</s>");
    const struct template_input input = {.messages = json_object_get(row, "messages"),
                                         .tools = json_object_get(row, "tools"),
                                         .documents = json_object_get(row, "documents"),
                                         .extra = json_object_get(row, "extra"),
                                         .specials = specials,
                                         .date = "2026-11-30",
                                         .steps = 200000,
                                         .add_generation_prompt = true};
    enum status st = template_render(t, &input, out);
    json_decref(specials);
    return st;
}

static void use(const struct template *t, const json_t *row) {
    struct template_output first = {0}, second = {0};
    enum status st = render(t, row, &first);
    if (st != ERR_USAGE && fuzz_fine(st, ERR_DATA)) { /* ERR_USAGE: not supported */
        FUZZ_CHECK(utf8_valid(first.text.data, first.text.len) == first.text.len);
        check_ranges(&first.generation, first.text.len);
        check_ranges(&first.input, first.text.len);
        FUZZ_CHECK(render(t, row, &second) == OK && second.text.len == first.text.len);
        FUZZ_CHECK(memcmp(second.text.data, first.text.data, first.text.len) == 0);
    }
    template_output_free(&first);
    template_output_free(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fuzz_section s[] = {[TEMPLATE] = {.name = "template"}, [ROW] = {.name = "row"}};
    struct template *t;
    json_t *row;
    (void)fuzz_comm(); /* the log's level */
    fuzz_split(data, size, s, COUNT_OF(s));
    const char *text = s[ROW].data ? (const char *)s[ROW].data : some_row;
    size_t n = s[ROW].data ? s[ROW].size : sizeof some_row - 1;
    if (!fuzz_fine(json_parse(text, n, "row", &row), ERR_DATA)) {
        return 0;
    }
    const char *source = s[TEMPLATE].data ? (const char *)s[TEMPLATE].data : "";
    enum status st = template_parse("template", source, s[TEMPLATE].size, &t);
    if (st != ERR_USAGE && fuzz_fine(st, ERR_DATA)) {
        use(t, row);
        template_free(t);
    }
    json_decref(row);
    return 0;
}
