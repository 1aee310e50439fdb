/* dpo: preference losses on pairs or lists, most of them against reference scores that are computed once.
 * With select.strategy, the pairs are chosen first, in the same job: embed, select, train. */
#include <string.h>

#include "command/embed.h"
#include "command/select.h"
#include "command/trainer.h"
#include "util/log.h"

static enum status embed_first(struct run *run, struct text *path) {
    const struct settings *s = run->settings;
    bool is_other = *s->select.model;
    const struct embed_aside what = {.model = is_other ? s->select.model : s->model,
                                     .adapter = is_other ? "" : s->adapter,
                                     .data = s->data,
                                     .split = (enum data_split)s->split};
    return embed_aside(run, &what, path);
}

static enum status name_files(const char *folder, struct text *embeddings, struct text *view) {
    TRY(text_printf(embeddings, "%s/selection.embeddings.h5", folder));
    return text_printf(view, "%s/selection.h5", folder);
}

/* Leaves the view's path in *view. */
static enum status select_first(struct run *run, struct text *view) {
    const struct settings *s = run->settings;
    struct text embeddings = {0};
    struct selection_looks looks;
    enum status st;
    TRY(selection_look(s->select.strategy, &looks));
    TRY_TO(done, comm_agree(run->comm, name_files(s->output, &embeddings, view)));
    if (looks.embeddings) {
        TRY_TO(done, embed_first(run, &embeddings));
    }
    struct selection_options options = select_options(run);
    options.data = s->data;
    options.embeddings = looks.embeddings ? embeddings.data : "";
    options.output = view->data;
    options.report = "";
    options.needs_labels = true;
    st = select_run(run, options);
done:
    text_free(&embeddings);
    return st;
}

/* Users are learnt from pair by pair. */
static enum status check_steering(const struct run *run, const struct terms *terms) {
    const struct settings *s = run->settings;
    if (!trainer_steers(s)) {
        return OK;
    }
    if (terms->rows != OVER_PAIRS || terms->scope != SCOPE_ROW || terms->reads & READS_DIVERGENCE ||
        s->dpo.sync_reference) {
        return fail(
            ERR_USAGE,
            "steer.layers: dpo.loss=%s is not one of a pair alone with a reference that stands still; "
            "take sigmoid, ipo, hinge or another of those",
            s->dpo.loss);
    }
    if (*s->select.strategy) {
        return fail(ERR_USAGE, "steer.layers goes without select.strategy");
    }
    if (s->train.batch % s->steer.targets != 0) {
        return fail(ERR_USAGE, "train.batch=%lld is no multiple of steer.targets=%lld, the pairs of a user",
                    (long long)s->train.batch, (long long)s->steer.targets);
    }
    TRY(steer_check_contexts(s->steer.context_min, s->steer.context_max, s->steer.targets));
    return *s->data && *s->eval_data ? trainer_steer_evaluation_check(s) : OK;
}

/* embed.* keys have a meaning only where something is embedded. */
static enum status check_embed_keys(const struct run *run) {
    struct selection_looks looks = {0};
    if (*run->settings->select.strategy) {
        TRY(selection_look(run->settings->select.strategy, &looks));
    }
    bool embeds = trainer_steers(run->settings) && !*run->settings->embeddings;
    return options_learn(run->options, LEARNT_LOOKS, looks.embeddings || embeds);
}

unsigned dpo_options_given(const struct options *o) {
    unsigned given = 0;
    int count;
    const struct option_key *keys = terms_option_keys(&count);
    for (int i = 0; i < count; i++) {
        given |= options_is_set(o, keys[i].key) ? keys[i].takes : 0;
    }
    return given;
}

enum status dpo_pair_options(const struct run *run, struct preference_options *out) {
    const struct settings *s = run->settings;
    *out = (struct preference_options){.beta = s->dpo.beta,
                                       .label_smoothing = s->dpo.label_smoothing,
                                       .margin = s->dpo.margin,
                                       .gamma = s->dpo.gamma,
                                       .tau = s->dpo.tau,
                                       .beta_scale = s->dpo.beta_scale,
                                       .desirable_weight = s->dpo.desirable_weight,
                                       .undesirable_weight = s->dpo.undesirable_weight,
                                       .weighting = s->dpo.weighting,
                                       .tdpo_alpha = s->dpo.tdpo_alpha,
                                       .tail_discount = 1 - s->dpo.ld_alpha};
    return divergence_parse(s->dpo.divergence, &out->divergence);
}

enum status dpo_losses(const struct run *run, struct terms *out) {
    TRY(dpo_pair_options(run, &out->options));
    TRY(terms_parse(run->settings->dpo.loss, out));
    return terms_check(out, dpo_options_given(run->options));
}

enum status dpo_terms(const struct run *run, struct terms *out) {
    *out = (struct terms){.reference_free = run->settings->dpo.reference_free};
    TRY(dpo_losses(run, out));
    out->has_reference = out->reads & READS_REFERENCE;
    bool aside = *run->settings->dpo.reference_file || run->settings->dpo.reference_free;
    if (out->reads & READS_DIVERGENCE && aside) {
        return fail(ERR_USAGE,
                    "dpo.loss=%s runs the reference beside the policy: dpo.reference_file and "
                    "dpo.reference_free have no "
                    "effect",
                    run->settings->dpo.loss);
    }
    TRY(options_learn(run->options, LEARNT_READS_REFERENCE, out->has_reference));
    TRY(options_learn(run->options, LEARNT_TAKES_BETA, out->takes & TAKES_BETA));
    TRY(check_steering(run, out));
    return check_embed_keys(run);
}

enum status command_dpo(struct run *run) {
    const struct settings *s = run->settings;
    struct terms terms;
    TRY(dpo_terms(run, &terms));
    if (*s->select.strategy && run->dry_run) {
        log_root(LOG_INFO, "dry run: nothing is selected; what follows is for all of the data");
    }
    return trainer_run(run, &terms, *s->select.strategy ? select_first : NULL);
}
