/* Every rank reads the whole folder by itself (the pages are shared on a node) and the verdict is agreed on.
 */
#include "store/model_folder.h"

#include <stdio.h>
#include <string.h>

#include "io/safetensors.h"
#include "model/family.h"
#include "store/checkpoint.h"
#include "store/checkpoint_file.h"
#include "store/model_folder_internal.h"
#include "store/model_source.h"
#include "store/value_head.h"
#include "util/hash.h"
#include "util/log.h"
#include "util/mem.h"

enum { PIECE = 1 << 20 }; /* elements at a time */

static const struct model_folder_options usual = {.head = HEAD_LANGUAGE, .kind = ARENA_TRAINED};

/* Tensors that files hold and models do not need: buffers of older versions, and heads that are not used. */
static const char *const ignored[] = {".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias",
                                      ".attention.bias", ".attention.masked_bias"};

static bool is_needed(const struct model *m, const char *name) {
    const char *head = m->config.family->names.head;
    for (int i = 0; i < COUNT_OF(ignored); i++) {
        if (text_ends(name, ignored[i])) {
            return false;
        }
    }
    bool no_head = m->config.tied || m->config.head == HEAD_SCORE;
    return !(no_head && text_starts(name, head) && name[strlen(head)] == '.');
}

/* The tensor of parameter p; also where the file is of the bare model and lacks the base prefix, or where it
 * has a tied embedding under the head's name. */
static const struct stored_tensor *find(const struct safetensors *file, const struct model *m,
                                        const struct parameter *p) {
    const struct stored_tensor *t = safetensors_find(file, p->name);
    const struct family_names *names = &m->config.family->names;
    if (!t && text_starts(p->name, names->base)) {
        t = safetensors_find(file, p->name + strlen(names->base));
    }
    if (!t && m->config.tied && text_starts(p->name, names->embed)) {
        char head[96];
        snprintf(head, sizeof head, "%s.weight", names->head);
        t = safetensors_find(file, head);
    }
    return t;
}

int parameter_stored_shape(const struct parameter *p, int64_t shape[2]) {
    if (p->n_dims == 1) {
        shape[0] = p->columns;
        return 1;
    }
    shape[0] = p->stored_transposed ? p->columns : p->rows;
    shape[1] = p->stored_transposed ? p->rows : p->columns;
    return 2;
}

static enum status check_shape(const struct parameter *p, const struct stored_tensor *t, const char *folder) {
    int64_t shape[2];
    int dims = parameter_stored_shape(p, shape);
    if (t->n_dims != dims || t->shape[0] != shape[0] || (dims == 2 && t->shape[1] != shape[1])) {
        return fail(ERR_DATA, "%s: tensor %s has %d dimensions, %lld x %lld; config.json gives %lld x %lld",
                    folder, t->name, t->n_dims, (long long)(t->n_dims > 0 ? t->shape[0] : 1),
                    (long long)(t->n_dims > 1 ? t->shape[1] : 1), (long long)shape[0],
                    (long long)(dims > 1 ? shape[1] : 1));
    }
    return OK;
}

int64_t parameter_piece(const struct parameter *p) {
    int64_t elements = p->rows * p->columns;
    bool whole = p->stored_transposed || p->stored_heads > 0;
    return whole || elements < PIECE ? elements : PIECE;
}

static enum status read_parameter(struct safetensors *file, const struct stored_tensor *t, struct model *m,
                                  int i) {
    const struct parameter *p = &m->base->parameters[i];
    int64_t elements = p->rows * p->columns, piece = parameter_piece(p);
    float *values;
    enum status st = OK;
    TRY(NEW_ARRAY(values, piece));
    for (int64_t first = 0; first < elements && st == OK; first += piece) {
        int64_t count = elements - first < piece ? elements - first : piece;
        st = safetensors_read(file, t, first, count, values);
        st = st == OK ? arena_write(m->base, i, first, count, values) : st;
    }
    mem_free(values);
    return st;
}

static enum status check_extra(const struct safetensors *file, const struct model *m, const char *folder) {
    for (int i = 0; i < safetensors_count(file); i++) {
        const struct stored_tensor *t = safetensors_at(file, i);
        char name[256];
        snprintf(name, sizeof name, "%s%s", m->config.family->names.base, t->name);
        if (!arena_find(m->base, t->name) && !arena_find(m->base, name) && is_needed(m, t->name)) {
            return fail(ERR_DATA, "%s: tensor %s has no place in a %s", folder, t->name,
                        m->config.family->causal);
        }
    }
    return OK;
}

/* The tensors of m in the file; a score head may be missing. */
static enum status check_tensors(const struct safetensors *file, const struct model *m, const char *folder) {
    TRY(check_extra(file, m, folder));
    for (int i = 0; i < m->base->n; i++) {
        const struct parameter *p = &m->base->parameters[i];
        const struct stored_tensor *t = find(file, m, p);
        if (!t && (strcmp(p->name, "score.weight") == 0 || value_head_is(p))) {
            continue;
        }
        if (!t) {
            return fail(ERR_DATA, "%s: tensor %s is missing", folder, p->name);
        }
        TRY(check_shape(p, t, folder));
    }
    return OK;
}

static enum status read_weights(struct model *m, const char *folder, uint64_t seed) {
    struct safetensors *file;
    enum status st = OK;
    TRY(safetensors_open(folder, &file));
    TRY_TO(done, check_tensors(file, m, folder));
    if (m->config.head == HEAD_SCORE && !safetensors_find(file, "score.weight")) {
        TRY_TO(done, arena_initialize(m->base, seed)); /* the rest is overwritten */
        log_root(LOG_INFO, "%s: no score head; initialized from the seed", folder);
    }
    for (int i = 0; i < m->base->n; i++) {
        const struct parameter *p = &m->base->parameters[i];
        const struct stored_tensor *t = find(file, m, p);
        if (t) {
            TRY_TO(done, read_parameter(file, t, m, i));
        }
    }
    TRY_TO(done, value_head_read(folder, m->base));
    st = arena_refresh(m->base);
done:
    safetensors_close(file);
    return st;
}

/* What the folder's tokenizer pads with; -1: none known. */
static int32_t pad_of_tokenizer(const char *folder) {
    struct tokenizer *t;
    if (tokenizer_open(folder, &t) != OK) {
        status_clear(); /* whoever needs it says so */
        return -1;
    }
    int32_t pad = tokenizer_pad(t);
    tokenizer_close(t);
    return pad;
}

/* transformers reads a score at the last id that is not pad_token_id, so that must be none that a response
 * ends with, the end token above all; and what the tokenizer pads with, where texts are padded. */
static int32_t pad_of_scores(const struct model_config *c, const char *folder) {
    if (c->pad_id >= 0 && c->pad_id != c->end_id) {
        return c->pad_id;
    }
    int32_t pad = pad_of_tokenizer(folder);
    if (pad >= 0 && pad != c->end_id && pad < c->vocabulary) {
        return pad;
    }
    if (pad >= 0) {
        log_root(LOG_WARN,
                 "%s: its tokenizer pads with id %d, which can be no pad_token_id of a reward model (the end "
                 "token, or none of the model's): whoever pads its texts needs config.json's pad_token_id",
                 folder, pad);
    }
    if (c->begin_id >= 0 && c->begin_id != c->end_id) {
        return c->begin_id;
    }
    return c->end_id == 0 ? 1 : 0;
}

static void put_score_head(struct model_config *c, const char *folder) {
    c->head = HEAD_SCORE;
    c->head_bias = false;
    c->pad_id = pad_of_scores(c, folder);
}

/* config.json, with a score head where one is asked for and there is none. */
static enum status config_of(const char *folder, enum model_head head, struct model_config *out) {
    TRY(model_source_config(folder, out));
    if (head != HEAD_SCORE || out->head == HEAD_SCORE) {
        return OK;
    }
    if (!out->family->classifier) {
        return fail(
            ERR_USAGE,
            "%s: no reward model begins with %s: transformers has no …ForSequenceClassification of its "
            "family, so that nothing could read it",
            folder, out->family->causal);
    }
    put_score_head(out, folder);
    return OK;
}

/* What a folder says that could be read in two ways, and how it is read. */
static void say_readings(const char *folder, const struct model_config *c) {
    const char *head = c->family->names.head;
    if (c->untied && c->head == HEAD_LANGUAGE) {
        log_root(LOG_WARN,
                 "%s: config.json ties the head to the embedding, but the weights have another %s.weight: "
                 "the two are kept apart, as transformers does",
                 folder, head);
    }
    if (c->head == HEAD_SCORE && c->pad_id >= 0 && c->pad_id == c->end_id) {
        log_root(LOG_WARN,
                 "%s: pad_token_id is the end token %d: a text's value is read at the last token before it, "
                 "as transformers does",
                 folder, c->pad_id);
    }
}

static enum status open_here(struct backend *b, const char *folder, const struct model_folder_options *o,
                             struct model **out) {
    struct model_config config;
    struct model *m = NULL;
    TRY(config_of(folder, o->head, &config));
    config.value_head = o->value_head && config.head == HEAD_LANGUAGE;
    TRY(model_open_as(b, &config, o->kind, o->beside, &m));
    enum status st = read_weights(m, folder, o->seed);
    if (st != OK) {
        model_close(m);
        return st;
    }
    say_readings(folder, &config);
    *out = m;
    return OK;
}

/* The shapes that a run may have given to the model it began with: its own, or another head; or a value head
 * beside it, which is as large as a score head in the place of a tied one. */
enum { SHAPES = 2 };
static struct model_config shape_of(const struct model_config *began, const char *folder, int shape,
                                    bool has_values) {
    struct model_config out = *began;
    if (has_values) {
        out.value_head = out.head == HEAD_LANGUAGE;
    } else if (shape == 1 && out.head == HEAD_LANGUAGE && out.family->classifier) {
        put_score_head(&out, folder);
    } else if (shape == 1) {
        out.head = HEAD_LANGUAGE;
    }
    return out;
}

/* A model of the checkpoint's shape, its parameters not yet read: the arena's size tells which it is. */
static enum status open_shape(struct backend *b, const char *path, const struct model_folder_options *o,
                              struct model **out) {
    struct text folder = {0};
    struct model_config began;
    int64_t elements = 0;
    bool has_values = false;
    enum status st = model_source_folder(path, &folder);
    st = st == OK ? model_source_has_values(path, &has_values) : st;
    st = st == OK ? model_source_config(folder.data, &began) : st;
    st = st == OK ? checkpoint_file_elements(path, "parameters", &elements) : st;
    for (int shape = 0; shape < (has_values ? 1 : SHAPES) && st == OK; shape++) {
        const struct model_config config = shape_of(&began, folder.data, shape, has_values);
        st = model_open_as(b, &config, o->kind, o->beside, out);
        if (st == OK && (*out)->base->elements == elements) {
            break;
        }
        if (st == OK) {
            model_close(*out);
            *out = NULL;
        }
    }
    if (st == OK && !*out) {
        st = fail(
            ERR_DATA,
            "%s: holds %lld parameters, no model of the shape of %s (a run with adapters keeps them alone: "
            "its end is read as adapter=RUN/adapter beside model=)",
            path, (long long)elements, folder.data);
    }
    text_free(&folder);
    return st;
}

/* Collective. */
static enum status read_checkpoint(struct comm *c, const char *path, struct arena *a) {
    const struct named parameters = {
        .name = "parameters", .elements = a->elements, .backend = a->backend, .tensor = arena_values(a)};
    TRY(checkpoint_read(c, path, &parameters, 1));
    return comm_agree(c, arena_refresh(a));
}

static enum status open_checkpoint(struct comm *c, struct backend *b, const char *path,
                                   const struct model_folder_options *o, struct model **out) {
    struct model *m = NULL;
    enum status st = comm_agree(c, open_shape(b, path, o, &m));
    if (st == OK && o->head == HEAD_SCORE && m->config.head != HEAD_SCORE) {
        st = fail(ERR_USAGE, "%s: a reward model begins with a model folder, as the run's model/", path);
    }
    st = st == OK ? read_checkpoint(c, path, m->base) : st;
    if (st != OK) {
        model_close(m);
        return st;
    }
    *out = m;
    return OK;
}

/* The headers of the folder's weights. */
static enum status check_folder(struct backend *plan, const char *folder, const struct model_config *config) {
    struct safetensors *file = NULL;
    struct model *m = NULL;
    TRY(model_open(plan, config, &m));
    enum status st = safetensors_open(folder, &file);
    if (st == OK) {
        st = check_tensors(file, m, folder);
        safetensors_close(file);
    }
    model_close(m);
    return st;
}

enum status model_folder_check(const char *folder, enum model_head head, struct model_config *out) {
    const struct backend_request request = {.device = "plan", .device_index = -1}; /* counts, holds nothing */
    struct backend *plan;
    struct model *m = NULL;
    char why[256];
    enum status st = OK;
    TRY(backend_open(&request, &plan, why));
    if (model_is_checkpoint(folder)) {
        st = open_shape(plan, folder, &usual, &m);
        if (st == OK) {
            *out = m->config;
            model_close(m);
        }
    } else {
        st = config_of(folder, head, out);
        st = st == OK ? check_folder(plan, folder, out) : st;
    }
    backend_close(plan);
    return st;
}

enum status model_folder_open(struct comm *c, struct backend *b, const char *folder,
                              const struct model_folder_options *o, struct model **out) {
    struct model *m = NULL;
    o = o ? o : &usual;
    if (model_is_checkpoint(folder)) {
        return open_checkpoint(c, b, folder, o, out);
    }
    enum status st = comm_agree(c, open_here(b, folder, o, &m));
    if (st != OK) {
        model_close(m);
        return st;
    }
    *out = m;
    return OK;
}

enum status model_folder_type(const char *folder, enum stored_type *out) {
    int64_t elements[STORED_OTHER + 1] = {0};
    struct safetensors *file;
    *out = STORED_F32;
    if (!safetensors_are_in(folder)) {
        return OK;
    }
    TRY(safetensors_open(folder, &file));
    for (int i = 0; i < safetensors_count(file); i++) {
        const struct stored_tensor *t = safetensors_at(file, i);
        elements[t->type] += t->elements;
    }
    safetensors_close(file);
    for (int type = STORED_BF16; type <= STORED_F16; type++) {
        *out = elements[type] > elements[*out] ? (enum stored_type)type : *out;
    }
    return OK;
}

enum status model_folder_hash(struct model *m, uint64_t *out) {
    struct text config = {0};
    uint64_t weights;
    enum status st;
    TRY_TO(done, model_config_print(&m->config, NULL, "float32", &config));
    TRY_TO(done, arena_hash(m->base, &weights));
    *out = hash_join(weights, hash_bytes(config.data, config.len, 0));
done:
    text_free(&config);
    return st;
}
