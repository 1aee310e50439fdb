#include "data/dataset_rows.h"

#include <math.h>

#include "data/dataset_internal.h"
#include "io/spool.h"
#include "util/mem.h"

static const int64_t MEMORY_BYTES = (int64_t)192 << 20;

enum status dataset_rows_open(const struct dataset_rows_plan *plan, struct dataset_rows *out) {
    *out = (struct dataset_rows){.vocabulary = plan->vocabulary,
                                 .n_objectives = plan->n_objectives,
                                 .has_chars = plan->has_chars,
                                 .has_desirable = plan->has_desirable};
    const struct spool_plan spool = {.beside = plan->beside,
                                     .streams = DATASET_COLUMNS,
                                     .memory = plan->memory > 0 ? plan->memory : MEMORY_BYTES,
                                     .piece = plan->piece};
    return spool_open(&spool, &out->spool);
}

void dataset_rows_close(struct dataset_rows *r) {
    spool_close(r->spool);
    *r = (struct dataset_rows){0};
}

static int64_t row_bytes(const struct dataset_rows *r, enum dataset_column column) {
    return array_type_bytes(dataset_columns[column].type) * (column == RESPONSE_SCORES ? r->n_objectives : 1);
}

/* Appending. */

static void shift(int64_t *values, int64_t n, int64_t by) {
    for (int64_t i = 0; i < n; i++) {
        values[i] += by;
    }
}

static enum status put(struct dataset_rows *r, enum dataset_column column, const void *data, int64_t n) {
    return data ? spool_append(r->spool, (int)column, data, n * row_bytes(r, column)) : OK;
}

/* The first response of each prompt, from the prompts of the responses. */
static enum status put_first_responses(struct dataset_rows *r, const struct dataset_part *b) {
    int64_t *first;
    TRY(NEW_ARRAY(first, b->n_prompts));
    int64_t response = 0;
    for (int64_t i = 0; i < b->n_prompts; i++) {
        while (response < b->n_responses && b->response_prompt[response] < r->n_prompts + i) {
            response++;
        }
        first[i] = r->n_responses + response;
    }
    enum status st = put(r, PROMPT_RESPONSES, first, b->n_prompts);
    mem_free(first);
    return st;
}

static enum status put_prompts(struct dataset_rows *r, const struct dataset_part *b) {
    TRY(put(r, PROMPT_TOKENS, b->prompt_tokens, b->prompt_offsets[b->n_prompts] - r->prompt_tokens));
    TRY(put(r, PROMPT_OFFSETS, b->prompt_offsets, b->n_prompts));
    TRY(put(r, PROMPT_SUBSET, b->prompt_subset, b->n_prompts));
    return put_first_responses(r, b);
}

static enum status put_responses(struct dataset_rows *r, const struct dataset_part *b) {
    int64_t tokens = b->response_offsets[b->n_responses] - r->response_tokens;
    TRY(put(r, RESPONSE_TOKENS, b->response_tokens, tokens));
    TRY(put(r, RESPONSE_OFFSETS, b->response_offsets, b->n_responses));
    TRY(put(r, RESPONSE_CHARS, b->response_token_chars, tokens));
    TRY(put(r, RESPONSE_TRAINED, b->response_trained, tokens));
    TRY(put(r, RESPONSE_PROMPT, b->response_prompt, b->n_responses));
    TRY(put(r, RESPONSE_SCORE, b->response_score, b->n_responses));
    TRY(put(r, RESPONSE_SCORES, b->response_scores, b->n_responses));
    TRY(put(r, RESPONSE_WORTH, b->response_worth, b->n_responses));
    TRY(put(r, RESPONSE_LENGTH, b->response_length_chars, b->n_responses));
    return put(r, RESPONSE_DESIRABLE, b->response_desirable, b->n_responses);
}

static enum status put_pairs(struct dataset_rows *r, const struct dataset_part *b) {
    TRY(put(r, PAIR_CHOSEN, b->chosen, b->n_pairs));
    TRY(put(r, PAIR_REJECTED, b->rejected, b->n_pairs));
    TRY(put(r, PAIR_MARGIN, b->margin, b->n_pairs));
    TRY(put(r, PAIR_LABEL, b->label, b->n_pairs));
    return put(r, PAIR_SOURCE, b->pair_source, b->n_pairs);
}

static void note_options(struct dataset_rows *r, const struct dataset_part *b, int64_t tokens) {
    for (int64_t i = 0; i < b->n_responses && !r->has_worths; i++) {
        r->has_worths = !isnan(b->response_worth[i]);
    }
    for (int64_t i = 0; i < tokens && b->response_trained && !r->has_trained; i++) {
        r->has_trained = b->response_trained[i] == 0;
    }
}

enum status dataset_rows_append(struct dataset_rows *r, struct dataset_part *b) {
    int64_t prompt_tokens = b->prompt_offsets[b->n_prompts];
    int64_t response_tokens = b->response_offsets[b->n_responses];
    TRY(dataset_check_tokens(b->prompt_tokens, prompt_tokens, r->vocabulary, "prompt"));
    TRY(dataset_check_tokens(b->response_tokens, response_tokens, r->vocabulary, "response"));
    note_options(r, b, response_tokens);
    shift(b->prompt_offsets, b->n_prompts + 1, r->prompt_tokens);
    shift(b->response_offsets, b->n_responses + 1, r->response_tokens);
    shift(b->response_prompt, b->n_responses, r->n_prompts);
    shift(b->chosen, b->n_pairs, r->n_responses);
    shift(b->rejected, b->n_pairs, r->n_responses);
    TRY(put_prompts(r, b));
    TRY(put_responses(r, b));
    TRY(put_pairs(r, b));
    r->n_prompts += b->n_prompts;
    r->n_responses += b->n_responses;
    r->n_pairs += b->n_pairs;
    r->prompt_tokens += prompt_tokens;
    r->response_tokens += response_tokens;
    return OK;
}

/* Reading. */

bool dataset_rows_has(const struct dataset_rows *r, enum dataset_column column) {
    return spool_bytes(r->spool, (int)column) > 0;
}

/* What stands behind the last row of a column of offsets; -1: the column has none. */
static int64_t end_of(const struct dataset_rows *r, enum dataset_column column) {
    return column == PROMPT_OFFSETS     ? r->prompt_tokens
           : column == PROMPT_RESPONSES ? r->n_responses
           : column == RESPONSE_OFFSETS ? r->response_tokens
                                        : -1;
}

enum status dataset_rows_read(const struct dataset_rows *r, enum dataset_column column, int64_t first,
                              int64_t n, void *out) {
    int64_t bytes = row_bytes(r, column);
    int64_t rows = spool_bytes(r->spool, (int)column) / bytes;
    int64_t end = end_of(r, column);
    if (end >= 0 && n > 0 && first + n == rows + 1) {
        n--;
        ((int64_t *)out)[n] = end;
    }
    return spool_read(r->spool, (int)column, first * bytes, n * bytes, out);
}

/* Writing. */

/* What a column's rows are read by. */
struct column_reader {
    const struct dataset_rows *rows;
    enum dataset_column column;
    int64_t base;           /* added to what counts from the rank's first row */
    const int32_t *subsets; /* NULL: the column is another one */
};

static enum status read_column(void *context, int64_t first, int64_t n, void *out) {
    const struct column_reader *c = context;
    TRY(dataset_rows_read(c->rows, c->column, first, n, out));
    if (c->base != 0) {
        shift(out, n, c->base);
    }
    int32_t *places = c->subsets ? out : NULL;
    for (int64_t i = 0; i < n && places; i++) {
        places[i] = places[i] < 0 ? -1 : c->subsets[places[i]];
    }
    return OK;
}

static int64_t base_of(const struct file_columns *f, enum dataset_column column) {
    switch (column) {
    case PROMPT_OFFSETS:
        return f->prompt_tokens.before;
    case RESPONSE_OFFSETS:
        return f->response_tokens.before;
    case RESPONSE_PROMPT:
        return f->prompts.before;
    case PROMPT_RESPONSES:
    case PAIR_CHOSEN:
    case PAIR_REJECTED:
        return f->responses.before;
    default:
        return 0;
    }
}

enum status dataset_rows_write(struct comm *c, const char *path, const struct dataset_rows *r,
                               const int32_t *subsets, const struct dataset_facts *facts) {
    struct column_reader readers[DATASET_COLUMNS];
    struct h5_rows rows[DATASET_COLUMNS];
    struct file_columns f = {.prompts.own = r->n_prompts,
                             .responses.own = r->n_responses,
                             .pairs.own = r->n_pairs,
                             .prompt_tokens.own = r->prompt_tokens,
                             .response_tokens.own = r->response_tokens,
                             .has_chars = r->has_chars,
                             .has_worths = r->has_worths,
                             .has_trained = r->has_trained,
                             .has_desirable = r->has_desirable,
                             .rows = rows};
    TRY(file_columns_settle(c, &f));
    for (int i = 0; i < DATASET_COLUMNS; i++) {
        enum dataset_column column = (enum dataset_column)i;
        readers[i] = (struct column_reader){.rows = r,
                                            .column = column,
                                            .base = base_of(&f, column),
                                            .subsets = column == PROMPT_SUBSET ? subsets : NULL};
        rows[i] = (struct h5_rows){.read = read_column, .context = &readers[i]};
    }
    return file_columns_write(c, path, &f, facts);
}
