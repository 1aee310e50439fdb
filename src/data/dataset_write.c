/* Writing preference files and views of them. */
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/dataset_internal.h"
#include "util/hash.h"
#include "util/mem.h"

/* Tokens come in runs of hundreds: a chunk of 64 KiB compresses well and takes a fraction of a millisecond to
 * decode for a random row. Index rows come one by one, and their chunks are only copied and checked. */
enum { TOKEN_CHUNK = 1 << 14, ROW_CHUNK = 1 << 13 };
/* HDF5 1.10 allots chunks one by one, by all ranks together: beyond some hundred it pays to have larger ones.
 */
enum { TOKEN_CHUNK_MOST = 1 << 16, CHUNKS_ENOUGH = 512 };

const struct array_spec dataset_columns[DATASET_COLUMNS] = {
    [PROMPT_TOKENS] = {"/prompts/tokens", ARRAY_I32, 1, TOKEN_CHUNK, 0, 0, false},
    [PROMPT_OFFSETS] = {"/prompts/offsets", ARRAY_I64, 0, ROW_CHUNK, 0, 0, false},
    [PROMPT_RESPONSES] = {"/prompts/responses", ARRAY_I64, 0, ROW_CHUNK, 0, 0, false},
    [RESPONSE_TOKENS] = {"/responses/tokens", ARRAY_I32, 1, TOKEN_CHUNK, 0, 0, false},
    [RESPONSE_OFFSETS] = {"/responses/offsets", ARRAY_I64, 0, ROW_CHUNK, 0, 0, false},
    [RESPONSE_PROMPT] = {"/responses/prompt", ARRAY_I64, 0, ROW_CHUNK, 0, 0, false},
    [RESPONSE_SCORE] = {"/responses/score", ARRAY_F32, 0, ROW_CHUNK, 0, 0, false},
    [RESPONSE_LENGTH] = {"/responses/length_chars", ARRAY_I32, 0, ROW_CHUNK, 0, 0, false},
    [RESPONSE_CHARS] = {"/responses/token_chars", ARRAY_U8, 1, TOKEN_CHUNK, 0, 0, false},
    [RESPONSE_WORTH] = {"/responses/worth", ARRAY_F32, 0, ROW_CHUNK, 0, 0, false},
    [RESPONSE_TRAINED] = {"/responses/trained", ARRAY_U8, 1, TOKEN_CHUNK, 0, 0, false},
    [PROMPT_SUBSET] = {"/prompts/subset", ARRAY_I32, 1, ROW_CHUNK, 0, 0, false},
    [RESPONSE_DESIRABLE] = {"/responses/desirable", ARRAY_I8, 0, ROW_CHUNK, 0, 0, false},
    [RESPONSE_SCORES] = {"/responses/scores", ARRAY_F32, 0, ROW_CHUNK, 0, 0, false},
    [PAIR_CHOSEN] = {"/pairs/chosen", ARRAY_I64, 0, ROW_CHUNK, 0, 0, false},
    [PAIR_REJECTED] = {"/pairs/rejected", ARRAY_I64, 0, ROW_CHUNK, 0, 0, false},
    [PAIR_MARGIN] = {"/pairs/margin", ARRAY_F32, 0, ROW_CHUNK, 0, 0, false},
    [PAIR_LABEL] = {"/pairs/label", ARRAY_I8, 0, ROW_CHUNK, 0, 0, false},
    [PAIR_SOURCE] = {"/pairs/source", ARRAY_I64, 0, ROW_CHUNK, 0, 0, false},
    [PAIR_SPLIT] = {"/pairs/split", ARRAY_I8, 0, ROW_CHUNK, 0, 0, false},
};

const char *const dataset_hash_names[DATASET_HASHES] = {
    [HASH_TOKENS] = "hash", [HASH_RESPONSES] = "responses_hash", [HASH_PAIRS] = "pairs_hash"};

enum dataset_hash dataset_hash_of(enum dataset_column column) {
    switch (column) {
    case PROMPT_TOKENS:
    case PROMPT_OFFSETS:
    case RESPONSE_TOKENS:
    case RESPONSE_OFFSETS:
    case RESPONSE_PROMPT:
    case RESPONSE_TRAINED:
        return HASH_TOKENS;
    default:
        return column >= PAIR_CHOSEN ? HASH_PAIRS : HASH_RESPONSES;
    }
}

enum { NAMES_MOST = 60000 }; /* an attribute holds no more than 64 KiB */

/* Where this rank's rows begin in the whole file, and how many there are. */
struct place {
    int64_t before, total;
};

/* What is written in place of the part's own arrays: global indices, and values where there were none. */
struct global_part {
    struct place prompts, responses, pairs, prompt_tokens, response_tokens;
    int64_t has_chars, has_worths, has_trained, has_desirable;
    int64_t *prompt_offsets, *prompt_responses; /* one more on the last rank: the end */
    int64_t *response_offsets, *response_prompt;
    int64_t *chosen, *rejected, *source;
    float *score, *worth, *margin;
    int8_t *label;
    uint8_t *trained;
};

static void global_free(struct global_part *g) {
    void *arrays[] = {g->prompt_offsets,
                      g->prompt_responses,
                      g->response_offsets,
                      g->response_prompt,
                      g->chosen,
                      g->rejected,
                      g->source,
                      g->score,
                      g->worth,
                      g->margin,
                      g->label,
                      g->trained};
    for (int i = 0; i < COUNT_OF(arrays); i++) {
        mem_free(arrays[i]);
    }
}

static enum status check_offsets(const int64_t *offsets, int64_t n, const char *what) {
    if (!offsets || offsets[0] != 0) {
        return fail(ERR_INTERNAL, "%s offsets do not begin at 0", what);
    }
    for (int64_t i = 0; i < n; i++) {
        if (offsets[i + 1] < offsets[i]) {
            return fail(ERR_INTERNAL, "%s offsets fall at row %lld", what, (long long)i);
        }
    }
    return OK;
}

static enum status check_tokens(const int32_t *tokens, int64_t n, int32_t vocabulary, const char *what) {
    for (int64_t i = 0; i < n; i++) {
        if (tokens[i] < 0 || tokens[i] >= vocabulary) {
            return fail(ERR_DATA, "%s token %d is outside the vocabulary of %d", what, tokens[i], vocabulary);
        }
    }
    return OK;
}

static enum status check_indices(const int64_t *indices, int64_t n, int64_t below, const char *what) {
    for (int64_t i = 0; i < n; i++) {
        if (indices[i] < 0 || indices[i] >= below) {
            return fail(ERR_INTERNAL, "%s %lld of row %lld is outside [0, %lld)", what, (long long)indices[i],
                        (long long)i, (long long)below);
        }
    }
    return OK;
}

static enum status check_part(const struct dataset_part *p, int32_t vocabulary) {
    if (p->n_prompts < 0 || p->n_responses < 0 || p->n_pairs < 0 || vocabulary <= 0) {
        return fail(ERR_INTERNAL, "a data set needs counts of 0 or more and a vocabulary");
    }
    TRY(check_offsets(p->prompt_offsets, p->n_prompts, "prompt"));
    TRY(check_offsets(p->response_offsets, p->n_responses, "response"));
    TRY(check_tokens(p->prompt_tokens, p->prompt_offsets[p->n_prompts], vocabulary, "prompt"));
    TRY(check_tokens(p->response_tokens, p->response_offsets[p->n_responses], vocabulary, "response"));
    TRY(check_indices(p->response_prompt, p->n_responses, p->n_prompts, "prompt"));
    for (int64_t i = 1; i < p->n_responses; i++) {
        if (p->response_prompt[i] < p->response_prompt[i - 1]) {
            return fail(ERR_INTERNAL, "responses are not in the order of their prompts at row %lld",
                        (long long)i);
        }
    }
    TRY(check_indices(p->chosen, p->n_pairs, p->n_responses, "chosen response"));
    return check_indices(p->rejected, p->n_pairs, p->n_responses, "rejected response");
}

static enum status shifted(const int64_t *in, int64_t n, int64_t base, int64_t **out) {
    TRY(NEW_ARRAY(*out, n));
    for (int64_t i = 0; i < n; i++) {
        (*out)[i] = in[i] + base;
    }
    return OK;
}

static enum status floats_or_nan(const float *in, int64_t n, float **out) {
    TRY(NEW_ARRAY(*out, n));
    for (int64_t i = 0; i < n; i++) {
        (*out)[i] = in ? in[i] : NAN;
    }
    return OK;
}

/* The first response of each of n + 1 prompts: its place in the order of the responses' prompts. */
static enum status first_responses(const struct dataset_part *p, int64_t base, int64_t **out) {
    TRY(NEW_ARRAY(*out, p->n_prompts + 1));
    int64_t response = 0;
    for (int64_t prompt = 0; prompt <= p->n_prompts; prompt++) {
        while (response < p->n_responses && p->response_prompt[response] < prompt) {
            response++;
        }
        (*out)[prompt] = response + base;
    }
    return OK;
}

/* Collective. */
static enum status find_places(struct comm *c, const struct dataset_part *p, struct global_part *g) {
    const int64_t counts[5] = {p->n_prompts, p->n_responses, p->n_pairs, p->prompt_offsets[p->n_prompts],
                               p->response_offsets[p->n_responses]};
    struct place *places[5] = {&g->prompts, &g->responses, &g->pairs, &g->prompt_tokens, &g->response_tokens};
    for (int i = 0; i < 5; i++) {
        TRY(comm_scan_i64(c, counts[i], &places[i]->before, &places[i]->total));
    }
    g->has_chars = p->response_token_chars != NULL;
    g->has_desirable = p->response_desirable != NULL;
    int64_t lacks = !p->response_token_chars && counts[4] > 0;
    int64_t unlabelled = !p->response_desirable && p->n_responses > 0;
    for (int64_t i = 0; i < p->n_responses && p->response_worth && !g->has_worths; i++) {
        g->has_worths = !isnan(p->response_worth[i]);
    }
    for (int64_t i = 0; i < counts[4] && p->response_trained && !g->has_trained; i++) {
        g->has_trained = p->response_trained[i] == 0;
    }
    TRY(comm_max_i64(c, &g->has_worths, 1));
    TRY(comm_max_i64(c, &g->has_trained, 1));
    TRY(comm_max_i64(c, &g->has_chars, 1));
    TRY(comm_max_i64(c, &lacks, 1));
    TRY(comm_max_i64(c, &g->has_desirable, 1));
    TRY(comm_max_i64(c, &unlabelled, 1));
    if (unlabelled && g->has_desirable) {
        return fail(ERR_INTERNAL, "labels of responses are given on some ranks and lacking on others");
    }
    if (lacks && g->has_chars) {
        return fail(ERR_INTERNAL, "characters per token are given on some ranks and lacking on others");
    }
    return OK;
}

/* Pairs of p with base added to the responses that they name. */
static enum status globalize_pairs(const struct dataset_part *p, int64_t base, struct global_part *g) {
    TRY(shifted(p->chosen, p->n_pairs, base, &g->chosen));
    TRY(shifted(p->rejected, p->n_pairs, base, &g->rejected));
    TRY(floats_or_nan(p->margin, p->n_pairs, &g->margin));
    TRY(NEW_ARRAY(g->source, p->n_pairs));
    TRY(NEW_ARRAY(g->label, p->n_pairs));
    for (int64_t i = 0; i < p->n_pairs; i++) {
        g->source[i] = p->pair_source ? p->pair_source[i] : -1;
        g->label[i] = p->label ? p->label[i] : 1;
    }
    return OK;
}

static enum status trained_or_all(const struct dataset_part *p, uint8_t **out) {
    int64_t n = p->response_offsets[p->n_responses];
    TRY(NEW_ARRAY(*out, n));
    for (int64_t i = 0; i < n; i++) {
        (*out)[i] = p->response_trained ? p->response_trained[i] : 1;
    }
    return OK;
}

static enum status globalize(const struct dataset_part *p, struct global_part *g) {
    TRY(shifted(p->prompt_offsets, p->n_prompts + 1, g->prompt_tokens.before, &g->prompt_offsets));
    TRY(shifted(p->response_offsets, p->n_responses + 1, g->response_tokens.before, &g->response_offsets));
    TRY(first_responses(p, g->responses.before, &g->prompt_responses));
    TRY(shifted(p->response_prompt, p->n_responses, g->prompts.before, &g->response_prompt));
    TRY(floats_or_nan(p->response_score, p->n_responses, &g->score));
    TRY(floats_or_nan(p->response_worth, p->n_responses, &g->worth));
    TRY(g->has_trained ? trained_or_all(p, &g->trained) : OK);
    return globalize_pairs(p, g->responses.before, g);
}

/* A file under way, and what its columns have been joined to. */
struct writing {
    struct comm *c;
    struct h5_writer *w;
    uint64_t hashes[DATASET_HASHES];
};

/* A function of the size alone, so that the file does not depend on the rank count. */
static int64_t chunk_of(int64_t rows, int64_t chunk) {
    while (chunk < TOKEN_CHUNK_MOST && rows / chunk >= CHUNKS_ENOUGH) {
        chunk *= 2;
    }
    return chunk;
}

/* Collective. n rows from place on, of `width` elements (0: of one); offsets end with one row more, which the
 * last rank adds. */
static enum status write_columns_of(struct writing *to, enum dataset_column column, int64_t width,
                                    struct place place, int64_t n, const void *data) {
    struct array_spec spec = dataset_columns[column];
    bool ends = column == PROMPT_OFFSETS || column == PROMPT_RESPONSES || column == RESPONSE_OFFSETS;
    uint64_t *joined = &to->hashes[dataset_hash_of(column)];
    spec.rows = place.total + (ends ? 1 : 0);
    spec.width = width;
    spec.chunk_rows = chunk_of(spec.rows, spec.chunk_rows);
    struct range part = {place.before, place.before + n + (ends && to->c->rank == to->c->size - 1 ? 1 : 0)};
    char nothing = 0;
    uint64_t hash;
    TRY(h5_write_array(to->w, &spec, part, data ? data : &nothing, &hash));
    *joined = hash_join(*joined, hash);
    return OK;
}

static enum status write_column(struct writing *to, enum dataset_column column, struct place place, int64_t n,
                                const void *data) {
    return write_columns_of(to, column, 0, place, n, data);
}

static enum status write_pairs(struct writing *to, struct place place, int64_t n,
                               const struct global_part *g) {
    TRY(write_column(to, PAIR_CHOSEN, place, n, g->chosen));
    TRY(write_column(to, PAIR_REJECTED, place, n, g->rejected));
    TRY(write_column(to, PAIR_MARGIN, place, n, g->margin));
    TRY(write_column(to, PAIR_LABEL, place, n, g->label));
    return write_column(to, PAIR_SOURCE, place, n, g->source);
}

static enum status write_columns(struct writing *to, const struct dataset_part *p,
                                 const struct global_part *g) {
    int64_t prompt_tokens = p->prompt_offsets[p->n_prompts];
    int64_t response_tokens = p->response_offsets[p->n_responses];
    TRY(write_column(to, PROMPT_TOKENS, g->prompt_tokens, prompt_tokens, p->prompt_tokens));
    TRY(write_column(to, PROMPT_OFFSETS, g->prompts, p->n_prompts, g->prompt_offsets));
    TRY(write_column(to, PROMPT_RESPONSES, g->prompts, p->n_prompts, g->prompt_responses));
    TRY(write_column(to, RESPONSE_TOKENS, g->response_tokens, response_tokens, p->response_tokens));
    TRY(write_column(to, RESPONSE_OFFSETS, g->responses, p->n_responses, g->response_offsets));
    TRY(write_column(to, RESPONSE_PROMPT, g->responses, p->n_responses, g->response_prompt));
    TRY(write_column(to, RESPONSE_SCORE, g->responses, p->n_responses, g->score));
    TRY(write_column(to, RESPONSE_LENGTH, g->responses, p->n_responses, p->response_length_chars));
    if (g->has_chars) {
        TRY(write_column(to, RESPONSE_CHARS, g->response_tokens, response_tokens, p->response_token_chars));
    }
    if (g->has_worths) {
        TRY(write_column(to, RESPONSE_WORTH, g->responses, p->n_responses, g->worth));
    }
    if (g->has_trained) {
        TRY(write_column(to, RESPONSE_TRAINED, g->response_tokens, response_tokens, g->trained));
    }
    return write_pairs(to, g->pairs, p->n_pairs, g);
}

/* Local. A name a line. */
static enum status join_names(char *const *list, int n, const char *what, struct text *out) {
    for (int i = 0; i < n; i++) {
        TRY(text_printf(out, "%s%s", i ? "\n" : "", list[i]));
    }
    return out->len <= NAMES_MOST
               ? OK
               : fail(ERR_DATA, "the %s' names are longer than %d bytes together", what, NAMES_MOST);
}

/* Collective. */
static enum status write_scores(struct writing *to, const struct dataset_part *p, const struct global_part *g,
                                const struct dataset_facts *f) {
    struct text names = {0};
    if (f->n_objectives == 0) {
        return OK;
    }
    enum status st = comm_agree(to->c, join_names(f->objectives, f->n_objectives, "objectives", &names));
    st = st == OK ? write_columns_of(to, RESPONSE_SCORES, f->n_objectives, g->responses, p->n_responses,
                                     p->response_scores)
                  : st;
    st = st == OK ? h5_put_text(to->w, "objectives", names.data) : st;
    text_free(&names);
    return st;
}

/* Collective. */
static enum status write_subsets(struct writing *to, const struct dataset_part *p,
                                 const struct global_part *g, const struct dataset_facts *f) {
    struct text names = {0};
    int64_t n = f->n_subsets;
    TRY(comm_max_i64(to->c, &n, 1));
    if (n == 0) {
        return OK;
    }
    enum status st = p->prompt_subset || p->n_prompts == 0
                         ? OK
                         : fail(ERR_INTERNAL, "subsets are given on some ranks and lacking on others");
    st = st == OK ? join_names(f->subsets, f->n_subsets, "subsets", &names) : st;
    st = comm_agree(to->c, st);
    st = st == OK ? write_column(to, PROMPT_SUBSET, g->prompts, p->n_prompts, p->prompt_subset) : st;
    st = st == OK ? h5_put_text(to->w, "subsets", names.data) : st;
    text_free(&names);
    return st;
}

/* Collective; rank 0's facts win. */
static enum status write_facts(struct writing *to, const struct dataset_facts *f) {
    struct h5_writer *w = to->w;
    struct dataset_facts counts = {.n_dropped = f->n_dropped, .template_hash = f->template_hash};
    memcpy(counts.dropped, f->dropped, sizeof counts.dropped);
    TRY(comm_broadcast(to->c, 0, &counts, sizeof counts));
    for (int i = 0; i < DATASET_HASHES; i++) {
        TRY(h5_put_u64(w, dataset_hash_names[i], to->hashes[i]));
    }
    TRY(h5_put_text(w, "tokenizer", f->tokenizer));
    TRY(h5_put_u64(w, "tokenizer_hash", f->tokenizer_hash));
    TRY(h5_put_i64(w, "vocabulary", f->vocabulary));
    TRY(h5_put_i64(w, "begin_id", f->begin_id));
    TRY(h5_put_i64(w, "end_id", f->end_id));
    TRY(h5_put_text(w, "source", f->source));
    TRY(h5_put_u64(w, "source_hash", f->source_hash));
    TRY(h5_put_text(w, "format", f->format));
    TRY(h5_put_text(w, "command", f->command));
    if (counts.template_hash != 0) {
        TRY(h5_put_u64(w, "template_hash", counts.template_hash));
        TRY(h5_put_text(w, "template_date", f->template_date ? f->template_date : ""));
    }
    TRY(h5_put_text(w, "program", f->program));
    for (int i = 0; i < counts.n_dropped && i < DATASET_DROP_REASONS; i++) {
        char name[sizeof "dropped." + sizeof counts.dropped[i].reason];
        snprintf(name, sizeof name, "dropped.%.47s", counts.dropped[i].reason);
        TRY(h5_put_i64(w, name, counts.dropped[i].count));
    }
    return OK;
}

/* The first version that knows all that the file has. */
static int format_of(const struct global_part *g, const struct dataset_facts *f) {
    return f->n_objectives > 0 ? DATASET_FORMAT_VERSION
           : g->has_desirable  ? DATASET_FORMAT_DESIRABLE
           : g->has_trained    ? DATASET_FORMAT_TRAINED
                               : DATASET_FORMAT_PLAIN;
}

enum status dataset_write(struct comm *c, const char *path, const struct dataset_part *part,
                          const struct dataset_facts *facts) {
    struct global_part g = {0};
    struct writing to = {.c = c};
    int32_t vocabulary = facts->vocabulary;
    enum status st;
    TRY(comm_broadcast(c, 0, &vocabulary, sizeof vocabulary));
    TRY_TO(done, comm_agree(c, check_part(part, vocabulary)));
    TRY_TO(done, find_places(c, part, &g));
    TRY_TO(done, comm_agree(c, globalize(part, &g)));
    TRY_TO(done, h5_create(c, path, DATASET_CONTENT, format_of(&g, facts), FILE_FINAL, &to.w));
    st = write_columns(&to, part, &g);
    st = st == OK ? write_subsets(&to, part, &g, facts) : st;
    if (st == OK && g.has_desirable) {
        st = write_column(&to, RESPONSE_DESIRABLE, g.responses, part->n_responses, part->response_desirable);
    }
    st = st == OK ? write_scores(&to, part, &g, facts) : st;
    if (st == OK) {
        st = write_facts(&to, facts);
    }
    st = h5_finish(to.w, st);
done:
    global_free(&g);
    return st;
}

/* Views. */

/* The way from the folder of `from` to the file `to`, both as the system sees them. */
static enum status relative_path(const char *from, const char *to, struct text *out) {
    char folder[PATH_MAX], file[PATH_MAX];
    const char *slash = strrchr(from, '/');
    char *given = slash ? mem_strndup(from, (size_t)(slash - from) + 1) : mem_strdup(".");
    TRY(mem_ok(given));
    bool found = realpath(given, folder) && realpath(to, file);
    mem_free(given);
    if (!found) {
        return fail(ERR_WRITE, "%s: folder cannot be resolved: %s", from, strerror(errno));
    }
    /* Skip the folders that both share, then one ".." for each that is left of the first. */
    size_t shared = 0, i = 0;
    for (; folder[i] && folder[i] == file[i]; i++) {
        shared = folder[i] == '/' ? i + 1 : shared;
    }
    if (!folder[i] && file[i] == '/') {
        shared = i + 1;
    }
    for (const char *rest = shared <= i ? folder + shared : ""; *rest;) {
        TRY(text_puts(out, "../"));
        rest = strchr(rest, '/');
        rest = rest ? rest + 1 : "";
    }
    return text_puts(out, file + shared);
}

/* Local. Checks the pairs against the file that they select from. */
static enum status view_pairs(const struct dataset_part *p, int64_t responses, struct global_part *g) {
    TRY(check_indices(p->chosen, p->n_pairs, responses, "chosen response"));
    TRY(check_indices(p->rejected, p->n_pairs, responses, "rejected response"));
    return globalize_pairs(p, 0, g);
}

/* Collective. What a view says of itself. */
static enum status write_link(struct writing *to, const struct dataset *base, const char *link,
                              const struct view_pairs *pairs, const char *command) {
    TRY(h5_put_u64(to->w, dataset_hash_names[HASH_PAIRS], to->hashes[HASH_PAIRS]));
    TRY(h5_put_text(to->w, "selects", link));
    TRY(h5_put_u64(to->w, "selects_hash", dataset_hash(base)));
    const char *objective = pairs->objective;
    if (!objective && dataset_objective(base) >= 0) {
        objective = dataset_facts(base)->objectives[dataset_objective(base)];
    }
    TRY(objective ? h5_put_text(to->w, "objective", objective) : OK);
    return h5_put_text(to->w, "command", command);
}

/* Collective. */
static enum status write_selection(struct comm *c, const char *path, const struct dataset *base,
                                   const struct view_pairs *pairs, const char *command) {
    struct global_part g = {0};
    struct writing to = {.c = c};
    struct text link = {0};
    /* The writer only reads its part; the struct has no const because others fill it. */
    const struct dataset_part p = {.n_pairs = pairs->n,
                                   .chosen = (int64_t *)(uintptr_t)pairs->chosen,
                                   .rejected = (int64_t *)(uintptr_t)pairs->rejected,
                                   .margin = (float *)(uintptr_t)pairs->margin,
                                   .label = (int8_t *)(uintptr_t)pairs->label,
                                   .pair_source = (int64_t *)(uintptr_t)pairs->source};
    int64_t has_splits = pairs->split != NULL;
    bool has_objective = pairs->objective || dataset_objective(base) >= 0;
    enum status st;
    TRY_TO(done, comm_agree(c, view_pairs(&p, dataset_size(base).responses, &g)));
    TRY_TO(done, comm_scan_i64(c, p.n_pairs, &g.pairs.before, &g.pairs.total));
    TRY_TO(done, comm_max_i64(c, &has_splits, 1));
    TRY_TO(done, comm_agree(c, relative_path(path, dataset_base_path(base), &link)));
    TRY_TO(done, h5_create(c, path, SELECTION_CONTENT,
                           has_splits || has_objective ? DATASET_FORMAT_VERSION : DATASET_FORMAT_PLAIN,
                           FILE_FINAL, &to.w));
    st = write_pairs(&to, g.pairs, p.n_pairs, &g);
    st = st == OK && has_splits ? write_column(&to, PAIR_SPLIT, g.pairs, p.n_pairs, pairs->split) : st;
    st = st == OK ? write_link(&to, base, link.data, pairs, command) : st;
    st = h5_finish(to.w, st);
done:
    text_free(&link);
    global_free(&g);
    return st;
}

enum status dataset_write_view(struct comm *c, const char *path, const char *base,
                               const struct view_pairs *pairs, const char *command) {
    struct dataset *selected;
    TRY(dataset_open(c, base, &selected));
    enum status st = write_selection(c, path, selected, pairs, command);
    dataset_close(selected);
    return st;
}
