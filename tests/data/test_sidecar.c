/* Side-cars: rows written by any rank in any order, kept over runs, refused when they belong to something
 * else. */
#include "data/sidecar_find.h"
#include "tests/small_world.h"

enum { ROWS = 20000, WIDTH = 37, VALUE_ROWS = 700 };

static const struct sidecar_key key = {
    .model = 11, .data = 22, .view = 33, .compute = "fp32", .recipe = "logp"};

static double sum_of(int64_t id, int round) {
    return -1.25 * (double)id - 1e-9 * round; /* not representable in float32 */
}

/* This rank's rows of a round: id modulo 3 says the round, the rest is dealt in an order that is no order. */
static int64_t own_ids(const struct comm *c, int round, int64_t *ids) {
    int64_t n = 0;
    for (int64_t i = 0; i < ROWS; i++) {
        int64_t id = (i * 7919) % ROWS;
        if (id % 3 == round && (id / 3) % c->size == c->rank) {
            ids[n++] = id;
        }
    }
    return n;
}

static void write_round(struct comm *c, struct sidecar *s, int round) {
    int64_t *ids = world_array(ROWS, 8);
    double *sum = world_array(ROWS, 8);
    int32_t *count = world_array(ROWS, 4);
    uint64_t *hash = world_array(ROWS, 8);
    int64_t n = own_ids(c, round, ids);
    for (int64_t i = 0; i < n; i++) {
        sum[i] = sum_of(ids[i], round);
        count[i] = (int32_t)(ids[i] % 100);
        hash[i] = (uint64_t)ids[i] * 1000003;
    }
    CHECK(sidecar_write_reference(s, ids, n, sum, count, hash) == OK);
    mem_free(ids);
    mem_free(sum);
    mem_free(count);
    mem_free(hash);
}

/* Rounds below `rounds` are there, the others are not; seen from every rank. */
static void check_rounds(struct comm *c, struct sidecar *s, int rounds) {
    int64_t wrong = 0;
    for (int64_t id = 0; id < ROWS; id++) {
        double sum;
        int32_t count;
        uint64_t hash;
        bool done;
        int round = (int)(id % 3);
        wrong += sidecar_read_reference(s, &id, 1, &sum, &count, &hash) != OK;
        wrong += sidecar_done(s, &id, 1, &done) != OK || done != (round < rounds);
        if (round < rounds) {
            wrong += sum != sum_of(id, round) || count != id % 100 || hash != (uint64_t)id * 1000003;
        } else {
            wrong += count != -1;
        }
    }
    CHECK(wrong == 0);
    CHECK(comm_barrier(c) == OK); /* a rank that goes on writes at once */
}

static void test_reference(struct comm *c, const char *path) {
    struct sidecar *s;
    CHECK(sidecar_open(c, path, &key, ROWS, 0, false, &s) == OK);
    CHECK(sidecar_width(s) == 0);
    check_rounds(c, s, 0);
    write_round(c, s, 0);
    check_rounds(c, s, 1);
    CHECK(sidecar_write_reference(s, NULL, 0, NULL, NULL, NULL) == OK); /* nothing on any rank */
    CHECK(sidecar_close(s) == OK);
    CHECK(sidecar_open(c, path, &key, ROWS, 0, false, &s) == OK); /* another run goes on */
    check_rounds(c, s, 1);
    write_round(c, s, 1);
    write_round(c, s, 2);
    check_rounds(c, s, 3);
    CHECK(sidecar_close(s) == OK);
}

/* Token log-probabilities: responses of 3 places each, of which i % 4 are scored. */
static int32_t scored_of(int64_t id) {
    return (int32_t)(id % 4);
}

static void write_tokens(struct comm *c, struct sidecar *s) {
    enum { N = 60 };
    int64_t ids[N], first[N], n = 0, at = 0;
    int32_t count[N];
    double logp[3 * N], sum[N] = {0};
    uint64_t hash[N] = {0};
    for (int64_t id = N - 1; id >= 0; id--) {
        if (id % c->size != c->rank) {
            continue;
        }
        ids[n] = id;
        first[n] = 3 * id;
        count[n] = scored_of(id);
        for (int32_t t = 0; t < count[n]; t++) {
            logp[at++] = -(double)id - t / 8.0 - 1e-12;
        }
        n++;
    }
    CHECK(sidecar_write_tokens(s, ids, n, first, count, logp) == OK);
    CHECK(sidecar_write_reference(s, ids, n, sum, count, hash) == OK);
}

static void check_tokens(struct sidecar *s) {
    int64_t wrong = 0;
    for (int64_t id = 0; id < 60; id++) {
        double logp[3];
        wrong += sidecar_read_tokens(s, id, 3 * id, scored_of(id), logp) != OK;
        for (int32_t t = 0; t < scored_of(id); t++) {
            wrong += logp[t] != -(double)id - t / 8.0 - 1e-12;
        }
    }
    CHECK(wrong == 0);
}

static void test_tokens(struct comm *c, const char *path) {
    struct sidecar *s;
    struct sidecar_key tokens = key;
    double logp[3];
    snprintf(tokens.recipe, sizeof tokens.recipe, "token logp");
    CHECK(sidecar_open_tokens(c, path, &tokens, 60, 180, false, &s) == OK);
    CHECK(sidecar_has_tokens(s));
    write_tokens(c, s);
    check_tokens(s);
    CHECK(sidecar_read_tokens(s, 5, 3 * 6, scored_of(5), logp) == ERR_DATA); /* another response's place */
    CHECK(comm_barrier(c) == OK);
    CHECK(sidecar_close(s) == OK);
    CHECK(sidecar_open_tokens(c, path, &tokens, 60, 180, false, &s) == OK);
    check_tokens(s);
    CHECK(sidecar_close(s) == OK);
    CHECK(sidecar_open(c, path, &key, 60, 0, false, &s) == OK); /* sums are there as well */
    CHECK(!sidecar_has_tokens(s));
    CHECK(sidecar_close(s) == OK);
    CHECK(sidecar_open_tokens(c, path, &tokens, 60, 181, false, &s) ==
          ERR_DATA); /* another data file's size */
}

static void test_without_tokens(struct comm *c, const char *path) {
    struct sidecar *s;
    struct sidecar_key tokens = key;
    snprintf(tokens.recipe, sizeof tokens.recipe, "token logp");
    CHECK(sidecar_open_tokens(c, path, &tokens, ROWS, 3 * ROWS, false, &s) == ERR_DATA);
    CHECK(strstr(status_message()->text, "recipe (was logp, is token logp)"));
}

static void test_refusals(struct comm *c, const char *path) {
    struct sidecar *s;
    struct sidecar_key other = key;
    other.model = 12;
    CHECK(sidecar_open(c, path, &other, ROWS, 0, false, &s) == ERR_DATA);
    CHECK(strstr(status_message()->text, "model (was 000000000000000b, is 000000000000000c)"));
    CHECK(!strstr(status_message()->text, "data (was"));
    other = key;
    other.view = 1;
    snprintf(other.compute, sizeof other.compute, "bf16");
    CHECK(sidecar_open(c, path, &other, ROWS, 0, false, &s) == ERR_DATA);
    CHECK(strstr(status_message()->text, "view (") &&
          strstr(status_message()->text, "compute (was fp32, is bf16)"));
    CHECK(sidecar_open(c, path, &key, ROWS + 1, 0, false, &s) == ERR_DATA); /* another data file's size */
    CHECK(sidecar_open(c, path, &key, ROWS, WIDTH, false, &s) == ERR_DATA);
    CHECK(strstr(status_message()->text, "reference where embeddings"));
    CHECK(sidecar_open(c, path, &key, ROWS, 0, false, &s) == OK); /* refusals changed nothing */
    check_rounds(c, s, 3);
    CHECK(sidecar_close(s) == OK);
    CHECK(sidecar_open(c, path, &other, ROWS, 0, true, &s) == OK);
    check_rounds(c, s, 0);
    CHECK(sidecar_close(s) == OK);
    char missing[160];
    snprintf(missing, sizeof missing, "%s/no/folder.h5", path);
    CHECK(sidecar_open(c, missing, &key, ROWS, 0, false, &s) == ERR_WRITE);
}

/* A flipped byte in a sum is found when its row is read. */
static void test_damage(struct comm *c, const char *path) {
    struct sidecar *s;
    int64_t id = 4001, n = c->rank == 0;
    double sum = -0.123456789012345;
    int32_t count = 3;
    uint64_t hash = 5;
    CHECK(sidecar_open(c, path, &key, ROWS, 0, true, &s) == OK);
    CHECK(sidecar_write_reference(s, &id, n, &sum, &count, &hash) == OK);
    CHECK(sidecar_close(s) == OK);
    if (c->rank == 0) {
        FILE *file = fopen(path, "r+b");
        static char bytes[1 << 20];
        size_t size = file ? fread(bytes, 1, sizeof bytes, file) : 0;
        char *found = memmem(bytes, size, &sum, sizeof sum);
        CHECK(found);
        if (found) {
            found[2] ^= 1;
            CHECK(fseek(file, found - bytes, SEEK_SET) == 0 &&
                  fwrite(found, 1, sizeof sum, file) == sizeof sum);
        }
        CHECK(file && fclose(file) == 0);
    }
    CHECK(comm_barrier(c) == OK);
    CHECK(sidecar_open(c, path, &key, ROWS, 0, false, &s) == OK);
    CHECK(sidecar_read_reference(s, &id, 1, &sum, &count, &hash) == ERR_DATA);
    CHECK(strstr(status_message()->text, "row 4001 is damaged"));
    CHECK(sidecar_close(s) == OK);
}

static float value_of(int64_t row, int64_t k) {
    return 0.5f * (float)row - 0.125f * (float)k;
}

static void test_embeddings(struct comm *c, const char *path) {
    struct sidecar *s;
    struct range mine = range_part(VALUE_ROWS, c->rank, c->size);
    int64_t n = mine.last - mine.first - (c->rank == 0); /* rank 0 leaves its last row out */
    int64_t *ids = world_array(n, 8);
    float *values = world_array(VALUE_ROWS * WIDTH, 4);
    CHECK(sidecar_open(c, path, &key, VALUE_ROWS, WIDTH, false, &s) == OK && sidecar_width(s) == WIDTH);
    for (int64_t i = 0; i < n; i++) {
        ids[i] = mine.first + n - 1 - i;
        for (int64_t k = 0; k < WIDTH; k++) {
            values[i * WIDTH + k] = value_of(ids[i], k);
        }
    }
    CHECK(sidecar_write_values(s, ids, n, values) == OK);
    int64_t missing = range_part(VALUE_ROWS, 0, c->size).last - 1, wrong = 0;
    bool done = true;
    CHECK(sidecar_done(s, &missing, 1, &done) == OK && !done);
    CHECK(sidecar_read_values(s, 0, VALUE_ROWS, values) == ERR_DATA);
    CHECK(strstr(status_message()->text, "not computed yet"));
    CHECK(comm_barrier(c) == OK); /* a rank that goes on writes at once */
    for (int64_t k = 0; k < WIDTH; k++) {
        values[k] = value_of(missing, k);
    }
    CHECK(sidecar_write_values(s, &missing, c->rank == c->size - 1, values) == OK);
    CHECK(sidecar_close(s) == OK);
    CHECK(sidecar_open(c, path, &key, VALUE_ROWS, WIDTH, false, &s) == OK);
    CHECK(sidecar_read_values(s, 0, VALUE_ROWS, values) == OK);
    for (int64_t i = 0; i < VALUE_ROWS * WIDTH; i++) {
        wrong += values[i] != value_of(i / WIDTH, i % WIDTH);
    }
    CHECK(wrong == 0);
    CHECK(sidecar_close(s) == OK);
    mem_free(ids);
    mem_free(values);
}

/* 4 MiB of values do not fit on 2 MiB: every rank hears of it, whichever rank's writing failed. */
static void test_full_disk(struct comm *c, const char *disk) {
    enum { WIDE = 1024, MANY = 1024 };
    char path[160];
    struct sidecar *s;
    if (!world_tiny_disk(c, disk)) {
        return;
    }
    snprintf(path, sizeof path, "%s/wide.h5", disk);
    enum status st = sidecar_open(c, path, &key, MANY, WIDE, false, &s);
    if (st == OK) {
        struct range mine = range_part(MANY, c->rank, c->size);
        int64_t n = mine.last - mine.first;
        int64_t *ids = world_array(n, 8);
        float *values = world_array(n * WIDE, 4);
        for (int64_t i = 0; i < n; i++) {
            ids[i] = mine.first + i;
            values[i * WIDE] = 1;
        }
        st = sidecar_write_values(s, ids, n, values);
        CHECK(sidecar_close(s) == OK || status_code() == ERR_WRITE);
        mem_free(ids);
        mem_free(values);
    }
    CHECK(st == ERR_WRITE);
    world_tiny_disk_remove(c, disk);
}

/* Does a round of the first two lack? */
static enum status lacks_two(void *context, struct sidecar *s, bool *out) {
    int64_t last = *(int64_t *)context; /* row that stands for all */
    bool done;
    TRY(sidecar_done(s, &last, 1, &done));
    *out = !done;
    return OK;
}

/* One that lacks nothing is read, one that does is filled; one whose name the program chose may be of
 * something else, or lie in a folder that cannot be written. */
static void test_find(struct comm *c, const char *folder) {
    struct sidecar_key other = key;
    int64_t row = 1; /* of the second round */
    struct sidecar_wanted w = {.key = &key,
                               .rows = ROWS,
                               .lacks = lacks_two,
                               .context = &row,
                               .folder = folder,
                               .named_by = "some.key"};
    struct text path = {0};
    struct sidecar *s;
    CHECK(text_printf(&path, "%s/found.h5", folder) == OK);
    CHECK(sidecar_find(c, &w, &path, &s) == OK && !sidecar_is_final(s));
    write_round(c, s, 0);
    CHECK(sidecar_close(s) == OK);
    CHECK(sidecar_find(c, &w, &path, &s) == OK && !sidecar_is_final(s)); /* row 1 is missing */
    write_round(c, s, 1);
    check_rounds(c, s, 2);
    CHECK(sidecar_close(s) == OK);
    CHECK(sidecar_find(c, &w, &path, &s) == OK && sidecar_is_final(s));
    check_rounds(c, s, 2);
    CHECK(sidecar_close(s) == OK);
    other.data++;
    w.key = &other;
    CHECK(sidecar_find(c, &w, &path, &s) == ERR_DATA && strstr(status_message()->text, "data (was"));
    w.is_automatic = true;
    CHECK(sidecar_find(c, &w, &path, &s) == OK && !sidecar_is_final(s));
    check_rounds(c, s, 0);
    CHECK(sidecar_close(s) == OK);
    text_clear(&path);
    CHECK(text_printf(&path, "%s/nowhere/moved.h5", folder) == OK);
    CHECK(sidecar_find(c, &w, &path, &s) == OK && strstr(path.data, "/moved.h5"));
    CHECK(!strstr(path.data, "nowhere"));
    CHECK(sidecar_close(s) == OK);
    text_clear(&path);
    CHECK(text_printf(&path, "%s/nowhere/moved.h5", folder) == OK);
    w.folder = "";
    CHECK(sidecar_find(c, &w, &path, &s) == ERR_WRITE && strstr(status_message()->text, "some.key"));
    text_free(&path);
}

int main(int argc, char **argv) {
    struct comm *c;
    char folder[64], path[96];
    if (comm_start(&argc, &argv, &c) != OK) {
        return 1;
    }
    world_folder(c, folder);
    snprintf(path, sizeof path, "%s/world.reference.h5", folder);
    test_reference(c, path);
    test_without_tokens(c, path);
    test_refusals(c, path);
    test_damage(c, path);
    snprintf(path, sizeof path, "%s/tokens.reference.h5", folder);
    test_tokens(c, path);
    snprintf(path, sizeof path, "%s/world.embeddings.h5", folder);
    test_embeddings(c, path);
    test_find(c, folder);
    snprintf(path, sizeof path, "%s/disk", folder);
    test_full_disk(c, path);
    world_folder_remove(c, folder);
    comm_finish(c);
    return failures != 0;
}
