/* Added tokens: those of tokenizer.json, those that only the files beside it name, and how they are found.
 *
 * As transformers does: tokenizer_config.json's added_tokens_decoder adds tokens and overrides how they are
 * matched; without it added_tokens.json does; special tokens that a file names are added tokens too.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "text/tokenizer_internal.h"
#include "util/hash.h"
#include "util/mem.h"

void added_free(struct tokenizer *t) {
    for (int64_t i = 0; i < t->n_added; i++) {
        mem_free(t->added[i].content);
    }
    mem_free(t->added);
    for (int64_t i = 0; i < t->n_rules; i++) {
        mem_free(t->rules[i].shown);
    }
    mem_free(t->rules);
}

static struct added_token *find_added(const struct tokenizer *t, const char *s, size_t n) {
    for (int64_t i = 0; i < t->n_added; i++) {
        if (t->added[i].n == n && memcmp(t->added[i].content, s, n) == 0) {
            return &t->added[i];
        }
    }
    return NULL;
}

/* Its id by the vocabulary, which takes it in where it is new. */
static enum status place_in_vocabulary(struct vocabulary *v, struct added_token *token, const char *where) {
    int32_t known = vocabulary_find(v, token->content, token->n);
    if (known >= 0 && token->id >= 0 && known != token->id) {
        return fail(ERR_DATA, "%s: added token \"%.200s\" has id %lld but is %d in the vocabulary", where,
                    token->content, (long long)token->id, known);
    }
    if (known < 0) {
        enum status st = vocabulary_add(v, token->content, token->n, token->id);
        if (st != OK) {
            return fail(st, "%s: %s", where, status_message()->text);
        }
    } else {
        token->id = known;
    }
    v->tokens[token->id].added = 1;
    v->tokens[token->id].special |= token->special;
    return OK;
}

enum status added_put(struct tokenizer *t, const struct added_token *token, const char *where) {
    if (token->n == 0) {
        return OK; /* as in the package */
    }
    struct added_token copy = *token;
    struct added_token *old = find_added(t, token->content, token->n);
    copy.content = mem_strndup(token->content, token->n);
    TRY(mem_ok(copy.content));
    enum status st = place_in_vocabulary(&t->bpe.vocabulary, &copy, where);
    if (st == OK && !old) {
        st = GROW_ARRAY(t->added, t->added_capacity, t->n_added + 1);
    }
    if (st != OK) {
        mem_free(copy.content);
        return st;
    }
    if (old) {
        mem_free(old->content);
        *old = copy;
    } else {
        t->added[t->n_added++] = copy;
    }
    return OK;
}

static enum status take_flags(const json_t *entry, const char *where, struct added_token *token) {
    TRY(json_take_bool(entry, "special", where, &token->special));
    token->normalized = !token->special;
    TRY(json_take_bool(entry, "normalized", where, &token->normalized));
    TRY(json_take_bool(entry, "lstrip", where, &token->left));
    TRY(json_take_bool(entry, "rstrip", where, &token->right));
    return json_take_bool(entry, "single_word", where, &token->word);
}

static enum status read_added_token(const json_t *entry, int64_t id, const char *where,
                                    struct added_token *token) {
    const json_t *content = json_object_get(entry, "content");
    if (!json_is_string(content)) {
        return fail(ERR_DATA, "%s: an added token has no \"content\"", where);
    }
    *token = (struct added_token){
        .id = id, .content = (char *)(uintptr_t)json_string_value(content), .n = json_string_length(content)};
    return take_flags(entry, where, token);
}

enum status read_added_tokens(struct tokenizer *t, const json_t *list, const char *where) {
    if (list && !json_is_null(list) && !json_is_array(list)) {
        return fail(ERR_DATA, "%s: \"added_tokens\" must be an array", where);
    }
    size_t i;
    const json_t *entry;
    json_array_foreach(list, i, entry) {
        struct added_token token;
        int64_t id = -1;
        TRY(json_take_int(entry, "id", where, &id));
        TRY(read_added_token(entry, id, where, &token));
        TRY(added_put(t, &token, where));
    }
    return OK;
}

/* The files beside. */

static bool same_flags(const struct added_token *a, const struct added_token *b) {
    return a->special == b->special && a->normalized == b->normalized && a->left == b->left &&
           a->right == b->right && a->word == b->word;
}

/* Takes a token of a file beside; what it changes goes into the tokenizer's hash. */
static enum status put_beside(struct tokenizer *t, const struct added_token *token, const char *where) {
    const struct added_token *old = find_added(t, token->content, token->n);
    if (old && old->id == token->id && same_flags(old, token)) {
        return OK;
    }
    TRY(added_put(t, token, where));
    uint64_t flags = (uint64_t)token->special | (uint64_t)token->normalized << 1 |
                     (uint64_t)token->left << 2 | (uint64_t)token->right << 3 | (uint64_t)token->word << 4;
    t->beside_hash = hash_join(t->beside_hash, hash_bytes(token->content, token->n, flags));
    return OK;
}

static int by_id(const void *a, const void *b) {
    const struct added_token *x = a;
    const struct added_token *y = b;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* Members of an object in the order of their ids: ids must not run ahead of the vocabulary. */
struct token_list {
    struct added_token *tokens;
    int64_t n, capacity;
};

static enum status put_list(struct tokenizer *t, struct token_list *list, const char *where) {
    if (list->n > 0) {
        qsort(list->tokens, (size_t)list->n, sizeof *list->tokens, by_id);
    }
    for (int64_t i = 0; i < list->n; i++) {
        TRY(put_beside(t, &list->tokens[i], where));
    }
    return OK;
}

/* {"259": {"content": …, "special": …, …}, …} */
static enum status list_decoder(const json_t *object, const char *where, struct token_list *list) {
    json_t *members = (json_t *)(uintptr_t)object; /* for the iterator; it is not changed */
    for (void *at = json_object_iter(members); at; at = json_object_iter_next(members, at)) {
        const char *key = json_object_iter_key(at);
        char *end;
        errno = 0;
        long long id = strtoll(key, &end, 10);
        if (*end != '\0' || end == key || errno != 0 || id < 0) {
            return fail(ERR_DATA, "%s: added_tokens_decoder: \"%.80s\" is not an id", where, key);
        }
        TRY(GROW_ARRAY(list->tokens, list->capacity, list->n + 1));
        TRY(read_added_token(json_object_iter_value(at), id, where, &list->tokens[list->n]));
        list->n++;
    }
    return OK;
}

static bool is_named(const json_t *config, const char *content);

/* {"<|im_start|>": 259, …}: special where the configuration names them so. */
static enum status list_added(const json_t *object, const json_t *config, const json_t *map,
                              const char *where, struct token_list *list) {
    if (!json_is_object(object)) {
        return fail(ERR_DATA, "%s: expected an object of tokens and ids", where);
    }
    json_t *members = (json_t *)(uintptr_t)object;
    for (void *at = json_object_iter(members); at; at = json_object_iter_next(members, at)) {
        const char *key = json_object_iter_key(at);
        const json_t *id = json_object_iter_value(at);
        if (!json_is_integer(id) || json_integer_value(id) < 0) {
            return fail(ERR_DATA, "%s: the id of \"%.200s\" must be an integer", where, key);
        }
        bool special = is_named(config, key) || is_named(map, key);
        TRY(GROW_ARRAY(list->tokens, list->capacity, list->n + 1));
        list->tokens[list->n++] = (struct added_token){.content = (char *)(uintptr_t)key,
                                                       .n = strlen(key),
                                                       .id = json_integer_value(id),
                                                       .special = special,
                                                       .normalized = !special};
    }
    return OK;
}

static const char *const NAMED[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                    "pad_token", "cls_token", "mask_token"};
static const char *const LISTED[] = {"additional_special_tokens", "extra_special_tokens"};

/* A special token is a string, or an object with "content". */
static const char *content_of(const json_t *value) {
    return json_string_value(json_is_object(value) ? json_object_get(value, "content") : value);
}

static bool is_named(const json_t *config, const char *content) {
    for (int i = 0; i < COUNT_OF(NAMED); i++) {
        const char *named = content_of(json_object_get(config, NAMED[i]));
        if (named && strcmp(named, content) == 0) {
            return true;
        }
    }
    for (int i = 0; i < COUNT_OF(LISTED); i++) {
        size_t k;
        const json_t *value;
        json_array_foreach(json_object_get(config, LISTED[i]), k, value) {
            const char *named = content_of(value);
            if (named && strcmp(named, content) == 0) {
                return true;
            }
        }
    }
    return false;
}

/* A special token of a configuration that the vocabulary has and that is no added token yet. */
static enum status put_named(struct tokenizer *t, const json_t *value, const char *where) {
    const char *content = content_of(value);
    if (!content || find_added(t, content, strlen(content)) ||
        vocabulary_find(&t->bpe.vocabulary, content, strlen(content)) < 0) {
        return OK; /* begin and end tokens that nobody knows are an error of specials.c */
    }
    struct added_token token = {.content = (char *)(uintptr_t)content,
                                .n = strlen(content),
                                .id = vocabulary_find(&t->bpe.vocabulary, content, strlen(content))};
    if (json_is_object(value)) {
        TRY(take_flags(value, where, &token));
    }
    token.special = true;
    token.normalized = json_is_object(value) && token.normalized && json_object_get(value, "normalized");
    return put_beside(t, &token, where);
}

static enum status put_all_named(struct tokenizer *t, const json_t *config, const char *where) {
    for (int i = 0; i < COUNT_OF(NAMED); i++) {
        TRY(put_named(t, json_object_get(config, NAMED[i]), where));
    }
    for (int i = 0; i < COUNT_OF(LISTED); i++) {
        size_t k;
        const json_t *value;
        json_array_foreach(json_object_get(config, LISTED[i]), k, value) {
            TRY(put_named(t, value, where));
        }
    }
    return OK;
}

enum status read_added_beside(struct tokenizer *t, bool always) {
    struct text path = {0};
    struct token_list list = {0};
    json_t *config = NULL;
    json_t *map = NULL;
    json_t *added = NULL;
    enum status st = OK;
    TRY_TO(done, folder_json(t->folder, "tokenizer_config.json", &path, &config));
    const json_t *decoder = json_object_get(config, "added_tokens_decoder");
    if (json_is_object(decoder)) {
        TRY_TO(done, list_decoder(decoder, path.data, &list));
        TRY_TO(done, put_list(t, &list, path.data));
    } else if (always) {
        TRY_TO(done, folder_json(t->folder, "special_tokens_map.json", &path, &map));
        TRY_TO(done, folder_json(t->folder, "added_tokens.json", &path, &added));
        TRY_TO(done, added ? list_added(added, config, map, path.data, &list) : OK);
        TRY_TO(done, put_list(t, &list, path.data));
    }
    TRY_TO(done, put_all_named(t, config, t->folder));
    st = put_all_named(t, map, t->folder);
done:
    mem_free(list.tokens);
    json_decref(config);
    json_decref(map);
    json_decref(added);
    text_free(&path);
    return st;
}

/* Finding them. */

/* What the finder looks for: the content, normalized as the text will be; that is what it decodes to as well.
 */
static enum status add_to_finder(struct tokenizer *t, const struct added_token *token,
                                 struct matcher *matcher, struct added_rule *rule) {
    const char *s = token->content;
    size_t n = token->n;
    if (!token->normalized) {
        return finder_add(&t->raw, s, n, rule->id);
    }
    struct view_buffer buffers[STEPS_MAX] = {0};
    struct view whole = {s, n, NULL, true, false};
    struct view changed;
    enum status st = OK;
    TRY_TO(done, normalize(t, matcher, &whole, false, buffers, &changed));
    if (changed.n == 0) {
        goto done;
    }
    if (changed.n != n || memcmp(changed.s, s, n) != 0) {
        rule->shown = mem_strndup(changed.s, changed.n);
        st = mem_ok(rule->shown);
    }
    st = st == OK ? finder_add(&t->normalized, changed.s, changed.n, rule->id) : st;
done:
    for (int i = 0; i < STEPS_MAX; i++) {
        view_buffer_free(&buffers[i]);
    }
    return st;
}

enum status added_finish(struct tokenizer *t) {
    struct matcher *matcher;
    TRY(matcher_open(&matcher));
    enum status st = OK;
    for (int64_t i = 0; i < t->n_added; i++) {
        const struct added_token *a = &t->added[i];
        struct added_rule rule = {.id = (int32_t)a->id, .left = a->left, .right = a->right, .word = a->word};
        TRY_TO(done, GROW_ARRAY(t->rules, t->rules_capacity, t->n_rules + 1));
        st = add_to_finder(t, a, matcher, &rule);
        if (rule.left || rule.right || rule.word || rule.shown) {
            t->rules[t->n_rules++] = rule;
            t->takes_right = t->takes_right || rule.right;
        }
        TRY_TO(done, st);
    }
done:
    matcher_close(matcher);
    return st;
}
