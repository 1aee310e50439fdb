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

/* Lays the blocks end to end. */
struct totals {
    int64_t prompts, responses, pairs, prompt_ids, response_ids, judged;
};

static enum status new_part(struct prepared *out, const struct totals *t, const struct prepare_job *job) {
    struct dataset_part *p = &out->part;
    TRY(NEW_ARRAY(p->prompt_tokens, t->prompt_ids));
    TRY(NEW_ARRAY(p->prompt_offsets, t->prompts + 1));
    TRY(NEW_ARRAY(p->prompt_subset, t->prompts));
    TRY(NEW_ARRAY(p->response_tokens, t->response_ids));
    TRY(NEW_ARRAY(p->response_offsets, t->responses + 1));
    TRY(job->token_chars ? NEW_ARRAY(p->response_token_chars, t->response_ids) : OK);
    TRY(prepare_trains_some(job) ? NEW_ARRAY(p->response_trained, t->response_ids) : OK);
    TRY(NEW_ARRAY(p->response_prompt, t->responses));
    TRY(NEW_ARRAY(p->response_score, t->responses));
    TRY(NEW_ARRAY(p->response_worth, t->responses));
    TRY(job->objectives ? NEW_ARRAY(p->response_scores, t->responses * job->objectives->n) : OK);
    TRY(NEW_ARRAY(p->response_length_chars, t->responses));
    TRY(prepare_labels(job) ? NEW_ARRAY(p->response_desirable, t->responses) : OK);
    TRY(NEW_ARRAY(p->chosen, t->pairs));
    TRY(NEW_ARRAY(p->rejected, t->pairs));
    TRY(NEW_ARRAY(p->pair_source, t->pairs));
    TRY(NEW_ARRAY(p->margin, t->pairs));
    TRY(NEW_ARRAY(p->label, t->pairs));
    TRY(NEW_ARRAY(out->judged, t->judged));
    TRY(NEW_ARRAY(out->key_ends, t->prompts));
    return NEW_ARRAY(out->prompt_record, t->prompts);
}

static void append_rows(struct prepared *out, const struct block *b, const struct totals *base) {
    struct dataset_part *p = &out->part;
    for (int64_t i = 0; i < b->n_prompts; i++) {
        p->prompt_offsets[base->prompts + i + 1] = base->prompt_ids + b->prompts[i].end;
        p->prompt_subset[base->prompts + i] = b->prompts[i].subset;
        out->prompt_record[base->prompts + i] = b->prompts[i].record;
    }
    for (int64_t i = 0; i < b->n_responses; i++) {
        int64_t at = base->responses + i;
        p->response_offsets[at + 1] = base->response_ids + b->responses[i].end;
        p->response_prompt[at] = base->prompts + b->responses[i].prompt;
        p->response_score[at] = b->responses[i].score;
        p->response_worth[at] = b->responses[i].worth;
        p->response_length_chars[at] = b->responses[i].length_chars;
        if (p->response_desirable) {
            p->response_desirable[at] = b->responses[i].desirable;
        }
    }
    for (int64_t i = 0; i < b->n_pairs; i++) {
        int64_t at = base->pairs + i;
        p->chosen[at] = base->responses + b->pairs[i].chosen;
        p->rejected[at] = base->responses + b->pairs[i].rejected;
        p->pair_source[at] = b->pairs[i].source;
        p->margin[at] = b->pairs[i].margin;
        p->label[at] = b->pairs[i].label;
    }
}

static void copy_ids(int32_t *to, const struct ids *from) {
    if (from->count > 0) {
        memcpy(to, from->data, (size_t)from->count * sizeof *to);
    }
}

static void take_firsts(struct prepared *out, const struct block *b) {
    if (out->first[FIRST_REFUSED] == 0) {
        memcpy(out->refusal, b->refusal, sizeof out->refusal);
    }
    for (int i = 0; i < PREPARE_FIRSTS; i++) {
        out->first[i] = out->first[i] == 0 ? b->first[i] : out->first[i];
    }
    ignored_merge(&out->ignored, &b->ignored);
}

static enum status append_judged(struct prepared *out, const struct block *b, const struct totals *base) {
    int64_t objectives = b->n_responses > 0 ? b->n_scores / b->n_responses : 0;
    if (b->n_scores > 0) {
        memcpy(out->part.response_scores + base->responses * objectives, b->scores,
               (size_t)b->n_scores * sizeof *b->scores);
    }
    for (int64_t i = 0; i < b->n_judged; i++) {
        struct judged_pair *pair = &out->judged[base->judged + i];
        *pair = b->judged[i];
        pair->a += base->responses;
        pair->b += base->responses;
    }
    for (int64_t i = 0; i < b->n_keys; i++) {
        out->key_ends[base->prompts + i] = (int64_t)out->keys.len + b->key_ends[i];
    }
    for (int i = 0; i < RECORD_OBJECTIVES_MAX; i++) {
        out->scored[i] += b->scored[i];
    }
    if (out->names_seen[0] == '\0') {
        memcpy(out->names_seen, b->names_seen, sizeof out->names_seen);
    }
    return b->keys.len > 0 ? text_append(&out->keys, b->keys.data, b->keys.len) : OK;
}

/* Takes over what a block holds and frees it. */
static enum status append_block(struct prepared *out, struct block *b, struct totals *base) {
    struct dataset_part *p = &out->part;
    take_firsts(out, b);
    copy_ids(p->prompt_tokens + base->prompt_ids, &b->prompt_ids);
    copy_ids(p->response_tokens + base->response_ids, &b->response_ids);
    if (p->response_token_chars && b->chars.len > 0) {
        memcpy(p->response_token_chars + base->response_ids, b->chars.data, b->chars.len);
    }
    if (p->response_trained && b->trained.len > 0) {
        memcpy(p->response_trained + base->response_ids, b->trained.data, b->trained.len);
    }
    append_rows(out, b, base);
    TRY(append_judged(out, b, base));
    TRY(subsets_merge(&out->subsets, &b->subsets, p->prompt_subset + base->prompts, b->n_prompts));
    base->prompts += b->n_prompts;
    base->responses += b->n_responses;
    base->pairs += b->n_pairs;
    base->judged += b->n_judged;
    base->prompt_ids += b->prompt_ids.count;
    base->response_ids += b->response_ids.count;
    for (int i = 0; i < PREPARE_COUNTS; i++) {
        out->counts[i] += b->counts[i];
    }
    prepare_drops_merge(&out->drops, &b->drops);
    prepare_block_free(b);
    *b = (struct block){0};
    return OK;
}

enum status prepare_join(const struct prepare_job *job, struct block *blocks, int n_blocks,
                         struct prepared *out) {
    struct totals total = {0};
    for (int i = 0; i < n_blocks; i++) {
        const struct block *b = &blocks[i];
        if (b->st != OK) {
            status_set(&b->message);
            return b->st;
        }
        if (job->token_chars && (int64_t)b->chars.len != b->response_ids.count) {
            return fail(ERR_INTERNAL, "the tokenizer counts characters of %zu tokens, but gave %lld",
                        b->chars.len, (long long)b->response_ids.count);
        }
        total.prompts += b->n_prompts;
        total.responses += b->n_responses;
        total.pairs += b->n_pairs;
        total.judged += b->n_judged;
        total.prompt_ids += b->prompt_ids.count;
        total.response_ids += b->response_ids.count;
    }
    TRY(new_part(out, &total, job));
    struct totals base = {0};
    for (int i = 0; i < n_blocks; i++) {
        TRY(append_block(out, &blocks[i], &base));
    }
    out->part.n_prompts = total.prompts;
    out->part.n_responses = total.responses;
    out->part.n_pairs = total.pairs;
    out->n_judged = total.judged;
    return OK;
}

void prepared_free(struct prepared *p) {
    struct dataset_part *d = &p->part;
    void *arrays[] = {d->response_trained,
                      d->response_desirable,
                      d->prompt_tokens,
                      d->prompt_offsets,
                      d->prompt_subset,
                      d->response_tokens,
                      d->response_offsets,
                      d->response_token_chars,
                      d->response_prompt,
                      d->response_score,
                      d->response_worth,
                      d->response_length_chars,
                      d->chosen,
                      d->rejected,
                      d->pair_source,
                      d->margin,
                      d->label,
                      d->response_scores,
                      p->judged,
                      p->key_ends,
                      p->prompt_record};
    for (int i = 0; i < COUNT_OF(arrays); i++) {
        mem_free(arrays[i]);
    }
    subsets_free(&p->subsets);
    text_free(&p->keys);
    *p = (struct prepared){0};
}
