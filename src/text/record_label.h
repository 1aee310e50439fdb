/* "label" of an unpaired record. */
#ifndef COLLIMATE_TEXT_RECORD_LABEL_H
#define COLLIMATE_TEXT_RECORD_LABEL_H

#include "util/json.h"

/* Local. 1 for true or 1, 0 for false or 0, -1 where there is none. Fails: ERR_DATA for anything else. */
enum status record_label(const json_t *record, const char *where, int *out);

#endif
