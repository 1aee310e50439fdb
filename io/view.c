#include "io/view.h"

#include <string.h>

#include "util/hash.h"
#include "util/mem.h"

struct view {
    struct dataset *d;
    enum row_kind kind; /* ROWS_CHOSEN without pairs becomes ROWS_RESPONSES */
    struct truncation t;
    int32_t end_id;
    int64_t rows;
    uint64_t hash;
    uint8_t *chars; /* scratch: characters of a response's tokens */
    int64_t chars_capacity;
};

/* What stays of a response: `keep` tokens of its content from the start, then the end token if `end`. */
struct cut {
    int64_t content; /* tokens before the end token */
    int64_t keep;
    bool has_end, end; /* in the file, after the cut */
};

static int64_t cut_tokens(const struct cut *c) {
    return c->keep + c->end;
}

static bool is_cut(const struct cut *c) {
    return c->keep < c->content || (c->has_end && !c->end);
}

/* A row as it will be read. */
struct plan {
    struct pair pair; /* where there is one */
    int n_responses;
    struct response responses[2];
    struct cut cuts[2];
    int64_t prompt_count; /* after the cut */
};

/* At most `limit` tokens in all, but never nothing of the content: with no room for both, content wins. */
static void cut_to_limit(const struct view *v, struct cut *c, int64_t limit) {
    if (cut_tokens(c) <= limit) {
        return;
    }
    c->end = c->has_end && v->t.end_after_cut && (limit > 1 || c->content == 0);
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
        cut_to_limit(v, &c, v->t.max_response);
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
static enum status wants_prompt_cut(struct view *v, const struct plan *p, bool *out) {
    int64_t first, count;
    *out = false;
    if (v->kind != ROWS_PAIRS) {
        return is_too_long(v, &p->responses[0], out);
    }
    TRY(dataset_prompt_responses(v->d, p->responses[0].prompt, &first, &count));
    for (int64_t id = first; id < first + count && !*out; id++) {
        struct response sibling;
        TRY(dataset_responses(v->d, &id, 1, &sibling));
        TRY(is_too_long(v, &sibling, out));
    }
    return OK;
}

static enum status find_responses(struct view *v, int64_t row, struct plan *p) {
    int64_t ids[2] = {row, -1};
    p->n_responses = 1;
    if (v->kind != ROWS_RESPONSES) {
        TRY(dataset_pairs(v->d, &row, 1, &p->pair));
        ids[0] = p->pair.chosen;
        ids[1] = p->pair.rejected;
        p->n_responses = v->kind == ROWS_PAIRS ? 2 : 1;
    }
    TRY(dataset_responses(v->d, ids, p->n_responses, p->responses));
    if (p->n_responses == 2 && p->responses[0].prompt != p->responses[1].prompt) {
        return fail(ERR_DATA, "%s: pair %lld joins responses to different prompts (%lld and %lld)",
                    dataset_path(v->d), (long long)row, (long long)p->responses[0].prompt,
                    (long long)p->responses[1].prompt);
    }
    return OK;
}

static enum status plan_row(struct view *v, int64_t row, struct plan *p) {
    *p = (struct plan){.pair.row = row};
    TRY(find_responses(v, row, p));
    for (int i = 0; i < p->n_responses; i++) {
        TRY(cut_response(v, &p->responses[i], &p->cuts[i]));
    }
    p->prompt_count = p->responses[0].prompt_count;
    if (v->t.max_length > 0) {
        bool cut;
        TRY(wants_prompt_cut(v, p, &cut));
        if (cut && p->prompt_count > v->t.max_prompt) {
            p->prompt_count = v->t.max_prompt;
        }
        for (int i = 0; i < p->n_responses; i++) {
            cut_to_limit(v, &p->cuts[i], v->t.max_length - p->prompt_count);
        }
    }
    return OK;
}

static int64_t plan_tokens(const struct plan *p) {
    int64_t sum = p->prompt_count;
    for (int i = 0; i < p->n_responses; i++) {
        sum += cut_tokens(&p->cuts[i]);
    }
    return sum;
}

/* Opening. */

static enum status check_truncation(const struct dataset *d, const struct truncation *t) {
    if (!(t->response_ratio > 0 && t->response_ratio <= 1)) {
        return fail(ERR_USAGE, "truncate.ratio is %g; it must be above 0 and at most 1", t->response_ratio);
    }
    if (t->max_length < 0 || t->max_prompt < 0 || t->max_response < 0 || t->max_length == 1) {
        return fail(ERR_USAGE,
                    "truncate.max_length is %d; at least one token of the prompt and one of the "
                    "response must fit",
                    t->max_length);
    }
    if (t->max_length > 0 && t->max_prompt >= t->max_length) {
        return fail(ERR_USAGE,
                    "truncate.max_prompt (%d) leaves no room for a response in truncate.max_length (%d)",
                    t->max_prompt, t->max_length);
    }
    if (t->response_ratio < 1 && t->unit == CUT_CHARS && !dataset_size(d).has_token_chars) {
        return fail(ERR_USAGE,
                    "%s: truncate.unit=chars needs characters per token; prepare it with prepare.token_chars",
                    dataset_base_path(d));
    }
    return OK;
}

/* Options without effect are left out, so that they do not make side-cars stale. */
static uint64_t hash_of(const struct view *v) {
    const struct truncation *t = &v->t;
    int64_t fields[8] = {t->max_length, t->max_response};
    bool cuts = t->max_length > 0 || t->max_response > 0 || t->response_ratio < 1;
    if (t->max_length > 0) {
        fields[2] = t->max_prompt;
        fields[3] = t->keep_start;
        fields[4] = v->kind;
    }
    fields[5] = t->response_ratio < 1 ? 1 + (int64_t)t->unit : 0;
    fields[6] = cuts && t->end_after_cut;
    memcpy(&fields[7], &t->response_ratio, sizeof fields[7]);
    return hash_bytes(fields, sizeof fields, 0);
}

enum status view_open(struct dataset *d, enum row_kind kind, const struct truncation *t, struct view **out) {
    struct dataset_size size = dataset_size(d);
    TRY(check_truncation(d, t));
    if (kind == ROWS_PAIRS && size.pairs == 0) {
        return fail(ERR_DATA, "%s: has no pairs; pairs of a chosen and a rejected response are needed here",
                    dataset_path(d));
    }
    struct view *v = mem_calloc(1, sizeof *v);
    if (!v) {
        return ERR_SYSTEM;
    }
    v->d = d;
    v->kind = kind == ROWS_CHOSEN && size.pairs == 0 ? ROWS_RESPONSES : kind;
    v->t = *t;
    if (v->t.max_length > 0 && v->t.max_prompt == 0) {
        v->t.max_prompt = v->t.max_length / 2;
    }
    v->end_id = dataset_facts(d)->end_id;
    v->rows = v->kind == ROWS_RESPONSES ? size.responses : size.pairs;
    v->hash = hash_of(v);
    *out = v;
    return OK;
}

void view_close(struct view *v) {
    if (v) {
        mem_free(v->chars);
        mem_free(v);
    }
}

int64_t view_rows(const struct view *v) {
    return v->rows;
}

uint64_t view_hash(const struct view *v) {
    return v->hash;
}

/* Reading. */

enum status view_costs(struct view *v, const int64_t *rows, int64_t n, int32_t *cost) {
    for (int64_t i = 0; i < n; i++) {
        struct plan p;
        TRY(plan_row(v, rows[i], &p));
        TRY(to_int(plan_tokens(&p), "tokens of a row", &cost[i]));
    }
    return OK;
}

static enum status read_response_tokens(struct view *v, const struct response *r, const struct cut *c,
                                        int32_t *out) {
    bool whole = !is_cut(c); /* then the end token comes from the file as it is */
    TRY(dataset_response_tokens(v->d, r->first, whole ? r->count : c->keep, out));
    if (!whole && c->end) {
        out[c->keep] = v->end_id;
    }
    return OK;
}

/* Fills a sample and its tokens; *at moves behind what it took. */
static enum status read_sample(struct view *v, const struct plan *p, struct sample *s, int32_t **at) {
    int64_t skip = v->t.keep_start ? 0 : p->responses[0].prompt_count - p->prompt_count;
    s->row = p->pair.row;
    s->n_responses = p->n_responses;
    s->pair = p->pair;
    s->prompt = *at;
    s->prompt_count = (int32_t)p->prompt_count;
    TRY(dataset_prompt_tokens(v->d, p->responses[0].prompt_first + skip, p->prompt_count, *at));
    *at += p->prompt_count;
    for (int i = 0; i < p->n_responses; i++) {
        TRY(read_response_tokens(v, &p->responses[i], &p->cuts[i], *at));
        s->responses[i].id = p->responses[i].id;
        s->responses[i].tokens = *at;
        s->responses[i].count = (int32_t)cut_tokens(&p->cuts[i]);
        *at += s->responses[i].count;
    }
    return OK;
}

static void count_cuts(const struct view *v, const struct plan *p, const struct sample *s,
                       struct cut_counts *counts) {
    counts->rows++;
    counts->prompts_cut += p->prompt_count < p->responses[0].prompt_count;
    for (int i = 0; i < p->n_responses; i++) {
        int32_t n = s->responses[i].count;
        counts->responses_cut += is_cut(&p->cuts[i]);
        counts->empty_dropped += n == 0;
        counts->without_end += v->end_id >= 0 && (n == 0 || s->responses[i].tokens[n - 1] != v->end_id);
    }
}

enum status view_read(struct view *v, const int64_t *rows, int64_t n, struct sample **out,
                      struct cut_counts *counts) {
    struct plan *plans = NULL;
    struct sample *samples = NULL;
    struct cut_counts found = {0};
    int64_t tokens = 0, bytes;
    enum status st;
    TRY_TO(done, NEW_ARRAY(plans, n));
    for (int64_t i = 0; i < n; i++) {
        TRY_TO(done, plan_row(v, rows[i], &plans[i]));
        TRY_TO(done, size_add(tokens, plan_tokens(&plans[i]), "tokens of rows", &tokens));
    }
    TRY_TO(done, size_mul(n, sizeof *samples, "samples", &bytes));
    samples = mem_calloc(bytes + tokens * (int64_t)sizeof(int32_t), 1);
    if (!samples) {
        st = ERR_SYSTEM;
        goto done;
    }
    int32_t *at = (int32_t *)(samples + n);
    for (int64_t i = 0; i < n; i++) {
        TRY_TO(done, read_sample(v, &plans[i], &samples[i], &at));
        count_cuts(v, &plans[i], &samples[i], &found);
    }
done:
    mem_free(plans);
    if (st != OK) {
        mem_free(samples);
        return st;
    }
    if (counts) {
        counts->rows += found.rows;
        counts->prompts_cut += found.prompts_cut;
        counts->responses_cut += found.responses_cut;
        counts->without_end += found.without_end;
        counts->empty_dropped += found.empty_dropped;
    }
    *out = samples;
    return OK;
}

void samples_free(struct sample *samples) {
    mem_free(samples);
}
