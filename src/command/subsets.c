#include "command/subsets.h"

#include <string.h>

#include "io/jsonl.h"
#include "util/json.h"
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

/* This rank's records' subsets, each with its NUL. */
static enum status read_names(struct records_input *in, const char *path, struct text *out) {
    TRY(text_puts(out, ""));
    for (int64_t i = 0; i < records_count(in); i++) {
        struct record r = records_at(in, i);
        const char *name = "";
        json_t *object;
        TRY(json_parse(r.data, r.len, path, &object));
        enum status st = json_take_string(object, "subset", path, &name);
        st = st == OK ? text_append(out, name, strlen(name) + 1) : st;
        json_decref(object);
        TRY(st);
    }
    return OK;
}

static enum status place_of(struct subsets *s, const char *name, int64_t *capacity, int16_t *out) {
    for (*out = 0; *out < s->n; ++*out) {
        if (strcmp(s->names[*out], name) == 0) {
            return OK;
        }
    }
    if (s->n == MOST_SUBSETS) {
        return fail(ERR_DATA, "more than %d subsets", MOST_SUBSETS);
    }
    TRY(GROW_ARRAY(s->names, *capacity, s->n + 1));
    s->names[s->n] = mem_strdup(name);
    return mem_ok(s->names[s->n++]);
}

/* all: every record's name in order, n bytes. */
static enum status take_names(const char *all, int64_t n, struct subsets *out) {
    int64_t capacity = 0;
    for (int64_t at = 0; at < n; at++) {
        out->n_records += all[at] == '\0';
    }
    TRY(NEW_ARRAY(out->of_record, out->n_records));
    for (int64_t i = 0; i < out->n_records; i++, all += strlen(all) + 1) {
        out->of_record[i] = -1;
        TRY(*all ? place_of(out, all, &capacity, &out->of_record[i]) : OK);
    }
    return OK;
}

/* Collective. Every rank gets all ranks' names. */
static enum status gather_names(struct comm *c, const struct text *mine, struct subsets *out) {
    int64_t *counts = NULL;
    char *all = NULL;
    int64_t total = 0;
    enum status st;
    TRY_TO(done, comm_agree(c, NEW_ARRAY(counts, c->size)));
    TRY_TO(done, comm_gather_i64(c, (int64_t)mine->len, counts));
    for (int r = 0; r < c->size; r++) {
        total += counts[r];
    }
    TRY_TO(done, comm_agree(c, NEW_ARRAY(all, total)));
    TRY_TO(done, comm_gather_bytes(c, mine->data, (int64_t)mine->len, all, counts));
    st = comm_agree(c, take_names(all, total, out));
done:
    mem_free(counts);
    mem_free(all);
    return st;
}

enum status subsets_open(struct comm *c, const char *path, uint64_t source_hash, struct subsets *out) {
    struct records_input *in = NULL;
    struct text mine = {0};
    char *name = mem_strdup(path);
    enum status st;
    *out = (struct subsets){0};
    TRY_TO(done, comm_agree(c, mem_ok(name)));
    TRY_TO(done, records_open(c, &name, 1, &in));
    if (records_hash(in) != source_hash) {
        st = fail(ERR_DATA, "%s: is not the file that the data was prepared from", path);
        goto done;
    }
    TRY_TO(done, comm_agree(c, read_names(in, path, &mine)));
    TRY_TO(done, gather_names(c, &mine, out));
    if (out->n == 0) {
        st = fail(ERR_DATA, "%s: no record has a \"subset\"", path);
    }
done:
    if (in) {
        records_close(in);
    }
    text_free(&mine);
    mem_free(name);
    return st;
}

void subsets_close(struct subsets *s) {
    for (int i = 0; i < s->n; i++) {
        mem_free(s->names[i]);
    }
    mem_free(s->names);
    mem_free(s->of_record);
    *s = (struct subsets){0};
}

int subsets_find(const struct subsets *s, int64_t source) {
    return source >= 0 && source < s->n_records ? s->of_record[source] : -1;
}

static int find_known(const char *name) {
    for (int k = 0; k < COUNT_OF(known); k++) {
        if (strcmp(known[k].name, name) == 0) {
            return k;
        }
    }
    return -1;
}

int subsets_sections(const struct subsets *s, const double *accuracies,
                     struct section_score out[SECTION_COUNT]) {
    int unknown = 0;
    for (int i = 0; i < SECTION_COUNT; i++) {
        out[i] = (struct section_score){.name = sections[i]};
    }
    for (int i = 0; i < s->n; i++) {
        int k = find_known(s->names[i]);
        if (k < 0) {
            unknown++;
            continue;
        }
        out[known[k].section].weight += known[k].examples;
        out[known[k].section].accuracy += known[k].examples * accuracies[i];
    }
    for (int i = 0; i < SECTION_COUNT; i++) {
        out[i].accuracy /= out[i].weight > 0 ? out[i].weight : 1;
    }
    return unknown;
}
