#include "select/asked.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/question.h"
#include "io/h5.h"
#include "io/jsonl.h"
#include "util/mem.h"

enum { BLOCK = 1024 };

static enum status add(struct asked *a, int64_t response, int64_t other) {
    TRY(GROW_ARRAY(a->list, a->capacity, a->n + 1));
    a->list[a->n++] = pair_key(response, other);
    return OK;
}

static enum status add_pairs(struct dataset *view, struct asked *a) {
    struct range all = {0, dataset_size(view).pairs};
    struct pair pairs[BLOCK];
    for (int64_t first = 0; first < all.last; first += BLOCK) {
        struct range rows = range_block(all, first, BLOCK);
        TRY(dataset_pairs(view, rows, pairs));
        for (int64_t i = 0; i < rows.last - rows.first; i++) {
            TRY(add(a, pairs[i].chosen, pairs[i].rejected));
        }
    }
    return OK;
}

/* Collective. */
static enum status add_view(struct comm *c, const char *path, const struct dataset *d, struct asked *a) {
    struct dataset *view;
    TRY(dataset_open(c, path, &view));
    enum status st = dataset_hash(view) == dataset_hash(d)
                         ? add_pairs(view, a)
                         : fail(ERR_DATA, "select.exclude: %s selects from other data", path);
    dataset_close(view);
    return comm_agree(c, st);
}

static enum status add_line(const char *path, const struct record *r, struct dataset *d, struct asked *a) {
    char where[512];
    json_t *json;
    struct question q;
    enum question_fault fault;
    snprintf(where, sizeof where, "%s, line %lld", path, (long long)r->line);
    TRY(json_parse_record(r->data, r->len, where, &json));
    const char *id = question_id(json);
    enum status st = id ? question_parse(d, id, &q, &fault)
                        : fail(ERR_DATA, "select.exclude: %s: no \"id\" as exports have it", where);
    if (st == OK && fault != QUESTION_FINE) {
        st = fail(ERR_DATA, "select.exclude: %s: \"id\": \"%.60s\" is of other data than %s", where, id,
                  dataset_path(d));
    }
    st = st == OK ? add(a, q.a, q.b) : st;
    json_decref(json);
    return st;
}

/* Collective. Each rank reads its share of the lines; all get all. */
static enum status add_lines(struct comm *c, char *path, struct dataset *d, struct asked *a) {
    struct records_input *in;
    struct asked mine = {0};
    struct pair_key *all = NULL;
    int64_t n = 0;
    enum status st = OK;
    TRY(records_open(c, &path, 1, &in));
    for (int64_t i = 0; i < records_count(in) && st == OK; i++) {
        struct record r = records_at(in, i);
        st = add_line(path, &r, d, &mine);
    }
    records_close(in);
    st = comm_agree(c, st);
    st = st == OK ? comm_gather_all(c, mine.list, mine.n, sizeof *all, &all, &n) : st;
    mem_free(mine.list);
    TRY(st);
    st = GROW_ARRAY(a->list, a->capacity, a->n + n);
    if (st == OK && n > 0) {
        memcpy(a->list + a->n, all, (size_t)n * sizeof *all);
        a->n += n;
    }
    mem_free(all);
    return comm_agree(c, st);
}

/* Collective. A view is told by what stands in it. */
static enum status add_file(struct comm *c, char *path, struct dataset *d, struct asked *a) {
    char *content = NULL;
    int64_t is_view = c->rank == 0 && h5_content(path, &content) == OK;
    mem_free(content);
    status_clear();
    TRY(comm_max_i64(c, &is_view, 1));
    return is_view ? add_view(c, path, d, a) : add_lines(c, path, d, a);
}

static void sort(struct asked *a) {
    int64_t kept = 0;
    if (a->n > 0) {
        qsort(a->list, (size_t)a->n, sizeof *a->list, pair_key_order);
    }
    for (int64_t i = 0; i < a->n; i++) {
        if (i == 0 || pair_key_order(&a->list[i], &a->list[i - 1]) != 0) {
            a->list[kept++] = a->list[i];
        }
    }
    a->n = kept;
}

enum status asked_read(struct comm *c, const char *files, struct dataset *d, struct asked *out) {
    struct names names = {0};
    *out = (struct asked){0};
    enum status st = comm_agree(c, names_split(&names, files));
    for (int i = 0; i < names.n && st == OK; i++) {
        st = add_file(c, names.list[i], d, out);
    }
    names_free(&names);
    TRY(st);
    sort(out);
    return OK;
}

void asked_free(struct asked *a) {
    mem_free(a->list);
    *a = (struct asked){0};
}

bool asked_has(const struct asked *a, int64_t response, int64_t other) {
    struct pair_key key = pair_key(response, other);
    return a->n > 0 && bsearch(&key, a->list, (size_t)a->n, sizeof *a->list, pair_key_order);
}

/* The first key whose lower response is not below. */
static int64_t place(const struct asked *a, int64_t response) {
    int64_t low = 0;
    int64_t high = a->n;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (a->list[middle].low < response) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

const struct pair_key *asked_from(const struct asked *a, int64_t first, int64_t last, int64_t *n) {
    int64_t begin = place(a, first);
    *n = place(a, last) - begin;
    return a->n > 0 ? a->list + begin : NULL;
}
