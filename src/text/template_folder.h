/* The chat templates of a model folder, and the special tokens that they write, as transformers finds them:
 *   chat_template.jinja, additional_chat_templates/NAME.jinja; without either tokenizer_config.json's
 *   "chat_template", a text or a list of {name, template};
 *   tokens: tokenizer_config.json's bos_token, eos_token and every other ..._token, its extra_special_tokens
 * where they are named; special_tokens_map.json's win over them where the former has no added_tokens_decoder.
 * What a tokenizer's class in Python sets by itself, without a word in these files, is not known here.
 */
#ifndef COLLIMATE_TEXT_TEMPLATE_FOLDER_H
#define COLLIMATE_TEXT_TEMPLATE_FOLDER_H

#include "text/template.h"

struct named_template {
    char *name; /* "default", "tool_use", … */
    struct template *template;
};
struct template_folder {
    struct named_template *templates;
    int64_t count, capacity;
    json_t *specials; /* object of strings, for struct template_input */
};
/* Local. A folder without a template gives count 0. Fails: ERR_INPUT, ERR_DATA, ERR_USAGE (see
 * template_parse). Free in any case. */
enum status template_folder_open(const char *folder, struct template_folder *out);
/* Local. The template in a file takes the place of those of the folder; the tokens stay. */
enum status template_folder_replace(struct template_folder *f, const char *path);
/* Of the templates' texts, in the order of their names; 0: there are none. */
uint64_t template_folder_hash(const struct template_folder *f);
void template_folder_free(struct template_folder *f);
/* The one for a row: tool_use for one with tools, where there is such; else default; NULL: there is none. */
const struct template *template_folder_choose(const struct template_folder *f, bool tools);
/* Local. A template from a file of its own. */
enum status template_read(const char *path, struct template **out);

#endif
