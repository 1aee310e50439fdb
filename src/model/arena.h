/* An arena: named parameters in one allocation of a back end.
 *
 * Parameters are ranges of one buffer of the back end's master type; gradients and the optimizer's states are
 * buffers of the same layout; the compute copy is another where the compute type differs. A frozen arena has
 * the compute copy alone: its values are rounded as they are written, read back as they were rounded, and
 * have no gradients. A model may have parameters in several arenas: what is trained is in one of them.
 *
 * An arena is opened, gets its parameters one by one in the order of their use in forward (so that backward
 * finishes its gradients from the end), and then its memory, once.
 */
#ifndef COLLIMATE_MODEL_ARENA_H
#define COLLIMATE_MODEL_ARENA_H

#include "backend/workspace.h"

struct parameter {
    char name[96]; /* as files name it, e.g. "model.layers.0.self_attn.q_proj.weight" */
    int64_t rows,
        columns; /* as the model uses it: y = x W^T, W (rows = outputs, columns = inputs); vectors: rows 1 */
    int64_t offset;         /* elements, in the arena; set by arena_add() */
    bool is_joined;         /* to the one before it, without a gap; set by arena_add() */
    bool decay;             /* weight decay applies: matrices, not embeddings' norms or biases */
    int n_dims;             /* 1 or 2, as stored */
    bool stored_transposed; /* GPT-2's Conv1D: the file holds W^T */
    int64_t stored_heads;   /* GPT-NeoX's query_key_value: the file's rows are [head][q, k, v][head_dim], ours
                               [q, k, v][head][head_dim]; 0: as the file has them */
    enum { INIT_NORMAL, INIT_ZERO, INIT_ONE, INIT_UNIFORM } init;
    double deviation; /* of INIT_NORMAL; of INIT_UNIFORM the bound */
    double rate;      /* times the optimizer's learning rate; 0: 1 */
};

enum arena_kind {
    ARENA_TRAINED, /* master values, a compute copy where the types differ, gradients on demand */
    ARENA_FROZEN,  /* compute values alone */
};

struct arena {
    struct backend *backend;
    enum arena_kind kind;
    struct parameter *parameters;
    int n;
    int64_t elements;        /* of all parameters and of the gaps between them */
    struct tensor master;    /* 1 x elements; none where frozen */
    struct tensor compute;   /* the same as master where trained and the types are equal */
    struct tensor gradients; /* 1 x elements; none until arena_need_gradients() */
    struct tensor sink;      /* where backward adds now: gradients, or what arena_collect_into() was given */
    uint64_t revision;       /* raised by everything that changes values: write, refresh, update, gather */
    struct workspace store;  /* the allocation: these, and what arena_take() takes */
    int64_t capacity;        /* of parameters */
};

/* Elements of an arena from `offset` on; arena NULL: there are none. */
struct place {
    struct arena *arena;
    int64_t offset;
};

enum status arena_open(struct backend *b, enum arena_kind kind, struct arena **out);
void arena_close(struct arena *a); /* NULL is fine */
/* Local. Appends a parameter, a copy of p, at the next multiple of 16 elements; where joined without a gap,
 * so that one product serves it and the one before (q, k, v; gate, up). out may be NULL. */
enum status arena_add(struct arena *a, const struct parameter *p, bool joined, struct place *out);
/* Local. Memory for what was added, with room for `beside` bytes that arena_take() will ask for: gradients
 * and the optimizer's states. Values are zero. Nothing is added afterwards. */
enum status arena_allocate(struct arena *a, int64_t beside);

/* Local. 1 x elements, zero, of the arena's own allocation where there is room, else of a new one; ends with
 * arena_give_back(), before the arena and in the opposite order of taking. */
enum status arena_take(struct arena *a, const char *what, int64_t elements, enum dtype type,
                       struct tensor *out);
void arena_give_back(struct arena *a, struct tensor *t);

/* Local. Fails: ERR_INTERNAL for a frozen arena. */
enum status arena_need_gradients(struct arena *a);
/* Local. From now on backward adds into t, of the gradients' shape and the caller's own; none: into the
 * arena's gradients again. */
void arena_collect_into(struct arena *a, struct tensor t);
/* Local. Zeroes what backward adds into; nothing where that is none. */
enum status arena_zero_gradients(struct arena *a);

/* rows x columns elements at p: what a product reads, and where its gradient is added. None where there is no
 * such place; no gradient either in a frozen arena and before arena_need_gradients(). */
struct tensor place_view(struct place p, int64_t rows, int64_t columns);
struct tensor place_gradient(struct place p, int64_t rows, int64_t columns);
/* `elements` further on; none stays none. */
struct place place_after(struct place p, int64_t elements);

/* Local. Host floats in and out, elements [first, first + count) of parameter i as the FILE stores it
 * (stored_transposed and stored_heads are undone here; such parameters are cheapest in one piece). After
 * writing: arena_refresh() renews the compute copy. */
enum status arena_write(struct arena *a, int i, int64_t first, int64_t count, const float *values);
enum status arena_read(const struct arena *a, int i, int64_t first, int64_t count, float *values);
/* Whoever wrote values of a, by whatever way: they are another revision, and products read none of the old
 * ones. arena_write() and arena_refresh() call it. */
void arena_changed(struct arena *a);
/* Local. After whatever wrote values: the compute copy becomes that of the master values. */
enum status arena_refresh(struct arena *a);
/* Local. Random initialisation as transformers does: normal(0, deviation), zero biases, one norms; a function
 * of (seed, parameter name, element), so the same on any rank. */
enum status arena_initialize(struct arena *a, uint64_t seed);
/* Local. Of parameter i alone, and without arena_refresh(). */
enum status arena_initialize_one(struct arena *a, int i, uint64_t seed);

/* The values themselves, 1 x elements: master, or compute where frozen. */
struct tensor arena_values(const struct arena *a);
/* Local. Hash of the compute values' bits, of what a forward pass reads: the same for a trained and a frozen
 * arena of the same file. */
enum status arena_hash(const struct arena *a, uint64_t *out);
/* Local. What blocks [first, last) of arena_hash_blocks() add, modulo 2^64, to the hash of the values. */
enum status arena_hash_part(const struct arena *a, int64_t first, int64_t last, uint64_t *sum);
int64_t arena_hash_blocks(const struct arena *a);

/* Local. Bytes that the back end keeps beside the matrices for products that read W and, where both, W^T as
 * well, all but parameter `except` (-1: none). */
int64_t arena_kept_bytes(const struct arena *a, bool both, int except);

/* Elements of all parameters (the arena has gaps). */
int64_t arena_parameter_count(const struct arena *a);
/* NULL where there is none of that name. */
const struct parameter *arena_find(const struct arena *a, const char *name);

#endif
