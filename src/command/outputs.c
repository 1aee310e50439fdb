#include "command/outputs.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "data/objective_views.h"
#include "io/h5.h"
#include "io/output.h"
#include "util/mem.h"
#include "util/regular.h"

enum { MOST_MARKS = 5 };
enum place { PLACE_FILE, PLACE_RUN, PLACE_MODEL };

/* What a command writes under `output`, and how its earlier results begin. */
static const struct result {
    const char *command;
    enum place place;
    enum output_form form;
    int n;
    struct output_mark marks[MOST_MARKS];
} results[] = {
    {"prepare", PLACE_FILE, OUTPUT_HDF5, 1, {{"preferences", NULL, NULL}}},
    {"select", PLACE_FILE, OUTPUT_HDF5, 1, {{"selection", NULL, NULL}}},
    {"embed", PLACE_FILE, OUTPUT_HDF5, 1, {{"embeddings", NULL, NULL}}},
    {"score", PLACE_FILE, OUTPUT_TEXT, 1, {{NULL, "{\"row\": ", "\"response\": "}}},
    {"generate",
     PLACE_FILE,
     OUTPUT_TEXT,
     2,
     {{NULL, "{\"row\": ", "\"tokens\": ["}, {NULL, "[{\"instruction\": ", "\"output\": "}}},
    {"evaluate",
     PLACE_FILE,
     OUTPUT_TEXT,
     2,
     {{NULL, "{\"rows\": ", "\"data_hash\": "}, {NULL, "{\"pairs\": ", "\"data_hash\": "}}},
    {"judge", PLACE_FILE, OUTPUT_TEXT, 1, {{NULL, "{\"verdicts\": ", "\"pairs\": ["}}},
    {"synth",
     PLACE_FILE,
     OUTPUT_TEXT,
     3,
     {{NULL, "{\"prompt\": ", "\"worth\": "},
      {NULL, "{\"prompt\": ", "\"conflicting\": "},
      {NULL, "idx,split,reward_a_0,", NULL}}},
    {"bench",
     PLACE_FILE,
     OUTPUT_TEXT,
     5,
     {{NULL, "op,shape,tokens,", NULL},
      {NULL, "bytes,count,type,op,", NULL},
      {NULL, "date,", NULL},
      {NULL, "batch,", NULL},
      {NULL, "rows,width,", NULL}}},
    {"init", PLACE_MODEL, OUTPUT_FOLDER, 0, {{0}}},
    {"merge", PLACE_MODEL, OUTPUT_FOLDER, 0, {{0}}},
    {"sft", PLACE_RUN, OUTPUT_FOLDER, 0, {{0}}},
    {"dpo", PLACE_RUN, OUTPUT_FOLDER, 0, {{0}}},
    {"reward", PLACE_RUN, OUTPUT_FOLDER, 0, {{0}}},
    {"online", PLACE_RUN, OUTPUT_FOLDER, 0, {{0}}},
    {"few-shot", PLACE_RUN, OUTPUT_FOLDER, 0, {{0}}},
};
static const struct output_mark report_of_select = {NULL, "{\"strategy\": ", NULL};
static const struct output_mark report_of_generate = {NULL, "{\"responses\": ", "\"logp\": "};
static const struct output_mark saved_by_generate = {"preferences", NULL, NULL};
static const struct output_mark saved_by_judge = {NULL, "{\"row\": ", "\"orders\": ["};
static const struct output_mark export_of_select = {NULL, "{\"id\": ", "\"response_a\": "};
static const struct output_mark report_of_inspect = {NULL, "{\"file\": ", NULL};
static const struct output_mark embeddings_of_dpo = {"embeddings", NULL, NULL};

/* A growing list of paths. */
struct paths {
    char **list;
    int64_t n, capacity;
};

static void paths_free(struct paths *p) {
    for (int64_t i = 0; i < p->n; i++) {
        mem_free(p->list[i]);
    }
    mem_free(p->list);
}

static enum status add_path(struct paths *p, const char *path, size_t n) {
    if (n == 0) {
        return OK;
    }
    TRY(GROW_ARRAY(p->list, p->capacity, p->n + 1));
    p->list[p->n] = mem_strndup(path, n);
    TRY(mem_ok(p->list[p->n]));
    p->n++;
    return OK;
}

/* Each of a list with commas in it, which is also a path itself. */
static enum status add_paths(struct paths *p, const char *list) {
    struct names names = {0};
    enum status st = add_path(p, list, strlen(list));
    st = st == OK && strchr(list, ',') ? names_split(&names, list) : st;
    for (int i = 0; i < names.n && st == OK; i++) {
        st = add_path(p, names.list[i], strlen(names.list[i]));
    }
    names_free(&names);
    return st;
}

/* *content: of a file of ours; NULL: it is none, and somebody else's to refuse. Fails: ERR_INPUT, ERR_SYSTEM.
 */
static enum status find_content(const char *path, char **content) {
    struct stat facts;
    *content = NULL;
    if (stat(path, &facts) != 0 || !S_ISREG(facts.st_mode)) {
        return OK;
    }
    enum status st = h5_content(path, content);
    return st == ERR_DATA ? OK : st;
}

/* What a view selects from is an input as well. */
static enum status add_base(struct paths *p, const char *view) {
    char *content;
    char *link = NULL;
    struct h5_file *f;
    struct text path = {0};
    TRY(find_content(view, &content));
    bool is_view = content && strcmp(content, "selection") == 0;
    mem_free(content);
    if (!is_view) {
        return OK;
    }
    TRY(h5_open(view, NULL, 0, &f));
    const char *slash = strrchr(view, '/');
    enum status st = h5_get_text(f, "selects", &link);
    if (st == OK && link[0] != '/' && slash) {
        st = text_append(&path, view, (size_t)(slash + 1 - view));
    }
    st = st == OK ? text_puts(&path, link) : st;
    st = st == ERR_DATA ? OK : st;
    st = st == OK && path.data ? add_path(p, path.data, path.len) : st;
    h5_close(f);
    text_free(&path);
    mem_free(link);
    return st;
}

/* Values of keys that name a file or say a word: the words are none. */
static const char *unless_word(const char *value, const char *word, const char *other) {
    return strcmp(value, word) == 0 || strcmp(value, other) == 0 ? "" : value;
}

static enum status list_inputs(const struct settings *s, struct paths *out) {
    const char *const lists[] = {
        s->input,
        s->data,
        s->eval_data,
        s->embeddings,
        s->few_shot.context_data,
        s->model,
        s->reference,
        unless_word(s->tokenizer, "bytes", ""),
        s->adapter,
        s->reference_adapter,
        s->init.config,
        s->select.model,
        s->select.compare,
        s->select.exclude,
        s->select.answers,
        s->select.rewards,
        s->select.samples,
        s->inspect.against,
        s->judge.annotations,
        s->judge.answers,
        s->judge.gamed,
        s->judge.template,
        s->reward_model,
        s->generate.reference,
        s->generate.expert,
        s->generate.antiexpert,
        s->generate.instructions,
        unless_word(s->prepare.chat_template, "auto", "transcript"),
        s->dpo.reference_file,
        s->steer.embedder,
        s->steer.context,
    };
    for (int i = 0; i < COUNT_OF(lists); i++) {
        TRY(add_paths(out, lists[i]));
    }
    for (int64_t i = 0, n = out->n; i < n; i++) {
        TRY(add_base(out, out->list[i]));
    }
    return OK;
}

/* A result that is one file: its folder is there, or nothing is done. */
static enum status check_file(const struct output_rules *rules, const char *path, enum output_form form,
                              const struct output_mark *marks, int n) {
    TRY(output_check(rules, path, form, marks, n));
    return output_check_folder(path);
}

/* A file of a folder. */
static enum status inside(const char *folder, const char *name, struct text *out) {
    text_clear(out);
    return text_printf(out, "%s/%s", folder, name);
}

static bool same_folder(const char *a, const char *b) {
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* Inputs in a part of the run folder that the run replaces or clears. */
static enum status check_part(const struct output_rules *rules, const char *part) {
    for (int i = 0; i < rules->n_inputs; i++) {
        const char *input = rules->inputs[i];
        const char *slash = strrchr(input, '/');
        char *parent =
            slash ? mem_strndup(input, (size_t)(slash - input) + (slash == input)) : mem_strdup(".");
        TRY(mem_ok(parent));
        bool is_in = same_folder(input, part) || same_folder(parent, part);
        mem_free(parent);
        if (is_in) {
            return fail(ERR_USAGE,
                        "output: the run would write into %s, where its input %s lies; name another", part,
                        input);
        }
    }
    return OK;
}

/* dpo that selects first: the view, its report and its embeddings. */
static enum status check_selection(const struct output_rules *rules, const struct settings *s) {
    struct text path = {0};
    const struct output_mark view = {"selection", NULL, NULL};
    enum status st;
    TRY_TO(done, inside(s->output, "selection.h5", &path));
    TRY_TO(done, output_check(rules, path.data, OUTPUT_HDF5, &view, 1));
    TRY_TO(done, inside(s->output, "selection.json", &path));
    TRY_TO(done, output_check(rules, path.data, OUTPUT_TEXT, &report_of_select, 1));
    TRY_TO(done, inside(s->output, "selection.embeddings.h5", &path));
    TRY_TO(done, output_check(rules, path.data, OUTPUT_HDF5, &embeddings_of_dpo, 1));
done:
    text_free(&path);
    return st;
}

/* What the run would write into its folder. is_ours: a run of the same command has been there. */
static enum status check_records(const struct output_rules *rules, const char *folder, bool is_ours) {
    static const char *const parts[] = {"model", "adapter", "checkpoints", "tensorboard", "rollouts"};
    static const char *const files[] = {"environment.json", "log.txt", "metrics.jsonl", "result.json"};
    struct text path = {0};
    struct stat facts;
    enum status st = OK;
    for (int i = 0; i < COUNT_OF(files); i++) {
        const struct output_mark any = {NULL, "", NULL};
        TRY_TO(done, inside(folder, files[i], &path));
        TRY_TO(done, output_check(rules, path.data, OUTPUT_TEXT, &any, is_ours));
    }
    for (int i = 0; i < COUNT_OF(parts); i++) {
        TRY_TO(done, inside(folder, parts[i], &path));
        TRY_TO(done, check_part(rules, path.data));
        if (!is_ours && !rules->overwrite && stat(path.data, &facts) == 0) {
            st = fail(
                ERR_USAGE,
                "output: %s is there already and of no run of %s; name another folder or set overwrite=true",
                path.data, rules->command);
            goto done;
        }
    }
done:
    text_free(&path);
    return st;
}

/* A run folder is the command's own if its config.yaml says so; one without may hold other things, but not
 * what the run would write. A run that begins there at this moment writes config.yaml before anything else:
 * what was found without one is looked at again, and the lease says whose the folder is. */
static enum status check_run(const struct output_rules *rules, const struct settings *s) {
    struct text path = {0};
    struct text begins = {0};
    struct stat facts;
    bool is_ours, is_news;
    enum status st;
    TRY_TO(done, output_check(rules, s->output, OUTPUT_FOLDER, NULL, 0));
    TRY_TO(done, text_printf(&begins, OUTPUT_CONFIG_BEGINS "%s", rules->command));
    /* Before commands were named there, each file began with the meaning of `output`. */
    const struct output_mark marks[] = {{NULL, begins.data, NULL},
                                        {NULL, "# file or run folder written", NULL}};
    TRY_TO(done, inside(s->output, "config.yaml", &path));
    do {
        is_ours = stat(path.data, &facts) == 0;
        TRY_TO(done, output_check(rules, path.data, OUTPUT_TEXT, marks, COUNT_OF(marks)));
        st = check_records(rules, s->output, is_ours);
        is_news = st != OK && !is_ours && stat(path.data, &facts) == 0;
    } while (is_news);
    TRY_TO(done, st);
    st = strcmp(rules->command, "dpo") == 0 && *s->select.strategy ? check_selection(rules, s) : OK;
done:
    text_free(&path);
    text_free(&begins);
    return st;
}

/* Does a file's beginning hold the mark? One that is not there does not. */
static enum status holds_mark(const char *path, const char *mark, bool *out) {
    char start[512];
    int descriptor;
    if (access(path, F_OK) != 0) {
        return OK;
    }
    TRY(regular_open(path, &descriptor, NULL));
    ssize_t n = pread(descriptor, start, sizeof start, 0);
    *out = n > 0 && memmem(start, (size_t)n, mark, strlen(mark));
    close(descriptor);
    return OK;
}

/* Does one of a folder's weights say that the command wrote it? */
static enum status is_made_by(const char *folder, const char *command, bool *out) {
    const char *mark = strcmp(command, "merge") == 0 ? OUTPUT_MADE_BY_MERGE : OUTPUT_MADE_BY_INIT;
    static const char *const files[] = {"model.safetensors", "model.safetensors.index.json"};
    struct text path = {0};
    enum status st = OK;
    *out = false;
    for (int i = 0; i < COUNT_OF(files) && st == OK && !*out; i++) {
        st = inside(folder, files[i], &path);
        st = st == OK ? holds_mark(path.data, mark, out) : st;
    }
    text_free(&path);
    return st;
}

static enum status check_model(const struct output_rules *rules, const char *folder) {
    static const char *const files[] = {
        "config.json",    "generation_config.json", "model.safetensors",       "model.safetensors.index.json",
        "tokenizer.json", "tokenizer_config.json",  "special_tokens_map.json", "vocab.json",
        "merges.txt"};
    const struct output_mark any = {NULL, "", NULL};
    struct text path = {0};
    bool is_own = false; /* then every file is */
    enum status st = output_check(rules, folder, OUTPUT_FOLDER, NULL, 0);
    st = st == OK ? is_made_by(folder, rules->command, &is_own) : st;
    for (int i = 0; i < COUNT_OF(files) && st == OK; i++) {
        st = inside(folder, files[i], &path);
        st = st == OK ? output_check(rules, path.data, OUTPUT_TEXT, &any, is_own) : st;
    }
    text_free(&path);
    return st;
}

/* The report of select, which lies beside its view or its export where it is not named; and the export. */
static enum status check_select(const struct output_rules *rules, const struct settings *s) {
    struct text path = {0};
    const char *beside = *s->output ? s->output : s->select.export;
    size_t n = strlen(beside) - (text_ends(beside, ".h5") ? 3 : text_ends(beside, ".jsonl") ? 6 : 0);
    enum status st = OK;
    if (!*beside) {
        return OK;
    }
    if (*s->select.export) {
        TRY(check_file(rules, s->select.export, OUTPUT_TEXT, &export_of_select, 1));
        if (strcmp(s->select.export, s->output) == 0 || strcmp(s->select.export, s->select.report) == 0) {
            return fail(ERR_USAGE, "select.export: %s is the name of another result too", s->select.export);
        }
    }
    if (!*s->select.report && output_is_stream(beside)) {
        return OK;
    }
    st = *s->select.report ? text_puts(&path, s->select.report)
                           : text_printf(&path, "%.*s.json", (int)n, beside);
    st = st == OK ? check_file(rules, path.data, OUTPUT_TEXT, &report_of_select, 1) : st;
    text_free(&path);
    return st;
}

/* What generate writes beside its lines. */
static enum status check_generated(const struct output_rules *rules, const struct settings *s) {
    if (*s->generate.save) {
        TRY(check_file(rules, s->generate.save, OUTPUT_HDF5, &saved_by_generate, 1));
    }
    return *s->generate.report ? check_file(rules, s->generate.report, OUTPUT_TEXT, &report_of_generate, 1)
                               : OK;
}

/* The views that prepare writes beside the responses. */
static enum status check_views(const struct output_rules *rules, const struct settings *s) {
    const struct output_mark view = {"selection", NULL, NULL};
    struct names names;
    struct text path = {0};
    enum status st = objective_names_read(s->prepare.objectives, &names);
    for (int i = -1; i < names.n && st == OK; i++) {
        st = objective_view_path(s->output, i < 0 ? NULL : names.list[i], &path);
        st = st == OK ? check_file(rules, path.data, OUTPUT_HDF5, &view, 1) : st;
    }
    names_free(&names);
    text_free(&path);
    return st;
}

static enum status check_all(const struct output_rules *rules, const struct settings *s) {
    const struct result *r = results;
    while (r < results + COUNT_OF(results) && strcmp(r->command, rules->command) != 0) {
        r++;
    }
    if (strcmp(rules->command, "inspect") == 0 && *s->inspect.report) {
        return check_file(rules, s->inspect.report, OUTPUT_TEXT, &report_of_inspect, 1);
    }
    if (strcmp(rules->command, "generate") == 0) {
        TRY(check_generated(rules, s));
    }
    if (strcmp(rules->command, "prepare") == 0 && *s->prepare.objectives && *s->output) {
        TRY(check_views(rules, s));
    }
    if (strcmp(rules->command, "judge") == 0 && *s->judge.save) {
        TRY(check_file(rules, s->judge.save, OUTPUT_TEXT, &saved_by_judge, 1));
    }
    TRY(strcmp(rules->command, "select") == 0 ? check_select(rules, s) : OK);
    if (r == results + COUNT_OF(results) || !*s->output) {
        return OK;
    }
    if (r->place != PLACE_FILE) {
        return r->place == PLACE_RUN ? check_run(rules, s) : check_model(rules, s->output);
    }
    return check_file(rules, s->output, r->form, r->marks, r->n);
}

enum status outputs_check(struct run *run, const char *command) {
    struct paths inputs = {0};
    enum status st = OK;
    if (run->comm->rank == 0) {
        st = list_inputs(run->settings, &inputs);
        const struct output_rules rules = {.command = command,
                                           .inputs = inputs.list,
                                           .n_inputs = (int)inputs.n,
                                           .overwrite = run->settings->overwrite};
        st = st == OK ? check_all(&rules, run->settings) : st;
    }
    paths_free(&inputs);
    return comm_agree(run->comm, st);
}
