/* One token from the voices' rows of logits: rule, filters, draw, and the numbers of it. Inside the room. */
#ifndef COLLIMATE_DECODE_DRAW_H
#define COLLIMATE_DECODE_DRAW_H

#include "decode/decoder.h"

struct drawer {
    const struct decoder_options *options; /* borrowed */
    int64_t vocabulary;
    struct sampler *sampler;
    float *room, *shaped; /* rows: the rule's, and with penalty and bars */
    int32_t *seen;        /* by id: the last draw that had it in its text; NULL: no penalty */
    int32_t draws;
};
struct drawn {
    int32_t token;
    const float *from; /* the rule's row: a voice's, or the drawer's, whose values its next draw overwrites */
    bool is_plain;     /* it was drawn from that row's softmax, nothing else */
    struct token_numbers numbers;
};

enum status drawer_open(const struct decoder_options *o, int64_t vocabulary, struct drawer *out);
void drawer_close(struct drawer *d);
/* Local. The token at place so_far->count of the response to p; rows: of the voices, those that are not there
 * NULL. want: numbers too, but for those that are logp's of voices' own rows: logp where `from` is a voice's,
 * reference_logp, and drawn_logp where is_plain, are left 0. Fails: ERR_DATA. */
enum status drawer_draw(struct drawer *d, const struct prompt *p, const struct response_tokens *so_far,
                        const float *const rows[VOICES], bool want, struct drawn *out);
/* The row that is compared with; NULL: none. */
const float *drawer_reference(const struct drawer *d, const float *const rows[VOICES]);

#endif
