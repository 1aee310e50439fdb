/* Preference files written by any number of ranks: every value read back, the same bytes whoever brought
 * which rows, ranks without rows, views, random reads. */
#include <fcntl.h>
#include <sys/stat.h>

#include <hdf5.h>

#include "tests/small_world.h"
#include "util/hash.h"

enum { PROMPTS = 4000 };

static void write_world(struct comm *c, const char *path, struct range mine, bool chars) {
    struct dataset_part part = world_part(mine.first, mine.last);
    struct dataset_facts facts = world_facts();
    uint8_t *kept = part.response_token_chars;
    if (!chars) {
        part.response_token_chars = NULL;
    }
    CHECK(dataset_write(c, path, &part, &facts) == OK);
    part.response_token_chars = kept;
    world_part_free(&part);
}

static void check_facts(const struct dataset *d) {
    const struct dataset_facts *f = dataset_facts(d);
    struct dataset_facts expected = world_facts();
    CHECK(strcmp(f->tokenizer, expected.tokenizer) == 0 && f->tokenizer_hash == expected.tokenizer_hash);
    CHECK(f->vocabulary == expected.vocabulary && f->begin_id == -1 && f->end_id == WORLD_END);
    CHECK(strcmp(f->source, "world") == 0 && f->source_hash == 42 && strcmp(f->format, "preference") == 0);
    CHECK(strcmp(f->command, "test") == 0 && strcmp(f->program, "collimate test") == 0);
    CHECK(f->n_dropped == 2 && strcmp(f->dropped[1].reason, "tie in score") == 0 && f->dropped[1].count == 4);
}

/* Every value against the world's functions. */
static void check_world(struct dataset *d, int64_t prompts) {
    struct dataset_part all = world_part(0, prompts);
    struct dataset_size size = dataset_size(d);
    CHECK(size.prompts == prompts && size.responses == all.n_responses && size.pairs == all.n_pairs);
    CHECK(size.response_tokens == all.response_offsets[all.n_responses]);
    int32_t *tokens = world_array(size.response_tokens, 4);
    uint8_t *chars = world_array(size.response_tokens, 1);
    CHECK(dataset_response_tokens(d, 0, size.response_tokens, tokens) == OK);
    CHECK(memcmp(tokens, all.response_tokens, (size_t)size.response_tokens * 4) == 0);
    CHECK(dataset_response_token_chars(d, 0, size.response_tokens, chars) == OK);
    CHECK(memcmp(chars, all.response_token_chars, (size_t)size.response_tokens) == 0);
    int64_t wrong = 0, first, count;
    for (int64_t i = 0; i < all.n_responses; i++) {
        struct response r;
        wrong += dataset_response(d, i, &r) != OK || r.prompt != all.response_prompt[i] ||
                 r.first != all.response_offsets[i] || r.count != all.response_offsets[i + 1] - r.first ||
                 r.prompt_first != all.prompt_offsets[r.prompt] ||
                 r.length_chars != all.response_length_chars[i] ||
                 r.prompt_count != world_prompt_length(r.prompt) ||
                 (i % 2 ? !isnan(r.score) : r.score != (float)i);
        wrong +=
            dataset_prompt_responses(d, r.prompt, &first, &count) != OK || count != 2 || first != i / 2 * 2;
    }
    for (int64_t i = 0; i < all.n_pairs; i++) {
        struct pair p;
        wrong += dataset_pair(d, i, &p) != OK || p.row != i || p.chosen != all.chosen[i] ||
                 p.rejected != all.rejected[i] || p.margin != all.margin[i] || p.label != all.label[i] ||
                 p.source != all.pair_source[i];
    }
    for (int64_t i = 0; i < prompts; i += 10) { /* those without responses */
        wrong += dataset_prompt_responses(d, i, &first, &count) != OK || count != 0;
    }
    CHECK(wrong == 0);
    CHECK(dataset_prompt_tokens(d, 0, size.prompt_tokens, tokens) == OK);
    CHECK(memcmp(tokens, all.prompt_tokens, (size_t)size.prompt_tokens * 4) == 0);
    mem_free(tokens);
    mem_free(chars);
    world_part_free(&all);
}

/* Hash of a data set's chunks as they lie in the file, compressed, with its chunk shape. */
static uint64_t stored_hash(const char *path, const char *name) {
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    hid_t array = H5Dopen2(file, name, H5P_DEFAULT);
    hid_t creation = H5Dget_create_plist(array), space = H5Dget_space(array);
    hsize_t chunk = 0, rows = 0;
    uint64_t hash = 0;
    CHECK(H5Pget_chunk(creation, 1, &chunk) == 1 && H5Sget_simple_extent_dims(space, &rows, NULL) == 1);
    for (hsize_t at = 0; at < rows; at += chunk) {
        hsize_t bytes = 0;
        uint32_t filters = 0;
        CHECK(H5Dget_chunk_storage_size(array, &at, &bytes) >= 0 && bytes > 0);
        char *data = world_array((int64_t)bytes, 1);
        CHECK(H5Dread_chunk(array, H5P_DEFAULT, &at, &filters, data) >= 0);
        if (at + chunk <= rows) { /* what lies behind the end in the last chunk is nobody's */
            hash = hash_join(hash, hash_bytes(data, bytes, chunk));
        }
        mem_free(data);
    }
    H5Sclose(space);
    H5Pclose(creation);
    H5Dclose(array);
    H5Fclose(file);
    return hash;
}

/* Rows on all ranks, and all rows on the last rank: what one rank would write. */
static void test_write(struct comm *c, const char *folder) {
    char dealt[96], single[96];
    struct dataset *a, *b;
    snprintf(dealt, sizeof dealt, "%s/dealt.h5", folder);
    snprintf(single, sizeof single, "%s/single.h5", folder);
    write_world(c, dealt, range_part(PROMPTS, c->rank, c->size), true);
    bool last = c->rank == c->size - 1;
    write_world(c, single, (struct range){last ? 0 : PROMPTS, PROMPTS}, true);
    CHECK(dataset_open(c, dealt, &a) == OK && dataset_open(c, single, &b) == OK);
    check_world(a, PROMPTS);
    check_world(b, PROMPTS);
    check_facts(a);
    CHECK(dataset_hash(a) == dataset_hash(b));
    /* The same on 1, 2 and 4 ranks: recorded when this test was written. */
    CHECK(dataset_hash(a) == UINT64_C(0x9a10ecb0f2cd76c7));
    dataset_close(a);
    dataset_close(b);
    if (c->rank == 0) {
        const char *names[] = {"/prompts/tokens", "/responses/tokens", "/responses/token_chars",
                               "/pairs/chosen", "/responses/offsets"};
        for (int i = 0; i < COUNT_OF(names); i++) {
            CHECK(stored_hash(dealt, names[i]) == stored_hash(single, names[i]));
        }
    }
}

static void test_small(struct comm *c, const char *folder) {
    char path[96];
    struct dataset *d;
    snprintf(path, sizeof path, "%s/small.h5", folder);
    write_world(c, path, range_part(0, c->rank, c->size), true); /* no rows at all */
    CHECK(dataset_open(c, path, &d) == OK);
    CHECK(dataset_size(d).prompts == 0 && dataset_size(d).pairs == 0 && dataset_size(d).responses == 0);
    dataset_close(d);
    write_world(c, path, range_part(1, c->rank, c->size), true); /* one prompt without responses */
    CHECK(dataset_open(c, path, &d) == OK && dataset_size(d).prompts == 1 && dataset_size(d).pairs == 0);
    dataset_close(d);
    write_world(c, path, range_part(3, c->rank, c->size), false);
    CHECK(dataset_open(c, path, &d) == OK && dataset_size(d).prompts == 3 && dataset_size(d).pairs == 2);
    CHECK(!dataset_size(d).has_token_chars);
    uint8_t chars;
    CHECK(dataset_response_token_chars(d, 0, 1, &chars) == ERR_USAGE);
    dataset_close(d);
}

static void test_refusals(struct comm *c, const char *folder) {
    char path[96];
    struct dataset_part part = world_part(0, 20);
    struct dataset_facts facts = world_facts();
    snprintf(path, sizeof path, "%s/refused.h5", folder);
    if (c->rank == c->size - 1) {
        part.response_tokens[5] = WORLD_VOCABULARY;
    }
    CHECK(dataset_write(c, path, &part, &facts) == ERR_DATA);
    CHECK(strstr(status_message()->text, "outside the vocabulary"));
    part.response_tokens[5] = 0;
    CHECK(access(path, F_OK) != 0);
    snprintf(path, sizeof path, "%s/no/such/folder.h5", folder);
    CHECK(dataset_write(c, path, &part, &facts) == ERR_WRITE);
    CHECK(strstr(status_message()->text, "No such file"));
    world_part_free(&part);
    struct dataset *d;
    CHECK(dataset_open(c, path, &d) == ERR_INPUT);
}

/* Every third pair, from the last to the first, as rank order has it. */
static void write_third(struct comm *c, const char *path, const char *base) {
    struct dataset *d;
    CHECK(dataset_open(c, base, &d) == OK);
    struct range mine = range_part(dataset_size(d).pairs / 3, c->rank, c->size);
    int64_t n = mine.last - mine.first;
    int64_t *chosen = world_array(n, 8), *rejected = world_array(n, 8);
    for (int64_t i = 0; i < n; i++) {
        int64_t row = 3 * (mine.first + i);
        struct pair p;
        CHECK(dataset_pair(d, row, &p) == OK);
        chosen[i] = p.chosen;
        rejected[i] = p.rejected;
    }
    CHECK(dataset_write_view(c, path, base,
                             &(struct view_pairs){.n = n, .chosen = chosen, .rejected = rejected},
                             "select") == OK);
    mem_free(chosen);
    mem_free(rejected);
    dataset_close(d);
}

static void test_views(struct comm *c, const char *folder) {
    char base[96], view[128], again[128];
    struct dataset *d, *v, *vv;
    snprintf(base, sizeof base, "%s/dealt.h5", folder);
    snprintf(view, sizeof view, "%s/sub/view.h5", folder);
    snprintf(again, sizeof again, "%s/again.h5", folder);
    if (c->rank == 0) {
        char command[128];
        snprintf(command, sizeof command, "mkdir '%s/sub'", folder);
        CHECK(system(command) == 0);
    }
    CHECK(comm_barrier(c) == OK);
    write_third(c, view, base);
    write_third(c, again, view); /* a view of a view leads to the same base */
    CHECK(dataset_open(c, base, &d) == OK && dataset_open(c, view, &v) == OK &&
          dataset_open(c, again, &vv) == OK);
    CHECK(dataset_hash(v) == dataset_hash(d) && dataset_size(v).responses == dataset_size(d).responses);
    CHECK(dataset_size(v).pairs == dataset_size(d).pairs / 3);
    CHECK(dataset_size(vv).pairs == dataset_size(v).pairs / 3);
    for (int64_t i = 0; i < dataset_size(vv).pairs; i++) {
        struct pair p, q;
        int64_t row = 9 * i;
        CHECK(dataset_pair(vv, i, &p) == OK && dataset_pair(d, row, &q) == OK);
        CHECK(p.chosen == q.chosen && p.rejected == q.rejected && isnan(p.margin) && p.label == 1);
    }
    dataset_close(v);
    dataset_close(vv);
    dataset_close(d);
    /* The base changes: its views are refused. */
    write_world(c, base, range_part(50, c->rank, c->size), true);
    CHECK(dataset_open(c, view, &v) == ERR_DATA);
    CHECK(strstr(status_message()->text, "has changed since"));
}

/* Rank 0 turns the lowest bit of a row of an array, as an editor of HDF5 files does: every checksum of the
 * file is right afterwards. */
static void edit(struct comm *c, const char *path, const char *name) {
    if (c->rank == 0) {
        hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT), array = H5Dopen2(file, name, H5P_DEFAULT);
        hid_t space = H5Dget_space(array), type = H5Dget_type(array);
        hsize_t n = 0;
        CHECK(H5Sget_simple_extent_dims(space, &n, NULL) == 1);
        char *data = mem_calloc((int64_t)n, H5Tget_size(type));
        CHECK(data && H5Dread(array, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0);
        data[(n / 2) * H5Tget_size(type)] ^= 1;
        CHECK(H5Dwrite(array, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0);
        mem_free(data);
        H5Tclose(type);
        H5Sclose(space);
        H5Dclose(array);
        CHECK(H5Fclose(file) >= 0);
    }
    CHECK(comm_barrier(c) == OK);
}

static void forget(struct comm *c, const char *path, const char *attribute) {
    if (c->rank == 0) {
        hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
        CHECK(H5Adelete(file, attribute) >= 0);
        CHECK(H5Fclose(file) >= 0);
    }
    CHECK(comm_barrier(c) == OK);
}

static enum status verify(struct comm *c, const char *path, bool trust) {
    struct dataset *d;
    enum status st = dataset_open(c, path, &d);
    if (st == OK) {
        st = dataset_verify(c, d, trust);
        dataset_close(d);
    }
    return st;
}

static enum status verify_once(struct comm *c, const char *path, struct dataset_seen *seen) {
    struct dataset *d;
    enum status st = dataset_open(c, path, &d);
    if (st == OK) {
        st = dataset_verify_once(c, d, false, seen);
        dataset_close(d);
    }
    return st;
}

/* An edit that leaves size and time of the file as they were, which only a comparison finds. */
static void edit_unseen(struct comm *c, const char *path, const char *array) {
    struct stat before;
    CHECK(stat(path, &before) == 0);
    CHECK(comm_barrier(c) == OK);
    edit(c, path, array);
    const struct timespec times[2] = {before.st_atim, before.st_mtim};
    CHECK(c->rank > 0 || utimensat(AT_FDCWD, path, times, 0) == 0);
    CHECK(comm_barrier(c) == OK);
}

/* A job compares a file once, and again where it has changed; of a view's base only what the view does not
 * have itself. */
static void test_verify_once(struct comm *c, const char *folder) {
    struct dataset_seen seen = {0};
    char path[128], view[128];
    snprintf(path, sizeof path, "%s/once.h5", folder);
    snprintf(view, sizeof view, "%s/once-view.h5", folder);
    write_world(c, path, range_part(40, c->rank, c->size), true);
    write_third(c, view, path);
    CHECK(verify_once(c, view, &seen) == OK);
    edit_unseen(c, path, "/responses/tokens");
    CHECK(verify_once(c, view, &seen) == OK && verify_once(c, path, &seen) == OK);
    CHECK(verify(c, view, false) == ERR_DATA);
    CHECK(comm_barrier(c) == OK);
    CHECK(c->rank > 0 || utimensat(AT_FDCWD, path, NULL, 0) == 0);
    CHECK(comm_barrier(c) == OK);
    CHECK(verify_once(c, view, &seen) == ERR_DATA);

    seen = (struct dataset_seen){0};
    write_world(c, path, range_part(40, c->rank, c->size), true);
    write_third(c, view, path);
    CHECK(verify_once(c, view, &seen) == OK);
    edit_unseen(c, path, "/pairs/chosen");
    CHECK(verify_once(c, view, &seen) == OK && verify_once(c, path, &seen) == ERR_DATA);
}

/* Whatever array is edited, of a file or of a view of it: found, unless the data are trusted or the file is
 * of the version before, which has the first hash alone. */
static void test_verify(struct comm *c, const char *folder) {
    static const struct {
        const char *name, *hash; /* NULL: the first, which every file has */
    } arrays[] = {{"/prompts/tokens", NULL},
                  {"/responses/tokens", NULL},
                  {"/responses/score", "responses_hash"},
                  {"/responses/length_chars", "responses_hash"},
                  {"/responses/token_chars", "responses_hash"},
                  {"/pairs/chosen", "pairs_hash"},
                  {"/pairs/rejected", "pairs_hash"},
                  {"/pairs/margin", "pairs_hash"},
                  {"/pairs/label", "pairs_hash"},
                  {"/pairs/source", "pairs_hash"}};
    char path[128], view[128];
    snprintf(path, sizeof path, "%s/verified.h5", folder);
    snprintf(view, sizeof view, "%s/verified-view.h5", folder);
    for (int i = 0; i < COUNT_OF(arrays); i++) {
        write_world(c, path, range_part(40, c->rank, c->size), true);
        CHECK(verify(c, path, false) == OK);
        edit(c, path, arrays[i].name);
        CHECK(verify(c, path, false) == ERR_DATA);
        CHECK(strstr(status_message()->text, "do not match the file's own hash"));
        CHECK(verify(c, path, true) == OK);
        if (arrays[i].hash) {
            forget(c, path, arrays[i].hash);
            CHECK(verify(c, path, false) == OK);
        }
    }
    write_world(c, path, range_part(40, c->rank, c->size), true);
    write_third(c, view, path);
    CHECK(verify(c, view, false) == OK);
    edit(c, path, "/pairs/source"); /* which the view has its own of */
    CHECK(verify(c, view, false) == OK);
    edit(c, view, "/pairs/chosen");
    CHECK(verify(c, view, false) == ERR_DATA && strstr(status_message()->text, "verified-view.h5: pairs"));
    write_third(c, view, path);
    edit(c, path, "/responses/score");
    CHECK(verify(c, view, false) == ERR_DATA && strstr(status_message()->text, "verified.h5: scores"));
}

int main(int argc, char **argv) {
    struct comm *c;
    char folder[64];
    if (comm_start(&argc, &argv, &c) != OK) {
        return 1;
    }
    world_folder(c, folder);
    test_write(c, folder);
    test_small(c, folder);
    test_refusals(c, folder);
    test_views(c, folder);
    test_verify(c, folder);
    test_verify_once(c, folder);
    world_folder_remove(c, folder);
    comm_finish(c);
    return failures != 0;
}
