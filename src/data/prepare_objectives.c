/* What the objectives' judgments of a prompt's responses become: pairs on which all of them have a say. */
#include "data/prepare_internal.h"
#include "util/mem.h"

/* NULL: the pair stays. */
static const char *why_dropped(const struct judgment *j, uint32_t all, bool by_user) {
    if (j->torn) {
        return "pairs of which a user chose both";
    }
    if (j->has != all) {
        return by_user ? "pairs that not every user has" : "pairs without a score of every objective";
    }
    return j->tied ? "pairs with a tie in an objective" : NULL;
}

enum status prepare_judged(const struct prepare_job *job, struct block *b, const struct record_text *text,
                           int64_t first, int64_t source, struct prepare_place place) {
    uint32_t all = ((uint32_t)1 << job->objectives->n) - 1;
    for (int i = 0; i < text->n_judged; i++) {
        const struct judgment *j = &text->judged[i];
        const char *dropped = why_dropped(j, all, job->by_user);
        if (dropped) {
            prepare_drop(&b->drops, dropped, 1, place);
            continue;
        }
        TRY(GROW_ARRAY(b->judged, b->judged_capacity, b->n_judged + 1));
        b->judged[b->n_judged++] =
            (struct judged_pair){.a = first + j->a, .b = first + j->b, .source = source, .high = j->high};
    }
    return OK;
}
