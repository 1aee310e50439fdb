#include "text/chat.h"

#include <stdio.h>
#include <string.h>

#include "util/mem.h"

/* Bytes [begin, end) of the ranges, counted from begin; replaces what `to` held. */
static enum status cut_ranges(const struct template_ranges *from, size_t begin, size_t end,
                              struct template_ranges *to) {
    to->count = 0;
    for (int64_t i = 0; i < from->count; i++) {
        size_t first = from->data[i].begin > begin ? from->data[i].begin : begin;
        size_t last = from->data[i].end < end ? from->data[i].end : end;
        if (first < last) {
            TRY(GROW_ARRAY(to->data, to->capacity, to->count + 1));
            to->data[to->count++] = (struct template_range){first - begin, last - begin};
        }
    }
    return OK;
}

static enum status add_range(struct template_ranges *to, size_t begin, size_t end) {
    TRY(GROW_ARRAY(to->data, to->capacity, to->count + 1));
    to->data[to->count++] = (struct template_range){begin, end};
    return OK;
}

static enum status drop_chat(struct record_text *r, const char *reason) {
    r->dropped = reason;
    return OK;
}

static bool has_tools(const json_t *record) {
    return json_array_size(json_object_get(record, "tools")) > 0;
}

const struct template *chat_template(const struct record_text *r, const json_t *record) {
    return r->chat && r->chat->templates ? template_folder_choose(r->chat->templates, has_tools(record))
                                         : NULL;
}

/* Turns [0, n) as a template wants them. */
static enum status messages_of(const struct conversation *c, int64_t n, json_t **out) {
    *out = json_array();
    for (int64_t i = 0; *out && i < n; i++) {
        const struct message_turn *turn = &c->turns[i];
        /* Jansson counts references in what it is given; nothing else of it is changed. */
        json_t *message = turn->renamed ? json_pack("{s:s, s:O}", "role", role_name(turn->role), "content",
                                                    (json_t *)(uintptr_t)turn->content)
                                        : json_incref((json_t *)(uintptr_t)turn->message);
        if (json_array_append_new(*out, message) != 0) {
            json_decref(*out);
            *out = NULL;
        }
    }
    return *out ? OK : fail(ERR_SYSTEM, "out of memory: messages");
}

static bool is_list(const json_t *value) {
    return json_array_size(value) > 0;
}

static enum status render(struct record_text *r, const json_t *record, const struct conversation *c,
                          int64_t n, bool opened, struct template_output *out) {
    json_t *messages;
    const json_t *tools = json_object_get(record, "tools");
    const json_t *documents = json_object_get(record, "documents");
    const json_t *extra = json_object_get(record, "chat_template_kwargs");
    TRY(messages_of(c, n, &messages));
    const struct template_input input = {.messages = messages,
                                         .tools = is_list(tools) ? tools : NULL,
                                         .documents = is_list(documents) ? documents : NULL,
                                         .extra = json_is_object(extra) ? extra : NULL,
                                         .specials = r->chat->templates->specials,
                                         .date = r->chat->date,
                                         .add_generation_prompt = opened};
    enum status st = template_render(chat_template(r, record), &input, out);
    json_decref(messages);
    if (st == ERR_DATA) {
        snprintf(r->detail, sizeof r->detail, "%.255s", status_message()->text);
        return drop_chat(r, "refused by the chat template");
    }
    return st;
}

static bool begins_with(const struct template_output *whole, const struct template_output *part) {
    return part->text.len <= whole->text.len &&
           (part->text.len == 0 || memcmp(whole->text.data, part->text.data, part->text.len) == 0);
}

static enum status take_text(const struct template_output *from, size_t begin, size_t end, struct text *to,
                             struct text_marks *marks) {
    text_clear(to);
    TRY(end > begin ? text_append(to, from->text.data + begin, end - begin) : OK);
    return cut_ranges(&from->input, begin, end, &marks->input);
}

bool chat_ends(struct record_text *r, const struct conversation *c) {
    if (c->count == 0 || c->turns[c->count - 1].role != ROLE_ASSISTANT) {
        r->dropped = "last message is not the assistant's";
    } else if (c->count == 1) {
        r->dropped = "no prompt";
    }
    return !r->dropped;
}

/* Where the last turn's own text ends in a rendering, as transformers' continue_final_message has it. */
static enum status end_of_content(const struct message_turn *turn, const struct text *rendered, size_t *end) {
    struct text content = {0};
    enum status st = turn_text(turn, &content);
    size_t n = content.len;
    while (n > 0 && strchr(" \t\r\n", content.data[n - 1])) {
        n--;
    }
    *end = rendered->len;
    for (size_t at = rendered->len; st == OK && n > 0 && at >= n; at--) {
        if (memcmp(rendered->data + at - n, content.data, n) == 0) {
            *end = at;
            break;
        }
    }
    text_free(&content);
    return st;
}

static enum status template_prompt(struct record_text *r, const json_t *record, const struct conversation *c,
                                   int64_t n) {
    bool left_open = n > 0 && c->turns[n - 1].role == ROLE_ASSISTANT;
    struct template_output *out = &r->rendered[0];
    TRY(render(r, record, c, n, !left_open, out));
    size_t end = out->text.len;
    TRY(!r->dropped && left_open ? end_of_content(&c->turns[n - 1], &out->text, &end) : OK);
    return r->dropped ? OK : take_text(out, 0, end, &r->prompt, &r->prompt_marks);
}

static enum status unknown_role(struct record_text *r, const struct conversation *c, int64_t n) {
    const char *role = "";
    for (int64_t i = n; i-- > 0;) {
        const struct message_turn *turn = &c->turns[i];
        role = turn->role == ROLE_OTHER || (turn->role == ROLE_SYSTEM && i > 0) ? turn->name : role;
    }
    snprintf(r->reason, sizeof r->reason, "unknown role \"%.24s\"", role);
    return drop_chat(r, r->reason);
}

/* Transcript turns [0, n), with the assistant's opened unless the last is his. */
enum status chat_prompt(struct record_text *r, const json_t *record, const struct conversation *c,
                        int64_t n) {
    if (n == 0) {
        return drop_chat(r, "no prompt");
    }
    if (chat_template(r, record)) {
        return template_prompt(r, record, c, n);
    }
    bool unknown;
    TRY(conversation_render(c, 0, n, &r->prompt, &unknown));
    if (unknown) {
        return unknown_role(r, c, n);
    }
    return c->turns[n - 1].role == ROLE_ASSISTANT ? OK : text_puts(&r->prompt, TURN_ASSISTANT);
}

/* A turn of the assistant behind "\n\nAssistant:". */
static enum status transcript_turn(const struct message_turn *turn, struct text *out) {
    struct text content = {0};
    enum status st = turn_text(turn, &content);
    if (st == OK && !text_blank(&content)) {
        st = text_puts(out, " ");
        st = st == OK ? text_append(out, content.data, content.len) : st;
    }
    text_free(&content);
    return st;
}

static enum status transcript_response(struct record_text *r, const struct conversation *c, int64_t n,
                                       int place) {
    struct text *out = &r->responses[place];
    bool unknown = false;
    if (c->turns[n].role != ROLE_ASSISTANT) {
        return drop_chat(r, "the response does not begin with the assistant's turn");
    }
    TRY(transcript_turn(&c->turns[n], out));
    for (int64_t i = n + 1; i < c->count && !unknown; i++) {
        TRY(conversation_render(c, i, i + 1, out, &unknown));
    }
    return unknown ? unknown_role(r, c, c->count) : OK;
}

enum status chat_response(struct record_text *r, const json_t *record, const struct conversation *c,
                          int64_t n, int place) {
    if (!chat_template(r, record)) {
        return transcript_response(r, c, n, place);
    }
    if (c->count == n + 1 && turn_is_empty(&c->turns[n])) {
        text_clear(&r->responses[place]);
        return OK;
    }
    struct template_output *whole = &r->rendered[1];
    TRY(render(r, record, c, c->count, false, whole));
    if (r->dropped) {
        return OK;
    }
    if (!begins_with(whole, &r->rendered[0])) {
        return drop_chat(r, "template does not render the prompt as a prefix");
    }
    return take_text(whole, r->rendered[0].text.len, whole->text.len, &r->responses[place],
                     &r->response_marks[place]);
}

/* All turns. */

/* Where turn i is in the whole, as the renderings that end before and behind it say. */
static enum status find_turn(struct record_text *r, const json_t *record, const struct conversation *c,
                             int64_t i, int64_t last) {
    const struct template_output *whole = &r->rendered[1];
    struct template_output *part = &r->rendered[2];
    TRY(render(r, record, c, i, true, part));
    size_t begin = part->text.len;
    bool found = !r->dropped && begins_with(whole, part);
    size_t end = whole->text.len;
    if (found && i < last) {
        TRY(render(r, record, c, i + 1, false, part));
        found = !r->dropped && begins_with(whole, part);
        end = part->text.len;
    }
    const struct template_ranges *turns = &r->turns;
    found = found && begin < end && (turns->count == 0 || turns->data[turns->count - 1].end <= begin);
    r->n_untrained += !found;
    r->detail[0] = '\0';
    r->dropped = NULL; /* a template may refuse a part of a chat that it takes as a whole */
    return found ? add_range(&r->turns, begin, end) : OK;
}

static enum status find_turns(struct record_text *r, const json_t *record, const struct conversation *c,
                              int64_t last) {
    if (template_has_generation(chat_template(r, record))) {
        return cut_ranges(&r->rendered[1].generation, 0, r->rendered[1].text.len, &r->turns);
    }
    for (int64_t i = 1; i <= last; i++) {
        if (c->turns[i].role == ROLE_ASSISTANT && !turn_is_empty(&c->turns[i])) {
            TRY(find_turn(r, record, c, i, last));
        }
    }
    return OK;
}

static enum status template_turns(struct record_text *r, const json_t *record, const struct conversation *c,
                                  int64_t last) {
    const struct template_output *whole = &r->rendered[1];
    TRY(render(r, record, c, last + 1, false, &r->rendered[1]));
    TRY(r->dropped ? OK : find_turns(r, record, c, last));
    if (r->dropped || r->turns.count == 0) {
        return r->dropped
                   ? OK
                   : drop_chat(r, r->n_untrained > 0 ? "template does not render the prompt as a prefix"
                                                     : "empty response");
    }
    size_t begin = r->turns.data[0].begin;
    size_t end = r->turns.data[r->turns.count - 1].end;
    TRY(take_text(whole, 0, begin, &r->prompt, &r->prompt_marks));
    TRY(take_text(whole, begin, end, &r->responses[0], &r->response_marks[0]));
    return r->turns.count > 1 ? cut_ranges(&r->turns, begin, end, &r->response_marks[0].trained) : OK;
}

/* Turns from `first`, an assistant's, to `last`, another or the same. */
static enum status transcript_turns(struct record_text *r, const struct conversation *c, int64_t first,
                                    int64_t last) {
    struct text *out = &r->responses[0];
    for (int64_t i = first; i <= last; i++) {
        bool unknown = false;
        if (c->turns[i].role != ROLE_ASSISTANT) {
            TRY(conversation_render(c, i, i + 1, out, &unknown));
        } else {
            TRY(i > first ? text_puts(out, TURN_ASSISTANT) : OK);
            size_t begin = out->len;
            TRY(transcript_turn(&c->turns[i], out));
            TRY(out->len > begin ? add_range(&r->turns, begin, out->len) : OK);
        }
        if (unknown) {
            return unknown_role(r, c, last + 1);
        }
    }
    if (r->turns.count == 0) {
        return drop_chat(r, "empty response");
    }
    bool whole = r->turns.count == 1 && r->turns.data[0].begin == 0;
    return whole ? OK : cut_ranges(&r->turns, 0, out->len, &r->response_marks[0].trained);
}

enum status chat_all_turns(struct record_text *r, const json_t *record, const struct conversation *c) {
    int64_t last = c->count - 1;
    int64_t first = 1;
    while (last >= 0 && c->turns[last].role != ROLE_ASSISTANT) {
        last--;
    }
    while (first < last && c->turns[first].role != ROLE_ASSISTANT) {
        first++;
    }
    if (last < 1) {
        return drop_chat(r, last < 0 ? "no message of the assistant" : "no prompt");
    }
    r->n_behind = c->count - 1 - last;
    r->turns.count = 0;
    if (chat_template(r, record)) {
        return template_turns(r, record, c, last);
    }
    TRY(chat_prompt(r, record, c, first));
    return r->dropped ? OK : transcript_turns(r, c, first, last);
}
