/* What keys and fixed fields of a family's row cannot say: which layers have a window or do not turn, scales
 * that follow from others. struct family's adapt. */
#ifndef COLLIMATE_MODEL_FAMILY_ADAPT_H
#define COLLIMATE_MODEL_FAMILY_ADAPT_H

#include "model/family.h"

/* Local. c has the row's fixed fields, the keys' values and its shape. Fails: ERR_DATA naming the key. */
enum status adapt_mistral(const json_t *json, const char *where, struct model_config *c);
enum status adapt_qwen(const json_t *json, const char *where, struct model_config *c);
enum status adapt_smollm3(const json_t *json, const char *where, struct model_config *c);
enum status adapt_gemma(const json_t *json, const char *where, struct model_config *c);
enum status adapt_gemma2(const json_t *json, const char *where, struct model_config *c);
enum status adapt_gemma3(const json_t *json, const char *where, struct model_config *c);
enum status adapt_cohere2(const json_t *json, const char *where, struct model_config *c);
enum status adapt_granite(const json_t *json, const char *where, struct model_config *c);
enum status adapt_gpt2(const json_t *json, const char *where, struct model_config *c);

#endif
