#include "data/show_row.h"

#include <string.h>

#include "util/mem.h"

const uint8_t SHOW_ALL_TRAINED[1] = {1};

static const char INDENT[] = "    ";

static bool is_trained(const uint8_t *trained, int64_t i) {
    return trained && (trained == SHOW_ALL_TRAINED || trained[i]);
}

/* A special token is what has text only where special tokens are not left out. */
static enum status is_special(const struct tokenizer *t, int32_t id, struct text *scratch, bool *out) {
    text_clear(scratch);
    TRY(tokenizer_decode(t, &id, 1, true, scratch));
    bool shown = scratch->len > 0;
    TRY(tokenizer_decode(t, &id, 1, false, scratch));
    *out = !shown && scratch->len > 0;
    return OK;
}

/* Bytes with newlines visible and the lines indented. */
static enum status put_lines(const struct text *text, struct text *out) {
    for (size_t i = 0; i < text->len; i++) {
        if (text->data[i] == '\n') {
            TRY(text_puts(out, "↵\n"));
            TRY(text_puts(out, INDENT));
        } else {
            TRY(text_append(out, text->data + i, 1));
        }
    }
    return OK;
}

/* Ids [*at, …) that are alike, as text; *at moves behind them. */
static enum status put_run(const struct tokenizer *t, const int32_t *ids, int64_t n, const uint8_t *trained,
                           int64_t *at, struct text *scratch, struct text *out) {
    int64_t end = *at;
    bool special;
    TRY(is_special(t, ids[end], scratch, &special));
    bool next = special;
    while (!special && end < n && !next && is_trained(trained, end) == is_trained(trained, *at)) {
        end++;
        TRY(end < n ? is_special(t, ids[end], scratch, &next) : OK);
    }
    end += special;
    text_clear(scratch);
    TRY(tokenizer_decode_after(t, ids + *at, end - *at, false, scratch));
    TRY(special ? text_puts(out, "‹") : OK);
    TRY(put_lines(scratch, out));
    TRY(special ? text_puts(out, "›") : OK);
    *at = end;
    return OK;
}

static enum status put_ids(const struct tokenizer *t, const int32_t *ids, int64_t n, const uint8_t *trained,
                           struct text *out) {
    struct text scratch = {0};
    enum status st = text_puts(out, INDENT);
    bool open = false;
    for (int64_t i = 0; i < n && st == OK;) {
        if (is_trained(trained, i) != open) {
            open = !open;
            TRY_TO(done, text_puts(out, open ? "⟦" : "⟧"));
        }
        st = put_run(t, ids, n, trained, &i, &scratch, out);
    }
    st = st == OK && open ? text_puts(out, "⟧") : st;
done:
    text_free(&scratch);
    return st;
}

enum status show_ids(const struct tokenizer *t, const char *name, const int32_t *ids, int64_t n,
                     const uint8_t *trained, struct text *out) {
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++) {
        count += is_trained(trained, i);
    }
    TRY(text_printf(out, "  %s, %lld tokens", name, (long long)n));
    TRY(trained ? text_printf(out, ", %lld trained", (long long)count) : OK);
    TRY(text_puts(out, ":\n"));
    TRY(put_ids(t, ids, n, trained, out));
    return text_puts(out, "\n");
}

static enum status show_prompt(struct dataset *d, const struct tokenizer *t, int64_t prompt,
                               struct text *out) {
    int64_t count;
    int32_t *ids;
    TRY(dataset_prompt_ids(d, prompt, &ids, &count));
    enum status st = show_ids(t, "prompt", ids, count, NULL, out);
    mem_free(ids);
    return st;
}

static enum status show_response(struct dataset *d, const struct tokenizer *t, const char *name, int64_t id,
                                 struct text *out) {
    struct response r;
    int32_t *ids = NULL;
    uint8_t *trained = NULL;
    enum status st;
    TRY(dataset_response(d, id, &r));
    TRY_TO(done, NEW_ARRAY(ids, r.count));
    TRY_TO(done, NEW_ARRAY(trained, r.count));
    TRY_TO(done, dataset_response_tokens(d, r.first, r.count, ids));
    TRY_TO(done, dataset_response_trained(d, r.first, r.count, trained));
    st = show_ids(t, name, ids, r.count, trained, out);
done:
    mem_free(ids);
    mem_free(trained);
    return st;
}

static enum status show_pair(struct dataset *d, const struct tokenizer *t, int64_t row, struct text *out) {
    struct pair pair;
    struct response chosen;
    TRY(dataset_pair(d, row, &pair));
    TRY(dataset_response(d, pair.chosen, &chosen));
    TRY(show_prompt(d, t, chosen.prompt, out));
    TRY(show_response(d, t, pair.label ? "chosen" : "response", pair.chosen, out));
    return show_response(d, t, pair.label ? "rejected" : "response", pair.rejected, out);
}

enum status show_row(struct dataset *d, const struct tokenizer *t, int64_t row, struct text *out) {
    int64_t first;
    int64_t count;
    TRY(text_printf(out, "row %lld\n", (long long)row));
    if (dataset_size(d).pairs > 0) {
        return show_pair(d, t, row, out);
    }
    TRY(dataset_prompt_responses(d, row, &first, &count));
    TRY(show_prompt(d, t, row, out));
    for (int64_t id = first; id < first + count; id++) {
        TRY(show_response(d, t, "response", id, out));
    }
    return OK;
}
