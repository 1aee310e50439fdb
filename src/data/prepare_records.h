/* Records to tokens: this rank's share of the input as rows of a preference file, block by block.
 *
 * Held for the whole share: sums, the rows' first 192 MiB (data/dataset_rows.h), of SHP posts and merged
 * prompts up to 48 bytes a record (104 to 200 while they are ordered) and the first 128 MiB of their text; of
 * packed files up to 128 MiB of text until records_close (io/record_blocks.h); of objectives the pairs and,
 * where prompts were merged, the prompts' texts. Held for a moment: a few blocks of a MiB of text for each
 * thread, and what they become.
 */
#ifndef COLLIMATE_DATA_PREPARE_RECORDS_H
#define COLLIMATE_DATA_PREPARE_RECORDS_H

#include "data/dataset_rows.h"
#include "data/lengths.h"
#include "data/prepare_groups.h"
#include "data/subsets.h"
#include "io/jsonl.h"
#include "text/hindsight.h"
#include "text/ignored.h"
#include "text/records.h"
#include "text/shp.h"
#include "text/tokenizer.h"

struct prepare_job {
    const struct records_input *input; /* as records_survey opens it */
    const struct tokenizer *tokenizer;
    enum record_format format;
    int32_t begin_id, end_id; /* put before each prompt, after each response; -1: none */
    bool token_chars;
    int64_t records;                    /* of this rank, from its first; posts where there are groups */
    const struct record_groups *groups; /* SHP: the records by post; or by prompt; NULL */
    const struct names *objectives;     /* whose judgments are taken, in place of the records' pairs; NULL */
    bool by_user;           /* input file i has the choices of objective i; else responses have scores */
    double min_score_ratio; /* of SHP records */
    int64_t max_length;     /* SHP: tokens of prompt + response of a pair at most; 0: any */
    int64_t max_pairs;      /* of an SHP post; 0: all */
    const struct chat_format *chat; /* how messages become text; NULL: transcripts */
    struct hindsight hindsight;     /* records as texts that say how good an answer is */
    bool specials_as_text;          /* special tokens in users' text are text */
    bool mixed; /* records may be of any format: those that are not of `format` are dropped */
    enum record_texts
        refused;          /* with templates: strings among messages, or the other way round, are dropped */
    bool strict;          /* the first bad record is an error; else it is dropped */
    int64_t check_stride; /* one record in so many is checked for token boundaries */
    int threads;
    const char *beside; /* as in dataset_rows_plan */
    int64_t row_memory; /* bytes of rows that stay in memory; 0: dataset_rows.h's */
    int64_t row_piece;  /* 0: io/spool.h's */
};

/* Counts over the rank's records; plain sums, so that ranks' counts add up. */
enum prepare_count {
    COUNT_RECORDS,
    COUNT_BEGIN_IN_TEXT,  /* prompts that began with the beginning token already */
    COUNT_END_IN_TEXT,    /* records whose text held the end token already */
    COUNT_WITHOUT_END,    /* responses that do not end with it */
    COUNT_EMPTY_PROMPTS,  /* prompts without any token: their responses' first token has no predictor */
    COUNT_CHECKED,        /* responses that were also tokenized in one piece with their prompt */
    COUNT_BOUNDARY_MOVED, /* … where that gives other ids */
    COUNT_SPECIALS,       /* records with a special token in what users wrote */
    COUNT_UNTRAINED,      /* assistant turns that are not trained, since the template has them otherwise */
    COUNT_FOUND_PROMPTS,  /* prompts that are what chosen and rejected have in common */
    COUNT_BEHIND,         /* messages behind the last one of the assistant */
    PREPARE_COUNTS
};

/* Where something stands in the input; line 0: nowhere. */
struct prepare_place {
    int64_t file, line;
};
struct prepare_drops {
    int n;
    struct {
        char reason[DATASET_REASON_BYTES];
        char detail[128]; /* of the first; empty: the reason says all */
        int64_t count;
        struct prepare_place first;
    } list[DATASET_DROP_REASONS];
};
/* Local. Adds count to a reason, whose first place stays; what exceeds the table is counted under its last
 * entry, "other". */
void prepare_drop(struct prepare_drops *d, const char *reason, int64_t count, struct prepare_place place);
/* Local. What d has goes to the counts in `to`. */
void prepare_drops_merge(struct prepare_drops *to, const struct prepare_drops *d);

/* The first record of which something is said. */
enum prepare_first { FIRST_MOVED, FIRST_SPECIALS, FIRST_UNTRAINED, FIRST_REFUSED, PREPARE_FIRSTS };

/* Two responses of the rank to its prompt, a in front of b, and who prefers b: bit i is of objective i. */
struct judged_pair {
    int64_t a, b, prompt, source;
    uint32_t high;
};

enum prepare_length { LENGTH_PROMPT, LENGTH_RESPONSE, LENGTH_BOTH, PREPARE_LENGTHS };

struct prepared {
    struct dataset_rows rows;
    struct subsets subsets; /* what the rows' subsets count in */
    struct prepare_drops drops;
    int64_t counts[PREPARE_COUNTS];
    struct lengths lengths[PREPARE_LENGTHS]; /* tokens */
    int64_t longest;                         /* prompt + response, tokens; -1: no response */
    struct prepare_place longest_place;
    int64_t alike;                        /* pairs whose sides have the same tokens */
    int64_t against, level;               /* labeled pairs whose scores say the other way round, or nothing */
    int64_t *file_records, *file_prompts; /* by file; all 0 where there are groups */
    struct ignored ignored;               /* keys of records and messages that nothing used */
    struct prepare_place first[PREPARE_FIRSTS]; /* line 0: none */
    char refusal[256];                          /* what the template said of FIRST_REFUSED */
    struct judged_pair *judged; /* of objectives: all have it, and no two of its scores are equal */
    int64_t n_judged, judged_capacity;
    struct text keys;  /* of prompts, end to end: what they are ordered by where records were merged */
    int64_t *key_ends; /* per prompt */
    int64_t n_keys, keys_capacity;
    int64_t scored[RECORD_OBJECTIVES_MAX]; /* responses with a score, or records, of each objective */
    char names_seen[256];                  /* of the first record's scores */
};
/* Local. Parses and tokenizes on job->threads threads; the result does not depend on their number. Records
 * that are no JSON, or not what their format wants, are dropped. Fails: with job->strict, ERR_DATA for the
 * first record that is bad or gives nothing, naming file and line; ERR_WRITE where the rows fit neither in
 * memory nor beside the output; as record_reader_next. */
enum status prepare_records(const struct prepare_job *job, struct prepared *out);
void prepared_free(struct prepared *p);

#endif
