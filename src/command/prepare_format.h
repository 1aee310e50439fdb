/* Of which format the records are, and whether their texts are messages. */
#ifndef COLLIMATE_COMMAND_PREPARE_FORMAT_H
#define COLLIMATE_COMMAND_PREPARE_FORMAT_H

#include "command/prepare_report.h"

/* Collective. Fills job.format, mixed and refused, and chats, by what most of the first 1000 records are; the
 * others are dropped one by one later. Fails: ERR_DATA where no record is of a known format, and where more
 * than a tenth are not of most's, which is more than a few bad rows. */
enum status prepare_choose_format(struct prepare *p);

#endif
