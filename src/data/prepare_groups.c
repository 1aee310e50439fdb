#include "data/prepare_groups.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/objectives.h"
#include "text/shp.h"
#include "util/hash.h"
#include "util/mem.h"

/* A record's key on its way to the rank that looks after it; back comes where the post appears first. */
struct key {
    uint64_t hash;
    int64_t index; /* of the record; in the answer: of the post's first record */
};

/* In front of a record's bytes. */
struct header {
    int64_t post; /* index of the post's first record */
    int64_t index, line, len;
    int64_t file;
};

enum { BAD_RECORD = 0xbad }; /* seed of their keys */
static const int64_t TEXT_MEMORY = (int64_t)128 << 20;
enum { BATCH_BYTES = 1 << 20 }; /* that are read together */

struct mail {
    int64_t *send, *receive; /* bytes, by rank */
    int64_t *at;             /* where the next piece for each rank goes */
};

static enum status mail_open(const struct comm *c, struct mail *m) {
    TRY(NEW_ARRAY(m->send, c->size));
    TRY(NEW_ARRAY(m->receive, c->size));
    return NEW_ARRAY(m->at, c->size);
}

static void mail_close(struct mail *m) {
    mem_free(m->send);
    mem_free(m->receive);
    mem_free(m->at);
}

/* Collective. What is to come from each rank, given what goes to each; *bytes: in all. */
static enum status mail_announce(struct comm *c, struct mail *m, int64_t *bytes) {
    int64_t *eights = NULL;
    enum status st = comm_agree(c, NEW_ARRAY(eights, c->size));
    *bytes = 0;
    for (int r = 0; r < c->size && st == OK; r++) {
        eights[r] = (int64_t)sizeof *eights;
        m->at[r] = r == 0 ? 0 : m->at[r - 1] + m->send[r - 1];
    }
    st = st == OK ? comm_exchange(c, m->send, eights, m->receive, eights) : st;
    for (int r = 0; r < c->size && st == OK; r++) {
        *bytes += m->receive[r];
    }
    mem_free(eights);
    return st;
}

/* How the records' keys are found. */
struct keys {
    const struct records_input *input;
    const struct record_prompts *prompts; /* NULL: posts */
    struct record_text *scratch;
};

static enum status prompt_key(const struct keys *k, const json_t *json, const char *where, uint64_t *out) {
    const char *s;
    size_t n;
    k->scratch->chat = k->prompts->chat;
    TRY(record_parse(k->prompts->format, json, where, k->scratch));
    objectives_key(k->prompts->format, json, k->scratch, &s, &n);
    *out = hash_bytes(s, n, 0);
    return OK;
}

/* A bad record is a post of its own, which is dropped later. */
static enum status key_of(const struct keys *k, const struct record *r, struct key *out) {
    char where[RECORDS_WHERE];
    json_t *json = NULL;
    out->index = r->index;
    enum status st = records_parse_one(k->input, r, where, &json);
    st = st != OK     ? st
         : k->prompts ? prompt_key(k, json, where, &out->hash)
                      : shp_post_key(json, where, &out->hash);
    json_decref(json);
    if (st == ERR_DATA) {
        out->hash = hash_bytes(&r->index, sizeof r->index, BAD_RECORD);
        status_clear();
        st = OK;
    }
    return st;
}

static int by_hash(const void *a, const void *b) {
    const struct key *const *x = a;
    const struct key *const *y = b;
    if ((*x)->hash != (*y)->hash) {
        return (*x)->hash < (*y)->hash ? -1 : 1;
    }
    return (*x)->index < (*y)->index ? -1 : (*x)->index > (*y)->index;
}

/* Each key's index becomes the lowest of its hash; places stay. */
static enum status answer(struct key *keys, int64_t n) {
    struct key **sorted;
    TRY(NEW_ARRAY(sorted, n)); // NOLINT(bugprone-sizeof-expression): an array of pointers is meant
    for (int64_t i = 0; i < n; i++) {
        sorted[i] = &keys[i];
    }
    if (n > 0) {
        qsort(sorted, (size_t)n, sizeof *sorted, by_hash); // NOLINT(bugprone-sizeof-expression)
    }
    for (int64_t i = 1; i < n; i++) {
        if (sorted[i]->hash == sorted[i - 1]->hash) {
            sorted[i]->index = sorted[i - 1]->index;
        }
    }
    mem_free(sorted);
    return OK;
}

/* Collective. first[i]: index of the first record of record i's post. */
static enum status find_firsts(struct comm *c, const struct key *keys, int64_t n, int64_t *first) {
    struct mail m = {0};
    struct key *out = NULL;
    struct key *in = NULL;
    int64_t bytes;
    enum status st = mail_open(c, &m);
    st = st == OK ? NEW_ARRAY(out, n) : st;
    TRY_TO(done, comm_agree(c, st));
    for (int64_t i = 0; i < n; i++) {
        m.send[keys[i].hash % (uint64_t)c->size] += (int64_t)sizeof *out;
    }
    TRY_TO(done, mail_announce(c, &m, &bytes));
    TRY_TO(done, comm_agree(c, NEW_ARRAY(in, bytes / (int64_t)sizeof *in)));
    for (int64_t i = 0; i < n; i++) {
        int64_t *at = &m.at[keys[i].hash % (uint64_t)c->size];
        first[i] = *at / (int64_t)sizeof *out; /* the key's place, until the answer comes */
        out[first[i]] = keys[i];
        *at += (int64_t)sizeof *out;
    }
    TRY_TO(done, comm_exchange(c, out, m.send, in, m.receive));
    TRY_TO(done, comm_agree(c, answer(in, bytes / (int64_t)sizeof *in)));
    TRY_TO(done, comm_exchange(c, in, m.receive, out, m.send));
    for (int64_t i = 0; i < n; i++) {
        first[i] = out[first[i]].index;
    }
done:
    mail_close(&m);
    mem_free(out);
    mem_free(in);
    return st;
}

/* The rank whose records hold an index; starts (size + 1). */
static int rank_of(const int64_t *starts, int size, int64_t index) {
    int low = 0;
    int high = size - 1;
    while (low < high) {
        int middle = (low + high + 1) / 2;
        if (starts[middle] <= index) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    return low;
}

/* Collective. The last rank whose records begin at or below an index owns it; ranks without records begin
 * where the next one does. */
static enum status find_starts(struct comm *c, int64_t records, int64_t *starts) {
    TRY(comm_gather_i64(c, records, starts));
    int64_t at = 0;
    for (int r = 0; r <= c->size; r++) {
        int64_t count = r < c->size ? starts[r] : 0;
        starts[r] = at;
        at += count;
    }
    return OK;
}

/* Records on their way to the ranks that own their posts. */
struct sending {
    struct comm *c;
    const int64_t *first, *starts; /* of each record's post; of each rank's records */
    struct record_reader *reader;
    struct record_block block;
    int64_t sent; /* records */
    bool more;    /* there may be records that have not been sent */
    struct mail mail;
    char *out, *in;
    int64_t out_capacity, in_capacity;
    struct arrived *arrived;
    int64_t n_arrived, arrived_capacity;
};

struct arrived {
    int64_t post;
    struct group_record record;
};

static int owner_of(const struct sending *s, int64_t record) {
    return rank_of(s->starts, s->c->size, s->first[record]);
}

/* Local. The next block, which is empty behind the last, and what of it goes to each rank. */
static enum status next_block(struct sending *s) {
    s->block.count = 0;
    memset(s->mail.send, 0, (size_t)s->c->size * sizeof *s->mail.send);
    TRY(s->more ? record_reader_next(s->reader, &s->block, &s->more) : OK);
    for (int64_t i = 0; i < s->block.count; i++) {
        s->mail.send[owner_of(s, s->sent + i)] += (int64_t)(sizeof(struct header) + s->block.list[i].len);
    }
    return OK;
}

/* Local. The round's records, by the rank that they go to. */
static enum status fill_round(struct sending *s) {
    int64_t last = s->c->size - 1;
    TRY(GROW_ARRAY(s->out, s->out_capacity, s->mail.at[last] + s->mail.send[last]));
    for (int64_t i = 0; i < s->block.count; i++) {
        const struct record *r = &s->block.list[i];
        const struct header h = {.post = s->first[s->sent + i],
                                 .index = r->index,
                                 .line = r->line,
                                 .len = (int64_t)r->len,
                                 .file = r->file};
        int64_t *at = &s->mail.at[owner_of(s, s->sent + i)];
        memcpy(s->out + *at, &h, sizeof h);
        memcpy(s->out + *at + sizeof h, r->data, r->len);
        *at += (int64_t)(sizeof h + r->len);
    }
    s->sent += s->block.count;
    return OK;
}

/* Local. What came in a round goes to the text. */
static enum status keep_round(struct sending *s, int64_t len, struct record_groups *out) {
    for (int64_t at = 0; at < len;) {
        struct header h;
        memcpy(&h, s->in + at, sizeof h);
        at += (int64_t)sizeof h;
        TRY(GROW_ARRAY(s->arrived, s->arrived_capacity, s->n_arrived + 1));
        s->arrived[s->n_arrived++] = (struct arrived){.post = h.post,
                                                      .record = {.at = spool_bytes(out->text, 0),
                                                                 .len = h.len,
                                                                 .index = h.index,
                                                                 .line = h.line,
                                                                 .file = h.file}};
        TRY(spool_append(out->text, 0, s->in + at, h.len));
        at += h.len;
    }
    return OK;
}

/* Collective. A block of each rank; *any: a rank had one. */
static enum status send_round(struct sending *s, bool *any, struct record_groups *out) {
    int64_t len = 0;
    TRY(comm_agree(s->c, next_block(s)));
    int64_t most = s->block.count;
    TRY(comm_max_i64(s->c, &most, 1));
    *any = most > 0;
    if (!*any) {
        return OK;
    }
    TRY(mail_announce(s->c, &s->mail, &len));
    enum status st = fill_round(s);
    st = st == OK ? GROW_ARRAY(s->in, s->in_capacity, len + 1) : st;
    TRY(comm_agree(s->c, st));
    TRY(comm_exchange(s->c, s->out ? s->out : "", s->mail.send, s->in, s->mail.receive));
    return comm_agree(s->c, keep_round(s, len, out));
}

static int by_post(const void *a, const void *b) {
    const struct arrived *x = a;
    const struct arrived *y = b;
    if (x->post != y->post) {
        return x->post < y->post ? -1 : 1;
    }
    return x->record.index < y->record.index ? -1 : x->record.index > y->record.index;
}

/* Local. Sorts what came into posts. */
static enum status collect(struct arrived *all, int64_t n, struct record_groups *out) {
    if (n > 0) {
        qsort(all, (size_t)n, sizeof *all, by_post);
    }
    TRY(NEW_ARRAY(out->records, n));
    TRY(NEW_ARRAY(out->first, n + 1));
    for (int64_t i = 0; i < n; i++) {
        out->records[i] = all[i].record;
        if (i == 0 || all[i].post != all[i - 1].post) {
            out->first[out->n++] = i;
        }
    }
    out->first[out->n] = n;
    return OK;
}

/* Collective. */
static enum status send_records(struct sending *s, const struct records_input *input, int64_t records,
                                struct record_groups *out) {
    bool any = true;
    enum status st = mail_open(s->c, &s->mail);
    st = st == OK ? record_reader_open(input, records, &s->reader) : st;
    s->more = true;
    st = comm_agree(s->c, st);
    while (st == OK && any) {
        st = send_round(s, &any, out);
    }
    st = st == OK ? comm_agree(s->c, collect(s->arrived, s->n_arrived, out)) : st;
    mail_close(&s->mail);
    record_reader_close(s->reader);
    record_block_free(&s->block);
    mem_free(s->out);
    mem_free(s->in);
    mem_free(s->arrived);
    return st;
}

static enum status read_keys(struct keys k, int64_t n, struct key *keys) {
    struct record_reader *reader = NULL;
    struct record_block block = {0};
    bool more = true;
    int64_t at = 0;
    enum status st = NEW_ARRAY(k.scratch, 1);
    st = st == OK ? record_reader_open(k.input, n, &reader) : st;
    while (st == OK && more) {
        st = record_reader_next(reader, &block, &more);
        for (int64_t i = 0; more && i < block.count && st == OK; i++) {
            st = key_of(&k, &block.list[i], &keys[at++]);
        }
    }
    record_block_free(&block);
    record_reader_close(reader);
    if (k.scratch) {
        record_text_free(k.scratch);
    }
    mem_free(k.scratch);
    return st;
}

enum status record_groups_make(struct comm *c, const struct records_input *input, int64_t records,
                               const struct record_groups_plan *plan, struct record_groups *out) {
    struct key *keys = NULL;
    int64_t *first = NULL;
    int64_t *starts = NULL;
    const struct spool_plan text = {.beside = plan->beside,
                                    .streams = 1,
                                    .memory = plan->memory > 0 ? plan->memory : TEXT_MEMORY,
                                    .piece = plan->piece};
    *out = (struct record_groups){0};
    enum status st = NEW_ARRAY(keys, records);
    st = st == OK ? NEW_ARRAY(first, records) : st;
    st = st == OK ? NEW_ARRAY(starts, c->size + 1) : st;
    st = st == OK ? spool_open(&text, &out->text) : st;
    st = st == OK ? read_keys((struct keys){.input = input, .prompts = plan->prompts}, records, keys) : st;
    TRY_TO(done, comm_agree(c, st));
    TRY_TO(done, find_starts(c, records, starts));
    TRY_TO(done, find_firsts(c, keys, records, first));
    mem_free(keys);
    keys = NULL;
    struct sending s = {.c = c, .first = first, .starts = starts};
    st = send_records(&s, input, records, out);
done:
    mem_free(keys);
    mem_free(first);
    mem_free(starts);
    if (st != OK) {
        record_groups_free(out);
    }
    return st;
}

void record_groups_free(struct record_groups *g) {
    mem_free(g->first);
    mem_free(g->records);
    spool_close(g->text);
    *g = (struct record_groups){0};
}

/* Reading. */

void group_batch_free(struct group_batch *b) {
    mem_free(b->records);
    mem_free(b->first);
    mem_free(b->text);
    *b = (struct group_batch){0};
}

int64_t record_groups_fit(const struct record_groups *g, int64_t first) {
    int64_t bytes = 0;
    int64_t n = 0;
    while (first + n < g->n && bytes < BATCH_BYTES) {
        for (int64_t i = g->first[first + n]; i < g->first[first + n + 1]; i++) {
            bytes += g->records[i].len;
        }
        n++;
    }
    return n;
}

enum status record_groups_read(const struct record_groups *g, int64_t first, int64_t n,
                               struct group_batch *out) {
    int64_t begin = n > 0 ? g->first[first] : 0;
    int64_t count = n > 0 ? g->first[first + n] - begin : 0;
    int64_t bytes = 0;
    for (int64_t i = 0; i < count; i++) {
        bytes += g->records[begin + i].len;
    }
    TRY(GROW_ARRAY(out->records, out->records_capacity, count));
    TRY(GROW_ARRAY(out->first, out->first_capacity, n + 1));
    TRY(GROW_ARRAY(out->text, out->text_capacity, bytes + 1));
    for (int64_t i = 0; i <= n; i++) {
        out->first[i] = n > 0 ? g->first[first + i] - begin : 0;
    }
    int64_t at = 0;
    for (int64_t i = 0; i < count; i++) {
        const struct group_record *r = &g->records[begin + i];
        TRY(spool_read(g->text, 0, r->at, r->len, out->text + at));
        out->records[i] = (struct record){.data = out->text + at,
                                          .len = (size_t)r->len,
                                          .index = r->index,
                                          .line = r->line,
                                          .file = (int)r->file};
        at += r->len;
    }
    return OK;
}
