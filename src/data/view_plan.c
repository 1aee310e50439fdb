/* A row is planned, then read: lengths and offsets first, for which only the tables of responses and prompts
 * are looked at; tokens only of rows that this rank owns. So every rank can deal all rows of an update to
 * slots by their costs without reading a token that is not its own.
 *
 *     file       | prompt ............ | response ................. end |
 *     1. share   |                     | response ....... |              share of tokens or characters,
 * max_response
 *     2. prompt  |      | prompt ..... |                                 where the longest of the row does
 * not fit, keep its start or its end, max_prompt
 *     3. length  |      | prompt ..... | response ... |                  max_length for both: the response
 * gives way
 *     4. end     |      | prompt ..... | response ... end |              where the cut is to have one
 *
 * A prompt is cut once for all its responses (it is computed once); the data are never copied; what every
 * step takes is counted.
 */
#include "data/view_internal.h"
#include "util/mem.h"

static void plans_free(struct row_plans *p) {
    mem_free(p->responses);
    mem_free(p->pairs);
}

/* At most `limit` tokens in all, but never nothing of the content: with no room for both, content wins. */
static void cut_to_limit(struct cut *c, int64_t limit, bool end_after_cut) {
    if (cut_tokens(c) <= limit) {
        return;
    }
    c->end = c->has_end && end_after_cut && (limit > 1 || c->content == 0);
    int64_t keep = limit - c->end;
    if (keep < c->keep) {
        c->keep = keep < 1 && c->content > 0 ? 1 : keep;
    }
}

/* The longest prefix of the content with at most `most` characters; later bytes of a character count 0 and
 * stay with it. */
static enum status tokens_of_chars(struct view *v, const struct response *r, int64_t content, int64_t most,
                                   int64_t *keep) {
    TRY(GROW_ARRAY(v->chars, v->chars_capacity, content));
    TRY(dataset_response_token_chars(v->d, r->first, content, v->chars));
    int64_t sum = 0, n = 0;
    while (n < content && sum + v->chars[n] <= most) {
        sum += v->chars[n++];
    }
    *keep = n;
    return OK;
}

/* Step 1: what depends on the response alone. */
static enum status cut_response(struct view *v, const struct response *r, struct cut *out) {
    bool has_end = v->end_id >= 0 && r->count > 0;
    struct cut c = {.content = r->count - has_end, .has_end = has_end, .end = has_end};
    c.keep = c.content;
    if (v->t.response_ratio < 1) {
        int64_t keep = (int64_t)((double)c.content * v->t.response_ratio);
        if (v->t.unit == CUT_CHARS) {
            int64_t most = (int64_t)((double)r->length_chars * v->t.response_ratio);
            TRY(tokens_of_chars(v, r, c.content, most < 1 ? 1 : most, &keep));
        }
        keep = keep < 1 ? 1 : keep;
        if (keep < c.keep) {
            c.keep = keep;
            c.end = has_end && v->t.end_after_cut;
        }
    }
    if (v->t.max_response > 0) {
        cut_to_limit(&c, v->t.max_response, v->t.end_after_cut);
    }
    *out = c;
    return OK;
}

static enum status is_too_long(struct view *v, const struct response *r, bool *out) {
    struct cut c;
    TRY(cut_response(v, r, &c));
    *out = r->prompt_count + cut_tokens(&c) > v->t.max_length;
    return OK;
}

/* Step 2: whether the row's prompt is cut. */
static enum status wants_prompt_cut(struct view *v, const struct planned_response *responses, int32_t n,
                                    bool *out) {
    const struct response *r = &responses[0].response;
    int64_t first, count;
    *out = false;
    for (int32_t i = 0; i < n && v->kind == ROWS_UNPAIRED && !*out; i++) {
        TRY(is_too_long(v, &responses[i].response, out));
    }
    if (v->kind == ROWS_UNPAIRED) {
        return OK;
    }
    if (v->kind != ROWS_PAIRS && !view_is_of_prompts(v)) {
        return is_too_long(v, r, out);
    }
    TRY(dataset_prompt_responses(v->d, r->prompt, &first, &count));
    for (int64_t id = first; id < first + count && !*out; id++) {
        struct response sibling;
        TRY(dataset_response(v->d, id, &sibling));
        TRY(is_too_long(v, &sibling, out));
    }
    return OK;
}

static enum status add_response(struct view *v, int64_t id, struct row_plans *all, struct row_plan *p) {
    TRY(GROW_ARRAY(all->responses, all->response_capacity, all->n_responses + 1));
    struct planned_response *r = &all->responses[all->n_responses];
    TRY(dataset_response(v->d, id, &r->response));
    TRY(cut_response(v, &r->response, &r->cut));
    all->n_responses++;
    p->n_responses++;
    return OK;
}

static int32_t place_of(const struct row_plans *all, const struct row_plan *p, int64_t id) {
    for (int32_t i = 0; i < p->n_responses; i++) {
        if (all->responses[p->first_response + i].response.id == id) {
            return i;
        }
    }
    return -1;
}

/* The place of a pair's side, which is added where it is not there yet. */
static enum status take_side(struct view *v, int64_t id, struct row_plans *all, struct row_plan *p,
                             int32_t *place) {
    *place = place_of(all, p, id);
    if (*place < 0) {
        *place = p->n_responses;
        return add_response(v, id, all, p);
    }
    return OK;
}

static enum status add_pair(struct view *v, const struct pair *pair, struct row_plans *all,
                            struct row_plan *p) {
    TRY(GROW_ARRAY(all->pairs, all->pair_capacity, all->n_pairs + 1));
    struct sample_pair *out = &all->pairs[all->n_pairs];
    *out = (struct sample_pair){
        .row = pair->row, .source = pair->source, .margin = pair->margin, .label = pair->label};
    TRY(take_side(v, pair->chosen, all, p, &out->chosen));
    TRY(take_side(v, pair->rejected, all, p, &out->rejected));
    const struct planned_response *own = &all->responses[p->first_response];
    if (own[out->chosen].response.prompt != own[out->rejected].response.prompt) {
        return fail(ERR_DATA, "%s: pair %lld joins responses to different prompts (%lld and %lld)",
                    dataset_path(v->d), (long long)pair->row, (long long)own[out->chosen].response.prompt,
                    (long long)own[out->rejected].response.prompt);
    }
    all->n_pairs++;
    p->n_pairs++;
    return OK;
}

static enum status add_prompt(struct view *v, int64_t prompt, struct row_plans *all, struct row_plan *p) {
    int64_t first, count;
    TRY(dataset_prompt_responses(v->d, prompt, &first, &count));
    for (int64_t id = first; id < first + count; id++) {
        TRY(add_response(v, id, all, p));
    }
    return OK;
}

static enum status find_prompt(struct view *v, int64_t row, struct row_plans *all, struct row_plan *p) {
    const struct comparisons *c = &v->comparisons;
    if (c->n_groups == 0) { /* a file without pairs */
        return add_prompt(v, row, all, p);
    }
    if (v->kind == ROWS_PROMPTS) {
        TRY(add_prompt(v, c->list[c->group_first[row]].prompt, all, p));
    }
    for (int64_t i = c->group_first[row]; i < c->group_first[row + 1]; i++) {
        struct pair pair;
        TRY(dataset_pair(v->d, c->list[i].row, &pair));
        TRY(add_pair(v, &pair, all, p));
    }
    return OK;
}

/* The row's own response, and the one that does not belong to its prompt; their ids are places of the row. */
static enum status add_unpaired(struct view *v, int64_t row, struct row_plans *all, struct row_plan *p) {
    int64_t id;
    bool other;
    TRY(unpaired_response(v->d, &v->unpaired, row, &id, &p->is_desirable));
    TRY(add_response(v, id, all, p));
    all->responses[p->first_response].response.id = row;
    if (v->block == 0) {
        return OK;
    }
    const struct response own = all->responses[p->first_response].response;
    int64_t partner = row_in_file(v, unpaired_partner(v->rows, v->block, p->place));
    TRY(unpaired_response(v->d, &v->unpaired, partner, &id, &other));
    TRY(add_response(v, id, all, p));
    struct response *second = &all->responses[p->first_response + 1].response;
    second->id = v->unpaired.rows + row;
    second->prompt = own.prompt;
    second->prompt_first = own.prompt_first;
    second->prompt_count = own.prompt_count;
    return OK;
}

static enum status find_responses(struct view *v, int64_t row, struct row_plans *all, struct row_plan *p) {
    if (view_is_of_prompts(v)) {
        return find_prompt(v, row, all, p);
    }
    if (v->kind == ROWS_UNPAIRED) {
        return add_unpaired(v, row, all, p);
    }
    if (v->kind == ROWS_RESPONSES) {
        return add_response(v, row, all, p);
    }
    struct pair pair;
    TRY(dataset_pair(v->d, row, &pair));
    return v->kind == ROWS_PAIRS ? add_pair(v, &pair, all, p) : add_response(v, pair.chosen, all, p);
}

/* Steps 2 and 3. */
static enum status cut_row(struct view *v, struct planned_response *responses, struct row_plan *p) {
    const struct response *first = &responses[0].response;
    p->prompt_whole = p->prompt_count = first->prompt_count;
    bool cuts_prompt = v->t.max_length > 0 && v->t.how == LENGTH_CUTS_PROMPT;
    if (cuts_prompt) {
        bool cut;
        TRY(wants_prompt_cut(v, responses, p->n_responses, &cut));
        if (cut && p->prompt_count > v->t.max_prompt) {
            p->prompt_count = v->t.max_prompt;
        }
    }
    for (int32_t i = 0; i < p->n_responses && v->t.max_length > 0 && v->t.how != LENGTH_DROPS_ROW; i++) {
        cut_to_limit(&responses[i].cut, v->t.max_length - p->prompt_count, cuts_prompt && v->t.end_after_cut);
    }
    p->prompt_first = first->prompt_first + (v->t.keep_start ? 0 : p->prompt_whole - p->prompt_count);
    return OK;
}

/* A prompt alone: it is cut where what is to be drawn would not fit behind it. */
static enum status bare_row(struct view *v, int64_t prompt, struct row_plan *p) {
    const struct truncation *t = &v->t;
    TRY(dataset_prompt(v->d, prompt, &p->prompt_first, &p->prompt_whole));
    bool is_long = t->max_length > 0 && p->prompt_whole + t->max_response > t->max_length;
    int64_t room = (int64_t)t->max_length - t->max_response;
    int64_t most = room > 0 && room < t->max_prompt ? room : t->max_prompt;
    p->prompt_count = is_long && most < p->prompt_whole ? most : p->prompt_whole;
    p->prompt_first += t->keep_start ? 0 : p->prompt_whole - p->prompt_count;
    return OK;
}

/* Row `row` of the file, `place` of the view, at the end of all; a prompt without responses is a row without
 * tokens. */
static enum status plan_row(struct view *v, int64_t row, int64_t place, struct row_plans *all,
                            struct row_plan *p) {
    *p = (struct row_plan){
        .row = row, .place = place, .first_response = all->n_responses, .first_pair = all->n_pairs};
    if (v->kind == ROWS_BARE) {
        return bare_row(v, row, p);
    }
    TRY(find_responses(v, row, all, p));
    return p->n_responses > 0 ? cut_row(v, &all->responses[p->first_response], p) : OK;
}

int64_t view_plan_tokens(const struct view_plan *plan, const struct row_plan *p) {
    int64_t sum = p->prompt_count;
    for (int32_t i = 0; i < p->n_responses; i++) {
        sum += cut_tokens(&plan->all.responses[p->first_response + i].cut);
    }
    return sum;
}

enum status view_plan_rows(struct view *v, const int64_t *rows, int64_t first, int64_t n,
                           struct view_plan **out) {
    struct view_plan *plan = mem_calloc(1, sizeof *plan);
    enum status st;
    TRY_TO(failed, mem_ok(plan));
    plan->view = v;
    plan->n = n;
    TRY_TO(failed, NEW_ARRAY(plan->rows, n));
    for (int64_t i = 0; i < n; i++) {
        int64_t place = rows ? rows[i] : first + i;
        TRY_TO(failed, plan_row(v, row_in_file(v, place), place, &plan->all, &plan->rows[i]));
    }
    *out = plan;
    return OK;
failed:
    view_plan_close(plan);
    return st;
}

enum status view_plan_open(struct view *v, const int64_t *rows, int64_t n, struct view_plan **out) {
    return view_plan_rows(v, rows, 0, n, out);
}

void view_plan_close(struct view_plan *plan) {
    if (plan) {
        plans_free(&plan->all);
        mem_free(plan->rows);
        mem_free(plan);
    }
}

enum status view_plan_cost(const struct view_plan *plan, int64_t i, int32_t *out) {
    return to_int(view_plan_tokens(plan, &plan->rows[i]), "tokens of a row", out);
}

/* Whether max_length leaves a row out. */
static bool is_left_out(const struct view *v, const struct row_plans *all, const struct row_plan *p) {
    bool out = false;
    for (int32_t i = 0; i < p->n_responses; i++) {
        const struct planned_response *r = &all->responses[p->first_response + i];
        int64_t tokens = r->response.prompt_count;
        tokens += v->t.how == LENGTH_DROPS_ROW ? cut_tokens(&r->cut) : 1;
        out |= tokens > v->t.max_length;
    }
    return out;
}

enum status plan_leave_out(struct view *v) {
    struct row_plans all = {0};
    int64_t kept = 0;
    if (v->t.max_length == 0 || v->t.how == LENGTH_CUTS_PROMPT || v->kind == ROWS_BARE) {
        return OK;
    }
    int64_t *list;
    TRY(NEW_ARRAY(list, v->rows));
    enum status st = OK;
    for (int64_t i = 0; i < v->rows && st == OK; i++) {
        int64_t row = row_in_file(v, i);
        struct row_plan p = {.row = row};
        all.n_responses = all.n_pairs = 0;
        st = find_responses(v, row, &all, &p);
        if (st == OK && !is_left_out(v, &all, &p)) {
            list[kept++] = row;
        }
    }
    plans_free(&all);
    mem_free(v->kept);
    v->kept = list;
    v->left_out = v->rows - kept;
    v->rows = kept;
    return st;
}
