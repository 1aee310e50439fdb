/* Tokenizers: text to ids and back.
 *
 *   bytes       256 byte ids, then <|begin|> 256, <|end|> 257 (vocabulary 258)
 *   tokenizer.json   as the `tokenizers` package writes it: BPE, byte-level (GPT-NeoX, GPT-2, Llama 3 with
 *                    ignore_merges, Qwen) or SentencePiece-style (byte_fallback, fuse_unk: Llama 2, Gemma,
 *                    TinyStories), and Unigram
 *   tokenizer.model  SentencePiece, BPE or Unigram: alone as the `sentencepiece` package reads it; beside a
 *                    tokenizer_config.json as transformers reads both (LlamaTokenizer, GemmaTokenizer, or the
 *                    general class)
 *   vocab.json + merges.txt   by tokenizer_class: GPT2Tokenizer, CodeGenTokenizer, GPTNeoXTokenizer,
 *                    Qwen2Tokenizer
 * Added tokens that only tokenizer_config.json or added_tokens.json name are obeyed. What a file asks for and
 * is not here is an error that names it; padding and truncation are noted and not used.
 *
 * Ids equal those of the packages, encode(text, add_special_tokens=False). Immutable after opening: any
 * number of threads may encode at once, each with its own struct encoder (a cache).
 */
#ifndef COLLIMATE_TEXT_TOKENIZER_H
#define COLLIMATE_TEXT_TOKENIZER_H

#include <stdint.h>

#include "text/template.h"
#include "util/text.h"

struct tokenizer;
/* Local. folder with tokenizer.json, else tokenizer.model, else vocab.json + merges.txt; or a path to
 * one of the first two; or "bytes".
 * The special ids come from tokenizer_config.json, special_tokens_map.json, generation_config.json or
 * config.json beside it, in this order; where none names an end, from a special token called <|endoftext|>,
 * </s>, <|end_of_text|> or <eos>; where none names a begin, from the post-processor's template; those that
 * a SentencePiece model has itself stand for either. Fails:
 * ERR_INPUT, ERR_DATA. */
enum status tokenizer_open(const char *path, struct tokenizer **out);
void tokenizer_close(struct tokenizer *t);

int32_t tokenizer_size(const struct tokenizer *t);  /* ids are below this */
int32_t tokenizer_begin(const struct tokenizer *t); /* bos id, -1: none known */
int32_t tokenizer_end(const struct tokenizer *t);   /* eos id, -1 */
int32_t tokenizer_pad(const struct tokenizer *t);   /* pad id of its own configuration, -1 */
/* What the tokenizer's own configuration does with a single text: add_bos_token, or a post-processor template
 * that begins with one. */
bool tokenizer_adds_begin(const struct tokenizer *t);
uint64_t tokenizer_hash(const struct tokenizer *t);                 /* of vocabulary, merges and rules */
int32_t tokenizer_id(const struct tokenizer *t, const char *token); /* -1 if unknown */
/* Whether an id has a token: a model's vocabulary may be padded beyond the tokenizer's, or have gaps. */
bool tokenizer_has(const struct tokenizer *t, int64_t id);
/* Bytes of a token as they are stored (not NUL-terminated, e.g. for a listing). */
const char *tokenizer_token(const struct tokenizer *t, int32_t id, size_t *len);

/* Local. "pcre2 10.42, utf8proc 2.8.0": the libraries that tokenizers run on. */
void tokenizer_libraries(char out[128]);

struct encoder;
enum status encoder_open(const struct tokenizer *t, struct encoder **out);
void encoder_close(struct encoder *e);
/* From here on, until it is set again: which bytes of the texts users wrote (text/template.h), counted from
 * `offset` bytes before the text that is encoded. A special token that touches them is counted, and where
 * `as_text`, its characters are encoded like any other text. (Special tokens that are matched after a
 * normalizer stay tokens, and are not counted; `bytes` matches none.) input is borrowed; NULL: none. */
void encoder_set_input(struct encoder *e, const struct template_ranges *input, size_t offset, bool as_text);
/* Special tokens in users' bytes so far. */
int64_t encoder_input_specials(const struct encoder *e);

struct ids {
    int32_t *data;
    int64_t count, capacity;
};
void ids_free(struct ids *ids);
/* Appends the ids of text. chars (may be NULL): the code points that each of them ends, saturating at 255, so
 * that their sum over a text is its length. Fails: ERR_DATA for invalid UTF-8 (byte offset named); bytes
 * takes anything. */
enum status tokenizer_encode(struct encoder *e, const char *text, size_t len, struct ids *out,
                             struct text *chars);
/* The same for a text that goes on where `before` ends: nothing is put in front of it (a prefix space, a
 * dummy prefix) unless `before` is empty or ends with an added token behind which the tokenizer does so. The
 * ids of `before` and these are those of both in one piece, except where a token reaches over the boundary or
 * a rule looks over it. `before` must be valid UTF-8. */
enum status tokenizer_encode_after(struct encoder *e, const char *before, size_t before_len, const char *text,
                                   size_t len, struct ids *out, struct text *chars);
/* Appends the text of ids; skip_special leaves special tokens out, and ids without a token (of a vocabulary
 * that is padded) have no text. Invalid UTF-8 becomes U+FFFD as in the package, except for `bytes`, where it
 * is kept. (Special tokens that are matched after a normalizer which changes them are left out too;
 * tokenizers 0.23 forgets those.) Fails: ERR_DATA for a negative id. */
enum status tokenizer_decode(const struct tokenizer *t, const int32_t *ids, int64_t n, bool skip_special,
                             struct text *out);
/* The same for ids that go on a text: a space in front of them is theirs and stays. */
enum status tokenizer_decode_after(const struct tokenizer *t, const int32_t *ids, int64_t n,
                                   bool skip_special, struct text *out);

/* What a file of a model folder is: of the tokenizer (its vocabulary, special tokens), a chat template or a
 * folder of such, or neither. store/model_carry.h copies them. */
enum tokenizer_file { TOKENIZER_NONE, TOKENIZER_FILE, TOKENIZER_CHAT };
enum tokenizer_file tokenizer_file_of(const char *name);
/* Where it came from, borrowed; NULL for `bytes`. */
const char *tokenizer_folder(const struct tokenizer *t);
/* Local. Writes what `bytes` is into a model folder: tokenizer.json and tokenizer_config.json that the
 * `tokenizers` package reads, and that tokenizer_open() knows again. */
enum status tokenizer_write_bytes(const char *folder);

#endif
