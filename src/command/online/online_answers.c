/* The data's answers, that rewards compare responses with. */
#include "command/online/online.h"
#include "online/reward_pattern.h"
#include "util/mem.h"

enum status online_find_answer(void *context, int64_t row, struct text *out, bool *found) {
    struct trainer *t = context;
    struct dataset *data = t->session.train.data;
    int64_t first, count;
    struct response r;
    int32_t *tokens;
    TRY(dataset_prompt_responses(data, row, &first, &count));
    *found = count > 0;
    if (count == 0) {
        return OK;
    }
    TRY(dataset_response(data, first, &r));
    TRY(NEW_ARRAY(tokens, r.count));
    enum status st = dataset_response_tokens(data, r.first, r.count, tokens);
    st = st == OK ? text_puts(out, "") : st;
    st = st == OK ? tokenizer_decode_after(t->session.tokenizer, tokens, r.count, true, out) : st;
    mem_free(tokens);
    return st;
}

/* Local. Of this rank's part of the rows. */
static enum status check_part(struct trainer *t, const struct reward_pattern *p) {
    const struct rows *rows = &t->session.train;
    struct range part = range_part(rows->n, t->session.comm->rank, t->session.comm->size);
    struct text answer = {0};
    enum status st = OK;
    for (int64_t i = part.first; i < part.last && st == OK; i++) {
        int64_t row = view_row_in_file(rows->view, i);
        bool found = false;
        text_clear(&answer);
        st = online_find_answer(t, row, &answer, &found);
        st = st == OK ? reward_pattern_check(p, row, found ? answer.data : NULL) : st;
    }
    text_free(&answer);
    return st;
}

enum status online_check_answers(struct trainer *t) {
    const struct settings *s = t->session.settings;
    struct reward_pattern *p = NULL;
    if (s->online.reward_match == MATCH_FOUND || !t->session.tokenizer) {
        return OK; /* the one has no answers, the other is refused elsewhere */
    }
    enum status st =
        reward_pattern_open(s->online.reward_pattern, (enum reward_match)s->online.reward_match, &p);
    st = st == OK ? check_part(t, p) : st;
    reward_pattern_close(p);
    return comm_agree(t->session.comm, st);
}
