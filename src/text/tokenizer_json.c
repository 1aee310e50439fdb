/* Reading tokenizer.json, and vocab.json with merges.txt. */
#include <string.h>

#include "io/file.h"
#include "text/tokenizer_internal.h"
#include "util/hash.h"
#include "util/mem.h"

static enum status read_vocabulary(struct bpe *b, const json_t *vocab, const char *where) {
    if (!json_is_object(vocab) || json_object_size(vocab) == 0) {
        return fail(ERR_DATA, "%s: the vocabulary must be an object of tokens and ids", where);
    }
    /* The object is not const for Jansson's iterator with key lengths; it is not changed. */
    json_t *object = (json_t *)(uintptr_t)vocab;
    for (void *at = json_object_iter(object); at; at = json_object_iter_next(object, at)) {
        const char *key = json_object_iter_key(at);
        const json_t *id = json_object_iter_value(at);
        if (!json_is_integer(id)) {
            return fail(ERR_DATA, "%s: the id of token \"%.200s\" must be an integer", where, key);
        }
        enum status st = vocabulary_add(&b->vocabulary, key, strlen(key), json_integer_value(id));
        if (st != OK) {
            return fail(st, "%s: %s", where, status_message()->text);
        }
        b->vocabulary.tokens[json_integer_value(id)].model = 1;
    }
    return OK;
}

/* "left right" */
static enum status add_line(struct bpe *b, const char *line, size_t n, uint32_t rank, const char *where) {
    const char *space = memchr(line, ' ', n);
    size_t left = space ? (size_t)(space - line) : n;
    if (!space || memchr(space + 1, ' ', n - left - 1)) {
        return fail(ERR_DATA, "%s: merge %u \"%.*s\" is not two tokens", where, rank,
                    (int)(n < 200 ? n : 200), line);
    }
    enum status st = bpe_add_merge(b, line, left, space + 1, n - left - 1, rank);
    return st == OK ? OK : fail(st, "%s: %s", where, status_message()->text);
}

static enum status read_merges(struct bpe *b, const json_t *merges, const char *where) {
    if (!json_is_array(merges)) {
        return fail(ERR_DATA, "%s: \"merges\" must be an array", where);
    }
    TRY(pair_map_open(&b->merges, (int64_t)json_array_size(merges)));
    size_t i;
    const json_t *merge;
    json_array_foreach(merges, i, merge) {
        const json_t *left = json_array_get(merge, 0);
        const json_t *right = json_array_get(merge, 1);
        if (json_is_string(merge)) {
            TRY(add_line(b, json_string_value(merge), json_string_length(merge), (uint32_t)i, where));
        } else if (json_array_size(merge) == 2 && json_is_string(left) && json_is_string(right)) {
            enum status st = bpe_add_merge(b, json_string_value(left), json_string_length(left),
                                           json_string_value(right), json_string_length(right), (uint32_t)i);
            if (st != OK) {
                return fail(st, "%s: %s", where, status_message()->text);
            }
        } else {
            return fail(ERR_DATA, "%s: merge %zu is neither a string nor two strings", where, i);
        }
    }
    return OK;
}

/* Options of the model that change ids and that we do not have. */
static enum status refuse_options(const json_t *model, const char *where) {
    double dropout = 0;
    const char *prefix = NULL;
    const char *suffix = NULL;
    TRY(json_take_number(model, "dropout", where, &dropout));
    TRY(json_take_string(model, "continuing_subword_prefix", where, &prefix));
    TRY(json_take_string(model, "end_of_word_suffix", where, &suffix));
    const char *what = dropout != 0          ? "dropout"
                       : prefix && prefix[0] ? "continuing_subword_prefix"
                       : suffix && suffix[0] ? "end_of_word_suffix"
                                             : NULL;
    return what ? fail(ERR_DATA, "%s: model option \"%s\" is not supported", where, what) : OK;
}

static enum status read_model(struct bpe *b, const json_t *model, const char *where) {
    const char *type = "BPE"; /* files of old versions have no type */
    const char *unk = NULL;
    if (!json_is_object(model)) {
        return fail(ERR_DATA, "%s: there is no \"model\"", where);
    }
    TRY(json_take_string(model, "type", where, &type));
    if (strcmp(type, "BPE") != 0) {
        return fail(ERR_DATA, "%s: model \"%s\" is not supported, only BPE", where, type);
    }
    TRY(refuse_options(model, where));
    TRY(read_vocabulary(b, json_object_get(model, "vocab"), where));
    TRY(read_merges(b, json_object_get(model, "merges"), where));
    TRY(json_take_bool(model, "fuse_unk", where, &b->fuse_unk));
    TRY(json_take_bool(model, "byte_fallback", where, &b->byte_fallback));
    TRY(json_take_bool(model, "ignore_merges", where, &b->ignore_merges));
    TRY(json_take_string(model, "unk_token", where, &unk));
    b->unk = unk ? vocabulary_find(&b->vocabulary, unk, strlen(unk)) : -1;
    if (unk && b->unk < 0) {
        return fail(ERR_DATA, "%s: unk_token \"%.200s\" is not in the vocabulary", where, unk);
    }
    return OK;
}

static enum status refuse_if_set(const json_t *root, const char *key, const char *where) {
    const json_t *value = json_object_get(root, key);
    if (value && !json_is_null(value)) {
        return fail(ERR_DATA,
                    "%s: \"%s\" is set; set it to null (prepare and training cut by their own options)",
                    where, key);
    }
    return OK;
}

/* The special token that a single text's template begins with. */
static enum status read_post_processor(struct tokenizer *t, const json_t *section, const char *where) {
    if (!section || json_is_null(section)) {
        return OK;
    }
    const char *type = NULL;
    const char *name = NULL;
    TRY(json_take_string(section, "type", where, &type));
    if (!type) {
        return fail(ERR_DATA, "%s: post_processor has no \"type\"", where);
    }
    if (strcmp(type, "Sequence") == 0) {
        size_t i;
        const json_t *part;
        json_array_foreach(json_object_get(section, "processors"), i, part) {
            TRY(read_post_processor(t, part, where));
        }
        return OK;
    }
    if (strcmp(type, "ByteLevel") == 0) {
        return OK;
    }
    if (strcmp(type, "TemplateProcessing") != 0) {
        return fail(ERR_DATA, "%s: post_processor \"%s\" is not supported", where, type);
    }
    const json_t *single = json_object_get(section, "single");
    const json_t *first = json_object_get(json_array_get(single, 0), "SpecialToken");
    if (!first) {
        return OK;
    }
    if (json_object_get(json_array_get(single, 1), "SpecialToken")) {
        return fail(ERR_DATA, "%s: a post_processor with two special tokens before the text is not supported",
                    where);
    }
    TRY(json_take_string(first, "id", where, &name));
    t->begin = name ? vocabulary_find(&t->bpe.vocabulary, name, strlen(name)) : -1;
    t->adds_begin = true;
    return t->begin >= 0 ? OK
                         : fail(ERR_DATA, "%s: the post_processor's token is not in the vocabulary", where);
}

static enum status hash_section(const json_t *root, const char *key, uint64_t *hash) {
    const json_t *section = json_object_get(root, key);
    if (!section) {
        return OK;
    }
    size_t flags = JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY;
    size_t n = json_dumpb(section, NULL, 0, flags);
    char *text;
    TRY(NEW_ARRAY(text, (int64_t)n + 1));
    *hash = hash_join(*hash, hash_bytes(text, json_dumpb(section, text, n, flags), 0));
    mem_free(text);
    return OK;
}

/* Vocabulary in id order, merges by rank, and the rules; not the file's layout. */
static enum status hash_tokenizer(struct tokenizer *t, const json_t *root) {
    const struct vocabulary *v = &t->bpe.vocabulary;
    uint64_t hash = hash_bytes("bpe", 3, (uint64_t)v->size);
    for (int32_t id = 0; id < v->size; id++) {
        size_t n;
        const char *s = vocabulary_string(v, id, &n);
        hash = hash_join(hash, v->tokens[id].present ? hash_bytes(s, n, v->tokens[id].special) : 0);
    }
    uint64_t merges = 0;
    for (uint64_t i = 0; i <= t->bpe.merges.mask; i++) {
        const struct pair_slot *slot = &t->bpe.merges.slots[i];
        if (slot->key != UINT64_MAX) {
            merges += hash_bytes(slot, sizeof *slot, 1); /* the same sum in any order */
        }
    }
    uint64_t flags = t->bpe.byte_level | t->bpe.byte_fallback << 1 | t->bpe.fuse_unk << 2 |
                     t->bpe.ignore_merges << 3 | (uint64_t)(t->bpe.unk + 1) << 8;
    hash = hash_join(hash_join(hash, merges), flags);
    TRY(hash_section(root, "normalizer", &hash));
    TRY(hash_section(root, "pre_tokenizer", &hash));
    TRY(hash_section(root, "added_tokens", &hash));
    t->hash = hash;
    return OK;
}

enum status tokenizer_from_json(struct tokenizer *t, const json_t *root, const char *where) {
    if (!json_is_object(root)) {
        return fail(ERR_DATA, "%s: not a tokenizer (an object is expected)", where);
    }
    TRY(unicode_classes(&t->classes));
    TRY(finder_open(&t->raw));
    TRY(finder_open(&t->normalized));
    TRY(refuse_if_set(root, "truncation", where));
    TRY(refuse_if_set(root, "padding", where));
    TRY(read_model(&t->bpe, json_object_get(root, "model"), where));
    TRY(read_normalizer(t, json_object_get(root, "normalizer"), where));
    TRY(read_pre_tokenizer(t, json_object_get(root, "pre_tokenizer"), where));
    TRY(read_decoder(t, json_object_get(root, "decoder"), where));
    bpe_finish(&t->bpe);
    TRY(read_added_tokens(t, json_object_get(root, "added_tokens"), where));
    TRY(read_post_processor(t, json_object_get(root, "post_processor"), where));
    return hash_tokenizer(t, root);
}

/* merges.txt as the array that tokenizer.json holds. */
static enum status merges_array(const char *path, json_t **out) {
    char *text;
    size_t n;
    TRY(file_read(path, &text, &n));
    enum status st = OK;
    json_t *merges = json_array();
    for (size_t at = 0; at < n && st == OK;) {
        const char *end = memchr(text + at, '\n', n - at);
        size_t line = end ? (size_t)(end - text) - at : n - at;
        size_t used = line > 0 && text[at + line - 1] == '\r' ? line - 1 : line;
        bool comment = used >= 8 && memcmp(text + at, "#version", 8) == 0;
        if (used > 0 && !comment && json_array_append_new(merges, json_stringn(text + at, used)) != 0) {
            st = fail(ERR_DATA, "%s: byte %zu: not valid UTF-8", path, at);
        }
        at += line + 1;
    }
    mem_free(text);
    if (st != OK) {
        json_decref(merges);
        return st;
    }
    *out = merges;
    return OK;
}

enum status tokenizer_from_merges(struct tokenizer *t, const char *folder) {
    struct text path = {0};
    json_t *vocab = NULL;
    json_t *merges = NULL;
    json_t *root = NULL;
    enum status st = OK;
    TRY_TO(done, text_printf(&path, "%s/vocab.json", folder));
    TRY_TO(done, json_load(path.data, &vocab));
    text_clear(&path);
    TRY_TO(done, text_printf(&path, "%s/merges.txt", folder));
    TRY_TO(done, merges_array(path.data, &merges));
    const json_t *end = json_is_object(vocab) ? json_object_get(vocab, "<|endoftext|>") : NULL;
    json_t *added = json_array();
    if (end && json_array_append_new(added, json_pack("{s:s, s:O, s:b}", "content", "<|endoftext|>", "id",
                                                      end, "special", 1)) != 0) {
        json_decref(added);
        st = fail(ERR_SYSTEM, "%s: out of memory", folder);
        goto done;
    }
    root = json_pack("{s:{s:s, s:O, s:O}, s:{s:s, s:b}, s:{s:s}, s:o}", "model", "type", "BPE", "vocab",
                     vocab, "merges", merges, "pre_tokenizer", "type", "ByteLevel", "add_prefix_space", 0,
                     "decoder", "type", "ByteLevel", "added_tokens", added);
    st = root ? tokenizer_from_json(t, root, folder) : fail(ERR_SYSTEM, "%s: out of memory", folder);
done:
    json_decref(root);
    json_decref(vocab);
    json_decref(merges);
    text_free(&path);
    return st;
}
