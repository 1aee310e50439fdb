/* What the parts of `judge` share: who answered what, and who says which answer is better. */
#ifndef COLLIMATE_COMMAND_JUDGE_H
#define COLLIMATE_COMMAND_JUDGE_H

#include "command/session.h"
#include "evaluate/win_rate.h"
#include "text/template_folder.h"

enum { JUDGED_FILES = 64 };

/* A prompt with two systems' answers. */
struct judged {
    int a, b; /* systems */
    const struct reply *x, *y;
};

struct judge {
    struct run *run;
    struct session session; /* where a model judges */
    struct dataset *data;   /* holds the prompts that the files of answers do not; NULL: none */
    struct tokenizer *data_tokenizer;
    struct replies systems[JUDGED_FILES];
    int n_systems;
    struct judged *pairs;
    int64_t n_pairs, pairs_capacity;
    struct verdicts verdicts; /* rank 0's */
    struct gamed gamed;
    struct text out;
};

/* Local. The text of the prompt that a reply answers: its own, or data's. Fails: ERR_USAGE where neither has
 * it. */
enum status judge_prompt(const struct judge *j, const struct reply *reply, struct text *out);
/* Local. Adds all pairs of systems on all prompts that both answered. Fails: ERR_DATA where two systems have
 * none. */
enum status judge_pair(struct judge *j);
/* Collective. A model's verdict on each pair, asked in both orders; rewards of a reward model for each reply.
 */
enum status judge_ask(struct judge *j);
enum status judge_reward(struct judge *j);

/* A judge's input: its tokenizer, chat template and the question around two answers. */
struct asking {
    const struct session *session;
    struct template *question;   /* of prompt, a, b */
    struct template_folder chat; /* of the judge's folder; count 0: none */
    struct encoder *encoder;
    struct template_output asked, wrapped; /* scratch */
};
/* Local. Freed in any case. */
enum status asking_open(const struct session *s, struct asking *out);
void asking_close(struct asking *a);
/* Local. *out: the question is another one where the answers change places. */
enum status asking_shows(struct asking *a, const char *prompt, const char *const answers[2], bool *out);
/* Local. Ids of the question with these answers, with the judge's turn opened; choices (2): the ids of both
 * choices right behind it. Fails: ERR_USAGE where a choice is not one token, or both are the same. */
enum status asking_ids(struct asking *a, const char *prompt, const char *const answers[2], struct ids *out,
                       int32_t choices[2]);
/* Local. Ids of a prompt and its answer as a reward model reads them. */
enum status asking_reply_ids(struct asking *a, const char *prompt, const char *answer, struct ids *out);

#endif
