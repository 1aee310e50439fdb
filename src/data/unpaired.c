#include "data/unpaired.h"

#include "data/comparisons.h"
#include "util/mem.h"

enum { UNPAIRED_TOGETHER = 1000 };

enum status unpaired_open(struct dataset *d, struct unpaired *out) {
    struct dataset_size size = dataset_size(d);
    *out = (struct unpaired){.rows = size.responses};
    if (size.has_desirable && size.responses > 0) {
        return OK;
    }
    if (size.pairs == 0) {
        return fail(ERR_DATA,
                    "%s: has no labelled responses and no pairs, one of which is needed here: records "
                    "{prompt, completion, label}, or chosen and rejected",
                    dataset_path(d));
    }
    TRY(labeled_rows(d, &out->pairs, &out->rows));
    out->rows *= 2;
    return OK;
}

void unpaired_close(struct unpaired *u) {
    mem_free(u->pairs);
    *u = (struct unpaired){0};
}

enum status unpaired_response(struct dataset *d, const struct unpaired *u, int64_t row, int64_t *id,
                              bool *is_desirable) {
    if (dataset_size(d).has_desirable) {
        struct response r;
        *id = row;
        TRY(dataset_response(d, row, &r));
        *is_desirable = r.desirable == 1;
        return OK;
    }
    int64_t first = row / (2 * UNPAIRED_TOGETHER) * UNPAIRED_TOGETHER, place = row % (2 * UNPAIRED_TOGETHER);
    int64_t left = u->rows / 2 - first, n = left < UNPAIRED_TOGETHER ? left : UNPAIRED_TOGETHER;
    int64_t at = first + (place < n ? place : place - n);
    struct pair pair;
    *is_desirable = place < n;
    TRY(dataset_pair(d, u->pairs ? u->pairs[at] : at, &pair));
    *id = place < n ? pair.chosen : pair.rejected;
    return OK;
}

int64_t unpaired_partner(int64_t rows, int64_t block, int64_t row) {
    int64_t first = row - row % block, last = first + block;
    return row > first ? row - 1 : (last < rows ? last : rows) - 1;
}

enum status unpaired_keep(struct dataset *d, int64_t **ids, int64_t *n) {
    struct dataset_size size = dataset_size(d);
    *n = 0;
    TRY(NEW_ARRAY(*ids, size.responses));
    for (int64_t id = 0; id < size.responses; id++) {
        struct response r;
        TRY(dataset_response(d, id, &r));
        (*ids)[*n] = id;
        *n += r.desirable == 1;
    }
    return OK;
}
