/* The records of JSON Lines files and JSON arrays in blocks, for a rank's share that is larger than its
 * memory.
 *
 * The files are dealt to the ranks as in jsonl.h, and read several times: for their hash, for the survey, and
 * once by every reader. The survey counts, checks the bounds and finds where blocks of about a MiB of whole
 * records begin: a rank holds 56 bytes for each, the hash of its records among them, so that a file that
 * changes is noticed. Readers then go through the blocks in order, one block's text at a time. Where a rank's
 * share of the packed files' text is little (keep_bytes) it is kept from the survey until records_close; else
 * a packed file is inflated anew by every reader.
 */
#ifndef COLLIMATE_IO_RECORD_BLOCKS_H
#define COLLIMATE_IO_RECORD_BLOCKS_H

#include "io/jsonl.h"

/* 0: as this file has them. */
struct record_bounds {
    int64_t block_bytes; /* of text in a block; a longer record is a block of its own */
    int64_t keep_bytes;  /* of packed text that a rank keeps at most; -1: none */
};

/* Collective. bounds NULL: as this file has them. Fails: as records_open. records_at is not for what this
 * opens, nor is records_parse; all else of jsonl.h is. */
enum status records_survey(struct comm *c, char *const *files, int n_files,
                           const struct record_bounds *bounds, struct records_input **out);

/* One after another through a rank's records, by one thread or several. */
struct record_reader;
/* Local. The first `limit` records of this rank. */
enum status record_reader_open(const struct records_input *in, int64_t limit, struct record_reader **out);
void record_reader_close(struct record_reader *r);

/* A block's records; all are of one file. Zero-initialised, reused, record_block_free at the end. */
struct record_block {
    int64_t number;      /* of the block, from 0 */
    struct record *list; /* what they point to stays until the block is filled again */
    int64_t count;
    struct record_text_buffer *text;
};
void record_block_free(struct record_block *b);
/* Local. The next block; *more false: there is none. Threads may call it at the same time: each gets another
 * block. Fails: ERR_INPUT where the file is no longer what it was; as stream_next. */
enum status record_reader_next(struct record_reader *r, struct record_block *b, bool *more);

#endif
