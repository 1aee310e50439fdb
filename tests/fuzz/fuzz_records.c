/* Records: JSON Lines, an array or gzip, taken apart in every format and tokenized as `prepare` does it. */
#include <stdio.h>
#include <string.h>

#include "fuzz.h"
#include "io/record_blocks.h"
#include "tests/prepared_part.h"
#include "util/json_quick.h"

enum { MOST_RECORDS = 64 };

static void check_text(const struct record_text *r) {
    FUZZ_CHECK(r->n_responses >= 0 && r->n_responses <= RECORD_RESPONSES_MAX);
    for (int i = 0; i < r->n_pairs; i++) {
        int chosen = r->pairs[i].chosen, rejected = r->pairs[i].rejected;
        FUZZ_CHECK(chosen >= 0 && chosen < r->n_responses && rejected >= 0 && rejected < r->n_responses);
        FUZZ_CHECK(chosen != rejected);
    }
    for (int i = 0; i < r->n_responses; i++) {
        FUZZ_CHECK(r->responses[i].len == 0 || r->responses[i].data[r->responses[i].len] == '\0');
    }
}

/* The quick reader takes what Jansson takes, as the same value. */
static void check_quick(const struct record *r) {
    json_t *own;
    json_error_t error;
    FUZZ_CHECK(json_quick(r->data, r->len, &own) == OK);
    if (own) {
        json_t *expected = json_loadb(r->data, r->len, JSON_ALLOW_NUL | JSON_DECODE_ANY, &error);
        FUZZ_CHECK(expected && json_equal(own, expected));
        json_decref(expected);
    }
    json_decref(own);
}

/* Each record in every format; the format of the first by its keys. */
static enum record_format parse_all(const struct records_input *in) {
    static struct record_text text, scratch, post;
    static const struct template_folder none = {0};
    static const struct chat_format all = {.all_turns = true}, turns = {.templates = &none, .strings = true};
    struct ignored ignored = {0};
    enum record_format detected = FORMAT_AUTO;
    const char *where = "line", *dropped;
    shp_begin(&post);
    int64_t n = records_count(in) < MOST_RECORDS ? records_count(in) : MOST_RECORDS;
    for (int64_t i = 0; i < n; i++) {
        struct record r = records_at(in, i);
        json_t *json;
        check_quick(&r);
        if (!fuzz_fine(json_parse(r.data, r.len, where, &json), ERR_DATA)) {
            continue;
        }
        if (i == 0) {
            fuzz_fine(record_format_detect(json, where, &detected), ERR_DATA);
        }
        text.chat = i % 3 == 0 ? NULL : i % 3 == 1 ? &all : &turns;
        if (json_is_object(json)) {
            ignored_count(&ignored, detected, json, false);
        }
        for (int format = FORMAT_AUTO; format <= FORMAT_LAST; format++) {
            if (fuzz_fine(record_parse((enum record_format)format, json, where, &text), ERR_DATA)) {
                check_text(&text);
            }
        }
        struct shp_record line = {.json = json, .where = where, .line = (int)i, .min_ratio = 1};
        if (fuzz_fine(shp_add(&post, &line, &scratch, &dropped), ERR_DATA)) {
            check_text(&post);
        }
        json_decref(json);
    }
    return detected;
}

static void check_part(const struct dataset_part *p, int32_t vocabulary) {
    for (int64_t i = 0; i < p->n_responses; i++) {
        FUZZ_CHECK(p->response_offsets[i] <= p->response_offsets[i + 1]);
        FUZZ_CHECK(p->response_prompt[i] >= 0 && p->response_prompt[i] < p->n_prompts);
    }
    for (int64_t i = 0; i < p->n_prompts; i++) {
        FUZZ_CHECK(p->prompt_offsets[i] <= p->prompt_offsets[i + 1]);
    }
    for (int64_t i = 0; i < p->response_offsets[p->n_responses]; i++) {
        FUZZ_CHECK(p->response_tokens[i] >= 0 && p->response_tokens[i] < vocabulary);
    }
    for (int64_t i = 0; i < p->n_pairs; i++) {
        FUZZ_CHECK(p->chosen[i] >= 0 && p->chosen[i] < p->n_responses);
        FUZZ_CHECK(p->rejected[i] >= 0 && p->rejected[i] < p->n_responses);
    }
}

static void prepare_all(const struct records_input *in, enum record_format format) {
    static struct tokenizer *bytes;
    struct record_groups groups = {0};
    struct prepared prepared = {0};
    if (!bytes) {
        FUZZ_CHECK(tokenizer_open("bytes", &bytes) == OK);
    }
    struct prepare_job job = {.input = in,
                              .tokenizer = bytes,
                              .format = format,
                              .begin_id = tokenizer_begin(bytes),
                              .end_id = tokenizer_end(bytes),
                              .token_chars = true,
                              .records = records_count(in),
                              .min_score_ratio = 1,
                              .max_length = 64,
                              .max_pairs = 5,
                              .check_stride = 1,
                              .threads = 1};
    const struct record_groups_plan plan = {.beside = fuzz_path("groups"), .memory = 1};
    if (format == FORMAT_SHP) {
        if (!fuzz_fine(record_groups_make(fuzz_comm(), in, job.records, &plan, &groups), ERR_DATA)) {
            return;
        }
        job.groups = &groups;
        job.records = groups.n;
    }
    if (fuzz_fine(prepare_records(&job, &prepared), ERR_DATA)) {
        struct dataset_part part;
        FUZZ_CHECK(prepared_part(&prepared, &part) == OK);
        check_part(&part, tokenizer_size(bytes));
        prepared_part_free(&part);
        prepared_free(&prepared);
    }
    record_groups_free(&groups);
}

/* In blocks there are the same records. */
static void compare_blocks(const struct records_input *all, const struct records_input *in) {
    struct record_reader *reader;
    struct record_block block = {0};
    int64_t n = 0;
    bool more = true;
    FUZZ_CHECK(records_count(in) == records_count(all) && records_hash(in) == records_hash(all));
    FUZZ_CHECK(record_reader_open(in, INT64_MAX, &reader) == OK);
    while (more) {
        FUZZ_CHECK(record_reader_next(reader, &block, &more) == OK);
        for (int64_t i = 0; more && i < block.count; i++, n++) {
            struct record a = records_at(all, n), b = block.list[i];
            FUZZ_CHECK(a.len == b.len && memcmp(a.data, b.data, a.len) == 0);
            FUZZ_CHECK(a.line == b.line && a.index == b.index && a.file == b.file);
        }
    }
    FUZZ_CHECK(n == records_count(all));
    record_block_free(&block);
    record_reader_close(reader);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct records_input *in;
    struct comm *c = fuzz_comm();
    fuzz_put("records", data, size);
    char path[512];
    snprintf(path, sizeof path, "%s", fuzz_path("records"));
    char *files[] = {path};
    if (!fuzz_fine(records_open(c, files, 1, &in), ERR_DATA)) {
        return 0;
    }
    const struct record_bounds bounds = {.block_bytes = 1 + (int64_t)(size % 64),
                                         .keep_bytes = size % 2 ? -1 : 0};
    struct records_input *blocks;
    FUZZ_CHECK(records_survey(c, files, 1, &bounds, &blocks) == OK);
    compare_blocks(in, blocks);
    enum record_format format = parse_all(in);
    if (format != FORMAT_AUTO) {
        prepare_all(blocks, format);
    }
    records_close(blocks);
    records_close(in);
    return 0;
}
