/* Preference records as texts that say how good an answer is, for SFT.
 *
 * chain: Chain of Hindsight (Liu et al. 2023): of each pair one text, drawn from four by the record's index:
 * the good answer alone, the bad one alone, the bad one and then the good one, the good one and then the bad
 * one, each answer behind its marker. conditional: behaviour cloning by quality: of each pair both answers,
 * each as a text of its own behind its marker. questions: chain, and as often the authors' comparison
 * questions: both answers in either order and which of them is better, or worse; what is trained is "the
 * first one." or "the second one.", as theirs (coh/data/templates.py, hf_data.py). Markers are never trained:
 * the first one ends the prompt, the second one is only read. A labelled response is one text behind its
 * label's marker, a response without a label or a prompt alone goes behind the good one: so are models asked
 * that were trained on any.
 */
#ifndef COLLIMATE_TEXT_HINDSIGHT_H
#define COLLIMATE_TEXT_HINDSIGHT_H

#include "text/records.h"

enum hindsight_kind { HINDSIGHT_NONE, HINDSIGHT_CHAIN, HINDSIGHT_CONDITIONAL, HINDSIGHT_QUESTIONS };
struct hindsight {
    enum hindsight_kind kind;
    const char *good, *bad; /* markers, put between what stands before and the answer as they are */
    bool is_labelled;       /* records have labels: an undesirable response goes behind the bad marker */
    uint64_t seed;
};
/* Texts that a parsed record gives; 0: several responses, of which none is better. */
int hindsight_texts(const struct hindsight *h, const struct record_text *from);
/* Whether the i-th of them tells good from bad: not where both answers are the same. */
bool hindsight_tells(const struct hindsight *h, const struct record_text *from, int i);
/* Local. The i-th of them, as a record of one response (none where `from` has none) without pairs. index: of
 * the record in the input. */
enum status hindsight_make(const struct hindsight *h, const struct record_text *from, int i, int64_t index,
                           struct record_text *out);

#endif
