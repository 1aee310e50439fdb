/* What systems said: files of answers, each read once. */
#ifndef COLLIMATE_EVALUATE_REPLIES_H
#define COLLIMATE_EVALUATE_REPLIES_H

#include <stdint.h>

#include "util/status.h"

struct reply {
    int64_t key;    /* the row, or where a file has none, of the instruction's text: names the prompt */
    int64_t row;    /* -1: the file says none */
    int64_t length; /* characters of the answer */
    int64_t line;   /* of the file */
    double reward;  /* NaN: none */
    char *text;
    char *prompt; /* NULL: the file does not hold it */
};
struct replies {
    char *path, *name;  /* the name is the path's, without folder and ending */
    struct reply *list; /* as the file has them */
    int64_t n, capacity;
    struct reply_place {
        int64_t key, place;
    } * order; /* by key */
};
/* Local. JSON Lines of `generate` (row, text, reward), or what AlpacaEval reads (instruction, output; an
 * array or lines); also "prompt", "response". Fails: ERR_INPUT; ERR_DATA with the line, for a prompt with two
 * answers as well. Freed in any case. */
enum status replies_read(const char *path, struct replies *out);
void replies_free(struct replies *r);
/* A prompt's answer; NULL: there is none. */
struct reply *replies_find(const struct replies *r, int64_t key);
/* Characters of a text; -1 for NULL. */
int64_t reply_characters(const char *text);

#endif
