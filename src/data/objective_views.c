#include "data/objective_views.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "util/mem.h"
#include "util/rng.h"

_Static_assert((int)RECORD_OBJECTIVES_MAX <= (int)DATASET_OBJECTIVES_MAX,
               "names that are written can be read");

/* All ranks' pairs, responses by their numbers in the file. */
struct table {
    struct judged_pair *pairs;
    int64_t *prompts; /* of each */
    int8_t *splits;
    int64_t n;
};

/* A prompt's place in the order of texts. */
struct ordered_prompt {
    const char *text;
    int64_t len, prompt;
};

enum status objective_view_path(const char *output, const char *name, struct text *out) {
    size_t n = strlen(output) - (text_ends(output, ".h5") ? strlen(".h5") : 0);
    text_clear(out);
    return text_printf(out, "%.*s.%s.h5", (int)n, output, name ? name : MIXTURE_NAME);
}

static enum status check_name(const struct names *names, const char *name, size_t n) {
    if (n == 0 || n >= DATASET_OBJECTIVE_BYTES) {
        return fail(ERR_USAGE, "prepare.objectives: a name of %zu bytes; 1 to %d are possible", n,
                    DATASET_OBJECTIVE_BYTES - 1);
    }
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)name[i];
        if (c < ' ' || c == 0x7f || c == '/' || (c == '.' && i == 0)) {
            return fail(ERR_USAGE,
                        "prepare.objectives: \"%.*s\" cannot be in the name of a file (no slash, no control "
                        "characters, no dot in front); rename it in the records",
                        (int)n, name);
        }
    }
    if (n == strlen(MIXTURE_NAME) && memcmp(name, MIXTURE_NAME, n) == 0) {
        return fail(ERR_USAGE,
                    "prepare.objectives: " MIXTURE_NAME " is what all objectives together are called");
    }
    for (int i = 0; i < names->n; i++) {
        if (strlen(names->list[i]) == n && memcmp(names->list[i], name, n) == 0) {
            return fail(ERR_USAGE, "prepare.objectives: \"%.*s\" stands there twice", (int)n, name);
        }
    }
    return names->n < RECORD_OBJECTIVES_MAX
               ? OK
               : fail(ERR_USAGE, "prepare.objectives: more than %d names", RECORD_OBJECTIVES_MAX);
}

enum status objective_names_read(const char *list, struct names *out) {
    *out = (struct names){0};
    for (const char *at = list;; at++) {
        size_t n = strcspn(at, ",");
        TRY(check_name(out, at, n));
        TRY(names_add(out, at, n));
        at += n;
        if (*at == '\0') {
            return OK;
        }
    }
}

static void table_free(struct table *t) {
    mem_free(t->pairs);
    mem_free(t->prompts);
    mem_free(t->splits);
}

/* Collective. The table in the order of ranks. */
static enum status gather_table(struct comm *c, const struct prepared *p, struct table *t) {
    int64_t responses, prompts, total;
    struct judged_pair *mine = NULL;
    int64_t *own_prompts = NULL;
    enum status st;
    TRY(comm_scan_i64(c, p->rows.n_responses, &responses, &total));
    TRY(comm_scan_i64(c, p->rows.n_prompts, &prompts, &total));
    TRY_TO(done, NEW_ARRAY(mine, p->n_judged));
    TRY_TO(done, NEW_ARRAY(own_prompts, p->n_judged));
    for (int64_t i = 0; i < p->n_judged; i++) {
        mine[i] = p->judged[i];
        own_prompts[i] = prompts + mine[i].prompt;
        mine[i].a += responses;
        mine[i].b += responses;
    }
done:
    st = comm_agree(c, st);
    st = st == OK ? comm_gather_all(c, mine, p->n_judged, sizeof *mine, &t->pairs, &t->n) : st;
    st =
        st == OK ? comm_gather_all(c, own_prompts, p->n_judged, sizeof *own_prompts, &t->prompts, &t->n) : st;
    mem_free(mine);
    mem_free(own_prompts);
    return st;
}

/* As Python orders strings: by code points, which is UTF-8's order of bytes. */
static int by_text(const void *x, const void *y) {
    const struct ordered_prompt *a = x;
    const struct ordered_prompt *b = y;
    int64_t common = a->len < b->len ? a->len : b->len;
    int order = common > 0 ? memcmp(a->text, b->text, (size_t)common) : 0;
    if (order != 0 || a->len != b->len) {
        return order != 0 ? order : a->len < b->len ? -1 : 1;
    }
    return (a->prompt > b->prompt) - (a->prompt < b->prompt);
}

/* Local. place[prompt]: where its text stands in order. */
static enum status order_prompts(const char *texts, const int64_t *lengths, int64_t n, int64_t *place) {
    struct ordered_prompt *list;
    TRY(NEW_ARRAY(list, n));
    for (int64_t i = 0, at = 0; i < n; at += lengths[i++]) {
        list[i] = (struct ordered_prompt){.text = texts + at, .len = lengths[i], .prompt = i};
    }
    if (n > 0) {
        qsort(list, (size_t)n, sizeof *list, by_text);
    }
    for (int64_t i = 0; i < n; i++) {
        place[list[i].prompt] = i;
    }
    mem_free(list);
    return OK;
}

/* Local. Pairs by their prompts' places; those of a prompt stay in order. */
static enum status sort_table(struct table *t, const int64_t *place, int64_t prompts) {
    struct judged_pair *sorted = NULL;
    int64_t *first = NULL; /* pairs of prompts in front of a place */
    enum status st = NEW_ARRAY(sorted, t->n);
    st = st == OK ? NEW_ARRAY(first, prompts + 1) : st;
    for (int64_t i = 0; i < t->n && st == OK; i++) {
        first[place[t->prompts[i]] + 1]++;
    }
    for (int64_t i = 0; i < prompts && st == OK; i++) {
        first[i + 1] += first[i];
    }
    for (int64_t i = 0; i < t->n && st == OK; i++) {
        sorted[first[place[t->prompts[i]]]++] = t->pairs[i];
    }
    mem_free(first);
    if (st != OK) {
        mem_free(sorted);
        return st;
    }
    mem_free(t->pairs);
    t->pairs = sorted;
    return OK;
}

/* Collective. */
static enum status order_table(struct comm *c, const struct prepared *p, struct table *t) {
    int64_t n = p->n_keys;
    int64_t bytes, all;
    int64_t *lengths = NULL;
    int64_t *all_lengths = NULL;
    int64_t *place = NULL;
    char *texts = NULL;
    enum status st = comm_agree(c, NEW_ARRAY(lengths, n));
    TRY_TO(done, st);
    for (int64_t i = 0; i < n; i++) {
        lengths[i] = p->key_ends[i] - (i > 0 ? p->key_ends[i - 1] : 0);
    }
    TRY_TO(done, comm_gather_all(c, p->keys.data, (int64_t)p->keys.len, 1, &texts, &bytes));
    TRY_TO(done, comm_gather_all(c, lengths, n, sizeof *lengths, &all_lengths, &all));
    st = NEW_ARRAY(place, all);
    st = st == OK ? order_prompts(texts, all_lengths, all, place) : st;
    st = comm_agree(c, st == OK ? sort_table(t, place, all) : st);
done:
    mem_free(lengths);
    mem_free(texts);
    mem_free(all_lengths);
    mem_free(place);
    return st;
}

/* RandomState(seed).permutation(n) of pairs: the first `keep` of it, in its order. */
static enum status sample(uint32_t seed, struct judged_pair *pairs, int64_t n, int64_t keep,
                          struct judged_pair *out) {
    struct mt19937 *m;
    TRY(NEW_ARRAY(m, 1));
    mt_seed_numpy(m, seed);
    for (int64_t i = n - 1; i > 0; i--) {
        int64_t j = mt_numpy_below(m, (uint32_t)(i + 1));
        struct judged_pair at = pairs[i];
        pairs[i] = pairs[j];
        pairs[j] = at;
    }
    memmove(out, pairs, (size_t)keep * sizeof *out);
    mem_free(m);
    return OK;
}

static bool conflicts(const struct judged_pair *p, int objectives) {
    return p->high != 0 && p->high != ((uint32_t)1 << objectives) - 1;
}

/* Local. The first n of *pairs become those that are kept. */
static enum status take_share(const struct objective_views_options *o, struct table *t,
                              struct objective_views *out) {
    struct judged_pair *parts[2] = {NULL, NULL}; /* agreeing, conflicting */
    int64_t n[2] = {0, 0};
    enum status st = NEW_ARRAY(parts[0], t->n);
    st = st == OK ? NEW_ARRAY(parts[1], t->n) : st;
    for (int64_t i = 0; i < t->n && st == OK; i++) {
        bool is = conflicts(&t->pairs[i], o->names->n);
        parts[is][n[is]++] = t->pairs[i];
    }
    int64_t wanted[2] = {(int64_t)((double)n[1] * (1 - o->conflicting)),
                         (int64_t)((double)n[1] * o->conflicting)};
    t->n = 0;
    for (int is = 1; is >= 0 && st == OK; is--) {
        int64_t keep = wanted[is] < n[is] ? wanted[is] : n[is];
        struct judged_pair *to = t->pairs + t->n;
        if (keep == n[is]) {
            memcpy(to, parts[is], (size_t)keep * sizeof *to);
        } else {
            st = sample(o->seed, parts[is], n[is], keep, to);
        }
        t->n += keep;
        out->kept_conflicting += is ? keep : 0;
    }
    mem_free(parts[0]);
    mem_free(parts[1]);
    return st;
}

/* Local. The order, and the splits. */
static enum status deal(const struct objective_views_options *o, struct table *t,
                        struct objective_views *out) {
    struct mt19937 *m;
    TRY(sample(o->seed, t->pairs, t->n, t->n, t->pairs));
    TRY(NEW_ARRAY(t->splits, t->n));
    TRY(NEW_ARRAY(m, 1));
    mt_seed_numpy(m, o->seed);
    for (int64_t i = 0; i < o->draws_before; i++) {
        (void)mt_double(m);
    }
    for (int64_t i = 0; i < t->n; i++) {
        double u = mt_double(m);
        t->splits[i] = (int8_t)(SPLIT_TRAIN + (u >= 0.8) + (u >= 0.8 + 0.1));
        out->splits[t->splits[i]]++;
    }
    mem_free(m);
    return OK;
}

/* Local. */
static enum status choose(const struct objective_views_options *o, struct table *t,
                          struct objective_views *out) {
    out->judged = t->n;
    for (int64_t i = 0; i < t->n; i++) {
        out->conflicting += conflicts(&t->pairs[i], o->names->n);
    }
    if (t->n > UINT32_MAX) {
        return fail(ERR_DATA, "prepare.objectives: %lld pairs are more than NumPy's generator orders",
                    (long long)t->n);
    }
    if (o->conflicting >= 0) {
        TRY(take_share(o, t, out));
    } else {
        out->kept_conflicting = out->conflicting;
    }
    out->kept = t->n;
    if (t->n == 0) {
        return fail(ERR_DATA,
                    "prepare.objectives: of %lld pairs that all objectives judge, %lld conflict; with "
                    "prepare.conflicting=%g none is left (-1 takes all)",
                    (long long)out->judged, (long long)out->conflicting, o->conflicting);
    }
    return deal(o, t, out);
}

/* A rank's rows of a view. */
struct view_arrays {
    int64_t *chosen, *rejected, *source;
    int8_t *split;
};

static void fill_rows(const struct table *t, struct range rows, int objective, int objectives,
                      const struct view_arrays *to) {
    int64_t each = objective < 0 ? objectives : 1;
    for (int64_t row = rows.first; row < rows.last; row++) {
        const struct judged_pair *pair = &t->pairs[row / each];
        int bit = objective < 0 ? (int)(row % each) : objective;
        bool high = pair->high >> bit & 1;
        int64_t at = row - rows.first;
        to->chosen[at] = high ? pair->b : pair->a;
        to->rejected[at] = high ? pair->a : pair->b;
        to->source[at] = pair->source;
        to->split[at] = t->splits[row / each];
    }
}

/* Collective. objective -1: the mixture. */
static enum status write_one(const struct objective_views_options *o, const struct table *t, int objective) {
    struct comm *c = o->comm;
    int64_t each = objective < 0 ? o->names->n : 1;
    struct range rows = range_part(t->n * each, c->rank, c->size);
    const char *name = objective < 0 ? NULL : o->names->list[objective];
    struct view_arrays a = {0};
    struct text path = {0};
    enum status st = objective_view_path(o->output, name, &path);
    st = st == OK ? NEW_ARRAY(a.chosen, rows.last - rows.first) : st;
    st = st == OK ? NEW_ARRAY(a.rejected, rows.last - rows.first) : st;
    st = st == OK ? NEW_ARRAY(a.source, rows.last - rows.first) : st;
    st = comm_agree(c, st == OK ? NEW_ARRAY(a.split, rows.last - rows.first) : st);
    if (st == OK) {
        fill_rows(t, rows, objective, o->names->n, &a);
        const struct view_pairs pairs = {.n = rows.last - rows.first,
                                         .chosen = a.chosen,
                                         .rejected = a.rejected,
                                         .source = a.source,
                                         .split = o->splits ? a.split : NULL,
                                         .objective = name};
        st = dataset_write_view(c, path.data, o->output, &pairs, o->command);
    }
    mem_free(a.chosen);
    mem_free(a.rejected);
    mem_free(a.source);
    mem_free(a.split);
    text_free(&path);
    return st;
}

enum status objective_views_write(const struct objective_views_options *o, const struct prepared *prepared,
                                  struct objective_views *out) {
    struct table t = {0};
    *out = (struct objective_views){0};
    enum status st = gather_table(o->comm, prepared, &t);
    st = st == OK && o->by_prompt ? order_table(o->comm, prepared, &t) : st;
    st = comm_agree(o->comm, st == OK ? choose(o, &t, out) : st);
    for (int i = o->names->n > 1 ? -1 : 0; i < o->names->n && st == OK && !o->is_dry; i++) {
        st = write_one(o, &t, i);
    }
    table_free(&t);
    return st;
}
