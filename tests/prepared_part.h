/* All of what prepare_records made, in memory, for tests that look at ids. */
#ifndef COLLIMATE_TESTS_PREPARED_PART_H
#define COLLIMATE_TESTS_PREPARED_PART_H

#include "data/prepare_records.h"
#include "util/mem.h"

/* n rows of a column; all 0 where the rows do not have it. */
static inline enum status prepared_column(const struct dataset_rows *r, enum dataset_column column, int64_t n,
                                          size_t size, void **out) {
    *out = mem_calloc(n + 1, size);
    TRY(mem_ok(*out));
    return dataset_rows_has(r, column) ? dataset_rows_read(r, column, 0, n, *out) : OK;
}

#define PREPARED_COLUMN(column, n, to) TRY(prepared_column(r, column, n, sizeof *(to), (void **)&(to)))

static inline void prepared_part_free(struct dataset_part *p) {
    void *arrays[] = {p->prompt_tokens,    p->prompt_offsets,  p->response_tokens, p->response_offsets,
                      p->response_trained, p->response_prompt, p->chosen,          p->rejected};
    for (int i = 0; i < COUNT_OF(arrays); i++) {
        mem_free(arrays[i]);
    }
    *p = (struct dataset_part){0};
}

static inline enum status prepared_part(const struct prepared *from, struct dataset_part *p) {
    const struct dataset_rows *r = &from->rows;
    *p = (struct dataset_part){
        .n_prompts = r->n_prompts, .n_responses = r->n_responses, .n_pairs = r->n_pairs};
    PREPARED_COLUMN(PROMPT_TOKENS, r->prompt_tokens, p->prompt_tokens);
    PREPARED_COLUMN(PROMPT_OFFSETS, r->n_prompts + 1, p->prompt_offsets);
    PREPARED_COLUMN(RESPONSE_TOKENS, r->response_tokens, p->response_tokens);
    PREPARED_COLUMN(RESPONSE_OFFSETS, r->n_responses + 1, p->response_offsets);
    PREPARED_COLUMN(RESPONSE_TRAINED, r->response_tokens, p->response_trained);
    PREPARED_COLUMN(RESPONSE_PROMPT, r->n_responses, p->response_prompt);
    PREPARED_COLUMN(PAIR_CHOSEN, r->n_pairs, p->chosen);
    PREPARED_COLUMN(PAIR_REJECTED, r->n_pairs, p->rejected);
    return OK;
}

#endif
