/* Are a preference file's contents those that its hashes were made of? */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "data/dataset_internal.h"
#include "mpi/watchdog.h"
#include "util/hash.h"
#include "util/log.h"

static const char *const covers[DATASET_HASHES] = {
    [HASH_TOKENS] = "tokens of prompts and responses",
    [HASH_RESPONSES] = "scores and lengths of responses",
    [HASH_PAIRS] = "pairs, labels and margins",
};

/* A verification: which of the hashes are compared, and what is known of the files. */
struct verification {
    struct dataset *d;
    struct dataset_seen *seen; /* NULL: nothing */
    bool skip[DATASET_HASHES];
};

/* Local. What a file is like now, as the one entry of *out. */
static enum status look(struct dataset *d, enum dataset_hash which, struct dataset_seen *out) {
    const char *path = h5_path(dataset_file_of(d, which));
    struct stat facts;
    if (stat(path, &facts) != 0) {
        return fail(ERR_INPUT, "%s: %s", path, strerror(errno));
    }
    out->n = 1;
    out->files[0].hash = (int64_t)which;
    out->files[0].device = (int64_t)facts.st_dev;
    out->files[0].inode = (int64_t)facts.st_ino;
    out->files[0].size = (int64_t)facts.st_size;
    out->files[0].seconds = (int64_t)facts.st_mtim.tv_sec;
    out->files[0].nanoseconds = (int64_t)facts.st_mtim.tv_nsec;
    return OK;
}

static bool has_seen(const struct dataset_seen *seen, const struct dataset_seen *one) {
    for (int i = 0; i < seen->n; i++) {
        if (memcmp(&seen->files[i], &one->files[0], sizeof one->files[0]) == 0) {
            return true;
        }
    }
    return false;
}

/* Collective. A file is passed over where every rank has seen it. */
static enum status find_seen(struct comm *c, struct verification *v) {
    int64_t skip[DATASET_HASHES] = {0};
    enum status st = OK;
    if (!v->seen) {
        return OK;
    }
    for (int i = 0; i < DATASET_HASHES && st == OK; i++) {
        struct dataset_seen now = {0};
        st = look(v->d, (enum dataset_hash)i, &now);
        skip[i] = st == OK && has_seen(v->seen, &now);
    }
    TRY(comm_agree(c, st));
    TRY(comm_min_i64(c, skip, DATASET_HASHES));
    for (int i = 0; i < DATASET_HASHES; i++) {
        v->skip[i] = skip[i];
    }
    return OK;
}

/* Local. */
static enum status remember(const struct verification *v) {
    struct dataset_seen *seen = v->seen;
    for (int i = 0; i < DATASET_HASHES && seen; i++) {
        struct dataset_seen now = {0};
        TRY(look(v->d, (enum dataset_hash)i, &now));
        if (!has_seen(seen, &now)) {
            int at = seen->n < COUNT_OF(seen->files) ? seen->n++ : 0;
            seen->files[at] = now.files[0];
        }
    }
    return OK;
}

/* Local. This rank's shares of the columns' hashes. */
static enum status hash_shares(const struct verification *v, const struct comm *c, uint64_t *own) {
    for (int i = 0; i < DATASET_COLUMNS; i++) {
        struct h5_column *column = dataset_column_of(v->d, (enum dataset_column)i);
        TRY(column && !v->skip[dataset_hash_of((enum dataset_column)i)]
                ? h5_hash_share(column, c->rank, c->size, &own[i])
                : OK);
    }
    return OK;
}

/* Local. The same join, in the same order, as the writer's. */
static enum status compare(struct dataset *d, enum dataset_hash which, const uint64_t *hashes) {
    struct h5_file *f = dataset_file_of(d, which);
    uint64_t joined = 0, stored;
    TRY(h5_get_u64(f, dataset_hash_names[which], &stored));
    for (int i = 0; i < DATASET_COLUMNS; i++) {
        enum dataset_column column = (enum dataset_column)i;
        bool counts = dataset_column_of(d, column) && dataset_hash_of(column) == which;
        joined = counts ? hash_join(joined, hashes[i]) : joined;
    }
    if (joined != stored) {
        return fail(
            ERR_DATA,
            "%s: %s do not match the file's own hash: it was changed or damaged after it was written; "
            "prepare it again (trust_data=true takes it as it is)",
            h5_path(f), covers[which]);
    }
    return OK;
}

/* Local. A file of the version before has none of the later hashes; that is said once of a file. */
static enum status compare_all(const struct verification *v, const uint64_t *hashes) {
    const struct h5_file *said = NULL;
    for (int i = 0; i < DATASET_HASHES; i++) {
        enum dataset_hash which = (enum dataset_hash)i;
        struct h5_file *f = dataset_file_of(v->d, which);
        if (v->skip[i]) {
            continue;
        }
        if (which == HASH_TOKENS || h5_has_attribute(f, dataset_hash_names[which])) {
            TRY(compare(v->d, which, hashes));
        } else if (f != said) {
            log_root(LOG_INFO,
                     "%s: is of an earlier version, without hashes of its %spairs and labels: they are not "
                     "checked",
                     h5_path(f), which == HASH_PAIRS ? "" : "scores, ");
            said = f;
        }
    }
    return OK;
}

enum status dataset_verify_once(struct comm *c, struct dataset *d, bool trust, struct dataset_seen *seen) {
    uint64_t hashes[DATASET_COLUMNS] = {0};
    struct verification v = {.d = d, .seen = seen};
    if (trust) {
        log_root(LOG_WARN, "%s: trusted, not compared with its hashes (trust_data=true)", dataset_path(d));
        return OK;
    }
    watchdog_phase(c->watchdog, "comparing %s with its hashes", dataset_path(d));
    TRY(find_seen(c, &v));
    TRY(comm_agree(c, hash_shares(&v, c, hashes)));
    TRY(comm_sum_u64(c, hashes, DATASET_COLUMNS));
    TRY(comm_agree(c, compare_all(&v, hashes)));
    return comm_agree(c, remember(&v));
}

enum status dataset_verify(struct comm *c, struct dataset *d, bool trust) {
    return dataset_verify_once(c, d, trust, NULL);
}
