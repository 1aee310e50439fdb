#include "data/rows.h"

#include <math.h>

#include "mpi/watchdog.h"
#include "util/log.h"

enum { SCAN_ROWS = 256 };

enum status rows_check_vocabulary(const struct rows *r, int64_t n) {
    if (r->largest_id >= n) {
        return fail(ERR_DATA,
                    "%s: holds token id %lld, the model's vocabulary is %lld; prepare the data with the "
                    "model's tokenizer",
                    dataset_path(r->data), (long long)r->largest_id, (long long)n);
    }
    return OK;
}

void rows_close(struct rows *r) {
    if (r->reference) {
        sidecar_close(r->reference);
    }
    if (r->view) {
        view_close(r->view);
    }
    if (r->data) {
        dataset_close(r->data);
    }
    lengths_close(&r->lengths);
    *r = (struct rows){0};
}

enum status rows_kind(struct comm *c, const char *path, enum row_kind other, enum row_kind *out) {
    struct dataset *data;
    TRY(dataset_open(c, path, &data));
    *out = dataset_size(data).pairs > 0 ? ROWS_PAIRS : other;
    dataset_close(data);
    return OK;
}

static int64_t larger_id(int64_t largest, const int32_t *tokens, int32_t n) {
    for (int32_t i = 0; i < n; i++) {
        largest = tokens[i] > largest ? tokens[i] : largest;
    }
    return largest;
}

static void add_path(const struct sample *s, int response, struct rows *r) {
    int64_t tokens = (int64_t)s->prompt_count + s->responses[response].count;
    if (tokens > r->longest_path) {
        r->longest_path = tokens;
        r->longest_at = s->row;
    }
}

static bool is_ordered(const struct sample *s) {
    int scores = 0;
    for (int i = 0; i < s->n_responses; i++) {
        scores += !isnan(s->responses[i].score);
    }
    return scores > 1 || (s->n_pairs > 0 && s->pairs[0].label);
}

/* Responses to a bare row that are still to be drawn, as long as they may get. */
static int64_t add_drawn(const struct sample *s, const struct rows_request *q, struct rows *r) {
    int64_t prompt = s->prompt_count > 0 ? s->prompt_count : 1, most = q->truncation.max_response;
    if (prompt + most > r->longest_path) {
        r->longest_path = prompt + most;
        r->longest_at = s->row;
    }
    r->scored += q->drawn * most;
    r->attention_pairs += (double)(q->drawn * most) * ((double)prompt + (double)(most + 1) / 2);
    return q->drawn * most + (prompt - s->prompt_count) + (q->apart ? (q->drawn - 1) * prompt : 0);
}

/* This rank's part of the look at all rows. */
static enum status scan_part(struct range part, const struct rows_request *q, struct rows *r) {
    r->largest_id = -1;
    for (int64_t first = part.first; first < part.last; first += SCAN_ROWS) {
        struct range block = range_block(part, first, SCAN_ROWS);
        struct sample *samples = NULL;
        TRY(view_read_range(r->view, block, &samples, &r->counts));
        for (int64_t i = 0; i < block.last - block.first; i++) {
            int64_t tokens = sample_tokens(&samples[i]);
            int64_t scored = 0;
            tokens += q->drawn > 0 ? add_drawn(&samples[i], q, r) : 0;
            r->largest_id = larger_id(r->largest_id, samples[i].prompt, samples[i].prompt_count);
            for (int j = 0; j < samples[i].n_responses; j++) {
                const struct sample_response *response = &samples[i].responses[j];
                scored += sample_scored(&samples[i], j);
                r->largest_id = larger_id(r->largest_id, response->tokens, response->count);
                add_path(&samples[i], j, r);
            }
            r->tokens += tokens;
            r->scored += scored;
            r->ordered += is_ordered(&samples[i]);
            r->longest = tokens > r->longest ? tokens : r->longest;
            lengths_add(&r->lengths, tokens);
            r->attention_pairs += sample_attention_pairs(&samples[i]);
        }
        samples_free(samples);
    }
    return OK;
}

static enum status scan(struct comm *c, const struct rows_request *request, struct rows *r) {
    TRY(comm_agree(c, lengths_open(&r->lengths, "row")));
    TRY(comm_agree(c, scan_part(range_part(r->n, c->rank, c->size), request, r)));
    TRY(comm_sum_i64(c, &r->ordered, 1));
    int64_t sums[] = {r->tokens,
                      r->scored,
                      r->counts.rows,
                      r->counts.prompts_cut,
                      r->counts.responses_cut,
                      r->counts.without_end,
                      r->counts.empty_dropped,
                      r->counts.pairs,
                      r->counts.margins,
                      r->counts.alike,
                      r->counts.alike_cut,
                      r->counts.against,
                      r->counts.level};
    TRY(comm_sum_i64(c, sums, COUNT_OF(sums)));
    r->tokens = sums[0];
    r->scored = sums[1];
    r->counts = (struct cut_counts){sums[2], sums[3], sums[4],  sums[5],  sums[6], sums[7],
                                    sums[8], sums[9], sums[10], sums[11], sums[12]};
    TRY(comm_sum_f64(c, &r->attention_pairs, 1));
    TRY(comm_max_i64(c, &r->largest_id, 1));
    int64_t mine = r->longest_path;
    TRY(comm_max_i64(c, &r->longest_path, 1));
    r->longest_at = mine == r->longest_path ? r->longest_at : INT64_MAX;
    TRY(comm_min_i64(c, &r->longest_at, 1));
    TRY(comm_max_i64(c, &r->longest, 1));
    return lengths_reduce(c, &r->lengths);
}

int64_t rows_forest_tokens(const struct rows *r, int64_t n, int64_t micro_tokens) {
    int64_t all = lengths_top(&r->lengths, n);
    int64_t most = all < micro_tokens ? all : micro_tokens;
    return r->longest > most ? r->longest : most;
}

static void report(const struct rows *r, const struct rows_request *request) {
    struct dataset_size size = dataset_size(r->data);
    const char *key = request->key;
    const struct cut_counts *c = &r->counts;
    if (request->split != SPLIT_ALL) {
        log_root(LOG_INFO, "%s %s: split %s", key, dataset_path(r->data), data_split_name(request->split));
    }
    log_root(LOG_INFO, "%s %s: %lld rows, %lld tokens (prompts once), %lld scored, longest row %lld", key,
             dataset_path(r->data), (long long)r->n, (long long)r->tokens, (long long)r->scored,
             (long long)r->longest);
    bool examples = request->kind == ROWS_CHOSEN || request->kind == ROWS_PREFERRED;
    if (examples && size.has_desirable) {
        long long desirable = view_rows(r->view) + view_left_out(r->view);
        log_root(LOG_INFO, "%s: %lld of %lld responses are desirable; the others are left out", key,
                 desirable, (long long)size.responses);
    }
    if (view_unlabeled(r->view) > 0) {
        log_root(LOG_WARN, "%s: %lld of %lld pairs have no label and are left out", key,
                 (long long)view_unlabeled(r->view), (long long)dataset_size(r->data).pairs);
    }
    if (view_is_of_prompts(r->view) && r->ordered < r->n) {
        log_root(LOG_WARN, "%s: %lld of %lld prompts have neither a labeled pair nor two scores", key,
                 (long long)(r->n - r->ordered), (long long)r->n);
    }
    if (c->margins > 0) {
        log_root(LOG_INFO, "%s: %lld of %lld pairs have a margin", key, (long long)c->margins,
                 (long long)c->pairs);
    }
    if (c->alike > 0) {
        log_root(LOG_WARN,
                 "%s: %lld of %lld pairs have the same tokens on both sides (%lld of them cut): they teach "
                 "nothing",
                 key, (long long)c->alike, (long long)c->pairs, (long long)c->alike_cut);
    }
    if (c->against > 0 || c->level > 0) {
        log_root(LOG_WARN,
                 "%s: of %lld pairs %lld have the higher score on the rejected side, %lld the same on both: "
                 "labels "
                 "count, not scores",
                 key, (long long)c->pairs, (long long)c->against, (long long)c->level);
    }
    if (c->prompts_cut || c->responses_cut || c->without_end || c->empty_dropped) {
        log_root(LOG_INFO,
                 "%s: %lld prompts cut, %lld responses cut, %lld responses without an end token, %lld empty",
                 key, (long long)c->prompts_cut, (long long)c->responses_cut, (long long)c->without_end,
                 (long long)c->empty_dropped);
    }
}

enum status rows_open(struct comm *c, const struct rows_request *request, struct rows *out) {
    TRY(dataset_open_split(c, request->path, request->split, &out->data));
    TRY(dataset_verify_once(c, out->data, request->trust, request->seen));
    watchdog_phase(c->watchdog, "looking through %s", request->path);
    TRY(comm_agree(c, view_open(out->data, request->kind, &request->truncation, &out->view)));
    if (request->mismatch > 0) {
        view_mismatch(out->view, request->mismatch);
    }
    out->n = view_rows(out->view);
    if (request->limit > 0 && request->limit < out->n) {
        out->n = request->limit;
    }
    int64_t left_out = view_left_out(out->view);
    int64_t in_file = left_out + view_rows(out->view);
    if (left_out > 0) {
        log_root(LOG_WARN, "%s: %lld of %lld rows are left out: %s truncate.max_length=%d", request->key,
                 (long long)left_out, (long long)in_file,
                 request->truncation.how == LENGTH_DROPS_ROW ? "prompt and response have more tokens than"
                                                             : "the prompt alone fills",
                 (int)request->truncation.max_length);
    }
    if (out->n == 0) {
        return fail(ERR_DATA, "%s: no rows of the kind that %s needs", request->path, request->user);
    }
    TRY(scan(c, request, out));
    if (view_is_of_prompts(out->view) && out->ordered == 0) {
        return fail(ERR_DATA,
                    "%s: its prompts have neither labeled pairs nor scores, and one of them is needed here",
                    request->path);
    }
    TRY(request->vocabulary > 0 ? rows_check_vocabulary(out, request->vocabulary) : OK);
    report(out, request);
    return OK;
}
