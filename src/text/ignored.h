/* What records bring and nothing uses: keys of records, and fields of messages where no template takes them.
 */
#ifndef COLLIMATE_TEXT_IGNORED_H
#define COLLIMATE_TEXT_IGNORED_H

#include "text/records.h"

enum { IGNORED_KEYS = 32 };

/* Plain values, so that ranks can send it. Zero-initialised is empty. */
struct ignored {
    int n;
    struct {
        char name[48];
        bool of_messages;
        int64_t count; /* records or messages that have it */
    } list[IGNORED_KEYS];
};
/* Local. Adds what the record has besides what its format uses; null is nothing. templated: its messages go
 * to a template, with all their fields. Keys beyond the table are left out. */
void ignored_count(struct ignored *g, enum record_format format, const json_t *record, bool templated);
void ignored_merge(struct ignored *to, const struct ignored *from);

#endif
