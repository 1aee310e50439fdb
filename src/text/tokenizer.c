#include "text/tokenizer.h"

#include <string.h>
#include <sys/stat.h>

#include "io/file.h"
#include "text/tokenizer_internal.h"
#include "util/hash.h"
#include "util/mem.h"

static const char *const FILES[] = {"tokenizer.json",
                                    "vocab.json",
                                    "merges.txt",
                                    "tokenizer.model",
                                    "tokenizer_config.json",
                                    "added_tokens.json",
                                    "special_tokens_map.json"};
static const char *const CHAT_FILES[] = {"chat_template.jinja", "chat_template.json",
                                         "additional_chat_templates"};

static bool is_file(const char *path) {
    struct stat facts;
    return stat(path, &facts) == 0 && S_ISREG(facts.st_mode);
}

static enum status has_file(const char *folder, const char *name, bool *has) {
    struct text path = {0};
    enum status st = text_printf(&path, "%s/%s", folder, name);
    *has = st == OK && is_file(path.data);
    text_free(&path);
    return st;
}

static void open_bytes(struct tokenizer *t) {
    t->bytes = true;
    t->begin = BYTES_BEGIN;
    t->end = BYTES_END;
    t->pad = -1;
    t->hash = hash_bytes("bytes", 5, BYTES_SIZE);
}

enum status folder_json(const char *folder, const char *name, struct text *path, json_t **out) {
    *out = NULL;
    text_clear(path);
    TRY(text_printf(path, "%s/%s", folder, name));
    return is_file(path->data) ? json_load(path->data, out) : OK;
}

/* A model folder of ours whose tokenizer is the built-in one says so in tokenizer_config.json. */
static enum status says_bytes(const char *folder, bool *bytes) {
    struct text path = {0};
    json_t *config = NULL;
    const char *name = "";
    enum status st = OK;
    TRY_TO(done, folder_json(folder, "tokenizer_config.json", &path, &config));
    TRY_TO(done, config ? json_take_string(config, "collimate_tokenizer", path.data, &name) : OK);
    *bytes = strcmp(name, "bytes") == 0;
done:
    json_decref(config);
    text_free(&path);
    return st;
}

static enum status open_json(struct tokenizer *t, const char *path) {
    json_t *root;
    TRY(json_load(path, &root));
    enum status st = tokenizer_from_json(t, root, path);
    json_decref(root);
    return st;
}

static enum status open_file(struct tokenizer *t, const char *path) {
    return text_ends(path, ".model") ? tokenizer_from_sentencepiece(t, path) : open_json(t, path);
}

/* The first of the kinds that the folder has. */
static enum status open_kind(struct tokenizer *t) {
    static const char *const whole[] = {"tokenizer.json", "tokenizer.model"};
    bool has = false;
    bool merges = false;
    for (int i = 0; i < COUNT_OF(whole); i++) {
        TRY(has_file(t->folder, whole[i], &has));
        if (has) {
            struct text path = {0};
            enum status st = text_printf(&path, "%s/%s", t->folder, whole[i]);
            st = st == OK ? open_file(t, path.data) : st;
            text_free(&path);
            return st;
        }
    }
    TRY(has_file(t->folder, "vocab.json", &has));
    TRY(has_file(t->folder, "merges.txt", &merges));
    return has && merges
               ? tokenizer_from_merges(t)
               : fail(ERR_INPUT, "%s: no tokenizer.json, tokenizer.model, nor vocab.json with merges.txt",
                      t->folder);
}

static enum status open_folder(struct tokenizer *t) {
    bool bytes = false;
    TRY(says_bytes(t->folder, &bytes));
    if (bytes) {
        open_bytes(t);
        return OK;
    }
    TRY(open_kind(t));
    return tokenizer_read_specials(t, t->folder);
}

enum status tokenizer_open(const char *path, struct tokenizer **out) {
    struct tokenizer *t;
    TRY(NEW_ARRAY(t, 1));
    t->begin = t->end = t->pad = t->bpe.unk = -1;
    enum status st = OK;
    if (strcmp(path, "bytes") == 0) {
        open_bytes(t);
        *out = t;
        return OK;
    }
    const char *slash = strrchr(path, '/');
    bool file = is_file(path);
    t->folder = !file   ? mem_strdup(path)
                : slash ? mem_strndup(path, (size_t)(slash - path))
                        : mem_strdup(".");
    TRY_TO(failed, mem_ok(t->folder));
    if (file) {
        TRY_TO(failed, open_file(t, path));
        TRY_TO(failed, tokenizer_read_specials(t, t->folder));
    } else {
        TRY_TO(failed, open_folder(t));
    }
    *out = t;
    return OK;
failed:
    tokenizer_close(t);
    return st;
}

void tokenizer_close(struct tokenizer *t) {
    if (!t) {
        return;
    }
    for (int i = 0; i < STEPS_MAX; i++) {
        step_free(&t->steps[i]);
        change_free(&t->changes[i]);
        mem_free(t->decoders[i].from);
        mem_free(t->decoders[i].to);
    }
    finder_free(&t->raw);
    finder_free(&t->normalized);
    finder_free(&t->symbols);
    bpe_free(&t->bpe);
    unigram_free(t->unigram);
    added_free(t);
    mem_free(t->classes);
    mem_free(t->folder);
    mem_free(t);
}

int32_t tokenizer_size(const struct tokenizer *t) {
    return t->bytes ? BYTES_SIZE : t->bpe.vocabulary.size;
}

int32_t tokenizer_begin(const struct tokenizer *t) {
    return t->begin;
}

int32_t tokenizer_end(const struct tokenizer *t) {
    return t->end;
}

int32_t tokenizer_pad(const struct tokenizer *t) {
    return t->pad;
}

bool tokenizer_adds_begin(const struct tokenizer *t) {
    return t->adds_begin && t->begin >= 0;
}

uint64_t tokenizer_hash(const struct tokenizer *t) {
    return t->hash;
}

static const char BYTE_VALUES[256] = {
#define ROW(i)                                                                                           \
    (char)(i), (char)(i + 1), (char)(i + 2), (char)(i + 3), (char)(i + 4), (char)(i + 5), (char)(i + 6), \
        (char)(i + 7)
#define ROWS(i) ROW(i), ROW(i + 8), ROW(i + 16), ROW(i + 24)
    ROWS(0),   ROWS(32),  ROWS(64), ROWS(96), ROWS(128),
    ROWS(160), ROWS(192), ROWS(224)
#undef ROWS
#undef ROW
};

bool tokenizer_has(const struct tokenizer *t, int64_t id) {
    if (id < 0 || id >= tokenizer_size(t)) {
        return false;
    }
    return t->bytes || t->bpe.vocabulary.tokens[id].present;
}

const char *tokenizer_token(const struct tokenizer *t, int32_t id, size_t *len) {
    *len = 0;
    if (id < 0 || id >= tokenizer_size(t)) {
        return "";
    }
    if (!t->bytes) {
        return vocabulary_string(&t->bpe.vocabulary, id, len);
    }
    const char *special = id == BYTES_BEGIN ? "<|begin|>" : "<|end|>";
    *len = id < 256 ? 1 : strlen(special);
    return id < 256 ? &BYTE_VALUES[id] : special;
}

int32_t tokenizer_id(const struct tokenizer *t, const char *token) {
    if (!t->bytes) {
        return vocabulary_find(&t->bpe.vocabulary, token, strlen(token));
    }
    if (token[0] != '\0' && token[1] == '\0') {
        return (unsigned char)token[0];
    }
    return strcmp(token, "<|begin|>") == 0 ? BYTES_BEGIN : strcmp(token, "<|end|>") == 0 ? BYTES_END : -1;
}

/* The built-in tokenizer as the `tokenizers` package reads it: byte-level, no merges. */
static enum status bytes_json(struct text *out) {
    TRY(text_puts(out,
                  "{\"version\": \"1.0\", \"truncation\": null, \"padding\": null, \"added_tokens\": ["));
    for (int i = 0; i < 2; i++) {
        TRY(text_printf(out,
                        "%s{\"id\": %d, \"content\": \"%s\", \"single_word\": false, \"lstrip\": false, "
                        "\"rstrip\": false, \"normalized\": false, \"special\": true}",
                        i ? ", " : "", BYTES_BEGIN + i, i ? "<|end|>" : "<|begin|>"));
    }
    TRY(text_puts(out,
                  "], \"normalizer\": null, \"pre_tokenizer\": {\"type\": \"ByteLevel\", "
                  "\"add_prefix_space\": false, \"trim_offsets\": false, \"use_regex\": false}, "
                  "\"post_processor\": null, \"decoder\": {\"type\": \"ByteLevel\", \"add_prefix_space\": "
                  "false, \"trim_offsets\": false, \"use_regex\": false}, \"model\": {\"type\": \"BPE\", "
                  "\"dropout\": null, \"unk_token\": null, \"continuing_subword_prefix\": null, "
                  "\"end_of_word_suffix\": null, \"fuse_unk\": false, \"byte_fallback\": false, "
                  "\"ignore_merges\": false, \"vocab\": {"));
    for (int byte = 0; byte < 256; byte++) {
        char name[4];
        int n = utf8_put(bpe_byte_to_point(byte), name);
        TRY(text_puts(out, byte ? ", " : ""));
        TRY(text_json(out, name, (size_t)n));
        TRY(text_printf(out, ": %d", byte));
    }
    return text_puts(out, "}, \"merges\": []}}\n");
}

enum status tokenizer_write_bytes(const char *folder) {
    static const char config[] =
        "{\"collimate_tokenizer\": \"bytes\", \"tokenizer_class\": \"PreTrainedTokenizerFast\", "
        "\"bos_token\": \"<|begin|>\", \"eos_token\": \"<|end|>\", \"clean_up_tokenization_spaces\": "
        "false}\n";
    struct text path = {0};
    struct text json = {0};
    enum status st = OK;
    TRY_TO(done, text_printf(&path, "%s/tokenizer_config.json", folder));
    TRY_TO(done, file_write(path.data, config, strlen(config)));
    text_clear(&path);
    TRY_TO(done, text_printf(&path, "%s/tokenizer.json", folder));
    TRY_TO(done, bytes_json(&json));
    st = file_write(path.data, json.data, json.len);
done:
    text_free(&path);
    text_free(&json);
    return st;
}

static bool is_one_of(const char *name, const char *const *list, int n) {
    for (int i = 0; i < n; i++) {
        if (strcmp(name, list[i]) == 0) {
            return true;
        }
    }
    return false;
}

enum tokenizer_file tokenizer_file_of(const char *name) {
    return is_one_of(name, FILES, COUNT_OF(FILES))             ? TOKENIZER_FILE
           : is_one_of(name, CHAT_FILES, COUNT_OF(CHAT_FILES)) ? TOKENIZER_CHAT
                                                               : TOKENIZER_NONE;
}

const char *tokenizer_folder(const struct tokenizer *t) {
    return t->bytes ? NULL : t->folder;
}
