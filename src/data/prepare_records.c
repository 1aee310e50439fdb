/* The threads of a rank: each takes the next batch of records, tokenizes it into a block of its own, and
 * hands that in. Blocks are joined to the rows in the order of their batches by whoever hands in the one that
 * is awaited, while the others go on. So order and content do not depend on the threads, and of several bad
 * records the first one is named. No more batches are under way than there are places, so that one that takes
 * long does not fill the memory with those behind it.
 */
#include <pthread.h>

#include "data/prepare_internal.h"
#include "util/lock.h"
#include "util/log.h"
#include "util/mem.h"

enum { PLACES_PER_THREAD = 2 };

struct crew {
    const struct prepare_job *job;
    struct prepare_batches *batches;
    struct prepared *out;
    struct progress *progress;
    pthread_mutex_t lock;  /* of what follows */
    pthread_cond_t moved;  /* a place is free, or all is over */
    struct block **places; /* handed in: of batch i at i % n_places */
    int n_places;
    int64_t taken, joined; /* batches, so many */
    bool joining;          /* a thread is at it */
    int64_t records;       /* joined, for the progress line */
    enum status st;
    struct message message;
};

static void crew_fail(struct crew *crew, enum status st, const struct message *message) {
    if (crew->st == OK) {
        crew->st = st;
        crew->message = *message;
    }
    pthread_cond_broadcast(&crew->moved);
}

/* Waits for a place. false: there is nothing more to do. */
static bool crew_wait(struct crew *crew) {
    pthread_mutex_lock(&crew->lock);
    while (crew->st == OK && crew->taken - crew->joined >= crew->n_places) {
        pthread_cond_wait(&crew->moved, &crew->lock);
    }
    bool goes_on = crew->st == OK;
    crew->taken += goes_on;
    pthread_mutex_unlock(&crew->lock);
    return goes_on;
}

static void block_close(struct block *b) {
    if (b) {
        prepare_block_free(b);
        mem_free(b);
    }
}

/* The lock is held, but not while rows are joined. */
static void join_those_awaited(struct crew *crew) {
    crew->joining = true;
    for (;;) {
        struct block **place = &crew->places[crew->joined % crew->n_places];
        struct block *b = *place;
        if (!b || crew->st != OK) {
            break;
        }
        *place = NULL;
        pthread_mutex_unlock(&crew->lock);
        enum status st = b->st;
        struct message message = b->message;
        if (st == OK) {
            st = prepare_join(crew->job, b, crew->out);
            message = *status_message();
        }
        int64_t records = b->n_records;
        block_close(b);
        pthread_mutex_lock(&crew->lock);
        crew->joined++;
        crew->records += records;
        if (st != OK) {
            crew_fail(crew, st, &message);
        }
        pthread_cond_broadcast(&crew->moved);
    }
    crew->joining = false;
}

static void hand_in(struct crew *crew, struct block *b, int64_t number, bool speaks) {
    pthread_mutex_lock(&crew->lock);
    crew->places[number % crew->n_places] = b;
    if (!crew->joining) {
        join_those_awaited(crew);
    }
    double done = (double)crew->records;
    pthread_mutex_unlock(&crew->lock);
    if (speaks) {
        progress_update(crew->progress, done, NULL);
    }
}

static void fill(struct worker *w, struct block *b, const struct prepare_batch *batch) {
    b->file = batch->first || batch->n == 0 ? -1 : batch->records[0].file;
    b->n_records = batch->n;
    for (int64_t i = 0; i < batch->n && b->st == OK; i++) {
        b->st = prepare_add(w, b, batch, i);
    }
    if (b->st != OK) {
        b->message = *status_message();
    }
}

static enum status do_batches(struct crew *crew, bool speaks) {
    struct worker *w = NULL;
    struct prepare_batch batch = {0};
    enum status st = prepare_worker_open(crew->job, &w);
    while (st == OK && crew_wait(crew)) {
        struct block *b = NULL;
        bool more = false;
        st = prepare_batches_next(crew->batches, &batch, &more);
        if (st != OK || !more) {
            break;
        }
        st = NEW_ARRAY(b, 1);
        if (st == OK) {
            fill(w, b, &batch);
            hand_in(crew, b, batch.number, speaks);
        }
    }
    prepare_batch_free(&batch);
    prepare_worker_close(w);
    return st;
}

/* A thread that cannot go on ends all of them. */
static void work(struct crew *crew, bool speaks) {
    if (do_batches(crew, speaks) != OK) {
        pthread_mutex_lock(&crew->lock);
        crew_fail(crew, status_code(), status_message());
        pthread_mutex_unlock(&crew->lock);
    }
}

static enum status crew_run(struct crew *crew) {
    int threads = crew->job->threads > 1 ? crew->job->threads : 1;
    crew->n_places = threads * PLACES_PER_THREAD;
    TRY(NEW_ARRAY(crew->places, crew->n_places)); // NOLINT(bugprone-sizeof-expression)
    TRY(prepare_batches_open(crew->job, &crew->batches));
    TRY(lock_open(&crew->lock));
    TRY(condition_open(&crew->moved));
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int thread = 0; thread < threads; thread++) {
        work(crew, thread == 0);
    }
    pthread_cond_destroy(&crew->moved);
    pthread_mutex_destroy(&crew->lock);
    if (crew->st != OK) {
        status_set(&crew->message);
    }
    return crew->st;
}

static enum status prepared_open(const struct prepare_job *job, struct prepared *out) {
    static const char *const names[PREPARE_LENGTHS] = {"prompt", "response", "prompt + response"};
    const struct dataset_rows_plan plan = {.beside = job->beside,
                                           .memory = job->row_memory,
                                           .piece = job->row_piece,
                                           .vocabulary = tokenizer_size(job->tokenizer),
                                           .n_objectives = job->objectives ? job->objectives->n : 0,
                                           .has_chars = job->token_chars,
                                           .has_desirable = prepare_labels(job)};
    *out = (struct prepared){.longest = -1};
    TRY(dataset_rows_open(&plan, &out->rows));
    for (int i = 0; i < PREPARE_LENGTHS; i++) {
        TRY(lengths_open(&out->lengths[i], names[i]));
    }
    TRY(NEW_ARRAY(out->file_records, records_files(job->input)));
    return NEW_ARRAY(out->file_prompts, records_files(job->input));
}

enum status prepare_records(const struct prepare_job *job, struct prepared *out) {
    struct progress progress;
    struct crew crew = {.job = job, .out = out, .progress = &progress};
    progress_start(&progress, "prepare", "records of rank 0", (double)job->records);
    enum status st = prepared_open(job, out);
    st = st == OK ? crew_run(&crew) : st;
    progress_end(&progress, (double)job->records);
    for (int i = 0; i < crew.n_places && crew.places; i++) {
        block_close(crew.places[i]);
    }
    mem_free(crew.places);
    prepare_batches_close(crew.batches);
    if (st != OK) {
        prepared_free(out);
    }
    return st;
}

void prepared_free(struct prepared *p) {
    for (int i = 0; i < PREPARE_LENGTHS; i++) {
        lengths_close(&p->lengths[i]);
    }
    dataset_rows_close(&p->rows);
    subsets_free(&p->subsets);
    text_free(&p->keys);
    mem_free(p->key_ends);
    mem_free(p->judged);
    mem_free(p->file_records);
    mem_free(p->file_prompts);
    *p = (struct prepared){0};
}
