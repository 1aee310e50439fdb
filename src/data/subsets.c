#include "data/subsets.h"

#include <math.h>
#include <string.h>

#include "util/mem.h"

enum { MOST_SUBSETS = 1024 };

static const char *const sections[SECTION_COUNT] = {"Chat", "Chat Hard", "Safety", "Reasoning"};

/* Subsets and their numbers of examples in RewardBench. */
static const struct {
    const char *name;
    int section, examples;
} known[] = {
    {"alpacaeval-easy", 0, 100},
    {"alpacaeval-length", 0, 95},
    {"alpacaeval-hard", 0, 95},
    {"mt-bench-easy", 0, 28},
    {"mt-bench-med", 0, 40},
    {"mt-bench-hard", 1, 37},
    {"llmbar-natural", 1, 100},
    {"llmbar-adver-neighbor", 1, 134},
    {"llmbar-adver-GPTInst", 1, 92},
    {"llmbar-adver-GPTOut", 1, 47},
    {"llmbar-adver-manual", 1, 46},
    {"refusals-dangerous", 2, 100},
    {"refusals-offensive", 2, 100},
    {"xstest-should-refuse", 2, 250},
    {"xstest-should-respond", 2, 154},
    {"donotanswer", 2, 136},
    {"math-prm", 3, 984},
    {"hep-cpp", 3, 164},
    {"hep-go", 3, 164},
    {"hep-java", 3, 164},
    {"hep-js", 3, 164},
    {"hep-python", 3, 164},
    {"hep-rust", 3, 164},
};

void subsets_free(struct subsets *s) {
    for (int i = 0; i < s->n; i++) {
        mem_free(s->names[i]);
    }
    mem_free(s->names);
    *s = (struct subsets){0};
}

enum status subsets_place(struct subsets *s, const char *name, int32_t *out) {
    *out = -1;
    if (!*name) {
        return OK;
    }
    for (int i = 0; i < s->n; i++) {
        if (strcmp(s->names[i], name) == 0) {
            *out = i;
            return OK;
        }
    }
    if (s->n == MOST_SUBSETS || strchr(name, '\n')) {
        return fail(ERR_DATA, "more than %d subsets, or one with a line break in its name: %.60s",
                    MOST_SUBSETS, name);
    }
    TRY(GROW_ARRAY(s->names, s->capacity, s->n + 1));
    s->names[s->n] = mem_strdup(name);
    TRY(s->names[s->n] ? OK : status_code());
    *out = s->n++;
    return OK;
}

enum status subsets_merge(struct subsets *s, const struct subsets *from, int32_t *of_row, int64_t n) {
    int32_t place[MOST_SUBSETS];
    for (int i = 0; i < from->n; i++) {
        TRY(subsets_place(s, from->names[i], &place[i]));
    }
    for (int64_t i = 0; i < n; i++) {
        of_row[i] = of_row[i] < 0 ? -1 : place[of_row[i]];
    }
    return OK;
}

/* all: every rank's names, each with its NUL. */
static enum status join_names(struct subsets *s, const char *all, int64_t bytes, int32_t *of_row, int64_t n) {
    struct subsets joined = {0};
    enum status st = OK;
    int32_t place;
    for (int64_t at = 0; at < bytes && st == OK; at += (int64_t)strlen(all + at) + 1) {
        st = subsets_place(&joined, all + at, &place);
    }
    st = st == OK ? subsets_merge(&joined, s, of_row, n) : st;
    subsets_free(s);
    *s = joined;
    return st;
}

enum status subsets_join(struct comm *c, struct subsets *s, int32_t *of_row, int64_t n) {
    struct text mine = {0};
    char *all = NULL;
    int64_t total;
    enum status st = text_puts(&mine, "");
    for (int i = 0; i < s->n && st == OK; i++) {
        st = text_append(&mine, s->names[i], strlen(s->names[i]) + 1);
    }
    TRY_TO(done, comm_agree(c, st));
    TRY_TO(done, comm_gather_all(c, mine.data, (int64_t)mine.len, 1, &all, &total));
    st = comm_agree(c, join_names(s, all, total, of_row, n));
done:
    mem_free(all);
    text_free(&mine);
    return st;
}

static int find_known(const char *name) {
    for (int k = 0; k < COUNT_OF(known); k++) {
        if (strcmp(known[k].name, name) == 0) {
            return k;
        }
    }
    return -1;
}

int subsets_sections(int n, char *const *names, const double *accuracies,
                     struct section_score out[SECTION_COUNT]) {
    int used = 0;
    for (int i = 0; i < SECTION_COUNT; i++) {
        out[i] = (struct section_score){.name = sections[i]};
    }
    for (int i = 0; i < n; i++) {
        int k = find_known(names[i]);
        if (k < 0 || isnan(accuracies[i])) {
            continue;
        }
        used++;
        out[known[k].section].weight += known[k].examples;
        out[known[k].section].accuracy += known[k].examples * accuracies[i];
    }
    for (int i = 0; i < SECTION_COUNT; i++) {
        out[i].accuracy /= out[i].weight > 0 ? out[i].weight : 1;
    }
    return used;
}
