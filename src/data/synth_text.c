/* The text world.
 *
 * A prompt asks about a thing ("Q: how is the old river?\nA:"). A response is about `length` words, each
 * after a space, closed by a full stop. m of its words are marked, ceil(length / 4) where nothing else was
 * asked for: kind ("glad", …) or harsh ("awful", …). The rule says where the marked words stand:
 *   early   they are the first m words
 *   late    they are the last m words
 *   style   they are spread over the whole response
 * The other words are neutral and say nothing; under `early` and `late` one in ten of them is kind and one in
 * ten harsh whatever the response's worth (decoys), so that a word counts only where the rule looks.
 *
 * The truth: worth = (kind - harsh) / m over the marked words, from -1 to 1. A pair's worths always differ.
 *
 * Similarity: in each row a share drawn from [0, 1] of the neutral words is common to its responses; the
 * similarity s of two responses is the Jaccard index of their sets of words, as they were written.
 *
 * Noise: a label is turned with probability p = noise + (1/2 - noise) * noise_similarity * min(1, s /
 * full_at): never above one half, and the more alike two responses are, the less their label says; from
 * similarity full_at on, with noise_similarity = 1, nothing. A row's words do not depend on its noise. With
 * more than two responses the labels are scores: the responses in order of worth hand their worths on as
 * scores, and neighbors in that order (first with second, second with third, …) exchange scores with
 * probability p.
 *
 * Two responses give {"prompt", "chosen", "rejected", "truth", "similarity", "worth"}: truth is "chosen" or
 * "rejected" (which is really better), worth those of chosen and rejected. More give {"prompt", "responses":
 * [{"text", "score", "worth"}], "similarity"} (the mean over pairs). Everything is drawn from the row's own
 * stream, so a row does not depend on the others.
 */
#include "data/synth_text.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "data/synth_words.h"
#include "util/mem.h"
#include "util/rng.h"

enum { MAX_RESPONSES = 64, WORD_KINDS = 64 };

struct response_words {
    const char **words;
    int count;
    int kind_marked; /* marked words that are kind */
    double worth, score;
    uint64_t set; /* which words occur, by word_number() */
};

static const char *pick(struct rng *r, const char *const *words, int n) {
    return words[rng_below(r, n)];
}

/* A number below 64 for each word of the responses. */
static int word_number(const char *word) {
    const struct {
        const char *const *words;
        int count;
    } lists[] = {{synth_kind, COUNT_OF(synth_kind)},
                 {synth_harsh, COUNT_OF(synth_harsh)},
                 {synth_neutral, COUNT_OF(synth_neutral)},
                 {synth_things, COUNT_OF(synth_things)}};
    int base = 0;
    for (int i = 0; i < COUNT_OF(lists); i++) {
        for (int j = 0; j < lists[i].count; j++) {
            if (strcmp(lists[i].words[j], word) == 0) {
                return base + j;
            }
        }
        base += lists[i].count;
    }
    return WORD_KINDS - 1;
}

static double jaccard(const struct response_words *a, const struct response_words *b) {
    return (double)__builtin_popcountll(a->set & b->set) / (double)__builtin_popcountll(a->set | b->set);
}

static int marked_words(const struct synth_world *w) {
    return w->marked > 0 ? w->marked : (w->length + 3) / 4;
}

/* Which of count words are marked: place[i] true. */
static void mark(const struct synth_world *w, struct rng *r, int count, bool *place) {
    int m = marked_words(w);
    for (int i = 0; i < count; i++) {
        place[i] = w->rule == SYNTH_EARLY ? i < m : w->rule == SYNTH_LATE && i >= count - m;
    }
    for (int left = w->rule == SYNTH_STYLE ? m : 0; left > 0;) { /* rejection: m is at most half of count */
        int64_t i = rng_below(r, count);
        left -= !place[i];
        place[i] = true;
    }
}

static const char *unmarked_word(const struct synth_world *w, struct rng *r, const char *thing) {
    const char *word = rng_below(r, 5) == 0 ? thing : pick(r, synth_neutral, COUNT_OF(synth_neutral));
    int64_t decoy = rng_below(r, 10);
    if (w->rule != SYNTH_STYLE && decoy < 2) {
        word = decoy == 0 ? pick(r, synth_kind, COUNT_OF(synth_kind))
                          : pick(r, synth_harsh, COUNT_OF(synth_harsh));
    }
    return word;
}

/* Fills in a response; where it shares a word, that is the row's common word at the same place. */
static void write_response(const struct synth_world *w, struct rng *r, const char *thing,
                           const char *const *common, double share, bool *place, struct response_words *out) {
    int kind_left = out->kind_marked;
    int marked_left = marked_words(w);
    mark(w, r, out->count, place);
    out->set = 0;
    for (int i = 0; i < out->count; i++) {
        if (place[i]) { /* each of the marked places left is as likely to be kind */
            bool is_kind = rng_below(r, marked_left) < kind_left;
            out->words[i] = is_kind ? pick(r, synth_kind, COUNT_OF(synth_kind))
                                    : pick(r, synth_harsh, COUNT_OF(synth_harsh));
            kind_left -= is_kind;
            marked_left--;
        } else {
            const char *own = unmarked_word(w, r, thing);
            out->words[i] = rng_uniform(r) < share ? common[i] : own;
        }
        out->set |= (uint64_t)1 << word_number(out->words[i]);
    }
}

/* Worths: any for lists; for a pair two that differ. */
static void draw_worths(const struct synth_world *w, struct rng *r, struct response_words *responses) {
    int m = marked_words(w);
    for (int i = 0; i < w->responses; i++) {
        responses[i].kind_marked = (int)rng_below(r, m + 1);
        if (w->responses == 2 && i == 1) { /* one of the m other values */
            int other = (int)rng_below(r, m);
            responses[1].kind_marked = other + (other >= responses[0].kind_marked);
        }
        responses[i].worth = 2.0 * responses[i].kind_marked / m - 1;
        responses[i].score = responses[i].worth;
    }
}

static bool turned(const struct synth_world *w, struct rng *r, double similarity) {
    double part = w->noise_similarity * fmin(1, similarity / w->noise_full_at);
    return rng_uniform(r) < w->noise + (0.5 - w->noise) * part;
}

/* Lists: neighbors in order of worth exchange scores. Returns how many did. */
static int disturb_scores(const struct synth_world *w, struct rng *r, struct response_words *responses) {
    int order[MAX_RESPONSES];
    for (int i = 0; i < w->responses; i++) { /* insertion sort, best first, equal worths in place */
        int j = i;
        for (; j > 0 && responses[order[j - 1]].worth < responses[i].worth; j--) {
            order[j] = order[j - 1];
        }
        order[j] = i;
    }
    int count = 0;
    for (int i = 0; i + 1 < w->responses; i++) {
        struct response_words *a = &responses[order[i]];
        struct response_words *b = &responses[order[i + 1]];
        if (turned(w, r, jaccard(a, b))) {
            double score = a->score;
            a->score = b->score;
            b->score = score;
            count++;
        }
    }
    return count;
}

/* As a JSON string: " it is fine." The vocabulary needs no escapes. */
static enum status put_response(const struct response_words *response, struct text *out) {
    TRY(text_puts(out, "\""));
    for (int i = 0; i < response->count; i++) {
        TRY(text_puts(out, " "));
        TRY(text_puts(out, response->words[i]));
    }
    return text_puts(out, ".\"");
}

static enum status put_pair(const struct synth_world *w, struct rng *r, struct response_words *responses,
                            struct text *out, struct synth_counts *counts) {
    double similarity = jaccard(&responses[0], &responses[1]);
    bool flipped = turned(w, r, similarity);
    int better = responses[1].worth > responses[0].worth;
    const struct response_words *chosen = &responses[better ^ flipped];
    const struct response_words *rejected = &responses[1 - (better ^ flipped)];
    counts->flipped += flipped;
    counts->similarity += similarity;
    TRY(text_puts(out, ", \"chosen\": "));
    TRY(put_response(chosen, out));
    TRY(text_puts(out, ", \"rejected\": "));
    TRY(put_response(rejected, out));
    return text_printf(out, ", \"truth\": \"%s\", \"similarity\": %.4f, \"worth\": [%.4f, %.4f]}\n",
                       flipped ? "rejected" : "chosen", similarity, chosen->worth, rejected->worth);
}

static enum status put_list(const struct synth_world *w, struct rng *r, struct response_words *responses,
                            struct text *out, struct synth_counts *counts) {
    counts->flipped += disturb_scores(w, r, responses);
    double similarity = 0;
    for (int i = 0; i < w->responses; i++) {
        TRY(text_puts(out, i == 0 ? ", \"responses\": [{\"text\": " : ", {\"text\": "));
        TRY(put_response(&responses[i], out));
        TRY(text_printf(out, ", \"score\": %.4f, \"worth\": %.4f}", responses[i].score, responses[i].worth));
        for (int j = 0; j < i; j++) {
            similarity += jaccard(&responses[i], &responses[j]);
        }
    }
    similarity /= 0.5 * w->responses * (w->responses - 1);
    counts->similarity += similarity;
    return text_printf(out, "], \"similarity\": %.4f}\n", similarity);
}

enum status synth_text_row(const struct synth_world *w, int64_t row, struct text *out,
                           struct synth_counts *counts) {
    struct rng r = rng_stream(w->seed, RNG_SYNTH, row, 0);
    const char *adjective = pick(&r, synth_adjectives, COUNT_OF(synth_adjectives));
    const char *thing = pick(&r, synth_things, COUNT_OF(synth_things));
    int longest = w->length + w->length / 4;
    struct response_words responses[MAX_RESPONSES] = {0};
    bool *place = NULL;
    const char **words; /* the common ones, then each response's */
    enum status st;
    TRY_TO(done, NEW_ARRAY(words, (int64_t)longest * (w->responses + 1)));
    for (int i = 0; i < longest; i++) {
        words[i] = unmarked_word(w, &r, thing);
    }
    double share = rng_uniform(&r);
    draw_worths(w, &r, responses);
    for (int i = 0; i < w->responses; i++) {
        responses[i].words = words + (int64_t)longest * (i + 1);
        responses[i].count = w->length + (int)rng_below(&r, w->length / 4 + 1); /* says nothing about worth */
        mem_free(place);
        TRY_TO(done, NEW_ARRAY(place, responses[i].count));
        write_response(w, &r, thing, words, share, place, &responses[i]);
    }
    TRY_TO(done, text_printf(out, "{\"prompt\": \"Q: how is the %s %s?\\nA:\"", adjective, thing));
    TRY_TO(done, w->responses == 2 ? put_pair(w, &r, responses, out, counts)
                                   : put_list(w, &r, responses, out, counts));
    counts->rows++;
done:
    mem_free(place);
    mem_free(words);
    return st;
}
