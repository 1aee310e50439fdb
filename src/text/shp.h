/* SHP and SHP-2: the records of a post as one prompt with several responses.
 *
 * A record holds two answers to a post; an answer that stands in several records is one response. Answers are
 * told apart by their exact text. Filters come before anything else (REAL's preparation): a record whose
 * score ratio is too small, and later (shp_keep) pairs that are too long, then the first pairs of a post.
 */
#ifndef COLLIMATE_TEXT_SHP_H
#define COLLIMATE_TEXT_SHP_H

#include "text/records.h"

/* Local. What names a record's post: post_id, else the history; a hash. Fails: ERR_DATA with `where`. */
enum status shp_post_key(const json_t *record, const char *where, uint64_t *out);

/* Local. Empties a post. */
void shp_begin(struct record_text *post);
/* Local. Adds record number `line` of a post. scratch: reused. *dropped: NULL, or why the record gives no
 * pair (static). Fails: as record_parse. */
struct shp_record {
    const json_t *json;
    const char *where;
    int line;
    double min_ratio; /* higher score / lower score at least; a record without scores passes */
};
enum status shp_add(struct record_text *post, const struct shp_record *record, struct record_text *scratch,
                    const char **dropped);
/* Local. Keeps the first max_pairs (0: all) of the pairs whose two responses are not too_long, and the
 * responses that stand in one of them, in order. *long_pairs, *more_pairs: how many were left out for which
 * reason. */
void shp_keep(struct record_text *post, const bool *too_long, int64_t max_pairs, int64_t *long_pairs,
              int64_t *more_pairs);

#endif
