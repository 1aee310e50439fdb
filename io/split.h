/* Cutting a stream of bytes into records: lines, or the elements of a JSON array. Internal to io/.
 *
 * Bytes are fed with the phase they lie in: before, inside or after the rank's range. A record whose first
 * byte lies inside is kept whole; once a record would begin after the range, the splitter is done.
 */
#ifndef COLLIMATE_IO_SPLIT_H
#define COLLIMATE_IO_SPLIT_H

#include <stddef.h>
#include <stdint.h>

#include "util/status.h"

#define SPLIT_BYTE_ORDER_MARK "\xef\xbb\xbf"
/* A record's bytes at most, after inflation. A thousand times what the longest records of public data sets
 * have (a conversation of a million tokens is 4 MiB), and little enough that a rank can hold one as text, as
 * JSON values (up to 20 times the text) and as tokens. Without a bound, 3 MB of gzip ask for gigabytes. */
enum { SPLIT_RECORD_BYTES = 64 << 20 };
/* How deep brackets may nest in an array's element: as deep as the parser takes them (Jansson's limit). */
enum { SPLIT_DEPTH = 2048 };

enum split_phase { SPLIT_BEFORE, SPLIT_INSIDE, SPLIT_AFTER };

struct split_record {
    int64_t begin, len; /* in data */
    int64_t offset;     /* of its first byte in the file, inflated; of a line with its byte-order mark */
    int64_t end;        /* of the byte behind it */
    int64_t line;       /* lines: from 1 at the range's first line; arrays: of the file */
    int file;
};

/* Kept records of all files. */
struct split_records {
    char *data;
    int64_t used, data_capacity;
    struct split_record *list;
    int64_t count, list_capacity;
    int64_t *lines; /* per file: lines that begin inside the range (0 for arrays) */
};
void split_free(struct split_records *r);

struct splitter {
    struct split_records *out;
    const char *path;
    int file;
    bool array;
    bool at_start; /* at the file's first line: a byte-order mark may come */
    bool done;
    bool in_record, keep;
    int64_t begin; /* of the current record in out->data */
    int64_t line, record_line;
    int64_t entered; /* byte of the file where the lines are counted from, 0: its start */
    int64_t fed;     /* offset in the file, inflated, of the next piece; set before the first one */
    int64_t offset;  /* of the current record */
    /* arrays */
    enum { ARRAY_OPEN, ARRAY_FIRST, ARRAY_VALUE, ARRAY_COMMA, ARRAY_CLOSED } expected;
    int64_t depth;
    bool in_string, escaped;
};
void split_begin(struct splitter *s, struct split_records *out, const char *path, int file, bool array);
/* Fails: ERR_DATA for text that is not an array of objects, or a record that is too large. */
enum status split_feed(struct splitter *s, const char *data, size_t n, enum split_phase phase);
/* The file has ended. Fails: ERR_DATA for an array that is still open. */
enum status split_end(struct splitter *s);

#endif
