/* adapter_config.json of PEFT (0.21): which modules have adapters, of which ranks and scales.
 *
 * A configuration is its JSON object: what was read, or what PEFT would write for the adapters that were
 * asked for. What it asks for and we lack is refused by its key.
 */
#ifndef COLLIMATE_STORE_ADAPTER_CONFIG_H
#define COLLIMATE_STORE_ADAPTER_CONFIG_H

#include <jansson.h>

#include "model/lora.h"

struct adapter_wanted {
    int64_t rank;
    double alpha, dropout;
    const char *targets; /* names with commas between them, "all-linear", or "auto" */
    const char *layers;  /* numbers of blocks with commas between them; "": all */
    bool rslora, gaussian;
    const char *base; /* the model's folder, as PEFT's files name it */
};
/* Local. A configuration of new adapters for such a model; a score head is trained and saved whole. The
 * caller calls json_decref(). Fails: ERR_USAGE where the family has no default of its own. */
enum status adapter_config_make(const struct adapter_wanted *w, const struct model_config *model,
                                json_t **out);
/* Local. Of a folder. Fails: ERR_INPUT, ERR_DATA naming the key that asks for what we lack. */
enum status adapter_config_read(const char *folder, json_t **out);
/* Of the model that it is for. */
enum model_head adapter_config_head(const json_t *config);
/* Local. Its modules in such a model. where: begins the messages. Fails: ERR_DATA naming a target that the
 * model has not; a name in a list that fits nothing beside others that do is refused where is_strict, else
 * said in the log. */
enum status adapter_config_layout(const json_t *config, const char *where, bool is_strict,
                                  const struct model_config *model, struct lora_layout *out);

/* Local. Python's re: whether the whole of name matches; with a suffix, whether "(.*\.)?(regex)" does. Fails:
 * ERR_DATA for an expression that PCRE2 does not take. */
enum status adapter_pattern_matches(const char *regex, bool is_suffix, const char *name, bool *out);
/* Local. The number in name behind a part that fits: what group 1 of ".*\.regex\.(\d+)\." holds as it matches
 * from name's start; -1: it does not. Fails: as above, and where the group is another one that holds no
 * number. */
enum status adapter_pattern_number(const char *regex, const char *name, int64_t *out);

/* Blocks (adapter_layers.c). Local. check: fails with ERR_DATA for what is not as PEFT writes it. hold:
 * whether a module that target_modules names is of a block that gets adapters. ask: words as in
 * adapter_wanted into a configuration, for a model of so many blocks; fails with ERR_USAGE. */
enum status adapter_layers_check(const json_t *config, const char *where);
enum status adapter_layers_hold(const json_t *config, const char *module, bool *out);
enum status adapter_layers_ask(json_t *config, const char *words, int64_t layers);

#endif
