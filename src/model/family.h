/* The table of decoder families. A row: the names that transformers gives the family, the
 * config.json keys with the descriptor fields they fill, the fields that the family itself fixes, and the
 * patterns of its tensor names. Adding a family is adding a row.
 */
#ifndef COLLIMATE_MODEL_FAMILY_H
#define COLLIMATE_MODEL_FAMILY_H

#include "model/config.h"

/* KEY_CAP: a number, whose null is 0: none. */
enum config_key_type { KEY_INT, KEY_NUMBER, KEY_BOOL, KEY_CAP };
struct config_key {
    const char *name;
    enum config_key_type type; /* field: int64_t, double, bool, double */
    size_t offset;             /* in struct model_config */
    bool required;
};

/* Tensor names; '*' stands for the layer's number; ".weight" or ".bias" is added. NULL: the family has none.
 */
struct family_names {
    const char *base; /* prefix that files of the bare model lack: "model." */
    const char *embed, *positions, *final_norm, *head;
    const char *norm1, *norm2, *post_norm1, *post_norm2;
    const char *q, *k, *v, *qkv, *q_norm, *k_norm, *out;
    const char *gate, *up, *gate_up, *down;
};

struct family {
    const char *type;                /* model_type */
    const char *causal, *classifier; /* classifier NULL: transformers has none */
    const struct config_key *keys;   /* ended by a NULL name */
    const char *activation_key;
    const char *const *refused; /* keys that must be absent, null or false; ended by NULL */
    struct model_config base;   /* what the family fixes, and defaults of missing keys */
    struct family_names names;
    bool stored_transposed;                                     /* Conv1D */
    bool heads_interleaved;                                     /* qkv rows [head][q, k, v][head_dim] */
    const char *theta_key, *local_theta_key, *rotary_share_key; /* transformers 4; NULL: none */
    double rotary_share;                                        /* default share of a head that turns */
    double long_from; /* original positions where config.json does not say (Phi-3); 0: as many as it has. Its
                         scalings are longrope, whatever older files call them */
    const char *lora_targets; /* modules that PEFT gives adapters to, comma separated; NULL: it names none */
    /* What keys and base cannot say; NULL: nothing. */
    enum status (*adapt)(const json_t *json, const char *where, struct model_config *c);
};

/* NULL where no row has that architecture or model_type. *head says which of the two it is. */
const struct family *family_find(const char *name, enum model_head *head);
/* "LlamaForCausalLM, MistralForCausalLM, …" */
enum status family_list(struct text *out);
/* What kind of model an architecture or model_type is that no row has, "is a mixture of experts" and such;
 * NULL: not known. */
const char *family_refusal(const char *name);

#endif
