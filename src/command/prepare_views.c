#include "command/prepare_views.h"

#include <stdio.h>
#include <string.h>

#include "command/line.h"
#include "data/objective_views.h"
#include "mpi/watchdog.h"
#include "util/log.h"

enum { MERGE_AUTO, MERGE_TRUE, MERGE_FALSE };

static bool has_scores(enum record_format f) {
    return f == FORMAT_RESPONSES || f == FORMAT_ULTRAFEEDBACK;
}

static bool has_choices(enum record_format f) {
    return f == FORMAT_HH || f == FORMAT_PREFERENCE;
}

static enum status check_kind(const struct prepare *p) {
    const struct settings *s = p->run->settings;
    int n = p->objectives.n;
    if (!has_scores(p->job.format) && !has_choices(p->job.format)) {
        return fail(ERR_USAGE,
                    "prepare.objectives: records of format %s have no scores with names, and no choices",
                    record_format_name(p->job.format));
    }
    if (has_choices(p->job.format) && p->files.n != n) {
        return fail(
            ERR_USAGE,
            "prepare.objectives: pairs are a user's choices, so that each of the %d names needs a file "
            "of its own in input, in the same order; there are %d",
            n, p->files.n);
    }
    if (has_choices(p->job.format) && s->prepare.merge_prompts == MERGE_FALSE) {
        return fail(ERR_USAGE, "prepare.merge_prompts=false: users' choices can only be compared where their "
                               "records of a prompt are brought together");
    }
    if (s->prepare.hindsight != 0) {
        return fail(ERR_USAGE, "prepare.hindsight: texts that say how good an answer is have no pairs, and "
                               "prepare.objectives makes nothing else");
    }
    if (s->prepare.conflicting < 0 && s->prepare.conflicting != -1) {
        return fail(ERR_USAGE,
                    "prepare.conflicting=%g is neither a share from 0 to 1 nor -1, which takes all",
                    s->prepare.conflicting);
    }
    return n == 1 && options_is_set(p->run->options, "prepare.conflicting") && s->prepare.conflicting >= 0
               ? fail(ERR_USAGE,
                      "prepare.conflicting: one objective conflicts with nothing; name two, or leave "
                      "it out")
               : OK;
}

void prepare_free_objectives(struct prepare *p) {
    names_free(&p->objectives);
}

enum status prepare_read_objectives(struct prepare *p) {
    const struct settings *s = p->run->settings;
    if (!*s->prepare.objectives) {
        return OK;
    }
    TRY(objective_names_read(s->prepare.objectives, &p->objectives));
    TRY(check_kind(p));
    p->job.objectives = &p->objectives;
    p->job.by_user = has_choices(p->job.format);
    p->merges = p->job.by_user || s->prepare.merge_prompts == MERGE_TRUE ||
                (s->prepare.merge_prompts == MERGE_AUTO && p->job.format == FORMAT_ULTRAFEEDBACK);
    return OK;
}

/* Collective. The names of the first rank that has seen some. */
static enum status share_names(struct prepare *p) {
    struct comm *c = p->run->comm;
    struct prepared *d = &p->prepared;
    int64_t owner = d->names_seen[0] ? c->size - c->rank : -1;
    TRY(comm_max_i64(c, &owner, 1));
    return owner < 0 ? OK : comm_broadcast(c, (int)(c->size - owner), d->names_seen, sizeof d->names_seen);
}

enum status prepare_check_objectives(struct prepare *p) {
    struct prepared *d = &p->prepared;
    if (!p->job.objectives) {
        return OK;
    }
    TRY(comm_sum_i64(p->run->comm, d->scored, RECORD_OBJECTIVES_MAX));
    TRY(share_names(p));
    for (int i = 0; i < p->objectives.n; i++) {
        const char *name = p->objectives.list[i];
        if (d->scored[i] == 0 && p->job.by_user) {
            return fail(ERR_DATA, "%s: no choice of user %s is left", p->files.list[i], name);
        }
        if (d->scored[i] == 0) {
            return fail(ERR_DATA,
                        "prepare.objectives: no response has a number for \"%s\"; the first record "
                        "with scores names %s",
                        name, d->names_seen[0] ? d->names_seen : "none");
        }
        log_root(LOG_INFO, "objective %s: %lld %s", name, (long long)d->scored[i],
                 p->job.by_user ? "records" : "responses have a score");
    }
    return OK;
}

static void report(const struct prepare *p, const struct objective_views *v) {
    const struct settings *s = p->run->settings;
    log_root(LOG_INFO, "%lld pairs that all objectives judge without a tie, of which %lld conflict",
             (long long)v->judged, (long long)v->conflicting);
    char splits[128] = "";
    if (s->prepare.splits) {
        snprintf(splits, sizeof splits, ": train %lld, validation %lld, test %lld",
                 (long long)v->splits[SPLIT_TRAIN], (long long)v->splits[SPLIT_VALIDATION],
                 (long long)v->splits[SPLIT_TEST]);
    }
    log_root(LOG_INFO, "kept %lld, of which %lld conflict%s%s", (long long)v->kept,
             (long long)v->kept_conflicting,
             p->objectives.n == 1 || s->prepare.conflicting < 0 ? "" : " (prepare.conflicting)", splits);
    double lacks = (1 - s->prepare.conflicting) * (double)v->conflicting;
    if (p->objectives.n > 1 && s->prepare.conflicting >= 0 &&
        (double)(v->kept - v->kept_conflicting) < lacks - 1) {
        log_root(LOG_WARN, "prepare.conflicting=%g wants %.0f pairs that agree; there are %lld",
                 s->prepare.conflicting, lacks, (long long)(v->kept - v->kept_conflicting));
    }
}

enum status prepare_write_views(struct prepare *p) {
    const struct settings *s = p->run->settings;
    struct objective_views views;
    struct text command = {0};
    if (!p->job.objectives) {
        return OK;
    }
    watchdog_phase(p->run->comm->watchdog, "writing the objectives' views");
    enum status st = comm_agree(p->run->comm, line_text(p->run, &command));
    const struct objective_views_options options = {.comm = p->run->comm,
                                                    .output = s->output,
                                                    .names = &p->objectives,
                                                    .conflicting =
                                                        p->objectives.n > 1 ? s->prepare.conflicting : -1,
                                                    .seed = (uint32_t)s->prepare.split_seed,
                                                    .draws_before = s->prepare.split_after,
                                                    .splits = s->prepare.splits,
                                                    .by_prompt = p->merges,
                                                    .command = command.data,
                                                    .is_dry = p->run->dry_run};
    st = st == OK ? objective_views_write(&options, &p->prepared, &views) : st;
    text_free(&command);
    TRY(st);
    report(p, &views);
    return OK;
}
