#include <stdio.h>
#include <string.h>

#include "data/prepare_internal.h"
#include "util/mem.h"

static int drop_place(struct prepare_drops *d, const char *reason, int64_t count,
                      struct prepare_place place) {
    int i = 0;
    while (i < d->n && strncmp(d->list[i].reason, reason, sizeof d->list[i].reason - 1) != 0) {
        i++;
    }
    if (i == DATASET_DROP_REASONS) {
        i--;
        reason = "other";
    }
    if (i == d->n || strcmp(reason, "other") == 0) {
        snprintf(d->list[i].reason, sizeof d->list[i].reason, "%s", reason);
        d->n = i + 1 > d->n ? i + 1 : d->n;
    }
    d->list[i].count += count;
    d->list[i].first = d->list[i].first.line == 0 ? place : d->list[i].first;
    return i;
}

void prepare_drop(struct prepare_drops *d, const char *reason, int64_t count, struct prepare_place place) {
    drop_place(d, reason, count, place);
}

static void drop_with(struct prepare_drops *d, const char *reason, const char *detail, int64_t count,
                      struct prepare_place place) {
    int i = drop_place(d, reason, count, place);
    bool first = d->list[i].first.line == place.line && d->list[i].first.file == place.file;
    if (first && d->list[i].count == count) {
        snprintf(d->list[i].detail, sizeof d->list[i].detail, "%.127s", detail);
    }
}

void prepare_drops_merge(struct prepare_drops *to, const struct prepare_drops *d) {
    for (int i = 0; i < d->n; i++) {
        drop_with(to, d->list[i].reason, d->list[i].detail, d->list[i].count, d->list[i].first);
    }
}

enum status prepare_bad(const struct prepare_job *job, struct prepare_drops *d, enum status st,
                        const char *where, struct prepare_place place) {
    if (st != ERR_DATA || job->strict) {
        return st;
    }
    const char *text = status_message()->text;
    size_t n = strlen(where);
    text += strncmp(text, where, n) == 0 && strncmp(text + n, ": ", 2) == 0 ? n + 2 : 0;
    char reason[DATASET_REASON_BYTES];
    size_t end = strcspn(text, ":;(");
    const char *rest = text + end + strspn(text + end, ":; ");
    rest = end < sizeof reason ? rest : text;
    end = end < sizeof reason ? end : sizeof reason - 1;
    while (end > 0 && text[end - 1] == ' ') {
        end--;
    }
    snprintf(reason, sizeof reason, "%.*s", (int)end, text);
    drop_with(d, reason, rest, 1, place);
    status_clear();
    return OK;
}

enum status prepare_empty(const struct prepare_job *job, struct prepare_drops *d, const char *reason,
                          const char *where, struct prepare_place place) {
    if (job->strict) {
        return fail(ERR_DATA, "%s: %s", where, reason);
    }
    prepare_drop(d, reason, 1, place);
    return OK;
}

void prepare_block_free(struct block *b) {
    ids_free(&b->prompt_ids);
    ids_free(&b->response_ids);
    text_free(&b->chars);
    text_free(&b->trained);
    subsets_free(&b->subsets);
    mem_free(b->prompts);
    mem_free(b->responses);
    mem_free(b->pairs);
    mem_free(b->scores);
    mem_free(b->judged);
    mem_free(b->key_ends);
    text_free(&b->keys);
}

bool prepare_trains_some(const struct prepare_job *job) {
    return job->hindsight.kind == HINDSIGHT_CHAIN || job->hindsight.kind == HINDSIGHT_QUESTIONS ||
           (job->chat && job->chat->all_turns &&
            (job->format == FORMAT_PROMPT_COMPLETION || job->format == FORMAT_UNPAIRED));
}

bool prepare_labels(const struct prepare_job *job) {
    return job->format == FORMAT_UNPAIRED && job->hindsight.kind == HINDSIGHT_NONE;
}

/* A block's rows as a part of a file of their own. */
static enum status new_part(const struct prepare_job *job, const struct block *b, struct dataset_part *p) {
    p->n_prompts = b->n_prompts;
    p->n_responses = b->n_responses;
    p->n_pairs = b->n_pairs;
    p->prompt_tokens = b->prompt_ids.data;
    p->response_tokens = b->response_ids.data;
    p->response_scores = b->scores;
    p->response_token_chars = (uint8_t *)b->chars.data;
    p->response_trained = (uint8_t *)b->trained.data;
    TRY(NEW_ARRAY(p->prompt_offsets, b->n_prompts + 1));
    TRY(NEW_ARRAY(p->prompt_subset, b->n_prompts));
    TRY(NEW_ARRAY(p->response_offsets, b->n_responses + 1));
    TRY(NEW_ARRAY(p->response_prompt, b->n_responses));
    TRY(NEW_ARRAY(p->response_score, b->n_responses));
    TRY(NEW_ARRAY(p->response_worth, b->n_responses));
    TRY(NEW_ARRAY(p->response_length_chars, b->n_responses));
    TRY(prepare_labels(job) ? NEW_ARRAY(p->response_desirable, b->n_responses) : OK);
    TRY(NEW_ARRAY(p->chosen, b->n_pairs));
    TRY(NEW_ARRAY(p->rejected, b->n_pairs));
    TRY(NEW_ARRAY(p->pair_source, b->n_pairs));
    TRY(NEW_ARRAY(p->margin, b->n_pairs));
    return NEW_ARRAY(p->label, b->n_pairs);
}

/* What is the block's stays with it. */
static void free_part(struct dataset_part *p) {
    void *arrays[] = {p->prompt_offsets, p->prompt_subset,  p->response_offsets,      p->response_prompt,
                      p->response_score, p->response_worth, p->response_length_chars, p->response_desirable,
                      p->chosen,         p->rejected,       p->pair_source,           p->margin,
                      p->label};
    for (int i = 0; i < COUNT_OF(arrays); i++) {
        mem_free(arrays[i]);
    }
}

static void fill_part(const struct block *b, struct dataset_part *p) {
    for (int64_t i = 0; i < b->n_prompts; i++) {
        p->prompt_offsets[i + 1] = b->prompts[i].end;
        p->prompt_subset[i] = b->prompts[i].subset;
    }
    for (int64_t i = 0; i < b->n_responses; i++) {
        const struct response_row *row = &b->responses[i];
        p->response_offsets[i + 1] = row->end;
        p->response_prompt[i] = row->prompt;
        p->response_score[i] = row->score;
        p->response_worth[i] = row->worth;
        p->response_length_chars[i] = row->length_chars;
        if (p->response_desirable) {
            p->response_desirable[i] = row->desirable;
        }
    }
    for (int64_t i = 0; i < b->n_pairs; i++) {
        p->chosen[i] = b->pairs[i].chosen;
        p->rejected[i] = b->pairs[i].rejected;
        p->pair_source[i] = b->pairs[i].source;
        p->margin[i] = b->pairs[i].margin;
        p->label[i] = b->pairs[i].label;
    }
}

static int64_t span(const int64_t *offsets, int64_t i) {
    return offsets[i + 1] - offsets[i];
}

static void count_lengths(const struct block *b, const struct dataset_part *p, struct prepared *out) {
    for (int64_t i = 0; i < p->n_prompts; i++) {
        lengths_add(&out->lengths[LENGTH_PROMPT], span(p->prompt_offsets, i));
    }
    for (int64_t i = 0; i < p->n_responses; i++) {
        int64_t response = span(p->response_offsets, i);
        int64_t both = response + span(p->prompt_offsets, p->response_prompt[i]);
        lengths_add(&out->lengths[LENGTH_RESPONSE], response);
        lengths_add(&out->lengths[LENGTH_BOTH], both);
        if (both > out->longest) {
            out->longest = both;
            out->longest_place = b->prompts[p->response_prompt[i]].place;
        }
    }
}

static void count_pairs(const struct dataset_part *p, struct prepared *out) {
    for (int64_t i = 0; i < p->n_pairs; i++) {
        int64_t chosen = p->chosen[i], rejected = p->rejected[i], n = span(p->response_offsets, chosen);
        out->alike += n == span(p->response_offsets, rejected) &&
                      (n == 0 || memcmp(p->response_tokens + p->response_offsets[chosen],
                                        p->response_tokens + p->response_offsets[rejected],
                                        (size_t)n * sizeof *p->response_tokens) == 0);
        out->against += p->label[i] && p->response_score[chosen] < p->response_score[rejected]; /* NaN: no */
        out->level += p->label[i] && p->response_score[chosen] == p->response_score[rejected];
    }
}

static void count_block(const struct block *b, struct prepared *out) {
    if (out->first[FIRST_REFUSED].line == 0) {
        memcpy(out->refusal, b->refusal, sizeof out->refusal);
    }
    for (int i = 0; i < PREPARE_FIRSTS; i++) {
        out->first[i] = out->first[i].line == 0 ? b->first[i] : out->first[i];
    }
    for (int i = 0; i < PREPARE_COUNTS; i++) {
        out->counts[i] += b->counts[i];
    }
    if (b->file >= 0) {
        out->file_records[b->file] += b->n_records;
        out->file_prompts[b->file] += b->n_prompts;
    }
    ignored_merge(&out->ignored, &b->ignored);
    prepare_drops_merge(&out->drops, &b->drops);
}

/* Before the rows: what was judged counts from those that are there. */
static enum status join_judged(const struct block *b, struct prepared *out) {
    const struct dataset_rows *rows = &out->rows;
    TRY(GROW_ARRAY(out->judged, out->judged_capacity, out->n_judged + b->n_judged));
    for (int64_t i = 0; i < b->n_judged; i++) {
        struct judged_pair *pair = &out->judged[out->n_judged++];
        *pair = b->judged[i];
        pair->prompt = rows->n_prompts + b->responses[pair->a].prompt;
        pair->a += rows->n_responses;
        pair->b += rows->n_responses;
    }
    TRY(GROW_ARRAY(out->key_ends, out->keys_capacity, out->n_keys + b->n_keys));
    for (int64_t i = 0; i < b->n_keys; i++) {
        out->key_ends[out->n_keys++] = (int64_t)out->keys.len + b->key_ends[i];
    }
    for (int i = 0; i < RECORD_OBJECTIVES_MAX; i++) {
        out->scored[i] += b->scored[i];
    }
    if (out->names_seen[0] == '\0') {
        memcpy(out->names_seen, b->names_seen, sizeof out->names_seen);
    }
    return b->keys.len > 0 ? text_append(&out->keys, b->keys.data, b->keys.len) : OK;
}

static enum status join_rows(const struct prepare_job *job, const struct block *b, struct dataset_part *p,
                             struct prepared *out) {
    TRY(new_part(job, b, p));
    fill_part(b, p);
    count_lengths(b, p, out);
    count_pairs(p, out);
    TRY(subsets_merge(&out->subsets, &b->subsets, p->prompt_subset, p->n_prompts));
    return dataset_rows_append(&out->rows, p);
}

enum status prepare_join(const struct prepare_job *job, struct block *b, struct prepared *out) {
    struct dataset_part part = {0};
    if (job->token_chars && (int64_t)b->chars.len != b->response_ids.count) {
        return fail(ERR_INTERNAL, "the tokenizer counts characters of %zu tokens, but gave %lld",
                    b->chars.len, (long long)b->response_ids.count);
    }
    count_block(b, out);
    TRY(job->objectives ? join_judged(b, out) : OK);
    enum status st = join_rows(job, b, &part, out);
    free_part(&part);
    return st;
}
