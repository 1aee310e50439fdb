/* Every family's own kind of tokenizer: ids of prompts and responses, strings and chats, are those of
 * transformers (fixtures/make_family_fixtures.py). */
#include "tests/unit.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/record_blocks.h"
#include "tests/prepared_part.h"

#define FAMILIES FIXTURES "/families"
#define MUST(call)                              \
    do {                                        \
        if ((call) != OK) {                     \
            FAIL("%s", status_message()->text); \
        }                                       \
    } while (0)

static struct comm *world;

/* Numbers with commas at *at, up to the blank or the end of the line that follows. */
static void expect_ids(const char *family, const char **at, const int32_t *ids, int64_t n) {
    char *end = (char *)(uintptr_t)*at;
    for (int64_t i = 0; i < n; i++) {
        long id = strtol(*at, &end, 10);
        if (end == *at || id != ids[i] || (*end == ',') != (i + 1 < n)) {
            FAIL("%s: id %lld of %lld is %d; expected %.40s", family, (long long)i, (long long)n, ids[i],
                 *at);
        }
        *at = end + 1;
    }
}

static void expect_part(const char *family, FILE *expected, const struct dataset_part *d) {
    static char line[4096];
    for (int64_t i = 0; i < 2 * d->n_pairs; i++) {
        do {
            assert_non_null(fgets(line, sizeof line, expected));
        } while (strncmp(line, "ids ", 4) != 0);
        const char *at = line + 4;
        const int64_t *p = d->prompt_offsets + i / 2;
        const int64_t *r = d->response_offsets + (i % 2 ? d->rejected : d->chosen)[i / 2];
        expect_ids(family, &at, d->prompt_tokens + p[0], p[1] - p[0]);
        expect_ids(family, &at, d->response_tokens + r[0], r[1] - r[0]);
    }
}

static void check(const char *family, const char *kind, FILE *expected, bool chats) {
    char folder[512];
    struct template_folder templates;
    struct tokenizer *tokenizer;
    struct records_input *input;
    struct prepared out = {0};
    struct dataset_part part;
    char *file = (char *)(uintptr_t)(chats ? FAMILIES "/chats.jsonl" : FAMILIES "/strings.jsonl");
    snprintf(folder, sizeof folder, FAMILIES "/tokenizers/%s", kind);
    MUST(template_folder_open(folder, &templates));
    MUST(tokenizer_open(folder, &tokenizer));
    MUST(records_survey(world, &file, 1, NULL, &input));
    struct chat_format chat = {.templates = &templates, .date = "2026-11-30"};
    struct prepare_job job = {.input = input,
                              .tokenizer = tokenizer,
                              .format = FORMAT_PREFERENCE,
                              .begin_id =
                                  chats || !tokenizer_adds_begin(tokenizer) ? -1 : tokenizer_begin(tokenizer),
                              .end_id = chats ? -1 : tokenizer_end(tokenizer),
                              .records = records_count(input),
                              .chat = &chat,
                              .check_stride = 1,
                              .threads = 1};
    MUST(prepare_records(&job, &out));
    MUST(prepared_part(&out, &part));
    assert_int_equal(part.n_pairs, 2);
    assert_int_equal(out.counts[COUNT_BOUNDARY_MOVED], 0);
    expect_part(family, expected, &part);
    prepared_part_free(&part);
    prepared_free(&out);
    records_close(input);
    tokenizer_close(tokenizer);
    template_folder_free(&templates);
}

static bool open_in(const char *family, const char *name, FILE **out) {
    char path[512];
    snprintf(path, sizeof path, FAMILIES "/%s/%s", family, name);
    *out = fopen(path, "r");
    return *out != NULL;
}

static void ids_are_those_of_transformers(void **state) {
    (void)state;
    int families = 0;
    DIR *all = opendir(FAMILIES);
    assert_non_null(all);
    for (const struct dirent *e = readdir(all); e; e = readdir(all)) {
        FILE *file;
        char kind[32], more[32] = "";
        if (e->d_name[0] == '.' || !open_in(e->d_name, "kind", &file)) {
            continue;
        }
        assert_true(fscanf(file, "%31s %31s", kind, more) >= 1);
        assert_int_equal(fclose(file), 0);
        assert_true(open_in(e->d_name, "expected.txt", &file));
        check(e->d_name, kind, file, false);
        if (strcmp(more, "strings") != 0) {
            check(e->d_name, kind, file, true);
        }
        assert_int_equal(fclose(file), 0);
        families++;
    }
    closedir(all);
    assert_true(families >= 18);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(ids_are_those_of_transformers)};
    if (comm_start(&argc, &argv, &world) != OK) {
        return 1;
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    comm_finish(world);
    return failed;
}
