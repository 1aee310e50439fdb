/* What the parts of `generate` share: what was asked for, the voices, what is drawn and written. */
#ifndef COLLIMATE_COMMAND_GENERATE_H
#define COLLIMATE_COMMAND_GENERATE_H

#include "command/steer_context.h"
#include "command/stops.h"
#include "decode/decoder.h"
#include "io/jsonl.h"
#include "io/lease.h"
#include "io/ordered.h"
#include "mpi/exact.h"
#include "score/scorer.h"
#include "score/work.h"

enum { MOST_STRINGS = 32, MOST_VALUES = 64 };

/* Sums over responses, and what they are of: generate.report shows their means. */
enum generate_sum {
    SUM_TOKENS,
    SUM_LOGP,
    SUM_KL_TOP,
    SUM_KL_MC,
    SUM_REWARD,
    SUM_REWARD_SQUARES,
    GENERATE_SUMS
};

/* What is asked for, one for each user and value of the rule's parameters. */
struct spoken {
    struct rule rule;
    int32_t user;                       /* of the contexts; -1: there are none */
    struct exact_sums sums;             /* enum generate_sum */
    int64_t responses, stopped, broken; /* of this rank */
};

/* Text that ends a response. */
struct stop_strings {
    char *list[MOST_STRINGS];
    int n;
    size_t longest;
    const struct tokenizer *tokenizer;
    struct text scratch;
};

/* What was drawn for generate.save, round by round, beside the file that it becomes (generate_rows.c). */
struct drawn {
    struct text path;          /* SAVE.rows; empty: nothing is saved */
    struct lease *lease;       /* on them, rank 0's: one job at a time writes there */
    struct ordered_file *file; /* NULL: not open */
    struct text lines;         /* of this rank in this round */
    int64_t done;              /* prompts of earlier runs, which are not drawn again */
    int64_t last;              /* prompts so far, this round included */
};

/* A growing part of a preference file (generate_save.c). */
struct saved {
    struct dataset_part part;
    int64_t cap_prompts, cap_prompt_tokens, cap_responses, cap_tokens, cap_pairs;
    int64_t first; /* of the prompt that is being filled: its first response */
};

/* generate.format=alpaca_eval (generate_alpaca.c). */
struct alpaca {
    struct records_input *instructions; /* NULL: they are the prompts */
    struct text generator;
};

struct generation {
    struct session session;
    struct dataset *data;
    struct contexts contexts;
    struct decoder_options options;
    struct decoder *decoder;
    struct ordered_file *file; /* NULL: standard output */
    struct stop_set stops;
    struct stop_strings strings;
    bool *barred;             /* ids that the tokenizer does not have */
    int64_t n;                /* prompts */
    int64_t *chosen;          /* their ids, where not all are spoken to; NULL: all, in order */
    int32_t longest, samples; /* samples: drawn for each prompt */
    int64_t cut;
    struct spoken spoken[MOST_VALUES];
    int n_spoken;
    struct model *voices[VOICES]; /* opened here; several may be one */
    struct model *judge;          /* the reward model, or NULL */
    struct workspace judge_workspace;
    struct scorer scorer;
    struct saved saved;
    struct drawn drawn;
    struct alpaca alpaca;
    struct work work;
    struct text text; /* of this rank in this round */
    int64_t done;     /* responses of this rank in earlier rounds and values */
};

/* The samples of a prompt as they were drawn. */
struct answers {
    int64_t row;
    const struct prompt *prompt;
    struct response_tokens *responses; /* g->samples of them */
    double *rewards;                   /* likewise; NULL: no reward model */
    struct spoken *spoken;
};

/* Part of a prompt that is used: [*first, *first + *count) of /prompts/tokens. Local. */
enum status generate_prompt_span(struct generation *g, int64_t row, int64_t *first, int64_t *count);
/* The prompt of row i of the work. */
int64_t generate_prompt_at(const struct generation *g, int64_t i);
/* What an empty prompt is replaced by: a decoder needs a token to go on from; -1: nothing is known. */
int32_t generate_first_token(const struct generation *g);
/* Collective. Options, stop set, row count, longest prompt. */
enum status generate_look(struct generation *g);

/* Local. The rule and the values of its parameters. Fails: ERR_USAGE naming the key. */
enum status generate_read_rule(struct generation *g);
/* Collective. The users of steer.context, each with all of these values. */
enum status generate_open_users(struct generation *g);
/* Collective. The other voices and the reward model. Fails: ERR_USAGE where vocabularies or tokenizers are
 * others than the model's. */
enum status generate_open_voices(struct generation *g);
void generate_close_voices(struct generation *g);
/* Local. Rewards of a prompt's responses. */
enum status generate_judge(struct generation *g, const struct answers *a);

/* Local. generate.stop as strings. */
enum status generate_read_strings(struct generation *g);
/* Local. decoder_options.is_end. */
bool generate_is_end(void *context, const int32_t *tokens, int32_t count);
/* Local. The text of a response, up to a stop string. */
enum status generate_text(struct generation *g, const struct response_tokens *r, struct text *out);
/* Local. Appends the lines of a prompt's responses, or of the best, and adds them to the sums. */
enum status generate_lines(struct generation *g, const struct answers *a, struct text *scratch);
/* Which of a prompt's responses is written alone; -1: all are. */
int32_t generate_best(const struct generation *g, const struct answers *a);
/* Collective. The means of each value, into the log and generate.report. counts: responses, tokens, and
 * responses that ended by themselves. Fails: ERR_DATA where responses ended broken, after all is written. */
enum status generate_report(struct generation *g, int64_t counts[3]);

/* Local. Does nothing where the format is another. Fails: ERR_USAGE where data or model do not have what the
 * format wants. */
enum status generate_open_alpaca(struct generation *g);
/* Local. Appends the record of a prompt's response k. */
enum status generate_alpaca_line(struct generation *g, const struct answers *a, int32_t k,
                                 struct text *scratch);
void generate_close_alpaca(struct alpaca *a);

/* What is said of one response that is written: sums over its tokens. */
struct response_sums {
    int32_t tokens;
    double logp, kl, kl_mc, reward; /* NaN where there is none */
    bool stopped, broken;
};
struct response_sums generate_sums(const struct generation *g, const struct answers *a, int32_t k);
/* Local. Adds a response to the sums of a value. */
void generate_count(const struct generation *g, struct spoken *s, const struct response_sums *r);
/* Local. A prompt's ids (room for g->longest) as they are used. */
enum status generate_prompt_ids(struct generation *g, int64_t row, int32_t *ids, int64_t *count);

/* Collective. Where generate.save is set: what an earlier run of the same command has drawn is counted, and
 * its lines are in g->text, this rank's part. Fails: ERR_WRITE where another process that lives is at it;
 * ERR_USAGE for a file of that name that is none. */
enum status generate_drawn_open(struct generation *g);
/* Local. Adds what is written of a prompt, the unit-th: its answers for each value, and their lines. */
enum status generate_drawn_add(struct generation *g, int64_t unit, const struct answers *answers,
                               const char *lines, size_t n);
/* Collective. The round is safe. Fails: ERR_LOST where another process has taken the rows over; ERR_WRITE. */
enum status generate_drawn_write(struct generation *g);
/* Local. work.is_missing. */
enum status generate_drawn_is_missing(void *context, int64_t unit, bool *out);
/* Collective. All that was drawn as a preference file; then the rows are removed. */
enum status generate_save_write(struct generation *g);
void generate_drawn_close(struct drawn *d);
void generate_save_free(struct saved *s);

/* The lines of generate.save's rows (generate_rows.c), for generate_save.c: a visit of each of [first, last)
 * with its JSON. */
typedef enum status generate_visit(struct generation *g, const json_t *line);
enum status generate_drawn_read(struct generation *g, struct range units, generate_visit *visit);

#endif
