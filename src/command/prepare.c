/* collimate prepare: JSON Lines to a tokenized preference file.
 *
 * Every rank parses and tokenizes its contiguous share of the records (prepare_records.h) and writes its rows
 * at the place that a scan over ranks gives them, so the data sets are the same for any rank count. Nothing
 * is silent: what was dropped, what will train without an end token, and where tokens would have crossed the
 * boundary of prompt and response are counted and reported.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "command/line.h"
#include "command/prepare_format.h"
#include "command/prepare_report.h"
#include "command/prepare_views.h"
#include "generated/version.h"
#include "io/record_blocks.h"
#include "mpi/threads.h"
#include "mpi/watchdog.h"
#include "util/clock.h"
#include "util/foreign.h"
#include "util/log.h"
#include "util/mem.h"

enum { CHECKED_RECORDS = 1000 }; /* for token boundaries, at most */

static enum status split_files(const char *list, struct prepare *p) {
    TRY(names_split(&p->files, list));
    return p->files.n > 0 ? OK : fail(ERR_USAGE, "input is not set; give input=FILE.jsonl[.gz][,…]");
}

/* The folder that a tokenizer's files lie in; NULL: none. */
static enum status folder_of(const char *tokenizer, char **out) {
    const char *slash = strrchr(tokenizer, '/');
    bool is_file = text_ends(tokenizer, ".json") || text_ends(tokenizer, ".model");
    *out = is_file ? mem_strndup(slash ? tokenizer : ".", slash ? (size_t)(slash - tokenizer) : 1)
                   : mem_strdup(tokenizer);
    return mem_ok(*out);
}

/* Local. The chat template that messages go through, where there is one. */
static enum status open_templates(struct prepare *p) {
    const struct settings *s = p->run->settings;
    const char *wanted = s->prepare.chat_template;
    char *folder = NULL;
    p->chat.strings = s->prepare.strings_as_chat;
    p->chat.all_turns = s->prepare.train_turns == 0 && s->prepare.hindsight == 0;
    p->job.chat = &p->chat;
    p->job.specials_as_text = s->tokenize.special_in_content == 1;
    if (strcmp(wanted, "transcript") == 0) {
        return OK;
    }
    TRY(folder_of(s->tokenizer, &folder));
    enum status st = template_folder_open(folder, &p->templates);
    mem_free(folder);
    TRY(st);
    if (p->chat.strings && p->templates.count == 0 && strcmp(wanted, "auto") == 0) {
        return fail(
            ERR_USAGE,
            "prepare.strings_as_chat: %s has no chat template; give one with prepare.chat_template=FILE",
            s->tokenizer);
    }
    TRY(strcmp(wanted, "auto") == 0 ? OK : template_folder_replace(&p->templates, wanted));
    p->chat.templates = p->templates.count > 0 ? &p->templates : NULL;
    p->chat.date = p->date;
    return OK;
}

/* Collective. The day that templates are told: the same on all ranks. */
static enum status choose_date(struct prepare *p) {
    const char *given = p->run->settings->prepare.date;
    time_t now = time(NULL);
    struct tm day;
    if (*given) {
        snprintf(p->date, sizeof p->date, "%s", given);
    } else if (localtime_r(&now, &day)) {
        strftime(p->date, sizeof p->date, "%Y-%m-%d", &day);
    }
    return comm_broadcast(p->run->comm, 0, p->date, sizeof p->date);
}

enum { END_AUTO, END_TRUE };

/* What the special-token settings mean with this tokenizer. */
static enum status choose_specials(struct prepare *p) {
    const struct settings *s = p->run->settings;
    const char *begin = s->tokenize.begin;
    int32_t begin_id = tokenizer_begin(p->tokenizer);
    int32_t end_id = tokenizer_end(p->tokenizer);
    bool automatic = strcmp(begin, "auto") == 0;
    bool wanted = automatic ? !p->templated && tokenizer_adds_begin(p->tokenizer) && begin_id >= 0
                            : strcmp(begin, "true") == 0;
    bool ends = s->tokenize.end == END_AUTO ? !p->templated && p->job.format != FORMAT_CHOICES
                                            : s->tokenize.end == END_TRUE;
    if (!automatic && !wanted && strcmp(begin, "false") != 0) {
        return fail(ERR_USAGE, "tokenize.begin: \"%s\" is not one of auto, true, false", begin);
    }
    if (wanted && begin_id < 0) {
        return fail(ERR_USAGE, "tokenize.begin is true, but %s names no beginning token", s->tokenizer);
    }
    if (ends && end_id < 0) {
        return fail(ERR_USAGE, "%s names no end token; set tokenize.end=false to prepare without",
                    s->tokenizer);
    }
    p->job.begin_id = wanted ? begin_id : -1;
    p->job.end_id = ends ? end_id : -1;
    return OK;
}

/* Local. Everything that needs no input. */
static enum status prepare_open(struct prepare *p) {
    const struct settings *s = p->run->settings;
    TRY(split_files(s->input, p));
    if (*s->output == '\0' && !p->run->dry_run) {
        return fail(ERR_USAGE, "output is not set; give output=FILE.h5");
    }
    if (*s->tokenizer == '\0') {
        return fail(ERR_USAGE, "tokenizer is not set; give tokenizer=FOLDER, or tokenizer=bytes");
    }
    TRY(tokenizer_open(s->tokenizer, &p->tokenizer));
    p->job.tokenizer = p->tokenizer;
    p->job.token_chars = s->prepare.token_chars;
    p->job.threads = threads_of_rank(p->run->comm, p->run->settings->threads);
    p->job.beside = p->run->dry_run ? NULL : s->output;
    for (int i = 0; i < p->files.n; i++) {
        TRY(foreign_check(p->files.list[i]));
    }
    return open_templates(p);
}

static void prepare_close(struct prepare *p) {
    prepared_free(&p->prepared);
    record_groups_free(&p->groups);
    records_close(p->input);
    template_folder_free(&p->templates);
    tokenizer_close(p->tokenizer);
    prepare_free_objectives(p);
    names_free(&p->files);
}

static void say_how(const struct prepare *p) {
    const struct settings *s = p->run->settings;
    bool automatic = strcmp(s->prepare.chat_template, "auto") == 0;
    if (p->templated) {
        log_root(LOG_INFO, "messages go through the chat template of %s",
                 automatic ? s->tokenizer : s->prepare.chat_template);
    } else {
        log_root(LOG_INFO, "messages become HH transcripts%s",
                 automatic ? ": the tokenizer has no chat template (prepare.chat_template)" : "");
    }
}

/* The same on every rank. */
static enum status choose_hindsight(struct prepare *p) {
    const struct settings *s = p->run->settings;
    p->job.hindsight = (struct hindsight){.kind = (enum hindsight_kind)s->prepare.hindsight,
                                          .good = s->prepare.good_marker,
                                          .bad = s->prepare.bad_marker,
                                          .is_labelled = p->job.format == FORMAT_UNPAIRED,
                                          .seed = (uint64_t)s->seed};
    return p->templated && p->job.hindsight.kind != HINDSIGHT_NONE
               ? fail(ERR_USAGE, "prepare.hindsight: messages of a chat template end where it ends them, so "
                                 "that no answer "
                                 "can stand behind another; set prepare.chat_template=transcript")
               : OK;
}

/* Collective. Format, limits and the boundary check's stride. */
static enum status plan(struct prepare *p) {
    const struct settings *s = p->run->settings;
    struct comm *c = p->run->comm;
    int64_t count = records_count(p->input);
    int64_t before;
    int64_t total;
    TRY(comm_scan_i64(c, count, &before, &total));
    if (total == 0) {
        return fail(ERR_DATA, "%s: no records", s->input);
    }
    int64_t limit = s->prepare.limit > 0 ? s->prepare.limit : total;
    int64_t left = limit > before ? limit - before : 0;
    p->job.records = left < count ? left : count;
    p->job.input = p->input;
    p->all_records = limit < total ? limit : total;
    p->job.check_stride = (p->all_records + CHECKED_RECORDS - 1) / CHECKED_RECORDS;
    p->job.strict = s->prepare.strict;
    TRY(prepare_choose_format(p));
    p->templated = p->chats && p->chat.templates;
    TRY(choose_hindsight(p));
    TRY(prepare_read_objectives(p));
    if (p->chats) {
        say_how(p);
    }
    return comm_agree(c, choose_specials(p));
}

/* A file in whose folder what does not fit in memory may lie. Borrowed. */
static const char *beside(const struct prepare *p) {
    const char *output = p->run->settings->output;
    return *output && !p->run->dry_run ? output : "/tmp/collimate";
}

/* Collective. SHP records by post, whose keys are refused elsewhere; others by prompt, where that is asked
 * for. */
static enum status group_records(struct prepare *p) {
    const struct settings *s = p->run->settings;
    const struct record_prompts prompts = {.format = p->job.format, .chat = p->job.chat};
    bool is_posts = p->job.format == FORMAT_SHP;
    const struct record_groups_plan plan = {.prompts = is_posts ? NULL : &prompts, .beside = beside(p)};
    TRY(options_learn(p->run->options, LEARNT_SHP, is_posts));
    if (!is_posts && !p->merges) {
        return OK;
    }
    TRY(record_groups_make(p->run->comm, p->input, p->job.records, &plan, &p->groups));
    p->job.groups = &p->groups;
    p->job.records = p->groups.n;
    if (!is_posts) {
        return OK;
    }
    p->job.min_score_ratio = s->prepare.min_score_ratio;
    p->job.max_length = s->prepare.max_length;
    p->job.max_pairs = s->prepare.max_pairs_per_post;
    return OK;
}

static enum status fill_facts(const struct prepare *p, struct dataset_facts *f) {
    const struct settings *s = p->run->settings;
    struct text command = {0};
    struct text program = {0};
    f->tokenizer = mem_strdup(s->tokenizer);
    f->source = mem_strdup(s->input);
    f->format = mem_strdup(record_format_name(p->job.format));
    if (!f->tokenizer || !f->source || !f->format) {
        return ERR_SYSTEM;
    }
    enum status st = line_text(p->run, &command);
    f->command = command.data;
    TRY(st);
    TRY(text_printf(&program, "collimate %s (%s)", COLLIMATE_VERSION, COLLIMATE_GIT));
    f->program = program.data;
    f->tokenizer_hash = tokenizer_hash(p->tokenizer);
    f->vocabulary = tokenizer_size(p->tokenizer);
    f->begin_id = p->job.begin_id;
    f->end_id = p->job.end_id;
    f->source_hash = records_hash(p->input);
    f->n_subsets = p->prepared.subsets.n;
    f->subsets = p->prepared.subsets.names;
    f->n_objectives = p->objectives.n;
    f->objectives = p->objectives.list;
    if (p->templated) {
        f->template_hash = template_folder_hash(&p->templates);
        f->template_date = mem_strdup(p->date);
        TRY(mem_ok(f->template_date));
    }
    f->n_dropped = p->prepared.drops.n;
    for (int i = 0; i < f->n_dropped; i++) {
        snprintf(f->dropped[i].reason, sizeof f->dropped[i].reason, "%s", p->prepared.drops.list[i].reason);
        f->dropped[i].count = p->prepared.drops.list[i].count;
    }
    return OK;
}

/* Collective. */
static enum status write_file(struct prepare *p) {
    struct dataset_facts facts = {0};
    struct prepared *d = &p->prepared;
    int32_t *places = NULL; /* of this rank's subsets among those of all */
    int n = d->subsets.n;
    enum status st;
    TRY_TO(done, comm_agree(p->run->comm, NEW_ARRAY(places, n)));
    for (int i = 0; i < n; i++) {
        places[i] = i;
    }
    st = subsets_join(p->run->comm, &d->subsets, places, n);
    st = st == OK ? comm_agree(p->run->comm, fill_facts(p, &facts)) : st;
    if (st == OK) {
        st = dataset_rows_write(p->run->comm, p->run->settings->output, &d->rows, places, &facts);
    }
done:
    mem_free(places);
    facts.n_subsets = 0; /* the names stay where they are */
    facts.subsets = NULL;
    facts.n_objectives = 0;
    facts.objectives = NULL;
    dataset_facts_free(&facts);
    return st;
}

/* Collective. */
static enum status prepare_run(struct prepare *p) {
    struct comm *c = p->run->comm;
    TRY(comm_agree(c, prepare_open(p)));
    TRY(choose_date(p));
    watchdog_phase(c->watchdog, "reading the records");
    TRY(records_survey(c, p->files.list, p->files.n, NULL, &p->input));
    TRY(plan(p));
    TRY(group_records(p));
    watchdog_phase(c->watchdog, "tokenizing");
    TRY(comm_agree(c, prepare_records(&p->job, &p->prepared)));
    double tokenized_s = clock_seconds() - p->start_s;
    TRY(prepare_report(p));
    TRY(prepare_check_objectives(p));
    if (p->run->dry_run) {
        TRY(prepare_write_views(p));
        log_root(LOG_INFO, "dry run: nothing is written");
        return OK;
    }
    watchdog_phase(c->watchdog, "writing %s", p->run->settings->output);
    TRY(write_file(p));
    TRY(prepare_write_views(p));
    double whole_s = clock_seconds() - p->start_s;
    log_root(LOG_INFO, "%s: written; %.2f s (%.2f s to read and tokenize), %.0f records/s",
             p->run->settings->output, whole_s, tokenized_s, (double)p->all_records / whole_s);
    return OK;
}

enum status command_prepare(struct run *run) {
    struct prepare p = {.run = run, .start_s = clock_seconds()};
    enum status st = prepare_run(&p);
    prepare_close(&p);
    return st;
}
