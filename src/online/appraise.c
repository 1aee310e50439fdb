#include "online/appraise.h"

#include <string.h>

#include "util/mem.h"

void appraisal_free(struct appraisal *a) {
    mem_free(a->values);
    mem_free(a->rewards);
    mem_free(a->reference);
    mem_free(a->before);
    *a = (struct appraisal){0};
}

/* A batch's numbers by token, at their places among all. */
static void spread(const struct rollout *r, const struct batch *b, const double *from, double *to) {
    for (int64_t i = 0; i < b->n; i++) {
        const struct sample *s = &b->samples[i];
        for (int32_t j = 0; j < s->n_responses; j++) {
            int64_t at = r->first[s->responses[j].id], own = b->token_first[b->first[i] + j];
            for (int32_t t = 0; t < s->responses[j].count; t++) {
                to[at + t] = from[own + t] + 0.0; /* no -0 */
            }
        }
    }
}

/* Local. Numbers by token of this rank's rows: the reference's, and values. */
static enum status take_tokens(const struct appraiser *by, const struct rollout *r, struct batch *b,
                               struct appraisal *out) {
    double *values = NULL;
    if (by->score_reference) {
        TRY(by->score_reference(by->scores, b));
        spread(r, b, b->token_reference, out->reference);
    }
    if (!by->score_values) {
        return OK;
    }
    TRY(b->token_first ? OK : batch_place_tokens(b));
    TRY(batch_token_array(b, &values));
    enum status st = by->score_values(by->valuer, b, values);
    if (st == OK) {
        spread(r, b, values, out->before);
    }
    mem_free(values);
    return st;
}

/* Local. A model's values of this rank's rows, into a column. */
static enum status run_model(const struct appraiser *by, int column, const struct batch *b,
                             struct appraisal *out) {
    struct scorer scorer;
    TRY(scorer_open(by->models[column].model, by->workspace, KEEP_NOTHING, &scorer));
    enum status st = OK;
    for (int64_t c = 0; c < b->n_cuts && st == OK; c++) {
        const struct forest_cut *cut = &b->cuts[c];
        st = scorer_run(&scorer, b->samples + cut->first, cut->last - cut->first);
        for (int64_t i = cut->first; i < cut->last && st == OK; i++) {
            for (int32_t j = 0; j < b->samples[i].n_responses; j++) {
                int64_t k = b->samples[i].responses[j].id;
                out->values[k * out->columns + column] =
                    scorer.scores[scorer.first[i - cut->first] + j].value + 0.0;
            }
        }
    }
    scorer_close(&scorer);
    return st;
}

/* What rewards see: texts of this rank's rows. */
struct texts {
    int64_t n;
    struct rewarded *list;
    int64_t *number;
    struct text *prompts, *answers; /* by sample */
    struct text *responses;
    int64_t samples;
};

static void texts_free(struct texts *t) {
    for (int64_t i = 0; t->prompts && i < t->samples; i++) {
        text_free(&t->prompts[i]);
    }
    for (int64_t i = 0; t->answers && i < t->samples; i++) {
        text_free(&t->answers[i]);
    }
    for (int64_t k = 0; t->responses && k < t->n; k++) {
        text_free(&t->responses[k]);
    }
    mem_free(t->list);
    mem_free(t->number);
    mem_free(t->prompts);
    mem_free(t->answers);
    mem_free(t->responses);
}

static enum status decode(const struct appraiser *by, const int32_t *tokens, int64_t n, bool goes_on,
                          struct text *out) {
    TRY(text_puts(out, ""));
    if (!by->tokenizer) {
        return OK;
    }
    return goes_on ? tokenizer_decode_after(by->tokenizer, tokens, n, true, out)
                   : tokenizer_decode(by->tokenizer, tokens, n, true, out);
}

static enum status write_texts(const struct appraiser *by, const struct rollout *r, const struct batch *b,
                               struct texts *t) {
    t->samples = b->n;
    TRY(NEW_ARRAY(t->prompts, b->n));
    TRY(NEW_ARRAY(t->answers, b->n));
    TRY(NEW_ARRAY(t->responses, b->first[b->n]));
    t->n = b->first[b->n];
    TRY(NEW_ARRAY(t->list, t->n));
    TRY(NEW_ARRAY(t->number, t->n));
    for (int64_t i = 0; i < b->n; i++) {
        const struct sample *s = &b->samples[i];
        bool found = false;
        TRY(decode(by, s->prompt, s->prompt_count, false, &t->prompts[i]));
        TRY(by->find_answer ? by->find_answer(by->answers, s->row, &t->answers[i], &found) : OK);
        for (int32_t j = 0; j < s->n_responses; j++) {
            int64_t at = b->first[i] + j, k = s->responses[j].id;
            const struct sample_response *own = &s->responses[j];
            TRY(decode(by, own->tokens, own->count, true, &t->responses[at]));
            t->number[at] = k;
            t->list[at] = (struct rewarded){.row = s->row,
                                            .sample = (int32_t)(k % r->samples),
                                            .is_stopped = r->stopped[k],
                                            .prompt = t->prompts[i].data,
                                            .text = t->responses[at].data,
                                            .answer = found ? t->answers[i].data : NULL,
                                            .tokens = own->tokens,
                                            .n_tokens = own->count};
        }
    }
    return OK;
}

/* Local. Columns of rules and programs, behind the models'; and the sums of all. */
static enum status run_rewarder(const struct appraiser *by, const struct texts *t, struct appraisal *out) {
    int own = by->rewarder ? rewarder_columns(by->rewarder) : 0;
    double *values;
    TRY(NEW_ARRAY(values, t->n * own));
    enum status st = own > 0 ? rewarder_run(by->rewarder, t->list, t->n, values) : OK;
    for (int64_t i = 0; i < t->n && st == OK; i++) {
        double *row = out->values + t->number[i] * out->columns;
        for (int c = 0; c < own; c++) {
            row[by->n_models + c] = values[i * own + c] + 0.0;
        }
        st =
            reward_sum(&t->list[i], out->columns, out->names, out->weights, row, &out->rewards[t->number[i]]);
    }
    mem_free(values);
    return st;
}

static enum status make_columns(const struct appraiser *by, const struct rollout *r, struct appraisal *out) {
    int own = by->rewarder ? rewarder_columns(by->rewarder) : 0;
    int64_t responses = rollout_responses(r), room;
    for (int i = 0; i < by->n_models; i++) {
        out->names[i] = by->models[i].name;
        out->weights[i] = by->models[i].weight;
    }
    for (int c = 0; c < own; c++) {
        out->names[by->n_models + c] = rewarder_name(by->rewarder, c);
        out->weights[by->n_models + c] = rewarder_weight(by->rewarder, c);
    }
    out->columns = by->n_models + own;
    TRY(size_mul(responses, out->columns, "rewards", &room));
    TRY(NEW_ARRAY(out->values, room));
    TRY(NEW_ARRAY(out->rewards, responses));
    TRY(by->score_values ? NEW_ARRAY(out->before, r->first[responses]) : OK);
    return by->score_reference ? NEW_ARRAY(out->reference, r->first[responses]) : OK;
}

/* Local. This rank's share of everything. */
static enum status appraise_share(const struct appraiser *by, const struct rollout *r, struct batch *b,
                                  struct appraisal *out) {
    struct texts texts = {0};
    TRY(make_columns(by, r, out));
    TRY(take_tokens(by, r, b, out));
    for (int i = 0; i < by->n_models; i++) {
        TRY(run_model(by, i, b, out));
    }
    enum status st = write_texts(by, r, b, &texts);
    st = st == OK ? run_rewarder(by, &texts, out) : st;
    texts_free(&texts);
    return st;
}

enum status appraise(const struct appraiser *by, const struct rollout *r, struct batch *b,
                     struct appraisal *out) {
    int64_t responses = rollout_responses(r);
    appraisal_free(out);
    TRY(comm_agree(by->comm, appraise_share(by, r, b, out)));
    /* Each number is one rank's, and 0 with the others. */
    TRY(comm_sum_f64(by->comm, out->values, responses * out->columns));
    TRY(comm_sum_f64(by->comm, out->rewards, responses));
    TRY(out->before ? comm_sum_f64(by->comm, out->before, r->first[responses]) : OK);
    return out->reference ? comm_sum_f64(by->comm, out->reference, r->first[responses]) : OK;
}
