/* Model folders: safetensors (single, or an index with shards) and config.json; a model that is small enough
 * is opened whole. */
#include <stdio.h>
#include <string.h>

#include "backend/backend.h"
#include "fuzz.h"
#include "io/safetensors.h"
#include "store/model_folder.h"

enum { CONFIG = 1, PIECE = 64 };

static void read_tensors(void) {
    struct safetensors *file;
    enum status st = safetensors_open(fuzz_folder(), &file);
    if (st == ERR_INPUT || !fuzz_fine(st, ERR_DATA)) {
        return;
    }
    for (int i = 0; i < safetensors_count(file); i++) {
        const struct stored_tensor *t = safetensors_at(file, i);
        float values[PIECE];
        int64_t n = t->elements < PIECE ? t->elements : PIECE;
        int64_t product = 1;
        for (int d = 0; d < t->n_dims; d++) {
            product *= t->shape[d];
        }
        FUZZ_CHECK(product == t->elements);
        FUZZ_CHECK(safetensors_find(file, t->name) != NULL);
        bool listed_only = t->type == STORED_OTHER;
        FUZZ_CHECK(safetensors_read(file, t, 0, n, values) == (listed_only ? ERR_DATA : OK));
        FUZZ_CHECK(safetensors_read(file, t, t->elements - n, n, values) == (listed_only ? ERR_DATA : OK));
    }
    safetensors_close(file);
}

static bool is_small(const struct model_config *c) {
    double width = (double)c->width + (double)c->heads * (double)c->head_dim + (double)c->ffn;
    double rows = (double)c->vocabulary + (double)c->max_positions + 16.0 * (double)c->layers * width;
    return rows * width < 1e6;
}

static bool same_model(const struct model_config *a, const struct model_config *b) {
    return a->family == b->family && a->head == b->head && a->head_dim == b->head_dim && a->ffn == b->ffn &&
           a->activation == b->activation && a->attention_scale == b->attention_scale &&
           a->attention_softcap == b->attention_softcap && a->logit_softcap == b->logit_softcap &&
           a->rope.rotary_dim == b->rope.rotary_dim && a->rope.theta == b->rope.theta &&
           a->rope.scaling == b->rope.scaling && a->window == b->window &&
           memcmp(a->window_layers, b->window_layers, sizeof a->window_layers) == 0;
}

/* What a configuration says is what its own print says. */
static bool read_config(const struct fuzz_section *s) {
    struct model_config config, again;
    struct text printed = {0}, twice = {0};
    if (!s->data ||
        !fuzz_fine(model_config_parse((const char *)s->data, s->size, "config.json", &config), ERR_DATA)) {
        return false;
    }
    FUZZ_CHECK(config.width > 0 && config.layers > 0 && config.layers <= MODEL_MAX_LAYERS);
    FUZZ_CHECK(config.heads > 0 && config.kv_heads > 0 && config.heads % config.kv_heads == 0);
    FUZZ_CHECK(model_config_print(&config, NULL, "float32", &printed) == OK);
    FUZZ_CHECK(model_config_parse(printed.data, printed.len, "printed", &again) == OK);
    FUZZ_CHECK(same_model(&config, &again));
    FUZZ_CHECK(model_config_print(&again, NULL, "float32", &twice) == OK);
    FUZZ_CHECK(printed.len == twice.len && memcmp(printed.data, twice.data, twice.len) == 0);
    text_free(&printed);
    text_free(&twice);
    return is_small(&config);
}

static void open_model(void) {
    static struct backend *cpu;
    struct model *m = NULL;
    char why[256];
    uint64_t hash;
    if (!cpu) {
        FUZZ_CHECK(backend_open(&(struct backend_request){.device = "cpu", .threads = 1}, &cpu, why) == OK);
    }
    enum status st = model_folder_open(fuzz_comm(), cpu, fuzz_folder(), NULL, &m);
    if (st != ERR_INPUT && fuzz_fine(st, ERR_DATA)) { /* ERR_INPUT: no weights */
        FUZZ_CHECK(model_folder_hash(m, &hash) == OK);
        model_close(m);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fuzz_section s[] = {{.name = "model.safetensors"},
                               [CONFIG] = {.name = "config.json"},
                               {.name = "model.safetensors.index.json"},
                               {.name = "model-00001-of-00002.safetensors"},
                               {.name = "model-00002-of-00002.safetensors"}};
    (void)fuzz_comm();
    fuzz_split_files(data, size, s, COUNT_OF(s));
    read_tensors();
    if (read_config(&s[CONFIG])) {
        open_model();
    }
    return 0;
}
