#include "evaluate/verdicts.h"

#include <math.h>
#include <string.h>

#include "io/jsonl.h"
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
    mem_free(v->unjudged);
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
    struct verdict verdict = {.record = -1};
    TRY(need(record, "instruction", where, &instruction));
    TRY(need(record, "generator_1", where, &names[0]));
    TRY(need(record, "generator_2", where, &names[1]));
    TRY(json_take_string(record, "output_1", where, &outputs[0]));
    TRY(json_take_string(record, "output_2", where, &outputs[1]));
    TRY(json_take_int(record, "index", where, &verdict.record));
    TRY(json_take_number(record, "preference", where, &preference));
    preference = preference == 0 ? 1.5 : preference == -1 ? NAN : preference;
    if (preference < 1 || preference > 2) {
        return fail(ERR_DATA, "%s: preference is %g, not 1 to 2 (or 0, a tie)", where, preference);
    }
    TRY(verdicts_system(v, names[0], &verdict.first));
    TRY(verdicts_system(v, names[1], &verdict.second));
    verdict.prompt = (int64_t)hash_bytes(instruction, strlen(instruction), 0);
    verdict.preference = preference - 1;
    verdict.length[0] = reply_characters(outputs[0]);
    verdict.length[1] = reply_characters(outputs[1]);
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

/* What a judge that was asked in both orders said of b in each: "orders": [0.8, 0.6]; its answers' lengths.
 */
static enum status take_orders(const json_t *record, const char *where, struct verdict *v) {
    static const char *const lengths[2] = {"length_a", "length_b"};
    const json_t *orders = json_object_get(record, "orders");
    for (size_t i = 0; i < 2; i++) {
        const json_t *order = json_array_get(orders, i);
        TRY(json_take_int(record, lengths[i], where, &v->length[i]));
        v->in_order[i] = json_number_value(order);
        if (orders && (!json_is_number(order) || v->in_order[i] < 0 || v->in_order[i] > 1)) {
            return fail(ERR_DATA, "%s: \"orders\" is not two numbers from 0 to 1", where);
        }
    }
    v->both_orders = orders != NULL;
    return OK;
}

static enum status add_plain(struct verdicts *v, const json_t *record, const char *where) {
    const char *names[2];
    struct verdict verdict = {.prompt = -1, .record = -1, .length = {-1, -1}};
    TRY(json_take_int(record, "row", where, &verdict.prompt));
    TRY(take_orders(record, where, &verdict));
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

/* Numbers the records of each pair of systems from `first` on that have no number, and puts those without a
 * preference aside. */
static enum status number_records(struct verdicts *v, int64_t first) {
    int64_t *counts;
    int64_t kept = first;
    enum status st = OK;
    TRY(NEW_ARRAY(counts, v->n_systems * v->n_systems));
    for (int64_t i = first; i < v->n; i++) {
        struct verdict x = v->list[i];
        bool in_order = x.first < x.second;
        int64_t pair = in_order ? x.first * v->n_systems + x.second : x.second * v->n_systems + x.first;
        int64_t place = counts[pair]++;
        x.record = x.record < 0 ? place : x.record;
        if (isnan(x.preference)) {
            TRY_TO(done, GROW_ARRAY(v->unjudged, v->unjudged_capacity, v->n_unjudged + 1));
            v->unjudged[v->n_unjudged++] = x;
        } else {
            v->list[kept++] = x;
        }
    }
    v->n = kept;
done:
    mem_free(counts);
    return st;
}

enum status verdicts_read(const char *path, struct verdicts *v) {
    struct records_input *in;
    int64_t before = v->n;
    enum status st = OK;
    TRY(records_open_alone(path, &in));
    for (int64_t i = 0; i < records_count(in) && st == OK; i++) {
        char where[RECORDS_WHERE];
        json_t *record;
        st = records_parse(in, i, where, &record);
        st = st == OK ? add_record(v, record, where) : st;
        json_decref(record);
    }
    records_close(in);
    TRY(st);
    TRY(v->n > before ? OK : fail(ERR_DATA, "%s: holds no verdict", path));
    return number_records(v, before);
}

static enum status need_reward(const struct replies *r, const struct reply *reply) {
    return isnan(reply->reward)
               ? fail(ERR_DATA,
                      "%s, line %lld: the answer has no \"reward\"; generate writes it where reward_model is "
                      "set, or set model, which judges",
                      r->path, (long long)reply->line)
               : OK;
}

enum status verdicts_from_rewards(const struct replies *a, const struct replies *b, struct verdicts *v) {
    struct verdict verdict = {0};
    int64_t before = v->n;
    TRY(verdicts_system(v, a->name, &verdict.first));
    TRY(verdicts_system(v, b->name, &verdict.second));
    for (int64_t i = 0; i < a->n; i++) {
        const struct reply *x = &a->list[i];
        const struct reply *y = replies_find(b, x->key);
        TRY(need_reward(a, x));
        TRY(y ? need_reward(b, y) : OK);
        if (y) {
            verdict.prompt = x->key;
            verdict.preference = x->reward == y->reward ? 0.5 : y->reward > x->reward;
            verdict.length[0] = x->length;
            verdict.length[1] = y->length;
            TRY(verdicts_add(v, verdict));
            verdict.record++;
        }
    }
    return v->n > before ? OK : fail(ERR_DATA, "%s and %s have no prompt in common", a->path, b->path);
}
