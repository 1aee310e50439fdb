#include "select/answers.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "data/question.h"
#include "io/jsonl.h"
#include "select/answers_internal.h"
#include "select/asked.h"
#include "util/hash.h"
#include "util/mem.h"

static enum status split_files(struct answers *a) {
    TRY(names_split(&a->files, a->options->answers));
    return a->files.n > 0 ? OK : fail(ERR_USAGE, "select.answers: no file is named");
}

static void count_fault(struct answers *a, enum answer_fault fault, const struct record *r) {
    struct fault_count *f = &a->faults[fault];
    if (f->n++ == 0) {
        f->file = r->file;
        f->line = r->line;
    }
}

/* Of a name or number; 0: there is none. */
static enum status annotator_of(const json_t *line, uint64_t *out) {
    const json_t *name = json_object_get(line, "annotator");
    *out = 0;
    if (!name || json_is_null(name)) {
        return OK;
    }
    char *text = json_dumps(name, JSON_ENCODE_ANY | JSON_SORT_KEYS);
    TRY(mem_ok(text));
    *out = hash_bytes(text, strlen(text), 1);
    *out += *out == 0;
    mem_free(text);
    return OK;
}

static bool preference_of(const json_t *line, struct question q, struct vote *v) {
    const char *text = json_string_value(json_object_get(line, "preference"));
    if (!text) {
        return false;
    }
    bool is_a = strcasecmp(text, "a") == 0;
    v->low_is_a = q.a < q.b;
    if (strcasecmp(text, "tie") == 0) {
        v->preference = PREFER_NEITHER;
        return true;
    }
    v->preference = is_a == v->low_is_a ? PREFER_LOW : PREFER_HIGH;
    return is_a || strcasecmp(text, "b") == 0;
}

static enum status add_answer(struct answers *a, const json_t *line, const struct record *r) {
    static const enum answer_fault faults[] = {[QUESTION_NO_ID] = ANSWER_NO_ID,
                                               [QUESTION_OTHER_DATA] = ANSWER_OTHER_DATA,
                                               [QUESTION_UNKNOWN] = ANSWER_UNKNOWN};
    const char *id = question_id(line);
    enum question_fault fault = QUESTION_NO_ID;
    struct question q;
    struct vote v = {.line = r->line, .file = r->file};
    TRY(id ? question_parse(a->data, id, &q, &fault) : OK);
    if (fault != QUESTION_FINE) {
        count_fault(a, faults[fault], r);
        return OK;
    }
    if (!preference_of(line, q, &v)) {
        count_fault(a, ANSWER_NO_PREFERENCE, r);
        return OK;
    }
    v.key = pair_key(q.a, q.b);
    TRY(annotator_of(line, &v.annotator));
    TRY(GROW_ARRAY(a->votes, a->capacity, a->n + 1));
    a->votes[a->n++] = v;
    return OK;
}

/* Local. This rank's lines. */
static enum status read_lines(struct answers *a, const struct records_input *in) {
    a->lines = records_count(in);
    for (int64_t i = 0; i < a->lines; i++) {
        struct record r = records_at(in, i);
        json_t *line;
        if (json_parse_record(r.data, r.len, "", &line) != OK) {
            status_clear();
            count_fault(a, ANSWER_NO_JSON, &r);
            continue;
        }
        enum status st = add_answer(a, line, &r);
        json_decref(line);
        TRY(st);
    }
    return OK;
}

/* Collective. Every rank gets the votes and counts of all. */
static enum status share(struct answers *a) {
    struct vote *votes = NULL;
    struct fault_count *faults = NULL;
    int64_t n, n_faults;
    TRY(comm_sum_i64(a->comm, &a->lines, 1));
    TRY(comm_gather_all(a->comm, a->votes, a->n, sizeof *votes, &votes, &n));
    mem_free(a->votes);
    a->votes = votes;
    a->n = n;
    TRY(comm_gather_all(a->comm, a->faults, ANSWER_FAULTS, sizeof *faults, &faults, &n_faults));
    memset(a->faults, 0, sizeof a->faults);
    for (int64_t i = 0; i < n_faults; i++) { /* lower ranks have earlier lines */
        struct fault_count *to = &a->faults[i % ANSWER_FAULTS];
        if (to->n == 0) {
            *to = faults[i];
        } else {
            to->n += faults[i].n;
        }
    }
    mem_free(faults);
    return OK;
}

/* Collective. */
static enum status read_answers(struct answers *a) {
    struct records_input *in;
    TRY(comm_agree(a->comm, split_files(a)));
    TRY(records_open(a->comm, a->files.list, a->files.n, &in));
    enum status st = comm_agree(a->comm, read_lines(a, in));
    records_close(in);
    TRY(st);
    TRY(share(a));
    return comm_agree(a->comm, answers_merge(a));
}

/* Collective. Each rank writes its part of the pairs. */
static enum status write_view(const struct answers *a) {
    struct comm *c = a->comm;
    struct range part = range_part(a->n_verdicts, c->rank, c->size);
    int64_t *chosen = NULL;
    int64_t *rejected = NULL;
    int8_t *label = NULL;
    enum status st = NEW_ARRAY(chosen, a->n_verdicts);
    st = st == OK ? NEW_ARRAY(rejected, a->n_verdicts) : st;
    st = st == OK ? NEW_ARRAY(label, a->n_verdicts) : st;
    st = comm_agree(c, st);
    for (int64_t i = part.first; i < part.last && st == OK; i++) {
        const struct verdict *v = &a->verdicts[i];
        enum preference p = verdict_of(v);
        chosen[i - part.first] = p == PREFER_HIGH ? v->key.high : v->key.low;
        rejected[i - part.first] = p == PREFER_HIGH ? v->key.low : v->key.high;
        label[i - part.first] = p != PREFER_NEITHER;
    }
    const struct view_pairs pairs = {
        .n = part.last - part.first, .chosen = chosen, .rejected = rejected, .label = label};
    if (st == OK) {
        st = dataset_write_view(c, a->options->output, a->options->data, &pairs, a->options->command);
    }
    mem_free(chosen);
    mem_free(rejected);
    mem_free(label);
    return st;
}

static void answers_free(struct answers *a) {
    names_free(&a->files);
    mem_free(a->votes);
    mem_free(a->verdicts);
    if (a->data) {
        dataset_close(a->data);
    }
}

enum status answers_run(const struct answers_options *options) {
    struct answers a = {.options = options, .comm = options->comm};
    enum status st = dataset_open(a.comm, options->data, &a.data);
    st = st == OK ? dataset_verify(a.comm, a.data, options->trust_data) : st;
    st = st == OK ? read_answers(&a) : st;
    st = st == OK ? answers_report(&a) : st;
    if (st == OK && *options->output) {
        st = write_view(&a);
    }
    answers_free(&a);
    return st;
}
