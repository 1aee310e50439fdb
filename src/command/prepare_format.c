#include "command/prepare_format.h"

#include <stdio.h>

#include "io/record_blocks.h"

enum { LOOKED_AT = 1000, FORMATS = FORMAT_LAST + 1, STRANGERS_SHARE = 10 };

/* Records by format, and of all formats by what their texts are. */
struct votes {
    int64_t formats[FORMATS];
    int64_t texts[TEXTS_COUNT][FORMATS];
    int64_t known;
};

/* The records of this rank that are looked at, one after another. */
struct looking {
    struct record_reader *reader; /* NULL: there are none */
    struct record_block block;
    int64_t at; /* in the block */
};

static enum status looking_open(const struct prepare *p, struct looking *l) {
    int64_t before = records_first(p->input);
    int64_t n = before < LOOKED_AT ? LOOKED_AT - before : 0;
    *l = (struct looking){0};
    n = n < p->job.records ? n : p->job.records;
    return n > 0 ? record_reader_open(p->input, n, &l->reader) : OK;
}

static void looking_close(struct looking *l) {
    record_block_free(&l->block);
    record_reader_close(l->reader);
}

/* *out NULL: that was the last. */
static enum status looking_next(struct looking *l, const struct record **out) {
    bool more = l->reader != NULL;
    *out = NULL;
    if (more && l->at == l->block.count) {
        l->at = 0;
        TRY(record_reader_next(l->reader, &l->block, &more));
    }
    *out = more ? &l->block.list[l->at++] : NULL;
    return OK;
}

/* Local. The first failure is kept in st; what is no record does not vote. */
static enum status vote(const struct prepare *p, enum record_format given, const struct record *r,
                        struct votes *v) {
    char where[RECORDS_WHERE];
    json_t *json;
    enum record_format found = given;
    TRY(records_parse_one(p->input, r, where, &json));
    enum status st = given == FORMAT_AUTO ? record_format_detect(json, where, &found) : OK;
    if (st == OK) {
        v->formats[found]++;
        v->texts[record_texts(found, json)][found]++;
        v->known++;
    }
    json_decref(json);
    return st;
}

/* Local. Every record's vote; *first: the message of the first that is none. */
static enum status vote_all(const struct prepare *p, enum record_format given, struct votes *v,
                            struct message *first) {
    struct looking l;
    const struct record *r = NULL;
    enum status st = looking_open(p, &l);
    while (st == OK) {
        st = looking_next(&l, &r);
        if (st != OK || !r) {
            break;
        }
        st = vote(p, given, r, v);
        if (st == ERR_DATA) {
            *first = first->code == OK ? *status_message() : *first;
            st = OK;
        }
    }
    looking_close(&l);
    return st;
}

/* Local. The first message of what is no record, where this rank has one. */
static enum status vote_here(const struct prepare *p, enum record_format given, struct votes *v) {
    struct message first = {0};
    TRY(vote_all(p, given, v, &first));
    status_clear();
    if (first.code != OK) {
        status_set(&first);
    }
    return first.code;
}

static enum record_format most(const struct votes *v) {
    int best = FORMAT_AUTO;
    for (int i = 0; i < FORMATS; i++) {
        best = v->formats[i] > v->formats[best] ? i : best;
    }
    return (enum record_format)best;
}

/* Transcripts and other pairs are one. */
static enum record_format choose(struct votes *v) {
    if (v->formats[FORMAT_PREFERENCE] > 0) {
        for (int t = 0; t < TEXTS_COUNT; t++) {
            v->texts[t][FORMAT_PREFERENCE] += v->texts[t][FORMAT_HH];
        }
        v->formats[FORMAT_PREFERENCE] += v->formats[FORMAT_HH];
        v->formats[FORMAT_HH] = 0;
    }
    return most(v);
}

/* Local. The first record of another format that this rank has; *out NULL: none. */
static enum status find_stranger(const struct prepare *p, enum record_format format, struct looking *l,
                                 const struct record **out) {
    TRY(looking_open(p, l));
    for (;;) {
        struct votes one = {0};
        TRY(looking_next(l, out));
        if (!*out || (vote(p, FORMAT_AUTO, *out, &one) == OK && !record_formats_join(most(&one), format))) {
            return OK;
        }
    }
}

/* Local. Names the first record of another format that this rank has. */
static enum status name_stranger(const struct prepare *p, enum record_format format, const struct votes *v) {
    char counts[256] = "";
    size_t used = 0;
    struct looking l = {0};
    const struct record *r = NULL;
    for (int i = 0; i < FORMATS; i++) {
        if (v->formats[i] > 0 && used < sizeof counts) {
            used += (size_t)snprintf(counts + used, sizeof counts - used, "%s%lld %s", used ? ", " : "",
                                     (long long)v->formats[i], record_format_name((enum record_format)i));
        }
    }
    enum status st = find_stranger(p, format, &l, &r);
    if (st == OK) {
        status_clear();
    }
    if (st == OK && r) {
        st = fail(ERR_DATA,
                  "%s, line %lld: a record of another format than most: of the first %lld there are "
                  "%s; give one kind at a time, or set prepare.format",
                  records_file(p->input, r->file), (long long)r->line, (long long)v->known, counts);
    }
    looking_close(&l);
    return st;
}

enum status prepare_choose_format(struct prepare *p) {
    struct comm *c = p->run->comm;
    enum record_format given = (enum record_format)p->run->settings->prepare.format;
    struct votes v = {0};
    enum status st = vote_here(p, given, &v);
    TRY(comm_agree(c, st == ERR_DATA ? OK : st));
    TRY(comm_sum_i64(c, v.formats, FORMATS));
    TRY(comm_sum_i64(c, &v.texts[0][0], (int64_t)TEXTS_COUNT * FORMATS));
    TRY(comm_sum_i64(c, &v.known, 1));
    TRY(v.known == 0 ? comm_agree(c, st) : OK);
    p->job.format = choose(&v);
    p->job.mixed = given == FORMAT_AUTO;
    const int64_t *texts[] = {v.texts[TEXTS_STRINGS], v.texts[TEXTS_MESSAGES]};
    p->chats = texts[1][p->job.format] > texts[0][p->job.format];
    if (p->chat.templates && p->chat.strings && p->job.format != FORMAT_TEXT) {
        p->chats = true; /* whatever the texts are */
    } else if (p->chat.templates) {
        p->job.refused = p->chats ? TEXTS_STRINGS : TEXTS_MESSAGES;
    }
    bool several = v.known - v.formats[p->job.format] > v.known / STRANGERS_SHARE;
    return several ? comm_agree(c, name_stranger(p, p->job.format, &v)) : OK;
}
