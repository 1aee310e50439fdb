/* HDF5 files: preference files, views, side-cars, checkpoints. An input that begins as HDF5 does is taken as
 * the file; that seldom gets past the library's checksums, so any other input is a list of edits through the
 * library: wrong numbers, lengths, types and attributes in a file that is sound as HDF5. */
#include <hdf5.h>
#include <stdio.h>
#include <string.h>

#include "data/sidecar.h"
#include "data/view.h"
#include "fuzz.h"
#include "io/file.h"
#include "store/checkpoint_file.h"
#include "tests/plan_costs.h"
#include "tests/small_world.h"

enum { PROMPTS = 12, VALUES = 40, WIDTH = 3, MOST = 4096 };
enum base { BASE_DATA, BASE_VIEW, BASE_REFERENCE, BASE_EMBEDDINGS, BASE_CHECKPOINT, BASES };

static const struct sidecar_key reference_key = {1, 2, 3, "fp32", "logp"};
static const struct sidecar_key embeddings_key = {1, 2, 3, "fp32", "mean response last"};
static const char *const base_names[] = {"data.h5", "view.h5", "reference.h5", "embeddings.h5",
                                         "checkpoint.h5"};
static struct {
    char *data;
    size_t size;
} bases[BASES];

static void make_sidecar(const char *name, const struct sidecar_key *key, int64_t width) {
    struct sidecar *s;
    int64_t ids[VALUES];
    double sums[VALUES];
    int32_t counts[VALUES];
    uint64_t hashes[VALUES];
    float values[VALUES * WIDTH];
    for (int i = 0; i < VALUES; i++) {
        ids[i] = i;
        sums[i] = -i;
        counts[i] = i;
        hashes[i] = (uint64_t)i * 77;
    }
    for (int i = 0; i < VALUES * WIDTH; i++) {
        values[i] = (float)i;
    }
    FUZZ_CHECK(sidecar_open(fuzz_comm(), fuzz_path(name), key, VALUES, width, true, &s) == OK);
    FUZZ_CHECK((width ? sidecar_write_values(s, ids, VALUES, values)
                      : sidecar_write_reference(s, ids, VALUES, sums, counts, hashes)) == OK);
    FUZZ_CHECK(sidecar_close(s) == OK);
}

static void make_bases(void) {
    struct comm *c = fuzz_comm();
    struct dataset_part part = world_part(0, PROMPTS);
    struct dataset_facts facts = world_facts();
    FUZZ_CHECK(dataset_write(c, fuzz_path("data.h5"), &part, &facts) == OK);
    const struct view_pairs pairs = {.n = part.n_pairs, .chosen = part.chosen, .rejected = part.rejected};
    FUZZ_CHECK(dataset_write_view(c, fuzz_path("view.h5"), fuzz_path("data.h5"), &pairs, "fuzz") == OK);
    world_part_free(&part);
    make_sidecar("reference.h5", &reference_key, 0);
    make_sidecar("embeddings.h5", &embeddings_key, WIDTH);
    float weights[VALUES] = {0};
    const struct checkpoint_array array = {"parameters", VALUES, {0, VALUES}, sizeof *weights, weights, NULL};
    FUZZ_CHECK(checkpoint_file_write(c, fuzz_path("checkpoint.h5"), "{\"step\": 3}", &array, 1) == OK);
    for (int b = 0; b < BASES; b++) {
        FUZZ_CHECK(file_read(fuzz_path(base_names[b]), &bases[b].data, &bases[b].size) == OK);
    }
}

/* Edits. */

struct edit {
    uint8_t target, operation;
    uint16_t position;
    int64_t value;
};

struct member_names {
    char list[48][64];
    int n;
};

static herr_t add_array(hid_t root, const char *name, const H5O_info_t *info, void *context) {
    struct member_names *names = context;
    (void)root;
    if (info->type == H5O_TYPE_DATASET && names->n < COUNT_OF(names->list)) {
        snprintf(names->list[names->n++], sizeof names->list[0], "%s", name);
    }
    return 0;
}

static herr_t add_attribute(hid_t root, const char *name, const H5A_info_t *info, void *context) {
    struct member_names *names = context;
    (void)root;
    (void)info;
    if (names->n < COUNT_OF(names->list)) {
        snprintf(names->list[names->n++], sizeof names->list[0], "%s", name);
    }
    return 0;
}

static void set_element(hid_t array, const struct edit *e) {
    static int64_t integers[MOST];
    static double reals[MOST];
    hid_t space = H5Dget_space(array), type = H5Dget_type(array);
    hssize_t n = H5Sget_simple_extent_npoints(space);
    bool is_real = H5Tget_class(type) == H5T_FLOAT;
    hid_t memory = is_real ? H5T_NATIVE_DOUBLE : H5T_NATIVE_INT64;
    void *all = is_real ? (void *)reals : (void *)integers;
    if (n > 0 && n <= MOST && H5Dread(array, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, all) >= 0) {
        integers[e->position % n] = is_real ? integers[e->position % n] : e->value;
        if (is_real) {
            memcpy(&reals[e->position % n], &e->value, sizeof e->value);
        }
        (void)H5Dwrite(array, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, all);
    }
    H5Tclose(type);
    H5Sclose(space);
}

static void make_another(hid_t file, const char *name, const struct edit *e) {
    const hid_t types[] = {H5T_STD_I8LE,  H5T_STD_I32LE,  H5T_STD_I64LE,
                           H5T_STD_U64LE, H5T_IEEE_F32LE, H5T_C_S1};
    const hsize_t sizes[] = {(hsize_t)(e->value & 127), (hsize_t)(1 + ((e->value >> 8) & 3)), 1};
    (void)H5Ldelete(file, name, H5P_DEFAULT);
    hid_t space = H5Screate_simple(1 + (e->position & 1), sizes, NULL);
    hid_t made = H5Dcreate2(file, name, types[(e->position >> 1) % COUNT_OF(types)], space, H5P_DEFAULT,
                            H5P_DEFAULT, H5P_DEFAULT);
    if (made >= 0) {
        H5Dclose(made);
    }
    H5Sclose(space);
}

static void edit_array(hid_t file, const char *name, const struct edit *e) {
    hid_t array = H5Dopen2(file, name, H5P_DEFAULT);
    if (array < 0) {
        return;
    }
    if (e->operation % 4 == 0) {
        set_element(array, e);
    } else if (e->operation % 4 == 1) {
        hsize_t extent[] = {(hsize_t)(e->value & 1023), WIDTH};
        (void)H5Dset_extent(array, extent);
    }
    H5Dclose(array);
    if (e->operation % 4 == 2) {
        (void)H5Ldelete(file, name, H5P_DEFAULT);
    } else if (e->operation % 4 == 3) {
        make_another(file, name, e);
    }
}

static void edit_attribute(hid_t file, const char *name, const struct edit *e) {
    hid_t attribute = H5Aopen(file, name, H5P_DEFAULT);
    hid_t type = attribute >= 0 ? H5Aget_type(attribute) : H5I_INVALID_HID;
    if (type >= 0 && e->operation % 4 == 2) {
        (void)H5Adelete(file, name);
    } else if (type >= 0 && H5Tget_class(type) == H5T_INTEGER) {
        (void)H5Awrite(attribute, H5T_NATIVE_INT64, &e->value);
    } else if (type >= 0 && H5Tget_size(type) <= MOST) {
        char text[MOST] = {0};
        (void)H5Aread(attribute, type, text);
        text[e->position % H5Tget_size(type)] = (char)e->value;
        (void)H5Awrite(attribute, type, text);
    }
    if (type >= 0) {
        H5Tclose(type);
    }
    if (attribute >= 0) {
        H5Aclose(attribute);
    }
}

static void edit_file(const char *path, const uint8_t *data, size_t size) {
    struct member_names arrays = {0}, attributes = {0};
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    FUZZ_CHECK(file >= 0);
    FUZZ_CHECK(H5Ovisit2(file, H5_INDEX_NAME, H5_ITER_INC, add_array, &arrays, H5O_INFO_BASIC) >= 0);
    FUZZ_CHECK(H5Aiterate2(file, H5_INDEX_NAME, H5_ITER_INC, NULL, add_attribute, &attributes) >= 0);
    for (size_t at = 0; at + 12 <= size && at < 12 * (size_t)16; at += 12) {
        struct edit e = {.target = data[at], .operation = data[at + 1]};
        memcpy(&e.position, data + at + 2, sizeof e.position);
        memcpy(&e.value, data + at + 4, sizeof e.value);
        if (e.operation & 4) {
            edit_attribute(file, attributes.list[e.target % attributes.n], &e);
        } else {
            edit_array(file, arrays.list[e.target % arrays.n], &e);
        }
    }
    FUZZ_CHECK(H5Fclose(file) >= 0);
}

/* Reading, as the program does. */

static void read_view(struct dataset *d, enum row_kind kind) {
    const struct truncation t = {.max_length = 24, .max_prompt = 9, .response_ratio = 0.5, .unit = CUT_CHARS};
    struct truncation plain = t;
    plain.unit = CUT_TOKENS;
    struct view *v;
    enum status st = view_open(d, kind, dataset_size(d).has_token_chars ? &t : &plain, &v);
    if (!fuzz_fine(st, ERR_DATA)) {
        return;
    }
    int64_t n = view_rows(v) < 50 ? view_rows(v) : 50;
    struct cut_counts counts = {0};
    for (int64_t row = 0; row < n; row++) {
        struct sample *s;
        int32_t cost;
        fuzz_fine(view_costs(v, &row, 1, &cost), ERR_DATA);
        if (fuzz_fine(view_read(v, &row, 1, &s, &counts), ERR_DATA)) {
            for (int i = 0; i < s->n_responses; i++) {
                for (int32_t k = 0; k < s->responses[i].count; k++) {
                    FUZZ_CHECK(s->responses[i].tokens[k] >= 0 &&
                               s->responses[i].tokens[k] < dataset_facts(d)->vocabulary);
                }
            }
            for (int i = 0; i < s->n_pairs; i++) {
                FUZZ_CHECK(s->pairs[i].chosen >= 0 && s->pairs[i].chosen < s->n_responses);
                FUZZ_CHECK(s->pairs[i].rejected >= 0 && s->pairs[i].rejected < s->n_responses);
            }
            samples_free(s);
        }
    }
    view_close(v);
}

static void read_data(const char *path) {
    struct dataset *d;
    enum status st = dataset_open(fuzz_comm(), path, &d);
    if (st == ERR_INPUT || !fuzz_fine(st, ERR_DATA)) { /* ERR_INPUT: what a view selects from is not there */
        return;
    }
    for (int kind = ROWS_PAIRS; kind <= ROWS_BARE; kind++) {
        read_view(d, (enum row_kind)kind);
    }
    dataset_close(d);
}

static void read_sidecars(const char *path) {
    struct sidecar *s;
    if (!fuzz_fine(sidecar_open_values(path, embeddings_key.data, -1, &s, NULL), ERR_DATA)) {
        return;
    }
    int64_t width = sidecar_width(s);
    static float row[MOST];
    for (int64_t i = 0; i < sidecar_rows(s) && i < 100 && width <= MOST; i++) {
        fuzz_fine(sidecar_read_values(s, i, 1, row), ERR_DATA);
    }
    FUZZ_CHECK(sidecar_close(s) == OK);
}

static void read_reference(const char *path) {
    struct sidecar *s;
    if (!fuzz_fine(sidecar_open(fuzz_comm(), path, &reference_key, VALUES, 0, false, &s), ERR_DATA)) {
        return;
    }
    for (int64_t i = 0; i < VALUES; i++) {
        double sum;
        int32_t count;
        uint64_t hash;
        fuzz_fine(sidecar_read_reference(s, &i, 1, &sum, &count, &hash), ERR_DATA);
    }
    FUZZ_CHECK(sidecar_close(s) == OK);
}

static void read_checkpoint(const char *path) {
    char *state;
    int64_t elements;
    float weights[VALUES];
    const struct checkpoint_array array = {"parameters", VALUES, {0, VALUES}, sizeof *weights, weights, NULL};
    if (fuzz_fine(checkpoint_file_read_state(fuzz_comm(), path, &state), ERR_DATA)) {
        mem_free(state);
    }
    fuzz_fine(checkpoint_file_elements(path, "parameters", &elements), ERR_DATA);
    fuzz_fine(checkpoint_file_read(fuzz_comm(), path, &array, 1), ERR_DATA);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char magic[] = "\x89HDF";
    char path[512];
    if (!bases[0].data) {
        make_bases();
    }
    snprintf(path, sizeof path, "%s", fuzz_path("x.h5"));
    if (size >= 4 && memcmp(data, magic, 4) == 0) {
        fuzz_put("x.h5", data, size);
        read_data(path);
        read_sidecars(path);
        read_checkpoint(path);
        return 0;
    }
    if (size > 0) {
        enum base base = data[0] % BASES;
        fuzz_put("x.h5", bases[base].data, bases[base].size);
        edit_file(path, data + 1, size - 1);
        void (*const read[])(const char *) = {read_data, read_data, read_reference, read_sidecars,
                                              read_checkpoint};
        read[base](path);
    }
    return 0;
}
