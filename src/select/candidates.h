/* The pairs that a selection chooses among: where they come from, their labels, how many are wanted. All
 * Local but for what says otherwise. */
#ifndef COLLIMATE_SELECT_CANDIDATES_H
#define COLLIMATE_SELECT_CANDIDATES_H

#include "data/dataset.h"
#include "data/pair_key.h"

enum selection_drop {
    DROP_EQUAL_SCORES,
    DROP_FEW_RESPONSES,   /* prompts with less than two */
    DROP_EQUAL_RESPONSES, /* the same tokens: of a pair's two, or of all of a prompt's */
    DROP_ASKED,           /* in one of select.exclude */
    DROP_UNLABELED,       /* where labels are needed */
    SELECTION_DROPS
};

/* Candidates of this rank: pairs of the file, or one pair of each prompt, in the file's order. */
struct candidate {
    int64_t chosen, rejected, source;
    double similarity;
    double measure;  /* over prompts: struct pair_choice */
    int32_t cluster; /* balanced, else -1 */
    float margin;
    int8_t label, part; /* part: of the mix, over prompts */
    bool is_dropped, is_taken;
    bool is_asked;            /* another pair of the prompt was asked before */
    enum selection_drop drop; /* why it is dropped */
};

struct selection;
enum status candidates_add(struct selection *s, const struct candidate *c);
/* Embeddings of n responses, in one read where they lie close together. */
enum status candidates_vectors(struct selection *s, const int64_t *ids, int64_t n, float *out);
/* Collective. How many of the candidates that are left are to be taken, over all ranks. */
enum status candidates_wanted(const struct selection *s, double fraction, int64_t *out);

/* The file's labeled pairs whose responses are this rank's, sorted by response. */
struct known_pair {
    struct pair_key key;
    struct pair pair;
};
struct known_pairs {
    struct known_pair *data;
    int64_t n, capacity;
};
/* The list is the caller's to free, after a failure too. */
enum status known_pairs_read(struct selection *s, struct range responses, struct known_pairs *out);
bool known_pairs_has(const struct known_pairs *known, int64_t a, int64_t b);
/* Marks a candidate as dropped. */
void candidate_drop(struct candidate *c, enum selection_drop why);
/* Gives a candidate the order that the file's pairs know, else that of the scores. */
enum status candidate_label(struct selection *s, const struct known_pairs *known, struct candidate *c);
/* Gives an unlabeled candidate the order of its responses' scores; equal ones drop it, missing ones leave it.
 */
enum status candidate_label_by_score(struct selection *s, struct candidate *c);

#endif
