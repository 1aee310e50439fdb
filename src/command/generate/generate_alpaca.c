/* generate.format=alpaca_eval: what alpaca_eval reads as model outputs, an array of {instruction, output,
 * generator, dataset, datasplit} in row order. */
#include <string.h>

#include "command/generate/generate.h"
#include "data/question.h"
#include "io/jsonl.h"
#include "util/mem.h"

static bool is_alpaca(const struct generation *g) {
    return g->session.settings->generate.format == 1;
}

/* The last part of a path without its ending: of runs/dpo/model too, whose name alone says little. */
static enum status name_model(const char *path, struct text *out) {
    TRY(text_puts(out, path));
    while (out->len > 1 && out->data[out->len - 1] == '/') {
        out->data[--out->len] = '\0';
    }
    const char *slash = strrchr(out->data, '/');
    size_t first = slash && strcmp(slash, "/model") != 0 ? (size_t)(slash + 1 - out->data) : 0;
    out->len -= first;
    memmove(out->data, out->data + first, out->len + 1);
    return OK;
}

/* Local. Instructions as they were before a template made prompts of them. */
static enum status read_instructions(struct generation *g) {
    const char *path = g->session.settings->generate.instructions;
    struct alpaca *a = &g->alpaca;
    TRY(records_open_alone(path, &a->instructions));
    int64_t n = records_count(a->instructions), prompts = dataset_size(g->data).prompts;
    if (n != prompts) {
        return fail(
            ERR_DATA,
            "generate.instructions: %s has %lld records, %s %lld prompts; they must be what the prompts "
            "were prepared from, one for one",
            path, (long long)n, dataset_path(g->data), (long long)prompts);
    }
    return OK;
}

enum status generate_open_alpaca(struct generation *g) {
    const struct settings *s = g->session.settings;
    if (!is_alpaca(g)) {
        return OK;
    }
    if (!g->session.tokenizer) {
        return fail(ERR_USAGE, "generate.format=alpaca_eval is text, but %s has no tokenizer", s->model);
    }
    if (g->n_spoken > 1 || s->generate.samples > 1) {
        return fail(ERR_USAGE,
                    "generate.format=alpaca_eval has one answer to an instruction: no generate.samples, "
                    "and one value of the rule's parameters");
    }
    if (dataset_facts(g->data)->template_hash != 0 && !*s->generate.instructions) {
        return fail(ERR_USAGE,
                    "generate.format=alpaca_eval: a chat template made the prompts of %s; set "
                    "generate.instructions to the file that they were prepared from",
                    dataset_path(g->data));
    }
    TRY(*s->generate.generator ? text_puts(&g->alpaca.generator, s->generate.generator)
                               : name_model(s->model, &g->alpaca.generator));
    return *s->generate.instructions ? read_instructions(g) : OK;
}

/* The record's text must stand in the prompt. */
static enum status given_instruction(struct generation *g, int64_t row, json_t **record,
                                     struct text *prompt) {
    char where[RECORDS_WHERE];
    const char *text = NULL;
    TRY(records_parse(g->alpaca.instructions, row, where, record));
    TRY(json_take_string(*record, "instruction", where, &text));
    if (!text) {
        return fail(ERR_DATA, "%s: \"instruction\" is missing", where);
    }
    size_t first = strspn(text, " \t\r\n"), n = strlen(text); /* templates trim */
    while (n > first && strchr(" \t\r\n", text[n - 1])) {
        n--;
    }
    if (n > first && !(prompt->len > 0 && memmem(prompt->data, prompt->len, text + first, n - first))) {
        return fail(ERR_DATA, "%s: is not the instruction of prompt %lld of %s", where, (long long)row,
                    dataset_path(g->data));
    }
    text_clear(prompt);
    return text_puts(prompt, text);
}

static enum status put(struct text *out, const char *before, const char *text) {
    TRY(text_puts(out, before));
    return text_json(out, text, strlen(text));
}

static enum status put_all(struct generation *g, int64_t row, const json_t *record, const char *instruction,
                           const struct text *output) {
    const struct dataset_facts *facts = dataset_facts(g->data);
    const char *dataset = json_string_value(json_object_get(record, "dataset"));
    int32_t subset = -1;
    struct text *out = &g->text;
    TRY(facts->n_subsets > 0 ? dataset_prompt_subset(g->data, row, &subset) : OK);
    dataset = dataset ? dataset : subset >= 0 ? facts->subsets[subset] : facts->source;
    TRY(put(out,
            row == generate_prompt_at(g, 0) ? "[{\"instruction\": " : ",\n {\"instruction\": ", instruction));
    TRY(put(out, ", \"output\": ", output->len > 0 ? output->data : ""));
    TRY(put(out, ", \"generator\": ", g->alpaca.generator.data));
    TRY(put(out, ", \"dataset\": ", dataset ? dataset : ""));
    return text_puts(out, row == generate_prompt_at(g, g->n - 1) ? ", \"datasplit\": \"eval\"}]\n"
                                                                 : ", \"datasplit\": \"eval\"}");
}

enum status generate_alpaca_line(struct generation *g, const struct answers *a, int32_t k,
                                 struct text *scratch) {
    struct text prompt = {0};
    json_t *record = NULL;
    enum status st;
    TRY_TO(done, question_prompt(g->data, g->session.tokenizer, a->row, &prompt));
    TRY_TO(done, g->alpaca.instructions ? given_instruction(g, a->row, &record, &prompt) : OK);
    TRY_TO(done, generate_text(g, &a->responses[k], scratch));
    st = put_all(g, a->row, record, prompt.data ? prompt.data : "", scratch);
done:
    json_decref(record);
    text_free(&prompt);
    return st;
}

void generate_close_alpaca(struct alpaca *a) {
    records_close(a->instructions);
    text_free(&a->generator);
}
