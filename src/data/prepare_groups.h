/* Records of the same post, or the same prompt, brought together, wherever they stand in the input.
 *
 * Each record's key goes to the rank that the key names, which tells its owner where the post appears first;
 * the record's bytes then go to the rank that reads that first record, some MiB at a time, and lie there in
 * memory or beside the output (io/spool.h). So posts are in the order of their first appearance, and records
 * of a post in file order.
 *
 * The input is read once for keys and once for bytes, beside the survey before: who owns a record is known
 * only when every rank's keys have been seen, and its bytes would have to wait for that in a spool of their
 * own. Text that memory does not hold would then be written and read once more, in the place of being read
 * once more.
 */
#ifndef COLLIMATE_DATA_PREPARE_GROUPS_H
#define COLLIMATE_DATA_PREPARE_GROUPS_H

#include "io/record_blocks.h"
#include "io/spool.h"
#include "text/records.h"

/* What records are told to be of the same prompt by, where that is not a post of SHP. */
struct record_prompts {
    enum record_format format;
    const struct chat_format *chat;
};

/* A record in the groups' text. */
struct group_record {
    int64_t at, len; /* bytes */
    int64_t index, line;
    int64_t file;
};

struct record_groups {
    int64_t n;      /* posts of this rank */
    int64_t *first; /* n + 1: each post's records */
    struct group_record *records;
    struct spool *text; /* of the records, in the order in which they came */
};
struct record_groups_plan {
    const struct record_prompts *prompts; /* NULL: SHP records by post */
    const char *beside; /* a file, beside which the text lies that memory does not hold; not NULL */
    int64_t memory;     /* bytes of text that stay in it; 0: 128 MiB */
    int64_t piece;      /* 0: io/spool.h's */
};
/* Collective. records: of this rank, from its first; input: as records_survey opens it. A record that is none
 * is a group of its own, for the parser to drop. Held: 48 bytes a record at most, and 104 to 200
 * while they are ordered. */
enum status record_groups_make(struct comm *c, const struct records_input *input, int64_t records,
                               const struct record_groups_plan *plan, struct record_groups *out);
void record_groups_free(struct record_groups *g);

/* The records of some groups. Zero-initialised, reused, group_batch_free at the end. */
struct group_batch {
    struct record *records;
    int64_t *first; /* of each group, and the end */
    char *text;     /* what records point into */
    int64_t records_capacity, first_capacity, text_capacity;
};
void group_batch_free(struct group_batch *b);
/* Local. How many groups from first on are read together: about a MiB, at least one where there is one. */
int64_t record_groups_fit(const struct record_groups *g, int64_t first);
/* Local. Groups [first, first + n). */
enum status record_groups_read(const struct record_groups *g, int64_t first, int64_t n,
                               struct group_batch *out);

#endif
