/* layers_to_transform and layers_pattern of adapter_config.json, as PEFT reads them (tuners_utils.py,
 * check_target_module_exists): a module that target_modules names by its end is taken where its block's
 * number is in the list; the number stands behind the last part of its name that fits a pattern, without
 * patterns behind any part. Modules that are named whole are taken in any case. */
#include <stdlib.h>
#include <string.h>

#include "store/adapter_config.h"

static bool is_empty(const json_t *value) {
    return !value || json_is_null(value) || (json_is_array(value) && json_array_size(value) == 0) ||
           (json_is_string(value) && json_string_length(value) == 0);
}

static bool is_block(const json_t *value) {
    return json_is_integer(value) && json_integer_value(value) >= 0;
}

/* One of the kind, or a list of them. */
static bool holds_only(const json_t *value, bool (*is_kind)(const json_t *value)) {
    size_t n = json_array_size(value);
    for (size_t i = 0; i < n; i++) {
        if (!is_kind(json_array_get(value, i))) {
            return false;
        }
    }
    return json_is_array(value) || is_kind(value);
}

static bool is_text(const json_t *value) {
    return json_is_string(value);
}

enum status adapter_layers_check(const json_t *config, const char *where) {
    const json_t *layers = json_object_get(config, "layers_to_transform");
    const json_t *patterns = json_object_get(config, "layers_pattern");
    if (is_empty(layers)) {
        return is_empty(patterns)
                   ? OK
                   : fail(ERR_DATA, "%s: \"layers_pattern\" without \"layers_to_transform\"", where);
    }
    if (!holds_only(layers, is_block)) {
        return fail(ERR_DATA, "%s: \"layers_to_transform\" is neither a block's number nor a list of them",
                    where);
    }
    if (json_is_string(json_object_get(config, "target_modules"))) {
        return fail(ERR_DATA,
                    "%s: \"layers_to_transform\" goes with a list of names in \"target_modules\" only",
                    where);
    }
    return is_empty(patterns) || holds_only(patterns, is_text)
               ? OK
               : fail(ERR_DATA, "%s: \"layers_pattern\" is neither text nor a list of texts", where);
}

static bool has_block(const json_t *layers, int64_t block) {
    if (!json_is_array(layers)) {
        return json_integer_value(layers) == block;
    }
    for (size_t i = 0; i < json_array_size(layers); i++) {
        if (json_integer_value(json_array_get(layers, i)) == block) {
            return true;
        }
    }
    return false;
}

/* -1: its name has none. */
static enum status find_block(const json_t *patterns, const char *module, int64_t *out) {
    *out = -1;
    if (is_empty(patterns) || json_is_string(patterns)) {
        return adapter_pattern_number(is_empty(patterns) ? "[^.]*" : json_string_value(patterns), module,
                                      out);
    }
    for (size_t i = 0; i < json_array_size(patterns) && *out < 0; i++) {
        TRY(adapter_pattern_number(json_string_value(json_array_get(patterns, i)), module, out));
    }
    return OK;
}

static bool is_named_whole(const json_t *list, const char *module) {
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));
        if (name && strcmp(name, module) == 0) {
            return true;
        }
    }
    return false;
}

enum status adapter_layers_hold(const json_t *config, const char *module, bool *out) {
    const json_t *layers = json_object_get(config, "layers_to_transform");
    int64_t block;
    *out = is_empty(layers) || is_named_whole(json_object_get(config, "target_modules"), module);
    if (*out) {
        return OK;
    }
    TRY(find_block(json_object_get(config, "layers_pattern"), module, &block));
    *out = block >= 0 && has_block(layers, block);
    return OK;
}

/* Numbers with commas between them as a JSON array; NULL: not enough memory, or they are none of the model's.
 */
static json_t *numbers_of(const char *words, int64_t layers) {
    json_t *list = json_array();
    for (const char *at = words; list && *at;) {
        char *end;
        int64_t block = strtoll(at, &end, 10);
        bool is_number = end > at && (*end == ',' || *end == '\0') && block >= 0 && block < layers;
        if (!is_number || json_array_append_new(list, json_integer(block)) != 0) {
            json_decref(list);
            return NULL;
        }
        at = *end ? end + 1 : end;
    }
    return list;
}

enum status adapter_layers_ask(json_t *config, const char *words, int64_t layers) {
    if (!*words) {
        return OK;
    }
    if (json_is_string(json_object_get(config, "target_modules"))) {
        return fail(ERR_USAGE,
                    "lora.layers: PEFT takes it with names in lora.targets only, not with all-linear");
    }
    json_t *list = numbers_of(words, layers);
    if (!list) {
        return fail(ERR_USAGE,
                    "lora.layers=%s: numbers of the model's blocks, 0 to %lld, with commas between them",
                    words, (long long)layers - 1);
    }
    return json_object_set_new(config, "layers_to_transform", list) == 0 &&
                   json_object_set_new(config, "layers_pattern", json_null()) == 0
               ? OK
               : fail(ERR_SYSTEM, "out of memory: adapter_config.json");
}
