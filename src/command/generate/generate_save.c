/* generate.save: what was drawn as a preference file. Prompts as they were used, ids as drawn, rewards as
 * scores, and where there are rewards a pair for any two responses of a prompt that differ in them. Broken
 * responses stay out. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "command/generate/generate.h"
#include "command/line.h"
#include "generated/version.h"
#include "util/log.h"
#include "util/mem.h"

static bool is_saving(const struct generation *g) {
    return *g->session.settings->generate.save != '\0';
}

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

enum status generate_save_prompt(struct generation *g, int64_t row, const struct prompt *prompt) {
    struct saved *s = &g->saved;
    struct dataset_part *p = &s->part;
    if (!is_saving(g)) {
        return OK;
    }
    int64_t tokens = p->prompt_offsets ? p->prompt_offsets[p->n_prompts] : 0;
    TRY(reserve_prompts(s, p->n_prompts + 1, tokens + prompt->count));
    memcpy(p->prompt_tokens + tokens, prompt->tokens, (size_t)prompt->count * sizeof *prompt->tokens);
    p->prompt_subset[p->n_prompts] = -1;
    if (dataset_facts(g->data)->n_subsets > 0) {
        TRY(dataset_prompt_subset(g->data, row, &p->prompt_subset[p->n_prompts]));
    }
    p->prompt_offsets[0] = 0;
    p->prompt_offsets[++p->n_prompts] = tokens + prompt->count;
    s->first = p->n_responses;
    return OK;
}

static int32_t code_points(const struct text *t) {
    int32_t n = 0;
    for (size_t i = 0; i < t->len; i++) {
        n += ((unsigned char)t->data[i] & 0xc0) != 0x80;
    }
    return n;
}

static enum status add_response(struct generation *g, const struct response_tokens *r, double reward,
                                struct text *scratch) {
    struct saved *s = &g->saved;
    struct dataset_part *p = &s->part;
    int64_t tokens = p->response_offsets ? p->response_offsets[p->n_responses] : 0;
    TRY(reserve_responses(s, p->n_responses + 1, tokens + r->count));
    TRY(g->session.tokenizer ? generate_text(g, r, scratch) : OK);
    memcpy(p->response_tokens + tokens, r->tokens, (size_t)r->count * sizeof *r->tokens);
    p->response_prompt[p->n_responses] = p->n_prompts - 1;
    p->response_score[p->n_responses] = (float)reward;
    p->response_length_chars[p->n_responses] = code_points(scratch);
    p->response_offsets[0] = 0;
    p->response_offsets[++p->n_responses] = tokens + r->count;
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

enum status generate_save_answers(struct generation *g, const struct answers *a) {
    struct text scratch = {0};
    int32_t best = generate_best(g, a);
    enum status st = OK;
    for (int32_t k = 0; is_saving(g) && k < g->samples && st == OK; k++) {
        if (a->responses[k].broken || (best >= 0 && k != best)) {
            continue;
        }
        st = add_response(g, &a->responses[k], a->rewards ? a->rewards[k] : NAN, &scratch);
        st = st == OK && a->rewards ? add_pairs(&g->saved) : st;
    }
    text_free(&scratch);
    return st;
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
    int64_t counts[] = {g->saved.part.n_responses, g->saved.part.n_pairs};
    enum status st = make_facts(g, &command, &program, &facts);
    st = st == OK ? close_offsets(&g->saved) : st;
    st = comm_agree(c, st);
    st = st == OK ? dataset_write(c, path, &g->saved.part, &facts) : st;
    st = st == OK ? comm_sum_i64(c, counts, COUNT_OF(counts)) : st;
    if (st == OK) {
        log_root(LOG_INFO, "saved %s: %lld prompts, %lld responses, %lld pairs", path, (long long)g->n,
                 (long long)counts[0], (long long)counts[1]);
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
