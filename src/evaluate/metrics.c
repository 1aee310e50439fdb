#include "evaluate/metrics.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"
#include "util/clock.h"
#include "util/fault.h"
#include "util/json.h"
#include "util/log.h"
#include "util/mem.h"

/* The step of a line up to keep_to; otherwise -1. A line without a step is the header, which is written anew.
 * where: file and line. */
static int64_t kept_step(const char *line, size_t len, int64_t keep_to, const char *where) {
    json_t *object;
    if (json_parse(line, len, where, &object) != OK) {
        log_root(LOG_WARN, "%s: dropped, the line is damaged: %s", where, status_message()->text);
        status_clear();
        return -1;
    }
    const json_t *step = json_object_get(object, "step");
    bool closing = json_object_get(object, "train_runtime") != NULL;
    int64_t n = json_is_integer(step) && !closing ? json_integer_value(step) : -1;
    json_decref(object);
    return n <= keep_to ? n : -1;
}

static enum status kept_lines(const char *path, int64_t keep_to, struct text *out) {
    char stamp[32];
    clock_stamp(stamp, sizeof stamp);
    TRY(text_printf(out, "{\"schema\": \"collimate.metrics\", \"version\": %d, \"time\": \"%s\"}\n",
                    METRICS_SCHEMA, stamp));
    if (keep_to < 0) {
        return OK;
    }
    char *data = NULL;
    size_t len = 0;
    enum status st = access(path, F_OK) == 0 ? file_read(path, &data, &len) : OK;
    int64_t last = 0, number = 1;
    for (size_t at = 0; at < len && st == OK; number++) {
        char where[512];
        snprintf(where, sizeof where, "%.480s, line %lld", path, (long long)number);
        const char *end = memchr(data + at, '\n', len - at); /* none: half a line of a run that died */
        size_t n = end ? (size_t)(end - data) - at : len - at;
        int64_t step = end ? kept_step(data + at, n, keep_to, where) : -1;
        if (step >= 0) {
            st = text_append(out, data + at, n + 1);
            last = step;
        }
        at += n + 1;
    }
    mem_free(data);
    if (last < keep_to) {
        log_root(LOG_WARN, "%s: the run goes on after step %lld, but the lines after step %lld are lost",
                 path, (long long)keep_to, (long long)last);
    }
    return st;
}

static enum status open_lines(const char *path, int64_t keep_to, struct metrics_file *out) {
    struct text lines = {0};
    enum status st;
    TRY_TO(done, kept_lines(path, keep_to, &lines));
    TRY_TO(done, file_write(path, lines.data, lines.len));
    FILE *file = fault_hits(FAULT_OPEN) ? NULL : fopen(path, "a");
    if (!file) {
        st = fail(ERR_WRITE, "%s: cannot append: %s", path, strerror(errno));
        goto done;
    }
    out->file = file;
    out->path = mem_strdup(path);
    st = mem_ok(out->path);
done:
    text_free(&lines);
    return st;
}

static enum status open_events(const char *folder, int64_t keep_to, bool wanted, struct metrics_file *out) {
    TRY(keep_to < 0 ? event_files_remove(folder) : OK);
    return wanted ? event_file_open(folder, keep_to + 1, &out->events) : OK;
}

enum status metrics_open(const char *run, int64_t keep_to, bool tensorboard, struct metrics_file *out) {
    struct text path = {0};
    enum status st;
    TRY_TO(done, text_printf(&path, "%s/metrics.jsonl", run));
    TRY_TO(done, open_lines(path.data, keep_to, out));
    text_clear(&path);
    TRY_TO(done, text_printf(&path, "%s/tensorboard", run));
    TRY_TO(done, open_events(path.data, keep_to, tensorboard, out));
done:
    text_free(&path);
    return st;
}

/* A line's numbers, each with its tag. */
static enum status put_events(json_t *object, struct text *summary) {
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value) {
        bool is_eval = text_starts(key, "eval_");
        char tag[128];
        if (json_is_number(value) && strcmp(key, "step") != 0) {
            snprintf(tag, sizeof tag, "%s/%s", is_eval ? "eval" : "train", key + (is_eval ? 5 : 0));
            TRY(event_put(summary, tag, json_number_value(value)));
        }
    }
    return OK;
}

/* One line's product, where it has both; what does not parse has none. */
static bool line_product(const char *line, size_t len, const char *key, const char *times, double *out) {
    json_t *object;
    if (json_parse(line, len, key, &object) != OK) {
        status_clear();
        return false;
    }
    const json_t *value = json_object_get(object, key);
    const json_t *factor = times ? json_object_get(object, times) : NULL;
    bool found = json_is_number(value) && (!times || json_is_number(factor));
    *out = found ? json_number_value(value) * (times ? json_number_value(factor) : 1) : 0;
    json_decref(object);
    return found;
}

enum status metrics_sum(const char *path, const char *key, const char *times, double *sum, int64_t *count) {
    char *data;
    size_t len;
    *sum = 0;
    *count = 0;
    TRY(file_read(path, &data, &len));
    for (size_t at = 0; at < len;) {
        const char *end = memchr(data + at, '\n', len - at);
        size_t n = end ? (size_t)(end - data) - at : len - at;
        double value = 0;
        *count += line_product(data + at, n, key, times, &value);
        *sum += value;
        at += n + 1;
    }
    mem_free(data);
    return OK;
}

static enum status write_events(struct metrics_file *m, const struct text *line) {
    struct text whole = {0};
    struct text summary = {0};
    json_t *object = NULL;
    enum status st;
    TRY_TO(done, text_printf(&whole, "%s}", line->data));
    TRY_TO(done, json_parse(whole.data, whole.len, m->path, &object));
    TRY_TO(done, put_events(object, &summary));
    if (summary.len > 0) {
        st = event_file_write(&m->events, json_integer_value(json_object_get(object, "step")), &summary);
    }
done:
    json_decref(object);
    text_free(&whole);
    text_free(&summary);
    return st;
}

enum status metrics_write(struct metrics_file *m, const struct text *line) {
    if (fault_hits(FAULT_WRITE) || fwrite(line->data, 1, line->len, m->file) != line->len ||
        fputs("}\n", m->file) == EOF || fflush(m->file) != 0) {
        return fail(ERR_WRITE, "%s: cannot write: %s", m->path, strerror(errno));
    }
    return m->events.path ? write_events(m, line) : OK;
}

enum status metrics_sync(struct metrics_file *m) {
    if ((fault_hits(FAULT_SYNC) || fsync(fileno(m->file)) != 0) && errno != EINVAL &&
        errno != EROFS) { /* these: nothing to wait for */
        return fail(ERR_WRITE, "%s: fsync: %s", m->path, strerror(errno));
    }
    return m->events.path ? event_file_sync(&m->events) : OK;
}

void metrics_close(struct metrics_file *m) {
    if (m->file) {
        fclose(m->file); /* every line was flushed and checked when it was written */
    }
    mem_free(m->path);
    event_file_close(&m->events);
    *m = (struct metrics_file){0};
}

enum status metrics_put(struct text *line, const char *prefix, const char *name, double value) {
    TRY(text_printf(line, "%s\"%s%s\": ", line->len ? ", " : "{", prefix, name));
    return text_json_number(line, value);
}

struct put {
    struct text *line;
    const char *prefix;
};

static enum status put_shown(void *context, const char *name, double value) {
    const struct put *p = context;
    return metrics_put(p->line, p->prefix, name, value);
}

enum status metrics_put_sums(struct text *line, const char *prefix, const struct terms *t,
                             const struct sums *sums) {
    struct put put = {line, prefix};
    return objective_show(t, sums, put_shown, &put);
}
