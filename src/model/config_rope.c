#include "model/config_rope.h"

#include <math.h>
#include <string.h>

#include "model/family.h"

static const struct {
    const char *name;
    enum rope_scaling scaling;
} scalings[] = {
    {"default", ROPE_DEFAULT}, {"linear", ROPE_LINEAR}, {"dynamic", ROPE_DYNAMIC},
    {"llama3", ROPE_LLAMA3},   {"yarn", ROPE_YARN},     {"longrope", ROPE_LONG},
};

static enum status take_kind(const json_t *rope, const char *where, struct model_config *c) {
    const char *name = NULL;
    bool is_long = c->family->long_from > 0;
    TRY(json_take_string(rope, "type", where, &name));
    TRY(json_take_string(rope, "rope_type", where, &name));
    if (is_long && name && (strcmp(name, "su") == 0 || strcmp(name, "yarn") == 0)) {
        name = "longrope"; /* its first names */
    }
    int found = 0;
    while (name && found < COUNT_OF(scalings) && strcmp(name, scalings[found].name) != 0) {
        found++;
    }
    if (found == COUNT_OF(scalings)) {
        return fail(
            ERR_DATA,
            "%s: rope type \"%s\" is not supported (default, linear, dynamic, llama3, yarn, longrope)", where,
            name);
    }
    c->rope.scaling = scalings[found].scaling;
    if (is_long && c->rope.scaling != ROPE_DEFAULT && c->rope.scaling != ROPE_LONG) {
        return fail(ERR_DATA, "%s: rope type \"%s\" is none that a model of %s has (default, longrope)",
                    where, name, c->family->type);
    }
    return OK;
}

/* A number for each pair of the dimensions that turn. */
static enum status take_factors(const json_t *rope, const char *key, const char *where,
                                const struct model_config *c, double out[ROPE_MOST_FACTORS]) {
    const json_t *list = json_object_get(rope, key);
    int pairs = c->rope.rotary_dim / 2;
    if (pairs > ROPE_MOST_FACTORS || (int)json_array_size(list) != pairs) {
        return fail(ERR_DATA, "%s: rope type longrope needs %d numbers in %s; there are %zu", where, pairs,
                    key, json_array_size(list));
    }
    for (int i = 0; i < pairs; i++) {
        const json_t *value = json_array_get(list, (size_t)i);
        out[i] = json_number_value(value);
        if (!json_is_number(value) || !(out[i] > 0 && isfinite(out[i]))) {
            return fail(ERR_DATA, "%s: %s[%d] is no positive number", where, key, i);
        }
    }
    return OK;
}

/* Of longrope: where the longer factors begin, and how much queries and keys grow. */
static enum status take_long(const json_t *rope, const char *where, struct model_config *c) {
    struct rope_config *r = &c->rope;
    double original = r->original_max_positions;
    if (!(original > 1 && original <= INT32_MAX && original == floor(original))) {
        return fail(ERR_DATA, "%s: original_max_position_embeddings is %g; expected a number of tokens",
                    where, original);
    }
    r->factor = r->factor == 0 ? (double)c->max_positions / original : r->factor;
    if (r->attention_factor == 0) {
        r->attention_factor = r->factor <= 1 ? 1 : sqrt(1 + log(r->factor) / log(original));
    }
    TRY(take_factors(rope, "short_factor", where, c, r->short_factors));
    return take_factors(rope, "long_factor", where, c, r->long_factors);
}

static enum status take_scaling(const json_t *json, const json_t *rope, const char *where,
                                struct model_config *c) {
    struct rope_config *r = &c->rope;
    TRY(take_kind(rope, where, c));
    r->original_max_positions = c->family->long_from > 0 ? c->family->long_from : (double)c->max_positions;
    TRY(json_take_number(rope, "factor", where, &r->factor));
    TRY(json_take_number(rope, "low_freq_factor", where, &r->low_freq_factor));
    TRY(json_take_number(rope, "high_freq_factor", where, &r->high_freq_factor));
    if (c->family->long_from == 0) { /* else transformers does not look there */
        TRY(json_take_number(rope, "original_max_position_embeddings", where, &r->original_max_positions));
    }
    TRY(json_take_number(json, "original_max_position_embeddings", where, &r->original_max_positions));
    TRY(json_take_number(rope, "beta_fast", where, &r->beta_fast));
    TRY(json_take_number(rope, "beta_slow", where, &r->beta_slow));
    TRY(json_take_number(rope, "attention_factor", where, &r->attention_factor));
    TRY(json_take_bool(rope, "truncate", where, &r->truncate));
    return OK;
}

static double yarn_scale(double factor, double m) {
    return factor <= 1 ? 1 : 0.1 * m * log(factor) + 1;
}

static enum status check_scaling(const json_t *rope, const char *where, struct model_config *c) {
    struct rope_config *r = &c->rope;
    double mscale = 0, mscale_all = 0;
    TRY(json_take_number(rope, "mscale", where, &mscale));
    TRY(json_take_number(rope, "mscale_all_dim", where, &mscale_all));
    if (r->scaling == ROPE_LONG) {
        TRY(take_long(rope, where, c));
    }
    if (r->scaling == ROPE_YARN && r->factor == 0 && r->original_max_positions > 0) {
        r->factor = (double)c->max_positions / r->original_max_positions;
    }
    double least = r->scaling == ROPE_LONG ? 1e-6 : 1;
    if (r->scaling != ROPE_DEFAULT && !(r->factor >= least && isfinite(r->factor))) {
        return fail(ERR_DATA, "%s: rope factor is %g; expected at least 1", where, r->factor);
    }
    if (r->scaling == ROPE_LLAMA3 && !(r->low_freq_factor > 0 && r->high_freq_factor > r->low_freq_factor &&
                                       r->original_max_positions > 0)) {
        return fail(ERR_DATA,
                    "%s: rope type llama3 needs low_freq_factor below high_freq_factor and "
                    "original_max_position_embeddings",
                    where);
    }
    if (r->scaling == ROPE_YARN &&
        !(r->beta_fast > 0 && r->beta_slow > 0 && r->original_max_positions > 0 && r->theta > 1)) {
        return fail(ERR_DATA,
                    "%s: rope type yarn needs positive beta_fast, beta_slow and "
                    "original_max_position_embeddings",
                    where);
    }
    if (r->scaling == ROPE_DYNAMIC && r->rotary_dim <= 2) {
        return fail(ERR_DATA, "%s: rope type dynamic needs more than 2 rotary dimensions", where);
    }
    if (r->scaling == ROPE_YARN && r->attention_factor == 0) {
        r->attention_factor = mscale != 0 && mscale_all != 0
                                  ? yarn_scale(r->factor, mscale) / yarn_scale(r->factor, mscale_all)
                                  : yarn_scale(r->factor, 1);
    }
    if (r->scaling >= ROPE_YARN && !(r->attention_factor > 0 && isfinite(r->attention_factor))) {
        return fail(ERR_DATA, "%s: rope attention_factor is %g; expected a positive number", where,
                    r->attention_factor);
    }
    return OK;
}

/* The scaling's object: rope_scaling (transformers 4), else rope_parameters; of a family whose layers differ,
 * the part of rope_parameters that is of the layers without a window. */
static enum status find_scaling(const json_t *json, const char *where, struct model_config *c,
                                const json_t **out) {
    const json_t *all = json_object_get(json, "rope_parameters"),
                 *full = json_object_get(all, "full_attention");
    const json_t *local = json_object_get(all, "sliding_attention"),
                 *old = json_object_get(json, "rope_scaling");
    bool differ = c->family->local_theta_key != NULL;
    if (!differ && json_is_object(full)) {
        return fail(ERR_DATA, "%s: rope parameters that differ between layers are not supported", where);
    }
    if (differ) {
        const char *type = "default";
        TRY(json_take_number(json, c->family->local_theta_key, where, &c->local_theta));
        TRY(json_take_number(local, "rope_theta", where, &c->local_theta));
        TRY(json_take_string(local, "rope_type", where, &type));
        TRY(json_take_number(full, "rope_theta", where, &c->rope.theta));
        if (strcmp(type, "default") != 0 || !(c->local_theta > 0 && isfinite(c->local_theta))) {
            return fail(ERR_DATA, "%s: layers with a window have rope type default and a positive theta",
                        where);
        }
    }
    bool has_old = json_is_object(old) && json_object_size(old) > 0;
    *out = has_old ? old : differ ? full : all;
    return OK;
}

enum status config_take_rope(const json_t *json, const char *where, struct model_config *c) {
    const struct family *f = c->family;
    const json_t *rope = NULL;
    double share = f->rotary_share;
    if (share == 0) {
        return OK;
    }
    struct rope_config *r = &c->rope;
    r->beta_fast = 32;
    r->beta_slow = 1;
    r->truncate = true;
    TRY(json_take_number(json, "rope_theta", where, &r->theta));
    TRY(json_take_number(json, f->theta_key, where, &r->theta));
    if (f->rotary_share_key) { /* the other families turn whole heads whatever config.json says */
        TRY(json_take_number(json, "partial_rotary_factor", where, &share));
        TRY(json_take_number(json, f->rotary_share_key, where, &share));
    }
    TRY(find_scaling(json, where, c, &rope));
    bool has_scaling = json_is_object(rope);
    if (has_scaling) {
        TRY(json_take_number(rope, "rope_theta", where, &r->theta));
        if (f->rotary_share_key) {
            TRY(json_take_number(rope, "partial_rotary_factor", where, &share));
        }
        TRY(take_scaling(json, rope, where, c));
    }
    if (!(r->theta > 0 && isfinite(r->theta)) || !(share > 0 && share <= 1)) {
        return fail(ERR_DATA, "%s: rope_theta %g or rotary share %g is out of range", where, r->theta, share);
    }
    r->rotary_dim = (int)((double)c->head_dim * share);
    if (r->rotary_dim < 2 || r->rotary_dim % 2) {
        return fail(ERR_DATA, "%s: %d rotary dimensions of a head of %lld; expected an even number", where,
                    r->rotary_dim, (long long)c->head_dim);
    }
    return check_scaling(rope, where, c);
}

int64_t model_positions(const struct model_config *c) {
    const struct rope_config *r = &c->rope;
    double scaled = 0;
    switch (r->scaling) {
    case ROPE_DYNAMIC:
        return 0; /* its base grows with the sequence */
    case ROPE_LINEAR:
        scaled = r->factor * (double)c->max_positions;
        break;
    case ROPE_YARN:
        scaled = r->factor * r->original_max_positions;
        break;
    case ROPE_DEFAULT:
    case ROPE_LLAMA3: /* their max_position_embeddings is what the scaling gives */
    case ROPE_LONG:
        break;
    }
    int64_t most = scaled < INT32_MAX ? (int64_t)scaled : INT32_MAX;
    return most > c->max_positions ? most : c->max_positions;
}

int64_t model_rope_break(const struct model_config *c) {
    const struct rope_config *r = &c->rope;
    return r->scaling == ROPE_DYNAMIC ? c->max_positions
           : r->scaling == ROPE_LONG  ? (int64_t)r->original_max_positions
                                      : INT64_MAX;
}

int config_set_missing(json_t *object, const char *key, json_t *value) {
    const json_t *old = json_object_get(object, key);
    if (old && !json_is_null(old)) {
        json_decref(value);
        return 0;
    }
    return json_object_set_new(object, key, value);
}

/* A share of the head that reads back as so many dimensions: readers cut the product to a whole number. */
static double rotary_share(const struct model_config *c) {
    double share = (double)c->rope.rotary_dim / (double)c->head_dim;
    bool falls_short = (int)((double)c->head_dim * share) < c->rope.rotary_dim;
    return falls_short ? nextafter(share, 1) : share;
}

static json_t *whole_if_exact(double v) {
    return v == floor(v) && fabs(v) < 0x1p53 ? json_integer((json_int_t)v) : json_real(v);
}

static json_t *list_of(const double *values, int n) {
    json_t *list = json_array();
    for (int i = 0; i < n; i++) {
        if (json_array_append_new(list, json_real(values[i])) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

int config_print_rope(const struct model_config *c, json_t *o) {
    const struct family *f = c->family;
    const struct rope_config *r = &c->rope;
    int bad = config_set_missing(o, f->theta_key, json_real(r->theta));
    if (f->rotary_share_key) {
        bad |= config_set_missing(o, f->rotary_share_key, json_real(rotary_share(c)));
    }
    if (f->local_theta_key) {
        bad |= config_set_missing(o, f->local_theta_key, json_real(c->local_theta));
    }
    if (r->scaling == ROPE_DEFAULT) {
        return bad;
    }
    const char *name = scalings[r->scaling].name;
    json_t *s = json_pack("{s:s, s:s, s:f}", "rope_type", name, "type", name, "factor", r->factor);
    if (s && r->scaling == ROPE_LLAMA3) {
        bad |= json_object_set_new(s, "low_freq_factor", json_real(r->low_freq_factor));
        bad |= json_object_set_new(s, "high_freq_factor", json_real(r->high_freq_factor));
    }
    if (s && r->scaling == ROPE_YARN) {
        bad |= json_object_set_new(s, "beta_fast", json_real(r->beta_fast));
        bad |= json_object_set_new(s, "beta_slow", json_real(r->beta_slow));
        bad |= json_object_set_new(s, "attention_factor", json_real(r->attention_factor));
        bad |= json_object_set_new(s, "truncate", json_boolean(r->truncate));
    }
    if (s && r->scaling == ROPE_LONG) {
        bad |= json_object_set_new(s, "attention_factor", json_real(r->attention_factor));
        bad |= json_object_set_new(s, "short_factor", list_of(r->short_factors, r->rotary_dim / 2));
        bad |= json_object_set_new(s, "long_factor", list_of(r->long_factors, r->rotary_dim / 2));
        bad |= config_set_missing(o, "original_max_position_embeddings",
                                  whole_if_exact(r->original_max_positions));
    }
    if (s && r->scaling >= ROPE_LLAMA3) {
        bad |= json_object_set_new(s, "original_max_position_embeddings",
                                   whole_if_exact(r->original_max_positions));
    }
    return bad | config_set_missing(o, "rope_scaling", s);
}
