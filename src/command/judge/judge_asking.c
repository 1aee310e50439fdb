/* Two answers to a prompt as the text that a judge goes on from. */
#include <string.h>

#include "command/judge/judge.h"
#include "util/mem.h"

/* Without a chat template the choices are " A" and " B", behind one "A" and "B". */
static const char QUESTION[] =
    "Here are a request and two answers to it.\n\n"
    "Request:\n{{ prompt }}\n\n"
    "Answer A:\n{{ a }}\n\n"
    "Answer B:\n{{ b }}\n\n"
    "Which answer is better, more helpful and more correct? Reply with one letter, "
    "A or B.\n\nThe better answer is";

enum status asking_open(const struct session *s, struct asking *out) {
    const char *path = s->settings->judge.template;
    *out = (struct asking){.session = s};
    if (!s->tokenizer) {
        return fail(ERR_USAGE, "%s has no tokenizer; a judge reads text", s->settings->model);
    }
    TRY(*path ? template_read(path, &out->question)
              : template_parse("judge.template", QUESTION, sizeof QUESTION - 1, &out->question));
    TRY(template_folder_open(s->source.data, &out->chat));
    return encoder_open(s->tokenizer, &out->encoder);
}

void asking_close(struct asking *a) {
    template_free(a->question);
    template_folder_free(&a->chat);
    encoder_close(a->encoder);
    template_output_free(&a->asked);
    template_output_free(&a->wrapped);
    *a = (struct asking){0};
}

static enum status no_memory(void) {
    return fail(ERR_SYSTEM, "out of memory: a judge's question");
}

/* Messages through the chat template. */
static enum status wrap(struct asking *a, json_t *messages, bool opened) {
    const struct template_input input = {
        .messages = messages, .specials = a->chat.specials, .add_generation_prompt = opened};
    return messages ? template_render(template_folder_choose(&a->chat, false), &input, &a->wrapped)
                    : no_memory();
}

/* The beginning token where the tokenizer puts one and the text does not have it; then the text. */
static enum status encode(struct asking *a, const struct template_output *text, struct ids *out) {
    const struct tokenizer *t = a->session->tokenizer;
    int32_t begin = tokenizer_adds_begin(t) ? tokenizer_begin(t) : -1;
    out->count = 0;
    encoder_set_input(a->encoder, &text->input, 0, true);
    TRY(tokenizer_encode(a->encoder, text->text.data ? text->text.data : "", text->text.len, out, NULL));
    if (begin >= 0 && (out->count == 0 || out->data[0] != begin)) {
        TRY(GROW_ARRAY(out->data, out->capacity, out->count + 1));
        memmove(out->data + 1, out->data, (size_t)out->count * sizeof *out->data);
        out->data[0] = begin;
        out->count++;
    }
    return OK;
}

/* The two choices' ids behind a text. */
static enum status choose(struct asking *a, const struct text *before, int32_t choices[2]) {
    const char *given = a->session->settings->judge.choices;
    const char *list = *given ? given : a->chat.count > 0 ? "A,B" : " A, B";
    const char *comma = strchr(list, ',');
    struct ids ids = {0};
    if (!comma || strchr(comma + 1, ',') || comma == list || !comma[1]) {
        return fail(ERR_USAGE, "judge.choices: \"%s\" is not two texts with a comma between them", list);
    }
    const char *texts[] = {list, comma + 1};
    size_t sizes[] = {(size_t)(comma - list), strlen(comma + 1)};
    encoder_set_input(a->encoder, NULL, 0, true);
    enum status st = OK;
    for (int i = 0; i < 2 && st == OK; i++) {
        ids.count = 0;
        st = tokenizer_encode_after(a->encoder, before->data ? before->data : "", before->len, texts[i],
                                    sizes[i], &ids, NULL);
        if (st == OK && ids.count != 1) {
            st = fail(
                ERR_USAGE,
                "judge.choices: \"%.*s\" is %lld tokens of %s behind the question, and a verdict is read "
                "from one; set two texts that are one token each (a space in front counts)",
                (int)sizes[i], texts[i], (long long)ids.count, a->session->settings->model);
        }
        choices[i] = st == OK ? ids.data[0] : -1;
    }
    ids_free(&ids);
    TRY(st);
    return choices[0] != choices[1]
               ? OK
               : fail(ERR_USAGE, "judge.choices: \"%s\": both are the same token (%d) of %s", list,
                      choices[0], a->session->settings->model);
}

static enum status render(struct asking *a, const char *prompt, const char *const answers[2]) {
    json_t *fields = json_pack("{s:s, s:s, s:s}", "prompt", prompt, "a", answers[0], "b", answers[1]);
    const struct template_input input = {.extra = fields, .specials = a->chat.specials};
    enum status st = fields ? template_render(a->question, &input, &a->asked) : no_memory();
    json_decref(fields);
    return st;
}

enum status asking_shows(struct asking *a, const char *prompt, const char *const answers[2], bool *out) {
    const char *const turned[2] = {answers[1], answers[0]};
    const struct text *asked = &a->asked.text;
    struct text first = {0};
    enum status st = render(a, prompt, answers);
    st = st == OK ? text_append(&first, asked->data ? asked->data : "", asked->len) : st;
    st = st == OK ? render(a, prompt, turned) : st;
    *out = st == OK &&
           (first.len != asked->len || (first.len > 0 && memcmp(first.data, asked->data, first.len) != 0));
    text_free(&first);
    return st;
}

enum status asking_ids(struct asking *a, const char *prompt, const char *const answers[2], struct ids *out,
                       int32_t choices[2]) {
    const struct template_output *text = &a->asked;
    TRY(render(a, prompt, answers));
    if (a->chat.count > 0) {
        json_t *messages = json_pack("[{s:s, s:s%}]", "role", "user", "content",
                                     a->asked.text.data ? a->asked.text.data : "", a->asked.text.len);
        enum status st = wrap(a, messages, true);
        json_decref(messages);
        TRY(st);
        text = &a->wrapped;
    }
    TRY(encode(a, text, out));
    return choose(a, &text->text, choices);
}

enum status asking_reply_ids(struct asking *a, const char *prompt, const char *answer, struct ids *out) {
    const struct tokenizer *t = a->session->tokenizer;
    struct template_output *text = &a->wrapped;
    if (a->chat.count > 0) {
        json_t *messages = json_pack("[{s:s, s:s}, {s:s, s:s}]", "role", "user", "content", prompt, "role",
                                     "assistant", "content", answer);
        enum status st = wrap(a, messages, false);
        json_decref(messages);
        TRY(st);
        return encode(a, text, out);
    }
    text->input.count = 0;
    text_clear(&text->text);
    TRY(text_puts(&text->text, prompt));
    TRY(encode(a, text, out));
    TRY(tokenizer_encode_after(a->encoder, prompt, strlen(prompt), answer, strlen(answer), out, NULL));
    if (tokenizer_end(t) >= 0) {
        TRY(GROW_ARRAY(out->data, out->capacity, out->count + 1));
        out->data[out->count++] = tokenizer_end(t);
    }
    return OK;
}
