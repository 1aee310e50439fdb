/* Checkpoints: written by this many ranks and read in other ranges, the newest whole one found, damage named,
 * and a full disk that costs neither the run nor the checkpoint before. */
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/file.h"
#include "store/checkpoint_file.h"
#include "tests/small_world.h"
#include "util/log.h"

enum { WEIGHTS = 700001, MOMENTS = 300, BIG = 1 << 19 }; /* several chunks, less than one, 4 MiB of doubles */

static float weight(int64_t i, int64_t step) {
    return (float)(i % 4093) * 0.37f + (float)step;
}
static double moment(int64_t i, int64_t step) {
    return 1.0 / (double)(i + 3) + (double)step;
}

/* Parts in an order that is not the ranks': rank r holds the part of rank r + 1. */
static struct range shifted_part(const struct comm *c, int64_t n) {
    return range_part(n, (c->rank + 1) % c->size, c->size);
}

static enum status write_step(struct comm *c, const char *path, int64_t step) {
    struct range a = shifted_part(c, WEIGHTS), b = range_part(MOMENTS, c->rank, c->size);
    struct shard_map map = shard_map_over(c, WEIGHTS);
    float *weights = world_array(a.last - a.first, 4);
    double *moments = world_array(b.last - b.first, 8);
    float *shares = world_array(shard_count(&map, c->rank), 4), *share = shares;
    char state[64];
    for (int64_t i = a.first; i < a.last; i++) {
        weights[i - a.first] = weight(i, step);
    }
    for (int64_t i = b.first; i < b.last; i++) {
        moments[i - b.first] = moment(i, step);
    }
    for (int64_t unit = 0; unit < shard_units(&map); unit++) {
        struct range r = shard_range(&map, unit, c->rank);
        for (int64_t i = r.first; i < r.last; i++) {
            *share++ = -weight(i, step);
        }
    }
    snprintf(state, sizeof state, "{\"step\": %lld, \"rank\": %d}", (long long)step, c->rank);
    const struct checkpoint_array arrays[] = {{"parameters", WEIGHTS, a, 4, weights, NULL},
                                              {"second", MOMENTS, b, 8, moments, NULL},
                                              {"shares", WEIGHTS, {0, 0}, 4, shares, &map},
                                              {"nothing", 0, {0, 0}, 4, NULL, NULL}};
    enum status st = checkpoint_file_write(c, path, state, arrays, COUNT_OF(arrays));
    mem_free(weights);
    mem_free(moments);
    mem_free(shares);
    return st;
}

/* What was written as shares is read as any range, and what was written as parts as shares. */
static void check_shares(struct comm *c, const char *path, int64_t step) {
    struct shard_map map = shard_map_over(c, WEIGHTS);
    struct range middle = {12345 * c->rank, 400000};
    float *shares = world_array(shard_count(&map, c->rank), 4), *range = world_array(WEIGHTS, 4);
    const struct checkpoint_array arrays[] = {{"shares", WEIGHTS, middle, 4, range, NULL},
                                              {"parameters", WEIGHTS, {0, 0}, 4, shares, &map}};
    int64_t wrong = 0;
    CHECK(checkpoint_file_read(c, path, arrays, 2) == OK);
    for (int64_t i = middle.first; i < middle.last; i++) {
        wrong += range[i - middle.first] != -weight(i, step);
    }
    const float *share = shares;
    for (int64_t unit = 0; unit < shard_units(&map); unit++) {
        struct range r = shard_range(&map, unit, c->rank);
        for (int64_t i = r.first; i < r.last; i++) {
            wrong += *share++ != weight(i, step);
        }
    }
    CHECK(wrong == 0);
    mem_free(shares);
    mem_free(range);
}

/* Any rank may want any range: all of it, a middle, nothing. */
static void check_step(struct comm *c, const char *path, int64_t step) {
    const struct range wanted[] = {{0, WEIGHTS}, {c->rank * 1000, c->rank * 1000 + 300000}, {5, 5}};
    float *weights = world_array(WEIGHTS, 4);
    double moments[MOMENTS];
    char *state = NULL;
    for (int k = 0; k < COUNT_OF(wanted); k++) {
        struct range a = wanted[(k + c->rank) % COUNT_OF(wanted)];
        const struct checkpoint_array arrays[] = {{"second", MOMENTS, {1, MOMENTS}, 8, moments, NULL},
                                                  {"parameters", WEIGHTS, a, 4, weights, NULL}};
        int64_t wrong = 0;
        CHECK(checkpoint_file_read(c, path, arrays, 2) == OK);
        for (int64_t i = a.first; i < a.last; i++) {
            wrong += weights[i - a.first] != weight(i, step);
        }
        for (int64_t i = 1; i < MOMENTS; i++) {
            wrong += moments[i - 1] != moment(i, step);
        }
        CHECK(wrong == 0);
    }
    char expected[64];
    snprintf(expected, sizeof expected, "{\"step\": %lld, \"rank\": 0}", (long long)step);
    CHECK(checkpoint_file_read_state(c, path, &state) == OK);
    CHECK(state && strcmp(state, expected) == 0);
    mem_free(state);
    mem_free(weights);
}

static void test_round_trip(struct comm *c, const char *folder) {
    char path[160];
    float few[10];
    snprintf(path, sizeof path, "%s/alone.h5", folder);
    CHECK(write_step(c, path, 7) == OK);
    check_step(c, path, 7);
    check_shares(c, path, 7);
    const struct checkpoint_array wrong_size = {"parameters", WEIGHTS - 1, {0, 10}, 4, few, NULL};
    const struct checkpoint_array wrong_type = {"second", MOMENTS, {0, 10}, 4, few, NULL};
    const struct checkpoint_array missing = {"third", MOMENTS, {0, 10}, 4, few, NULL};
    CHECK(checkpoint_file_read(c, path, &wrong_size, 1) == ERR_DATA);
    CHECK(checkpoint_file_read(c, path, &wrong_type, 1) == ERR_DATA);
    CHECK(checkpoint_file_read(c, path, &missing, 1) == ERR_DATA);
    CHECK(strstr(status_message()->text, "/arrays/third is missing"));
    const struct checkpoint_array gap = {"parameters", WEIGHTS, {0, 10}, 4,
                                         few,          NULL}; /* the same on every rank */
    snprintf(path, sizeof path, "%s/gap.h5", folder);
    CHECK(checkpoint_file_write(c, path, "{}", &gap, 1) == ERR_INTERNAL);
    CHECK(access(path, F_OK) != 0);
}

/* Flips one byte of a file at a share of its length. */
static void damage(const char *path, double at) {
    struct stat facts;
    FILE *file = fopen(path, "r+b");
    CHECK(file && stat(path, &facts) == 0);
    if (file) {
        long place = (long)((double)facts.st_size * at);
        CHECK(fseek(file, place, SEEK_SET) == 0);
        int byte = fgetc(file);
        CHECK(fseek(file, place, SEEK_SET) == 0 && fputc(byte ^ 0x40, file) != EOF);
        CHECK(fclose(file) == 0);
    }
}

static void expect_latest(struct comm *c, const char *run, int64_t expected) {
    char *path = NULL, name[200];
    int64_t step = -1;
    CHECK(checkpoint_latest(c, run, &path, &step) == OK);
    if (expected < 0) {
        CHECK(!path);
        return;
    }
    snprintf(name, sizeof name, "%s/checkpoints/step-%lld.h5", run, (long long)expected);
    CHECK(path && step == expected && strcmp(path, name) == 0);
    mem_free(path);
}

static void step_path(char *path, size_t size, const char *run, int64_t step) {
    snprintf(path, size, "%s/checkpoints/step-%lld.h5", run, (long long)step);
}

static void expect_latest_file(struct comm *c, const char *run, const char *expected) {
    char path[200], *text = NULL;
    size_t length;
    snprintf(path, sizeof path, "%s/checkpoints/latest", run);
    CHECK(file_read(path, &text, &length) == OK && strcmp(text, expected) == 0);
    mem_free(text);
    CHECK(comm_barrier(c) == OK);
}

static void test_latest(struct comm *c, const char *folder) {
    char path[200], run[96];
    snprintf(run, sizeof run, "%s/run", folder);
    snprintf(path, sizeof path, "%s/checkpoints", run);
    expect_latest(c, run, -1); /* no folder */
    CHECK(c->rank != 0 || folder_make(path) == OK);
    CHECK(comm_barrier(c) == OK);
    expect_latest(c, run, -1);
    CHECK(checkpoint_prune(c, run, 2) == OK);
    const int64_t steps[] = {20, 100, 9};
    for (int i = 0; i < 3; i++) {
        step_path(path, sizeof path, run, steps[i]);
        CHECK(write_step(c, path, steps[i]) == OK);
    }
    expect_latest(c, run, 100); /* by number, not by name or time */
    step_path(path, sizeof path, run, 100);
    if (c->rank == 0) {
        damage(path, 0.25);
    }
    CHECK(comm_barrier(c) == OK);
    float *all = world_array(WEIGHTS, 4);
    const struct checkpoint_array whole = {"parameters", WEIGHTS, {0, WEIGHTS}, 4, all, NULL};
    CHECK(checkpoint_file_read(c, path, &whole, 1) == ERR_DATA);
    CHECK(strstr(status_message()->text, "step-100.h5"));
    mem_free(all);
    expect_latest(c, run, 20);
    if (c->rank == 0) {
        CHECK(truncate(path, 100000) == 0);
        snprintf(path, sizeof path, "%s/checkpoints/step-500.h5", run);
        CHECK(file_write(path, "no HDF5", 7) == OK);
        snprintf(path, sizeof path, "%s/checkpoints/step-7x.h5", run);
        CHECK(file_write(path, "not ours", 8) == OK);
    }
    CHECK(comm_barrier(c) == OK);
    expect_latest(c, run, 20);
    CHECK(checkpoint_set_aside(c, run, 20) == OK); /* 500 and 100 count no more */
    expect_latest_file(c, run, "step-20.h5\n");
    CHECK(checkpoint_prune(c, run, 1) == OK); /* keeps 20 */
    step_path(path, sizeof path, run, 9);
    CHECK(access(path, F_OK) != 0);
    step_path(path, sizeof path, run, 100);
    CHECK(access(path, F_OK) != 0);
    snprintf(path, sizeof path, "%s/checkpoints/step-500.h5.damaged", run);
    CHECK(access(path, F_OK) == 0);
    step_path(path, sizeof path, run, 20);
    check_step(c, path, 20);
    expect_latest_file(c, run, "step-20.h5\n");
    snprintf(path, sizeof path, "%s/checkpoints/latest", run);
    CHECK(checkpoint_prune(c, run, 0) == OK && access(path, F_OK) != 0);
    expect_latest(c, run, -1);
}

/* Where none is whole, none is passed over in silence: an error that names them. */
static void test_all_damaged(struct comm *c, const char *folder) {
    char path[200], run[96], *found = NULL;
    int64_t step;
    snprintf(run, sizeof run, "%s/lost", folder);
    snprintf(path, sizeof path, "%s/checkpoints", run);
    CHECK(c->rank != 0 || folder_make(path) == OK);
    CHECK(comm_barrier(c) == OK);
    for (int64_t i = 3; i <= 4; i++) {
        step_path(path, sizeof path, run, i);
        CHECK(write_step(c, path, i) == OK);
        if (c->rank == 0) {
            damage(path, 0.25);
        }
    }
    CHECK(comm_barrier(c) == OK);
    CHECK(checkpoint_latest(c, run, &found, &step) == ERR_DATA && !found);
    CHECK(strstr(status_message()->text, "step-4.h5, step-3.h5"));
    CHECK(strstr(status_message()->text, "train.resume=never"));
}

/* A process of this host that has ended; its name is kept. */
static void name_of_dead(char out[PROCESS_NAME]) {
    int ends[2];
    CHECK(pipe(ends) == 0);
    pid_t child = fork();
    if (child == 0) {
        process_name(out);
        _exit(write(ends[1], out, PROCESS_NAME) == PROCESS_NAME ? 0 : 1);
    }
    CHECK(waitpid(child, NULL, 0) == child && read(ends[0], out, PROCESS_NAME) == PROCESS_NAME);
    close(ends[0]);
    close(ends[1]);
}

/* Only what the dead left goes: not what this process writes, nor one of another host, nor a stranger's. */
static void expect_sweep(const char *folder) {
    static const char taken_over[] = "far-12-0badcafe-77", elsewhere[] = "node-2-99-01234567-1f";
    char mine[PROCESS_NAME], dead[PROCESS_NAME], path[300];
    process_name(mine);
    name_of_dead(dead);
    CHECK(process_is_name(mine) && process_life(mine) == PROCESS_LIVES);
    CHECK(process_is_name(dead) && process_life(dead) == PROCESS_DEAD);
    CHECK(process_is_name(elsewhere) && process_life(elsewhere) == PROCESS_UNKNOWN);
    CHECK(!process_is_name("notes") && process_life("notes") == PROCESS_UNKNOWN);
    const struct {
        const char *owner, *name;
        bool goes;
    } files[] = {
        {"", "a.h5.tmp", true},
        {"", "latest.tmp", true},
        {"", "keep.h5", false},
        {"", ".tmp", false},
        {"", "notes.tmp", false},
        {dead, ".step-1.h5.tmp", true},
        {dead, ".h5", false},
        {mine, ".step-1.h5.tmp", false},
        {taken_over, ".x.json.tmp", true},
        {elsewhere, ".x.json.tmp", false},
    };
    int removed = 0, goes = 0;
    for (int i = 0; i < COUNT_OF(files); i++) {
        snprintf(path, sizeof path, "%s/%s%s", folder, files[i].owner, files[i].name);
        CHECK(file_write(path, "x", 1) == OK);
        goes += files[i].goes;
    }
    CHECK(folder_sweep(folder, taken_over, &removed) == OK && removed == goes);
    for (int i = 0; i < COUNT_OF(files); i++) {
        snprintf(path, sizeof path, "%s/%s%s", folder, files[i].owner, files[i].name);
        CHECK((access(path, F_OK) != 0) == files[i].goes);
    }
    snprintf(path, sizeof path, "%s/missing", folder);
    CHECK(folder_sweep(path, NULL, &removed) == OK && removed == goes);
}

static enum status write_big(struct comm *c, const char *path) {
    struct range part = range_part(BIG, c->rank, c->size);
    double *data = world_array(part.last - part.first, 8);
    for (int64_t i = part.first; i < part.last; i++) {
        data[i - part.first] = sqrt((double)i);
    }
    const struct checkpoint_array array = {"parameters", BIG, part, 8, data, NULL};
    enum status st = checkpoint_file_write(c, path, "{}", &array, 1);
    mem_free(data);
    return st;
}

static void test_full_disk(struct comm *c, const char *disk) {
    enum { SMALL = 1000 };
    struct text temporary = {0};
    char good[160], bad[160], state[] = "{\"step\": 1}";
    double few[SMALL] = {1, 2, 3}, back[SMALL] = {0};
    if (!world_tiny_disk(c, disk)) {
        return;
    }
    snprintf(good, sizeof good, "%s/step-1.h5", disk);
    snprintf(bad, sizeof bad, "%s/step-2.h5", disk);
    CHECK(file_temporary(bad, c->owner, &temporary) == OK);
    struct range all = {0, SMALL}, none = {0, 0};
    const struct checkpoint_array small = {"parameters", SMALL, c->rank == 0 ? all : none, 8, few, NULL};
    CHECK(checkpoint_file_write(c, good, state, &small, 1) == OK);
    CHECK(write_big(c, bad) == ERR_WRITE); /* on every rank, whichever could not write */
    CHECK(access(bad, F_OK) != 0 && access(temporary.data, F_OK) != 0);
    CHECK(comm_barrier(c) == OK);
    CHECK(write_big(c, good) == ERR_WRITE); /* over a good one: that stays */
    const struct checkpoint_array again = {"parameters", SMALL, all, 8, back, NULL};
    CHECK(checkpoint_file_read(c, good, &again, 1) == OK && memcmp(few, back, sizeof few) == 0);
    CHECK(comm_barrier(c) == OK);
    text_free(&temporary);
    world_tiny_disk_remove(c, disk);
}

int main(int argc, char **argv) {
    struct comm *c;
    char folder[64], disk[96];
    if (comm_start(&argc, &argv, &c) != OK) {
        return 1;
    }
    log_init(c->rank, c->size, LOG_ERROR); /* the warnings about damage are expected here */
    world_folder(c, folder);
    test_round_trip(c, folder);
    test_latest(c, folder);
    test_all_damaged(c, folder);
    if (c->rank == 0) {
        expect_sweep(folder);
    }
    snprintf(disk, sizeof disk, "%s/disk", folder);
    test_full_disk(c, disk);
    world_folder_remove(c, folder);
    comm_finish(c);
    return failures != 0;
}
