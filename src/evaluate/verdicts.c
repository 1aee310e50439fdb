#include "evaluate/verdicts.h"

#include <math.h>
#include <string.h>

#include "io/file.h"
#include "util/hash.h"
#include "util/json.h"
#include "util/mem.h"

enum { MOST_SYSTEMS = 1000 };

void verdicts_free(struct verdicts *v) {
    for (int64_t i = 0; i < v->n_systems; i++) {
        mem_free(v->systems[i]);
    }
    mem_free(v->systems);
    mem_free(v->list);
    *v = (struct verdicts){0};
}

enum status verdicts_system(struct verdicts *v, const char *name, int32_t *out) {
    for (int64_t i = 0; i < v->n_systems; i++) {
        if (strcmp(v->systems[i], name) == 0) {
            *out = (int32_t)i;
            return OK;
        }
    }
    if (v->n_systems == MOST_SYSTEMS) {
        return fail(ERR_DATA, "judge: more than %d systems", MOST_SYSTEMS);
    }
    TRY(GROW_ARRAY(v->systems, v->systems_capacity, v->n_systems + 1));
    v->systems[v->n_systems] = mem_strndup(name, strlen(name));
    TRY(mem_ok(v->systems[v->n_systems]));
    *out = (int32_t)v->n_systems++;
    return OK;
}

enum status verdicts_add(struct verdicts *v, struct verdict verdict) {
    TRY(GROW_ARRAY(v->list, v->capacity, v->n + 1));
    v->list[v->n++] = verdict;
    return OK;
}

/* A file's records, one by one. */
struct records {
    const char *path;
    char where[600];
    json_t *array; /* of a file that is one; else lines of text */
    char *text, *at, *end;
    int64_t line, index;
};

static void records_end(struct records *r) {
    json_decref(r->array);
    mem_free(r->text);
}

static enum status records_begin(const char *path, struct records *out) {
    size_t n;
    *out = (struct records){.path = path};
    TRY(file_read(path, &out->text, &n));
    out->at = out->text;
    out->end = out->text + n;
    size_t blanks = strspn(out->text, " \t\r\n");
    return out->text[blanks] == '[' ? json_parse_record(out->text, n, path, &out->array) : OK;
}

/* *out: the next record, NULL at the end; the caller calls json_decref(). */
static enum status records_next(struct records *r, json_t **out) {
    *out = NULL;
    if (r->array) {
        *out = json_incref(json_array_get(r->array, (size_t)r->index));
        snprintf(r->where, sizeof r->where, "%s, record %lld", r->path, (long long)++r->index);
    }
    while (!r->array && r->at < r->end && !*out) {
        char *end = memchr(r->at, '\n', (size_t)(r->end - r->at));
        end = end ? end : r->end;
        snprintf(r->where, sizeof r->where, "%s, line %lld", r->path, (long long)++r->line);
        if (strspn(r->at, " \t\r") < (size_t)(end - r->at)) {
            TRY(json_parse_record(r->at, (size_t)(end - r->at), r->where, out));
        }
        r->at = end + (end < r->end);
    }
    if (*out && !json_is_object(*out)) {
        json_decref(*out);
        return fail(ERR_DATA, "%s: is no object", r->where);
    }
    return OK;
}

static int64_t characters(const char *text) {
    int64_t n = 0;
    for (; text && *text; text++) {
        n += ((unsigned char)*text & 0xc0) != 0x80;
    }
    return text ? n : -1;
}

/* A text that must be there. */
static enum status need(const json_t *object, const char *key, const char *where, const char **out) {
    *out = NULL;
    TRY(json_take_string(object, key, where, out));
    return *out ? OK : fail(ERR_DATA, "%s: \"%s\" is missing", where, key);
}

/* AlpacaEval's scale: 1 the first, 2 the second, 0 (older files) and 1.5 ties. */
static enum status add_annotation(struct verdicts *v, const json_t *record, const char *where) {
    const char *names[2];
    const char *outputs[2] = {NULL, NULL};
    const char *instruction;
    double preference = NAN;
    struct verdict verdict = {0};
    TRY(need(record, "instruction", where, &instruction));
    TRY(need(record, "generator_1", where, &names[0]));
    TRY(need(record, "generator_2", where, &names[1]));
    TRY(json_take_string(record, "output_1", where, &outputs[0]));
    TRY(json_take_string(record, "output_2", where, &outputs[1]));
    TRY(json_take_number(record, "preference", where, &preference));
    preference = preference == 0 ? 1.5 : preference == -1 ? NAN : preference;
    if (preference < 1 || preference > 2) {
        return fail(ERR_DATA, "%s: preference is %g, not 1 to 2 (or 0, a tie)", where, preference);
    }
    TRY(verdicts_system(v, names[0], &verdict.first));
    TRY(verdicts_system(v, names[1], &verdict.second));
    verdict.prompt = (int64_t)hash_bytes(instruction, strlen(instruction), 0);
    verdict.preference = preference - 1;
    verdict.length[0] = characters(outputs[0]);
    verdict.length[1] = characters(outputs[1]);
    return verdicts_add(v, verdict);
}

static enum status take_preference(const json_t *record, const char *where, double *out) {
    const json_t *value = json_object_get(record, "preference");
    const char *word = json_string_value(value);
    *out = json_is_number(value) ? json_number_value(value) : NAN;
    if (word) {
        *out = strcmp(word, "a") == 0 ? 0 : strcmp(word, "b") == 0 ? 1 : strcmp(word, "tie") == 0 ? 0.5 : NAN;
    }
    if ((value && !json_is_null(value) && isnan(*out)) || *out < 0 || *out > 1) {
        return fail(ERR_DATA, "%s: preference is neither \"a\", \"b\", \"tie\" nor a number from 0 to 1",
                    where);
    }
    return OK;
}

static enum status add_plain(struct verdicts *v, const json_t *record, const char *where) {
    const char *names[2];
    struct verdict verdict = {.prompt = -1, .length = {-1, -1}};
    TRY(json_take_int(record, "row", where, &verdict.prompt));
    TRY(need(record, "a", where, &names[0]));
    TRY(need(record, "b", where, &names[1]));
    TRY(take_preference(record, where, &verdict.preference));
    if (verdict.prompt < 0) {
        return fail(ERR_DATA, "%s: \"row\", the prompt's number, is missing", where);
    }
    TRY(verdicts_system(v, names[0], &verdict.first));
    TRY(verdicts_system(v, names[1], &verdict.second));
    return verdicts_add(v, verdict);
}

static enum status add_record(struct verdicts *v, const json_t *record, const char *where) {
    int64_t before = v->n;
    TRY(json_object_get(record, "generator_1") ? add_annotation(v, record, where)
                                               : add_plain(v, record, where));
    if (v->n > before && v->list[before].first == v->list[before].second) {
        return fail(ERR_DATA, "%s: both answers are of %s", where, v->systems[v->list[before].first]);
    }
    return OK;
}

/* Numbers the records of each pair of systems from `first` on, and leaves out those without a preference. */
static enum status number_records(struct verdicts *v, int64_t first) {
    int64_t *counts;
    int64_t kept = first;
    TRY(NEW_ARRAY(counts, v->n_systems * v->n_systems));
    for (int64_t i = first; i < v->n; i++) {
        struct verdict x = v->list[i];
        bool in_order = x.first < x.second;
        int64_t pair = in_order ? x.first * v->n_systems + x.second : x.second * v->n_systems + x.first;
        x.record = counts[pair]++;
        v->list[kept] = x;
        kept += !isnan(x.preference);
    }
    v->without += v->n - kept;
    v->n = kept;
    mem_free(counts);
    return OK;
}

enum status verdicts_read(const char *path, struct verdicts *v) {
    struct records records;
    json_t *record = NULL;
    int64_t before = v->n;
    enum status st = records_begin(path, &records);
    while (st == OK && (st = records_next(&records, &record)) == OK && record) {
        st = add_record(v, record, records.where);
        json_decref(record);
    }
    records_end(&records);
    TRY(st);
    TRY(v->n > before ? OK : fail(ERR_DATA, "%s: holds no verdict", path));
    return number_records(v, before);
}

struct answer {
    int64_t row, length;
    double reward;
};
struct answers {
    struct answer *list;
    int64_t n, capacity;
};

static enum status add_answer(struct answers *a, const json_t *record, const char *where) {
    struct answer answer = {.row = -1, .reward = NAN};
    const char *text;
    TRY(json_take_int(record, "row", where, &answer.row));
    TRY(json_take_number(record, "reward", where, &answer.reward));
    TRY(need(record, "response", where, &text));
    if (isnan(answer.reward)) {
        return fail(ERR_DATA,
                    "%s: the answer has no \"reward\"; generate writes it where reward_model is set", where);
    }
    if (answer.row < 0 || (a->n > 0 && answer.row <= a->list[a->n - 1].row)) {
        return fail(ERR_DATA, "%s: rows are not in order, or one has two answers", where);
    }
    answer.length = characters(text);
    TRY(GROW_ARRAY(a->list, a->capacity, a->n + 1));
    a->list[a->n++] = answer;
    return OK;
}

static enum status read_answers(const char *path, struct answers *out) {
    struct records records;
    json_t *record = NULL;
    enum status st = records_begin(path, &records);
    while (st == OK && (st = records_next(&records, &record)) == OK && record) {
        st = add_answer(out, record, records.where);
        json_decref(record);
    }
    records_end(&records);
    return st;
}

static enum status compare(const struct answers both[2], const int32_t systems[2], struct verdicts *v) {
    int64_t record = 0;
    for (int64_t i = 0, j = 0; i < both[0].n && j < both[1].n;) {
        const struct answer *a = &both[0].list[i];
        const struct answer *b = &both[1].list[j];
        if (a->row != b->row) {
            i += a->row < b->row;
            j += a->row > b->row;
            continue;
        }
        double preference = a->reward == b->reward ? 0.5 : b->reward > a->reward;
        TRY(verdicts_add(v, (struct verdict){.first = systems[0],
                                             .second = systems[1],
                                             .prompt = a->row,
                                             .record = record++,
                                             .preference = preference,
                                             .length = {a->length, b->length}}));
        i++;
        j++;
    }
    return OK;
}

enum status verdicts_from_rewards(const char *const paths[2], const char *const names[2],
                                  struct verdicts *v) {
    struct answers both[2] = {{0}};
    int32_t systems[2];
    int64_t before = v->n;
    enum status st = OK;
    for (int i = 0; i < 2 && st == OK; i++) {
        st = read_answers(paths[i], &both[i]);
        st = st == OK ? verdicts_system(v, names[i], &systems[i]) : st;
    }
    st = st == OK ? compare(both, systems, v) : st;
    if (st == OK && v->n == before) {
        st = fail(ERR_DATA, "%s and %s have no row in common", paths[0], paths[1]);
    }
    mem_free(both[0].list);
    mem_free(both[1].list);
    return st;
}
