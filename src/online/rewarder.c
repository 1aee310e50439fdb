#include "online/rewarder.h"

#include <math.h>
#include <string.h>

#include "online/reward_pattern.h"
#include "online/reward_program.h"
#include "util/mem.h"

enum kind { LENGTH, STOP, PATTERN, COMMAND };

struct rewarder {
    int n;
    enum kind kinds[REWARDER_COLUMNS];
    double weights[REWARDER_COLUMNS];
    struct reward_pattern *pattern;
    struct reward_program *program;
    double *scratch; /* of the program */
    int64_t capacity;
};

static enum status add_column(struct rewarder *r, enum kind kind, double weight) {
    if (!isfinite(weight)) {
        return fail(ERR_USAGE, "the weight of the reward \"%s\" is %g; it must be a number",
                    (const char *[]){"length", "stop", "pattern", "command"}[kind], weight);
    }
    r->kinds[r->n] = kind;
    r->weights[r->n++] = weight;
    return OK;
}

static bool is_given(const char *text) {
    return text && *text;
}

static enum status open_columns(const struct rewarder_options *o, struct rewarder *r) {
    TRY(o->length_weight != 0 ? add_column(r, LENGTH, o->length_weight) : OK);
    TRY(o->stop_weight != 0 ? add_column(r, STOP, o->stop_weight) : OK);
    if (is_given(o->pattern) || o->match != MATCH_FOUND) {
        TRY(reward_pattern_open(o->pattern ? o->pattern : "", o->match, &r->pattern));
        TRY(add_column(r, PATTERN, o->pattern_weight));
    }
    if (is_given(o->command)) {
        TRY(reward_program_open(o->command, o->timeout_s, o->rank, &r->program));
        TRY(add_column(r, COMMAND, o->command_weight));
    }
    return OK;
}

enum status rewarder_open(const struct rewarder_options *o, struct rewarder **out) {
    struct rewarder *r;
    if (is_given(o->command) && !(o->timeout_s > 0)) {
        return fail(ERR_USAGE, "online.reward_timeout_s is %g; it must be a positive number", o->timeout_s);
    }
    TRY(NEW_ARRAY(r, 1));
    enum status st = open_columns(o, r);
    if (st != OK) {
        rewarder_close(r);
        return st;
    }
    *out = r;
    return OK;
}

void rewarder_close(struct rewarder *r) {
    if (r) {
        reward_pattern_close(r->pattern);
        reward_program_close(r->program);
        mem_free(r->scratch);
        mem_free(r);
    }
}

int rewarder_columns(const struct rewarder *r) {
    return r->n;
}

const char *rewarder_name(const struct rewarder *r, int column) {
    static const char *const names[] = {"length", "stop", "pattern", "command"};
    return names[r->kinds[column]];
}

double rewarder_weight(const struct rewarder *r, int column) {
    return r->weights[column];
}

static enum status column_of(struct rewarder *r, enum kind kind, const struct rewarded *responses, int64_t i,
                             double *out) {
    switch (kind) {
    case LENGTH:
        *out = (double)responses[i].n_tokens;
        return OK;
    case STOP:
        *out = responses[i].is_stopped;
        return OK;
    case PATTERN:
        return reward_pattern_match(r->pattern, &responses[i], out);
    default:
        *out = r->scratch[i];
        return OK;
    }
}

enum status rewarder_run(struct rewarder *r, const struct rewarded *responses, int64_t n, double *out) {
    if (r->program) {
        TRY(GROW_ARRAY(r->scratch, r->capacity, n));
        TRY(reward_program_run(r->program, responses, n, r->scratch));
    }
    for (int64_t i = 0; i < n; i++) {
        for (int k = 0; k < r->n; k++) {
            TRY(column_of(r, r->kinds[k], responses, i, &out[i * r->n + k]));
        }
    }
    return OK;
}

enum status reward_sum(const struct rewarded *of, int columns, const char *const *names,
                       const double *weights, const double *values, double *out) {
    *out = 0;
    for (int k = 0; k < columns; k++) {
        if (!isfinite(values[k])) {
            return fail(ERR_DATA,
                        "row %lld, sample %d: the reward \"%s\" is %g, which is not a finite number",
                        (long long)of->row, (int)of->sample, names[k], values[k]);
        }
        *out += weights[k] * values[k];
    }
    return isfinite(*out) ? OK
                          : fail(ERR_DATA, "row %lld, sample %d: the sum of rewards is %g",
                                 (long long)of->row, (int)of->sample, *out);
}
