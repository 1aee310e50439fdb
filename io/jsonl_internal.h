/* What the two ways to read records share: all of a rank's in memory (jsonl.c), or in blocks
 * (record_blocks.c). */
#ifndef COLLIMATE_IO_JSONL_INTERNAL_H
#define COLLIMATE_IO_JSONL_INTERNAL_H

#include "io/jsonl.h"
#include "io/split.h"
#include "util/text.h"

/* What rank 0 found out about a file; broadcast, so that all ranks cut alike. */
struct survey {
    int64_t size;
    int64_t gzip, array; /* truth values, as wide as the rest so that the struct has no holes */
};

/* A run of records of one file that is read together. */
struct record_mark {
    int64_t begin, end;   /* bytes of the file, inflated */
    int64_t first, count; /* records, of this rank's */
    int64_t line;         /* of the first */
    uint64_t hash;        /* of the records, one after another */
    int file;
};

/* Where a rank's blocks are, and the text of its packed files where that is little. */
struct record_marks {
    int64_t block_bytes, keep_bytes; /* keep_bytes -1: too much, nothing is kept */
    struct record_mark *list;
    int64_t count, capacity;
    struct text kept;
    struct {
        int64_t offset, at; /* of the file's first byte in kept; at -1: none is there */
    } * of_file;
};

struct records_input {
    char **paths;
    int n_files;
    struct survey *files;
    struct split_records records; /* with marks: of the piece at hand */
    struct record_marks *marks;   /* NULL: all records stay in memory */
    int64_t count, first_index;
    uint64_t hash;
};

/* Collective. jsonl.c: marks NULL, or what is filled in place of the records. in takes them over. */
enum status records_read(struct comm *c, char *const *files, int n_files, struct record_marks *marks,
                         struct records_input **out);

/* record_blocks.c. Local. The splitter's finished records become marks; what is open stays. */
enum status record_marks_take(struct records_input *in, struct splitter *s);
/* Local. Bytes of a packed file from offset on, in order. */
enum status record_marks_keep(struct records_input *in, int file, int64_t offset, const char *data, size_t n);
void record_marks_free(struct record_marks *m);

#endif
