/* A small preference world for the tests of files: prompts, responses and pairs that are functions of their
 * index, so that any rank can make any row and say what a file must hold. */
#ifndef COLLIMATE_TESTS_SMALL_WORLD_H
#define COLLIMATE_TESTS_SMALL_WORLD_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "data/dataset.h"
#include "tests/check.h"
#include "util/mem.h"
#include "util/rng.h"

enum { WORLD_VOCABULARY = 5000, WORLD_END = 4999, WORLD_BEGIN = 4998 };

/* Lengths in [0, most]; prompt i is empty where i is 3 modulo 50. */
static inline int64_t world_draw(int64_t what, int64_t i, int64_t below) {
    struct rng r = rng_stream(7, RNG_SYNTH, i, what);
    return rng_below(&r, below);
}
static inline int64_t world_prompt_length(int64_t prompt) {
    return prompt % 50 == 3 ? 0 : 1 + world_draw(1, prompt, 60);
}
static inline int64_t world_response_length(int64_t response) { /* the end token included */
    return 2 + world_draw(2, response, 90);
}
static inline int32_t world_token(int64_t what, int64_t row, int64_t at, int64_t count) {
    return what == 4 && at == count - 1 ? WORLD_END : (int32_t)world_draw(what, row * 1000 + at, WORLD_BEGIN);
}
static inline uint8_t world_chars(int32_t token) { /* some are the later bytes of a character */
    return token == WORLD_END ? 0 : (uint8_t)(token % 5);
}

/* Rows of prompts [first, last): every prompt has two responses and a pair, the second better where odd;
 * every tenth has none. */
static inline int64_t world_responses_before(int64_t prompt) {
    return 2 * (prompt - (prompt + 9) / 10);
}
static inline int64_t world_pairs_before(int64_t prompt) {
    return prompt - (prompt + 9) / 10;
}

static inline void *world_array(int64_t n, size_t size) {
    void *p = mem_calloc(n, size);
    if (!p) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    return p;
}

static inline void world_fill(struct dataset_part *p, int64_t first) {
    int64_t response = world_responses_before(first), n = 0;
    for (int64_t i = 0; i < p->n_prompts; i++) {
        int64_t count = world_prompt_length(first + i);
        for (int64_t k = 0; k < count; k++) {
            p->prompt_tokens[p->prompt_offsets[i] + k] = world_token(3, first + i, k, count);
        }
        p->prompt_offsets[i + 1] = p->prompt_offsets[i] + count;
        if ((first + i) % 10 == 0) {
            continue;
        }
        int64_t pair = n / 2;
        for (int side = 0; side < 2; side++, n++) {
            count = world_response_length(response + n);
            int64_t at = p->response_offsets[n];
            for (int64_t k = 0; k < count; k++) {
                p->response_tokens[at + k] = world_token(4, response + n, k, count);
                p->response_token_chars[at + k] = world_chars(p->response_tokens[at + k]);
                p->response_length_chars[n] += p->response_token_chars[at + k];
            }
            p->response_offsets[n + 1] = at + count;
            p->response_prompt[n] = i;
            p->response_score[n] = side ? NAN : (float)(response + n);
        }
        bool swap = (first + i) % 2 == 1;
        p->chosen[pair] = 2 * pair + swap;
        p->rejected[pair] = 2 * pair + !swap;
        p->margin[pair] = 0.25f * (float)(first + i);
        p->label[pair] = (first + i) % 7 != 0;
        p->pair_source[pair] = first + i;
    }
}

static inline struct dataset_part world_part(int64_t first, int64_t last) {
    struct dataset_part p = {.n_prompts = last - first};
    p.n_responses = world_responses_before(last) - world_responses_before(first);
    p.n_pairs = world_pairs_before(last) - world_pairs_before(first);
    p.prompt_tokens = world_array(p.n_prompts * 61, 4);
    p.prompt_offsets = world_array(p.n_prompts + 1, 8);
    p.response_tokens = world_array(p.n_responses * 92, 4);
    p.response_token_chars = world_array(p.n_responses * 92, 1);
    p.response_offsets = world_array(p.n_responses + 1, 8);
    p.response_prompt = world_array(p.n_responses, 8);
    p.response_score = world_array(p.n_responses, 4);
    p.response_length_chars = world_array(p.n_responses, 4);
    p.chosen = world_array(p.n_pairs, 8);
    p.rejected = world_array(p.n_pairs, 8);
    p.pair_source = world_array(p.n_pairs, 8);
    p.margin = world_array(p.n_pairs, 4);
    p.label = world_array(p.n_pairs, 1);
    world_fill(&p, first);
    return p;
}

static inline void world_part_free(struct dataset_part *p) {
    void *arrays[] = {p->prompt_tokens,
                      p->prompt_offsets,
                      p->response_tokens,
                      p->response_token_chars,
                      p->response_offsets,
                      p->response_prompt,
                      p->response_score,
                      p->response_length_chars,
                      p->chosen,
                      p->rejected,
                      p->pair_source,
                      p->margin,
                      p->label};
    for (int i = 0; i < COUNT_OF(arrays); i++) {
        mem_free(arrays[i]);
    }
}

static inline struct dataset_facts world_facts(void) {
    return (struct dataset_facts){.tokenizer = "words",
                                  .tokenizer_hash = 0xfedcba9876543210u,
                                  .vocabulary = WORLD_VOCABULARY,
                                  .begin_id = -1,
                                  .end_id = WORLD_END,
                                  .source = "world",
                                  .source_hash = 42,
                                  .format = "preference",
                                  .command = "test",
                                  .program = "collimate test",
                                  .n_dropped = 2,
                                  .dropped = {{"empty", 3}, {"tie in score", 4}}};
}

/* A folder of this test's own, named by rank 0; *path is a file in it. */
static inline void world_folder(struct comm *c, char folder[64]) {
    snprintf(folder, 64, "/tmp/collimate-XXXXXX");
    if (c->rank == 0 && !mkdtemp(folder)) {
        perror("mkdtemp");
        exit(1);
    }
    CHECK(comm_broadcast(c, 0, folder, 64) == OK);
}
static inline void world_folder_remove(struct comm *c, const char *folder) {
    char command[128];
    CHECK(comm_barrier(c) == OK);
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    if (c->rank == 0 && system(command) != 0) {
        fprintf(stderr, "cannot remove %s\n", folder);
    }
}

/* A file system of 2 MiB at path, which is made; false where mounting is refused. Collective. */
static inline bool world_tiny_disk(struct comm *c, const char *path) {
    char command[256];
    int64_t mounted = 0;
    snprintf(command, sizeof command, "mkdir '%s' && mount -t tmpfs -o size=2m none '%s' 2> /dev/null", path,
             path);
    if (c->rank == 0) {
        mounted = system(command) == 0;
    }
    CHECK(comm_broadcast(c, 0, &mounted, sizeof mounted) == OK);
    return mounted;
}
static inline void world_tiny_disk_remove(struct comm *c, const char *path) {
    char command[256];
    CHECK(comm_barrier(c) == OK);
    snprintf(command, sizeof command, "umount '%s'", path);
    if (c->rank == 0) {
        CHECK(system(command) == 0);
    }
}

#endif
