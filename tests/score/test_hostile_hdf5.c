/* Damaged HDF5 files: a flipped bit anywhere either changes nothing that we read or is refused as bad data;
 * truncation is refused; nothing crashes, hangs or asks for absurd memory. A child process reads them, so
 * that a crash inside the library is a failure with a name. HOSTILE_STRIDE=1 tries every byte. */
#include "tests/unit.h"

#include <fcntl.h>
#include <hdf5.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "data/sidecar.h"
#include "io/h5.h"
#include "store/checkpoint_file.h"
#include "tests/small_world.h"
#include "util/hash.h"

enum { PROMPTS = 30, WEIGHTS = 500 };

static struct comm *world;
static char folder[64];

/* What reading everything gave: a status, and where that is OK a hash of all that was read. */
struct outcome {
    enum status st;
    uint64_t hash;
};
typedef struct outcome reader(const char *path);

static uint64_t hash_facts(const struct dataset *d) {
    const struct dataset_facts *f = dataset_facts(d);
    uint64_t hash = hash_bytes(f->dropped, sizeof f->dropped, 0);
    const char *texts[] = {f->tokenizer, f->source, f->format, f->command, f->program};
    for (int i = 0; i < COUNT_OF(texts); i++) {
        hash = hash_join(hash, hash_bytes(texts[i], strlen(texts[i]), 0));
    }
    const int64_t numbers[] = {(int64_t)f->tokenizer_hash,
                               f->vocabulary,
                               f->begin_id,
                               f->end_id,
                               (int64_t)f->source_hash,
                               f->n_dropped,
                               (int64_t)dataset_hash(d)};
    return hash_join(hash, hash_bytes(numbers, sizeof numbers, 0));
}

static enum status read_rows(struct dataset *d, uint64_t *hash) {
    struct dataset_size n = dataset_size(d);
    static int32_t tokens[100000];
    static uint8_t chars[100000];
    if (n.prompt_tokens > 100000 || n.response_tokens > 100000) {
        return fail(ERR_DATA, "more tokens than were written");
    }
    for (int64_t i = 0; i < n.pairs; i++) {
        struct pair p;
        TRY(dataset_pair(d, i, &p));
        const int64_t fields[] = {p.chosen, p.rejected, p.source, p.label, (int64_t)p.margin};
        *hash = hash_join(*hash, hash_bytes(fields, sizeof fields, 0));
    }
    for (int64_t i = 0; i < n.responses; i++) {
        struct response r;
        int64_t first, count;
        TRY(dataset_response(d, i, &r));
        TRY(dataset_prompt_responses(d, r.prompt, &first, &count));
        const int64_t fields[] = {r.prompt,
                                  r.first,
                                  r.count,
                                  r.prompt_first,
                                  r.prompt_count,
                                  r.length_chars,
                                  isnan(r.score) ? -1 : (int64_t)r.score,
                                  first,
                                  count};
        *hash = hash_join(*hash, hash_bytes(fields, sizeof fields, 0));
    }
    TRY(dataset_prompt_tokens(d, 0, n.prompt_tokens, tokens));
    *hash = hash_join(*hash, hash_bytes(tokens, (size_t)n.prompt_tokens * 4, 0));
    TRY(dataset_response_tokens(d, 0, n.response_tokens, tokens));
    *hash = hash_join(*hash, hash_bytes(tokens, (size_t)n.response_tokens * 4, 0));
    if (n.has_token_chars) {
        TRY(dataset_response_token_chars(d, 0, n.response_tokens, chars));
        *hash = hash_join(*hash, hash_bytes(chars, (size_t)n.response_tokens, 0));
    }
    return OK;
}

static struct outcome read_dataset(const char *path) {
    struct outcome o = {0};
    struct dataset *d;
    o.st = dataset_open(world, path, &d);
    if (o.st == OK) {
        o.hash = hash_facts(d);
        o.st = read_rows(d, &o.hash);
        dataset_close(d);
    }
    return o;
}

static struct outcome read_checkpoint(const char *path) {
    struct outcome o = {0};
    char *state = NULL;
    float weights[WEIGHTS] = {0};
    const struct checkpoint_array array = {"parameters", WEIGHTS, {0, WEIGHTS}, 4, weights, NULL};
    o.st = checkpoint_file_read_state(world, path, &state);
    if (o.st == OK) {
        o.hash = hash_bytes(state, strlen(state), 0);
        o.st = checkpoint_file_read(world, path, &array, 1);
        o.hash = hash_join(o.hash, hash_bytes(weights, sizeof weights, 0));
        mem_free(state);
    }
    return o;
}

static const struct sidecar_key key = {1, 2, 3, "fp32", "logp"};

static struct outcome read_sidecar(const char *path) {
    struct outcome o = {0};
    struct sidecar *s;
    o.st = sidecar_open(world, path, &key, WEIGHTS, 0, false, &s);
    for (int64_t i = 0; i < WEIGHTS && o.st == OK; i++) {
        double sum;
        int32_t count;
        uint64_t token_hash;
        o.st = sidecar_read_reference(s, &i, 1, &sum, &count, &token_hash);
        o.hash = hash_join(o.hash, hash_bytes(&sum, sizeof sum, token_hash + (uint64_t)count));
    }
    return o; /* not closed: that would write */
}

/* The child's report, in memory that it shares with the parent: where it is, and what was wrong. */
struct report {
    int64_t at, silent, odd;
    enum status odd_status;
    char text[200];
};

static void note_outcome(struct report *r, int64_t at, struct outcome now, uint64_t right) {
    bool refused = now.st == ERR_DATA || now.st == ERR_INPUT;
    if (now.st == OK && now.hash != right) {
        r->silent = at;
    } else if (now.st != OK && !refused) {
        r->odd = at;
        r->odd_status = now.st;
        snprintf(r->text, sizeof r->text, "%.190s", status_message()->text);
    }
    status_clear();
}

/* In the child. Flips a bit of every stride-th byte, one at a time. */
static void flip_all(const char *path, reader *read, uint64_t right, int64_t stride, struct report *r) {
    int file = open(path, O_RDWR);
    off_t size = lseek(file, 0, SEEK_END);
    for (int64_t at = 0; at < size; at += stride) {
        uint8_t byte, flipped;
        r->at = at;
        if (pread(file, &byte, 1, at) != 1) {
            _exit(3);
        }
        flipped = byte ^ (uint8_t)(1 << (at % 8));
        if (pwrite(file, &flipped, 1, at) != 1) {
            _exit(3);
        }
        note_outcome(r, at, read(path), right);
        if (pwrite(file, &byte, 1, at) != 1) {
            _exit(3);
        }
    }
}

/* In the child. Every shorter length of a few. */
static void cut_all(const char *path, reader *read, struct report *r) {
    int file = open(path, O_RDWR);
    off_t size = lseek(file, 0, SEEK_END);
    for (int64_t left = size - 1; left >= 0; left -= 1 + size / 37) {
        r->at = left;
        if (ftruncate(file, left) != 0) {
            _exit(3);
        }
        struct outcome now = read(path);
        if (now.st == OK) {
            r->silent = left;
        }
        note_outcome(r, left, now, now.hash);
    }
}

static void attack(const char *path, reader *read, int64_t stride) {
    struct report *r = mmap(NULL, sizeof *r, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct outcome whole = read(path);
    assert_int_equal(whole.st, OK);
    assert_true(r != MAP_FAILED);
    r->silent = r->odd = -1;
    pid_t child = fork();
    if (child == 0) {
        alarm(100); /* a hang is a failure */
        flip_all(path, read, whole.hash, stride, r);
        cut_all(path, read, r);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (status != 0) {
        FAIL("%s: status %d at byte %lld", path, status, (long long)r->at);
    }
    if (r->silent >= 0) {
        FAIL("%s: damage at byte %lld goes unnoticed", path, (long long)r->silent);
    }
    if (r->odd >= 0) {
        FAIL("%s: damage at byte %lld is code %d: %s", path, (long long)r->odd, r->odd_status, r->text);
    }
    munmap(r, sizeof *r);
}

static int64_t stride(int64_t usual) {
    const char *given = getenv("HOSTILE_STRIDE");
    return given ? strtoll(given, NULL, 10) : usual;
}

static void test_dataset(void **state) {
    (void)state;
    char path[96];
    struct dataset_part part = world_part(0, PROMPTS);
    struct dataset_facts facts = world_facts();
    snprintf(path, sizeof path, "%s/data.h5", folder);
    assert_int_equal(dataset_write(world, path, &part, &facts), OK);
    attack(path, read_dataset, stride(53));
    world_part_free(&part);
}

static void test_checkpoint(void **state) {
    (void)state;
    char path[96];
    float weights[WEIGHTS];
    for (int i = 0; i < WEIGHTS; i++) {
        weights[i] = (float)i;
    }
    const struct checkpoint_array array = {"parameters", WEIGHTS, {0, WEIGHTS}, 4, weights, NULL};
    snprintf(path, sizeof path, "%s/checkpoint.h5", folder);
    assert_int_equal(checkpoint_file_write(world, path, "{\"step\": 3}", &array, 1), OK);
    attack(path, read_checkpoint, stride(23));
}

static void test_sidecar(void **state) {
    (void)state;
    char path[96];
    struct sidecar *s;
    int64_t ids[WEIGHTS];
    double sums[WEIGHTS];
    int32_t counts[WEIGHTS];
    uint64_t hashes[WEIGHTS];
    for (int i = 0; i < WEIGHTS; i++) {
        ids[i] = i;
        sums[i] = -i;
        counts[i] = 5;
        hashes[i] = (uint64_t)i;
    }
    snprintf(path, sizeof path, "%s/data.reference.h5", folder);
    assert_int_equal(sidecar_open(world, path, &key, WEIGHTS, 0, false, &s), OK);
    assert_int_equal(sidecar_write_reference(s, ids, WEIGHTS, sums, counts, hashes), OK);
    assert_int_equal(sidecar_close(s), OK);
    attack(path, read_sidecar, stride(41));
}

/* Well-formed HDF5 that breaks the format: each change is made to a fresh file by HDF5 itself. */
typedef void change(hid_t file);

static void put_attribute(hid_t file, const char *name, int64_t value) {
    hid_t attribute = H5Aopen(file, name, H5P_DEFAULT);
    assert_true(H5Awrite(attribute, H5T_NATIVE_INT64, &value) >= 0);
    H5Aclose(attribute);
}

static void put_one(hid_t file, const char *name, hsize_t at, int64_t value) {
    hid_t array = H5Dopen2(file, name, H5P_DEFAULT), space = H5Dget_space(array);
    hsize_t one = 1;
    hid_t memory = H5Screate_simple(1, &one, NULL);
    assert_true(H5Sselect_elements(space, H5S_SELECT_SET, 1, &at) >= 0);
    assert_true(H5Dwrite(array, H5T_NATIVE_INT64, memory, space, H5P_DEFAULT, &value) >= 0);
    H5Sclose(memory);
    H5Sclose(space);
    H5Dclose(array);
}

/* Another data set in the place of one: nothing is ever written to it. */
static void replace(hid_t file, const char *name, hid_t type, hsize_t rows, hsize_t chunk) {
    hid_t space = H5Screate_simple(1, &rows, NULL), creation = H5Pcreate(H5P_DATASET_CREATE);
    if (chunk) {
        assert_true(H5Pset_chunk(creation, 1, &chunk) >= 0);
    }
    assert_true(H5Ldelete(file, name, H5P_DEFAULT) >= 0);
    hid_t array = H5Dcreate2(file, name, type, space, H5P_DEFAULT, creation, H5P_DEFAULT);
    assert_true(array >= 0);
    H5Dclose(array);
    H5Pclose(creation);
    H5Sclose(space);
}

static void newer(hid_t file) {
    put_attribute(file, "format_version", DATASET_FORMAT_VERSION + 1);
}
static void no_vocabulary(hid_t file) {
    put_attribute(file, "vocabulary", 0);
}
static void token_beyond(hid_t file) {
    put_one(file, "/responses/tokens", 200, WORLD_VOCABULARY);
}
static void token_below(hid_t file) {
    put_one(file, "/prompts/tokens", 5, -1);
}
static void offsets_fall(hid_t file) {
    put_one(file, "/responses/offsets", 7, 1);
}
static void offsets_run_out(hid_t file) {
    put_one(file, "/responses/offsets", 7, INT64_MAX);
}
static void first_offset(hid_t file) {
    put_one(file, "/prompts/offsets", 0, 1);
}
static void pair_beyond(hid_t file) {
    put_one(file, "/pairs/chosen", 3, 1 << 20);
}
static void pair_below(hid_t file) {
    put_one(file, "/pairs/rejected", 3, -5);
}
static void prompt_beyond(hid_t file) {
    put_one(file, "/responses/prompt", 3, PROMPTS);
}
static void label_odd(hid_t file) {
    put_one(file, "/pairs/label", 3, 7);
}
static void wrong_type(hid_t file) {
    replace(file, "/responses/tokens", H5T_IEEE_F32LE, 10, 0);
}
static void wrong_rows(hid_t file) {
    replace(file, "/pairs/margin", H5T_IEEE_F32LE, 2, 0);
}
static void huge_and_empty(hid_t file) { /* petabytes that the file does not have */
    replace(file, "/responses/tokens", H5T_STD_I32LE, (hsize_t)1 << 50, 1 << 16);
}
static void huge_chunks(hid_t file) {
    replace(file, "/responses/tokens", H5T_STD_I32LE, (hsize_t)1 << 29, 1 << 29);
}
static void huge_contiguous(hid_t file) {
    replace(file, "/prompts/tokens", H5T_STD_I32LE, (hsize_t)1 << 50, 0);
}
static void missing(hid_t file) {
    assert_true(H5Ldelete(file, "/responses/score", H5P_DEFAULT) >= 0);
}
static void soft_loop(hid_t file) {
    assert_true(H5Ldelete(file, "/responses/score", H5P_DEFAULT) >= 0);
    assert_true(H5Lcreate_soft("/responses/score", file, "/responses/score", H5P_DEFAULT, H5P_DEFAULT) >= 0);
}
static void out_of_the_file(hid_t file) {
    assert_true(H5Ldelete(file, "/pairs/chosen", H5P_DEFAULT) >= 0);
    assert_true(H5Lcreate_external("other.h5", "/pairs/chosen", file, "/pairs/chosen", H5P_DEFAULT,
                                   H5P_DEFAULT) >= 0);
}
static void other_content(hid_t file) {
    assert_true(H5Adelete(file, "content") >= 0);
}

static void test_crafted(void **state) {
    (void)state;
    const struct {
        const char *message;
        change *apply;
    } cases[] = {
        {"use a newer collimate", newer},
        {"\"vocabulary\" is 0", no_vocabulary},
        {"holds token id 5000, outside", token_beyond},
        {"prompt 0 holds token id -1", token_below},
        {"the file is damaged", offsets_fall},
        {"the file is damaged", offsets_run_out},
        {"/prompts/offsets runs from 1", first_offset},
        {"pair 3 (chosen 1048576", pair_beyond},
        {"pair 3 (", pair_below},
        {"response 3 (prompt 30", prompt_beyond},
        {"label 7", label_odd},
        {"not stored as ours are", wrong_type},
        {"not stored as ours are", wrong_rows},
        {"damaged, or not written by collimate", huge_and_empty},
        {"damaged, or not written by collimate", huge_chunks},
        {"larger than the file", huge_contiguous},
        {"/responses/score is missing", missing},
        {"a link is not a plain one", soft_loop},
        {"a link is not a plain one", out_of_the_file},
        {"not one that collimate wrote", other_content},
    };
    char path[96];
    struct dataset_part part = world_part(0, PROMPTS);
    struct dataset_facts facts = world_facts();
    snprintf(path, sizeof path, "%s/crafted.h5", folder);
    for (int i = 0; i < COUNT_OF(cases); i++) {
        assert_int_equal(dataset_write(world, path, &part, &facts), OK);
        hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
        assert_true(file >= 0);
        cases[i].apply(file);
        assert_true(H5Fclose(file) >= 0);
        struct outcome o = read_dataset(path);
        if (o.st != ERR_DATA || !strstr(status_message()->text, cases[i].message) ||
            !strstr(status_message()->text, "crafted.h5")) {
            FAIL("case %d: code %d, \"%s\" where \"%s\" is expected", i, o.st, status_message()->text,
                 cases[i].message);
        }
        status_clear();
    }
    FILE *text = fopen(path, "w");
    assert_true(text && fputs("{\"prompt\": \"no HDF5 at all\"}\n", text) >= 0 && fclose(text) == 0);
    assert_int_equal(read_dataset(path).st, ERR_DATA);
    assert_non_null(strstr(status_message()->text, "not an HDF5 file"));
    world_part_free(&part);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_dataset), cmocka_unit_test(test_checkpoint),
                                       cmocka_unit_test(test_sidecar), cmocka_unit_test(test_crafted)};
    if (comm_start(&argc, &argv, &world) != OK) {
        return 1;
    }
    world_folder(world, folder);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    world_folder_remove(world, folder);
    comm_finish(world);
    return failed;
}
