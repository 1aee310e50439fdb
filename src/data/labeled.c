#include "data/labeled.h"

#include "util/mem.h"

enum { UNPAIRED_TOGETHER = 1000 };

enum status labeled_rows(const struct dataset *d, int64_t *rows) {
    struct dataset_size size = dataset_size(d);
    *rows = size.has_desirable ? size.responses : 2 * size.pairs;
    return *rows > 0
               ? OK
               : fail(ERR_DATA,
                      "%s: has no labelled responses and no pairs, one of which is needed here: records "
                      "{prompt, completion, label}, or chosen and rejected",
                      dataset_path(d));
}

enum status labeled_response(struct dataset *d, int64_t rows, int64_t row, int64_t *id, bool *is_desirable) {
    if (dataset_size(d).has_desirable) {
        struct response r;
        *id = row;
        TRY(dataset_response(d, row, &r));
        *is_desirable = r.desirable == 1;
        return OK;
    }
    int64_t first = row / (2 * UNPAIRED_TOGETHER) * UNPAIRED_TOGETHER, place = row % (2 * UNPAIRED_TOGETHER);
    int64_t left = rows / 2 - first, n = left < UNPAIRED_TOGETHER ? left : UNPAIRED_TOGETHER;
    struct pair pair;
    *is_desirable = place < n;
    TRY(dataset_pair(d, first + (place < n ? place : place - n), &pair));
    *id = place < n ? pair.chosen : pair.rejected;
    return OK;
}

int64_t labeled_partner(int64_t rows, int64_t block, int64_t row) {
    int64_t first = row - row % block, last = first + block;
    return row > first ? row - 1 : (last < rows ? last : rows) - 1;
}

enum status labeled_keep(struct dataset *d, int64_t **ids, int64_t *n) {
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
