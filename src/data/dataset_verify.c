/* Are a preference file's contents those that its hashes were made of? */
#include "data/dataset_internal.h"
#include "mpi/watchdog.h"
#include "util/hash.h"
#include "util/log.h"

static const char *const covers[DATASET_HASHES] = {
    [HASH_TOKENS] = "tokens of prompts and responses",
    [HASH_RESPONSES] = "scores and lengths of responses",
    [HASH_PAIRS] = "pairs, labels and margins",
};

/* Local. This rank's shares of the columns' hashes. */
static enum status hash_shares(struct dataset *d, const struct comm *c, uint64_t *own) {
    for (int i = 0; i < DATASET_COLUMNS; i++) {
        struct h5_column *column = dataset_column_of(d, (enum dataset_column)i);
        TRY(column ? h5_hash_share(column, c->rank, c->size, &own[i]) : OK);
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
static enum status compare_all(struct dataset *d, const uint64_t *hashes) {
    const struct h5_file *said = NULL;
    for (int i = 0; i < DATASET_HASHES; i++) {
        enum dataset_hash which = (enum dataset_hash)i;
        struct h5_file *f = dataset_file_of(d, which);
        if (which == HASH_TOKENS || h5_has_attribute(f, dataset_hash_names[which])) {
            TRY(compare(d, which, hashes));
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

enum status dataset_verify(struct comm *c, struct dataset *d, bool trust) {
    uint64_t hashes[DATASET_COLUMNS] = {0};
    if (trust) {
        log_root(LOG_WARN, "%s: trusted, not compared with its hashes (trust_data=true)", dataset_path(d));
        return OK;
    }
    watchdog_phase(c->watchdog, "comparing %s with its hashes", dataset_path(d));
    TRY(comm_agree(c, hash_shares(d, c, hashes)));
    TRY(comm_sum_u64(c, hashes, DATASET_COLUMNS));
    return comm_agree(c, compare_all(d, hashes));
}
