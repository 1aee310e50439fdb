/* Shared by answers.c (reading), answers_merge.c (what they say of each pair) and answers_report.c. */
#ifndef COLLIMATE_SELECT_ANSWERS_INTERNAL_H
#define COLLIMATE_SELECT_ANSWERS_INTERNAL_H

#include "data/dataset.h"
#include "data/pair_key.h"
#include "select/answers.h"

enum preference { PREFER_LOW, PREFER_HIGH, PREFER_NEITHER, PREFERENCES }; /* of a pair's responses */
struct vote {
    struct pair_key key;
    uint64_t annotator; /* hash of the name; 0: none is named */
    int64_t line;
    int32_t file;
    int8_t preference;
    bool low_is_a; /* the lower response was shown as a */
};

enum answer_fault {
    ANSWER_NO_JSON,
    ANSWER_NO_ID,
    ANSWER_OTHER_DATA,
    ANSWER_UNKNOWN,
    ANSWER_NO_PREFERENCE,
    ANSWER_AGAIN, /* the same annotator's later answer counts */
    ANSWER_FAULTS
};
struct fault_count {
    int64_t n, line;
    int32_t file; /* of the first */
};

/* A pair with its answers counted. */
struct verdict {
    struct pair_key key;
    int64_t votes[PREFERENCES];
    bool low_is_a; /* in the first of them */
};

struct answers {
    const struct answers_options *options;
    struct comm *comm;
    struct dataset *data;
    struct names files;
    struct vote *votes; /* this rank's, then all ranks' in the order of files and lines */
    int64_t n, capacity;
    int64_t lines;
    struct fault_count faults[ANSWER_FAULTS];
    struct verdict *verdicts; /* by key, equal on all ranks */
    int64_t n_verdicts;
};

/* Local. Votes to verdicts. */
enum status answers_merge(struct answers *a);
/* Local. What a verdict prefers: PREFER_NEITHER where no side has more than all else. */
enum preference verdict_of(const struct verdict *v);
/* Collective. Log lines and the JSON file. Fails: ERR_DATA where no pair has a label. */
enum status answers_report(const struct answers *a);

#endif
