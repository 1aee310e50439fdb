/* online: training on the policy's own samples. From settings to what is minimized; online_open.c opens the
 * source of batches (online/experience.h), and all else is what the other training commands do. */
#include "command/online/online.h"

#include <string.h>

#include "util/log.h"

static const char *const method_names[] = {"grpo", "rloo", "raft", "online_dpo", "ppo", "xpo", "nash_md"};

/* What a method is where settings are silent. */
static const struct online_way methods[] = {
    [ONLINE_GRPO] = {8, 2, 0, false, true},     [ONLINE_RLOO] = {2, 2, .05, true, true},
    [ONLINE_RAFT] = {1, 1, 0, false, false},    [ONLINE_DPO] = {2, 2, .1, false, false},
    [ONLINE_PPO] = {1, 1, .05, true, true},     [ONLINE_XPO] = {2, 2, .1, false, false},
    [ONLINE_NASH_MD] = {2, 2, .1, false, true},
};

const struct online_way *online_way_of(const struct settings *s) {
    return &methods[s->online.method];
}

static bool is_best(const struct settings *s) {
    return s->online.method == ONLINE_RAFT && s->online.keep == 1;
}

int64_t online_samples(const struct settings *s) {
    int64_t own = is_best(s) ? 5 : online_way_of(s)->samples;
    return s->online.samples > 0 ? s->online.samples : own;
}

bool online_has_other(const struct settings *s) {
    return s->online.method == ONLINE_XPO || s->online.method == ONLINE_NASH_MD;
}

double online_kl(const struct run *run) {
    const struct settings *s = run->settings;
    return options_is_set(run->options, "online.kl") ? s->online.kl : online_way_of(s)->kl;
}

static struct policy_options policy_of(const struct run *run) {
    const struct settings *s = run->settings;
    struct policy_options out = policy_defaults();
    bool has_high = options_is_set(run->options, "online.clip_high");
    out.beta = online_way_of(s)->kl_in_reward ? 0 : online_kl(run);
    out.kl_correction = s->online.kl_correction;
    out.clip_low = s->online.clip;
    out.clip_high = has_high ? s->online.clip_high : s->online.clip;
    out.delta = s->online.delta;
    out.importance_cap = s->online.importance_cap;
    out.sequence_level = s->online.ratio == 1;
    out.max_tokens = s->online.max_new_tokens;
    out.value_weight = s->online.value_weight;
    out.value_clip = s->online.value_clip;
    return out;
}

static bool has_reward(const struct settings *s) {
    bool pattern = *s->online.reward_pattern || s->online.reward_match > 0;
    return *s->reward_model || *s->online.reward_command || pattern || s->online.reward_length != 0 ||
           s->online.reward_stop != 0;
}

static enum status check_settings(const struct run *run) {
    const struct settings *s = run->settings;
    const char *name = method_names[s->online.method];
    if (!has_reward(s)) {
        return fail(ERR_USAGE, "online: there is no reward; set reward_model, online.reward_command, "
                               "online.reward_pattern, online.reward_match, online.reward_length or "
                               "online.reward_stop");
    }
    if (online_samples(s) < online_way_of(s)->least) {
        return fail(ERR_USAGE,
                    "online.samples=%lld: online.method=%s compares a prompt's samples; set %lld or more",
                    (long long)online_samples(s), name, (long long)online_way_of(s)->least);
    }
    if (online_has_other(s) && online_samples(s) != 2) {
        return fail(ERR_USAGE, "online.samples=%lld: online.method=%s has two, its own and another's",
                    (long long)online_samples(s), name);
    }
    if (s->truncate.keep > 1) {
        return fail(ERR_USAGE, "truncate.keep: a prompt alone keeps its end or its start; set end or start");
    }
    if (s->truncate.max_length > 0 && s->online.max_new_tokens >= s->truncate.max_length) {
        return fail(ERR_USAGE,
                    "truncate.max_length=%lld leaves a prompt no room beside online.max_new_tokens=%lld",
                    (long long)s->truncate.max_length, (long long)s->online.max_new_tokens);
    }
    if (s->lora.dropout > 0) {
        return fail(ERR_USAGE, "lora.dropout: what is trained would not be what was drawn; leave it out");
    }
    if (s->train.steps % s->online.inner_epochs != 0) {
        return fail(ERR_USAGE, "train.steps=%lld is no multiple of online.inner_epochs=%lld",
                    (long long)s->train.steps, (long long)s->online.inner_epochs);
    }
    bool is_adapted = *s->adapter || s->lora.rank > 0 || session_adapts_reference(s);
    return s->online.sync_reference && is_adapted
               ? fail(ERR_USAGE,
                      "online.sync_reference: a reference cannot follow adapters; train the whole model")
               : OK;
}

enum status online_terms(const struct run *run, struct terms *out) {
    const struct settings *s = run->settings;
    TRY(check_settings(run));
    *out = (struct terms){.policy = policy_of(run)};
    TRY(dpo_pair_options(run, &out->options));
    out->options.beta = online_kl(run);
    TRY(policy_terms(method_names[s->online.method], s->online.loss, s->online.xpo_alpha, out));
    if (out->reads & READS_DIVERGENCE) {
        return fail(ERR_USAGE, "online.loss=%s runs the reference beside the policy, which online does not",
                    s->online.loss);
    }
    if (out->rows == OVER_PAIRS) {
        TRY(terms_check(out, dpo_options_given(run->options)));
        out->has_reference = out->reads & READS_REFERENCE;
    }
    out->has_reference |= online_has_other(s) || (online_way_of(s)->kl_in_reward && online_kl(run) > 0);
    return options_learn(run->options, LEARNT_ONLINE_REFERENCE, out->has_reference);
}

/* What is taken as it is set, as TRL does, and seldom meant. */
static void warn(const struct run *run, const struct terms *terms) {
    double most = terms->policy.clip_high;
    if (strcmp(run->settings->online.loss, "cispo") == 0 && most < 1) {
        log_root(LOG_WARN,
                 "online.loss=cispo: every ratio counts at most %g, also that of 1; online.clip_high says so "
                 "(TRL and ScaleRL recommend 5)",
                 most);
    }
}

enum status command_online(struct run *run) {
    struct terms terms;
    TRY(online_terms(run, &terms));
    warn(run, &terms);
    return trainer_run_own(run, &terms, online_source());
}
