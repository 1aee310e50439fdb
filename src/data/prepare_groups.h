/* Records of the same post, or the same prompt, brought together, wherever they stand in the input.
 *
 * Each record's key goes to the rank that the key names, which tells its owner where the post appears first;
 * the record's bytes then go to the rank that reads that first record. So posts are in the order of their
 * first appearance, records of a post in file order, and no rank holds more than its share.
 */
#ifndef COLLIMATE_DATA_PREPARE_GROUPS_H
#define COLLIMATE_DATA_PREPARE_GROUPS_H

#include "io/jsonl.h"
#include "text/records.h"

/* What records are told to be of the same prompt by, where that is not a post of SHP. */
struct record_prompts {
    enum record_format format;
    const struct chat_format *chat;
};

struct record_groups {
    int64_t n;      /* posts of this rank */
    int64_t *first; /* n + 1: each post's records */
    struct record *records;
    char *bytes; /* what records point into */
};
/* Collective. records: of this rank, from its first; prompts NULL: SHP records by post. A record that is none
 * is a group of its own, for the parser to drop. */
enum status record_groups_make(struct comm *c, const struct records_input *input, int64_t records,
                               const struct record_prompts *prompts, struct record_groups *out);
void record_groups_free(struct record_groups *g);

#endif
