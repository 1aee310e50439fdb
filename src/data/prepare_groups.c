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

static int64_t sum(const int64_t *values, int n) {
    int64_t total = 0;
    for (int i = 0; i < n; i++) {
        total += values[i];
    }
    return total;
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
static enum status key_of(const struct keys *k, int64_t i, struct key *out) {
    const struct records_input *input = k->input;
    struct record r = records_at(input, i);
    char where[RECORDS_WHERE];
    json_t *json = NULL;
    out->index = r.index;
    enum status st = records_parse(input, i, where, &json);
    st = st != OK     ? st
         : k->prompts ? prompt_key(k, json, where, &out->hash)
                      : shp_post_key(json, where, &out->hash);
    json_decref(json);
    if (st == ERR_DATA) {
        out->hash = hash_bytes(&r.index, sizeof r.index, BAD_RECORD);
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

struct sending {
    const struct records_input *input;
    int64_t n;
    const int64_t *first, *starts;
};

/* Collective. Records to the ranks that own their posts; bytes: what came. */
static enum status send_records(struct comm *c, const struct sending *s, char **bytes, int64_t *len) {
    struct mail m = {0};
    char *out = NULL;
    enum status st = comm_agree(c, mail_open(c, &m));
    *bytes = NULL;
    TRY_TO(done, st);
    for (int64_t i = 0; i < s->n; i++) {
        int64_t size = (int64_t)(sizeof(struct header) + records_at(s->input, i).len);
        m.send[rank_of(s->starts, c->size, s->first[i])] += size;
    }
    TRY_TO(done, mail_announce(c, &m, len));
    st = NEW_ARRAY(out, sum(m.send, c->size));
    st = st == OK ? NEW_ARRAY(*bytes, *len) : st;
    TRY_TO(done, comm_agree(c, st));
    for (int64_t i = 0; i < s->n; i++) {
        struct record r = records_at(s->input, i);
        const struct header h = {
            .post = s->first[i], .index = r.index, .line = r.line, .len = (int64_t)r.len, .file = r.file};
        int64_t *at = &m.at[rank_of(s->starts, c->size, s->first[i])];
        memcpy(out + *at, &h, sizeof h);
        memcpy(out + *at + sizeof h, r.data, r.len);
        *at += (int64_t)(sizeof h + r.len);
    }
    st = comm_exchange(c, out, m.send, *bytes, m.receive);
done:
    mail_close(&m);
    mem_free(out);
    return st;
}

struct arrived {
    int64_t post;
    struct record record;
};

static int by_post(const void *a, const void *b) {
    const struct arrived *x = a;
    const struct arrived *y = b;
    if (x->post != y->post) {
        return x->post < y->post ? -1 : 1;
    }
    return x->record.index < y->record.index ? -1 : x->record.index > y->record.index;
}

/* Local. Sorts what came into posts. */
static enum status collect(const char *bytes, int64_t len, struct record_groups *out) {
    struct arrived *all = NULL;
    int64_t capacity = 0;
    int64_t n = 0;
    enum status st = OK;
    for (int64_t at = 0; at < len && st == OK;) {
        struct header h;
        memcpy(&h, bytes + at, sizeof h);
        at += (int64_t)sizeof h;
        TRY_TO(done, GROW_ARRAY(all, capacity, n + 1));
        all[n].post = h.post;
        all[n++].record = (struct record){
            .data = bytes + at, .len = (size_t)h.len, .index = h.index, .line = h.line, .file = (int)h.file};
        at += h.len;
    }
    if (n > 0) {
        qsort(all, (size_t)n, sizeof *all, by_post);
    }
    TRY_TO(done, NEW_ARRAY(out->records, n));
    TRY_TO(done, NEW_ARRAY(out->first, n + 1));
    for (int64_t i = 0; i < n; i++) {
        out->records[i] = all[i].record;
        if (i == 0 || all[i].post != all[i - 1].post) {
            out->first[out->n++] = i;
        }
    }
    out->first[out->n] = n;
done:
    mem_free(all);
    return st;
}

static enum status read_keys(struct keys k, int64_t n, struct key *keys) {
    enum status st = NEW_ARRAY(k.scratch, 1);
    for (int64_t i = 0; i < n && st == OK; i++) {
        st = key_of(&k, i, &keys[i]);
    }
    if (k.scratch) {
        record_text_free(k.scratch);
    }
    mem_free(k.scratch);
    return st;
}

enum status record_groups_make(struct comm *c, const struct records_input *input, int64_t records,
                               const struct record_prompts *prompts, struct record_groups *out) {
    struct key *keys = NULL;
    int64_t *first = NULL;
    int64_t *starts = NULL;
    int64_t len;
    *out = (struct record_groups){0};
    enum status st = NEW_ARRAY(keys, records);
    st = st == OK ? NEW_ARRAY(first, records) : st;
    st = st == OK ? NEW_ARRAY(starts, c->size + 1) : st;
    st = st == OK ? read_keys((struct keys){.input = input, .prompts = prompts}, records, keys) : st;
    TRY_TO(done, comm_agree(c, st));
    TRY_TO(done, find_starts(c, records, starts));
    TRY_TO(done, find_firsts(c, keys, records, first));
    const struct sending s = {.input = input, .n = records, .first = first, .starts = starts};
    TRY_TO(done, send_records(c, &s, &out->bytes, &len));
    st = comm_agree(c, collect(out->bytes, len, out));
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
    mem_free(g->bytes);
    *g = (struct record_groups){0};
}
