#include "data/batch.h"

#include <stdlib.h>

#include "mpi/sum.h"
#include "util/mem.h"
#include "util/rng.h"

enum status batch_check(const struct batch_plan *p, int ranks) {
    if (p->rows < 1) {
        return fail(ERR_DATA,
                    "no rows to train or evaluate on; look at the data file with `collimate inspect`");
    }
    if (p->deterministic) {
        if (!is_power_of_two(p->slots)) {
            return fail(ERR_USAGE,
                        "train.slots=%lld: train.deterministic needs a power of two (the sums run in a "
                        "binary tree)",
                        (long long)p->slots);
        }
        if (!is_power_of_two(ranks) || ranks > p->slots) {
            return fail(ERR_USAGE,
                        "train.deterministic with train.slots=%lld works on 1, 2, 4, … up to %lld ranks (a "
                        "power of two), not on %d",
                        (long long)p->slots, (long long)p->slots, ranks);
        }
    } else if (p->slots < ranks) {
        return fail(ERR_USAGE,
                    "train.slots=%lld is less than the %d ranks, some would be idle; set train.slots=%d or "
                    "more, or start at most %lld ranks",
                    (long long)p->slots, ranks, ranks, (long long)p->slots);
    }
    return OK;
}

int64_t batch_steps(const struct batch_plan *p) {
    return (p->rows + p->batch - 1) / p->batch;
}

struct step_place batch_place(const struct batch_plan *p, int64_t step) {
    int64_t steps = batch_steps(p);
    struct step_place place = {.epoch = step / steps, .first = step % steps * p->batch};
    int64_t left = p->rows - place.first;
    place.count = left < p->batch ? left : p->batch;
    return place;
}

int64_t batch_row(const struct batch_plan *p, int64_t epoch, int64_t i) {
    return p->shuffle ? rng_permute(p->seed, epoch, p->rows, i) : i;
}

/* A row to be dealt, and a slot in the heap of loads. */
struct dealt {
    int32_t cost;
    int64_t row, index, slot;
};
struct load {
    int64_t tokens, turn, slot;
};

static int by_cost(const void *a, const void *b) {
    const struct dealt *x = a;
    const struct dealt *y = b;
    if (x->cost != y->cost) {
        return x->cost > y->cost ? -1 : 1;
    }
    if (x->row != y->row) {
        return x->row < y->row ? -1 : 1;
    }
    return x->index < y->index ? -1 : x->index > y->index;
}

static bool lighter(const struct load *a, const struct load *b) {
    return a->tokens != b->tokens ? a->tokens < b->tokens : a->turn < b->turn;
}

static int64_t bits_reversed(int64_t value, int bits) {
    int64_t out = 0;
    for (int i = 0; i < bits; i++) {
        out |= (value >> i & 1) << (bits - 1 - i);
    }
    return out;
}

/* A heap of empty slots in the order of their turns: the Gray code with its bits reversed. Rows that fall go
 * back and forth (a b b a) between the halves, the quarters, … of the slots, so that ranks, which own
 * neighbours, get rows of all lengths, however few there are. */
static void take_turns(struct load *heap, int64_t slots) {
    int bits = 0;
    int64_t turn = 0;
    for (; (int64_t)1 << bits < slots; bits++) {
    }
    for (int64_t i = 0; i < (int64_t)1 << bits; i++) {
        int64_t slot = bits_reversed(i ^ i >> 1, bits);
        if (slot < slots) {
            heap[turn] = (struct load){.turn = turn, .slot = slot};
            turn++;
        }
    }
}

static void sift_down(struct load *heap, int64_t n) {
    for (int64_t i = 0;;) {
        int64_t child = 2 * i + 1;
        if (child >= n) {
            return;
        }
        if (child + 1 < n && lighter(&heap[child + 1], &heap[child])) {
            child++;
        }
        if (!lighter(&heap[child], &heap[i])) {
            return;
        }
        struct load other = heap[i];
        heap[i] = heap[child];
        heap[child] = other;
        i = child;
    }
}

enum status batch_deal(const int32_t *cost, const int64_t *rows, int64_t n, int64_t slots, int64_t *order,
                       int64_t *slot_first) {
    struct dealt *dealt = NULL;
    struct load *heap = NULL;
    enum status st;
    TRY_TO(done, NEW_ARRAY(dealt, n));
    TRY_TO(done, NEW_ARRAY(heap, slots));
    for (int64_t i = 0; i < n; i++) {
        dealt[i] = (struct dealt){.cost = cost[i], .row = rows[i], .index = i};
    }
    qsort(dealt, (size_t)n, sizeof *dealt, by_cost);
    take_turns(heap, slots);
    for (int64_t s = 0; s <= slots; s++) {
        slot_first[s] = 0;
    }
    for (int64_t i = 0; i < n; i++) {
        dealt[i].slot = heap[0].slot;
        slot_first[heap[0].slot + 1]++;
        heap[0].tokens += dealt[i].cost;
        sift_down(heap, slots);
    }
    for (int64_t s = 0; s < slots; s++) {
        slot_first[s + 1] += slot_first[s];
        heap[s].tokens = slot_first[s]; /* from here on: the slot's next place */
    }
    for (int64_t i = 0; i < n; i++) {
        order[heap[dealt[i].slot].tokens++] = dealt[i].index;
    }
done:
    mem_free(dealt);
    mem_free(heap);
    return st;
}

int64_t batch_cut(const int32_t *cost, int64_t n, int64_t limit, int64_t *ends) {
    int64_t runs = 0;
    int64_t tokens = 0;
    for (int64_t i = 0; i < n; i++) {
        if (tokens > 0 && tokens + cost[i] > limit) {
            ends[runs++] = i;
            tokens = 0;
        }
        tokens += cost[i];
    }
    if (n > 0) {
        ends[runs++] = n;
    }
    return runs;
}

void batch_free(struct batch *b) {
    if (b->samples) {
        samples_free(b->samples);
    }
    mem_free(b->first);
    mem_free(b->reference);
    mem_free(b->token_first);
    mem_free(b->token_reference);
    mem_free(b->advantage);
    mem_free(b->token_old);
    mem_free(b->token_advantage);
    mem_free(b->token_return);
    mem_free(b->token_old_value);
    mem_free(b->cuts);
    mem_free(b->users.pairs);
    *b = (struct batch){0};
}

/* The rows of a step that this rank owns, in slot order, and where each of its slots begins among them. */
struct share {
    struct view_plan *plan; /* of all rows of the step */
    int64_t *index;         /* places of its rows in the plan */
    int64_t *slot_first;
    int32_t *cost;
    int64_t n, n_slots;
};

static void share_free(struct share *s) {
    view_plan_close(s->plan);
    mem_free(s->index);
    mem_free(s->slot_first);
    mem_free(s->cost);
}

/* This rank's part of rows that are dealt to slots. Local. */
static enum status deal_share(const struct batch_plan *plan, struct range slots, const int32_t *cost,
                              const int64_t *rows, int64_t n, struct share *out) {
    int64_t *order = NULL;
    int64_t *first = NULL;
    enum status st;
    TRY_TO(done, NEW_ARRAY(order, n));
    TRY_TO(done, NEW_ARRAY(first, plan->slots + 1));
    TRY_TO(done, batch_deal(cost, rows, n, plan->slots, order, first));
    out->n_slots = slots.last - slots.first;
    out->n = first[slots.last] - first[slots.first];
    TRY_TO(done, NEW_ARRAY(out->index, out->n));
    TRY_TO(done, NEW_ARRAY(out->cost, out->n));
    TRY_TO(done, NEW_ARRAY(out->slot_first, out->n_slots + 1));
    for (int64_t i = 0; i < out->n; i++) {
        out->index[i] = order[first[slots.first] + i];
        out->cost[i] = cost[out->index[i]];
    }
    for (int64_t i = 0; i <= out->n_slots; i++) {
        out->slot_first[i] = first[slots.first + i] - first[slots.first];
    }
done:
    mem_free(order);
    mem_free(first);
    return st;
}

/* Every rank deals the whole update: it needs all costs, but reads no tokens for that. */
static enum status share_rows(const struct batch_source *s, const int64_t *rows, int64_t n,
                              struct share *out) {
    int32_t *cost = NULL;
    enum status st;
    TRY_TO(done, NEW_ARRAY(cost, n));
    TRY_TO(done, view_plan_open(s->view, rows, n, &out->plan));
    for (int64_t i = 0; i < n; i++) {
        TRY_TO(done, view_plan_cost(out->plan, i, &cost[i]));
    }
    struct range slots = range_part(s->plan.slots, s->rank, s->size);
    st = deal_share(&s->plan, slots, cost, rows, n, out);
done:
    mem_free(cost);
    return st;
}

static enum status cut_share(const struct batch_plan *plan, const struct share *share, struct batch *b) {
    int64_t *ends = NULL;
    enum status st;
    TRY_TO(done, NEW_ARRAY(ends, share->n));
    TRY_TO(done, NEW_ARRAY(b->cuts, share->n));
    int64_t units = plan->deterministic ? share->n_slots : 1;
    for (int64_t unit = 0; unit < units; unit++) {
        int64_t first = plan->deterministic ? share->slot_first[unit] : 0;
        int64_t last = plan->deterministic ? share->slot_first[unit + 1] : share->n;
        int64_t runs = batch_cut(share->cost + first, last - first, plan->micro_tokens, ends);
        for (int64_t i = 0; i < runs; i++) {
            b->cuts[b->n_cuts++] = (struct forest_cut){
                .first = first + (i ? ends[i - 1] : 0), .last = first + ends[i], .slot = unit};
        }
    }
done:
    mem_free(ends);
    return st;
}

/* Where each sample's responses begin among the batch's. */
static enum status place_responses(struct batch *b) {
    TRY(NEW_ARRAY(b->first, b->n + 1));
    for (int64_t i = 0; i < b->n; i++) {
        b->first[i + 1] = b->first[i] + b->samples[i].n_responses;
    }
    return OK;
}

/* A stored sum belongs to the response as it is cut now. */
static enum status check_stored(const struct sample *s, int response, int32_t count, uint64_t hash) {
    int64_t id = s->responses[response].id;
    if (count < 0) {
        return fail(ERR_DATA,
                    "reference scores: response %lld has none; remove the side-car file to "
                    "compute it again",
                    (long long)id);
    }
    return hash == sample_hash(s, response)
               ? OK
               : fail(ERR_DATA,
                      "reference scores: response %lld (row %lld) was scored with other tokens; remove "
                      "the side-car file to compute it again",
                      (long long)id, (long long)s->row);
}

/* Reference sums of the samples' responses, checked against the tokens that they were computed from. */
static enum status read_reference(struct sidecar *file, struct batch *b) {
    enum status st = OK;
    TRY(NEW_ARRAY(b->reference, b->first[b->n]));
    for (int64_t i = 0; i < b->n && st == OK; i++) {
        const struct sample *s = &b->samples[i];
        for (int j = 0; j < s->n_responses && st == OK; j++) {
            int32_t count;
            uint64_t hash;
            double *sum = &b->reference[b->first[i] + j];
            TRY(sidecar_read_reference(file, &s->responses[j].id, 1, sum, &count, &hash));
            st = check_stored(s, j, count, hash);
        }
    }
    return st;
}

enum status batch_place_tokens(struct batch *b) {
    TRY(NEW_ARRAY(b->token_first, b->first[b->n] + 1));
    for (int64_t i = 0; i < b->n; i++) {
        for (int j = 0; j < b->samples[i].n_responses; j++) {
            int64_t k = b->first[i] + j;
            b->token_first[k + 1] = b->token_first[k] + sample_scored(&b->samples[i], j);
        }
    }
    return NEW_ARRAY(b->token_reference, b->token_first[b->first[b->n]]);
}

enum status batch_token_array(const struct batch *b, double **out) {
    return NEW_ARRAY(*out, b->token_first[b->first[b->n]]);
}

/* Token by token, of responses whose sums are checked already. */
static enum status read_token_reference(struct sidecar *file, struct batch *b) {
    TRY(batch_place_tokens(b));
    for (int64_t i = 0; i < b->n; i++) {
        for (int j = 0; j < b->samples[i].n_responses; j++) {
            const struct sample_response *r = &b->samples[i].responses[j];
            int64_t at = b->token_first[b->first[i] + j];
            TRY(sidecar_read_tokens(file, r->id, r->first, (int32_t)sample_scored(&b->samples[i], j),
                                    b->token_reference + at));
        }
    }
    return OK;
}

enum status batch_share(const struct batch_plan *plan, struct range slots, const int32_t *cost,
                        const int64_t *rows, int64_t n, struct batch *b, int64_t **index) {
    struct share share = {0};
    enum status st;
    TRY_TO(done, deal_share(plan, slots, cost, rows, n, &share));
    TRY_TO(done, cut_share(plan, &share, b));
    b->n = share.n;
    *index = share.index;
    share.index = NULL;
done:
    share_free(&share);
    return st;
}

enum status batch_count(struct batch *b) {
    TRY(place_responses(b));
    for (int64_t i = 0; i < b->n; i++) {
        const struct sample *sample = &b->samples[i];
        b->tokens += sample_tokens(sample);
        b->target_tokens +=
            sample->n_responses > 0 && sample->target >= 0 ? sample_scored(sample, sample->target) : 0;
    }
    return OK;
}

/* Samples, cuts and what they come to. */
static enum status read_share(const struct batch_source *s, const struct batch_rows *rows, struct batch *b) {
    struct share share = {0};
    enum status st;
    TRY_TO(done, share_rows(s, rows->rows, rows->n, &share));
    TRY_TO(done, cut_share(&s->plan, &share, b));
    TRY_TO(done, view_plan_read(share.plan, share.index, share.n, &b->samples, s->counts));
    b->n = share.n;
    for (int64_t i = 0; i < b->n && rows->adjust; i++) {
        rows->adjust(rows->context, share.index[i], &b->samples[i]);
    }
    st = batch_count(b);
done:
    share_free(&share);
    return st;
}

enum status batch_read_rows(const struct batch_source *s, int64_t step, const struct batch_rows *rows,
                            struct batch *b) {
    batch_free(b);
    b->step = step;
    b->place = (struct step_place){.first = step * rows->n, .count = rows->n};
    TRY(read_share(s, rows, b));
    if (s->reference) {
        TRY(read_reference(s->reference, b));
        TRY(s->reads_tokens ? read_token_reference(s->reference, b) : OK);
    }
    return s->score_reference ? s->score_reference(s->scores, b) : OK;
}

enum status batch_read(const struct batch_source *s, int64_t step, struct batch *b) {
    struct step_place place = batch_place(&s->plan, step);
    int64_t *rows = NULL;
    TRY(NEW_ARRAY(rows, place.count));
    for (int64_t i = 0; i < place.count; i++) {
        rows[i] = batch_row(&s->plan, place.epoch, place.first + i);
    }
    enum status st = batch_read_rows(s, step, &(struct batch_rows){.n = place.count, .rows = rows}, b);
    b->place = place;
    mem_free(rows);
    return st;
}

/* No slot gets a row unless it is the lightest: so it ends at no more than the mean and one row. */
int64_t batch_forest_tokens(const struct batch_plan *p, int ranks, const struct lengths *lengths) {
    int64_t longest = lengths->most;
    int64_t update = lengths_top(lengths, p->batch);
    int64_t slot = p->batch <= p->slots ? longest : update / p->slots + longest;
    int64_t rank_slots = p->deterministic ? 1 : (p->slots + ranks - 1) / ranks;
    int64_t most = slot < update / rank_slots ? slot * rank_slots : update;
    most = p->micro_tokens < most ? p->micro_tokens : most;
    return longest > most ? longest : most;
}
