#include "data/truncation.h"

#include <string.h>

#include "util/hash.h"

enum status truncation_check(const struct dataset *d, const struct truncation *t) {
    if (!(t->response_ratio > 0 && t->response_ratio <= 1)) {
        return fail(ERR_USAGE, "truncate.ratio is %g; it must be above 0 and at most 1", t->response_ratio);
    }
    if (t->max_length < 0 || t->max_prompt < 0 || t->max_response < 0 || t->max_length == 1) {
        return fail(ERR_USAGE,
                    "truncate.max_length is %d; at least one token of the prompt and one of the "
                    "response must fit",
                    t->max_length);
    }
    if (t->max_length > 0 && t->max_prompt >= t->max_length) {
        return fail(ERR_USAGE,
                    "truncate.max_prompt (%d) leaves no room for a response in truncate.max_length (%d)",
                    t->max_prompt, t->max_length);
    }
    if (t->response_ratio < 1 && t->unit == CUT_CHARS && !dataset_size(d).has_token_chars) {
        return fail(ERR_USAGE,
                    "%s: truncate.unit=chars needs characters per token; prepare it with prepare.token_chars",
                    dataset_base_path(d));
    }
    return OK;
}

uint64_t truncation_hash(const struct truncation *t, int64_t kind) {
    int64_t fields[8] = {t->max_length, t->max_response};
    bool cuts = t->max_length > 0 || t->max_response > 0 || t->response_ratio < 1;
    if (t->max_length > 0) {
        fields[2] = t->max_prompt;
        fields[3] = t->keep_start;
        fields[4] = kind;
    }
    fields[5] = t->response_ratio < 1 ? 1 + (int64_t)t->unit : 0;
    fields[6] = cuts && t->end_after_cut;
    memcpy(&fields[7], &t->response_ratio, sizeof fields[7]);
    return hash_bytes(fields, sizeof fields, 0);
}
