#include "command/steer_data.h"

#include <string.h>

#include "command/embed.h"
#include "data/sidecar.h"
#include "encoder/dense.h"
#include "util/hash.h"
#include "util/log.h"

bool steer_has_users(const struct settings *s) {
    return strchr(s->data, ',') != NULL;
}

enum status steer_first_file(const char *list, struct text *out) {
    struct names files = {0};
    enum status st = names_split(&files, list);
    st = st == OK && files.n == 0 ? fail(ERR_USAGE, "data is not set") : st;
    st = st == OK ? text_puts(out, files.list[0]) : st;
    names_free(&files);
    return st;
}

enum status steer_embed(struct run *run, const char *file, struct text *path) {
    const struct settings *s = run->settings;
    const struct embed_aside what = {.model = *s->steer.embedder ? s->steer.embedder : s->model,
                                     .adapter = "",
                                     .data = file,
                                     .split = SPLIT_ALL}; /* the world has all of the file */
    return embed_aside(run, &what, path);
}

enum status steer_maker(const char *path, struct text *out) {
    struct sidecar *values;
    struct sidecar_key key;
    char digits[17];
    TRY(sidecar_open_values(path, 0, -1, &values, &key));
    hash_text(key.model, digits);
    enum status st = text_printf(out, "%s, model %s", key.recipe, digits);
    enum status closed = sidecar_close(values);
    return st == OK ? closed : st;
}

enum status steer_world(const struct session *s, const char *files, enum data_split split,
                        const char *embeddings, struct world *out) {
    const struct world_options o = {.data = files,
                                    .embeddings = embeddings,
                                    .split = split,
                                    .split_seed = (uint64_t)s->settings->seed,
                                    .trust_data = s->settings->trust_data};
    int64_t dropped = 0;
    dense_set_threads(1); /* so that the encoder's bits are the same on any ranks */
    TRY(world_of_files(s->comm, &o, out, &dropped));
    log_root(
        LOG_INFO,
        "users: %lld, of %lld pairs that all of them have (%lld were not everyone's); embeddings of %lld "
        "numbers",
        (long long)out->labels, (long long)out->pairs, (long long)dropped, (long long)out->width);
    return OK;
}
