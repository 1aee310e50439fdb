/* The text world of users.
 *
 * Prompts are those of the text world ("Q: how is the old river?\nA:"); a response is `length` to
 * length + length / 4 words, each after a space, closed by a full stop. Half of `length` of its words, m, are
 * of classes that somebody minds, at places drawn at random; the others are neutral or the thing asked about.
 *
 * The classes are kind, harsh, grand, plain (of which each user wants one, in this order, and is named after
 * it), clear (which all want) and vague (which nobody does). The rule: a user's score of a text is
 *
 *     (words of the user's class + clear words) / (words of any class)
 *
 * over the classes of the world's users, clear and vague; 0 where there is no such word. A text fulfils the
 * wish of the user whose score of it is above all others'. Whoever counts the words of synth_words.c needs
 * nothing else.
 *
 * In a share `conflicting` of the rows the marked words are of the users' classes alone, so that scores sum
 * to 1: what one user gains another one loses. All counts of such words are equally likely, for two users. In
 * the other rows they are clear and vague, and all users score alike. Responses of a row are drawn again (100
 * times at most) until no user scores one like an earlier one: a pair has no ties.
 *
 * {"prompt", "responses": [{"text", "scores": {"kind": …, "harsh": …}}], "conflicting": true}. Everything is
 * drawn from the row's own stream, so a row does not depend on the others.
 */
#include "data/synth_users.h"

#include <string.h>

#include "data/synth_words.h"
#include "util/mem.h"
#include "util/rng.h"

enum { CLASS_CLEAR = SYNTH_USERS_MAX, CLASS_VAGUE, CLASSES, TRIES = 100 };

static const char *const *const classes[CLASSES] = {synth_kind,  synth_harsh, synth_grand,
                                                    synth_plain, synth_clear, synth_vague};
static const char *const names[SYNTH_USERS_MAX] = {"kind", "harsh", "grand", "plain"};

const char *synth_user_name(int user) {
    return names[user];
}

static const char *pick(struct rng *r, const char *const *words, int n) {
    return words[rng_below(r, n)];
}

static int marked_words(const struct synth_users *w) {
    return w->length / 2;
}

static void scores_of(const int *counts, int users, double *scores) {
    int all = counts[CLASS_CLEAR] + counts[CLASS_VAGUE];
    for (int u = 0; u < users; u++) {
        all += counts[u];
    }
    for (int u = 0; u < users; u++) {
        scores[u] = all ? (double)(counts[u] + counts[CLASS_CLEAR]) / all : 0;
    }
}

static int class_of(const char *word, size_t n, int users) {
    for (int c = 0; c < CLASSES; c++) {
        for (int i = 0; (c < users || c >= CLASS_CLEAR) && i < SYNTH_CLASS_WORDS; i++) {
            if (strlen(classes[c][i]) == n && memcmp(classes[c][i], word, n) == 0) {
                return c;
            }
        }
    }
    return -1;
}

void synth_users_scores(const char *text, int users, double *scores) {
    int counts[CLASSES] = {0};
    static const char apart[] = " .\n";
    for (const char *at = text + strspn(text, apart); *at; at += strspn(at, apart)) {
        size_t n = strcspn(at, apart);
        int class = class_of(at, n, users);
        if (class >= 0) {
            counts[class]++;
        }
        at += n;
    }
    scores_of(counts, users, scores);
}

/* How many words of each class a response gets: m dealt to the users by cuts that are drawn, or to clear and
 * vague. */
static void draw_counts(const struct synth_users *w, struct rng *r, bool conflicting, int *counts) {
    int m = marked_words(w);
    memset(counts, 0, CLASSES * sizeof *counts);
    if (!conflicting) {
        counts[CLASS_CLEAR] = (int)rng_below(r, m + 1);
        counts[CLASS_VAGUE] = m - counts[CLASS_CLEAR];
        return;
    }
    int cuts[SYNTH_USERS_MAX + 1] = {0};
    for (int u = 1; u < w->users; u++) { /* ascending, by insertion */
        int cut = (int)rng_below(r, m + 1);
        int at = u;
        for (; at > 1 && cuts[at - 1] > cut; at--) {
            cuts[at] = cuts[at - 1];
        }
        cuts[at] = cut;
    }
    cuts[w->users] = m;
    for (int u = 0; u < w->users; u++) {
        counts[u] = cuts[u + 1] - cuts[u];
    }
}

/* Pairs of a user and an earlier response that the user scores like the last one. */
static int64_t ties_with_last(const struct synth_users *w, double (*scores)[SYNTH_USERS_MAX], int last) {
    int64_t ties = 0;
    for (int i = 0; i < last; i++) {
        for (int u = 0; u < w->users; u++) {
            ties += scores[i][u] == scores[last][u];
        }
    }
    return ties;
}

/* The words, the marked ones spread over the places that are left with even chances. */
static enum status put_words(const struct synth_users *w, struct rng *r, const char *thing, int *counts,
                             struct text *out) {
    int left = w->length + (int)rng_below(r, w->length / 4 + 1);
    int marked = marked_words(w);
    for (; left > 0; left--) {
        const char *word = NULL;
        if (rng_below(r, left) < marked) {
            int64_t which = rng_below(r, marked--);
            int class = 0;
            while (which >= counts[class]) {
                which -= counts[class ++];
            }
            counts[class]--;
            word = pick(r, classes[class], SYNTH_CLASS_WORDS);
        } else {
            word = rng_below(r, 5) == 0 ? thing : pick(r, synth_neutral, COUNT_OF(synth_neutral));
        }
        TRY(text_puts(out, " "));
        TRY(text_puts(out, word));
    }
    return text_puts(out, ".");
}

static enum status put_response(const struct synth_users *w, struct rng *r, const char *thing, int *counts,
                                const double *scores, struct text *out) {
    TRY(text_puts(out, "{\"text\": \""));
    TRY(put_words(w, r, thing, counts, out));
    TRY(text_puts(out, "\", \"scores\": {"));
    for (int u = 0; u < w->users; u++) {
        TRY(text_printf(out, "%s\"%s\": %.4f", u ? ", " : "", names[u], scores[u]));
    }
    return text_puts(out, "}}");
}

static enum status put_responses(const struct synth_users *w, struct rng *r, const char *thing,
                                 bool conflicting, struct text *out, struct synth_users_counts *sums) {
    double(*scores)[SYNTH_USERS_MAX];
    enum status st = NEW_ARRAY(scores, w->responses);
    for (int i = 0; i < w->responses && st == OK; i++) {
        int counts[CLASSES];
        int64_t ties = 1;
        for (int tried = 0; tried < TRIES && ties > 0; tried++) {
            draw_counts(w, r, conflicting, counts);
            scores_of(counts, w->users, scores[i]);
            ties = ties_with_last(w, scores, i);
        }
        sums->ties += ties;
        sums->pairs += (int64_t)i * w->users;
        st = i > 0 ? text_puts(out, ", ") : OK;
        st = st == OK ? put_response(w, r, thing, counts, scores[i], out) : st;
    }
    mem_free(scores);
    return st;
}

enum status synth_users_row(const struct synth_users *w, int64_t row, struct text *out,
                            struct synth_users_counts *counts) {
    struct rng r = rng_stream(w->seed, RNG_SYNTH, row, w->users);
    const char *adjective = pick(&r, synth_adjectives, COUNT_OF(synth_adjectives));
    const char *thing = pick(&r, synth_things, COUNT_OF(synth_things));
    bool conflicting = rng_uniform(&r) < w->conflicting;
    TRY(text_printf(out, "{\"prompt\": \"Q: how is the %s %s?\\nA:\", \"responses\": [", adjective, thing));
    TRY(put_responses(w, &r, thing, conflicting, out, counts));
    counts->rows++;
    counts->conflicting += conflicting;
    return text_printf(out, "], \"conflicting\": %s}\n", conflicting ? "true" : "false");
}
