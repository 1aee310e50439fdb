/* What prepare says of what it read: counts, lengths, what was dropped and ignored, and one row as text. */
#ifndef COLLIMATE_COMMAND_PREPARE_REPORT_H
#define COLLIMATE_COMMAND_PREPARE_REPORT_H

#include "command/command.h"
#include "data/prepare_records.h"

struct prepare {
    struct run *run;
    struct names files;
    struct tokenizer *tokenizer;
    struct template_folder templates;
    struct chat_format chat;
    char date[32];  /* chat.date */
    bool chats;     /* most records' texts are turns */
    bool templated; /* … which a template renders */
    struct records_input *input;
    struct prepare_job job;
    struct names objectives;
    bool merges;         /* records of the same prompt become one */
    int64_t all_records; /* over ranks, within the limit */
    struct record_groups groups;
    struct prepared prepared;
    double start_s;
};

/* Collective. Makes drops, ignored keys and counts those of all ranks, and reports them. Fails: ERR_DATA
 * where nothing is left. */
enum status prepare_report(struct prepare *p);

#endif
