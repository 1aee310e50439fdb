/* reward: a decoder with a score head, trained on the labeled pairs of each prompt's responses. */
#include "command/trainer.h"

enum status reward_recipe(const struct run *run, struct recipe *out) {
    const struct settings *s = run->settings;
    *out = (struct recipe){
        .kind = RECIPE_REWARD,
        .reward = {.use_margin = s->reward.margin, .centering = s->reward.centering},
    };
    return reward_check(&out->reward);
}

enum status command_reward(struct run *run) {
    struct recipe recipe;
    TRY(reward_recipe(run, &recipe));
    return trainer_run(run, &recipe, ROWS_COMPARED);
}
