/* preflight: whether a training run will work on this allocation, in under a minute.
 *
 * The configuration is the one of the run itself. Nothing is trained and nothing stays behind: ranks and
 * their cores are listed, every collective that training uses is checked against its closed form and timed,
 * data and model are looked at as the run would, memory and disk are compared with what the run will take,
 * and a checkpoint's own path is written and read back at the output folder. */
#include "command/preflight/preflight.h"
#include "command/checks.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "model/family.h"
#include "mpi/launch.h"
#include "mpi/watchdog.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/mem.h"

enum { MOST_LINES = 64 };
static const char *const finding_names[FINDINGS] = {"ok", "warn", "refuse"};

struct trained {
    const char *command;
    enum status (*terms)(const struct run *run, struct terms *out);
    const struct trainer_source *(*own)(void); /* NULL: rows are read */
};
static const struct trained trained[] = {
    {"sft", sft_terms, NULL},
    {"dpo", dpo_terms, NULL},
    {"reward", reward_terms, NULL},
    {"online", online_terms, online_source},
};

static void say(struct preflight *p, enum finding finding, const char *subject, const char *text) {
    bool same = finding == FINDING_OK && p->last && strcmp(p->last, subject) == 0;
    p->said[finding]++;
    p->last = subject;
    p->in_a_row = same ? p->in_a_row + 1 : 0;
    if (p->in_a_row == MOST_LINES) {
        text = "… and so on";
    }
    if (p->comm->rank == 0 && p->in_a_row <= MOST_LINES) {
        printf("%-7s %-11s %s\n", finding_names[finding], subject, text);
        fflush(stdout);
    }
}

void preflight_say(struct preflight *p, enum finding finding, const char *subject, const char *format, ...) {
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    say(p, finding, subject, text);
}

/* m: where it failed, which says whether the ranks have agreed on it already. */
static void refuse(struct preflight *p, const struct message *m, const char *subject) {
    if (p->said[FINDING_REFUSE] == 0) {
        p->refusal = *m;
        snprintf(p->refusal.text, sizeof p->refusal.text, "preflight: %.40s: %.900s", subject, m->text);
    }
    say(p, FINDING_REFUSE, subject, m->text);
}

void preflight_refuse(struct preflight *p, enum status code, const char *subject, const char *format, ...) {
    struct message m = {.code = code, .file = __FILE__, .line = __LINE__};
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(m.text, sizeof m.text, format, arguments);
    va_end(arguments);
    refuse(p, &m, subject);
}

bool preflight_failed(struct preflight *p, const char *subject, enum status st) {
    if (st == OK) {
        return false;
    }
    const struct message failure = *status_message();
    refuse(p, &failure, subject);
    status_clear();
    return true;
}

/* Whether a key is set that this one of the first n commands takes and the others of them do not. */
static bool has_own_key(const struct options *o, const char *command, int n) {
    for (int i = 0; i < o->count; i++) {
        char names[256];
        bool own = false, others = false;
        snprintf(names, sizeof names, " %.250s ", o->table[i].commands);
        for (int k = 0; o->source[i] && k < n; k++) {
            char word[16];
            snprintf(word, sizeof word, " %s ", trained[k].command);
            bool takes = strcmp(o->table[i].commands, "*") == 0 || strstr(names, word);
            own |= takes && strcmp(trained[k].command, command) == 0;
            others |= takes && strcmp(trained[k].command, command) != 0;
        }
        if (own && !others) {
            return true;
        }
    }
    return false;
}

static enum status find_command(const struct run *run, const struct trained **out) {
    int chosen = run->settings->preflight.command - 1, candidates = 0;
    /* online is the last: it takes keys of the others, and always has one of its own. */
    for (int n = COUNT_OF(trained); n >= COUNT_OF(trained) - 1 && chosen < 0; n--) {
        for (int i = 0; i < n; i++) {
            if (has_own_key(run->options, trained[i].command, n)) {
                chosen = i;
                candidates++;
            }
        }
    }
    if (chosen < 0 || candidates > 1) {
        return fail(ERR_USAGE,
                    "preflight: %s; say which command is to be run: preflight.command=sft|dpo|reward|online",
                    chosen < 0 ? "no key tells the training commands apart"
                               : "keys of several commands are set");
    }
    *out = &trained[chosen];
    return OK;
}

/* Everything that settings alone decide. */
static enum status configure(struct preflight *p) {
    struct run *run = p->run;
    const struct trained *t;
    TRY(find_command(run, &t));
    TRY(options_narrow(run->options, t->command));
    p->trainer.command = t->command;
    TRY(t->terms(run, &p->trainer.terms));
    p->trainer.own = t->own ? t->own() : NULL;
    p->trainer.session.trains = true;
    p->trainer.session.head = model_head_for(p->trainer.terms.reads & READS_VALUE);
    p->trainer.session.value_head = p->trainer.terms.reads & READS_TOKEN_VALUE;
    preflight_say(p, FINDING_OK, "keys", "for %s: every key that is set has an effect", t->command);
    return OK;
}

/* The shape, which is enough for most checks; whether all else of it is there is in the list of them. */
static enum status look_at_shape(struct preflight *p) {
    TRY(session_need(p->run->settings->model, "model"));
    return trainer_config(&p->trainer, &p->config);
}

static void say_models(struct preflight *p, const char *subject) {
    const struct settings *s = p->run->settings;
    if (strcmp(subject, "model") == 0) {
        preflight_say(p, FINDING_OK, "model",
                      "%s: %s, %lld layers of width %lld, vocabulary %lld; every tensor is there", s->model,
                      p->config.family->causal, (long long)p->config.layers, (long long)p->config.width,
                      (long long)p->config.vocabulary);
    } else if (p->trainer.terms.has_reference && *s->reference) {
        preflight_say(p, FINDING_OK, "reference", "%s: every tensor is there", s->reference);
    }
}

/* Local facts, the same on all ranks. */
static void say_slots(struct preflight *p) {
    const struct batch_plan *plan = &p->trainer.data.plan;
    int64_t most = (plan->slots + p->comm->size - 1) / p->comm->size;
    double share = (double)plan->slots / ((double)most * p->comm->size);
    bool uneven = plan->slots % p->comm->size != 0;
    bool few = plan->batch < p->comm->size || plan->rows < p->comm->size;
    preflight_say(p, uneven || few ? FINDING_WARN : FINDING_OK, "slots",
                  "%lld rows in %lld slots, at most %lld a rank%s%s", (long long)plan->batch,
                  (long long)plan->slots, (long long)most,
                  few ? "; fewer rows than ranks: some ranks have nothing to do" : "",
                  uneven ? "; uneven" : "");
    if (uneven) {
        preflight_say(p, FINDING_WARN, "slots",
                      "ranks with fewer slots wait: at best %.0f %% of the ranks work", 100 * share);
    }
}

static void check_time(struct preflight *p) {
    double seconds = p->need.step_seconds * (double)p->trainer.training.steps;
    double end = launch_end_time(), left = end > 0 ? end - clock_wall() : 0;
    char step[32], all[32];
    preflight_say(p, FINDING_OK, "time", "about %s a step by the products' %.4g GFLOP/s, %lld steps: %s",
                  needs_duration(p->need.step_seconds, step), p->need.peak_flops / 1e9,
                  (long long)p->trainer.training.steps, needs_duration(seconds, all));
    if (end > 0) {
        preflight_say(p, FINDING_OK, "time", "the job ends in %s%s", needs_duration(left, all),
                      seconds < left ? "" : ": the run will checkpoint before that and needs a requeue");
    }
}

static void found(void *context, const char *subject, enum status st) {
    struct preflight *p = context;
    if (!preflight_failed(p, subject, st)) {
        if (strcmp(subject, "adapter") == 0 && p->trainer.session.adapter_config) {
            preflight_say(p, FINDING_OK, "adapter", "%lld modules beside a frozen base",
                          (long long)p->trainer.session.adapters.n);
        }
        if (strcmp(subject, "rewards") == 0 && p->trainer.own) {
            preflight_say(p, FINDING_OK, "rewards", "%s",
                          *p->run->settings->reward_model ? "every tensor of the reward models is there"
                                                          : "no models");
        }
        bool is_model = strcmp(subject, "model") == 0 || strcmp(subject, "reference") == 0;
        if (strcmp(subject, "slots") == 0 && p->has_rows) {
            say_slots(p);
        } else if (is_model && p->has_model) {
            say_models(p, subject);
        }
    }
    p->has_output |= st == OK && strcmp(subject, "output") == 0;
}

static enum status checks(struct preflight *p) {
    struct session *s = &p->trainer.session;
    struct watchdog *watchdog = p->comm->watchdog;
    enum status st = session_open_backend(s, NULL, p->run->settings->train.deterministic);
    p->has_backend = !preflight_failed(p, "device", st);
    watchdog_allow(watchdog, "looking at the ranks", 0);
    TRY(preflight_seats(p));
    watchdog_allow(watchdog, "checking collectives", 0);
    TRY(preflight_collectives(p));
    watchdog_allow(watchdog, "looking at the model", 0);
    st = comm_agree(p->comm, look_at_shape(p));
    p->has_model = st == OK;
    status_clear(); /* the list of checks says why not */
    watchdog_allow(watchdog, "reading the data", 1800);
    TRY(preflight_data(p));
    watchdog_allow(watchdog, "estimating memory", 0);
    TRY(trainer_check(&p->trainer, p->has_model ? &p->config : NULL, found, p));
    TRY(preflight_memory(p));
    if (p->has_need) {
        check_time(p);
    }
    watchdog_allow(watchdog, "writing at the output folder", 300);
    return p->has_output ? preflight_output(p) : OK;
}

static enum status summary(struct preflight *p) {
    if (p->comm->rank == 0) {
        printf("\n%lld ok, %lld to look at, %lld refused; %.1f s on %d ranks\n",
               (long long)p->said[FINDING_OK], (long long)p->said[FINDING_WARN],
               (long long)p->said[FINDING_REFUSE], clock_seconds() - p->began_s, p->comm->size);
    }
    if (p->said[FINDING_REFUSE] > 0) {
        status_set(&p->refusal);
        return p->refusal.code;
    }
    return OK;
}

enum status command_preflight(struct run *run) {
    struct preflight p = {.run = run, .comm = run->comm, .began_s = clock_seconds()};
    session_open(run, &p.trainer.session);
    enum status st = comm_agree(run->comm, configure(&p));
    if (st == OK) {
        st = checks(&p);
    }
    watchdog_phase(run->comm->watchdog, "ending preflight");
    if (st == OK) {
        st = summary(&p);
    }
    mem_free(p.seats);
    session_close(&p.trainer.session);
    return st;
}
