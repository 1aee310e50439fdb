/* Begin, end and padding tokens: what the files beside a tokenizer say of them. */
#include <string.h>
#include <sys/stat.h>

#include "text/tokenizer_internal.h"

/* "bos_token": a string, or an object with "content". */
static enum status take_token(const struct tokenizer *t, const json_t *config, const char *key,
                              const char *where, int32_t *id) {
    const json_t *value = json_object_get(config, key);
    if (json_is_object(value)) {
        value = json_object_get(value, "content");
    }
    if (*id >= 0 || !value || json_is_null(value)) {
        return OK;
    }
    if (!json_is_string(value)) {
        return fail(ERR_DATA, "%s: \"%s\" must be a string", where, key);
    }
    *id = tokenizer_id(t, json_string_value(value));
    if (*id < 0) {
        return fail(ERR_DATA, "%s: \"%s\" is \"%.200s\", which is not in the vocabulary", where, key,
                    json_string_value(value));
    }
    return OK;
}

/* "bos_token_id": a number, or a list whose first is meant. */
static enum status take_id(const struct tokenizer *t, const json_t *config, const char *key,
                           const char *where, int32_t *id) {
    const json_t *value = json_object_get(config, key);
    if (json_is_array(value)) {
        value = json_array_get(value, 0);
    }
    if (*id >= 0 || !value || json_is_null(value)) {
        return OK;
    }
    if (!json_is_integer(value) || json_integer_value(value) < 0) {
        return fail(ERR_DATA, "%s: \"%s\" must be an id", where, key);
    }
    if (json_integer_value(value) >= tokenizer_size(t)) {
        return fail(ERR_DATA, "%s: \"%s\" %lld is not in the vocabulary of %d tokens", where, key,
                    (long long)json_integer_value(value), tokenizer_size(t));
    }
    *id = (int32_t)json_integer_value(value);
    return OK;
}

/* A padding token, which nothing here pads with, may be one that nobody knows. */
static void take_pad(struct tokenizer *t, const json_t *config) {
    const json_t *value = json_object_get(config, "pad_token");
    const char *content =
        json_string_value(json_is_object(value) ? json_object_get(value, "content") : value);
    if (t->pad < 0 && content) {
        t->pad = tokenizer_id(t, content);
    }
}

static enum status read_one(struct tokenizer *t, const char *path, int32_t *begin, int32_t *end) {
    struct stat facts;
    if (stat(path, &facts) != 0) {
        return OK;
    }
    json_t *config;
    TRY(json_load(path, &config));
    enum status st = OK;
    TRY_TO(done, take_token(t, config, "bos_token", path, begin));
    TRY_TO(done, take_token(t, config, "eos_token", path, end));
    TRY_TO(done, take_id(t, config, "bos_token_id", path, begin));
    TRY_TO(done, take_id(t, config, "eos_token_id", path, end));
    take_pad(t, config);
    st = json_take_bool(config, "add_bos_token", path, &t->adds_begin);
done:
    json_decref(config);
    return st;
}

enum status tokenizer_read_specials(struct tokenizer *t, const char *folder) {
    static const char *const files[] = {"tokenizer_config.json", "special_tokens_map.json",
                                        "generation_config.json", "config.json"};
    static const char *const ends[] = {"<|endoftext|>", "</s>", "<|end_of_text|>", "<eos>"};
    int32_t begin = -1;
    int32_t end = -1;
    struct text path = {0};
    enum status st = OK;
    for (int i = 0; i < COUNT_OF(files); i++) {
        text_clear(&path);
        TRY_TO(done, text_printf(&path, "%s/%s", folder, files[i]));
        TRY_TO(done, read_one(t, path.data, &begin, &end));
    }
    for (int i = 0; i < COUNT_OF(ends) && end < 0 && t->end < 0; i++) {
        int32_t id = tokenizer_id(t, ends[i]);
        end = id >= 0 && t->bpe.vocabulary.tokens[id].special ? id : -1;
    }
    bool known = t->begin >= 0 && (t->adds_begin || t->slow); /* by the tokenizer itself */
    t->begin = known && begin < 0 ? t->begin : begin;
    t->end = end < 0 ? t->end : end;
done:
    text_free(&path);
    return st;
}
