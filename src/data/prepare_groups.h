/* Records of the same post brought together, wherever they stand in the input.
 *
 * Each record's key goes to the rank that the key names, which tells its owner where the post appears first;
 * the record's bytes then go to the rank that reads that first record. So posts are in the order of their
 * first appearance, records of a post in file order, and no rank holds more than its share.
 */
#ifndef COLLIMATE_DATA_PREPARE_GROUPS_H
#define COLLIMATE_DATA_PREPARE_GROUPS_H

#include "io/jsonl.h"

struct record_groups {
    int64_t n;      /* posts of this rank */
    int64_t *first; /* n + 1: each post's records */
    struct record *records;
    char *bytes; /* what records point into */
};
/* Collective. records: of this rank, from its first. Fails: ERR_DATA for a record that is no SHP record. */
enum status record_groups_make(struct comm *c, const struct records_input *input, int64_t records,
                               struct record_groups *out);
void record_groups_free(struct record_groups *g);

#endif
