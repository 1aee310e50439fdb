#include "text/record_label.h"

enum status record_label(const json_t *record, const char *where, int *out) {
    const json_t *label = json_object_get(record, "label");
    double number = json_is_number(label) ? json_number_value(label) : json_is_true(label);
    *out = -1;
    if (!label || json_is_null(label)) {
        return OK;
    }
    if (!(json_is_boolean(label) || json_is_number(label)) || (number != 0 && number != 1)) {
        return fail(ERR_DATA, "%s: \"label\" must be true or false, 1 or 0", where);
    }
    *out = number == 1;
    return OK;
}
