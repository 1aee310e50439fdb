/* Chat templates: the Jinja that they are written in, from messages to text.
 *
 * What is read is what real templates use, with the settings of transformers (trim_blocks, lstrip_blocks,
 * loop controls, a sandbox, tojson as json.dumps, {% generation %}): for, if, set, set blocks, macros, call
 * blocks, namespaces, with, filter blocks, raw; expressions with Python's meaning; the filters, tests and
 * methods of template_filters.c, template_sequences.c, template_tests.c and template_methods.c. Text equals
 * that of jinja2 to the byte; where jinja2 raises, a row is refused. What is not here is named with its line
 * when a row comes to it (an unknown statement when the template is read).
 *
 * Nothing that a template or a row says can take more than the limits below. There are no files, no clock but
 * strftime_now's, no state between rows: the same template, row and date give the same text.
 *
 * Two kinds of ranges come with the text:
 *   generation   what {% generation %} blocks wrote, which is what to train on
 *   input        what came from messages, tools, documents and the row's other fields. A special token of the
 *                tokenizer that lies in such a range, even in part, was written by a user and not by the
 *                template. The values of "role" are not such input where they are a word (letters, digits, _
 * and
 *                -), since templates make tokens of them ('<|' + role + '|>').
 */
#ifndef COLLIMATE_TEXT_TEMPLATE_H
#define COLLIMATE_TEXT_TEMPLATE_H

#include <stdint.h>

#include "util/json.h"
#include "util/text.h"

enum {
    TEMPLATE_BYTES = 4 << 20,   /* of a template's own text */
    TEMPLATE_NESTING = 200,     /* of its statements and expressions, and of values in values */
    TEMPLATE_DEPTH = 1000,      /* of evaluation: calls in calls */
    TEMPLATE_STEPS = 20 << 20,  /* of a rendering; one is a few dozen instructions */
    TEMPLATE_OUTPUT = 64 << 20, /* bytes of text */
    TEMPLATE_MEMORY_MIB = 256,  /* of a rendering's values */
    TEMPLATE_RANGE = 100000,    /* elements of range(), as in jinja2's sandbox */
};

struct template;
/* Local. name ("model/chat_template.jinja") begins the messages; text: n bytes of UTF-8. Fails: ERR_DATA for
 * text that is no template, ERR_USAGE for what is not supported; both name the line. */
enum status template_parse(const char *name, const char *text, size_t n, struct template **out);
void template_free(struct template *t);
/* Of the text, for what is stored with data that was made by it. */
uint64_t template_hash(const struct template *t);
/* Whether the template marks what to train on. */
bool template_has_generation(const struct template *t);

/* What a row gives; all is borrowed, NULL is none. */
struct template_input {
    const json_t *messages;  /* list of objects */
    const json_t *tools;     /* list of objects (JSON schemas) */
    const json_t *documents; /* list of objects */
    const json_t *extra;     /* object: more variables ("enable_thinking"), which win over specials */
    const json_t *specials;  /* object: bos_token, eos_token, … (template_folder.h) */
    const char *date;        /* of strftime_now: 2026-11-30 or 2026-11-30T08:15:30; NULL: now */
    int64_t steps;           /* at most this many, 0: TEMPLATE_STEPS */
    bool add_generation_prompt;
};

struct template_range {
    size_t begin, end; /* bytes of the text */
};
struct template_ranges {
    struct template_range *data; /* in order, apart from each other */
    int64_t count, capacity;
};
/* Zero-initialised is empty; used again for the next row it keeps its memory. */
struct template_output {
    struct text text;
    struct template_ranges generation, input;
};
void template_output_free(struct template_output *out);
/* Whether bytes [begin, end) touch one of the ranges. */
bool template_ranges_touch(const struct template_ranges *ranges, size_t begin, size_t end);

/* Local; any number of threads may render one template, each with its own output. Replaces what out held.
 * Fails: ERR_DATA where this row cannot be rendered (the template's raise_exception, with its words; what
 * jinja2 would raise; a limit): drop it and go on. ERR_USAGE for what is not supported. */
enum status template_render(const struct template *t, const struct template_input *input,
                            struct template_output *out);

#endif
