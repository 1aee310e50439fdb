#include "command/facts.h"

#include <stdio.h>
#include <string.h>

#include "util/hash.h"
#include "util/log.h"
#include "util/mem.h"

static enum status add(struct facts *f, const struct fact *fact) {
    TRY(GROW_ARRAY(f->list, f->capacity, f->n + 1));
    f->list[f->n++] = *fact;
    return OK;
}

/* Room for a value; the texts' own memory stays where it is when the array grows. */
static enum status new_value(struct facts *f, struct text **out) {
    TRY(GROW_ARRAY(f->values, f->cap_values, f->n_values + 1));
    f->values[f->n_values] = (struct text){0};
    *out = &f->values[f->n_values++];
    return text_puts(*out, "");
}

/* What a run's sums are rounded by. */
struct sums_order {
    bool is_fixed;   /* by nothing else than the keys: what else only rounds leaves them alone */
    bool by_threads; /* by threads too, whose count is a fact of its own then */
};

static enum fact_kind kind_of(struct sums_order order, enum fact_kind kind) {
    return kind == FACT_ROUNDING && order.is_fixed ? FACT_FREE : kind;
}

static enum status add_key(const struct options *options, const struct option *row, struct sums_order order,
                           struct facts *f) {
    static const enum fact_kind kinds[] = {
        [RESUME_SAME] = FACT_FIXED, [RESUME_FREE] = FACT_FREE, [RESUME_ROUNDING] = FACT_ROUNDING};
    bool is_other = order.by_threads && strcmp(row->key, "threads") == 0;
    if (is_other || row->resume == RESUME_ANY) {
        return OK;
    }
    struct text *value;
    TRY(new_value(f, &value));
    TRY(options_value(options, row->key, value));
    const struct fact fact = {.name = row->key,
                              .value = value->data,
                              .fallback = row->fallback,
                              .kind = kind_of(order, kinds[row->resume])};
    return add(f, &fact);
}

static enum status add_keys(const struct options *options, struct sums_order order, struct facts *f) {
    for (int i = 0; i < options->count; i++) {
        if (options_takes(options, i)) {
            TRY(add_key(options, &options->table[i], order, f));
        }
    }
    return OK;
}

/* Checkpoints from before the key are of steerings that bound nothing; the key's default is another one. */
static void take_unbounded(struct facts *f) {
    for (int64_t i = 0; i < f->n; i++) {
        if (strcmp(f->list[i].name, "steer.bounded") == 0) {
            f->list[i].fallback = "false";
        }
    }
}

static enum status add_text(struct facts *f, const char *name, enum fact_kind kind, const char *words,
                            size_t length) {
    struct text *value;
    TRY(new_value(f, &value));
    TRY(text_printf(value, "%.*s", (int)length, words));
    const struct fact fact = {.name = name, .value = value->data, .kind = kind};
    return add(f, &fact);
}

static enum status add_hash(struct facts *f, const char *name, uint64_t hash) {
    char digits[17];
    hash_text(hash, digits);
    return add_text(f, name, FACT_FIXED, digits, strlen(digits));
}

static enum status add_count(struct facts *f, const char *name, enum fact_kind kind, int count) {
    char digits[16];
    snprintf(digits, sizeof digits, "%d", count);
    return add_text(f, name, kind, digits, strlen(digits));
}

/* The back end without its threads, which change no bits. */
static enum status add_device(const struct trainer *t, struct facts *f) {
    const char *words = t->session.backend->caps.description;
    const char *comma = strrchr(words, ',');
    size_t length = comma && strstr(comma, " thread") ? (size_t)(comma - words) : strlen(words);
    return add_text(f, "device", FACT_ROUNDING, words, length);
}

/* What cpu.products came to: in deterministic mode another one makes other numbers. */
static enum status add_products(const struct trainer *t, struct sums_order order, struct facts *f) {
    const char *kind = t->session.backend->caps.products;
    if (!kind) {
        return OK;
    }
    const struct fact fact = {.name = "cpu.products",
                              .value = kind,
                              .fallback = PRODUCTS_FP32,
                              .kind = order.is_fixed ? FACT_FIXED : FACT_ROUNDING};
    return add(f, &fact);
}

enum status facts_collect(const struct trainer *t, struct facts *out) {
    const struct session *s = &t->session;
    const struct sums_order order = {.is_fixed = t->data.plan.deterministic};
    *out = (struct facts){0};
    TRY(add_keys(s->run->options, order, out));
    TRY(add_hash(out, "model contents", s->base_hash));
    if (s->lora) { /* as they began */
        TRY(add_hash(out, "adapter contents", s->model_hash));
    }
    TRY(add_hash(out, "data", dataset_hash(s->train.data)));
    if (s->steers) {
        take_unbounded(out);
        TRY(add_hash(out, "users", world_hash(&t->world)));
    }
    TRY(add_hash(out, "rows", hash_join(view_hash(s->train.view), (uint64_t)s->train.n)));
    if (t->terms.has_reference) {
        TRY(add_hash(out, "reference contents", s->train.reference_model));
    }
    if (t->own) {
        TRY(add_hash(out, "reward contents", t->own_contents));
    }
    TRY(add_device(t, out));
    TRY(add_products(t, order, out));
    return add_count(out, "ranks", kind_of(order, FACT_ROUNDING), s->comm->size);
}

enum status facts_few_shot(const struct run *run, uint64_t data, int threads, struct facts *out) {
    const struct sums_order order = {.by_threads = true};
    *out = (struct facts){0};
    TRY(add_keys(run->options, order, out));
    TRY(add_hash(out, "data", data));
    TRY(add_count(out, "threads of a rank", FACT_ROUNDING, threads));
    return add_count(out, "ranks", FACT_ROUNDING, run->comm->size);
}

enum status facts_check_hosts(const struct trainer *t, const struct facts *f) {
    int64_t extremes[2] = {0, 0}; /* of the hash, and of its negative */
    for (int64_t i = 0; i < f->n; i++) {
        if (strcmp(f->list[i].name, "device") == 0) {
            extremes[0] = (int64_t)(hash_bytes(f->list[i].value, strlen(f->list[i].value), 0) >> 1);
            extremes[1] = -extremes[0];
        }
    }
    TRY(comm_max_i64(t->session.comm, extremes, 2));
    if (extremes[0] != -extremes[1]) {
        log_root(LOG_WARN,
                 "hosts run different kernels: the numbers are the same on any ranks to rounding only; "
                 "COLLIMATE_CPU_LEVEL gives all of them the same");
    }
    return OK;
}

void facts_free(struct facts *f) {
    for (int64_t i = 0; i < f->n_values; i++) {
        text_free(&f->values[i]);
    }
    mem_free(f->values);
    mem_free(f->list);
}
