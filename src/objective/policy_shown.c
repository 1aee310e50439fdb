/* What policies' rows show: TRL's names. low_min and high_max are over responses, all else over the ratios,
 * one a token or one a response. The differences of log-probabilities are those of the first update on a
 * batch where sampler and trainer disagree; later they are the policy's way. */
#include "objective/objective.h"

#define RATIO(name, plus, over) \
    { name, OF_SUMS, plus, SUM_NONE, over, SUM_NONE, ALWAYS }
#define EXTREME(name, of) \
    { name, of, SUM_NONE, SUM_NONE, SUM_NONE, SUM_NONE, ALWAYS }
#define BEGIN                                                                                          \
    EXTREME("loss", OF_LOSS), {"kl", OF_SUMS, SUM_KL, SUM_NONE, SUM_TARGET_TOKENS, SUM_NONE, WITH_KL}, \
        {"policy_loss", OF_SUMS, SUM_POLICY_LOSS, SUM_NONE, SUM_RESPONSES, SUM_NONE, WITH_KL},         \
        RATIO("entropy", SUM_ENTROPY, SUM_TARGET_TOKENS)
#define END                                                                            \
    RATIO("sampling/importance_sampling_ratio/mean", SUM_RATIO, SUM_RATIOS),           \
        RATIO("sampling/sampling_logp_difference/mean", SUM_DRIFT, SUM_TARGET_TOKENS), \
        EXTREME("sampling/sampling_logp_difference/max", OF_DRIFT)

static const struct shown of_clipped[] = {
    BEGIN,
    RATIO("clip_ratio/low_mean", SUM_CLIPPED_LOW, SUM_RATIOS),
    EXTREME("clip_ratio/low_min", OF_LOWEST),
    {"clip_ratio/high_mean", OF_SUMS, SUM_CLIPPED, SUM_CLIPPED_LOW, SUM_RATIOS, SUM_NONE, ALWAYS},
    EXTREME("clip_ratio/high_max", OF_HIGHEST),
    RATIO("clip_ratio/region_mean", SUM_CLIPPED, SUM_RATIOS),
    END,
};
static const struct shown of_cispo[] = {BEGIN, RATIO("cispo_clip_ratio", SUM_CLIPPED, SUM_RATIOS), END};
static const struct shown of_sapo[] = {BEGIN, END};
static const struct shown of_vespo[] = {BEGIN, RATIO("vespo/phi_seq_mean", SUM_PHI, SUM_RESPONSES), END};
static const struct shown of_ppo[] = {
    BEGIN,
    RATIO("policy/approxkl_avg", SUM_RATIO_KL, SUM_RATIOS),
    RATIO("policy/clipfrac_avg", SUM_CLIPPED, SUM_RATIOS),
    RATIO("policy/entropy_avg", SUM_ENTROPY, SUM_TARGET_TOKENS),
    RATIO("loss/policy_avg", SUM_POLICY_LOSS, SUM_RESPONSES),
    RATIO("loss/value_avg", SUM_VALUE_LOSS, SUM_TARGET_TOKENS),
    RATIO("val/clipfrac_avg", SUM_VALUES_CLIPPED, SUM_TARGET_TOKENS),
    RATIO("val/ratio", SUM_RATIO, SUM_RATIOS),
    {"val/ratio_var", OF_VARIANCE, SUM_RATIO_SQUARES, SUM_RATIO, SUM_RATIOS, SUM_NONE, ALWAYS},
    END,
};
static const struct shown of_nash_md[] = {
    EXTREME("loss", OF_LOSS),
    RATIO("objective/kl", SUM_KL, SUM_RESPONSES),
    {"loss/score", OF_SUMS, SUM_NONE, SUM_POLICY_LOSS, SUM_RESPONSES, SUM_NONE, ALWAYS},
    RATIO("entropy", SUM_ENTROPY, SUM_TARGET_TOKENS),
    END,
};

#define LIST(name) const struct shown_list policy_shows_##name = {of_##name, COUNT_OF(of_##name)}
LIST(clipped);
LIST(cispo);
LIST(sapo);
LIST(vespo);
LIST(ppo);
LIST(nash_md);
