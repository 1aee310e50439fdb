/* A program of the user's that says what responses are worth: started once, it reads a line of JSON for each
 * response and answers each with a line, in the same order, while its input is open.
 *
 * - in: {"row": 7, "sample": 0, "prompt": "…", "text": "…", "tokens": [5, 9], "answer": "…" or null, "left":
 * 3}; left: how many lines of this update follow, for programs that want them all before they answer
 * - out: {"reward": 0.5}, with row and sample where it likes, which then must be those it was asked; or 0.5
 *
 * Its errors go where this program's go. It runs in the shell, in a process group of its own, without MPI's
 * variables, with PYTHONUNBUFFERED=1 and COLLIMATE_REWARD_RANK. At the end its input is closed, and what then
 * does not end by itself is ended.
 */
#ifndef COLLIMATE_ONLINE_REWARD_PROGRAM_H
#define COLLIMATE_ONLINE_REWARD_PROGRAM_H

#include "online/rewarder.h"

struct reward_program;
/* Local. SIGPIPE is ignored from here on. Fails: ERR_SYSTEM. */
enum status reward_program_open(const char *command, double timeout_s, int rank, struct reward_program **out);
void reward_program_close(struct reward_program *p);

/* Local. One reward each. Fails: ERR_DATA naming rank, row and sample that has none: the program ended, said
 * nothing for timeout_s, wrote what is no finite number, or more lines than it was given. */
enum status reward_program_run(struct reward_program *p, const struct rewarded *responses, int64_t n,
                               double *rewards);

#endif
