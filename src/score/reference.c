#include "score/reference.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "data/sidecar_find.h"
#include "mpi/watchdog.h"
#include "score/work.h"
#include "util/log.h"
#include "util/mem.h"
#include "util/rng.h"

/* Steps computed between two collective writes. */
enum { WINDOW_STEPS = 16 };

/* A response's score on its way into the file. */
struct scored {
    int64_t id, place; /* place: order of computation, which decides where a response is in two rows */
    double sum;
    uint64_t hash;
    int64_t count;
    int64_t first, at; /* of its tokens: in the data file, in the list */
};
struct scored_list {
    struct scored *data;
    int64_t n, capacity;
    double *tokens; /* where the file holds them */
    int64_t n_tokens, cap_tokens;
};

static void scored_free(struct scored_list *l) {
    mem_free(l->data);
    mem_free(l->tokens);
}

/* Takes the tokens of a response. */
static enum status keep_tokens(const struct response_score *r, struct scored_list *out) {
    TRY(GROW_ARRAY(out->tokens, out->cap_tokens, out->n_tokens + r->tokens));
    for (int64_t t = 0; t < r->tokens; t++) {
        out->tokens[out->n_tokens++] = r->token_logp[t];
    }
    return OK;
}

static enum status score_batch(const struct reference_job *job, const struct batch *b,
                               struct scored_list *out) {
    struct scorer *scorer = job->scorer;
    for (int64_t k = 0; k < b->n_cuts; k++) {
        const struct forest_cut *cut = &b->cuts[k];
        TRY(scorer_run(scorer, b->samples + cut->first, cut->last - cut->first));
        for (int64_t i = cut->first; i < cut->last; i++) {
            const struct sample *s = &b->samples[i];
            TRY(GROW_ARRAY(out->data, out->capacity, out->n + s->n_responses));
            for (int j = 0; j < s->n_responses; j++) {
                const struct response_score *r = &scorer->scores[scorer->first[i - cut->first] + j];
                if (!isfinite(r->logp)) {
                    return fail(ERR_DATA,
                                "reference scores: row %lld is not finite under the reference model",
                                (long long)s->row);
                }
                out->data[out->n++] = (struct scored){.id = s->responses[j].id,
                                                      .place = b->step * INT32_MAX + s->row,
                                                      .sum = r->logp,
                                                      .hash = sample_hash(s, j),
                                                      .count = r->tokens,
                                                      .first = s->responses[j].first,
                                                      .at = out->n_tokens};
                TRY(sidecar_has_tokens(job->file) ? keep_tokens(r, out) : OK);
            }
        }
    }
    return OK;
}

static int by_id(const void *a, const void *b) {
    const struct scored *x = a;
    const struct scored *y = b;
    if (x->id != y->id) {
        return x->id < y->id ? -1 : 1;
    }
    return x->place < y->place ? -1 : x->place > y->place;
}

/* Every rank gets all tokens, rank by rank; the places of rank r's move behind those of the ranks before.
 * scored: bytes of each rank's scores in all. */
static enum status gather_tokens(struct comm *c, const struct scored_list *mine, const int64_t *scored,
                                 struct scored_list *all) {
    int64_t *bytes = NULL;
    int64_t total = 0, next = 0;
    enum status st;
    TRY_TO(agreed, NEW_ARRAY(bytes, c->size));
agreed:
    TRY_TO(done, comm_agree(c, st));
    TRY_TO(done, comm_gather_i64(c, mine->n_tokens * (int64_t)sizeof *mine->tokens, bytes));
    for (int r = 0; r < c->size; r++) {
        for (int64_t end = next + scored[r] / (int64_t)sizeof *all->data; next < end; next++) {
            all->data[next].at += total;
        }
        total += bytes[r] / (int64_t)sizeof *all->tokens;
    }
    TRY_TO(done, comm_agree(c, GROW_ARRAY(all->tokens, all->cap_tokens, total + 1)));
    st = comm_gather_bytes(c, mine->tokens, bytes[c->rank], all->tokens, bytes);
done:
    mem_free(bytes);
    return st;
}

/* Every rank gets all of a window's scores, sorted, the first of each response only. */
static enum status gather_scores(struct comm *c, const struct scored_list *mine, bool has_tokens,
                                 struct scored_list *all) {
    int64_t *bytes = NULL;
    enum status st;
    TRY_TO(done, NEW_ARRAY(bytes, c->size));
    TRY_TO(done, comm_gather_i64(c, mine->n * (int64_t)sizeof *mine->data, bytes));
    int64_t total = 0;
    for (int r = 0; r < c->size; r++) {
        total += bytes[r] / (int64_t)sizeof *all->data;
    }
    TRY_TO(done, comm_agree(c, GROW_ARRAY(all->data, all->capacity, total + 1)));
    TRY_TO(done, comm_gather_bytes(c, mine->data, bytes[c->rank], all->data, bytes));
    TRY_TO(done, has_tokens ? gather_tokens(c, mine, bytes, all) : OK);
    qsort(all->data, (size_t)total, sizeof *all->data, by_id);
    all->n = 0;
    for (int64_t i = 0; i < total; i++) {
        if (all->n == 0 || all->data[all->n - 1].id != all->data[i].id) {
            all->data[all->n++] = all->data[i];
        }
    }
done:
    mem_free(bytes);
    return st;
}

/* Collective. The tokens of n scores. */
static enum status write_tokens(struct comm *c, struct sidecar *file, const struct scored_list *all,
                                const struct scored *scores, int64_t n) {
    int64_t *ids = NULL, *first = NULL;
    int32_t *counts = NULL;
    double *logp = NULL;
    int64_t total = 0;
    enum status st;
    for (int64_t i = 0; scores && i < n; i++) {
        total += scores[i].count;
    }
    TRY_TO(agreed, NEW_ARRAY(ids, n));
    TRY_TO(agreed, NEW_ARRAY(first, n));
    TRY_TO(agreed, NEW_ARRAY(counts, n));
    TRY_TO(agreed, NEW_ARRAY(logp, total));
    total = 0;
    for (int64_t i = 0; scores && i < n; i++) {
        ids[i] = scores[i].id;
        first[i] = scores[i].first;
        counts[i] = (int32_t)scores[i].count;
        for (int64_t t = 0; t < scores[i].count; t++) {
            logp[total++] = all->tokens[scores[i].at + t];
        }
    }
agreed:
    st = comm_agree(c, st);
    st = st == OK ? sidecar_write_tokens(file, ids, n, first, counts, logp) : st;
    mem_free(ids);
    mem_free(first);
    mem_free(counts);
    mem_free(logp);
    return st;
}

static enum status write_scores(struct comm *c, struct sidecar *file, const struct scored_list *all) {
    struct range part = range_part(all->n, c->rank, c->size);
    int64_t n = part.last - part.first;
    int64_t *ids = NULL;
    double *sums = NULL;
    int32_t *counts = NULL;
    uint64_t *hashes = NULL;
    enum status st;
    TRY_TO(agreed, NEW_ARRAY(ids, n));
    TRY_TO(agreed, NEW_ARRAY(sums, n));
    TRY_TO(agreed, NEW_ARRAY(counts, n));
    TRY_TO(agreed, NEW_ARRAY(hashes, n));
    for (int64_t i = 0; all->data && i < n; i++) {
        const struct scored *s = &all->data[part.first + i];
        ids[i] = s->id;
        sums[i] = s->sum;
        counts[i] = (int32_t)s->count;
        hashes[i] = s->hash;
    }
agreed:
    st = comm_agree(c, st);
    if (st == OK && sidecar_has_tokens(file)) {
        st = write_tokens(c, file, all, all->data + part.first, n);
    }
    if (st == OK) {
        st = sidecar_write_reference(file, ids, n, sums, counts, hashes);
    }
    mem_free(ids);
    mem_free(sums);
    mem_free(counts);
    mem_free(hashes);
    return st;
}

/* Whether the file holds all of a batch's responses. */
static enum status batch_is_there(struct sidecar *file, const struct batch *b, bool *out) {
    *out = true;
    for (int64_t i = 0; i < b->n && *out; i++) {
        for (int j = 0; j < b->samples[i].n_responses; j++) {
            int32_t count;
            double sum;
            uint64_t hash;
            TRY(sidecar_read_reference(file, &b->samples[i].responses[j].id, 1, &sum, &count, &hash));
            *out = *out && count >= 0 && hash == sample_hash(&b->samples[i], j);
        }
    }
    return OK;
}

/* What is computed of the steps at hand, and how far. */
struct filling {
    const struct reference_job *job;
    struct batch batch;
    struct scored_list mine, all;
    int64_t computed; /* rows so far, over all ranks */
};

static int64_t rows_before(void *context, int64_t step) {
    const struct filling *f = context;
    if (step == 0) {
        return 0;
    }
    struct step_place last = batch_place(&f->job->source->plan, step - 1);
    return last.first + last.count;
}

/* A step is missing where this rank's share of it is not there. */
static enum status step_is_missing(void *context, int64_t step, bool *out) {
    struct filling *f = context;
    bool there;
    TRY(batch_read(f->job->source, step, &f->batch));
    TRY(batch_is_there(f->job->file, &f->batch, &there));
    *out = !there;
    return OK;
}

static enum status compute_steps(void *context, const int64_t *steps, int64_t n) {
    struct filling *f = context;
    const struct reference_job *job = f->job;
    f->mine.n = f->mine.n_tokens = 0;
    for (int64_t i = 0; i < n; i++) {
        TRY(batch_read(job->source, steps[i], &f->batch));
        TRY(score_batch(job, &f->batch, &f->mine));
        f->computed += batch_place(&job->source->plan, steps[i]).count;
    }
    return OK;
}

static enum status write_steps(void *context) {
    struct filling *f = context;
    const struct reference_job *job = f->job;
    TRY(gather_scores(job->comm, &f->mine, sidecar_has_tokens(job->file), &f->all));
    return write_scores(job->comm, job->file, &f->all);
}

enum status reference_compute(const struct reference_job *job, int64_t *computed, int64_t *there) {
    struct filling filling = {.job = job};
    struct work work = {
        .context = &filling,
        .label = "reference scores",
        .unit = "rows",
        .phase = "computing reference scores from row",
        .n = job->steps,
        .round = WINDOW_STEPS,
        .deal = DEAL_TO_ALL,
        .done_before = rows_before,
        .is_missing = step_is_missing,
        .compute = compute_steps,
        .write = write_steps,
        .stopped = {"the reference scores of ", " rows"},
        .goes_on = true,
    };
    enum status st = work_run(job->comm, &work);
    *computed = filling.computed;
    *there = rows_before(&filling, job->steps) - filling.computed;
    batch_free(&filling.batch);
    scored_free(&filling.mine);
    scored_free(&filling.all);
    return st;
}

/* What is stored token by token adds up to the sum, to the bit. */
static enum status check_tokens(const struct reference_job *job, const struct sample_response *r, double sum,
                                int32_t count) {
    double *logp = NULL;
    double total = 0;
    enum status st;
    TRY_TO(done, NEW_ARRAY(logp, count));
    TRY_TO(done, sidecar_read_tokens(job->file, r->id, r->first, count, logp));
    for (int32_t t = 0; t < count; t++) {
        total += logp[t];
    }
    if (total != sum) {
        st = fail(ERR_DATA,
                  "reference scores: the tokens of response %lld add up to %.6f, not to its %.6f; remove the "
                  "side-car file to compute it again",
                  (long long)r->id, total, sum);
    }
done:
    mem_free(logp);
    return st;
}

static enum status check_row(const struct reference_job *job, int64_t row, double *worst) {
    const struct scorer *scorer = job->scorer;
    struct sample *sample = NULL;
    enum status st;
    bool coarse = scorer->model->backend->caps.compute == DTYPE_BF16;
    double absolute = coarse ? 0.5 : 1e-3;
    double relative = coarse ? 1e-2 : 1e-5;
    TRY_TO(done, view_read(job->source->view, &row, 1, &sample, NULL));
    TRY_TO(done, scorer_run(job->scorer, sample, 1));
    for (int j = 0; j < sample->n_responses; j++) {
        double sum;
        int32_t count;
        uint64_t hash;
        TRY_TO(done, sidecar_read_reference(job->file, &sample->responses[j].id, 1, &sum, &count, &hash));
        double now = scorer->scores[j].logp;
        double difference = fabs(now - sum);
        *worst = fmax(*worst, difference);
        if (count != scorer->scores[j].tokens || !(difference <= absolute + relative * fabs(sum))) {
            st = fail(ERR_DATA,
                      "reference scores: response %lld (row %lld) is stored as %.6f over %d tokens but "
                      "recomputed as %.6f over %lld; remove the side-car file to compute it again",
                      (long long)sample->responses[j].id, (long long)row, sum, count, now,
                      (long long)scorer->scores[j].tokens);
            goto done;
        }
        TRY_TO(done,
               sidecar_has_tokens(job->file) ? check_tokens(job, &sample->responses[j], sum, count) : OK);
    }
done:
    samples_free(sample);
    return st;
}

enum status reference_check(const struct reference_job *job, double *worst) {
    const struct batch_plan *plan = &job->source->plan;
    struct step_place last = batch_place(plan, job->steps - 1);
    enum status st = OK;
    *worst = 0;
    for (int64_t i = 0; i < REFERENCE_CHECK_ROWS && st == OK; i++) {
        struct rng rng = rng_stream(plan->seed, RNG_CHECK, i, 0);
        int64_t row = batch_row(plan, 0, rng_below(&rng, last.first + last.count));
        if (i % job->comm->size == job->comm->rank) {
            st = check_row(job, row, worst);
        }
    }
    TRY(comm_agree(job->comm, st));
    return comm_max_f64(job->comm, worst, 1);
}

/* Updates whose rows are needed. */
static int64_t steps_of(const struct reference_options *o) {
    int64_t epoch = batch_steps(&o->source->plan);
    return o->steps < epoch ? o->steps : epoch;
}

static enum status compute_and_check(const struct reference_job *job) {
    struct step_place last = batch_place(&job->source->plan, job->steps - 1);
    int64_t computed = 0, there = last.first + last.count;
    double worst;
    TRY(sidecar_is_final(job->file) ? OK : reference_compute(job, &computed, &there));
    TRY(reference_check(job, &worst));
    log_root(LOG_INFO, "reference scores: %lld rows computed, %lld were there; %d recomputed agree to %.2g",
             (long long)computed, (long long)there, REFERENCE_CHECK_ROWS, worst);
    return OK;
}

static enum status fill(const struct reference_options *o, const struct batch_source *bare,
                        struct sidecar *file) {
    struct scorer scorer = {0};
    const struct reference_job job = {
        .comm = o->comm, .scorer = &scorer, .source = bare, .file = file, .steps = steps_of(o)};
    enum status st = comm_agree(o->comm, scorer_open(o->model, o->workspace, KEEP_NOTHING, &scorer));
    st = st == OK ? compute_and_check(&job) : st;
    scorer_close(&scorer);
    return st;
}

/* What a side-car is looked for with. */
struct search {
    const struct reference_options *options;
    const struct batch_source *source;
};

/* Local. This rank's shares of the steps, up to one that is missing. */
static enum status find_missing(struct filling *f, int64_t *missing) {
    for (int64_t step = 0; step < f->job->steps && !*missing; step++) {
        bool is_missing;
        TRY(step_is_missing(f, step, &is_missing));
        *missing = is_missing;
    }
    return OK;
}

/* Collective. */
static enum status lacks_rows(void *context, struct sidecar *file, bool *out) {
    const struct search *search = context;
    const struct reference_options *o = search->options;
    const struct reference_job job = {
        .comm = o->comm, .source = search->source, .file = file, .steps = steps_of(o)};
    struct filling filling = {.job = &job};
    int64_t missing = 0;
    watchdog_phase(o->comm->watchdog, "looking for reference scores");
    enum status st = comm_agree(o->comm, find_missing(&filling, &missing));
    batch_free(&filling.batch);
    TRY(st);
    TRY(comm_max_i64(o->comm, &missing, 1));
    *out = missing;
    return OK;
}

static enum status open_file(const struct reference_options *o, const struct batch_source *bare,
                             struct text *path, struct rows *rows) {
    struct dataset_size size = dataset_size(rows->data);
    struct sidecar_key key = {
        .model = o->model_hash, .data = dataset_hash(rows->data), .view = view_hash(rows->view)};
    struct search search = {.options = o, .source = bare};
    const struct sidecar_wanted wanted = {.key = &key,
                                          .rows = view_ids(rows->view),
                                          .tokens = o->tokens ? size.response_tokens : 0,
                                          .lacks = lacks_rows,
                                          .context = &search,
                                          .is_automatic = !*o->path,
                                          .folder = o->folder,
                                          .named_by = "dpo.reference_file"};
    snprintf(key.recipe, sizeof key.recipe, "%s", o->tokens ? "token logp" : "logp");
    snprintf(key.compute, sizeof key.compute, "%s", o->compute);
    enum status st = *o->path ? text_puts(path, o->path) : sidecar_path(rows->data, &key, 0, path);
    TRY(comm_agree(o->comm, st));
    return sidecar_find(o->comm, &wanted, path, &rows->reference);
}

enum status reference_fill(const struct reference_options *o, struct rows *rows) {
    struct text path = {0};
    struct batch_source bare = *o->source;
    bare.reference = NULL;
    bare.reads_tokens = false;
    bare.counts = NULL;
    rows->reference_model = o->model_hash;
    rows->reads_tokens = o->tokens;
    enum status st = open_file(o, &bare, &path, rows);
    st = st == OK ? fill(o, &bare, rows->reference) : st;
    text_free(&path);
    return st;
}
