#include "command/stops.h"

#include <unistd.h>

#include "util/json.h"
#include "util/log.h"
#include "util/mem.h"

static enum status add_stop(struct stop_set *stops, int64_t id, const char *path) {
    if (id < 0 || id > INT32_MAX || stops->n == MOST_STOPS) {
        return fail(ERR_DATA, "%s: eos_token_id holds %lld, or more than %d ids", path, (long long)id,
                    MOST_STOPS);
    }
    stops->ids[stops->n++] = (int32_t)id;
    return OK;
}

/* eos_token_id is a number or a list of them. */
static enum status take_stops(struct stop_set *stops, const json_t *object, const char *path) {
    const json_t *ids = json_object_get(object, "eos_token_id");
    if (json_is_integer(ids)) {
        return add_stop(stops, json_integer_value(ids), path);
    }
    if (ids && !json_is_null(ids) && !json_is_array(ids)) {
        return fail(ERR_DATA, "%s: eos_token_id is neither a number nor a list", path);
    }
    for (size_t i = 0; i < json_array_size(ids); i++) {
        const json_t *id = json_array_get(ids, i);
        if (!json_is_integer(id)) {
            return fail(ERR_DATA, "%s: eos_token_id[%zu] is not a number", path, i);
        }
        TRY(add_stop(stops, json_integer_value(id), path));
    }
    return OK;
}

/* Those of a file beside the model, if it is there. */
static enum status stops_of(const struct session *s, const char *name, struct stop_set *stops) {
    struct text path = {0};
    json_t *object = NULL;
    enum status st;
    TRY_TO(done, text_printf(&path, "%s/%s", s->source.data, name));
    if (access(path.data, F_OK) == 0) {
        TRY_TO(done, json_load(path.data, &object));
        st = take_stops(stops, object, path.data);
    }
done:
    json_decref(object);
    text_free(&path);
    return st;
}

/* Where generation_config.json and config.json name different end ids, transformers goes by the first. */
static void say_disagreement(const struct session *s, const struct stop_set *stops) {
    int32_t end = s->model->config.end_id;
    for (int32_t i = 0; i < stops->n; i++) {
        if (stops->ids[i] == end) {
            return;
        }
    }
    if (end >= 0 && stops->n > 0) {
        log_root(LOG_WARN,
                 "%s: responses end at id %d%s of generation_config.json, as in transformers; config.json's "
                 "end token %d is none of them",
                 s->source.data, stops->ids[0], stops->n > 1 ? " and the others" : "", end);
    }
}

enum status stops_read(const struct session *s, struct stop_set *out) {
    TRY(stops_of(s, "generation_config.json", out));
    say_disagreement(s, out);
    TRY(out->n == 0 ? stops_of(s, "config.json", out) : OK);
    if (out->n == 0 && s->model->config.end_id >= 0) { /* what the family has where it is silent */
        TRY(add_stop(out, s->model->config.end_id, "config.json"));
    }
    if (out->n == 0 && s->tokenizer && tokenizer_end(s->tokenizer) >= 0) {
        TRY(add_stop(out, tokenizer_end(s->tokenizer), "tokenizer"));
    }
    return OK;
}

enum status stops_bar(const struct session *s, bool **out) {
    int64_t n = s->model->config.vocabulary, count = 0;
    TRY(NEW_ARRAY(*out, n));
    for (int64_t id = 0; id < n && s->tokenizer; id++) {
        (*out)[id] = !tokenizer_has(s->tokenizer, id);
        count += (*out)[id];
    }
    if (count == n) {
        return fail(ERR_DATA, "%s: its tokenizer has none of the model's %lld ids", s->source.data,
                    (long long)n);
    }
    if (count > 0) {
        log_root(LOG_INFO, "%lld of the model's %lld ids have no token; they are not drawn", (long long)count,
                 (long long)n);
    } else {
        mem_free(*out);
        *out = NULL;
    }
    return OK;
}

int32_t stops_first_token(const struct session *s, const struct dataset *data) {
    const struct dataset_facts *facts = dataset_facts(data);
    const struct model_config *config = &s->model->config;
    int32_t known[] = {facts->begin_id, config->begin_id, facts->end_id, config->end_id};
    for (int i = 0; i < COUNT_OF(known); i++) {
        if (known[i] >= 0) {
            return known[i];
        }
    }
    return -1;
}
