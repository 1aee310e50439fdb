#include "data/sidecar.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "io/h5.h"
#include "util/hash.h"
#include "util/mem.h"

enum { SIDECAR_VERSION = 1 };

/* Columns by place in both kinds of file. MARK says whether a row is there: a count that is not negative, or
 * done. */
enum { MARK, VALUE, CHECK, TOKEN_HASH, TOKENS, TOKEN_CHECK, SIDECAR_COLUMNS };

static const struct array_spec reference_columns[SIDECAR_COLUMNS] = {
    [MARK] = {"/count", ARRAY_I32, 0, 0, 0, 0, false},
    [VALUE] = {"/sum", ARRAY_F64, 0, 0, 0, 0, false},
    [CHECK] = {"/check", ARRAY_U64, 0, 0, 0, 0, false},
    [TOKEN_HASH] = {"/token_hash", ARRAY_U64, 0, 0, 0, 0, false},
    [TOKENS] = {"/token_logp", ARRAY_F64, 0, 0, 0, 0, false},
    [TOKEN_CHECK] = {"/token_check", ARRAY_U64, 0, 0, 0, 0, false},
};
static const struct array_spec embedding_columns[SIDECAR_COLUMNS] = {
    [MARK] = {"/done", ARRAY_U8, 0, 0, 0, 0, false},
    [VALUE] = {"/values", ARRAY_F32, 0, 0, 0, 0, false},
    [CHECK] = {"/check", ARRAY_U64, 0, 0, 0, 0, false},
};

struct sidecar {
    struct h5_file *file;
    int64_t rows, width; /* width 0: reference sums */
    int64_t tokens;      /* 0: sums alone */
    bool is_shared;      /* opened by all ranks, for updates */
    struct h5_column *columns[SIDECAR_COLUMNS];
};

static const char *content_of(int64_t width) {
    return width > 0 ? "embeddings" : "reference";
}

enum status sidecar_path(const struct dataset *d, const struct sidecar_key *key, int64_t width,
                         struct text *out) {
    const char *path = width > 0 ? dataset_base_path(d) : dataset_path(d);
    uint64_t recipe = hash_bytes(key->recipe, strlen(key->recipe), 0);
    uint64_t compute = hash_bytes(key->compute, strlen(key->compute), 0);
    uint64_t name = hash_join(hash_join(key->model, width > 0 ? recipe : key->view), compute);
    char digits[17];
    if (width == 0 && strcmp(key->recipe, "logp") != 0) { /* the name of sums does not say so */
        name = hash_join(name, recipe);
    }
    hash_text(name, digits);
    size_t len = strlen(path) - (text_ends(path, ".h5") ? 3 : 0);
    return text_printf(out, "%.*s.%.8s.%s.h5", (int)len, path, digits, content_of(width));
}

/* The columns of such a file; returns how many. */
static int column_specs(const struct sidecar *s, struct array_spec specs[SIDECAR_COLUMNS]) {
    memcpy(specs, s->width > 0 ? embedding_columns : reference_columns, sizeof reference_columns);
    for (int i = 0; i < SIDECAR_COLUMNS; i++) {
        specs[i].rows = i == TOKENS ? s->tokens : s->rows;
    }
    specs[VALUE].width = s->width;
    return s->width > 0 ? TOKEN_HASH : s->tokens > 0 ? SIDECAR_COLUMNS : TOKENS;
}

/* Making and opening. */

/* Collective. Marks of rows that are all missing. */
static enum status write_marks(struct comm *c, struct h5_writer *w, const struct array_spec *spec) {
    struct range mine = range_part(spec->rows, c->rank, c->size);
    int64_t bytes = (mine.last - mine.first) * array_type_bytes(spec->type);
    char *marks = mem_calloc(bytes, 1);
    enum status st = comm_agree(c, marks ? OK : ERR_SYSTEM);
    if (st == OK && marks) {
        memset(marks, spec->type == ARRAY_I32 ? 0xff : 0, (size_t)bytes); /* -1, or not done */
        st = h5_write_array(w, spec, mine, marks, NULL);
    }
    mem_free(marks);
    return st;
}

/* Collective. */
static enum status write_key(struct h5_writer *w, const struct sidecar_key *key) {
    TRY(h5_put_u64(w, "model", key->model));
    TRY(h5_put_u64(w, "data", key->data));
    TRY(h5_put_u64(w, "view", key->view));
    TRY(h5_put_text(w, "compute", key->compute));
    return h5_put_text(w, "recipe", key->recipe);
}

/* Collective. */
static enum status create(struct comm *c, const char *path, const struct sidecar_key *key,
                          const struct sidecar *s) {
    struct h5_writer *w;
    struct array_spec specs[SIDECAR_COLUMNS];
    int n = column_specs(s, specs);
    TRY(h5_create(c, path, content_of(s->width), SIDECAR_VERSION, FILE_UPDATED, &w));
    enum status st = write_key(w, key);
    for (int i = 0; i < n && st == OK; i++) {
        struct range mine = range_part(specs[i].rows, c->rank, c->size);
        st = i == MARK ? write_marks(c, w, &specs[i]) : h5_write_array(w, &specs[i], mine, NULL, NULL);
    }
    return h5_finish(w, st);
}

static enum status compare_number(struct h5_file *f, const char *name, uint64_t wanted,
                                  struct text *differs) {
    uint64_t found;
    TRY(h5_get_u64(f, name, &found));
    if (found == wanted) {
        return OK;
    }
    return text_printf(differs, "%s%s (was %016llx, is %016llx)", differs->len ? ", " : "", name,
                       (unsigned long long)found, (unsigned long long)wanted);
}

static enum status compare_text(struct h5_file *f, const char *name, const char *wanted,
                                struct text *differs) {
    char *found = NULL;
    enum status st = h5_get_text(f, name, &found);
    if (st == OK && strcmp(found, wanted) != 0) {
        st = text_printf(differs, "%s%s (was %.64s, is %s)", differs->len ? ", " : "", name, found, wanted);
    }
    mem_free(found);
    return st;
}

/* A file that holds more than is wanted serves as well. */
static enum status compare_recipe(struct h5_file *f, const char *wanted, struct text *differs) {
    char *found = NULL;
    enum status st = h5_get_text(f, "recipe", &found);
    bool serves = st == OK && strcmp(wanted, "logp") == 0 && strcmp(found, "token logp") == 0;
    mem_free(found);
    return st == OK && !serves ? compare_text(f, "recipe", wanted, differs) : st;
}

static enum status compare_key(struct h5_file *f, const struct sidecar_key *key) {
    struct text differs = {0};
    enum status st;
    TRY_TO(done, compare_number(f, "model", key->model, &differs));
    TRY_TO(done, compare_number(f, "data", key->data, &differs));
    TRY_TO(done, compare_number(f, "view", key->view, &differs));
    TRY_TO(done, compare_text(f, "compute", key->compute, &differs));
    TRY_TO(done, compare_recipe(f, key->recipe, &differs));
    if (differs.len) {
        st = fail(ERR_DATA, "%s: was computed for something else: %s; remove it or name another file",
                  h5_path(f), differs.data);
    }
done:
    text_free(&differs);
    return st;
}

/* Local. */
static enum status open_columns(struct sidecar *s) {
    enum { CACHE_BYTES = 4 << 20 };
    struct array_spec specs[SIDECAR_COLUMNS];
    int n = column_specs(s, specs);
    for (int i = 0; i < n; i++) {
        TRY(h5_column_open(s->file, &specs[i], CACHE_BYTES, &s->columns[i]));
    }
    return OK;
}

/* Collective. An existing file, with the key that is wanted. */
static enum status open_existing(struct comm *c, const char *path, const struct sidecar_key *key,
                                 struct sidecar *s) {
    TRY(h5_open_shared(c, path, content_of(s->width), SIDECAR_VERSION, &s->file));
    enum status st = comm_agree(c, compare_key(s->file, key));
    if (st == OK) {
        st = comm_agree(c, open_columns(s));
    }
    if (st != OK) {
        h5_close(s->file);
        s->file = NULL;
    }
    return st;
}

/* Collective. shape: rows, width, tokens. */
static enum status open_or_create(struct comm *c, const char *path, const struct sidecar_key *key,
                                  const struct sidecar *shape, bool replace, struct sidecar **out) {
    struct sidecar *s = mem_calloc(1, sizeof *s);
    int64_t exists = c->rank == 0 && access(path, F_OK) == 0;
    enum status st = comm_agree(c, s ? OK : ERR_SYSTEM);
    if (st == OK) {
        st = comm_broadcast(c, 0, &exists, sizeof exists);
    }
    if (st != OK || !s) {
        mem_free(s);
        return st;
    }
    *s = *shape;
    s->is_shared = true;
    st = exists ? open_existing(c, path, key, s) : OK;
    if (!exists || (replace && st == ERR_DATA)) {
        st = create(c, path, key, s);
        if (st == OK) {
            st = open_existing(c, path, key, s);
        }
    }
    if (st != OK) {
        mem_free(s);
        return st;
    }
    *out = s;
    return OK;
}

enum status sidecar_open(struct comm *c, const char *path, const struct sidecar_key *key, int64_t rows,
                         int64_t width, bool replace, struct sidecar **out) {
    return open_or_create(c, path, key, &(struct sidecar){.rows = rows, .width = width}, replace, out);
}

enum status sidecar_open_tokens(struct comm *c, const char *path, const struct sidecar_key *key, int64_t rows,
                                int64_t tokens, bool replace, struct sidecar **out) {
    return open_or_create(c, path, key, &(struct sidecar){.rows = rows, .tokens = tokens}, replace, out);
}

/* Local. */
static enum status open_own(const char *path, const struct sidecar_key *key, struct sidecar *s) {
    TRY(h5_open(path, content_of(s->width), SIDECAR_VERSION, &s->file));
    TRY(compare_key(s->file, key));
    return open_columns(s);
}

enum status sidecar_open_read(struct comm *c, const char *path, const struct sidecar_key *key, int64_t rows,
                              int64_t width, int64_t tokens, struct sidecar **out) {
    struct sidecar *s = mem_calloc(1, sizeof *s);
    enum status st = s ? OK : ERR_SYSTEM;
    if (s) {
        *s = (struct sidecar){.rows = rows, .width = width, .tokens = tokens};
        st = open_own(path, key, s);
    }
    st = comm_agree(c, st);
    if (st != OK || !s) {
        sidecar_close(s);
        return st;
    }
    *out = s;
    return OK;
}

enum status sidecar_close(struct sidecar *s) {
    if (!s) {
        return OK;
    }
    enum status st = OK;
    if (s->is_shared) {
        st = h5_close_shared(s->file);
    } else {
        h5_close(s->file);
    }
    mem_free(s);
    return st;
}

static enum status read_key(struct h5_file *f, struct sidecar_key *key) {
    char *compute = NULL;
    char *recipe = NULL;
    enum status st;
    TRY_TO(done, h5_get_u64(f, "model", &key->model));
    TRY_TO(done, h5_get_u64(f, "data", &key->data));
    TRY_TO(done, h5_get_u64(f, "view", &key->view));
    TRY_TO(done, h5_get_text(f, "compute", &compute));
    TRY_TO(done, h5_get_text(f, "recipe", &recipe));
    snprintf(key->compute, sizeof key->compute, "%s", compute);
    snprintf(key->recipe, sizeof key->recipe, "%s", recipe);
done:
    mem_free(compute);
    mem_free(recipe);
    return st;
}

static enum status open_values(struct sidecar *s, uint64_t data, struct sidecar_key *key) {
    struct array_spec values = embedding_columns[VALUE];
    struct h5_column *any;
    values.rows = -1;
    values.width = -1;
    TRY(read_key(s->file, key));
    TRY(h5_column_open(s->file, &values, 1, &any));
    if (s->rows < 0) {
        s->rows = h5_rows(any);
        data = key->data;
    }
    if (key->data != data || h5_rows(any) != s->rows || h5_width(any) < 1) {
        return fail(ERR_DATA, "%s: holds the embeddings of other data; embed this file's responses",
                    h5_path(s->file));
    }
    s->width = h5_width(any);
    return open_columns(s);
}

enum status sidecar_open_values(const char *path, uint64_t data, int64_t rows, struct sidecar **out,
                                struct sidecar_key *key) {
    struct sidecar *s = mem_calloc(1, sizeof *s);
    struct sidecar_key found;
    TRY(mem_ok(s));
    s->rows = rows;
    enum status st = h5_open(path, content_of(1), SIDECAR_VERSION, &s->file);
    st = st == OK ? open_values(s, data, key ? key : &found) : st;
    if (st != OK) {
        h5_close(s->file);
        mem_free(s);
        return st;
    }
    *out = s;
    return OK;
}

int64_t sidecar_width(const struct sidecar *s) {
    return s->width;
}

bool sidecar_has_tokens(const struct sidecar *s) {
    return s->tokens > 0;
}

bool sidecar_is_final(const struct sidecar *s) {
    return !s->is_shared;
}

int64_t sidecar_rows(const struct sidecar *s) {
    return s->rows;
}

/* Rows. */

static uint64_t score_check(double sum, int32_t count, uint64_t token_hash) {
    struct {
        double sum;
        uint64_t token_hash;
        int64_t count;
    } row = {sum, token_hash, count};
    return hash_bytes(&row, sizeof row, 0);
}

static enum status damaged(const struct sidecar *s, int64_t row) {
    return fail(ERR_DATA, "%s: row %lld is damaged; remove the file to compute it again", h5_path(s->file),
                (long long)row);
}

enum status sidecar_read_reference(struct sidecar *s, const int64_t *ids, int64_t n, double *sum,
                                   int32_t *count, uint64_t *token_hash) {
    for (int64_t i = 0; i < n; i++) {
        uint64_t check;
        TRY(h5_read(s->columns[MARK], ids[i], 1, &count[i]));
        TRY(h5_read(s->columns[VALUE], ids[i], 1, &sum[i]));
        TRY(h5_read(s->columns[TOKEN_HASH], ids[i], 1, &token_hash[i]));
        TRY(h5_read(s->columns[CHECK], ids[i], 1, &check));
        if (count[i] < -1 || (count[i] >= 0 && check != score_check(sum[i], count[i], token_hash[i]))) {
            return damaged(s, ids[i]);
        }
    }
    return OK;
}

static enum status write_reference(struct sidecar *s, const int64_t *ids, int64_t n, const double *sum,
                                   const int32_t *count, const uint64_t *token_hash) {
    uint64_t *check;
    enum status st;
    TRY(NEW_ARRAY(check, n));
    for (int64_t i = 0; i < n; i++) {
        check[i] = score_check(sum[i], count[i], token_hash[i]);
    }
    TRY_TO(done, h5_update(s->columns[VALUE], ids, n, sum));
    TRY_TO(done, h5_update(s->columns[TOKEN_HASH], ids, n, token_hash));
    TRY_TO(done, h5_update(s->columns[CHECK], ids, n, check));
    TRY_TO(done, h5_update(s->columns[MARK], ids, n, count)); /* last: it says that the row is there */
done:
    mem_free(check);
    return st;
}

enum status sidecar_write_reference(struct sidecar *s, const int64_t *ids, int64_t n, const double *sum,
                                    const int32_t *count, const uint64_t *token_hash) {
    return h5_settle(s->file, write_reference(s, ids, n, sum, count, token_hash));
}

static uint64_t token_check(int64_t id, int32_t count, const double *logp) {
    return hash_bytes(logp, (size_t)count * sizeof *logp, (uint64_t)id);
}

enum status sidecar_read_tokens(struct sidecar *s, int64_t id, int64_t first, int32_t count, double *out) {
    uint64_t check;
    TRY(h5_read(s->columns[TOKENS], first, count, out));
    TRY(h5_read(s->columns[TOKEN_CHECK], id, 1, &check));
    return check == token_check(id, count, out) ? OK : damaged(s, id);
}

/* Local. */
static enum status write_tokens(struct sidecar *s, const int64_t *ids, int64_t n, const int64_t *first,
                                const int32_t *count, const double *logp) {
    int64_t *places = NULL;
    uint64_t *check = NULL;
    int64_t total = 0;
    enum status st;
    for (int64_t i = 0; i < n; i++) {
        total += count[i];
    }
    TRY_TO(done, NEW_ARRAY(places, total));
    TRY_TO(done, NEW_ARRAY(check, n));
    total = 0;
    for (int64_t i = 0; i < n; i++) {
        check[i] = token_check(ids[i], count[i], logp + total);
        for (int32_t t = 0; t < count[i]; t++) {
            places[total++] = first[i] + t;
        }
    }
    TRY_TO(done, h5_update(s->columns[TOKENS], places, total, logp));
    TRY_TO(done, h5_update(s->columns[TOKEN_CHECK], ids, n, check));
done:
    mem_free(places);
    mem_free(check);
    return st;
}

enum status sidecar_write_tokens(struct sidecar *s, const int64_t *ids, int64_t n, const int64_t *first,
                                 const int32_t *count, const double *logp) {
    return h5_settle(s->file, write_tokens(s, ids, n, first, count, logp));
}

enum status sidecar_done(struct sidecar *s, const int64_t *ids, int64_t n, bool *done) {
    for (int64_t i = 0; i < n; i++) {
        int32_t count = 0;
        uint8_t mark = 0;
        if (s->width > 0) {
            TRY(h5_read(s->columns[MARK], ids[i], 1, &mark));
        } else {
            TRY(h5_read(s->columns[MARK], ids[i], 1, &count));
        }
        done[i] = s->width > 0 ? mark == 1 : count >= 0;
    }
    return OK;
}

enum status sidecar_read_values(struct sidecar *s, int64_t first, int64_t n, float *out) {
    TRY(h5_read(s->columns[VALUE], first, n, out));
    for (int64_t i = 0; i < n; i++) {
        uint64_t check;
        int64_t row = first + i;
        bool done;
        TRY(sidecar_done(s, &row, 1, &done));
        if (!done) {
            return fail(ERR_DATA, "%s: row %lld is not computed yet; run the same command again to finish",
                        h5_path(s->file), (long long)row);
        }
        TRY(h5_read(s->columns[CHECK], row, 1, &check));
        if (check != hash_bytes(out + i * s->width, (size_t)s->width * sizeof *out, 0)) {
            return damaged(s, row);
        }
    }
    return OK;
}

static enum status write_values(struct sidecar *s, const int64_t *ids, int64_t n, const float *values) {
    uint64_t *check = NULL;
    uint8_t *marks = NULL;
    enum status st;
    TRY_TO(done, NEW_ARRAY(check, n));
    TRY_TO(done, NEW_ARRAY(marks, n));
    for (int64_t i = 0; i < n; i++) {
        check[i] = hash_bytes(values + i * s->width, (size_t)s->width * sizeof *values, 0);
        marks[i] = 1;
    }
    TRY_TO(done, h5_update(s->columns[VALUE], ids, n, values));
    TRY_TO(done, h5_update(s->columns[CHECK], ids, n, check));
    TRY_TO(done, h5_update(s->columns[MARK], ids, n, marks)); /* last: it says that the row is there */
done:
    mem_free(check);
    mem_free(marks);
    return st;
}

enum status sidecar_write_values(struct sidecar *s, const int64_t *ids, int64_t n, const float *values) {
    return h5_settle(s->file, write_values(s, ids, n, values));
}
