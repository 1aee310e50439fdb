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

/* Chunks are copied and checked. Deflated tokens take half of the room (and their characters too), and as
 * long to write as all the rest of preparing them; so only what is nearly always the same is deflated. Tokens
 * come in runs of hundreds, index rows one by one. */
enum { TOKEN_CHUNK = 1 << 14, ROW_CHUNK = 1 << 13 };
/* HDF5 1.10 allots chunks one by one, by all ranks together: beyond some hundred it pays to have larger ones.
 */
enum { TOKEN_CHUNK_MOST = 1 << 16, CHUNKS_ENOUGH = 512 };

const struct array_spec dataset_columns[DATASET_COLUMNS] = {
    [PROMPT_TOKENS] = {"/prompts/tokens", ARRAY_I32, 0, TOKEN_CHUNK, 0, 0, false},
    [PROMPT_OFFSETS] = {"/prompts/offsets", ARRAY_I64, 0, ROW_CHUNK, 0, 0, false},
    [PROMPT_RESPONSES] = {"/prompts/responses", ARRAY_I64, 0, ROW_CHUNK, 0, 0, false},
    [RESPONSE_TOKENS] = {"/responses/tokens", ARRAY_I32, 0, TOKEN_CHUNK, 0, 0, false},
    [RESPONSE_OFFSETS] = {"/responses/offsets", ARRAY_I64, 0, ROW_CHUNK, 0, 0, false},
    [RESPONSE_PROMPT] = {"/responses/prompt", ARRAY_I64, 0, ROW_CHUNK, 0, 0, false},
    [RESPONSE_SCORE] = {"/responses/score", ARRAY_F32, 0, ROW_CHUNK, 0, 0, false},
    [RESPONSE_LENGTH] = {"/responses/length_chars", ARRAY_I32, 0, ROW_CHUNK, 0, 0, false},
    [RESPONSE_CHARS] = {"/responses/token_chars", ARRAY_U8, 0, TOKEN_CHUNK, 0, 0, false},
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

/* What is written in place of the part's own arrays: global indices, and values where there were none. */
struct global_part {
    struct file_columns columns;
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

enum status dataset_check_tokens(const int32_t *tokens, int64_t n, int32_t vocabulary, const char *what) {
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
    TRY(dataset_check_tokens(p->prompt_tokens, p->prompt_offsets[p->n_prompts], vocabulary, "prompt"));
    TRY(dataset_check_tokens(p->response_tokens, p->response_offsets[p->n_responses], vocabulary,
                             "response"));
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

enum status file_columns_settle(struct comm *c, struct file_columns *f) {
    struct column_place *places[] = {&f->prompts, &f->responses, &f->pairs, &f->prompt_tokens,
                                     &f->response_tokens};
    int64_t has[] = {f->has_chars, f->has_worths, f->has_trained, f->has_desirable};
    for (int i = 0; i < COUNT_OF(places); i++) {
        TRY(comm_scan_i64(c, places[i]->own, &places[i]->before, &places[i]->total));
    }
    TRY(comm_max_i64(c, has, COUNT_OF(has)));
    f->has_chars = has[0];
    f->has_worths = has[1];
    f->has_trained = has[2];
    f->has_desirable = has[3];
    return OK;
}

/* Collective. */
static enum status find_places(struct comm *c, const struct dataset_part *p, struct file_columns *f) {
    f->prompts.own = p->n_prompts;
    f->responses.own = p->n_responses;
    f->pairs.own = p->n_pairs;
    f->prompt_tokens.own = p->prompt_offsets[p->n_prompts];
    f->response_tokens.own = p->response_offsets[p->n_responses];
    f->has_chars = p->response_token_chars != NULL;
    f->has_desirable = p->response_desirable != NULL;
    int64_t lacks = !p->response_token_chars && f->response_tokens.own > 0;
    int64_t unlabelled = !p->response_desirable && p->n_responses > 0;
    for (int64_t i = 0; i < p->n_responses && p->response_worth && !f->has_worths; i++) {
        f->has_worths = !isnan(p->response_worth[i]);
    }
    for (int64_t i = 0; i < f->response_tokens.own && p->response_trained && !f->has_trained; i++) {
        f->has_trained = p->response_trained[i] == 0;
    }
    TRY(file_columns_settle(c, f));
    TRY(comm_max_i64(c, &lacks, 1));
    TRY(comm_max_i64(c, &unlabelled, 1));
    if (unlabelled && f->has_desirable) {
        return fail(ERR_INTERNAL, "labels of responses are given on some ranks and lacking on others");
    }
    if (lacks && f->has_chars) {
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
    const void **to = g->columns.data;
    to[PAIR_CHOSEN] = g->chosen;
    to[PAIR_REJECTED] = g->rejected;
    to[PAIR_MARGIN] = g->margin;
    to[PAIR_LABEL] = g->label;
    to[PAIR_SOURCE] = g->source;
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
    const struct file_columns *f = &g->columns;
    const void **to = g->columns.data;
    TRY(shifted(p->prompt_offsets, p->n_prompts + 1, f->prompt_tokens.before, &g->prompt_offsets));
    TRY(shifted(p->response_offsets, p->n_responses + 1, f->response_tokens.before, &g->response_offsets));
    TRY(first_responses(p, f->responses.before, &g->prompt_responses));
    TRY(shifted(p->response_prompt, p->n_responses, f->prompts.before, &g->response_prompt));
    TRY(floats_or_nan(p->response_score, p->n_responses, &g->score));
    TRY(floats_or_nan(p->response_worth, p->n_responses, &g->worth));
    TRY(f->has_trained ? trained_or_all(p, &g->trained) : OK);
    to[PROMPT_TOKENS] = p->prompt_tokens;
    to[PROMPT_OFFSETS] = g->prompt_offsets;
    to[PROMPT_RESPONSES] = g->prompt_responses;
    to[PROMPT_SUBSET] = p->prompt_subset;
    to[RESPONSE_TOKENS] = p->response_tokens;
    to[RESPONSE_OFFSETS] = g->response_offsets;
    to[RESPONSE_PROMPT] = g->response_prompt;
    to[RESPONSE_SCORE] = g->score;
    to[RESPONSE_LENGTH] = p->response_length_chars;
    to[RESPONSE_CHARS] = p->response_token_chars;
    to[RESPONSE_WORTH] = g->worth;
    to[RESPONSE_TRAINED] = g->trained;
    to[RESPONSE_DESIRABLE] = p->response_desirable;
    to[RESPONSE_SCORES] = p->response_scores;
    return globalize_pairs(p, f->responses.before, g);
}

/* A file under way, and what its columns have been joined to. */
struct writing {
    struct comm *c;
    struct h5_writer *w;
    const struct file_columns *from;
    uint64_t hashes[DATASET_HASHES];
};

/* A function of the size alone, so that the file does not depend on the rank count. */
static int64_t chunk_of(int64_t rows, int64_t chunk) {
    while (chunk < TOKEN_CHUNK_MOST && rows / chunk >= CHUNKS_ENOUGH) {
        chunk *= 2;
    }
    return chunk;
}

/* Collective. Rows of `width` elements (0: of one). */
static enum status write_columns_of(struct writing *to, enum dataset_column column, int64_t width,
                                    const struct column_place *place) {
    struct array_spec spec = dataset_columns[column];
    bool ends = column == PROMPT_OFFSETS || column == PROMPT_RESPONSES || column == RESPONSE_OFFSETS;
    uint64_t *joined = &to->hashes[dataset_hash_of(column)];
    bool more = ends && to->c->rank == to->c->size - 1;
    struct range part = {place->before, place->before + place->own + (more ? 1 : 0)};
    const void *data = to->from->data[column];
    uint64_t hash;
    spec.rows = place->total + (ends ? 1 : 0);
    spec.width = width;
    spec.chunk_rows = chunk_of(spec.rows, spec.chunk_rows);
    if (to->from->rows) {
        TRY(h5_write_rows(to->w, &spec, part, &to->from->rows[column], &hash));
    } else {
        TRY(h5_write_array(to->w, &spec, part, data ? data : "", &hash));
    }
    *joined = hash_join(*joined, hash);
    return OK;
}

static enum status write_column(struct writing *to, enum dataset_column column,
                                const struct column_place *place) {
    return write_columns_of(to, column, 0, place);
}

static enum status write_pairs(struct writing *to) {
    const struct column_place *place = &to->from->pairs;
    TRY(write_column(to, PAIR_CHOSEN, place));
    TRY(write_column(to, PAIR_REJECTED, place));
    TRY(write_column(to, PAIR_MARGIN, place));
    TRY(write_column(to, PAIR_LABEL, place));
    return write_column(to, PAIR_SOURCE, place);
}

static enum status write_columns(struct writing *to) {
    const struct file_columns *f = to->from;
    TRY(write_column(to, PROMPT_TOKENS, &f->prompt_tokens));
    TRY(write_column(to, PROMPT_OFFSETS, &f->prompts));
    TRY(write_column(to, PROMPT_RESPONSES, &f->prompts));
    TRY(write_column(to, RESPONSE_TOKENS, &f->response_tokens));
    TRY(write_column(to, RESPONSE_OFFSETS, &f->responses));
    TRY(write_column(to, RESPONSE_PROMPT, &f->responses));
    TRY(write_column(to, RESPONSE_SCORE, &f->responses));
    TRY(write_column(to, RESPONSE_LENGTH, &f->responses));
    TRY(f->has_chars ? write_column(to, RESPONSE_CHARS, &f->response_tokens) : OK);
    TRY(f->has_worths ? write_column(to, RESPONSE_WORTH, &f->responses) : OK);
    TRY(f->has_trained ? write_column(to, RESPONSE_TRAINED, &f->response_tokens) : OK);
    return write_pairs(to);
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
static enum status write_scores(struct writing *to, const struct dataset_facts *f) {
    struct text names = {0};
    if (f->n_objectives == 0) {
        return OK;
    }
    enum status st = comm_agree(to->c, join_names(f->objectives, f->n_objectives, "objectives", &names));
    st = st == OK ? write_columns_of(to, RESPONSE_SCORES, f->n_objectives, &to->from->responses) : st;
    st = st == OK ? h5_put_text(to->w, "objectives", names.data) : st;
    text_free(&names);
    return st;
}

/* Collective. */
static enum status write_subsets(struct writing *to, const struct dataset_facts *f) {
    const struct file_columns *from = to->from;
    struct text names = {0};
    int64_t n = f->n_subsets;
    TRY(comm_max_i64(to->c, &n, 1));
    if (n == 0) {
        return OK;
    }
    enum status st = from->rows || from->data[PROMPT_SUBSET] || from->prompts.own == 0
                         ? OK
                         : fail(ERR_INTERNAL, "subsets are given on some ranks and lacking on others");
    st = st == OK ? join_names(f->subsets, f->n_subsets, "subsets", &names) : st;
    st = comm_agree(to->c, st);
    st = st == OK ? write_column(to, PROMPT_SUBSET, &from->prompts) : st;
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
static int format_of(const struct file_columns *columns, const struct dataset_facts *f) {
    return f->n_objectives > 0      ? DATASET_FORMAT_VERSION
           : columns->has_desirable ? DATASET_FORMAT_DESIRABLE
           : columns->has_trained   ? DATASET_FORMAT_TRAINED
                                    : DATASET_FORMAT_PLAIN;
}

enum status file_columns_write(struct comm *c, const char *path, const struct file_columns *columns,
                               const struct dataset_facts *facts) {
    struct writing to = {.c = c, .from = columns};
    TRY(h5_create(c, path, DATASET_CONTENT, format_of(columns, facts), FILE_FINAL, &to.w));
    enum status st = write_columns(&to);
    st = st == OK ? write_subsets(&to, facts) : st;
    st = st == OK && columns->has_desirable ? write_column(&to, RESPONSE_DESIRABLE, &columns->responses) : st;
    st = st == OK ? write_scores(&to, facts) : st;
    st = st == OK ? write_facts(&to, facts) : st;
    return h5_finish(to.w, st);
}

enum status dataset_write(struct comm *c, const char *path, const struct dataset_part *part,
                          const struct dataset_facts *facts) {
    struct global_part g = {0};
    int32_t vocabulary = facts->vocabulary;
    enum status st;
    TRY(comm_broadcast(c, 0, &vocabulary, sizeof vocabulary));
    TRY_TO(done, comm_agree(c, check_part(part, vocabulary)));
    TRY_TO(done, find_places(c, part, &g.columns));
    TRY_TO(done, comm_agree(c, globalize(part, &g)));
    st = file_columns_write(c, path, &g.columns, facts);
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
    struct writing to = {.c = c, .from = &g.columns};
    struct column_place *place = &g.columns.pairs;
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
    place->own = p.n_pairs;
    g.columns.data[PAIR_SPLIT] = pairs->split;
    TRY_TO(done, comm_scan_i64(c, place->own, &place->before, &place->total));
    TRY_TO(done, comm_max_i64(c, &has_splits, 1));
    TRY_TO(done, comm_agree(c, relative_path(path, dataset_base_path(base), &link)));
    TRY_TO(done, h5_create(c, path, SELECTION_CONTENT,
                           has_splits || has_objective ? DATASET_FORMAT_VERSION : DATASET_FORMAT_PLAIN,
                           FILE_FINAL, &to.w));
    st = write_pairs(&to);
    st = st == OK && has_splits ? write_column(&to, PAIR_SPLIT, place) : st;
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
