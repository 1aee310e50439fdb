#include "command/inspect/inspect.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"
#include "io/safetensors.h"
#include "model/config.h"
#include "store/model_step.h"
#include "util/json.h"
#include "util/mem.h"

enum { PATH_BYTES = 4096 };

bool inspect_exists(const char *folder, const char *name) {
    char path[PATH_BYTES];
    int n = snprintf(path, sizeof path, "%s/%s", folder, name);
    return n < PATH_BYTES && access(path, F_OK) == 0;
}

static enum status put_config(const char *folder, struct text *out) {
    char path[PATH_BYTES];
    char *text;
    size_t len;
    struct model_config c;
    snprintf(path, sizeof path, "%s/config.json", folder);
    TRY(file_read(path, &text, &len));
    enum status st = model_config_parse(text, len, path, &c);
    json_t *json = NULL;
    if (st == OK) {
        st = json_parse(text, len, path, &json);
    }
    mem_free(text);
    if (st != OK) { /* a model that this program does not run is still worth a look at */
        st = text_printf(out, "config        not for this program: %s\n", status_message()->text);
        status_clear();
        return st;
    }
    const char *architecture = json_string_value(json_array_get(json_object_get(json, "architectures"), 0));
    st = text_printf(
        out,
        "architecture  %s\n"
        "layers        %lld of width %lld, %lld heads of %lld (%lld for keys), feed-forward %lld%s\n"
        "vocabulary    %lld%s\n"
        "positions     %lld%s\n"
        "special ids   begin %d, end %d, pad %d\n",
        architecture ? architecture : "not named", (long long)c.layers, (long long)c.width,
        (long long)c.heads, (long long)c.head_dim, (long long)c.kv_heads, (long long)c.ffn,
        c.gated ? ", gated" : "", (long long)c.vocabulary, c.tied ? ", head tied to the embedding" : "",
        (long long)c.max_positions,
        c.learned_positions     ? ", learned"
        : c.rope.rotary_dim > 0 ? ", rotary"
                                : "",
        c.begin_id, c.end_id, c.pad_id);
    json_decref(json);
    return st;
}

static enum status put_weights(const char *folder, struct text *out) {
    static const char *const types[] = {"fp32", "bf16", "fp16", "fp64", "other"};
    struct safetensors *s;
    int64_t elements[COUNT_OF(types)] = {0};
    TRY(safetensors_open(folder, &s));
    int64_t all = 0;
    const struct stored_tensor *largest = NULL;
    for (int i = 0; i < safetensors_count(s); i++) {
        const struct stored_tensor *t = safetensors_at(s, i);
        elements[t->type] += t->elements;
        all += t->type == STORED_OTHER ? 0 : t->elements;
        largest = !largest || t->elements > largest->elements ? t : largest;
    }
    enum status st =
        text_printf(out, "parameters    %lld in %d tensors (", (long long)all, safetensors_count(s));
    const char *separator = "";
    for (int i = 0; i < COUNT_OF(types) && st == OK; i++) {
        if (elements[i] > 0) {
            st = text_printf(out, "%s%s %lld", separator, types[i], (long long)elements[i]);
            separator = ", ";
        }
    }
    st = st == OK ? text_puts(out, ")\n") : st;
    if (st == OK && largest) {
        st = text_printf(out, "largest       %s, %lld\n", largest->name, (long long)largest->elements);
    }
    safetensors_close(s);
    return st;
}

enum status inspect_model(const char *folder, struct text *out) {
    static const char *const files[] = {"tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json",
                                        "generation_config.json"};
    TRY(text_printf(out, "%s: model folder\n", folder));
    TRY(put_config(folder, out));
    if (inspect_exists(folder, "model.safetensors") ||
        inspect_exists(folder, "model.safetensors.index.json")) {
        TRY(put_weights(folder, out));
    } else {
        TRY(text_puts(out, "parameters    none: no safetensors here\n"));
    }
    TRY(text_puts(out, "beside        "));
    for (int i = 0; i < COUNT_OF(files); i++) {
        TRY(inspect_exists(folder, files[i]) ? text_printf(out, "%s ", files[i]) : OK);
    }
    return text_puts(out, "\n");
}

/* A metric over a run. */
struct metric {
    char name[64];
    double first, last, least, most;
    int64_t count;
};

struct metrics {
    struct metric *list;
    int n;
    int64_t capacity;
    int64_t lines;
};

static enum status add_value(struct metrics *m, const char *name, double value) {
    int i = 0;
    while (i < m->n && strcmp(m->list[i].name, name) != 0) {
        i++;
    }
    if (i == m->n) {
        TRY(GROW_ARRAY(m->list, m->capacity, m->n + 1));
        m->list[i] = (struct metric){.first = value, .least = value, .most = value};
        snprintf(m->list[i].name, sizeof m->list[i].name, "%s", name);
        m->n++;
    }
    struct metric *metric = &m->list[i];
    metric->last = value;
    metric->least = fmin(metric->least, value);
    metric->most = fmax(metric->most, value);
    metric->count++;
    return OK;
}

static enum status add_line(struct metrics *m, const char *line, size_t n, const char *where) {
    json_t *json;
    TRY(json_parse(line, n, where, &json));
    enum status st = OK;
    const char *name;
    json_t *value;
    bool closing = json_object_get(json, "train_runtime") != NULL; /* whose step is the last one again */
    json_object_foreach(json, name, value) {
        bool again = closing && (strcmp(name, "step") == 0 || strcmp(name, "epoch") == 0);
        if (st == OK && json_is_number(value) && !again) {
            st = add_value(m, name, json_number_value(value));
        }
    }
    json_decref(json);
    m->lines++;
    return st;
}

static enum status read_metrics(const char *path, struct metrics *m) {
    char *text;
    size_t len;
    TRY(file_read(path, &text, &len));
    enum status st = OK;
    int64_t number = 1;
    for (size_t at = 0; at < len && st == OK; number++) {
        const char *end = memchr(text + at, '\n', len - at);
        if (!end) {
            break; /* a line that was being written when the run died */
        }
        char where[PATH_BYTES + 32];
        size_t n = (size_t)(end - text) - at;
        snprintf(where, sizeof where, "%s, line %lld", path, (long long)number);
        st = n > 0 ? add_line(m, text + at, n, where) : OK;
        at += n + 1;
    }
    mem_free(text);
    return st;
}

static enum status put_metrics(const char *folder, struct text *out) {
    char path[PATH_BYTES];
    struct metrics m = {0};
    snprintf(path, sizeof path, "%s/metrics.jsonl", folder);
    enum status st = read_metrics(path, &m);
    if (st == OK) {
        st = text_printf(out, "metrics       %lld lines\n  %-36s %8s %12s %12s %12s %12s\n",
                         (long long)m.lines, "name", "values", "first", "last", "least", "most");
    }
    for (int i = 0; i < m.n && st == OK; i++) {
        const struct metric *v = &m.list[i];
        st = text_printf(out, "  %-36s %8lld %12.6g %12.6g %12.6g %12.6g\n", v->name, (long long)v->count,
                         v->first, v->last, v->least, v->most);
    }
    mem_free(m.list);
    return st;
}

static enum status put_checkpoints(const char *folder, struct text *out) {
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/checkpoints", folder);
    DIR *entries = opendir(path);
    if (!entries) {
        return text_puts(out, "checkpoints   none\n");
    }
    int64_t newest = -1;
    int count = 0;
    for (const struct dirent *e = readdir(entries); e; e = readdir(entries)) {
        char *end;
        if (text_starts(e->d_name, "step-") && text_ends(e->d_name, ".h5")) {
            long long step = strtoll(e->d_name + strlen("step-"), &end, 10);
            newest = step > newest ? step : newest;
            count++;
        }
    }
    closedir(entries);
    return count > 0 ? text_printf(out, "checkpoints   %d, newest of step %lld\n", count, (long long)newest)
                     : text_puts(out, "checkpoints   none\n");
}

static enum status put_environment(const char *folder, struct text *out) {
    static const char *const names[] = {"program", "command", "started", "ended", "ranks", "exit_code"};
    char path[PATH_BYTES];
    json_t *json;
    snprintf(path, sizeof path, "%s/environment.json", folder);
    TRY(json_load(path, &json));
    enum status st = OK;
    for (int i = 0; i < COUNT_OF(names) && st == OK; i++) {
        const json_t *value = json_object_get(json, names[i]);
        if (json_is_string(value)) {
            st = text_printf(out, "%-13s %s\n", names[i], json_string_value(value));
        } else if (json_is_integer(value)) {
            st = text_printf(out, "%-13s %lld\n", names[i], (long long)json_integer_value(value));
        }
    }
    json_decref(json);
    return st;
}

/* Which step the model is of; a leg that goes on beside it leaves it as it is until its own end. */
static enum status put_model(const char *folder, struct text *out) {
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/model", folder);
    int64_t step = model_step_read(path);
    if (!inspect_exists(folder, "model/config.json")) {
        return text_puts(out, "final model   none\n");
    }
    return step < 0 ? text_puts(out, "final model   model/, which does not say of which step it is\n")
                    : text_printf(out, "final model   model/, of step %lld\n", (long long)step);
}

enum status inspect_run(const char *folder, struct text *out) {
    TRY(text_printf(out, "%s: run folder\n", folder));
    TRY(inspect_exists(folder, "environment.json") ? put_environment(folder, out) : OK);
    TRY(inspect_exists(folder, "metrics.jsonl") ? put_metrics(folder, out)
                                                : text_puts(out, "metrics       none\n"));
    TRY(put_checkpoints(folder, out));
    return put_model(folder, out);
}
