#include "few_shot/world.h"

#include <stdlib.h>
#include <string.h>

#include "data/comparisons.h"
#include "data/pair_key.h"
#include "data/sidecar.h"
#include "data/synth_pairs.h"
#include "util/hash.h"
#include "util/log.h"
#include "util/mem.h"
#include "util/rng.h"

void world_free(struct world *w) {
    mem_free(w->values);
    mem_free(w->a);
    mem_free(w->b);
    mem_free(w->first);
    mem_free(w->choices);
    mem_free(w->train);
    mem_free(w->test);
    mem_free(w->shown_train);
    mem_free(w->shown_test);
    *w = (struct world){0};
}

uint64_t world_hash(const struct world *w) {
    const int64_t sizes[] = {w->rows,    w->width,  w->pairs,         w->labels,
                             w->n_train, w->n_test, w->n_shown_train, w->n_shown_test};
    const struct {
        const void *data;
        int64_t bytes;
    } parts[] = {{sizes, sizeof sizes},
                 {w->values, w->rows * w->width * (int64_t)sizeof *w->values},
                 {w->a, w->pairs * (int64_t)sizeof *w->a},
                 {w->b, w->pairs * (int64_t)sizeof *w->b},
                 {w->choices, w->labels * w->pairs},
                 {w->train, w->n_train * (int64_t)sizeof *w->train},
                 {w->test, w->n_test * (int64_t)sizeof *w->test},
                 {w->shown_train, w->n_shown_train * (int64_t)sizeof *w->shown_train},
                 {w->shown_test, w->n_shown_test * (int64_t)sizeof *w->shown_test}};
    uint64_t hash = 0;
    for (int i = 0; i < COUNT_OF(parts); i++) {
        hash = hash_join(hash, hash_bytes(parts[i].data, (size_t)parts[i].bytes, 0));
    }
    return hash;
}

static enum status world_arrays(struct world *w) {
    int64_t values;
    TRY(size_mul(w->rows, w->width, "embeddings", &values));
    TRY(NEW_ARRAY(w->values, values));
    TRY(NEW_ARRAY(w->a, w->pairs));
    TRY(NEW_ARRAY(w->b, w->pairs));
    TRY(NEW_ARRAY(w->first, w->pairs));
    TRY(NEW_ARRAY(w->choices, w->labels * w->pairs));
    TRY(NEW_ARRAY(w->train, w->pairs));
    TRY(NEW_ARRAY(w->shown_train, w->pairs));
    TRY(NEW_ARRAY(w->shown_test, w->pairs));
    return NEW_ARRAY(w->test, w->pairs);
}

static void fill_synthetic(struct synth_pairs *source, struct world *w) {
    for (int64_t i = 0; i < w->pairs; i++) {
        struct synth_pair pair;
        synth_pairs_next(source, &pair);
        w->values[2 * i] = (float)pair.a;
        w->values[2 * i + 1] = (float)pair.b;
        w->a[i] = 2 * i;
        w->b[i] = 2 * i + 1;
        w->first[i] = i;
        for (int z = 0; z < SYNTH_USERS; z++) {
            w->choices[z * w->pairs + i] = (uint8_t)pair.choices[z];
        }
        if (pair.split == SYNTH_TRAIN) {
            w->train[w->n_train++] = i;
        } else if (pair.split == SYNTH_TEST) {
            w->test[w->n_test++] = i;
        }
    }
}

/* Of a split's n pairs: those on which the users differ stay, and *shown become a set of their number of
 * which a share does. The first ones are taken: the pairs are in no order. */
static void divide_split(const struct world *w, double share, int64_t *ids, int64_t *n, int64_t *shown,
                         int64_t *n_shown) {
    int64_t differ = 0;
    for (int64_t i = 0; i < *n; i++) {
        differ += w->choices[ids[i]] != w->choices[w->pairs + ids[i]];
    }
    int64_t left[2] = {(int64_t)((double)differ * (1 - share)), (int64_t)((double)differ * share)};
    int64_t kept = 0;
    for (int64_t i = 0; i < *n; i++) {
        bool is = w->choices[ids[i]] != w->choices[w->pairs + ids[i]];
        if (left[is] > 0) {
            left[is]--;
            shown[(*n_shown)++] = ids[i];
        }
        if (is) {
            ids[kept++] = ids[i];
        }
    }
    *n = kept;
}

enum status world_of_two_users(const struct world_options *o, struct world *out) {
    int64_t n = o->rows;
    struct synth_pairs *source;
    *out = (struct world){.rows = 2 * n, .width = 1, .pairs = n, .labels = SYNTH_USERS};
    TRY(NEW_ARRAY(source, 1));
    enum status st = synth_pairs_open(source, o->seed, n);
    st = st == OK ? world_arrays(out) : st;
    if (st == OK) {
        fill_synthetic(source, out);
    }
    if (st == OK && o->contexts_apart) {
        divide_split(out, o->context_conflicting, out->train, &out->n_train, out->shown_train,
                     &out->n_shown_train);
        divide_split(out, o->context_conflicting, out->test, &out->n_test, out->shown_test,
                     &out->n_shown_test);
    }
    synth_pairs_close(source);
    mem_free(source);
    return st;
}

/* A pair of responses and who prefers which: bit l of `has` says that label l has it, of `high` that it
 * prefers the higher id. */
struct judged {
    struct pair_key key;
    uint64_t has, high;
    int64_t first; /* row in label 0's file; -1: another's */
    int8_t split;
    bool is_shown; /* of a context */
};
enum { MOST_LABELS = 64, BLOCK = 4096 };

struct judgments {
    struct judged *pairs;
    int64_t count, capacity;
};

static enum status add_label(struct dataset *d, int label, struct judgments *j) {
    struct range all = {0, dataset_size(d).pairs};
    struct pair *block;
    int64_t labeled;
    TRY(labeled_need(d, &labeled));
    if (labeled < all.last) {
        log_root(LOG_WARN, "%s: %lld of %lld pairs have no label and are left out", dataset_path(d),
                 (long long)(all.last - labeled), (long long)all.last);
    }
    enum status st = NEW_ARRAY(block, BLOCK);
    for (int64_t first = 0; first < all.last && st == OK; first += BLOCK) {
        struct range rows = range_block(all, first, BLOCK);
        int64_t count = rows.last - rows.first;
        st = dataset_pairs(d, rows, block);
        st = st == OK ? GROW_ARRAY(j->pairs, j->capacity, j->count + count) : st;
        for (int64_t i = 0; i < count && st == OK; i++) {
            if (block[i].label != 1) {
                continue; /* a tie */
            }
            bool higher = block[i].chosen > block[i].rejected;
            j->pairs[j->count++] = (struct judged){.key = pair_key(block[i].chosen, block[i].rejected),
                                                   .first = label == 0 ? block[i].row : -1,
                                                   .has = (uint64_t)1 << label,
                                                   .high = (uint64_t)higher << label,
                                                   .split = block[i].split};
        }
    }
    mem_free(block);
    return st;
}

/* One entry a pair; pairs that some label lacks go. A label that has a pair twice: its first row counts where
 * they agree; a label that contradicts itself does not have the pair. */
static int64_t merge(struct judgments *j, int labels) {
    uint64_t all = labels == MOST_LABELS ? UINT64_MAX : ((uint64_t)1 << labels) - 1;
    int64_t kept = 0;
    int64_t dropped = 0;
    if (j->count > 0) {
        qsort(j->pairs, (size_t)j->count, sizeof *j->pairs, pair_key_order);
    }
    for (int64_t i = 0; i < j->count;) {
        struct judged pair = j->pairs[i];
        uint64_t torn = 0;
        for (i++; i < j->count && pair_key_order(&j->pairs[i], &pair) == 0; i++) {
            uint64_t both = pair.has & j->pairs[i].has;
            torn |= both & (pair.high ^ j->pairs[i].high);
            torn |= pair.split != j->pairs[i].split;
            pair.has |= j->pairs[i].has;
            pair.high |= j->pairs[i].high;
            pair.first = pair.first < 0 ? j->pairs[i].first : pair.first;
        }
        if (pair.has == all && !torn) {
            j->pairs[kept++] = pair;
        } else {
            dropped++;
        }
    }
    j->count = kept;
    return dropped;
}

/* Embeddings of the responses in pairs only: place[id] is a response's row, -1 for the others. */
static enum status read_values(struct sidecar *values, const int64_t *place, int64_t responses,
                               struct world *w) {
    for (int64_t first = 0; first < responses;) {
        int64_t last = first;
        while (last < responses && place[last] >= 0 && last - first < BLOCK) {
            last++; /* places of neighbors are neighbors */
        }
        if (last > first) {
            TRY(sidecar_read_values(values, first, last - first, w->values + place[first] * w->width));
        }
        first = last > first ? last : first + 1;
    }
    return OK;
}

/* Which split a pair is of: its file's, or its prompt's by a coin. */
static enum status split_pair(struct dataset *d, const struct world_options *o, const struct judged *pair,
                              enum data_split *out) {
    struct response response;
    *out = (enum data_split)pair->split;
    if (dataset_size(d).has_splits) {
        return OK;
    }
    TRY(dataset_response(d, pair->key.low, &response));
    struct rng split = rng_stream(o->split_seed, RNG_SELECT, response.prompt, -1);
    *out = rng_uniform(&split) < o->holdout ? SPLIT_TEST : SPLIT_TRAIN;
    return OK;
}

/* a and b in an order drawn by a coin, so that their place says nothing. */
static enum status place_pairs(struct dataset *d, const struct world_options *o, const struct judgments *j,
                               const int64_t *place, struct world *w) {
    for (int64_t i = 0; j->pairs && i < w->pairs; i++) {
        const struct judged *pair = &j->pairs[i];
        struct rng coin = rng_stream(o->split_seed, RNG_SELECT, pair->key.low, pair->key.high);
        bool swapped = rng_u32(&coin) & 1;
        w->a[i] = place[swapped ? pair->key.high : pair->key.low];
        w->b[i] = place[swapped ? pair->key.low : pair->key.high];
        w->first[i] = pair->first;
        for (int label = 0; label < w->labels; label++) {
            bool high = pair->high >> label & 1;
            w->choices[label * w->pairs + i] = high != swapped;
        }
        enum data_split split;
        TRY(split_pair(d, o, pair, &split));
        bool is_test = split == (o->split == SPLIT_ALL ? SPLIT_TEST : o->split);
        bool is_train = split == SPLIT_TRAIN;
        if (is_test) {
            *(pair->is_shown ? &w->shown_test[w->n_shown_test++] : &w->test[w->n_test++]) = i;
        }
        if (is_train) {
            *(pair->is_shown ? &w->shown_train[w->n_shown_train++] : &w->train[w->n_train++]) = i;
        }
    }
    return OK;
}

static enum status fill_files(struct dataset *d, const struct world_options *o, const struct judgments *j,
                              struct world *w) {
    int64_t responses = dataset_size(d).responses;
    struct sidecar *values = NULL;
    int64_t *place;
    enum status st = NEW_ARRAY(place, responses);
    TRY_TO(done, st);
    for (int64_t i = 0; i < j->count; i++) {
        place[j->pairs[i].key.low] = place[j->pairs[i].key.high] = 1;
    }
    for (int64_t i = 0; i < responses; i++) {
        place[i] = place[i] ? w->rows++ : -1;
    }
    TRY_TO(done, sidecar_open_values(o->embeddings, dataset_hash(d), responses, &values, NULL));
    w->width = sidecar_width(values);
    w->pairs = j->count;
    TRY_TO(done, world_arrays(w));
    TRY_TO(done, read_values(values, place, responses, w));
    st = place_pairs(d, o, j, place, w);
done:
    if (values) {
        enum status closed = sidecar_close(values);
        st = st == OK ? closed : st;
    }
    mem_free(place);
    return st;
}

struct files {
    struct dataset *all[MOST_LABELS];
    int count;
};

/* Collective. */
static enum status open_names(struct comm *c, const struct world_options *o, const struct names *names,
                              struct files *f) {
    TRY(names->n > 0 ? OK : fail(ERR_USAGE, "data: names no file"));
    TRY(names->n <= MOST_LABELS ? OK : fail(ERR_USAGE, "data: at most %d files", (int)MOST_LABELS));
    for (int i = 0; i < names->n; i++) {
        TRY(dataset_open(c, names->list[i], &f->all[f->count]));
        TRY(dataset_verify(c, f->all[f->count++], o->trust_data));
    }
    return OK;
}

/* Collective. */
static enum status open_files(struct comm *c, const struct world_options *o, const char *list,
                              struct files *f) {
    struct names names = {0};
    enum status st = comm_agree(c, names_split(&names, list));
    st = st == OK ? open_names(c, o, &names, f) : st;
    names_free(&names);
    TRY(st);
    bool has_splits = f->count > 0 && dataset_size(f->all[0]).has_splits;
    if (o->split != SPLIT_ALL && !has_splits) {
        return fail(ERR_DATA, "%s: its pairs are in no splits, so that split=%s names none",
                    dataset_path(f->all[0]), data_split_name(o->split));
    }
    for (int i = 1; i < f->count; i++) {
        if (dataset_size(f->all[i]).has_splits != has_splits) {
            return fail(ERR_DATA,
                        "%s: of the files of a few-shot model either all have splits or none; %s %s",
                        dataset_path(f->all[i]), dataset_path(f->all[0]), has_splits ? "has" : "has none");
        }
        if (dataset_hash(f->all[i]) != dataset_hash(f->all[0])) {
            return fail(ERR_DATA,
                        "%s: not the responses of %s; the files of a few-shot model are views of one",
                        dataset_path(f->all[i]), dataset_path(f->all[0]));
        }
    }
    return OK;
}

/* Collective. The judgments of a list of files, of which all have the same responses. */
static enum status read_files(struct comm *c, const struct world_options *o, const char *list,
                              struct files *files, struct judgments *j, int64_t *dropped) {
    enum status st = open_files(c, o, list, files);
    for (int i = 0; i < files->count && st == OK; i++) {
        st = add_label(files->all[i], i, j);
    }
    *dropped += st == OK ? merge(j, files->count) : 0;
    return comm_agree(c, st);
}

/* Local. Pairs of contexts behind those of targets. */
static enum status add_shown(const struct judgments *shown, struct judgments *j) {
    TRY(GROW_ARRAY(j->pairs, j->capacity, j->count + shown->count));
    for (int64_t i = 0; i < shown->count; i++) {
        j->pairs[j->count] = shown->pairs[i];
        j->pairs[j->count++].is_shown = true;
    }
    return OK;
}

/* Local. */
static enum status check_shown(const struct files *files, const struct files *shown) {
    if (shown->count != files->count) {
        return fail(ERR_USAGE, "few_shot.context_data: %d files, data has %d: one a label, in the same order",
                    shown->count, files->count);
    }
    if (dataset_hash(shown->all[0]) != dataset_hash(files->all[0]) ||
        dataset_size(shown->all[0]).has_splits != dataset_size(files->all[0]).has_splits) {
        return fail(ERR_DATA,
                    "few_shot.context_data: %s is not of the responses of %s, or only one of them has "
                    "splits",
                    dataset_path(shown->all[0]), dataset_path(files->all[0]));
    }
    return OK;
}

enum status world_of_files(struct comm *c, const struct world_options *o, struct world *out,
                           int64_t *dropped) {
    struct files files = {.count = 0};
    struct files shown = {.count = 0};
    struct judgments judgments = {0};
    struct judgments contexts = {0};
    *out = (struct world){0};
    *dropped = 0;
    enum status st = read_files(c, o, o->data, &files, &judgments, dropped);
    if (st == OK && o->context_data && *o->context_data) {
        st = read_files(c, o, o->context_data, &shown, &contexts, dropped);
        st = st == OK ? check_shown(&files, &shown) : st;
        st = st == OK ? add_shown(&contexts, &judgments) : st;
    }
    out->labels = files.count;
    st = st == OK ? fill_files(files.all[0], o, &judgments, out) : st;
    for (int i = 0; i < files.count; i++) {
        dataset_close(files.all[i]);
    }
    for (int i = 0; i < shown.count; i++) {
        dataset_close(shown.all[i]);
    }
    mem_free(judgments.pairs);
    mem_free(contexts.pairs);
    return comm_agree(c, st);
}
