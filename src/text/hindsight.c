#include "text/hindsight.h"

#include <math.h>
#include <string.h>

#include "util/mem.h"
#include "util/rng.h"

int hindsight_texts(const struct hindsight *h, const struct record_text *from) {
    return from->n_pairs == 0                 ? from->n_responses < 2
           : h->kind == HINDSIGHT_CONDITIONAL ? 2 * from->n_pairs
                                              : from->n_pairs;
}

/* The pair that text i is of. */
static int pair_of(const struct hindsight *h, int i) {
    return h->kind == HINDSIGHT_CONDITIONAL ? i / 2 : i;
}

bool hindsight_tells(const struct hindsight *h, const struct record_text *from, int i) {
    if (from->n_pairs == 0) {
        return true;
    }
    const struct text *good = &from->responses[from->pairs[pair_of(h, i)].chosen];
    const struct text *bad = &from->responses[from->pairs[pair_of(h, i)].rejected];
    return good->len != bad->len || (good->len > 0 && memcmp(good->data, bad->data, good->len) != 0);
}

static enum status append(struct text *to, const struct text *from) {
    return from->len > 0 ? text_append(to, from->data, from->len) : OK;
}

/* Bytes of the response from `begin` on are an answer. */
static enum status train_from(struct record_text *out, size_t begin) {
    struct template_ranges *trained = &out->response_marks[0].trained;
    TRY(GROW_ARRAY(trained->data, trained->capacity, trained->count + 1));
    trained->data[trained->count++] = (struct template_range){begin, out->responses[0].len};
    return OK;
}

/* An answer behind its marker: the first one's ends the prompt. */
static enum status add_answer(const struct hindsight *h, const struct text *answer, bool is_good,
                              struct record_text *out) {
    bool is_first = out->n_responses == 0;
    TRY(text_puts(is_first ? &out->prompt : &out->responses[0], is_good ? h->good : h->bad));
    size_t begin = out->responses[0].len;
    TRY(append(&out->responses[0], answer));
    out->n_responses = 1;
    out->scores[0] = NAN;
    return train_from(out, begin);
}

/* Which of two answers is better, or worse, and that it is the first or the second. */
static enum status ask(const struct text *good, const struct text *bad, bool good_is_first, bool for_better,
                       struct record_text *out) {
    TRY(text_puts(&out->prompt, "\n\nFirst answer:"));
    TRY(append(&out->prompt, good_is_first ? good : bad));
    TRY(text_puts(&out->prompt, "\n\nSecond answer:"));
    TRY(append(&out->prompt, good_is_first ? bad : good));
    TRY(text_printf(&out->prompt, "\n\nWhich answer is %s? The answer is", for_better ? "better" : "worse"));
    TRY(text_puts(&out->responses[0], good_is_first == for_better ? " the first one." : " the second one."));
    out->n_responses = 1;
    out->scores[0] = NAN;
    return train_from(out, 0);
}

static enum status add_pair(const struct hindsight *h, const struct record_text *from, int i, int64_t index,
                            struct record_text *out) {
    bool both = h->kind != HINDSIGHT_CONDITIONAL;
    int pair = pair_of(h, i);
    struct rng rng = rng_stream(h->seed, RNG_HINDSIGHT, index, pair);
    int64_t drawn = both ? rng_below(&rng, h->kind == HINDSIGHT_QUESTIONS ? 8 : 4) : i % 2;
    bool first_is_good = drawn % 2 == 0, has_second = drawn >= 2;
    const struct text *good = &from->responses[from->pairs[pair].chosen];
    const struct text *bad = &from->responses[from->pairs[pair].rejected];
    if (drawn >= 4) {
        return ask(good, bad, first_is_good, drawn < 6, out);
    }
    TRY(add_answer(h, first_is_good ? good : bad, first_is_good, out));
    return has_second ? add_answer(h, first_is_good ? bad : good, !first_is_good, out) : OK;
}

enum status hindsight_make(const struct hindsight *h, const struct record_text *from, int i, int64_t index,
                           struct record_text *out) {
    record_text_clear(out);
    TRY(append(&out->prompt, &from->prompt));
    TRY(append(&out->subset, &from->subset));
    if (from->n_pairs > 0) {
        return add_pair(h, from, i, index, out);
    }
    return from->n_responses > 0
               ? add_answer(h, &from->responses[0], !h->is_labelled || from->desirable != 0, out)
               : text_puts(&out->prompt, h->good);
}
