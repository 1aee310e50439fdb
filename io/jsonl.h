/* Records of JSON Lines files (plain or gzip) and of JSON arrays, dealt to the ranks.
 *
 * Ranges meet at line ends. A plain .jsonl is cut by bytes; a .gz can only be read from its start, so every
 * rank inflates it and keeps its own share of lines; an array ([ … ]) is cut into its elements by a scan that
 * knows strings and nesting. Either way rank r gets a contiguous run of records, in file order, so results do
 * not depend on the rank count.
 */
#ifndef COLLIMATE_IO_JSONL_H
#define COLLIMATE_IO_JSONL_H

#include "io/file.h"
#include "mpi/comm.h"
#include "util/json.h"

struct record {
    const char *data; /* JSON text, not NUL-terminated */
    size_t len;
    int64_t index; /* record number over all files, from 0 */
    int64_t line;  /* line in its file, from 1 */
    int file;
};

struct records_input;
/* Collective. files: one or more paths. Fails: ERR_INPUT, ERR_DATA (corrupt gzip: names file and offset). */
enum status records_open(struct comm *c, char *const *files, int n_files, struct records_input **out);
/* Local. All records of one file, on this rank alone; there is no hash. Fails as records_open. */
enum status records_open_alone(const char *path, struct records_input **out);
void records_close(struct records_input *in);
/* Local. This rank's records; records_at is not for what records_survey opened (record_blocks.h). */
int64_t records_count(const struct records_input *in);
/* Number over all files of this rank's first record. */
int64_t records_first(const struct records_input *in);
struct record records_at(const struct records_input *in, int64_t i);
/* Local. Record i as an object, which the caller gives to json_decref(); where: "pairs.jsonl, line 7", for
 * messages. Fails: ERR_DATA for what is no JSON object; *out is NULL then. */
enum { RECORDS_WHERE = 600 };
enum status records_parse(const struct records_input *in, int64_t i, char where[RECORDS_WHERE], json_t **out);
enum status records_parse_one(const struct records_input *in, const struct record *r,
                              char where[RECORDS_WHERE], json_t **out);
int records_files(const struct records_input *in);
const char *records_file(const struct records_input *in, int file);
/* Hash of all input bytes, the same on every rank. */
uint64_t records_hash(const struct records_input *in);

#endif
