/* The selected pairs as annotators read them, in the selection's order. */
#include <math.h>

#include "data/question.h"
#include "io/ordered.h"
#include "select/selection_internal.h"
#include "util/log.h"

static enum status print_all(const struct selection *s, struct text *out) {
    TRY(text_puts(out, ""));
    for (int64_t i = 0; i < s->n; i++) {
        const struct candidate *c = &s->candidates[i];
        if (c->is_taken) {
            struct question q = question_draw((uint64_t)s->options->seed, c->chosen, c->rejected);
            TRY(question_print(s->data, s->options->tokenizer, q, s->embeddings ? c->similarity : NAN,
                               c->cluster, out));
        }
    }
    return OK;
}

enum status selection_export(const struct selection *s) {
    struct text text = {0};
    struct ordered_file *file;
    TRY(ordered_open(s->comm, s->options->export, &file));
    enum status st = print_all(s, &text);
    st = ordered_append(file, st, text.data, text.len);
    text_free(&text);
    if (st != OK) {
        ordered_abandon(file);
        return st;
    }
    TRY(ordered_finish(file));
    log_root(LOG_INFO,
             "%lld pairs for annotators in %s: answer each {\"id\": …, \"preference\": \"a\", \"b\" "
             "or \"tie\"}, then select.answers",
             (long long)s->taken, s->options->export);
    return OK;
}
