#include "score/live_reference.h"

#include <math.h>
#include <string.h>

#include "util/mem.h"

enum { MIXED_AT_ONCE = 1 << 20 }; /* elements */

static bool same_layout(const struct arena *a, const struct arena *b) {
    bool same = a->n == b->n && a->elements == b->elements;
    for (int i = 0; i < a->n && same; i++) {
        same = strcmp(a->parameters[i].name, b->parameters[i].name) == 0 &&
               a->parameters[i].offset == b->parameters[i].offset;
    }
    return same;
}

enum status live_reference_open(struct live_reference *r, struct model *reference,
                                const struct model *policy) {
    r->model = reference;
    if (r->every > 0 && (policy->trained != policy->base || !same_layout(policy->base, reference->base))) {
        return fail(
            ERR_USAGE,
            "the reference does not have the parameters that are trained, so that it cannot follow them "
            "(sync_reference)");
    }
    int64_t n = policy->base->elements < MIXED_AT_ONCE ? policy->base->elements : MIXED_AT_ONCE;
    if (r->every > 0) {
        TRY(arena_take(reference->base, "the reference's update", n, policy->base->master.type, &r->scratch));
    }
    return r->workspace ? scorer_open(reference, r->workspace, r->keep, &r->scorer) : OK;
}

void live_reference_close(struct live_reference *r) {
    if (r->model) {
        scorer_close(&r->scorer);
        if (r->scratch.data) {
            arena_give_back(r->model->base, &r->scratch);
        }
        model_close(r->model);
    }
    *r = (struct live_reference){0};
}

static enum status keep(const struct live_reference *r, struct batch *b, int64_t k,
                        const struct response_score *s, int64_t row) {
    if (!isfinite(s->logp)) {
        return fail(ERR_DATA, "reference scores: row %lld is not finite under the reference model",
                    (long long)row);
    }
    b->reference[k] = s->logp;
    if (r->tokens && s->tokens > 0) {
        memcpy(b->token_reference + b->token_first[k], s->token_logp,
               (size_t)s->tokens * sizeof *s->token_logp);
    }
    return OK;
}

enum status live_reference_score(void *reference, struct batch *b) {
    struct live_reference *r = reference;
    TRY(NEW_ARRAY(b->reference, b->first[b->n]));
    TRY(r->tokens ? batch_place_tokens(b) : OK);
    for (int64_t c = 0; c < b->n_cuts; c++) {
        const struct forest_cut *cut = &b->cuts[c];
        TRY(scorer_run(&r->scorer, b->samples + cut->first, cut->last - cut->first));
        for (int64_t i = cut->first; i < cut->last; i++) {
            const struct response_score *scores = &r->scorer.scores[r->scorer.first[i - cut->first]];
            for (int32_t j = 0; j < b->samples[i].n_responses; j++) {
                TRY(keep(r, b, b->first[i] + j, &scores[j], b->samples[i].row));
            }
        }
    }
    return OK;
}

enum status live_reference_follow(struct live_reference *r, const struct arena *policy, int64_t step) {
    struct arena *own = r->model->base;
    struct backend *b = own->backend;
    if (step % r->every != 0) {
        return OK;
    }
    for (int64_t first = 0; first < own->elements; first += MIXED_AT_ONCE) {
        int64_t left = own->elements - first, n = left < MIXED_AT_ONCE ? left : MIXED_AT_ONCE;
        struct tensor to = tensor_columns(own->master, first, n), was = tensor_columns(r->scratch, 0, n);
        TRY(backend_copy(b, was.data, to.data, n * dtype_size(to.type)));
        TRY(backend_add(b, to, -r->mixup, was));
        TRY(backend_add(b, to, r->mixup, tensor_columns(policy->master, first, n)));
    }
    return arena_refresh(own);
}
