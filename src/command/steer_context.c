#include "command/steer_context.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "command/steer_data.h"
#include "data/comparisons.h"
#include "data/sidecar.h"
#include "encoder/dense.h"
#include "util/log.h"
#include "util/mem.h"

/* A user's file on its way to embeddings. */
struct chosen {
    struct session *session;
    struct text file, embeddings; /* the preference file, and the side-car beside it */
    bool is_made;                 /* both, by this job: they go again */
    float *pairs;
    int64_t n;
};

enum status contexts_name(const char *path, char **out) {
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path, *dot = strrchr(name, '.');
    *out = mem_strndup(name, dot && dot > name ? (size_t)(dot - name) : strlen(name));
    return mem_ok(*out);
}

/* Texts become a preference file of the policy's tokens. Collective. */
static enum status tokenize(struct chosen *c, const char *texts) {
    struct settings settings = *c->session->settings;
    struct run run = *c->session->run;
    const char *beside = *settings.output ? settings.output : texts;
    TRY(comm_agree(run.comm, text_printf(&c->file, "%s.choices.h5", beside)));
    if (access(c->file.data, F_OK) == 0) {
        return fail(ERR_USAGE, "%s is in the way of the choices' tokens; remove it", c->file.data);
    }
    char *input = mem_strdup(texts);
    TRY(comm_agree(run.comm, mem_ok(input)));
    settings.input = input;
    settings.output = c->file.data;
    settings.tokenizer = c->session->source.data;
    run.settings = &settings;
    c->is_made = true;
    enum status st = command_prepare(&run);
    mem_free(input);
    return st;
}

/* Local. Chosen and rejected of the labeled pairs, in the file's order, at most `most` of them (0: all). */
static enum status read_pairs(struct chosen *c, struct dataset *d, int64_t most) {
    struct sidecar *values = NULL;
    int64_t pairs = dataset_size(d).pairs;
    enum status st;
    TRY(sidecar_open_values(c->embeddings.data, dataset_hash(d), -1, &values, NULL));
    int64_t width = sidecar_width(values);
    TRY_TO(done, NEW_ARRAY(c->pairs, pairs * 2 * width));
    for (int64_t row = 0; row < pairs && (most == 0 || c->n < most); row++) {
        struct pair pair;
        TRY_TO(done, dataset_pair(d, row, &pair));
        if (pair.label == 1) {
            float *to = c->pairs + c->n++ * 2 * width;
            TRY_TO(done, sidecar_read_values(values, pair.chosen, 1, to));
            TRY_TO(done, sidecar_read_values(values, pair.rejected, 1, to + width));
        }
    }
    if (width != c->session->steering.shape.width) {
        st = fail(ERR_DATA, "%s: embeddings of %lld numbers; the steering takes %lld", c->embeddings.data,
                  (long long)width, (long long)c->session->steering.shape.width);
    }
done:
    (void)sidecar_close(values);
    return st;
}

/* Local. */
static enum status check_maker(const struct chosen *c) {
    struct text maker = {0};
    const struct session *s = c->session;
    enum status st = steer_maker(c->embeddings.data, &maker);
    if (st == OK && strcmp(maker.data, s->steering.embedder) != 0) {
        st = fail(ERR_DATA,
                  "%s: embeddings by %s; %s was trained on those by %s (embed.*, steer.embedder, compute)",
                  c->embeddings.data, maker.data, s->settings->adapter, s->steering.embedder);
    }
    text_free(&maker);
    return st;
}

/* Collective. */
static enum status embed_choices(struct chosen *c, const char *path) {
    struct session *s = c->session;
    struct dataset *d = NULL;
    size_t n = strlen(path);
    bool is_file = n > 3 && strcmp(path + n - 3, ".h5") == 0;
    TRY(is_file ? comm_agree(s->comm, text_puts(&c->file, path)) : tokenize(c, path));
    enum status st = c->is_made ? text_printf(&c->embeddings, "%s.embeddings.h5", c->file.data) : OK;
    TRY(comm_agree(s->comm, st));
    TRY(steer_embed(s->run, c->file.data, &c->embeddings));
    TRY(session_open_data(s, c->file.data, SPLIT_ALL, &d));
    st = check_maker(c);
    st = st == OK ? read_pairs(c, d, s->settings->steer.choices) : st;
    dataset_close(d);
    return comm_agree(s->comm, st);
}

/* Local. The last user's z. */
static enum status encode(struct contexts *out, const struct chosen *c) {
    struct steering *s = &c->session->steering;
    int64_t width = s->shape.hidden;
    TRY(steering_encode(s, 1, c->n, c->pairs, NULL));
    memcpy(out->z + (out->n - 1) * width, s->condition.z, (size_t)width * sizeof *out->z);
    return OK;
}

/* Collective. path NULL: nothing is known of the user. */
static enum status add_user(struct session *s, const char *path, struct contexts *out) {
    struct chosen c = {.session = s};
    enum status st = contexts_name(path ? path : "", &out->names[out->n++]);
    st = comm_agree(s->comm, st);
    st = st == OK && path ? embed_choices(&c, path) : st;
    st = st == OK ? comm_agree(s->comm, encode(out, &c)) : st;
    if (st == OK && path) {
        log_root(LOG_INFO, "context of %s: %lld choices", path, (long long)c.n);
    }
    if (c.is_made && s->comm->rank == 0) {
        (void)unlink(c.file.data);
        if (c.embeddings.data) {
            (void)unlink(c.embeddings.data);
        }
    }
    text_free(&c.file);
    text_free(&c.embeddings);
    mem_free(c.pairs);
    return st;
}

/* Collective. */
static enum status add_users(struct session *s, int most, struct contexts *out) {
    struct names files = {0};
    if (!*s->settings->steer.context) {
        return add_user(s, NULL, out);
    }
    enum status st = names_split(&files, s->settings->steer.context);
    if (st == OK && files.n > most) {
        st = fail(ERR_USAGE, "steer.context: at most %d files here", most);
    }
    st = comm_agree(s->comm, st);
    for (int i = 0; i < files.n && st == OK; i++) {
        st = add_user(s, files.list[i], out);
    }
    names_free(&files);
    return st;
}

enum status contexts_open(struct session *s, int most, struct contexts *out) {
    *out = (struct contexts){0};
    if (!s->steers) {
        return *s->settings->steer.context
                   ? fail(ERR_USAGE, "steer.context is set, but %s",
                          *s->settings->adapter ? "the adapter has no steering"
                                                : "no adapter with steering is; set adapter=FOLDER")
                   : OK;
    }
    dense_set_threads(1);
    TRY(comm_agree(s->comm, NEW_ARRAY(out->z, CONTEXTS * s->steering.shape.hidden)));
    TRY(add_users(s, most < CONTEXTS ? most : CONTEXTS, out));
    out->condition = (struct condition){.n = out->n, .width = s->steering.shape.hidden, .z = out->z};
    return OK;
}

void contexts_close(struct contexts *c) {
    for (int i = 0; i < CONTEXTS; i++) {
        mem_free(c->names[i]);
    }
    mem_free(c->z);
    *c = (struct contexts){0};
}

const struct condition *contexts_condition(const struct contexts *c) {
    return c->n > 0 ? &c->condition : NULL;
}
