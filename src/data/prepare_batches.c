/* What the threads take: blocks of the input, or runs of groups, about a MiB of text each. */
#include <pthread.h>

#include "data/prepare_internal.h"
#include "util/lock.h"
#include "util/mem.h"

struct prepare_batches {
    const struct prepare_job *job;
    struct record_reader *reader; /* NULL: there are groups */
    pthread_mutex_t lock;         /* of what follows */
    int64_t taken, number;        /* groups; batches */
};

enum status prepare_batches_open(const struct prepare_job *job, struct prepare_batches **out) {
    struct prepare_batches *b;
    TRY(NEW_ARRAY(b, 1));
    b->job = job;
    enum status st = lock_open(&b->lock);
    st = st == OK && !job->groups ? record_reader_open(job->input, job->records, &b->reader) : st;
    if (st != OK) {
        prepare_batches_close(b);
        return st;
    }
    *out = b;
    return OK;
}

void prepare_batches_close(struct prepare_batches *b) {
    if (b) {
        record_reader_close(b->reader);
        pthread_mutex_destroy(&b->lock);
        mem_free(b);
    }
}

static enum status next_groups(struct prepare_batches *b, struct prepare_batch *batch, bool *more) {
    const struct record_groups *g = b->job->groups;
    pthread_mutex_lock(&b->lock);
    int64_t first = b->taken;
    int64_t n = record_groups_fit(g, first);
    b->taken += n;
    batch->number = n > 0 ? b->number++ : 0;
    pthread_mutex_unlock(&b->lock);
    *more = n > 0;
    TRY(record_groups_read(g, first, n, &batch->groups));
    batch->n = n;
    batch->records = batch->groups.records;
    batch->first = batch->groups.first;
    return OK;
}

enum status prepare_batches_next(struct prepare_batches *b, struct prepare_batch *batch, bool *more) {
    if (!b->reader) {
        return next_groups(b, batch, more);
    }
    TRY(record_reader_next(b->reader, &batch->block, more));
    batch->number = batch->block.number;
    batch->n = *more ? batch->block.count : 0;
    batch->records = batch->block.list;
    batch->first = NULL;
    return OK;
}

void prepare_batch_free(struct prepare_batch *b) {
    record_block_free(&b->block);
    group_batch_free(&b->groups);
}
