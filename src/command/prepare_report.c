#include "command/prepare_report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/lengths.h"
#include "data/show_row.h"
#include "util/log.h"
#include "util/mem.h"

/* Collective. */
static enum status report_lengths(struct prepare *p) {
    enum status st = OK;
    for (int kind = 0; kind < PREPARE_LENGTHS && st == OK; kind++) {
        struct lengths *l = &p->prepared.lengths[kind];
        struct text line = {0};
        st = lengths_reduce(p->run->comm, l);
        if (st == OK) {
            st = lengths_print(l, &line);
        }
        if (st == OK && line.len > 0) {
            log_root(LOG_INFO, "%s", line.data);
        }
        text_free(&line);
    }
    return st;
}

/* Where the longest prompt + response stands. */
struct longest {
    int64_t length;
    struct prepare_place place;
};

/* Collective. The first of the longest. */
static enum status find_longest(const struct prepare *p, struct longest *out) {
    struct comm *c = p->run->comm;
    struct longest mine = {.length = p->prepared.longest, .place = p->prepared.longest_place};
    int64_t *lengths;
    TRY(comm_agree(c, NEW_ARRAY(lengths, c->size)));
    enum status st = comm_gather_i64(c, mine.length, lengths);
    int owner = 0;
    for (int r = 1; r < c->size; r++) {
        owner = lengths[r] > lengths[owner] ? r : owner;
    }
    mem_free(lengths);
    *out = mine;
    return st == OK ? comm_broadcast(c, owner, out, sizeof *out) : st;
}

/* Collective. The first record of a kind, over all ranks; line 0: there is none. text (may be NULL): bytes of
 * that rank's that go with it. */
static enum status find_first(const struct prepare *p, enum prepare_first which, struct prepare_place *out,
                              char *text, int64_t bytes) {
    struct comm *c = p->run->comm;
    *out = p->prepared.first[which];
    int64_t owner = out->line > 0 ? c->size - c->rank : -1; /* the lowest rank wins */
    TRY(comm_max_i64(c, &owner, 1));
    if (owner < 0) {
        return OK;
    }
    TRY(text ? comm_broadcast(c, (int)(c->size - owner), text, bytes) : OK);
    return comm_broadcast(c, (int)(c->size - owner), out, sizeof *out);
}

static int by_reason(const void *a, const void *b) {
    return strcmp(a, b); /* the reason is the entry's first field */
}

/* Collective. Every rank gets the drops of all, by name, so that the file does not depend on the ranks. */
static enum status merge_drops(struct comm *c, struct prepare_drops *d) {
    struct prepare_drops *all;
    int64_t n;
    TRY(comm_gather_all(c, d, 1, sizeof *d, &all, &n));
    *d = (struct prepare_drops){0};
    for (int64_t r = 0; r < n; r++) {
        prepare_drops_merge(d, &all[r]);
    }
    qsort(d->list, (size_t)d->n, sizeof d->list[0], by_reason);
    mem_free(all);
    return OK;
}

/* Collective. Every rank gets the ignored keys of all. */
static enum status merge_ignored(struct comm *c, struct ignored *g) {
    struct ignored *all;
    int64_t n;
    TRY(comm_gather_all(c, g, 1, sizeof *g, &all, &n));
    *g = (struct ignored){0};
    for (int64_t r = 0; r < n; r++) {
        ignored_merge(g, &all[r]);
    }
    mem_free(all);
    return OK;
}

static enum status report_ignored(const struct ignored *g) {
    struct text line = {0};
    enum status st = OK;
    for (int i = 0; i < g->n && st == OK; i++) {
        st = text_printf(&line, "%s%s in %lld %s", i ? ", " : "", g->list[i].name,
                         (long long)g->list[i].count, g->list[i].of_messages ? "messages" : "records");
    }
    if (st == OK && g->n > 0) {
        log_root(LOG_INFO, "ignored: %s", line.data);
    }
    text_free(&line);
    return st;
}

static void warn_count(int64_t count, const char *text) {
    if (count > 0) {
        log_root(LOG_WARN, "%lld %s", (long long)count, text);
    }
}

static void report_counts(const struct prepare *p, const int64_t *counts, int64_t responses) {
    const char *end_text = p->job.end_id >= 0 ? "records whose text holds the end token already"
                                              : "records whose text holds the tokenizer's end token";
    warn_count(p->templated ? 0 : counts[COUNT_END_IN_TEXT], end_text);
    warn_count(counts[COUNT_BEGIN_IN_TEXT],
               "prompts that began with the beginning token already: it stands there once");
    warn_count(counts[COUNT_EMPTY_PROMPTS],
               "prompts without any token: the first token of their responses cannot be scored");
    if (counts[COUNT_FOUND_PROMPTS] > 0) {
        log_root(LOG_INFO,
                 "%lld prompts are what chosen and rejected begin with in common, up to a word: there is no "
                 "\"prompt\"",
                 (long long)counts[COUNT_FOUND_PROMPTS]);
    }
    log_root(LOG_INFO, "responses without end token: %lld of %lld", (long long)counts[COUNT_WITHOUT_END],
             (long long)responses);
}

/* "; the first: FILE, line N", or nothing. */
static void name_place(const struct prepare *p, const struct prepare_place *place, char out[512]) {
    out[0] = '\0';
    if (place->line > 0) {
        snprintf(out, 512, "; the first: %s, line %lld", records_file(p->input, (int)place->file),
                 (long long)place->line);
    }
}

static void report_boundaries(const struct prepare *p, const struct prepare_place *first, int64_t responses) {
    const int64_t *counts = p->prepared.counts;
    bool moved = counts[COUNT_BOUNDARY_MOVED] > 0;
    char sample[64] = "";
    char place[512];
    if (counts[COUNT_CHECKED] < responses) {
        snprintf(sample, sizeof sample, " (a sample of %lld)", (long long)responses);
    }
    name_place(p, first, place);
    log_root(moved ? LOG_WARN : LOG_INFO,
             "token boundary: %lld of %lld responses%s have other tokens in one piece with their prompt%s",
             (long long)counts[COUNT_BOUNDARY_MOVED], (long long)counts[COUNT_CHECKED], sample, place);
}

/* Collective. What only chats have. */
static enum status report_chats(struct prepare *p) {
    struct prepared *d = &p->prepared;
    struct prepare_place first;
    char place[512];
    TRY(find_first(p, FIRST_SPECIALS, &first, NULL, 0));
    name_place(p, &first, place);
    if (d->counts[COUNT_SPECIALS] > 0) {
        log_root(LOG_WARN, "%lld records have special tokens in their messages, %s%s",
                 (long long)d->counts[COUNT_SPECIALS],
                 p->job.specials_as_text ? "taken as text"
                                         : "kept as tokens (tokenize.special_in_content=text: as text)",
                 place);
    }
    TRY(find_first(p, FIRST_UNTRAINED, &first, NULL, 0));
    name_place(p, &first, place);
    if (d->counts[COUNT_UNTRAINED] > 0) {
        log_root(
            LOG_WARN,
            "%lld assistant turns are not trained: the chat template renders them otherwise in the whole "
            "chat%s",
            (long long)d->counts[COUNT_UNTRAINED], place);
    }
    if (d->counts[COUNT_BEHIND] > 0) {
        log_root(LOG_INFO, "%lld messages behind the last one of the assistant are not used",
                 (long long)d->counts[COUNT_BEHIND]);
    }
    TRY(find_first(p, FIRST_REFUSED, &first, d->refusal, sizeof d->refusal));
    if (first.line > 0) {
        log_root(LOG_WARN, "%s, line %lld: %s", records_file(p->input, (int)first.file),
                 (long long)first.line, d->refusal);
    }
    return OK;
}

static void report_drops(const struct prepare *p) {
    const struct prepare_drops *d = &p->prepared.drops;
    for (int i = 0; i < d->n; i++) {
        char place[512];
        name_place(p, &d->list[i].first, place);
        const char *detail = d->list[i].detail;
        log_root(LOG_WARN, "dropped %lld: %s%s%s%s%s", (long long)d->list[i].count, d->list[i].reason, place,
                 *detail ? " (" : "", detail, *detail ? ")" : "");
    }
}

/* Nothing is left of `what`: says of what most of it died. */
static enum status refuse_nothing(const struct prepare *p, const char *what) {
    const struct prepare_drops *d = &p->prepared.drops;
    char place[512] = "";
    int most = 0;
    for (int i = 1; i < d->n; i++) {
        most = d->list[i].count > d->list[most].count ? i : most;
    }
    if (d->n > 0) {
        name_place(p, &d->list[most].first, place);
    }
    const char *detail = d->n > 0 ? d->list[most].detail : "";
    return fail(ERR_DATA, "%s: every record was dropped: %s%s%s%s%s", what,
                d->n > 0 ? d->list[most].reason : "nothing in them", place, *detail ? " (" : "", detail,
                *detail ? ")" : "");
}

/* Collective. A file of several of which nothing is left. */
static enum status check_files(const struct prepare *p) {
    const struct prepared *d = &p->prepared;
    TRY(comm_sum_i64(p->run->comm, d->file_records, p->files.n));
    TRY(comm_sum_i64(p->run->comm, d->file_prompts, p->files.n));
    for (int i = 0; i < p->files.n; i++) {
        if (d->file_records[i] > 0 && d->file_prompts[i] == 0) {
            return fail(ERR_DATA, "%s: every record of this file was dropped; leave it out, or mend it",
                        p->files.list[i]);
        }
    }
    return OK;
}

enum { SHOWN_TOKENS = 200 }; /* of a text of the first row, at most */

/* Line by line, so that each says who speaks. */
static void log_lines(char *text) {
    for (char *at = text; at && *at;) {
        char *end = strchr(at, '\n');
        if (end) {
            *end = '\0';
        }
        log_root(LOG_INFO, "%s", at);
        at = end ? end + 1 : NULL;
    }
}

/* Text i of a kind: the prompt's end, or the beginning of a response of it. */
static enum status show_text(const struct prepare *p, enum dataset_column tokens, int64_t i,
                             struct text *out) {
    const struct dataset_rows *rows = &p->prepared.rows;
    bool is_prompt = tokens == PROMPT_TOKENS;
    bool is_marked = !is_prompt && dataset_rows_has(rows, RESPONSE_TRAINED);
    int64_t ends[2];
    int32_t *ids = NULL;
    uint8_t *trained = NULL;
    char title[64];
    enum status st;
    TRY(dataset_rows_read(rows, is_prompt ? PROMPT_OFFSETS : RESPONSE_OFFSETS, i, 2, ends));
    int64_t n = ends[1] - ends[0] > SHOWN_TOKENS ? SHOWN_TOKENS : ends[1] - ends[0];
    int64_t first = is_prompt ? ends[1] - n : ends[0];
    TRY_TO(done, NEW_ARRAY(ids, n));
    TRY_TO(done, dataset_rows_read(rows, tokens, first, n, ids));
    if (is_marked) {
        TRY_TO(done, NEW_ARRAY(trained, n));
        TRY_TO(done, dataset_rows_read(rows, RESPONSE_TRAINED, first, n, trained));
    }
    bool is_cut = n < ends[1] - ends[0];
    snprintf(title, sizeof title, "%s%s", is_prompt ? "prompt" : "response",
             !is_cut     ? ""
             : is_prompt ? ", its last"
                         : ", its first");
    st = show_ids(p->tokenizer, title, ids, n,
                  is_prompt   ? NULL
                  : is_marked ? trained
                              : SHOW_ALL_TRAINED,
                  out);
done:
    mem_free(ids);
    mem_free(trained);
    return st;
}

/* Collective. The first row of rank 0 as text. */
static enum status show_first(const struct prepare *p) {
    const struct dataset_rows *rows = &p->prepared.rows;
    struct text out = {0};
    enum status st = OK;
    if (p->run->comm->rank == 0 && rows->n_prompts > 0) {
        int64_t responses[2];
        st = text_puts(&out, "the first row (" SHOW_LEGEND "):\n");
        st = st == OK ? show_text(p, PROMPT_TOKENS, 0, &out) : st;
        st = st == OK ? dataset_rows_read(rows, PROMPT_RESPONSES, 0, 2, responses) : st;
        for (int64_t i = 0; st == OK && i < responses[1]; i++) {
            st = show_text(p, RESPONSE_TOKENS, i, &out);
        }
        log_lines(st == OK ? out.data : NULL);
    }
    text_free(&out);
    return comm_agree(p->run->comm, st);
}

/* Collective. Makes drops and counts global and reports them; nothing here is written to the file but drops.
 */
enum status prepare_report(struct prepare *p) {
    struct comm *c = p->run->comm;
    struct prepared *d = &p->prepared;
    int64_t sizes[] = {d->rows.n_prompts, d->rows.n_responses, d->rows.n_pairs,
                       d->alike,          d->against,          d->level};
    struct longest longest;
    struct prepare_place moved;
    TRY(comm_sum_i64(c, sizes, COUNT_OF(sizes)));
    TRY(comm_sum_i64(c, d->counts, PREPARE_COUNTS));
    TRY(merge_drops(c, &d->drops));
    TRY(find_longest(p, &longest));
    TRY(merge_ignored(c, &d->ignored));
    TRY(find_first(p, FIRST_MOVED, &moved, NULL, 0));
    log_root(LOG_INFO, "%lld records (%s): %lld prompts, %lld responses, %lld pairs",
             (long long)d->counts[COUNT_RECORDS], record_format_name(p->job.format), (long long)sizes[0],
             (long long)sizes[1], (long long)sizes[2]);
    TRY(report_lengths(p));
    if (longest.length >= 0) {
        log_root(LOG_INFO, "longest: %lld tokens, %s, line %lld", (long long)longest.length,
                 records_file(p->input, (int)longest.place.file), (long long)longest.place.line);
    }
    report_counts(p, d->counts, sizes[1]);
    report_boundaries(p, &moved, sizes[1]);
    warn_count(sizes[3], "pairs have the same tokens on both sides: they teach nothing");
    warn_count(sizes[4], "pairs have the higher score on the rejected side: the label counts");
    warn_count(sizes[5], "pairs have the same score on both sides: the label counts");
    TRY(report_chats(p));
    report_drops(p);
    TRY(comm_agree(c, report_ignored(&d->ignored)));
    if (sizes[0] == 0) {
        return refuse_nothing(p, p->run->settings->input);
    }
    TRY(check_files(p));
    return show_first(p);
}
