/* The data as the run will see them: lengths, cuts, end tokens, the tokenizer that made them, and whether
 * text put together again still has its prompt's tokens in front. */
#include <stdio.h>
#include <string.h>

#include "command/preflight/preflight.h"
#include "data/lengths.h"
#include "util/mem.h"

enum { BLOCK = 256 };

/* Shares of rows above which a line is a warning. */
static const double many_cut = 0.05, many_moved = 0.01;

struct look {
    struct preflight *p;
    const struct rows *rows;
    struct dataset *data;
    const char *key;
};

static double percent(int64_t part, int64_t whole) {
    return whole > 0 ? 100 * (double)part / (double)whole : 0;
}

/* Lengths. */

/* Tokens of prompts and of responses, before any cut. */
struct look_lengths {
    struct lengths prompts, responses;
};

/* Local. */
static enum status add_lengths(const struct look *l, struct range part, struct look_lengths *out) {
    struct response responses[BLOCK];
    int64_t previous = -1;
    if (part.first > 0 && part.first < part.last) {
        TRY(dataset_response(l->data, part.first - 1, responses));
        previous = responses[0].prompt;
    }
    for (int64_t first = part.first; first < part.last; first += BLOCK) {
        struct range block = range_block(part, first, BLOCK);
        TRY(dataset_responses(l->data, block, responses));
        for (int64_t i = 0; i < block.last - block.first; i++) {
            if (responses[i].prompt != previous) {
                lengths_add(&out->prompts, responses[i].prompt_count);
            }
            previous = responses[i].prompt;
            lengths_add(&out->responses, responses[i].count);
        }
    }
    return OK;
}

/* What a row too many is refused for is in the list of the run's own checks. */
static void say_positions(const struct look *l) {
    struct preflight *p = l->p;
    int64_t most = p->has_model ? model_positions(&p->config) : 0;
    if (most > 0 && l->rows->longest_path <= most) {
        preflight_say(p, FINDING_OK, l->key,
                      "longest prompt + response: %lld tokens; the model has %lld positions",
                      (long long)l->rows->longest_path, (long long)most);
    }
}

static enum status print_lengths(const struct look *l, struct look_lengths *all) {
    struct lengths *const kinds[] = {&all->prompts, &all->responses};
    for (int i = 0; i < COUNT_OF(kinds); i++) {
        struct text line = {0};
        TRY(lengths_reduce(l->p->comm, kinds[i]));
        enum status st = comm_agree(l->p->comm, lengths_print(kinds[i], &line));
        if (st == OK) {
            preflight_say(l->p, FINDING_OK, l->key, "%s", line.data ? line.data : "no tokens");
        }
        text_free(&line);
        TRY(st);
    }
    say_positions(l);
    return OK;
}

/* Collective. */
static enum status look_at_lengths(const struct look *l) {
    struct look_lengths all = {0};
    struct comm *c = l->p->comm;
    enum status st;
    TRY_TO(agreed, lengths_open(&all.prompts, "prompt"));
    TRY_TO(agreed, lengths_open(&all.responses, "response"));
    st = add_lengths(l, range_part(dataset_size(l->data).responses, c->rank, c->size), &all);
agreed:
    st = comm_agree(c, st);
    if (st == OK) {
        st = print_lengths(l, &all);
    }
    lengths_close(&all.prompts);
    lengths_close(&all.responses);
    return st;
}

/* Cuts and end tokens. */

static void say_cuts(const struct look *l) {
    const struct cut_counts *c = &l->rows->counts;
    int64_t cut = c->prompts_cut > c->responses_cut ? c->prompts_cut : c->responses_cut;
    preflight_say(l->p, percent(cut, c->rows) > 100 * many_cut ? FINDING_WARN : FINDING_OK, l->key,
                  "truncated: %lld prompts (%.3g %%) and %lld responses of %lld rows",
                  (long long)c->prompts_cut, percent(c->prompts_cut, c->rows), (long long)c->responses_cut,
                  (long long)c->rows);
    if (c->alike > 0) {
        preflight_say(l->p, FINDING_WARN, l->key,
                      "%lld of %lld pairs have the same tokens on both sides (%lld of them cut): they teach "
                      "nothing",
                      (long long)c->alike, (long long)c->pairs, (long long)c->alike_cut);
    }
    if (c->against > 0 || c->level > 0) {
        preflight_say(l->p, FINDING_WARN, l->key,
                      "%lld of %lld pairs have the higher score on the rejected side, %lld the same on both",
                      (long long)c->against, (long long)c->pairs, (long long)c->level);
    }
    if (view_unlabeled(l->rows->view) > 0) {
        preflight_say(l->p, FINDING_WARN, l->key, "%lld of %lld pairs have no label and are left out",
                      (long long)view_unlabeled(l->rows->view), (long long)dataset_size(l->data).pairs);
    }
    bool none = dataset_facts(l->data)->end_id < 0;
    preflight_say(l->p, none || c->without_end > 0 ? FINDING_WARN : FINDING_OK, l->key,
                  none ? "prepared without end tokens: the model does not learn to stop (%lld of %lld rows)"
                       : "without an end token: %lld responses of %lld rows",
                  (long long)(none ? c->rows : c->without_end), (long long)c->rows);
    if (c->empty_dropped > 0) {
        preflight_say(l->p, FINDING_WARN, l->key, "empty: %lld responses have no token",
                      (long long)c->empty_dropped);
    }
}

/* The tokenizer. */

static void say_tokenizer(const struct look *l) {
    struct preflight *p = l->p;
    const struct dataset_facts *facts = dataset_facts(l->data);
    const struct tokenizer *t = p->trainer.session.tokenizer;
    if (!t) {
        preflight_say(p, FINDING_WARN, l->key,
                      "the model folder has no tokenizer: that it is the data's (%s) cannot be checked",
                      facts->tokenizer);
    } else if (facts->tokenizer_hash != tokenizer_hash(t) && p->run->settings->allow_other_tokenizer) {
        preflight_say(p, FINDING_WARN, l->key,
                      "tokenized with %s, which is not the model's tokenizer (another hash)",
                      facts->tokenizer);
    } else if (!preflight_failed(p, l->key, session_check_tokenizer(&p->trainer.session, l->data))) {
        preflight_say(p, FINDING_OK, l->key, "tokenized with the model's tokenizer (same hash)");
    }
}

/* Boundaries. */

enum boundary { CHECKED, MOVED, UNLIKE, TWO_BEGINS, BOUNDARY_COUNTS };

struct boundary_check {
    const struct look *look;
    const struct tokenizer *tokenizer;
    struct encoder *encoder;
    struct ids again;
    struct text text;
    int32_t *tokens;
    int64_t capacity;
    int64_t counts[BOUNDARY_COUNTS];
};

/* Do the ids of b->text begin with these? */
static enum status begins_with(struct boundary_check *b, const int32_t *ids, int64_t n, bool *out) {
    b->again.count = 0;
    TRY(tokenizer_encode(b->encoder, b->text.data ? b->text.data : "", b->text.len, &b->again, NULL));
    *out = b->again.count >= n && (n == 0 || memcmp(b->again.data, ids, (size_t)n * sizeof *ids) == 0);
    return OK;
}

static enum status check_one(struct boundary_check *b, const struct response *r) {
    const struct dataset_facts *facts = dataset_facts(b->look->data);
    int64_t total = r->prompt_count + r->count;
    TRY(GROW_ARRAY(b->tokens, b->capacity, total + 1));
    int32_t *prompt = b->tokens, *response = b->tokens + r->prompt_count;
    int64_t n = r->prompt_count, m = r->count;
    TRY(dataset_prompt_tokens(b->look->data, r->prompt_first, n, prompt));
    TRY(dataset_response_tokens(b->look->data, r->first, m, response));
    bool begins = n > 0 && facts->begin_id >= 0 && prompt[0] == facts->begin_id;
    b->counts[TWO_BEGINS] += begins && n > 1 && prompt[1] == facts->begin_id;
    prompt += begins;
    n -= begins;
    m -= m > 0 && response[m - 1] == facts->end_id;
    bool same;
    text_clear(&b->text);
    TRY(tokenizer_decode(b->tokenizer, prompt, n, false, &b->text));
    TRY(begins_with(b, prompt, n, &same));
    b->counts[CHECKED]++;
    if (!same || b->again.count != n) {
        b->counts[UNLIKE]++; /* its text does not give its ids even alone */
        return OK;
    }
    TRY(tokenizer_decode_after(b->tokenizer, response, m, false, &b->text));
    TRY(begins_with(b, prompt, n, &same));
    b->counts[MOVED] += !same;
    return OK;
}

/* Local. This rank's part of a sample that is spread evenly over the file. */
static enum status check_sample(struct boundary_check *b) {
    const struct comm *c = b->look->p->comm;
    int64_t n = dataset_size(b->look->data).responses, wanted = b->look->p->run->settings->preflight.sample;
    int64_t sample = wanted < n ? wanted : n;
    struct range part = range_part(sample, c->rank, c->size);
    TRY(encoder_open(b->tokenizer, &b->encoder));
    for (int64_t i = part.first; i < part.last; i++) {
        int64_t id = (int64_t)((double)i / (double)sample * (double)n);
        struct response response;
        TRY(dataset_response(b->look->data, id, &response));
        TRY(check_one(b, &response));
    }
    return OK;
}

static void say_boundaries(const struct look *l, const int64_t *counts) {
    double moved = percent(counts[MOVED], counts[CHECKED] - counts[UNLIKE]);
    preflight_say(
        l->p, moved > 100 * many_moved ? FINDING_WARN : FINDING_OK, l->key,
        "boundaries: of %lld responses, in %lld (%.3g %%) the prompt's tokens are no prefix of the tokens "
        "of prompt and response in one piece",
        (long long)counts[CHECKED], (long long)counts[MOVED], moved);
    if (counts[UNLIKE] > 0) {
        preflight_say(l->p, FINDING_OK, l->key,
                      "boundaries: %lld prompts were not looked at, their text alone gives other tokens",
                      (long long)counts[UNLIKE]);
    }
    if (counts[TWO_BEGINS] > 0) {
        preflight_say(l->p, FINDING_WARN, l->key, "%lld prompts of %lld have two beginning tokens",
                      (long long)counts[TWO_BEGINS], (long long)counts[CHECKED]);
    }
}

/* Collective. */
static enum status look_at_boundaries(const struct look *l) {
    struct boundary_check b = {.look = l, .tokenizer = l->p->trainer.session.tokenizer};
    if (!b.tokenizer || dataset_facts(l->data)->tokenizer_hash != tokenizer_hash(b.tokenizer) ||
        l->p->run->settings->preflight.sample == 0) {
        return OK;
    }
    enum status st = comm_agree(l->p->comm, check_sample(&b));
    if (b.encoder) {
        encoder_close(b.encoder);
    }
    ids_free(&b.again);
    text_free(&b.text);
    mem_free(b.tokens);
    TRY(st);
    TRY(comm_sum_i64(l->p->comm, b.counts, BOUNDARY_COUNTS));
    say_boundaries(l, b.counts);
    return OK;
}

/* Collective. */
static enum status look_at(struct preflight *p, const struct rows *rows, const char *key) {
    const struct look l = {.p = p, .rows = rows, .data = rows->data, .key = key};
    preflight_say(p, FINDING_OK, key,
                  "%s: %lld rows, %lld tokens (prompts once), %lld scored, longest row %lld",
                  dataset_path(rows->data), (long long)rows->n, (long long)rows->tokens,
                  (long long)rows->scored, (long long)rows->longest);
    TRY(look_at_lengths(&l));
    say_cuts(&l);
    if (p->has_model) {
        say_tokenizer(&l);
    }
    return look_at_boundaries(&l);
}

enum status preflight_data(struct preflight *p) {
    struct session *s = &p->trainer.session;
    if (preflight_failed(p, "data", trainer_open_rows(&p->trainer))) {
        return OK;
    }
    if (p->has_model) { /* only now: another tokenizer than the data's leaves much to be looked at */
        preflight_failed(p, "tokenizer", comm_agree(p->comm, session_open_tokenizer(s)));
    }
    p->has_rows = true;
    if (*s->settings->select.strategy) {
        preflight_say(p, FINDING_OK, "data",
                      "pairs are selected when the run starts; this is about all of them");
    }
    if (preflight_failed(p, "data", look_at(p, &s->train, "data"))) {
        return OK;
    }
    if (p->trainer.own && s->tokenizer) {
        preflight_failed(p, "data", p->trainer.own->check_rows(&p->trainer));
    }
    if (s->eval.view) {
        preflight_failed(p, "eval_data", look_at(p, &s->eval, "eval_data"));
    }
    return OK;
}
