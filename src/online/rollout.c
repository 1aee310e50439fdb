#include "online/rollout.h"

#include <math.h>
#include <string.h>

#include "util/clock.h"
#include "util/hash.h"
#include "util/mem.h"

void rollout_free(struct rollout *r) {
    mem_free(r->rows);
    mem_free(r->prompt_first);
    mem_free(r->prompt_tokens);
    mem_free(r->first);
    mem_free(r->tokens);
    mem_free(r->logps);
    mem_free(r->stopped);
    *r = (struct rollout){0};
}

/* A rank's part: units, each of them some of the samples of one prompt, and what was drawn for them. */
struct drawing {
    int64_t parts; /* that a prompt's samples are in, so that few prompts feed many ranks */
    int64_t n;     /* units */
    int64_t *units;
    struct sample *samples; /* a unit's prompt */
    int64_t n_drawn, n_own; /* the policy's own come first */
    struct prompt *prompts;
    int64_t *number; /* of each in the rollout */
    struct response_tokens *responses;
    int32_t *tokens;
    struct token_numbers *numbers;
};

static void drawing_free(struct drawing *d) {
    mem_free(d->units);
    samples_free(d->samples);
    mem_free(d->prompts);
    mem_free(d->number);
    mem_free(d->responses);
    mem_free(d->tokens);
    mem_free(d->numbers);
}

static struct range samples_of(const struct rollout_parts *p, const struct drawing *d, int64_t unit) {
    return range_part(p->samples, unit % d->parts, d->parts);
}

/* Which units are this rank's: the longest first onto the rank that has least to do. */
static enum status deal(const struct rollout_parts *p, const int64_t *rows, int64_t n, struct drawing *d) {
    const struct comm *c = p->comm;
    int32_t *cost = NULL;
    int64_t *names = NULL, *order = NULL, *first = NULL;
    enum status st;
    int64_t wanted = n < c->size ? (c->size + n - 1) / n : 1;
    d->parts = wanted < p->samples ? wanted : p->samples;
    int64_t units = n * d->parts;
    TRY_TO(done, NEW_ARRAY(cost, units));
    TRY_TO(done, NEW_ARRAY(names, units));
    TRY_TO(done, NEW_ARRAY(order, units));
    TRY_TO(done, NEW_ARRAY(first, c->size + 1));
    for (int64_t u = 0; u < units; u++) {
        struct range mine = samples_of(p, d, u);
        names[u] = u;
        double tokens = (double)(mine.last - mine.first) * p->expected[rows[u / d->parts]];
        cost[u] = 1 + (int32_t)fmin(tokens, INT32_MAX / 2);
    }
    TRY_TO(done, batch_deal(cost, names, units, c->size, order, first));
    d->n = first[c->rank + 1] - first[c->rank];
    TRY_TO(done, NEW_ARRAY(d->units, d->n));
    memcpy(d->units, order + first[c->rank], (size_t)d->n * sizeof *d->units);
done:
    mem_free(cost);
    mem_free(names);
    mem_free(order);
    mem_free(first);
    return st;
}

static enum status read_prompts(const struct rollout_parts *p, const int64_t *rows, struct drawing *d) {
    int64_t *mine;
    TRY(NEW_ARRAY(mine, d->n));
    for (int64_t i = 0; i < d->n; i++) {
        mine[i] = rows[d->units[i] / d->parts];
    }
    enum status st = view_read(p->view, mine, d->n, &d->samples, NULL);
    mem_free(mine);
    return st;
}

/* A decoder needs a token to go on from. */
static enum status start_empty(const struct rollout_parts *p, struct sample *s) {
    if (s->prompt_count > 0) {
        return OK;
    }
    if (p->first_token < 0) {
        return fail(
            ERR_DATA,
            "prompt %lld is empty, and neither the data nor the model knows a beginning or end token to "
            "start from",
            (long long)s->row);
    }
    s->prompt = &p->first_token;
    s->prompt_count = 1;
    return OK;
}

static enum status make_lists(const struct rollout_parts *p, struct drawing *d) {
    int64_t room;
    for (int64_t i = 0; i < d->n; i++) {
        struct range mine = samples_of(p, d, d->units[i]);
        d->n_drawn += mine.last - mine.first;
        TRY(start_empty(p, &d->samples[i]));
    }
    TRY(size_mul(d->n_drawn, p->decoder.max_new_tokens, "new tokens", &room));
    TRY(NEW_ARRAY(d->prompts, d->n_drawn));
    TRY(NEW_ARRAY(d->number, d->n_drawn));
    TRY(NEW_ARRAY(d->responses, d->n_drawn));
    TRY(NEW_ARRAY(d->tokens, room));
    return NEW_ARRAY(d->numbers, room);
}

/* Appends what is asked of samples [first, last) of each prompt. */
static void list_samples(const struct rollout_parts *p, int64_t first, int64_t last, struct drawing *d,
                         int64_t *at) {
    int64_t most = p->decoder.max_new_tokens;
    for (int64_t i = 0; i < d->n; i++) {
        const struct sample *s = &d->samples[i];
        struct range mine = samples_of(p, d, d->units[i]);
        for (int64_t k = mine.first; k < mine.last; k++) {
            if (k < first || k >= last) {
                continue;
            }
            d->number[*at] = d->units[i] / d->parts * p->samples + k;
            d->prompts[*at] = (struct prompt){
                .row = s->row, .sample = (int32_t)k, .tokens = s->prompt, .count = s->prompt_count};
            d->responses[*at] = (struct response_tokens){.tokens = d->tokens + *at * most,
                                                         .numbers = d->numbers + *at * most};
            (*at)++;
        }
    }
}

static int32_t own_samples(const struct rollout_parts *p) {
    return p->samples - (p->other != NULL);
}

/* What the decoders are asked for. */
static enum status list_prompts(const struct rollout_parts *p, struct drawing *d) {
    int64_t at = 0;
    TRY(make_lists(p, d));
    list_samples(p, 0, own_samples(p), d, &at);
    d->n_own = at;
    list_samples(p, own_samples(p), p->samples, d, &at);
    return OK;
}

static enum status check_drawn(const struct drawing *d, int64_t update) {
    for (int64_t i = 0; i < d->n_drawn; i++) {
        if (d->responses[i].broken) {
            return note("drawing sample %d of row %lld for update %lld; lower train.learning_rate",
                        d->prompts[i].sample, (long long)d->prompts[i].row, (long long)update + 1);
        }
    }
    return OK;
}

/* Items [first, last) of the lists. Local. */
static enum status decode(const struct rollout_parts *p, const struct decoder_options *o, int64_t update,
                          int64_t first, int64_t last, struct drawing *d) {
    struct decoder_options options = *o;
    struct decoder *decoder = NULL;
    options.seed = hash_join(p->decoder.seed, (uint64_t)update);
    TRY(decoder_open(p->model, p->workspace, &options, &decoder));
    enum status st = decoder_run(decoder, d->prompts + first, last - first, d->responses + first, NULL, NULL);
    decoder_close(decoder);
    return st;
}

/* Draws this rank's part. Local. */
static enum status draw(const struct rollout_parts *p, const int64_t *rows, int64_t n, int64_t update,
                        struct drawing *d) {
    TRY(deal(p, rows, n, d));
    TRY(read_prompts(p, rows, d));
    TRY(list_prompts(p, d));
    TRY(decode(p, &p->decoder, update, 0, d->n_own, d));
    TRY(p->other ? decode(p, p->other, update, d->n_own, d->n_drawn, d) : OK);
    return check_drawn(d, update);
}

/* Collective. Lengths and ends, of prompts and of responses. */
static enum status gather_lengths(const struct rollout_parts *p, const struct drawing *d, struct rollout *r) {
    int64_t responses = rollout_responses(r), *counts;
    enum status st = NEW_ARRAY(counts, r->n + 2 * responses);
    TRY(comm_agree(p->comm, st));
    int64_t *of_responses = counts + r->n, *stopped = of_responses + responses;
    for (int64_t i = 0; i < d->n; i++) {
        bool is_first = d->units[i] % d->parts == 0; /* of those that have the prompt */
        counts[d->units[i] / d->parts] = is_first ? d->samples[i].prompt_count : 0;
    }
    for (int64_t i = 0; i < d->n_drawn; i++) {
        of_responses[d->number[i]] = d->responses[i].count;
        stopped[d->number[i]] = d->responses[i].stopped;
    }
    st = comm_sum_i64(p->comm, counts, r->n + 2 * responses);
    for (int64_t i = 0; i < r->n; i++) {
        r->prompt_first[i + 1] = r->prompt_first[i] + counts[i];
    }
    for (int64_t k = 0; k < responses; k++) {
        r->first[k + 1] = r->first[k] + of_responses[k];
        r->stopped[k] = stopped[k] != 0;
    }
    mem_free(counts);
    return st;
}

static void narrow(const int64_t *values, int64_t n, int32_t *out) {
    for (int64_t i = 0; i < n; i++) {
        out[i] = (int32_t)values[i];
    }
}

/* This rank's tokens at their places among all. Local. */
static void place_tokens(const struct drawing *d, const struct rollout *r, int64_t *prompts,
                         int64_t *tokens) {
    for (int64_t i = 0; i < d->n; i++) {
        const struct sample *s = &d->samples[i];
        int64_t at = r->prompt_first[d->units[i] / d->parts];
        for (int32_t t = 0; t < s->prompt_count && d->units[i] % d->parts == 0; t++) {
            prompts[at + t] = s->prompt[t];
        }
    }
    for (int64_t i = 0; i < d->n_drawn; i++) {
        const struct response_tokens *from = &d->responses[i];
        for (int32_t t = 0; t < from->count; t++) {
            tokens[r->first[d->number[i]] + t] = from->tokens[t];
            r->logps[r->first[d->number[i]] + t] = from->numbers[t].logp + 0.0; /* no -0 */
        }
    }
}

/* Collective. */
static enum status gather(const struct rollout_parts *p, const struct drawing *d, struct rollout *r) {
    int64_t *prompts = NULL, *tokens = NULL;
    TRY(gather_lengths(p, d, r));
    int64_t n_prompts = r->prompt_first[r->n], n = r->first[rollout_responses(r)];
    enum status st = NEW_ARRAY(prompts, n_prompts);
    st = st == OK ? NEW_ARRAY(tokens, n) : st;
    st = st == OK ? NEW_ARRAY(r->prompt_tokens, n_prompts) : st;
    st = st == OK ? NEW_ARRAY(r->tokens, n) : st;
    st = st == OK ? NEW_ARRAY(r->logps, n) : st;
    TRY_TO(done, comm_agree(p->comm, st));
    place_tokens(d, r, prompts, tokens);
    TRY_TO(done, comm_sum_i64(p->comm, prompts, n_prompts)); /* each is somebody's, and 0 with the others */
    TRY_TO(done, comm_sum_i64(p->comm, tokens, n));
    TRY_TO(done, comm_sum_f64(p->comm, r->logps, n));
    narrow(prompts, n_prompts, r->prompt_tokens);
    narrow(tokens, n, r->tokens);
done:
    mem_free(prompts);
    mem_free(tokens);
    return st;
}

static enum status make_room(const struct rollout_parts *p, const int64_t *rows, int64_t n,
                             struct rollout *r) {
    int64_t responses;
    TRY(size_mul(n, p->samples, "responses", &responses));
    r->n = n;
    r->samples = p->samples;
    r->own = own_samples(p);
    TRY(NEW_ARRAY(r->rows, n));
    TRY(NEW_ARRAY(r->prompt_first, n + 1));
    TRY(NEW_ARRAY(r->first, responses + 1));
    TRY(NEW_ARRAY(r->stopped, responses));
    for (int64_t i = 0; i < n; i++) {
        r->rows[i] = view_row_in_file(p->view, rows[i]);
    }
    return OK;
}

enum status rollout_draw(const struct rollout_parts *p, const int64_t *rows, int64_t n, int64_t update,
                         struct rollout *out) {
    struct drawing d = {0};
    rollout_free(out);
    double began = clock_seconds();
    enum status st = make_room(p, rows, n, out);
    st = st == OK ? draw(p, rows, n, update, &d) : st;
    out->own_s = clock_seconds() - began;
    TRY_TO(done, comm_agree(p->comm, st));
    TRY_TO(done, gather(p, &d, out));
    for (int64_t i = 0; i < n; i++) {
        int64_t tokens = out->first[(i + 1) * p->samples] - out->first[i * p->samples];
        p->expected[rows[i]] = (double)tokens / p->samples;
    }
done:
    drawing_free(&d);
    return st;
}
