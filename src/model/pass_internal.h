/* Inside the model room: the state of a pass, shared by forward, backward, readouts and cache.
 *
 * T rows enter a layer. In the last layer only A <= T of them, the active ones, go on: the rest give their
 * keys and values and nothing more, since nobody reads them out. compact says that A < T there.
 */
#ifndef COLLIMATE_MODEL_PASS_INTERNAL_H
#define COLLIMATE_MODEL_PASS_INTERNAL_H

#include "model/model_internal.h"

/* cos and sin by position, made once; double. */
struct rope_cache {
    bool local;   /* of the layers with a window, where they have a theta of their own */
    double *rows; /* positions x rotary_dim */
    int64_t positions, capacity;
};
/* table (n, rotary_dim) of the backend's readout type, already taken. lengths: of each token's sequence, read
 * by dynamic scaling and longrope only. host: n x rotary_dim scratch. */
enum status rope_table(struct rope_cache *cache, const struct model_config *c, const int32_t *positions,
                       const int32_t *lengths, int32_t n, double *host);
void rope_cache_free(struct rope_cache *cache);

/* What one layer leaves for its backward. Tensors without data were not needed. */
struct layer_state {
    struct tensor x;                 /* (T, d) input */
    struct tensor xa, n1, nq, stat1; /* x and norm1's output at the active rows */
    struct tensor q_raw, k_raw;      /* before qk norms */
    struct tensor stat_q, stat_k;
    struct tensor qkv, q, k, v;         /* q, k, v: views of qkv or their own; after rope */
    struct tensor attended, lse;        /* (A, H hd), (A, H) */
    struct tensor post1_in, stat_post1; /* (A, d), only with post norms */
    struct tensor mid;                  /* (A, d) sequential: x + attention */
    struct tensor n2, stat2;
    struct tensor up, gate, activated; /* up: (A, ffn or 2 ffn); gate: a view where gated */
    struct tensor post2_in, stat_post2;
    struct tensor raw; /* (A, d) the block's output before FiLM, where there is FiLM */
    struct tensor y;   /* (A, d) */
};

enum { CACHE_PREFILL_TOKENS = 1024 }; /* prompts run in groups of at most this many tokens, or one prompt */
struct cache;
/* What a run of the layers computes on. Host memory. */
struct trunk_input {
    int32_t n;
    const int32_t *tokens, *positions, *lengths; /* lengths may be NULL, see rope_table */
    const struct attention_map *map;
    const int32_t *wanted; /* rows to go on in the last layer, ascending; NULL: all */
    int32_t n_wanted;
    struct cache *cache;       /* keys and values are added to it, or NULL */
    const int32_t *cache_rows; /* where, for each token */
    bool attend_cache;         /* map's keys are the cache's rows */
    const int32_t *conditions; /* of each token; NULL: none */
};

struct pass {
    struct model *model;
    struct workspace *w;
    enum pass_keep keep;
    int64_t mark; /* of the workspace, at opening */
    const struct forest *forest;
    bool is_forward_done, is_backward_done, is_scored;

    int32_t n_rows, n_active;
    bool compact;
    const struct attention_map *map;
    struct attention_map last_map;
    struct query_span *spans; /* of last_map */
    struct key_range *ranges;
    int64_t cap_spans, cap_ranges;
    int32_t *row_of; /* active row of each row, -1: none */
    int32_t *active; /* its inverse */
    int32_t *lengths, *wanted, *scratch;
    double *numbers; /* scratch */
    int64_t cap_rows, cap_numbers, cap_lengths, cap_wanted, cap_scratch;
    struct rope_cache rope, rope_local;

    const struct condition *condition;               /* of pass_condition() */
    struct tensor z, dz;                             /* of this run; none: FiLM changes nothing */
    struct tensor row_conditions, active_conditions; /* I32 */
    int32_t *conditions;                             /* of the forest's tokens */
    int64_t cap_conditions;

    uint64_t drop_seed; /* of pass_drop() */
    int64_t drop_step;
    uint64_t *drop_keys; /* of the forest's tokens */
    float *mask;         /* scratch */
    int64_t cap_drop_keys, cap_mask;

    struct tensor tokens, positions, active_rows; /* I32 */
    struct rope_tables {
        struct tensor all, active; /* (n, rotary_dim), (A, rotary_dim) */
    } tables, tables_local;
    struct cache *cache;
    struct tensor cache_rows;
    bool attend_cache;

    struct layer_state *layers;
    struct tensor hidden, final_statistics; /* (A, d) after the final norm; its input is the last layer's y */

    struct tensor score_rows, score_hidden, score_targets, score_statistics; /* of pass_logps */
    struct tensor value_input;  /* score_hidden before it was scaled as the logits are */
    struct pass *diverges_from; /* of pass_divergence since the last forward; borrowed */
    int32_t n_values;           /* of pass_values */
    int32_t *value_rows;
    double *value_hidden; /* n_values x d */
    int64_t cap_values, cap_value_hidden;
};

/* dhidden += the gradient of sum_i weights[i] * divergence[i] (pass_divergence.h). */
enum status divergence_backward(struct pass *p, const double *weights, struct tensor dhidden);

/* Layers and final norm. */
enum status trunk_run(struct pass *p, const struct trunk_input *in);

/* One layer forward from s->x (set by the caller) into s; s->y is taken unless it is there. want_y false:
 * stops at what backward needs. */
enum status layer_forward(struct pass *p, int64_t l, struct layer_state *s, bool want_y);
/* d (A, d): d value / d y, becomes d value / d x; where the layer is compact the latter is left in dx (T, d),
 * which is otherwise unused. */
enum status layer_backward(struct pass *p, int64_t l, struct layer_state *s, struct tensor d,
                           struct tensor dx);

/* True where layer l leaves out rows. */
bool layer_is_compact(const struct pass *p, int64_t l);
/* Rope tables of a layer's queries and of its keys. */
struct tensor pass_query_table(const struct pass *p, int64_t l);
struct tensor pass_key_table(const struct pass *p, int64_t l);
const struct attention_map *pass_layer_map(const struct pass *p, int64_t l);
/* Whether this norm is there. */
static inline bool affine_is(const struct affine *a) {
    return a->weight.arena != NULL;
}
struct norm layer_norm_of(const struct pass *p, const struct affine *a, struct tensor x, struct tensor y,
                          struct tensor statistics);
/* Turns the heads in x by their positions (rotary embedding), or back for gradients. */
enum status layer_turn(struct pass *p, int64_t l, struct tensor x, int heads, struct tensor table, bool back);
struct attention layer_attention_of(const struct pass *p, int64_t l, const struct layer_state *s);

enum status pass_take(struct pass *p, int64_t rows, int64_t columns, const char *what, struct tensor *out);
enum status pass_take_readout(struct pass *p, int64_t rows, int64_t columns, const char *what,
                              struct tensor *out);
/* A device copy of n host integers, 1 x n. */
enum status pass_put_ids(struct pass *p, const int32_t *ids, int32_t n, const char *what, struct tensor *out);
/* The active row of a forest row; ERR_INTERNAL where the last layer left it out. */
enum status pass_active_row(const struct pass *p, int32_t row, int32_t *out);
/* Adapters of the outputs [first, first + y.columns) of a product: y += what they say of x; the gradients of
 * theirs for dy, and dx += that of the input where dx is wanted. */
enum status adapters_apply(struct pass *p, const struct linear *w, int64_t first, struct tensor x,
                           struct tensor y);
enum status adapters_unapply(struct pass *p, const struct linear *w, int64_t first, struct tensor x,
                             struct tensor dy, struct tensor dx);
/* What dropout draws the forest's tokens by, where it is on. */
enum status adapters_name_tokens(struct pass *p, const struct forest *f);
/* FiLM (film.h). begin: once a run, with a condition for each row or NULL; then whether a layer has it, its
 * output y of the block's x, and from the gradient d of y that of x in its place, beside those of gamma, beta
 * and z. */
enum status film_begin(struct pass *p, const int32_t *conditions, int32_t n);
bool film_is(const struct pass *p, int64_t l);
enum status film_apply(struct pass *p, int64_t l, struct tensor x, struct tensor y);
enum status film_begin_backward(struct pass *p);
enum status film_unapply(struct pass *p, int64_t l, struct tensor x, struct tensor d);
enum status film_end_backward(struct pass *p);
/* At least n doubles of scratch in p->numbers. */
enum status pass_need_numbers(struct pass *p, int64_t n);
/* Logits of active rows, on the host. */
enum status pass_active_logits(struct pass *p, const int32_t *active, int32_t n, float *out);

/* Adds the readouts' gradients to dhidden (A, d), zeroed by the caller, and to the head's parameters. */
enum status readouts_backward(struct pass *p, const struct readout_gradients *g, struct tensor dhidden);

/* Adds this layer's new keys and values to the cache. */
enum status cache_add(struct cache *c, struct pass *p, int64_t l, const struct layer_state *s);
void cache_layer(const struct cache *c, int64_t l, struct tensor *k, struct tensor *v);

#endif
