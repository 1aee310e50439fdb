/* Opening a view and reading its rows (view_plan.c says what each will be). The data are never copied; what
 * every step takes is counted.
 */
#include "data/view_internal.h"

#include <math.h>
#include <string.h>

#include "util/hash.h"
#include "util/mem.h"

bool view_is_of_prompts(const struct view *v) {
    return v->kind == ROWS_COMPARED || v->kind == ROWS_PROMPTS;
}

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
static uint64_t hash_of_cuts(const struct view *v) {
    const struct truncation *t = &v->t;
    int64_t fields[8] = {t->max_length, t->max_response};
    bool cuts =
        (t->max_length > 0 && t->how == LENGTH_CUTS_PROMPT) || t->max_response > 0 || t->response_ratio < 1;
    if (t->max_length > 0 && t->how == LENGTH_CUTS_PROMPT) {
        fields[2] = t->max_prompt;
        fields[3] = t->keep_start;
        fields[4] = view_is_of_prompts(v) ? ROWS_PAIRS : v->kind; /* which cut the same */
    }
    fields[3] += t->max_length > 0 && t->how == LENGTH_CUTS_ROW ? 2 : 0;
    fields[0] = t->how == LENGTH_DROPS_ROW ? 0 : fields[0]; /* what stays is whole */
    fields[5] = t->response_ratio < 1 ? 1 + (int64_t)t->unit : 0;
    fields[6] = cuts && t->end_after_cut;
    memcpy(&fields[7], &t->response_ratio, sizeof fields[7]);
    return hash_bytes(fields, sizeof fields, 0);
}

static uint64_t hash_of(const struct view *v) {
    uint64_t cuts = hash_of_cuts(v), rows = hash_join((uint64_t)v->t.how, (uint64_t)v->t.max_length);
    if (v->kind != ROWS_UNPAIRED) {
        return cuts;
    }
    return hash_join(hash_join(cuts, rows),
                     hash_join(dataset_pairs_hash(v->d), (uint64_t)v->block)); /* ids are rows */
}

/* What only prompts as rows need. */
static enum status open_prompts(struct view *v) {
    TRY(comparisons_open(v->d, &v->comparisons));
    struct dataset_size size = dataset_size(v->d);
    v->rows = v->kind == ROWS_PROMPTS && size.pairs == 0 ? size.prompts : v->comparisons.n_groups;
    if (v->rows == 0) {
        return fail(ERR_DATA,
                    "%s: has no labeled pairs; pairs of a chosen and a rejected response are "
                    "needed here",
                    dataset_path(v->d));
    }
    return OK;
}

enum status view_open(struct dataset *d, enum row_kind kind, const struct truncation *t, struct view **out) {
    struct dataset_size size = dataset_size(d);
    bool labeled = kind == ROWS_LABELED || (kind == ROWS_PREFERRED && size.pairs > 0);
    TRY(check_truncation(d, t));
    kind = kind == ROWS_LABELED ? ROWS_PAIRS : kind == ROWS_PREFERRED ? ROWS_CHOSEN : kind;
    if ((kind == ROWS_PAIRS || kind == ROWS_COMPARED) && size.pairs == 0) {
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
    v->rows = v->kind == ROWS_RESPONSES ? size.responses : v->kind == ROWS_BARE ? size.prompts : size.pairs;
    v->hash = hash_of(v);
    enum status st = view_is_of_prompts(v) ? open_prompts(v) : OK;
    if (v->kind == ROWS_UNPAIRED) {
        st = unpaired_open(d, &v->unpaired);
        v->rows = v->unpaired.rows;
    }
    if (v->kind == ROWS_RESPONSES && kind == ROWS_CHOSEN && size.has_desirable) {
        st = unpaired_keep(d, &v->kept, &v->rows);
    }
    if (st == OK && v->kind == ROWS_RESPONSES && dataset_split(d) != SPLIT_ALL) {
        st = dataset_split_responses(d, &v->kept, &v->rows);
    }
    if (st == OK && v->kind == ROWS_BARE && dataset_split(d) != SPLIT_ALL) {
        st = dataset_split_prompts(d, &v->kept, &v->rows);
    }
    v->unlabeled = v->comparisons.list ? size.pairs - v->comparisons.n : 0;
    if (st == OK && labeled) {
        st = labeled_rows(d, &v->kept, &v->rows);
        v->unlabeled = size.pairs - v->rows;
    }
    st = st == OK ? plan_leave_out(v) : st;
    if (st != OK) {
        view_close(v);
        return st;
    }
    *out = v;
    return OK;
}

void view_close(struct view *v) {
    if (v) {
        comparisons_close(&v->comparisons);
        unpaired_close(&v->unpaired);
        mem_free(v->chars);
        mem_free(v->kept);
        mem_free(v);
    }
}

void view_mismatch(struct view *v, int64_t block) {
    v->block = block;
    v->hash = hash_of(v);
}

int64_t view_rows(const struct view *v) {
    return v->rows;
}

int64_t view_row_in_file(const struct view *v, int64_t row) {
    return row_in_file(v, row);
}

int64_t view_ids(const struct view *v) {
    int64_t rows = v->unpaired.rows;
    return v->kind != ROWS_UNPAIRED ? dataset_size(v->d).responses : v->block > 0 ? 2 * rows : rows;
}

int64_t view_place(const struct view *v, int64_t row) {
    int64_t low = 0, high = v->rows;
    if (!v->kept) {
        return row >= 0 && row < v->rows ? row : -1;
    }
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (v->kept[middle] < row) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < v->rows && v->kept[low] == row ? low : -1;
}

int64_t view_unlabeled(const struct view *v) {
    return v->unlabeled;
}

int64_t view_left_out(const struct view *v) {
    return v->left_out;
}

uint64_t view_hash(const struct view *v) {
    return v->hash;
}

/* Reading. */

static enum status read_response_tokens(struct view *v, const struct response *r, const struct cut *c,
                                        int32_t *out) {
    bool whole = !is_cut(c); /* then the end token comes from the file as it is */
    TRY(dataset_response_tokens(v->d, r->first, whole ? r->count : c->keep, out));
    if (!whole && c->end) {
        out[c->keep] = v->end_id;
    }
    return OK;
}

/* Of a prompt's responses: the first with the highest score; without scores what the first pair prefers. */
static int32_t best_response(const struct sample *s) {
    int32_t best = -1;
    for (int32_t i = 0; i < s->n_responses; i++) {
        float score = s->responses[i].score;
        if (!isnan(score) && (best < 0 || score > s->responses[best].score)) {
            best = i;
        }
    }
    return best >= 0 ? best : s->n_pairs > 0 ? s->pairs[0].chosen : 0;
}

/* An end token that a cut put back is trained like the text that it ends. */
static enum status read_trained(struct view *v, const struct response *r, const struct cut *c, uint8_t *out) {
    bool whole = !is_cut(c);
    TRY(dataset_response_trained(v->d, r->first, whole ? r->count : c->keep, out));
    if (!whole && c->end) {
        out[c->keep] = c->keep > 0 ? out[c->keep - 1] : 1;
    }
    return OK;
}

/* Fills a sample, whose lists have their place, and its tokens; *at and *mask move behind what it
 * took. mask NULL: the file has none. */
static enum status read_sample(struct view *v, const struct planned_response *responses,
                               const struct row_plan *p, struct sample *s, int32_t **at, uint8_t **mask) {
    s->row = p->row;
    s->n_responses = p->n_responses;
    s->n_pairs = p->n_pairs;
    s->subset = -1;
    int64_t prompt = p->n_responses ? responses[0].response.prompt : v->kind == ROWS_BARE ? p->row : -1;
    TRY(prompt >= 0 ? dataset_prompt_subset(v->d, prompt, &s->subset) : OK);
    s->prompt = *at;
    s->prompt_count = (int32_t)p->prompt_count;
    TRY(p->prompt_count > 0 ? dataset_prompt_tokens(v->d, p->prompt_first, p->prompt_count, *at) : OK);
    *at += p->prompt_count;
    for (int32_t i = 0; i < p->n_responses; i++) {
        const struct response *r = &responses[i].response;
        TRY(read_response_tokens(v, r, &responses[i].cut, *at));
        s->responses[i] = (struct sample_response){.id = r->id,
                                                   .first = r->first,
                                                   .tokens = *at,
                                                   .count = (int32_t)cut_tokens(&responses[i].cut),
                                                   .score = r->score,
                                                   .worth = r->worth};
        *at += s->responses[i].count;
        if (*mask) {
            TRY(read_trained(v, r, &responses[i].cut, *mask));
            s->responses[i].trained = *mask;
            *mask += s->responses[i].count;
        }
    }
    s->is_desirable = p->is_desirable;
    s->is_mismatched = v->block > 0;
    bool has_none = v->kind == ROWS_BARE || (v->kind == ROWS_UNPAIRED && !p->is_desirable);
    s->target = view_is_of_prompts(v) ? best_response(s) : has_none ? -1 : 0;
    return OK;
}

static void count_pair(const struct planned_response *responses, const struct sample *s,
                       const struct sample_pair *pair, struct cut_counts *counts) {
    const struct sample_response *a = &s->responses[pair->chosen];
    const struct sample_response *b = &s->responses[pair->rejected];
    counts->pairs++;
    counts->margins += !isnan(pair->margin);
    counts->against += pair->label && a->score < b->score; /* NaN: neither */
    counts->level += pair->label && a->score == b->score;
    if (a->count != b->count || memcmp(a->tokens, b->tokens, (size_t)a->count * sizeof *a->tokens) != 0) {
        return;
    }
    counts->alike++;
    counts->alike_cut += is_cut(&responses[pair->chosen].cut) || is_cut(&responses[pair->rejected].cut);
}

static void count_cuts(const struct view *v, const struct planned_response *responses,
                       const struct row_plan *p, const struct sample *s, struct cut_counts *counts) {
    counts->rows++;
    counts->prompts_cut += p->prompt_count < p->prompt_whole;
    for (int32_t i = 0; i < p->n_responses; i++) {
        int32_t n = s->responses[i].count;
        counts->responses_cut += is_cut(&responses[i].cut);
        counts->empty_dropped += n == 0;
        counts->without_end += v->end_id >= 0 && (n == 0 || s->responses[i].tokens[n - 1] != v->end_id);
    }
    for (int32_t i = 0; i < p->n_pairs; i++) {
        count_pair(responses, s, &s->pairs[i], counts);
    }
}

static void add_counts(struct cut_counts *to, const struct cut_counts *from) {
    to->rows += from->rows;
    to->prompts_cut += from->prompts_cut;
    to->responses_cut += from->responses_cut;
    to->without_end += from->without_end;
    to->empty_dropped += from->empty_dropped;
    to->pairs += from->pairs;
    to->margins += from->margins;
    to->alike += from->alike;
    to->alike_cut += from->alike_cut;
    to->against += from->against;
    to->level += from->level;
}

/* What a buffer of samples holds. */
struct sample_room {
    int64_t n, responses, pairs, tokens;
};

/* One buffer: samples, their responses, their pairs, tokens, and where the file has it, what is trained. */
static enum status allocate_samples(const struct sample_room *room, bool trained, struct sample **out) {
    int64_t part;
    int64_t bytes = 0;
    TRY(size_mul(room->n, sizeof **out, "samples", &part));
    TRY(size_add(bytes, part, "samples", &bytes));
    TRY(size_mul(room->responses, sizeof(struct sample_response), "responses", &part));
    TRY(size_add(bytes, part, "samples", &bytes));
    TRY(size_mul(room->pairs, sizeof(struct sample_pair), "pairs", &part));
    TRY(size_add(bytes, part, "samples", &bytes));
    TRY(size_mul(room->tokens, sizeof(int32_t) + (trained ? 1 : 0), "tokens of rows", &part));
    TRY(size_add(bytes, part, "samples", &bytes));
    *out = mem_calloc(bytes, 1);
    return mem_ok(*out);
}

/* A plan's rows: those of the list, in its order. */
struct chosen_rows {
    const struct view_plan *plan;
    const int64_t *list; /* NULL: all */
    int64_t n;
};
static const struct row_plan *chosen_row(const struct chosen_rows *c, int64_t i) {
    return &c->plan->rows[c->list ? c->list[i] : i];
}

static enum status measure_rows(const struct chosen_rows *c, struct sample_room *out) {
    *out = (struct sample_room){.n = c->n};
    for (int64_t i = 0; i < c->n; i++) {
        const struct row_plan *p = chosen_row(c, i);
        out->responses += p->n_responses;
        out->pairs += p->n_pairs;
        TRY(size_add(out->tokens, view_plan_tokens(c->plan, p), "tokens of rows", &out->tokens));
    }
    return OK;
}

static enum status read_samples(const struct chosen_rows *c, const struct sample_room *room,
                                struct sample *samples, struct cut_counts *counts) {
    struct view *v = c->plan->view;
    const struct row_plans *all = &c->plan->all;
    struct sample_response *responses = (struct sample_response *)(samples + c->n);
    struct sample_pair *pairs = (struct sample_pair *)(responses + room->responses);
    int32_t *at = (int32_t *)(pairs + room->pairs);
    const struct planned_response none = {0};
    uint8_t *mask = dataset_size(v->d).has_trained ? (uint8_t *)(at + room->tokens) : NULL;
    for (int64_t i = 0; i < c->n; i++) {
        const struct row_plan *p = chosen_row(c, i);
        const struct planned_response *own = p->n_responses > 0 ? all->responses + p->first_response : &none;
        samples[i].responses = responses;
        samples[i].pairs = pairs;
        if (p->n_pairs > 0) {
            memcpy(pairs, all->pairs + p->first_pair, (size_t)p->n_pairs * sizeof *pairs);
        }
        TRY(read_sample(v, own, p, &samples[i], &at, &mask));
        count_cuts(v, own, p, &samples[i], counts);
        responses += p->n_responses;
        pairs += p->n_pairs;
    }
    return OK;
}

static enum status read_chosen(const struct chosen_rows *c, struct sample **out, struct cut_counts *counts) {
    struct sample *samples = NULL;
    struct sample_room room;
    struct cut_counts found = {0};
    TRY(measure_rows(c, &room));
    TRY(allocate_samples(&room, dataset_size(c->plan->view->d).has_trained, &samples));
    enum status st = read_samples(c, &room, samples, &found);
    if (st != OK) {
        mem_free(samples);
        return st;
    }
    if (counts) {
        add_counts(counts, &found);
    }
    *out = samples;
    return OK;
}

enum status view_plan_read(const struct view_plan *plan, const int64_t *index, int64_t n, struct sample **out,
                           struct cut_counts *counts) {
    const struct chosen_rows chosen = {plan, index, n};
    return read_chosen(&chosen, out, counts);
}

/* rows NULL: the n from `first` on. */
static enum status read_rows(struct view *v, const int64_t *rows, int64_t first, int64_t n,
                             struct sample **out, struct cut_counts *counts) {
    struct view_plan *plan;
    TRY(view_plan_rows(v, rows, first, n, &plan));
    const struct chosen_rows all = {plan, NULL, n};
    enum status st = read_chosen(&all, out, counts);
    view_plan_close(plan);
    return st;
}

enum status view_read(struct view *v, const int64_t *rows, int64_t n, struct sample **out,
                      struct cut_counts *counts) {
    return read_rows(v, rows, 0, n, out, counts);
}

enum status view_read_range(struct view *v, struct range rows, struct sample **out,
                            struct cut_counts *counts) {
    return read_rows(v, NULL, rows.first, rows.last - rows.first, out, counts);
}

void samples_free(struct sample *samples) {
    mem_free(samples);
}
