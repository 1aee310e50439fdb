#include "text/ignored.h"

#include <stdio.h>
#include <string.h>

/* One list a format: what records.c reads. */
static const char *const used[][16] = {
    [FORMAT_HH] = {"chosen", "rejected", "margin", "chosen_score", "rejected_score", "score_chosen",
                   "score_rejected", "worth"},
    [FORMAT_PREFERENCE] = {"prompt", "conversations", "messages", "chosen", "rejected", "margin",
                           "chosen_score", "rejected_score", "score_chosen", "score_rejected", "worth"},
    [FORMAT_PROMPT_COMPLETION] = {"prompt", "completion", "response", "label", "messages", "conversations"},
    [FORMAT_PROMPT] = {"prompt", "messages", "conversations"},
    [FORMAT_RESPONSES] = {"prompt", "messages", "conversations", "responses", "better_response_id"},
    [FORMAT_SHP] = {"post_id", "history", "human_ref_A", "human_ref_B", "labels", "score_A", "score_B",
                    "score_ratio"},
    [FORMAT_ULTRAFEEDBACK] = {"instruction", "completions"},
    [FORMAT_ALPACA] = {"instruction", "input", "output", "system", "history", "chosen", "rejected", "margin",
                       "chosen_score", "rejected_score", "score_chosen", "score_rejected"},
    [FORMAT_TEXT] = {"text"},
    [FORMAT_CHOICES] = {"prompt", "messages", "conversations", "choices", "answer"},
    [FORMAT_CHOSEN_LISTS] = {"prompt", "messages", "conversations", "chosen", "rejected", "id"},
    [FORMAT_UNPAIRED] = {"prompt", "completion", "label", "messages", "conversations"},
};
static const char *const to_templates[] = {"tools", "documents", "chat_template_kwargs"};
static const char *const holders[] = {"prompt", "messages", "conversations",
                                      "chosen", "rejected", "completion"};
static const char *const fields[] = {"role", "content", "from", "value"};

static bool is_one_of(const char *name, const char *const *list, int n) {
    for (int i = 0; i < n && list[i]; i++) {
        if (strcmp(name, list[i]) == 0) {
            return true;
        }
    }
    return false;
}

static void add_key(struct ignored *g, const char *name, bool of_messages, int64_t count) {
    int i = 0;
    while (i < g->n && (g->list[i].of_messages != of_messages ||
                        strncmp(g->list[i].name, name, sizeof g->list[i].name - 1) != 0)) {
        i++;
    }
    if (i == IGNORED_KEYS) {
        return;
    }
    if (i == g->n) {
        snprintf(g->list[i].name, sizeof g->list[i].name, "%s", name);
        g->list[i].of_messages = of_messages;
        g->n++;
    }
    g->list[i].count += count;
}

/* Jansson's iterator takes no const; nothing is changed. */
static void count_message(struct ignored *g, const json_t *message) {
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)message, name, value) {
        if (!json_is_null(value) && !is_one_of(name, fields, COUNT_OF(fields))) {
            add_key(g, name, true, 1);
        }
    }
}

static void count_messages(struct ignored *g, const json_t *list) {
    size_t i;
    const json_t *message;
    if (json_is_object(list)) {
        count_message(g, list);
    }
    json_array_foreach(list, i, message) {
        count_message(g, message);
    }
}

static bool is_numbered(const char *name) {
    return strncmp(name, "response_", 9) == 0 && name[9] != '\0' &&
           strspn(name + 9, "0123456789") == strlen(name + 9);
}

void ignored_count(struct ignored *g, enum record_format format, const json_t *record, bool templated) {
    const char *name;
    json_t *value;
    bool chat = record_is_chat(format, record);
    json_object_foreach((json_t *)(uintptr_t)record, name, value) {
        bool is_used = (format == FORMAT_RESPONSES && is_numbered(name)) ||
                       is_one_of(name, used[format], COUNT_OF(used[format])) || strcmp(name, "subset") == 0 ||
                       (chat && templated && is_one_of(name, to_templates, COUNT_OF(to_templates)));
        if (!is_used && !json_is_null(value)) {
            add_key(g, name, false, 1);
        }
        if (is_used && chat && !templated && is_one_of(name, holders, COUNT_OF(holders))) {
            count_messages(g, value);
        }
    }
}

void ignored_merge(struct ignored *to, const struct ignored *from) {
    for (int i = 0; i < from->n; i++) {
        add_key(to, from->list[i].name, from->list[i].of_messages, from->list[i].count);
    }
}
