/* Blocks of a few records, rows and posts that do not fit in memory: the file is the one that is written
 * where all of it is one block in memory, byte for byte, from any number of ranks and threads. */
#include "io/record_blocks.h"
#include "tests/prepared_part.h"
#include "tests/small_world.h"
#include "util/hash.h"

enum { RECORDS = 120, LONG_RECORD = 43, LONG_BYTES = 9000 };

static struct comm *comm;
static struct tokenizer *tokenizer;
static char folder[64];

struct way {
    struct record_bounds bounds;
    int64_t memory, piece;
    int threads;
    bool is_written;
};

static const struct way plain = {.threads = 1, .is_written = true};
static const struct way ways[] = {
    {{1, -1}, 1, 16, 1, false},         /* a record is a block, nothing stays in memory */
    {{700, 0}, 5000, 64, 3, true},      /* some does, and some pieces are cut by rows */
    {{9000, -1}, 1, 100003, 2, false}}; /* no piece is ever full */

/* Words whose number differs from record to record; one record is longer than blocks and pieces are. */
static void put_words(struct text *out, int64_t row, int64_t what) {
    int64_t n = row == LONG_RECORD ? LONG_BYTES / 8 : 1 + world_draw(20 + what, row, 12);
    for (int64_t i = 0; i < n; i++) {
        CHECK(text_printf(out, "%sword%lld", i ? " " : "",
                          (long long)world_draw(30 + what, row * 7919 + i, 900)) == OK);
    }
}

static void put_pair(struct text *out, int64_t i) {
    CHECK(text_printf(out, "{\"prompt\": \"") == OK);
    put_words(out, i, 0);
    CHECK(text_printf(out, "\", \"chosen\": \" ") == OK);
    put_words(out, i, 1);
    CHECK(text_printf(out, "\", \"rejected\": \" ") == OK);
    put_words(out, i % 9 == 4 ? 0 : i, 2);
    if (i % 25 == 10) { /* a side that is no string: dropped */
        CHECK(text_printf(out, "\", \"chosen\": 3, \"x\": \"") == OK);
    }
    CHECK(text_printf(out, "\", \"subset\": \"s%lld\", \"score_chosen\": %lld, \"score_rejected\": 2}",
                      (long long)(i / 30), (long long)(i % 5)) == OK);
}

/* Records of a post do not stand together. */
static void put_post(struct text *out, int64_t i) {
    CHECK(text_printf(out, "{\"post_id\": \"p%lld\", \"history\": \"", (long long)(i % 37)) == OK);
    put_words(out, i % 37, 0);
    CHECK(text_printf(out, "\", \"human_ref_A\": \"") == OK);
    put_words(out, i, 1);
    CHECK(text_printf(out, "\", \"human_ref_B\": \"") == OK);
    put_words(out, i % 11, 2);
    CHECK(text_printf(out, "\", \"labels\": %lld, \"score_A\": %lld, \"score_B\": 3}", (long long)(i % 2),
                      (long long)(4 + i % 3)) == OK);
}

static void put_completion(struct text *out, int64_t i) {
    CHECK(text_printf(out, "{\"prompt\": \"") == OK);
    put_words(out, i, 0);
    CHECK(text_printf(out, "\", \"completion\": \" ") == OK);
    put_words(out, i, 1);
    CHECK(text_printf(out, "\", \"label\": %s}", i % 3 ? "true" : "false") == OK);
}

struct kind {
    enum record_format format;
    void (*put)(struct text *out, int64_t i);
};
static const struct kind kinds[] = {
    {FORMAT_PREFERENCE, put_pair}, {FORMAT_SHP, put_post}, {FORMAT_UNPAIRED, put_completion}};

/* Lines with a blank one here and there and none behind the last, or an array. */
static void write_records(const struct kind *kind, bool array, struct range rows, const char *path) {
    struct text text = {0};
    CHECK(text_puts(&text, array ? "[\n" : "\n") == OK);
    for (int64_t i = rows.first; i < rows.last; i++) {
        bool last = i + 1 == rows.last;
        kind->put(&text, i);
        CHECK(text_puts(&text, array ? (last ? "\n]\n" : ",\n") : last ? "" : i % 10 ? "\n" : "\n \n") == OK);
    }
    if (comm->rank == 0) {
        CHECK(file_write(path, text.data, text.len) == OK);
    }
    CHECK(comm_barrier(comm) == OK);
    text_free(&text);
}

static void make_file(const struct kind *kind, char *const *files, const struct way *way, const char *path,
                      struct prepared *out) {
    struct records_input *in;
    struct record_groups groups = {0};
    struct dataset_facts facts = world_facts();
    CHECK(records_survey(comm, files, 2, &way->bounds, &in) == OK);
    struct prepare_job job = {.input = in,
                              .tokenizer = tokenizer,
                              .format = kind->format,
                              .begin_id = tokenizer_begin(tokenizer),
                              .end_id = tokenizer_end(tokenizer),
                              .token_chars = true,
                              .records = records_count(in),
                              .min_score_ratio = 1,
                              .check_stride = 7,
                              .threads = way->threads,
                              .beside = path,
                              .row_memory = way->memory,
                              .row_piece = way->piece};
    if (kind->format == FORMAT_SHP) {
        const struct record_groups_plan plan = {.beside = path, .memory = way->memory, .piece = way->piece};
        CHECK(record_groups_make(comm, in, job.records, &plan, &groups) == OK);
        job.groups = &groups;
        job.records = groups.n;
    }
    CHECK(comm_agree(comm, prepare_records(&job, out)) == OK);
    int32_t places[16];
    for (int i = 0; i < out->subsets.n; i++) {
        places[i] = i;
    }
    CHECK(subsets_join(comm, &out->subsets, places, out->subsets.n) == OK);
    facts.vocabulary = tokenizer_size(tokenizer);
    facts.n_subsets = out->subsets.n;
    facts.subsets = out->subsets.names;
    if (way->is_written) {
        CHECK(dataset_rows_write(comm, path, &out->rows, places, &facts) == OK);
    }
    record_groups_free(&groups);
    records_close(in);
}

static uint64_t hash_of(const char *path) {
    char *data;
    size_t n;
    CHECK(file_read(path, &data, &n) == OK);
    uint64_t hash = hash_bytes(data, n, 0);
    mem_free(data);
    return hash;
}

static uint64_t hash_column(const struct dataset_rows *r, enum dataset_column column, int64_t n) {
    void *data;
    CHECK(prepared_column(r, column, n, sizeof(int64_t), &data) == OK);
    uint64_t hash = hash_bytes(data, (size_t)n * sizeof(int64_t), 0); /* zeros behind narrower rows */
    mem_free(data);
    return hash;
}

/* Every column of the rows, end to end. */
static uint64_t hash_rows(const struct dataset_rows *r) {
    static const enum dataset_column prompts[] = {PROMPT_OFFSETS, PROMPT_RESPONSES, PROMPT_SUBSET};
    static const enum dataset_column responses[] = {RESPONSE_OFFSETS, RESPONSE_PROMPT, RESPONSE_SCORE,
                                                    RESPONSE_LENGTH, RESPONSE_DESIRABLE};
    static const enum dataset_column pairs[] = {PAIR_CHOSEN, PAIR_REJECTED, PAIR_MARGIN, PAIR_LABEL,
                                                PAIR_SOURCE};
    uint64_t hash = hash_column(r, PROMPT_TOKENS, r->prompt_tokens);
    hash = hash_join(hash, hash_column(r, RESPONSE_TOKENS, r->response_tokens));
    hash = hash_join(hash, hash_column(r, RESPONSE_CHARS, r->response_tokens));
    for (int i = 0; i < COUNT_OF(prompts); i++) {
        hash = hash_join(hash, hash_column(r, prompts[i], r->n_prompts));
    }
    for (int i = 0; i < COUNT_OF(responses); i++) {
        hash = hash_join(hash, hash_column(r, responses[i], r->n_responses));
    }
    for (int i = 0; i < COUNT_OF(pairs); i++) {
        hash = hash_join(hash, hash_column(r, pairs[i], r->n_pairs));
    }
    return hash;
}

/* What is summed over blocks is the same too. */
static void compare_sums(const struct prepared *a, const struct prepared *b) {
    CHECK(memcmp(a->counts, b->counts, sizeof a->counts) == 0);
    CHECK(memcmp(a->first, b->first, sizeof a->first) == 0);
    CHECK(a->rows.n_prompts == b->rows.n_prompts && a->rows.n_pairs == b->rows.n_pairs);
    CHECK(a->longest == b->longest && a->longest_place.line == b->longest_place.line);
    CHECK(a->alike == b->alike && a->against == b->against && a->level == b->level);
    CHECK(memcmp(a->file_records, b->file_records, 2 * sizeof *a->file_records) == 0);
    CHECK(memcmp(a->file_prompts, b->file_prompts, 2 * sizeof *a->file_prompts) == 0);
    CHECK(a->drops.n == b->drops.n);
    for (int i = 0; i < a->drops.n; i++) {
        CHECK(strcmp(a->drops.list[i].reason, b->drops.list[i].reason) == 0);
        CHECK(a->drops.list[i].count == b->drops.list[i].count);
        CHECK(a->drops.list[i].first.line == b->drops.list[i].first.line);
        CHECK(a->drops.list[i].first.file == b->drops.list[i].first.file);
    }
    for (int i = 0; i < PREPARE_LENGTHS; i++) {
        CHECK(a->lengths[i].count == b->lengths[i].count && a->lengths[i].sum == b->lengths[i].sum);
    }
}

/* The values themselves, of the way that all others are compared with. */
static void check_pairs(const struct prepared *p) {
    struct dataset_part part;
    CHECK(prepared_part(p, &part) == OK);
    for (int64_t i = 0; i < part.n_pairs; i++) {
        int64_t chosen = part.chosen[i];
        CHECK(part.rejected[i] == chosen + 1 && part.response_prompt[chosen] == i);
        CHECK(part.response_tokens[part.response_offsets[chosen]] == ' ');
        CHECK(part.response_tokens[part.response_offsets[chosen + 1] - 1] == tokenizer_end(tokenizer));
        CHECK(part.prompt_tokens[part.prompt_offsets[i]] == tokenizer_begin(tokenizer));
    }
    prepared_part_free(&part);
}

static void check_kind(const struct kind *kind) {
    char paths[2][96], output[96];
    char *const files[] = {paths[0], paths[1]};
    snprintf(paths[0], sizeof paths[0], "%s/a.jsonl", folder);
    snprintf(paths[1], sizeof paths[1], "%s/b.json", folder);
    snprintf(output, sizeof output, "%s/out.h5", folder);
    write_records(kind, false, (struct range){0, 80}, paths[0]);
    write_records(kind, true, (struct range){80, RECORDS}, paths[1]);
    struct prepared expected;
    make_file(kind, files, &plain, output, &expected);
    uint64_t hash = hash_of(output);
    if (kind->format == FORMAT_PREFERENCE) {
        check_pairs(&expected);
    }
    for (int i = 0; i < COUNT_OF(ways); i++) {
        struct prepared p;
        CHECK(comm_barrier(comm) == OK);
        make_file(kind, files, &ways[i], output, &p);
        CHECK(hash_of(output) == hash); /* where none was written the last one stands there */
        CHECK(hash_rows(&p.rows) == hash_rows(&expected.rows));
        compare_sums(&expected, &p);
        prepared_free(&p);
    }
    prepared_free(&expected);
}

/* Of two bad records in different blocks the first is named. */
static void check_strict(void) {
    char path[96];
    struct text text = {0};
    for (int i = 1; i <= 90; i++) {
        CHECK(text_puts(&text, i == 41 || i == 77 ? "{\"prompt\": 3}\n" : "{\"prompt\": \"a\"}\n") == OK);
    }
    snprintf(path, sizeof path, "%s/bad.jsonl", folder);
    if (comm->rank == 0) {
        CHECK(file_write(path, text.data, text.len) == OK);
    }
    CHECK(comm_barrier(comm) == OK);
    for (int i = 0; i < COUNT_OF(ways); i++) {
        char *const files[] = {path};
        struct records_input *in;
        struct prepared p;
        CHECK(records_survey(comm, files, 1, &ways[i].bounds, &in) == OK);
        const struct prepare_job job = {.input = in,
                                        .tokenizer = tokenizer,
                                        .format = FORMAT_PROMPT,
                                        .begin_id = -1,
                                        .end_id = -1,
                                        .records = records_count(in),
                                        .strict = true,
                                        .check_stride = 1,
                                        .threads = ways[i].threads,
                                        .beside = path,
                                        .row_memory = ways[i].memory,
                                        .row_piece = ways[i].piece};
        CHECK(comm_agree(comm, prepare_records(&job, &p)) == ERR_DATA);
        CHECK(strstr(status_message()->text, "bad.jsonl, line 41: "));
        status_clear();
        prepared_free(&p);
        records_close(in);
    }
    text_free(&text);
}

int main(int argc, char **argv) {
    if (comm_start(&argc, &argv, &comm) != OK) {
        return 1;
    }
    int64_t id = getpid();
    CHECK(comm_broadcast(comm, 0, &id, sizeof id) == OK);
    snprintf(folder, sizeof folder, "/tmp/test_prepare_blocks.%ld", (long)id);
    CHECK(folder_make(folder) == OK);
    CHECK(tokenizer_open("bytes", &tokenizer) == OK);
    for (int i = 0; i < COUNT_OF(kinds); i++) {
        check_kind(&kinds[i]);
    }
    check_strict();
    CHECK(comm_barrier(comm) == OK);
    if (comm->rank == 0) {
        char command[128];
        snprintf(command, sizeof command, "rm -rf '%s'", folder);
        CHECK(system(command) == 0);
    }
    tokenizer_close(tokenizer);
    int64_t failed = failures;
    CHECK(comm_sum_i64(comm, &failed, 1) == OK);
    comm_finish(comm);
    return failed != 0;
}
