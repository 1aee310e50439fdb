#include "text/shp.h"

#include <math.h>
#include <string.h>

#include "util/hash.h"

enum status shp_post_key(const json_t *record, const char *where, uint64_t *out) {
    const json_t *id = json_object_get(record, "post_id");
    const json_t *text = json_is_string(id) ? id : json_object_get(record, "history");
    if (!json_is_string(text)) {
        return fail(ERR_DATA, "%s: \"history\" must be a string", where);
    }
    *out = hash_bytes(json_string_value(text), json_string_length(text), 0);
    return OK;
}

void shp_begin(struct record_text *post) {
    record_text_clear(post);
}

static bool same_text(const struct text *a, const struct text *b) {
    return a->len == b->len && (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}

/* The given ratio, else that of the scores; NaN where there are none. Scores below 1 have no ratio: any
 * positive one is infinitely better. */
static enum status score_ratio(const struct shp_record *record, const struct record_text *one, double *out) {
    double low = fmin(one->scores[0], one->scores[1]);
    double high = fmax(one->scores[0], one->scores[1]);
    *out = NAN;
    TRY(json_take_number(record->json, "score_ratio", record->where, out));
    if (isnan(*out) && !isnan(one->scores[0]) && !isnan(one->scores[1])) {
        *out = low > 0 ? high / low : high > low ? INFINITY : 1;
    }
    return OK;
}

/* The response with this text, added where it is new; -1 where there is no room. */
static enum status find_response(struct record_text *post, const struct text *text, double score, int *out) {
    for (int i = 0; i < post->n_responses; i++) {
        if (same_text(&post->responses[i], text)) {
            post->scores[i] = isnan(post->scores[i]) ? score : post->scores[i];
            *out = i;
            return OK;
        }
    }
    *out = -1;
    if (post->n_responses == RECORD_RESPONSES_MAX) {
        return OK;
    }
    *out = post->n_responses;
    text_clear(&post->responses[*out]);
    TRY(text_append(&post->responses[*out], text->data, text->len));
    post->scores[post->n_responses++] = score;
    return OK;
}

static bool has_pair(const struct record_text *post, int a, int b) {
    for (int i = 0; i < post->n_pairs; i++) {
        int chosen = post->pairs[i].chosen;
        int rejected = post->pairs[i].rejected;
        if ((chosen == a && rejected == b) || (chosen == b && rejected == a)) {
            return true;
        }
    }
    return false;
}

static const char *why_dropped(const struct record_text *post, const struct record_text *one, double ratio,
                               double min_ratio) {
    if (one->dropped) {
        return one->dropped;
    }
    if (one->n_pairs == 0) {
        return "equal scores";
    }
    if (ratio < min_ratio) {
        return "score ratio below prepare.min_score_ratio";
    }
    if (post->prompt.len > 0 && !same_text(&post->prompt, &one->prompt)) {
        return "history differs within a post";
    }
    return same_text(&one->responses[0], &one->responses[1]) ? "two equal responses" : NULL;
}

enum status shp_add(struct record_text *post, const struct shp_record *record, struct record_text *scratch,
                    const char **dropped) {
    double ratio = NAN;
    int at[2];
    TRY(record_parse(FORMAT_SHP, record->json, record->where, scratch));
    if (!scratch->dropped) {
        TRY(score_ratio(record, scratch, &ratio));
    }
    *dropped = why_dropped(post, scratch, ratio, record->min_ratio);
    if (*dropped) {
        return OK;
    }
    if (post->prompt.len == 0) {
        TRY(text_append(&post->prompt, scratch->prompt.data, scratch->prompt.len));
    }
    if (post->n_responses > RECORD_RESPONSES_MAX - 2) {
        *dropped = "too many responses to a post";
        return OK;
    }
    for (int i = 0; i < 2; i++) {
        TRY(find_response(post, &scratch->responses[i], scratch->scores[i], &at[i]));
    }
    int chosen = at[scratch->pairs[0].chosen];
    int rejected = at[scratch->pairs[0].rejected];
    if (has_pair(post, chosen, rejected)) {
        *dropped = "pair repeated within a post";
        return OK;
    }
    post->pairs[post->n_pairs] = scratch->pairs[0];
    post->pairs[post->n_pairs].chosen = chosen;
    post->pairs[post->n_pairs].rejected = rejected;
    post->pairs[post->n_pairs++].line = record->line;
    return OK;
}

void shp_keep(struct record_text *post, const bool *too_long, int64_t max_pairs, int64_t *long_pairs,
              int64_t *more_pairs) {
    int place[RECORD_RESPONSES_MAX];
    bool used[RECORD_RESPONSES_MAX] = {false};
    int kept = 0;
    *long_pairs = *more_pairs = 0;
    for (int i = 0; i < post->n_pairs; i++) {
        int chosen = post->pairs[i].chosen;
        int rejected = post->pairs[i].rejected;
        if (too_long[chosen] || too_long[rejected]) {
            ++*long_pairs;
        } else if (max_pairs > 0 && kept >= max_pairs) {
            ++*more_pairs;
        } else {
            used[chosen] = used[rejected] = true;
            post->pairs[kept++] = post->pairs[i];
        }
    }
    post->n_pairs = kept;
    int n = 0;
    for (int i = 0; i < post->n_responses; i++) {
        if (!used[i]) {
            continue;
        }
        place[i] = n;
        if (n != i) { /* the two texts change places, so that both stay owned */
            struct text moved = post->responses[i];
            post->responses[i] = post->responses[n];
            post->responses[n] = moved;
            post->scores[n] = post->scores[i];
        }
        n++;
    }
    post->n_responses = n;
    for (int i = 0; i < kept; i++) {
        post->pairs[i].chosen = place[post->pairs[i].chosen];
        post->pairs[i].rejected = place[post->pairs[i].rejected];
    }
}
