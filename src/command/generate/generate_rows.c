/* generate.save round by round: lines of JSON in SAVE.rows, of which only those count that a line {"done": n}
 * stands behind. The first line says what command made them; the same command goes on from there. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "command/generate/generate.h"
#include "io/file.h"
#include "store/adapter_folder.h"
#include "util/hash.h"
#include "util/json.h"
#include "util/log.h"

static const char BEGINS[] = "{\"rows_of\": \"generate\", \"key\": ", UNIT[] = "{\"unit\": ",
                  DONE[] = "{\"done\": ";

/* A visit of each whole line, without its end; end: bytes of the file up to and with it. */
typedef enum status visit_line(void *context, const char *line, size_t n, int64_t end);

static enum status each_line(const char *path, visit_line *visit, void *context) {
    struct file_stream *stream;
    struct text line = {0};
    const char *data;
    size_t n = 1;
    TRY(stream_open(path, 0, &stream));
    enum status st = OK;
    for (int64_t at = 0; n > 0 && st == OK; at += (int64_t)n) {
        st = stream_next(stream, INT64_MAX, &data, &n);
        for (size_t i = 0; i < n && st == OK;) {
            const char *stop = memchr(data + i, '\n', n - i);
            size_t end = stop ? (size_t)(stop - data) : n;
            st = text_append(&line, data + i, end - i);
            if (st == OK && stop) {
                st = visit(context, line.data, line.len, at + (int64_t)end + 1);
                text_clear(&line);
            }
            i = end + 1;
        }
    }
    text_free(&line);
    stream_close(stream);
    return st;
}

/* What an earlier run has left. */
struct found {
    const char *first; /* the line that this command writes first */
    const char *path;
    int64_t lines, done, end;
    bool is_same;
};

static enum status look_at(void *context, const char *line, size_t n, int64_t end) {
    struct found *f = context;
    if (f->lines++ == 0) {
        f->is_same = n == strlen(f->first) && memcmp(line, f->first, n) == 0;
        f->end = end;
        return n > strlen(BEGINS) && strncmp(line, BEGINS, strlen(BEGINS)) == 0
                   ? OK
                   : fail(ERR_USAGE,
                          "generate.save: %s is there and holds no rows of generate; remove it or "
                          "name another file",
                          f->path);
    }
    if (text_starts(line, DONE)) {
        f->done = strtoll(line + strlen(DONE), NULL, 10);
        f->end = end;
    }
    return OK;
}

/* Of the weights of other models and of adapters on this one, and of what users have chosen. */
static enum status hash_models(const struct generation *g, uint64_t *key) {
    int64_t z_bytes = g->contexts.n * g->contexts.condition.width * (int64_t)sizeof *g->contexts.z;
    for (int v = 0; v <= VOICES; v++) {
        struct model *m = v < VOICES ? g->voices[v] : g->judge;
        uint64_t hash;
        if (m && m != g->session.model) {
            TRY(model_folder_hash(m, &hash));
            *key = hash_join(*key, hash);
        }
        if (v < VOICES && g->options.adapters[v]) {
            TRY(adapter_hash(g->options.adapters[v], &hash));
            *key = hash_join(*key, hash);
        }
    }
    *key = z_bytes > 0 ? hash_bytes(g->contexts.z, (size_t)z_bytes, *key) : *key;
    return OK;
}

/* The first line: settings, models and data. Appended. */
static enum status put_first(const struct generation *g, struct text *out) {
    struct text settings = {0};
    char digits[17];
    enum status st = options_print(g->session.run->options, false, &settings);
    uint64_t key = st == OK ? hash_bytes(settings.data, settings.len, g->session.model_hash) : 0;
    text_free(&settings);
    const char *numbers = session_numbers(&g->session); /* what auto came to, too */
    key = hash_bytes(numbers, strlen(numbers), key);
    st = st == OK ? hash_models(g, &key) : st;
    hash_text(hash_join(key, dataset_hash(g->data)), digits);
    return st == OK ? text_printf(out, "%s\"%s\"}", BEGINS, digits) : st;
}

/* Local, on rank 0. counts: prompts that are done, bytes that count; 0, 0 where it begins anew. */
static enum status find(const struct generation *g, const char *first, int64_t counts[2]) {
    struct found f = {.first = first, .path = g->drawn.path.data};
    if (access(f.path, F_OK) != 0) {
        return OK;
    }
    TRY(each_line(f.path, look_at, &f));
    if (!f.is_same && f.done > 0) {
        log_root(LOG_WARN, "%s: %lld prompts of a run with other settings, models or data; begun anew",
                 f.path, (long long)f.done);
    }
    if (f.is_same && f.done > 0) {
        counts[0] = f.done;
        counts[1] = f.end;
    }
    return OK;
}

struct reading {
    struct generation *g;
    struct range units;
    generate_visit *visit;
};

static enum status read_line(void *context, const char *line, size_t n, int64_t end) {
    struct reading *r = context;
    json_t *json;
    (void)end;
    int64_t unit = text_starts(line, UNIT) ? strtoll(line + strlen(UNIT), NULL, 10) : -1;
    if (unit < r->units.first || unit >= r->units.last) {
        return OK;
    }
    TRY(json_parse(line, n, r->g->drawn.path.data, &json));
    enum status st = r->visit(r->g, json);
    json_decref(json);
    return st;
}

enum status generate_drawn_read(struct generation *g, struct range units, generate_visit *visit) {
    struct reading reading = {g, units, visit};
    return each_line(g->drawn.path.data, read_line, &reading);
}

static double number_at(const json_t *list, size_t i) {
    const json_t *number = json_array_get(list, i);
    return json_is_number(number) ? json_number_value(number) : NAN;
}

/* A prompt of an earlier run: its lines, and its part of the sums. */
static enum status restore(struct generation *g, const json_t *line) {
    const json_t *text = json_object_get(line, "lines");
    for (int v = 0; v < g->n_spoken; v++) {
        const json_t *list = json_array_get(json_object_get(line, "values"), (size_t)v);
        size_t i;
        const json_t *response;
        json_array_foreach(list, i, response) {
            const json_t *sums = json_object_get(response, "sums");
            const struct response_sums r = {.tokens =
                                                (int32_t)json_array_size(json_object_get(response, "tokens")),
                                            .logp = number_at(sums, 0),
                                            .kl = number_at(sums, 1),
                                            .kl_mc = number_at(sums, 2),
                                            .reward = number_at(sums, 3),
                                            .stopped = json_is_true(json_object_get(response, "stopped")),
                                            .broken = json_is_true(json_object_get(response, "broken"))};
            generate_count(g, &g->spoken[v], &r);
        }
    }
    return text_append(&g->text, json_string_value(text), json_string_length(text));
}

/* Collective. Nobody else writes to the rows from here on. */
static enum status take_lease(struct comm *c, const char *save, struct drawn *d) {
    struct text path = {0};
    enum status st = comm_agree(c, text_printf(&path, "%s.lease", d->path.data));
    st = st == OK ? lease_take(c, path.data, save, &d->lease) : st;
    text_free(&path);
    return st;
}

enum status generate_drawn_open(struct generation *g) {
    struct comm *c = g->session.comm;
    struct drawn *d = &g->drawn;
    struct text first = {0};
    int64_t counts[2] = {0};
    enum status st = text_puts(&g->text, "");
    if (st != OK || !*g->session.settings->generate.save) {
        return comm_agree(c, st);
    }
    TRY_TO(done, comm_agree(c, text_printf(&d->path, "%s.rows", g->session.settings->generate.save)));
    TRY_TO(done, take_lease(c, g->session.settings->generate.save, d));
    st = put_first(g, &first);
    st = st == OK && c->rank == 0 ? find(g, first.data, counts) : st;
    TRY_TO(done, comm_agree(c, st));
    TRY_TO(done, comm_broadcast(c, 0, counts, sizeof counts));
    d->done = d->last = counts[0];
    g->done = d->done / c->size * g->samples * g->n_spoken; /* for the progress: this rank's part */
    TRY_TO(done, ordered_open_at(c, d->path.data, counts[1], &d->file));
    st = text_puts(&first, "\n");
    TRY_TO(done, ordered_append(d->file, st, first.data, counts[1] == 0 && c->rank == 0 ? first.len : 0));
    if (d->done > 0) {
        log_root(LOG_INFO, "%s: %lld of %lld prompts are there from an earlier run", d->path.data,
                 (long long)d->done, (long long)g->n);
        st = generate_drawn_read(g, range_part(d->done, c->rank, c->size), restore);
    }
    st = comm_agree(c, st);
done:
    text_free(&first);
    return st;
}

static enum status put_response(struct generation *g, const struct answers *a, int32_t k,
                                struct text *scratch) {
    const struct response_tokens *r = &a->responses[k];
    const struct response_sums sums = generate_sums(g, a, k);
    const double numbers[] = {sums.logp, sums.kl, sums.kl_mc, sums.reward};
    struct text *out = &g->drawn.lines;
    text_clear(scratch);
    TRY(g->session.tokenizer ? generate_text(g, r, scratch) : OK);
    TRY(text_printf(out, "{\"chars\": %lld, \"stopped\": %s, \"broken\": %s, \"sums\": [",
                    (long long)text_characters(scratch->data, scratch->len), sums.stopped ? "true" : "false",
                    sums.broken ? "true" : "false"));
    for (int i = 0; i < COUNT_OF(numbers); i++) {
        TRY(text_puts(out, i ? ", " : ""));
        TRY(text_json_number(out, numbers[i]));
    }
    TRY(text_puts(out, "], \"tokens\": ["));
    for (int32_t t = 0; t < r->count; t++) {
        TRY(text_printf(out, "%s%d", t ? ", " : "", r->tokens[t]));
    }
    return text_puts(out, "]}");
}

enum status generate_drawn_add(struct generation *g, int64_t unit, const struct answers *answers,
                               const char *lines, size_t n) {
    struct drawn *d = &g->drawn;
    struct text scratch = {0};
    enum status st;
    if (!d->file) {
        return OK;
    }
    TRY(text_printf(&d->lines, "%s%lld, \"row\": %lld, \"values\": [", UNIT, (long long)unit,
                    (long long)answers->row));
    for (int v = 0; v < g->n_spoken; v++) {
        int32_t best = generate_best(g, &answers[v]);
        const char *separator = v ? ", [" : "[";
        for (int32_t k = best < 0 ? 0 : best; k < (best < 0 ? g->samples : best + 1); k++) {
            TRY_TO(done, text_puts(&d->lines, separator));
            TRY_TO(done, put_response(g, &answers[v], k, &scratch));
            separator = ", ";
        }
        TRY_TO(done, text_puts(&d->lines, "]"));
    }
    TRY_TO(done, text_puts(&d->lines, "], \"lines\": "));
    TRY_TO(done, text_json(&d->lines, lines, n));
    st = text_puts(&d->lines, "}\n");
    d->last = unit + 1 > d->last ? unit + 1 : d->last;
done:
    text_free(&scratch);
    return st;
}

enum status generate_drawn_write(struct generation *g) {
    struct drawn *d = &g->drawn;
    char done[64];
    if (!d->file) {
        return OK;
    }
    TRY(comm_max_i64(g->session.comm, &d->last, 1));
    int n = snprintf(done, sizeof done, "%s%lld}\n", DONE, (long long)d->last);
    TRY(ordered_append(d->file, lease_check(d->lease), d->lines.data ? d->lines.data : "", d->lines.len));
    text_clear(&d->lines);
    TRY(ordered_sync(d->file));
    return ordered_append(d->file, OK, done, g->session.comm->rank == 0 ? (size_t)n : 0);
}

enum status generate_drawn_is_missing(void *context, int64_t unit, bool *out) {
    const struct generation *g = context;
    *out = unit >= g->drawn.done;
    return OK;
}

void generate_drawn_close(struct drawn *d) {
    ordered_keep(d->file);
    lease_release(d->lease);
    text_free(&d->path);
    text_free(&d->lines);
}
