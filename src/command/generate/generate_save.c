/* generate.save: what was drawn as a preference file. Prompts as they were used, ids as drawn, rewards as
 * scores, and where there are rewards a pair for any two responses of a prompt that differ in them. Broken
 * responses stay out. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "command/generate/generate.h"
#include "command/line.h"
#include "generated/version.h"
#include "util/json.h"
#include "util/log.h"
#include "util/mem.h"

/* Offsets have one more, and the three of prompts grow together. */
static enum status reserve_prompts(struct saved *s, int64_t n, int64_t tokens) {
    struct dataset_part *p = &s->part;
    TRY(GROW_ARRAY(p->prompt_tokens, s->cap_prompt_tokens, tokens));
    return GROW_ARRAYS(s->cap_prompts, n + 1, GROWN(p->prompt_offsets), GROWN(p->prompt_subset));
}

static enum status reserve_responses(struct saved *s, int64_t n, int64_t tokens) {
    struct dataset_part *p = &s->part;
    TRY(GROW_ARRAY(p->response_tokens, s->cap_tokens, tokens));
    return GROW_ARRAYS(s->cap_responses, n + 1, GROWN(p->response_offsets), GROWN(p->response_prompt),
                       GROWN(p->response_score), GROWN(p->response_length_chars));
}

static enum status reserve_pairs(struct saved *s, int64_t n) {
    struct dataset_part *p = &s->part;
    return GROW_ARRAYS(s->cap_pairs, n + 1, GROWN(p->chosen), GROWN(p->rejected), GROWN(p->pair_source),
                       GROWN(p->margin), GROWN(p->label));
}

static enum status add_prompt(struct generation *g, int64_t row) {
    struct saved *s = &g->saved;
    struct dataset_part *p = &s->part;
    int64_t tokens = p->prompt_offsets ? p->prompt_offsets[p->n_prompts] : 0, count;
    TRY(reserve_prompts(s, p->n_prompts + 1, tokens + g->longest));
    TRY(generate_prompt_ids(g, row, p->prompt_tokens + tokens, &count));
    p->prompt_subset[p->n_prompts] = -1;
    if (dataset_facts(g->data)->n_subsets > 0) {
        TRY(dataset_prompt_subset(g->data, row, &p->prompt_subset[p->n_prompts]));
    }
    p->prompt_offsets[0] = 0;
    p->prompt_offsets[++p->n_prompts] = tokens + count;
    s->first = p->n_responses;
    return OK;
}

static enum status add_response(struct generation *g, const json_t *response) {
    struct saved *s = &g->saved;
    struct dataset_part *p = &s->part;
    const json_t *ids = json_object_get(response, "tokens");
    const json_t *reward = json_array_get(json_object_get(response, "sums"), 3);
    int64_t tokens = p->response_offsets ? p->response_offsets[p->n_responses] : 0;
    int64_t count = (int64_t)json_array_size(ids);
    TRY(reserve_responses(s, p->n_responses + 1, tokens + count));
    for (int64_t i = 0; i < count; i++) {
        p->response_tokens[tokens + i] = (int32_t)json_integer_value(json_array_get(ids, (size_t)i));
    }
    p->response_prompt[p->n_responses] = p->n_prompts - 1;
    p->response_score[p->n_responses] = json_is_number(reward) ? (float)json_number_value(reward) : NAN;
    p->response_length_chars[p->n_responses] =
        (int32_t)json_integer_value(json_object_get(response, "chars"));
    p->response_offsets[0] = 0;
    p->response_offsets[++p->n_responses] = tokens + count;
    return OK;
}

/* Of a response with all of the prompt before it. */
static enum status add_pairs(struct saved *s) {
    struct dataset_part *p = &s->part;
    int64_t new = p->n_responses - 1;
    for (int64_t old = s->first; old < new; old++) {
        float x = p->response_score[old], y = p->response_score[new];
        if (x > y || x < y) {
            TRY(reserve_pairs(s, p->n_pairs + 1));
            p->chosen[p->n_pairs] = x > y ? old : new;
            p->rejected[p->n_pairs] = x > y ? new : old;
            p->margin[p->n_pairs] = fabsf(x - y);
            p->label[p->n_pairs] = 1;
            p->pair_source[p->n_pairs++] = -1;
        }
    }
    return OK;
}

/* A prompt with its answers for all values. */
static enum status add_line(struct generation *g, const json_t *line) {
    const json_t *values = json_object_get(line, "values"), *list, *response;
    size_t v, k;
    TRY(add_prompt(g, json_integer_value(json_object_get(line, "row"))));
    json_array_foreach(values, v, list) {
        json_array_foreach(list, k, response) {
            if (!json_is_true(json_object_get(response, "broken"))) {
                TRY(add_response(g, response));
                TRY(add_pairs(&g->saved));
            }
        }
    }
    return OK;
}

/* The data's facts but for what is new; strings are borrowed but those of command and program. */
static enum status make_facts(const struct generation *g, struct text *command, struct text *program,
                              struct dataset_facts *out) {
    const struct dataset_facts *from = dataset_facts(g->data);
    int64_t vocabulary = g->session.model->config.vocabulary;
    *out = *from;
    TRY(line_text(g->session.run, command));
    TRY(text_printf(program, "collimate %s (%s)", COLLIMATE_VERSION, COLLIMATE_GIT));
    out->command = command->data;
    out->program = program->data;
    out->n_dropped = 0;
    if (vocabulary > out->vocabulary && !g->session.tokenizer) { /* ids without a token are not drawn */
        out->vocabulary = (int32_t)vocabulary;
    }
    return OK;
}

/* A rank without rows has offsets all the same. */
static enum status close_offsets(struct saved *s) {
    TRY(reserve_prompts(s, s->part.n_prompts, 1));
    TRY(reserve_responses(s, s->part.n_responses, 1));
    TRY(reserve_pairs(s, s->part.n_pairs));
    s->part.prompt_offsets[0] = s->part.response_offsets[0] = 0;
    return OK;
}

enum status generate_save_write(struct generation *g) {
    struct comm *c = g->session.comm;
    const char *path = g->session.settings->generate.save;
    struct dataset_facts facts;
    struct text command = {0}, program = {0};
    int64_t counts[2];
    ordered_keep(g->drawn.file);
    g->drawn.file = NULL;
    enum status st = lease_check(g->drawn.lease);
    st = st != OK ? st : generate_drawn_read(g, range_part(g->n, c->rank, c->size), add_line);
    st = st == OK ? make_facts(g, &command, &program, &facts) : st;
    st = st == OK ? close_offsets(&g->saved) : st;
    counts[0] = g->saved.part.n_responses;
    counts[1] = g->saved.part.n_pairs;
    st = comm_agree(c, st);
    st = st == OK ? dataset_write(c, path, &g->saved.part, &facts) : st;
    st = st == OK ? comm_sum_i64(c, counts, COUNT_OF(counts)) : st;
    if (st == OK) {
        log_root(LOG_INFO, "saved %s: %lld prompts, %lld responses, %lld pairs", path, (long long)g->n,
                 (long long)counts[0], (long long)counts[1]);
        if (c->rank == 0) {
            unlink(g->drawn.path.data); /* what stays of it would only be read as another run's */
        }
    }
    text_free(&command);
    text_free(&program);
    return st;
}

void generate_save_free(struct saved *s) {
    struct dataset_part *p = &s->part;
    void *arrays[] = {p->prompt_tokens,
                      p->prompt_offsets,
                      p->prompt_subset,
                      p->response_tokens,
                      p->response_offsets,
                      p->response_prompt,
                      p->response_score,
                      p->response_length_chars,
                      p->chosen,
                      p->rejected,
                      p->pair_source,
                      p->margin,
                      p->label};
    for (int i = 0; i < COUNT_OF(arrays); i++) {
        mem_free(arrays[i]);
    }
}
