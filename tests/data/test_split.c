/* Named scores, views of an objective and the splits of their pairs, on any number of ranks. */
#include <hdf5.h>
#include <math.h>

#include "tests/small_world.h"

enum { PROMPTS = 40, OBJECTIVES = 2 };
static char *names[] = {"kind", "x y"};

/* Of objective o, response i; every seventh has none. */
static float score_of(int64_t i, int o) {
    return i % 7 == 0 && o == 1 ? NAN : (float)(10 * i + o);
}

static void write_base(struct comm *c, const char *path) {
    struct range mine = range_part(PROMPTS, c->rank, c->size);
    struct dataset_part part = world_part(mine.first, mine.last);
    struct dataset_part before = world_part(0, mine.first);
    struct dataset_facts facts = world_facts();
    facts.n_objectives = OBJECTIVES;
    facts.objectives = names;
    part.response_scores = world_array(part.n_responses * OBJECTIVES, sizeof(float));
    for (int64_t i = 0; i < part.n_responses * OBJECTIVES; i++) {
        part.response_scores[i] = score_of(before.n_responses + i / OBJECTIVES, (int)(i % OBJECTIVES));
    }
    CHECK(dataset_write(c, path, &part, &facts) == OK);
    mem_free(part.response_scores);
    part.response_scores = NULL;
    world_part_free(&part);
    world_part_free(&before);
}

enum { PAIRS = 20 };
static int8_t split_of(int64_t row) {
    return (int8_t)(row % 5 == 4 ? SPLIT_TEST : SPLIT_TRAIN);
}

static void write_view(struct comm *c, const char *path, const char *base, const char *objective,
                       bool splits) {
    struct range rows = range_part(PAIRS, c->rank, c->size);
    int64_t n = rows.last - rows.first;
    int64_t *chosen = world_array(n, sizeof *chosen);
    int64_t *rejected = world_array(n, sizeof *rejected);
    int8_t *split = world_array(n, 1);
    for (int64_t i = 0; i < n; i++) {
        chosen[i] = 2 * (rows.first + i) + 1;
        rejected[i] = 2 * (rows.first + i);
        split[i] = split_of(rows.first + i);
    }
    const struct view_pairs pairs = {.n = n,
                                     .chosen = chosen,
                                     .rejected = rejected,
                                     .split = splits ? split : NULL,
                                     .objective = objective};
    CHECK(dataset_write_view(c, path, base, &pairs, "test") == OK);
    mem_free(chosen);
    mem_free(rejected);
    mem_free(split);
}

static void check_scores(struct dataset *d, int objective) {
    int64_t wrong = 0;
    for (int64_t i = 0; i < dataset_size(d).responses; i++) {
        float scores[OBJECTIVES];
        struct response r;
        CHECK(dataset_response_scores(d, i, scores) == OK && dataset_response(d, i, &r) == OK);
        for (int o = 0; o < OBJECTIVES; o++) {
            float expected = score_of(i, o);
            wrong += isnan(expected) ? !isnan(scores[o]) : scores[o] != expected;
        }
        float own = objective >= 0 ? scores[objective] : i % 2 ? NAN : (float)i; /* world_part's */
        wrong += isnan(own) ? !isnan(r.score) : r.score != own;
    }
    CHECK(wrong == 0);
}

static void check_splits(struct comm *c, const char *path) {
    struct dataset *d;
    CHECK(dataset_open(c, path, &d) == OK && dataset_verify(c, d, false) == OK);
    uint64_t all = dataset_pairs_hash(d);
    CHECK(dataset_size(d).has_splits && dataset_size(d).pairs == PAIRS && dataset_split(d) == SPLIT_ALL);
    CHECK(dataset_keep_split(d, SPLIT_VALIDATION) == ERR_DATA); /* there is none in it */
    CHECK(strstr(status_message()->text, "none of its 20 pairs is in split validation") != NULL);
    CHECK(dataset_keep_split(d, SPLIT_TEST) == OK && dataset_size(d).pairs == PAIRS / 5);
    CHECK(dataset_pairs_hash(d) != all && dataset_verify(c, d, false) == OK);
    struct pair pairs[PAIRS / 5];
    int8_t labels[PAIRS / 5];
    CHECK(dataset_pairs(d, (struct range){0, PAIRS / 5}, pairs) == OK);
    CHECK(dataset_labels(d, (struct range){0, PAIRS / 5}, labels) == OK);
    for (int64_t i = 0; i < PAIRS / 5; i++) {
        CHECK(pairs[i].row == i && pairs[i].split == SPLIT_TEST && pairs[i].chosen == 2 * (5 * i + 4) + 1);
        CHECK(labels[i] == 1);
    }
    int64_t *ids;
    int64_t n;
    CHECK(dataset_split_responses(d, &ids, &n) == OK && n == 2 * PAIRS / 5 && ids[0] == 8 && ids[3] == 19);
    mem_free(ids);
    CHECK(dataset_split_prompts(d, &ids, &n) == OK && n == PAIRS / 5);
    mem_free(ids);
    struct pair beyond;
    CHECK(dataset_pair(d, PAIRS / 5, &beyond) == ERR_DATA);
    dataset_close(d);
}

/* Collective. What a damaged file says. */
static void check_damage(struct comm *c, const char *path) {
    struct dataset *d = NULL;
    int8_t bad = 9;
    CHECK(comm_barrier(c) == OK);
    if (c->rank == 0) {
        hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
        hid_t array = H5Dopen2(file, "/pairs/split", H5P_DEFAULT);
        hid_t space = H5Dget_space(array);
        hsize_t at = 3, one = 1;
        hid_t memory = H5Screate_simple(1, &one, NULL);
        CHECK(H5Sselect_hyperslab(space, H5S_SELECT_SET, &at, NULL, &one, NULL) >= 0);
        CHECK(H5Dwrite(array, H5T_NATIVE_INT8, memory, space, H5P_DEFAULT, &bad) >= 0);
        H5Sclose(memory);
        H5Sclose(space);
        H5Dclose(array);
        H5Fclose(file);
    }
    CHECK(comm_barrier(c) == OK);
    CHECK(dataset_open(c, path, &d) == OK && dataset_verify(c, d, false) == ERR_DATA);
    struct pair pair;
    CHECK(dataset_pair(d, 3, &pair) == ERR_DATA);
    CHECK(strstr(status_message()->text, "/pairs/split of pair 3 holds 9") != NULL);
    dataset_close(d);
}

static void test_views(struct comm *c, const char *folder) {
    char base[512], view[512], other[512], again[512];
    snprintf(base, sizeof base, "%s/base.h5", folder);
    snprintf(view, sizeof view, "%s/base.x y.h5", folder);
    snprintf(other, sizeof other, "%s/plain.h5", folder);
    snprintf(again, sizeof again, "%s/again.h5", folder);
    write_base(c, base);
    write_view(c, view, base, "x y", true);
    write_view(c, other, base, NULL, false);
    write_view(c, again, view, NULL, false);
    const struct {
        const char *path;
        int objective;
    } files[] = {{base, -1}, {view, 1}, {other, -1}, {again, 1}}; /* a view of a view is of its objective */
    for (int i = 0; i < COUNT_OF(files); i++) {
        struct dataset *d;
        CHECK(dataset_open(c, files[i].path, &d) == OK && dataset_verify(c, d, false) == OK);
        CHECK(dataset_facts(d)->n_objectives == OBJECTIVES);
        CHECK(strcmp(dataset_facts(d)->objectives[1], "x y") == 0);
        CHECK(dataset_objective(d) == files[i].objective);
        check_scores(d, files[i].objective);
        dataset_close(d);
    }
    struct dataset *d = NULL;
    CHECK(dataset_open_split(c, other, SPLIT_TEST, &d) == ERR_DATA && d == NULL);
    check_splits(c, view);
    check_damage(c, view);
    write_view(c, view, base, "nobody", true);
    CHECK(dataset_open(c, view, &d) == ERR_DATA);
    CHECK(strstr(status_message()->text, "objective \"nobody\"") != NULL);
}

int main(int argc, char **argv) {
    struct comm *c;
    char folder[64];
    if (comm_start(&argc, &argv, &c) != OK) {
        return 1;
    }
    world_folder(c, folder);
    test_views(c, folder);
    world_folder_remove(c, folder);
    comm_finish(c);
    return failures != 0;
}
