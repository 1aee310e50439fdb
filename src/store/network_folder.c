#include "store/network_folder.h"

#include <math.h>

#include "io/safetensors.h"
#include "util/text.h"

static enum status write_values(struct safetensors_writer *w, const double *from, int64_t n) {
    enum { PIECE = 1024 };
    float piece[PIECE];
    for (int64_t first = 0; first < n; first += PIECE) {
        int64_t count = n - first < PIECE ? n - first : PIECE;
        for (int64_t i = 0; i < count; i++) {
            piece[i] = (float)from[first + i];
        }
        TRY(safetensors_write(w, piece, count));
    }
    return OK;
}

static enum status write_all(struct safetensors_writer *w, const struct network *m) {
    for (int t = 0; t < NETWORK_TENSORS; t++) {
        const struct network_range *r = &m->tensors[t];
        const int64_t shape[] = {r->rows, r->columns};
        bool is_vector = text_ends(r->name, "bias") || t == NETWORK_NORM_WEIGHT;
        TRY(r->rows == 0 ? OK : safetensors_declare(w, r->name, is_vector ? 1 : 2, shape));
    }
    const int64_t hidden[] = {m->shape.hidden};
    TRY(safetensors_declare(w, "head.norm.running_mean", 1, hidden));
    TRY(safetensors_declare(w, "head.norm.running_var", 1, hidden));
    for (int t = 0; t < NETWORK_TENSORS; t++) {
        const struct network_range *r = &m->tensors[t];
        TRY(write_values(w, m->parameters + r->offset, r->rows * r->columns));
    }
    TRY(write_values(w, m->running_mean, m->shape.hidden));
    return write_values(w, m->running_variance, m->shape.hidden);
}

enum status network_folder_save(const struct network *m, const char *folder) {
    struct safetensors_writer *w;
    TRY(safetensors_create(folder, STORED_F32, 0, &w));
    enum status st = write_all(w, m);
    if (st != OK) {
        safetensors_abandon(w);
        return st;
    }
    return safetensors_finish(w);
}

static enum status read_tensor(struct safetensors *s, const char *folder, const char *name, int64_t n,
                               double *to) {
    enum { PIECE = 1024 };
    float piece[PIECE];
    const struct stored_tensor *t = safetensors_find(s, name);
    if (!t || t->elements != n) {
        return fail(ERR_DATA, "%s: %s is %s; the few_shot.* keys must be those that the model was made with",
                    folder, name, t ? "of another shape" : "missing");
    }
    for (int64_t first = 0; first < n; first += PIECE) {
        int64_t count = n - first < PIECE ? n - first : PIECE;
        TRY(safetensors_read(s, t, first, count, piece));
        for (int64_t i = 0; i < count; i++) {
            if (!isfinite(piece[i])) {
                return fail(ERR_DATA, "%s: %s holds a number that is not finite", folder, name);
            }
            to[first + i] = (double)piece[i];
        }
    }
    return OK;
}

enum status network_folder_load(struct network *m, const char *folder) {
    struct safetensors *s;
    TRY(safetensors_open(folder, &s));
    enum status st = OK;
    for (int t = 0; t < NETWORK_TENSORS && st == OK; t++) {
        const struct network_range *r = &m->tensors[t];
        int64_t n = r->rows * r->columns;
        st = n > 0 ? read_tensor(s, folder, r->name, n, m->parameters + r->offset) : OK;
    }
    int64_t h = m->shape.hidden;
    st = st == OK ? read_tensor(s, folder, "head.norm.running_mean", h, m->running_mean) : st;
    st = st == OK ? read_tensor(s, folder, "head.norm.running_var", h, m->running_variance) : st;
    for (int64_t i = 0; i < h && st == OK; i++) {
        st = m->running_variance[i] >= 0 ? OK : fail(ERR_DATA, "%s: a variance below 0", folder);
    }
    safetensors_close(s);
    return st;
}
