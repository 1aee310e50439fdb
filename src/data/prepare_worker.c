/* A thread's work: records to ids and rows.
 *
 * Prompt and response are tokenized apart, so no token can reach over their boundary, the response as what
 * goes on from the prompt. The beginning token stands once before the prompt even where the text brings its
 * own.
 */
#include "data/prepare_internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "text/objectives.h"
#include "util/mem.h"

struct worker {
    const struct prepare_job *job;
    struct encoder *encoder;
    struct record_text *text, *scratch;
    struct ids together, apart;   /* prompt and response in one piece, the response alone: for the check */
    struct text joined;           /* prompt and response */
    struct text key;              /* of the prompt, where records of the same one are merged */
    struct template_ranges input; /* what users wrote of it */
};

static struct prepare_place place_in(const struct record *r) {
    return (struct prepare_place){.file = r->file, .line = r->line};
}

static void count_first(struct block *b, enum prepare_count what, int64_t count, enum prepare_first which,
                        struct prepare_place place) {
    b->counts[what] += count;
    b->first[which] = count > 0 && b->first[which].line == 0 ? place : b->first[which];
}

static bool holds(const int32_t *ids, int64_t first, int64_t last, int32_t id) {
    for (int64_t i = first; i < last && id >= 0; i++) {
        if (ids[i] == id) {
            return true;
        }
    }
    return false;
}

static enum status push_id(struct ids *ids, int32_t id) {
    TRY(GROW_ARRAY(ids->data, ids->capacity, ids->count + 1));
    ids->data[ids->count++] = id;
    return OK;
}

static enum status add_prompt(struct worker *w, struct block *b, struct prepare_place place,
                              bool *end_in_text) {
    const struct prepare_job *job = w->job;
    const struct text *prompt = &w->text->prompt;
    struct ids *ids = &b->prompt_ids;
    int64_t first = ids->count;
    TRY(job->begin_id >= 0 ? push_id(ids, job->begin_id) : OK);
    int64_t text_first = ids->count;
    encoder_set_input(w->encoder, &w->text->prompt_marks.input, 0, job->specials_as_text);
    TRY(tokenizer_encode(w->encoder, prompt->data ? prompt->data : "", prompt->len, ids, NULL));
    if (job->begin_id >= 0 && ids->count > text_first && ids->data[text_first] == job->begin_id) {
        ids->count--; /* the text brings its own */
        memmove(ids->data + text_first, ids->data + text_first + 1,
                (size_t)(ids->count - text_first) * sizeof *ids->data);
        b->counts[COUNT_BEGIN_IN_TEXT]++;
    }
    *end_in_text = holds(ids->data, text_first, ids->count, tokenizer_end(job->tokenizer));
    b->counts[COUNT_EMPTY_PROMPTS] += ids->count == first;
    TRY(GROW_ARRAY(b->prompts, b->prompts_capacity, b->n_prompts + 1));
    struct prompt_row row = {.end = ids->count, .place = place};
    TRY(subsets_place(&b->subsets, w->text->subset.len > 0 ? w->text->subset.data : "", &row.subset));
    b->prompts[b->n_prompts++] = row;
    return OK;
}

static enum status add_ranges(const struct template_ranges *from, size_t offset, struct template_ranges *to) {
    TRY(GROW_ARRAY(to->data, to->capacity, to->count + from->count));
    for (int64_t i = 0; i < from->count; i++) {
        to->data[to->count++] =
            (struct template_range){from->data[i].begin + offset, from->data[i].end + offset};
    }
    return OK;
}

/* Prompt and response i in one piece. */
static enum status join(struct worker *w, int i) {
    const struct record_text *text = w->text;
    size_t prompt = text->prompt.len;
    text_clear(&w->joined);
    w->input.count = 0;
    TRY(text_append(&w->joined, prompt ? text->prompt.data : "", prompt));
    TRY(text_append(&w->joined, text->responses[i].len ? text->responses[i].data : "",
                    text->responses[i].len));
    TRY(add_ranges(&text->prompt_marks.input, 0, &w->input));
    return add_ranges(&text->response_marks[i].input, prompt, &w->input);
}

/* Bytes [begin, end) of the joined text, behind what stands before them. */
static enum status encode_piece(struct worker *w, size_t begin, size_t end, struct ids *ids,
                                struct text *chars) {
    const char *s = w->joined.data ? w->joined.data : "";
    encoder_set_input(w->encoder, &w->input, begin, w->job->specials_as_text);
    return tokenizer_encode_after(w->encoder, s, begin, s + begin, end - begin, ids, chars);
}

static enum status mark_ids(struct text *trained, int64_t count, char value) {
    for (int64_t i = 0; i < count && trained; i++) {
        TRY(text_append(trained, &value, 1));
    }
    return OK;
}

/* The ids of response i; trained (NULL: not asked for): a 1 for each that is trained, else a 0. A chat is cut
 * where a trained turn begins or ends, so that no token reaches over. */
static enum status encode_response(struct worker *w, int i, struct ids *ids, struct text *chars,
                                   struct text *trained) {
    const struct template_ranges *turns = &w->text->response_marks[i].trained;
    TRY(join(w, i));
    size_t at = w->text->prompt.len;
    int64_t first = ids->count;
    for (int64_t k = 0; k < turns->count; k++) {
        size_t begin = w->text->prompt.len + turns->data[k].begin;
        size_t end = w->text->prompt.len + turns->data[k].end;
        TRY(begin > at ? encode_piece(w, at, begin, ids, chars) : OK);
        TRY(mark_ids(trained, ids->count - first, 0));
        first = ids->count;
        TRY(encode_piece(w, begin, end, ids, chars));
        TRY(mark_ids(trained, ids->count - first, 1));
        first = ids->count;
        at = end;
    }
    TRY(at < w->joined.len ? encode_piece(w, at, w->joined.len, ids, chars) : OK);
    return mark_ids(trained, ids->count - first, turns->count == 0);
}

/* Of the objectives. */
static enum status add_scores(struct worker *w, struct block *b, int response) {
    int n = w->job->objectives->n;
    TRY(GROW_ARRAY(b->scores, b->scores_capacity, b->n_scores + n));
    for (int i = 0; i < n; i++) {
        double score = w->text->named[response][i];
        b->scores[b->n_scores++] = (float)score;
        b->scored[i] += !isnan(score) && !w->job->by_user;
    }
    return OK;
}

static enum status add_response(struct worker *w, struct block *b, int i, bool *end_in_text) {
    const struct prepare_job *job = w->job;
    const struct text *response = &w->text->responses[i];
    struct ids *ids = &b->response_ids;
    struct text *trained = prepare_trains_some(job) ? &b->trained : NULL;
    int64_t first = ids->count;
    int32_t end = tokenizer_end(job->tokenizer);
    TRY(encode_response(w, i, ids, job->token_chars ? &b->chars : NULL, trained));
    *end_in_text |= holds(ids->data, first, ids->count, end);
    bool ends = ids->count > first && end >= 0 && ids->data[ids->count - 1] == end;
    ends = ends || (job->end_id < 0 && holds(ids->data, first, ids->count, end)); /* the template's */
    if (job->end_id >= 0 && !ends) {
        TRY(push_id(ids, job->end_id));
        TRY(job->token_chars ? text_append(&b->chars, "", 1) : OK); /* 0: no code points */
        TRY(mark_ids(trained, 1, 1));
        ends = true;
    }
    b->counts[COUNT_WITHOUT_END] += !ends;
    TRY(job->objectives ? add_scores(w, b, i) : OK);
    TRY(GROW_ARRAY(b->responses, b->responses_capacity, b->n_responses + 1));
    b->responses[b->n_responses++] = (struct response_row){
        .end = ids->count,
        .prompt = b->n_prompts - 1,
        .score = (float)w->text->scores[i],
        .worth = (float)w->text->worths[i],
        .desirable = (int8_t)w->text->desirable,
        .length_chars = (int32_t)text_characters(response->data ? response->data : "", response->len),
    };
    return OK;
}

/* Whether the text's ids, after what stands in front of them, are these; *at goes on behind them. */
static bool goes_on(const struct ids *whole, int64_t *at, const int32_t *ids, int64_t n) {
    bool same =
        whole->count - *at >= n && (n == 0 || memcmp(whole->data + *at, ids, (size_t)n * sizeof *ids) == 0);
    *at += n;
    return same;
}

/* Counts whether prompt and response i in one piece have the ids that they have apart. */
static enum status check_boundary(struct worker *w, struct block *b, int i, struct prepare_place place) {
    const struct prompt_row *row = &b->prompts[b->n_prompts - 1];
    int64_t first = b->n_prompts > 1 ? row[-1].end : 0;
    int64_t skipped = w->job->begin_id >= 0; /* ids of the prompt that its text did not give */
    w->together.count = w->apart.count = 0;
    TRY(encode_response(w, i, &w->apart, NULL, NULL));
    TRY(encode_piece(w, 0, w->joined.len, &w->together, NULL));
    int64_t at = skipped && w->together.count > 0 && w->together.data[0] == w->job->begin_id;
    bool same =
        goes_on(&w->together, &at, b->prompt_ids.data + first + skipped, row->end - first - skipped) &&
        goes_on(&w->together, &at, w->apart.data, w->apart.count) && at == w->together.count;
    b->counts[COUNT_CHECKED]++;
    count_first(b, COUNT_BOUNDARY_MOVED, !same, FIRST_MOVED, place);
    return OK;
}

/* records: the record, or those of the post. */
static enum status add_pairs(struct worker *w, struct block *b, const struct record *records,
                             int64_t first_response) {
    const struct record_text *text = w->text;
    for (int i = 0; i < text->n_pairs; i++) {
        TRY(GROW_ARRAY(b->pairs, b->pairs_capacity, b->n_pairs + 1));
        b->pairs[b->n_pairs++] = (struct pair_row){
            .chosen = first_response + text->pairs[i].chosen,
            .rejected = first_response + text->pairs[i].rejected,
            .source = records[text->pairs[i].line].index,
            .margin = (float)text->pairs[i].margin,
            .label = text->pairs[i].labeled ? 1 : 0,
        };
    }
    return OK;
}

static enum status add_text(struct worker *w, struct block *b, const struct record *records) {
    struct prepare_place place = place_in(&records[0]);
    int64_t source = records[0].index;
    int64_t first_response = b->n_responses;
    bool end_in_text = false;
    int64_t specials = encoder_input_specials(w->encoder);
    TRY(add_prompt(w, b, place, &end_in_text));
    for (int i = 0; i < w->text->n_responses; i++) {
        TRY(add_response(w, b, i, &end_in_text));
    }
    specials = encoder_input_specials(w->encoder) - specials;
    count_first(b, COUNT_SPECIALS, specials > 0, FIRST_SPECIALS, place);
    count_first(b, COUNT_UNTRAINED, w->text->n_untrained, FIRST_UNTRAINED, place);
    b->counts[COUNT_BEHIND] += w->text->n_behind;
    b->counts[COUNT_FOUND_PROMPTS] += w->text->found_prompt;
    for (int i = 0; i < w->text->n_responses; i++) {
        TRY(source % w->job->check_stride == 0 ? check_boundary(w, b, i, place) : OK);
    }
    b->counts[COUNT_END_IN_TEXT] += end_in_text;
    if (w->job->objectives) {
        return prepare_judged(w->job, b, w->text, first_response, source, place);
    }
    return add_pairs(w, b, records, first_response);
}

/* A parsed record's rows: as it is, or as texts that say how good an answer is. */
static enum status add_rows(struct worker *w, struct block *b, const struct record *records) {
    const struct hindsight *h = &w->job->hindsight;
    struct record_text *whole = w->text;
    enum status st = OK;
    if (h->kind == HINDSIGHT_NONE) {
        return add_text(w, b, records);
    }
    int n = hindsight_texts(h, whole);
    if (n == 0 && whole->n_ties == 0) {
        prepare_drop(&b->drops, "responses of which none is better", 1, place_in(&records[0]));
    }
    for (int i = 0; i < n && st == OK; i++) {
        if (!hindsight_tells(h, whole, i)) {
            prepare_drop(&b->drops, "texts of two equal answers", 1, place_in(&records[0]));
            continue;
        }
        st = hindsight_make(h, whole, i, records[0].index, w->scratch);
        w->text = w->scratch;
        st = st == OK ? add_text(w, b, records) : st;
        w->text = whole;
    }
    return st;
}

static enum status add_dropped(struct worker *w, struct block *b, const char *where,
                               struct prepare_place place) {
    if (strcmp(w->text->dropped, RECORD_UNWANTED) == 0) { /* the data say so */
        prepare_drop(&b->drops, w->text->dropped, 1, place);
    } else {
        TRY(prepare_empty(w->job, &b->drops, w->text->dropped, where, place));
    }
    if (w->text->detail[0] && b->first[FIRST_REFUSED].line == 0) {
        b->first[FIRST_REFUSED] = place;
        snprintf(b->refusal, sizeof b->refusal, "%s", w->text->detail);
    }
    return OK;
}

/* Fills w->text from the record's JSON; what is of another format, and does not fail in this one, is a drop.
 */
static enum status take_json(struct worker *w, struct block *b, const json_t *json, const char *where) {
    const struct prepare_job *job = w->job;
    enum record_format found = job->format;
    TRY(job->mixed ? record_format_detect(json, where, &found) : OK);
    if (job->refused != TEXTS_NONE && record_texts(job->format, json) == job->refused) {
        w->text->dropped =
            job->refused == TEXTS_STRINGS ? "strings among messages" : "messages among strings";
        return OK;
    }
    TRY(record_parse(job->format, json, where, w->text));
    if (job->objectives && !job->by_user && b->names_seen[0] == '\0') {
        objectives_seen(job->format, json, b->names_seen, sizeof b->names_seen);
    }
    if (!record_formats_join(found, job->format)) {
        w->text->dropped = "of another format than most";
        return OK;
    }
    ignored_count(&b->ignored, job->format, json, job->chat && job->chat->templates);
    return OK;
}

static enum status take_record(struct worker *w, struct block *b, const struct record *r,
                               char where[RECORDS_WHERE]) {
    json_t *json;
    TRY(records_parse_one(w->job->input, r, where, &json));
    enum status st = take_json(w, b, json, where);
    json_decref(json);
    return st;
}

static enum status add_record(struct worker *w, struct block *b, const struct record *r) {
    char where[RECORDS_WHERE];
    record_text_clear(w->text);
    b->counts[COUNT_RECORDS]++;
    enum status st = take_record(w, b, r, where);
    if (st != OK) {
        return prepare_bad(w->job, &b->drops, st, where, place_in(r));
    }
    if (w->text->dropped) {
        return add_dropped(w, b, where, place_in(r));
    }
    if (w->text->n_skipped > 0) {
        prepare_drop(&b->drops, "responses empty or unrated", w->text->n_skipped, place_in(r));
    }
    if (w->job->objectives) {
        objectives_judge(w->text);
    } else if (w->text->n_ties > 0) {
        prepare_drop(&b->drops, "pairs of equal scores", w->text->n_ties, place_in(r));
    }
    st = add_rows(w, b, r);
    return st == OK ? OK : note("tokenizing %s", where);
}

static enum status filter_post(struct worker *w, struct block *b, struct prepare_place place) {
    const struct prepare_job *job = w->job;
    bool too_long[RECORD_RESPONSES_MAX] = {false};
    int64_t specials = (job->begin_id >= 0) + (job->end_id >= 0);
    int64_t long_pairs;
    int64_t more_pairs;
    if (job->max_length > 0) {
        const struct text *prompt = &w->text->prompt;
        w->together.count = 0;
        TRY(tokenizer_encode(w->encoder, prompt->data ? prompt->data : "", prompt->len, &w->together, NULL));
        for (int i = 0; i < w->text->n_responses; i++) {
            w->apart.count = 0;
            TRY(encode_response(w, i, &w->apart, NULL, NULL));
            too_long[i] = w->together.count + w->apart.count + specials > job->max_length;
        }
    }
    shp_keep(w->text, too_long, job->max_pairs, &long_pairs, &more_pairs);
    if (long_pairs > 0) {
        prepare_drop(&b->drops, "pairs longer than prepare.max_length", long_pairs, place);
    }
    if (more_pairs > 0) {
        prepare_drop(&b->drops, "pairs above prepare.max_pairs_per_post", more_pairs, place);
    }
    return OK;
}

static enum status add_to_post(struct worker *w, struct block *b, const struct record *r,
                               char where[RECORDS_WHERE], int line) {
    const struct prepare_job *job = w->job;
    const char *dropped = NULL;
    json_t *json = NULL;
    enum status st = records_parse_one(w->job->input, r, where, &json);
    if (st == OK) {
        const struct shp_record record = {
            .json = json, .where = where, .line = line, .min_ratio = job->min_score_ratio};
        st = shp_add(w->text, &record, w->scratch, &dropped);
        json_decref(json);
    }
    if (st != OK) {
        return prepare_bad(job, &b->drops, st, where, place_in(r));
    }
    if (dropped && w->scratch->dropped) {
        return prepare_empty(job, &b->drops, dropped, where, place_in(r));
    }
    if (dropped) { /* by a filter */
        prepare_drop(&b->drops, dropped, 1, place_in(r));
    }
    return OK;
}

/* A record of a prompt's group; *dropped: why it gives nothing. */
static enum status add_to_prompt(struct worker *w, struct block *b, const struct record *r,
                                 char where[RECORDS_WHERE], const char **dropped) {
    struct record_text *whole = w->text;
    json_t *json = NULL;
    *dropped = NULL;
    enum status st = records_parse_one(w->job->input, r, where, &json);
    if (st == OK) {
        w->text = w->scratch; /* what take_json fills */
        st = take_json(w, b, json, where);
        w->text = whole;
    }
    bool is_first = whole->n_responses == 0;
    st = st == OK ? objectives_add(whole, w->scratch, w->job->by_user ? r->file : -1, dropped) : st;
    if (st == OK && !*dropped && is_first) {
        const char *s;
        size_t n;
        objectives_key(w->job->format, json, w->scratch, &s, &n);
        text_clear(&w->key);
        st = text_append(&w->key, s, n);
    }
    json_decref(json);
    if (st == OK && !*dropped && w->job->by_user) {
        b->scored[r->file]++;
    }
    return st;
}

/* All records of a prompt, as one. */
static enum status add_prompt_group(struct worker *w, struct block *b, const struct record *records,
                                    int64_t n) {
    char where[RECORDS_WHERE];
    record_text_clear(w->text);
    text_clear(&w->text->prompt);
    for (int64_t k = 0; k < n; k++) {
        const char *dropped;
        b->counts[COUNT_RECORDS]++;
        enum status st = add_to_prompt(w, b, &records[k], where, &dropped);
        TRY(st == OK ? OK : prepare_bad(w->job, &b->drops, st, where, place_in(&records[k])));
        if (st == OK && dropped) {
            TRY(prepare_empty(w->job, &b->drops, dropped, where, place_in(&records[k])));
        }
    }
    if (w->text->n_responses == 0) {
        return OK; /* its records are counted where they were dropped */
    }
    if (w->text->n_skipped > 0) {
        prepare_drop(&b->drops, "responses empty or unrated", w->text->n_skipped, place_in(&records[0]));
    }
    if (!w->job->by_user) {
        objectives_judge(w->text);
    }
    TRY(GROW_ARRAY(b->key_ends, b->keys_capacity, b->n_keys + 1));
    TRY(text_append(&b->keys, w->key.data, w->key.len));
    b->key_ends[b->n_keys++] = (int64_t)b->keys.len;
    enum status st = add_rows(w, b, records);
    return st == OK ? OK : note("tokenizing %s", where);
}

/* An SHP post: all its records become one prompt. */
static enum status add_post(struct worker *w, struct block *b, const struct record *records, int64_t n) {
    char where[RECORDS_WHERE];
    shp_begin(w->text);
    for (int64_t k = 0; k < n; k++) {
        b->counts[COUNT_RECORDS]++;
        TRY(add_to_post(w, b, &records[k], where, (int)k));
    }
    TRY(filter_post(w, b, place_in(&records[0])));
    if (w->text->n_pairs == 0) {
        return OK; /* its pairs are counted where they were dropped */
    }
    enum status st = add_rows(w, b, records);
    return st == OK ? OK : note("tokenizing %s", where);
}

enum status prepare_add(struct worker *w, struct block *b, const struct prepare_batch *batch, int64_t i) {
    if (!batch->first) {
        return add_record(w, b, &batch->records[i]);
    }
    const struct record *records = batch->records + batch->first[i];
    int64_t n = batch->first[i + 1] - batch->first[i];
    return w->job->objectives ? add_prompt_group(w, b, records, n) : add_post(w, b, records, n);
}

static enum status worker_fill(struct worker *w) {
    struct record_text **texts[] = {&w->text, &w->scratch};
    for (int i = 0; i < COUNT_OF(texts); i++) {
        TRY(NEW_ARRAY(*texts[i], 1));
        (*texts[i])->chat = w->job->chat;
        (*texts[i])->objectives = w->job->objectives;
    }
    return encoder_open(w->job->tokenizer, &w->encoder);
}

enum status prepare_worker_open(const struct prepare_job *job, struct worker **out) {
    TRY(NEW_ARRAY(*out, 1));
    (*out)->job = job;
    return worker_fill(*out);
}

void prepare_worker_close(struct worker *w) {
    if (!w) {
        return;
    }
    encoder_close(w->encoder);
    if (w->text) {
        record_text_free(w->text);
    }
    if (w->scratch) {
        record_text_free(w->scratch);
    }
    mem_free(w->text);
    mem_free(w->scratch);
    ids_free(&w->together);
    ids_free(&w->apart);
    text_free(&w->joined);
    text_free(&w->key);
    mem_free(w->input.data);
    mem_free(w);
}
