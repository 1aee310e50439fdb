/* Rows opened and looked through: counts beside plain sums over the world's lengths, refusals, limits; the
 * range readers, keys of pairs and names of side-cars. */
#include "data/pair_key.h"
#include "data/rows.h"
#include "mpi/threads.h"
#include "tests/small_world.h"
#include "util/hash.h"
#include "util/log.h"

enum { PROMPTS = 700 }; /* over two blocks of the look */

static void write_world(struct comm *c, const char *path) {
    struct range mine = range_part(PROMPTS, c->rank, c->size);
    struct dataset_part part = world_part(mine.first, mine.last);
    struct dataset_facts facts = world_facts();
    CHECK(dataset_write(c, path, &part, &facts) == OK);
    world_part_free(&part);
}

/* A pair's row is its prompt once and two responses; every response begins behind an empty prompt without a
 * predictor. */
static void test_look(struct comm *c, const char *path) {
    int64_t n = world_pairs_before(PROMPTS), tokens = 0, scored = 0, longest = 0, attention = 0;
    for (int64_t p = 0; p < PROMPTS; p++) {
        int64_t first = world_responses_before(p), prompt = world_prompt_length(p);
        if (p % 10 == 0) {
            continue;
        }
        int64_t a = world_response_length(first), b = world_response_length(first + 1);
        int64_t row = prompt + a + b;
        tokens += row;
        scored += a + b - (prompt == 0 ? 2 : 0);
        longest = row > longest ? row : longest;
        attention += prompt * (prompt + 1) / 2 + (a + b) * prompt + a * (a + 1) / 2 + b * (b + 1) / 2;
    }
    const struct rows_request request = {.path = path,
                                         .key = "data",
                                         .kind = ROWS_PAIRS,
                                         .truncation = {.response_ratio = 1},
                                         .vocabulary = WORLD_VOCABULARY,
                                         .user = "test"};
    struct rows rows = {0};
    CHECK(rows_open(c, &request, &rows) == OK);
    CHECK(rows.n == n && rows.counts.rows == n && rows.counts.pairs == n && rows.counts.margins == n);
    CHECK(rows.tokens == tokens && rows.scored == scored && rows.longest == longest);
    CHECK(rows.attention_pairs == (double)attention); /* whole numbers, below 2^53 */
    CHECK(rows.counts.prompts_cut == 0 && rows.counts.responses_cut == 0 && rows.counts.without_end == 0);
    rows_close(&rows);
    CHECK(!rows.data && !rows.view);
}

static void test_requests(struct comm *c, const char *path) {
    struct rows rows = {0};
    struct rows_request request = {.path = path,
                                   .key = "data",
                                   .kind = ROWS_RESPONSES,
                                   .limit = 3,
                                   .truncation = {.response_ratio = 1},
                                   .user = "test"};
    CHECK(rows_open(c, &request, &rows) == OK);
    CHECK(rows.n == 3 && rows.counts.rows == 3);
    CHECK(rows.largest_id == WORLD_END);
    CHECK(rows_check_vocabulary(&rows, WORLD_END + 1) == OK);
    CHECK(rows_check_vocabulary(&rows, WORLD_END) == ERR_DATA);
    CHECK(strstr(status_message()->text, "holds token id 4999, the model's vocabulary is 4999"));
    status_clear();
    rows_close(&rows);
    request.vocabulary = WORLD_END;
    CHECK(rows_open(c, &request, &rows) == ERR_DATA);
    rows_close(&rows);
    request.vocabulary = 0; /* not checked */
    CHECK(rows_open(c, &request, &rows) == OK);
    rows_close(&rows);
    request.truncation.response_ratio = 2;
    CHECK(rows_open(c, &request, &rows) == ERR_USAGE);
    rows_close(&rows);
    status_clear();
    enum row_kind kind;
    CHECK(rows_kind(c, path, ROWS_RESPONSES, &kind) == OK && kind == ROWS_PAIRS);
}

/* Ranges hold what single rows do; blocks cover a range and end with it. */
static void test_ranges(struct comm *c, const char *path) {
    struct dataset *d;
    struct pair pairs[7], one;
    struct response responses[7], other;
    CHECK(dataset_open(c, path, &d) == OK);
    CHECK(dataset_pairs(d, (struct range){20, 27}, pairs) == OK);
    CHECK(dataset_responses(d, (struct range){20, 27}, responses) == OK);
    for (int64_t i = 0; i < 7; i++) {
        CHECK(dataset_pair(d, 20 + i, &one) == OK && one.row == pairs[i].row && pairs[i].row == 20 + i);
        CHECK(one.chosen == pairs[i].chosen && one.rejected == pairs[i].rejected);
        CHECK(dataset_response(d, 20 + i, &other) == OK && responses[i].id == 20 + i);
        CHECK(other.first == responses[i].first && other.count == world_response_length(20 + i));
    }
    int64_t end = dataset_size(d).pairs;
    CHECK(dataset_pairs(d, (struct range){end, end}, pairs) == OK);
    CHECK(dataset_pairs(d, (struct range){end - 1, end + 1}, pairs) == ERR_DATA);
    CHECK(dataset_responses(d, (struct range){-1, 1}, responses) == ERR_DATA);
    status_clear();
    dataset_close(d);
    int64_t seen = 3;
    for (int64_t first = 3; first < 13; first += 4) {
        struct range block = range_block((struct range){3, 13}, first, 4);
        CHECK(block.first == seen && block.last - block.first == (first == 11 ? 2 : 4));
        seen = block.last;
    }
    CHECK(seen == 13);
}

static void test_keys(void) {
    struct pair_key a = pair_key(7, 3), b = pair_key(3, 7), low = pair_key(2, 9), high = pair_key(8, 3);
    CHECK(a.low == 3 && a.high == 7 && pair_key_order(&a, &b) == 0);
    CHECK(pair_key_order(&low, &a) < 0 && pair_key_order(&a, &low) > 0);
    CHECK(pair_key_order(&a, &high) < 0 && pair_key_order(&high, &a) > 0);
}

/* What the name depends on: the view of reference scores, the recipe of embeddings; both the weights and the
 * arithmetic. */
static void test_names(struct comm *c, const char *path) {
    struct sidecar_key key = {.model = 1, .data = 2, .view = 3, .compute = "fp32", .recipe = "logp"};
    struct text sums = {0}, values = {0}, now = {0};
    struct dataset *d;
    char digits[17], expected[160];
    CHECK(dataset_open(c, path, &d) == OK);
    CHECK(sidecar_path(d, &key, 0, &sums) == OK && sidecar_path(d, &key, 4, &values) == OK);
    if (!sums.data || !values.data) {
        return; /* said above */
    }
    hash_text(hash_join(hash_join(1, 3), hash_bytes("fp32", 4, 0)), digits);
    snprintf(expected, sizeof expected, "%.*s.%.8s.reference.h5", (int)strlen(path) - 3, path, digits);
    CHECK(strcmp(sums.data, expected) == 0);
    hash_text(hash_join(hash_join(1, hash_bytes("logp", 4, 0)), hash_bytes("fp32", 4, 0)), digits);
    snprintf(expected, sizeof expected, "%.*s.%.8s.embeddings.h5", (int)strlen(path) - 3, path, digits);
    CHECK(strcmp(values.data, expected) == 0);
    key.view = 4;
    CHECK(sidecar_path(d, &key, 4, &now) == OK && now.data && strcmp(now.data, values.data) == 0);
    text_free(&now);
    CHECK(sidecar_path(d, &key, 0, &now) == OK && now.data && strcmp(now.data, sums.data) != 0);
    text_free(&now);
    text_free(&sums);
    text_free(&values);
    dataset_close(d);
}

int main(int argc, char **argv) {
    struct comm *c;
    char folder[64], path[96];
    if (comm_start(&argc, &argv, &c) != OK) {
        return 1;
    }
    log_init(c->rank, c->size, LOG_ERROR);
    world_folder(c, folder);
    snprintf(path, sizeof path, "%s/data.h5", folder);
    write_world(c, path);
    test_look(c, path);
    test_requests(c, path);
    test_ranges(c, path);
    test_keys();
    test_names(c, path);
    CHECK(threads_of_rank(c, 3) == 3 && threads_of_rank(c, 0) >= 1);
    world_folder_remove(c, folder);
    int64_t all = failures;
    failures = comm_sum_i64(c, &all, 1) == OK ? (int)all : 1;
    comm_finish(c);
    return failures != 0;
}
