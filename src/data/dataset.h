/* Preference files: prompts, responses and pairs, each response stored once (HDF5, parallel).
 *
 *   /prompts/tokens          int32, all prompts' ids end to end
 *   /prompts/offsets         int64, n_prompts + 1
 *   /prompts/responses       int64, n_prompts + 1: the first response of each prompt, which are contiguous
 *   /prompts/subset          int32, place in the attribute "subsets" (one name a line), -1: none; optional
 *   /responses/tokens        int32
 *   /responses/offsets       int64, n_responses + 1
 *   /responses/prompt        int64, the prompt of each, never falling
 *   /responses/score         float32, NaN where there is none
 *   /responses/worth         float32, what it is really worth, NaN where that is not known; optional
 *   /responses/length_chars  int32, code points of the text
 *   /responses/desirable     int8, 1: desirable, 0: not; of unpaired records alone, which have no pairs
 *   /responses/scores        float32 (n_responses, objectives), NaN where there is none: one column for each
 *                            name in the attribute "objectives" (one a line); optional
 *   /responses/token_chars   uint8, code points of each token, for cuts by characters; optional
 *   /responses/trained       uint8, per token, 1: trained and scored, 0: only read; optional, absent: all 1
 *   /pairs/{chosen,rejected} int64, responses
 *   /pairs/margin            float32, NaN where there is none
 *   /pairs/label             int8, 1: chosen preferred, 0: no label, tie
 *   /pairs/source            int64, line or record of the input, from 0; -1: unknown
 *   /pairs/split             int8, 1: train, 2: validation, 3: test, 0: none of them; optional
 *
 * Where chat templates made the text: template_hash and template_date.
 *
 * File attributes: content ("preferences"), format_version, hash (of the token contents), responses_hash and
 * pairs_hash (of all else), tokenizer,
 * tokenizer_hash, vocabulary, begin_id, end_id, source, source_hash, format, command, program, and
 * dropped.<reason>, counts of what was dropped and why.
 *
 * A view (a selection) is a file with only /pairs and the attributes `selects`, the relative path of the file
 * that it selects from, pairs_hash, and `selects_hash`, that file's hash; `objective` where its pairs are
 * those of one objective, whose scores are then those of the responses. dataset_open follows it; a view of a
 * view selects from what the latter selects from.
 *
 * Data sets are chunked and fletcher32-checksummed; tokens are compressed as well. Index data sets stay
 * uncompressed: they are read by single rows. No rank ever holds the data: rows are read when they are asked
 * for, through a cache of decoded chunks.
 */
#ifndef COLLIMATE_DATA_DATASET_H
#define COLLIMATE_DATA_DATASET_H

#include "mpi/comm.h"
#include "util/text.h"

/* Version 2 has /responses/trained, 3 /responses/desirable, 4 /responses/scores or /pairs/split, which
 * readers of the versions before would pass over. */
enum {
    DATASET_FORMAT_PLAIN = 1,
    DATASET_FORMAT_TRAINED = 2,
    DATASET_FORMAT_DESIRABLE = 3,
    DATASET_FORMAT_VERSION = 4
};
enum { DATASET_DROP_REASONS = 16, DATASET_REASON_BYTES = 64 };
enum { DATASET_OBJECTIVES_MAX = 16, DATASET_OBJECTIVE_BYTES = 64 };

/* Parts that the pairs were dealt to when they were prepared. */
enum data_split { SPLIT_ALL, SPLIT_TRAIN, SPLIT_VALIDATION, SPLIT_TEST, SPLITS };
const char *data_split_name(enum data_split split);

/* What made the file. Strings are owned by the struct's holder. */
struct dataset_facts {
    char *tokenizer; /* folder or "bytes" */
    uint64_t tokenizer_hash;
    int32_t vocabulary; /* ids are below this */
    int32_t begin_id;   /* before each prompt; -1: none */
    int32_t end_id;     /* after each response; -1: none */
    char *source;       /* input files, comma separated */
    uint64_t source_hash;
    char *format;           /* "hh", "preference", … */
    uint64_t template_hash; /* of the chat templates that made the text; 0: none did */
    char *template_date;    /* that they were given; NULL: none were */
    char *command;
    char *program; /* "collimate 0.1.0 (git …)" */
    int n_subsets;
    char **subsets; /* of a benchmark, in order of first appearance */
    int n_objectives;
    char **objectives; /* columns of the responses' named scores */
    int n_dropped;
    struct {
        char reason[DATASET_REASON_BYTES];
        int64_t count;
    } dropped[DATASET_DROP_REASONS];
};
void dataset_facts_free(struct dataset_facts *f);

/* One rank's part of a file to be written; offsets are local (begin at 0). pair indices and responses'
 * prompts are local to the rank as well: the writer adds the ranks' bases. Responses are in the order of
 * their prompts. A rank may have no rows at all; its offsets are then one 0. */
struct dataset_part {
    int64_t n_prompts, n_responses, n_pairs;
    int32_t *prompt_tokens;
    int64_t *prompt_offsets; /* n_prompts + 1 */
    int32_t *prompt_subset;  /* place in facts->subsets, -1: none; read where facts->n_subsets > 0 */
    int32_t *response_tokens;
    int64_t *response_offsets;     /* n_responses + 1 */
    uint8_t *response_token_chars; /* per response token, may be NULL on all ranks */
    uint8_t *response_trained;     /* likewise, 0 or 1; NULL: all 1; the file has it where a rank has a 0 */
    int64_t *response_prompt;
    float *response_score;  /* NULL: none */
    float *response_scores; /* (n_responses, objectives) where facts->n_objectives > 0 */
    float *response_worth;  /* NULL: none; the file has them where a rank has a number */
    int32_t *response_length_chars;
    int8_t *response_desirable; /* 1 or 0; NULL on all ranks that have responses: they are not labelled */
    int64_t *chosen, *rejected, *pair_source; /* pair_source NULL: unknown */
    float *margin;                            /* NULL: none */
    int8_t *label;                            /* NULL: all 1 */
};
/* Collective. Writes path atomically (a temporary file, flush, verify, rename). The same data sets byte for
 * byte for any rank count. rank 0's facts win. Fails: ERR_WRITE, ERR_DATA for a token outside the vocabulary.
 */
enum status dataset_write(struct comm *c, const char *path, const struct dataset_part *part,
                          const struct dataset_facts *facts);
/* This rank's pairs of a view, as global response ids. */
struct view_pairs {
    int64_t n;
    const int64_t *chosen, *rejected;
    const int64_t *source; /* NULL: unknown */
    const float *margin;   /* NULL: none */
    const int8_t *label;   /* NULL: all 1 */
    const int8_t *split;   /* NULL: the view has none */
    const char *objective; /* whose pairs they are; NULL: of none, or several */
};
/* Collective. A view of the file `base` with the ranks' pairs in rank order; optional arrays on all ranks or
 * none. */
enum status dataset_write_view(struct comm *c, const char *path, const char *base,
                               const struct view_pairs *pairs, const char *command);

struct dataset;
/* Collective. Opens a preference file or a view of one, checks versions, shapes, offsets' ends and ranges.
 * Fails: ERR_INPUT, ERR_DATA (truncated, wrong type, newer version, a view whose base has changed). */
enum status dataset_open(struct comm *c, const char *path, struct dataset **out);
void dataset_close(struct dataset *d);

struct dataset_size {
    int64_t prompts, responses, pairs, prompt_tokens, response_tokens;
    bool has_token_chars, has_worths, has_trained, has_desirable, has_splits;
};
struct dataset_size dataset_size(const struct dataset *d);
const struct dataset_facts *dataset_facts(const struct dataset *d);
/* Local, the same on all ranks, after dataset_open. From here on the pairs are those of one split alone, and
 * rows count among them. SPLIT_ALL: nothing changes. Fails: ERR_DATA where the file has no splits, or no pair
 * in this one. */
enum status dataset_keep_split(struct dataset *d, enum data_split split);
/* Collective. Both. */
enum status dataset_open_split(struct comm *c, const char *path, enum data_split split, struct dataset **out);
enum data_split dataset_split(const struct dataset *d);
/* Local. Which responses stand in a pair of the split, and which prompts have one: ids in their order, freed
 * by mem_free; NULL with n all of them where no split is kept. */
enum status dataset_split_responses(struct dataset *d, int64_t **ids, int64_t *n);
enum status dataset_split_prompts(struct dataset *d, int64_t **ids, int64_t *n);
/* The objective whose pairs a view holds: place in facts->objectives, -1: none. */
int dataset_objective(const struct dataset *d);
/* Of the pairs, a view's own, and of those kept; 0 where an earlier version wrote the file. */
uint64_t dataset_pairs_hash(const struct dataset *d);
const char *dataset_path(const struct dataset *d);
/* The file that holds the tokens: another one than dataset_path where that is a view. */
const char *dataset_base_path(const struct dataset *d);
/* Identity of the token contents: same for the same rows, whatever the compression. Names side-cars. */
uint64_t dataset_hash(const struct dataset *d);
/* Collective. Reads all of the file, shared over the ranks, and compares it with the hashes in it; where it
 * has none of its labels and scores, that is said. trust: says that nothing is compared instead. Fails:
 * ERR_DATA naming what was changed. */
enum status dataset_verify(struct comm *c, struct dataset *d, bool trust);
/* Files that a job has compared with one of their hashes: what they were like then. */
struct dataset_seen {
    int n; /* more than there is room for take the place of the first */
    struct {
        int64_t device, inode, size, seconds, nanoseconds; /* the last two: of the last change */
        int64_t hash;                                      /* the one that was compared */
    } files[24];
};
/* Collective. The same, but files that the job has compared before, and that have not changed since, are not
 * compared again. */
enum status dataset_verify_once(struct comm *c, struct dataset *d, bool trust, struct dataset_seen *seen);
/* Local. Fails: ERR_DATA where the file was not tokenized with t, the tokenizer of `model`; a warning where
 * that is allowed. */
struct tokenizer;
enum status dataset_compare_tokenizer(const struct dataset *d, const struct tokenizer *t, const char *model,
                                      bool allow);

/* Local. The tokenizer that made the file: of `path`, or where that is "" of where the file says it was.
 * Fails: as tokenizer_open; ERR_DATA for another one. */
enum status dataset_open_tokenizer(const struct dataset *d, const char *path, struct tokenizer **out);

struct pair {
    int64_t row, chosen, rejected, source;
    float margin;
    int8_t label;
    int8_t split; /* enum data_split; SPLIT_ALL: none */
};
/* All Local (independent reads). Those of a range fill out[0, last - first). */
enum status dataset_pair(struct dataset *d, int64_t row, struct pair *out);
enum status dataset_pairs(struct dataset *d, struct range rows, struct pair *out);
/* The labels of pairs, without a look at the rest. */
enum status dataset_labels(struct dataset *d, struct range rows, int8_t *out);
struct response {
    int64_t id, prompt;
    int64_t first, count;               /* tokens in /responses/tokens */
    int64_t prompt_first, prompt_count; /* tokens in /prompts/tokens */
    int32_t length_chars;
    float score, worth; /* NaN: none; score: of the view's objective, where it has one */
    int8_t desirable;   /* 1 or 0; -1: the file does not say */
};
enum status dataset_response(struct dataset *d, int64_t id, struct response *out);
enum status dataset_responses(struct dataset *d, struct range ids, struct response *out);
/* Its named scores, one for each of facts->objectives; NaN: none. */
enum status dataset_response_scores(struct dataset *d, int64_t id, float *out);
/* Where prompt p's tokens are: [*first, *first + *count) of /prompts/tokens. */
enum status dataset_prompt(struct dataset *d, int64_t prompt, int64_t *first, int64_t *count);
/* Place in facts->subsets of the prompt's subset, -1: none. */
enum status dataset_prompt_subset(struct dataset *d, int64_t prompt, int32_t *out);
/* Responses of prompt p are contiguous: [*first, *first + *count). */
enum status dataset_prompt_responses(struct dataset *d, int64_t prompt, int64_t *first, int64_t *count);
/* All ids of prompt p; the caller gives *ids to mem_free(). */
enum status dataset_prompt_ids(struct dataset *d, int64_t prompt, int32_t **ids, int64_t *count);
enum status dataset_prompt_tokens(struct dataset *d, int64_t first, int64_t count, int32_t *out);
enum status dataset_response_tokens(struct dataset *d, int64_t first, int64_t count, int32_t *out);
enum status dataset_response_token_chars(struct dataset *d, int64_t first, int64_t count, uint8_t *out);
/* Which tokens are trained and scored: 1 or 0; all 1 where the file does not say. */
enum status dataset_response_trained(struct dataset *d, int64_t first, int64_t count, uint8_t *out);

#endif
