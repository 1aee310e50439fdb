/* Steering of a session: the shape that its keys or an adapter's folder give, on the session's adapters. */
#include <stdlib.h>
#include <string.h>

#include "command/session.h"
#include "data/sidecar.h"
#include "steer/steering_folder.h"
#include "store/model_source.h"
#include "util/hash.h"
#include "util/log.h"

/* What the embeddings that will be read are wide. Local. */
static enum status find_width(const struct settings *settings, const struct model_config *config,
                              int64_t *out) {
    struct sidecar *values = NULL;
    struct model_config other;
    *out = config->width;
    if (*settings->embeddings) {
        TRY(sidecar_open_values(settings->embeddings, 0, -1, &values, NULL));
        *out = sidecar_width(values);
        return sidecar_close(values);
    }
    if (*settings->steer.embedder) {
        TRY(model_source_find(settings->steer.embedder, &other));
        *out = other.width;
    }
    return OK;
}

/* "all", or a number of the model's blocks. */
static enum status parse_layers(const char *words, const struct model_config *config, int64_t *out) {
    char *end;
    *out = config->layers;
    if (strcmp(words, "all") == 0) {
        return OK;
    }
    *out = strtoll(words, &end, 10);
    return *end == '\0' && *out >= 1 && *out <= config->layers
               ? OK
               : fail(ERR_USAGE, "steer.layers=%s: all, or 1 to %lld, the model's blocks", words,
                      (long long)config->layers);
}

struct steering_training session_steering_training(const struct session *s) {
    const struct settings *settings = s->settings;
    double own = settings->train.learning_rate, rate = settings->steer.rate;
    return (struct steering_training){
        .start = (enum steering_start)settings->steer.start,
        .deviation = settings->steer.deviation,
        .rate = rate > 0 && own > 0 ? rate / own : 1,
        .dropout = settings->steer.aggregate == AGGREGATE_ATTENTION ? settings->steer.dropout : 0,
        .seed = (uint64_t)settings->seed,
        .users = (int32_t)(settings->train.batch / settings->steer.targets)};
}

/* Of a new one. */
static enum status open_new(struct session *s, const struct model_config *config) {
    const struct settings *settings = s->settings;
    struct steering_shape shape = {
        .hidden = settings->steer.hidden,
        .heads = settings->steer.aggregate == AGGREGATE_ATTENTION ? settings->steer.heads : 1,
        .aggregate = (enum network_aggregate)settings->steer.aggregate,
        .inner_mlp = settings->steer.inner == 1,
        .bounded = settings->steer.bounded};
    TRY(parse_layers(settings->steer.layers, config, &shape.layers));
    TRY(find_width(settings, config, &shape.width));
    return steering_open(&shape, (uint64_t)settings->seed, &s->steering);
}

enum status session_plan_steering(struct session *s, const struct model_config *config) {
    const struct settings *settings = s->settings;
    bool is_new = s->trains && *settings->steer.layers;
    bool is_read = *settings->adapter && steering_folder_is(settings->adapter);
    if (!is_new && !is_read) {
        return OK;
    }
    if (is_read && s->trains && !is_new) {
        return fail(ERR_USAGE, "%s has steering: it is trained on with dpo and steer.layers alone",
                    settings->adapter);
    }
    TRY(is_read ? steering_folder_open(settings->adapter, &s->steering) : open_new(s, config));
    if (s->steering.shape.layers > config->layers) {
        return fail(ERR_DATA, "%s: %lld blocks are steered, the model has %lld", settings->adapter,
                    (long long)s->steering.shape.layers, (long long)config->layers);
    }
    struct steering_training t = session_steering_training(s);
    bool is_own = is_new && (!*settings->eval_data || t.users > STEERED_USERS);
    t.users = is_own ? t.users : STEERED_USERS;
    s->steers = true;
    return steering_lay_out(&s->steering, &t, &s->adapters);
}

enum status session_open_steering(struct session *s) {
    const struct steering_training t = session_steering_training(s);
    if (!s->steers) {
        return OK;
    }
    steering_bind(&s->steering, lora_arena(s->lora));
    TRY(*s->settings->adapter && steering_folder_is(s->settings->adapter)
            ? steering_folder_read(s->settings->adapter, &s->steering)
            : steering_start(&s->steering, &t));
    log_root(LOG_INFO, "steering: FiLM after %lld of %lld blocks, z of %lld numbers from embeddings of %lld",
             (long long)s->steering.shape.layers, (long long)s->model->config.layers,
             (long long)s->steering.shape.hidden, (long long)s->steering.shape.width);
    return OK;
}
