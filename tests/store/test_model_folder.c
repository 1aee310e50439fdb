/* Model folders that are not right: each is refused with the tensor's name. And the forms that are right
 * though the names differ: bare models, tied embeddings under the head's name, old buffers. */
#include "tests/model_fixture.h"

#include <unistd.h>

#include "io/file.h"
#include "io/safetensors.h"
#include "store/model_source.h"
#include "util/log.h"

static char folder[64];
static struct backend *cpu;

/* How a copy of a fixture's weights differs from it. */
struct change {
    const char *leave_out, *add, *rename_from, *rename_to;
    const char *shorten;
    bool head;  /* a head beside the tied embedding, */
    float lift; /* whose last value is so much larger */
};

static void copy_tensor(struct safetensors *from, struct safetensors_writer *to,
                        const struct stored_tensor *t, int64_t count) {
    float *values = mem_calloc(count, sizeof *values);
    assert_non_null(values);
    MUST(safetensors_read(from, t, 0, count, values));
    MUST(safetensors_write(to, values, count));
    mem_free(values);
}

static const struct stored_tensor *embedding(const struct safetensors *s) {
    const struct stored_tensor *t = safetensors_find(s, "model.embed_tokens.weight");
    assert_non_null(t);
    return t;
}

static void copy_head(struct safetensors *from, struct safetensors_writer *to, float lift) {
    const struct stored_tensor *t = embedding(from);
    float *values = mem_calloc(t->elements, sizeof *values);
    assert_non_null(values);
    MUST(safetensors_read(from, t, 0, t->elements, values));
    values[t->elements - 1] += lift;
    MUST(safetensors_write(to, values, t->elements));
    mem_free(values);
}

static int64_t rows_of(const struct stored_tensor *t, const struct change *c) {
    return c->shorten && strcmp(t->name, c->shorten) == 0 ? t->shape[0] - 1 : t->shape[0];
}

static bool is_left_out(const struct stored_tensor *t, const struct change *c) {
    return c->leave_out && strcmp(t->name, c->leave_out) == 0;
}

static void write_changed(const char *name, const struct change *c) {
    char path[512], *text;
    size_t len;
    struct safetensors *from;
    struct safetensors_writer *to;
    snprintf(path, sizeof path, "%s/models/%s/config.json", FIXTURES, name);
    MUST(file_read(path, &text, &len));
    snprintf(path, sizeof path, "%s/config.json", folder);
    MUST(file_write(path, text, len));
    mem_free(text);
    snprintf(path, sizeof path, "%s/models/%s", FIXTURES, name);
    MUST(safetensors_open(path, &from));
    MUST(safetensors_create(folder, STORED_F32, 0, &to));
    for (int i = 0; i < safetensors_count(from); i++) {
        const struct stored_tensor *t = safetensors_at(from, i);
        int64_t shape[2] = {rows_of(t, c), t->n_dims > 1 ? t->shape[1] : 1};
        bool renamed = c->rename_from && strcmp(t->name, c->rename_from) == 0;
        if (!is_left_out(t, c)) {
            MUST(safetensors_declare(to, renamed ? c->rename_to : t->name, t->n_dims, shape));
        }
    }
    if (c->add) {
        MUST(safetensors_declare(to, c->add, 1, (int64_t[]){1}));
    }
    if (c->head) {
        MUST(safetensors_declare(to, "lm_head.weight", 2, embedding(from)->shape));
    }
    for (int i = 0; i < safetensors_count(from); i++) {
        const struct stored_tensor *t = safetensors_at(from, i);
        if (!is_left_out(t, c)) {
            copy_tensor(from, to, t, rows_of(t, c) * (t->n_dims > 1 ? t->shape[1] : 1));
        }
    }
    if (c->add) {
        MUST(safetensors_write(to, &(float){0}, 1));
    }
    if (c->head) {
        copy_head(from, to, c->lift);
    }
    MUST(safetensors_finish(to));
    safetensors_close(from);
}

static void refuses(const char *name, struct change c, const char *part) {
    struct model *m = NULL;
    write_changed(name, &c);
    status_clear();
    enum status st = model_folder_open(world, cpu, folder, NULL, &m);
    if (st != ERR_DATA || !strstr(status_message()->text, part)) {
        FAIL("%s: status %d, \"%s\"; expected \"%s\"", name, st, status_message()->text, part);
    }
    status_clear();
}

static void accepts(const char *name, struct change c) {
    struct model *m, *first;
    char path[512];
    uint64_t got, expected;
    write_changed(name, &c);
    snprintf(path, sizeof path, "%s/models/%s", FIXTURES, name);
    MUST(model_folder_open(world, cpu, path, NULL, &first));
    MUST(model_folder_open(world, cpu, folder, NULL, &m));
    MUST(model_folder_hash(first, &expected));
    MUST(model_folder_hash(m, &got));
    assert_int_equal(got, expected);
    model_close(m);
    model_close(first);
}

static void test_refusals(void **state) {
    (void)state;
    refuses("llama", (struct change){.leave_out = "model.norm.weight"}, "model.norm.weight is missing");
    refuses("llama", (struct change){.add = "model.layers.0.extra.weight"}, "extra.weight has no place");
    refuses("llama", (struct change){.shorten = "model.layers.1.mlp.up_proj.weight"},
            "up_proj.weight has 2 dim");
    refuses("llama", (struct change){.leave_out = "lm_head.weight"}, "lm_head.weight is missing");
    refuses("neox", (struct change){.shorten = "gpt_neox.layers.0.attention.query_key_value.bias"},
            "query_key_value.bias");
    refuses("llama-bias", (struct change){.add = "lm_head.weight"}, "lm_head.weight has 1 dim"); /* tied */
    refuses("gpt2", (struct change){.shorten = "h.0.attn.c_attn.weight"}, "c_attn.weight");
}

static void test_forms(void **state) {
    (void)state;
    accepts("llama", (struct change){.add = "model.layers.0.self_attn.rotary_emb.inv_freq"});
    accepts("llama-bias",
            (struct change){.rename_from = "model.embed_tokens.weight", .rename_to = "lm_head.weight"});
    accepts("llama-bias", (struct change){.head = true});
    accepts("neox", (struct change){.add = "gpt_neox.layers.0.attention.masked_bias"});
    accepts("gpt2", (struct change){.add = "h.1.attn.bias"});
}

/* config.json ties the head, the weights have another one: both stay, as in transformers, and a folder
 * written from it says so. */
static void test_own_head(void **state) {
    (void)state;
    struct model *m, *again;
    struct model_config checked;
    struct model_config known;
    char saved[96];
    uint64_t before, after;
    write_changed("llama-bias", &(struct change){.head = true, .lift = 0.5f});
    MUST(model_folder_check(folder, HEAD_LANGUAGE, &checked));
    assert_true(checked.untied && !checked.tied);
    MUST(model_folder_open(world, cpu, folder, NULL, &m));
    assert_true(m->config.untied && !m->config.tied);
    const struct parameter *head = arena_find(m->base, "lm_head.weight");
    const struct parameter *embed = arena_find(m->base, "model.embed_tokens.weight");
    assert_true(head && embed);
    float last[2];
    int64_t at = head->rows * head->columns - 1;
    MUST(arena_read(m->base, (int)(head - m->base->parameters), at, 1, &last[0]));
    MUST(arena_read(m->base, (int)(embed - m->base->parameters), at, 1, &last[1]));
    assert_true(last[0] == last[1] + 0.5f);
    snprintf(saved, sizeof saved, "%s/saved", folder);
    MUST(model_folder_save(world, m, saved, &(struct model_save){.source = folder}));
    MUST(model_source_config(saved, &known));
    assert_false(known.tied || known.untied);
    MUST(model_folder_open(world, cpu, saved, NULL, &again));
    MUST(model_folder_hash(m, &before));
    MUST(model_folder_hash(again, &after));
    assert_int_equal(before, after);
    model_close(again);
    model_close(m);
}

/* A language model opened for a score head: its own weights, a new head from the seed. */
static void test_score_head(void **state) {
    (void)state;
    char path[512];
    struct model *a, *b, *c;
    uint64_t hash[3];
    snprintf(path, sizeof path, "%s/models/phi", FIXTURES);
    struct model_folder_options o = {.head = HEAD_SCORE, .seed = 1};
    MUST(model_folder_open(world, cpu, path, &o, &a));
    MUST(model_folder_open(world, cpu, path, &o, &b));
    o.seed = 2;
    MUST(model_folder_open(world, cpu, path, &o, &c));
    MUST(arena_hash(a->base, &hash[0]));
    MUST(arena_hash(b->base, &hash[1]));
    MUST(arena_hash(c->base, &hash[2]));
    assert_true(hash[0] == hash[1] && hash[0] != hash[2]);
    assert_non_null(arena_find(a->base, "score.weight"));
    assert_null(arena_find(a->base, "lm_head.weight"));
    model_close(a);
    model_close(b);
    model_close(c);
}

int main(int argc, char **argv) {
    if (comm_start(&argc, &argv, &world) != OK) {
        return 1;
    }
    log_init(0, 1, LOG_ERROR);
    snprintf(folder, sizeof folder, "/tmp/collimate-XXXXXX");
    if (!mkdtemp(folder)) {
        return 1;
    }
    cpu = open_backend("cpu");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_own_head),
        cmocka_unit_test(test_score_head),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    backend_close(cpu);
    char command[96];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    failed += system(command) != 0;
    comm_finish(world);
    return failed;
}
