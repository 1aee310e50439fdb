/* reward: a decoder with a score head, trained on the labeled pairs of each prompt's responses. */
#include "command/trainer.h"

enum status reward_terms(const struct run *run, struct terms *out) {
    const struct settings *s = run->settings;
    *out = (struct terms){
        .reward = {.use_margin = s->reward.margin, .centering = s->reward.centering},
    };
    terms_one("reward", out);
    return reward_check(&out->reward);
}

enum status command_reward(struct run *run) {
    struct terms terms;
    TRY(reward_terms(run, &terms));
    return trainer_run(run, &terms, NULL);
}
