/* Folders of vocab.json and merges.txt: the rules of the tokenizer_class that tokenizer_config.json names,
 * put into the form of tokenizer.json (transformers 5, models' tokenization_*.py). */
#include <string.h>

#include "io/file.h"
#include "text/tokenizer_internal.h"
#include "util/mem.h"

struct slow_class {
    const char *name;
    bool nfc;
    const char *pattern; /* cut by this before the bytes; NULL: by GPT-2's, behind a prefix space */
};
static const struct slow_class CLASSES[] = {
    {"GPT2Tokenizer", false, NULL},
    {"CodeGenTokenizer", false, NULL}, /* Phi */
    {"GPTNeoXTokenizer", true, NULL},
    {"Qwen2Tokenizer", true, PATTERN_QWEN},
};

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

static enum status find_class(const json_t *config, const char *where, const struct slow_class **out) {
    const char *name = CLASSES[0].name;
    TRY(json_take_string(config, "tokenizer_class", where, &name));
    size_t n = strlen(name) - (text_ends(name, "Fast") ? 4 : 0);
    for (int i = 0; i < COUNT_OF(CLASSES); i++) {
        *out = &CLASSES[i];
        if (strlen(CLASSES[i].name) == n && memcmp(CLASSES[i].name, name, n) == 0) {
            return OK;
        }
    }
    return fail(ERR_DATA,
                "%s: tokenizer_class \"%.80s\" with vocab.json and merges.txt is not supported; save it as "
                "tokenizer.json with transformers",
                where, name);
}

/* The sections of tokenizer.json but for the model. */
static json_t *sections_of(const struct slow_class *class, bool prefix, json_t *added) {
    json_t *root = NULL;
    if (!class->pattern) {
        root = json_pack("{s:{s:s, s:b}, s:{s:s}, s:o}", "pre_tokenizer", "type", "ByteLevel",
                         "add_prefix_space", prefix, "decoder", "type", "ByteLevel", "added_tokens", added);
    } else {
        root = json_pack("{s:{s:s, s:[{s:s, s:{s:s}, s:s, s:b}, {s:s, s:b, s:b}]}, s:{s:s}, s:o}",
                         "pre_tokenizer", "type", "Sequence", "pretokenizers", "type", "Split", "pattern",
                         "Regex", class->pattern, "behavior", "Isolated", "invert", 0, "type", "ByteLevel",
                         "add_prefix_space", prefix, "use_regex", 0, "decoder", "type", "ByteLevel",
                         "added_tokens", added);
    }
    if (root && class->nfc &&
        json_object_set_new(root, "normalizer", json_pack("{s:s}", "type", "NFC")) != 0) {
        json_decref(root);
        root = NULL;
    }
    return root;
}

/* <|endoftext|> is every class's end token unless it is told otherwise. */
static json_t *first_added(const json_t *vocab) {
    json_t *end = json_is_object(vocab) ? json_object_get(vocab, "<|endoftext|>") : NULL;
    return end ? json_pack("[{s:s, s:O, s:b}]", "content", "<|endoftext|>", "id", end, "special", 1)
               : json_array();
}

enum status tokenizer_from_merges(struct tokenizer *t) {
    struct text path = {0};
    json_t *config = NULL;
    json_t *vocab = NULL;
    json_t *merges = NULL;
    json_t *root = NULL;
    const struct slow_class *class;
    bool prefix = false;
    enum status st = OK;
    TRY_TO(done, folder_json(t->folder, "tokenizer_config.json", &path, &config));
    TRY_TO(done, find_class(config, path.data, &class));
    TRY_TO(done, json_take_bool(config, "add_prefix_space", path.data, &prefix));
    text_clear(&path);
    TRY_TO(done, text_printf(&path, "%s/vocab.json", t->folder));
    TRY_TO(done, json_load(path.data, &vocab));
    text_clear(&path);
    TRY_TO(done, text_printf(&path, "%s/merges.txt", t->folder));
    TRY_TO(done, merges_array(path.data, &merges));
    json_t *model = json_pack("{s:s, s:O, s:O}", "type", "BPE", "vocab", vocab, "merges", merges);
    root = sections_of(class, prefix, first_added(vocab));
    bool complete = model && root && json_object_set(root, "model", model) == 0;
    json_decref(model);
    t->slow = true;
    st =
        complete ? tokenizer_from_json(t, root, t->folder) : fail(ERR_SYSTEM, "%s: out of memory", t->folder);
done:
    json_decref(root);
    json_decref(config);
    json_decref(vocab);
    json_decref(merges);
    text_free(&path);
    return st;
}
