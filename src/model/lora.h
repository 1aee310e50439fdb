/* Low-rank adapters (LoRA, Hu et al. 2021) beside the products of a model:
 *
 *     y = x W^T + b + scale * (drop(x) A^T) B^T,   A (rank, inputs), B (outputs, rank)
 *
 * A set of adapters has an arena and a plan of its own: the model's plan, with the set's products added to it
 * and the parameters that the set holds whole in the place of the model's. Passes go through the set that is
 * in use, or through the base alone, so that one model is its own reference. Names are PEFT's, as its files
 * have them.
 */
#ifndef COLLIMATE_MODEL_LORA_H
#define COLLIMATE_MODEL_LORA_H

#include "model/model.h"

enum { LORA_NAME = 96 };

struct lora_module {
    char name[LORA_NAME]; /* "model.layers.0.self_attn.q_proj": its weight's name without ".weight" */
    int64_t rank;
    double scale; /* alpha / rank, or alpha / sqrt(rank) */
};
struct lora_layout {
    struct lora_module *modules; /* in any order */
    int64_t n, capacity;
    char (*saved)[LORA_NAME]; /* the model's parameters that the set holds whole: "score.weight" */
    int64_t n_saved, cap_saved;
    struct film_layout film;
    struct parameter *leading; /* others of the set, ahead of all: what is not the model's (an encoder) */
    int64_t n_leading, cap_leading;
    double dropout; /* of the inputs, in training */
    bool gaussian;  /* A from normal(0, 1 / rank); else uniform in +-1 / sqrt(inputs), PyTorch's default */
};
void lora_layout_free(struct lora_layout *l);
/* Local. Appends. */
enum status lora_layout_add(struct lora_layout *l, const char *module, int64_t rank, double scale);
enum status lora_layout_lead(struct lora_layout *l, const struct parameter *p);
enum status lora_layout_save(struct lora_layout *l, const char *parameter);

/* What a parameter of the model is to adapters. */
enum lora_role {
    LORA_NONE,    /* a norm, a bias */
    LORA_PRODUCT, /* may have an adapter */
    LORA_HEAD,    /* the output head */
    LORA_TABLE,   /* an embedding */
};
enum lora_role lora_role(const struct model *m, const struct parameter *p);

struct lora; /* owned by the model */
/* Local. A set of this kind, in use from now on; what it holds whole begins as the model's values, everything
 * else is zero. beside: as arena_allocate(). The model's base is left as it is; trained or frozen. Fails:
 * ERR_DATA naming a module that the model has not, or that takes no adapter. */
enum status lora_open(struct model *m, const struct lora_layout *layout, enum arena_kind kind, int64_t beside,
                      struct lora **out);
/* From now on m's passes go through l; NULL: through the base alone. m->trained becomes l's arena if that is
 * trained, the base if that is, else none. */
void lora_use(struct model *m, const struct lora *l);
struct arena *lora_arena(const struct lora *l);
/* Whether a parameter of the set is one of an adapter, or held whole: what PEFT's files have. */
bool lora_is_adapter(const struct parameter *p);
const struct lora_layout *lora_layout_of(const struct lora *l);

/* Local. Random A and zero B from the seed; what is held whole stays. */
enum status lora_initialize(struct lora *l, uint64_t seed);
/* Local. The base's weights += scale * B A, on the host in double; its compute copy is renewed. What the set
 * holds whole takes the place of the base's. Fails: ERR_INTERNAL for a frozen base. */
enum status lora_merge(struct model *m, const struct lora *l);

#endif
