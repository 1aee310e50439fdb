/* Reading preference files. Every rank opens the file by itself, read-only: rows are then read when asked
 * for, without the others. */
#include "data/dataset.h"

#include <math.h>
#include <string.h>

#include "data/dataset_internal.h"
#include "text/tokenizer.h"
#include "util/hash.h"
#include "util/log.h"
#include "util/mem.h"

/* Decoded blocks kept per column: enough for every index row of some hundred thousand responses. */
static const int64_t TOKEN_CACHE = 32 << 20, ROW_CACHE = 4 << 20;

void dataset_facts_free(struct dataset_facts *f) {
    mem_free(f->tokenizer);
    mem_free(f->source);
    mem_free(f->format);
    mem_free(f->template_date);
    mem_free(f->command);
    mem_free(f->program);
    for (int i = 0; i < f->n_subsets; i++) {
        mem_free(f->subsets[i]);
    }
    for (int i = 0; i < f->n_objectives; i++) {
        mem_free(f->objectives[i]);
    }
    mem_free(f->subsets);
    mem_free(f->objectives);
    *f = (struct dataset_facts){0};
}

void dataset_close(struct dataset *d) {
    if (!d) {
        return;
    }
    h5_close(d->base);
    h5_close(d->selection);
    dataset_facts_free(&d->facts);
    mem_free(d->path);
    mem_free(d->base_path);
    mem_free(d->kept);
    mem_free(d);
}

/* Opening. */

static enum status read_id(struct h5_file *f, const char *name, int64_t low, int32_t *out) {
    int64_t value;
    TRY(h5_get_i64(f, name, &value));
    if (value < low || value > INT32_MAX) {
        return fail(ERR_DATA, "%s: attribute \"%s\" is %lld", h5_path(f), name, (long long)value);
    }
    *out = (int32_t)value;
    return OK;
}

static enum status read_dropped(struct h5_file *f, struct dataset_facts *facts) {
    char name[128];
    const char prefix[] = "dropped.";
    for (int64_t i = 0; h5_attribute_name(f, i, name, sizeof name); i++) {
        if (strncmp(name, prefix, sizeof prefix - 1) != 0) {
            continue;
        }
        const char *reason = name + sizeof prefix - 1;
        if (facts->n_dropped == DATASET_DROP_REASONS || strlen(reason) >= sizeof facts->dropped[0].reason) {
            return fail(ERR_DATA, "%s: attribute \"%s\" does not fit the format", h5_path(f), name);
        }
        memcpy(facts->dropped[facts->n_dropped].reason, reason, strlen(reason) + 1);
        TRY(h5_get_i64(f, name, &facts->dropped[facts->n_dropped].count));
        facts->n_dropped++;
    }
    return OK;
}

/* An attribute's names, one a line. */
static enum status read_names(struct h5_file *f, const char *attribute, char ***names, int *n_names) {
    char *list = NULL;
    int64_t capacity = 0;
    TRY(h5_get_text(f, attribute, &list));
    enum status st = OK;
    for (const char *at = list; st == OK;) {
        size_t n = strcspn(at, "\n");
        TRY_TO(done, GROW_ARRAY(*names, capacity, *n_names + 1));
        (*names)[*n_names] = mem_strndup(at, n);
        TRY_TO(done, (*names)[*n_names] ? OK : status_code());
        ++*n_names;
        if (at[n] == '\0') {
            break;
        }
        at += n + 1;
    }
done:
    mem_free(list);
    return st;
}

/* Names of arrays that are there. */
static enum status read_lists(struct h5_file *f, struct dataset_facts *facts) {
    if (h5_has(f, dataset_columns[PROMPT_SUBSET].name)) {
        TRY(read_names(f, "subsets", &facts->subsets, &facts->n_subsets));
    }
    if (h5_has(f, dataset_columns[RESPONSE_SCORES].name)) {
        TRY(read_names(f, "objectives", &facts->objectives, &facts->n_objectives));
    }
    return facts->n_objectives <= DATASET_OBJECTIVES_MAX
               ? OK
               : fail(ERR_DATA, "%s: %d objectives; at most %d fit the format", h5_path(f),
                      facts->n_objectives, DATASET_OBJECTIVES_MAX);
}

static enum status read_facts(struct dataset *d) {
    struct h5_file *f = d->base;
    struct dataset_facts *facts = &d->facts;
    TRY(h5_get_u64(f, "hash", &d->hash));
    TRY(h5_get_text(f, "tokenizer", &facts->tokenizer));
    TRY(h5_get_u64(f, "tokenizer_hash", &facts->tokenizer_hash));
    TRY(read_id(f, "vocabulary", 1, &facts->vocabulary));
    TRY(read_id(f, "begin_id", -1, &facts->begin_id));
    TRY(read_id(f, "end_id", -1, &facts->end_id));
    TRY(h5_get_text(f, "source", &facts->source));
    TRY(h5_get_u64(f, "source_hash", &facts->source_hash));
    TRY(h5_get_text(f, "format", &facts->format));
    TRY(h5_get_text(f, "command", &facts->command));
    TRY(h5_get_text(f, "program", &facts->program));
    if (h5_has_attribute(f, "template_hash")) {
        TRY(h5_get_u64(f, "template_hash", &facts->template_hash));
        TRY(h5_get_text(f, "template_date", &facts->template_date));
    }
    TRY(read_lists(f, facts));
    return read_dropped(f, facts);
}

static enum status open_column(struct dataset *d, enum dataset_column column, int64_t rows) {
    struct array_spec expected = dataset_columns[column];
    bool is_pair = column >= PAIR_CHOSEN;
    bool is_run = column == PROMPT_TOKENS || column == RESPONSE_TOKENS || column == RESPONSE_CHARS ||
                  column == RESPONSE_TRAINED;
    expected.rows = rows;
    expected.width = column == RESPONSE_SCORES ? d->facts.n_objectives : 0;
    return h5_column_open(is_pair && d->selection ? d->selection : d->base, &expected,
                          is_run ? TOKEN_CACHE : ROW_CACHE, &d->columns[column]);
}

/* Offsets begin at 0 and end where what they point into ends; each read checks those between. */
static enum status check_ends(struct dataset *d, enum dataset_column offsets, int64_t end) {
    int64_t first, last;
    struct h5_column *column = d->columns[offsets];
    TRY(h5_read(column, 0, 1, &first));
    TRY(h5_read(column, h5_rows(column) - 1, 1, &last));
    if (first != 0 || last != end) {
        return fail(ERR_DATA, "%s: %s runs from %lld to %lld where 0 to %lld are expected", d->base_path,
                    dataset_columns[offsets].name, (long long)first, (long long)last, (long long)end);
    }
    return OK;
}

static enum status open_columns(struct dataset *d) {
    struct dataset_size *n = &d->size;
    TRY(open_column(d, PROMPT_OFFSETS, -1));
    TRY(open_column(d, RESPONSE_OFFSETS, -1));
    n->prompts = h5_rows(d->columns[PROMPT_OFFSETS]) - 1;
    n->responses = h5_rows(d->columns[RESPONSE_OFFSETS]) - 1;
    if (n->prompts < 0 || n->responses < 0) {
        return fail(ERR_DATA, "%s: offsets are empty; the file is damaged", d->base_path);
    }
    TRY(open_column(d, PROMPT_TOKENS, -1));
    TRY(open_column(d, RESPONSE_TOKENS, -1));
    n->prompt_tokens = h5_rows(d->columns[PROMPT_TOKENS]);
    n->response_tokens = h5_rows(d->columns[RESPONSE_TOKENS]);
    TRY(open_column(d, PROMPT_RESPONSES, n->prompts + 1));
    for (enum dataset_column column = RESPONSE_PROMPT; column <= RESPONSE_LENGTH; column++) {
        TRY(open_column(d, column, n->responses));
    }
    n->has_token_chars = h5_has(d->base, dataset_columns[RESPONSE_CHARS].name);
    if (n->has_token_chars) {
        TRY(open_column(d, RESPONSE_CHARS, n->response_tokens));
    }
    n->has_worths = h5_has(d->base, dataset_columns[RESPONSE_WORTH].name);
    if (n->has_worths) {
        TRY(open_column(d, RESPONSE_WORTH, n->responses));
    }
    n->has_trained = h5_has(d->base, dataset_columns[RESPONSE_TRAINED].name);
    if (n->has_trained) {
        TRY(open_column(d, RESPONSE_TRAINED, n->response_tokens));
    }
    if (d->facts.n_subsets > 0) {
        TRY(open_column(d, PROMPT_SUBSET, n->prompts));
    }
    n->has_desirable = h5_has(d->base, dataset_columns[RESPONSE_DESIRABLE].name);
    if (n->has_desirable) {
        TRY(open_column(d, RESPONSE_DESIRABLE, n->responses));
    }
    TRY(d->facts.n_objectives > 0 ? open_column(d, RESPONSE_SCORES, n->responses) : OK);
    TRY(open_column(d, PAIR_CHOSEN, -1));
    n->pairs = h5_rows(d->columns[PAIR_CHOSEN]);
    for (enum dataset_column column = PAIR_REJECTED; column <= PAIR_SOURCE; column++) {
        TRY(open_column(d, column, n->pairs));
    }
    n->has_splits = h5_has(dataset_file_of(d, HASH_PAIRS), dataset_columns[PAIR_SPLIT].name);
    TRY(n->has_splits ? open_column(d, PAIR_SPLIT, n->pairs) : OK);
    TRY(check_ends(d, PROMPT_OFFSETS, n->prompt_tokens));
    TRY(check_ends(d, RESPONSE_OFFSETS, n->response_tokens));
    return check_ends(d, PROMPT_RESPONSES, n->responses);
}

/* The path of the file that a view names, which counts from the view's folder. */
static enum status follow(const char *view, const char *link, char **out) {
    struct text path = {0};
    const char *slash = strrchr(view, '/');
    enum status st = OK;
    if (link[0] != '/' && slash) {
        st = text_append(&path, view, (size_t)(slash - view) + 1);
    }
    if (st == OK) {
        st = text_puts(&path, link);
    }
    if (st == OK) {
        *out = mem_strdup(path.data);
        st = mem_ok(*out);
    }
    text_free(&path);
    return st;
}

static enum status open_selection(struct dataset *d) {
    char *link = NULL;
    TRY(h5_open(d->path, SELECTION_CONTENT, DATASET_FORMAT_VERSION, &d->selection));
    TRY(h5_get_text(d->selection, "selects", &link));
    enum status st = follow(d->path, link, &d->base_path);
    mem_free(link);
    TRY(st);
    st = h5_open(d->base_path, DATASET_CONTENT, DATASET_FORMAT_VERSION, &d->base);
    return st == OK ? OK : note("opening the file that %s selects from", d->path);
}

static enum status check_selection(const struct dataset *d) {
    uint64_t hash;
    TRY(h5_get_u64(d->selection, "selects_hash", &hash));
    if (hash != d->hash) {
        return fail(ERR_DATA, "%s: selects from %s, which has changed since; select again", d->path,
                    d->base_path);
    }
    return OK;
}

struct h5_column *dataset_column_of(struct dataset *d, enum dataset_column column) {
    return d->columns[column];
}

struct h5_file *dataset_file_of(struct dataset *d, enum dataset_hash which) {
    return which == HASH_PAIRS && d->selection ? d->selection : d->base;
}

static enum status open_local(struct dataset *d, const char *path) {
    char *content = NULL;
    d->path = mem_strdup(path);
    TRY(mem_ok(d->path));
    TRY(h5_content(path, &content));
    bool is_view = strcmp(content, SELECTION_CONTENT) == 0;
    mem_free(content);
    if (is_view) {
        TRY(open_selection(d));
    } else {
        d->base_path = mem_strdup(path);
        TRY(mem_ok(d->base_path));
        TRY(h5_open(path, DATASET_CONTENT, DATASET_FORMAT_VERSION, &d->base));
    }
    TRY(read_facts(d));
    d->objective = -1;
    if (is_view) {
        TRY(check_selection(d));
        TRY(dataset_find_objective(d));
    }
    struct h5_file *pairs = dataset_file_of(d, HASH_PAIRS);
    if (h5_has_attribute(pairs, dataset_hash_names[HASH_PAIRS])) {
        TRY(h5_get_u64(pairs, dataset_hash_names[HASH_PAIRS], &d->pairs_hash));
    }
    return open_columns(d);
}

enum status dataset_open(struct comm *c, const char *path, struct dataset **out) {
    struct dataset *d;
    enum status st = NEW_ARRAY(d, 1);
    if (st == OK) {
        st = open_local(d, path);
    }
    st = comm_agree(c, st);
    if (st == OK) {
        st = comm_same(c, hash_join(d->hash, (uint64_t)d->size.pairs), path);
    }
    if (st != OK) {
        dataset_close(d);
        return st;
    }
    *out = d;
    return OK;
}

struct dataset_size dataset_size(const struct dataset *d) {
    return d->size;
}

const struct dataset_facts *dataset_facts(const struct dataset *d) {
    return &d->facts;
}

const char *dataset_path(const struct dataset *d) {
    return d->path;
}

const char *dataset_base_path(const struct dataset *d) {
    return d->base_path;
}

uint64_t dataset_pairs_hash(const struct dataset *d) {
    return d->split == SPLIT_ALL ? d->pairs_hash : hash_join(d->pairs_hash, (uint64_t)d->split);
}

uint64_t dataset_hash(const struct dataset *d) {
    return d->hash;
}

enum status dataset_compare_tokenizer(const struct dataset *d, const struct tokenizer *t, const char *model,
                                      bool allow) {
    if (d->facts.tokenizer_hash == tokenizer_hash(t)) {
        return OK;
    }
    if (!allow) {
        return fail(
            ERR_DATA,
            "%s was tokenized with %s, which is not the model's tokenizer (another hash): its ids mean "
            "other text to %s; prepare the data with tokenizer=%s, or set allow_other_tokenizer=true",
            d->path, d->facts.tokenizer, model, model);
    }
    log_root(LOG_WARN, "%s was tokenized with %s, which is not the tokenizer of model %s", d->path,
             d->facts.tokenizer, model);
    return OK;
}

enum status dataset_open_tokenizer(const struct dataset *d, const char *path, struct tokenizer **out) {
    struct tokenizer *t;
    path = *path ? path : d->facts.tokenizer;
    if (tokenizer_open(path, &t) != OK) {
        return note("reading the tokenizer of %s; tokenizer=FOLDER names another place", d->path);
    }
    if (tokenizer_hash(t) != d->facts.tokenizer_hash) {
        tokenizer_close(t);
        return fail(ERR_DATA, "%s was not tokenized with %s; give its own with tokenizer=FOLDER", d->path,
                    path);
    }
    *out = t;
    return OK;
}

/* Rows. */

static enum status check_id(const struct dataset *d, const char *what, int64_t id, int64_t below) {
    if (id < 0 || id >= below) {
        return fail(ERR_DATA, "%s: %s %lld does not exist (there are %lld)", d->path, what, (long long)id,
                    (long long)below);
    }
    return OK;
}

/* Where a pair stands in the file. */
static int64_t pair_at(const struct dataset *d, int64_t row) {
    return d->kept ? d->kept[row] : row;
}

enum status dataset_pair(struct dataset *d, int64_t row, struct pair *out) {
    struct pair p = {.row = row};
    TRY(check_id(d, "pair", row, d->size.pairs));
    int64_t at = pair_at(d, row);
    TRY(h5_read(d->columns[PAIR_CHOSEN], at, 1, &p.chosen));
    TRY(h5_read(d->columns[PAIR_REJECTED], at, 1, &p.rejected));
    TRY(h5_read(d->columns[PAIR_MARGIN], at, 1, &p.margin));
    TRY(h5_read(d->columns[PAIR_LABEL], at, 1, &p.label));
    TRY(h5_read(d->columns[PAIR_SOURCE], at, 1, &p.source));
    TRY(d->size.has_splits ? h5_read(d->columns[PAIR_SPLIT], at, 1, &p.split) : OK);
    if (p.split < 0 || p.split >= SPLITS) {
        return fail(ERR_DATA, "%s: /pairs/split of pair %lld holds %d; 0 to %d are expected", d->path,
                    (long long)at, p.split, SPLITS - 1);
    }
    if (p.chosen < 0 || p.chosen >= d->size.responses || p.rejected < 0 || p.rejected >= d->size.responses ||
        p.label < 0 || p.label > 1) {
        return fail(ERR_DATA, "%s: pair %lld (chosen %lld, rejected %lld, label %d) is out of range", d->path,
                    (long long)row, (long long)p.chosen, (long long)p.rejected, p.label);
    }
    *out = p;
    return OK;
}

enum status dataset_labels(struct dataset *d, struct range rows, int8_t *out) {
    if (rows.first >= rows.last) {
        return OK;
    }
    TRY(check_id(d, "pair", rows.first, d->size.pairs));
    TRY(check_id(d, "pair", rows.last - 1, d->size.pairs));
    if (!d->kept) {
        return h5_read(d->columns[PAIR_LABEL], rows.first, rows.last - rows.first, out);
    }
    for (int64_t row = rows.first; row < rows.last; row++) {
        TRY(h5_read(d->columns[PAIR_LABEL], pair_at(d, row), 1, &out[row - rows.first]));
    }
    return OK;
}

enum status dataset_pairs(struct dataset *d, struct range rows, struct pair *out) {
    for (int64_t row = rows.first; row < rows.last; row++) {
        TRY(dataset_pair(d, row, &out[row - rows.first]));
    }
    return OK;
}

/* offsets[row] and offsets[row + 1], which lie in [0, limit] in that order. */
static enum status read_span(struct dataset *d, enum dataset_column offsets, int64_t row, int64_t limit,
                             int64_t *first, int64_t *count) {
    int64_t ends[2];
    TRY(h5_read(d->columns[offsets], row, 2, ends));
    if (ends[0] < 0 || ends[1] < ends[0] || ends[1] > limit || ends[1] - ends[0] > INT32_MAX) {
        return fail(ERR_DATA, "%s: %s of row %lld runs from %lld to %lld; the file is damaged", d->base_path,
                    dataset_columns[offsets].name, (long long)row, (long long)ends[0], (long long)ends[1]);
    }
    *first = ends[0];
    *count = ends[1] - ends[0];
    return OK;
}

enum status dataset_response(struct dataset *d, int64_t id, struct response *out) {
    struct response r = {.id = id, .worth = NAN, .desirable = -1};
    TRY(check_id(d, "response", id, d->size.responses));
    TRY(read_span(d, RESPONSE_OFFSETS, id, d->size.response_tokens, &r.first, &r.count));
    TRY(h5_read(d->columns[RESPONSE_PROMPT], id, 1, &r.prompt));
    TRY(dataset_read_score(d, id, &r.score));
    TRY(d->size.has_worths ? h5_read(d->columns[RESPONSE_WORTH], id, 1, &r.worth) : OK);
    TRY(d->size.has_desirable ? h5_read(d->columns[RESPONSE_DESIRABLE], id, 1, &r.desirable) : OK);
    TRY(h5_read(d->columns[RESPONSE_LENGTH], id, 1, &r.length_chars));
    if (d->size.has_desirable && r.desirable != 0 && r.desirable != 1) {
        return fail(ERR_DATA, "%s: /responses/desirable of response %lld holds %d; 0 or 1 is expected",
                    d->base_path, (long long)id, r.desirable);
    }
    if (r.prompt < 0 || r.prompt >= d->size.prompts || r.length_chars < 0) {
        return fail(ERR_DATA, "%s: response %lld (prompt %lld, %d characters) is out of range", d->base_path,
                    (long long)id, (long long)r.prompt, r.length_chars);
    }
    TRY(read_span(d, PROMPT_OFFSETS, r.prompt, d->size.prompt_tokens, &r.prompt_first, &r.prompt_count));
    *out = r;
    return OK;
}

enum status dataset_responses(struct dataset *d, struct range ids, struct response *out) {
    for (int64_t id = ids.first; id < ids.last; id++) {
        TRY(dataset_response(d, id, &out[id - ids.first]));
    }
    return OK;
}

enum status dataset_prompt(struct dataset *d, int64_t prompt, int64_t *first, int64_t *count) {
    TRY(check_id(d, "prompt", prompt, d->size.prompts));
    return read_span(d, PROMPT_OFFSETS, prompt, d->size.prompt_tokens, first, count);
}

enum status dataset_prompt_subset(struct dataset *d, int64_t prompt, int32_t *out) {
    TRY(check_id(d, "prompt", prompt, d->size.prompts));
    *out = -1;
    if (d->facts.n_subsets > 0) {
        TRY(h5_read(d->columns[PROMPT_SUBSET], prompt, 1, out));
    }
    if (*out < -1 || *out >= d->facts.n_subsets) {
        return fail(ERR_DATA, "%s: prompt %lld has subset %d of %d; the file is damaged", d->base_path,
                    (long long)prompt, *out, d->facts.n_subsets);
    }
    return OK;
}

enum status dataset_prompt_responses(struct dataset *d, int64_t prompt, int64_t *first, int64_t *count) {
    TRY(check_id(d, "prompt", prompt, d->size.prompts));
    return read_span(d, PROMPT_RESPONSES, prompt, d->size.responses, first, count);
}

/* The row whose span of offsets holds position, by bisection: only for messages. */
static int64_t row_of(struct dataset *d, enum dataset_column offsets, int64_t position) {
    int64_t low = 0, high = h5_rows(d->columns[offsets]) - 1;
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2, at;
        if (h5_read(d->columns[offsets], middle, 1, &at) != OK) {
            return -1;
        }
        if (at <= position) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

static enum status read_tokens(struct dataset *d, enum dataset_column tokens, int64_t first, int64_t count,
                               int32_t *out) {
    TRY(h5_read(d->columns[tokens], first, count, out));
    for (int64_t i = 0; i < count; i++) {
        if (out[i] < 0 || out[i] >= d->facts.vocabulary) {
            bool is_prompt = tokens == PROMPT_TOKENS;
            int64_t row = row_of(d, is_prompt ? PROMPT_OFFSETS : RESPONSE_OFFSETS, first + i);
            return fail(ERR_DATA, "%s: %s %lld holds token id %d, outside the vocabulary of %d", d->base_path,
                        is_prompt ? "prompt" : "response", (long long)row, out[i], d->facts.vocabulary);
        }
    }
    return OK;
}

enum status dataset_prompt_tokens(struct dataset *d, int64_t first, int64_t count, int32_t *out) {
    return read_tokens(d, PROMPT_TOKENS, first, count, out);
}

enum status dataset_prompt_ids(struct dataset *d, int64_t prompt, int32_t **ids, int64_t *count) {
    int64_t first;
    *ids = NULL;
    TRY(dataset_prompt(d, prompt, &first, count));
    TRY(NEW_ARRAY(*ids, *count));
    enum status st = dataset_prompt_tokens(d, first, *count, *ids);
    if (st != OK) {
        mem_free(*ids);
        *ids = NULL;
    }
    return st;
}

enum status dataset_response_tokens(struct dataset *d, int64_t first, int64_t count, int32_t *out) {
    return read_tokens(d, RESPONSE_TOKENS, first, count, out);
}

enum status dataset_response_token_chars(struct dataset *d, int64_t first, int64_t count, uint8_t *out) {
    if (!d->size.has_token_chars) {
        return fail(ERR_USAGE, "%s: has no characters per token; prepare it with prepare.token_chars",
                    d->base_path);
    }
    return h5_read(d->columns[RESPONSE_CHARS], first, count, out);
}

enum status dataset_response_trained(struct dataset *d, int64_t first, int64_t count, uint8_t *out) {
    if (!d->size.has_trained) {
        memset(out, 1, (size_t)count);
        return OK;
    }
    TRY(h5_read(d->columns[RESPONSE_TRAINED], first, count, out));
    for (int64_t i = 0; i < count; i++) {
        if (out[i] > 1) {
            return fail(ERR_DATA, "%s: /responses/trained of response %lld holds %d; 0 or 1 is expected",
                        d->base_path, (long long)row_of(d, RESPONSE_OFFSETS, first + i), out[i]);
        }
    }
    return OK;
}
